//! `callees`: the calls that a call made itself. `instructions`: what it executed.

use model::Moment;
use serde::Serialize;

use crate::ask::{Asked, Flow, Side};
use crate::engine::{Engine, Here};
use crate::eval::{FrameView, ValueRow, arguments, arguments_at};
use crate::exits::{Left, exit, result};
use crate::failure::Failure;
use crate::frame_path::{Step, Walk, backwards, forwards};
use crate::frames::{Frame, Stack};
use crate::protocol::{Focus, FrameId, Hex, MomentText, Place};
use crate::questions::state::disassemble;
use crate::stretch::{FrameChange, FrameKind, Transfer};

/// A call that a frame made.
#[derive(Clone, Copy, Debug)]
struct Callee {
    frame: FrameChange,
    /// Calls that it made itself.
    callees: u64,
}

#[derive(Serialize)]
struct Row {
    moment: MomentText,
    frame: FrameId,
    function: Option<String>,
    /// Of the call.
    place: Place,
    arguments: Vec<ValueRow>,
    exit: Option<MomentText>,
    left: Left,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ValueRow>,
    callees: u64,
    focus: Focus,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let stack = Stack::at(engine, here)?;
    let wanted = asked.optional::<FrameId>("frame")?.or(asked.request.focus.frame);
    let entry = match wanted {
        Some(id) => id.entry,
        None => stack.frames[0].entry,
    };
    let all = callees(engine, asked, here, entry)?;
    let middle = match asked.cursor()? {
        Some(crate::ask::Cursor::Moment(Side::Before, at)) => at,
        Some(crate::ask::Cursor::Moment(Side::After, at)) => at + 1,
        _ => here.moment,
    };
    let split = all.partition_point(|callee| callee.frame.entry < middle);
    let (before, after) = all.split_at(split);
    for callee in after {
        if !asked.wants(Side::After) || asked.is_interrupted() {
            let _ = asked.row_at(Side::After, callee.frame.entry, &());
            break;
        }
        let row = row(engine, here, stack.space, callee)?;
        let _ = asked.row_at(Side::After, callee.frame.entry, &row);
    }
    for callee in before.iter().rev() {
        if !asked.wants(Side::Before) || asked.is_interrupted() {
            let _ = asked.row_at(Side::Before, callee.frame.entry, &());
            break;
        }
        let row = row(engine, here, stack.space, callee)?;
        let _ = asked.row_at(Side::Before, callee.frame.entry, &row);
    }
    (asked.matched, asked.exact) = (all.len() as u64, true);
    Ok(())
}

/// All calls that a frame made itself, in order of time.
fn callees(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    here: Here,
    entry: Moment,
) -> Result<Vec<Callee>, Failure> {
    let mut all: Vec<Callee> = Vec::new();
    let mut leaf = engine.leaf_at(entry)?;
    let tid = here.tid;
    // Where the frame's return address lies, once it was seen.
    let mut slot = None;
    'leaves: while leaf < engine.db.reader.leaves() {
        let mut stacks = index::stacks_at(&engine.db.reader, leaf)?;
        let transfers = engine.transfers(leaf)?;
        for transfer in transfers.iter() {
            let Transfer::Call(task, space, call) = transfer else {
                crate::stretch::follow(&mut stacks, std::slice::from_ref(transfer));
                continue;
            };
            if *task != tid {
                // Another task's calls do not change this one's frames.
                if *space != 0 {
                    crate::stretch::follow(&mut stacks, std::slice::from_ref(transfer));
                }
                continue;
            }
            crate::stretch::follow(&mut stacks, std::slice::from_ref(transfer));
            let frames = stacks.frames(tid);
            let at = frames.iter().rposition(|frame| frame.moment == entry.0);
            slot = at.map(|at| frames[at].slot).or(slot);
            let depth = match at {
                Some(at) => frames.len() - 1 - at,
                None if entry.0 == 0 => frames.len(),
                // On another stack for a while, or over.
                None => match slot {
                    Some(slot) if !stacks.has(entry.0, slot) => break 'leaves,
                    _ => continue,
                },
            };
            if !call.is_call {
                continue;
            }
            match (depth, frames.last()) {
                (1, Some(frame)) => all.push(Callee {
                    frame: FrameChange {
                        moment: call.moment,
                        tid,
                        kind: FrameKind::Call,
                        entry: Moment(frame.moment),
                        function: frame.function,
                        slot: frame.slot,
                        depth: 0,
                    },
                    callees: 0,
                }),
                (2, _) => {
                    if let Some(last) = all.last_mut() {
                        last.callees += 1;
                    }
                }
                _ => {}
            }
        }
        if asked.is_interrupted() {
            asked.exact = false;
            break;
        }
        leaf += 1;
    }
    Ok(all)
}

