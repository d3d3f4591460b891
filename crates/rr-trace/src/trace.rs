//! A recording as a directory: opening it, and finding its parts.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use model::Event;
use serde::{Deserialize, Serialize};

use crate::stream::Source;
use crate::{
    BlockTable, DataStream, Error, Frames, Header, MMap, MMaps, MapSource, StreamPosition, Tasks,
};

/// A header is about a kilobyte, with CPUID records for the most part.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// An opened recording. Cheap to share; every reader opens its own file.
#[derive(Clone, Debug)]
pub struct Trace {
    directory: PathBuf,
    header: Header,
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
        Ok(Trace { directory: directory.into(), header })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn header(&self) -> &Header {
        &self.header
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
        let refused = || Error::BackingName {
            name: String::from_utf8_lossy(backing_name).into_owned(),
            start: mapping.range.start,
        };
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
        Source::open(&self.directory.join(stream.file_name()))
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
