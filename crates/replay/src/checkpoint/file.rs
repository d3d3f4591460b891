//! A checkpoint as a file that stands for itself.
//!
//! ```text
//! header    magic, version, UUID of the recording, sizes of what follows, checksum
//! state     as `encode_state` gives it, compressed, checksum
//! map       which page of which owner has which contents, compressed, checksum
//! groups    contents of up to 256 pages each, compressed, with a small header and checksum
//! ```
//!
//! Numbers are little-endian, compression is Zstandard, checksums are XXH3 with 64 bits over
//! everything since the last one. Contents that several owners share are there once. Mapped files
//! are not there: they come from the recording. Reading allocates in proportion to the file: what
//! decompresses to the same page again and again is kept once.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use machine::{Page, Pages};
use model::PAGE_SIZE;
use rr_trace::Trace;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::{Checkpoint, Opened, Owner};
use crate::Error;

const MAGIC: [u8; 16] = *b"rr checkpoint\r\n\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16 + 4 + 16 + 4 * 4;
/// Of XXH3 with 64 bits.
const CHECKSUM_BYTES: usize = 8;
/// Decompressed: a thousand tasks are 2 MB, and a page takes about two bytes of the map.
const SECTION_BYTES_MAX: usize = 64 << 20;
const GROUP_PAGES: usize = 256;
const PAGE_BYTES: usize = PAGE_SIZE as usize;
/// Compressed groups are never much longer than their contents.
const GROUP_BYTES_MAX: usize = GROUP_PAGES * PAGE_BYTES * 2;
const LEVEL: i32 = 1;

/// The pages of one owner: distance from the page before, and index of the contents.
#[derive(Serialize, Deserialize)]
struct OwnerMap {
    owner: Owner,
    pages: Vec<(u64, u32)>,
}

impl Checkpoint {
    /// Writes a file, which appears under its name when it is complete, with permissions as the
    /// umask has them. It is not flushed to the disk: after a crash of the host its checksums
    /// tell.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::CheckpointFile { file: path.into(), source };
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let written = OpenOptions::new().write(true).create_new(true).open(&temporary).and_then(
            |mut file| {
                let written = self.write_to(&mut file);
                written.and_then(|()| std::fs::rename(&temporary, path)).inspect_err(|_| {
                    // The first error is the one to report.
                    let _ = std::fs::remove_file(&temporary);
                })
            },
        );
        written.map_err(failed)
    }

    /// Writes the bytes of such a file.
    pub fn write_to(&self, output: &mut impl Write) -> io::Result<()> {
        let mut output = Output { inner: BufWriter::new(output), hash: Xxh3::new() };
        let mut contents = Contents::default();
        let map: Vec<OwnerMap> =
            self.memory().into_iter().map(|(owner, pages)| contents.map(owner, pages)).collect();
        let map = postcard::to_extend(&map, Vec::new()).map_err(io::Error::other)?;
        let state = self.encode_state();
        let state_bytes = zstd::bulk::compress(&state, LEVEL)?;
        let map_bytes = zstd::bulk::compress(&map, LEVEL)?;
        if state.len().max(map.len()) > SECTION_BYTES_MAX {
            return Err(io::Error::other(
                "more tasks, mappings or pages than a checkpoint can have",
            ));
        }
        let groups = contents.pages.chunks(GROUP_PAGES);
        output.put(&MAGIC)?;
        output.put(&VERSION.to_le_bytes())?;
        output.put(&self.uuid)?;
        for size in [state_bytes.len(), map_bytes.len(), groups.len(), contents.pages.len()] {
            output.put_number(size)?;
        }
        output.checksum()?;
        for section in [state_bytes, map_bytes] {
            output.put(&section)?;
            output.checksum()?;
        }
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        let mut raw = Vec::with_capacity(GROUP_PAGES * PAGE_BYTES);
        for group in groups {
            raw.clear();
            group.iter().for_each(|page| raw.extend_from_slice(&page[..]));
            let bytes = compressor.compress(&raw)?;
            output.put_number(bytes.len())?;
            output.put(&bytes)?;
            output.checksum()?;
        }
        output.inner.flush()
    }

    /// Reads a file that [`Checkpoint::write`] wrote, of this recording.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] naming file and offset if it is damaged, of another version or of
    /// another recording; [`Error::CheckpointFile`] if it or a mapped file cannot be read.
    pub fn read(path: &Path, trace: &Trace, opened: &Opened) -> Result<Checkpoint, Error> {
        let failed = |source| Error::CheckpointFile { file: path.into(), source };
        // Before opening: to open a pipe would wait for ever.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(failed(source));
        }
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Input::new(path, BufReader::new(file), length).read(trace, opened)
    }

    /// As [`Checkpoint::read`], of bytes that errors call `name`.
    pub fn from_bytes(name: &Path, bytes: &[u8], trace: &Trace) -> Result<Checkpoint, Error> {
        Input::new(name, bytes, bytes.len() as u64).read(trace, &Opened::default())
    }
}

