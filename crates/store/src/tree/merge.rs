//! Making a node from its children: everything is merged in order of key, chunk by chunk.
//!
//! So the memory needed is one decoded chunk for each of the sixteen children and one for the
//! node, a few MB at any level and for any length of the run.

use std::sync::Arc;

use crate::error::Error;
use crate::items::{CodeRun, Count, Depths, PageDelta, TouchedLine, WordMask, set_words};
use crate::payload::{Items, Payload};
use crate::section::{Codec, Key};

/// A child's place among the sixteen.
pub type Child = u32;

/// The items of all children in order of key, those with equal keys together.
pub struct Merge<C: Codec> {
    children: Vec<Stream<C>>,
}

struct Stream<C: Codec> {
    items: Items<C>,
    /// The next one and its key.
    head: Option<(Key, C::Item)>,
}

impl<C: Codec> Stream<C> {
    fn advance(&mut self) -> Result<Option<C::Item>, Error> {
        let next = self.items.next().transpose()?.map(|item| (C::key(&item), item));
        Ok(std::mem::replace(&mut self.head, next).map(|(_, item)| item))
    }
}

impl<C: Codec> Merge<C> {
    pub fn new(children: &[Arc<Payload>], kind: u16) -> Result<Merge<C>, Error> {
        let mut streams = Vec::new();
        for payload in children {
            let items = Items::new(payload, (kind, 0), (0, 0))?;
            let mut stream = Stream { items, head: None };
            stream.advance()?;
            streams.push(stream);
        }
        Ok(Merge { children: streams })
    }

    /// The items with the least key.
    fn next_group(&mut self, group: &mut Vec<(Child, C::Item)>) -> Result<(), Error> {
        group.clear();
        let heads = self.children.iter().filter_map(|stream| Some(stream.head.as_ref()?.0));
        let Some(least) = heads.min() else { return Ok(()) };
        for (child, stream) in (0..).zip(&mut self.children) {
            if stream.head.as_ref().is_some_and(|(key, _)| *key == least)
                && let Some(item) = stream.advance()?
            {
                group.push((child, item));
            }
        }
        Ok(())
    }

    /// What `fold` makes of the items of each key.
    pub fn fold<T>(
        mut self,
        fold: impl Fn(&[(Child, C::Item)]) -> T,
    ) -> impl Iterator<Item = Result<T, Error>> {
        let mut group = Vec::new();
        std::iter::from_fn(move || match self.next_group(&mut group) {
            Ok(()) if group.is_empty() => None,
            Ok(()) => Some(Ok(fold(&group))),
            Err(error) => Some(Err(error)),
        })
    }
}

fn children_of<T>(group: &[(Child, T)]) -> u16 {
    group.iter().map(|(child, _)| 1 << child).sum()
}

pub fn fold_lines(group: &[(Child, TouchedLine)]) -> TouchedLine {
    let words = group.iter().fold(0, |words, (_, line)| words | line.words);
    TouchedLine { words, children: children_of(group), ..group[0].1 }
}

pub fn fold_counts(group: &[(Child, Count)]) -> Count {
    let count = group.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(count.count));
    Count { count, children: children_of(group), ..group[0].1 }
}

/// Children are leaves or nodes: what counts is the least of each.
pub fn fold_depths(group: &[(Child, Depths)]) -> Depths {
    let least = |(_, depths): &(Child, Depths)| depths.depths.iter().copied().min();
    Depths {
        task: group[0].1.task,
        children: children_of(group),
        depths: group.iter().filter_map(least).collect(),
    }
}

/// The newest value of each word.
pub fn fold_pages(group: &[(Child, PageDelta)]) -> PageDelta {
    let children = children_of(group);
    let mut sum = Overlay::default();
    for (_, page) in group.iter().rev() {
        sum.lay_below(page);
        if sum.closed {
            break;
        }
    }
    let page = group[0].1.page;
    let (dropped, words, values) = sum.finish();
    PageDelta { page, dropped, words, values, children }
}

/// A page put together from the newest entry to the oldest.
#[derive(Debug)]
pub struct Overlay {
    pub words: WordMask,
    pub values: [u64; crate::items::PAGE_WORDS],
    pub dropped: bool,
    /// What is older does not matter: all words are known, or the page was mapped anew.
    pub closed: bool,
}

impl Default for Overlay {
    fn default() -> Overlay {
        Overlay {
            words: [0; 8],
            values: [0; crate::items::PAGE_WORDS],
            dropped: false,
            closed: false,
        }
    }
}

impl Overlay {
    /// Adds what is older than everything up to now.
    pub fn lay_below(&mut self, older: &PageDelta) {
        if self.closed {
            return;
        }
        for (word, value) in set_words(&older.words).zip(&older.values) {
            if self.words[word / 64] >> (word % 64) & 1 == 0 {
                self.values[word] = *value;
            }
        }
        for (words, older) in self.words.iter_mut().zip(older.words) {
            *words |= older;
        }
        self.dropped |= older.dropped;
        self.closed = self.dropped || self.words == [u64::MAX; 8];
    }

    pub fn finish(&self) -> (bool, WordMask, Vec<u64>) {
        let values = set_words(&self.words).map(|word| self.values[word]).collect();
        (self.dropped, self.words, values)
    }
}

/// The sum of the children's runs: counts added where they overlap, with the set of children.
pub struct SumRuns {
    children: Vec<Stream<crate::columns::runs::Runs>>,
    /// Everything before is done.
    position: Key,
    pending: Option<CodeRun>,
}

impl SumRuns {
    pub fn new(children: &[Arc<Payload>], kind: u16) -> Result<SumRuns, Error> {
        let merge = Merge::new(children, kind)?;
        Ok(SumRuns { children: merge.children, position: (0, 0), pending: None })
    }

    /// The next piece with the same children throughout.
    fn next_piece(&mut self) -> Result<Option<CodeRun>, Error> {
        let position = self.position;
        let starts = self.children.iter().filter_map(|stream| {
            let (start, _) = stream.head.as_ref()?;
            Some((*start).max(position))
        });
        let Some(start) = starts.min() else { return Ok(None) };
        // Up to the next place where a run begins or ends.
        let mut end = u64::MAX;
        let (mut count, mut children) = (0_u64, 0_u16);
        for (child, stream) in (0..).zip(&self.children) {
            let Some((key, run)) = &stream.head else { continue };
            if *key > start {
                if key.0 == start.0 {
                    end = end.min(key.1);
                }
                continue;
            }
            end = end.min(run.end.0);
            count = count.saturating_add(run.count);
            children |= 1 << child;
        }
        self.position = (start.0, end);
        for stream in &mut self.children {
            let ended = |(key, run): &(Key, CodeRun)| (key.0, run.end.0) <= (start.0, end);
            if stream.head.as_ref().is_some_and(ended) {
                stream.advance()?;
            }
        }
        Ok(Some(CodeRun {
            owner: crate::items::Owner(start.0),
            start: model::Address(start.1),
            end: model::Address(end),
            count,
            children,
        }))
    }

    fn next_run(&mut self) -> Result<Option<CodeRun>, Error> {
        loop {
            let piece = self.next_piece()?;
            let Some(pending) = &mut self.pending else {
                if piece.is_none() {
                    return Ok(None);
                }
                self.pending = piece;
                continue;
            };
            match piece {
                Some(piece) if pending.continues_in(&piece) => pending.end = piece.end,
                piece => return Ok(std::mem::replace(&mut self.pending, piece)),
            }
        }
    }
}

impl Iterator for SumRuns {
    type Item = Result<CodeRun, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_run().transpose()
    }
}
