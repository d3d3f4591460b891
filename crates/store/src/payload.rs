//! The payload of a leaf or a node: sections, and at the end a table of them.

use std::fs::File;
use std::io::Write;
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::bytes::{Cursor, checksum, is_sealed};
use crate::cache::Cache;
use crate::columns::kind;
use crate::error::{Error, Malformed};
use crate::section::{
    ChunkEntry, Codec, Key, Packer, PushError, SECTION_ENTRY, SectionEncoder, SectionEntry, unpack,
};

const MAGIC: &[u8; 8] = b"pernoTBL";
/// Magic, number of sections, zeros, checksum of the table and these.
pub const TRAILER: usize = 24;
/// A bound: a section for each of so many tasks and blobs.
const SECTIONS_MAX: u32 = 1 << 20;

/// The table and its trailer.
pub fn table_bytes(table: &[SectionEntry]) -> Vec<u8> {
    let mut bytes: Vec<u8> = table.iter().flat_map(SectionEntry::put).collect();
    bytes.extend(MAGIC);
    bytes.extend((table.len() as u32).to_le_bytes());
    bytes.extend([0; 4]);
    let sum = checksum(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

/// Writes `items` as a section at `offset` of a payload.
pub fn write_section<C: Codec, E: From<Error>>(
    (kind, sub): (u16, u32),
    offset: u64,
    items: impl IntoIterator<Item = Result<C::Item, E>>,
    packer: &mut Packer,
    sink: &mut impl Write,
    failed: impl Fn(std::io::Error) -> Error,
) -> Result<Option<SectionEntry>, E> {
    let refuse = |error| match error {
        PushError::Io(source) => failed(source),
        PushError::Refused(item, reason) => {
            Error::Refused { section: kind::name(kind).to_owned(), item, reason }
        }
    };
    let mut encoder = SectionEncoder::<C>::new();
    for item in items {
        encoder.push(item?, packer, sink).map_err(refuse)?;
    }
    let entry = encoder.finish(packer, sink).map_err(refuse)?;
    Ok(entry.map(|entry| SectionEntry { kind, sub, offset, ..entry }))
}

/// Where the bytes of a payload are.
#[derive(Clone, Debug)]
pub enum Source {
    File { file: Arc<File>, path: PathBuf, offset: u64, length: u64 },
    Memory(Arc<[u8]>),
}

impl Source {
    fn length(&self) -> u64 {
        match self {
            Source::File { length, .. } => *length,
            Source::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// `length` must have been compared with what there is: it is allocated.
    fn read(&self, from: u64, length: usize) -> Result<Vec<u8>, Error> {
        match self {
            Source::File { file, path, offset, .. } => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, offset + from)
                    .map_err(|source| Error::io(path, source))?;
                Ok(bytes)
            }
            Source::Memory(bytes) => {
                let bytes = usize::try_from(from).ok().and_then(|from| bytes.get(from..));
                let bytes = bytes.and_then(|bytes| bytes.get(..length));
                Ok(bytes.ok_or_else(|| self.corrupt(from, Malformed("ends early")))?.to_vec())
            }
        }
    }

    pub fn corrupt(&self, at: u64, Malformed(reason): Malformed) -> Error {
        match self {
            Source::File { path, offset, .. } => Error::corrupt(path, offset + at, reason),
            Source::Memory(_) => Error::corrupt("(memory)".as_ref(), at, reason),
        }
    }
}

/// An open payload: its table has been read and checked, nothing else.
#[derive(Debug)]
pub struct Payload {
    source: Source,
    table: Vec<SectionEntry>,
    /// Distinguishes it in a cache.
    number: u64,
}

/// What a section takes in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionSize {
    pub name: &'static str,
    /// The task or tag, for sections that are for one.
    pub sub: u32,
    pub bytes: u64,
}

/// A section of an open payload.
#[derive(Debug)]
pub struct Section<'a, C> {
    payload: &'a Payload,
    index: u32,
    codec: PhantomData<C>,
}

impl<C> Clone for Section<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Section<'_, C> {}

impl Payload {
    pub fn table(&self) -> &[SectionEntry] {
        &self.table
    }

