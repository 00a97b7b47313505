//! A writer for initramfs archives: cpio in the "newc" format, which the kernel unpacks at boot.
//! Source: `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeSet;
use std::io::{self, Write};

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive being written. Several, one after the other, unpack as if they were one.
#[derive(Debug)]
pub(super) struct Archive<W> {
    to: W,
    entries: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, entries: 0, directories: BTreeSet::new() }
    }

    /// A file at the absolute or relative `path`, with the directories that lead to it.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let path = self.parents(path)?;
        self.entry(&path, FILE | mode, (0, 0), content)
    }

    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.parents(&format!("{path}/x")).map(drop)
    }

    /// A symbolic link at `path` that points to `target`.
    pub(super) fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        let path = self.parents(path)?;
        self.entry(&path, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// A character device with its major and minor number.
    pub(super) fn device(&mut self, path: &str, number: (u32, u32)) -> io::Result<()> {
        let path = self.parents(path)?;
        self.entry(&path, CHARACTER_DEVICE | 0o600, number, &[])
    }

    /// Writes the trailer, and hands the writer back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    /// Writes the directories above `path` that are not yet there; returns `path` as the archive
    /// names it.
    fn parents(&mut self, path: &str) -> io::Result<String> {
        let path = merged(path);
        let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        for at in slashes {
            let directory = path.split_at(at).0.to_owned();
            if self.directories.insert(directory.clone()) {
                self.entry(&directory, DIRECTORY | 0o755, (0, 0), &[])?;
            }
        }
        Ok(path)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        device: (u32, u32),
        content: &[u8],
    ) -> io::Result<()> {
        self.entries = self.entries.saturating_add(1);
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let name = u32::try_from(path.len().saturating_add(1)).map_err(io::Error::other)?;
        // ino, mode, uid, gid, nlink, mtime, filesize, dev (2), rdev (2), namesize, check
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name, 0];
        write!(self.to, "070701")?;
        for field in fields {
            write!(self.to, "{field:08x}")?;
        }
        self.to.write_all(path.as_bytes())?;
        // The header has 110 bytes; name and content each end on a multiple of four.
        self.pad(110_usize.saturating_add(path.len()), 1)?;
        self.to.write_all(content)?;
        self.pad(content.len(), 0)
    }

    /// Writes at least `least` zero bytes, up to the next multiple of four after `length`.
    fn pad(&mut self, length: usize, least: usize) -> io::Result<()> {
        let end = length.saturating_add(least);
        let zeros = least.saturating_add(end.next_multiple_of(4).saturating_sub(end));
        self.to.write_all([0_u8; 8].get(..zeros).unwrap_or_default())
    }
}

/// The path without its leading slash, in a root whose `/bin`, `/sbin` and `/lib*` are links into
/// `/usr`: a file written through a link would need the link first.
fn merged(path: &str) -> String {
    let path = path.trim_start_matches('/').trim_end_matches('/');
    let top = path.split('/').next().unwrap_or_default();
    if MERGED.contains(&top) && path.len() > top.len() {
        format!("usr/{path}")
    } else {
        path.into()
    }
}

/// The directories of the root that are links into `/usr`.
pub(super) const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn an_entry_is_a_header_a_name_and_a_content_each_on_a_multiple_of_four() {
        let mut archive = Archive::new(Vec::new());
        archive.file("a/b", 0o755, b"hello").unwrap();

        let bytes = archive.finish().unwrap();

        // The directory "a", then the file, then the trailer.
        assert_eq!(bytes.len() % 4, 0);
        let directory = &bytes[..112];
        assert_eq!(&directory[..14], b"07070100000001");
        assert_eq!(&directory[110..], b"a\0");
        let file = &bytes[112..];
        assert_eq!(&file[14..22], b"000081ed");
        assert_eq!(&file[54..62], b"00000005");
        assert_eq!(&file[110..116], b"a/b\0\0\0");
        assert_eq!(&file[116..124], b"hello\0\0\0");
        assert_eq!(&file[124 + 110..124 + 120], b"TRAILER!!!");
    }

    #[test]
    fn paths_below_a_link_into_usr_are_written_below_usr() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/lib64/ld.so", 0o755, b"").unwrap();

        let bytes = archive.finish().unwrap();

        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("usr/lib64/ld.so"));
    }
}
