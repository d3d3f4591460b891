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
    cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"])
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
