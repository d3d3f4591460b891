//! `lines`: which lines of a file ran in the focus's call, how often, and in this iteration.

mod values;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use model::{Address, Moment};
use rustc_hash::FxHashMap;
use serde::Serialize;
use store::{Counted, Owner, Tree};
use symbols::LinkAddress;

use crate::ask::{Asked, Flow};
use crate::code::{CodeSet, paths, places};
use crate::engine::{Engine, Here};
use crate::executions::in_leaf;
use crate::exits::exit;
use crate::failure::{Code, Failure};
use crate::frame_path::{Step, Walk, backwards, forwards};
use crate::frames::Stack;
use crate::protocol::{Focus, MomentText};
use crate::stretch::FrameChange;
use values::{LineValue, of_execution};

/// Lines of one request.
const LINES_MAX: u32 = 2_000;
/// Instructions on each side of the focus that are looked at, of a call that is longer.
const STEPS_MAX: u64 = 8 << 20;
/// Lines whose values are told, those that ran last before the focus.
const VALUES_MAX: usize = 40;
/// Runs of so many leaves are counted exactly.
const EXACT_LEAVES: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Mark {
    /// Ran in the current iteration of every loop around the focus.
    Strong,
    /// Ran in this call, in another iteration.
    Weak,
}

#[derive(Serialize)]
struct Row {
    line: u32,
    code: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<Mark>,
    /// Executions in this call.
    count: u64,
    /// Executions in the run.
    run: String,
    /// Whether `run` is no more than about right: of a long run the count of its most executed
    /// instruction.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    about: bool,
    /// Of the execution nearest to the focus in this iteration, else in this call.
    #[serde(skip_serializing_if = "Option::is_none")]
    moment: Option<MomentText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    focus: Option<Focus>,
    /// Read or written when it ran in this iteration, not behind the focus.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<LineValue>,
}

/// An instruction that the call executed itself, and its line in the file.
type OwnStep = (Step, Option<u32>);

/// What is known of a line in the call.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    count: u64,
    strong: Option<Moment>,
    weak: Option<Moment>,
    /// The last execution in front of the focus.
    before: Option<Moment>,
    /// Whether there is one of this iteration. The head of a loop has run for it at the end of
    /// the iteration before.
    ran: bool,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let file: String = asked.argument("file")?;
    let from: u32 = asked.optional("from")?.unwrap_or(1);
    let to: u32 = asked.optional("to")?.unwrap_or(from.saturating_add(LINES_MAX - 1));
    let to = to.min(from.saturating_add(LINES_MAX - 1));
    let code = code_lines(engine, &file, from, to);
    if code.is_empty() && !engine.db.modules.all().any(|module| !paths(module, &file).is_empty()) {
        let what = format!("no program of the recording has the source file {file}");
        return Err(Failure::new(Code::NoSuchFile, what));
    }
    let stack = Stack::at(engine, here)?;
    let index = asked.request.focus.frame.and_then(|id| stack.find(id)).unwrap_or(0);
    let frame = stack.frames[index];
    let change = FrameChange {
        moment: here.moment,
        tid: here.tid,
        kind: frame.kind,
        entry: frame.entry,
        function: frame.function,
        slot: frame.slot.unwrap_or_default(),
        depth: 0,
    };
    let (seen, own) = in_call(engine, asked, here, &change, frame.lookup(), &file)?;
    let told = with_values(&seen, &code);
    let exact = engine.db.reader.leaves() <= EXACT_LEAVES;
    for (line, addresses) in code.into_iter().skip(asked.offset()?) {
        let known = seen.get(&line).copied().unwrap_or_default();
        let about = run_count(engine, &addresses)?;
        let run = match exact && about > 0 {
            true => exact_count(engine, &file, line)?,
            false => about,
        };
        let mark = match (known.strong, known.weak) {
            (Some(_), _) => Some(Mark::Strong),
            (None, Some(_)) => Some(Mark::Weak),
            _ => None,
        };
        let moment = known.strong.or(known.weak);
        let values = match known.before.filter(|_| told.contains(&line)) {
            Some(begun) if !asked.is_interrupted() => {
                let steps = execution(&own, line, begun, here.moment);
                of_execution(engine, here, frame.entry, &steps)?
            }
            _ => Vec::new(),
        };
        let row = Row {
            line,
            code: true,
            mark,
            count: known.count,
            run: run.to_string(),
            about: !exact && about > 0,
            moment: moment.map(MomentText),
            focus: moment.map(|moment| Focus::at(moment, here.task)),
            values,
        };
        if asked.is_interrupted() || asked.row(&row) == Flow::Full {
            break;
        }
    }
    Ok(())
}

