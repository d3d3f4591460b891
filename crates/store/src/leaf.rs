//! A leaf: what happened in one segment of the run. Encoding and reading of its payload.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Moment, Tid};

use crate::columns::calls::Calls;
use crate::columns::counts::Counts;
use crate::columns::depths::LeastDepths;
use crate::columns::happenings::Happenings;
use crate::columns::kind;
use crate::columns::lineages::Lineages;
use crate::columns::lines::Lines;
use crate::columns::pages::Pages;
use crate::columns::pieces::{PIECE_BYTES, Piece, Pieces};
use crate::columns::runs::Runs;
use crate::error::Error;
use crate::items::{
    Call, CodeRun, Count, Depths, Happening, Lineage, Owner, PAGE_LINES, PageDelta, PageId,
    ReadPage, TouchedLine, WordMask, WrittenPage,
};
use crate::payload::{Items, Payload, SectionSize, Source, table_bytes};
use crate::section::{Codec, Packer, PushError, SectionEncoder, SectionEntry};

/// Classes of keys that this crate counts by itself; the caller's are below.
pub mod class {
    /// Events, by kind.
    pub const HAPPENING: u32 = u32::MAX;
    /// Owners that come to be: the key is their number.
    pub const LINEAGE: u32 = u32::MAX - 1;
    /// Classes below this are the caller's.
    pub const OWN_END: u32 = u32::MAX - 15;
}

/// Encodes the sections of a leaf, in any order, each at most once; a section without items is
/// left out. Holds the compressed sections and one chunk.
#[derive(Debug)]
pub struct LeafEncoder {
    packer: Packer,
    sections: BTreeMap<(u16, u32), (SectionEntry, Vec<u8>)>,
    counted: BTreeMap<(u32, u64), u64>,
}

/// The payload of a leaf, ready to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedLeaf {
    pub(crate) bytes: Vec<u8>,
}

impl EncodedLeaf {
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// From what another process encoded: everything in it is checked.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<EncodedLeaf, Error> {
        let bytes: Arc<[u8]> = bytes.into();
        Payload::open(Source::Memory(bytes.clone()), 0)?.verify()?;
        Ok(EncodedLeaf { bytes: bytes.to_vec() })
    }

    /// For reading it back before it is stored.
    pub fn read(&self) -> Result<Leaf, Error> {
        let source = Source::Memory(self.bytes.as_slice().into());
        Ok(Leaf { payload: Arc::new(Payload::open(source, 0)?) })
    }
}

impl LeafEncoder {
    /// `level` is zstd's, 1 to 22.
    pub fn new(level: i32) -> Result<LeafEncoder, Error> {
        let packer = Packer::new(level).map_err(|source| Error::io("zstd".as_ref(), source))?;
        Ok(LeafEncoder { packer, sections: BTreeMap::new(), counted: BTreeMap::new() })
    }

    /// Goes on with a leaf, for sections that it does not have.
    pub fn reopen(leaf: &EncodedLeaf, level: i32) -> Result<LeafEncoder, Error> {
        let mut encoder = LeafEncoder::new(level)?;
        let payload = leaf.read()?.payload;
        for count in Items::<Counts>::new(&payload, (kind::KEYS, 0), (0, 0))? {
            let Count { class, key, count, .. } = count?;
            encoder.count(class, key, count);
        }
        for entry in payload.table().iter().filter(|entry| entry.kind != kind::KEYS) {
            let bytes = &leaf.bytes[entry.offset as usize..][..entry.length as usize];
            encoder.sections.insert((entry.kind, entry.sub), (*entry, bytes.to_vec()));
        }
        Ok(encoder)
    }

    /// Written words, in order of page. Supersets are fine.
    pub fn written(&mut self, pages: impl IntoIterator<Item = WrittenPage>) -> Result<(), Error> {
        self.section::<Lines>((kind::WRITTEN, 0), pages.into_iter().flat_map(lines_written))
    }

