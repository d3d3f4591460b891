//! What is told to those who observe descriptors.

use std::fmt;
use std::ops::Range;

use model::{Address, Event, Moment, Tid};
use serde::{Deserialize, Serialize};

use super::{Description, DescriptionId, Offset, StreamId};
use crate::task::FilesId;

/// Something that a task did with descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorEvent {
    /// The event of the recording that is being replayed: for buffered calls the one that has
    /// their results.
    pub event: Event,
    /// Instructions retired so far.
    pub moment: Moment,
    pub tid: Tid,
    /// The task's table of descriptors.
    pub table: FilesId,
    /// Number of the system call; none when the kernel acted by itself, as at an exit.
    pub call: Option<i32>,
    pub what: Happening,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// A new description, with its first descriptor. It is also told when a description that is
    /// older than the recording is met for the first time.
    Opened {
        descriptor: i32,
        description: Description,
        close_on_exec: bool,
    },
    Duplicated {
        from: i32,
        descriptor: i32,
        description: DescriptionId,
        close_on_exec: bool,
    },
    /// More is known about a description: its kind, flags, or other end.
    Described {
        description: Description,
    },
    Closed {
        descriptor: i32,
        description: DescriptionId,
        /// Nothing refers to the description any more.
        last: bool,
    },
    /// The task's table is a copy: by fork, by exec or by unshare(2).
    Copied {
        from: FilesId,
    },
    /// The new task shares the table.
    Shared,
    /// A descriptor travels with this byte of a stream.
    Sent {
        descriptor: i32,
        description: DescriptionId,
        stream: StreamId,
        position: u64,
    },
    /// By a message, or taken from another process by pidfd_getfd(2).
    Received {
        descriptor: i32,
        description: DescriptionId,
        close_on_exec: bool,
    },
    /// The position was set.
    Positioned {
        description: DescriptionId,
        offset: Offset,
    },
    /// The length of the file was set.
    Resized {
        description: DescriptionId,
        length: u64,
    },
    Transferred(Transfer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    Read,
    Write,
}

/// Bytes that moved through a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub direction: Direction,
    pub descriptor: i32,
    pub description: DescriptionId,
    pub stream: StreamId,
    /// Number of the first byte in the stream.
    pub start: u64,
    /// Place of the first byte in a seekable file, if known.
    pub offset: Option<Offset>,
    /// Bytes that moved.
    pub length: u64,
    /// Where they are in the task's memory now, in this order; together `length` bytes, or less
    /// where the kernel threw some away. Empty for what moves inside the kernel.
    pub memory: Vec<Range<Address>>,
    /// The bytes stay in the stream: MSG_PEEK and tee(2).
    pub peeked: bool,
    /// Other calls moved bytes of the same stream while this one was under way, and the recording
    /// does not tell in which order the kernel took them.
    pub order_uncertain: bool,
    /// The moment at which the call began.
    pub begun: Moment,
    /// The other side of what moved inside the kernel: splice(2) and its relatives.
    pub counterpart: Option<Counterpart>,
}

/// Where the bytes of a transfer come from or go to instead of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counterpart {
    pub description: DescriptionId,
    pub stream: StreamId,
    pub start: u64,
    pub offset: Option<Offset>,
}

/// Who wants to know what happens to descriptors. See
/// [`Session::observe_descriptors`](crate::Session::observe_descriptors).
pub trait DescriptorObserver: fmt::Debug {
    /// `memory` is what the task sees at this moment: the ranges of a transfer hold its bytes.
    fn observe(&mut self, event: &DescriptorEvent, memory: &machine::Space);
}

/// Happenings of one call, kept only when somebody observes.
#[derive(Debug, Default)]
pub(crate) struct Happenings {
    wanted: bool,
    list: Vec<Happening>,
}

impl Happenings {
    pub fn new(wanted: bool) -> Happenings {
        Happenings { wanted, list: Vec::new() }
    }

    pub fn one(wanted: bool, happening: impl FnOnce() -> Happening) -> Vec<Happening> {
        let mut happenings = Happenings::new(wanted);
        happenings.push(happening);
        happenings.list
    }

    pub fn push(&mut self, happening: impl FnOnce() -> Happening) {
        if self.wanted {
            self.list.push(happening());
        }
    }

    pub fn into_list(self) -> Vec<Happening> {
        self.list
    }
}
