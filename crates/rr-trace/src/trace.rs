//! A recording as a directory: opening it, and finding its parts.

use std::path::{Path, PathBuf};

use model::Event;

use crate::{DataStream, Error, Frames, Header, MMap, MMaps, StreamPosition, Tasks};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last event that was read; 0 before the first.
    pub event: Event,
    pub frames: StreamPosition,
    pub data: StreamPosition,
    pub mmaps: StreamPosition,
    pub tasks: StreamPosition,
}

impl Trace {
    /// Reads and checks the header; the streams are looked at when they are read.
    pub fn open(directory: &Path) -> Result<Trace, Error> {
        let _ = directory;
        todo!()
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All events, in order.
    pub fn frames(&self) -> Result<Frames, Error> {
        todo!()
    }

    /// The bytes of all memory writes.
    pub fn data(&self) -> Result<DataStream, Error> {
        todo!()
    }

    pub fn mmaps(&self) -> Result<MMaps, Error> {
        todo!()
    }

    pub fn tasks(&self) -> Result<Tasks, Error> {
        todo!()
    }

    /// The file that holds the contents of a mapping; `None` if its source is not a file.
    /// A name inside the recording must be a plain file name. An absolute one is a file of the
    /// recording machine (the recording is not packed).
    pub fn backing_path(&self, mapping: &MMap) -> Result<Option<PathBuf>, Error> {
        let _ = mapping;
        todo!()
    }
}
