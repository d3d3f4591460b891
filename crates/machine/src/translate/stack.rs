//! push and pop.

use std::mem::offset_of;

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::Translator;
use super::classify::number;
use super::operands::is_displaced;
use crate::emit::{Mem, RSP, S};
use crate::state::{State, general};

impl Translator<'_> {
    pub(super) fn push_or_pop(&mut self, instruction: &Instruction, bytes: &[u8]) {
        let push = instruction.mnemonic() != Mnemonic::Pop;
        if instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Memory {
            if push {
                self.observe_push();
            }
            self.plain(instruction, bytes, None);
            return;
        }
        if push {
            self.observe_push();
        }
        let register = (instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register)
            .then(|| number(instruction.op0_register()))
            .flatten();
        match register {
            Some(guest) if is_displaced(guest) => {
                let slot = Mem::state(general(guest as usize));
                if push {
                    self.out.hot.push_mem(slot);
                } else {
                    self.out.hot.pop_mem(slot);
                    self.guest_stored(guest, false);
                }
            }
            Some(RSP) if push => {
                let t = self.use_t();
                self.out.hot.load(t, Mem::state(offset_of!(State, stack_back)));
                self.out.hot.lea(S, Mem::sum(RSP, t, 0));
                self.out.hot.push(S);
            }
            Some(RSP) => {
                self.out.hot.load(S, Mem::base(RSP, 0));
                self.set_stack(S);
            }
            _ => self.out.hot.bytes.extend(bytes),
        }
    }
}
