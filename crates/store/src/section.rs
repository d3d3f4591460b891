//! Sections: sorted items of one kind, cut into chunks that decompress independently.
//!
//! Chunks come first, then a directory of fixed width with the first key of each, so that a
//! look-up reads the directory and decompresses one chunk. `docs/store-format.md` has the bytes.

use std::cell::RefCell;
use std::io::{self, Write};

use crate::bytes::{Cursor, Fields, checksum};
use crate::error::Malformed;

/// Sorts items within a section: an owner, class or zero, then an address, number or moment.
pub type Key = (u32, u64);

/// Items in a chunk, at most.
pub const CHUNK_ITEMS_MAX: usize = 1 << 16;
/// Bytes of a chunk before compression, at most: a bound for what reading may allocate.
pub const CHUNK_BYTES_MAX: usize = 32 << 20;
/// Bytes of a directory entry.
pub const DIRECTORY_ENTRY: usize = 40;
/// Bytes of an entry in a payload's table of sections.
pub const SECTION_ENTRY: usize = 40;

/// How items of one kind become bytes.
pub trait Codec: 'static {
    type Item: Send + Sync;
    /// A chunk is closed when its items are so large, by [`Codec::size`].
    const CHUNK_BYTES: usize = 16 << 10;

    fn key(item: &Self::Item) -> Key;
    /// About how many bytes the item needs before compression.
    fn size(item: &Self::Item) -> usize;
    /// Why an item may not follow another (the first has none before it).
    fn check(before: Option<&Self::Item>, item: &Self::Item) -> Result<(), &'static str>;
    /// Ways of encoding a chunk; the one is taken that compresses a sample best.
    const VARIANTS: u8 = 1;
    /// `variant` is below [`Codec::VARIANTS`], and is stored if there is more than one.
    fn encode(items: &[Self::Item], variant: u8, out: &mut Vec<u8>);
    /// Exactly the inverse; `items` is at most [`CHUNK_ITEMS_MAX`].
    fn decode(raw: &[u8], items: usize) -> Result<Vec<Self::Item>, Malformed>;
    /// About how many bytes the item takes in memory.
    fn memory(item: &Self::Item) -> usize {
        _ = item;
        size_of::<Self::Item>()
    }
}

/// A compressor with its buffers.
pub struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
    /// A fast one, for trials.
    trial: zstd::bulk::Compressor<'static>,
    raw: Vec<u8>,
    packed: Vec<u8>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    /// `level` is zstd's, 1 to 22.
    pub fn new(level: i32) -> io::Result<Packer> {
        let mut zstd = zstd::bulk::Compressor::new(level.clamp(1, 22))?;
        zstd.include_contentsize(false)?;
        let trial = zstd::bulk::Compressor::new(1)?;
        Ok(Packer { zstd, trial, raw: Vec::new(), packed: Vec::new() })
    }

    /// Encodes a chunk into `self.raw`.
    fn encode<C: Codec>(&mut self, items: &[C::Item]) -> io::Result<()> {
        let mut best = (usize::MAX, 0);
        if C::VARIANTS > 1 {
            // An eighth of them, out of the middle.
            let length = (items.len() / 8).max(2).min(items.len());
            let start = (items.len() - length) / 2;
            for variant in 0..C::VARIANTS {
                self.raw.clear();
                C::encode(&items[start..start + length], variant, &mut self.raw);
                self.packed.clear();
                self.packed.reserve(zstd::zstd_safe::compress_bound(self.raw.len()));
                let packed = self.trial.compress_to_buffer(&self.raw, &mut self.packed)?;
                best = best.min((packed, variant));
            }
        }
        self.raw.clear();
        C::encode(items, best.1, &mut self.raw);
        Ok(())
    }

    /// Compresses `self.raw` and says which bytes to store: the raw ones if they are no longer.
    fn pack(&mut self) -> io::Result<&[u8]> {
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(self.raw.len()));
        self.zstd.compress_to_buffer(&self.raw, &mut self.packed)?;
        Ok(if self.packed.len() < self.raw.len() { &self.packed } else { &self.raw })
    }
}