fn row(engine: &mut Engine<'_>, here: Here, space: u32, callee: &Callee) -> Result<Row, Failure> {
    let frame = callee.frame;
    let at = Here { moment: frame.entry, ..here };
    let start = arguments_at(engine, at, space, frame.entry)?;
    let there = Here { moment: start, ..here };
    let stack = Stack::innermost(engine, there, &frame)?;
    let view = FrameView::new(engine, there, &stack, 0, Some(0))?;
    // A stub of the linker knows better than what it finds at its first call.
    let called = engine.places.look(engine.db, space, frame.function, start).place(0).function;
    let reached = engine.places.look(engine.db, space, stack.registers.rip, start).place(0);
    let stub = called.as_deref().and_then(|name| name.strip_suffix("@plt")).map(str::to_owned);
    let named = stub.or(reached.function).or(called);
    let ended = exit(engine, here.tid, &frame)?;
    let result = result(engine, there, ended, &view)?;
    let whole = Frame { entry: frame.entry, ..stack.frames[0] };
    let arguments = arguments(engine, there, space, &whole)?.to_vec();
    let call = Moment(frame.entry.0.saturating_sub(1));
    let leaf = engine.leaf_at(call)?;
    let address = engine.stretch(leaf)?.visit_at(call).and_then(|visit| visit.address_at(call));
    let place = match address {
        Some(address) => engine.places.look(engine.db, space, address, call).innermost(),
        None => Place::default(),
    };
    let id = FrameId { entry: frame.entry, inlined: 0 };
    Ok(Row {
        moment: MomentText(frame.entry),
        frame: id,
        function: named,
        place,
        arguments,
        exit: ended.moment.map(MomentText),
        left: ended.left,
        result,
        callees: callee.callees,
        focus: Focus { frame: Some(id), ..Focus::at(start, here.task) },
    })
}

/// Instructions of each side unless the asker says otherwise, and at most.
const INSTRUCTIONS: usize = 50;
const INSTRUCTIONS_MAX: usize = 1000;

#[derive(Serialize)]
struct InstructionRow {
    moment: MomentText,
    address: Hex,
    bytes: String,
    text: String,
    place: Place,
    changes: Vec<Change>,
    current: bool,
    focus: Focus,
}

/// A register that an instruction changed.
#[derive(Serialize)]
struct Change {
    name: &'static str,
    old: Hex,
    new: Hex,
}

pub fn instructions(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let count: usize = asked.optional("count")?.unwrap_or(INSTRUCTIONS).min(INSTRUCTIONS_MAX);
    let stack = Stack::at(engine, here)?;
    let entry = match asked.request.focus.frame {
        Some(id) => id.entry,
        None => stack.frames[0].entry,
    };
    let mut steps: Vec<Step> = Vec::new();
    backwards(engine, asked, here.tid, here.moment, |_, step| {
        if step.moment < entry || steps.len() >= count {
            return Ok(Walk::Stop);
        }
        if step.frame.entry == entry {
            steps.push(*step);
        }
        Ok(Walk::On)
    })?;
    steps.reverse();
    let mut ahead = 0;
    forwards(engine, asked, here.tid, here.moment, |_, step| {
        if step.frame.entry < entry || ahead >= count {
            return Ok(Walk::Stop);
        }
        if step.frame.entry == entry {
            steps.push(*step);
            ahead += 1;
        }
        Ok(Walk::On)
    })?;
    for step in steps {
        let place =
            engine.places.look(engine.db, step.space, step.address, step.moment).innermost();
        let session = engine.at(step.moment)?;
        let before = session.registers(here.tid).unwrap_or_default();
        let mut bytes = vec![0; usize::from(step.length)];
        let read = session.memory(here.tid).map(|memory| memory.read(step.address, &mut bytes));
        if !matches!(read, Some(Ok(()))) {
            bytes.clear();
        }
        let text = disassemble(&bytes, step.address);
        let after = engine.at(step.moment + 1).ok().and_then(|session| session.registers(here.tid));
        let named = after.iter().flat_map(|after| before.named().zip(after.named()));
        let changes = named
            .filter(|((name, old), (_, new))| old != new && *name != "rip" && *name != "orig_rax")
            .map(|((name, old), (_, new))| Change { name, old: Hex(old), new: Hex(new) });
        let row = InstructionRow {
            moment: MomentText(step.moment),
            address: step.address.into(),
            bytes: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            text,
            place,
            changes: changes.collect(),
            current: step.moment == here.moment,
            focus: Focus::at(step.moment, here.task),
        };
        if asked.is_interrupted() || asked.row(&row) == Flow::Full {
            break;
        }
    }
    Ok(())
}
