//! The whole journey with nothing but a process's rights: no root, no TUN, no namespaces.

use anyhow::{Result, ensure};
use demo::story::Teller;

#[test]
fn the_story_is_told_without_any_privilege() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut teller = Teller::new();
    demo::alone::tell(&mut teller, directory.path())?;
    ensure!(teller.finish());
    Ok(())
}
