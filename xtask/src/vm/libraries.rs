//! Which shared libraries a program needs, by asking the dynamic loader.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The libraries of `program` and the loader itself; none for a script or a static program.
pub(super) fn of(program: &Path) -> Vec<PathBuf> {
    let Ok(done) = Command::new("ldd").arg(program).output() else { return Vec::new() };
    parse(&String::from_utf8_lossy(&done.stdout))
}

fn parse(ldd: &str) -> Vec<PathBuf> {
    ldd.lines()
        .filter_map(|line| {
            let line = line.trim();
            let path = line.split_once(" => ").map_or(line, |(_, path)| path);
            let path = path.split(" (").next()?;
            path.starts_with('/').then(|| PathBuf::from(path))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::path::PathBuf;

    #[test]
    fn the_loader_counts_as_a_library_and_the_kernels_page_does_not() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";

        let found = parse(text);

        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(found, expected.map(PathBuf::from));
        assert_eq!(parse("\tstatically linked\n"), Vec::<PathBuf>::new());
    }
}
