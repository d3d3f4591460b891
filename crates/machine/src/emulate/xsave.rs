//! xsave, xsavec, xsaveopt, xrstor, fxsave, fxrstor (SDM vol. 1, 10.5 and 13.7 to 13.11).
//!
//! What they store is a function of the register values: a component counts as in use when its
//! value is not the initial one, and FOP, FIP and FDP are stored as zero.

use iced_x86::{Instruction, Mnemonic};
use model::gpr;

use super::access::{Place, Stop, check, little_endian, load, operand, protection_fault, store};
use super::components::{self, AVX, MXCSR, MXCSR_INITIAL, PKRU, SSE, X87, XMM, XMM_END};
use super::host::{Vendor, host};
use crate::memory::AccessKind;
use crate::{Cpu, Space, StateImages, VectorState};

const HEADER: u64 = 512;
const HEADER_END: u64 = 576;
const COMPACTED: u64 = 1 << 63;
const LEGACY: u64 = 3;

/// Bytes to store, and where in the image.
type Piece = (u64, Vec<u8>);

pub fn save(
    space: &mut Space,
    cpu: &Cpu,
    instruction: &Instruction,
    images: &StateImages,
) -> Result<(), Stop> {
    use Mnemonic as M;
    let place = aligned(operand(cpu, instruction, 0, 0), 64)?;
    let requested = requested(cpu, images)?;
    let compacted = matches!(instruction.mnemonic(), M::Xsavec | M::Xsavec64);
    let plain = matches!(instruction.mnemonic(), M::Xsave | M::Xsave64);
    let format = if compacted { requested | COMPACTED } else { 0 };
    check_area(space, place, images, format, requested, AccessKind::Write)?;
    let mut in_use = components::in_use(&cpu.vector);
    if compacted && components::mxcsr(&cpu.vector) != MXCSR_INITIAL {
        in_use |= 1 << SSE;
    }
    let saved = if plain { requested } else { requested & in_use };
    let with_mxcsr = if compacted { saved >> SSE & 1 != 0 } else { requested & 6 != 0 };

    let mut pieces = legacy_pieces(&cpu.vector, images, saved, with_mxcsr);
    let bits = if compacted {
        pieces.push((HEADER + 8, (requested | COMPACTED).to_le_bytes().to_vec()));
        saved
    } else {
        let mut old = [0; 8];
        load(space, place.offset(HEADER), &mut old)?;
        u64::from_le_bytes(old) & !requested | in_use & requested
    };
    pieces.push((HEADER, bits.to_le_bytes().to_vec()));
    for (number, offset, size) in extended(images, format, saved) {
        let bytes = components::component_bytes(&cpu.vector, number);
        let mut bytes = bytes.map_or_else(|| vec![0; size as usize], <[u8]>::to_vec);
        if number == PKRU && host().stores_half_of_protection_keys {
            bytes.truncate(4);
        }
        pieces.push((offset, bytes));
    }
    store_pieces(space, place, &pieces)
}

pub fn restore(
    space: &Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
    images: &StateImages,
) -> Result<(), Stop> {
    let place = aligned(operand(cpu, instruction, 0, 0), 64)?;
    let requested = requested(cpu, images)?;
    match host().vendor {
        // The first byte is probed, then the header read (observed on Zen 5).
        Vendor::Amd => check(space, place, 1, AccessKind::Read)?,
        // XCOMP_BV is read first (observed on Emerald Rapids).
        Vendor::Intel => check(space, place.offset(HEADER + 8), 8, AccessKind::Read)?,
    }
    check(space, place.offset(HEADER), HEADER_END - HEADER, AccessKind::Read)?;
    let mut image = vec![0; HEADER_END as usize];
    load(space, place, &mut image)?;
    let (bits, format) = header(&image);
    check_header(&image, images)?;
    let loaded = requested & bits;
    let mxcsr = restored_mxcsr(&image, images, format, requested).inspect_err(|_| {
        // Of the compacted form Intel's processors have loaded half when they see a bad MXCSR
        // (observed on Emerald Rapids).
        if host().vendor == Vendor::Intel && format & COMPACTED != 0 {
            begin_restoring(&mut cpu.vector, &image, requested, loaded);
        }
    })?;
    let touched = match host().vendor {
        Vendor::Amd if format & COMPACTED != 0 => loaded,
        _ => requested,
    };
    check_area(space, place, images, format, touched, AccessKind::Read)?;

    let mut state = cpu.vector.clone();
    begin_restoring(&mut state, &image, requested, loaded);
    if let Some(mxcsr) = mxcsr {
        components::set_mxcsr(&mut state, mxcsr);
    }
    for (number, offset, size) in extended(images, format, loaded) {
        let mut bytes = vec![0; size as usize];
        load(space, place.offset(offset), &mut bytes)?;
        if host().component(number).is_some() {
            components::component_bytes_mut(&mut state, number).copy_from_slice(&bytes);
        } else if bytes.iter().any(|byte| *byte != 0) {
            return Err(Stop::Unsupported);
        }
    }
    cpu.vector = state;
    Ok(())
}

