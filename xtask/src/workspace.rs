//! Where the workspace is, and what is in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The directory of the workspace's `Cargo.toml`.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// `cargo metadata` of the workspace's own packages.
pub fn metadata() -> Result<Value> {
    let arguments = ["metadata", "--format-version=1", "--no-deps", "--offline"];
    let text = output(cargo().args(arguments))?;
    serde_json::from_str(&text).context("cargo metadata is not JSON")
}

/// `cargo metadata` with every dependency that a build for our one target uses.
pub fn metadata_with_dependencies() -> Result<Value> {
    let platform = "--filter-platform=x86_64-unknown-linux-gnu";
    let arguments = ["metadata", "--format-version=1", "--locked", platform];
    let text = output(cargo().args(arguments))?;
    serde_json::from_str(&text).context("cargo metadata is not JSON")
}

/// Where cargo puts what it builds.
pub fn target_directory() -> Result<PathBuf> {
    let metadata = metadata()?;
    let directory = metadata["target_directory"].as_str().context("no target directory")?;
    Ok(PathBuf::from(directory))
}

/// The files of the tree, tracked or to be, relative to the root and in order.
pub fn files() -> Result<Vec<PathBuf>> {
    // The tree may belong to somebody else than whom continuous integration runs as.
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]);
    let text = output(git.arg("--exclude-standard").current_dir(root()))?;
    let mut files: Vec<PathBuf> = text
        .split_terminator('\0')
        .map(PathBuf::from)
        .filter(|f| root().join(f).exists())
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// What a command that has to succeed prints.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed, {}: {errors}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} prints no UTF-8"))
}
