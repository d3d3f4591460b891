//! A system call whose result is known: what it did to descriptors.

use model::Address;

use super::call::{Call, Shape, kernel_ends, shape};
use super::memory::{self, Status};
use super::open::socket_kind;
use super::sockets::Ends;
use super::transfer::{At, Movement};
use super::{
    DescriptionId, Descriptors, Direction, FileIdentity, Happening, Happenings, Kind, Memory,
};
use crate::numbers::syscall::*;
use crate::numbers::*;
use crate::task::FilesId;

const MSG_PEEK: u64 = 2;
const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
const RWF_APPEND: u64 = 0x10;
const MFD_CLOEXEC: u64 = 1;
const FD_CLOEXEC: u64 = 1;
const FIOCLEX: u64 = 0x5451;
const FIONCLEX: u64 = 0x5450;
const TCGETS: u64 = 0x5401;
const CLOSE_RANGE_CLOEXEC: u64 = 4;
const AT_EMPTY_PATH: u64 = 0x1000;
const SEEK_END: u64 = 2;
const FALLOC_FL_KEEP_SIZE: u64 = 1;
const S_IFMT: u32 = 0o170_000;
/// Major numbers of terminals and consoles (the kernel's devices.txt).
const TERMINALS: std::ops::RangeInclusive<u64> = 4..=5;
const PSEUDO_TERMINALS: std::ops::RangeInclusive<u64> = 136..=143;

/// Calls whose result is a descriptor of a kind of their own, and where they have O_CLOEXEC.
pub(super) fn special_name(number: i32) -> Option<(&'static str, Option<usize>)> {
    Some(match number {
        EVENTFD => ("eventfd", None),
        EVENTFD2 => ("eventfd", Some(1)),
        TIMERFD_CREATE => ("timerfd", Some(1)),
        SIGNALFD => ("signalfd", None),
        SIGNALFD4 => ("signalfd", Some(3)),
        EPOLL_CREATE => ("epoll", None),
        EPOLL_CREATE1 => ("epoll", Some(0)),
        INOTIFY_INIT => ("inotify", None),
        INOTIFY_INIT1 => ("inotify", Some(0)),
        FANOTIFY_INIT => ("fanotify", None),
        PERF_EVENT_OPEN => ("perf event", None),
        USERFAULTFD => ("userfaultfd", Some(0)),
        IO_URING_SETUP => ("io_uring", None),
        MQ_OPEN => ("message queue", Some(1)),
        OPEN_BY_HANDLE_AT => ("file by handle", Some(2)),
        OPEN_TREE | FSOPEN | FSMOUNT | FSPICK => ("mount", None),
        LANDLOCK_CREATE_RULESET => ("landlock ruleset", None),
        MEMFD_SECRET => ("secret memory", Some(0)),
        _ => return None,
    })
}

