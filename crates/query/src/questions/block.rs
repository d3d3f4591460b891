//! `block`: the life of the heap block that an address is in.

use std::sync::Arc;

use model::{Address, Moment};
use serde::Serialize;

use crate::ask::{Asked, Cursor, Flow, Side};
use crate::engine::{Engine, Here};
use crate::failure::{Code, Failure};
use crate::frames::{Stack, spot};
use crate::heap::{HeapCall, calls_in_leaf, first_leaf, last_leaf};
use crate::memory_identity::Bytes;
use crate::protocol::{Focus, FrameId, Hex, MomentText, Place};
use crate::target::{Subject, task_at};

/// Frames of a row at most.
const FRAMES_MAX: usize = 64;
/// Blocks that were freed later than they are looked for.
const PENDING_MAX: usize = 1 << 20;

#[derive(Serialize)]
struct Row {
    kind: &'static str,
    moment: MomentText,
    task: u32,
    address: Hex,
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Whether it is what the address is in at the focus.
    now: bool,
    /// Innermost in the user's own code.
    place: Place,
    /// Innermost first.
    stack: Vec<Place>,
    focus: Focus,
}

/// An address that was asked about.
struct Wanted {
    address: Address,
    bytes: Bytes,
    now: Moment,
}

impl Wanted {
    fn is_here(&self, call: &HeapCall) -> bool {
        self.bytes.part(call.space, &self.bytes.address.range(1), call.moment).is_some()
    }

    fn contains(&self, (start, size): (Address, u64)) -> bool {
        // A block of no bytes is still a block.
        start <= self.address && self.address.0 - start.0 < size.max(1)
    }
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let subject = Subject::read(engine, asked)?;
    let (address, _) = subject.span().ok_or_else(|| {
        let what = format!("{} is not in memory", subject.name);
        Failure::new(Code::NotAvailable, what)
    })?;
    let address = pointee(engine, &subject)?.unwrap_or(address);
    let (now, space) = (subject.here.moment, subject.space);
    if let Some(mapped) = engine.db.history.mapped(space, address, now)
        && &*mapped.name != "[heap]"
        && mapped.shared.is_none()
    {
        let what = format!("{address} is not on the heap, but in {}", mapped.name);
        return Err(Failure::new(Code::NotAvailable, what));
    }
    let bytes = Bytes::at(engine.db, space, address, 1, now);
    let wanted = Wanted { address, bytes, now };
    let cursor = asked.cursor()?;
    let live = backwards(engine, asked, &wanted, cursor)?;
    if asked.wants(Side::After) && !asked.is_interrupted() {
        forwards(engine, asked, &wanted, cursor, live)?;
    }
    Ok(())
}

/// A pointer is asked about for what it points at, where that is on the heap.
fn pointee(engine: &mut Engine<'_>, subject: &Subject) -> Result<Option<Address>, Failure> {
    if subject.shape.kind != values::ValueKind::Pointer {
        return Ok(None);
    }
    let Some((address, 8)) = subject.span() else { return Ok(None) };
    let memory = engine.at(subject.here.moment)?.memory(subject.here.tid);
    Ok(memory.and_then(|memory| memory.read_u64(address).ok()).filter(|at| *at != 0).map(Address))
}

