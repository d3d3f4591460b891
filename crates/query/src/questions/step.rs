//! `step`: where the next or previous line, call or return is.

use model::{Address, Moment};
use serde::{Deserialize, Serialize};

use crate::ask::{Asked, Side};
use crate::engine::{Engine, Here};
use crate::eval::arguments_at;
use crate::executions::in_leaf;
use crate::exits::exit;
use crate::failure::{Code, Failure};
use crate::frame_path::{Step, Walk, backwards, forwards};
use crate::frames::Stack;
use crate::protocol::{Focus, FrameId, Place};
use crate::stretch::{FrameChange, FrameKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Line,
    LineBack,
    Into,
    IntoBack,
    Return,
    Entry,
    Caller,
    Callee,
    Instruction,
    InstructionBack,
    Execution,
    ExecutionBack,
}

#[derive(Serialize)]
struct Row {
    focus: Focus,
    place: Place,
    /// Why it left the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<&'static str>,
}

/// Where a step ends.
struct Target {
    moment: Moment,
    left: Option<&'static str>,
}

impl Target {
    fn at(moment: Moment) -> Option<Target> {
        Some(Target { moment, left: None })
    }

    fn left(moment: Moment, why: &'static str) -> Option<Target> {
        Some(Target { moment, left: Some(why) })
    }
}

/// Where the step begins: the frame that is looked at.
struct From {
    here: Here,
    space: u32,
    frame: FrameChange,
    /// Whether it is the innermost one.
    innermost: bool,
    line: Option<Line>,
}

/// A source line, as steps tell lines apart.
type Line = (String, u32);

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let kind: Kind = asked.argument("kind")?;
    let here = engine.here(&asked.request.focus)?;
    let stack = Stack::at(engine, here)?;
    let index = asked.request.focus.frame.and_then(|id| stack.find(id)).unwrap_or(0);
    let frame = stack.frames[index];
    let line = line_of(engine, stack.space, frame.lookup(), here.moment);
    let change = FrameChange {
        moment: here.moment,
        tid: here.tid,
        kind: frame.kind,
        entry: frame.entry,
        function: frame.function,
        slot: frame.slot.unwrap_or_default(),
        depth: 0,
    };
    let from = From { here, space: stack.space, frame: change, innermost: index == 0, line };
    let target = match kind {
        Kind::Instruction => next_instruction(engine, asked, &from)?,
        Kind::InstructionBack => previous_instruction(engine, asked, &from)?,
        Kind::Line => line_over(engine, asked, &from, false)?,
        Kind::Into => line_into(engine, asked, &from)?,
        Kind::LineBack => back(engine, asked, &from, false)?,
        Kind::IntoBack => back(engine, asked, &from, true)?,
        Kind::Return => exit(engine, here.tid, &from.frame)?
            .moment
            .and_then(|moment| Target::left(moment, "returned")),
        Kind::Entry if from.frame.kind == FrameKind::Start => None,
        Kind::Entry => Target::at(arguments_at(engine, here, from.space, from.frame.entry)?),
        Kind::Caller => match from.frame.entry.0.checked_sub(1) {
            Some(call) if from.frame.kind == FrameKind::Call => {
                Target::left(Moment(call), "to the caller")
            }
            _ => None,
        },
        Kind::Callee => callee(engine, asked, &from)?,
        Kind::Execution => execution(engine, asked, &from, Side::After)?,
        Kind::ExecutionBack => execution(engine, asked, &from, Side::Before)?,
    };
    let target = target.ok_or_else(|| {
        let what = match kind {
            Kind::LineBack | Kind::IntoBack | Kind::InstructionBack => "nothing ran before",
            Kind::Return => "the call does not return",
            Kind::Entry | Kind::Caller => "nothing that was recorded made this call",
            Kind::Callee => "the call makes no further call",
            Kind::Execution => "this line does not run again",
            Kind::ExecutionBack => "this line did not run before",
            _ => "nothing runs afterwards: the task ends here",
        };
        Failure::new(Code::NotAvailable, what)
    })?;
    let there = Here { moment: target.moment, ..here };
    let stack = Stack::at(engine, there)?;
    let frame = stack.frames[0];
    let spot = crate::frames::spot(engine, there, stack.space, &frame);
    let id = FrameId { entry: frame.entry, inlined: spot.levels() as u32 - 1 };
    let focus = Focus { frame: Some(id), ..Focus::at(target.moment, here.task) };
    let _ = asked.row(&Row { focus, place: spot.innermost(), left: target.left });
    Ok(())
}

