//! One replay from the beginning to the end, which checks every event and may leave checkpoints.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use indicatif::ProgressBar;
use model::{Moment, Ticks};
use replay::{Border, Checkpoint, Error, EventReport, Options, Progress, Session, TickRule};
use rr_trace::Trace;

use crate::ticks::recorded_ticks;

/// Which checkpoints to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoints {
    None,
    /// So many, evenly spread over the ticks.
    Spread(usize),
    /// One behind every event.
    Every,
}

impl FromStr for Checkpoints {
    type Err = String;

    fn from_str(text: &str) -> Result<Checkpoints, String> {
        if text == "every" {
            return Ok(Checkpoints::Every);
        }
        match text.parse() {
            Ok(number @ 1..=1_000_000) => Ok(Checkpoints::Spread(number)),
            _ => Err(format!("{text:?} is neither a number from 1 to 1000000 nor `every`")),
        }
    }
}

/// A checkpoint and where it lies.
#[derive(Clone, Debug)]
pub struct Cut {
    pub border: Border,
    pub checkpoint: Checkpoint,
}

/// What comes of a replay on the way.
#[derive(Debug)]
pub enum Found {
    /// The next checkpoint, the last one at the end of the recording.
    Cut(Arc<Cut>),
    /// The replay has begun again under another tick rule: all cuts are void.
    Restarted,
}

/// How a replay went.
#[derive(Debug)]
pub struct Run {
    pub events: u64,
    pub tasks: u32,
    pub instructions: u64,
    pub ticks: Ticks,
    pub tick_rule: TickRule,
    pub seconds: f64,
    /// Where it left the recording, if it did.
    pub divergence: Option<String>,
}

/// Replays to the end or to a divergence; other errors are errors.
pub fn run(
    trace: &Trace,
    wanted: Checkpoints,
    progress: &ProgressBar,
    found: &mut dyn FnMut(Found),
) -> anyhow::Result<Run> {
    let name = trace.directory().display();
    let mut tick_rule = None;
    loop {
        let session = Session::open(trace, Options { tick_rule, ..Options::default() });
        let mut session = session.with_context(|| format!("{name}: cannot replay"))?;
        let started = Instant::now();
        let mut events = 0;
        let mut seen = |report: &EventReport| {
            events += 1;
            progress.set_position(report.event.0);
        };
        let mut take = |cut| found(Found::Cut(Arc::new(cut)));
        let outcome = match wanted {
            Checkpoints::None => to_the_end(&mut session, &mut seen),
            Checkpoints::Spread(number) => spread(
                &mut session,
                Spread { number, ticks: recorded_ticks(trace) },
                &mut seen,
                &mut take,
            ),
            Checkpoints::Every => every(&mut session, &mut seen, &mut take),
        };
        let divergence = match outcome {
            Ok(Outcome::Ended) => None,
            Ok(Outcome::Restarted) => {
                let note = "fewer ticks are recorded than there are conditional branches: \
                            replaying again, as if counted in software";
                progress.suspend(|| eprintln!("{name}: {note}"));
                found(Found::Restarted);
                tick_rule = Some(session.tick_rule());
                continue;
            }
            Err(Error::Divergence(divergence)) => Some(divergence.to_string()),
            Err(error) => return Err(error).with_context(|| format!("{name}")),
        };
        return Ok(Run {
            events,
            tasks: session.tasks_created(),
            instructions: session.moment().0,
            ticks: session.total_ticks(),
            tick_rule: session.tick_rule(),
            seconds: started.elapsed().as_secs_f64(),
            divergence,
        });
    }
}

/// How a replay under one tick rule ended, if without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ended,
    /// Under another tick rule: what was found before is void.
    Restarted,
}

fn to_the_end(
    session: &mut Session,
    seen: &mut impl FnMut(&EventReport),
) -> Result<Outcome, Error> {
    loop {
        match session.advance(None)? {
            Progress::Event(report) => seen(&report),
            Progress::Restarted => return Ok(Outcome::Restarted),
            Progress::Moment | Progress::Stop(_) | Progress::End => return Ok(Outcome::Ended),
        }
    }
}

fn cut(session: &mut Session, border: Border) -> Result<Cut, Error> {
    Ok(Cut { border, checkpoint: session.checkpoint()? })
}

fn every(
    session: &mut Session,
    seen: &mut impl FnMut(&EventReport),
    take: &mut impl FnMut(Cut),
) -> Result<Outcome, Error> {
    loop {
        match session.advance(None)? {
            Progress::Event(report) => {
                seen(&report);
                take(cut(session, Border::Event(report.event))?);
            }
            Progress::Restarted => return Ok(Outcome::Restarted),
            Progress::Moment | Progress::Stop(_) | Progress::End => break,
        }
    }
    take(cut(session, Border::End)?);
    Ok(Outcome::Ended)
}

