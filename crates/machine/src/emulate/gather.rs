//! Gathers and scatters, element by element (SDM vol. 2, VPGATHERDD and VPSCATTERDD).

use iced_x86::{Instruction, OpKind, Register};

use super::access::{Stop, load, operand, store};
use super::components;
use super::host::{Vendor, host};
use crate::{Cpu, Space};

/// Elements finished before a fault are in place and gone from the mask.
pub fn run(space: &mut Space, cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    let scatter = instruction.op0_kind() == OpKind::Memory;
    let data = instruction.op_register(if scatter { 1 } else { 0 });
    if !data.is_vector_register() {
        return Ok(()); // A prefetch.
    }
    let masked_by_k = instruction.op_mask() != Register::None;
    let needed = if masked_by_k { 0xe6 } else { 6 };
    if host().images.xcr0 & needed != needed {
        // The recording's processor may have had them: not for the program to see.
        return Err(Stop::Unsupported);
    }
    if scatter {
        scatter_elements(space, cpu, instruction, data)
    } else if masked_by_k {
        let mask = instruction.op_mask().number();
        gather_by_k(space, cpu, instruction, data, mask)
    } else {
        gather_by_vector(space, cpu, instruction, data, instruction.op2_register())
    }
}

fn gather_by_k(
    space: &Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
    data: Register,
    mask: usize,
) -> Result<(), Stop> {
    let (size, count) = elements(instruction, data);
    for element in 0..count {
        let bits = components::mask(&cpu.vector, mask);
        if bits >> element & 1 == 0 {
            continue;
        }
        gather_element(space, cpu, instruction, data, element, size)?;
        // With the first element already, so that a later fault shows it (observed on Zen 5 and
        // Emerald Rapids).
        truncate(cpu, data, data.size());
        components::set_mask(&mut cpu.vector, mask, bits & !(1 << element));
    }
    truncate(cpu, data, size * count);
    components::set_mask(&mut cpu.vector, mask, 0);
    Ok(())
}

fn gather_by_vector(
    space: &Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
    data: Register,
    mask: Register,
) -> Result<(), Stop> {
    let (size, count) = elements(instruction, data);
    // What a fault shows on Intel's processors is as wide as the wider operand.
    let width = data.size().max(instruction.memory_index().size());
    let intel = host().vendor == Vendor::Intel;
    if intel {
        widen_mask(cpu, mask, size, width);
    }
    for element in 0..count {
        let mut bits = components::vector(&cpu.vector, mask.number());
        let range = element * size..(element + 1) * size;
        if bits[range.end - 1] & 0x80 != 0 {
            gather_element(space, cpu, instruction, data, element, size)?;
            if intel {
                truncate(cpu, data, width);
            }
        }
        bits[range].fill(0);
        components::set_vector(&mut cpu.vector, mask.number(), &bits);
    }
    truncate(cpu, data, size * count);
    components::set_vector(&mut cpu.vector, mask.number(), &[0; 64]);
    Ok(())
}

/// Copies the top bit of each element of a mask all over the element, and zeroes the register
/// above: Intel's processors begin with this (the SDM's pseudo code says so, and a later fault shows
/// it), AMD's leave the bits that mean nothing alone.
fn widen_mask(cpu: &mut Cpu, mask: Register, size: usize, width: usize) {
    let mut bits = components::vector(&cpu.vector, mask.number());
    for element in bits[..width].chunks_mut(size) {
        let fill = if element[size - 1] & 0x80 != 0 { 0xff } else { 0 };
        element.fill(fill);
    }
    bits[width..].fill(0);
    components::set_vector(&mut cpu.vector, mask.number(), &bits);
}

fn gather_element(
    space: &Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
    data: Register,
    element: usize,
    size: usize,
) -> Result<(), Stop> {
    let place = operand(cpu, instruction, 1, element);
    let mut value = components::vector(&cpu.vector, data.number());
    load(space, place, &mut value[element * size..(element + 1) * size])?;
    components::set_vector(&mut cpu.vector, data.number(), &value);
    Ok(())
}

fn scatter_elements(
    space: &mut Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
    data: Register,
) -> Result<(), Stop> {
    let (size, count) = elements(instruction, data);
    let mask = instruction.op_mask().number();
    let value = components::vector(&cpu.vector, data.number());
    for element in 0..count {
        let bits = components::mask(&cpu.vector, mask);
        if bits >> element & 1 == 0 {
            continue;
        }
        let place = operand(cpu, instruction, 0, element);
        store(space, place, &value[element * size..(element + 1) * size])?;
        components::set_mask(&mut cpu.vector, mask, bits & !(1 << element));
    }
    components::set_mask(&mut cpu.vector, mask, 0);
    Ok(())
}

/// Bytes of an element, and how many there are: as many as data and index register both hold.
fn elements(instruction: &Instruction, data: Register) -> (usize, usize) {
    let size = instruction.memory_size().size();
    let index_size = if instruction.is_vsib64() { 8 } else { 4 };
    (size, (data.size() / size).min(instruction.memory_index().size() / index_size))
}

/// Zeroes a vector register above its first bytes.
fn truncate(cpu: &mut Cpu, register: Register, bytes: usize) {
    let mut value = components::vector(&cpu.vector, register.number());
    value[bytes..].fill(0);
    components::set_vector(&mut cpu.vector, register.number(), &value);
}
