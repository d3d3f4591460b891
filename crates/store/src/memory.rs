//! Memory as it was at a border: the newest values of all words that ever changed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use crate::columns::kind;
use crate::columns::lineages::Lineages;
use crate::columns::pages::Pages;
use crate::error::Error;
use crate::items::{Lineage, Owner, PAGE_WORDS, PageDelta, PageId, WordMask, set_children};
use crate::leaf::class;
use crate::payload::{Items, Payload};
use crate::reader::Reader;
use crate::record::leaves_below;
use crate::tree::merge::Overlay;
use crate::tree::{Counted, FANOUT, Key, Tree};

/// Ancestors that an owner may have, at most. Deeper ones are cut off by giving an owner no parent
/// and whole copies of its pages ([`MemoryView::pages`] of the parent, and what is new).
pub const LINEAGE_MAX: usize = 16;

/// A page at a border, to be laid over what is mapped there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageView {
    /// Words whose values are known; the others are as mapped.
    pub words: WordMask,
    /// Zero where not known.
    pub values: Box<[u64; PAGE_WORDS]>,
}

/// Memory at the borders of leaves.
#[derive(Clone, Copy, Debug)]
pub struct MemoryView<'a> {
    reader: &'a Reader,
    leaves: u64,
}

/// Leaves whose deltas count for an owner, and in whose name they are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stretch {
    owner: Owner,
    leaves: Range<u64>,
}

