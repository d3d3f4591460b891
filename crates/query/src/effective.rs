//! What an instruction is about to access.

use std::ops::Range;

use iced_x86::{Instruction, InstructionInfoFactory, OpAccess, Register};
use model::{Address, Registers};

/// Memory that an instruction accesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    pub range: Range<Address>,
    pub reads: bool,
    pub writes: bool,
}

/// What it accesses with these registers: of a `rep` string, its next element.
pub fn touched(instruction: &Instruction, registers: &Registers) -> Vec<Touched> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let mut all = Vec::new();
    for used in info.used_memory() {
        let (reads, writes) = directions(used.access());
        let address = used.virtual_address(0, |register, _, _| value(register, registers));
        let size = match used.memory_size().size() as u64 {
            // What has no size of its own: state saved by xsave and the like.
            0 => 1,
            size => size,
        };
        if let Some(address) = address.filter(|_| reads || writes) {
            let range = Address(address)..Address(address.saturating_add(size));
            all.push(Touched { range, reads, writes });
        }
    }
    all
}

fn directions(access: OpAccess) -> (bool, bool) {
    match access {
        OpAccess::Read | OpAccess::CondRead => (true, false),
        OpAccess::Write | OpAccess::CondWrite => (false, true),
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
        _ => (false, false),
    }
}

/// The value of a register that addresses are made of.
pub fn value(register: Register, registers: &Registers) -> Option<u64> {
    match register {
        Register::ES | Register::CS | Register::SS | Register::DS => Some(0),
        Register::FS => Some(registers.fs_base),
        Register::GS => Some(registers.gs_base),
        Register::RIP | Register::EIP => Some(registers.rip.0),
        _ if register.is_gpr() => {
            let whole = registers.general[general(register)?];
            Some(match register.size() {
                8 => whole,
                4 => whole & 0xffff_ffff,
                2 => whole & 0xffff,
                _ if is_high(register) => (whole >> 8) & 0xff,
                _ => whole & 0xff,
            })
        }
        _ => None,
    }
}

/// Index of a general register in [`model::gpr`]'s order, which is that of encodings.
pub fn general(register: Register) -> Option<usize> {
    let full = register.full_register();
    (full.is_gpr()).then(|| full as usize - Register::RAX as usize)
}

/// `ah`, `ch`, `dh`, `bh`.
pub fn is_high(register: Register) -> bool {
    matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
}
