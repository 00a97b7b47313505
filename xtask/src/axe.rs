//! axe-core, which looks for what keeps people from using a page: fetched for the tests by pip, once a
//! machine. MPL-2.0; no part of the product.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cache, debian, process};

/// Where a test finds `axe.min.js`; set by hand, that file is taken and nothing is fetched.
pub(crate) const VARIABLE: &str = "WGMFA_AXE_CORE";

/// The Python package that carries axe-core 4.12.1, and the SHA-256 of its wheel, without which pip takes
/// none.
const PACKAGE: &str = "axe-playwright-python==0.1.8";
const SHA256: &str = "fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8";

/// Returns the path of `axe.min.js`; fetches it if it is not in the cache.
///
/// # Errors
///
/// When it cannot be fetched, or is another than it was.
pub(crate) fn obtain() -> Result<PathBuf> {
    if let Some(file) = debian::given(VARIABLE) {
        return Ok(file);
    }
    let entry = cache::once(&PACKAGE.replace("==", "-"), fetch).with_context(|| {
        format!(
            "the browser tests need axe-core, which Debian does not have; \
             where pip finds no {PACKAGE} set {VARIABLE} to an axe.min.js"
        )
    })?;
    Ok(entry.join("axe_playwright_python/axe.min.js"))
}

fn fetch(dir: &Path) -> Result<()> {
    let (pip, python) =
        (process::need("pip3", "python3-pip")?, process::need("python3", "python3")?);
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let wanted = dir.join("wanted.txt");
    fs::write(&wanted, format!("{PACKAGE} --hash=sha256:{SHA256}\n"))
        .with_context(|| format!("cannot write {}", wanted.display()))?;
    eprintln!("fetching {PACKAGE}");
    let strict = ["--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"];
    let mut download = Command::new(pip);
    download.arg("download").args(strict).arg("--dest").arg(dir).arg("--requirement").arg(&wanted);
    process::output(&mut download)?;
    let wheel = fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip left no wheel")?;
    // A wheel is a ZIP archive (PEP 427).
    process::output(Command::new(python).args(["-m", "zipfile", "-e"]).arg(wheel).arg(dir))?;
    Ok(())
}
