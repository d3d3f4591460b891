//! Segment registers and bases, as far as a 64-bit program under Linux uses them.
//!
//! The state has no selectors: cs and ss have Linux's values, the others are null. A load of any
//! other value is refused rather than forgotten.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::access::{Stop, is_canonical, load_integer, operand, protection_fault, store_integer};
use super::registers;
use crate::{Cpu, Space};

pub fn mov(space: &mut Space, cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    let (to, from) = (instruction.op0_register(), instruction.op1_register());
    if instruction.op0_kind() == OpKind::Memory {
        let place = operand(cpu, instruction, 0, 0);
        store_integer(space, place, 2, registers::selector(from))
    } else if from.is_segment_register() {
        registers::write(cpu, to, registers::selector(from));
        Ok(())
    } else {
        let selector = match instruction.op1_kind() {
            OpKind::Memory => load_integer(space, operand(cpu, instruction, 1, 0), 2)?,
            _ => registers::read(cpu, from),
        };
        load_selector(cpu, to, selector)
    }
}

/// A null selector clears the base of fs and gs on Intel's processors and on AMD's since Zen 2.
pub fn load_selector(cpu: &mut Cpu, register: Register, selector: u64) -> Result<(), Stop> {
    match (register, selector & 0xffff) {
        (Register::FS, 0) => cpu.fs_base = 0,
        (Register::GS, 0) => cpu.gs_base = 0,
        (Register::DS | Register::ES, 0) => {}
        (Register::SS, registers::STACK_SELECTOR) => {}
        _ => return Err(Stop::Unsupported),
    }
    Ok(())
}

/// rdfsbase, rdgsbase, wrfsbase, wrgsbase.
pub fn base(cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    let register = instruction.op0_register();
    let value = registers::read(cpu, register);
    let mut written = |to: fn(&mut Cpu) -> &mut u64| {
        if !is_canonical(value) {
            return Err(protection_fault());
        }
        *to(cpu) = value;
        Ok(())
    };
    match instruction.mnemonic() {
        Mnemonic::Wrfsbase => written(|cpu| &mut cpu.fs_base),
        Mnemonic::Wrgsbase => written(|cpu| &mut cpu.gs_base),
        Mnemonic::Rdfsbase => {
            registers::write(cpu, register, cpu.fs_base);
            Ok(())
        }
        _ => {
            registers::write(cpu, register, cpu.gs_base);
            Ok(())
        }
    }
}
