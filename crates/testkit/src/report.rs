//! What differs between two states, in words to act on.

use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter};
use machine::Cpu;
use model::{Address, GENERAL_NAMES};

use crate::vector_differences;

/// What of a state is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    General,
    WithVector,
}

/// What differs, a line each; nothing when the states are the same. Counts are left out.
pub fn differences(expected: &Cpu, found: &Cpu, extent: Extent) -> Vec<String> {
    let mut lines = Vec::new();
    let mut compare = |name: &str, expected: u64, found: u64| {
        if expected != found {
            lines.push(format!("{name}: expected {expected:#x} found {found:#x}"));
        }
    };
    for (name, (&expected, &found)) in
        GENERAL_NAMES.iter().zip(expected.general.iter().zip(&found.general))
    {
        compare(name, expected, found);
    }
    compare("rip", expected.rip.0, found.rip.0);
    compare("rflags", expected.rflags, found.rflags);
    compare("fs_base", expected.fs_base, found.fs_base);
    compare("gs_base", expected.gs_base, found.gs_base);
    if extent == Extent::WithVector {
        lines.extend(vector_differences(&expected.vector, &found.vector));
    }
    lines
}

/// Addresses, bytes and text of up to `count` instructions.
pub fn disassemble(bytes: &[u8], address: Address, count: usize) -> String {
    let mut decoder = Decoder::with_ip(64, bytes, address.0, DecoderOptions::NONE);
    let mut formatter = GasFormatter::new();
    let mut text = String::new();
    for _ in 0..count {
        if !decoder.can_decode() {
            break;
        }
        let instruction = decoder.decode();
        let at = (instruction.ip() - address.0) as usize;
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        let hex: String =
            bytes[at..at + instruction.len()].iter().map(|b| format!("{b:02x}")).collect();
        text.push_str(&format!("  {:#x}  {hex:<30}  {line}\n", instruction.ip()));
    }
    text
}