    /// Read lines, in order of page.
    pub fn read(&mut self, pages: impl IntoIterator<Item = ReadPage>) -> Result<(), Error> {
        self.section::<Lines>((kind::READ, 0), pages.into_iter().flat_map(lines_read))
    }

    /// Executed code: disjoint runs in order of owner and address, `children` = 1. Adjacent runs
    /// with equal counts become one.
    pub fn code(&mut self, runs: impl IntoIterator<Item = CodeRun>) -> Result<(), Error> {
        let mut runs = runs.into_iter().peekable();
        let joined = std::iter::from_fn(|| {
            let mut run = runs.next()?;
            while let Some(next) = runs.next_if(|next| run.continues_in(next)) {
                run.end = next.end;
            }
            Some(run)
        });
        self.section::<Runs>((kind::CODE, 0), joined)
    }

    /// Called functions: class owner, key address; in order, `children` = 1.
    pub fn called(&mut self, functions: impl IntoIterator<Item = Count>) -> Result<(), Error> {
        self.section::<Counts>((kind::CALLED, 0), functions)
    }

    /// Counts of whatever else has a number, in any order; equal keys are added up. Classes from
    /// [`class::OWN_END`] on are refused.
    pub fn keys(&mut self, keys: impl IntoIterator<Item = Count>) -> Result<(), Error> {
        for (item, count) in (0..).zip(keys) {
            if count.class >= class::OWN_END || count.count == 0 {
                let reason = "its class is reserved, or its count is zero";
                return Err(refused(kind::KEYS, item, reason));
            }
            self.count(count.class, count.key, count.count);
        }
        Ok(())
    }

    /// The least depth of the call stack of each task that ran, by number (as unsigned).
    pub fn depths(&mut self, tasks: impl IntoIterator<Item = (Tid, i64)>) -> Result<(), Error> {
        let items = tasks.into_iter().map(|(task, depth)| Depths {
            task,
            children: 1,
            depths: vec![depth],
        });
        self.section::<LeastDepths>((kind::DEPTHS, 0), items)
    }

    /// New values of changed words, in order of page, `children` = 1.
    pub fn memory(&mut self, pages: impl IntoIterator<Item = PageDelta>) -> Result<(), Error> {
        self.section::<Pages>((kind::MEMORY, 0), pages)
    }

    /// Owners that come to be in this leaf, in order of number. An owner that is not listed
    /// anywhere has no parent.
    pub fn lineages(&mut self, owners: impl IntoIterator<Item = Lineage>) -> Result<(), Error> {
        let owners: Vec<Lineage> = owners.into_iter().collect();
        self.section::<Lineages>((kind::LINEAGES, 0), owners.iter().copied())?;
        for lineage in owners {
            self.count(class::LINEAGE, u64::from(lineage.owner.0), 1);
        }
        Ok(())
    }

