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
            lines.push(format!("{name}: expected {:#018x} found {:#018x}", word(&expected), word(&found)));
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
