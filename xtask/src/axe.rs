//! axe-core, which looks for what keeps people from using a page: fetched for the tests from the npm
//! registry, once a machine. MPL-2.0; no part of the product.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{cache, debian, process};

/// Where a test finds `axe.min.js`; set by hand, that file is taken and nothing is fetched.
pub(crate) const VARIABLE: &str = "WGMFA_AXE_CORE";

const VERSION: &str = "4.14.1";

/// The archive's SHA-512, as the registry states it (`npm view axe-core@VERSION dist.integrity`), in
/// hexadecimal.
const SHA512: &str = "1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b73\
                      4f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5";

/// Returns the path of `axe.min.js`; fetches it if it is not in the cache.
///
/// # Errors
///
/// When it cannot be fetched, or is another than it was.
pub(crate) fn obtain() -> Result<PathBuf> {
    if let Some(file) = debian::given(VARIABLE) {
        return Ok(file);
    }
    let entry = cache::once(&format!("axe-core-{VERSION}"), fetch).with_context(|| {
        format!(
            "the browser tests need axe-core {VERSION}, which Debian does not have; \
             without a way to the npm registry set {VARIABLE} to its axe.min.js"
        )
    })?;
    Ok(entry.join("package/axe.min.js"))
}

fn fetch(dir: &Path) -> Result<()> {
    let curl = process::need("curl", "curl")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let archive = dir.join("axe-core.tgz");
    let url = format!("https://registry.npmjs.org/axe-core/-/axe-core-{VERSION}.tgz");
    eprintln!("fetching {url}");
    let limits = ["--silent", "--show-error", "--fail", "--retry", "3", "--max-time", "120"];
    process::output(Command::new(curl).args(limits).arg("--output").arg(&archive).arg(&url))?;
    let digest = process::output(Command::new("sha512sum").arg(&archive))?;
    ensure!(digest.starts_with(SHA512), "{url} has another digest than it had: {digest}");
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(dir);
    process::output(tar.args(["package/axe.min.js", "package/LICENSE"]))?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
}