/// How many checkpoints are to be spread over how many ticks.
#[derive(Clone, Copy, Debug)]
struct Spread {
    number: usize,
    ticks: u64,
}

/// A checkpoint may lie before its place by this part of the distance between two.
const TOLERANCE: u64 = 32;
/// Instructions looked at behind a checkpoint's place in search of a `rep` string.
const LOOK_AHEAD: u64 = 64;

/// How many instructions the run has, nobody knows before, but its ticks are recorded.
fn spread(
    session: &mut Session,
    wanted: Spread,
    seen: &mut impl FnMut(&EventReport),
    take: &mut impl FnMut(Cut),
) -> Result<Outcome, Error> {
    let tick_rule = session.tick_rule();
    let distance = wanted.ticks / (wanted.number as u64 + 1);
    for index in 1..=wanted.number as u64 {
        let mut border = None;
        if let Some(moment) = approach(session, distance * index, distance / TOLERANCE, seen)? {
            border = into_string(session, moment, seen)?;
        }
        if session.tick_rule() != tick_rule {
            return Ok(Outcome::Restarted);
        }
        let Some(border) = border else { break };
        take(cut(session, border)?);
    }
    if !session.go_on_to(Border::End, &mut *seen)? || session.tick_rule() != tick_rule {
        return Ok(Outcome::Restarted);
    }
    take(cut(session, Border::End)?);
    Ok(Outcome::Ended)
}

/// Goes on by an instruction at least, and further to where about so many ticks are behind: the
/// moment there, `None` if the recording ends before.
fn approach(
    session: &mut Session,
    ticks: u64,
    tolerance: u64,
    seen: &mut impl FnMut(&EventReport),
) -> Result<Option<Moment>, Error> {
    let mut missing = u64::MAX;
    while missing > tolerance {
        let (here, behind) = (session.moment().0, session.total_ticks().0);
        missing = ticks.saturating_sub(behind);
        // Not more than half of what it takes if branches are as frequent as up to here. There are
        // at least as many instructions as ticks.
        let likely = u128::from(missing) * u128::from(here) / u128::from(behind.max(1)) / 2;
        let step = missing.max(u64::try_from(likely).unwrap_or(missing));
        // Odd numbers, so that nothing depends on how long slices of execution are.
        let moment = Moment(here.saturating_add(step.max(1)) | 1);
        if !session.go_on_to(at(moment, 0), &mut *seen)? {
            return Ok(None);
        }
        missing = ticks.saturating_sub(session.total_ticks().0);
    }
    Ok(Some(session.moment()))
}

fn at(moment: Moment, iterations: u64) -> Border {
    Border::Instruction { moment, iterations }
}

/// A little further on, into the middle of a `rep` string if one comes soon: where the session
/// stands then. `None`: the recording has ended.
fn into_string(
    session: &mut Session,
    moment: Moment,
    seen: &mut impl FnMut(&EventReport),
) -> Result<Option<Border>, Error> {
    let mut moment = moment;
    for _ in 0..LOOK_AHEAD {
        if let Some(left @ 4..) = session.iterations_ahead() {
            let iterations = session.iterate(left / 2)?;
            return Ok(Some(at(moment, iterations)));
        }
        if !session.go_on_to(at(moment + 1, 0), &mut *seen)? {
            return Ok(None);
        }
        moment += 1;
    }
    Ok(Some(at(moment, 0)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn wanted_checkpoints() {
        assert_eq!("every".parse(), Ok(Checkpoints::Every));
        assert_eq!("8".parse(), Ok(Checkpoints::Spread(8)));
        for text in ["0", "-1", "all", "1000001"] {
            assert!(text.parse::<Checkpoints>().is_err(), "{text}");
        }
    }

    #[test]
    fn checkpoints_are_spread() {
        let recording =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings/sum/trace");
        let trace = Trace::open(&recording).unwrap();
        for number in [1, 3, 16] {
            let mut moments = Vec::new();
            let mut found = |found| match found {
                Found::Cut(cut) => moments.push(cut.checkpoint.moment().0),
                Found::Restarted => panic!("under another rule"),
            };
            let wanted = Checkpoints::Spread(number);
            let run = run(&trace, wanted, &ProgressBar::hidden(), &mut found).unwrap();
            // The recorder's own, before the program begins, are recorded and not replayed.
            assert!((run.ticks.0..run.ticks.0 + 100).contains(&recorded_ticks(&trace)));
            assert_eq!(moments.len(), number + 1);
            assert_eq!(moments.last(), Some(&run.instructions));
            let mut before = 0;
            for moment in moments {
                let share =
                    (moment - before) as f64 * (number + 1) as f64 / run.instructions as f64;
                assert!((0.3..3.0).contains(&share), "{share} of the distance of {number}");
                before = moment;
            }
        }
    }
}
