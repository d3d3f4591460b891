//! Bytes that the kernel put into memory: joined to who gave them to it, as far as recorded.

use index::records::{decode, happening};
use model::{Address, Moment, Tid};
use replay::{
    Description, DescriptionId, DescriptorEvent, Direction, Happening, Kind, Offset, Transfer,
};

use crate::accesses::transfers;
use crate::ask::Asked;
use crate::database::Database;
use crate::engine::Engine;
use crate::failure::Failure;

/// Bytes of a transfer.
#[derive(Clone, Debug)]
pub struct Moved {
    pub event: DescriptorEvent,
    pub transfer: Transfer,
    /// Of the first byte that is asked about, from the transfer's beginning.
    pub at: u64,
    /// How many of the bytes it has from there on.
    pub length: u64,
}

/// The read through a descriptor that put the byte at an address there, at a moment.
pub fn reader(
    engine: &Engine<'_>,
    tid: Tid,
    address: Address,
    moment: Moment,
) -> Result<Option<Moved>, Failure> {
    let first = engine.leaf_at(moment)?;
    // The event that tells may be behind the border.
    for leaf in [first, first + 1] {
        if leaf >= engine.db.reader.leaves() {
            break;
        }
        for (event, transfer) in transfers(engine.db, leaf)? {
            let during = transfer.begun <= moment && moment <= event.moment;
            if event.tid != tid || transfer.direction != Direction::Read || !during {
                continue;
            }
            if let Some((at, length)) = place(&transfer, address) {
                return Ok(Some(Moved { event, transfer, at, length }));
            }
        }
    }
    Ok(None)
}

/// Where in a transfer the byte at an address is, and how many follow it in memory.
fn place(transfer: &Transfer, address: Address) -> Option<(u64, u64)> {
    let mut at = 0;
    for range in &transfer.memory {
        if range.contains(&address) {
            return Some((at + (address - range.start), range.end - address));
        }
        at += range.end - range.start;
    }
    None
}

/// Where the byte of a transfer is in memory, and how many follow it there.
pub fn memory_of(transfer: &Transfer, at: u64) -> Option<(Address, u64)> {
    let mut before = 0;
    for range in &transfer.memory {
        let length = range.end - range.start;
        if (before..before + length).contains(&at) {
            return Some((range.start + (at - before), before + length - at));
        }
        before += length;
    }
    None
}

/// The write that put a byte of what was read where it was read from: into a pipe or socket at
/// the same position, or into the same file at the same place, before.
pub fn writer(
    engine: &Engine<'_>,
    asked: &mut Asked<'_>,
    moved: &Moved,
) -> Result<Option<Moved>, Failure> {
    let db = engine.db;
    let mut leaf = engine.leaf_at(moved.event.moment)?;
    let read = &moved.transfer;
    let file = match description(db, leaf, read.description)? {
        Some(description) if description.kind == Kind::File => description.file,
        _ => None,
    };
    let wanted = read.start + moved.at;
    let place = read.offset.map(|Offset { value, .. }| value + moved.at);
    loop {
        for (event, transfer) in transfers(db, leaf)?.into_iter().rev() {
            if transfer.direction != Direction::Write || event.moment > moved.event.moment {
                continue;
            }
            let at = if transfer.stream == read.stream && file.is_none() {
                wanted.checked_sub(transfer.start)
            } else if let (Some(file), Some(place), Some(offset)) = (file, place, transfer.offset) {
                let leaf = engine.leaf_at(event.moment)?;
                let same = description(db, leaf, transfer.description)?
                    .is_some_and(|description| description.file == Some(file));
                if same { place.checked_sub(offset.value) } else { None }
            } else {
                None
            };
            if let Some(at) = at.filter(|at| *at < transfer.length) {
                let length = transfer.length - at;
                return Ok(Some(Moved { event, transfer, at, length }));
            }
        }
        if leaf == 0 || asked.is_interrupted() {
            return Ok(None);
        }
        leaf -= 1;
    }
}

/// What is known of a description in a leaf or before it.
pub fn description(
    db: &Database,
    last: u64,
    id: DescriptionId,
) -> Result<Option<Description>, Failure> {
    for leaf in (0..=last).rev() {
        let mut known = None;
        for happening in db.reader.leaf(leaf)?.happenings(Moment(0))? {
            let happening = happening?;
            if happening.kind != happening::DESCRIPTOR {
                continue;
            }
            let event: DescriptorEvent = decode(leaf, &happening.payload)?;
            match event.what {
                Happening::Opened { description, .. } | Happening::Described { description }
                    if description.id == id =>
                {
                    known = Some(description);
                }
                _ => {}
            }
        }
        if known.is_some() {
            return Ok(known);
        }
    }
    Ok(None)
}

/// A description for people: `pipe`, `the file /etc/passwd`.
pub fn described(description: Option<&Description>) -> String {
    let Some(description) = description else { return "a descriptor".into() };
    let path = description.path.as_deref().map(String::from_utf8_lossy);
    let kind = match &description.kind {
        Kind::File => "the file",
        Kind::Directory => "the directory",
        Kind::Terminal => "the terminal",
        Kind::Device => "the device",
        Kind::Pipe => "a pipe",
        Kind::Socket { .. } => "a socket",
        Kind::Memory => "shared memory",
        Kind::ProcessMemory => "the memory of a process",
        Kind::PidFd { .. } => "a process",
        Kind::Special(name) => name,
        Kind::Unknown => "a descriptor that is older than the recording",
    };
    match path {
        Some(path) => format!("{kind} {path}"),
        None => kind.to_owned(),
    }
}
