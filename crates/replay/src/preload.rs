//! Structures that rr's preload library keeps in the program's memory (rr-replay, appendix B);
//! 64-bit layout.

use machine::Space;
use model::Address;
use serde::{Deserialize, Serialize};

/// Bytes at the start of the thread-locals page that belong to one task (rr-replay 6.4).
pub const THREAD_LOCALS_BYTES: usize = 144;

/// Offsets in `preload_thread_locals`.
pub mod thread_locals {
    pub const STUB_ALT_STACK: u64 = 0;
    /// Points to `syscall_info`: number and arguments as the program gave them.
    pub const ORIGINAL_CALL: u64 = 32;
    pub const ALT_STACK_NESTING_LEVEL: usize = 24;
    pub const SAVED_FLAGS: usize = 28;
    pub const RSEQ_POINTER: u64 = 128;
    pub const RSEQ_LENGTH: u64 = 136;
    pub const RSEQ_SIGNATURE: u64 = 140;
}

/// Offsets in the header of a syscall buffer.
pub mod buffer {
    pub const RECORD_BYTES: u64 = 0;
    pub const MPROTECT_COUNT: u64 = 4;
    pub const MPROTECT_COMPLETED: u64 = 8;
    pub const ABORT_COMMIT: u64 = 12;
    pub const NOTIFY_ON_HOOK_EXIT: u64 = 13;
    pub const LOCKED: u64 = 14;
    pub const BLOCKED_SIGNALS_GENERATION: u64 = 24;
}

/// The head of a record in the syscall buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferRecord {
    pub result: i64,
    pub number: u16,
    pub bits: u8,
}

impl BufferRecord {
    pub const REPLAY_ASSIST: u8 = 2;

    pub fn read(space: &Space, address: Address) -> Result<BufferRecord, machine::Error> {
        let mut bytes = [0; 16];
        space.read(address, &mut bytes)?;
        let (mut result, mut number) = ([0; 8], [0; 2]);
        result.copy_from_slice(&bytes[..8]);
        number.copy_from_slice(&bytes[8..10]);
        Ok(BufferRecord {
            result: i64::from_le_bytes(result),
            number: u16::from_le_bytes(number),
            bits: bytes[10],
        })
    }
}

/// Sizes of the library's structures that changed between releases; from the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// `syscallbuf_hdr`.
    pub buffer_header: u64,
    /// Entries of the table of descriptor classes in `preload_globals`.
    pub descriptor_classes: u64,
}

/// What the library tells at `rrcall_init_preload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreloadParameters {
    pub globals: Address,
    pub breakpoint: BreakpointAt,
}

/// Where the library shows that it has committed a record (rr-replay 6.5 and 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BreakpointAt {
    /// One instruction, executed after every commit.
    Instruction(Address),
    /// A table of addresses, one for each possible number of committed words.
    Table { start: Address, entry_bytes: u64 },
}

impl BreakpointAt {
    /// Where a task is that has just committed `record_bytes` bytes of records.
    pub fn address(&self, record_bytes: u32) -> Address {
        match *self {
            BreakpointAt::Instruction(address) => address,
            BreakpointAt::Table { start, entry_bytes } => {
                start + entry_bytes.wrapping_mul(u64::from(record_bytes / 8))
            }
        }
    }
}

impl PreloadParameters {
    pub fn read(space: &Space, parameters: Address) -> Result<PreloadParameters, machine::Error> {
        let globals = Address(space.read_u64(parameters + 64)?);
        let start = Address(space.read_u64(parameters + 72)?);
        let sentinel = read_u32(space, parameters + 80)? as i32;
        let breakpoint = match sentinel {
            -1 => BreakpointAt::Instruction(start),
            size => BreakpointAt::Table { start, entry_bytes: u64::from(size.unsigned_abs()) },
        };
        Ok(PreloadParameters { globals, breakpoint })
    }
}

/// What the library tells at `rrcall_init_buffers`, after the recorder has filled it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferParameters {
    pub cloned_file: i32,
    pub buffer: Address,
    pub buffer_bytes: u32,
}

impl BufferParameters {
    pub fn read(space: &Space, parameters: Address) -> Result<BufferParameters, machine::Error> {
        Ok(BufferParameters {
            cloned_file: read_u32(space, parameters + 4)? as i32,
            buffer: Address(space.read_u64(parameters + 8)?),
            buffer_bytes: read_u32(space, parameters + 24)?,
        })
    }
}

pub fn read_u32(space: &Space, address: Address) -> Result<u32, machine::Error> {
    let mut bytes = [0; 4];
    space.read(address, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

pub fn write_u32(space: &mut Space, address: Address, value: u32) -> Result<(), machine::Error> {
    space.write(address, &value.to_le_bytes())
}
