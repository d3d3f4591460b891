//! What can be looked for in the tree, and what one leaf or node says about it.

use std::ops::Range;

use model::{Address, Tid};

use crate::cache::Cache;
use crate::columns::counts::Counts;
use crate::columns::depths::LeastDepths;
use crate::columns::kind;
use crate::columns::lines::Lines;
use crate::columns::runs::Runs;
use crate::error::Error;
use crate::items::{Owner, set_children};
use crate::payload::Payload;
use crate::section::{self, Codec};

/// Something that happens in some leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A write to one of the words of eight bytes that these bytes are in. Supersets: such a word
    /// may have been given the value that it had.
    Written { owner: Owner, bytes: Range<u64> },
    /// A read from one of the lines of 64 bytes that these bytes are in.
    Read { owner: Owner, bytes: Range<u64> },
    /// An execution of code in the range.
    Executed { owner: Owner, code: Range<Address> },
    /// The task's call stack being less deep than `limit`.
    Shallower { task: Tid, limit: i64 },
    /// Whatever is counted.
    Counted(Counted),
}

/// Something of which it is known how often it happened in each leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// An execution of the code byte at an address.
    Executed { owner: Owner, address: Address },
    /// A call of the function at an address.
    Called { owner: Owner, target: Address },
    /// Of a class of the builder's, or of [`crate::class`].
    Key { class: u32, key: u64 },
}

/// What a leaf or node says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// Children that may have it: supersets for ranges and words, exact for what is counted.
    pub children: u16,
    /// For what is counted.
    pub count: u64,
}

const WORD: u64 = 8;
const LINE: u64 = 64;

/// Asks one payload.
pub fn probe(payload: &Payload, key: &Key, cache: &Cache) -> Result<Hit, Error> {
    match key {
        Key::Written { owner, bytes } => probe_lines(payload, kind::WRITTEN, *owner, bytes, cache),
        Key::Read { owner, bytes } => probe_lines(payload, kind::READ, *owner, bytes, cache),
        Key::Executed { owner, code } => probe_code(payload, *owner, code, cache),
        Key::Shallower { task, limit } => {
            let depths = depths(payload, *task, cache)?;
            let shallow = depths.iter().filter(|(_, depth)| depth < limit);
            Ok(Hit { children: shallow.map(|(child, _)| 1 << child).sum(), count: 0 })
        }
        Key::Counted(counted) => probe_counted(payload, counted, cache),
    }
}

/// The least depth of a task in each child in which it ran.
pub fn depths(payload: &Payload, task: Tid, cache: &Cache) -> Result<Vec<(u32, i64)>, Error> {
    let Some(section) = payload.section::<LeastDepths>(kind::DEPTHS, 0) else {
        return Ok(Vec::new());
    };
    let key = (0, u64::from(task.0 as u32));
    let found = section.find(key, cache, |item| {
        set_children(item.children).zip(item.depths.iter().copied()).collect()
    })?;
    Ok(found.unwrap_or_default())
}

fn probe_counted(payload: &Payload, counted: &Counted, cache: &Cache) -> Result<Hit, Error> {
    let (kind, key) = match counted {
        Counted::Executed { owner, address } => {
            return probe_code(payload, *owner, &(*address..*address + 1), cache);
        }
        Counted::Called { owner, target } => (kind::CALLED, (owner.0, target.0)),
        Counted::Key { class, key } => (kind::KEYS, (*class, *key)),
    };
    let Some(section) = payload.section::<Counts>(kind, 0) else { return Ok(Hit::default()) };
    let hit =
        section.find(key, cache, |item| Hit { children: item.children, count: item.count })?;
    Ok(hit.unwrap_or_default())
}

fn probe_lines(
    payload: &Payload,
    kind: u16,
    owner: Owner,
    bytes: &Range<u64>,
    cache: &Cache,
) -> Result<Hit, Error> {
    let mut hit = Hit::default();
    if bytes.is_empty() {
        return Ok(hit);
    }
    let (first, last) = (bytes.start / LINE, (bytes.end - 1) / LINE);
    each_from::<Lines>(payload, kind, (owner.0, first), cache, |item| {
        if (item.owner, item.line) > (owner, last) {
            return false;
        }
        if (item.owner, item.line) < (owner, first) {
            return true;
        }
        // The words of this line that are asked about.
        let from = bytes.start.saturating_sub(item.line * LINE) / WORD;
        let to = ((bytes.end - 1 - item.line * LINE) / WORD).min(7);
        let asked = (0xff_u16 >> (7 - to)) as u8 & (0xff << from);
        let matches = kind == kind::READ || item.words & asked != 0;
        if matches {
            hit.children |= item.children;
        }
        true
    })?;
    Ok(hit)
}

fn probe_code(
    payload: &Payload,
    owner: Owner,
    code: &Range<Address>,
    cache: &Cache,
) -> Result<Hit, Error> {
    let mut hit = Hit::default();
    if code.is_empty() {
        return Ok(hit);
    }
    each_from::<Runs>(payload, kind::CODE, (owner.0, code.start.0), cache, |run| {
        if (run.owner, run.start) >= (owner, code.end) {
            return false;
        }
        if run.owner == owner && run.end > code.start {
            hit.children |= run.children;
            // The first byte decides; of a range nobody asks how often.
            if run.start <= code.start {
                hit.count = run.count;
            }
        }
        true
    })?;
    Ok(hit)
}

/// Visits items in order from the last one that is not behind `from` until told to stop.
fn each_from<C: Codec>(
    payload: &Payload,
    kind: u16,
    from: section::Key,
    cache: &Cache,
    mut visit: impl FnMut(&C::Item) -> bool,
) -> Result<(), Error> {
    let Some(section) = payload.section::<C>(kind, 0) else { return Ok(()) };
    let directory = section.directory(cache)?;
    let first = directory.partition_point(|chunk| chunk.first <= from).saturating_sub(1);
    for index in first..directory.len() {
        let items = section.chunk(index, cache)?;
        let start = items.partition_point(|item| C::key(item) <= from).saturating_sub(1);
        if !items[start..].iter().all(&mut visit) {
            break;
        }
    }
    Ok(())
}