    pub fn open(source: Source, number: u64) -> Result<Payload, Error> {
        let length = source.length();
        let corrupt = |at, reason| source.corrupt(at, Malformed(reason));
        if length < TRAILER as u64 {
            return Err(corrupt(0, "a payload is shorter than its trailer"));
        }
        // One read gets it all in nearly every case.
        let guess = length.min(1024) as usize;
        let mut tail = source.read(length - guess as u64, guess)?;
        let mut trailer = Cursor::new(&tail[tail.len() - TRAILER..]);
        let error = |error| source.corrupt(length - TRAILER as u64, error);
        if trailer.bytes(8).map_err(error)? != MAGIC {
            return Err(corrupt(length - TRAILER as u64, "a payload has no trailer"));
        }
        let sections = trailer.u32().map_err(error)?;
        let needed = TRAILER as u64 + u64::from(sections) * SECTION_ENTRY as u64;
        if sections > SECTIONS_MAX || needed > length {
            return Err(corrupt(length - TRAILER as u64, "a payload has too many sections"));
        }
        let start = length - needed;
        if needed > tail.len() as u64 {
            tail = source.read(start, needed as usize)?;
        }
        let bytes = &tail[tail.len() - needed as usize..];
        if !is_sealed(bytes) {
            return Err(corrupt(start, "the checksum of a table of sections is wrong"));
        }
        let table = parse_table(&bytes[..bytes.len() - TRAILER], start)
            .map_err(|error| source.corrupt(start, error))?;
        Ok(Payload { source, table, number })
    }

    /// About how many bytes this takes in memory.
    pub fn memory(&self) -> usize {
        size_of::<Payload>() + self.table.len() * size_of::<SectionEntry>()
    }

    pub fn section<C: Codec>(&self, kind: u16, sub: u32) -> Option<Section<'_, C>> {
        let key = (kind, sub);
        let index = self.table.binary_search_by_key(&key, |entry| (entry.kind, entry.sub)).ok()?;
        Some(Section { payload: self, index: index as u32, codec: PhantomData })
    }

    /// The numbers of the sections of a kind.
    pub fn subs(&self, kind: u16) -> impl Iterator<Item = u32> + '_ {
        self.table.iter().filter(move |entry| entry.kind == kind).map(|entry| entry.sub)
    }

    pub fn sizes(&self) -> impl Iterator<Item = SectionSize> + '_ {
        self.table.iter().map(|entry| SectionSize {
            name: kind::name(entry.kind),
            sub: entry.sub,
            bytes: entry.length,
        })
    }

    /// Reads everything and compares the checksums, of what it does not understand too.
    pub fn verify(&self) -> Result<(), Error> {
        for (index, entry) in self.table.iter().enumerate() {
            for chunk in self.directory(index)? {
                self.stored(entry, &chunk)?;
            }
        }
        Ok(())
    }

    fn directory(&self, index: usize) -> Result<Vec<ChunkEntry>, Error> {
        let entry = &self.table[index];
        let (at, length) = entry.directory();
        let bytes = self.source.read(at, length)?;
        entry.parse_directory(&bytes).map_err(|error| self.source.corrupt(at, error))
    }

    fn stored(&self, entry: &SectionEntry, chunk: &ChunkEntry) -> Result<Vec<u8>, Error> {
        let at = entry.offset + chunk.offset;
        let stored = self.source.read(at, chunk.stored_len as usize)?;
        if checksum(&stored) != chunk.sum {
            return Err(self.source.corrupt(at, Malformed("the checksum of a chunk is wrong")));
        }
        Ok(stored)
    }
}

/// Sections fill the payload from its beginning to the table, in order of kind and number.
fn parse_table(bytes: &[u8], end: u64) -> Result<Vec<SectionEntry>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let mut table: Vec<SectionEntry> = Vec::new();
    let mut position = 0_u64;
    while cursor.rest_len() > 0 {
        let entry = SectionEntry::get(&mut cursor)?;
        let sorted = table.last().is_none_or(|b| (b.kind, b.sub) < (entry.kind, entry.sub));
        if !sorted || entry.offset != position || entry.length > end - position {
            return Err(Malformed("a table of sections is out of order"));
        }
        position += entry.length;
        table.push(entry);
    }
    if position != end {
        return Err(Malformed("sections do not fill their payload"));
    }
    Ok(table)
}

