//! Which guest addresses are taken, and where a mapping without a wish goes.

use std::collections::BTreeMap;
use std::ops::Range;

use model::{Address, PAGE_SIZE};

/// The end of the user half that Linux gives to programs.
const END: u64 = 0x7fff_ffff_f000;
/// Mappings without a wish are placed below this, from the top down. The program's stack lies
/// above, in the same unit of 4 GiB.
const TOP: u64 = 0x7fff_f7ff_f000;
const BOTTOM: u64 = 0x1_0000;

/// Taken ranges, adjacent ones joined: start to end.
#[derive(Debug, Default)]
pub struct AddressMap {
    taken: BTreeMap<u64, u64>,
}

impl AddressMap {
    pub fn new() -> AddressMap {
        AddressMap::default()
    }

    pub fn is_free(&self, range: &Range<Address>) -> bool {
        let before = self.taken.range(..range.end.0).next_back();
        range.start.0 < range.end.0
            && range.start.0 >= BOTTOM
            && range.end.0 <= END
            && before.is_none_or(|(_, end)| *end <= range.start.0)
    }

    /// The highest free range of `length` bytes.
    pub fn find(&self, length: u64) -> Option<Range<Address>> {
        let mut top = TOP;
        for (start, end) in self.taken.range(..TOP).rev() {
            if top.checked_sub(length).is_some_and(|place| place >= *end) {
                break;
            }
            top = top.min(*start);
        }
        let place = top.checked_sub(length).filter(|place| *place >= BOTTOM)?;
        let range = Address(place).range(length);
        self.is_free(&range).then_some(range)
    }

    pub fn take(&mut self, range: &Range<Address>) {
        self.free(range);
        let (mut start, mut end) = (range.start.0, range.end.0);
        if let Some((before, before_end)) = self.taken.range(..start).next_back()
            && *before_end == start
        {
            start = *before;
        }
        if let Some(after_end) = self.taken.remove(&end) {
            end = after_end;
        }
        self.taken.insert(start, end);
    }

    pub fn free(&mut self, range: &Range<Address>) {
        let (start, end) = (range.start.0, range.end.0);
        while let Some((first, last)) = self.taken.range(..end).next_back().map(|(a, b)| (*a, *b))
            && last > start
        {
            self.taken.remove(&first);
            if first < start {
                self.taken.insert(first, start);
            }
            if last > end {
                self.taken.insert(end, last);
            }
            if first <= start {
                break;
            }
        }
    }
}

/// `length` rounded up to whole pages; `None` for nothing, and for more than there can be.
pub fn whole_pages(length: u64) -> Option<u64> {
    let length = length.checked_next_multiple_of(PAGE_SIZE)?;
    (length > 0 && length <= END).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Range<Address> {
        Address(start)..Address(end)
    }

    #[test]
    fn places_from_the_top_and_reuses_holes() {
        let mut map = AddressMap::new();
        let first = map.find(0x3000).unwrap();
        assert_eq!(first.end, Address(TOP));
        map.take(&first);
        let second = map.find(0x1000).unwrap();
        assert_eq!(second.end, first.start);
        map.take(&second);
        map.free(&range(TOP - 0x2000, TOP - 0x1000));
        assert_eq!(map.find(0x1000).unwrap(), range(TOP - 0x2000, TOP - 0x1000));
        assert_eq!(map.find(0x2000).unwrap().end, second.start);
    }

    #[test]
    fn joins_neighbours_and_splits() {
        let mut map = AddressMap::new();
        map.take(&range(0x10_0000, 0x10_1000));
        map.take(&range(0x10_2000, 0x10_3000));
        map.take(&range(0x10_1000, 0x10_2000));
        assert_eq!(map.taken.len(), 1);
        assert!(!map.is_free(&range(0x10_1000, 0x10_4000)));
        map.free(&range(0x10_1000, 0x10_2000));
        assert!(map.is_free(&range(0x10_1000, 0x10_2000)));
        assert!(!map.is_free(&range(0x0f_f000, 0x10_1000)));
        map.free(&range(0, END));
        assert_eq!(map.taken.len(), 0);
    }
}