/// Contents of pages, each once, in order of first use.
#[derive(Default)]
struct Contents {
    pages: Vec<Arc<Page>>,
    /// By address of the page.
    known: HashMap<usize, u32>,
}

impl Contents {
    fn map(&mut self, owner: Owner, pages: &Pages) -> OwnerMap {
        let mut before = 0;
        let pages = pages.all().into_iter().map(|(page, contents)| {
            let distance = page - before;
            before = page;
            let index = *self.known.entry(Arc::as_ptr(&contents) as usize).or_insert_with(|| {
                self.pages.push(contents);
                (self.pages.len() - 1) as u32
            });
            (distance, index)
        });
        OwnerMap { owner, pages: pages.collect() }
    }
}

struct Output<W: Write> {
    inner: W,
    hash: Xxh3,
}

impl<W: Write> Output<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes)
    }

    fn put_number(&mut self, number: usize) -> io::Result<()> {
        let number = u32::try_from(number).map_err(io::Error::other)?;
        self.put(&number.to_le_bytes())
    }

    fn checksum(&mut self) -> io::Result<()> {
        let hash = std::mem::replace(&mut self.hash, Xxh3::new()).digest();
        self.inner.write_all(&hash.to_le_bytes())
    }
}

struct Input<'a, R> {
    name: &'a Path,
    inner: R,
    /// Of the next byte.
    offset: u64,
    /// Bytes behind it.
    left: u64,
    /// Of what was read since the last checksum.
    hash: Xxh3,
}

impl<'a, R: Read> Input<'a, R> {
    fn new(name: &'a Path, inner: R, length: u64) -> Input<'a, R> {
        Input { name, inner, offset: 0, left: length, hash: Xxh3::new() }
    }

    fn read(mut self, trace: &Trace, opened: &Opened) -> Result<Checkpoint, Error> {
        let [state_bytes, map_bytes, groups, count] = self.header(trace)?;
        let state_at = self.offset;
        let state = self.section("state", state_bytes)?;
        let map_at = self.offset;
        let map = self.section("page map", map_bytes)?;
        let map: Vec<OwnerMap> = postcard::from_bytes(&map)
            .map_err(|error| self.unusable(map_at, format!("the page map is damaged: {error}")))?;
        let contents = self.contents(groups, count)?;
        if self.left > 0 {
            let reason = format!("{} bytes behind the last page", self.left);
            return Err(self.unusable(self.offset, reason));
        }
        let mut memory = BTreeMap::new();
        for OwnerMap { owner, pages } in map {
            let pages = lay_out(&pages, &contents);
            let pages = pages.map_err(|reason| self.unusable(map_at, reason))?;
            if memory.insert(owner, pages).is_some() {
                return Err(self.unusable(map_at, "an owner of pages comes twice"));
            }
        }
        let mut pages = |owner: Owner| Ok(memory.remove(&owner).unwrap_or_default());
        let decoded = super::decode((self.name, state_at), &state, &mut pages, trace, opened)?;
        if let Some(owner) = memory.keys().next() {
            return Err(self.unusable(map_at, format!("pages of {owner:?}, which does not exist")));
        }
        Ok(decoded)
    }

    /// Sizes of state and map in bytes, number of groups, number of pages.
    fn header(&mut self, trace: &Trace) -> Result<[usize; 4], Error> {
        let header = self.take(HEADER_BYTES)?;
        let number = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if header[..16] != MAGIC {
            return Err(self.unusable(0, "it does not begin as a checkpoint does"));
        }
        let version = number(16);
        if version != VERSION {
            let reason = format!("version {version}; this program reads version {VERSION}");
            return Err(self.unusable(16, reason));
        }
        self.checksum(0)?;
        if header[20..36] != trace.header().uuid {
            return Err(self.unusable(20, "it belongs to another recording"));
        }
        Ok([36, 40, 44, 48].map(|at| number(at) as usize))
    }

    fn section(&mut self, what: &str, length: usize) -> Result<Vec<u8>, Error> {
        let start = self.offset;
        let compressed = self.take(length)?;
        self.checksum(start)?;
        let damaged = |error: io::Error| {
            self.unusable(start, format!("the {what} does not decompress: {error}"))
        };
        let decoder = zstd::Decoder::with_buffer(&compressed[..]).map_err(damaged)?;
        let mut bytes = Vec::new();
        let limited = &mut decoder.take(SECTION_BYTES_MAX as u64 + 1);
        limited.read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() > SECTION_BYTES_MAX {
            let reason = format!("the {what} has more than {SECTION_BYTES_MAX} bytes");
            return Err(self.unusable(start, reason));
        }
        Ok(bytes)
    }

    fn contents(&mut self, groups: usize, count: usize) -> Result<Vec<Arc<Page>>, Error> {
        if groups != count.div_ceil(GROUP_PAGES) {
            let reason = format!("{count} pages are not in {groups} groups");
            return Err(self.unusable(44, reason));
        }
        let mut decompressor = zstd::bulk::Decompressor::new()
            .map_err(|source| Error::CheckpointFile { file: self.name.into(), source })?;
        let mut raw = vec![0; GROUP_PAGES * PAGE_BYTES];
        let mut contents: Vec<Arc<Page>> = Vec::new();
        let mut known: HashMap<u128, Arc<Page>> = HashMap::new();
        while contents.len() < count {
            let start = self.offset;
            let length = self.take(4)?;
            let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
            if length > GROUP_BYTES_MAX {
                let reason = format!("a group of pages of {length} bytes");
                return Err(self.unusable(start, reason));
            }
            let compressed = self.take(length)?;
            self.checksum(start)?;
            let expected = (count - contents.len()).min(GROUP_PAGES) * PAGE_BYTES;
            let found = decompressor.decompress_to_buffer(&compressed, &mut raw[..expected]);
            match found {
                Ok(found) if found == expected => {}
                Ok(found) => {
                    let reason = format!("pages of {expected} bytes have {found}");
                    return Err(self.unusable(start, reason));
                }
                Err(error) => {
                    let reason = format!("pages do not decompress: {error}");
                    return Err(self.unusable(start, reason));
                }
            }
            for page in raw[..expected].as_chunks::<PAGE_BYTES>().0 {
                let entry = known.entry(xxhash_rust::xxh3::xxh3_128(page));
                let same = entry.or_insert_with(|| Arc::new(*page));
                contents.push(if **same == *page { same.clone() } else { Arc::new(*page) });
            }
        }
        Ok(contents)
    }

    /// So many bytes; no more is allocated than the file has.
    fn take(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        if length as u64 > self.left {
            let reason = format!("{length} bytes should be here, {} are left", self.left);
            return Err(self.unusable(self.offset, reason));
        }
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.inner.read_exact(bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.unusable(self.offset, "the file became shorter"),
            _ => Error::CheckpointFile { file: self.name.into(), source },
        })?;
        self.offset += bytes.len() as u64;
        self.left -= bytes.len() as u64;
        Ok(())
    }

