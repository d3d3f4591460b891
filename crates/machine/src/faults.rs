//! From a host fault inside translated code to the guest's precise state, and to what it means.

#![allow(unsafe_code)] // reads and repairs the state at its fixed address

use iced_x86::{Instruction, OpAccess, Register};
use model::{Address, gpr};

use crate::block::{Phase, View, counter_amount};
use crate::cache::marks_until;
use crate::emit::{S, T};
use crate::state::{HostFault, State};
use crate::{Cpu, Fault};

/// Exception vectors (SDM vol. 3, 6.3.1).
pub const STACK: u64 = 12;
pub const PROTECTION: u64 = 13;
pub const PAGE: u64 = 14;
pub const ALIGNMENT: u64 = 17;

/// Bytes of an entry in the log of stores.
pub const STORE_ENTRY: u64 = 16;

/// What [`roll_back`] found.
#[derive(Clone, Copy, Debug)]
pub struct RolledBack {
    pub position: Position,
    /// The block's execution counter was not reached.
    pub uncounted: bool,
    /// Entries behind the end of the log of stores, for stores of the instruction that faulted.
    pub dropped: u64,
}

/// Where the guest is after its state has been made precise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Position {
    /// Before the instruction with this index.
    Before(usize),
    /// Behind the instruction with this index, which set rsp to a value without a unit.
    StackSet(usize, u64),
    /// At the guest address in S; the whole block has retired.
    Indirect,
    /// At the place where the budget ran out.
    Budget(usize),
}

/// Undoes what translated code had done for the instruction that faulted. rsp and the counter
/// are left for the caller, who knows how to convert them.
pub fn roll_back(state: &mut State, view: View<'_>) -> RolledBack {
    let block = view.block;
    let offset = (state.fault.rip - block.hot.start) as u32;
    let (mut index, mut counted, mut position) = (0, false, None);
    let (mut spilled, mut stores) = (Vec::new(), 0);
    // Whether rsi and rdi hold host addresses, and the log of ranges waits for the end of one.
    let mut displaced = (false, false, false);
    for mark in marks_until(view, offset) {
        match mark.phase {
            Phase::Instruction(n) => {
                index = usize::from(n);
                position = None;
                spilled.clear();
                displaced = (false, false, false);
                stores = 0;
            }
            Phase::Restored => spilled.clear(),
            Phase::StoreLogged(entries) => stores = u64::from(entries),
            Phase::Counted => counted = true,
            Phase::Probe => position = Some(Position::Budget(index)),
            Phase::Spilled { register, slot } => spilled.push((register, slot)),
            Phase::SetStack(register) => {
                position = Some(Position::StackSet(index, host_register(state, register)));
            }
            Phase::Indirect => position = Some(Position::Indirect),
            Phase::Strings { source, destination, logged } => {
                displaced = (source, destination, logged);
            }
        }
    }
    if displaced.0 {
        state.general[gpr::RSI] = state.general[gpr::RSI].wrapping_sub(state.s);
    }
    if displaced.1 {
        state.general[gpr::RDI] = state.general[gpr::RDI].wrapping_sub(state.t);
    }
    if displaced.2 {
        // What was stored before the fault stays.
        crate::observations::end_range(state, state.general[gpr::RDI]);
    }
    for (register, slot) in spilled {
        state.general[usize::from(register)] = state.spill[usize::from(slot)];
    }
    let position = position.unwrap_or(Position::Before(index));
    let dropped = if let Position::Before(_) = position { stores } else { 0 };
    state.store_log -= dropped * STORE_ENTRY;
    if block.mode.counts() {
        let executed = match position {
            Position::Before(n) | Position::Budget(n) => view.counts_before(n),
            Position::StackSet(n, _) => view.counts_before(n + 1),
            Position::Indirect => view.counts(),
        };
        let (instructions, ticks) = view.counts();
        let total = if counted { counter_amount(instructions, ticks) } else { 0 };
        let change = counter_amount(executed.0, executed.1) - total;
        state.counter = state.counter.wrapping_add(change as u64);
    }
    let uncounted = !counted || matches!(position, Position::Budget(_));
    RolledBack { position, uncounted, dropped }
}

/// The value that a host register had at the fault.
fn host_register(state: &State, register: u8) -> u64 {
    match register {
        S => state.s,
        T => state.t,
        _ => state.general[usize::from(register)],
    }
}

/// One memory access of an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub address: u64,
    pub size: u64,
    pub read: bool,
    pub write: bool,
    /// Through rsp or rbp without a segment override: faults as a stack access.
    pub stack: bool,
    /// Through rsp.
    pub top: bool,
}

/// The accesses that an instruction makes from this state, in iced's order.
pub fn accesses(
    info: &mut iced_x86::InstructionInfoFactory,
    instruction: &Instruction,
    cpu: &Cpu,
) -> Vec<Access> {
    let used = info.info(instruction).used_memory().to_vec();
    used.iter()
        .filter_map(|memory| {
            let address =
                memory.virtual_address(0, |register, _, _| register_value(cpu, register))?;
            let access = memory.access();
            let read = matches!(
                access,
                OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            let write = matches!(
                access,
                OpAccess::Write
                    | OpAccess::CondWrite
                    | OpAccess::ReadWrite
                    | OpAccess::ReadCondWrite
            );
            (read || write).then(|| Access {
                address,
                size: memory.memory_size().size().max(1) as u64,
                read,
                write,
                stack: matches!(memory.base(), Register::RSP | Register::RBP)
                    && !matches!(memory.segment(), Register::FS | Register::GS),
                top: memory.base() == Register::RSP,
            })
        })
        .collect()
}

/// A register's value as address computation uses it; segment registers give their base.
pub fn register_value(cpu: &Cpu, register: Register) -> Option<u64> {
    if register.is_segment_register() {
        return Some(match register {
            Register::FS => cpu.fs_base,
            Register::GS => cpu.gs_base,
            _ => 0,
        });
    }
    if register.is_ip() {
        return Some(cpu.rip.0);
    }
    if !register.is_gpr() {
        return None;
    }
    let value = cpu.general[register.full_register().number()];
    Some(match register.size() {
        1 => value & 0xff,
        2 => value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    })
}

pub fn is_canonical(address: u64) -> bool {
    (address << 16) as i64 >> 16 == address as i64
}

/// A general-protection or stack fault as Linux reports it: no address.
pub fn protection_fault(stack: bool) -> Fault {
    const SI_KERNEL: i32 = 0x80;
    let signal = if stack { libc::SIGBUS } else { libc::SIGSEGV };
    Fault { signal, code: SI_KERNEL, address: Address(0) }
}

/// A page fault.
pub fn page_fault(address: u64, mapped: bool) -> Fault {
    const SEGV_MAPERR: i32 = 1;
    const SEGV_ACCERR: i32 = 2;
    let code = if mapped { SEGV_ACCERR } else { SEGV_MAPERR };
    Fault { signal: libc::SIGSEGV, code, address: Address(address) }
}

/// A fault that is not about memory: the guest's, as the host reported it.
pub fn plain_fault(fault: &HostFault, rip: Address) -> Fault {
    const ALIGNMENT_CHECK: u64 = 17;
    let address = if fault.vector == ALIGNMENT_CHECK { Address(0) } else { rip };
    Fault { signal: fault.signal, code: fault.code, address }
}
