//! Opening a database and reading its records. Constant time and memory, whatever its size.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use model::Moment;

use crate::cache::Cache;
use crate::error::Error;
use crate::files;
use crate::index::{Index, entry_offset};
use crate::leaf::Leaf;
use crate::manifest::{Manifest, State};
use crate::payload::{Payload, SectionSize, Source};
use crate::record::{FILE_HEADER, IndexEntry, LEVEL_MAX, RECORD_HEADER, RecordId, RecordKind};
use crate::tree::FANOUT;
use crate::volume::Volumes;

/// An open database. Threads may share it. It sees what was there when it was opened, and more
/// after each [`Reader::refresh`].
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    index: Index,
    volumes: Volumes,
    cache: Cache,
    seen: RwLock<Seen>,
}

/// What was there at the last look.
#[derive(Clone, Debug)]
struct Seen {
    manifest: Manifest,
    entries: u64,
    leaves: u64,
    end: u64,
}

/// What [`Reader::verify`] has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub records: u64,
    pub leaves: u64,
    /// Of the files, without the manifest.
    pub bytes: u64,
}

impl Reader {
    /// Opens the database in `directory`; at most `cache_bytes` of decoded chunks are kept, not
    /// counting what is in use.
    pub fn open(directory: &Path, cache_bytes: usize) -> Result<Reader, Error> {
        let manifest = Manifest::read(directory)?;
        let path = directory.join(crate::index::NAME);
        let file = files::open_to_read(&path).map_err(|source| Error::io(&path, source))?;
        let reader = Reader {
            directory: directory.to_owned(),
            index: Index::open(directory, file)?,
            volumes: Volumes::new(directory),
            cache: Cache::new(cache_bytes),
            seen: RwLock::new(Seen { manifest, entries: 0, leaves: 0, end: 0 }),
        };
        reader.refresh()?;
        Ok(reader)
    }

