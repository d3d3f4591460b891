//! The pieces between checkpoints, each re-executed by a process of its own, several at a time,
//! while the replay that finds the checkpoints goes on.
//!
//! A process that dies or hangs costs one piece, which is tried once more. Files of checkpoints
//! lie in a directory that is removed at the end, and when the program is interrupted.

mod interrupt;
mod process;
mod random;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context;
use indicatif::ProgressBar;
use replay::{Checkpoint, Opened};
use rr_trace::Trace;

use super::leader::{Cut, Found, Run};
use crate::commands::piece::{Outcome, Report};
use process::{Ended, Stopper, Work};
use random::Random;

/// How to check pieces.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of the order of the pieces.
    pub seed: u64,
    /// Processes at a time, the first replay being one of them.
    pub jobs: usize,
    /// Seconds without a sign of life after which a process is taken to hang.
    pub patience: u64,
}

/// How all pieces of a recording went.
#[derive(Debug, Default)]
pub struct Checked {
    pub pieces: usize,
    /// What was wrong, in order of the pieces.
    pub failures: Vec<Failure>,
    /// From the beginning of the first replay to the end of the last piece.
    pub seconds: f64,
    /// Sums over all pieces that were replayed.
    pub restore_seconds: f64,
    pub replay_seconds: f64,
    pub compare_seconds: f64,
    /// Checkpoints that were written.
    pub files: u64,
    pub file_bytes: u64,
}

#[derive(Debug)]
pub struct Failure {
    /// A divergence; otherwise the piece could not be replayed.
    pub diverged: bool,
    pub message: String,
}

/// Times that a piece is given to a process, if processes die of it.
const ATTEMPTS: u32 = 2;

struct Pool<'a> {
    directory: &'a Path,
    trace: &'a Trace,
    plan: Plan,
    state: Mutex<State>,
    /// There may be something to do, or nothing any more.
    changed: Condvar,
    progress: &'a ProgressBar,
}

struct State {
    /// Of the round; piece N ends at cut N, and the first one begins with the recording.
    cuts: Vec<Arc<Cut>>,
    /// Pieces that nobody works at, and the number of the attempt.
    ready: Vec<(usize, u32)>,
    running: BTreeMap<usize, Option<Stopper>>,
    /// What belongs to another round is void.
    round: u32,
    /// There may be more cuts.
    leading: bool,
    random: Random,
    checked: Checked,
    /// By number of the piece.
    failures: Vec<(usize, Failure)>,
}

/// What a thread is to do.
struct Job {
    round: u32,
    attempt: u32,
    piece: usize,
    /// Where it begins.
    from: Option<Arc<Cut>>,
    to: Arc<Cut>,
    name: String,
}

/// Replays a recording with `lead`, and meanwhile re-executes the pieces between the cuts that it
/// finds. After a divergence of the first replay nothing is said about pieces.
///
/// # Errors
///
/// Those of `lead`, and of this process: what is wrong with pieces is in the result.
pub fn check(
    trace: &Trace,
    plan: Plan,
    progress: &ProgressBar,
    lead: impl FnOnce(&mut dyn FnMut(Found)) -> anyhow::Result<Run>,
) -> anyhow::Result<(Run, Option<Checked>)> {
    let directory = tempfile::Builder::new().prefix("pernosco-").tempdir();
    let directory = directory.context("cannot make a directory for checkpoints")?;
    let _guard = interrupt::remove_when_interrupted(directory.path())?;
    let state = State {
        cuts: Vec::new(),
        ready: Vec::new(),
        running: BTreeMap::new(),
        round: 0,
        leading: true,
        random: Random::new(plan.seed),
        checked: Checked::default(),
        failures: Vec::new(),
    };
    let pool = Pool {
        directory: directory.path(),
        trace,
        plan,
        state: Mutex::new(state),
        changed: Condvar::new(),
        progress,
    };
    let started = Instant::now();
    let run = std::thread::scope(|scope| {
        // If the replay panics, the others must not wait for it.
        let end = EndOfLead(&pool);
        for _ in 0..plan.jobs {
            scope.spawn(|| pool.work());
        }
        let run = lead(&mut |found| pool.take(found));
        if !matches!(&run, Ok(Run { divergence: None, .. })) {
            pool.begin_again();
        }
        drop(end);
        run
    });
    let State { mut checked, mut failures, cuts, .. } =
        pool.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    directory.close().context("cannot remove the directory of checkpoints")?;
    let run = run?;
    if run.divergence.is_some() {
        return Ok((run, None));
    }
    failures.sort_by_key(|(piece, _)| *piece);
    checked.failures = failures.into_iter().map(|(_, failure)| failure).collect();
    checked.pieces = cuts.len();
    checked.seconds = started.elapsed().as_secs_f64();
    Ok((run, Some(checked)))
}

/// No cut comes any more.
struct EndOfLead<'a, 'b>(&'a Pool<'b>);

impl Drop for EndOfLead<'_, '_> {
    fn drop(&mut self) {
        self.0.locked().leading = false;
        self.0.changed.notify_all();
    }
}

