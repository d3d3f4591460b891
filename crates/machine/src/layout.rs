//! Where the machine's own things lie in the host's address space.
//!
//! Translated code reaches its state and tables at fixed absolute addresses below 2 GiB, so that
//! no register has to point at them and no translation contains an address that differs from one
//! host process to the next. Hence one [`crate::Machine`] a process.

use std::ops::Range;

/// Guest addresses are cut into units of 4 GiB; a canonical user address has one of 32,768.
pub const UNIT_SHIFT: u32 = 32;
pub const UNIT_SIZE: u64 = 1 << UNIT_SHIFT;
pub const UNITS: usize = 1 << (47 - UNIT_SHIFT);

/// Inaccessible host memory kept on both sides of every island (run of adjacent units in use):
/// covers any 32-bit displacement, drifts of the stack pointer and 32-bit scaled indexes.
pub const GUARD: u64 = 4 << 30;

/// Code cache: hot code, then cold stubs.
pub const CODE: Range<u64> = 0x1000_0000..0x4000_0000;
/// The state that translated code reads and writes; see `entry`.
pub const STATE: u64 = 0x5000_0000;
/// `u64[UNITS]`: host address of the middle of each unit, or [`ABSENT`].
pub const UNIT_MIDDLE: u64 = 0x5010_0000;
/// `u64[2^32]`: host minus guest address for each unit, [`ABSENT`] for canonical units not in
/// use; only the canonical part is backed, so an index from a non-canonical address faults.
pub const DISPLACEMENT: u64 = 0x6000_0000;
pub const DISPLACEMENT_RESERVED: u64 = 8 << 32;
/// The value of table entries of units that are not in use: makes any sum non-canonical.
pub const ABSENT: u64 = 1 << 63;

/// Islands are placed here. A byte of the write marks stands for each 8-byte word of it.
pub const ISLANDS: Range<u64> = 0x1000_0000_0000..0x5000_0000_0000;
/// Mark of the word at host address h: `h >> 3`.
pub const WRITE_MARK_SHIFT: u32 = 3;
/// Mark of the 64-byte line at host address h that is read: `h >> 6`.
pub const READ_MARK_SHIFT: u32 = 6;

/// A page border: so many bytes below are readable, bytes from here on are not. The count probe
/// reads at this address plus the signed remaining budget in units of 64 instructions.
pub const PROBE: u64 = 0x5002_0000;
pub const PROBE_BYTES: u64 = 4 * 4096;
/// Execution counters, 4 bytes each.
pub const COUNTERS: Range<u64> = 0x4000_0000..0x5000_0000;
/// The host's gs base: `u64[2^32]`, for each unit the base of its code map; entries of canonical
/// units without one are [`ABSENT`]-like, the rest is not backed.
pub const CODE_MAPS: u64 = 0x20_0000_0000;
pub const CODE_MAPS_RESERVED: u64 = 8 << 32;
/// An address that faults at any access and stays inaccessible for gigabytes around: where
/// accesses to units that are not in use are sent.
pub const NOWHERE: u64 = DISPLACEMENT + DISPLACEMENT_RESERVED / 2;

/// Logs of the observers: room for what a slice can append at the most.
pub const FLOW_LOG: Range<u64> = 0x5200_0000..0x5210_0000;
pub const TARGET_LOG: Range<u64> = 0x5220_0000..0x52b0_0000;
pub const CALL_LOG: Range<u64> = 0x52c0_0000..0x54e0_0000;
pub const STORE_LOG: Range<u64> = 0x5500_0000..0x5d00_0000;
pub const RANGE_LOG: Range<u64> = 0x5d00_0000..0x5e00_0000;
