//! What the recording processor answered: CPUID, XCR0, and the layout of its XSAVE area.

use std::ops::Range;

use machine::{Component, Cpu, StateImages, VectorState, XSAVE_BYTES};
use model::gpr;
use rr_trace::{CpuidRecord, Header};

/// Highest XSAVE component that is looked at; 17 and 18 are AMX tiles.
const COMPONENTS: usize = 19;
/// Bytes of an FXSAVE image, with which an XSAVE image begins.
pub const LEGACY_BYTES: usize = 512;
const HEADER_BYTES: usize = 64;
const CPUID_XSAVE: u32 = 0xd;
/// Components 0 and 1 (x87 and SSE) lie in the legacy area.
const LEGACY_COMPONENTS: u64 = 3;
/// Bytes of the FXSAVE image that the processor defines; the rest is software's.
const LEGACY_DEFINED: usize = 416;

/// Where each component lies in the standard format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XsaveLayout {
    pub size: usize,
    components: [Range<usize>; COMPONENTS],
}

impl XsaveLayout {
    /// From CPUID leaf 0xD; without it there is only the FXSAVE image.
    pub fn new(cpuid: impl Fn(u32, u32) -> Option<CpuidRecord>) -> XsaveLayout {
        let mut layout =
            XsaveLayout { size: LEGACY_BYTES, components: std::array::from_fn(|_| 0..0) };
        let Some(leaf) = cpuid(CPUID_XSAVE, 0).filter(|leaf| leaf.ebx as usize >= LEGACY_BYTES)
        else {
            return layout;
        };
        layout.size = leaf.ebx as usize;
        for (index, range) in layout.components.iter_mut().enumerate().skip(2) {
            let Some(part) = cpuid(CPUID_XSAVE, index as u32) else { continue };
            let (start, length) = (part.ebx as usize, part.eax as usize);
            // Supervisor components have offset 0 and are never in a user's image.
            if start >= LEGACY_BYTES + HEADER_BYTES && start + length <= layout.size {
                *range = start..start + length;
            }
        }
        layout
    }

    /// The layout of the processor that we run on.
    pub fn host() -> XsaveLayout {
        XsaveLayout::new(|leaf, subleaf| {
            let found = std::arch::x86_64::__cpuid_count(leaf, subleaf);
            Some(CpuidRecord {
                eax_in: leaf,
                ecx_in: Some(subleaf),
                eax: found.eax,
                ebx: found.ebx,
                ecx: found.ecx,
                edx: found.edx,
            })
        })
    }
}

/// Why a recorded XSAVE image cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XsaveProblem {
    Length {
        expected: usize,
        found: usize,
    },
    /// The program used a part of the processor that this host does not have.
    ComponentMissing(usize),
    Compacted,
    /// MXCSR has bits that this host refuses to load.
    Mxcsr(u32),
}

