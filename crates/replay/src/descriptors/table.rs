//! One table of descriptors: what a number stands for in the tasks that share the table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DescriptionId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub description: DescriptionId,
    pub close_on_exec: bool,
}

/// Numbers that were never opened nor closed may have been inherited from whoever started the
/// recording; so what is gone is remembered as well.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Table {
    entries: BTreeMap<i32, Entry>,
    /// Ranges of numbers by their first, with their last: disjoint, not adjacent.
    known: BTreeMap<i32, i32>,
}

impl Table {
    pub fn get(&self, descriptor: i32) -> Option<Entry> {
        self.entries.get(&descriptor).copied()
    }

    pub fn entries(&self) -> impl Iterator<Item = (i32, Entry)> {
        self.entries.iter().map(|(&descriptor, &entry)| (descriptor, entry))
    }

    /// The entry that was there before.
    pub fn set(&mut self, descriptor: i32, entry: Entry) -> Option<Entry> {
        self.know(descriptor, descriptor);
        self.entries.insert(descriptor, entry)
    }

    pub fn remove(&mut self, descriptor: i32) -> Option<Entry> {
        self.know(descriptor, descriptor);
        self.entries.remove(&descriptor)
    }

    pub fn set_close_on_exec(&mut self, descriptor: i32, close_on_exec: bool) {
        if let Some(entry) = self.entries.get_mut(&descriptor) {
            entry.close_on_exec = close_on_exec;
        }
    }

    /// Whether the number has been opened or closed since the recording began.
    pub fn is_known(&self, descriptor: i32) -> bool {
        let before = self.known.range(..=descriptor).next_back();
        before.is_some_and(|(_, &last)| last >= descriptor)
    }

    /// From now on the numbers do not stand for what was inherited.
    pub fn know(&mut self, first: i32, last: i32) {
        let (mut first, mut last) = (first, last);
        let before = self.known.range(..first).next_back().map(|(&start, &end)| (start, end));
        if let Some((start, end)) = before
            && end >= first.saturating_sub(1)
        {
            (first, last) = (start, last.max(end));
        }
        while let Some((&start, &end)) = self.known.range(first..).next()
            && start <= last.saturating_add(1)
        {
            last = last.max(end);
            self.known.remove(&start);
        }
        self.known.insert(first, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(steps: &[(i32, i32)]) -> Vec<(i32, i32)> {
        let mut table = Table::default();
        steps.iter().for_each(|&(first, last)| table.know(first, last));
        table.known.into_iter().collect()
    }

    #[test]
    fn known_numbers_are_ranges() {
        assert_eq!(known(&[(3, 3), (5, 5)]), [(3, 3), (5, 5)]);
        assert_eq!(known(&[(3, 3), (5, 5), (4, 4)]), [(3, 5)]);
        assert_eq!(known(&[(3, 9), (5, 6)]), [(3, 9)]);
        assert_eq!(known(&[(5, 6), (3, 9)]), [(3, 9)]);
        assert_eq!(known(&[(5, 6), (8, 9), (3, i32::MAX)]), [(3, i32::MAX)]);
        assert_eq!(known(&[(3, i32::MAX), (4, 4)]), [(3, i32::MAX)]);
        assert_eq!(known(&[(i32::MIN, -1), (0, 2)]), [(i32::MIN, 2)]);
    }

    #[test]
    fn only_what_was_never_touched_may_be_inherited() {
        let entry = Entry { description: DescriptionId(1), close_on_exec: false };
        let mut table = Table::default();
        table.know(5, 7);
        table.set(9, entry);
        assert_eq!(table.remove(9), Some(entry));
        let unknown: Vec<_> = (3..11).filter(|&number| !table.is_known(number)).collect();
        assert_eq!(unknown, [3, 4, 8, 10]);
    }
}