impl<'a> MemoryView<'a> {
    /// Sees the leaves that the reader saw at its last refresh.
    pub fn new(reader: &'a Reader) -> MemoryView<'a> {
        MemoryView { reader, leaves: reader.leaves() }
    }

    /// The page at the beginning of leaf `border` (its number may be that of the next leaf that
    /// there will be). `None`: as mapped, or the owner did not exist yet.
    pub fn page(&self, page: PageId, border: u64) -> Result<Option<PageView>, Error> {
        self.check(border)?;
        let mut sum = Overlay::default();
        for stretch in self.stretches(page.owner, border)? {
            let page = PageId { owner: stretch.owner, ..page };
            self.lay(self.top(), 0, page, &stretch.leaves, &mut sum)?;
            if sum.closed {
                break;
            }
        }
        if sum.words == [0; 8] {
            return Ok(None);
        }
        Ok(Some(PageView { words: sum.words, values: Box::new(sum.values) }))
    }

    /// All pages of an owner that are not as mapped at a border, in order. Each node's part of the
    /// owner is decompressed once; one chunk of each is held.
    pub fn pages(&self, owner: Owner, border: u64) -> Result<Changes, Error> {
        self.check(border)?;
        self.changes(owner, &self.stretches(owner, border)?, true)
    }

    /// What changed of an owner from one border to another, the newest value of each word, in
    /// order of page; what its ancestors did before it was forked from them is not in it.
    /// A page that was mapped anew in between says so.
    pub fn changed(&self, owner: Owner, borders: Range<u64>) -> Result<Changes, Error> {
        self.check(borders.end)?;
        self.changes(owner, &[Stretch { owner, leaves: borders }], false)
    }

    /// Where an owner comes from, if that was stored.
    pub fn lineage(&self, owner: Owner) -> Result<Option<Lineage>, Error> {
        let key = Counted::Key { class: class::LINEAGE, key: u64::from(owner.0) };
        let leaf = Tree::new(self.reader).first_from(&Key::Counted(key), 0)?;
        let Some(leaf) = leaf else { return Ok(None) };
        let leaf = self.reader.leaf(leaf)?;
        match leaf.payload.section::<Lineages>(kind::LINEAGES, 0) {
            Some(section) => {
                section.find((0, u64::from(owner.0)), self.reader.cache(), Lineage::clone)
            }
            None => Ok(None),
        }
    }

    /// How many ancestors an owner has: [`LINEAGE_MAX`] at most, else an error.
    pub fn ancestors(&self, owner: Owner) -> Result<usize, Error> {
        Ok(self.stretches(owner, u64::MAX)?.len() - 1)
    }

    fn check(&self, border: u64) -> Result<(), Error> {
        match border <= self.leaves {
            true => Ok(()),
            false => Err(Error::NoSuchLeaf { leaf: border - 1, leaves: self.leaves }),
        }
    }

    /// The owner's own leaves first, then those of its ancestors.
    fn stretches(&self, owner: Owner, border: u64) -> Result<Vec<Stretch>, Error> {
        let mut stretches = Vec::new();
        let (mut current, mut end) = (owner, border);
        loop {
            let parent = self.lineage(current)?.and_then(|lineage| lineage.parent);
            let start = parent.map_or(0, |(_, border)| border);
            stretches.push(Stretch { owner: current, leaves: start..end });
            // The owner asked about may not exist yet. A fork of a fork within one leaf has taken
            // over what its grandparent had.
            let exists = end > start || (end == start && stretches.len() > 1);
            let Some((parent, border)) = parent.filter(|_| exists) else { break };
            if stretches.len() > LINEAGE_MAX {
                return Err(Error::LineageTooDeep { owner: owner.0, limit: LINEAGE_MAX });
            }
            (current, end) = (parent, border);
        }
        Ok(stretches)
    }

    fn top(&self) -> u8 {
        (0..).find(|level| self.leaves <= leaves_below(*level)).unwrap_or(0)
    }

    /// Lays what these leaves say about a page below what is newer.
    fn lay(
        &self,
        level: u8,
        number: u64,
        page: PageId,
        wanted: &Range<u64>,
        sum: &mut Overlay,
    ) -> Result<(), Error> {
        let own = self.leaves_of(level, number);
        if own.start >= wanted.end || own.end <= wanted.start || sum.closed {
            return Ok(());
        }
        let payload = self.reader.payload(level, number)?;
        let mut children = u16::MAX;
        if let Some(payload) = &payload {
            let whole = wanted.start <= own.start && own.end <= wanted.end;
            let mut visit = |delta: &PageDelta| {
                if whole {
                    sum.lay_below(delta);
                }
                delta.children
            };
            let section = payload.section::<Pages>(kind::MEMORY, 0);
            let key = (page.owner.0, page.page);
            let found = match section {
                Some(section) => section.find(key, self.reader.cache(), &mut visit)?,
                None => None,
            };
            match found {
                Some(with) if !whole => children = with,
                _ => return Ok(()),
            }
        }
        if level == 0 {
            return Err(Error::NoSuchLeaf { leaf: number, leaves: self.leaves });
        }
        for child in set_children(children).rev() {
            let child = number * FANOUT + u64::from(child);
            self.lay(level - 1, child, page, wanted, sum)?;
        }
        Ok(())
    }

    fn leaves_of(&self, level: u8, number: u64) -> Range<u64> {
        let width = leaves_below(level);
        let start = number.saturating_mul(width);
        start..start.saturating_add(width).min(self.leaves)
    }

    /// The fewest nodes that together are these leaves, newest first.
    fn cover(
        &self,
        level: u8,
        number: u64,
        wanted: &Range<u64>,
        out: &mut Vec<Arc<Payload>>,
    ) -> Result<(), Error> {
        let own = self.leaves_of(level, number);
        if own.start >= wanted.end || own.end <= wanted.start {
            return Ok(());
        }
        if wanted.start <= own.start
            && own.end <= wanted.end
            && let Some(payload) = self.reader.payload(level, number)?
        {
            out.push(payload);
            return Ok(());
        }
        if level == 0 {
            return Err(Error::NoSuchLeaf { leaf: number, leaves: self.leaves });
        }
        for child in (0..FANOUT).rev() {
            self.cover(level - 1, number * FANOUT + child, wanted, out)?;
        }
        Ok(())
    }

    fn changes(
        &self,
        owner: Owner,
        stretches: &[Stretch],
        settled: bool,
    ) -> Result<Changes, Error> {
        let mut changes = Changes { owner, sources: Vec::new(), heads: BinaryHeap::new(), settled };
        for stretch in stretches {
            let mut nodes = Vec::new();
            self.cover(self.top(), 0, &stretch.leaves, &mut nodes)?;
            for node in nodes {
                let from = (stretch.owner.0, 0);
                let items = Items::new(&node, (kind::MEMORY, 0), from)?;
                changes.sources.push(OwnedPages { items, owner: stretch.owner, head: None });
                changes.advance(changes.sources.len() - 1)?;
            }
        }
        Ok(changes)
    }
}

/// Changed pages, in order of page; see [`MemoryView::pages`] and [`MemoryView::changed`].
#[derive(Debug)]
pub struct Changes {
    owner: Owner,
    /// Newest first.
    sources: Vec<OwnedPages>,
    /// The next page of each source, with the newest source first among equals.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    /// Pages that are as mapped in the end are left out.
    settled: bool,
}

/// The pages of one owner in a leaf or node.
#[derive(Debug)]
struct OwnedPages {
    items: Items<Pages>,
    owner: Owner,
    head: Option<PageDelta>,
}

impl Changes {
    fn advance(&mut self, index: usize) -> Result<(), Error> {
        let source = &mut self.sources[index];
        source.head = None;
        for delta in source.items.by_ref() {
            let delta = delta?;
            if delta.page.owner > source.owner {
                break;
            }
            if delta.page.owner == source.owner {
                self.heads.push(Reverse((delta.page.page, index)));
                source.head = Some(delta);
                break;
            }
        }
        Ok(())
    }

    fn next_page(&mut self) -> Result<Option<PageDelta>, Error> {
        while let Some(Reverse((page, _))) = self.heads.peek().copied() {
            let mut sum = Overlay::default();
            while let Some(Reverse((_, index))) =
                self.heads.peek().copied().filter(|head| head.0.0 == page)
            {
                self.heads.pop();
                if let Some(delta) = self.sources[index].head.take() {
                    sum.lay_below(&delta);
                }
                self.advance(index)?;
            }
            let (dropped, words, values) = sum.finish();
            if self.settled && values.is_empty() {
                continue;
            }
            let page = PageId { owner: self.owner, page };
            let dropped = dropped && !self.settled;
            return Ok(Some(PageDelta { page, dropped, words, values, children: 1 }));
        }
        Ok(None)
    }
}

impl Iterator for Changes {
    type Item = Result<PageDelta, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_page();
        if next.is_err() {
            self.heads.clear();
        }
        next.transpose()
    }
}
