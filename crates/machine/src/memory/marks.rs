//! What was written and read since somebody asked.
//!
//! Translated code sets the byte `host >> 3` for each word that it writes and `host >> 6` for
//! each line that it reads. These bytes are sparse memory: the kernel says which of their pages
//! exist, and a page of marks that is found empty is given back. Writes from Rust go straight
//! into the same sums. Changes of mappings are not writes here; callers see to those.

use std::collections::BTreeMap;
use std::ops::Range;

use model::Address;

use super::host::{self, PAGE};
use super::{Error, Space, pages_of, residency};
use crate::layout::{READ_MARK_SHIFT, WRITE_MARK_SHIFT};

/// Which of the 512 words of a page were written.
pub type WrittenWords = [u64; 8];

/// What was written and read in some pages, in order of address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageMarks {
    pub written: Vec<(Address, WrittenWords)>,
    pub read: Vec<(Address, u64)>,
}

#[derive(Debug, Default)]
pub struct Marks {
    written: bool,
    read: bool,
    /// Mark memory is kept once it was asked for; switching is cheap.
    kept_written: bool,
    kept_read: bool,
    /// The space was activated since the last harvest.
    maybe_set: bool,
    /// Sums that nobody took yet, by page number.
    written_words: BTreeMap<u64, WrittenWords>,
    read_lines: BTreeMap<u64, u64>,
}

impl Space {
    /// Says what the code that runs next marks; to be called whenever that may have changed.
    /// Cheap when it has not. While written words are marked, snapshots trust the marks.
    pub(crate) fn enable_marks(&mut self, written: bool, read: bool) -> Result<(), Error> {
        if (self.marks.written, self.marks.read) == (written, read) {
            return Ok(());
        }
        self.unpark()?;
        if self.marks.written != written {
            self.harvest()?;
            // What happened, or happens, without marks is found only by comparing.
            self.contents.dirty_complete = written && self.mappings.is_empty();
        }
        (self.marks.written, self.marks.read) = (written, read);
        self.marks.kept_written |= written;
        self.marks.kept_read |= read;
        self.make_marks()
    }

    pub(super) fn written_marked(&self) -> bool {
        self.marks.written
    }

    /// Reserves missing marks of islands and opens those of all mappings.
    pub(super) fn make_marks(&mut self) -> Result<(), Error> {
        let (written, read) = (self.marks.kept_written, self.marks.kept_read);
        if !written && !read {
            return Ok(());
        }
        for index in 0..self.islands.len() {
            let island = &mut self.islands[index];
            let there = (island.write_marks.is_some(), island.read_marks.is_some());
            if there == (written, read) {
                continue;
            }
            island.reserve_marks(written, read)?;
            let guest = island.guest_start()..island.guest_start() + island.length();
            self.allow_marks(&(Address(guest.start)..Address(guest.end)))?;
        }
        Ok(())
    }

    /// Opens the marks of the mappings in a range, as far as the guest may use these. They stay
    /// open until the island goes: a closed mark would be a fault, an open one costs nothing.
    pub(super) fn allow_marks(&self, range: &Range<Address>) -> Result<(), Error> {
        if !self.marks.kept_written && !self.marks.kept_read {
            return Ok(());
        }
        for part in self.parts(range) {
            let host = self.place(part.range.start.0);
            let host = host..host + part.size();
            let island = self.island(part.range.start.0).expect("mapped memory has an island");
            if part.protection.write && island.write_marks.is_some() {
                open(&host, WRITE_MARK_SHIFT)?;
            }
            if part.protection.readable() && island.read_marks.is_some() {
                open(&host, READ_MARK_SHIFT)?;
            }
        }
        Ok(())
    }

