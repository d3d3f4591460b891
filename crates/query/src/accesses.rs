//! Accesses to bytes of memory, found by executing a leaf with watches.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use iced_x86::{Decoder, DecoderOptions};
use index::records::{decode, happening};
use model::{Address, Moment, Tid};
use replay::{
    DescriptorEvent, Direction, Happening, MemoryId, Progress, Session, StopReason, Stops, Transfer,
};
use store::Tree;

use crate::database::Database;
use crate::effective;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::history::ChangeKind;
use crate::memory_identity::Bytes;

/// Accesses of one leaf that are kept: the last ones.
const ACCESSES_MAX: usize = 50_000;
/// Answers that are kept.
const KEPT_MAX: usize = 256;

/// Content of bytes; `None` where nothing is mapped.
pub type Content = Vec<Option<u8>>;

/// An access to some of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// At which the instruction is about to execute; behind what the kernel did.
    pub moment: Moment,
    pub tid: Tid,
    pub space: u32,
    /// The instruction.
    pub rip: Address,
    pub by: By,
    pub write: bool,
    /// Which of the bytes.
    pub part: Range<u64>,
    /// All bytes, before and behind.
    pub old: Content,
    pub new: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    Instruction,
    /// A system call with this number, or something else that the kernel did.
    Kernel(Option<i32>),
    Mapping(ChangeKind),
}

/// What was found in a leaf.
#[derive(Debug, Default)]
pub struct Found {
    /// In order of time.
    pub accesses: VecDeque<Access>,
    /// Earlier ones that were not kept.
    pub dropped: u64,
}

impl Found {
    fn push(&mut self, access: Access) {
        // Iterations of one instruction.
        if let Some(last) = self.accesses.back_mut()
            && (last.moment, last.tid, &last.by) == (access.moment, access.tid, &access.by)
            && last.by == By::Instruction
            && last.write == access.write
        {
            last.part = last.part.start.min(access.part.start)..last.part.end.max(access.part.end);
            last.new = access.new;
            return;
        }
        self.accesses.push_back(access);
        if self.accesses.len() > ACCESSES_MAX {
            self.accesses.pop_front();
            self.dropped += 1;
        }
    }
}

/// Answers that were given, the last one in front.
#[derive(Debug, Default)]
pub struct Kept(VecDeque<(Key, Arc<Found>)>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    leaf: u64,
    /// If it is not the whole leaf.
    piece: Option<Range<Moment>>,
    bytes: Bytes,
    reads: bool,
}

impl Kept {
    fn find(&mut self, key: &Key) -> Option<Arc<Found>> {
        let index = self.0.iter().position(|(known, _)| known == key)?;
        let kept = self.0.remove(index)?;
        let found = Arc::clone(&kept.1);
        self.0.push_front(kept);
        Some(found)
    }

    fn keep(&mut self, key: Key, found: Found) -> Arc<Found> {
        let found = Arc::new(found);
        self.0.push_front((key, Arc::clone(&found)));
        let mut total = 0;
        self.0.retain(|(_, found)| {
            total += found.accesses.len();
            total <= 2 * ACCESSES_MAX
        });
        self.0.truncate(KEPT_MAX);
        found
    }
}

/// All accesses to the bytes in a leaf: writes, or reads.
///
/// # Errors
///
/// What executing the leaf says.
pub fn in_leaf(
    engine: &mut Engine<'_>,
    bytes: &Bytes,
    leaf: u64,
    reads: bool,
) -> Result<Arc<Found>, Failure> {
    let key = Key { leaf, piece: None, bytes: bytes.clone(), reads };
    if let Some(found) = engine.accesses.find(&key) {
        return Ok(found);
    }
    let found = watch(engine, bytes, leaf, reads)?;
    Ok(engine.accesses.keep(key, found))
}

/// Writes to the bytes in a piece of a leaf: see [`Engine::pieces`].
///
/// # Errors
///
/// As of [`in_leaf`].
pub fn in_piece(
    engine: &mut Engine<'_>,
    bytes: &Bytes,
    leaf: u64,
    piece: Range<Moment>,
) -> Result<Arc<Found>, Failure> {
    let key = Key { leaf, piece: Some(piece.clone()), bytes: bytes.clone(), reads: false };
    if let Some(found) = engine.accesses.find(&key) {
        return Ok(found);
    }
    let transfers = received(engine.db, leaf)?;
    let session = engine.piece(piece.start)?;
    let mut found = watched(session, bytes, (piece.clone(), false), false, &transfers)?;
    add_mappings(engine.db, bytes, &piece, &mut found);
    Ok(engine.accesses.keep(key, found))
}

/// Executes a leaf with watches.
fn watch(engine: &mut Engine<'_>, bytes: &Bytes, leaf: u64, reads: bool) -> Result<Found, Failure> {
    let db = engine.db;
    let span = db.reader.span(leaf)?;
    let last = leaf + 1 == db.reader.leaves();
    let transfers = if reads { Vec::new() } else { received(db, leaf)? };
    let session = engine.border(leaf)?;
    let mut found = watched(session, bytes, (span.clone(), last), reads, &transfers)?;
    if !reads {
        add_mappings(db, bytes, &span, &mut found);
    }
    Ok(found)
}

