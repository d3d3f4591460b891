//! One process that answers questions, one at a time.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::value::{RawValue, to_raw_value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::message::{Failure, Members, with_number};

/// How a worker is started.
#[derive(Clone, Debug)]
pub struct Command {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

/// The most bytes of one message of a worker. Texts of source files come in one.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// How much longer than its deadline, or than being cancelled, a question may keep a worker that
/// ought to have stopped by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Says that nobody waits for an answer any more.
#[derive(Debug, Default)]
pub struct Cancel {
    done: AtomicBool,
    told: Notify,
}

impl Cancel {
    pub fn cancel(&self) {
        self.done.store(true, Ordering::SeqCst);
        // Stored for a worker that will ask.
        self.told.notify_one();
    }

    pub fn is_cancelled(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }
}

/// A message of an answer.
#[derive(Debug)]
pub struct Piece {
    pub text: String,
    /// Whether the answer ends with it.
    pub last: bool,
}

impl Piece {
    pub fn last(text: String) -> Piece {
        Piece { text, last: true }
    }
}

/// A question on its way to a worker.
#[derive(Debug)]
pub struct Job {
    /// The asker's number, for the answer.
    pub number: u64,
    /// The whole message, its number being replaced.
    pub text: String,
    pub deadline: Duration,
    pub cancel: Arc<Cancel>,
    /// Where the answer goes.
    pub answers: mpsc::Sender<Piece>,
    pub asked: Instant,
}

#[derive(Debug)]
pub struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Of the last question.
    asked: u64,
}

/// What becomes of the process behind a question.
enum Left {
    Ready,
    Useless,
}

impl Worker {
    pub fn start(command: &Command) -> std::io::Result<Worker> {
        let mut child = tokio::process::Command::new(&command.program)
            .args(&command.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // Interruptions of the terminal are for the server, which ends its workers.
            .process_group(0)
            .spawn()?;
        let missing = || std::io::Error::other("no standard stream");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = BufReader::with_capacity(64 << 10, child.stdout.take().ok_or_else(missing)?);
        Ok(Worker { child, input, output, asked: 0 })
    }

    /// Has a question answered. Gives back the worker if it can take another one.
    pub async fn answer(mut self, job: &Job) -> Option<Worker> {
        let started = Instant::now();
        let limit = job.deadline + GRACE;
        let result = timeout(limit, self.exchange(job, started)).await;
        let failure = match result {
            Ok(Ok(Left::Ready)) => return Some(self),
            Ok(Ok(Left::Useless)) => None,
            Ok(Err(error)) => {
                let status = timeout(Duration::from_secs(1), self.child.wait()).await;
                let how = match status {
                    Ok(Ok(status)) => status.to_string(),
                    _ => error.to_string(),
                };
                tracing::warn!(how, "a worker has died of a question");
                let what = format!("The process that worked on this question has died: {how}");
                let advice = "Ask again; if it dies again, this question cannot be answered here";
                Some(Failure::new("worker", what).advise(advice))
            }
            Err(_) => {
                tracing::warn!("a worker has not kept its deadline and is ended");
                let what = "The process that worked on this question did not stop in time";
                Some(Failure::new("worker", what).advise("Narrow the question"))
            }
        };
        if let Some(failure) = failure {
            _ = job.answers.send(Piece::last(failure.message(Some(job.number)))).await;
        }
        None
    }

    async fn exchange(&mut self, job: &Job, started: Instant) -> std::io::Result<Left> {
        self.asked += 1;
        let number = self.asked;
        let text: Members = serde_json::from_str(&job.text).map_err(std::io::Error::other)?;
        self.send(with_number(&text, number)).await?;
        let mut line = Vec::new();
        let mut cancelled_at = None;
        loop {
            line.clear();
            let mut limited = (&mut self.output).take(LINE_BYTES_MAX);
            // Reading is begun again where it was broken off: what was read is in `line`.
            loop {
                let cancelling = cancelled_at.is_none();
                let since_cancel: Option<Instant> = cancelled_at;
                tokio::select! {
                    read = limited.read_until(b'\n', &mut line) => { read?; break }
                    () = job.cancel.told.notified(), if cancelling => {
                        cancelled_at = Some(Instant::now());
                        let text = format!("{{\"cancel\":{number}}}\n");
                        self.input.write_all(text.as_bytes()).await?;
                    }
                    () = tokio::time::sleep(GRACE), if since_cancel.is_some() => {
                        return Ok(Left::Useless);
                    }
                }
            }
            if line.last() != Some(&b'\n') {
                return Err(std::io::Error::other("its answer ends in the middle"));
            }
            match pass_on(&line, number, job, started) {
                None => continue,
                Some(piece) => {
                    let ended = piece.last;
                    if job.answers.send(piece).await.is_err() {
                        // The page is gone.
                        job.cancel.cancel();
                    }
                    if ended {
                        return Ok(Left::Ready);
                    }
                }
            }
        }
    }

    async fn send(&mut self, mut line: String) -> std::io::Result<()> {
        line.push('\n');
        self.input.write_all(line.as_bytes()).await?;
        self.input.flush().await
    }
}

/// The message for the page. Messages without number are nobody's answer.
fn pass_on(line: &[u8], number: u64, job: &Job, started: Instant) -> Option<Piece> {
    let mut members: Members = serde_json::from_slice(line).ok()?;
    let of: u64 = serde_json::from_str(members.get("ask")?.get()).ok()?;
    if of != number {
        return None;
    }
    let last = members.contains_key("end");
    let times = members.get("times").and_then(|times| with_queue(times, job.asked, started));
    if let Some(times) = &times {
        members.insert("times".into(), times);
    }
    Some(Piece { text: with_number(&members, job.number), last })
}

/// `times` with what a question has waited for a worker.
fn with_queue(times: &RawValue, asked: Instant, started: Instant) -> Option<Box<RawValue>> {
    let mut times: Members = serde_json::from_str(times.get()).ok()?;
    let waited = (started - asked).as_secs_f64() * 1e3;
    let waited = to_raw_value(&((waited * 10.0).round() / 10.0)).ok()?;
    times.insert("queue".into(), &waited);
    to_raw_value(&times).ok()
}
