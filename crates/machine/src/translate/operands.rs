//! Pass-through: the instruction as it is, with its memory operand translated and the displaced
//! registers replaced.

use std::mem::offset_of;

use iced_x86::{Code, Instruction, Mnemonic, OpAccess, OpKind, Register};

use super::classify::number;
use super::{Cached, Translator, has_memory, is_moffs};
use crate::block::{Mode, Phase, TICKS_MAX};
use crate::emit::{COUNTER, Mem, RSP, Reg, S, T};
use crate::layout::GUARD;
use crate::state::{State, general};

/// Immediates up to which rsp may be moved without looking up its unit again. A slice of such
/// moves stays inside the guards, and an operand with any displacement from there.
const STACK_MOVE_MAX: i64 = 1024;
const _: () = assert!((TICKS_MAX as i64) * STACK_MOVE_MAX + (1 << 31) < GUARD as i64);

/// A register operand that the host's register of that name does not hold.
#[derive(Clone, Copy, Debug)]
struct Replaced {
    guest: Reg,
    host: Reg,
    read: bool,
    written: bool,
}

/// Whether the host keeps something else in this register.
pub fn is_displaced(register: Reg) -> bool {
    matches!(register, COUNTER | S | T)
}

/// The part of a host register that has the same size as `like`.
pub fn sized(register: Reg, like: Register) -> Register {
    let n = u32::from(register);
    match like.size() {
        1 if n < 4 => Register::AL + n,
        1 if n < 8 => Register::SPL + (n - 4),
        1 => Register::R8L + (n - 8),
        2 => Register::AX + n,
        4 => Register::EAX + n,
        _ => Register::RAX + n,
    }
}

