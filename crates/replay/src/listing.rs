//! All registers of a task under the names that gdb gives them, for people and comparisons.

use model::Registers;

use crate::processor::{VectorRegister, VectorRegisters};

/// Registers that every listing has, in its order. `ftag` is the byte of FXSAVE.
pub const LISTED_NAMES: [&str; 76] = [
    "rip", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12",
    "r13", "r14", "r15", "eflags", "cs", "ss", "ds", "es", "fs", "gs", "st0", "st1", "st2", "st3",
    "st4", "st5", "st6", "st7", "fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff",
    "fop", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
    "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "mxcsr", "orig_rax", "fs_base", "gs_base",
    "ymm0h", "ymm1h", "ymm2h", "ymm3h", "ymm4h", "ymm5h", "ymm6h", "ymm7h", "ymm8h", "ymm9h",
    "ymm10h", "ymm11h", "ymm12h", "ymm13h", "ymm14h", "ymm15h",
];

/// The general registers of a listing, as indices into `Registers::general`.
const LISTED_GENERAL: [usize; 16] = [0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];

/// The values of [`LISTED_NAMES`].
pub fn listed_values(registers: &Registers, vector: &VectorRegisters) -> [u128; 76] {
    let mut values = [0; 76];
    let mut at = 0;
    let mut put = |value: u128| {
        values[at] = value;
        at += 1;
    };
    put(registers.rip.0.into());
    LISTED_GENERAL.iter().for_each(|&index| put(registers.general[index].into()));
    let Registers { eflags, cs, ss, ds, es, fs, gs, .. } = *registers;
    [eflags, cs, ss, ds, es, fs, gs].into_iter().for_each(|value| put(value.into()));
    vector.x87.iter().for_each(|value| put(number(value)));
    [vector.control, vector.status, u16::from(vector.tag)]
        .into_iter()
        .for_each(|value| put(value.into()));
    for pointer in [vector.instruction_pointer, vector.operand_pointer] {
        put((pointer >> 32).into());
        put((pointer & 0xffff_ffff).into());
    }
    put(vector.opcode.into());
    vector.vector[..16].iter().for_each(|register| put(number(&register.0[..16])));
    put(vector.mxcsr.into());
    [registers.orig_rax, registers.fs_base, registers.gs_base]
        .into_iter()
        .for_each(|value| put(value.into()));
    vector.vector[..16].iter().for_each(|register| put(number(&register.0[16..32])));
    values
}

/// Names and hexadecimal values: [`LISTED_NAMES`], then of the AVX-512 registers those that are
/// not zero (`zmmNh`: the upper half of zmm0 to zmm15).
pub fn listing(registers: &Registers, vector: &VectorRegisters) -> Vec<(String, String)> {
    let values = listed_values(registers, vector);
    let common = LISTED_NAMES.iter().zip(values);
    let mut listing: Vec<_> =
        common.map(|(name, value)| (name.to_string(), format!("{value:x}"))).collect();
    for (index, mask) in vector.masks.iter().enumerate().filter(|(_, mask)| **mask != 0) {
        listing.push((format!("k{index}"), format!("{mask:x}")));
    }
    for (index, VectorRegister(bytes)) in vector.vector.iter().enumerate() {
        let (name, part) = if index < 16 {
            (format!("zmm{index}h"), &bytes[32..])
        } else {
            (format!("zmm{index}"), &bytes[..])
        };
        if part.iter().any(|&byte| byte != 0) {
            listing.push((name, hexadecimal(part)));
        }
    }
    listing
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u128::from(byte))
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    digits.trim_start_matches('0').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::XsaveLayout;

    #[test]
    fn a_fresh_processor_lists_its_control_words() {
        let state = machine::VectorState::default();
        let vector = VectorRegisters::new(&state, &XsaveLayout::host());
        let listing = listing(&Registers::default(), &vector);
        assert_eq!(listing.len(), LISTED_NAMES.len());
        let value = |name: &str| listing.iter().find(|(known, _)| known == name).unwrap().1.clone();
        assert_eq!(value("fctrl"), "37f");
        assert_eq!(value("mxcsr"), "1f80");
        assert_eq!(value("ymm15h"), "0");
    }
}
