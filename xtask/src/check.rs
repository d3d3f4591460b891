//! `cargo xtask check`: exactly what continuous integration runs.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::{client, tidy, workspace};

enum Outcome {
    Passed,
    /// Because of what is not there.
    Skipped(&'static str),
}

type Step = (&'static str, fn() -> Result<Outcome>);

const STEPS: [Step; 10] = [
    ("recordings", recordings),
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("tidy", || tidy::run().map(|()| Outcome::Passed)),
    ("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
    ("tests", tests),
    ("client", client_bundle),
    ("browser", browser),
    ("commands of the README", readme),
    ("documentation", documentation),
    ("cargo-deny", deny),
];

/// Runs every step, even after a failure, and fails at the end if one did.
pub fn run() -> Result<()> {
    let mut failed = Vec::new();
    let mut told = Vec::new();
    for (name, action) in STEPS {
        eprintln!("== {name}");
        let start = Instant::now();
        let result = action();
        let seconds = start.elapsed().as_secs_f64();
        let line = match result {
            Ok(Outcome::Passed) => format!("passed in {seconds:.0} s"),
            Ok(Outcome::Skipped(why)) => format!("skipped ({why})"),
            Err(error) => {
                failed.push(name);
                format!("FAILED in {seconds:.0} s: {error:#}")
            }
        };
        eprintln!("== {name}: {line}");
        told.push(format!("{name}: {line}"));
    }
    eprintln!("\n{}", told.join("\n"));
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

/// Whether the recordings are there that are too large for the tree. Tests that want them fail
/// without, each by itself; this says it once and first.
fn recordings() -> Result<Outcome> {
    let directory = match std::env::var_os("PERNOSCO_TRACES") {
        Some(directory) => PathBuf::from(directory),
        None => workspace::root().join("../shared/traces"),
    };
    ensure!(
        directory.is_dir(),
        "there is no {}, and tests that read recordings from it will fail: \
         set PERNOSCO_TRACES to their directory",
        directory.display()
    );
    Ok(Outcome::Passed)
}

/// One process a test where possible: there is one machine a process, and tests that need it
/// wait for each other within one.
fn tests() -> Result<Outcome> {
    if has("nextest") {
        cargo(&["nextest", "run", "--workspace", "--no-fail-fast"])?;
        return cargo(&["test", "--workspace", "--doc"]);
    }
    cargo(&["test", "--workspace", "--no-fail-fast"])
}

/// Every command that the README gives, but the ones that end up here again.
fn readme() -> Result<Outcome> {
    let path = workspace::root().join("README.md");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for command in commands(&text) {
        eprintln!("$ {command}");
        let mut shell = Command::new("bash");
        status(shell.arg("-c").arg(command).current_dir(workspace::root()))?;
    }
    Ok(Outcome::Passed)
}

/// The lines of blocks marked `sh`, without those that run all checks.
fn commands(markdown: &str) -> Vec<&str> {
    let mut inside = false;
    let mut commands = Vec::new();
    for line in markdown.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside && ![".ci/run", "cargo xtask check"].contains(&line) {
            commands.push(line);
        }
    }
    commands
}

const NO_NODE: &str = "there is no Node 20.19 or later, which the page is built and tested with";

fn client_bundle() -> Result<Outcome> {
    if !client::has_node() {
        return Ok(Outcome::Skipped(NO_NODE));
    }
    client::check().map(|()| Outcome::Passed)
}

/// Behind `client_bundle`, which installs what it needs.
fn browser() -> Result<Outcome> {
    if !client::has_node() {
        return Ok(Outcome::Skipped(NO_NODE));
    }
    client::browser().map(|()| Outcome::Passed)
}

fn documentation() -> Result<Outcome> {
    let mut command = workspace::cargo();
    command.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    status(&mut command)
}

/// What `tidy` does not check of `deny.toml`. Advisories are left out: they would be fetched.
fn deny() -> Result<Outcome> {
    if !has("deny") {
        return Ok(Outcome::Skipped("cargo-deny is not installed"));
    }
    cargo(&["deny", "check", "bans", "licenses", "sources"])
}

/// Whether cargo has this subcommand.
fn has(subcommand: &str) -> bool {
    let version = workspace::cargo().args([subcommand, "--version"]).output();
    version.is_ok_and(|output| output.status.success())
}

fn cargo(arguments: &[&str]) -> Result<Outcome> {
    status(workspace::cargo().args(arguments))
}

fn status(command: &mut Command) -> Result<Outcome> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_blocks() {
        let text = "x\n```sh\na b\n.ci/run\nc\n```\nd\n```\ne\n```\n";
        assert_eq!(commands(text), ["a b", "c"]);
        assert!(commands("```sh\ncargo xtask check\n```").is_empty());
    }
}