impl Descriptors {
    /// What the call did, its result being `result`. `ends` are the addresses that the recording
    /// has for connect and accept.
    pub(crate) fn complete(
        &mut self,
        table: FilesId,
        call: &Call,
        result: i64,
        (memory, ends): (&dyn Memory, Ends<'_>),
        happenings: &mut Happenings,
    ) {
        let disturbed = self.unwatch(call);
        if is_error(result) {
            self.failed(table, call, result, ends, happenings);
        } else if shape(call.number).is_some() {
            self.moved(table, call, (result as u64, disturbed), memory, happenings);
        } else if kernel_ends(call.number).is_some() {
            self.moved_inside(table, call, (result as u64, disturbed), happenings);
        } else {
            self.changed(table, call, result, (memory, ends), happenings);
        }
    }

    fn failed(
        &mut self,
        table: FilesId,
        call: &Call,
        result: i64,
        ends: Ends<'_>,
        happenings: &mut Happenings,
    ) {
        let first = call.arguments[0] as i32;
        match call.number {
            // The descriptor is gone in spite of errors of writing back or of interruptions.
            CLOSE if result != -EBADF && self.lookup(table, first).is_some() => {
                self.close(table, first, happenings);
            }
            CONNECT if result == -EINPROGRESS => self.connect(table, call, ends, happenings),
            _ => {}
        }
    }

    /// The description that an argument named when the call began.
    pub(super) fn argument(
        &mut self,
        table: FilesId,
        call: &Call,
        (end, argument): (usize, usize),
        happenings: &mut Happenings,
    ) -> Option<DescriptionId> {
        match call.descriptions[end] {
            Some(id) if self.descriptions.contains_key(&id) => {
                let descriptor = call.arguments[argument] as i32;
                if self.tables.get(&table).is_none_or(|table| !table.is_known(descriptor)) {
                    self.resolve(table, descriptor, happenings);
                }
                Some(id)
            }
            _ => self.resolve(table, call.arguments[argument] as i32, happenings),
        }
    }

    /// Bytes between a descriptor and memory.
    fn moved(
        &mut self,
        table: FilesId,
        call: &Call,
        (result, order_uncertain): (u64, bool),
        memory: &dyn Memory,
        happenings: &mut Happenings,
    ) {
        let Some((mut direction, shape)) = shape(call.number) else { return };
        if call.number == VMSPLICE && call.reads_by_vmsplice() {
            direction = Direction::Read;
        }
        let Some(description) = self.argument(table, call, (0, 0), happenings) else { return };
        let [first, second, third, fourth, ..] = call.arguments;
        let flags = match call.number {
            RECVFROM | RECVMMSG => fourth,
            RECVMSG => third,
            _ => 0,
        };
        let mut movement = Movement {
            direction,
            descriptor: first as i32,
            description,
            at: place_of(call),
            length: result,
            memory: Vec::new(),
            peeked: flags & MSG_PEEK != 0,
            order_uncertain,
            begun: call.begun,
        };
        let count = if shape == Shape::Messages { result } else { 1 };
        let headers = memory::headers(second, count);
        let messages = call.messages.iter().zip(headers).take(count as usize);
        for ((pieces, rights), header) in messages {
            if shape == Shape::Messages {
                movement.length = memory::message_length(memory, header).unwrap_or_default();
            }
            movement.memory.clone_from(pieces);
            let Some(place) = self.transfer(&movement, happenings) else { return };
            if direction == Direction::Write {
                let at = (place.stream, place.start);
                self.send_rights(table, rights, at, happenings);
                continue;
            }
            let received = match shape {
                Shape::Message | Shape::Messages => memory::rights(memory, header),
                Shape::Buffer | Shape::Vector => Vec::new(),
            };
            let range = (place.stream, place.start, place.end);
            let how = (flags & MSG_CMSG_CLOEXEC != 0, movement.peeked);
            self.receive_rights(table, &received, range, how, happenings);
        }
    }

    /// Bytes between two descriptors: told on both sides, the side that is read first.
    fn moved_inside(
        &mut self,
        table: FilesId,
        call: &Call,
        (length, order_uncertain): (u64, bool),
        happenings: &mut Happenings,
    ) {
        let Some(ends) = kernel_ends(call.number) else { return };
        let input = self.argument(table, call, (0, ends.input), happenings);
        let output = self.argument(table, call, (1, ends.output), happenings);
        let (Some(input), Some(output)) = (input, output) else { return };
        let at = |pointer: Option<usize>, before: Option<u64>| match (pointer, before) {
            (Some(index), Some(offset)) if call.arguments[index] != 0 => At::Fixed(offset),
            _ => At::Position,
        };
        let movement = |direction, argument: usize, description, at| Movement {
            direction,
            descriptor: call.arguments[argument] as i32,
            description,
            at,
            length,
            memory: Vec::new(),
            peeked: false,
            order_uncertain,
            begun: call.begun,
        };
        let input_at = at(ends.input_offset, call.offsets[0]);
        let output_at = at(ends.output_offset, call.offsets[1]);
        let mut read = movement(Direction::Read, ends.input, input, input_at);
        read.peeked = call.number == TEE;
        let write = movement(Direction::Write, ends.output, output, output_at);
        let (Some(from), Some(to)) = (self.place(&read), self.place(&write)) else { return };
        let (source, target) = (self.counterpart(input, from), self.counterpart(output, to));
        self.tell_transfer(&read, from, Some(target), happenings);
        self.tell_transfer(&write, to, Some(source), happenings);
    }

    /// Calls that move no bytes.
    fn changed(
        &mut self,
        table: FilesId,
        call: &Call,
        result: i64,
        (memory, ends): (&dyn Memory, Ends<'_>),
        happenings: &mut Happenings,
    ) {
        let [first, second, third, fourth, fifth, _] = call.arguments;
        let (descriptor, new) = (first as i32, result as i32);
        match call.number {
            OPEN => self.opened(table, call, second as i32, new, happenings),
            CREAT => self.opened(table, call, O_CREAT | O_TRUNC | 1, new, happenings),
            OPENAT => self.opened(table, call, third as i32, new, happenings),
            OPENAT2 => {
                let flags = memory::u64_at(memory, Address(third)).unwrap_or_default();
                self.opened(table, call, flags as i32, new, happenings);
            }
            CLOSE => self.close(table, descriptor, happenings),
            CLOSE_RANGE => self.close_many(table, call, happenings),
            DUP => self.duplicate(table, descriptor, new, false, happenings),
            DUP2 => self.duplicate(table, descriptor, second as i32, false, happenings),
            DUP3 => {
                let close_on_exec = third as i32 & O_CLOEXEC != 0;
                self.duplicate(table, descriptor, second as i32, close_on_exec, happenings);
            }
            FCNTL => self.control(table, descriptor, (second, third), new, happenings),
            IOCTL => match second & 0xffff_ffff {
                FIOCLEX => self.set_close_on_exec(table, descriptor, true, happenings),
                FIONCLEX => self.set_close_on_exec(table, descriptor, false, happenings),
                TCGETS => self.is_terminal(table, descriptor, happenings),
                _ => {}
            },
            FSTAT => {
                let status = memory::status(memory, second);
                self.describe(table, descriptor, status, happenings);
            }
            NEWFSTATAT if names_descriptor(call, fourth) => {
                let status = memory::status(memory, third);
                self.describe(table, descriptor, status, happenings);
            }
            STATX if names_descriptor(call, third) => {
                let status = memory::extended_status(memory, fifth);
                self.describe(table, descriptor, status, happenings);
            }
            LSEEK => {
                let Some(id) = self.argument(table, call, (0, 0), happenings) else { return };
                let from_end = (third == SEEK_END).then_some(second as i64);
                self.position(id, result as u64, from_end, happenings);
            }
            TRUNCATE => {
                let file = call.path.as_ref().and_then(|path| self.names.get(path));
                if let Some(file) = file.and_then(|file| self.files.get_mut(file)) {
                    file.length = Some(second);
                }
            }
            FTRUNCATE => {
                let Some(id) = self.argument(table, call, (0, 0), happenings) else { return };
                self.resize(id, second, happenings);
            }
            FALLOCATE => self.allocated(table, call, happenings),
            PIPE => self.pipe(table, memory::pair(memory, first), 0, happenings),
            PIPE2 => self.pipe(table, memory::pair(memory, first), second as i32, happenings),
            SOCKET | SOCKETPAIR | BIND | GETSOCKNAME | CONNECT | ACCEPT | ACCEPT4 => {
                self.socket_changed(table, call, new, (memory, ends), happenings);
            }
            MEMFD_CREATE => {
                let id = self.new_description(Kind::Memory, call.path.clone(), 2);
                self.give_file(id, None, Some(0));
                self.open(table, new, id, second & MFD_CLOEXEC != 0, happenings);
            }
            PIDFD_OPEN => {
                let id = self.new_description(Kind::PidFd { pid: descriptor }, None, 2);
                self.open(table, new, id, true, happenings);
            }
            RENAME | RENAMEAT | RENAMEAT2 | UNLINK | UNLINKAT | MKNOD | MKNODAT => {
                self.names_changed(call, memory);
            }
            CLONE => {
                let pid_descriptor = memory::u32_at(memory, Address(third));
                let Some(pid_descriptor) = pid_descriptor else { return };
                let id = self.new_description(Kind::PidFd { pid: new }, None, 2);
                self.open(table, pid_descriptor as i32, id, true, happenings);
            }
            number => {
                let Some((name, flags)) = special_name(number) else { return };
                if matches!(number, SIGNALFD | SIGNALFD4) && descriptor >= 0 {
                    return;
                }
                let flags = flags.map_or(0, |index| call.arguments[index] as i32);
                let id = self.new_description(Kind::Special(name.into()), None, flags);
                self.open(table, new, id, flags & O_CLOEXEC != 0, happenings);
            }
        }
    }

    fn socket_changed(
        &mut self,
        table: FilesId,
        call: &Call,
        new: i32,
        (memory, ends): (&dyn Memory, Ends<'_>),
        happenings: &mut Happenings,
    ) {
        let [first, second, third, fourth, ..] = call.arguments;
        let descriptor = first as i32;
        match call.number {
            SOCKET => {
                let (kind, flags) = socket_kind(first, second, third);
                let id = self.new_description(kind, None, flags | 2);
                self.open(table, new, id, flags & O_CLOEXEC != 0, happenings);
            }
            SOCKETPAIR => {
                let pair = memory::pair(memory, fourth);
                let (kind, flags) = socket_kind(first, second, third);
                self.socket_pair(table, pair, kind, flags, happenings);
            }
            BIND => {
                let address = memory::socket_address(memory, second, third as u32);
                self.bound(table, descriptor, address, happenings);
            }
            GETSOCKNAME => {
                let length = memory::u32_at(memory, Address(third)).unwrap_or_default();
                let address = memory::socket_address(memory, second, length);
                self.bound(table, descriptor, address, happenings);
            }
            CONNECT => self.connect(table, call, ends, happenings),
            _ => {
                let flags = if call.number == ACCEPT4 { fourth as i32 } else { 0 };
                self.accept(table, call, (new, flags), ends, happenings);
            }
        }
    }

    /// Names of files come and go.
    fn names_changed(&mut self, call: &Call, memory: &dyn Memory) {
        let [_, second, third, fourth, ..] = call.arguments;
        match call.number {
            RENAME | RENAMEAT | RENAMEAT2 | UNLINK | UNLINKAT => {
                call.path.iter().for_each(|path| self.forget_name(path));
                let target = if call.number == RENAME { Some(second) } else { Some(fourth) };
                let renames = matches!(call.number, RENAME | RENAMEAT | RENAMEAT2);
                let target = target.filter(|_| renames);
                if let Some(path) = target.and_then(|pointer| memory::string(memory, pointer)) {
                    self.forget_name(&path);
                }
            }
            _ => {
                let mode = if call.number == MKNOD { second } else { third } as u32;
                if mode & S_IFMT == 0o010_000
                    && let Some(path) = &call.path
                {
                    let stream = self.new_stream();
                    if let Some(held) = self.streams.get_mut(&stream) {
                        held.holders = 1;
                    }
                    self.named_pipes.insert(path.clone(), stream);
                }
            }
        }
    }

    fn close_many(&mut self, table: FilesId, call: &Call, happenings: &mut Happenings) {
        let [first, last, flags, ..] = call.arguments;
        let number = |value: u64| (value as u32).min(i32::MAX as u32) as i32;
        let (first, last) = (number(first), number(last));
        if flags & CLOSE_RANGE_CLOEXEC == 0 {
            self.close_range(table, first, last, happenings);
            return;
        }
        for descriptor in self.descriptors_between(table, first, last) {
            self.set_close_on_exec(table, descriptor, true, happenings);
        }
    }

    /// fcntl(2).
    fn control(
        &mut self,
        table: FilesId,
        descriptor: i32,
        (command, argument): (u64, u64),
        result: i32,
        happenings: &mut Happenings,
    ) {
        match command & 0xffff_ffff {
            F_DUPFD => self.duplicate(table, descriptor, result, false, happenings),
            F_DUPFD_CLOEXEC => self.duplicate(table, descriptor, result, true, happenings),
            F_SETFD => {
                let wanted = argument & FD_CLOEXEC != 0;
                self.set_close_on_exec(table, descriptor, wanted, happenings);
            }
            F_SETFL => self.set_flags(table, descriptor, O_STATUS, argument as i32, happenings),
            F_GETFL => {
                self.set_flags(table, descriptor, O_STATUS | O_ACCMODE, result, happenings);
            }
            _ => {}
        }
    }

    fn set_flags(
        &mut self,
        table: FilesId,
        descriptor: i32,
        mask: i32,
        flags: i32,
        happenings: &mut Happenings,
    ) {
        let Some(id) = self.resolve(table, descriptor, happenings) else { return };
        let Some(description) = self.descriptions.get_mut(&id) else { return };
        let flags = description.flags & !mask | flags & mask;
        if std::mem::replace(&mut description.flags, flags) != flags {
            happenings.push(|| Happening::Described { description: description.clone() });
        }
    }

    fn is_terminal(&mut self, table: FilesId, descriptor: i32, happenings: &mut Happenings) {
        let Some(id) = self.resolve(table, descriptor, happenings) else { return };
        self.set_kind(id, Kind::Terminal, happenings);
    }

    fn set_kind(&mut self, id: DescriptionId, kind: Kind, happenings: &mut Happenings) {
        let Some(description) = self.descriptions.get_mut(&id) else { return };
        if description.kind == kind {
            return;
        }
        if !kind.is_seekable() {
            description.offset = None;
        }
        description.kind = kind;
        happenings.push(|| Happening::Described { description: description.clone() });
    }

    /// The program has asked what a descriptor is, and we hear the answer.
    fn describe(
        &mut self,
        table: FilesId,
        descriptor: i32,
        status: Option<Status>,
        happenings: &mut Happenings,
    ) {
        let Some(status) = status else { return };
        let Some(id) = self.resolve(table, descriptor, happenings) else { return };
        let Some(description) = self.descriptions.get(&id) else { return };
        let kind = match status.mode & S_IFMT {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Directory,
            0o010_000 => Kind::Pipe,
            0o060_000 => Kind::Device,
            0o020_000
                if TERMINALS.contains(&status.device_major)
                    || PSEUDO_TERMINALS.contains(&status.device_major) =>
            {
                Kind::Terminal
            }
            0o020_000 => Kind::Device,
            _ => return,
        };
        // A special file of the kernel's stays what it is; so does memory, which is a file, too.
        let vague = matches!(
            description.kind,
            Kind::Unknown | Kind::File | Kind::Device | Kind::Directory | Kind::Terminal
        );
        let (path, file) = (description.path.clone(), description.file);
        if vague {
            self.set_kind(id, kind.clone(), happenings);
        }
        if kind != Kind::File {
            return;
        }
        if file.is_none() {
            self.give_file(id, path.as_deref(), None);
        }
        let file = self.descriptions.get(&id).and_then(|description| description.file);
        if let Some(file) = file.and_then(|file| self.files.get_mut(&file)) {
            file.length = Some(status.length);
            file.identity = Some(FileIdentity { device: status.device, inode: status.inode });
        }
    }

    fn allocated(&mut self, table: FilesId, call: &Call, happenings: &mut Happenings) {
        let [_, mode, offset, length, ..] = call.arguments;
        let Some(id) = self.argument(table, call, (0, 0), happenings) else { return };
        let file = self.descriptions.get(&id).and_then(|description| description.file);
        let Some(file) = file.and_then(|file| self.files.get_mut(&file)) else { return };
        match mode {
            0 => file.length = file.length.map(|known| known.max(offset.saturating_add(length))),
            _ if mode & FALLOC_FL_KEEP_SIZE == 0 => file.length = None,
            _ => {}
        }
    }
}

/// Where the bytes of a call lie in a seekable file.
fn place_of(call: &Call) -> At {
    let [_, _, _, offset, _, flags] = call.arguments;
    match call.number {
        PWRITEV2 if flags & RWF_APPEND != 0 => At::End,
        PREAD64 | PWRITE64 | PREADV | PWRITEV => At::Fixed(offset),
        PREADV2 | PWRITEV2 if offset != u64::MAX => At::Fixed(offset),
        _ => At::Position,
    }
}

/// Whether a call of the stat family is about its descriptor, not about a path.
fn names_descriptor(call: &Call, flags: u64) -> bool {
    let empty = call.path.as_ref().is_none_or(Vec::is_empty);
    flags & AT_EMPTY_PATH != 0 && empty && call.arguments[0] as i32 >= 0
}