    /// Calls and returns of one task, in order of moment, in pieces of any length.
    pub fn calls<'a>(
        &mut self,
        task: Tid,
        calls: impl IntoIterator<Item = &'a [Call]>,
    ) -> Result<(), Error> {
        let id = (kind::CALLS, task.0 as u32);
        self.write_section(id, |packer, bytes| {
            let mut encoder = SectionEncoder::<Calls>::new();
            for calls in calls {
                encoder.push_all(calls, packer, bytes)?;
            }
            encoder.finish(packer, bytes)
        })
    }

    /// Events, in order of moment and number. They are also counted by kind, for
    /// [`crate::Key::Counted`] with [`class::HAPPENING`].
    pub fn happenings(&mut self, events: impl IntoIterator<Item = Happening>) -> Result<(), Error> {
        let mut kinds = BTreeMap::new();
        let events = events.into_iter().inspect(|event| {
            *kinds.entry(event.kind).or_default() += 1;
        });
        self.section::<Happenings>((kind::HAPPENINGS, 0), events)?;
        for (kind, count) in kinds {
            self.count(class::HAPPENING, u64::from(kind), count);
        }
        Ok(())
    }

    /// Opaque bytes under a tag of the caller's, such as a checkpoint.
    pub fn blob(&mut self, tag: u32, bytes: &[u8]) -> Result<(), Error> {
        let offsets = (0_u64..).step_by(PIECE_BYTES);
        let pieces = offsets
            .zip(bytes.chunks(PIECE_BYTES))
            .map(|(offset, bytes)| Piece { offset, bytes: bytes.to_vec() });
        self.section::<Pieces>((kind::BLOB, tag), pieces)
    }

    /// All sections together, in the order of their kinds.
    pub fn finish(mut self) -> Result<EncodedLeaf, Error> {
        let counted = std::mem::take(&mut self.counted);
        let keys = counted.into_iter().map(|((class, key), count)| Count {
            class,
            key,
            count,
            children: 1,
        });
        self.section::<Counts>((kind::KEYS, 0), keys)?;
        let (mut bytes, mut table) = (Vec::new(), Vec::new());
        for (mut entry, section) in self.sections.into_values() {
            entry.offset = bytes.len() as u64;
            table.push(entry);
            bytes.extend(section);
        }
        bytes.extend(table_bytes(&table));
        Ok(EncodedLeaf { bytes })
    }

    fn count(&mut self, class: u32, key: u64, count: u64) {
        let sum = self.counted.entry((class, key)).or_default();
        *sum = sum.saturating_add(count);
    }

    fn section<C: Codec>(
        &mut self,
        id: (u16, u32),
        items: impl IntoIterator<Item = C::Item>,
    ) -> Result<(), Error> {
        self.write_section(id, |packer, bytes| {
            let mut encoder = SectionEncoder::<C>::new();
            for item in items {
                encoder.push(item, packer, bytes)?;
            }
            encoder.finish(packer, bytes)
        })
    }

    fn write_section(
        &mut self,
        id: (u16, u32),
        write: impl FnOnce(&mut Packer, &mut Vec<u8>) -> Result<Option<SectionEntry>, PushError>,
    ) -> Result<(), Error> {
        if self.sections.contains_key(&id) {
            return Err(refused(id.0, 0, "the leaf has such a section already"));
        }
        let mut bytes = Vec::new();
        let entry = write(&mut self.packer, &mut bytes).map_err(|error| match error {
            PushError::Io(source) => Error::io("zstd".as_ref(), source),
            PushError::Refused(item, reason) => refused(id.0, item, reason),
        })?;
        if let Some(entry) = entry {
            let entry = SectionEntry { kind: id.0, sub: id.1, ..entry };
            self.sections.insert(id, (entry, bytes));
        }
        Ok(())
    }
}

fn refused(kind: u16, item: u64, reason: &'static str) -> Error {
    Error::Refused { section: kind::name(kind).to_owned(), item, reason }
}

fn lines_written(page: WrittenPage) -> impl Iterator<Item = TouchedLine> {
    let WrittenPage { page, words } = page;
    (0..PAGE_LINES).filter_map(move |line| {
        let words = line_words(&words, line);
        let line = page.page * PAGE_LINES + line;
        (words != 0).then_some(TouchedLine { owner: page.owner, line, words, children: 1 })
    })
}

fn lines_read(page: ReadPage) -> impl Iterator<Item = TouchedLine> {
    (0..PAGE_LINES).filter(move |line| page.lines >> line & 1 == 1).map(move |line| TouchedLine {
        owner: page.page.owner,
        line: page.page.page * PAGE_LINES + line,
        words: 0xff,
        children: 1,
    })
}

/// The eight words of a line of a page.
fn line_words(words: &WordMask, line: u64) -> u8 {
    (words[line as usize / 8] >> (line % 8 * 8)) as u8
}

/// An open leaf. Sections are decoded when they are asked for, chunk by chunk, past the cache
/// unless said otherwise; each iterator ends behind its first error.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub(crate) payload: Arc<Payload>,
}

impl Leaf {
    /// Written lines with their words, in order.
    pub fn written(&self) -> Result<impl Iterator<Item = Result<TouchedLine, Error>>, Error> {
        Items::<Lines>::new(&self.payload, (kind::WRITTEN, 0), (0, 0))
    }

