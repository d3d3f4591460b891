//! push, pop, pushf, popf, enter, leave in all operand sizes.
//!
//! In 64-bit mode the stack pointer is always rsp as a whole; operands have 8 or 2 bytes.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use model::gpr;

use super::access::{Place, Stop, check, load_integer, operand, store_integer};
use super::registers;
use super::segments;
use crate::memory::AccessKind;
use crate::{Cpu, Space};

const RSP: usize = gpr::RSP;
const RBP: usize = gpr::RBP;

pub fn push(space: &mut Space, cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    let size = operand_size(instruction);
    let value = match instruction.op0_kind() {
        OpKind::Register if instruction.op0_register().is_segment_register() => {
            registers::selector(instruction.op0_register())
        }
        OpKind::Register => registers::read(cpu, instruction.op0_register()),
        OpKind::Memory => load_integer(space, operand(cpu, instruction, 0, 0), size)?,
        _ => instruction.immediate(0),
    };
    push_value(space, cpu, size, value)
}

pub fn pop(space: &mut Space, cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    let size = operand_size(instruction);
    let value = load_integer(space, top(cpu), size)?;
    let old = cpu.general[RSP];
    cpu.general[RSP] = old.wrapping_add(size as u64);
    let register = instruction.op0_register();
    let result = match instruction.op0_kind() {
        // The address is computed from the new stack pointer (SDM vol. 2, POP).
        OpKind::Memory => store_integer(space, operand(cpu, instruction, 0, 0), size, value),
        _ if register.is_segment_register() => segments::load_selector(cpu, register, value),
        _ => {
            registers::write(cpu, register, value);
            Ok(())
        }
    };
    if result.is_err() {
        cpu.general[RSP] = old;
    }
    result
}

pub fn push_flags(space: &mut Space, cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    let image = cpu.rflags & !(registers::RESUME | registers::VIRTUAL_8086);
    push_value(space, cpu, operand_size(instruction), image)
}

pub fn pop_flags(space: &Space, cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    let size = operand_size(instruction);
    let value = load_integer(space, top(cpu), size)?;
    cpu.general[RSP] = cpu.general[RSP].wrapping_add(size as u64);
    let changed = registers::low(registers::USER, size);
    cpu.rflags = cpu.rflags & !changed & !registers::RESUME | value & changed;
    Ok(())
}

pub fn leave(space: &Space, cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    let frame = cpu.general[RBP];
    let size = if instruction.code() == Code::Leavew { 2 } else { 8 };
    let value = load_integer(space, Place::stack(frame), size)?;
    cpu.general[RSP] = frame.wrapping_add(size as u64);
    registers::write(cpu, frame_register(size), value);
    Ok(())
}

/// SDM vol. 2, ENTER. A fault leaves the registers alone, but not the memory below the top of the
/// stack: what has been pushed by then stays.
pub fn enter(space: &mut Space, cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    let size = if instruction.code() == Code::Enterw_imm16_imm8 { 2 } else { 8 };
    let step = size as u64;
    let level = u64::from(instruction.immediate8_2nd() % 32);
    let old_frame = cpu.general[RBP];
    let mut top = cpu.general[RSP].wrapping_sub(step);
    let frame = top;
    store_integer(space, Place::stack(top), size, old_frame)?;
    for outer in 1..=level {
        let value = if outer < level {
            let at = Place::stack(old_frame.wrapping_sub(outer * step));
            load_integer(space, at, size)?
        } else {
            frame
        };
        top = top.wrapping_sub(step);
        store_integer(space, Place::stack(top), size, value)?;
    }
    top = top.wrapping_sub(u64::from(instruction.immediate16()));
    // The new top is probed as if written.
    check(space, Place::stack(top), step, AccessKind::Write)?;
    registers::write(cpu, frame_register(size), frame);
    cpu.general[RSP] = top;
    Ok(())
}

pub fn push_value(space: &mut Space, cpu: &mut Cpu, size: usize, value: u64) -> Result<(), Stop> {
    let lower = cpu.general[RSP].wrapping_sub(size as u64);
    store_integer(space, Place::stack(lower), size, value)?;
    cpu.general[RSP] = lower;
    Ok(())
}

pub fn top(cpu: &Cpu) -> Place {
    Place::stack(cpu.general[RSP])
}

fn frame_register(size: usize) -> Register {
    if size == 2 { Register::BP } else { Register::RBP }
}

fn operand_size(instruction: &Instruction) -> usize {
    debug_assert!(instruction.mnemonic() != Mnemonic::Enter);
    instruction.stack_pointer_increment().unsigned_abs() as usize
}
