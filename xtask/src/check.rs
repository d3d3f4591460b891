//! `cargo xtask check`: exactly what continuous integration runs.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{tidy, workspace};

/// Runs every step, even after a failure, and fails at the end if one did.
pub fn run() -> Result<()> {
    let mut failed = Vec::new();
    let mut step = |name: &'static str, action: &mut dyn FnMut() -> Result<()>| {
        eprintln!("== {name}");
        let start = Instant::now();
        let result = action();
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => eprintln!("== {name}: passed in {seconds:.0} s"),
            Err(error) => {
                eprintln!("== {name}: FAILED in {seconds:.0} s: {error:#}");
                failed.push(name);
            }
        }
    };
    step("format", &mut || cargo(&["fmt", "--all", "--check"]));
    step("tidy", &mut tidy::run);
    step("lints", &mut || {
        cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
    });
    step("tests", &mut tests);
    step("commands of the README", &mut readme);
    step("documentation", &mut documentation);
    step("licences and advisories", &mut deny);
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

/// One process a test where possible: there is one machine a process, and tests that need it
/// wait for each other within one.
fn tests() -> Result<()> {
    if has("nextest") {
        cargo(&["nextest", "run", "--workspace", "--no-fail-fast"])?;
        return cargo(&["test", "--workspace", "--doc"]);
    }
    cargo(&["test", "--workspace", "--no-fail-fast"])
}

/// Every command that the README gives, but the ones that end up here again.
fn readme() -> Result<()> {
    let path = workspace::root().join("README.md");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for command in commands(&text) {
        eprintln!("$ {command}");
        let mut shell = Command::new("bash");
        status(shell.arg("-c").arg(command).current_dir(workspace::root()))?;
    }
    Ok(())
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

fn documentation() -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    status(&mut command)
}

fn deny() -> Result<()> {
    if !has("deny") {
        eprintln!("cargo-deny is not installed: only continuous integration with it checks this");
        return Ok(());
    }
    cargo(&["deny", "check", "bans", "licenses", "sources"])
}

/// Whether cargo has this subcommand.
fn has(subcommand: &str) -> bool {
    let version = workspace::cargo().args([subcommand, "--version"]).output();
    version.is_ok_and(|output| output.status.success())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    status(workspace::cargo().args(arguments))
}

fn status(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
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