fn watched(
    session: &mut Session,
    bytes: &Bytes,
    span: (Range<Moment>, bool),
    reads: bool,
    transfers: &[(DescriptorEvent, Transfer)],
) -> Result<Found, Failure> {
    let watches = bytes.watches(reads);
    session.set_stops(Stops { watches, ..Stops::default() })?;
    let outcome = follow(session, bytes, span, reads, transfers);
    // Whatever happened: nobody else wants to stop there.
    session.set_stops(Stops::default())?;
    session.take_observed(Vec::new())?;
    outcome
}

fn follow(
    session: &mut Session,
    bytes: &Bytes,
    (span, last): (Range<Moment>, bool),
    reads: bool,
    transfers: &[(DescriptorEvent, Transfer)],
) -> Result<Found, Failure> {
    let until = if last { Moment(u64::MAX) } else { span.end };
    let mut found = Found::default();
    let mut before = content(session, bytes);
    let mut pending: Option<Access> = None;
    loop {
        let target = match &pending {
            Some(access) => Moment(access.moment.0 + 1).min(until),
            None => until,
        };
        let began = session.moment();
        let progress = session.advance(Some(target))?;
        let effects = session.take_effects();
        let now = match pending.is_some() || !effects.is_empty() {
            true => content(session, bytes),
            false => before.clone(),
        };
        if let Some(mut access) = pending.take() {
            access.new = now.clone();
            found.push(access);
        }
        for effect in effects.iter().filter(|_| !reads) {
            let MemoryId(space) = effect.space;
            let Some(part) = bytes.part(space, &effect.range, session.moment()) else { continue };
            let report = match &progress {
                Progress::Event(report) => Some(report),
                _ => None,
            };
            let call = report.and_then(|report| call_number(&report.kind));
            let tid = report.map(|report| report.tid).or(session.current_task());
            let tid = tid.unwrap_or_default();
            // What a call did without an event of its own is known by when it was.
            let moment = report.map_or(began.max(span.start), |report| report.moment);
            found.push(Access {
                moment,
                tid,
                space,
                rip: session.registers(tid).unwrap_or_default().rip,
                by: By::Kernel(call),
                write: true,
                part,
                old: before.clone(),
                new: now.clone(),
            });
        }
        before = now;
        match progress {
            Progress::Stop(stop) => {
                // What was mapped meanwhile is told by its mapping.
                if before.contains(&None) {
                    before = content(session, bytes);
                }
                pending = about_to(session, bytes, &stop, reads, transfers, &before);
            }
            Progress::Event(_) => {}
            Progress::Moment if session.moment() < span.end => {}
            Progress::Moment if last => {}
            _ => break,
        }
        if session.is_over() {
            break;
        }
    }
    Ok(found)
}

