//! The guest's processor state between runs: general registers, flags, bases, vector state, counts.

use model::Address;

use crate::emulate::components;
use crate::emulate::host::host;

/// Bits of RFLAGS that a user program can see and change (SDM vol. 1, 3.4.3).
pub const FLAGS_ARITHMETIC: u64 = 0x8d5;
pub const FLAG_TRAP: u64 = 0x100;
pub const FLAG_DIRECTION: u64 = 0x400;

/// One task's processor state. Everything is the guest's own value; nothing is translated.
#[derive(Clone, Debug, PartialEq)]
pub struct Cpu {
    /// General registers in encoding order, see `model::gpr`.
    pub general: [u64; 16],
    pub rip: Address,
    pub rflags: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub vector: VectorState,
    /// Instructions retired by this state since its creation; a `rep` string counts once.
    pub instructions: u64,
    /// Conditional branches retired: Jcc, JrCXZ, LOOPcc, taken or not.
    pub ticks: u64,
}

impl Default for Cpu {
    fn default() -> Cpu {
        Cpu {
            general: [0; 16],
            rip: Address(0),
            rflags: 0x202,
            fs_base: 0,
            gs_base: 0,
            vector: VectorState::default(),
            instructions: 0,
            ticks: 0,
        }
    }
}

/// Bytes reserved for an XSAVE image: more than any host's standard format without AMX tiles.
pub const XSAVE_BYTES: usize = 4096;

/// x87, SSE, AVX and AVX-512 state as an XSAVE image in standard format, host layout
/// (SDM vol. 1, 13.4). XSTATE_BV tells which components are meaningful; a component whose bit is
/// clear is in its initial configuration whatever its bytes are.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct VectorState(pub [u8; XSAVE_BYTES]);

const XSTATE_BV: usize = 512;

impl Default for VectorState {
    fn default() -> VectorState {
        let mut image = [0; XSAVE_BYTES];
        image[0..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        image[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        VectorState(image)
    }
}

impl std::fmt::Debug for VectorState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VectorState(XSTATE_BV {:#x})", self.xstate_bv())
    }
}

impl PartialEq for VectorState {
    fn eq(&self, other: &VectorState) -> bool {
        self.normalised().0[..] == other.normalised().0[..]
    }
}

impl VectorState {
    pub fn xstate_bv(&self) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[XSTATE_BV..XSTATE_BV + 8]);
        u64::from_le_bytes(word)
    }

    pub fn set_xstate_bv(&mut self, bits: u64) {
        self.0[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&bits.to_le_bytes());
    }
}

impl VectorState {
    /// The same state with everything that means nothing zeroed: components in their initial
    /// configuration, reserved bytes, and FOP/FIP/FDP, which no program's result may rest on.
    pub fn normalised(&self) -> VectorState {
        const MXCSR: std::ops::Range<usize> = 24..28;
        const X87_ENVIRONMENT: std::ops::Range<usize> = 6..24;
        const X87_REGISTERS: std::ops::Range<usize> = 32..160;
        const XMM: std::ops::Range<usize> = 160..416;
        let initial = VectorState::default();
        let bits = self.xstate_bv();
        let mut image = self.clone();
        let mut in_use = 0;
        if bits & 1 == 0 {
            image.0[..MXCSR.start].copy_from_slice(&initial.0[..MXCSR.start]);
            image.0[X87_REGISTERS].fill(0);
        }
        image.0[X87_ENVIRONMENT].fill(0);
        if image.0[..MXCSR.start] != initial.0[..MXCSR.start]
            || image.0[X87_REGISTERS].iter().any(|byte| *byte != 0)
        {
            in_use |= 1;
        }
        if bits & 2 == 0 {
            image.0[XMM].fill(0);
        }
        image.0[28..32].fill(0);
        if image.0[XMM].iter().any(|byte| *byte != 0) {
            in_use |= 2;
        }
        image.0[416..576].fill(0);
        for component in 2..63 {
            let Some(place) = host().component(component) else { continue };
            let range = place.offset..place.offset + place.size;
            if bits >> component & 1 == 0 {
                image.0[range].fill(0);
            } else if image.0[range].iter().any(|byte| *byte != 0) {
                in_use |= 1 << component;
            }
        }
        image.set_xstate_bv(in_use);
        image
    }

    pub fn mxcsr(&self) -> u32 {
        components::mxcsr(self)
    }

    /// The components that are not in their initial configuration, as [`Self::normalised`] has
    /// them, by number. Component 0 is bytes 0 to 23 and 32 to 159 of the image, component 1 bytes
    /// 160 to 415; the others are as long as the processor says, wherever a host has them.
    pub fn components(&self) -> Vec<(u32, Vec<u8>)> {
        let state = self.normalised();
        let bits = state.xstate_bv();
        let mut parts = Vec::new();
        for number in (0..63).filter(|number| bits >> number & 1 != 0) {
            let bytes = component_ranges(number).into_iter().flat_map(|range| &state.0[range]);
            parts.push((number, bytes.copied().collect()));
        }
        parts
    }

    /// The state that has these components; `None` if the host has no such state.
    pub fn from_components(mxcsr: u32, parts: &[(u32, Vec<u8>)]) -> Option<VectorState> {
        let mut state = VectorState::default();
        if mxcsr & !host().images.mxcsr_mask != 0 {
            return None;
        }
        let mut bits = 0;
        for (number, bytes) in parts {
            let ranges = component_ranges(*number);
            let length: usize = ranges.iter().map(|range| range.len()).sum();
            if length == 0 || bytes.len() != length {
                return None;
            }
            let mut rest = &bytes[..];
            for range in ranges {
                let (part, behind) = rest.split_at(range.len());
                state.0[range].copy_from_slice(part);
                rest = behind;
            }
            bits |= 1 << number;
        }
        state.set_xstate_bv(bits);
        components::set_mxcsr(&mut state, mxcsr);
        Some(state)
    }
}

/// Where a component lies in an image, in two parts; nowhere if the host does not have it.
fn component_ranges(number: u32) -> [std::ops::Range<usize>; 2] {
    match number {
        0 => [0..24, 32..160],
        1 => [160..416, 0..0],
        _ => match host().component(number) {
            Some(at) => [at.offset..at.offset + at.size, 0..0],
            None => [0..0, 0..0],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_make_the_same_state_again() {
        let mut state = VectorState::default();
        assert!(state.components().is_empty());
        // Stale bytes of a component that is not in use, and the pointers, mean nothing.
        state.0[40] = 1;
        state.0[10] = 1;
        state.set_xstate_bv(6);
        state.0[160] = 5;
        state.0[24] = 0xa0;
        if let Some(place) = host().component(2) {
            state.0[place.offset + 3] = 7;
        }
        let parts = state.components();
        assert!(parts.iter().all(|(number, _)| *number != 0));
        let again = VectorState::from_components(state.mxcsr(), &parts).unwrap();
        assert_eq!(again, state);
        assert_eq!(again.mxcsr(), 0x1fa0);
        assert_eq!(again.components(), parts);
    }

    #[test]
    fn states_that_no_host_has() {
        let from = VectorState::from_components;
        assert!(from(0x8000_0000, &[]).is_none());
        assert!(from(0x1f80, &[(1, vec![0; 255])]).is_none());
        assert!(from(0x1f80, &[(63, vec![0; 8])]).is_none());
        assert!(from(0x1f80, &[(u32::MAX, vec![])]).is_none());
    }
}
