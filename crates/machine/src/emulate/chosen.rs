//! Which bytes of its memory operand a masked instruction accesses.

use std::ops::Range;

use iced_x86::{Instruction, Mnemonic, Register};
use model::Address;

use super::components;
use crate::Cpu;
use crate::faults::Access;

/// Whether a mask says which elements of a memory operand are accessed.
pub fn is_masked(instruction: &Instruction) -> bool {
    crate::translate::has_memory(instruction)
        && (instruction.op_mask() != Register::None || has_vector_mask(instruction))
}

/// The bytes of an access, neighbours joined. Needs `cpu.vector` for masked instructions. Loads
/// other than moves count whole: what permutes or combines needs elements whose own mask bit is
/// clear.
pub fn chosen_parts(cpu: &Cpu, instruction: &Instruction, access: &Access) -> Vec<Range<Address>> {
    if access.read && !access.write && !moves(instruction) {
        return vec![Address(access.address).range(access.size)];
    }
    parts_by_mask(cpu, instruction, access)
}

/// As [`chosen_parts`], whatever the instruction does with them: where it may fault.
pub fn parts_by_mask(cpu: &Cpu, instruction: &Instruction, access: &Access) -> Vec<Range<Address>> {
    let start = Address(access.address);
    let size = instruction.memory_size().element_size() as u64;
    let count = instruction.memory_size().element_count() as u64;
    // One element in memory, for whichever elements of the vector are chosen.
    let broadcast = instruction.is_broadcast();
    if !is_masked(instruction) || broadcast || instruction.is_vsib() || size * count != access.size
    {
        return vec![start.range(access.size)];
    }
    let bits = chosen(cpu, instruction, size as usize, count);
    if is_packed(instruction) {
        return vec![start.range(size * u64::from(bits.count_ones()))];
    }
    let mut parts: Vec<Range<Address>> = Vec::new();
    for element in (0..count).filter(|element| bits >> element & 1 != 0) {
        let part = Address(start.0.wrapping_add(element * size)).range(size);
        match parts.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => parts.push(part),
        }
    }
    parts
}

/// One bit for each element.
fn chosen(cpu: &Cpu, instruction: &Instruction, size: usize, count: u64) -> u64 {
    let all = u64::MAX >> (64 - count.clamp(1, 64));
    if !has_vector_mask(instruction) {
        return components::mask(&cpu.vector, instruction.op_mask().number()) & all;
    }
    // In loads and in stores the mask is the second operand.
    let mask = components::vector(&cpu.vector, instruction.op1_register().number());
    let tops = mask.chunks(size).take(count as usize).map(|element| element[size - 1] >> 7);
    tops.enumerate().fold(0, |bits, (number, top)| bits | u64::from(top) << number)
}

fn has_vector_mask(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(instruction.mnemonic(), M::Vmaskmovps | M::Vmaskmovpd | M::Vpmaskmovd | M::Vpmaskmovq)
}

/// Chosen elements lie together in memory.
fn is_packed(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        instruction.mnemonic(),
        M::Vcompressps
            | M::Vcompresspd
            | M::Vpcompressb
            | M::Vpcompressw
            | M::Vpcompressd
            | M::Vpcompressq
            | M::Vexpandps
            | M::Vexpandpd
            | M::Vpexpandb
            | M::Vpexpandw
            | M::Vpexpandd
            | M::Vpexpandq
    )
}

/// Loads each element to its own place.
fn moves(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    is_packed(instruction)
        || has_vector_mask(instruction)
        || matches!(
            instruction.mnemonic(),
            M::Vmovdqu8
                | M::Vmovdqu16
                | M::Vmovdqu32
                | M::Vmovdqu64
                | M::Vmovdqa32
                | M::Vmovdqa64
                | M::Vmovups
                | M::Vmovupd
                | M::Vmovaps
                | M::Vmovapd
                | M::Vmovss
                | M::Vmovsd
                | M::Vmovsh
        )
}