    /// Marks the words of a range as written, where it is mapped.
    pub fn mark_written(&mut self, range: Range<Address>) {
        if range.is_empty() {
            return;
        }
        for page in pages_of(&range) {
            if self.mapping_at(Address(page * PAGE)).is_none() {
                continue;
            }
            self.contents.note_dirty(page);
            if self.marks.written {
                let start = range.start.0.max(page * PAGE) - page * PAGE;
                let end = range.end.0.min((page + 1) * PAGE) - page * PAGE;
                let words = self.marks.written_words.entry(page).or_default();
                for word in start / 8..end.div_ceil(8) {
                    words[word as usize / 64] |= 1 << (word % 64);
                }
            }
        }
    }

    /// Marks the lines of a range as read, where it is mapped.
    pub(crate) fn mark_read(&mut self, range: Range<Address>) {
        if !self.marks.read {
            return;
        }
        let parts: Vec<Range<Address>> = self.parts(&range).map(|part| part.range).collect();
        for part in parts {
            for line in part.start.0 >> READ_MARK_SHIFT..=(part.end.0 - 1) >> READ_MARK_SHIFT {
                let page = (line << READ_MARK_SHIFT) / PAGE;
                *self.marks.read_lines.entry(page).or_default() |= 1 << (line % 64);
            }
        }
    }

    /// The words written since the last call, by page, in order of address. Supersets: a word
    /// may have been given the value that it had.
    pub fn take_written(&mut self) -> Result<Vec<(Address, WrittenWords)>, Error> {
        self.harvest()?;
        let words = std::mem::take(&mut self.marks.written_words);
        Ok(words.into_iter().map(|(page, words)| (Address(page * PAGE), words)).collect())
    }

    /// The 64-byte lines read since the last call, by page, in order of address.
    pub fn take_read(&mut self) -> Result<Vec<(Address, u64)>, Error> {
        self.harvest()?;
        let lines = std::mem::take(&mut self.marks.read_lines);
        Ok(lines.into_iter().map(|(page, lines)| (Address(page * PAGE), lines)).collect())
    }

    /// As `take_written` and `take_read`, of the pages in a range.
    pub fn take_marks_in(&mut self, range: &Range<Address>) -> Result<PageMarks, Error> {
        self.harvest_in(range)?;
        let pages = pages_of(range);
        let marks = &mut self.marks;
        Ok(PageMarks {
            written: split_off(&mut marks.written_words, &pages),
            read: split_off(&mut marks.read_lines, &pages),
        })
    }

    /// Moves all marks from their memory into the sums.
    pub(super) fn harvest(&mut self) -> Result<(), Error> {
        self.harvest_in(&(Address(0)..Address(super::USER_END)))?;
        self.marks.maybe_set = false;
        Ok(())
    }

