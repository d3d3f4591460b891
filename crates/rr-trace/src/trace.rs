//! A recording as a directory: opening it, and finding its parts.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::Event;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::stream::{KeptBlocks, Source};
use crate::{
    BlockTable, DataStream, Error, Frames, Header, MMap, MMaps, MapSource, StreamPosition, Tasks,
};

/// No path is longer (Linux: PATH_MAX).
pub(crate) const NAME_BYTES_MAX: usize = 4096;
/// Of a name that is refused.
const NAME_BYTES_SHOWN: usize = 256;

/// What tells whether the files of a recording were written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Vec<(u64, u64, i64, i64)>);

/// A header is about a kilobyte, with CPUID records for the most part.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// An opened recording. Cheap to share; every reader opens its own file. Up to 32 MiB of what was
/// gone back to are kept decompressed.
#[derive(Clone, Debug)]
pub struct Trace {
    directory: PathBuf,
    header: Header,
    /// By stream, in the order of [`StreamName::ALL`].
    kept: [KeptBlocks; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamName {
    Events,
    Data,
    MMaps,
    Tasks,
}

/// Where all four streams stand between two events: enough to go on reading from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last event that was read; 0 before the first.
    pub event: Event,
    pub frames: StreamPosition,
    pub data: StreamPosition,
    pub mmaps: StreamPosition,
    pub tasks: StreamPosition,
}

impl StreamName {
    pub const ALL: [StreamName; 4] =
        [StreamName::Events, StreamName::Data, StreamName::MMaps, StreamName::Tasks];

    pub fn file_name(self) -> &'static str {
        match self {
            StreamName::Events => "events",
            StreamName::Data => "data",
            StreamName::MMaps => "mmaps",
            StreamName::Tasks => "tasks",
        }
    }
}

impl Trace {
    /// Reads and checks the header; the streams are looked at when they are read.
    pub fn open(directory: &Path) -> Result<Trace, Error> {
        let path = directory.join("version");
        let bytes =
            match Source::open(&path).and_then(|file| file.read_all("header", HEADER_BYTES_MAX)) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    return Err(explain_absence(directory));
                }
                result => result?,
            };
        let header = Header::parse(&path, &bytes)?;
        Ok(Trace { directory: directory.into(), header, kept: Default::default() })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The UUID, and what of the recording it does not say: packing changes the names of mapped
    /// files and the lengths of streams, and so does whoever repairs a recording. Copies of a
    /// recording have the same.
    pub fn identity(&self) -> Result<Vec<u8>, Error> {
        let mut sum = Xxh3::new();
        let mmaps = self.mmaps_source()?;
        let mut piece = vec![0; 64 << 10];
        let mut offset = 0;
        while offset < mmaps.length() {
            let left = usize::try_from(mmaps.length() - offset).unwrap_or(usize::MAX);
            let length = left.min(piece.len());
            mmaps.read_exact_at(&mut piece[..length], offset)?;
            sum.update(&piece[..length]);
            offset += length as u64;
        }
        for stream in StreamName::ALL {
            sum.update(&self.source(stream)?.length().to_le_bytes());
        }
        let mut identity = self.header.uuid.to_vec();
        identity.extend(sum.digest().to_be_bytes());
        Ok(identity)
    }

    /// What the files of the recording are at present: two that are the same were not written to
    /// in between.
    pub fn stamp(&self) -> Result<Stamp, Error> {
        let names = StreamName::ALL.map(StreamName::file_name);
        let stamp = names.into_iter().chain(["version"]).map(|name| {
            let path = self.directory.join(name);
            let file = std::fs::metadata(&path);
            let file = file.map_err(|source| Error::Io { file: path, source })?;
            Ok((file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
        });
        Ok(Stamp(stamp.collect::<Result<_, Error>>()?))
    }

    /// All events, in order.
    pub fn frames(&self) -> Result<Frames, Error> {
        Ok(Frames::new(self.source(StreamName::Events)?))
    }

    /// The bytes of all memory writes.
    pub fn data(&self) -> Result<DataStream, Error> {
        Ok(DataStream::new(self.source(StreamName::Data)?))
    }

    pub fn mmaps(&self) -> Result<MMaps, Error> {
        Ok(MMaps::new(self.source(StreamName::MMaps)?))
    }

    pub fn tasks(&self) -> Result<Tasks, Error> {
        Ok(Tasks::new(self.source(StreamName::Tasks)?))
    }

    /// Walks over the headers of all blocks of a stream.
    pub fn block_table(&self, stream: StreamName) -> Result<BlockTable, Error> {
        BlockTable::read(&self.source(stream)?)
    }

    /// The file that holds the contents of a mapping; `None` if its source is not a file.
    /// A name inside the recording must be a plain file name. An absolute one is a file of the
    /// recording machine (the recording is not packed): whether to open it is for the caller.
    pub fn backing_path(&self, mapping: &MMap) -> Result<Option<PathBuf>, Error> {
        let MapSource::File { backing_name } = &mapping.source else { return Ok(None) };
        let refused = || {
            let shown = &backing_name[..backing_name.len().min(NAME_BYTES_SHOWN)];
            let name = String::from_utf8_lossy(shown).into_owned();
            Error::BackingName { name, start: mapping.range.start }
        };
        if backing_name.len() > NAME_BYTES_MAX {
            return Err(refused());
        }
        if backing_name.contains(&0) {
            return Err(refused());
        }
        if backing_name.starts_with(b"/") {
            return Ok(Some(PathBuf::from(OsStr::from_bytes(backing_name))));
        }
        if backing_name.contains(&b'/') || matches!(backing_name.as_slice(), b"" | b"." | b"..") {
            return Err(refused());
        }
        Ok(Some(self.directory.join(OsStr::from_bytes(backing_name))))
    }

    pub(crate) fn mmaps_source(&self) -> Result<Source, Error> {
        self.source(StreamName::MMaps)
    }

    fn source(&self, stream: StreamName) -> Result<Source, Error> {
        let source = Source::open(&self.directory.join(stream.file_name()))?;
        Ok(source.sharing(&self.kept[stream as usize]))
    }
}

/// Why there is no file `version`.
fn explain_absence(directory: &Path) -> Error {
    let directory = directory.to_path_buf();
    match std::fs::metadata(&directory) {
        Err(source) => Error::Io { file: directory, source },
        Ok(_) if directory.join("incomplete").exists() => Error::Incomplete { directory },
        Ok(_) => Error::NotATrace { directory },
    }
}
