//! `output`: what was written to standard output and standard error, or to another descriptor.
//! `printed`: who wrote a byte of it.

use std::collections::BTreeMap;

use index::records::{decode, happening};
use machine::Watch;
use model::{Address, Moment, Tid};
use replay::{
    DescriptorEvent, Direction, Happening, MemoryId, Progress, Session, Stops, StreamId, Transfer,
};
use serde::Serialize;
use store::{Key, Owner, Tree};

use crate::ask::{Asked, Flow};
use crate::engine::{Engine, Here};
use crate::failure::{Code, Failure};
use crate::program::{in_program, own_frame};
use crate::protocol::{Focus, FrameId, MomentText, Place};

/// Bytes of one write that are sent.
const BYTES_MAX: u64 = 1 << 20;
const STANDARD: [i32; 2] = [1, 2];
/// Leaves that are searched for who filled a buffer.
const LEAVES_MAX: usize = 16;

/// A write to one of the streams that were asked for.
struct Written {
    /// The descriptor that its stream is asked for by.
    descriptor: i32,
    tid: Tid,
    /// When the bytes lie in memory.
    moment: Moment,
    transfer: Transfer,
}

#[derive(Serialize)]
struct Row {
    /// When the call began.
    moment: MomentText,
    task: u32,
    descriptor: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Hexadecimal, of what is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    /// Number of the first byte in the stream.
    offset: u64,
    focus: Focus,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let only: Option<i32> = asked.optional("descriptor")?;
    for written in written(engine, only)?.iter().skip(asked.offset()?) {
        let bytes = read(engine, written)?;
        let task = number(engine, written.tid, written.moment);
        let (text, bytes) = match String::from_utf8(bytes) {
            Ok(text) => (Some(text), None),
            Err(error) => {
                let hex = error.as_bytes().iter().map(|byte| format!("{byte:02x}"));
                (None, Some(hex.collect()))
            }
        };
        let moment = written.transfer.begun;
        let row = Row {
            moment: MomentText(moment),
            task,
            descriptor: written.descriptor,
            text,
            bytes,
            offset: written.transfer.start,
            focus: Focus::at(moment, task),
        };
        if asked.is_interrupted() || asked.row(&row) == Flow::Full {
            break;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct PrintedRow {
    moment: MomentText,
    task: u32,
    frame: FrameId,
    place: Place,
    /// Of the system call.
    write: MomentText,
    focus: Focus,
}

/// Who printed a byte: the innermost call of the user's own code when the byte came to where the
/// system call took it from. Streams of C's library keep bytes until their buffer is full, or the
/// program ends.
pub fn printed(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let descriptor: i32 = asked.argument("descriptor")?;
    let offset: u64 = asked.argument("offset")?;
    let all = written(engine, Some(descriptor))?;
    let of = all.iter().find(|written| {
        let transfer = &written.transfer;
        (transfer.start..transfer.start.saturating_add(transfer.length)).contains(&offset)
    });
    let written = of.ok_or_else(|| {
        let what = format!("nobody wrote byte {offset} of descriptor {descriptor}");
        Failure::new(Code::NotAvailable, what)
    })?;
    let write = written.transfer.begun;
    let task = number(engine, written.tid, written.moment);
    let put = match address(&written.transfer, offset - written.transfer.start) {
        Some(address) => last_write(engine, written.tid, address, write)?,
        None => None,
    };
    let at = |moment| Here { moment, tid: written.tid, task };
    let mut here = in_program(engine, at(put.unwrap_or(write)))?;
    let mut found = own_frame(engine, here)?;
    // A buffer that the system's code alone has filled: who wrote it knows more.
    if put.is_some() && !found.1.own {
        let calling = in_program(engine, at(write))?;
        let other = own_frame(engine, calling)?;
        if other.1.own {
            (here, found) = (calling, other);
        }
    }
    let (frame, place) = found;
    let moment = here.moment;
    let focus = Focus { frame: Some(frame), ..Focus::at(moment, here.task) };
    let row = PrintedRow {
        moment: MomentText(moment),
        task: here.task,
        frame,
        place,
        write: MomentText(write),
        focus,
    };
    let _ = asked.row(&row);
    Ok(())
}

/// Where a byte of a transfer lies.
fn address(transfer: &Transfer, mut index: u64) -> Option<Address> {
    for range in &transfer.memory {
        let length = range.end.0.saturating_sub(range.start.0);
        if index < length {
            return Some(Address(range.start.0 + index));
        }
        index -= length;
    }
    None
}

/// When a task's own instruction wrote a byte last, in front of that instruction.
fn last_write(
    engine: &mut Engine<'_>,
    tid: Tid,
    address: Address,
    before: Moment,
) -> Result<Option<Moment>, Failure> {
    let db = engine.db;
    let Some(MemoryId(space)) = engine.at(before)?.space_id(tid) else { return Ok(None) };
    let key = Key::Written { owner: Owner(space), bytes: address.0..address.0 + 1 };
    let tree = Tree::new(&db.reader);
    let mut border = engine.leaf_at(before)? + 1;
    for _ in 0..LEAVES_MAX {
        let Some(leaf) = tree.last_before(&key, border)? else { return Ok(None) };
        let end = db.reader.span(leaf)?.end.min(before);
        let session = engine.border(leaf)?;
        let watch = Watch { range: address.range(1), reads: false };
        session.set_stops(Stops { watches: vec![watch], ..Stops::default() })?;
        let outcome = last_stop(session, tid, end);
        // Whatever happened: nobody else wants to stop there.
        session.set_stops(Stops::default())?;
        session.take_observed(Vec::new())?;
        if let Some(moment) = outcome? {
            return Ok(Some(moment));
        }
        border = leaf;
    }
    Ok(None)
}

/// The last of the stops up to a moment at which the task is.
fn last_stop(session: &mut Session, tid: Tid, end: Moment) -> Result<Option<Moment>, Failure> {
    let mut last = None;
    while session.moment() < end {
        match session.advance(Some(end))? {
            Progress::Stop(stop) => {
                if stop.tid == tid && stop.moment < end {
                    last = Some(stop.moment);
                }
                // Beyond the instruction.
                session.advance(Some(Moment(stop.moment.0 + 1).min(end)))?;
            }
            Progress::Event(_) => {}
            _ => break,
        }
    }
    session.take_effects();
    Ok(last)
}

fn number(engine: &Engine<'_>, tid: Tid, moment: Moment) -> u32 {
    engine.db.history.task(tid, moment).map_or(1, |task| task.number.0)
}

/// All writes to the streams, in order of time. A stream is the one that the first process wrote
/// to by this number first; others may reach it by other numbers.
fn written(engine: &Engine<'_>, only: Option<i32>) -> Result<Vec<Written>, Failure> {
    let reader = &engine.db.reader;
    let mut all: Vec<(DescriptorEvent, Transfer)> = Vec::new();
    for number in 0..reader.leaves() {
        for happening in reader.leaf(number)?.happenings(Moment(0))? {
            let happening = happening?;
            if happening.kind != happening::DESCRIPTOR {
                continue;
            }
            let event: DescriptorEvent = decode(number, &happening.payload)?;
            if let Happening::Transferred(transfer) = &event.what
                && transfer.direction == Direction::Write
                && transfer.length > 0
            {
                let transfer = transfer.clone();
                all.push((event, transfer));
            }
        }
    }
    let root = engine.db.history.tasks.first().map(|task| task.tid);
    let mut streams: BTreeMap<StreamId, i32> = BTreeMap::new();
    let wanted = only.map_or(STANDARD.to_vec(), |only| vec![only]);
    for descriptor in wanted {
        let by = |(event, transfer): &&(DescriptorEvent, Transfer), tid: Option<Tid>| {
            transfer.descriptor == descriptor && tid.is_none_or(|tid| tid == event.tid)
        };
        let first = all.iter().find(|it| by(it, root)).or(all.iter().find(|it| by(it, None)));
        if let Some((_, transfer)) = first {
            streams.entry(transfer.stream).or_insert(descriptor);
        }
    }
    let mut written: Vec<Written> = Vec::new();
    for (event, transfer) in all {
        if let Some(descriptor) = streams.get(&transfer.stream) {
            let (tid, moment) = (event.tid, event.moment);
            written.push(Written { descriptor: *descriptor, tid, moment, transfer });
        }
    }
    written.sort_by_key(|written| written.transfer.begun);
    Ok(written)
}

/// The bytes, of which some may be gone from memory.
fn read(engine: &mut Engine<'_>, written: &Written) -> Result<Vec<u8>, Failure> {
    let session = engine.at(written.moment)?;
    let mut all = Vec::new();
    let Some(memory) = session.memory(written.tid) else { return Ok(all) };
    for range in &written.transfer.memory {
        let length = (range.end.0 - range.start.0).min(BYTES_MAX - all.len() as u64);
        let from = all.len();
        all.resize(from + length as usize, 0);
        if memory.read(range.start, &mut all[from..]).is_err() {
            all.truncate(from);
            break;
        }
    }
    Ok(all)
}
