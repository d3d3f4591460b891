//! A small assembler for the host instructions that the translator inserts. What it rewrites of
//! the guest's own is encoded by `iced_x86`.
//!
//! Only flag-neutral instructions are here, with the exception of [`Emitter::add`].

use crate::layout::{DISPLACEMENT, UNIT_MIDDLE};
use crate::state;

/// A host register by its number in the encoding.
pub type Reg = u8;

/// Counter of retired instructions and ticks (see `block::counter_amount`); its low six bits are
/// always 32, the shift count for units.
pub const COUNTER: Reg = 9;
/// First scratch: effective addresses, targets of indirect jumps.
pub const S: Reg = 10;
/// Second scratch: displacements.
pub const T: Reg = 11;
pub const RSP: Reg = 4;

/// A memory operand; no base and no index is an absolute address below 2 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mem {
    pub base: Option<Reg>,
    pub index: Option<(Reg, u8)>,
    pub disp: i32,
    pub gs: bool,
}

impl Mem {
    pub fn base(base: Reg, disp: i32) -> Mem {
        Mem { base: Some(base), disp, ..Mem::default() }
    }

    pub fn sum(base: Reg, index: Reg, disp: i32) -> Mem {
        Mem { base: Some(base), index: Some((index, 0)), disp, gs: false }
    }

    /// A field of the state.
    pub fn state(offset: usize) -> Mem {
        Mem { disp: state::address(offset) as i32, ..Mem::default() }
    }

    pub fn absolute(address: u64) -> Mem {
        debug_assert!(address < 1 << 31);
        Mem { disp: address as i32, ..Mem::default() }
    }
}

/// Bytes being emitted for a known place.
#[derive(Debug, Default)]
pub struct Emitter {
    pub start: u64,
    pub bytes: Vec<u8>,
    /// Grows with each instruction that writes S.
    pub writes_of_s: u32,
}

impl Emitter {
    pub fn new(start: u64) -> Emitter {
        Emitter { start, bytes: Vec::with_capacity(512), writes_of_s: 0 }
    }