/// Lines that have code, with where it is in each address space.
fn code_lines(
    engine: &Engine<'_>,
    file: &str,
    from: u32,
    to: u32,
) -> BTreeMap<u32, Vec<(u32, Address)>> {
    let mut lines: BTreeMap<u32, Vec<(u32, Address)>> = BTreeMap::new();
    for module in engine.db.modules.all() {
        for path in paths(module, file) {
            let Some(symbols) = module.symbols() else { continue };
            let there = places(engine.db, module);
            for row in symbols.lines_of_file(&path) {
                if (from..=to).contains(&row.line) && !row.range.is_empty() {
                    let LinkAddress(start) = row.range.start;
                    let run =
                        |(space, bias): &(u32, u64)| (*space, Address(start.wrapping_add(*bias)));
                    lines.entry(row.line).or_default().extend(there.iter().map(run));
                }
            }
        }
    }
    lines
}

/// Executions of the most executed instruction of a line.
fn run_count(engine: &Engine<'_>, addresses: &[(u32, Address)]) -> Result<u64, Failure> {
    let tree = Tree::new(&engine.db.reader);
    let leaves = 0..engine.db.reader.leaves();
    let mut most: BTreeMap<u32, u64> = BTreeMap::new();
    for (space, address) in addresses {
        let counted = Counted::Executed { owner: Owner(*space), address: *address };
        let count = tree.count(counted, leaves.clone())?;
        let most = most.entry(*space).or_default();
        *most = count.max(*most);
    }
    Ok(most.values().sum())
}

fn exact_count(engine: &mut Engine<'_>, file: &str, line: u32) -> Result<u64, Failure> {
    let set = CodeSet::line(engine.db, file, line)?;
    let mut count = 0;
    for leaf in 0..engine.db.reader.leaves() {
        count += in_leaf(engine, &set, leaf)?.len() as u64;
    }
    Ok(count)
}

fn in_call(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    here: Here,
    frame: &FrameChange,
    focus: Address,
    file: &str,
) -> Result<(FxHashMap<u32, Seen>, Vec<OwnStep>), Failure> {
    let end = exit(engine, here.tid, frame)?.moment.unwrap_or(Moment(u64::MAX));
    let mut lines: FxHashMap<Address, Option<u32>> = FxHashMap::default();
    let mut own: Vec<OwnStep> = Vec::new();
    let mut line_of = |engine: &mut Engine<'_>, step: &Step| {
        *lines.entry(step.address).or_insert_with(|| {
            let spot = engine.places.look(engine.db, step.space, step.address, step.moment);
            let line = spot.code.line.as_ref().filter(|line| line.line != 0)?;
            let path = &line.file.path;
            let same =
                path == file || path.strip_suffix(file).is_some_and(|before| before.ends_with('/'));
            same.then_some(line.line)
        })
    };
    backwards(engine, asked, here.tid, here.moment, |engine, step| {
        if step.moment < frame.entry || here.moment - step.moment > STEPS_MAX {
            return Ok(Walk::Stop);
        }
        if step.frame.entry == frame.entry {
            let line = line_of(engine, step);
            own.push((*step, line));
        }
        Ok(Walk::On)
    })?;
    own.reverse();
    let before = own.len();
    forwards(engine, asked, here.tid, here.moment, |engine, step| {
        if step.moment >= end || step.moment - here.moment > STEPS_MAX {
            return Ok(Walk::Stop);
        }
        if step.frame.entry == frame.entry {
            let line = line_of(engine, step);
            own.push((*step, line));
        }
        Ok(Walk::On)
    })?;
    Ok((marks(&own, before, focus), own))
}

