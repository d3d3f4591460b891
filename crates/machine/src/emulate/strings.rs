//! movs, stos, lods, scas, cmps with any prefix, an iteration at a time where that matters.

use std::ops::Range;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use model::{Address, PAGE_SIZE, gpr};

use super::Outcome;
use super::access::{Place, Stop, check, load, load_integer, store, store_integer};
use super::host::{Vendor, host};
use super::registers::{self, ZERO};
use crate::memory::AccessKind;
use crate::{Cpu, FLAG_DIRECTION, Space};

const RCX: usize = gpr::RCX;
const RSI: usize = gpr::RSI;
const RDI: usize = gpr::RDI;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Move,
    Store,
    Load,
    Scan,
    Compare,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    operation: Operation,
    size: usize,
    /// Addresses and the count have 32 bits.
    narrow: bool,
    source_base: u64,
    /// Towards lower addresses.
    down: bool,
    repeats: bool,
    /// For scans and compares that repeat: goes on while ZF is this.
    goes_on_while: u64,
}

/// Sets rip when the instruction is finished.
pub fn run(
    space: &mut Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
    iterations: Option<u64>,
) -> Result<Outcome, Stop> {
    let plan = plan(cpu, instruction);
    if !plan.repeats {
        one(space, cpu, &plan)?;
        cpu.rip = Address(instruction.next_ip());
        return Ok(Outcome::Done);
    }
    let flags = cpu.rflags;
    let outcome = repeat(space, cpu, &plan, iterations.unwrap_or(u64::MAX));
    if matches!(outcome, Ok(Outcome::Done)) {
        cpu.rip = Address(instruction.next_ip());
    } else if host().vendor == Vendor::Intel {
        // What is not finished shows the flags as before the instruction (SDM vol. 2, REP); AMD's
        // processors show those of the last complete iteration.
        cpu.rflags = flags;
    }
    outcome
}

/// An iteration of a repeated string, and bytes that it accesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    pub iteration: u64,
    pub accessed: Range<Address>,
}

/// The first iteration from `from` on that would store to (`write`) or load from a range, if all
/// are done that the count says.
pub fn first_iteration(
    cpu: &Cpu,
    instruction: &Instruction,
    from: u64,
    range: &Range<Address>,
    write: bool,
) -> Option<First> {
    let plan = plan(cpu, instruction);
    let (from_source, from_target) = match plan.operation {
        Operation::Move => (!write, write),
        Operation::Store => (false, write),
        Operation::Load => (!write, false),
        Operation::Scan => (false, !write),
        Operation::Compare => (!write, !write),
    };
    let count = register(cpu, &plan, RCX);
    let size = plan.size as i128;
    let mut found: Option<First> = None;
    for (used, base, pointer) in [(from_source, plan.source_base, RSI), (from_target, 0, RDI)] {
        let first = base.wrapping_add(register(cpu, &plan, pointer));
        if !used {
            continue;
        }
        // 64-bit pointers cannot wrap without a fault; those of 32 bits go on at the bottom.
        let turn = i128::from(u32::MAX) + 1;
        for turns in if plan.narrow { -1..=1 } else { 0..=0 } {
            let first = i128::from(first) + turns * turn;
            let (start, end) = (i128::from(range.start.0), i128::from(range.end.0));
            // Iteration n accesses `size` bytes from first + n * step.
            let step = if plan.down { -size } else { size };
            let wanted = if plan.down { first - end + 1 } else { start - size + 1 - first };
            let iteration = i128::from(from)
                .max(wanted.div_euclid(size) + i128::from(wanted.rem_euclid(size) != 0));
            let at = first + iteration * step;
            let wrapped = plan.narrow && !(0..turn).contains(&(at - i128::from(base)));
            if iteration >= i128::from(count) || at >= end || at + size <= start || wrapped {
                continue;
            }
            let iteration = iteration as u64;
            let accessed = Address(at as u64).range(plan.size as u64);
            if found.as_ref().is_none_or(|known| iteration < known.iteration) {
                found = Some(First { iteration, accessed });
            }
        }
    }
    found
}