fn line_of(engine: &mut Engine<'_>, space: u32, address: Address, moment: Moment) -> Option<Line> {
    let spot = engine.places.look(engine.db, space, address, moment);
    let line = spot.code.line.as_ref().filter(|line| line.line != 0)?;
    Some((line.file.path.clone(), line.line))
}

fn is_own(engine: &mut Engine<'_>, step: &Step) -> bool {
    engine.places.look(engine.db, step.space, step.address, step.moment).innermost().own
}

fn next_instruction(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    from: &From,
) -> Result<Option<Target>, Failure> {
    let mut target = None;
    forwards(engine, asked, from.here.tid, from.here.moment + 1, |_, step| {
        target = Target::at(step.moment);
        Ok(Walk::Stop)
    })?;
    // Behind the last one there is still a state.
    let end = engine.db.reader.end();
    if target.is_none() && from.here.moment < end && is_alive(engine, from.here, end)? {
        target = Target::left(end, "the run ends");
    }
    Ok(target)
}

fn is_alive(engine: &mut Engine<'_>, here: Here, moment: Moment) -> Result<bool, Failure> {
    Ok(engine.at(moment)?.registers(here.tid).is_some())
}

fn previous_instruction(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    from: &From,
) -> Result<Option<Target>, Failure> {
    let mut target = None;
    backwards(engine, asked, from.here.tid, from.here.moment, |_, step| {
        target = Target::at(step.moment);
        Ok(Walk::Stop)
    })?;
    Ok(target)
}

/// Whether a step is in a frame around the one that is looked at: that one was left.
fn is_outside(from: &From, step: &Step) -> bool {
    step.frame.entry < from.frame.entry && step.frame.entry != from.frame.entry
}

fn line_over(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    from: &From,
    into: bool,
) -> Result<Option<Target>, Failure> {
    let mut target = None;
    let mut last = if from.innermost { None } else { Some(Address(0)) };
    let mut entered: Option<Moment> = None;
    forwards(engine, asked, from.here.tid, from.here.moment, |engine, step| {
        if step.moment == from.here.moment {
            last = Some(step.address);
            return Ok(Walk::On);
        }
        if is_outside(from, step) {
            target = Target::left(step.moment, "returned");
            return Ok(Walk::Stop);
        }
        if step.frame.entry != from.frame.entry {
            // A call: stop in the first one of the user's own.
            if into && entered != Some(step.frame.entry) && step.moment == step.frame.entry {
                entered = Some(step.frame.entry);
                if is_own(engine, step) {
                    target = Target::left(step.moment, "into a call");
                    return Ok(Walk::Stop);
                }
            }
            return Ok(Walk::On);
        }
        let line = line_of(engine, step.space, step.address, step.moment);
        let backward = last.is_some_and(|last| step.address <= last);
        last = Some(step.address);
        if line.is_some() && (line != from.line || backward) {
            target = Target::at(step.moment);
            return Ok(Walk::Stop);
        }
        Ok(Walk::On)
    })?;
    if target.is_none() {
        let end = engine.db.reader.end();
        if from.here.moment < end && is_alive(engine, from.here, end)? {
            target = Target::left(end, "the run ends");
        }
    }
    Ok(target)
}

