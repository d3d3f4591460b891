//! Licences and origins of all dependencies, by the lists of `deny.toml`.
//!
//! cargo-deny checks the same and more, but takes longer to build than everything else here, so
//! continuous integration does not have it.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

use super::{Finding, error};

/// Findings in what `cargo metadata` says, dependencies included.
pub fn check(metadata: &Value, deny_toml: &str) -> Result<Vec<Finding>> {
    let allowed = allowed(deny_toml)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without a name")?;
        let version = package["version"].as_str().context("a package without a version")?;
        let place = format!("{name} {version}");
        if let Some(source) = package["source"].as_str().filter(|source| !is_registry(source)) {
            findings.push(error(&place, format!("comes from {source}")));
        }
        let Some(licence) = package["license"].as_str() else {
            findings.push(error(&place, "names no licence"));
            continue;
        };
        // Older packages write `/` for `OR`.
        let Ok(expression) = Expression::parse_mode(licence, ParseMode::LAX) else {
            findings.push(error(&place, format!("`{licence}` is no SPDX expression")));
            continue;
        };
        if !expression.evaluate(|wanted| allows(&allowed, wanted)) {
            findings.push(error(&place, format!("`{licence}` is not allowed by deny.toml")));
        }
    }
    Ok(findings)
}

/// Whether this is what cargo calls the registry that it has without any configuration.
fn is_registry(source: &str) -> bool {
    source.starts_with("registry+") && source.ends_with("/crates.io-index")
}

fn allows(allowed: &[Licensee], wanted: &LicenseReq) -> bool {
    allowed.iter().any(|licensee| licensee.satisfies(wanted))
}

fn allowed(deny_toml: &str) -> Result<Vec<Licensee>> {
    let policy: toml::Table = deny_toml.parse().context("deny.toml is not TOML")?;
    let allow = policy.get("licenses").and_then(|table| table.get("allow"));
    let allow = allow.and_then(|list| list.as_array()).context("deny.toml allows no licences")?;
    let mut allowed = Vec::new();
    for name in allow {
        let name = name.as_str().context("deny.toml: a licence that is no string")?;
        match Licensee::parse(name) {
            Ok(licensee) => allowed.push(licensee),
            Err(why) => bail!("deny.toml: {why}"),
        }
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const POLICY: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"]
    "#;

    const REGISTRY: &str = "registry+https://example.org/crates.io-index";

    fn check_one(licence: Option<&str>, source: Option<&str>) -> String {
        let package =
            json!({"name": "it", "version": "1.2.3", "license": licence, "source": source});
        let findings = check(&json!({"packages": [package]}), POLICY).unwrap();
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn expressions_are_evaluated() {
        for good in [
            "MIT",
            "GPL-3.0-only OR MIT",
            "GPL-3.0-only/MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert_eq!(check_one(Some(good), Some(REGISTRY)), "", "{good}");
        }
        for bad in ["Apache-2.0", "GPL-3.0-only AND MIT", "NCSA", "GPL-3.0-or-later"] {
            let found = check_one(Some(bad), Some(REGISTRY));
            assert_eq!(found, format!("error: it 1.2.3: `{bad}` is not allowed by deny.toml"));
        }
        let found = check_one(Some("mine, all mine"), None);
        assert_eq!(found, "error: it 1.2.3: `mine, all mine` is no SPDX expression");
        assert_eq!(check_one(None, None), "error: it 1.2.3: names no licence");
    }

    #[test]
    fn only_one_registry() {
        assert_eq!(check_one(Some("MIT"), None), "");
        assert_eq!(check_one(Some("MIT"), Some(REGISTRY)), "");
        let found = check_one(Some("MIT"), Some("git+https://example.org/it"));
        assert_eq!(found, "error: it 1.2.3: comes from git+https://example.org/it");
    }

    #[test]
    fn policies_that_say_nothing() {
        let metadata = json!({"packages": []});
        assert!(check(&metadata, "").is_err());
        assert!(check(&metadata, "[licenses]\nallow = ['No such licence']").is_err());
    }
}
