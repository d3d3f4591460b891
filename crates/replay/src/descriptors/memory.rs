//! Structures that system calls take from and leave in memory (x86-64 layouts of Linux).

use std::ops::Range;

use model::Address;

use super::Memory;

/// Pieces of a vectored call, and messages of one call, as the kernel limits them.
const PIECES_MAX: u64 = 1024;
/// Control data beyond this is not looked at; the kernel's own limit is lower by default.
const CONTROL_BYTES_MAX: u64 = 64 << 10;
const PATH_BYTES_MAX: u64 = 4096;
const SOCKET_ADDRESS_BYTES_MAX: u32 = 128;
const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;

pub fn u64_at(memory: &dyn Memory, address: Address) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read(address, &mut bytes).then_some(u64::from_le_bytes(bytes))
}

pub fn u32_at(memory: &dyn Memory, address: Address) -> Option<u32> {
    let mut bytes = [0; 4];
    memory.read(address, &mut bytes).then_some(u32::from_le_bytes(bytes))
}

/// What a pointer that may be null points to.
pub fn optional_u64(memory: &dyn Memory, pointer: u64) -> Option<u64> {
    if pointer == 0 { None } else { u64_at(memory, Address(pointer)) }
}

/// Two descriptors, as pipe(2) and socketpair(2) give them.
pub fn pair(memory: &dyn Memory, pointer: u64) -> Option<(i32, i32)> {
    let both = u64_at(memory, Address(pointer))?;
    Some((both as u32 as i32, (both >> 32) as u32 as i32))
}

/// A string without its end.
pub fn string(memory: &dyn Memory, pointer: u64) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    for offset in 0..PATH_BYTES_MAX {
        let mut byte = [0];
        if !memory.read(Address(pointer) + offset, &mut byte) {
            return None;
        }
        if byte[0] == 0 {
            return Some(text);
        }
        text.push(byte[0]);
    }
    None
}

pub fn socket_address(memory: &dyn Memory, pointer: u64, length: u32) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length.min(SOCKET_ADDRESS_BYTES_MAX) as usize];
    (pointer != 0 && memory.read(Address(pointer), &mut bytes)).then_some(bytes)
}

/// struct iovec[].
pub fn pieces(memory: &dyn Memory, vector: u64, count: u64) -> Vec<Range<Address>> {
    let mut pieces = Vec::new();
    for index in 0..count.min(PIECES_MAX) {
        let at = Address(vector) + index * 16;
        let (Some(start), Some(length)) = (u64_at(memory, at), u64_at(memory, at + 8)) else {
            break;
        };
        pieces.push(Address(start).range(length));
    }
    pieces
}

/// What struct msghdr points to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Message {
    pub pieces: Vec<Range<Address>>,
    pub rights: Vec<i32>,
}

/// A message with the descriptors in its control data: of a call that sends.
pub fn message(memory: &dyn Memory, header: Address, sends: bool) -> Message {
    let (Some(vector), Some(count)) = (u64_at(memory, header + 16), u64_at(memory, header + 24))
    else {
        return Message::default();
    };
    let rights = if sends { rights(memory, header) } else { Vec::new() };
    Message { pieces: pieces(memory, vector, count), rights }
}

/// Headers of struct mmsghdr[].
pub fn headers(vector: u64, count: u64) -> impl Iterator<Item = Address> {
    (0..count.min(PIECES_MAX)).map(move |index| Address(vector) + index * 64)
}

/// Length of a message that was sent or received, in struct mmsghdr.
pub fn message_length(memory: &dyn Memory, header: Address) -> Option<u64> {
    u32_at(memory, header + 56).map(u64::from)
}

/// The descriptors in a message's control data (cmsg(3)).
pub fn rights(memory: &dyn Memory, header: Address) -> Vec<i32> {
    let mut rights = Vec::new();
    let (Some(start), Some(length)) = (u64_at(memory, header + 32), u64_at(memory, header + 40))
    else {
        return rights;
    };
    let length = if start == 0 { 0 } else { length.min(CONTROL_BYTES_MAX) };
    let mut at = 0;
    while at + 16 <= length {
        let part = Address(start) + at;
        let (Some(size), Some(level), Some(kind)) =
            (u64_at(memory, part), u32_at(memory, part + 8), u32_at(memory, part + 12))
        else {
            break;
        };
        if size < 16 || size > length - at {
            break;
        }
        if level == SOL_SOCKET && kind == SCM_RIGHTS {
            let numbers = (16..size - 3).step_by(4);
            let found = numbers.filter_map(|offset| u32_at(memory, part + offset));
            rights.extend(found.map(|number| number as i32));
        }
        at += size.next_multiple_of(8);
    }
    rights
}

/// What stat(2) and its relatives say about an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub device: u64,
    pub inode: u64,
    pub mode: u32,
    pub device_major: u64,
    pub length: u64,
}

/// struct stat.
pub fn status(memory: &dyn Memory, pointer: u64) -> Option<Status> {
    let at = Address(pointer);
    let number = u64_at(memory, at + 40)?;
    Some(Status {
        device: u64_at(memory, at)?,
        inode: u64_at(memory, at + 8)?,
        mode: u32_at(memory, at + 24)?,
        device_major: number >> 8 & 0xfff | number >> 32 & 0xffff_f000,
        length: u64_at(memory, at + 48)?,
    })
}

/// struct statx.
pub fn extended_status(memory: &dyn Memory, pointer: u64) -> Option<Status> {
    let at = Address(pointer);
    let (major, minor) = (u32_at(memory, at + 136)?, u32_at(memory, at + 140)?);
    let (major, minor) = (u64::from(major), u64::from(minor));
    let low = (major & 0xfff) << 8 | minor & 0xff;
    Some(Status {
        device: low | (minor & 0xffff_ff00) << 12 | (major & 0xffff_f000) << 32,
        inode: u64_at(memory, at + 32)?,
        mode: u32_at(memory, at + 28)? & 0xffff,
        device_major: u64::from(u32_at(memory, at + 128)?),
        length: u64_at(memory, at + 40)?,
    })
}
