//! The documents name tests; the tests must be there.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Documents that promise something and name what shows it.
const DOCUMENTS: [&str; 1] = ["docs/security.md"];
/// The requirements have these numbers.
const REQUIREMENTS: u32 = 49;

#[test]
fn every_test_that_a_document_names_exists() {
    let mut functions = BTreeSet::new();
    collect(root(), &mut functions);
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let named: BTreeSet<&str> = text.split('`').skip(1).step_by(2).filter(is_test).collect();
        assert!(named.len() > 50, "{document} names {} tests", named.len());
        let missing: Vec<_> = named.iter().filter(|name| !functions.contains(**name)).collect();
        assert!(missing.is_empty(), "{document} names tests that there are not: {missing:?}");
    }
}

#[test]
fn every_requirement_has_its_row() {
    let text = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("| R")).collect();
    for number in 1..=REQUIREMENTS {
        let name = number.to_string();
        let is_there = rows.iter().any(|row| {
            let cell = row.split('|').next().unwrap_or_default();
            cell.split(", ").any(|one| one.trim().trim_start_matches('R') == name)
        });
        assert!(is_there, "R{number} has no row");
    }
}

/// Tests have names of at least three words; paths, settings and types look otherwise.
fn is_test(name: &&str) -> bool {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.chars().all(letters) && name.matches('_').count() >= 2
}

/// The names of all functions in the sources under `dir`.
fn collect(dir: &Path, functions: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, functions);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).map(|rest| {
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
            });
            functions.extend(names);
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
