//! Going back: snapshots, and address spaces put aside.
//!
//! Both rest on one record of contents: the pages that are not as they were when mapped, as of
//! the last time somebody looked, and the set of pages that may have changed since. The record
//! follows every change of mappings, so that whatever it does not have is untouched and need
//! not be kept: zero pages and unchanged pages of files. With marks of written words the set of
//! changed pages is exact and a snapshot costs what was written; without, all pages that exist
//! are compared. Equal contents give equal records: a page that was written with what it held
//! when mapped is not kept.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use model::Address;

use super::code::runs;
use super::host::{self, PAGE};
use super::pages::{Page, Pages};
use super::{Backing, Error, Mapping, Space, pages_of, residency};
use crate::layout::UNIT_SHIFT;

const ZERO: Page = [0; PAGE as usize];

/// What is known of the contents of private memory.
#[derive(Debug, Default)]
pub struct Contents {
    /// Pages that differ from what was mapped; exact but for `dirty`.
    pub pages: Pages,
    /// Pages that may have changed since, in any order and with repetitions.
    dirty: Vec<u64>,
    /// When `dirty` is to be tidied.
    dirty_limit: usize,
    /// `dirty` has everything; otherwise all pages are suspect.
    pub dirty_complete: bool,
    /// Somebody has a snapshot: `pages` shares memory with it.
    shared: bool,
    /// The mappings, until they change.
    mappings: Option<Arc<[Mapping]>>,
    /// What was done, for tests and figures.
    pub costs: Costs,
}

/// Pages handled since the space was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    pub compared: u64,
    pub copied: u64,
    pub restored: u64,
}

impl Contents {
    #[inline]
    pub fn note_dirty(&mut self, page: u64) {
        if !self.dirty_complete || self.dirty.last() == Some(&page) {
            return;
        }
        if self.dirty.len() > self.dirty_limit {
            self.dirty.sort_unstable();
            self.dirty.dedup();
            self.dirty_limit = (self.dirty.len() * 2).max(1 << 14);
        }
        self.dirty.push(page);
    }

    /// The pages of a range are as mapped.
    pub fn forget(&mut self, range: &Range<Address>) {
        self.pages.remove_range(pages_of(range));
    }

    pub fn mappings_changed(&mut self) {
        self.mappings = None;
    }

    /// Mappings moved; at the target nothing is known.
    pub fn move_range(&mut self, from: &Range<Address>, to: Address) {
        let pages = pages_of(from);
        let moved = |page: u64| to.0 / PAGE + (page - pages.start);
        let dirty: Vec<u64> = self.dirty.iter().copied().filter(|p| pages.contains(p)).collect();
        self.dirty.extend(dirty.into_iter().map(moved));
        let contents = self.pages.range(pages.clone());
        self.pages.remove_range(pages.clone());
        for (page, contents) in contents {
            self.pages.insert(moved(page), contents);
        }
    }
}

/// The mappings and private contents of an address space at one time; contents of shared objects
/// are for [`super::SharedObject::snapshot`]. Clones, and successive snapshots of a space, share
/// what is the same.
#[derive(Clone, Debug)]
pub struct Snapshot {
    mappings: Arc<[Mapping]>,
    pages: Pages,
}

impl Snapshot {
    /// A snapshot that was taken elsewhere: mappings in ascending order, and the private pages
    /// that are not as mapped.
    ///
    /// # Errors
    ///
    /// [`Error::BadRange`] for a mapping that could not be made or lies in another,
    /// [`Error::NotMapped`] for a page outside of private mappings.
    pub fn new(mappings: Vec<Mapping>, pages: Pages) -> Result<Snapshot, Error> {
        let mut end = Address(0);
        for mapping in &mappings {
            super::check_range(&mapping.range)?;
            if mapping.range.start < end || !mapping.backing.reaches(mapping.size()) {
                return Err(Error::BadRange(mapping.range.clone()));
            }
            end = mapping.range.end;
        }
        for (page, _) in pages.all() {
            let at = page * PAGE;
            let behind = mappings.partition_point(|mapping| mapping.range.start.0 <= at);
            let mapping = behind.checked_sub(1).map(|index| &mappings[index]);
            let private = mapping.is_some_and(|mapping| {
                at < mapping.range.end.0 && !matches!(mapping.backing, Backing::Shared { .. })
            });
            if !private {
                return Err(Error::NotMapped(Address(at)));
            }
        }
        Ok(Snapshot { mappings: mappings.into(), pages })
    }

    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// Private pages that are kept because they are not as mapped, by the number of their
    /// address.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }
}