fn plan(cpu: &Cpu, instruction: &Instruction) -> Plan {
    use Mnemonic as M;
    let (operation, size) = match instruction.mnemonic() {
        M::Movsb => (Operation::Move, 1),
        M::Movsw => (Operation::Move, 2),
        M::Movsd => (Operation::Move, 4),
        M::Movsq => (Operation::Move, 8),
        M::Stosb => (Operation::Store, 1),
        M::Stosw => (Operation::Store, 2),
        M::Stosd => (Operation::Store, 4),
        M::Stosq => (Operation::Store, 8),
        M::Lodsb => (Operation::Load, 1),
        M::Lodsw => (Operation::Load, 2),
        M::Lodsd => (Operation::Load, 4),
        M::Lodsq => (Operation::Load, 8),
        M::Scasb => (Operation::Scan, 1),
        M::Scasw => (Operation::Scan, 2),
        M::Scasd => (Operation::Scan, 4),
        M::Scasq => (Operation::Scan, 8),
        M::Cmpsb => (Operation::Compare, 1),
        M::Cmpsw => (Operation::Compare, 2),
        M::Cmpsd => (Operation::Compare, 4),
        _ => (Operation::Compare, 8),
    };
    let narrow = (0..instruction.op_count())
        .any(|n| matches!(instruction.op_kind(n), OpKind::MemorySegESI | OpKind::MemoryESEDI));
    let source_base = match instruction.segment_prefix() {
        Register::FS => cpu.fs_base,
        Register::GS => cpu.gs_base,
        _ => 0,
    };
    Plan {
        operation,
        size,
        narrow,
        source_base,
        down: cpu.rflags & FLAG_DIRECTION != 0,
        repeats: instruction.has_rep_prefix() || instruction.has_repne_prefix(),
        goes_on_while: if instruction.has_repne_prefix() { 0 } else { ZERO },
    }
}

fn repeat(space: &mut Space, cpu: &mut Cpu, plan: &Plan, limit: u64) -> Result<Outcome, Stop> {
    // With nothing to do, or a fault in the first iteration, registers of 32 bits keep their upper
    // halves on AMD's processors (observed on Zen 5), but not all of them on Intel's (observed on
    // Emerald Rapids).
    if host().vendor == Vendor::Intel && (limit > 0 || register(cpu, plan, RCX) == 0) {
        zero_extend(cpu, plan);
    }
    let mut left = limit;
    loop {
        let count = register(cpu, plan, RCX);
        if count == 0 {
            return Ok(Outcome::Done);
        }
        if left == 0 {
            return Ok(Outcome::Partial);
        }
        let run = bulk(space, cpu, plan, count.min(left))?;
        if run > 0 {
            left -= run;
            set_register(cpu, plan, RCX, count - run);
            continue;
        }
        one(space, cpu, plan)?;
        left -= 1;
        set_register(cpu, plan, RCX, count - 1);
        let compares = matches!(plan.operation, Operation::Scan | Operation::Compare);
        if compares && cpu.rflags & ZERO != plan.goes_on_while {
            return Ok(Outcome::Done);
        }
    }
}

fn zero_extend(cpu: &mut Cpu, plan: &Plan) {
    let registers: &[usize] = match plan.operation {
        Operation::Move => &[RCX, RSI, RDI],
        Operation::Store => &[RCX, RDI],
        Operation::Load | Operation::Scan | Operation::Compare => &[RCX],
    };
    for number in registers {
        let value = register(cpu, plan, *number);
        set_register(cpu, plan, *number, value);
    }
}

