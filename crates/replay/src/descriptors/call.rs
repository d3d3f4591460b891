//! A system call when it begins: what it is about, taken down before anything can change.

use std::ops::Range;

use model::{Address, Moment};
use serde::{Deserialize, Serialize};

use super::memory::{self, optional_u64};
use super::{DescriptionId, Descriptors, Direction, Memory, StreamId};
use crate::numbers::syscall::*;
use crate::numbers::{CLONE_PIDFD, O_ACCMODE};
use crate::task::FilesId;

/// A system call under way that has to do with descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub number: i32,
    pub arguments: [u64; 6],
    pub begun: Moment,
    /// The stack pointer, by which an interrupted call is found again.
    pub stack: u64,
    /// What the descriptors among the arguments referred to.
    pub(super) descriptions: [Option<DescriptionId>; 2],
    /// Streams whose bytes it waits for or has to give, with their number so far.
    pub(super) streams: Vec<(StreamId, Direction, u64)>,
    /// Memory that the call reads or fills, and descriptors that it sends, by message.
    pub(super) messages: Vec<(Vec<Range<Address>>, Vec<i32>)>,
    /// Places in files, where arguments point to them: of the input, of the output.
    pub(super) offsets: [Option<u64>; 2],
    /// A path, a name, or the address to connect to.
    pub(super) path: Option<Vec<u8>>,
}

/// How a call names the memory for its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Buffer,
    Vector,
    Message,
    Messages,
}

/// The arguments that are the descriptors of a call inside the kernel.
pub(super) struct KernelEnds {
    pub input: usize,
    pub output: usize,
    /// Arguments that may point to a place in the file, instead of its position.
    pub input_offset: Option<usize>,
    pub output_offset: Option<usize>,
}

pub(super) fn shape(number: i32) -> Option<(Direction, Shape)> {
    use Direction::{Read, Write};
    Some(match number {
        READ | PREAD64 | RECVFROM => (Read, Shape::Buffer),
        WRITE | PWRITE64 | SENDTO => (Write, Shape::Buffer),
        READV | PREADV | PREADV2 => (Read, Shape::Vector),
        WRITEV | PWRITEV | PWRITEV2 | VMSPLICE => (Write, Shape::Vector),
        RECVMSG => (Read, Shape::Message),
        SENDMSG => (Write, Shape::Message),
        RECVMMSG => (Read, Shape::Messages),
        SENDMMSG => (Write, Shape::Messages),
        _ => return None,
    })
}

pub(super) fn kernel_ends(number: i32) -> Option<KernelEnds> {
    let (input, output, input_offset, output_offset) = match number {
        SENDFILE => (1, 0, Some(2), None),
        SPLICE | COPY_FILE_RANGE => (0, 2, Some(1), Some(3)),
        TEE => (0, 1, None, None),
        _ => return None,
    };
    Some(KernelEnds { input, output, input_offset, output_offset })
}

/// Whether a call has to do with descriptors at all.
fn is_followed(number: i32) -> bool {
    shape(number).is_some()
        || kernel_ends(number).is_some()
        || super::complete::special_name(number).is_some()
        || matches!(
            number,
            CLONE
                | OPEN
                | CREAT
                | OPENAT
                | OPENAT2
                | CLOSE
                | CLOSE_RANGE
                | DUP
                | DUP2
                | DUP3
                | FCNTL
                | IOCTL
                | FSTAT
                | NEWFSTATAT
                | STATX
                | LSEEK
                | TRUNCATE
                | FTRUNCATE
                | FALLOCATE
                | PIPE
                | PIPE2
                | SOCKET
                | SOCKETPAIR
                | BIND
                | GETSOCKNAME
                | CONNECT
                | ACCEPT
                | ACCEPT4
                | MEMFD_CREATE
                | PIDFD_OPEN
                | PIDFD_GETFD
                | RENAME
                | RENAMEAT
                | RENAMEAT2
                | UNLINK
                | UNLINKAT
                | MKNOD
                | MKNODAT
        )
}

/// The argument that is a path.
fn path_argument(number: i32) -> Option<usize> {
    match number {
        OPEN | CREAT | TRUNCATE | UNLINK | MKNOD | RENAME | MEMFD_CREATE => Some(0),
        OPENAT | OPENAT2 | UNLINKAT | MKNODAT | RENAMEAT | RENAMEAT2 => Some(1),
        NEWFSTATAT | STATX => Some(1),
        _ => None,
    }
}