/// x87 and SSE without MXCSR, and every component that becomes initial.
fn begin_restoring(state: &mut VectorState, image: &[u8], requested: u64, loaded: u64) {
    restore_legacy(state, image, requested & LEGACY, loaded);
    for number in (AVX..63).filter(|n| (requested & !loaded) >> n & 1 != 0) {
        components::clear(state, number);
    }
}

pub fn save_legacy(
    space: &mut Space,
    cpu: &Cpu,
    instruction: &Instruction,
    images: &StateImages,
) -> Result<(), Stop> {
    let place = aligned(operand(cpu, instruction, 0, 0), 16)?;
    check(space, place, HEADER, AccessKind::Write)?;
    store_pieces(space, place, &legacy_pieces(&cpu.vector, images, LEGACY, true))
}

pub fn restore_legacy_image(
    space: &Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
    images: &StateImages,
) -> Result<(), Stop> {
    let place = aligned(operand(cpu, instruction, 0, 0), 16)?;
    let mut image = vec![0; HEADER as usize];
    load(space, place, &mut image)?;
    let mxcsr = checked_mxcsr(&image, images)?;
    components::set_mxcsr(&mut cpu.vector, mxcsr);
    restore_legacy(&mut cpu.vector, &image, LEGACY, LEGACY);
    Ok(())
}

/// The components that the instruction asks for and the processor has enabled.
fn requested(cpu: &Cpu, images: &StateImages) -> Result<u64, Stop> {
    let low = |register: usize| cpu.general[register] & 0xffff_ffff;
    let requested = (low(gpr::RDX) << 32 | low(gpr::RAX)) & images.xcr0;
    if images.knows(requested) { Ok(requested) } else { Err(Stop::Unsupported) }
}

fn aligned(place: Place, alignment: u64) -> Result<Place, Stop> {
    if place.address.is_multiple_of(alignment) { Ok(place) } else { Err(protection_fault()) }
}

/// The area up to the end of the last component asked for; its last byte is probed after the first
/// (observed on Zen 5), or before all others (observed on Emerald Rapids).
fn check_area(
    space: &Space,
    place: Place,
    images: &StateImages,
    format: u64,
    requested: u64,
    kind: AccessKind,
) -> Result<(), Stop> {
    let ends =
        extended(images, format, requested).into_iter().map(|(_, offset, size)| offset + size);
    let length = ends.max().unwrap_or(HEADER_END);
    if host().vendor == Vendor::Amd {
        check(space, place, 1, kind)?;
    }
    check(space, place.offset(length - 1), 1, kind)?;
    check(space, place, length, kind)
}

/// The #GP conditions of SDM vol. 1, 13.8, on the header: the standard form ignores its bytes from
/// 24, the compacted form does not.
fn check_header(image: &[u8], images: &StateImages) -> Result<(), Stop> {
    let (bits, format) = header(image);
    let any = |range: std::ops::Range<usize>| {
        image[HEADER as usize..][range].iter().any(|byte| *byte != 0)
    };
    let bad = if format & COMPACTED == 0 {
        any(8..24) || bits & !images.xcr0 != 0
    } else {
        any(16..64) || format & !COMPACTED & !images.xcr0 != 0 || bits & !format != 0
    };
    if bad { Err(protection_fault()) } else { Ok(()) }
}

