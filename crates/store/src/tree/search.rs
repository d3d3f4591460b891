//! Climbing and descending the tree.

use std::ops::Range;

use model::Tid;

use super::FANOUT;
use super::key::{Counted, Hit, Key, depths, probe};
use crate::error::Error;
use crate::items::set_children;
use crate::reader::Reader;
use crate::record::leaves_below;

/// Questions about which leaves something happened in.
///
/// They see the leaves that the reader saw at its last refresh; a tree that still grows has no
/// nodes at its right edge, and up to fifteen siblings a level are asked instead.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a> {
    reader: &'a Reader,
    leaves: u64,
}

/// Where the n-th occurrence of something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nth {
    pub leaf: u64,
    /// Which one of those in the leaf, from 0.
    pub rank: u64,
}

impl<'a> Tree<'a> {
    pub fn new(reader: &'a Reader) -> Tree<'a> {
        Tree { reader, leaves: reader.leaves() }
    }

    /// The last leaf before leaf `border` in which it happened.
    pub fn last_before(&self, key: &Key, border: u64) -> Result<Option<u64>, Error> {
        let mut number = border.min(self.leaves);
        let mut level = 0;
        while number > 0 {
            let (parent, place) = (number / FANOUT, number % FANOUT);
            let before = (1 << place) - 1;
            for child in set_children(self.children(level + 1, parent, key)? & before).rev() {
                let found = self.last_within(level, parent * FANOUT + u64::from(child), key)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            (number, level) = (parent, level + 1);
        }
        Ok(None)
    }

    /// The first leaf from leaf `border` on in which it happened.
    pub fn first_from(&self, key: &Key, border: u64) -> Result<Option<u64>, Error> {
        let mut number = border;
        let mut level = 0;
        while number < self.nodes(level) {
            let (parent, place) = (number / FANOUT, number % FANOUT);
            let from = u16::MAX << place;
            for child in set_children(self.children(level + 1, parent, key)? & from) {
                let found = self.first_within(level, parent * FANOUT + u64::from(child), key)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            (number, level) = (parent + 1, level + 1);
        }
        Ok(None)
    }

    /// How often it happened in these leaves.
    pub fn count(&self, counted: Counted, leaves: Range<u64>) -> Result<u64, Error> {
        let leaves = leaves.start..leaves.end.min(self.leaves);
        self.count_within(self.top(), 0, &Key::Counted(counted), &leaves)
    }

    /// The n-th occurrence (from 0) in the whole run; `None` if there are no more than `n`.
    pub fn nth(&self, counted: Counted, n: u64) -> Result<Option<Nth>, Error> {
        let (key, all) = (Key::Counted(counted), 0..self.leaves);
        let (mut level, mut number, mut rank) = (self.top(), 0, n);
        if self.count_within(level, number, &key, &all)? <= n {
            return Ok(None);
        }
        while level > 0 {
            let children = self.children(level, number, &key)?;
            level -= 1;
            let mut next = None;
            for child in set_children(children) {
                let child = number * FANOUT + u64::from(child);
                let count = self.count_within(level, child, &key, &all)?;
                if rank < count {
                    next = Some(child);
                    break;
                }
                rank -= count;
            }
            // A node whose count is not the sum of its children's: nothing can be told.
            let Some(child) = next else { return Ok(None) };
            number = child;
        }
        Ok(Some(Nth { leaf: number, rank }))
    }

    /// The least depth of a task's call stack in these leaves; `None` if it did not run there.
    pub fn min_depth(&self, task: Tid, leaves: Range<u64>) -> Result<Option<i64>, Error> {
        let leaves = leaves.start..leaves.end.min(self.leaves);
        self.min_depth_within(self.top(), 0, task, &leaves)
    }

    /// Nodes of a level, complete or not.
    fn nodes(&self, level: u8) -> u64 {
        self.leaves.div_ceil(leaves_below(level))
    }

    /// The least level with one node at most.
    fn top(&self) -> u8 {
        (0..).find(|level| self.nodes(*level) <= 1).unwrap_or(0)
    }

    /// What a node says; `None` if it does not exist, or not yet.
    fn hit(&self, level: u8, number: u64, key: &Key) -> Result<Option<Hit>, Error> {
        let Some(payload) = self.reader.payload(level, number)? else { return Ok(None) };
        probe(&payload, key, self.reader.cache()).map(Some)
    }

    /// The children of a node that may have it; all that there are if there is no such node.
    fn children(&self, level: u8, number: u64, key: &Key) -> Result<u16, Error> {
        Ok(match self.hit(level, number, key)? {
            Some(hit) => hit.children,
            None => {
                let first = number.saturating_mul(FANOUT);
                let existing = self.nodes(level - 1).saturating_sub(first).min(FANOUT);
                ((1_u32 << existing) - 1) as u16
            }
        })
    }

    fn last_within(&self, level: u8, number: u64, key: &Key) -> Result<Option<u64>, Error> {
        if level == 0 {
            return self.leaf_has(number, key);
        }
        for child in set_children(self.children(level, number, key)?).rev() {
            let found = self.last_within(level - 1, number * FANOUT + u64::from(child), key)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn first_within(&self, level: u8, number: u64, key: &Key) -> Result<Option<u64>, Error> {
        if level == 0 {
            return self.leaf_has(number, key);
        }
        for child in set_children(self.children(level, number, key)?) {
            let found = self.first_within(level - 1, number * FANOUT + u64::from(child), key)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn leaf_has(&self, leaf: u64, key: &Key) -> Result<Option<u64>, Error> {
        match self.hit(0, leaf, key)? {
            Some(hit) => Ok((hit.children != 0).then_some(leaf)),
            None => Err(Error::NoSuchLeaf { leaf, leaves: self.leaves }),
        }
    }

    fn count_within(
        &self,
        level: u8,
        number: u64,
        key: &Key,
        wanted: &Range<u64>,
    ) -> Result<u64, Error> {
        let own = self.leaves_of(level, number);
        if own.start >= wanted.end || own.end <= wanted.start {
            return Ok(0);
        }
        let hit = self.hit(level, number, key)?;
        if wanted.start <= own.start
            && own.end <= wanted.end
            && let Some(hit) = hit
        {
            return Ok(hit.count);
        }
        if level == 0 {
            return Err(Error::NoSuchLeaf { leaf: number, leaves: self.leaves });
        }
        let mut sum = 0_u64;
        for child in set_children(self.children(level, number, key)?) {
            let child = number * FANOUT + u64::from(child);
            sum = sum.saturating_add(self.count_within(level - 1, child, key, wanted)?);
        }
        Ok(sum)
    }

    fn min_depth_within(
        &self,
        level: u8,
        number: u64,
        task: Tid,
        wanted: &Range<u64>,
    ) -> Result<Option<i64>, Error> {
        let own = self.leaves_of(level, number);
        if own.start >= wanted.end || own.end <= wanted.start {
            return Ok(None);
        }
        let Some(payload) = self.reader.payload(level, number)? else {
            if level == 0 {
                return Err(Error::NoSuchLeaf { leaf: number, leaves: self.leaves });
            }
            return self.min_depth_of(
                level - 1,
                number * FANOUT..(number + 1) * FANOUT,
                task,
                wanted,
            );
        };
        let (mut least, mut partial) = (None, Vec::new());
        for (child, depth) in depths(&payload, task, self.reader.cache())? {
            // The child of a leaf is itself.
            let child = number * if level == 0 { 1 } else { FANOUT } + u64::from(child);
            let span = self.leaves_of(level.saturating_sub(1), child);
            if wanted.start <= span.start && span.end <= wanted.end {
                least = Some(least.map_or(depth, |least: i64| least.min(depth)));
            } else {
                partial.push(child);
            }
        }
        for child in partial {
            let depth = self.min_depth_within(level.saturating_sub(1), child, task, wanted)?;
            least = least.into_iter().chain(depth).min();
        }
        Ok(least)
    }

    fn min_depth_of(
        &self,
        level: u8,
        numbers: Range<u64>,
        task: Tid,
        wanted: &Range<u64>,
    ) -> Result<Option<i64>, Error> {
        let mut least = None;
        for number in numbers.start..numbers.end.min(self.nodes(level)) {
            let depth = self.min_depth_within(level, number, task, wanted)?;
            least = least.into_iter().chain(depth).min();
        }
        Ok(least)
    }

    /// The leaves below a node.
    fn leaves_of(&self, level: u8, number: u64) -> Range<u64> {
        let width = leaves_below(level);
        let start = number.saturating_mul(width);
        start..start.saturating_add(width).min(self.leaves)
    }
}