fn line_into(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    from: &From,
) -> Result<Option<Target>, Failure> {
    let Some(found) = line_over(engine, asked, from, true)? else { return Ok(None) };
    if found.left == Some("into a call") {
        let moment = arguments_at(engine, from.here, from.space, found.moment)?;
        return Ok(Target::left(moment, "into a call"));
    }
    Ok(Some(found))
}

/// The beginning of the line that ran before, or of this one if some of it has run.
fn back(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    from: &From,
    into: bool,
) -> Result<Option<Target>, Failure> {
    let mut target = None;
    // The stretch that is being passed: its frame, its line, its first instruction so far.
    let mut passing: Option<(Moment, Option<Line>, Step)> = None;
    backwards(engine, asked, from.here.tid, from.here.moment, |engine, step| {
        if let Some((entry, line, first)) = &mut passing {
            if step.frame.entry != *entry {
                // Calls that the line made are part of it; what is around it is not.
                let around = step.frame.entry < *entry;
                if around {
                    target = Target::at(first.moment);
                    return Ok(Walk::Stop);
                }
                return Ok(Walk::On);
            }
            let here = line_of(engine, step.space, step.address, step.moment);
            if here != *line || step.address >= first.address {
                target = Target::at(first.moment);
                return Ok(Walk::Stop);
            }
            *first = *step;
            return Ok(Walk::On);
        }
        if is_outside(from, step) {
            target = Target::left(step.moment, "to the caller");
            return Ok(Walk::Stop);
        }
        if step.frame.entry != from.frame.entry {
            if into && is_own(engine, step) {
                let line = line_of(engine, step.space, step.address, step.moment);
                if line.is_some() {
                    passing = Some((step.frame.entry, line, *step));
                }
            }
            return Ok(Walk::On);
        }
        let line = line_of(engine, step.space, step.address, step.moment);
        if line.is_some() {
            passing = Some((from.frame.entry, line, *step));
        }
        Ok(Walk::On)
    })?;
    if target.is_none() {
        target = passing.and_then(|(.., first)| Target::at(first.moment));
    }
    Ok(target)
}

fn callee(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    from: &From,
) -> Result<Option<Target>, Failure> {
    let mut target = None;
    forwards(engine, asked, from.here.tid, from.here.moment + 1, |_, step| {
        if is_outside(from, step) {
            return Ok(Walk::Stop);
        }
        if step.frame.entry == step.moment && step.frame.entry > from.here.moment {
            target = Target::left(step.moment, "into a call");
            return Ok(Walk::Stop);
        }
        Ok(Walk::On)
    })?;
    let Some(found) = target else { return Ok(None) };
    let moment = arguments_at(engine, from.here, from.space, found.moment)?;
    Ok(Target::left(moment, "into a call"))
}

fn execution(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    from: &From,
    side: Side,
) -> Result<Option<Target>, Failure> {
    let Some((file, line)) = &from.line else {
        return Err(Failure::new(Code::NotAvailable, "there is no source line at the focus"));
    };
    let set = crate::code::CodeSet::line(engine.db, file, *line)?;
    let db = engine.db;
    let tree = store::Tree::new(&db.reader);
    let leaf = engine.leaf_at(from.here.moment)?;
    let mut next = match side {
        Side::After => set.first_leaf(&tree, leaf)?,
        Side::Before => set.last_leaf(&tree, leaf + 1)?,
    };
    while let Some(leaf) = next {
        let found = in_leaf(engine, &set, leaf)?;
        let mut of_task = found.iter().filter(|execution| execution.tid == from.here.tid);
        let found = match side {
            Side::After => of_task.find(|execution| execution.moment > from.here.moment),
            Side::Before => of_task.rfind(|execution| execution.moment < from.here.moment),
        };
        if let Some(found) = found {
            return Ok(Target::at(found.moment));
        }
        if asked.is_interrupted() {
            return Ok(None);
        }
        next = match side {
            Side::After => set.first_leaf(&tree, leaf + 1)?,
            Side::Before => set.last_leaf(&tree, leaf)?,
        };
    }
    Ok(None)
}