/// The lines that ran last in this iteration, in front of the focus.
fn with_values(seen: &FxHashMap<u32, Seen>, code: &BTreeMap<u32, Vec<(u32, Address)>>) -> Vec<u32> {
    let before = |line: &u32| seen.get(line).filter(|seen| seen.ran)?.before;
    let mut lines: Vec<(Moment, u32)> =
        code.keys().filter_map(|line| Some((before(line)?, *line))).collect();
    lines.sort();
    lines.iter().rev().take(VALUES_MAX).map(|(_, line)| *line).collect()
}

/// What the call itself executed in an execution of a line, up to the focus.
fn execution(own: &[OwnStep], line: u32, begun: Moment, now: Moment) -> Vec<Step> {
    let first = own.partition_point(|(step, _)| step.moment < begun);
    let of_line =
        own[first..].iter().take_while(|(step, of)| *of == Some(line) && step.moment < now);
    of_line.map(|(step, _)| *step).collect()
}

/// Marks from what a call executed itself; `now` is the index of the focus.
///
/// An execution is of another iteration if between it and the focus there is a jump back over
/// both: they are in a loop that has begun anew.
fn marks(own: &[OwnStep], now: usize, focus: Address) -> FxHashMap<u32, Seen> {
    let mut current = vec![true; own.len()];
    let jump = |index: usize| {
        let (from, to) = (own[index - 1].0.address, own[index].0.address);
        (to..=from).contains(&focus).then_some(to..=from)
    };
    let mut passed: Vec<RangeInclusive<Address>> = Vec::new();
    for index in (0..now.min(own.len())).rev() {
        if index + 1 < own.len() {
            note(&mut passed, jump(index + 1));
        }
        current[index] = !passed.iter().any(|range| range.contains(&own[index].0.address));
    }
    passed.clear();
    for index in now + 1..own.len() {
        note(&mut passed, jump(index));
        current[index] = !passed.iter().any(|range| range.contains(&own[index].0.address));
    }
    let mut lines: FxHashMap<u32, Seen> = FxHashMap::default();
    let focus_moment = own.get(now).map(|(step, _)| step.moment);
    let distance = |moment: Moment| focus_moment.map_or(0, |at| at.0.abs_diff(moment.0));
    for (index, (step, line)) in own.iter().enumerate() {
        let Some(line) = line else { continue };
        let before = index.checked_sub(1).map(|before| &own[before]);
        let begins = before.is_none_or(|(earlier, other)| {
            *other != Some(*line) || step.address <= earlier.address
        });
        let seen = lines.entry(*line).or_default();
        seen.count += u64::from(begins);
        if begins && index < now {
            seen.before = Some(step.moment);
            seen.ran |= current[index];
        }
        let nearest = if current[index] { &mut seen.strong } else { &mut seen.weak };
        if begins && nearest.is_none_or(|known| distance(step.moment) < distance(known)) {
            *nearest = Some(step.moment);
        }
    }
    lines
}

/// Keeps ranges that are not in others.
fn note(passed: &mut Vec<RangeInclusive<Address>>, range: Option<RangeInclusive<Address>>) {
    let Some(range) = range else { return };
    let within = |outer: &RangeInclusive<Address>, inner: &RangeInclusive<Address>| {
        outer.contains(inner.start()) && outer.contains(inner.end())
    };
    if !passed.iter().any(|known| within(known, &range)) {
        passed.retain(|known| !within(&range, known));
        passed.push(range);
    }
}
