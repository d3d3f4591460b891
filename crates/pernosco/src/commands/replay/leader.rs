//! One replay from the beginning to the end, which checks every event and may leave checkpoints.

use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use anyhow::Context;
use indicatif::ProgressBar;
use model::{Moment, Ticks};
use replay::{Border, Checkpoint, Error, EventReport, Options, Progress, Session, TickRule};
use rr_trace::Trace;

/// Which checkpoints to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoints {
    None,
    /// So many, evenly spread over the instructions.
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
    /// In order; the last one is the end of the recording. Empty if none were wanted.
    pub cuts: Vec<Cut>,
}

/// Replays to the end or to a divergence; other errors are errors.
pub fn run(directory: &Path, wanted: Checkpoints, progress: &ProgressBar) -> anyhow::Result<Run> {
    let trace = Trace::open(directory)?;
    let name = directory.display();
    let mut tick_rule = None;
    loop {
        let session = Session::open(&trace, Options { tick_rule, ..Options::default() });
        let mut session = session.with_context(|| format!("{name}: cannot replay"))?;
        let started = Instant::now();
        let mut events = 0;
        let mut seen = |report: &EventReport| {
            events += 1;
            progress.set_position(report.event.0);
        };
        let outcome = match wanted {
            Checkpoints::None => to_the_end(&mut session, &mut seen),
            Checkpoints::Spread(number) => spread(&mut session, number, &mut seen),
            Checkpoints::Every => every(&mut session, &mut seen),
        };
        let (cuts, divergence) = match outcome {
            Ok(Some(cuts)) => (cuts, None),
            Ok(None) => {
                let note = "fewer ticks are recorded than there are conditional branches: \
                            replaying again, as if counted in software";
                progress.suspend(|| eprintln!("{name}: {note}"));
                tick_rule = Some(session.tick_rule());
                continue;
            }
            Err(Error::Divergence(divergence)) => (Vec::new(), Some(divergence.to_string())),
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
            cuts,
        });
    }
}

/// The checkpoints, the last one at the end; `None` when the replay has begun again under another
/// tick rule, and what was found before is void.
type Cuts = Result<Option<Vec<Cut>>, Error>;

fn to_the_end(session: &mut Session, seen: &mut impl FnMut(&EventReport)) -> Cuts {
    loop {
        match session.advance(None)? {
            Progress::Event(report) => seen(&report),
            Progress::Restarted => return Ok(None),
            Progress::Moment | Progress::End => return Ok(Some(Vec::new())),
        }
    }
}

fn cut(session: &mut Session, border: Border) -> Result<Cut, Error> {
    Ok(Cut { border, checkpoint: session.checkpoint()? })
}

fn every(session: &mut Session, seen: &mut impl FnMut(&EventReport)) -> Cuts {
    let mut cuts = Vec::new();
    loop {
        match session.advance(None)? {
            Progress::Event(report) => {
                seen(&report);
                cuts.push(cut(session, Border::Event(report.event))?);
            }
            Progress::Restarted => return Ok(None),
            Progress::Moment | Progress::End => break,
        }
    }
    cuts.push(cut(session, Border::End)?);
    Ok(Some(cuts))
}

/// Instructions between two candidates in the beginning.
const INTERVAL_FIRST: u64 = 256;
/// Candidates for each checkpoint that is wanted, at the most.
const CANDIDATES: usize = 4;
/// Instructions looked at behind a candidate's place in search of a `rep` string.
const LOOK_AHEAD: u64 = 64;

/// How long the run is, nobody knows before: candidates are taken at a distance that doubles, and
/// half of them dropped, whenever they have become too many.
fn spread(session: &mut Session, number: usize, seen: &mut impl FnMut(&EventReport)) -> Cuts {
    let tick_rule = session.tick_rule();
    let mut candidates: Vec<Cut> = Vec::new();
    let mut interval = INTERVAL_FIRST;
    loop {
        // Odd numbers, so that nothing depends on how long slices of execution are.
        let moment = Moment(session.moment().0 / interval * interval + interval + 1);
        let mut border = None;
        if session.go_on_to(at(moment, 0), &mut *seen)? {
            border = into_string(session, moment, seen)?;
        }
        if session.tick_rule() != tick_rule {
            return Ok(None);
        }
        let Some(border) = border else { break };
        candidates.push(cut(session, border)?);
        if candidates.len() >= number * CANDIDATES {
            interval *= 2;
            let mut index = 0;
            candidates.retain(|_| {
                index += 1;
                index % 2 == 0
            });
        }
    }
    let mut cuts = choose(candidates, number, session.moment());
    cuts.push(cut(session, Border::End)?);
    Ok(Some(cuts))
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

/// Those that lie nearest to where evenly spread ones would.
fn choose(candidates: Vec<Cut>, number: usize, end: Moment) -> Vec<Cut> {
    let moments: Vec<u64> = candidates.iter().map(|cut| cut.checkpoint.moment().0).collect();
    let chosen = nearest(&moments, number, end.0);
    let mut index = 0;
    let keep = candidates.into_iter().filter(|_| {
        index += 1;
        chosen.binary_search(&(index - 1)).is_ok()
    });
    keep.collect()
}

/// Indices of up to `number` different ones of ascending `moments`, ascending.
fn nearest(moments: &[u64], number: usize, end: u64) -> Vec<usize> {
    if moments.len() <= number {
        return (0..moments.len()).collect();
    }
    let mut chosen: Vec<usize> = Vec::with_capacity(number);
    for index in 1..=number {
        let ideal = (u128::from(end) * index as u128 / (number as u128 + 1)) as u64;
        let first = chosen.last().map_or(0, |last| last + 1);
        // Enough must remain for the others.
        let last = moments.len() - 1 - (number - index);
        let behind = moments.partition_point(|moment| *moment < ideal).clamp(first, last);
        let before = behind.saturating_sub(1).max(first);
        let distance = |at: usize| moments[at].abs_diff(ideal);
        chosen.push(if distance(before) < distance(behind) { before } else { behind });
    }
    chosen
}

#[cfg(test)]
mod tests {
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
    fn chosen_ones_are_spread() {
        let even: Vec<u64> = (1..40).map(|index| index * 100).collect();
        assert_eq!(nearest(&even, 3, 4000), [9, 19, 29]);
        assert_eq!(nearest(&even, 100, 4000).len(), 39);
        // All at one end: different ones all the same, in order.
        let early: Vec<u64> = (1..10).collect();
        assert_eq!(nearest(&early, 4, 1_000_000), [5, 6, 7, 8]);
        let late: Vec<u64> = (1..10).map(|index| 999_000 + index).collect();
        assert_eq!(nearest(&late, 4, 1_000_000), [0, 1, 2, 3]);
    }
}
