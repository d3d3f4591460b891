//! `pernosco replay-piece`: re-executes a piece of a recording, from a checkpoint to a border.
//!
//! The work of one worker process, for `replay --check --checkpoints` and whoever spreads work
//! over machines: it needs the recording and a checkpoint's file only, may be run any number of
//! times, and says in one line of JSON on stdout what came of it.

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use model::Moment;
use replay::{Border, Checkpoint, Digest, Error, Opened, Options, Passed, Session, TickRule};
use rr_trace::Trace;
use serde::{Deserialize, Serialize};

use crate::output;

#[derive(Args, Debug)]
pub struct PieceArguments {
    /// The checkpoint to begin at; without it, the beginning of the recording
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Where to stop: `event N`, `moment N`, `moment N+ITERATIONS` or `end`
    #[arg(long, value_name = "BORDER")]
    to: Border,
    /// What a checkpoint there has to be
    #[arg(long, value_name = "HEX")]
    digest: Digest,
    /// How ticks were counted; without it, as in the checkpoint
    #[arg(long, value_name = "RULE", value_parser = tick_rule)]
    tick_rule: Option<TickRule>,
    /// Where to leave the checkpoint that is found if it is another one
    #[arg(long, value_name = "FILE")]
    found: Option<PathBuf>,
    /// For a process that watches this one: end when stdin does, and say on stdout where the
    /// replay is, a line a second at the most, in front of the report
    #[arg(long)]
    watched: bool,
    /// Directory of the recording
    #[arg(value_name = "TRACE")]
    trace: PathBuf,
}

/// A line before the report.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignOfLife {
    /// As far as the replay has come.
    pub moment: u64,
}

/// Between two of them.
const SIGN_INTERVAL: Duration = Duration::from_secs(1);

/// What came of a piece.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub outcome: Outcome,
    /// For people: the divergence, or what went wrong.
    pub message: Option<String>,
    pub events: u64,
    pub instructions: u64,
    /// From the start of the work until the replay stood at the checkpoint.
    pub seconds_to_restore: f64,
    pub seconds_to_replay: f64,
    pub seconds_to_compare: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every event was right, and so is the state at the end.
    Equal,
    /// Every event was right, but the state at the end is another one.
    Different,
    /// An event was not as recorded.
    Diverged,
    /// The piece could not be replayed.
    Failed,
}

pub fn run(arguments: &PieceArguments) -> anyhow::Result<()> {
    if arguments.watched {
        std::thread::spawn(end_with_stdin);
    }
    let mut report = Report {
        outcome: Outcome::Equal,
        message: None,
        events: 0,
        instructions: 0,
        seconds_to_restore: 0.0,
        seconds_to_replay: 0.0,
        seconds_to_compare: 0.0,
    };
    match replay(arguments, &mut report) {
        Ok(outcome) => report.outcome = outcome,
        Err(error) => {
            let diverged = matches!(error, Error::Divergence(_));
            report.outcome = if diverged { Outcome::Diverged } else { Outcome::Failed };
            report.message = Some(format!("{:#}", anyhow::Error::from(error)));
        }
    }
    output::with_stdout(|out| output::json_line(out, &serde_json::to_value(&report)?))?;
    let piece = format!("{} to {}", arguments.trace.display(), arguments.to);
    anyhow::ensure!(report.outcome == Outcome::Equal, "{piece}: not what it was");
    Ok(())
}

fn replay(arguments: &PieceArguments, report: &mut Report) -> Result<Outcome, Error> {
    let started = Instant::now();
    let trace = Trace::open(&arguments.trace)?;
    let options = Options { tick_rule: arguments.tick_rule, ..Options::default() };
    let mut signs = Signs { last: arguments.watched.then_some(started) };
    let mut session = match &arguments.from {
        Some(path) => {
            let checkpoint = Checkpoint::read(path, &trace, &Opened::default())?;
            signs.give(checkpoint.moment());
            Session::resume(&trace, options, &checkpoint)?
        }
        None => Session::open(&trace, options)?,
    };
    signs.give(session.moment());
    report.seconds_to_restore = started.elapsed().as_secs_f64();
    let (started, from) = (Instant::now(), session.moment());
    let arrived = session.go_on_watched(arguments.to, |passed| {
        let moment = match passed {
            Passed::Event(event) => {
                report.events += 1;
                event.moment
            }
            Passed::Moment(moment) => moment,
        };
        signs.give(moment);
    });
    report.instructions = session.moment() - from;
    report.seconds_to_replay = started.elapsed().as_secs_f64();
    if !arrived? {
        report.message = Some(format!("there is no place `{}`", arguments.to));
        return Ok(Outcome::Diverged);
    }
    let started = Instant::now();
    let checkpoint = session.checkpoint()?;
    let equal = checkpoint.digest() == arguments.digest;
    report.seconds_to_compare = started.elapsed().as_secs_f64();
    if equal {
        return Ok(Outcome::Equal);
    }
    if let Some(path) = &arguments.found {
        checkpoint.write(path)?;
    }
    Ok(Outcome::Different)
}

struct Signs {
    /// When the last one was given; `None` if nobody watches.
    last: Option<Instant>,
}

impl Signs {
    fn give(&mut self, moment: Moment) {
        let Some(last) = &mut self.last else { return };
        if last.elapsed() < SIGN_INTERVAL {
            return;
        }
        *last = Instant::now();
        let line = serde_json::to_value(SignOfLife { moment: moment.0 });
        // Whoever does not read it is gone, and then this process ends anyway.
        let _ = output::with_stdout(|out| output::json_line(out, &line?));
    }
}

fn tick_rule(text: &str) -> Result<TickRule, String> {
    let known = [TickRule::Hardware, TickRule::ElfOnly];
    let found = known.into_iter().find(|rule| rule.to_string() == text);
    found.ok_or_else(|| format!("{text:?} is neither `hardware` nor `elf-only`"))
}

/// Nobody waits for the result any more.
fn end_with_stdin() {
    let mut stdin = std::io::stdin().lock();
    let mut buffer = [0; 64];
    while matches!(stdin.read(&mut buffer), Ok(1..)) {}
    std::process::exit(1);
}
