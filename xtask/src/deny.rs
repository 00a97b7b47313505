//! `cargo xtask deny`: licences, sources and banned crates, by the rules in `deny.toml`.
//!
//! It reads the part of cargo-deny's file that the project uses, and needs nothing but cargo:
//! building cargo-deny itself takes longer than all tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{licence, process};

/// Checks every package of the workspace and what it depends on.
///
/// # Errors
///
/// When a rule is broken (the text names each case), or a file cannot be read.
pub(crate) fn run() -> Result<ExitCode> {
    let text = fs::read_to_string("deny.toml").context("cannot read deny.toml")?;
    let rules: Rules = toml::from_str(&text).context("cannot read deny.toml")?;
    let mut packages = BTreeMap::new();
    for target in &rules.graph.targets {
        let mut command = Command::new("cargo");
        command.args(["tree", "--workspace", "--edges", "normal,build,dev", "--target", target]);
        command.args(["--prefix", "depth", "--format", "{p}|{l}"]);
        packages.append(&mut parse(&process::output(&mut command)?));
    }
    let broken = broken(&rules, &packages);
    if !broken.is_empty() {
        bail!("against deny.toml:\n  {}", broken.join("\n  "));
    }
    eprintln!("{} packages keep to deny.toml", packages.len());
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licences,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    /// Who may depend on it nevertheless.
    #[serde(default)]
    wrappers: Vec<String>,
}

/// A package in cargo's resolved graph.
#[derive(Debug, Default)]
struct Package {
    name: String,
    version: String,
    licence: String,
    /// Where it comes from, if not from crates.io: a directory, a repository, another registry.
    origin: Option<String>,
    /// Names of what it depends on, under the features in use.
    needs: BTreeSet<String>,
}

/// Reads lines such as `2serde v1.0.229|MIT OR Apache-2.0 (*)`: depth, package, licence. Keys of
/// the result are names with versions.
fn parse(tree: &str) -> BTreeMap<String, Package> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    // The keys from the root of the tree to the line above.
    let mut above: Vec<String> = Vec::new();
    for line in tree.lines() {
        let name_at = line.find(|c: char| !c.is_ascii_digit()).unwrap_or_default();
        let (depth, rest) = line.split_at(name_at);
        let (Ok(depth), Some((package, licence))) = (depth.parse::<usize>(), rest.split_once('|'))
        else {
            continue;
        };
        let mut words = package.splitn(3, ' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let remark = words.next().unwrap_or_default().replace("(proc-macro)", "");
        let key = format!("{name} {version}");
        above.truncate(depth);
        if let Some(parent) = above.last().and_then(|parent| packages.get_mut(parent)) {
            parent.needs.insert(name.to_owned());
        }
        packages.entry(key.clone()).or_insert_with(|| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            licence: licence.trim_end_matches(" (*)").to_owned(),
            origin: Some(remark.trim().trim_matches(['(', ')']).to_owned())
                .filter(|origin| !origin.is_empty()),
            needs: BTreeSet::new(),
        });
        above.push(key);
    }
    packages
}

fn broken(rules: &Rules, packages: &BTreeMap<String, Package>) -> Vec<String> {
    let mut broken = Vec::new();
    for package in packages.values() {
        let id = format!("{} {}", package.name, package.version);
        if !licensed(&rules.licenses, package) {
            broken.push(format!("{id}: licence {:?} is not allowed", package.licence));
        }
        if let Some(origin) = package.origin.as_ref().filter(|origin| !origin.starts_with('/')) {
            broken.push(format!("{id}: comes from {origin}"));
        }
        for ban in &rules.bans.deny {
            if package.needs.contains(&ban.name) && !ban.wrappers.contains(&package.name) {
                broken.push(format!("{id}: depends on {}", ban.name));
            }
        }
    }
    broken
}

fn licensed(rules: &Licences, package: &Package) -> bool {
    let mut allowed: BTreeSet<&str> = rules.allow.iter().map(String::as_str).collect();
    for exception in rules.exceptions.iter().filter(|it| it.name == package.name) {
        allowed.extend(exception.allow.iter().map(String::as_str));
    }
    licence::satisfied(&package.licence, &allowed)
}

#[cfg(test)]
mod tests {
    use super::{Package, Rules, broken, parse};
    use std::collections::BTreeMap;

    fn rules() -> Rules {
        toml::from_str(include_str!("../../deny.toml")).unwrap()
    }

    fn package(name: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: "MIT".to_owned(),
            origin: None,
            needs: [].into(),
        }
    }

    fn findings(package: Package) -> Vec<String> {
        broken(&rules(), &BTreeMap::from([("id".to_owned(), package)]))
    }

    #[test]
    fn an_ordinary_package_breaks_no_rule() {
        assert_eq!(findings(package("plain")), Vec::<String>::new());
    }

    #[test]
    fn a_licence_that_is_not_listed_is_found_unless_the_crate_is_an_exception() {
        let licence = || "MPL-2.0".to_owned();

        assert_eq!(findings(Package { licence: licence(), ..package("other") }).len(), 1);
        assert!(findings(Package { licence: licence(), ..package("gotatun") }).is_empty());
        assert_eq!(findings(Package { licence: String::new(), ..package("none") }).len(), 1);
    }

    #[test]
    fn a_banned_crate_is_found_except_behind_its_wrapper() {
        let needs = || ["ring".to_owned()].into();

        assert_eq!(findings(Package { needs: needs(), ..package("rustls") }).len(), 1);
        assert!(findings(Package { needs: needs(), ..package("defguard_boringtun") }).is_empty());
    }

    #[test]
    fn a_crate_from_a_repository_is_found() {
        let origin = Some("https://example.org/x#1234".to_owned());

        assert_eq!(findings(Package { origin, ..package("strange") }).len(), 1);
    }

    #[test]
    fn the_tree_tells_who_needs_whom_and_where_each_comes_from() {
        let packages = parse(
            "0a v1.0.0 (/src/a)|MIT\n\
             1b v2.0.0 (proc-macro)|\n\
             2c v3.0.0|MIT OR ISC\n\
             1c v3.0.0|MIT OR ISC (*)\n\
             \n\
             0d v4.0.0 (https://example.org/d#12)|MIT\n",
        );

        let needs = |key: &str| packages[key].needs.iter().cloned().collect::<Vec<_>>();
        assert_eq!(needs("a v1.0.0"), ["b", "c"]);
        assert_eq!(needs("b v2.0.0"), ["c"]);
        assert_eq!(packages["a v1.0.0"].origin.as_deref(), Some("/src/a"));
        assert_eq!(packages["b v2.0.0"].origin, None);
        assert_eq!(packages["c v3.0.0"].licence, "MIT OR ISC");
        assert_eq!(packages["d v4.0.0"].origin.as_deref(), Some("https://example.org/d#12"));
    }
}
