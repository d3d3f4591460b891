//! The page: that its committed bundle is what its sources give, and the tests in browsers.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace;

/// The committed bundle, and where it is built.
const BUNDLE: &str = "crates/serve/dist";
/// What a page loads before it shows anything may have so many bytes, compressed.
const SCRIPT_BYTES_MAX: usize = 60 << 10;

/// Whether there is a Node that can build the page: 20.19 or later, with npm.
pub fn has_node() -> bool {
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let mut numbers = text.trim().trim_start_matches('v').split('.').map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    version("npm").is_some() && version("node").is_some_and(|version| version >= (20, 19))
}

/// Builds the page again, and compares.
///
/// # Errors
///
/// If it cannot be built, if its own tests fail, or if the bundle in the tree is another.
pub fn check() -> Result<()> {
    let before = bundle()?;
    npm(&["ci"])?;
    npm(&["run", "unit"])?;
    let temporary = tempfile::tempdir()?;
    let directory = temporary.path().to_str().context("a temporary directory without a name")?;
    npm(&["run", "types"])?;
    npm(&["exec", "--", "vite", "build", "--outDir", directory, "--logLevel", "warn"])?;
    let after = files(temporary.path())?;
    let differing: Vec<_> =
        after.iter().filter(|(name, bytes)| before.get(*name) != Some(bytes)).collect();
    ensure!(
        differing.is_empty() && before.len() == after.len(),
        "{BUNDLE} is not what client/ gives (it differs in {:?}): build it with `npm run build` \
         there and commit it",
        differing.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    let script = after.get("client.js").context("there is no client.js")?;
    let compressed = gzipped(script)?;
    ensure!(
        compressed <= SCRIPT_BYTES_MAX,
        "client.js has {compressed} bytes compressed, more than {SCRIPT_BYTES_MAX}"
    );
    eprintln!("client.js: {compressed} bytes compressed of {SCRIPT_BYTES_MAX}");
    Ok(())
}

/// The stories in real browsers, with a program that has been built.
///
/// # Errors
///
/// If one fails, or the program cannot be built.
pub fn browser() -> Result<()> {
    let status = workspace::cargo().args(["build", "--package", "pernosco"]).status()?;
    ensure!(status.success(), "pernosco cannot be built");
    let program = workspace::target_directory()?.join("debug/pernosco");
    let mut command = Command::new("npm");
    command.args(["run", "browser"]).current_dir(workspace::root().join("client"));
    run(command.env("PERNOSCO", program))
}

fn npm(arguments: &[&str]) -> Result<()> {
    run(Command::new("npm").args(arguments).current_dir(workspace::root().join("client")))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

fn bundle() -> Result<BTreeMap<String, Vec<u8>>> {
    files(&workspace::root().join(BUNDLE))
}

fn files(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, std::fs::read(entry.path())?);
    }
    Ok(files)
}

/// How many bytes gzip makes of these.
fn gzipped(bytes: &[u8]) -> Result<usize> {
    use std::io::Write;
    use std::process::Stdio;
    let mut gzip =
        Command::new("gzip").arg("-9c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = gzip.stdin.take().context("gzip has no input")?;
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = gzip.wait_with_output()?;
    writer.join().map_err(|_| anyhow::anyhow!("writing to gzip failed"))??;
    ensure!(output.status.success(), "gzip: {}", output.status);
    Ok(output.stdout.len())
}
