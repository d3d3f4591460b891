//! Finding, making and dropping translations.

use std::collections::BTreeSet;

use model::Address;

use super::{Machine, RECENT, fetch};
use crate::block::{BLOCK_MAX, ExitKind, Mode, SourceView};
use crate::directory::{Directory, Single};
use crate::translate::{Tools, translate};
use crate::{Error, Space};

impl Machine {
    /// The fast block at `start`, made when there is none; `None` when it cannot be fetched.
    pub(super) fn fast_block(
        &mut self,
        space: &mut Space,
        start: Address,
    ) -> Result<Option<u32>, Error> {
        self.remember(start);
        if let Some(id) = self.directory(space).fast.get(&start) {
            return Ok(Some(*id));
        }
        let Some(id) = self.make(space, start, Mode::Fast, BLOCK_MAX)? else { return Ok(None) };
        let directory = self.directories.entry(space.id()).or_default();
        let view = self.cache.view(id);
        for range in view.source.ranges {
            if !directory.has_pages(range) {
                space.note_code(range.clone())?;
            }
        }
        directory.insert_fast(start, id, view.source.ranges);
        for exit in self.cache.blocks[id as usize].exits.clone() {
            let ExitKind::Link { target, .. } = self.cache.exits[exit as usize].kind else {
                continue;
            };
            if let Some(next) = directory.fast.get(&target) {
                self.cache.link(exit, *next);
            }
        }
        Ok(Some(id))
    }

    /// The block of the one instruction at `start`, compared with memory before it is used.
    pub(super) fn single_block(
        &mut self,
        space: &mut Space,
        start: Address,
        mode: Mode,
    ) -> Result<Option<u32>, Error> {
        let mut bytes = [0; 15];
        let length = space.fetch(start, &mut bytes);
        if let Some(single) = self.directory(space).single.get(&(start, mode)) {
            let single = *single;
            let n = usize::from(single.length);
            let source = self.cache.view(single.block).source;
            if n <= length
                && single.bytes[..n] == bytes[..n]
                && counts_the_same(&self.tools, space, source)
            {
                return Ok(Some(single.block));
            }
        }
        let Some(block) = self.make(space, start, mode, 1)? else { return Ok(None) };
        let length = self.cache.view(block).source.bytes.len() as u8;
        let single = Single { block, bytes, length };
        self.directory(space).single.insert((start, mode), single);
        Ok(Some(block))
    }

    pub(super) fn make(
        &mut self,
        space: &Space,
        start: Address,
        mode: Mode,
        most: usize,
    ) -> Result<Option<u32>, Error> {
        // Nothing is kept of an instruction that is cut off: its rest may come.
        let mut first = [0; 15];
        if space.fetch(start, &mut first) < first.len() && fetch(space, start).is_none() {
            return Ok(None);
        }
        let site = match self.cache.site(self.observations.executions.counters()) {
            Some(site) => site,
            None => {
                self.flush();
                self.cache.site(0).expect("an empty cache has room")
            }
        };
        if mode == Mode::Fast
            && let Some(id) = self.cache.copy(start, &site, |source| {
                !is_hooked(&self.hooks, source)
                    && holds(space, source)
                    && counts_the_same(&self.tools, space, source)
            })
        {
            self.statistics.blocks_copied += 1;
            return Ok(Some(id));
        }
        let translation =
            translate(&mut self.tools, space, start, mode, most, self.compiled, &self.hooks, site);
        if mode != Mode::Once {
            self.statistics.blocks_translated += 1;
            self.statistics.instructions_translated += translation.places.len() as u64;
        }
        self.observations.executions.add_counters(&translation.counters);
        let id = self.cache.insert(start, mode, translation);
        if mode == Mode::Fast && is_hooked(&self.hooks, self.cache.view(id).source) {
            self.cache.keep_from_copying(start, id);
        }
        Ok(Some(id))
    }

    pub(super) fn enter_code_map(
        &mut self,
        space: &Space,
        guest: Address,
        id: u32,
    ) -> Result<(), Error> {
        let Some(mapping) = space.mapping_at(guest) else { return Ok(()) };
        let range = mapping.range.clone();
        let code = self.cache.blocks[id as usize].hot.start;
        let miss = self.cache.indirect_stub;
        let directory = self.directories.entry(space.id()).or_default();
        directory.maps.enter(&mut self.code_maps, guest, &range, code, miss)
    }

    pub(super) fn directory(&mut self, space: &Space) -> &mut Directory {
        self.directories.entry(space.id()).or_default()
    }

    /// Drops translations of bytes that have changed.
    pub(super) fn drop_stale(&mut self, space: &mut Space) {
        let stale = space.take_stale();
        if stale.is_empty() {
            return;
        }
        let directory = self.directories.entry(space.id()).or_default();
        for range in stale {
            directory.invalidate(&range, &mut self.cache);
        }
    }

    /// Drops all translations.
    pub(super) fn flush(&mut self) {
        let counters = self.observations.executions.counters();
        if counters > 0 {
            let counters = self.fixed.counters(counters);
            let may_be_undone = self.observing.may_rewind();
            self.observations.executions.drop_counters(counters, may_be_undone);
        }
        self.cache.flush();
        let active = self.active;
        #[expect(clippy::iter_over_hash_type, reason = "every directory gets the same treatment")]
        for (id, directory) in &mut self.directories {
            directory.clear();
            directory.maps.clear(&mut self.code_maps, active == Some(*id));
        }
    }

    /// Forgets what was translated for an address space that is gone.
    pub fn forget_space(&mut self, space: &Space) {
        if let Some(mut directory) = self.directories.remove(&space.id()) {
            directory.maps.clear(&mut self.code_maps, self.active == Some(space.id()));
        }
        if self.active == Some(space.id()) {
            self.active = None;
        }
    }

    pub(super) fn remember(&mut self, start: Address) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(start);
    }
}

/// Whether hooks make a difference to a translation: it may have them in it, or end at one.
fn is_hooked(hooks: &BTreeSet<Address>, source: SourceView<'_>) -> bool {
    source.ranges.iter().any(|range| hooks.range(range.start..=range.end).next().is_some())
}

/// Whether the bytes that a translation was made from are executable and the same in `space`.
fn holds(space: &Space, source: SourceView<'_>) -> bool {
    let mut bytes = source.bytes;
    source.ranges.iter().all(|range| {
        let (wanted, rest) = bytes.split_at((range.end - range.start) as usize);
        bytes = rest;
        let mut there = [0; BLOCK_MAX * 15];
        let there = &mut there[..wanted.len()];
        space.fetch(range.start, there) == wanted.len() && there == wanted
    })
}

/// Whether the branches of a translation count in `space` as they did where it was made.
fn counts_the_same(tools: &Tools, space: &Space, source: SourceView<'_>) -> bool {
    let Some(filter) = &tools.ticks else { return true };
    source.branches.iter().all(|(address, counted)| filter.counts(space, *address) == *counted)
}
