//! Guest memory: address spaces, their mappings, and where the host keeps them.
//!
//! Guest memory is host memory at another address. Translated code adds a displacement that it
//! finds in a table by the top bits of the guest address (a *unit* of 4 GiB); see
//! [`islands`] for how units lie in the host, [`tables`] for the tables, [`code`] for how
//! changes to translated bytes are noticed, [`marks`] for what was written and read, and
//! [`snapshot`] for going back.
//!
//! Costs, on the machine this was written on: mapping 3 to 5 us, protecting and unmapping 2 us;
//! a snapshot 0.8 us for each page that changed, and 2 us more when memory for the copy has to
//! be got from the kernel; restoring 0.8 us a page; parking 1 us and coming back 2 us a page;
//! collecting marks 0.4 us a page, and 1 us once for each page of marks that falls idle;
//! becoming the active space 15 ns, being it still 4 ns.

mod access;
mod code;
#[allow(unsafe_code, reason = "guest memory is host memory outside of Rust's")]
mod host;
mod islands;
mod journal;
mod marks;
#[allow(unsafe_code, reason = "memfd_create and lseek have no safe wrapper in std")]
mod object;
mod pages;
#[allow(unsafe_code, reason = "PAGEMAP_SCAN is an ioctl")]
mod residency;
mod snapshot;
#[allow(unsafe_code, reason = "tables at fixed addresses, read by translated code")]
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::Address;

pub(crate) use access::AccessKind;
pub(crate) use journal::Journal;
pub use marks::{PageMarks, WrittenWords};
pub use object::SharedObject;
pub use pages::{Page, Pages};
pub use snapshot::Snapshot;
pub(crate) use tables::Tables;

use host::PAGE;
use islands::Island;

/// End of the user half of the address space.
pub const USER_END: u64 = 1 << 47;

/// What the guest may do with a page. Execute and write both imply read (x86).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Protection {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

impl Protection {
    /// Any access at all lets the guest read.
    fn readable(self) -> bool {
        self.read || self.write || self.execute
    }
}

/// Where the bytes of a new mapping come from.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Private zero pages.
    Zero,
    /// Private copy-on-write pages of a file: bytes `offset..offset + length` of the file, and
    /// zeroes behind; `offset` is a multiple of the page size.
    File { file: Arc<File>, offset: u64, length: u64 },
    /// Pages of a shared object from `offset` (a multiple of the page size).
    Shared { object: SharedObject, offset: u64 },
}

impl Backing {
    /// The backing of what lies `distance` bytes further on.
    fn advanced(&self, distance: u64) -> Backing {
        match self.clone() {
            Backing::Zero => Backing::Zero,
            Backing::File { file, offset, length } => Backing::File {
                file,
                offset: offset + distance,
                length: length.saturating_sub(distance),
            },
            Backing::Shared { object, offset } => {
                Backing::Shared { object, offset: offset + distance }
            }
        }
    }

    /// The backing of the first `size` bytes.
    fn truncated(&self, size: u64) -> Backing {
        match self.clone() {
            Backing::File { file, offset, length } => {
                Backing::File { file, offset, length: length.min(size) }
            }
            other => other,
        }
    }

    /// Whether `size` bytes of it can be told from offsets that files can have.
    fn reaches(&self, size: u64) -> bool {
        match self {
            Backing::Zero => true,
            Backing::File { offset, .. } | Backing::Shared { offset, .. } => {
                offset.is_multiple_of(PAGE)
                    && offset.checked_add(size).is_some_and(|end| end <= i64::MAX as u64)
            }
        }
    }

