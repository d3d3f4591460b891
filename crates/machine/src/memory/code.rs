//! Which guest pages have translations, and noticing when these are no longer true.
//!
//! A page with code that the guest may write is *shielded*: its host page is read-only, so that
//! a guest write faults and comes here. A page of a shared object is shielded wherever it is
//! writable: at once in the space that made the code, and in every other when it is next
//! activated, which is before it can run. Writes from Rust come here by themselves.

use std::collections::BTreeSet;
use std::ops::Range;

use model::Address;

use super::host::{self, PAGE};
use super::{Backing, Error, Space, object, pages_of};

/// Guarantees about a page that code was made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodePage {
    /// The guest cannot write it here: it changes through calls to this crate, and through
    /// other mappings of its object, which are shielded.
    Fixed,
    /// The guest can write it, and the first write faults.
    Shielded,
}

#[derive(Debug, Default)]
pub struct Code {
    /// Pages with translations that are true.
    pages: BTreeSet<u64>,
    /// Pages that the guest may write and whose host page is read-only.
    shielded: BTreeSet<u64>,
    /// Pages whose translations are not true any more.
    stale: BTreeSet<u64>,
    /// `object::changes` when shields were last put up, and when stale pages were last taken.
    seen_code: u64,
    seen_writes: u64,
}

impl Space {
    /// Code was made from these bytes: from now on their pages appear in
    /// [`Space::take_stale`] once they change. Returns the weakest guarantee of them.
    pub(crate) fn note_code(&mut self, range: Range<Address>) -> Result<CodePage, Error> {
        let range = range.start.page_start()..range.end.page_ceil();
        self.code.pages.extend(pages_of(&range));
        let parts: Vec<_> = self.parts(&range).collect();
        let mut state = CodePage::Fixed;
        for part in parts {
            if let Backing::Shared { object, offset } = &part.backing {
                for page in offset / PAGE..(offset + part.size()) / PAGE {
                    object.note_code(page);
                }
            }
            if part.protection.write {
                state = CodePage::Shielded;
            }
        }
        self.shield(&range)?;
        self.shield_aliases()?;
        Ok(state)
    }

    /// To be called when a write of the guest faults in the host. True when the guest may
    /// write there and only a shield was in the way: it is gone, the page's code is stale, and
    /// the write is to be tried again.
    pub(crate) fn write_fault(&mut self, address: Address) -> Result<bool, Error> {
        let page = address.0 / PAGE;
        if !self.code.shielded.contains(&page) {
            return Ok(false);
        }
        let mut written = vec![page];
        let mapping = self.mapping_at(address);
        if let Some(Backing::Shared { object, offset }) = mapping.map(|m| &m.backing) {
            let start = mapping.map_or(0, |m| m.range.start.0);
            let offset = offset + page * PAGE - start;
            object.note_write(offset..offset + PAGE);
            written = self.aliases(&object.clone(), offset / PAGE);
        }
        for page in written {
            if self.code.pages.remove(&page) {
                self.code.stale.insert(page);
            }
            self.lift_shields(&(Address(page * PAGE)..Address((page + 1) * PAGE)))?;
        }
        Ok(true)
    }