/// The access that a task is about to make, if it is one that was asked for.
fn about_to(
    session: &Session,
    bytes: &Bytes,
    stop: &replay::Stop,
    reads: bool,
    transfers: &[(DescriptorEvent, Transfer)],
    before: &Content,
) -> Option<Access> {
    let StopReason::Watch { address, write } = stop.reason else { return None };
    let MemoryId(space) = session.space_id(stop.tid)?;
    let registers = session.registers(stop.tid)?;
    let memory = session.memory(stop.tid)?;
    let mut code = [0; 15];
    let length =
        (1..=15).rev().find(|length| memory.read(registers.rip, &mut code[..*length]).is_ok());
    let mut decoder = Decoder::with_ip(64, &code[..length?], registers.rip.0, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let mut part: Option<Range<u64>> = None;
    let mut loads = false;
    for touched in effective::touched(&instruction, &registers) {
        let Some(piece) = bytes.part(space, &touched.range, stop.moment) else { continue };
        loads |= touched.reads;
        if touched.reads && reads || touched.writes && !reads {
            part = Some(match part {
                Some(part) => part.start.min(piece.start)..part.end.max(piece.end),
                None => piece,
            });
        }
    }
    if reads && write && !loads {
        return None;
    }
    let part = match part {
        Some(part) => part,
        None => bytes.part(space, &address.range(1), stop.moment)?,
    };
    let mut access = Access {
        moment: stop.moment,
        tid: stop.tid,
        space,
        rip: registers.rip,
        by: By::Instruction,
        write: !reads,
        part,
        old: before.clone(),
        new: before.clone(),
    };
    // The recorder's library copies what a buffered call has read: that is the call.
    let call = transfers.iter().find(|(event, transfer)| {
        let memory = transfer.memory.iter().any(|range| range.contains(&address));
        event.tid == stop.tid
            && transfer.begun <= stop.moment
            && stop.moment < event.moment
            && memory
    });
    if let Some((event, _)) = call.filter(|_| !reads) {
        access.by = By::Kernel(event.call);
    }
    Some(access)
}

/// The bytes as one of the spaces sees them.
fn content(session: &Session, bytes: &Bytes) -> Content {
    let mut content = vec![None; bytes.length as usize];
    let moment = session.moment();
    // What was asked about last in the list: a child's own memory counts, not its parent's.
    for view in bytes.views.iter().filter(|view| view.is_at(moment)) {
        let Some(memory) = session.memory_of(MemoryId(view.space)) else { continue };
        let length = (view.range.end - view.range.start) as usize;
        let mut piece = vec![0; length];
        let at = view.at as usize;
        if memory.read(view.range.start, &mut piece).is_ok() {
            for (place, byte) in content[at..at + length].iter_mut().zip(&piece) {
                *place = Some(*byte);
            }
            continue;
        }
        for (index, place) in content[at..at + length].iter_mut().enumerate() {
            let mut byte = [0];
            if memory.read(view.range.start + index as u64, &mut byte).is_ok() {
                *place = Some(byte[0]);
            }
        }
    }
    content
}

/// The number in `SYSCALL 0 exiting`.
pub fn call_number(kind: &str) -> Option<i32> {
    kind.strip_prefix("SYSCALL ")?.split(' ').next()?.parse().ok()
}

/// What was read through descriptors in a leaf.
fn received(db: &Database, leaf: u64) -> Result<Vec<(DescriptorEvent, Transfer)>, Failure> {
    let all = transfers(db, leaf)?;
    Ok(all.into_iter().filter(|(_, transfer)| transfer.direction == Direction::Read).collect())
}

/// What moved through descriptors in a leaf.
///
/// # Errors
///
/// A leaf that is damaged.
pub fn transfers(db: &Database, leaf: u64) -> Result<Vec<(DescriptorEvent, Transfer)>, Failure> {
    let mut all = Vec::new();
    for happening in db.reader.leaf(leaf)?.happenings(Moment(0))? {
        let happening = happening?;
        if happening.kind != happening::DESCRIPTOR {
            continue;
        }
        let event: DescriptorEvent = decode(leaf, &happening.payload)?;
        if let Happening::Transferred(transfer) = &event.what {
            let transfer = transfer.clone();
            all.push((event, transfer));
        }
    }
    Ok(all)
}

/// Changes of mappings are accesses as well.
fn add_mappings(db: &Database, bytes: &Bytes, span: &Range<Moment>, found: &mut Found) {
    for view in bytes.views_in(span) {
        let Some(history) = db.history.spaces.get(&view.space) else { continue };
        let first = history.changes.partition_point(|change| change.moment < span.start);
        let changes = &history.changes[first..];
        for change in changes.iter().take_while(|change| change.moment < span.end) {
            let Some(part) = bytes.part(view.space, &change.range, change.moment) else { continue };
            if !view.is_at(change.moment) {
                continue;
            }
            let at = found.accesses.partition_point(|access| access.moment < change.moment);
            let nothing = vec![None; bytes.length as usize];
            let access = Access {
                moment: change.moment,
                tid: change.tid.unwrap_or_default(),
                space: view.space,
                rip: Address(0),
                by: By::Mapping(change.kind),
                write: true,
                part,
                old: nothing.clone(),
                new: nothing,
            };
            if found.accesses.get(at).is_none_or(|there| *there != access) {
                found.accesses.insert(at, access);
            }
        }
    }
}

/// The last leaf before `border` that can have an access.
///
/// # Errors
///
/// A database that is damaged.
pub fn last_leaf(
    db: &Database,
    bytes: &Bytes,
    border: u64,
    reads: bool,
) -> Result<Option<u64>, Failure> {
    let tree = Tree::new(&db.reader);
    let mut last = None;
    for key in bytes.keys(reads) {
        last = last.max(tree.last_before(&key, border)?);
    }
    for moment in mapping_moments(db, bytes).filter(|_| !reads) {
        let leaf = db.reader.leaf_at(moment)?;
        last = last.max(leaf.filter(|leaf| *leaf < border));
    }
    Ok(last)
}

/// The first leaf from `border` on that can have an access.
///
/// # Errors
///
/// A database that is damaged.
pub fn first_leaf(
    db: &Database,
    bytes: &Bytes,
    border: u64,
    reads: bool,
) -> Result<Option<u64>, Failure> {
    let tree = Tree::new(&db.reader);
    let mut first: Option<u64> = None;
    for key in bytes.keys(reads) {
        first = first.into_iter().chain(tree.first_from(&key, border)?).min();
    }
    for moment in mapping_moments(db, bytes).filter(|_| !reads) {
        let leaf = db.reader.leaf_at(moment)?.filter(|leaf| *leaf >= border);
        first = first.into_iter().chain(leaf).min();
    }
    Ok(first)
}

fn mapping_moments<'a>(db: &'a Database, bytes: &'a Bytes) -> impl Iterator<Item = Moment> + 'a {
    bytes.views.iter().flat_map(move |view| {
        let changes = db.history.spaces.get(&view.space).map(|history| &history.changes[..]);
        let overlaps =
            |range: &Range<Address>| range.start < view.range.end && view.range.start < range.end;
        let changes = changes.unwrap_or_default().iter();
        let there =
            changes.filter(move |change| view.is_at(change.moment) && overlaps(&change.range));
        there.map(|change| change.moment)
    })
}