    /// Whether both are the same bytes, for mappings of the same size.
    fn same(&self, other: &Backing) -> bool {
        match (self, other) {
            (Backing::Zero, Backing::Zero) => true,
            (
                Backing::File { file, offset, length },
                Backing::File { file: file_2, offset: offset_2, length: length_2 },
            ) => Arc::ptr_eq(file, file_2) && offset == offset_2 && length == length_2,
            (
                Backing::Shared { object, offset },
                Backing::Shared { object: object_2, offset: offset_2 },
            ) => object.same(object_2) && offset == offset_2,
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Mapping {
    pub range: Range<Address>,
    pub protection: Protection,
    pub backing: Backing,
}

impl Mapping {
    fn size(&self) -> u64 {
        self.range.end.0 - self.range.start.0
    }

    /// The part inside `range`, which it must touch.
    fn part(&self, range: &Range<u64>) -> Mapping {
        let start = range.start.max(self.range.start.0);
        let end = range.end.min(self.range.end.0);
        let backing = self.backing.advanced(start - self.range.start.0).truncated(end - start);
        Mapping { range: Address(start)..Address(end), protection: self.protection, backing }
    }

    /// The mapping that this and the one behind it are together, if one can be.
    fn joined(&self, next: &Mapping) -> Option<Mapping> {
        let follows = self.range.end == next.range.start && self.protection == next.protection;
        let whole = match (&self.backing, &next.backing) {
            (Backing::File { length, .. }, Backing::File { length: length_2, .. })
                if *length == self.size() || *length_2 == 0 =>
            {
                let mut whole = self.backing.clone();
                if let Backing::File { length, .. } = &mut whole {
                    *length += length_2;
                }
                whole
            }
            (Backing::File { .. }, Backing::File { .. }) => return None,
            (whole, _) => whole.clone(),
        };
        let joined = follows && whole.advanced(self.size()).same(&next.backing);
        joined.then(|| Mapping {
            range: self.range.start..next.range.end,
            protection: self.protection,
            backing: whole,
        })
    }
}

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("{what}")]
    Host { what: String, source: std::io::Error },
    /// Also for a backing whose offset is not page aligned or beyond what a file can have.
    #[error("guest range {0:?} is not page aligned, is empty or leaves the user half")]
    BadRange(Range<Address>),
    #[error("guest memory at {0} is not mapped")]
    NotMapped(Address),
    #[error("this processor lacks {features}, without which the machine cannot run")]
    HostLacks { features: String },
    #[error("cannot execute `{instruction}` at {address}")]
    Unsupported { instruction: String, address: Address },
}

/// One guest address space.
///
/// After [`Error::Host`] from a call that changes mappings, the range that it was about is
/// in between; other ranges are as before, and the space can be restored or dropped.
#[derive(Debug)]
pub struct Space {
    /// Tells the spaces of the process apart.
    id: u64,
    /// By start; they do not overlap.
    mappings: BTreeMap<u64, Mapping>,
    /// By unit; they do not touch. Empty while parked.
    islands: Vec<Island>,
    /// Changes whenever the islands do.
    islands_version: u64,
    /// Contents are in `contents.pages` and host memory is given up.
    parked: bool,
    code: code::Code,
    marks: marks::Marks,
    contents: snapshot::Contents,
    journal: Option<std::sync::Mutex<journal::Journal>>,
    /// Ranges that were written from Rust, if that is wanted.
    noted: Option<Vec<Range<Address>>>,
}

impl Space {
    /// Tells the address spaces of the process apart; never used again.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// An address space with nothing in it.
    pub(crate) fn new() -> Space {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Space {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            mappings: BTreeMap::new(),
            islands: Vec::new(),
            islands_version: 0,
            parked: false,
            code: code::Code::default(),
            marks: marks::Marks::default(),
            contents: snapshot::Contents::default(),
            journal: None,
            noted: None,
        }
    }

    /// Maps `range` anew, replacing whatever was there. On an error, nothing is mapped there.
    pub fn map(
        &mut self,
        range: Range<Address>,
        protection: Protection,
        backing: Backing,
    ) -> Result<(), Error> {
        check_range(&range)?;
        if !backing.reaches(range.end.0 - range.start.0) {
            return Err(Error::BadRange(range));
        }
        self.unpark()?;
        self.harvest_in(&range)?;
        self.ensure_units(&range)?;
        self.take_mappings(&range);
        let backing = backing.truncated(range.end.0 - range.start.0);
        let mapping = Mapping { range: range.clone(), protection, backing };
        let mapped = self.map_host(&mapping).and_then(|()| {
            self.mappings.insert(range.start.0, mapping);
            self.allow_marks(&range)?;
            self.shield(&range)
        });
        if let Err(error) = mapped {
            // The first error is the one to report.
            self.mappings.remove(&range.start.0);
            let _ = self.reset(&range);
            let _ = self.drop_empty_islands(&range);
            return Err(error);
        }
        self.join_around(&range);
        Ok(())
    }

    pub fn unmap(&mut self, range: Range<Address>) -> Result<(), Error> {
        check_range(&range)?;
        self.unpark()?;
        self.harvest_in(&range)?;
        for part in joined_ranges(&self.take_mappings(&range)) {
            self.reset(&part)?;
        }
        self.drop_empty_islands(&range)
    }

