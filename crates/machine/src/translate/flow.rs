//! Control transfers: branches, calls, returns.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};
use model::Address;

use super::Translator;
use super::classify::number;
use super::operands::is_displaced;
use crate::block::{ExitKind, Mode, counter_amounts};
use crate::emit::{COUNTER, Mem, RSP, S, T};

/// The taken side of a conditional branch inside a block.
#[derive(Debug)]
pub(super) struct SideExit {
    /// Offset of the jump's operand in the hot code.
    operand: usize,
    /// The branch's place in the block.
    index: usize,
    target: Address,
}

impl Translator<'_> {
    /// Jcc. Inside a block the taken side leaves it and takes back what has been counted for the
    /// rest; at its end both sides are linked.
    pub(super) fn conditional(&mut self, instruction: &Instruction, index: usize, last: bool) {
        let target = Address(instruction.near_branch_target());
        let condition = condition_number(instruction);
        self.log_condition(condition);
        let behind = if last { 0 } else { self.amount_behind(index) };
        if self.mode != Mode::Fast || behind == 0 {
            let site = self.out.hot.here() + 2;
            let stub = self.stub(self.onward(target, site));
            self.jump_cold(Some(condition), stub);
        } else {
            let here = self.out.hot.here();
            self.out.hot.jcc(condition, here);
            let operand = self.out.hot.bytes.len() - 4;
            self.side_exits.push(SideExit { operand, index, target });
        }
        if last && self.ends_with_flow() {
            self.go(Address(instruction.next_ip()));
        }
    }

    /// The taken sides of the conditional branches inside the block, behind its end: near, since
    /// they are taken often.
    pub(super) fn side_exits(&mut self) {
        for SideExit { operand, index, target } in std::mem::take(&mut self.side_exits) {
            let hot = &mut self.out.hot;
            let relative = (hot.bytes.len() - operand - 4) as i32;
            hot.bytes[operand..operand + 4].copy_from_slice(&relative.to_le_bytes());
            let behind = self.amount_behind(index);
            for amount in counter_amounts(-behind) {
                self.out.hot.lea(COUNTER, Mem::base(COUNTER, amount));
            }
            self.uncount_executions(index);
            self.go(target);
        }
    }

    /// The exit for going on at a known target from the jump whose operand is at `site`.
    fn onward(&self, target: Address, site: u64) -> ExitKind {
        match self.mode {
            Mode::Fast => ExitKind::Link { target, site },
            _ => ExitKind::Next { target },
        }
    }

    /// `loop`, `loopcc`, `jrcxz`: only short forms exist, so they jump around jumps.
    pub(super) fn counted_branch(&mut self, instruction: &Instruction) {
        let opcode = match instruction.mnemonic() {
            Mnemonic::Loopne => 0xe0,
            Mnemonic::Loope => 0xe1,
            Mnemonic::Loop => 0xe2,
            _ => 0xe3,
        };
        let narrow = matches!(
            instruction.code(),
            Code::Jecxz_rel8_64
                | Code::Loop_rel8_64_ECX
                | Code::Loope_rel8_64_ECX
                | Code::Loopne_rel8_64_ECX
        );
        if narrow {
            self.out.hot.bytes.push(0x67);
        }
        self.out.hot.bytes.extend([opcode, 0]);
        let from = self.out.hot.bytes.len();
        self.log_outcome(false);
        self.go(Address(instruction.next_ip()));
        self.out.hot.bytes[from - 1] = (self.out.hot.bytes.len() - from) as u8;
        self.log_outcome(true);
        self.go(Address(instruction.near_branch_target()));
    }

    pub(super) fn call(&mut self, instruction: &Instruction) {
        let target = instruction.near_branch_target();
        self.push_return(instruction.next_ip());
        if self.observers.calls {
            self.out.hot.constant(S, target);
            self.log_call(true);
        }
        self.go(Address(target));
    }

    fn push_return(&mut self, next: u64) {
        self.observe_push();
        self.push_address(next);
    }

    /// Pushes an address; whether T was used for it.
    fn push_address(&mut self, address: u64) -> bool {
        if let Ok(small) = i32::try_from(address as i64) {
            self.out.hot.push_constant(small);
            return false;
        }
        let t = self.use_t();
        self.out.hot.constant(t, address);
        self.out.hot.push(t);
        true
    }

    /// `jmp` and `call` through a register or memory.
    pub(super) fn indirect(&mut self, instruction: &Instruction) {
        if instruction.op0_kind() == OpKind::Register {
            let register = number(instruction.op0_register()).expect("a general register");
            self.load_guest(S, register);
        } else {
            let mem = self.operand(instruction);
            let mem = self.observe_operand(instruction, mem);
            self.out.hot.load(S, mem);
        }
        self.out.hot.find_code_map();
        if instruction.mnemonic() == Mnemonic::Call {
            let pushed = self.push_return_keeping_target(instruction.next_ip());
            let logged = self.log_call(true);
            if self.log_target() || logged || pushed {
                self.out.hot.find_code_map();
            }
        } else if self.log_target() {
            self.out.hot.find_code_map();
        }
        self.go_indirect();
    }

    /// As `push_return`, with the target in S; whether T was used.
    fn push_return_keeping_target(&mut self, next: u64) -> bool {
        let observed = self.observers.written_words || self.observers.stores;
        if observed {
            self.out.hot.store(Mem::state(crate::state::spill(3)), S);
            self.observe_push();
            self.out.hot.load(S, Mem::state(crate::state::spill(3)));
        }
        self.push_address(next) || observed
    }

    pub(super) fn ret(&mut self, instruction: &Instruction) {
        let above = match instruction.code() {
            Code::Retnq_imm16 => 8 + i32::from(instruction.immediate16()),
            _ => 8,
        };
        self.cached = super::Cached::Nothing;
        self.out.hot.load(S, Mem::base(RSP, 0));
        self.out.hot.find_code_map();
        self.out.hot.lea(RSP, Mem::base(RSP, above));
        let logged = self.log_call(false);
        if self.log_target() || logged {
            self.out.hot.find_code_map();
        }
        self.go_indirect();
    }

    /// `leave`: the load comes first, so that a fault leaves rsp alone.
    pub(super) fn leave_frame(&mut self) {
        const RBP: u8 = 5;
        let hit = matches!(self.cached, super::Cached::Base { register, .. } if register == RBP);
        if !hit {
            self.out.hot.displacement(T, RBP);
        }
        self.cached = super::Cached::Nothing;
        self.observe_frame(Mem::sum(RBP, T, 0));
        self.out.hot.load(S, Mem::sum(RBP, T, 0));
        self.out.hot.lea(RSP, Mem::sum(RBP, T, 8));
        self.out.hot.negate(T);
        self.out.hot.store(Mem::state(std::mem::offset_of!(crate::state::State, stack_back)), T);
        self.out.hot.mov(RBP, S);
        debug_assert!(!is_displaced(RBP));
    }

    /// Whether the block's last instruction is a branch that nothing follows.
    fn ends_with_flow(&self) -> bool {
        self.flow_end
    }
}

fn condition_number(instruction: &Instruction) -> u8 {
    use iced_x86::ConditionCode as C;
    match instruction.condition_code() {
        C::o => 0,
        C::no => 1,
        C::b => 2,
        C::ae => 3,
        C::e => 4,
        C::ne => 5,
        C::be => 6,
        C::a => 7,
        C::s => 8,
        C::ns => 9,
        C::p => 10,
        C::np => 11,
        C::l => 12,
        C::ge => 13,
        C::le => 14,
        _ => 15,
    }
}
