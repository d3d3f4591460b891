//! bt, bts, btr, btc: a bit offset in a register reaches beyond the memory operand.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::access::{Place, Stop, check, load_integer, operand, store_integer};
use super::registers::{self, CARRY};
use crate::memory::AccessKind;
use crate::{Cpu, Space};

pub fn test(space: &mut Space, cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    let from_register = instruction.op1_kind() == OpKind::Register;
    let in_memory = instruction.op0_kind() != OpKind::Register;
    let size = if in_memory {
        instruction.memory_size().size()
    } else {
        instruction.op0_register().size()
    };
    let offset = if from_register {
        registers::read(cpu, instruction.op1_register())
    } else {
        u64::from(instruction.immediate8())
    };
    let bit = offset % (8 * size as u64);
    let writes = instruction.mnemonic() != Mnemonic::Bt;
    if in_memory {
        let mut place = operand(cpu, instruction, 0, 0);
        if from_register {
            let chunks = registers::sign_extend(offset, size).div_euclid(8 * size as i64);
            place = displaced(cpu, instruction, place, chunks.wrapping_mul(size as i64));
        }
        if writes {
            check(space, place, size as u64, AccessKind::Write)?;
        }
        let value = load_integer(space, place, size)?;
        if writes {
            store_integer(space, place, size, changed(instruction.mnemonic(), value, bit))?;
        }
        set_carry(cpu, value >> bit);
    } else {
        let value = registers::read(cpu, instruction.op0_register());
        if writes {
            let value = changed(instruction.mnemonic(), value, bit);
            registers::write(cpu, instruction.op0_register(), value);
        }
        set_carry(cpu, value >> bit);
    }
    Ok(())
}

fn changed(mnemonic: Mnemonic, value: u64, bit: u64) -> u64 {
    match mnemonic {
        Mnemonic::Bts => value | 1 << bit,
        Mnemonic::Btr => value & !(1 << bit),
        Mnemonic::Btc => value ^ 1 << bit,
        _ => value,
    }
}

fn set_carry(cpu: &mut Cpu, bit: u64) {
    cpu.rflags = cpu.rflags & !CARRY | bit & CARRY;
}

/// Moves the effective address, which wraps at its own size, not the linear one.
fn displaced(cpu: &Cpu, instruction: &Instruction, place: Place, bytes: i64) -> Place {
    let narrow = [instruction.memory_base(), instruction.memory_index()]
        .iter()
        .any(|register| register.is_gpr32() || *register == Register::EIP)
        || instruction.memory_displ_size() == 4 && instruction.memory_base() == Register::None;
    let moved = place.offset(bytes as u64);
    if !narrow {
        return moved;
    }
    let base = registers::read(cpu, instruction.memory_segment());
    let effective = moved.address.wrapping_sub(base) & 0xffff_ffff;
    Place { address: base.wrapping_add(effective), ..place }
}