    /// Pages whose translations are no longer true, since the last call: written, unmapped,
    /// mapped anew, moved, discarded, or not executable any more. Only pages of which code was
    /// noted appear, and noting starts afresh.
    pub(crate) fn take_stale(&mut self) -> Vec<Range<Address>> {
        self.note_object_writes();
        let mut ranges: Vec<Range<Address>> = Vec::new();
        for page in std::mem::take(&mut self.code.stale) {
            let range = Address(page * PAGE)..Address((page + 1) * PAGE);
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        ranges
    }

    /// Makes the code of pages stale that were written through other mappings of their object.
    fn note_object_writes(&mut self) {
        let now = object::changes();
        let seen = std::mem::replace(&mut self.code.seen_writes, now);
        if seen == now {
            return;
        }
        for mapping in self.mappings.values() {
            let Backing::Shared { object, offset } = &mapping.backing else { continue };
            let pages = offset / PAGE..(offset + mapping.size()) / PAGE;
            for (page, &stamp) in object.state().writes.range(pages.clone()) {
                let guest = mapping.range.start.0 / PAGE + (page - pages.start);
                if stamp > seen && self.code.pages.remove(&guest) {
                    self.code.stale.insert(guest);
                }
            }
        }
    }

    /// Code in a range is not true any more.
    pub(super) fn forget_code(&mut self, range: &Range<Address>) {
        let pages: Vec<u64> = self.code.pages.range(pages_of(range)).copied().collect();
        for page in pages {
            self.code.pages.remove(&page);
            self.code.stale.insert(page);
        }
    }

    /// Whether the host refuses a write that the guest may do, in any page of the bytes.
    pub(super) fn shielded(&self, at: Address, length: usize) -> bool {
        let pages = pages_of(&(at..at + length as u64));
        !self.code.shielded.is_empty() && self.code.shielded.range(pages).next().is_some()
    }

    /// The host protection of a range was set to the guest's, or its host memory is gone.
    pub(super) fn forget_shields(&mut self, range: &Range<Address>) {
        let pages: Vec<u64> = self.code.shielded.range(pages_of(range)).copied().collect();
        for page in pages {
            self.code.shielded.remove(&page);
        }
    }

    /// Takes down the shields of a range.
    pub(super) fn lift_shields(&mut self, range: &Range<Address>) -> Result<(), Error> {
        let pages: Vec<u64> = self.code.shielded.range(pages_of(range)).copied().collect();
        for run in runs(&pages) {
            self.protect_run(&run, libc::PROT_READ | libc::PROT_WRITE)?;
        }
        self.forget_shields(range);
        Ok(())
    }

    /// Puts up the shields of a range: where the guest may write and there is code.
    pub(super) fn shield(&mut self, range: &Range<Address>) -> Result<(), Error> {
        self.shield_newer(range, 0)
    }

    /// Puts up shields for code that was made, in whichever space, of shared pages that are
    /// writable here.
    pub(super) fn shield_aliases(&mut self) -> Result<(), Error> {
        let now = object::changes();
        let seen = std::mem::replace(&mut self.code.seen_code, now);
        if seen == now {
            return Ok(());
        }
        let shared: Vec<Range<Address>> = self
            .mappings
            .values()
            .filter(|m| m.protection.write && matches!(m.backing, Backing::Shared { .. }))
            .map(|m| m.range.clone())
            .collect();
        for range in shared {
            if let Err(error) = self.shield_newer(&range, seen) {
                self.code.seen_code = seen;
                return Err(error);
            }
        }
        Ok(())
    }

    /// As `shield`, of shared pages only those with code that is newer than a stamp.
    fn shield_newer(&mut self, range: &Range<Address>, stamp: u64) -> Result<(), Error> {
        let mut wanted = Vec::new();
        for part in self.parts(range).filter(|part| part.protection.write) {
            let pages = pages_of(&part.range);
            match &part.backing {
                Backing::Shared { object, offset } => {
                    let first = offset / PAGE;
                    let state = object.state();
                    let code = state.code.range(first..first + pages.end - pages.start);
                    let newer = code.filter(|(_, noted)| **noted > stamp);
                    wanted.extend(newer.map(|(page, _)| pages.start + page - first));
                }
                _ => wanted.extend(self.code.pages.range(pages).copied()),
            }
        }
        wanted.retain(|page| !self.code.shielded.contains(page));
        for run in runs(&wanted) {
            self.protect_run(&run, libc::PROT_READ)?;
            self.code.shielded.extend(run);
        }
        Ok(())
    }

    fn protect_run(&self, pages: &Range<u64>, bits: i32) -> Result<(), Error> {
        let (start, length) = (pages.start * PAGE, (pages.end - pages.start) * PAGE);
        host::protect(self.place(start), length, bits).map_err(|source| {
            let at = Address(start);
            host::error(format!("protecting translated guest memory at {at}"), source)
        })
    }

    /// Guest pages that show a page of an object.
    fn aliases(&self, object: &super::SharedObject, page: u64) -> Vec<u64> {
        let place = |mapping: &super::Mapping| {
            let Backing::Shared { object: other, offset } = &mapping.backing else { return None };
            let distance = (page * PAGE).checked_sub(*offset)?;
            (other.same(object) && distance < mapping.size())
                .then(|| (mapping.range.start.0 + distance) / PAGE)
        };
        self.mappings.values().filter_map(place).collect()
    }

    /// Whatever must follow a write from Rust to a range that is mapped.
    pub(super) fn note_write(&mut self, range: Range<Address>) {
        self.forget_code(&range);
        if let Some(noted) = &mut self.noted {
            noted.push(range.clone());
        }
        self.mark_written(range);
    }

    /// From now on, whether to note the ranges that are written from Rust. They grow until taken.
    pub fn note_writes(&mut self, wanted: bool) {
        self.noted = wanted.then(Vec::new);
    }

    /// The ranges written from Rust since the last time, in order.
    pub fn take_noted_writes(&mut self) -> Vec<Range<Address>> {
        self.noted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn pending_stale(&mut self) -> Vec<u64> {
        self.note_object_writes();
        self.code.stale.iter().copied().collect()
    }

    #[cfg(test)]
    pub(super) fn shielded_pages(&self) -> Vec<u64> {
        self.code.shielded.iter().copied().collect()
    }
}

/// Runs of neighbours among sorted numbers.
pub(super) fn runs(numbers: &[u64]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some(last) if last.end == number => last.end += 1,
            _ => runs.push(number..number + 1),
        }
    }
    runs
}
