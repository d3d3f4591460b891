//! One piece in one process.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use replay::{Border, Digest, TickRule};

use crate::commands::piece::{Report, SignOfLife};

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

/// A divergence in a report has some pages of text.
const LINE_BYTES_MAX: u64 = 16 << 20;

impl Work<'_> {
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["replay-piece".into(), "--watched".into()];
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

    pub fn start(&self) -> anyhow::Result<Process> {
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
        let (sender, messages) = channel();
        let stdin = child.stdin.take();
        let output = child.stdout.take();
        let errors = child.stderr.take();
        let lines = sender.clone();
        let output = std::thread::spawn(move || {
            let read = output.map_or(Ok(()), |output| read_lines(output, &lines));
            // Nobody waits any more if it cannot be sent.
            let _ = lines.send(Message::Closed);
            read
        });
        let errors = std::thread::spawn(move || errors.map_or(Ok(Vec::new()), last_bytes));
        Ok(Process { child, stdin, output, errors, sender, messages })
    }
}

enum Message {
    Line(Vec<u8>),
    /// No line comes any more.
    Closed,
    Stop,
}

/// A process at work, which ends when this is dropped.
pub struct Process {
    child: Child,
    /// Open as long as we wait: when we are gone, the process ends.
    stdin: Option<ChildStdin>,
    output: JoinHandle<io::Result<()>>,
    errors: JoinHandle<io::Result<Vec<u8>>>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

/// Ends a process for which somebody else waits.
#[derive(Clone)]
pub struct Stopper(Sender<Message>);

impl Stopper {
    pub fn stop(&self) {
        // It has ended if nobody waits for it.
        let _ = self.0.send(Message::Stop);
    }
}

impl Process {
    pub fn stopper(&self) -> Stopper {
        Stopper(self.sender.clone())
    }

    /// Waits for its end, and brings it about after so many seconds without a sign of life.
    pub fn wait(mut self, patience: u64) -> anyhow::Result<Ended> {
        let mut report = Vec::new();
        let mut last = None;
        let mut killed = None;
        // Seconds are counted one by one: when we are stopped ourselves, they do not pass.
        let mut silent = 0;
        loop {
            match self.messages.recv_timeout(Duration::from_secs(1)) {
                Ok(Message::Line(line)) => {
                    silent = 0;
                    match serde_json::from_slice::<SignOfLife>(&line) {
                        Ok(sign) => last = Some(sign.moment),
                        Err(_) => report = line,
                    }
                }
                Ok(Message::Closed) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Message::Stop) => {
                    killed = Some("was stopped".to_owned());
                    break;
                }
                Err(RecvTimeoutError::Timeout) => silent += 1,
            }
            if silent >= patience {
                let place = last.map_or("where it began".into(), |last| format!("moment {last}"));
                killed = Some(format!(
                    "gave no sign of life for {patience} s, the last one at {place}, and was killed"
                ));
                break;
            }
        }
        if killed.is_some() {
            self.child.kill().context("cannot kill a process")?;
        }
        let status = self.child.wait().context("cannot wait for a process")?;
        drop(self.stdin.take());
        let errors = self.errors.join().ok().and_then(Result::ok).unwrap_or_default();
        if let Some(killed) = killed {
            return Ok(Ended::Died(killed));
        }
        if let Ok(read) = self.output.join() {
            read.context("cannot read what a process says")?;
        }
        Ok(ended(status, &report, &String::from_utf8_lossy(&errors)))
    }
}

/// Sends each line; one that is too long is the last one.
fn read_lines(input: impl Read, lines: &Sender<Message>) -> io::Result<()> {
    let mut input = BufReader::new(input);
    loop {
        let mut line = Vec::new();
        input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        let last = !line.ends_with(b"\n");
        if !line.is_empty() && lines.send(Message::Line(line)).is_err() || last {
            return Ok(());
        }
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
