//! Open file descriptions and the streams of bytes that they lead to.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Monitor;

/// An open file description: what descriptors refer to, and what duplicates of one share.
/// Numbers are never used again.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct DescriptionId(pub u32);

/// A sequence of bytes: of a pipe, of one direction of a connection, or of all that moved through
/// one description in one direction.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct StreamId(pub u32);

/// A file that is or was open under a name; not reliably *the* file, as names move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub u32);

/// Device and inode on the recording machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    pub device: u64,
    pub inode: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Open before the recording began, or opened in a way that the recording does not tell.
    Unknown,
    File,
    Directory,
    Terminal,
    /// A character or block device that is no terminal.
    Device,
    Pipe,
    /// Numbers of socket(2); flags taken off the type.
    Socket {
        domain: i32,
        kind: i32,
        protocol: i32,
    },
    /// `memfd_create`; the name is the description's path.
    Memory,
    /// `/proc/PID/mem`.
    ProcessMemory,
    PidFd {
        pid: i32,
    },
    /// A descriptor of the named system call: eventfd2, timerfd_create, epoll_create1…
    Special(String),
}

impl Kind {
    /// Whether reads and writes move a position.
    pub fn is_seekable(&self) -> bool {
        matches!(self, Kind::File | Kind::Memory | Kind::ProcessMemory | Kind::Unknown)
    }

    /// Whether one read takes one message, and what does not fit is lost.
    pub fn has_messages(&self) -> bool {
        const DATAGRAM: i32 = 2;
        const SEQPACKET: i32 = 5;
        matches!(self, Kind::Socket { kind: DATAGRAM | SEQPACKET, .. })
    }
}

/// A place in a file. `assumed` when it rests on the length of the file, which others may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    pub value: u64,
    pub assumed: bool,
}

impl Offset {
    pub fn exact(value: u64) -> Offset {
        Offset { value, assumed: false }
    }

    pub fn plus(self, length: u64) -> Offset {
        Offset { value: self.value.saturating_add(length), ..self }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    pub id: DescriptionId,
    pub kind: Kind,
    /// As the program gave it to the kernel: maybe relative.
    pub path: Option<Vec<u8>>,
    /// Access mode and status flags as of open(2), as far as known.
    pub flags: i32,
    /// Of seekable kinds, if known.
    pub offset: Option<Offset>,
    pub reads: StreamId,
    pub writes: StreamId,
    /// The number that it had when the recording began.
    pub inherited: Option<i32>,
    pub file: Option<FileId>,
    /// The address that a socket is bound to.
    pub address: Option<Vec<u8>>,
    pub(crate) monitor: Option<Monitor>,
    /// Descriptors, and messages under way.
    pub(crate) holders: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stream {
    pub written: u64,
    pub read: u64,
    /// Descriptions that lead here.
    pub(crate) holders: u32,
    /// Calls that have begun and not ended.
    pub(crate) writing: u32,
    pub(crate) reading: u32,
    /// Where the messages end that have not been read, if there are messages.
    pub(crate) messages: Option<VecDeque<u64>>,
    /// Descriptions under way, each with the number of the byte that carries it.
    pub(crate) passing: VecDeque<(u64, Vec<DescriptionId>)>,
}

/// What is known about a file while it is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenFile {
    pub path: Option<Vec<u8>>,
    pub identity: Option<FileIdentity>,
    pub length: Option<u64>,
    pub holders: u32,
}