/// A recorded XSAVE image in the machine's form.
pub fn vector_from_recording(
    raw: &[u8],
    recorded: &XsaveLayout,
    host: &XsaveLayout,
) -> Result<VectorState, XsaveProblem> {
    if raw.len() != recorded.size {
        return Err(XsaveProblem::Length { expected: recorded.size, found: raw.len() });
    }
    let mut state = VectorState::default();
    copy_legacy(&mut state, raw)?;
    if raw.len() < LEGACY_BYTES + HEADER_BYTES {
        state.set_xstate_bv(LEGACY_COMPONENTS);
        return Ok(state);
    }
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&raw[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let (present, compaction) = (word(LEGACY_BYTES), word(LEGACY_BYTES + 8));
    if compaction != 0 {
        return Err(XsaveProblem::Compacted);
    }
    clear_absent_legacy(&mut state, present);
    let mut kept = present & LEGACY_COMPONENTS;
    for index in (2..COMPONENTS).filter(|&index| present & (1 << index) != 0) {
        let (from, to) = (&recorded.components[index], &host.components[index]);
        let bytes = raw.get(from.clone()).unwrap_or_default();
        if bytes.iter().all(|&byte| byte == 0) {
            continue;
        }
        if to.len() != from.len() || to.end > XSAVE_BYTES {
            return Err(XsaveProblem::ComponentMissing(index));
        }
        state.0[to.clone()].copy_from_slice(bytes);
        kept |= 1 << index;
    }
    state.set_xstate_bv(kept);
    Ok(state)
}

/// An FXSAVE image replaces x87 and SSE state, and nothing else.
pub fn load_legacy(
    state: &mut VectorState,
    image: &[u8; LEGACY_BYTES],
) -> Result<(), XsaveProblem> {
    copy_legacy(state, image)?;
    state.set_xstate_bv(state.xstate_bv() | LEGACY_COMPONENTS);
    Ok(())
}

/// The machine loads its state as a whole: nothing in it may fault.
fn copy_legacy(state: &mut VectorState, image: &[u8]) -> Result<(), XsaveProblem> {
    let mxcsr = u32::from_le_bytes([image[24], image[25], image[26], image[27]]);
    if mxcsr & !StateImages::host().mxcsr_mask != 0 {
        return Err(XsaveProblem::Mxcsr(mxcsr));
    }
    state.0[..LEGACY_DEFINED].copy_from_slice(&image[..LEGACY_DEFINED]);
    Ok(())
}

/// The legacy bytes of a component whose bit is clear mean nothing; MXCSR always does.
fn clear_absent_legacy(state: &mut VectorState, present: u64) {
    let initial = VectorState::default();
    if present & 1 == 0 {
        state.0[..24].copy_from_slice(&initial.0[..24]);
        state.0[32..160].fill(0);
    }
    if present & 2 == 0 {
        state.0[160..LEGACY_DEFINED].fill(0);
    }
}

/// Everything about the recording processor that a program can see.
#[derive(Clone, Debug)]
pub struct Processor {
    records: Vec<CpuidRecord>,
    pub xcr0: u64,
    pub cpuid_faulting: bool,
    /// The processor that the program was bound to; `None` when it was not.
    pub bound_to: Option<u32>,
    pub recorded: XsaveLayout,
    pub host: XsaveLayout,
}

impl Processor {
    pub fn new(header: &Header) -> Processor {
        Processor {
            records: header.x86.cpuid_records.clone(),
            xcr0: header.xcr0(),
            cpuid_faulting: header.x86.has_cpuid_faulting,
            bound_to: header.bind_to_cpu,
            recorded: XsaveLayout::new(|leaf, subleaf| header.cpuid(leaf, subleaf).copied()),
            host: XsaveLayout::host(),
        }
    }

    /// The effect of CPUID on the registers, from the recording; unknown leaves are all zero.
    pub fn cpuid(&self, cpu: &mut Cpu) {
        let (leaf, subleaf) = (cpu.general[gpr::RAX] as u32, cpu.general[gpr::RCX] as u32);
        let (eax, ebx, ecx, edx) = find(&self.records, leaf, subleaf)
            .map_or((0, 0, 0, 0), |r| (r.eax, r.ebx, r.ecx, r.edx));
        cpu.general[gpr::RAX] = u64::from(eax);
        cpu.general[gpr::RBX] = u64::from(ebx);
        cpu.general[gpr::RCX] = u64::from(ecx);
        cpu.general[gpr::RDX] = u64::from(edx);
    }

    /// XGETBV: XCR0, or the components that are not in their initial configuration (SDM vol. 1,
    /// 13.6: MXCSR alone makes SSE neither used nor unused here). `None`: general protection.
    pub fn xgetbv(&self, cpu: &mut Cpu) -> Option<()> {
        let value = match cpu.general[gpr::RCX] as u32 {
            0 => self.xcr0,
            1 => self.xcr0 & self.in_use(&cpu.vector),
            _ => return None,
        };
        cpu.general[gpr::RAX] = value & 0xffff_ffff;
        cpu.general[gpr::RDX] = value >> 32;
        Some(())
    }

    fn in_use(&self, state: &VectorState) -> u64 {
        let initial = VectorState::default();
        let present = state.xstate_bv();
        let mut used = 0;
        if present & 1 != 0
            && (state.0[..24] != initial.0[..24] || state.0[32..160] != initial.0[32..160])
        {
            used |= 1;
        }
        if present & 2 != 0 && state.0[160..LEGACY_DEFINED].iter().any(|&byte| byte != 0) {
            used |= 2;
        }
        for (index, range) in self.host.components.iter().enumerate().skip(2) {
            let bytes = state.0.get(range.clone()).unwrap_or_default();
            if present & (1 << index) != 0 && bytes.iter().any(|&byte| byte != 0) {
                used |= 1 << index;
            }
        }
        used
    }

    /// What the program's own images of the state are like. Without CPUID leaf 0xD in the
    /// recording they are the host's.
    pub fn images(&self) -> StateImages {
        let host = StateImages::host();
        let leaf = |number| find(&self.records, CPUID_XSAVE, number);
        if leaf(0).is_none_or(|leaf| leaf.eax == 0) {
            return host;
        }
        let components = (2..63).filter(|number| self.xcr0 >> number & 1 != 0);
        let components = components.filter_map(|number| {
            let record = leaf(number)?;
            let (offset, size) = (record.ebx as usize, record.eax as usize);
            Some((number, Component { offset, size, aligned: record.ecx & 2 != 0 }))
        });
        StateImages::new(self.xcr0, self.mxcsr_mask().unwrap_or(host.mxcsr_mask), components)
    }

    /// CPUID does not tell it, but the makers: AMD's have misaligned exception mask (APM vol. 1,
    /// 4.2.2) since family 0x10.
    fn mxcsr_mask(&self) -> Option<u32> {
        let leaf = find(&self.records, 0, 0)?;
        match &[leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat()[..] {
            b"AuthenticAMD" | b"HygonGenuine" => Some(0x2_ffff),
            b"GenuineIntel" => Some(0xffff),
            _ => None,
        }
    }

    /// RDPID and the third value of RDTSCP: node 0 and the processor's number.
    pub fn tsc_aux(&self) -> u64 {
        u64::from(self.bound_to.unwrap_or(0))
    }
}

fn find(records: &[CpuidRecord], leaf: u32, subleaf: u32) -> Option<CpuidRecord> {
    records
        .iter()
        .find(|r| r.eax_in == leaf && (r.ecx_in.is_none_or(|ecx| ecx == subleaf)))
        .copied()
}

/// Bytes of a vector register by number; the whole register is spread over four components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorRegister(pub [u8; 64]);

/// The readable form of the vector state: what `pernosco replay --registers` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorRegisters {
    /// `st0` to `st7`: stack order, ten bytes each.
    pub x87: [[u8; 10]; 8],
    pub control: u16,
    pub status: u16,
    /// The tag as FXSAVE keeps it: a bit for each physical register in use.
    pub tag: u8,
    pub opcode: u16,
    pub instruction_pointer: u64,
    pub operand_pointer: u64,
    pub mxcsr: u32,
    pub vector: [VectorRegister; 32],
    pub masks: [u64; 8],
}

impl VectorRegisters {
    /// rr's notion of the same state (rr-replay 2.2): the x87 stack, and xmm and ymm 0 to 15.
    pub fn matches(&self, other: &VectorRegisters) -> bool {
        let both = self.vector[..16].iter().zip(&other.vector[..16]);
        self.x87 == other.x87 && both.into_iter().all(|(a, b)| a.0[..32] == b.0[..32])
    }

    pub fn new(state: &VectorState, layout: &XsaveLayout) -> VectorRegisters {
        let mut state = state.clone();
        let present = state.xstate_bv();
        clear_absent_legacy(&mut state, present);
        let component = |index: usize| -> &[u8] {
            let range = layout.components[index].clone();
            if present & (1 << index) == 0 { &[] } else { state.0.get(range).unwrap_or_default() }
        };
        let bytes = &state.0;
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let mut vector = [VectorRegister([0; 64]); 32];
        for (index, register) in vector.iter_mut().enumerate() {
            let mut part = |to: Range<usize>, from: &[u8], at: usize| {
                if let Some(found) = from.get(at..at + to.len()) {
                    register.0[to].copy_from_slice(found);
                }
            };
            if index < 16 {
                part(0..16, &bytes[160..416], index * 16);
                part(16..32, component(2), index * 16);
                part(32..64, component(6), index * 32);
            } else {
                part(0..64, component(7), (index - 16) * 64);
            }
        }
        let masks = std::array::from_fn(|index| {
            let mut word = [0; 8];
            word.copy_from_slice(component(5).get(index * 8..index * 8 + 8).unwrap_or(&[0; 8]));
            u64::from_le_bytes(word)
        });
        let wide = |at: usize| {
            u64::from(half(at)) | u64::from(half(at + 2)) << 16 | u64::from(half(at + 4)) << 32
        };
        VectorRegisters {
            x87: std::array::from_fn(|index| {
                let mut value = [0; 10];
                value.copy_from_slice(&bytes[32 + index * 16..42 + index * 16]);
                value
            }),
            control: half(0),
            status: half(2),
            tag: bytes[4],
            opcode: half(6),
            instruction_pointer: wide(8),
            operand_pointer: wide(16),
            mxcsr: u32::from(half(24)) | u32::from(half(26)) << 16,
            vector,
            masks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clear_bit_means_the_initial_state() {
        let layout = XsaveLayout::host();
        let mut raw = vec![0xaa; layout.size];
        raw[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        raw[512..576].fill(0);
        let state = vector_from_recording(&raw, &layout, &layout).unwrap();
        assert_eq!(state.0[..24], VectorState::default().0[..24]);
        assert!(state.0[160..416].iter().all(|&byte| byte == 0));
        assert_eq!(state.xstate_bv(), 0);
    }

    #[test]
    fn control_bits_that_the_host_refuses() {
        let layout = XsaveLayout::host();
        let mut raw = vec![0; layout.size];
        raw[24..28].copy_from_slice(&0x8000_1f80_u32.to_le_bytes());
        let problem = vector_from_recording(&raw, &layout, &layout).unwrap_err();
        assert_eq!(problem, XsaveProblem::Mxcsr(0x8000_1f80));
    }

    #[test]
    fn a_wrong_length_is_an_error() {
        let layout = XsaveLayout::host();
        let problem = vector_from_recording(&[0; 512], &layout, &layout).unwrap_err();
        assert_eq!(problem, XsaveProblem::Length { expected: layout.size, found: 512 });
    }
}