/// Brings back what [`Packer`] stored.
pub fn unpack(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, Malformed> {
    if stored.len() == raw_len {
        return Ok(stored.to_vec());
    }
    if raw_len > CHUNK_BYTES_MAX {
        return Err(Malformed("a chunk is too large"));
    }
    thread_local! {
        static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    let raw = ZSTD.with_borrow_mut(|zstd| {
        let decompressor = match zstd.take() {
            Some(decompressor) => decompressor,
            None => zstd::bulk::Decompressor::new().ok()?,
        };
        zstd.insert(decompressor).decompress(stored, raw_len).ok()
    });
    let raw = raw.ok_or(Malformed("a chunk does not decompress"))?;
    if raw.len() != raw_len {
        return Err(Malformed("a chunk decompresses to another length"));
    }
    Ok(raw)
}

/// Where a chunk is, and what it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkEntry {
    pub first: Key,
    pub items: u32,
    pub raw_len: u32,
    pub stored_len: u32,
    /// From the beginning of the section.
    pub offset: u64,
    /// Of the stored bytes.
    pub sum: u64,
}

impl ChunkEntry {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.first.0.to_le_bytes());
        out.extend(self.items.to_le_bytes());
        out.extend(self.first.1.to_le_bytes());
        out.extend(self.raw_len.to_le_bytes());
        out.extend(self.stored_len.to_le_bytes());
        out.extend(self.offset.to_le_bytes());
        out.extend(self.sum.to_le_bytes());
    }

    fn get(cursor: &mut Cursor<'_>) -> Result<ChunkEntry, Malformed> {
        let owner = cursor.u32()?;
        let items = cursor.u32()?;
        let first = (owner, cursor.u64()?);
        Ok(ChunkEntry {
            first,
            items,
            raw_len: cursor.u32()?,
            stored_len: cursor.u32()?,
            offset: cursor.u64()?,
            sum: cursor.u64()?,
        })
    }
}

/// An entry of the table at the end of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionEntry {
    pub kind: u16,
    /// Which one of several of that kind: a task, a tag.
    pub sub: u32,
    pub chunks: u32,
    /// From the beginning of the payload.
    pub offset: u64,
    /// With the directory, which comes last.
    pub length: u64,
    /// Of the directory.
    pub sum: u64,
}

impl SectionEntry {
    pub fn put(&self) -> [u8; SECTION_ENTRY] {
        Fields::<SECTION_ENTRY>::new()
            .put(&self.kind.to_le_bytes())
            .put(&0_u16.to_le_bytes())
            .put(&self.sub.to_le_bytes())
            .put(&self.chunks.to_le_bytes())
            .put(&0_u32.to_le_bytes())
            .put(&self.offset.to_le_bytes())
            .put(&self.length.to_le_bytes())
            .put(&self.sum.to_le_bytes())
            .bytes()
    }

    pub fn get(cursor: &mut Cursor<'_>) -> Result<SectionEntry, Malformed> {
        let kind = cursor.u16()?;
        let zero = cursor.u16()?;
        let sub = cursor.u32()?;
        let chunks = cursor.u32()?;
        if (zero, cursor.u32()?) != (0, 0) {
            return Err(Malformed("reserved bytes are not zero"));
        }
        let (offset, length, sum) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        if length < u64::from(chunks) * DIRECTORY_ENTRY as u64 {
            return Err(Malformed("a section is shorter than its directory"));
        }
        Ok(SectionEntry { kind, sub, chunks, offset, length, sum })
    }

    /// Where the directory is within the payload.
    pub fn directory(&self) -> (u64, usize) {
        let length = self.chunks as usize * DIRECTORY_ENTRY;
        (self.offset + self.length - length as u64, length)
    }

    /// The directory from its bytes, with everything checked that a look-up relies upon.
    pub fn parse_directory(&self, bytes: &[u8]) -> Result<Vec<ChunkEntry>, Malformed> {
        if checksum(bytes) != self.sum {
            return Err(Malformed("the checksum of a directory is wrong"));
        }
        let mut cursor = Cursor::new(bytes);
        let mut directory: Vec<ChunkEntry> = Vec::with_capacity(self.chunks as usize);
        let mut end = 0;
        for _ in 0..self.chunks {
            let chunk = ChunkEntry::get(&mut cursor)?;
            let sorted = directory.last().is_none_or(|before| before.first <= chunk.first);
            if chunk.offset != end || !sorted || chunk.stored_len > chunk.raw_len {
                return Err(Malformed("a directory is out of order"));
            }
            if chunk.items as usize > CHUNK_ITEMS_MAX || chunk.raw_len as usize > CHUNK_BYTES_MAX {
                return Err(Malformed("a chunk is too large"));
            }
            end += u64::from(chunk.stored_len);
            directory.push(chunk);
        }
        cursor.end()?;
        if end + bytes.len() as u64 != self.length {
            return Err(Malformed("chunks do not fill their section"));
        }
        Ok(directory)
    }
}

