//! The general registers of a frame, 64 or 32 bits wide.

use model::{Address, Registers, gpr};

/// Layout is chosen by the architecture of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRegisters {
    X8664(Registers),
    X86(Registers32),
}

impl FrameRegisters {
    /// The 64-bit registers, if they are.
    pub fn x8664(&self) -> Option<&Registers> {
        match self {
            FrameRegisters::X8664(registers) => Some(registers),
            FrameRegisters::X86(_) => None,
        }
    }
}

/// The kernel's 32-bit `user_regs_struct`, in its order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers32(pub [u32; 17]);

impl Registers32 {
    pub const NAMES: [&str; 17] = [
        "ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs", "orig_eax", "eip",
        "cs", "eflags", "esp", "ss",
    ];

    pub fn named(&self) -> impl Iterator<Item = (&'static str, u32)> {
        Registers32::NAMES.into_iter().zip(self.0)
    }
}

/// Bytes of the kernel's `user_regs_struct` for x86-64 and x86.
const BYTES_64: usize = 27 * 8;
const BYTES_32: usize = 17 * 4;

/// Where the general registers, in processor order, lie in `user_regs_struct`, in words.
const GENERAL_WORDS: [(usize, usize); 16] = [
    (gpr::RAX, 10),
    (gpr::RCX, 11),
    (gpr::RDX, 12),
    (gpr::RBX, 5),
    (gpr::RSP, 19),
    (gpr::RBP, 4),
    (gpr::RSI, 13),
    (gpr::RDI, 14),
    (gpr::R8, 9),
    (gpr::R9, 8),
    (gpr::R10, 7),
    (gpr::R11, 6),
    (gpr::R12, 3),
    (gpr::R13, 2),
    (gpr::R14, 1),
    (gpr::R15, 0),
];

/// Words of the kernel's `user_regs_struct` for x86-64.
pub const REGISTER_WORDS: usize = BYTES_64 / 8;

/// The kernel's `user_regs_struct` in the project's form.
pub fn registers_of_words(words: &[u64; REGISTER_WORDS]) -> Registers {
    let mut registers = Registers {
        rip: Address(words[16]),
        eflags: words[18],
        orig_rax: words[15],
        cs: words[17],
        ss: words[20],
        ds: words[23],
        es: words[24],
        fs: words[25],
        gs: words[26],
        fs_base: words[21],
        gs_base: words[22],
        ..Registers::default()
    };
    for (register, index) in GENERAL_WORDS {
        registers.general[register] = words[index];
    }
    registers
}

/// The inverse of [`registers_of_words`].
pub fn words_of_registers(registers: &Registers) -> [u64; REGISTER_WORDS] {
    let mut words = [0; REGISTER_WORDS];
    for (register, index) in GENERAL_WORDS {
        words[index] = registers.general[register];
    }
    words[15] = registers.orig_rax;
    words[16] = registers.rip.0;
    words[17] = registers.cs;
    words[18] = registers.eflags;
    words[20] = registers.ss;
    words[21] = registers.fs_base;
    words[22] = registers.gs_base;
    words[23] = registers.ds;
    words[24] = registers.es;
    words[25] = registers.fs;
    words[26] = registers.gs;
    words
}

/// `None` when the length is not that of the kernel's structure.
pub(crate) fn parse_64(raw: &[u8]) -> Option<Registers> {
    let (words, rest) = raw.as_chunks::<8>();
    let words: &[[u8; 8]; REGISTER_WORDS] = words.try_into().ok()?;
    rest.is_empty().then(|| registers_of_words(&words.map(u64::from_le_bytes)))
}

/// `None` when the length is not that of the kernel's structure.
pub(crate) fn parse_32(raw: &[u8]) -> Option<Registers32> {
    if raw.len() != BYTES_32 {
        return None;
    }
    let (words, _) = raw.as_chunks::<4>();
    Some(Registers32(std::array::from_fn(|index| u32::from_le_bytes(words[index]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_its_place() {
        let words = std::array::from_fn(|index| 0x1000 + index as u64);
        assert_eq!(words_of_registers(&registers_of_words(&words)), words);
    }
}
