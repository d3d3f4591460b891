//! One guest address space with what Linux and rr know about it beyond pages.

use std::collections::BTreeMap;
use std::ops::Range;

use machine::{Backing, Protection, Space};
use model::{Address, Tid};
use serde::{Deserialize, Serialize};

use crate::numbers::{PROT_EXEC, PROT_READ, PROT_WRITE};
use crate::preload::BreakpointAt;
use crate::rr_page::THREAD_LOCALS_PAGE;

#[derive(Debug)]
pub struct AddressSpace {
    pub space: Space,
    pub marks: Marks,
}

/// What is known about addresses of a space, apart from mappings and contents.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Marks {
    /// Ranges that a forked child does not get, and those that it gets empty.
    pub dont_fork: Ranges,
    pub wipe_on_fork: Ranges,
    /// Stacks, for `PROT_GROWSDOWN`: ranges mapped with `MAP_GROWSDOWN`.
    pub grows_down: Ranges,
    /// Private mappings of files of which the recording has the contents, but not the file: what
    /// they were when mapped is not known any more.
    pub unknown_origin: Ranges,
    /// Whose bytes are in the thread-locals page now.
    pub active_task: Option<Tid>,
    /// Size of each System V segment by its address.
    pub segments: BTreeMap<Address, u64>,
    pub breakpoint: Option<BreakpointAt>,
    /// How many forks ago its ancestor was made by an exec, or was the first.
    pub generation: u32,
}

impl Marks {
    fn remove(&mut self, range: &Range<Address>) {
        self.dont_fork.remove(range);
        self.wipe_on_fork.remove(range);
        self.grows_down.remove(range);
        self.unknown_origin.remove(range);
    }

    /// What lies in `from` moves to `to`, as mremap(2) does with marks.
    pub fn relocate(&mut self, from: &Range<Address>, to: Address) {
        self.dont_fork.relocate(from, to);
        self.wipe_on_fork.relocate(from, to);
        self.grows_down.relocate(from, to);
        self.unknown_origin.relocate(from, to);
    }
}

impl AddressSpace {
    pub fn new(space: Space) -> AddressSpace {
        AddressSpace { space, marks: Marks::default() }
    }

    pub fn has_thread_locals(&self) -> bool {
        self.space.mapping_at(THREAD_LOCALS_PAGE).is_some()
    }

    /// A new mapping has none of the marks of what was there before.
    pub fn map(
        &mut self,
        range: Range<Address>,
        protection: Protection,
        backing: Backing,
    ) -> Result<(), machine::Error> {
        self.marks.remove(&range);
        self.space.map(range, protection, backing)
    }

    pub fn unmap(&mut self, range: Range<Address>) -> Result<(), machine::Error> {
        if range.is_empty() {
            return Ok(());
        }
        self.marks.remove(&range);
        self.space.unmap(range)
    }

    /// The end of the run of mapped addresses that begins at `start`.
    pub fn mapped_until(&self, start: Address) -> Address {
        let mut at = start;
        while let Some(mapping) = self.space.mapping_at(at) {
            at = mapping.range.end;
        }
        at
    }
}

/// `prot` of mmap(2) as the machine wants it.
pub fn protection(prot: i32) -> Protection {
    Protection {
        read: prot & (PROT_READ | PROT_WRITE | PROT_EXEC) != 0,
        write: prot & PROT_WRITE != 0,
        execute: prot & PROT_EXEC != 0,
    }
}

/// A set of addresses, as disjoint ranges in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(Vec<Range<Address>>);

impl Ranges {
    pub fn insert(&mut self, range: Range<Address>) {
        if range.is_empty() {
            return;
        }
        self.remove(&range);
        let at = self.0.partition_point(|known| known.start < range.start);
        self.0.insert(at, range);
    }

    pub fn remove(&mut self, range: &Range<Address>) {
        let old = std::mem::take(&mut self.0);
        for known in old {
            if known.end <= range.start || range.end <= known.start {
                self.0.push(known);
                continue;
            }
            if known.start < range.start {
                self.0.push(known.start..range.start);
            }
            if range.end < known.end {
                self.0.push(range.end..known.end);
            }
        }
    }

    pub fn containing(&self, address: Address) -> Option<&Range<Address>> {
        self.0.iter().find(|known| known.contains(&address))
    }

    pub fn touches(&self, range: &Range<Address>) -> bool {
        self.0.iter().any(|known| known.start < range.end && range.start < known.end)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Range<Address>> {
        self.0.iter()
    }

    pub fn relocate(&mut self, from: &Range<Address>, to: Address) {
        let moved: Vec<_> = self
            .0
            .iter()
            .map(|known| known.start.max(from.start)..known.end.min(from.end))
            .filter(|part| part.start < part.end)
            .collect();
        self.remove(from);
        for part in moved {
            self.insert(to + (part.start - from.start)..to + (part.end - from.start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[Range<u64>]) -> Ranges {
        let mut ranges = Ranges::default();
        for range in list {
            ranges.insert(Address(range.start)..Address(range.end));
        }
        ranges
    }

    #[test]
    fn removing_splits() {
        let mut set = ranges(&[0..10, 20..30]);
        set.remove(&(Address(5)..Address(25)));
        assert_eq!(set, ranges(&[0..5, 25..30]));
        set.remove(&(Address(1)..Address(2)));
        assert_eq!(set, ranges(&[0..1, 2..5, 25..30]));
    }

    #[test]
    fn relocating_moves_only_what_is_inside() {
        let mut set = ranges(&[0..10, 20..30]);
        set.relocate(&(Address(5)..Address(25)), Address(105));
        assert_eq!(set, ranges(&[0..5, 25..30, 105..110, 120..125]));
        assert_eq!(set.containing(Address(121)), Some(&(Address(120)..Address(125))));
    }
}