    /// Changes the protection of the mapped parts of `range`; parts not mapped are passed over.
    pub fn protect(&mut self, range: Range<Address>, protection: Protection) -> Result<(), Error> {
        check_range(&range)?;
        self.unpark()?;
        self.contents.mappings_changed();
        self.split(range.start.0);
        self.split(range.end.0);
        let mut parts = Vec::new();
        for mapping in self.mappings.range_mut(range.start.0..range.end.0).map(|(_, m)| m) {
            mapping.protection = protection;
            parts.push(mapping.clone());
        }
        if !protection.execute {
            self.forget_code(&range);
        }
        self.forget_shields(&range);
        for part in joined_ranges(&parts) {
            let bits = host::protection_bits(protection);
            host::protect(self.place(part.start.0), part.end.0 - part.start.0, bits).map_err(
                |source| host::error(format!("protecting guest memory {part:?}"), source),
            )?;
        }
        self.allow_marks(&range)?;
        self.shield(&range)?;
        self.join_around(&range);
        Ok(())
    }

    /// Moves the mappings of `from` (contents, protection, backing) to `to`, replacing what was
    /// there; leaves `from` unmapped. The two must not overlap.
    pub fn relocate(&mut self, from: Range<Address>, to: Address) -> Result<(), Error> {
        check_range(&from)?;
        let target = to.range(from.end.0 - from.start.0);
        check_range(&target)?;
        if target.start < from.end && from.start < target.end {
            return Err(Error::BadRange(target));
        }
        self.unpark()?;
        self.ensure_units(&target)?;
        // Marks stay with the addresses at which they were made.
        self.harvest()?;
        self.lift_shields(&from)?;
        self.forget_code(&from);
        for part in joined_ranges(&self.take_mappings(&target)) {
            self.reset(&part)?;
        }
        self.contents.move_range(&from, to);
        self.split(from.start.0);
        self.split(from.end.0);
        let starts: Vec<u64> =
            self.mappings.range(from.start.0..from.end.0).map(|(&start, _)| start).collect();
        for start in starts {
            let mut mapping = self.mappings[&start].clone();
            let place = to + (mapping.range.start - from.start);
            let (old, size) = (mapping.range.clone(), mapping.size());
            host::relocate(self.place(start), self.place(place.0), size)
                .map_err(|source| host::error(format!("moving guest memory {old:?}"), source))?;
            self.mappings.remove(&start);
            self.reset(&old)?;
            mapping.range = place..place + size;
            self.mappings.insert(place.0, mapping);
        }
        self.allow_marks(&target)?;
        self.shield(&target)?;
        self.join_around(&target);
        self.drop_empty_islands(&from)
    }

    /// Private pages of `range` go back to what they were when mapped; shared ones stay.
    pub fn discard(&mut self, range: Range<Address>) -> Result<(), Error> {
        check_range(&range)?;
        self.unpark()?;
        let parts: Vec<Mapping> = self.parts(&range).collect();
        for part in parts {
            if let Backing::Shared { .. } = part.backing {
                continue;
            }
            self.forget_code(&part.range);
            self.contents.forget(&part.range);
            host::discard(self.place(part.range.start.0), part.size()).map_err(|source| {
                host::error(format!("discarding guest memory {:?}", part.range), source)
            })?;
            self.clear_file_tail(&part)?;
        }
        Ok(())
    }

    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.values()
    }

    #[inline]
    pub fn mapping_at(&self, address: Address) -> Option<&Mapping> {
        let (_, mapping) = self.mappings.range(..=address.0).next_back()?;
        (address < mapping.range.end).then_some(mapping)
    }

    /// The mapped parts of a range, in order, each cut to it.
    fn parts(&self, range: &Range<Address>) -> impl Iterator<Item = Mapping> {
        let range = range.start.0..range.end.0;
        let first = self.mappings.range(..=range.start).next_back().map_or(range.start, |f| *f.0);
        let end = range.end.max(first);
        let touching = self.mappings.range(first..end).map(|(_, mapping)| mapping);
        touching
            .filter({
                let start = range.start;
                move |mapping| mapping.range.end.0 > start
            })
            .map(move |mapping| mapping.part(&range))
    }

    /// Makes `address` a border between mappings.
    fn split(&mut self, address: u64) {
        let Some((&start, mapping)) = self.mappings.range(..address).next_back() else { return };
        if mapping.range.end.0 > address {
            let behind = mapping.part(&(address..mapping.range.end.0));
            let before = mapping.part(&(start..address));
            self.mappings.insert(start, before);
            self.mappings.insert(address, behind);
        }
    }

