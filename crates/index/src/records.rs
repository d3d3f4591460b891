//! What a leaf's blobs and happenings hold, and how it is encoded.

use model::{Address, Moment, Tid};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::stacks::{StackChange, StackId};

/// Tags of a leaf's blobs.
pub mod blob {
    /// State at the end: `replay::Checkpoint::encode_state`.
    pub const STATE: u32 = 1;
    /// What happened to call stacks.
    pub const STACKS: u32 = 2;
    /// Changes of mappings.
    pub const MAPPINGS: u32 = 3;
    /// Whose calls the calls are.
    pub const CALLERS: u32 = 4;
    /// All call stacks at the end, in some leaves.
    pub const ALL_STACKS: u32 = 5;
}

/// Kinds of a leaf's happenings.
pub mod happening {
    /// An event of the recording.
    pub const EVENT: u16 = 1;
    /// Something about descriptors.
    pub const DESCRIPTOR: u16 = 2;
    /// A system call without an event of its own.
    pub const BUFFERED_CALL: u16 = 3;
}

/// The happening [`happening::EVENT`].
#[derive(Debug, Serialize, Deserialize)]
pub struct EventRecord {
    pub tid: Tid,
    /// Kind of the event, as `SYSCALL 1 entering`.
    pub kind: String,
    pub ticks: u64,
    /// Address of the next instruction behind the event.
    pub rip: Address,
    /// rax, rdi, rsi, rdx, r10, r8, r9 behind the event.
    pub call: [u64; 7],
}

/// The happening [`happening::BUFFERED_CALL`], at the moment at which the call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferedCallRecord {
    pub tid: Tid,
    /// As the program made it, not the preload library.
    pub number: i32,
    pub arguments: [u64; 6],
    pub result: i64,
}

/// The blobs [`blob::STACKS`] and [`blob::ALL_STACKS`].
#[derive(Debug, Serialize, Deserialize)]
pub struct StackRecord {
    pub changes: Vec<StackChange>,
    /// Which stack each task is on at the end.
    pub active: Vec<(Tid, StackId)>,
    /// Stacks that are not there any more.
    pub gone: Vec<StackId>,
}

/// The blob [`blob::CALLERS`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CallersRecord {
    /// In order of time.
    pub runs: Vec<CallerRun>,
    /// In order of time.
    pub forks: Vec<ForkRecord>,
    /// Address spaces that ended.
    pub ended: Vec<u32>,
}

/// Calls and returns of one task, without those of another between them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CallerRun {
    pub tid: Tid,
    pub space: u32,
    pub calls: u64,
}

/// A task in a copy of its parent's address space.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ForkRecord {
    pub moment: Moment,
    pub parent: Tid,
    pub child: Tid,
    pub from: u32,
    pub space: u32,
}

/// An item of the blob [`blob::MAPPINGS`].
#[derive(Debug, Serialize, Deserialize)]
pub struct MappingRecord {
    pub moment: Moment,
    pub space: u32,
    pub tid: Option<Tid>,
    pub start: Address,
    pub end: Address,
    pub change: MappingKind,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum MappingKind {
    /// `protection` as of mmap(2); `shared` is owner and page of the range's beginning.
    Mapped {
        protection: u8,
        shared: Option<(u32, u64)>,
        name: Vec<u8>,
        offset: u64,
    },
    Unmapped,
    Protected {
        protection: u8,
    },
    MovedHere {
        from: Address,
    },
    Discarded,
}

pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, Vec::new()).expect("memory takes everything")
}

pub fn decode<'a, T: Deserialize<'a>>(leaf: u64, bytes: &'a [u8]) -> Result<T, Error> {
    postcard::from_bytes(bytes).map_err(|error| Error::Leaf { leaf, reason: error.to_string() })
}
