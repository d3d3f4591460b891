//! One piece in one process.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::Context;
use replay::{Border, Digest, TickRule};

use crate::commands::piece::Report;

/// What a process has to do.
#[derive(Debug)]
pub struct Work<'a> {
    pub trace: &'a Path,
    pub tick_rule: TickRule,
    pub from: Option<&'a Path>,
    pub to: Border,
    pub digest: Digest,
    pub found: &'a Path,
}

/// How a process ended.
#[derive(Debug)]
pub enum Ended {
    Reported(Report),
    /// Without a report; what happened to it.
    Died(String),
}

/// A report is a line; a divergence in it has some pages of text.
const REPORT_BYTES_MAX: u64 = 16 << 20;

impl Work<'_> {
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["replay-piece".into(), "--with-stdin".into()];
        if let Some(from) = self.from {
            arguments.extend(["--from".into(), from.into()]);
        }
        arguments.extend(["--tick-rule".into(), self.tick_rule.to_string().into()]);
        arguments.extend(["--to".into(), self.to.to_string().into()]);
        arguments.extend(["--digest".into(), self.digest.to_string().into()]);
        arguments.extend(["--found".into(), self.found.into()]);
        arguments.extend(crate::log::arguments().into_iter().map(OsString::from));
        arguments.extend(["--".into(), self.trace.into()]);
        arguments
    }

    /// Runs it to its end.
    pub fn run(&self) -> anyhow::Result<Ended> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let arguments = self.arguments();
        tracing::debug!(?arguments, "starting a process");
        let mut child = Command::new(&program)
            .args(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        // Open as long as we wait: when we are gone, the process ends.
        let stdin = child.stdin.take();
        let errors = child.stderr.take();
        let errors = std::thread::spawn(move || errors.map_or(Ok(Vec::new()), last_bytes));
        let mut output = Vec::new();
        let read =
            child.stdout.take().map(|out| out.take(REPORT_BYTES_MAX).read_to_end(&mut output));
        let status = child.wait().context("cannot wait for a process")?;
        drop(stdin);
        read.transpose().context("cannot read what a process says")?;
        let errors = errors.join().ok().and_then(Result::ok).unwrap_or_default();
        Ok(ended(status, &output, &String::from_utf8_lossy(&errors)))
    }
}

/// Reads to the end, and keeps the last bytes.
fn last_bytes(mut input: impl Read) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(kept),
            count => kept.extend_from_slice(&buffer[..count]),
        }
        let old = kept.len().saturating_sub(buffer.len());
        kept.drain(..old);
    }
}

fn ended(status: ExitStatus, output: &[u8], errors: &str) -> Ended {
    if let Ok(report) = serde_json::from_slice(output)
        && status.code().is_some_and(|code| code <= 1)
    {
        return Ended::Reported(report);
    }
    let how = match status.signal() {
        Some(signal) => format!("was killed by {}", crate::names::signal(signal)),
        None => format!("ended with {status} and without a report"),
    };
    let said: Vec<&str> = errors.lines().filter(|line| !line.trim().is_empty()).collect();
    Ended::Died(match said.len() {
        0 => how,
        _ => format!("{how}, saying {:?}", said.join("; ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_report_has_died() {
        let report = br#"{"outcome":"equal","message":null,"events":1,"instructions":2,
            "seconds_to_restore":0.1,"seconds_to_replay":0.2,"seconds_to_compare":0.3}"#;
        let died = |status: i32, output: &[u8]| match ended(
            ExitStatus::from_raw(status),
            output,
            "a\n\n b\n",
        ) {
            Ended::Died(how) => how,
            Ended::Reported(report) => format!("{:?}", report.outcome),
        };
        assert_eq!(died(0, report), "Equal");
        assert_eq!(died(9, report), "was killed by SIGKILL, saying \"a;  b\"");
        assert_eq!(died(11, b""), "was killed by SIGSEGV, saying \"a;  b\"");
        let expected = "ended with exit status: 101 and without a report, saying \"a;  b\"";
        assert_eq!(died(101 << 8, b"{"), expected);
    }
}