/// Why an item was not taken.
#[derive(Debug)]
pub enum PushError {
    Io(io::Error),
    /// Number of the item and reason.
    Refused(u64, &'static str),
}

impl From<io::Error> for PushError {
    fn from(error: io::Error) -> PushError {
        PushError::Io(error)
    }
}

/// Writes the items of one section, given in order, to a sink. Holds one chunk.
pub struct SectionEncoder<C: Codec> {
    items: Vec<C::Item>,
    size: usize,
    total: u64,
    position: u64,
    chunks: u32,
    directory: Vec<u8>,
}

impl<C: Codec> SectionEncoder<C> {
    pub fn new() -> SectionEncoder<C> {
        SectionEncoder {
            items: Vec::new(),
            size: 0,
            total: 0,
            position: 0,
            chunks: 0,
            directory: Vec::new(),
        }
    }

    pub fn push(
        &mut self,
        item: C::Item,
        packer: &mut Packer,
        sink: &mut impl Write,
    ) -> Result<(), PushError> {
        C::check(self.items.last(), &item).map_err(|why| PushError::Refused(self.total, why))?;
        // Only now, since the item had to be compared with the last one.
        if self.size >= C::CHUNK_BYTES || self.items.len() == CHUNK_ITEMS_MAX {
            self.flush(packer, sink)?;
        }
        self.size += C::size(&item);
        self.items.push(item);
        self.total += 1;
        Ok(())
    }

    /// As `push` for each; whole chunks of them are not copied.
    pub fn push_all(
        &mut self,
        items: &[C::Item],
        packer: &mut Packer,
        sink: &mut impl Write,
    ) -> Result<(), PushError>
    where
        C::Item: Clone,
    {
        let mut rest = items;
        while let Some(first) = rest.first() {
            if self.size >= C::CHUNK_BYTES {
                C::check(self.items.last(), first)
                    .map_err(|why| PushError::Refused(self.total, why))?;
                self.flush(packer, sink)?;
            }
            if !self.items.is_empty() {
                self.push(first.clone(), packer, sink)?;
                rest = &rest[1..];
                continue;
            }
            let mut size = 0;
            let full = rest.iter().position(|item| {
                let full = size >= C::CHUNK_BYTES;
                size += C::size(item);
                full
            });
            let length = full.unwrap_or(rest.len()).min(CHUNK_ITEMS_MAX);
            let (chunk, behind) = rest.split_at(length);
            if behind.is_empty() {
                for item in chunk {
                    self.push(item.clone(), packer, sink)?;
                }
                return Ok(());
            }
            for (number, pair) in (self.total..).zip(rest[..=length].windows(2)) {
                C::check(pair.first(), &pair[1]).map_err(|why| PushError::Refused(number, why))?;
            }
            self.total += length as u64;
            self.write(chunk, packer, sink)?;
            rest = behind;
        }
        Ok(())
    }

    fn flush(&mut self, packer: &mut Packer, sink: &mut impl Write) -> Result<(), PushError> {
        let items = std::mem::take(&mut self.items);
        self.write(&items, packer, sink)?;
        self.items = items;
        self.items.clear();
        self.size = 0;
        Ok(())
    }

    fn write(
        &mut self,
        items: &[C::Item],
        packer: &mut Packer,
        sink: &mut impl Write,
    ) -> Result<(), PushError> {
        let Some(first) = items.first() else { return Ok(()) };
        packer.encode::<C>(items)?;
        let raw_len = packer.raw.len();
        if raw_len > CHUNK_BYTES_MAX {
            return Err(PushError::Refused(self.total - 1, "it is too large"));
        }
        let stored = packer.pack()?;
        sink.write_all(stored)?;
        let entry = ChunkEntry {
            first: C::key(first),
            items: items.len() as u32,
            raw_len: raw_len as u32,
            stored_len: stored.len() as u32,
            offset: self.position,
            sum: checksum(stored),
        };
        entry.put(&mut self.directory);
        self.position += stored.len() as u64;
        self.chunks += 1;
        Ok(())
    }

    /// Writes what is left and the directory; `None` if there was no item at all. The entry's
    /// offset is left to the caller.
    pub fn finish(
        mut self,
        packer: &mut Packer,
        sink: &mut impl Write,
    ) -> Result<Option<SectionEntry>, PushError> {
        self.flush(packer, sink)?;
        if self.chunks == 0 {
            return Ok(None);
        }
        sink.write_all(&self.directory)?;
        Ok(Some(SectionEntry {
            kind: 0,
            sub: 0,
            chunks: self.chunks,
            offset: 0,
            length: self.position + self.directory.len() as u64,
            sum: checksum(&self.directory),
        }))
    }
}