impl Space {
    /// Keeps the mappings and private contents of now. Marks that nobody took yet stay.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        self.update_contents()?;
        self.contents.shared = true;
        let mappings = match &self.contents.mappings {
            Some(mappings) => mappings.clone(),
            None => {
                let mappings: Arc<[Mapping]> = self.mappings.values().cloned().collect();
                self.contents.mappings = Some(mappings.clone());
                mappings
            }
        };
        Ok(Snapshot { mappings, pages: self.contents.pages.clone() })
    }

    /// Makes mappings and private contents those of a snapshot, of this or of another space (so
    /// that a fork is a restore into a new space). Nothing is marked as written, marks that nobody
    /// took stay, and code made of what changes is stale. After an error the space is in
    /// between, but can be restored again.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        self.unpark()?;
        let mut suspects: BTreeSet<u64> = self.take_dirty()?.into_iter().collect();
        self.contents.dirty_complete = false;
        self.restore_mappings(&snapshot.mappings)?;
        suspects.extend(self.contents.pages.differences(&snapshot.pages));
        let mut pristine = Vec::new();
        for page in suspects {
            match snapshot.pages.get(page) {
                Some(contents) => self.restore_page(page, contents)?,
                None => pristine.push(page),
            }
        }
        self.restore_pristine(&pristine)?;
        self.contents.pages = snapshot.pages.clone();
        self.contents.shared = true;
        self.contents.mappings = Some(snapshot.mappings.clone());
        self.contents.dirty_complete = self.written_marked();
        Ok(())
    }

    /// Gives up host memory, keeping contents as they are needed: changed pages. Whatever needs
    /// host memory next brings it back; reading and taking snapshots do not.
    pub fn park(&mut self) -> Result<(), Error> {
        if self.parked {
            return Ok(());
        }
        self.update_contents()?;
        self.parked = true;
        self.islands.clear();
        self.islands_version += 1;
        self.forget_shields(&(Address(0)..Address(super::USER_END)));
        Ok(())
    }

    /// Undoes `park`.
    pub fn unpark(&mut self) -> Result<(), Error> {
        if !self.parked {
            return Ok(());
        }
        let made = self.make_host_memory();
        if made.is_err() {
            self.islands.clear();
            self.islands_version += 1;
            self.forget_shields(&(Address(0)..Address(super::USER_END)));
            return made;
        }
        self.parked = false;
        if !self.contents.shared {
            // Nobody shares these copies: comparing later is cheaper than keeping them.
            self.contents.pages = Pages::default();
            self.contents.dirty_complete = false;
        }
        Ok(())
    }

    fn make_host_memory(&mut self) -> Result<(), Error> {
        let mut in_use: Vec<Range<u64>> = Vec::new();
        for mapping in self.mappings.values() {
            let units =
                mapping.range.start.0 >> UNIT_SHIFT..((mapping.range.end.0 - 1) >> UNIT_SHIFT) + 1;
            match in_use.last_mut() {
                Some(last) if units.start <= last.end => last.end = last.end.max(units.end),
                _ => in_use.push(units),
            }
        }
        for units in in_use {
            let range = Address(units.start << UNIT_SHIFT)..Address(units.end << UNIT_SHIFT);
            self.ensure_units(&range)?;
        }
        let mappings: Vec<Mapping> = self.mappings.values().cloned().collect();
        for mapping in &mappings {
            self.map_host(mapping)?;
            let kept = self.contents.pages.range(pages_of(&mapping.range));
            if mapping.protection.write {
                let numbers: Vec<u64> = kept.iter().map(|(page, _)| *page).collect();
                for run in runs(&numbers).into_iter().filter(|run| run.end - run.start > 1) {
                    let start = self.place(run.start * PAGE);
                    host::populate(start, (run.end - run.start) * PAGE);
                }
            }
            for (page, contents) in kept {
                self.write_piece(mapping, Address(page * PAGE), &contents[..])?;
            }
        }
        self.shield(&(Address(0)..Address(super::USER_END)))
    }

    /// Makes the record of contents exact.
    fn update_contents(&mut self) -> Result<(), Error> {
        if self.parked {
            return Ok(());
        }
        let dirty = self.take_dirty()?;
        self.contents.dirty_complete = false;
        let mut buffer = ZERO;
        for page in dirty {
            let at = Address(page * PAGE);
            let Some(mapping) = self.mapping_at(at) else { continue };
            if matches!(mapping.backing, Backing::Shared { .. }) {
                continue;
            }
            self.read(at, &mut buffer)?;
            let known = self.contents.pages.get(page).is_some_and(|known| **known == buffer);
            let as_mapped = !known && is_as_mapped(mapping, at, &buffer)?;
            let contents = &mut self.contents;
            contents.costs.compared += 1;
            if as_mapped {
                contents.pages.remove(page);
            } else if !known {
                contents.costs.copied += 1;
                contents.pages.insert(page, Arc::new(buffer));
            }
        }
        self.contents.dirty_complete = self.written_marked();
        Ok(())
    }

    /// Pages whose record may be wrong, sorted; the set is empty afterwards.
    fn take_dirty(&mut self) -> Result<Vec<u64>, Error> {
        self.harvest()?;
        let mut dirty = std::mem::take(&mut self.contents.dirty);
        if !self.contents.dirty_complete {
            dirty.clear();
            for mapping in self.mappings.values() {
                if matches!(mapping.backing, Backing::Shared { .. }) {
                    continue;
                }
                let host = self.place(mapping.range.start.0);
                let displacement = host.wrapping_sub(mapping.range.start.0);
                let runs = residency::changed_pages(host..host + mapping.size());
                let runs = runs.map_err(|source| {
                    host::error(format!("looking for changed pages of {:?}", mapping.range), source)
                })?;
                let guest = |host: u64| host.wrapping_sub(displacement) / PAGE;
                dirty.extend(runs.into_iter().flat_map(|run| guest(run.start)..guest(run.end)));
            }
        }
        dirty.sort_unstable();
        dirty.dedup();
        Ok(dirty)
    }

    /// Unmaps, maps and protects what differs.
    fn restore_mappings(&mut self, wanted: &[Mapping]) -> Result<(), Error> {
        let mut borders: Vec<u64> = Vec::new();
        for mapping in self.mappings.values().chain(wanted) {
            borders.extend([mapping.range.start.0, mapping.range.end.0]);
        }
        borders.sort_unstable();
        borders.dedup();
        let mut rest = wanted;
        for pair in borders.windows(2) {
            let range = Address(pair[0])..Address(pair[1]);
            while rest.first().is_some_and(|m| m.range.end <= range.start) {
                rest = &rest[1..];
            }
            let wanted = rest.first().filter(|m| m.range.start <= range.start);
            let wanted = wanted.map(|m| m.part(&(pair[0]..pair[1])));
            let there = self.mapping_at(range.start).map(|m| m.part(&(pair[0]..pair[1])));
            match (there, wanted) {
                (None, None) => {}
                (Some(_), None) => self.unmap(range)?,
                (Some(there), Some(wanted)) if there.backing.same(&wanted.backing) => {
                    if there.protection != wanted.protection {
                        self.protect(range, wanted.protection)?;
                    }
                }
                (_, Some(wanted)) => self.map(range, wanted.protection, wanted.backing)?,
            }
        }
        Ok(())
    }

    fn restore_page(&mut self, page: u64, wanted: &Page) -> Result<(), Error> {
        let at = Address(page * PAGE);
        let mut buffer = ZERO;
        self.read(at, &mut buffer)?;
        self.contents.costs.compared += 1;
        if buffer == *wanted {
            return Ok(());
        }
        self.forget_code(&at.range(PAGE));
        let mapping = self.mapping_at(at).ok_or(Error::NotMapped(at))?;
        self.write_piece(mapping, at, wanted)?;
        self.contents.costs.restored += 1;
        Ok(())
    }

    /// Makes pages what they were when mapped.
    fn restore_pristine(&mut self, pages: &[u64]) -> Result<(), Error> {
        for run in runs(pages) {
            let range = Address(run.start * PAGE)..Address(run.end * PAGE);
            self.contents.costs.restored += run.end - run.start;
            self.discard(range)?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn costs(&self) -> Costs {
        self.contents.costs
    }
}

/// Whether a private page holds what it held when it was mapped.
fn is_as_mapped(mapping: &Mapping, at: Address, contents: &Page) -> Result<bool, Error> {
    let mut mapped = ZERO;
    mapping.read_original(at, &mut mapped)?;
    Ok(*contents == mapped)
}
