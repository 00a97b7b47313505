//! Debian's archive: which packages there are, and their contents without installing them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// The package that a meta package stands for: its first dependency that starts with `prefix`.
///
/// # Errors
///
/// When apt knows no such package even after an update, or cannot run.
pub(crate) fn resolve(meta: &str, prefix: &str) -> Result<String> {
    let found = || {
        let text = process::output(Command::new("apt-cache").args(["depends", meta])).ok()?;
        first_dependency(&text, prefix).map(str::to_owned)
    };
    if let Some(package) = found() {
        return Ok(package);
    }
    update()?;
    found().with_context(|| format!("apt knows no package {meta}: is this Debian 12 or later?"))
}

/// Fetches the package's archive into `dir` and returns its path.
///
/// # Errors
///
/// When apt cannot fetch it.
pub(crate) fn download(package: &str, dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let fetch = || {
        process::output(
            Command::new("apt-get")
                .args(["--quiet", "--option", "APT::Sandbox::User=root", "download", package])
                .current_dir(dir),
        )
    };
    // The lists may be older than the archive, which keeps only the newest versions.
    if fetch().is_err() {
        update()?;
        fetch()?;
    }
    let start = format!("{package}_");
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&start) && name.ends_with(".deb") {
            return Ok(path);
        }
    }
    bail!("apt-get download {package} left no file in {}", dir.display())
}

/// Unpacks a package's files below `root`.
///
/// # Errors
///
/// When `dpkg` cannot read the package.
pub(crate) fn unpack(deb: &Path, root: &Path) -> Result<()> {
    process::output(Command::new("dpkg").arg("-x").arg(deb).arg(root)).map(drop)
}

/// Refreshes apt's lists; only root may.
///
/// # Errors
///
/// When this process is not root's, or apt cannot reach an archive.
pub(crate) fn update() -> Result<()> {
    if !is_root() {
        bail!("apt's package lists are missing or old: run `apt-get update` as root, then retry");
    }
    eprintln!("refreshing the lists of Debian packages (apt-get update)");
    process::output(
        Command::new("apt-get")
            .args(["--quiet", "update"])
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
    .map(drop)
}

/// Whether this process may install packages and make network namespaces.
pub(crate) fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// A package given by hand in the environment variable `name`, for machines without Debian's apt.
pub(crate) fn given(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from)
}

fn first_dependency<'a>(depends: &'a str, prefix: &str) -> Option<&'a str> {
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::first_dependency;

    #[test]
    fn a_meta_package_stands_for_its_kernel() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";

        assert_eq!(
            first_dependency(text, "linux-image-"),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(first_dependency("linux-image-cloud-amd64\n", "linux-image-"), None);
    }
}
