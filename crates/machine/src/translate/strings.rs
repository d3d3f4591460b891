//! String instructions: native, with both pointers translated for the time being.
//!
//! A range that leaves its island runs into a guard, because elements are touched in order.

use iced_x86::{Instruction, Mnemonic};

use super::Translator;
use crate::Observers;
use crate::block::{Mode, Phase};
use crate::emit::{Mem, Reg, S, T};

const RSI: Reg = 6;
const RDI: Reg = 7;

impl Translator<'_> {
    pub(super) fn string(&mut self, instruction: &Instruction, bytes: &[u8]) {
        use Mnemonic as M;
        let (source, destination) = match instruction.mnemonic() {
            M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => (true, false),
            M::Stosb
            | M::Stosw
            | M::Stosd
            | M::Stosq
            | M::Scasb
            | M::Scasw
            | M::Scasd
            | M::Scasq => (false, true),
            _ => (true, true),
        };
        debug_assert!(self.mode != Mode::Bound);
        self.cached = super::Cached::Nothing;
        if source {
            self.out.hot.displacement(S, RSI);
        }
        if destination {
            self.out.hot.displacement(T, RDI);
        }
        if source {
            self.out.hot.lea(RSI, Mem::sum(RSI, S, 0));
        }
        if destination {
            self.out.hot.lea(RDI, Mem::sum(RDI, T, 0));
        }
        self.mark(Phase::Strings { source, destination });
        self.out.hot.bytes.extend(bytes);
        if source {
            self.out.hot.not(S);
            self.out.hot.lea(RSI, Mem::sum(RSI, S, 1));
        }
        if destination {
            self.out.hot.not(T);
            self.out.hot.lea(RDI, Mem::sum(RDI, T, 1));
        }
    }
}

/// Whether strings must be carried out by the engine under these observers.
pub(super) fn are_observed(observers: Observers) -> bool {
    observers.written_words || observers.read_lines || observers.stores
}
