//! `cargo xtask arrows`: dependencies point the way that ARCHITECTURE.md says, and each binary has
//! one version of what encrypts.
//!
//! The question is asked of `cargo tree` for one package at a time, because features that one
//! member switches on say nothing about what another, built alone, would reach.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::process;

/// A package, and what its library or program must not reach. A name may carry a feature:
/// `rand/thread_rng`.
#[derive(Debug)]
struct Rule {
    package: &'static str,
    never: &'static [&'static str],
}

/// The domain and WireGuard's nouns are free of IO, of chance, and of each other's consumers.
const PURE: [&str; 9] = [
    "tokio",
    "diesel",
    "tonic",
    "axum",
    "hyper",
    "lettre",
    "rand/thread_rng",
    "netlink-sys",
    "wg-netlink",
];

const PEERS_NOT_PEOPLE: [&str; 5] = ["mfa-core", "mfa-store", "diesel", "lettre", "mutant/armed"];

/// Seeded bugs are the simulator's alone.
const NO_MUTANTS: [&str; 1] = ["mutant/armed"];

const RULES: [Rule; 8] = [
    Rule { package: "mfa-core", never: &PURE },
    Rule { package: "wg-types", never: &PURE },
    Rule {
        package: "wg-netlink",
        never: &["mfa-core", "mfa-store", "mfa-wire", "tonic", "diesel"],
    },
    Rule { package: "mfa-store", never: &["wg-netlink", "mfa-wire", "axum", "tonic", "lettre"] },
    Rule { package: "gateway-bin", never: &PEERS_NOT_PEOPLE },
    Rule { package: "client-bin", never: &PEERS_NOT_PEOPLE },
    Rule { package: "core-bin", never: &NO_MUTANTS },
    Rule { package: "xtask", never: &["wg-types", "mfa-core", "wg-netlink", "tokio"] },
];

/// The programs that are shipped.
const BINARIES: [&str; 3] = ["core-bin", "gateway-bin", "client-bin"];

/// What a binary has at most one version of.
const ONCE: [&str; 16] = [
    "aws-lc-rs",
    "aws-lc-sys",
    "rustls",
    "rustls-webpki",
    "tokio-rustls",
    "chacha20poly1305",
    "x25519-dalek",
    "curve25519-dalek",
    "argon2",
    "hkdf",
    "hmac",
    "sha2",
    "digest",
    "rand",
    "subtle",
    "zeroize",
];

/// Checks all rules.
///
/// # Errors
///
/// When a rule is broken (the text names each case), or cargo cannot say.
pub(crate) fn run() -> Result<ExitCode> {
    let mut broken = Vec::new();
    for rule in &RULES {
        let reached = reached(rule.package)?;
        for name in forbidden(&reached, rule.never) {
            let bare = name.split('/').next().unwrap_or_default();
            broken.push(format!(
                "{} reaches {name}: cargo tree -p {} -e normal -i {bare}",
                rule.package, rule.package
            ));
        }
    }
    for package in BINARIES {
        for (name, versions) in repeated(&reached(package)?) {
            broken.push(format!("{package} has {name} more than once: {}", versions.join(", ")));
        }
    }
    if !broken.is_empty() {
        bail!("dependencies against ARCHITECTURE.md:\n  {}", broken.join("\n  "));
    }
    eprintln!("{} packages keep to the arrows of ARCHITECTURE.md", RULES.len());
    Ok(ExitCode::SUCCESS)
}

/// A package that another one links.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reached {
    name: String,
    version: String,
    features: Vec<String>,
}

fn reached(package: &str) -> Result<BTreeSet<Reached>> {
    let mut command = Command::new("cargo");
    command.args(["tree", "--package", package, "--edges", "normal", "--prefix", "none"]);
    command.args(["--format", "{p}|{f}"]);
    Ok(parse(&process::output(&mut command)?))
}

/// Reads lines such as `rand v0.10.4|std,thread_rng (*)`; the first line is the package itself.
fn parse(tree: &str) -> BTreeSet<Reached> {
    tree.lines()
        .skip(1)
        .filter_map(|line| {
            let (package, features) = line.split_once('|')?;
            let mut words = package.split(' ');
            let (name, version) = (words.next()?, words.next()?);
            let features = features.trim_end_matches(" (*)").split(',');
            Some(Reached {
                name: name.to_owned(),
                version: version.to_owned(),
                features: features.map(str::to_owned).collect(),
            })
        })
        .collect()
}

/// Which of the forbidden names are reached.
fn forbidden<'a>(reached: &BTreeSet<Reached>, never: &[&'a str]) -> Vec<&'a str> {
    let found = |name: &str| match name.split_once('/') {
        Some((name, feature)) => {
            reached.iter().any(|it| it.name == name && it.features.iter().any(|f| f == feature))
        }
        None => reached.iter().any(|it| it.name == name),
    };
    never.iter().copied().filter(|name| found(name)).collect()
}

/// What should be there once and is there in several versions.
fn repeated(reached: &BTreeSet<Reached>) -> BTreeMap<&'static str, Vec<&str>> {
    ONCE.iter()
        .filter_map(|name| {
            let versions: BTreeSet<&str> = reached
                .iter()
                .filter(|it| it.name == *name)
                .map(|it| it.version.as_str())
                .collect();
            (versions.len() > 1).then(|| (*name, versions.into_iter().collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{PURE, forbidden, parse, repeated};

    const TREE: &str = "mfa-core v0.1.0 (/src/mfa-core)|\n\
                        wg-types v0.1.0 (/src/wg-types)|\n\
                        rand v0.10.4|std,thread_rng\n\
                        hmac v0.13.0|\n\
                        tokio v1.54.0|net,rt (*)\n\
                        hmac v0.12.1|std\n";

    #[test]
    fn a_forbidden_arrow_is_found_also_when_it_is_a_feature() {
        assert_eq!(forbidden(&parse(TREE), &PURE), ["tokio", "rand/thread_rng"]);
    }

    #[test]
    fn a_crate_without_the_forbidden_feature_is_allowed() {
        let tree = "mfa-core v0.1.0 (/src)|\nrand v0.10.4|std (*)\n";

        assert_eq!(forbidden(&parse(tree), &PURE), Vec::<&str>::new());
    }

    #[test]
    fn a_package_does_not_count_as_its_own_dependency() {
        let tree = "wg-netlink v0.1.0 (/src)|\nwg-types v0.1.0 (/src)|\n";

        assert_eq!(forbidden(&parse(tree), &["wg-netlink"]), Vec::<&str>::new());
    }

    #[test]
    fn two_versions_of_what_encrypts_are_found() {
        let tree = parse(TREE);

        let found = repeated(&tree);

        assert_eq!(found.len(), 1);
        assert_eq!(found["hmac"], ["v0.12.1", "v0.13.0"]);
    }
}