impl Pool<'_> {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, found: Found) {
        match found {
            Found::Cut(cut) => {
                let mut state = self.locked();
                let piece = state.cuts.len();
                state.cuts.push(cut);
                state.ready.push((piece, 1));
                self.show(&state);
                drop(state);
                self.changed.notify_one();
            }
            Found::Restarted => self.begin_again(),
        }
    }

    /// Nothing of what was found is to be used.
    fn begin_again(&self) {
        let mut state = self.locked();
        state.round += 1;
        state.cuts.clear();
        state.ready.clear();
        state.failures.clear();
        state.checked = Checked::default();
        for stopper in std::mem::take(&mut state.running).into_values().flatten() {
            stopper.stop();
        }
    }

    fn show(&self, state: &State) {
        let waiting = state.ready.len() + state.running.len();
        let done = state.cuts.len() - waiting;
        self.progress.set_message(format!("{done} of {} pieces", state.cuts.len()));
    }

    /// Waits for a piece; `None` when there is none and none can come.
    fn next(&self) -> Option<Job> {
        let mut state = self.locked();
        loop {
            let jobs = self.plan.jobs - usize::from(state.leading);
            if !state.ready.is_empty() && state.running.len() < jobs {
                break;
            }
            // One that is running may have to be tried again.
            if !state.leading && state.ready.is_empty() && state.running.is_empty() {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = state.ready.len();
        let index = state.random.below(count);
        let (piece, attempt) = state.ready.swap_remove(index);
        state.running.insert(piece, None);
        let from = piece.checked_sub(1).map(|before| state.cuts[before].clone());
        let to = state.cuts[piece].clone();
        let begin = from.as_ref().map_or("the beginning".into(), |cut| cut.border.to_string());
        let trace = self.trace.directory().display();
        let name = format!("{trace}: piece {}, {begin} to {}", piece + 1, to.border);
        Some(Job { round: state.round, attempt, piece, from, to, name })
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            let ended = self.run(&job);
            let failure = match &ended {
                Ok(Ended::Reported(report)) => self.judge(&job, report),
                Ok(Ended::Died(_)) if job.attempt < ATTEMPTS => None,
                Ok(Ended::Died(how)) => {
                    let message = format!("its process {how}, {} times", job.attempt);
                    Some(Failure { diverged: false, message })
                }
                Err(error) => Some(Failure { diverged: false, message: format!("{error:#}") }),
            };
            let mut state = self.locked();
            if state.round == job.round {
                self.finish(&mut state, &job, ended, failure);
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    fn finish(
        &self,
        state: &mut State,
        job: &Job,
        ended: anyhow::Result<Ended>,
        failure: Option<Failure>,
    ) {
        state.running.remove(&job.piece);
        match ended {
            Ok(Ended::Died(how)) if failure.is_none() => {
                let say = format!("{}: its process {how}: it is tried again", job.name);
                tracing::warn!("{say}");
                self.progress.suspend(|| eprintln!("pernosco: {say}"));
                state.ready.push((job.piece, job.attempt + 1));
            }
            Ok(Ended::Reported(report)) => {
                state.checked.restore_seconds += report.seconds_to_restore;
                state.checked.replay_seconds += report.seconds_to_replay;
                state.checked.compare_seconds += report.seconds_to_compare;
            }
            Ok(Ended::Died(_)) | Err(_) => {}
        }
        state.failures.extend(failure.map(|failure| {
            let message = format!("{}: {}", job.name, failure.message);
            (job.piece, Failure { message, ..failure })
        }));
        self.show(state);
    }

    /// Different ones for each round: a process of one before may still be there.
    fn path(&self, job: &Job, kind: &str) -> PathBuf {
        self.directory.join(format!("{}-{}.{kind}", job.round, job.piece + 1))
    }

    fn run(&self, job: &Job) -> anyhow::Result<Ended> {
        let found = self.path(job, "found");
        let mut from = None;
        if let Some(cut) = &job.from {
            let path = self.path(job, "checkpoint");
            cut.checkpoint.write(&path)?;
            let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let mut state = self.locked();
            if state.round == job.round {
                state.checked.files += 1;
                state.checked.file_bytes += bytes;
            }
            from = Some(path);
        }
        let work = Work {
            trace: self.trace.directory(),
            tick_rule: job.to.checkpoint.tick_rule(),
            from: from.as_deref(),
            to: job.to.border,
            digest: job.to.checkpoint.digest(),
            found: &found,
        };
        let process = work.start()?;
        let mut state = self.locked();
        if state.round == job.round {
            state.running.insert(job.piece, Some(process.stopper()));
        } else {
            process.stopper().stop();
        }
        drop(state);
        let ended = process.wait(self.plan.patience);
        if let Some(path) = from {
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
        ended
    }

    /// What was wrong with a piece.
    fn judge(&self, job: &Job, report: &Report) -> Option<Failure> {
        let message = report.message.clone().unwrap_or_else(|| "no reason given".into());
        let (diverged, message) = match report.outcome {
            Outcome::Equal => return None,
            Outcome::Diverged => (true, message),
            Outcome::Failed => (false, message),
            Outcome::Different => (true, self.differences(job)),
        };
        Some(Failure { diverged, message })
    }

    fn differences(&self, job: &Job) -> String {
        let expected = &job.to.checkpoint;
        let listed =
            match Checkpoint::read(&self.path(job, "found"), self.trace, &Opened::default()) {
                Ok(found) => expected.differences(&found).join("\n  "),
                Err(error) => format!("(cannot say more: {:#})", anyhow::Error::from(error)),
            };
        let event = expected.last_event();
        format!(
            "the state at its end, behind event {event}, is not the one found before:\n  {listed}"
        )
    }
}
