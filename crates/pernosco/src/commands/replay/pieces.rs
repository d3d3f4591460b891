//! The pieces between checkpoints, each re-executed by a process of its own, several at a time.
//!
//! A process that dies costs one piece, which is tried once more. Files of checkpoints lie in a
//! directory that is removed at the end, and when the program is interrupted.

mod interrupt;
mod process;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use indicatif::ProgressBar;
use replay::{Checkpoint, Opened, TickRule};
use rr_trace::Trace;

use super::leader::{Cut, Run};
use crate::commands::piece::{Outcome, Report};
use process::{Ended, Work};

/// How to check pieces.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of the order of the pieces.
    pub seed: u64,
    /// Processes at a time.
    pub jobs: usize,
}

/// How all pieces of a recording went.
#[derive(Debug, Default)]
pub struct Checked {
    pub pieces: usize,
    /// What was wrong, in order of the pieces.
    pub failures: Vec<Failure>,
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

struct Shared<'a> {
    directory: &'a Path,
    trace: &'a Trace,
    tick_rule: TickRule,
    cuts: &'a [Cut],
    queue: Mutex<VecDeque<(usize, u32)>>,
    done: Mutex<Done>,
    progress: &'a ProgressBar,
}

#[derive(Default)]
struct Done {
    checked: Checked,
    /// By number of the piece.
    failures: Vec<(usize, Failure)>,
}

/// Re-executes the pieces that end at each of the cuts of a run; the first one begins with the recording.
/// Errors are about this process only: what is wrong with pieces is in the result.
pub fn check(
    trace: &Trace,
    run: &Run,
    plan: Plan,
    progress: &ProgressBar,
) -> anyhow::Result<Checked> {
    let cuts = &run.cuts[..];
    let directory = tempfile::Builder::new().prefix("pernosco-").tempdir();
    let directory = directory.context("cannot make a directory for checkpoints")?;
    let _guard = interrupt::remove_when_interrupted(directory.path())?;
    let mut order: Vec<usize> = (0..cuts.len()).collect();
    shuffle(&mut order, plan.seed);
    let shared = Shared {
        directory: directory.path(),
        trace,
        tick_rule: run.tick_rule,
        cuts,
        queue: Mutex::new(order.into_iter().map(|piece| (piece, 1)).collect()),
        done: Mutex::default(),
        progress,
    };
    progress.set_length(cuts.len() as u64);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs.clamp(1, cuts.len().max(1)) {
            scope.spawn(|| work(&shared));
        }
    });
    let done = shared.done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let Done { mut checked, mut failures } = done;
    failures.sort_by_key(|(piece, _)| *piece);
    checked.failures = failures.into_iter().map(|(_, failure)| failure).collect();
    checked.pieces = cuts.len();
    checked.seconds = started.elapsed().as_secs_f64();
    directory.close().context("cannot remove the directory of checkpoints")?;
    Ok(checked)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(shared: &Shared<'_>) {
    loop {
        // The lock must not outlive this line.
        let next = locked(&shared.queue).pop_front();
        let Some((piece, attempt)) = next else { return };
        let name = shared.name(piece);
        match shared.run(piece) {
            Ok(Ended::Reported(report)) => {
                let failure = shared.judge(piece, &name, &report);
                shared.finish(piece, Some(&report), failure);
            }
            Ok(Ended::Died(how)) if attempt < ATTEMPTS => {
                let say = format!("{name}: its process {how}: it is tried again");
                tracing::warn!("{say}");
                shared.progress.suspend(|| eprintln!("pernosco: {say}"));
                locked(&shared.queue).push_back((piece, attempt + 1));
            }
            Ok(Ended::Died(how)) => {
                let message = format!("{name}: its process {how}, {attempt} times");
                shared.finish(piece, None, Some(Failure { diverged: false, message }));
            }
            Err(error) => {
                let message = format!("{name}: {error:#}");
                shared.finish(piece, None, Some(Failure { diverged: false, message }));
            }
        }
    }
}

impl Shared<'_> {
    fn name(&self, piece: usize) -> String {
        let border = |index: usize| self.cuts[index].border.to_string();
        let from = piece.checked_sub(1).map_or("the beginning".into(), border);
        let trace = self.trace.directory().display();
        let count = self.cuts.len();
        format!("{trace}: piece {} of {count}, {from} to {}", piece + 1, border(piece))
    }

    fn found_path(&self, piece: usize) -> PathBuf {
        self.directory.join(format!("{}.found", piece + 1))
    }

    fn run(&self, piece: usize) -> anyhow::Result<Ended> {
        let to = &self.cuts[piece];
        let found = self.found_path(piece);
        let mut from = None;
        if let Some(before) = piece.checked_sub(1) {
            let path = self.directory.join(format!("{}.checkpoint", piece + 1));
            self.cuts[before].checkpoint.write(&path)?;
            let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let mut done = locked(&self.done);
            done.checked.files += 1;
            done.checked.file_bytes += bytes;
            from = Some(path);
        }
        let work = Work {
            trace: self.trace.directory(),
            tick_rule: self.tick_rule,
            from: from.as_deref(),
            to: to.border,
            digest: to.checkpoint.digest(),
            found: &found,
        };
        let ended = work.run();
        if let Some(path) = from {
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
        ended
    }

    /// What was wrong with a piece.
    fn judge(&self, piece: usize, name: &str, report: &Report) -> Option<Failure> {
        let message = report.message.clone().unwrap_or_else(|| "no reason given".into());
        let (diverged, message) = match report.outcome {
            Outcome::Equal => return None,
            Outcome::Diverged => (true, message),
            Outcome::Failed => (false, message),
            Outcome::Different => (true, self.differences(piece)),
        };
        Some(Failure { diverged, message: format!("{name}: {message}") })
    }

    fn differences(&self, piece: usize) -> String {
        let path = self.found_path(piece);
        let found = Checkpoint::read(&path, self.trace, &Opened::default());
        let listed = match found {
            Ok(found) => self.cuts[piece].checkpoint.differences(&found).join("\n  "),
            Err(error) => format!("(cannot say more: {:#})", anyhow::Error::from(error)),
        };
        let event = self.cuts[piece].checkpoint.last_event();
        format!(
            "the state at its end, behind event {event}, is not the one found before:\n  {listed}"
        )
    }

    fn finish(&self, piece: usize, report: Option<&Report>, failure: Option<Failure>) {
        let mut done = locked(&self.done);
        if let Some(report) = report {
            done.checked.restore_seconds += report.seconds_to_restore;
            done.checked.replay_seconds += report.seconds_to_replay;
            done.checked.compare_seconds += report.seconds_to_compare;
        }
        done.failures.extend(failure.map(|failure| (piece, failure)));
        self.progress.inc(1);
    }
}

/// Fisher and Yates, with numbers of SplitMix64.
fn shuffle(order: &mut [usize], seed: u64) {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    for index in (1..order.len()).rev() {
        order.swap(index, (next() % (index as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_permutations_that_the_seed_decides() {
        let order = |seed| {
            let mut order: Vec<usize> = (0..50).collect();
            shuffle(&mut order, seed);
            order
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let mut sorted = order(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }
}
