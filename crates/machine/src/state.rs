//! The machine's state while guest code runs: one structure at a fixed address that translated
//! code, entry and exit, and the fault handler share.

#![allow(unsafe_code)] // one structure at a fixed address, written by translated code

use std::mem::offset_of;

use crate::cpu::VectorState;
use crate::layout;

/// Values taken by [`State::exit`] that are not numbers of exit records.
pub const EXIT_INDIRECT: u32 = u32::MAX;
pub const EXIT_FAULT: u32 = u32::MAX - 1;

/// What the host reported of a fault inside translated code.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct HostFault {
    pub rip: u64,
    pub signal: i32,
    pub code: i32,
    pub address: u64,
    /// Exception vector (SDM vol. 3, 6.3.1) and, for page faults, its error code.
    pub vector: u64,
    pub error: u64,
}

#[derive(Debug)]
#[repr(C, align(4096))]
pub struct State {
    /// Guest registers; rsp is the host's (translated) while guest code runs.
    pub general: [u64; 16],
    pub rflags: u64,
    pub counter: u64,
    pub s: u64,
    pub t: u64,
    pub host_rsp: u64,
    /// Guest minus host address of the stack that rsp points into.
    pub stack_back: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    /// Host addresses of the two segment bases.
    pub fs_host: u64,
    pub gs_host: u64,
    pub exit: u32,
    /// Address of the common exit; stubs jump through it.
    pub exit_code: u64,
    pub entry: u64,
    pub spill: [u64; 4],
    pub fault: HostFault,
    /// Masks for `pext`: words of 8 bytes, lines of 64 bytes.
    pub word_mask: u64,
    pub line_mask: u64,
    /// Where the next entry of each log goes.
    pub flow_log: u64,
    pub target_log: u64,
    pub call_log: u64,
    pub store_log: u64,
    pub range_log: u64,
    /// Features that XSAVE and XRSTOR handle here.
    pub xsave_mask: u64,
    pub vector: VectorState,
}

/// The fixed address of the field at `offset`.
pub const fn address(offset: usize) -> u64 {
    layout::STATE + offset as u64
}

pub const fn general(register: usize) -> usize {
    offset_of!(State, general) + register * 8
}

pub const fn spill(number: usize) -> usize {
    offset_of!(State, spill) + number * 8
}

/// The state, mapped by `Machine::new`; translated code runs only inside `entry::enter`, while
/// nobody holds this reference.
pub fn state() -> *mut State {
    layout::STATE as *mut State
}