    /// The host address of the next byte.
    pub fn here(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// To be called for each instruction that writes this register.
    pub fn note_write(&mut self, to: Reg) {
        self.writes_of_s += u32::from(to == S);
    }

    fn modrm(&mut self, reg: Reg, mem: Mem) {
        let reg = (reg & 7) << 3;
        let Some(base) = mem.base else {
            let (index, scale) = mem.index.map_or((4, 0), |(index, scale)| (index & 7, scale));
            self.bytes.extend([reg | 4, scale << 6 | index << 3 | 5]);
            self.bytes.extend(mem.disp.to_le_bytes());
            return;
        };
        let small = i8::try_from(mem.disp).is_ok();
        let mode = match mem.disp {
            0 if base & 7 != 5 => 0,
            _ if small => 0x40,
            _ => 0x80,
        };
        if let Some((index, scale)) = mem.index {
            debug_assert!(index != RSP);
            self.bytes.extend([mode | reg | 4, scale << 6 | (index & 7) << 3 | base & 7]);
        } else if base & 7 == 4 {
            self.bytes.extend([mode | reg | 4, 0x24]);
        } else {
            self.bytes.push(mode | reg | base & 7);
        }
        match mode {
            0x40 => self.bytes.push(mem.disp as u8),
            0x80 => self.bytes.extend(mem.disp.to_le_bytes()),
            _ => {}
        }
    }

    fn rex(&mut self, wide: bool, reg: Reg, mem: Mem, force: bool) {
        let index = mem.index.map_or(0, |(index, _)| index >> 3);
        let rex = u8::from(wide) << 3
            | (reg >> 3) << 2
            | index << 1
            | mem.base.map_or(0, |base| base >> 3);
        if rex != 0 || force {
            self.bytes.push(0x40 | rex);
        }
    }

    fn op_mem(&mut self, wide: bool, opcode: &[u8], reg: Reg, mem: Mem) {
        if mem.gs {
            self.bytes.push(0x65);
        }
        self.rex(wide, reg, mem, false);
        self.bytes.extend(opcode);
        self.modrm(reg, mem);
    }

    pub fn load(&mut self, to: Reg, mem: Mem) {
        self.note_write(to);
        self.op_mem(true, &[0x8b], to, mem);
    }

    pub fn load32(&mut self, to: Reg, mem: Mem) {
        self.note_write(to);
        self.op_mem(false, &[0x8b], to, mem);
    }

    /// Loads `size` bytes (1, 2, 4 or 8), zero-extended.
    pub fn load_sized(&mut self, size: usize, to: Reg, mem: Mem) {
        self.note_write(to);
        match size {
            1 => self.op_mem(false, &[0x0f, 0xb6], to, mem),
            2 => self.op_mem(false, &[0x0f, 0xb7], to, mem),
            4 => self.load32(to, mem),
            _ => self.load(to, mem),
        }
    }

    pub fn store(&mut self, mem: Mem, from: Reg) {
        self.op_mem(true, &[0x89], from, mem);
    }

    pub fn store32(&mut self, mem: Mem, from: Reg) {
        self.op_mem(false, &[0x89], from, mem);
    }

    pub fn store_byte(&mut self, mem: Mem, value: u8) {
        self.rex(false, 0, mem, false);
        self.bytes.push(0xc6);
        self.modrm(0, mem);
        self.bytes.push(value);
    }

    pub fn store_word(&mut self, mem: Mem, value: u16) {
        self.bytes.push(0x66);
        self.rex(false, 0, mem, false);
        self.bytes.push(0xc7);
        self.modrm(0, mem);
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn store_dword(&mut self, mem: Mem, value: u32) {
        self.op_mem(false, &[0xc7], 0, mem);
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn lea(&mut self, to: Reg, mem: Mem) {
        self.note_write(to);
        self.op_mem(true, &[0x8d], to, mem);
    }

    pub fn lea32(&mut self, to: Reg, mem: Mem) {
        self.note_write(to);
        self.op_mem(false, &[0x8d], to, mem);
    }

    pub fn mov(&mut self, to: Reg, from: Reg) {
        self.note_write(to);
        self.bytes.extend([
            0x48 | (from >> 3) << 2 | to >> 3,
            0x89,
            0xc0 | (from & 7) << 3 | to & 7,
        ]);
    }

    pub fn constant(&mut self, to: Reg, value: u64) {
        self.note_write(to);
        if let Ok(small) = u32::try_from(value) {
            if to >= 8 {
                self.bytes.push(0x41);
            }
            self.bytes.push(0xb8 | to & 7);
            self.bytes.extend(small.to_le_bytes());
        } else if let Ok(signed) = i32::try_from(value as i64) {
            self.bytes.extend([0x48 | to >> 3, 0xc7, 0xc0 | to & 7]);
            self.bytes.extend(signed.to_le_bytes());
        } else {
            self.bytes.extend([0x48 | to >> 3, 0xb8 | to & 7]);
            self.bytes.extend(value.to_le_bytes());
        }
    }

    pub fn not(&mut self, reg: Reg) {
        self.note_write(reg);
        self.bytes.extend([0x48 | reg >> 3, 0xf7, 0xd0 | reg & 7]);
    }

    /// Two's complement without touching the flags.
    pub fn negate(&mut self, reg: Reg) {
        self.not(reg);
        self.lea(reg, Mem::base(reg, 1));
    }

    pub fn push(&mut self, reg: Reg) {
        if reg >= 8 {
            self.bytes.push(0x41);
        }
        self.bytes.push(0x50 | reg & 7);
    }

    /// Pushes a sign-extended 32-bit constant.
    pub fn push_constant(&mut self, value: i32) {
        self.bytes.push(0x68);
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn push_mem(&mut self, mem: Mem) {
        self.op_mem(false, &[0xff], 6, mem);
    }

    pub fn pop_mem(&mut self, mem: Mem) {
        self.op_mem(false, &[0x8f], 0, mem);
    }

    fn vex(&mut self, map: u8, pp: u8, reg: Reg, vvvv: Reg, x: Reg, b: Reg) {
        let inverted = (!(reg >> 3) & 1) << 7 | (!(x >> 3) & 1) << 6 | (!(b >> 3) & 1) << 5;
        self.bytes.extend([0xc4, inverted | map, 0x80 | (!vvvv & 15) << 3 | pp]);
    }

    /// `to = from >> (count & 63)`, logical.
    pub fn shrx(&mut self, to: Reg, from: Reg, count: Reg) {
        self.note_write(to);
        self.vex(2, 3, to, count, 0, from);
        self.bytes.extend([0xf7, 0xc0 | (to & 7) << 3 | from & 7]);
    }

    /// `to = from >> (count & 63)`, arithmetic.
    pub fn sarx(&mut self, to: Reg, from: Reg, count: Reg) {
        self.note_write(to);
        self.vex(2, 2, to, count, 0, from);
        self.bytes.extend([0xf7, 0xc0 | (to & 7) << 3 | from & 7]);
    }

    /// `to =` the bits of `from` that the mask in memory selects, packed.
    pub fn pext(&mut self, to: Reg, from: Reg, mask: Mem) {
        self.note_write(to);
        debug_assert!(mask.base.is_none() && mask.index.is_none());
        self.vex(2, 2, to, from, 0, 0);
        self.bytes.push(0xf5);
        self.modrm(to, mask);
    }

    /// `reg += value`; writes the flags.
    pub fn add(&mut self, reg: Reg, value: i32) {
        self.bytes.extend([0x48 | reg >> 3, 0x81, 0xc0 | reg & 7]);
        self.bytes.extend(value.to_le_bytes());
    }

    /// `dword [mem] += 1`; writes the flags.
    pub fn increment(&mut self, mem: Mem) {
        self.op_mem(false, &[0xff], 0, mem);
    }

    pub fn jmp(&mut self, target: u64) {
        self.bytes.push(0xe9);
        self.relative(target);
    }

    /// Jump on condition `code` (0 to 15 as in the opcode).
    pub fn jcc(&mut self, code: u8, target: u64) {
        self.bytes.extend([0x0f, 0x80 | code]);
        self.relative(target);
    }

    fn relative(&mut self, target: u64) {
        let next = self.here() + 4;
        self.bytes.extend((target.wrapping_sub(next) as i32).to_le_bytes());
    }

    pub fn jmp_reg(&mut self, reg: Reg) {
        if reg >= 8 {
            self.bytes.push(0x41);
        }
        self.bytes.extend([0xff, 0xe0 | reg & 7]);
    }

    pub fn jmp_mem(&mut self, mem: Mem) {
        self.op_mem(false, &[0xff], 4, mem);
    }

    /// `t = displacement of the unit that the address in `from` lies in`. Faults for
    /// non-canonical addresses.
    pub fn displacement(&mut self, t: Reg, from: Reg) {
        self.shrx(t, from, COUNTER);
        self.load(t, Mem { index: Some((t, 3)), disp: DISPLACEMENT as i32, ..Mem::default() });
    }

    /// `t = host address of the middle of the unit of a known canonical address`; returns the
    /// operand that reaches that address.
    pub fn known_address(&mut self, t: Reg, address: u64) -> Mem {
        self.load(t, Mem::absolute(UNIT_MIDDLE + (address >> 32) * 8));
        Mem::base(t, (address as u32 ^ 0x8000_0000) as i32)
    }

    /// T = the base of the code map of the unit that the guest address in [`S`] lies in. Faults
    /// for non-canonical addresses, as jumping there does before anything has changed.
    pub fn find_code_map(&mut self) {
        self.shrx(T, S, COUNTER);
        self.load(T, Mem { index: Some((T, 3)), gs: true, ..Mem::default() });
    }

    /// Jumps to the translation of the guest address in [`S`], whose code map is in [`T`].
    pub fn jump_through_map(&mut self) {
        self.load32(T, Mem { base: Some(T), index: Some((S, 2)), disp: 0, gs: false });
        self.jmp_reg(T);
    }
}
