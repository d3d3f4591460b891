//! Comparing vector state: contents of each component, whatever the in-use bits are.

use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use machine::{VectorState, XSAVE_BYTES};

/// Offset and size of each component of the standard format (SDM vol. 1, 13.4.3 and CPUID.0DH).
pub fn components() -> &'static [(u32, usize, usize)] {
    static COMPONENTS: OnceLock<Vec<(u32, usize, usize)>> = OnceLock::new();
    COMPONENTS.get_or_init(|| {
        let supported = __cpuid_count(0xd, 0);
        let supported = u64::from(supported.eax) | u64::from(supported.edx) << 32;
        let mut list = vec![(0, 0, 160), (1, 160, 256)];
        for bit in (2..63).filter(|bit| supported >> bit & 1 != 0) {
            let leaf = __cpuid_count(0xd, bit);
            if leaf.ebx as usize + leaf.eax as usize <= XSAVE_BYTES {
                list.push((bit, leaf.ebx as usize, leaf.eax as usize));
            }
        }
        list
    })
}

const HEADER: std::ops::Range<usize> = 512..576;
const PKRU: u32 = 9;

/// The image with all components written out, initial ones too, and FOP, FIP, FDP, reserved
/// bytes and the header zeroed: equal images mean the same to a program.
pub fn canonical_vector(bytes: &[u8]) -> Vec<u8> {
    let mut image = vec![0; XSAVE_BYTES];
    let in_use = u64::from_le_bytes(bytes[512..520].try_into().expect("eight bytes"));
    for &(bit, offset, size) in components() {
        let range = offset..(offset + size).min(bytes.len());
        if in_use >> bit & 1 != 0 && bit != PKRU && range.start < range.end {
            image[range.clone()].copy_from_slice(&bytes[range]);
        }
    }
    if in_use & 1 == 0 {
        image[0..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    }
    image[24..28].copy_from_slice(&bytes[24..28]);
    image[5] = 0;
    image[6..24].fill(0);
    image[28..32].fill(0);
    for register in 0..8 {
        image[32 + 16 * register + 10..48 + 16 * register].fill(0);
    }
    image[416..512].fill(0);
    image[HEADER].fill(0);
    image
}

/// What differs, a line each: expected, found.
pub fn vector_differences(expected: &VectorState, found: &VectorState) -> Vec<String> {
    let (expected, found) = (canonical_vector(&expected.0), canonical_vector(&found.0));
    if expected == found {
        return Vec::new();
    }
    let mut lines = Vec::new();
    for start in (0..XSAVE_BYTES).step_by(8) {
        let word = |bytes: &[u8]| {
            u64::from_le_bytes(bytes[start..start + 8].try_into().expect("eight bytes"))
        };
        if word(&expected) != word(&found) {
            let name = place_name(start);
            lines.push(format!(
                "{name}: expected {:#018x} found {:#018x}",
                word(&expected),
                word(&found)
            ));
        }
    }
    lines
}

/// The register that an offset of the image belongs to.
fn place_name(offset: usize) -> String {
    if offset < 24 {
        return "FCW/FSW/FTW".into();
    }
    if offset < 32 {
        return "MXCSR".into();
    }
    let Some(&(bit, base, _)) =
        components().iter().find(|&&(_, base, size)| (base..base + size).contains(&offset))
    else {
        return format!("image+{offset:#x}");
    };
    let inside = offset - base;
    match bit {
        0 => format!("st{}/mm+{}", (offset - 32) / 16, (offset - 32) % 16),
        1 => format!("xmm{}+{}", inside / 16, inside % 16),
        2 => format!("ymm{}+{}", inside / 16, 16 + inside % 16),
        5 => format!("k{}", inside / 8),
        6 => format!("zmm{}+{}", inside / 32, 32 + inside % 32),
        7 => format!("zmm{}+{}", 16 + inside / 64, inside % 64),
        _ => format!("component {bit}+{inside}"),
    }
}

/// Writes all 64 bytes of a vector register, as far as the host has them.
pub fn set_vector_register(state: &mut VectorState, number: usize, value: &[u8; 64]) {
    let mut put = |offset: usize, bytes: &[u8]| {
        state.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    let base = |bit: u32| components().iter().find(|part| part.0 == bit).map(|part| part.1);
    if number >= 16 {
        if let Some(base) = base(7) {
            put(base + 64 * (number - 16), value);
        }
        return;
    }
    put(160 + 16 * number, &value[..16]);
    if let Some(base) = base(2) {
        put(base + 16 * number, &value[16..32]);
    }
    if let Some(base) = base(6) {
        put(base + 32 * number, &value[32..]);
    }
}

/// Components that translated code can reach: not PKRU, not AMX tiles.
fn reachable() -> impl Iterator<Item = &'static (u32, usize, usize)> {
    components().iter().filter(|(bit, ..)| *bit != PKRU && *bit < 8)
}

/// Puts every component that the host has in use, with the contents that it has.
pub fn put_all_in_use(state: &mut VectorState) {
    state.set_xstate_bv(reachable().map(|(bit, ..)| 1 << bit).sum());
}

/// A state with every component in use and random contents that the processor accepts.
pub fn random_vector(random: &mut crate::Random) -> VectorState {
    let mut state = VectorState([0; XSAVE_BYTES]);
    for &(_, offset, size) in reachable() {
        random.fill(&mut state.0[offset..offset + size]);
    }
    for number in 0..32 {
        if random.chance(30) {
            set_vector_register(&mut state, number, &telling_vector(random));
        }
    }
    let mut control = 0x37f | random.pick(&[0, 0, 0x400, 0x800, 0xc00]);
    if random.chance(30) {
        control &= !0x300 | random.pick(&[0, 0x200]);
    }
    if random.chance(4) {
        control &= !(random.word() as u16 & 0x3f);
    }
    let mut mxcsr = 0x1f80 | random.pick(&[0_u32, 0, 0x2000, 0x4000, 0x6000, 0x8040, 0x40, 0x3f]);
    if random.chance(4) {
        mxcsr &= !(random.word() as u32 & 0x1f80);
    }
    let mut status = (random.word() as u16 & 0x4700) | if random.chance(10) { 0x3f } else { 0 };
    if status & !control & 0x3f != 0 {
        // An unmasked exception is pending.
        status |= 0x8080;
    }
    state.0[0..2].copy_from_slice(&control.to_le_bytes());
    state.0[2..4].copy_from_slice(&status.to_le_bytes());
    state.0[4] = random.pick(&[0xff, 0xff, 0, 0xf0, 0x5a]);
    state.0[5..24].fill(0);
    state.0[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    state.0[28..32].fill(0);
    for register in 0..8 {
        let at = 32 + 16 * register;
        state.0[at + 10..at + 16].fill(0);
        if random.chance(60) {
            // An ordinary number: exponent near the middle, integer bit set.
            state.0[at + 7] |= 0x80;
            state.0[at + 8..at + 10]
                .copy_from_slice(&(0x3ff0 + random.below(40) as u16).to_le_bytes());
        }
    }
    state.0[416..512].fill(0);
    put_all_in_use(&mut state);
    state
}

/// Elements at which floating-point and integer instructions do something special.
fn telling_vector(random: &mut crate::Random) -> [u8; 64] {
    let mut bytes = [0; 64];
    let double = random.chance(50);
    for chunk in bytes.chunks_mut(8) {
        let word = if double {
            random
                .pick(&[
                    0.0_f64,
                    -0.0,
                    1.0,
                    -1.5,
                    1e300,
                    1e-310,
                    f64::INFINITY,
                    f64::NAN,
                    3.7e9,
                    -2.0,
                ])
                .to_bits()
        } else {
            let one = random.pick(&[
                0.0_f32,
                -0.0,
                1.0,
                -1.5,
                1e38,
                1e-40,
                f32::INFINITY,
                f32::NAN,
                70000.0,
                255.5,
            ]);
            u64::from(one.to_bits())
                | random.pick(&[0, 0x3f80_0000, 0x8000_0000, 0xffff_ffff]) << 32
        };
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