    pub fn read(&self) -> Result<impl Iterator<Item = Result<TouchedLine, Error>>, Error> {
        Items::<Lines>::new(&self.payload, (kind::READ, 0), (0, 0))
    }

    pub fn code(&self) -> Result<impl Iterator<Item = Result<CodeRun, Error>>, Error> {
        Items::<Runs>::new(&self.payload, (kind::CODE, 0), (0, 0))
    }

    pub fn called(&self) -> Result<impl Iterator<Item = Result<Count, Error>>, Error> {
        Items::<Counts>::new(&self.payload, (kind::CALLED, 0), (0, 0))
    }

    pub fn keys(&self) -> Result<impl Iterator<Item = Result<Count, Error>>, Error> {
        Items::<Counts>::new(&self.payload, (kind::KEYS, 0), (0, 0))
    }

    pub fn depths(&self) -> Result<impl Iterator<Item = Result<Depths, Error>>, Error> {
        Items::<LeastDepths>::new(&self.payload, (kind::DEPTHS, 0), (0, 0))
    }

    /// All changed pages.
    pub fn memory(&self) -> Result<impl Iterator<Item = Result<PageDelta, Error>>, Error> {
        self.memory_from(PageId { owner: Owner(0), page: 0 })
    }

    /// The changed pages from one on.
    pub fn memory_from(
        &self,
        page: PageId,
    ) -> Result<impl Iterator<Item = Result<PageDelta, Error>>, Error> {
        let from = (page.owner.0, page.page);
        let items = Items::<Pages>::new(&self.payload, (kind::MEMORY, 0), from)?;
        Ok(skip_before(items, move |delta| delta.page < page))
    }

    pub fn lineages(&self) -> Result<impl Iterator<Item = Result<Lineage, Error>>, Error> {
        Items::<Lineages>::new(&self.payload, (kind::LINEAGES, 0), (0, 0))
    }

    /// The tasks that have calls here, by number (as unsigned).
    pub fn tasks_with_calls(&self) -> impl Iterator<Item = Tid> + '_ {
        self.payload.subs(kind::CALLS).map(|task| Tid(task as i32))
    }

    /// Calls and returns of a task from a moment on.
    pub fn calls(
        &self,
        task: Tid,
        from: Moment,
    ) -> Result<impl Iterator<Item = Result<Call, Error>>, Error> {
        let section = (kind::CALLS, task.0 as u32);
        let items = Items::<Calls>::new(&self.payload, section, (0, from.0))?;
        Ok(skip_before(items, move |call| call.moment < from))
    }

    /// Events from a moment on.
    pub fn happenings(
        &self,
        from: Moment,
    ) -> Result<impl Iterator<Item = Result<Happening, Error>>, Error> {
        let items = Items::<Happenings>::new(&self.payload, (kind::HAPPENINGS, 0), (0, from.0))?;
        Ok(skip_before(items, move |event| event.moment < from))
    }

    /// The tags of the blobs, in order.
    pub fn blobs(&self) -> impl Iterator<Item = u32> + '_ {
        self.payload.subs(kind::BLOB)
    }

    /// The bytes under a tag, piece by piece; none if they are empty or were never stored.
    pub fn blob(&self, tag: u32) -> Result<impl Iterator<Item = Result<Vec<u8>, Error>>, Error> {
        let pieces = Items::<Pieces>::new(&self.payload, (kind::BLOB, tag), (0, 0))?;
        Ok(pieces.map(|piece| piece.map(|piece| piece.bytes)))
    }

    pub fn sizes(&self) -> impl Iterator<Item = SectionSize> + '_ {
        self.payload.sizes()
    }
}

fn skip_before<T>(
    items: impl Iterator<Item = Result<T, Error>>,
    before: impl Fn(&T) -> bool,
) -> impl Iterator<Item = Result<T, Error>> {
    items.skip_while(move |item| item.as_ref().is_ok_and(&before))
}