impl Call {
    /// Whether what the call leaves in memory is needed to know what it did, or worth telling.
    pub fn waits_for_memory(&self) -> bool {
        match shape(self.number) {
            Some((direction, shape)) => {
                direction == Direction::Read
                    || shape == Shape::Messages
                    || self.number == VMSPLICE && self.reads_by_vmsplice()
            }
            None => matches!(
                self.number,
                PIPE | PIPE2 | SOCKETPAIR | GETSOCKNAME | FSTAT | NEWFSTATAT | STATX | CLONE
            ),
        }
    }

    pub(super) fn reads_by_vmsplice(&self) -> bool {
        self.streams.first().is_some_and(|(_, direction, _)| *direction == Direction::Read)
    }
}

impl Descriptors {
    /// Takes a call down; none if it has nothing to do with descriptors.
    pub fn begin(
        &mut self,
        table: FilesId,
        number: i32,
        arguments: [u64; 6],
        (begun, stack): (Moment, u64),
        memory: &dyn Memory,
    ) -> Option<Call> {
        if !is_followed(number) || number == CLONE && arguments[0] & CLONE_PIDFD == 0 {
            return None;
        }
        let mut call = Call {
            number,
            arguments,
            begun,
            stack,
            descriptions: [None; 2],
            streams: Vec::new(),
            messages: Vec::new(),
            offsets: [None; 2],
            path: path_argument(number).and_then(|index| memory::string(memory, arguments[index])),
        };
        if let Some((direction, shape)) = shape(number) {
            call.descriptions[0] = self.lookup(table, arguments[0] as i32);
            let direction = self.direction(&call, direction);
            self.watch(&mut call, 0, direction);
            call.messages = messages(shape, direction, arguments, memory);
        } else if let Some(ends) = kernel_ends(number) {
            call.descriptions[0] = self.lookup(table, arguments[ends.input] as i32);
            call.descriptions[1] = self.lookup(table, arguments[ends.output] as i32);
            self.watch(&mut call, 0, Direction::Read);
            self.watch(&mut call, 1, Direction::Write);
            let place =
                |index: Option<usize>| index.and_then(|at| optional_u64(memory, arguments[at]));
            call.offsets = [place(ends.input_offset), place(ends.output_offset)];
        } else if number != CLONE {
            call.descriptions[0] = self.lookup(table, arguments[0] as i32);
            if number == CONNECT {
                call.path = memory::socket_address(memory, arguments[1], arguments[2] as u32);
            }
        }
        Some(call)
    }

    /// vmsplice(2) goes both ways, depending on the end of the pipe.
    fn direction(&self, call: &Call, usual: Direction) -> Direction {
        let description = call.descriptions[0].and_then(|id| self.descriptions.get(&id));
        match description {
            Some(pipe) if call.number == VMSPLICE && pipe.flags & O_ACCMODE == 0 => Direction::Read,
            _ => usual,
        }
    }

    fn watch(&mut self, call: &mut Call, end: usize, direction: Direction) {
        let Some(description) = call.descriptions[end].and_then(|id| self.descriptions.get(&id))
        else {
            return;
        };
        let id = match direction {
            Direction::Read => description.reads,
            Direction::Write => description.writes,
        };
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (busy, count) = match direction {
            Direction::Read => (&mut stream.reading, stream.read),
            Direction::Write => (&mut stream.writing, stream.written),
        };
        *busy += 1;
        call.streams.push((id, direction, count));
    }

    /// The call is over, or will never be: true if others moved bytes of the same streams.
    pub(crate) fn unwatch(&mut self, call: &Call) -> bool {
        let mut disturbed = false;
        for (id, direction, before) in &call.streams {
            let Some(stream) = self.streams.get_mut(id) else { continue };
            let (busy, count) = match direction {
                Direction::Read => (&mut stream.reading, stream.read),
                Direction::Write => (&mut stream.writing, stream.written),
            };
            *busy = busy.saturating_sub(1);
            disturbed |= *busy > 0 || count != *before;
        }
        disturbed
    }
}

fn messages(
    shape: Shape,
    direction: Direction,
    arguments: [u64; 6],
    memory: &dyn Memory,
) -> Vec<(Vec<Range<Address>>, Vec<i32>)> {
    let [_, pointer, count, ..] = arguments;
    let sends = direction == Direction::Write;
    let message = |header| {
        let message = memory::message(memory, header, sends);
        (message.pieces, message.rights)
    };
    match shape {
        Shape::Buffer => vec![(vec![Address(pointer).range(count)], Vec::new())],
        Shape::Vector => vec![(memory::pieces(memory, pointer, count), Vec::new())],
        Shape::Message => vec![message(Address(pointer))],
        Shape::Messages => memory::headers(pointer, count).map(message).collect(),
    }
}