    /// Reads the checksum of what began at `start`.
    fn checksum(&mut self, start: u64) -> Result<(), Error> {
        let computed = std::mem::replace(&mut self.hash, Xxh3::new()).digest();
        if self.left < CHECKSUM_BYTES as u64 {
            return Err(self.unusable(self.offset, "the file ends inside a checksum"));
        }
        let mut stored = [0; CHECKSUM_BYTES];
        self.fill(&mut stored)?;
        if u64::from_le_bytes(stored) != computed {
            return Err(self.unusable(start, "the checksum is wrong: the file is damaged"));
        }
        Ok(())
    }

    fn unusable(&self, offset: u64, reason: impl Into<String>) -> Error {
        Error::Checkpoint { file: self.name.into(), offset, reason: reason.into() }
    }
}

/// The pages of an owner, which must be in order.
fn lay_out(map: &[(u64, u32)], contents: &[Arc<Page>]) -> Result<Pages, String> {
    let mut pages = Pages::default();
    let mut next = 0u64;
    for (index, &(distance, contents_index)) in map.iter().enumerate() {
        let page = if index == 0 { Some(distance) } else { (next - 1).checked_add(distance) };
        let page = page.filter(|page| *page >= next && *page < machine::USER_END / PAGE_SIZE);
        let page = page.ok_or("a page map out of order")?;
        let found = contents.get(contents_index as usize).ok_or("a page without contents")?;
        pages.insert(page, found.clone());
        next = page + 1;
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_maps_are_in_order() {
        let contents = [Arc::new([1; PAGE_BYTES])];
        let numbers = |map: &[(u64, u32)]| {
            let pages = lay_out(map, &contents)?;
            Ok::<_, String>(pages.all().iter().map(|(page, _)| *page).collect::<Vec<_>>())
        };
        assert_eq!(numbers(&[(0, 0), (1, 0), (5, 0)]), Ok(vec![0, 1, 6]));
        assert_eq!(numbers(&[(7, 0), (3, 0)]), Ok(vec![7, 10]));
        assert!(numbers(&[(7, 0), (0, 0)]).is_err());
        assert!(numbers(&[(7, 0), (u64::MAX, 0)]).is_err());
        assert!(numbers(&[(1 << 35, 0)]).is_err());
        assert!(numbers(&[(7, 1)]).is_err());
    }
}