/// One iteration, without the count.
fn one(space: &mut Space, cpu: &mut Cpu, plan: &Plan) -> Result<(), Stop> {
    let (source, target) = (source(cpu, plan), target(cpu, plan));
    let accumulator = registers::low(cpu.general[gpr::RAX], plan.size);
    match plan.operation {
        Operation::Move => {
            let value = load_integer(space, source, plan.size)?;
            store_integer(space, target, plan.size, value)?;
        }
        Operation::Store => store_integer(space, target, plan.size, accumulator)?,
        Operation::Load => {
            let value = load_integer(space, source, plan.size)?;
            let part = [Register::AL, Register::AX, Register::EAX, Register::RAX];
            registers::write(cpu, part[plan.size.trailing_zeros() as usize], value);
        }
        Operation::Scan => {
            let value = load_integer(space, target, plan.size)?;
            compare(cpu, accumulator, value, plan.size);
        }
        Operation::Compare => {
            if host().compares_second_first() {
                check(space, target, plan.size as u64, AccessKind::Read)?;
            }
            let left = load_integer(space, source, plan.size)?;
            let right = load_integer(space, target, plan.size)?;
            compare(cpu, left, right, plan.size);
        }
    }
    advance(cpu, plan, 1);
    Ok(())
}

/// As many iterations of a move or store as lie within one page on both sides and do not read
/// what they have written; 0 when the next iteration has to be done by itself.
fn bulk(space: &mut Space, cpu: &mut Cpu, plan: &Plan, limit: u64) -> Result<u64, Stop> {
    let size = plan.size as u64;
    if plan.down || !matches!(plan.operation, Operation::Move | Operation::Store) {
        return Ok(0);
    }
    let (source, target) = (source(cpu, plan), target(cpu, plan));
    let to_page_end = |place: Place| PAGE_SIZE - place.address % PAGE_SIZE;
    let mut bytes = to_page_end(target);
    if plan.operation == Operation::Move {
        bytes = bytes.min(to_page_end(source));
        let distance = target.address.wrapping_sub(source.address);
        bytes = bytes.min(if distance == 0 { bytes } else { distance });
    }
    let count = (bytes / size).min(limit);
    let bytes = count * size;
    if count < 2 || wraps(cpu, plan, bytes) {
        return Ok(0);
    }
    let mut buffer = [0; PAGE_SIZE as usize];
    let buffer = &mut buffer[..bytes as usize];
    if plan.operation == Operation::Move {
        load(space, source, buffer)?;
    } else {
        let pattern = cpu.general[gpr::RAX].to_le_bytes();
        buffer.chunks_mut(plan.size).for_each(|chunk| chunk.copy_from_slice(&pattern[..plan.size]));
    }
    check(space, target, bytes, AccessKind::Write)?;
    store(space, target, buffer)?;
    advance(cpu, plan, count);
    Ok(count)
}

/// Whether a 32-bit pointer would wrap within the next bytes.
fn wraps(cpu: &Cpu, plan: &Plan, bytes: u64) -> bool {
    plan.narrow
        && [RSI, RDI].iter().any(|at| register(cpu, plan, *at) + bytes > u64::from(u32::MAX))
}

fn compare(cpu: &mut Cpu, left: u64, right: u64, size: usize) {
    registers::set_arithmetic_flags(cpu, registers::subtraction_flags(left, right, size));
}

fn source(cpu: &Cpu, plan: &Plan) -> Place {
    Place::data(plan.source_base.wrapping_add(register(cpu, plan, RSI)))
}

fn target(cpu: &Cpu, plan: &Plan) -> Place {
    Place::data(register(cpu, plan, RDI))
}

fn advance(cpu: &mut Cpu, plan: &Plan, count: u64) {
    let bytes = count * plan.size as u64;
    let step = if plan.down { bytes.wrapping_neg() } else { bytes };
    let (reads, writes) = match plan.operation {
        Operation::Move | Operation::Compare => (true, true),
        Operation::Store | Operation::Scan => (false, true),
        Operation::Load => (true, false),
    };
    for at in [(RSI, reads), (RDI, writes)].iter().filter(|at| at.1).map(|at| at.0) {
        let moved = register(cpu, plan, at).wrapping_add(step);
        set_register(cpu, plan, at, moved);
    }
}

fn register(cpu: &Cpu, plan: &Plan, number: usize) -> u64 {
    registers::low(cpu.general[number], if plan.narrow { 4 } else { 8 })
}

fn set_register(cpu: &mut Cpu, plan: &Plan, number: usize, value: u64) {
    cpu.general[number] = registers::low(value, if plan.narrow { 4 } else { 8 });
}
