//! Debian's kernel for virtual machines: fetched from its archive, unpacked, never installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use crate::{cache, debian, process};

/// A kernel and its modules.
#[derive(Debug)]
pub(super) struct Kernel {
    /// The bootable image.
    pub(super) image: PathBuf,
    /// The modules to load, each after those that it needs.
    pub(super) modules: Vec<PathBuf>,
    /// What names it in a cache: package and version.
    pub(super) name: String,
}

/// What the machine can do beyond booting: WireGuard, the interfaces and packet filters that
/// tests build networks from, and a disk to hand results out on.
const MODULES: [&str; 25] = [
    "wireguard",
    "veth",
    "dummy",
    "bridge",
    "tun",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_reject_inet",
    "nft_limit",
    "nft_quota",
    "nft_log",
    "nft_fib_inet",
    "nft_objref",
    "nf_conntrack_netlink",
    "nf_log_syslog",
    "sch_netem",
    "sch_tbf",
    "inet_diag",
    "tcp_diag",
    "virtio_pci",
    "virtio_blk",
];

impl Kernel {
    /// The newest kernel in the cache, or the archive's current one if there is none.
    ///
    /// # Errors
    ///
    /// When there is none and the archive cannot be reached.
    pub(super) fn obtain() -> Result<Self> {
        let root = match newest(&cache::dir()?.join("kernel"))? {
            Some(root) => root,
            None => fetch()?,
        };
        Self::open(&root)
    }

    fn open(root: &Path) -> Result<Self> {
        let image = only_entry(&root.join("boot"), "vmlinuz-")?;
        let version = image.strip_prefix("vmlinuz-").unwrap_or(&image).to_owned();
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { image: root.join("boot").join(&image), modules: modules(root, &version)?, name })
    }
}

fn fetch() -> Result<PathBuf> {
    let downloads = cache::dir()?.join("downloads");
    let deb = if let Some(deb) = debian::given("WGMFA_KERNEL_DEB") {
        deb
    } else {
        let package = debian::resolve("linux-image-cloud-amd64", "linux-image-")?;
        eprintln!("fetching Debian's {package} (once)");
        debian::download(&package, &downloads)?
    };
    let name = deb.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let root = cache::once(&format!("kernel/{name}"), |root| {
        debian::unpack(&deb, root)?;
        // A kernel of a release whose /lib is /usr/lib brings modules only there.
        if !root.join("lib").exists() {
            symlink("usr/lib", root.join("lib"))?;
        }
        let image = only_entry(&root.join("boot"), "vmlinuz-")?;
        let version = image.strip_prefix("vmlinuz-").unwrap_or(&image).to_owned();
        process::output(
            Command::new(process::need("depmod", "kmod")?).arg("-b").arg(root).arg(version),
        )?;
        Ok(())
    })?;
    if deb.starts_with(&downloads) {
        fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))?;
    }
    Ok(root)
}

fn modules(root: &Path, version: &str) -> Result<Vec<PathBuf>> {
    let modprobe = process::need("modprobe", "kmod")?;
    let mut command = Command::new(modprobe);
    // The host's own options and aliases for modules are not for this machine: no configuration.
    command
        .args(["--show-depends", "-a", "-C", "/dev/null", "-S", version, "-d"])
        .arg(root)
        .args(MODULES);
    let mut modules = Vec::new();
    for path in loads(&process::output(&mut command)?) {
        if !modules.contains(&path) {
            modules.push(path);
        }
    }
    Ok(modules)
}

/// The paths in what `modprobe --show-depends` prints; what is built in needs no file.
fn loads(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.strip_prefix("insmod "))
        .map(|path| PathBuf::from(path.trim()))
        .collect()
}

fn newest(dir: &Path) -> Result<Option<PathBuf>> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(None) };
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    for entry in entries {
        let path = entry?.path();
        // Beside the entries lie the cache's locks and what is still being made.
        if path.extension().is_some_and(|e| e == "lock" || e == "partial") {
            continue;
        }
        let made = fs::metadata(&path)?.modified()?;
        if newest.as_ref().is_none_or(|(best, _)| made > *best) {
            newest = Some((made, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

fn only_entry(dir: &Path, prefix: &str) -> Result<String> {
    fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| name.starts_with(prefix))
        .with_context(|| format!("{} holds no {prefix}…", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::loads;
    use std::path::PathBuf;

    #[test]
    fn what_is_built_in_needs_no_file() {
        let text = "builtin ipv6\ninsmod /k/udp_tunnel.ko \ninsmod /k/wireguard.ko \n";

        assert_eq!(loads(text), ["/k/udp_tunnel.ko", "/k/wireguard.ko"].map(PathBuf::from));
    }
}