    /// Joins the mappings of `range`, and those that touch it, where they are one.
    fn join_around(&mut self, range: &Range<Address>) {
        self.contents.mappings_changed();
        let from = self.mappings.range(..range.start.0).next_back().map_or(range.start.0, |m| *m.0);
        let starts: Vec<u64> = self.mappings.range(from..=range.end.0).map(|(&s, _)| s).collect();
        let mut kept: Option<u64> = None;
        for start in starts {
            if let Some(before) = kept
                && let Some(joined) = self.mappings[&before].joined(&self.mappings[&start])
            {
                self.mappings.remove(&start);
                self.mappings.insert(before, joined);
            } else {
                kept = Some(start);
            }
        }
    }

    /// Takes the mappings of a range off the list, with all that is known of its pages; host
    /// memory stays as it is.
    fn take_mappings(&mut self, range: &Range<Address>) -> Vec<Mapping> {
        self.contents.mappings_changed();
        self.forget_code(range);
        self.forget_shields(range);
        self.contents.forget(range);
        self.split(range.start.0);
        self.split(range.end.0);
        let starts: Vec<u64> =
            self.mappings.range(range.start.0..range.end.0).map(|(&start, _)| start).collect();
        starts.iter().filter_map(|start| self.mappings.remove(start)).collect()
    }

    /// Makes the host memory of a mapping.
    fn map_host(&mut self, mapping: &Mapping) -> Result<(), Error> {
        let bits = host::protection_bits(mapping.protection);
        let (start, size) = (self.place(mapping.range.start.0), mapping.size());
        let failed = |source| {
            let (size, range) = (host::amount(size), &mapping.range);
            host::error(format!("mapping {size} of guest memory {range:?}"), source)
        };
        match &mapping.backing {
            Backing::Zero => host::map(start, size, bits, host::Source::Zero).map_err(failed),
            Backing::Shared { object, offset } => {
                let source = host::Source::Shared(object.file(), *offset);
                host::map(start, size, bits, source).map_err(failed)
            }
            Backing::File { file, offset, length } => {
                // Pages behind the file's end would raise SIGBUS.
                let file_length = file.metadata().map_err(failed)?.len();
                let there = (*length).min(file_length.saturating_sub(*offset));
                let filed = there.next_multiple_of(PAGE);
                if filed > 0 {
                    let source = host::Source::Private(file, *offset);
                    host::map(start, filed, bits, source).map_err(failed)?;
                }
                if filed < size {
                    host::map(start + filed, size - filed, bits, host::Source::Zero)
                        .map_err(failed)?;
                }
                self.clear_file_tail(mapping)
            }
        }
    }

    /// Clears what a file has behind the mapped length in the page that holds its end.
    fn clear_file_tail(&self, mapping: &Mapping) -> Result<(), Error> {
        let Backing::File { file, offset, length } = &mapping.backing else { return Ok(()) };
        let tail = length.next_multiple_of(PAGE) - length;
        let what = |source| {
            host::error(format!("clearing behind the file in {:?}", mapping.range), source)
        };
        if tail == 0 || file.metadata().map_err(what)?.len() <= offset.saturating_add(*length) {
            return Ok(());
        }
        let start = self.place(mapping.range.start.0) + length;
        let zeroes = vec![0; tail as usize];
        host::force_write(start, &zeroes, host::protection_bits(mapping.protection)).map_err(what)
    }
}

fn check_range(range: &Range<Address>) -> Result<(), Error> {
    let aligned = range.start.0.is_multiple_of(PAGE) && range.end.0.is_multiple_of(PAGE);
    if aligned && range.start < range.end && range.end.0 <= USER_END {
        Ok(())
    } else {
        Err(Error::BadRange(range.clone()))
    }
}

/// The ranges of mappings, in order, neighbours joined.
fn joined_ranges(mappings: &[Mapping]) -> Vec<Range<Address>> {
    let mut ranges: Vec<Range<Address>> = Vec::new();
    for mapping in mappings {
        match ranges.last_mut() {
            Some(last) if last.end == mapping.range.start => last.end = mapping.range.end,
            _ => ranges.push(mapping.range.clone()),
        }
    }
    ranges
}

fn pages_of(range: &Range<Address>) -> Range<u64> {
    range.start.0 / PAGE..range.end.0.div_ceil(PAGE)
}