impl Translator<'_> {
    /// Translates an instruction that runs natively. With `count`, the block's counts are added
    /// right before it changes the flags.
    pub(super) fn plain(&mut self, instruction: &Instruction, bytes: &[u8], count: Option<usize>) {
        let mut instruction = *instruction;
        if is_moffs(instruction.code()) {
            instruction = without_moffs(&instruction);
        }
        let memory = has_memory(&instruction);
        if !memory && let Some(index) = count {
            self.count_with_flags(index);
        }
        let explicit = self.explicit_registers(&instruction);
        let untouched = explicit.is_empty() || self.moves_stack_natively(&instruction);
        if untouched && (!memory || self.is_stack_operand(&instruction) && count.is_none()) {
            self.out.hot.bytes.extend(bytes);
            return;
        }
        if self.read_stack_pointer(&instruction) || self.read_displaced(&instruction) {
            return;
        }
        self.rewrite(instruction, explicit, memory, count);
    }

    fn rewrite(
        &mut self,
        mut instruction: Instruction,
        mut replaced: Vec<Replaced>,
        memory: bool,
        count: Option<usize>,
    ) {
        let guest = instruction;
        let mut free = Free { t: true, s: true };
        if memory {
            let mut mem = self.operand(&instruction);
            mem = self.observe_operand(&instruction, mem);
            let taken = |mem: &Mem, reg| {
                mem.base == Some(reg) || mem.index.is_some_and(|(index, _)| index == reg)
            };
            if taken(&mem, T) && replaced.len() > usize::from(!taken(&mem, S)) {
                // One register for the whole address leaves the other for an operand.
                self.out.hot.lea(S, mem);
                mem = Mem::base(S, 0);
            }
            if needs_legacy_address(&instruction) && uses_extended(&mem) {
                let address = self.borrow(&guest);
                self.out.hot.lea(address, mem);
                mem = Mem::base(address, 0);
            }
            free.t &= !taken(&mem, T);
            free.s &= !taken(&mem, S);
            if let Some(index) = count {
                mem = self.load_then_count(&mut instruction, mem, index, &mut free);
            }
            set_memory(&mut instruction, mem);
        }
        if needs_legacy_address(&guest) {
            // Nor can the scratch registers be named in it.
            free = Free { t: false, s: false };
        }
        debug_assert!(replaced.len() <= 4);
        // A register that S holds stays there.
        let held = replaced.iter().position(|item| free.s && self.is_held(item.guest));
        free.s &= held.is_none();
        for (n, item) in replaced.iter_mut().enumerate() {
            item.host = match held {
                Some(held) if held == n => S,
                _ => free.pop().unwrap_or_else(|| self.borrow(&guest)),
            };
            if item.host == T {
                self.cached = Cached::Nothing;
            }
        }
        for item in &replaced {
            if item.read {
                self.load_guest(item.host, item.guest);
            }
        }
        substitute(&mut instruction, &guest, &replaced);
        self.encode(&instruction);
        for item in replaced.iter().filter(|item| item.written) {
            self.out.hot.note_write(item.host);
        }
        for item in replaced.iter().filter(|item| item.written && item.guest != RSP) {
            self.store_guest(item.guest, item.host);
        }
        // Last, because it uses the scratch registers.
        for item in replaced.iter().filter(|item| item.written && item.guest == RSP) {
            self.set_stack(item.host);
        }
        self.give_back();
    }

    /// Loads the memory operand, so that a fault comes before the flags change, then counts; the
    /// operand becomes the register loaded.
    fn load_then_count(
        &mut self,
        instruction: &mut Instruction,
        mem: Mem,
        index: usize,
        free: &mut Free,
    ) -> Mem {
        let size = instruction.memory_size().size();
        free.s = false;
        self.out.hot.load_sized(size, S, mem);
        self.count_with_flags(index);
        let operand = (0..instruction.op_count())
            .find(|n| instruction.op_kind(*n) == OpKind::Memory)
            .expect("called for a memory operand");
        let like = match size {
            1 => Register::AL,
            2 => Register::AX,
            4 => Register::EAX,
            _ => Register::RAX,
        };
        instruction.set_op_kind(operand, OpKind::Register);
        instruction.set_op_register(operand, sized(S, like));
        Mem::default()
    }

    /// Displaced registers and rsp among the register operands, with how they are used.
    fn explicit_registers(&mut self, instruction: &Instruction) -> Vec<Replaced> {
        let mut found: Vec<Replaced> = Vec::new();
        let concerned = (0..instruction.op_count()).any(|n| {
            instruction.op_kind(n) == OpKind::Register
                && number(instruction.op_register(n))
                    .is_some_and(|guest| is_displaced(guest) || guest == RSP)
        });
        if !concerned {
            return found;
        }
        let info = self.tools.info.info(instruction);
        for n in 0..instruction.op_count() {
            if instruction.op_kind(n) != OpKind::Register {
                continue;
            }
            let register = instruction.op_register(n);
            let Some(guest) = number(register) else { continue };
            if !is_displaced(guest) && guest != RSP {
                continue;
            }
            let access = info.op_access(n);
            let written = !matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::None);
            // Bit scans and others leave their destination alone at times.
            let moves = matches!(
                instruction.mnemonic(),
                Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd
            );
            let read = !(moves && access == OpAccess::Write && register.size() >= 4);
            match found.iter_mut().find(|item| item.guest == guest) {
                Some(item) => {
                    item.read |= read;
                    item.written |= written;
                }
                None => found.push(Replaced { guest, host: 0, read, written }),
            }
        }
        found
    }

    /// `add`, `sub`, `and` of a small constant to rsp leave it in its unit and give the guest's
    /// flags, because displacements are multiples of 4 GiB.
    fn moves_stack_natively(&self, instruction: &Instruction) -> bool {
        if instruction.op_count() != 2
            || instruction.op0_kind() != OpKind::Register
            || instruction.op0_register() != Register::RSP
        {
            return false;
        }
        let constant = match instruction.op1_kind() {
            OpKind::Immediate8to64 | OpKind::Immediate32to64 => instruction.immediate(1) as i64,
            _ => return false,
        };
        match instruction.code() {
            Code::Add_rm64_imm8
            | Code::Add_rm64_imm32
            | Code::Sub_rm64_imm8
            | Code::Sub_rm64_imm32 => constant.abs() <= STACK_MOVE_MAX,
            Code::And_rm64_imm8 | Code::And_rm64_imm32 => (-STACK_MOVE_MAX..0).contains(&constant),
            _ => false,
        }
    }

    /// `[rsp + displacement]`: nothing to do, except when the operand is bound.
    fn is_stack_operand(&mut self, instruction: &Instruction) -> bool {
        self.mode != Mode::Bound
            && instruction.memory_base() == Register::RSP
            && instruction.memory_index() == Register::None
            && !matches!(instruction.memory_segment(), Register::FS | Register::GS)
            && !self.observes_stack_in_scratch(instruction)
    }

    /// `mov reg, rsp` in its common form.
    fn read_stack_pointer(&mut self, instruction: &Instruction) -> bool {
        if !matches!(instruction.code(), Code::Mov_rm64_r64 | Code::Mov_r64_rm64)
            || instruction.op0_kind() != OpKind::Register
            || instruction.op1_kind() != OpKind::Register
            || instruction.op1_register() != Register::RSP
            || instruction.op0_register() == Register::RSP
        {
            return false;
        }
        let Some(to) = number(instruction.op0_register()) else { return false };
        let t = self.use_t();
        self.out.hot.load(t, Mem::state(offset_of!(State, stack_back)));
        let host = if is_displaced(to) { S } else { to };
        self.out.hot.lea(host, Mem::sum(RSP, t, 0));
        if is_displaced(to) {
            self.store_guest(to, S);
        }
        true
    }

    /// `mov` of a displaced register to one that is not, without a scratch register.
    fn read_displaced(&mut self, instruction: &Instruction) -> bool {
        let wide = match instruction.code() {
            Code::Mov_rm64_r64 | Code::Mov_r64_rm64 => true,
            Code::Mov_rm32_r32 | Code::Mov_r32_rm32 => false,
            _ => return false,
        };
        let register = |n| match instruction.op_kind(n) {
            OpKind::Register => number(instruction.op_register(n)),
            _ => None,
        };
        let (Some(to), Some(from)) = (register(0), register(1)) else { return false };
        if is_displaced(to) || to == RSP || !is_displaced(from) || self.is_held(from) {
            return false;
        }
        let slot = Mem::state(general(from as usize));
        if wide {
            self.out.hot.load(to, slot);
        } else {
            self.out.hot.load32(to, slot);
        }
        true
    }

    /// Whether S holds the value of a guest register.
    fn is_held(&self, guest: Reg) -> bool {
        self.held == Some((guest, self.out.hot.writes_of_s))
    }

    /// Stores the value of a displaced guest register.
    pub(super) fn store_guest(&mut self, guest: Reg, from: Reg) {
        self.out.hot.store(Mem::state(general(guest as usize)), from);
        self.guest_stored(guest, from == S);
    }

    /// The value of a displaced guest register in the state has changed; to that in S or another.
    pub(super) fn guest_stored(&mut self, guest: Reg, in_s: bool) {
        if in_s {
            self.held = Some((guest, self.out.hot.writes_of_s));
        } else if self.is_held(guest) {
            self.held = None;
        }
    }

    /// Loads a guest register's value into a host register.
    pub(super) fn load_guest(&mut self, to: Reg, guest: Reg) {
        if guest == RSP {
            self.out.hot.load(to, Mem::state(offset_of!(State, stack_back)));
            self.out.hot.lea(to, Mem::sum(RSP, to, 0));
        } else if self.is_held(guest) {
            if to != S {
                self.out.hot.mov(to, S);
            }
        } else if is_displaced(guest) {
            self.out.hot.load(to, Mem::state(general(guest as usize)));
            if to == S {
                self.held = Some((guest, self.out.hot.writes_of_s));
            }
        } else {
            self.out.hot.mov(to, guest);
        }
    }

    /// Sets guest rsp to the value of a host register.
    pub(super) fn set_stack(&mut self, from: Reg) {
        let other = if from == T { S } else { T };
        self.cached = Cached::Nothing;
        self.mark(Phase::SetStack(from));
        self.out.hot.displacement(other, from);
        self.out.hot.lea(RSP, Mem::sum(from, other, 0));
        self.out.hot.negate(other);
        self.out.hot.store(Mem::state(offset_of!(State, stack_back)), other);
    }

    /// The operand's guest address in a host register that may be S or the base itself.
    fn component(&mut self, register: Register, to: Reg) -> Option<Reg> {
        let guest = number(register)?;
        if self.is_held(guest) {
            return Some(S);
        }
        if is_displaced(guest) || guest == RSP {
            if to == T {
                self.cached = Cached::Nothing;
            }
            self.load_guest(to, guest);
            return Some(to);
        }
        Some(guest)
    }

    /// Code that makes the memory operand reachable; returns the host operand.
    pub(super) fn operand(&mut self, instruction: &Instruction) -> Mem {
        if self.mode == Mode::Bound {
            return Mem::base(S, 0);
        }
        let segment = instruction.memory_segment();
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let disp = instruction.memory_displacement64();
        let narrow = base.is_gpr32() || index.is_gpr32();
        if matches!(segment, Register::FS | Register::GS) {
            return self.segment_operand(instruction, segment, narrow);
        }
        if !narrow && base.is_gpr64() && index == Register::None {
            return self.base_operand(base, disp as i64 as i32);
        }
        if base.is_ip() || base == Register::None && index == Register::None {
            return self.known_operand(disp);
        }
        self.effective_address(instruction);
        let t = self.use_t();
        self.out.hot.displacement(t, S);
        Mem::sum(S, t, 0)
    }

    fn base_operand(&mut self, base: Register, disp: i32) -> Mem {
        let guest = number(base).expect("a general register");
        if guest == RSP {
            return Mem::base(RSP, disp);
        }
        let hit = matches!(self.cached, Cached::Base { register, .. } if register == guest);
        let host = if is_displaced(guest) {
            self.load_guest(S, guest);
            S
        } else {
            guest
        };
        if !hit {
            self.out.hot.displacement(T, host);
            self.cached = Cached::Base { register: guest, drift: 0 };
        }
        Mem::sum(host, T, disp)
    }

    fn known_operand(&mut self, address: u64) -> Mem {
        if address >> 47 != 0 {
            self.out.hot.constant(S, address);
            let t = self.use_t();
            self.out.hot.displacement(t, S);
            return Mem::sum(S, t, 0);
        }
        if self.cached == Cached::Unit(address >> 32) {
            return Mem::base(T, (address as u32 ^ 0x8000_0000) as i32);
        }
        self.cached = Cached::Unit(address >> 32);
        self.out.hot.known_address(T, address)
    }

    fn segment_operand(
        &mut self,
        instruction: &Instruction,
        segment: Register,
        narrow: bool,
    ) -> Mem {
        let fs = segment == Register::FS;
        let (base, host) = if fs {
            (offset_of!(State, fs_base), offset_of!(State, fs_host))
        } else {
            (offset_of!(State, gs_base), offset_of!(State, gs_host))
        };
        let constant = instruction.memory_base() == Register::None
            && instruction.memory_index() == Register::None;
        let t = self.use_t();
        if constant && !narrow {
            let disp = instruction.memory_displacement64() as i64;
            if let Ok(disp) = i32::try_from(disp) {
                self.out.hot.load(t, Mem::state(host));
                return Mem::base(t, disp);
            }
        }
        self.effective_address(instruction);
        self.out.hot.load(t, Mem::state(base));
        self.out.hot.lea(S, Mem::sum(S, t, 0));
        self.out.hot.displacement(t, S);
        Mem::sum(S, t, 0)
    }

    /// S = the effective address without segment base, as the guest computes it.
    pub(super) fn effective_address(&mut self, instruction: &Instruction) {
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let narrow = base.is_gpr32() || index.is_gpr32();
        self.effective_address_in(S, narrow, instruction);
    }

    /// The effective address, or its lower half, in a register.
    fn effective_address_in(&mut self, to: Reg, narrow: bool, instruction: &Instruction) {
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        if base == Register::None && index == Register::None || base.is_ip() {
            let address = instruction.memory_displacement64();
            self.out.hot.constant(to, if narrow { address & 0xffff_ffff } else { address });
            return;
        }
        let host_base = self.component(base, S);
        let same = index != Register::None && number(base) == number(index);
        let host_index = if same { host_base } else { self.component(index, T) };
        let scale = instruction.memory_index_scale().trailing_zeros() as u8;
        let mem = Mem {
            base: host_base,
            index: host_index.map(|reg| (reg, scale)),
            disp: instruction.memory_displacement64() as i32,
            gs: false,
        };
        if narrow {
            self.out.hot.lea32(to, mem);
        } else {
            self.out.hot.lea(to, mem);
        }
    }

    /// `lea`: an address is only a number.
    pub(super) fn lea(&mut self, instruction: &Instruction, bytes: &[u8]) {
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let to = number(instruction.op0_register()).expect("lea writes a general register");
        let guest_named = |register: Register| {
            number(register).is_some_and(|reg| is_displaced(reg) || reg == RSP)
        };
        let wide = instruction.op0_register().is_gpr64();
        let disp = instruction.memory_displacement64() as i64;
        if wide
            && to == RSP
            && base == Register::RSP
            && index == Register::None
            && disp.abs() <= STACK_MOVE_MAX
        {
            self.out.hot.bytes.extend(bytes);
            return;
        }
        if base.is_ip() && wide && !is_displaced(to) && to != RSP {
            self.out.hot.constant(to, instruction.memory_displacement64());
            return;
        }
        let displaced = is_displaced(to) || to == RSP;
        if !displaced && !base.is_ip() && !guest_named(base) && !guest_named(index) {
            self.out.hot.bytes.extend(bytes);
            return;
        }
        let size = instruction.op0_register().size();
        let narrow = size == 4 || base.is_gpr32() || index.is_gpr32();
        if size == 2 {
            self.effective_address(instruction);
            // Merged into what is there.
            if to == RSP {
                self.load_guest(T, RSP);
                self.cached = Cached::Nothing;
                self.merge_word(T, S);
                self.set_stack(T);
            } else {
                self.merge_into_guest(to);
            }
        } else if displaced {
            self.effective_address_in(S, narrow, instruction);
            if to == RSP {
                self.set_stack(S);
            } else {
                self.store_guest(to, S);
            }
        } else {
            self.effective_address_in(to, narrow, instruction);
        }
    }

    /// The low word of `from` replaces that of `to`.
    fn merge_word(&mut self, to: Reg, from: Reg) {
        self.out.hot.bytes.extend([
            0x66,
            0x40 | (from >> 3) << 2 | to >> 3,
            0x89,
            0xc0 | (from & 7) << 3 | to & 7,
        ]);
    }

    fn merge_into_guest(&mut self, to: Reg) {
        if is_displaced(to) {
            self.cached = Cached::Nothing;
            self.load_guest(T, to);
            self.merge_word(T, S);
            self.store_guest(to, T);
        } else {
            self.merge_word(to, S);
        }
    }
}