/// XSTATE_BV and XCOMP_BV.
fn header(image: &[u8]) -> (u64, u64) {
    let word = |at: u64| little_endian(&image[at as usize..at as usize + 8]);
    (word(HEADER), word(HEADER + 8))
}

/// The standard form loads MXCSR along with SSE or AVX, in use or not; to the compacted form it
/// is a part of SSE (SDM vol. 1, 13.8).
fn restored_mxcsr(
    image: &[u8],
    images: &StateImages,
    format: u64,
    requested: u64,
) -> Result<Option<u32>, Stop> {
    let compacted = format & COMPACTED != 0;
    let with = if compacted { 1 << SSE } else { 1 << SSE | 1 << AVX };
    if requested & with == 0 {
        Ok(None)
    } else if compacted && header(image).0 >> SSE & 1 == 0 {
        Ok(Some(MXCSR_INITIAL))
    } else {
        checked_mxcsr(image, images).map(Some)
    }
}

fn checked_mxcsr(image: &[u8], images: &StateImages) -> Result<u32, Stop> {
    let mxcsr = little_endian(&image[MXCSR..MXCSR + 4]) as u32;
    if mxcsr & !images.mxcsr_mask != 0 {
        Err(protection_fault())
    } else if mxcsr & !host().images.mxcsr_mask != 0 {
        Err(Stop::Unsupported)
    } else {
        Ok(mxcsr)
    }
}

fn legacy_pieces(
    state: &VectorState,
    images: &StateImages,
    saved: u64,
    with_mxcsr: bool,
) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if saved >> X87 & 1 != 0 {
        let x87 = components::x87(state);
        pieces.push((0, x87.header().to_vec()));
        pieces.push((32, x87.slots().to_vec()));
    }
    if with_mxcsr {
        let word = |value: u32| value.to_le_bytes();
        let bytes = [word(components::mxcsr(state)), word(images.mxcsr_mask)].concat();
        pieces.push((MXCSR as u64, bytes));
    }
    if saved >> SSE & 1 != 0 {
        let bytes = components::component_bytes(state, SSE);
        pieces.push((XMM as u64, bytes.map_or_else(|| vec![0; XMM_END - XMM], <[u8]>::to_vec)));
    }
    pieces
}

fn restore_legacy(state: &mut VectorState, image: &[u8], requested: u64, loaded: u64) {
    if loaded >> X87 & 1 != 0 {
        components::set_x87(state, &components::X87::from_image(&image[..XMM]));
    } else if requested >> X87 & 1 != 0 {
        components::clear_x87(state);
    }
    if loaded >> SSE & 1 != 0 {
        components::component_bytes_mut(state, SSE).copy_from_slice(&image[XMM..XMM_END]);
    } else if requested >> SSE & 1 != 0 {
        components::clear(state, SSE);
    }
}

/// Number, offset and size of each of the extended components `wanted`, in an image whose
/// XCOMP_BV is `format`.
fn extended(images: &StateImages, format: u64, wanted: u64) -> Vec<(u32, u64, u64)> {
    let mut end = HEADER_END;
    let mut found = Vec::new();
    for number in AVX..63 {
        let Some(component) = images.component(number) else { continue };
        let size = component.size as u64;
        let offset = if format & COMPACTED == 0 {
            component.offset as u64
        } else if format >> number & 1 == 0 {
            continue;
        } else {
            let offset = if component.aligned { end.next_multiple_of(64) } else { end };
            end = offset + size;
            offset
        };
        if wanted >> number & 1 != 0 {
            found.push((number, offset, size));
        }
    }
    found
}

fn store_pieces(space: &mut Space, place: Place, pieces: &[Piece]) -> Result<(), Stop> {
    for (offset, bytes) in pieces {
        check(space, place.offset(*offset), bytes.len() as u64, AccessKind::Write)?;
    }
    for (offset, bytes) in pieces {
        store(space, place.offset(*offset), bytes)?;
    }
    Ok(())
}
