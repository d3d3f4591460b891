//! String instructions: native, with both pointers translated for the time being.
//!
//! What they store is logged as a range, from rdi before to rdi behind. A range that leaves its island runs into a guard, because elements are touched in order.

use iced_x86::{Instruction, Mnemonic};

use super::Translator;
use std::mem::offset_of;

use crate::Observers;
use crate::block::{Mode, Phase};
use crate::emit::{Mem, Reg, S, T};
use crate::state::State;

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
        let stores = !matches!(
            instruction.mnemonic(),
            M::Lodsb
                | M::Lodsw
                | M::Lodsd
                | M::Lodsq
                | M::Scasb
                | M::Scasw
                | M::Scasd
                | M::Scasq
                | M::Cmpsb
                | M::Cmpsw
                | M::Cmpsd
                | M::Cmpsq
        );
        let logged = stores && self.observers.written_words;
        let cursor = Mem::state(offset_of!(State, range_log));
        if logged {
            // The size in the top byte, as in the log of stores.
            self.out.hot.load(S, cursor);
            self.out.hot.store(Mem::base(S, 0), RDI);
            self.out.hot.store_byte(Mem::base(S, 7), instruction.memory_size().size() as u8);
        }
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
        self.mark(Phase::Strings { source, destination, logged });
        self.out.hot.bytes.extend(bytes);
        if source {
            self.out.hot.not(S);
            self.out.hot.lea(RSI, Mem::sum(RSI, S, 1));
        }
        if destination {
            self.out.hot.not(T);
            self.out.hot.lea(RDI, Mem::sum(RDI, T, 1));
        }
        if logged {
            self.out.hot.load(S, cursor);
            self.out.hot.store(Mem::base(S, 8), RDI);
            self.out.hot.lea(S, Mem::base(S, 16));
            self.out.hot.store(cursor, S);
        }
    }
}

/// Whether strings must be carried out by the engine under these observers.
pub(super) fn are_observed(observers: Observers) -> bool {
    observers.read_lines || observers.stores
}
