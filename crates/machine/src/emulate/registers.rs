//! General registers, flags, selectors and segment bases by their names in an instruction.

use iced_x86::Register;

use crate::Cpu;

pub const CARRY: u64 = 1 << 0;
pub const PARITY: u64 = 1 << 2;
pub const ADJUST: u64 = 1 << 4;
pub const ZERO: u64 = 1 << 6;
pub const SIGN: u64 = 1 << 7;
pub const OVERFLOW: u64 = 1 << 11;
pub const ARITHMETIC: u64 = CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW;
/// What popf changes at privilege level 3 with IOPL 0: CF PF AF ZF SF TF DF OF NT AC ID.
pub const USER: u64 = ARITHMETIC | crate::FLAG_TRAP | crate::FLAG_DIRECTION | NESTED | AC | ID;
const NESTED: u64 = 1 << 14;
pub const RESUME: u64 = 1 << 16;
pub const VIRTUAL_8086: u64 = 1 << 17;
const AC: u64 = 1 << 18;
const ID: u64 = 1 << 21;

/// Selectors that Linux gives a 64-bit program; ds, es, fs and gs are null.
pub const CODE_SELECTOR: u64 = 0x33;
pub const STACK_SELECTOR: u64 = 0x2b;

/// A register's value: the whole of a general register or the part named, the base of a segment.
pub fn read(cpu: &Cpu, register: Register) -> u64 {
    match register {
        Register::FS => return cpu.fs_base,
        Register::GS => return cpu.gs_base,
        Register::RIP | Register::EIP => return cpu.rip.0,
        _ if !register.is_gpr() => return 0,
        _ => {}
    }
    let whole = cpu.general[register.full_register().number()];
    if is_high_byte(register) { whole >> 8 & 0xff } else { low(whole, register.size()) }
}

/// Writes a general register: 32 bits clear the upper half, 8 and 16 bits leave the rest.
pub fn write(cpu: &mut Cpu, register: Register, value: u64) {
    assert!(register.is_gpr(), "{register:?} is not a general register");
    let whole = &mut cpu.general[register.full_register().number()];
    *whole = match register.size() {
        8 => value,
        4 => low(value, 4),
        2 => *whole & !0xffff | low(value, 2),
        _ if is_high_byte(register) => *whole & !0xff00 | low(value, 1) << 8,
        _ => *whole & !0xff | low(value, 1),
    };
}

/// The value of a segment register, which is the selector and not the base.
pub fn selector(register: Register) -> u64 {
    match register {
        Register::CS => CODE_SELECTOR,
        Register::SS => STACK_SELECTOR,
        _ => 0,
    }
}

/// The low `size` bytes.
pub fn low(value: u64, size: usize) -> u64 {
    if size >= 8 { value } else { value & ((1 << (8 * size)) - 1) }
}

pub fn sign_extend(value: u64, size: usize) -> i64 {
    let unused = 64 - 8 * size as u32;
    (value << unused) as i64 >> unused
}

/// The arithmetic flags of `left - right` in `size` bytes.
pub fn subtraction_flags(left: u64, right: u64, size: usize) -> u64 {
    let (left, right) = (low(left, size), low(right, size));
    let result = low(left.wrapping_sub(right), size);
    let top = 8 * size as u32 - 1;
    let mut flags = 0;
    let mut set = |flag, condition| flags |= if condition { flag } else { 0 };
    set(CARRY, left < right);
    set(PARITY, (result as u8).count_ones().is_multiple_of(2));
    set(ADJUST, (left ^ right ^ result) & 0x10 != 0);
    set(ZERO, result == 0);
    set(SIGN, result >> top & 1 != 0);
    set(OVERFLOW, ((left ^ right) & (left ^ result)) >> top & 1 != 0);
    flags
}

pub fn set_arithmetic_flags(cpu: &mut Cpu, flags: u64) {
    cpu.rflags = cpu.rflags & !ARITHMETIC | flags;
}

fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)
}
