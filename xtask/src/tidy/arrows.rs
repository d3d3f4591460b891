//! Which crate may depend on which: the arrows of `ARCHITECTURE.md`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Finding, error};

/// What each crate may depend on, of the workspace. A crate that is not here may not exist: its
/// line is added with the decision to have it.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("rr-trace", &["model"]),
    ("machine", &["model"]),
    ("replay", &["rr-trace", "machine", "model"]),
    ("store", &["model"]),
    ("symbols", &["model"]),
    ("values", &["symbols", "model"]),
    ("index", &["replay", "store", "symbols", "machine", "rr-trace", "model"]),
    ("query", &["index", "store", "replay", "rr-trace", "machine", "symbols", "values", "model"]),
    ("gdb-remote", &["query", "model"]),
    ("confine", &[]),
    ("serve", &["confine"]),
    (
        "pernosco",
        &[
            "model",
            "rr-trace",
            "machine",
            "replay",
            "store",
            "symbols",
            "values",
            "index",
            "query",
            "gdb-remote",
            "confine",
            "serve",
        ],
    ),
];

/// Crates that only tests and chores use: they may depend on anything of the product, and on each
/// other, and only tests may depend on them.
const DEVELOPMENT: &[&str] = &["testkit", "live", "xtask"];

/// Findings in what `cargo metadata` says.
pub fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without a name")?;
        let development = DEVELOPMENT.contains(&name);
        if !development && !arrows.contains_key(name) {
            findings.push(error(name, "a crate that the table of arrows does not have"));
            continue;
        }
        let allowed = arrows.get(name).copied().unwrap_or_default();
        let dependencies = package["dependencies"].as_array().context("no dependencies")?;
        for dependency in dependencies {
            let to = dependency["name"].as_str().context("a dependency without a name")?;
            if !names.contains(&to) || development || allowed.contains(&to) {
                continue;
            }
            let for_tests = dependency["kind"].as_str() == Some("dev");
            if !(for_tests && DEVELOPMENT.contains(&to)) {
                findings.push(error(name, format!("may not depend on {to}")));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_one(from: &str, to: &str, kind: Option<&str>) -> usize {
        let metadata = json!({"packages": [
            {"name": from, "dependencies": [{"name": to, "kind": kind}, {"name": "libc"}]},
            {"name": to, "dependencies": []},
        ]});
        check(&metadata).unwrap().len()
    }

    #[test]
    fn arrows_go_one_way() {
        assert_eq!(check_one("replay", "machine", None), 0);
        assert_eq!(check_one("machine", "replay", None), 1);
        assert_eq!(check_one("machine", "replay", Some("dev")), 1);
        assert_eq!(check_one("serve", "replay", None), 1);
    }

    #[test]
    fn development_crates_are_for_tests() {
        assert_eq!(check_one("replay", "live", None), 1);
        assert_eq!(check_one("replay", "live", Some("dev")), 0);
        assert_eq!(check_one("testkit", "replay", None), 0);
        assert_eq!(check_one("model", "newcomer", None), 2);
    }
}
