//! The log: what the program and its libraries tell beside their results.
//!
//! A line for each thing, which begins with its level: `ERROR: ...`, `WARN: ...`. Errors always go
//! to stderr; `--log` writes them, and all from another level on, to a file besides. Files are
//! appended to, a line at a time, so processes of one build can share one.

use std::fmt::{self, Write as _};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock};

use anyhow::Context;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as layer};

use crate::names;

/// `--log`, as it was given.
static GIVEN: OnceLock<String> = OnceLock::new();

/// What `--log` says.
#[derive(Debug, PartialEq, Eq)]
struct Destination {
    level: LevelFilter,
    file: PathBuf,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Destination, String> {
        let wrong = |what| format!("--log {text:?}: {what}; give LEVEL:FILE or LEVEL=FILE");
        let parts = text.split_once([':', '=']);
        let (level, file) = parts.ok_or_else(|| wrong("neither `:` nor `=` in it".into()))?;
        let level = match level {
            "debug" => LevelFilter::DEBUG,
            "info" => LevelFilter::INFO,
            "warn" => LevelFilter::WARN,
            "error" => LevelFilter::ERROR,
            _ => {
                let what = format!("{level:?} is none of debug, info, warn and error");
                return Err(wrong(what));
            }
        };
        if file.is_empty() {
            return Err(wrong("no file".into()));
        }
        Ok(Destination { level, file: file.into() })
    }
}

/// Begins the log; to be called once.
pub fn start(given: Option<&str>) -> anyhow::Result<()> {
    let mut echo = true;
    let file = match given {
        None => None,
        Some(text) => {
            let Destination { level, file: path } = text.parse().map_err(anyhow::Error::msg)?;
            let file = OpenOptions::new().append(true).create(true).open(&path);
            let file = file.with_context(|| format!("--log: {}", path.display()))?;
            echo = !is_stderr(&file);
            let file = layer::layer().event_format(Line).with_writer(Mutex::new(file));
            // Only the first call counts.
            _ = GIVEN.set(text.into());
            Some(file.with_filter(level))
        }
    };
    let stderr = echo.then(|| {
        let stderr = layer::layer().event_format(Line).with_writer(io::stderr);
        stderr.with_filter(LevelFilter::ERROR)
    });
    tracing_subscriber::registry().with(file).with(stderr).try_init()?;
    Ok(())
}

/// Reports why the command failed.
pub fn failure(error: &anyhow::Error) {
    match GIVEN.get() {
        // The log has it on stderr too.
        Some(_) => tracing::error!("{error:#}"),
        None => eprintln!("pernosco: {}", plain(&format!("{error:#}"))),
    }
}

/// What names of files contain does not reach terminals as commands.
fn plain(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(|line| names::text(line.as_bytes())).collect();
    lines.join("\n")
}

/// The arguments with which another process of this program writes to the same log.
pub fn arguments() -> Vec<&'static str> {
    GIVEN.get().map_or(vec![], |given| vec!["--log", given])
}

fn is_stderr(file: &File) -> bool {
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let identity = |file: Metadata| (file.dev(), file.ino(), file.rdev());
    match (file.metadata(), stderr.and_then(|stderr| stderr.metadata())) {
        (Ok(file), Ok(stderr)) => identity(file) == identity(stderr),
        _ => false,
    }
}

/// `LEVEL: span{fields}: message fields`
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            text.push_str(span.name());
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>().filter(|f| !f.is_empty()) {
                write!(text, "{{{fields}}}")?;
            }
            text.push_str(": ");
        }
        context.format_fields(Writer::new(&mut text), event)?;
        write!(writer, "{}:", event.metadata().level())?;
        // What names of files contain must not look like another line.
        for (number, line) in text.trim_end().split('\n').enumerate() {
            let indent = if number == 0 { " " } else { "  " };
            writeln!(writer, "{indent}{}", names::text(line.as_bytes()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_files() {
        let parse = |text: &str| text.parse::<Destination>();
        let destination = |level, file: &str| Ok(Destination { level, file: file.into() });
        assert_eq!(parse("warn:a=b"), destination(LevelFilter::WARN, "a=b"));
        assert_eq!(parse("debug=a:b"), destination(LevelFilter::DEBUG, "a:b"));
        for (text, reason) in [
            ("warn", "neither `:` nor `=`"),
            ("", "neither `:` nor `=`"),
            ("loud:a", "\"loud\" is none of debug, info, warn and error"),
            (":a", "\"\" is none of"),
            ("ERROR:a", "\"ERROR\" is none of"),
            ("error:", "no file"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason) && error.contains("give LEVEL:FILE"), "{error}");
        }
    }
}