    /// Looks for what a build has added since.
    pub fn refresh(&self) -> Result<(), Error> {
        // The manifest first: when it says that the build is complete, all records are there.
        let manifest = Manifest::read(&self.directory)?;
        let entries = self.index.entries()?;
        let last = self.index.last_leaf(entries)?;
        let (leaves, end) = last.map_or((0, 0), |entry| (entry.id.number + 1, entry.end));
        if leaves > entries {
            let reason = "a leaf has a higher number than there are records";
            return Err(Error::corrupt(&self.index.path, 0, reason));
        }
        if manifest.state == State::Complete {
            self.check_ends(entries)?;
        }
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) =
            Seen { manifest, entries, leaves, end };
        Ok(())
    }

    /// When a build is complete, its files end with the last record.
    fn check_ends(&self, entries: u64) -> Result<(), Error> {
        let length = |path: &Path| {
            Ok(std::fs::metadata(path).map_err(|source| Error::io(path, source))?.len())
        };
        let path = &self.index.path;
        let last = entries.checked_sub(1).map(|last| self.index.entry(last)).transpose()?;
        let whole = length(path)? == entry_offset(entries);
        let Some(last) = last.filter(|_| whole) else {
            let reason = "the build is complete, but the index breaks off";
            return Err(Error::corrupt(path, entry_offset(entries), reason));
        };
        let path = self.volumes.path(last.volume);
        let (expected, found) = (last.volume_end(), length(&path)?);
        if found != expected {
            let reason = format!("the last volume has {found} bytes and not {expected}");
            return Err(Error::corrupt(&path, found.min(expected), reason));
        }
        match length(&self.volumes.path(last.volume + 1)) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(())
            }
            _ => {
                let reason = "there are volumes behind the last one in the index";
                Err(Error::corrupt(&self.index.path, entry_offset(entries), reason))
            }
        }
    }

    fn seen(&self) -> Seen {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn manifest(&self) -> Manifest {
        self.seen().manifest
    }

    /// How many leaves there are; their numbers are below.
    pub fn leaves(&self) -> u64 {
        self.counts().1
    }

    /// The moment at which the last leaf ends; 0 without leaves.
    pub fn end(&self) -> Moment {
        Moment(self.seen.read().unwrap_or_else(PoisonError::into_inner).end)
    }

    /// Entries of the index, and leaves.
    fn counts(&self) -> (u64, u64) {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        (seen.entries, seen.leaves)
    }

    /// The moments that a leaf is about.
    pub fn span(&self, leaf: u64) -> Result<std::ops::Range<Moment>, Error> {
        let (_, entry) = self.must_locate(RecordId::leaf(leaf))?;
        Ok(Moment(entry.start)..Moment(entry.end))
    }

    /// The leaf that holds the instruction retiring at `moment + 1`, that is, with
    /// `start <= moment < end`; of the empty leaves at a moment, none.
    pub fn leaf_at(&self, moment: Moment) -> Result<Option<u64>, Error> {
        let (entries, _) = self.counts();
        let (moment, end) = (moment.0, self.end().0);
        if moment >= end {
            return Ok(None);
        }
        let guess = u128::from(entries) * u128::from(moment) / u128::from(end);
        let mut position =
            self.index.first_from(entries, guess as u64, |entry| entry.end > moment)?;
        while position < entries {
            let entry = self.index.entry(position)?;
            if entry.id.kind == RecordKind::LEAF {
                return Ok(Some(entry.id.number));
            }
            position += 1;
        }
        Ok(None)
    }

    /// The payload of any record, its checksum verified. Refuses more than `limit` bytes.
    pub fn record(&self, id: RecordId, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let (entries, leaves) = self.counts();
        let Some((_, entry)) = self.index.locate(id, entries, leaves)? else { return Ok(None) };
        let Source::File { file, path, offset, length } = self.volumes.source(&entry)? else {
            unreachable!("a record is in a file");
        };
        if length > limit {
            let reason = format!("a record of {length} bytes, more than {limit}");
            return Err(Error::corrupt(&path, entry.offset, reason));
        }
        let mut bytes = vec![0; length as usize];
        std::os::unix::fs::FileExt::read_exact_at(&*file, &mut bytes, offset)
            .map_err(|source| Error::io(&path, source))?;
        if crate::bytes::checksum(&bytes) != entry.sum {
            return Err(Error::corrupt(&path, entry.offset, "the checksum of a record is wrong"));
        }
        Ok(Some(bytes))
    }

    /// Opens a leaf. Costs a few reads of the index, or nothing if it is cached.
    pub fn leaf(&self, number: u64) -> Result<Leaf, Error> {
        match self.payload(0, number)? {
            Some(payload) => Ok(Leaf { payload }),
            None => Err(Error::NoSuchLeaf { leaf: number, leaves: self.leaves() }),
        }
    }

    /// What the sections of a leaf (level 0) or node take; `None` if there is no such (yet).
    pub fn section_sizes(&self, level: u8, number: u64) -> Result<Option<Vec<SectionSize>>, Error> {
        let payload = self.payload(level, number)?;
        Ok(payload.map(|payload| payload.sizes().collect()))
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The payload of a leaf or node, if it exists (yet).
    pub(crate) fn payload(&self, level: u8, number: u64) -> Result<Option<Arc<Payload>>, Error> {
        // So the two fit into one key; there are no more leaves than entries in the index.
        if level > LEVEL_MAX || number >= 1 << 60 {
            return Ok(None);
        }
        let key = u64::from(level) << 60 | number;
        let loaded = self.cache.get((key, u32::MAX, 0), || {
            let (entries, leaves) = self.counts();
            let located = self.index.locate(RecordId::node(level, number), entries, leaves);
            let Some((_, entry)) = located.map_err(Some)? else { return Err(None) };
            let source = self.volumes.source(&entry).map_err(Some)?;
            let payload = Arc::new(Payload::open(source, key).map_err(Some)?);
            let memory = payload.memory();
            Ok((payload, memory))
        });
        match loaded {
            Ok(payload) => Ok(Some(Arc::clone(&payload))),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    fn must_locate(&self, id: RecordId) -> Result<(u64, IndexEntry), Error> {
        let (entries, leaves) = self.counts();
        let located = self.index.locate(id, entries, leaves)?;
        located.ok_or(Error::NoSuchLeaf { leaf: id.number, leaves })
    }

    /// Reads every record and compares all checksums, the order of the records and that they
    /// lie without gaps. Calls `progress` with the bytes read so far.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verified, Error> {
        let (entries, _) = self.counts();
        let mut verified = Verified { bytes: FILE_HEADER as u64, ..Verified::default() };
        let (mut volume, mut offset) = (None, 0);
        let (mut group, mut moment) = (0, 0);
        let mut nodes = [0_u64; LEVEL_MAX as usize + 1];
        for position in 0..entries {
            let entry = self.index.entry(position)?;
            let corrupt = |reason: &str| {
                let at = entry_offset(position);
                Err(Error::corrupt(&self.index.path, at, reason))
            };
            let next = match volume {
                None => entry.volume == 0,
                Some(before) => entry.volume == before || entry.volume == before + 1,
            };
            if !next {
                return corrupt("a volume is left out");
            }
            if volume != Some(entry.volume) {
                (volume, offset) = (Some(entry.volume), FILE_HEADER as u64);
                verified.bytes += offset;
            }
            if entry.offset != offset {
                return corrupt("there is a gap before a record");
            }
            if entry.id.last_leaf() < group {
                return corrupt("records are out of order");
            }
            group = entry.id.last_leaf();
            if entry.id.kind == RecordKind::LEAF {
                let follows = entry.id.number == verified.leaves && entry.start == moment;
                if !follows || entry.end < entry.start {
                    return corrupt("a leaf does not follow the one before");
                }
                moment = entry.end;
                verified.leaves += 1;
            }
            let nodes = &mut nodes[usize::from(entry.id.level)];
            if entry.id.kind == RecordKind::NODE && entry.id.number != *nodes {
                return corrupt("a node does not follow the one before");
            }
            *nodes += u64::from(entry.id.kind == RecordKind::NODE);
            self.volumes.verify(&entry)?;
            if entry.id.kind < RecordKind::OWN {
                Payload::open(self.volumes.source(&entry)?, 0)?.verify()?;
            }
            offset = entry.volume_end();
            verified.records += 1;
            verified.bytes += entry.length + (RECORD_HEADER + crate::record::INDEX_ENTRY) as u64;
            progress(verified.bytes);
        }
        // Up to the root.
        let mut below = verified.leaves;
        for nodes in &nodes[1..] {
            let expected = if below > 1 { below.div_ceil(FANOUT) } else { 0 };
            if self.manifest().state == State::Complete && *nodes != expected {
                let at = entry_offset(entries);
                return Err(Error::corrupt(&self.index.path, at, "nodes are missing"));
            }
            below = expected;
        }
        Ok(verified)
    }
}
