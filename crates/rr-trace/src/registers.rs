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

/// `None` when the length is not that of the kernel's structure.
pub(crate) fn parse_64(raw: &[u8]) -> Option<Registers> {
    if raw.len() != BYTES_64 {
        return None;
    }
    let (words, _) = raw.as_chunks::<8>();
    let word = |index: usize| u64::from_le_bytes(words[index]);
    let mut registers = Registers {
        rip: Address(word(16)),
        eflags: word(18),
        orig_rax: word(15),
        cs: word(17),
        ss: word(20),
        ds: word(23),
        es: word(24),
        fs: word(25),
        gs: word(26),
        fs_base: word(21),
        gs_base: word(22),
        ..Registers::default()
    };
    for (register, index) in GENERAL_WORDS {
        registers.general[register] = word(index);
    }
    Some(registers)
}

/// `None` when the length is not that of the kernel's structure.
pub(crate) fn parse_32(raw: &[u8]) -> Option<Registers32> {
    if raw.len() != BYTES_32 {
        return None;
    }
    let (words, _) = raw.as_chunks::<4>();
    Some(Registers32(std::array::from_fn(|index| u32::from_le_bytes(words[index]))))
}
