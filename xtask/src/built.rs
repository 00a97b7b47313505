//! What a build by cargo made: asked of cargo itself, never guessed from names of files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

/// The programs that a build made.
#[derive(Debug, Default)]
pub(crate) struct Built {
    /// Test programs: of libraries, of programs, and of `tests/`.
    pub(crate) tests: Vec<Program>,
    /// Programs with `fn main` that are shipped or that demonstrate.
    pub(crate) programs: Vec<Program>,
    /// Programs of `benches/`.
    pub(crate) benches: Vec<Program>,
}

/// One program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The package that it belongs to.
    pub(crate) package: String,
    /// The name of its target: `kernel_idle` for `tests/kernel_idle.rs`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The package's directory, in which cargo runs tests and benches.
    pub(crate) dir: PathBuf,
}

impl Built {
    /// Runs cargo with these arguments and returns what it made or found made.
    ///
    /// # Errors
    ///
    /// When the build fails; the compiler has said why by then.
    pub(crate) fn make(arguments: &[&str]) -> Result<Self> {
        let done = Command::new("cargo")
            .args(arguments)
            .arg("--message-format=json-render-diagnostics")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        anyhow::ensure!(done.status.success(), "`cargo {}` failed", arguments.join(" "));
        Self::read(&String::from_utf8_lossy(&done.stdout))
    }

    /// Reads cargo's messages, one JSON object a line.
    pub(crate) fn read(messages: &str) -> Result<Self> {
        let mut built = Self::default();
        for line in messages.lines() {
            let message: serde_json::Value =
                serde_json::from_str(line).context("cargo wrote a message that is not JSON")?;
            if message.get("executable").is_some_and(serde_json::Value::is_string) {
                built.add(&message).context("cargo wrote a message of unknown shape")?;
            }
        }
        Ok(built)
    }

    fn add(&mut self, message: &serde_json::Value) -> Option<()> {
        let target = message.get("target")?;
        let kind = target.get("kind")?.get(0)?.as_str()?;
        let tested = message.get("profile")?.get("test")?.as_bool()?;
        let program = Program {
            package: package_name(message.get("package_id")?.as_str()?).to_owned(),
            name: target.get("name")?.as_str()?.to_owned(),
            path: PathBuf::from(message.get("executable")?.as_str()?),
            dir: Path::new(message.get("manifest_path")?.as_str()?).parent()?.to_owned(),
        };
        match kind {
            "bench" => self.benches.push(program),
            _ if tested => self.tests.push(program),
            "bin" => self.programs.push(program),
            _ => {}
        }
        Some(())
    }
}

impl Program {
    /// The program as cargo would start it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.dir).env("CARGO_MANIFEST_DIR", &self.dir).stdin(Stdio::null());
        command
    }
}

/// The name in an id such as `path+file:///src/mfa-core#0.1.0` or `path+file:///src#wg-mfa@0.1.0`.
fn package_name(id: &str) -> &str {
    let (location, fragment) = id.rsplit_once('#').unwrap_or(("", id));
    match fragment.split_once('@') {
        Some((name, _)) => name,
        None => location.rsplit('/').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Built, package_name};

    fn message(kind: &str, name: &str, tested: bool) -> String {
        serde_json::json!({
            "reason": "compiler-artifact",
            "package_id": "path+file:///s/core-bin#0.1.0",
            "manifest_path": "/s/core-bin/Cargo.toml",
            "target": {"kind": [kind], "name": name},
            "profile": {"test": tested},
            "executable": format!("/t/{name}"),
        })
        .to_string()
    }

    #[test]
    fn tests_programs_and_benches_are_told_apart() {
        let messages = [
            message("lib", "core_bin", true),
            message("bin", "core-bin", true),
            message("bin", "core-bin", false),
            message("test", "kernel", true),
            message("bench", "rotation", true),
            message("example", "embed", false),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];

        let built = Built::read(&messages.join("\n")).unwrap();

        let names = |programs: &[super::Program]| {
            programs.iter().map(|program| program.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&built.tests), ["core_bin", "core-bin", "kernel"]);
        assert_eq!(names(&built.programs), ["core-bin"]);
        assert_eq!(names(&built.benches), ["rotation"]);
        assert_eq!(built.tests[0].package, "core-bin");
        assert_eq!(built.tests[0].dir, std::path::Path::new("/s/core-bin"));
    }

    #[test]
    fn a_message_that_is_not_understood_is_an_error() {
        assert!(Built::read(r#"{"executable":"/t/x"}"#).is_err());
        assert!(Built::read("warning: x").is_err());
    }

    #[test]
    fn packages_are_named_in_both_shapes_of_their_ids() {
        assert_eq!(package_name("path+file:///s/mfa-core#0.1.0"), "mfa-core");
        assert_eq!(package_name("path+file:///s#wg-mfa@0.1.0"), "wg-mfa");
    }
}
