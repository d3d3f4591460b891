//! Addresses as the linker gave them, and look-up of ranges by address.

use std::fmt;
use std::ops::Range;

use model::Address;

/// An address inside a module as its file states it. Where the module is mapped adds a bias.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LinkAddress(pub u64);

impl LinkAddress {
    /// Where this is at run time, in a module loaded with `bias`.
    pub fn loaded(self, bias: u64) -> Address {
        Address(self.0.wrapping_add(bias))
    }

    /// What a run-time address is in the file of a module loaded with `bias`.
    pub fn from_loaded(address: Address, bias: u64) -> LinkAddress {
        LinkAddress(address.0.wrapping_sub(bias))
    }
}

impl fmt::Display for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Addresses from the first to in front of the second.
pub type LinkRange = Range<LinkAddress>;

pub(crate) fn link_range(range: &Range<u64>) -> LinkRange {
    LinkAddress(range.start)..LinkAddress(range.end)
}

/// Sorts, drops empty ranges and joins those that touch.
pub(crate) fn normalise(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Ranges, possibly overlapping, each with something attached.
#[derive(Debug)]
pub(crate) struct RangeMap<T> {
    /// Ascending by start, then end, then the order they came in.
    entries: Vec<(Range<u64>, T)>,
    /// The highest end among this and all earlier entries: where a search backwards may stop.
    end_max: Vec<u64>,
}

impl<T> Default for RangeMap<T> {
    fn default() -> Self {
        RangeMap { entries: Vec::new(), end_max: Vec::new() }
    }
}

impl<T> RangeMap<T> {
    pub fn new(mut entries: Vec<(Range<u64>, T)>) -> RangeMap<T> {
        entries.sort_by_key(|(range, _)| (range.start, range.end));
        let mut end = 0;
        let end_max = entries.iter().map(|(range, _)| {
            end = end.max(range.end);
            end
        });
        let end_max = end_max.collect();
        RangeMap { entries, end_max }
    }

    /// What contains the address, the one that begins last first.
    pub fn containing(&self, address: u64) -> impl Iterator<Item = &(Range<u64>, T)> {
        let behind = self.entries.partition_point(|(range, _)| range.start <= address);
        let candidates = self.entries[..behind].iter().zip(&self.end_max[..behind]).rev();
        candidates
            .take_while(move |(_, end_max)| **end_max > address)
            .map(|(entry, _)| entry)
            .filter(move |(range, _)| range.end > address)
    }

    pub fn entries(&self) -> &[(Range<u64>, T)] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn innermost_first() {
        let map = RangeMap::new(vec![(10..20, 'a'), (0..100, 'b'), (12..14, 'c'), (30..31, 'd')]);
        let at = |address| map.containing(address).map(|(_, c)| *c).collect::<String>();
        assert_eq!(at(13), "cab");
        assert_eq!(at(14), "ab");
        assert_eq!(at(20), "b");
        assert_eq!(at(30), "db");
        assert_eq!(at(100), "");
    }

    #[test]
    fn joins_what_touches() {
        assert_eq!(normalise(vec![5..9, 1..2, 9..10, 2..3, 4..4]), [1..3, 5..10]);
    }
}
