//! Stores and loads through implicit pointers: maskmov, xlat, movdir64b, clzero.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use model::gpr;

use super::access::{Place, Stop, check, load, load_integer, operand, protection_fault, store};
use super::components;
use super::host::{Vendor, host};
use super::registers;
use super::x87::check_pending;
use crate::memory::AccessKind;
use crate::{Cpu, Space};

/// Stores the bytes whose mask byte has its top bit set; the others are not touched at all.
pub fn store_masked(
    space: &mut Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
) -> Result<(), Stop> {
    let place = operand(cpu, instruction, 0, 0);
    let (source, mask) = (instruction.op1_register(), instruction.op2_register());
    let mmx = instruction.mnemonic() == Mnemonic::Maskmovq;
    if mmx {
        check_pending(cpu, &components::x87(&cpu.vector))?;
        // Before the store: a fault in it comes too late to leave the x87 unit alone (observed
        // on Zen 5 and Emerald Rapids).
        enter_mmx(cpu);
    }
    let length = if mmx { 8 } else { 16 };
    let bytes = vector_or_mmx(cpu, source);
    let mask = vector_or_mmx(cpu, mask);
    // All bytes are probed, chosen or not, eight at a time: from below on AMD's (observed on
    // Zen 5), from above on Intel's (observed on Emerald Rapids).
    let above = upper_half(cpu, instruction, place, length as u64 - 8);
    let order = match host().vendor {
        Vendor::Amd => [place, above],
        Vendor::Intel => [above, place],
    };
    for half in order {
        check(space, half, 8, AccessKind::Write)?;
    }
    let chosen = |n: &usize| mask[*n] & 0x80 != 0;
    for at in (0..length).filter(chosen) {
        let half = if at < 8 { place } else { above };
        store(space, half.offset(at as u64 % 8), &bytes[at..=at])?;
    }
    Ok(())
}

/// The place so many bytes further on, with the pointer wrapping at its own size.
fn upper_half(cpu: &Cpu, instruction: &Instruction, place: Place, bytes: u64) -> Place {
    if instruction.op0_kind() != OpKind::MemorySegEDI {
        return place.offset(bytes);
    }
    let base = registers::read(cpu, instruction.memory_segment());
    let effective = place.address.wrapping_sub(base).wrapping_add(bytes) & 0xffff_ffff;
    Place { address: base.wrapping_add(effective), ..place }
}

/// MMX registers are the significands of the physical x87 registers (SDM vol. 1, 9.5.1).
fn vector_or_mmx(cpu: &Cpu, register: Register) -> [u8; 64] {
    if !register.is_mm() {
        return components::vector(&cpu.vector, register.number());
    }
    let x87 = components::x87(&cpu.vector);
    let mut bytes = [0; 64];
    let slot = (register.number() + 8 - x87.top()) & 7;
    bytes[..8].copy_from_slice(&x87.registers[slot][..8]);
    bytes
}

/// What every MMX instruction but emms does to the x87 unit: top is 0, all registers valid.
fn enter_mmx(cpu: &mut Cpu) {
    let mut x87 = components::x87(&cpu.vector);
    let top = x87.top();
    x87.registers.rotate_right(top);
    x87.status &= !0x3800;
    x87.valid = 0xff;
    components::set_x87(&mut cpu.vector, &x87);
}

pub fn translate_byte(space: &Space, cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    let value = load_integer(space, operand(cpu, instruction, 0, 0), 1)?;
    registers::write(cpu, Register::AL, value);
    Ok(())
}

pub fn move_line(space: &mut Space, cpu: &Cpu, instruction: &Instruction) -> Result<(), Stop> {
    // The destination is in es, whose base is 0. Its alignment is looked at behind the load
    // (observed on Zen 5).
    let target = Place::data(registers::read(cpu, instruction.op0_register()));
    let mut line = [0; 64];
    load(space, operand(cpu, instruction, 1, 0), &mut line)?;
    if !target.address.is_multiple_of(64) {
        return Err(protection_fault());
    }
    store(space, target, &line)
}

/// Also where the host has no such instruction: a recording may come from one that has.
pub fn zero_line(space: &mut Space, cpu: &Cpu, instruction: &Instruction) -> Result<(), Stop> {
    let address = match instruction.code() {
        Code::Clzeroq => cpu.general[gpr::RAX],
        _ => cpu.general[gpr::RAX] & 0xffff_ffff,
    };
    let base = registers::read(cpu, instruction.segment_prefix());
    store(space, Place::data(base.wrapping_add(address) & !63), &[0; 64])
}

/// clflush, clflushopt, clwb: no effect here, but they fault as a load of one byte does.
pub fn flush_line(space: &Space, cpu: &Cpu, instruction: &Instruction) -> Result<(), Stop> {
    check(space, operand(cpu, instruction, 0, 0), 1, AccessKind::Read)
}
