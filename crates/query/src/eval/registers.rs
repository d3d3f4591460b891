//! Registers as an outer frame sees them: unwound from the innermost one.

use std::sync::Arc;

use model::{Address, gpr};
use symbols::{Frame as SymbolFrame, LinkAddress, Saved};
use values::Loaded;

use crate::engine::{Engine, Here};
use crate::failure::Failure;
use crate::frames::{Frame, Stack};
use crate::stretch::FrameKind;

/// General registers, the return address, and xmm0 to xmm15: numbers of the psABI.
const COUNT: usize = 33;
const RSP: usize = 7;
const RIP: usize = 16;
/// In the order of the psABI, by their encoding.
const GENERAL: [usize; 16] = [
    gpr::RAX,
    gpr::RDX,
    gpr::RCX,
    gpr::RBX,
    gpr::RSI,
    gpr::RDI,
    gpr::RBP,
    gpr::RSP,
    gpr::R8,
    gpr::R9,
    gpr::R10,
    gpr::R11,
    gpr::R12,
    gpr::R13,
    gpr::R14,
    gpr::R15,
];
/// Those that a callee keeps: rbx, rbp, r12 to r15.
const KEPT: [usize; 6] = [3, 6, 12, 13, 14, 15];

/// The encoding of a general register, by the psABI's number.
pub fn encoding(number: u16) -> Option<usize> {
    GENERAL.get(usize::from(number)).copied()
}

/// What is known of registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameRegisters([Option<u128>; COUNT]);

impl FrameRegisters {
    /// By the psABI's number.
    pub fn get(&self, number: u16) -> Option<u128> {
        self.0.get(usize::from(number)).copied().flatten()
    }

    /// Of the frame at `index` of a stack.
    pub fn of(
        engine: &mut Engine<'_>,
        here: Here,
        stack: &Stack,
        index: usize,
        modules: &Arc<Vec<Loaded>>,
    ) -> Result<FrameRegisters, Failure> {
        let session = engine.at(here.moment)?;
        let mut known = FrameRegisters([None; COUNT]);
        for (number, encoding) in GENERAL.into_iter().enumerate() {
            known.0[number] = Some(u128::from(stack.registers.general[encoding]));
        }
        known.0[RIP] = Some(u128::from(stack.registers.rip.0));
        if let Some(vectors) = session.vector_registers(here.tid) {
            let listed = replay::listed_values(&stack.registers, &vectors);
            for (name, value) in replay::LISTED_NAMES.iter().zip(listed) {
                let number = name.strip_prefix("xmm").and_then(|n| n.parse::<usize>().ok());
                if let Some(number) = number.filter(|number| *number < 16) {
                    known.0[RIP + 1 + number] = Some(value);
                }
            }
        }
        let Some(memory) = session.memory(here.tid) else { return Ok(known) };
        for frame in &stack.frames[..index] {
            let at = frame.lookup();
            known = unwound(&known, frame, at, memory, modules);
            if frame.kind == FrameKind::Handler
                && let Some(Some(restorer)) = known.0.get(RIP)
            {
                // The handler returns to a stub, which returns to what was interrupted.
                let at = Address(*restorer as u64);
                let stub = Frame { slot: None, interrupted: true, ..*frame };
                known = unwound(&known, &stub, at, memory, modules);
            }
        }
        Ok(known)
    }
}

/// The registers of the frame that called this one, which executes at `at`.
fn unwound(
    known: &FrameRegisters,
    frame: &Frame,
    at: Address,
    memory: &machine::Space,
    modules: &[Loaded],
) -> FrameRegisters {
    let mut outer = FrameRegisters([None; COUNT]);
    for number in KEPT {
        outer.0[number] = known.0[number];
    }
    let word = |address: Address| memory.read_u64(address).ok().map(u128::from);
    if let Some(slot) = frame.slot {
        outer.0[RSP] = Some(u128::from(slot.0 + 8));
        outer.0[RIP] = word(slot);
    }
    let module = modules.iter().find(|loaded| {
        let link = LinkAddress(at.0.wrapping_sub(loaded.bias));
        loaded.module.image().is_code(link)
    });
    let Some(loaded) = module else { return outer };
    let link = LinkAddress(at.0.wrapping_sub(loaded.bias));
    let view = Unwinding { known, memory, bias: loaded.bias };
    let Ok(Some(caller)) = loaded.module.caller(link, &view) else { return outer };
    // Where the stack was seen to be is better knowledge than what a table says.
    if frame.slot.is_some_and(|slot| slot + 8 != caller.cfa) {
        return outer;
    }
    if caller.signal_frame {
        outer = known.clone();
    }
    outer.0[RSP] = Some(u128::from(caller.cfa.0));
    if let Some(address) = caller.return_address {
        outer.0[RIP] = Some(u128::from(address.0));
    }
    for (number, saved) in caller.registers {
        let Some(place) = outer.0.get_mut(usize::from(number)) else { continue };
        *place = match saved {
            Saved::Lost => None,
            Saved::Memory(address) => word(address),
            Saved::Register(other) => known.get(other),
            Saved::Value(value) => Some(u128::from(value)),
        };
    }
    outer
}

struct Unwinding<'a> {
    known: &'a FrameRegisters,
    memory: &'a machine::Space,
    bias: u64,
}

impl SymbolFrame for Unwinding<'_> {
    fn register(&self, register: u16) -> Option<u128> {
        self.known.get(register)
    }

    fn memory(&self, address: Address, bytes: &mut [u8]) -> bool {
        self.memory.read(address, bytes).is_ok()
    }

    fn bias(&self) -> u64 {
        self.bias
    }
}