/// Rows of the past, nearest first; the block that there is at the focus.
fn backwards(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    wanted: &Wanted,
    cursor: Option<Cursor>,
) -> Result<Option<Address>, Failure> {
    let sent = match cursor {
        Some(Cursor::Moment(Side::Before, at)) => at,
        _ => wanted.now,
    };
    // What was freed, and is not known yet to be a block that has the address.
    let mut pending: Vec<HeapCall> = Vec::new();
    let mut live = None;
    let mut found = false;
    let leaf = engine.leaf_at(wanted.now)?;
    let mut next = last_leaf(engine, leaf + 1)?;
    while let Some(leaf) = next {
        let calls: Arc<Vec<HeapCall>> = calls_in_leaf(engine, leaf)?;
        for call in calls.iter().rev().filter(|call| call.moment < wanted.now) {
            if asked.is_interrupted() {
                return Ok(live);
            }
            if !wanted.is_here(call) {
                continue;
            }
            let given = call.given.filter(|given| wanted.contains(*given));
            // In the middle of a call there is no result yet.
            let given = given.filter(|_| call.exit.is_some_and(|exit| exit <= wanted.now));
            if let Some((start, _)) = given {
                let freed = pending.iter().find(|freed| freed.freed == Some(start)).copied();
                let is_now = freed.is_none() && !found;
                if is_now {
                    live = Some(start);
                }
                found = true;
                pending.clear();
                let in_place = call.freed == Some(start);
                if let Some(freed) = freed.filter(|freed| freed.moment < sent) {
                    // A resize in place was told as such.
                    let told = freed.given.is_some_and(|given| wanted.contains(given));
                    if !told
                        && send(engine, asked, wanted, (Side::Before, "freed"), &freed, false)?
                            == Flow::Full
                    {
                        return Ok(live);
                    }
                }
                let kind = if call.freed.is_some() { "resized" } else { "allocated" };
                if call.moment < sent
                    && send(engine, asked, wanted, (Side::Before, kind), call, is_now)?
                        == Flow::Full
                {
                    return Ok(live);
                }
                if in_place {
                    pending.push(*call);
                    continue;
                }
            }
            let may_be = call.freed.is_some_and(|freed| freed <= wanted.address);
            if may_be && pending.len() < PENDING_MAX {
                pending.push(*call);
            }
        }
        if !asked.wants(Side::Before) && found {
            break;
        }
        next = last_leaf(engine, leaf)?;
    }
    Ok(live)
}

/// Rows of the future.
fn forwards(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    wanted: &Wanted,
    cursor: Option<Cursor>,
    mut live: Option<Address>,
) -> Result<(), Failure> {
    let sent = match cursor {
        Some(Cursor::Moment(Side::After, at)) => at + 1,
        _ => wanted.now,
    };
    let leaf = engine.leaf_at(wanted.now)?;
    let mut next = first_leaf(engine, leaf)?;
    while let Some(leaf) = next {
        let calls = calls_in_leaf(engine, leaf)?;
        for call in calls.iter().filter(|call| call.moment >= wanted.now) {
            if asked.is_interrupted() {
                return Ok(());
            }
            if !wanted.is_here(call) {
                continue;
            }
            let freed = call.freed.is_some() && call.freed == live;
            let given = call.given.filter(|given| wanted.contains(*given));
            let kind = match (freed, given) {
                (_, Some(_)) if call.freed.is_some() => "resized",
                (_, Some(_)) => "allocated",
                (true, None) => "freed",
                (false, None) => continue,
            };
            live = given.map(|(start, _)| start);
            if call.moment >= sent
                && send(engine, asked, wanted, (Side::After, kind), call, false)? == Flow::Full
            {
                return Ok(());
            }
        }
        next = first_leaf(engine, leaf + 1)?;
    }
    Ok(())
}

fn send(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    wanted: &Wanted,
    (side, kind): (Side, &'static str),
    call: &HeapCall,
    now: bool,
) -> Result<Flow, Failure> {
    if !asked.wants(side) {
        return Ok(asked.row_at(side, call.moment, &()));
    }
    let task = task_at(engine, call.tid, call.moment);
    let here = Here { moment: call.moment, tid: call.tid, task };
    let stack = Stack::at(engine, here)?;
    let mut places = Vec::new();
    let mut frame = None;
    for known in stack.frames.iter().take(FRAMES_MAX) {
        let spot = spot(engine, here, stack.space, known);
        for inlined in (0..spot.levels()).rev() {
            let place = spot.place(inlined);
            if frame.is_none() && place.own {
                let id = FrameId { entry: known.entry, inlined: inlined as u32 };
                frame = Some((id, place.clone()));
            }
            places.push(place);
        }
    }
    let place = match &frame {
        Some((_, place)) => place.clone(),
        None => places.first().cloned().unwrap_or_default(),
    };
    let given = call.given.filter(|given| wanted.contains(*given));
    let address = given.map(|(start, _)| start).or(call.freed).unwrap_or_default();
    let row = Row {
        kind,
        moment: MomentText(call.moment),
        task,
        address: address.into(),
        size: given.map(|(_, size)| size),
        now,
        place,
        stack: places,
        focus: Focus { frame: frame.map(|(id, _)| id), ..Focus::at(call.moment, task) },
    };
    Ok(asked.row_at(side, call.moment, &row))
}
