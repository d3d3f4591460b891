//! The nouns of the debugger: addresses, registers, counts. Parse, print, order, nothing else.
//!
//! Every other crate speaks in these; this one depends on nobody and does no work.

use std::fmt;
use std::ops::{Add, Range, Sub};

use serde::{Deserialize, Serialize};

mod moment;
mod recording;
mod registers;

pub use moment::*;
pub use recording::*;
pub use registers::*;

/// Bytes in a page of guest memory.
pub const PAGE_SIZE: u64 = 4096;

/// A virtual address of the recorded program. Arithmetic wraps, as the processor's does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Address(pub u64);

impl Address {
    /// The first byte of the page that holds this address.
    pub fn page_start(self) -> Address {
        Address(self.0 & !(PAGE_SIZE - 1))
    }

    /// Rounded up to a page border; wraps to 0 at the very top.
    pub fn page_ceil(self) -> Address {
        Address(self.0.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1))
    }

    /// The range of `length` bytes that begins here; saturates at the end of the address space.
    pub fn range(self, length: u64) -> Range<Address> {
        self..Address(self.0.saturating_add(length))
    }
}

impl Add<u64> for Address {
    type Output = Address;
    fn add(self, offset: u64) -> Address {
        Address(self.0.wrapping_add(offset))
    }
}

impl Sub<u64> for Address {
    type Output = Address;
    fn sub(self, offset: u64) -> Address {
        Address(self.0.wrapping_sub(offset))
    }
}

impl Sub<Address> for Address {
    type Output = u64;
    fn sub(self, other: Address) -> u64 {
        self.0.wrapping_sub(other.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Names of the sixteen general registers in the processor's encoding order (SDM vol. 2, 2.1.5).
pub const GENERAL_NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// Indices into [`GENERAL_NAMES`] and into every array of general registers.
pub mod gpr {
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
    pub const R9: usize = 9;
    pub const R10: usize = 10;
    pub const R11: usize = 11;
    pub const R12: usize = 12;
    pub const R13: usize = 13;
    pub const R14: usize = 14;
    pub const R15: usize = 15;
}