impl<'a, C: Codec> Section<'a, C> {
    fn entry(&self) -> &'a SectionEntry {
        &self.payload.table[self.index as usize]
    }

    pub fn directory(&self, cache: &Cache) -> Result<Arc<Vec<ChunkEntry>>, Error> {
        cache.get((self.payload.number, self.index, u32::MAX), || {
            let directory = self.payload.directory(self.index as usize)?;
            let bytes = directory.len() * size_of::<ChunkEntry>();
            Ok((directory, bytes))
        })
    }

    fn decode(&self, chunk: &ChunkEntry) -> Result<Vec<C::Item>, Error> {
        let stored = self.payload.stored(self.entry(), chunk)?;
        let items = unpack(&stored, chunk.raw_len as usize)
            .and_then(|raw| C::decode(&raw, chunk.items as usize));
        let items = items.map_err(|error| self.corrupt(chunk, error))?;
        let good = items.len() == chunk.items as usize
            && (C::CHUNK_BYTES == 0 || items.first().map(C::key) == Some(chunk.first));
        if !good {
            let error = Malformed("a chunk does not begin as its directory says");
            return Err(self.corrupt(chunk, error));
        }
        Ok(items)
    }

    fn corrupt(&self, chunk: &ChunkEntry, error: Malformed) -> Error {
        self.payload.source.corrupt(self.entry().offset + chunk.offset, error)
    }

    pub fn chunk(&self, index: usize, cache: &Cache) -> Result<Arc<Vec<C::Item>>, Error> {
        let key = (self.payload.number, self.index, index as u32);
        cache.get(key, || {
            let directory = self.directory(cache)?;
            let items = self.decode(&directory[index])?;
            let bytes = items.iter().map(C::memory).sum();
            Ok((items, bytes))
        })
    }

    /// The chunk that holds `key` if any does, and the first that may hold something behind.
    /// Keys must not repeat.
    pub fn chunk_of(&self, key: Key, cache: &Cache) -> Result<Arc<Vec<C::Item>>, Error> {
        let directory = self.directory(cache)?;
        let index = directory.partition_point(|chunk| chunk.first <= key).saturating_sub(1);
        self.chunk(index, cache)
    }

    /// Calls `visit` with the item with that key, if there is one. Keys must not repeat.
    pub fn find<T>(
        &self,
        key: Key,
        cache: &Cache,
        visit: impl FnOnce(&C::Item) -> T,
    ) -> Result<Option<T>, Error> {
        let chunk = self.chunk_of(key, cache)?;
        let found = chunk.binary_search_by_key(&key, C::key).ok();
        Ok(found.map(|index| visit(&chunk[index])))
    }
}

/// The items of a section in order, decoded chunk by chunk and past the cache.
pub struct Items<C: Codec> {
    payload: Option<Arc<Payload>>,
    index: u32,
    directory: std::vec::IntoIter<ChunkEntry>,
    items: std::vec::IntoIter<C::Item>,
}

impl<C: Codec> std::fmt::Debug for Items<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Items").field("payload", &self.payload).finish_non_exhaustive()
    }
}

impl<C: Codec> Items<C> {
    /// None at all if the payload has no such section. Begins with the chunk that may hold `from`.
    pub fn new(payload: &Arc<Payload>, section: (u16, u32), from: Key) -> Result<Self, Error> {
        let mut items = Items {
            payload: None,
            index: 0,
            directory: Vec::new().into_iter(),
            items: Vec::new().into_iter(),
        };
        if let Some(section) = payload.section::<C>(section.0, section.1) {
            let mut directory = payload.directory(section.index as usize)?;
            // Equal keys may lie on both sides of the border of two chunks.
            let skip = directory.partition_point(|chunk| chunk.first < from).saturating_sub(1);
            directory.drain(..skip);
            items.payload = Some(payload.clone());
            items.index = section.index;
            items.directory = directory.into_iter();
        }
        Ok(items)
    }

    fn next_chunk(&mut self) -> Option<Result<(), Error>> {
        let payload = self.payload.as_ref()?;
        let chunk = self.directory.next()?;
        let section = Section::<C> { payload, index: self.index, codec: PhantomData };
        Some(section.decode(&chunk).map(|items| self.items = items.into_iter()))
    }
}

impl<C: Codec> Iterator for Items<C> {
    type Item = Result<C::Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(Ok(item));
            }
            if let Err(error) = self.next_chunk()? {
                // Nothing behind an error means anything.
                self.payload = None;
                return Some(Err(error));
            }
        }
    }
}