    /// Moves the marks of a range, and of some memory around it. A store at the end of a mapping
    /// marks the word behind it, if there is memory for that mark: such marks are dropped. So
    /// this comes before mappings change.
    pub(super) fn harvest_in(&mut self, range: &Range<Address>) -> Result<(), Error> {
        if !self.marks.maybe_set {
            return Ok(());
        }
        let mappings = &self.mappings;
        let is_mapped = |page: u64| {
            let before = mappings.range(..=page * PAGE).next_back();
            before.is_some_and(|(_, mapping)| mapping.range.contains(&Address(page * PAGE)))
        };
        for island in &self.islands {
            let displacement = island.displacement();
            // Those of a page around the range, where they are a part of the island's.
            let around = range.start.0.saturating_sub(PAGE)..range.end.0.saturating_add(PAGE);
            let part = |marks: Range<u64>, shift: u32| {
                let mark = |guest: u64| {
                    let inside = guest.clamp(island.guest_start(), island.guest_end());
                    inside.wrapping_add(displacement) >> shift
                };
                let start = mark(around.start) & !(PAGE - 1);
                let end = mark(around.end).next_multiple_of(PAGE);
                start.max(marks.start)..end.min(marks.end)
            };
            if let Some(marks) = &island.write_marks {
                let (sums, contents) = (&mut self.marks.written_words, &mut self.contents);
                drain(part(marks.range(), WRITE_MARK_SHIFT), |mark, marks| {
                    // So many marks are those of one page.
                    let page = (mark << WRITE_MARK_SHIFT).wrapping_sub(displacement) / PAGE;
                    if !is_mapped(page) {
                        return;
                    }
                    let sum = sums.entry(page).or_default();
                    for (sum, marks) in sum.iter_mut().zip(marks.chunks_exact(64)) {
                        *sum |= gather(marks);
                    }
                    contents.note_dirty(page);
                })?;
            }
            if let Some(marks) = &island.read_marks {
                let sums = &mut self.marks.read_lines;
                drain(part(marks.range(), READ_MARK_SHIFT), |mark, marks| {
                    let first = (mark << READ_MARK_SHIFT).wrapping_sub(displacement) / PAGE;
                    for (page, marks) in (first..).zip(marks.chunks_exact(64)) {
                        let lines = gather(marks);
                        if lines != 0 {
                            *sums.entry(page).or_default() |= lines;
                        }
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Guest code is about to run.
    #[inline]
    pub(super) fn expect_marks(&mut self) {
        self.marks.maybe_set = true;
    }
}

/// Takes the entries of some pages out.
fn split_off<T>(sums: &mut BTreeMap<u64, T>, pages: &Range<u64>) -> Vec<(Address, T)> {
    let taken: Vec<u64> = sums.range(pages.clone()).map(|(page, _)| *page).collect();
    let taken = taken.into_iter();
    taken.filter_map(|page| Some((Address(page * PAGE), sums.remove(&page)?))).collect()
}

/// Makes the marks of a host range accessible.
fn open(host: &Range<u64>, shift: u32) -> Result<(), Error> {
    let start = (host.start >> shift) & !(PAGE - 1);
    let length = (host.end >> shift).next_multiple_of(PAGE).max(start + PAGE) - start;
    host::protect(start, length, libc::PROT_READ | libc::PROT_WRITE).map_err(|source| {
        host::error(format!("making {} of marks accessible", host::amount(length)), source)
    })
}

/// Marks handed out together: those of the words of one page.
const PART: usize = 512;

/// Hands out the parts of the marks that are not empty and clears them. A page of marks that is
/// empty is given back: so pages in steady use stay, and cost no page fault each time.
fn drain(marks: Range<u64>, mut found: impl FnMut(u64, &[u8])) -> Result<(), Error> {
    if marks.is_empty() {
        return Ok(());
    }
    let what = |source| host::error("looking for touched marks".to_string(), source);
    let give_back = |pages: Range<u64>| host::discard(pages.start, pages.end - pages.start);
    let mut chunk = [0; PAGE as usize];
    // Empty pages, with what lies between them and does not exist: one call for all.
    let mut empty: Option<Range<u64>> = None;
    for mark in residency::changed_pages(marks).map_err(what)?.into_iter().flat_map(pages) {
        host::copy_out(mark, &mut chunk);
        let mut any = false;
        for (part, at) in chunk.chunks_exact(PART).zip((mark..).step_by(PART)) {
            if part.iter().fold(0, |all, byte| all | byte) != 0 {
                found(at, part);
                host::copy_in(at, &[0; PART]);
                any = true;
            }
        }
        if any {
            empty.take().map_or(Ok(()), give_back).map_err(what)?;
        } else {
            empty = Some(empty.map_or(mark, |run| run.start)..mark + PAGE);
        }
    }
    empty.map_or(Ok(()), give_back).map_err(what)
}

fn pages(run: Range<u64>) -> impl Iterator<Item = u64> {
    run.step_by(PAGE as usize)
}

/// One bit for each byte that is not zero, of 64.
pub(super) fn gather(marks: &[u8]) -> u64 {
    let mut bits = 0;
    for (index, eight) in marks.chunks_exact(8).enumerate() {
        let mut word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        if word != 0 {
            word |= word >> 4;
            word |= word >> 2;
            word |= word >> 1;
            word &= 0x0101_0101_0101_0101;
            // Byte i's bit arrives in bit 56 + i, and no two sums meet.
            bits |= (word.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (index * 8);
        }
    }
    bits
}