/// The `moffs` form as an ordinary move with an absolute operand.
fn without_moffs(instruction: &Instruction) -> Instruction {
    let mut plain = *instruction;
    plain.set_code(match instruction.code() {
        Code::Mov_AL_moffs8 => Code::Mov_r8_rm8,
        Code::Mov_AX_moffs16 => Code::Mov_r16_rm16,
        Code::Mov_EAX_moffs32 => Code::Mov_r32_rm32,
        Code::Mov_RAX_moffs64 => Code::Mov_r64_rm64,
        Code::Mov_moffs8_AL => Code::Mov_rm8_r8,
        Code::Mov_moffs16_AX => Code::Mov_rm16_r16,
        Code::Mov_moffs32_EAX => Code::Mov_rm32_r32,
        _ => Code::Mov_rm64_r64,
    });
    plain
}

/// AH, BH, CH, DH cannot be named in an instruction that has a REX prefix.
fn needs_legacy_address(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|n| {
        matches!(
            instruction.op_register(n),
            Register::AH | Register::BH | Register::CH | Register::DH
        )
    })
}

fn uses_extended(mem: &Mem) -> bool {
    mem.base.is_some_and(|reg| reg >= 8) || mem.index.is_some_and(|(reg, _)| reg >= 8)
}

/// Puts a host operand into an instruction.
pub(super) fn set_memory(instruction: &mut Instruction, mem: Mem) {
    let name = |reg: Reg| sized(reg, Register::RAX);
    instruction.set_segment_prefix(Register::None);
    instruction.set_memory_base(mem.base.map_or(Register::None, name));
    instruction.set_memory_index(mem.index.map_or(Register::None, |(reg, _)| name(reg)));
    instruction.set_memory_index_scale(mem.index.map_or(1, |(_, scale)| 1 << scale));
    instruction.set_memory_displacement64(mem.disp as i64 as u64);
    instruction.set_memory_displ_size(u32::from(mem.disp != 0));
}

/// Names the host's registers in the place of the guest's. The operands are those of the guest's
/// instruction: by now, others may name host registers of the same number.
fn substitute(instruction: &mut Instruction, guest: &Instruction, replaced: &[Replaced]) {
    for n in 0..guest.op_count() {
        if guest.op_kind(n) != OpKind::Register {
            continue;
        }
        let register = guest.op_register(n);
        if let Some(item) = replaced.iter().find(|item| Some(item.guest) == number(register)) {
            instruction.set_op_register(n, sized(item.host, register));
        }
    }
}

/// Scratch registers that the current instruction has not taken.
#[derive(Debug)]
struct Free {
    s: bool,
    t: bool,
}

impl Free {
    fn pop(&mut self) -> Option<Reg> {
        if std::mem::take(&mut self.s) {
            Some(S)
        } else if std::mem::take(&mut self.t) {
            Some(T)
        } else {
            None
        }
    }
}
