//! `pernosco serve`: a debugging session in the browser.

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serve::{Launched, Options, SourceRule, WorkerCommand};
use store::{Reader, State};

use super::build::DATABASE;
use crate::locate::TraceArgument;
use crate::output::grouped;

#[derive(clap::Args)]
pub struct ServeArguments {
    #[command(flatten)]
    trace: TraceArgument,
    /// Directory in which notes are kept; without it they are forgotten when the server ends
    #[arg(long, value_name = "DIR")]
    storage: Option<PathBuf>,
    /// Where source files may be read: those below a directory, at their own paths or by the ends
    /// of these; or, recorded below FROM, below TO. Paths are absolute; may be given several times
    #[arg(long, value_name = "DIR|FROM=TO")]
    sources: Vec<String>,
    /// Let others in too, at an address of this machine, or at all of them. Whoever reaches it can
    /// read everything that was recorded
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = tunnel)]
    tunnel: Option<SocketAddr>,
    /// Processes that answer questions [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
}

/// Decoded parts of the database while it is looked at: only its manifest is.
const CACHE_BYTES: usize = 1 << 20;

pub fn run(arguments: &ServeArguments) -> anyhow::Result<()> {
    let trace = arguments.trace.open()?;
    let identity = check(trace.directory(), &trace.identity()?)?;
    let sources: Result<Vec<_>, _> =
        arguments.sources.iter().map(|given| SourceRule::parse(given)).collect();
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let name = trace.directory().file_name().unwrap_or(trace.directory().as_os_str());
    let options = Options {
        worker: worker(trace.directory())?,
        workers: arguments.workers.map_or(processors, usize::from),
        program: name.to_string_lossy().into_owned(),
        identity,
        storage: arguments.storage.clone(),
        sources: sources?,
        tunnel: arguments.tunnel,
        names: machine_name().into_iter().collect(),
    };
    // Nobody needs the recording open here while it is served.
    drop(trace);
    Ok(serve::run(options, |launched| {
        // Who closed our output still has a server.
        _ = tell(launched);
    })?)
}

/// Whether there is a database to serve, and what tells its recording from others.
fn check(trace: &Path, identity: &[u8]) -> anyhow::Result<String> {
    let directory = trace.join(DATABASE);
    let build = format!("pernosco build {}", quoted(trace));
    ensure!(directory.exists(), "{} has no database yet: make it with `{build}`", trace.display());
    let reader = Reader::open(&directory, CACHE_BYTES)
        .with_context(|| format!("cannot serve {}", directory.display()))?;
    ensure!(
        reader.manifest().identity == identity,
        "{}: the database is of another recording, or the recording has changed since: remove it \
         and run `{build}`",
        directory.display()
    );
    let end = reader.end().0;
    match &reader.manifest().state {
        State::Complete => {}
        _ if end == 0 => bail!(
            "{}: the build has just begun; let it go on, or run `{build}`",
            directory.display()
        ),
        State::Diverged(why) => {
            eprintln!(
                "The database ends at moment {}, where the replay differs from the recording: {why}",
                grouped(end)
            );
        }
        State::Building | State::Interrupted => {
            eprintln!(
                "The database is not finished and ends at moment {}: run `{build}` to go on",
                grouped(end)
            );
        }
    }
    Ok(identity.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// As a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn worker(trace: &Path) -> anyhow::Result<WorkerCommand> {
    let program = std::env::current_exe().context("where is this program?")?;
    let mut arguments: Vec<OsString> = vec!["query-worker".into()];
    arguments.extend(crate::log::arguments().into_iter().map(OsString::from));
    arguments.push("--".into());
    arguments.push(trace.into());
    Ok(WorkerCommand { program, arguments })
}

/// `PORT` is of all addresses.
fn tunnel(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    let parts = text.rsplit_once(':').and_then(|(address, port)| {
        let address = address.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let address = address.or(text.rsplit_once(':').map(|(address, _)| address))?;
        Some(SocketAddr::from((address.parse::<IpAddr>().ok()?, port.parse().ok()?)))
    });
    parts.ok_or_else(|| format!("`{text}` is neither a port nor ADDRESS:PORT"))
}

/// What others may call this machine.
fn machine_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn tell(launched: Launched) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "Appserver launched at http://{}/index.html", launched.local)?;
    if let Some(tunnel) = launched.tunnel {
        writeln!(output, "tunneled to http://{tunnel}/index.html")?;
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels() {
        let address = |text: &str| tunnel(text).map(|address| address.to_string()).ok();
        assert_eq!(address("8080").as_deref(), Some("0.0.0.0:8080"));
        assert_eq!(address("10.0.0.1:80").as_deref(), Some("10.0.0.1:80"));
        assert_eq!(address("[::1]:80").as_deref(), Some("[::1]:80"));
        for text in ["", "x", "70000", "host:80", "1.2.3.4", ":80", "10.0.0.1:"] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(quoted(Path::new("/a/b-0")), "/a/b-0");
        assert_eq!(quoted(Path::new("/a/it's")), r"'/a/it'\''s'");
    }
}
