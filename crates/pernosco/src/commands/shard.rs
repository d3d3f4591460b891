//! `pernosco build-shard`: executes segments for a build, and the processes that do so.
//!
//! Work comes as lines of JSON on stdin, each naming a checkpoint and the file to write; each is
//! answered with a line. It needs nothing but the recording and the checkpoint, and may be done
//! any number of times, by other machines too.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use index::{Executor, Work};
use rr_trace::Trace;
use serde::{Deserialize, Serialize};

use crate::names;

#[derive(clap::Args, Debug)]
pub struct ShardArguments {
    /// Directory of the recording
    #[arg(value_name = "TRACE")]
    trace: PathBuf,
}

/// What came of one line of work.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done,
    Failed(String),
}

pub fn run(arguments: &ShardArguments) -> anyhow::Result<()> {
    let trace = Trace::open(&arguments.trace)?;
    let mut executor = Executor::new(&trace);
    for line in std::io::stdin().lock().lines() {
        let work: Work = serde_json::from_str(&line?)?;
        let answer = match executor.execute(&work) {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed(format!("{:#}", anyhow::Error::from(error))),
        };
        let mut output = std::io::stdout().lock();
        serde_json::to_writer(&mut output, &answer)?;
        writeln!(output)?;
    }
    Ok(())
}

/// A process that does work, started when there is some, and again if it died.
#[derive(Debug)]
pub struct Process {
    trace: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    pub fn new(trace: PathBuf) -> Process {
        Process { trace, running: None }
    }

    fn start(&self) -> std::io::Result<Running> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("build-shard")
            .args(crate::log::arguments())
            .arg("--")
            .arg(&self.trace)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Whoever interrupts the build in a terminal lets it come to an end.
            .process_group(0)
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        tracing::debug!(process = child.id(), "started");
        let (Some(input), Some(output)) = (input, output) else {
            return Err(std::io::Error::other("no pipes to the process"));
        };
        Ok(Running { child, input, output: BufReader::new(output) })
    }
}

impl Running {
    fn ask(&mut self, work: &Work) -> std::io::Result<Answer> {
        let mut line = serde_json::to_vec(work)?;
        line.push(b'\n');
        self.input.write_all(&line)?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(Running { mut child, input, .. }) = self.running.take() {
            // It ends with its input; one that hangs does not.
            drop(input);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl index::Worker for Process {
    fn execute(&mut self, work: &Work) -> Result<(), String> {
        let running = match self.running.take() {
            Some(running) => running,
            None => self.start().map_err(|error| format!("cannot start a process: {error}"))?,
        };
        let running = self.running.insert(running);
        match running.ask(work) {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Failed(reason)) => {
                tracing::warn!(first = work.first, "segments could not be executed: {reason}");
                Err(reason)
            }
            Err(error) => {
                let how = match running.child.kill().and_then(|()| running.child.wait()) {
                    Ok(status) => match status.signal() {
                        Some(signal) => format!("was killed by {}", names::signal(signal)),
                        None => format!("ended with {status}"),
                    },
                    Err(_) => format!("does not answer: {error}"),
                };
                tracing::warn!(process = running.child.id(), "a process {how}");
                self.running = None;
                Err(format!("its process {how}"))
            }
        }
    }
}
