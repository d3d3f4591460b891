//! `cargo xtask tidy`: the rules of the tree that a program can check.
//!
//! Errors fail, advice is printed. What a rule forbids is spelled in pieces here, since this file
//! is checked as well.

mod arrows;
mod licences;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// A committed file may have so many bytes unless it is generated.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// All files of one recording together.
const RECORDING_BYTES_MAX: u64 = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Advice,
    Error,
}

/// Something that a rule does not like.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    weight: Weight,
    place: String,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.weight {
            Weight::Advice => "advice",
            Weight::Error => "error",
        };
        write!(f, "{weight}: {}: {}", self.place, self.what)
    }
}

fn error(place: impl fmt::Display, what: impl Into<String>) -> Finding {
    Finding { weight: Weight::Error, place: place.to_string(), what: what.into() }
}

fn advice(place: impl fmt::Display, what: impl Into<String>) -> Finding {
    Finding { weight: Weight::Advice, place: place.to_string(), what: what.into() }
}

pub fn run() -> Result<()> {
    let findings = findings()?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.weight == Weight::Error).count();
    if errors > 0 {
        bail!("{errors} rules of the tree are broken");
    }
    Ok(())
}

fn findings() -> Result<Vec<Finding>> {
    let files = workspace::files()?;
    let generated = generated_patterns(&files)?;
    let mut findings = arrows::check(&workspace::metadata()?)?;
    let policy = std::fs::read_to_string(workspace::root().join("deny.toml"))
        .context("cannot read deny.toml")?;
    findings.extend(licences::check(&workspace::metadata_with_dependencies()?, &policy)?);
    findings.extend(recording_sizes(&files)?);
    for file in &files {
        let is_generated = generated.iter().any(|pattern| matches_pattern(file, pattern));
        let bytes = std::fs::read(workspace::root().join(file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        findings.extend(check_name(file));
        if is_generated {
            continue;
        }
        if bytes.len() as u64 > FILE_BYTES_MAX {
            findings.push(error(file.display(), "more than 1 MiB: does it belong here?"));
        }
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        if !file.starts_with("tests/recordings") {
            findings.extend(check_paths(file, text));
        }
        if file.extension().is_some_and(|extension| extension == "rs") {
            findings.extend(source::check(&file.display().to_string(), text));
        }
    }
    findings.sort();
    Ok(findings)
}

/// Modules are named after what they do.
fn check_name(file: &Path) -> Option<Finding> {
    const EMPTY_NAMES: [&str; 6] = ["util", "utils", "common", "shared", "helpers", "misc"];
    let extension = file.extension()?.to_str()?;
    if !["rs", "ts", "tsx"].contains(&extension) {
        return None;
    }
    let stem = file.with_extension("");
    let name = stem.iter().find(|part| EMPTY_NAMES.iter().any(|empty| *part == *empty))?;
    let what = format!("a module named `{}` says nothing", name.display());
    Some(error(file.display(), what))
}

/// Directories of one developer's machine.
fn check_paths(file: &Path, text: &str) -> Vec<Finding> {
    let directories = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/")];
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for directory in directories {
            let begins = line.match_indices(directory).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && !"_.-$})".contains(c))
            });
            if begins {
                let place = format!("{}:{number}", file.display());
                findings.push(error(place, format!("`{directory}` is a path of one machine")));
            }
        }
    }
    findings
}

/// Recordings in the tree always run and stay small.
fn recording_sizes(files: &[PathBuf]) -> Result<Vec<Finding>> {
    let mut sizes = std::collections::BTreeMap::<PathBuf, u64>::new();
    for file in files {
        let Ok(inside) = file.strip_prefix("tests/recordings") else { continue };
        let parts: Vec<_> = inside.iter().collect();
        if parts.len() < 2 {
            continue;
        }
        let size = std::fs::metadata(workspace::root().join(file))
            .with_context(|| format!("cannot read {}", file.display()))?
            .len();
        *sizes.entry(Path::new("tests/recordings").join(parts[0])).or_default() += size;
    }
    let big = sizes.into_iter().filter(|(_, size)| *size > RECORDING_BYTES_MAX);
    Ok(big
        .map(|(place, size)| {
            error(place.display(), format!("a recording of {size} bytes, more than 256 KiB"))
        })
        .collect())
}

/// The patterns that `.gitattributes` files mark as generated.
fn generated_patterns(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut patterns = Vec::new();
    for file in files.iter().filter(|file| file.ends_with(".gitattributes")) {
        let text = std::fs::read_to_string(workspace::root().join(file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let directory = file.parent().unwrap_or(Path::new(""));
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let Some(pattern) = words.next() else { continue };
            if words.any(|word| word == "linguist-generated" || word == "linguist-generated=true") {
                patterns.push(directory.join(pattern));
            }
        }
    }
    Ok(patterns)
}

/// A pattern is a path, or ends in `/**` for all below, or in `*.EXTENSION`.
fn matches_pattern(file: &Path, pattern: &Path) -> bool {
    let (Some(name), Some(parent)) = (pattern.file_name(), pattern.parent()) else { return false };
    let name = name.to_string_lossy();
    if name == "**" || name == "*" {
        return file.starts_with(parent);
    }
    match name.strip_prefix('*') {
        Some(end) => file.starts_with(parent) && file.to_string_lossy().ends_with(end),
        None => file == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree itself keeps the rules.
    #[test]
    fn the_tree_is_tidy() {
        let findings = findings().unwrap();
        let errors: Vec<_> = findings.iter().filter(|f| f.weight == Weight::Error).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }

    #[test]
    fn names_that_say_nothing() {
        assert!(check_name(Path::new("crates/x/src/utils.rs")).is_some());
        assert!(check_name(Path::new("crates/x/src/shared/mod.rs")).is_some());
        assert!(check_name(Path::new("crates/x/src/shared_object.rs")).is_none());
        assert!(check_name(Path::new("docs/common.md")).is_none());
    }

    #[test]
    fn paths_of_one_machine() {
        let check = |text: &str| check_paths(Path::new("a.md"), text).len();
        assert_eq!(check(concat!("see /ho", "me/me/x and (/wo", "rk/y)")), 2);
        assert_eq!(check(concat!("net", "/wo", "rk/y")), 0);
        assert_eq!(check(concat!("$DIR/ho", "me/x")), 0);
    }

    #[test]
    fn generated_files() {
        let check =
            |file: &str, pattern: &str| matches_pattern(Path::new(file), Path::new(pattern));
        assert!(check("a/b/c.rs", "a/b/**"));
        assert!(check("a/b/c_capnp.rs", "a/*_capnp.rs"));
        assert!(check("Cargo.lock", "Cargo.lock"));
        assert!(!check("a/b/c.rs", "a/c/**"));
    }
}
