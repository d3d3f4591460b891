//! Access to the components of the vector state that honours XSTATE_BV: a component whose bit is
//! clear reads as its initial configuration, and is initialised before it is written.

use super::host::host;
use crate::VectorState;

pub const X87: u32 = 0;
pub const SSE: u32 = 1;
pub const AVX: u32 = 2;
pub const OPMASK: u32 = 5;
pub const ZMM_HIGH: u32 = 6;
pub const ZMM_16: u32 = 7;
pub const PKRU: u32 = 9;

pub const MXCSR: usize = 24;
pub const MXCSR_INITIAL: u32 = 0x1f80;
const X87_REGISTERS: usize = 32;
pub const XMM: usize = 160;
pub const XMM_END: usize = 416;

/// The x87 unit without its last-instruction pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X87 {
    pub control: u16,
    pub status: u16,
    /// One bit for each physical register: not empty.
    pub valid: u8,
    /// ST(0) to ST(7), ten bytes each.
    pub registers: [[u8; 10]; 8],
}

impl X87 {
    pub const INITIAL: X87 = X87 { control: 0x37f, status: 0, valid: 0, registers: [[0; 10]; 8] };

    pub fn top(&self) -> usize {
        usize::from(self.status >> 11 & 7)
    }

    /// An unmasked exception waits for the next instruction that looks.
    pub fn is_pending(&self) -> bool {
        self.status & !self.control & 0x3f != 0
    }

    /// Bytes 0..24 of an image, pointers left zero.
    pub fn header(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[0..2].copy_from_slice(&self.control.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.status.to_le_bytes());
        bytes[4] = self.valid;
        bytes
    }

    /// Bytes 32..160 of an image.
    pub fn slots(&self) -> [u8; 128] {
        let mut bytes = [0; 128];
        for (slot, register) in bytes.chunks_mut(16).zip(&self.registers) {
            slot[..10].copy_from_slice(register);
        }
        bytes
    }

    /// From an image's bytes 0..160.
    pub fn from_image(image: &[u8]) -> X87 {
        let mut registers = [[0; 10]; 8];
        for (slot, register) in image[X87_REGISTERS..].chunks(16).zip(&mut registers) {
            register.copy_from_slice(&slot[..10]);
        }
        X87 {
            control: u16::from_le_bytes([image[0], image[1]]),
            status: u16::from_le_bytes([image[2], image[3]]),
            valid: image[4],
            registers,
        }
    }
}

pub fn x87(state: &VectorState) -> X87 {
    if has(state, X87) { X87::from_image(&state.0) } else { X87::INITIAL }
}

pub fn set_x87(state: &mut VectorState, x87: &X87) {
    state.0[..24].copy_from_slice(&x87.header());
    state.0[X87_REGISTERS..XMM].copy_from_slice(&x87.slots());
    mark(state, X87);
}

/// MXCSR means something whatever the bits say (SDM vol. 1, 13.8.1).
pub fn mxcsr(state: &VectorState) -> u32 {
    let bytes = &state.0[MXCSR..MXCSR + 4];
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// A value other than the initial one makes SSE count as in use, so that nobody drops it.
pub fn set_mxcsr(state: &mut VectorState, value: u32) {
    if value != MXCSR_INITIAL {
        component_bytes_mut(state, SSE);
    }
    state.0[MXCSR..MXCSR + 4].copy_from_slice(&value.to_le_bytes());
}

/// All 64 bytes of vector register 0 to 31.
pub fn vector(state: &VectorState, number: usize) -> [u8; 64] {
    let mut value = [0; 64];
    for (component, part, at) in vector_parts(number) {
        if let Some(bytes) = component_bytes(state, component) {
            let length = part.len();
            value[part].copy_from_slice(&bytes[at..at + length]);
        }
    }
    value
}

pub fn set_vector(state: &mut VectorState, number: usize, value: &[u8; 64]) {
    for (component, part, at) in vector_parts(number) {
        let part = &value[part];
        if !has(state, component) && part.iter().all(|byte| *byte == 0) {
            continue;
        }
        component_bytes_mut(state, component)[at..at + part.len()].copy_from_slice(part);
    }
}

pub fn mask(state: &VectorState, number: usize) -> u64 {
    component_bytes(state, OPMASK)
        .map_or(0, |bytes| super::access::little_endian(&bytes[number * 8..number * 8 + 8]))
}

pub fn set_mask(state: &mut VectorState, number: usize, value: u64) {
    if value != 0 || has(state, OPMASK) {
        component_bytes_mut(state, OPMASK)[number * 8..number * 8 + 8]
            .copy_from_slice(&value.to_le_bytes());
    }
}

/// The components that are not in their initial configuration, judged by their values, so that
/// neither the processor's history nor the engine's shows (SDM vol. 1, 13.6).
pub fn in_use(state: &VectorState) -> u64 {
    let mut bits = u64::from(x87(state) != X87::INITIAL) << X87;
    for number in SSE..63 {
        let used =
            component_bytes(state, number).is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0));
        bits |= u64::from(used) << number;
    }
    bits
}

/// A component's bytes, XMM registers for [`SSE`]; none when it is initial. Not for x87.
pub fn component_bytes(state: &VectorState, number: u32) -> Option<&[u8]> {
    let (offset, size) = extent(number)?;
    has(state, number).then(|| &state.0[offset..offset + size])
}

/// The bytes to write to. Panics for a component that the processor does not have.
pub fn component_bytes_mut(state: &mut VectorState, number: u32) -> &mut [u8] {
    let (offset, size) = extent(number).expect("a component that instructions can reach");
    let fresh = !has(state, number);
    mark(state, number);
    let bytes = &mut state.0[offset..offset + size];
    if fresh {
        bytes.fill(0);
    }
    bytes
}

/// Puts a component other than x87 into its initial configuration.
pub fn clear(state: &mut VectorState, number: u32) {
    if let Some((offset, size)) = extent(number) {
        state.0[offset..offset + size].fill(0);
    }
    state.set_xstate_bv(state.xstate_bv() & !(1 << number));
}

pub fn clear_x87(state: &mut VectorState) {
    set_x87(state, &X87::INITIAL);
    state.set_xstate_bv(state.xstate_bv() & !(1 << X87));
}

/// Offset and size of a component other than x87 in our image.
fn extent(number: u32) -> Option<(usize, usize)> {
    if number == SSE {
        return Some((XMM, XMM_END - XMM));
    }
    host().component(number).map(|component| (component.offset, component.size))
}

/// Where the parts of a vector register are: component, bytes of the register, offset.
pub fn vector_parts(number: usize) -> impl Iterator<Item = (u32, std::ops::Range<usize>, usize)> {
    let low = number < 16;
    let parts = if low {
        [(SSE, 0..16, 16 * number), (AVX, 16..32, 16 * number), (ZMM_HIGH, 32..64, 32 * number)]
    } else {
        let whole = (ZMM_16, 0..64, 64 * (number - 16));
        [whole, (ZMM_16, 0..0, 0), (ZMM_16, 0..0, 0)]
    };
    parts.into_iter().take(if low { 3 } else { 1 })
}

fn has(state: &VectorState, number: u32) -> bool {
    state.xstate_bv() >> number & 1 != 0
}

fn mark(state: &mut VectorState, number: u32) {
    state.set_xstate_bv(state.xstate_bv() | 1 << number);
}
