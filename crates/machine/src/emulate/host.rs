//! What the processor underneath says about state images, and whose habits it has.
#![allow(unsafe_code, reason = "xgetbv and fxsave have no safe form")]

use std::arch::x86_64::{__cpuid_count, _fxsave, _xgetbv, _xsave64};
use std::sync::OnceLock;

use super::components::PKRU;
use crate::{Component, StateImages, XSAVE_BYTES};

/// Whose processor it is. Where the manuals leave room, above all in what a fault reports and
/// leaves behind, AMD's differ from Intel's in habits; each is said where it is followed, with the
/// processors that it was observed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    Amd,
    /// Also stands for makers who are not known.
    Intel,
}

#[derive(Clone, Debug)]
pub struct Host {
    pub vendor: Vendor,
    /// The maker's number of the line of processors, 0x19 for Zen 3 and 4, 0x1a for Zen 5.
    pub family: u32,
    /// As its own instructions lay them out, and as [`crate::VectorState`] is.
    pub images: StateImages,
    /// Of component 9 (PKRU) only the four bytes that mean something are stored (observed on
    /// Zen 3; found out by trying).
    pub stores_half_of_protection_keys: bool,
}

impl Host {
    /// `cmps` reads its second operand first (observed on Emerald Rapids and Zen 3; not on Zen 5).
    pub fn compares_second_first(&self) -> bool {
        self.vendor == Vendor::Intel || self.family < 0x1a
    }

    /// Components that fit into our images; others (AMX tiles) have no entry.
    pub fn component(&self, number: u32) -> Option<Component> {
        self.images.component(number)
    }
}

pub fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let xcr0 = xcr0();
        let components = (2..63).filter(|n| xcr0 >> n & 1 != 0).map(|number| {
            let leaf = __cpuid_count(0xd, number);
            let (offset, size) = (leaf.ebx as usize, leaf.eax as usize);
            (number, Component { offset, size, aligned: leaf.ecx & 2 != 0 })
        });
        let images = StateImages::new(xcr0, mxcsr_mask(), components);
        Host {
            vendor: vendor(),
            family: family(),
            stores_half_of_protection_keys: stores_half(&images),
            images,
        }
    })
}

fn vendor() -> Vendor {
    let leaf = __cpuid_count(0, 0);
    let name = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat();
    match &name[..] {
        // Hygon's are derived from Zen.
        b"AuthenticAMD" | b"HygonGenuine" => Vendor::Amd,
        _ => Vendor::Intel,
    }
}

/// AMD APM vol. 3, CPUID function 1: the extended family counts behind a base family of 15.
fn family() -> u32 {
    let signature = __cpuid_count(1, 0).eax;
    let base = signature >> 8 & 0xf;
    if base == 0xf { base + (signature >> 20 & 0xff) } else { base }
}

fn xcr0() -> u64 {
    // CPUID leaf 1, ECX bit 27: the operating system has enabled xgetbv.
    if __cpuid_count(1, 0).ecx >> 27 & 1 == 0 {
        return 3;
    }
    #[target_feature(enable = "xsave")]
    unsafe fn read() -> u64 {
        // SAFETY: the caller has seen the xsave feature; register 0 always exists.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: OSXSAVE was seen above.
    unsafe { read() }
}

fn mxcsr_mask() -> u32 {
    #[repr(align(16))]
    struct Image([u8; 512]);
    let mut image = Image([0; 512]);
    #[target_feature(enable = "fxsr")]
    unsafe fn save(image: *mut u8) {
        // SAFETY: the caller passes 512 writable bytes aligned to 16.
        unsafe { _fxsave(image) }
    }
    // SAFETY: every 64-bit processor has fxsave; the image has the size and alignment needed.
    unsafe { save(image.0.as_mut_ptr()) };
    let mask = u32::from_le_bytes([image.0[28], image.0[29], image.0[30], image.0[31]]);
    // SDM vol. 1, 11.6.6: zero stands for the default mask.
    if mask == 0 { 0xffbf } else { mask }
}

/// Tries what XSAVE stores of the protection keys.
fn stores_half(images: &StateImages) -> bool {
    #[repr(align(64))]
    struct Image([u8; XSAVE_BYTES]);
    let Some(Component { offset, size: 8, .. }) = images.component(PKRU) else { return false };
    let mut image = Box::new(Image([0xff; XSAVE_BYTES]));
    // The header has to be one.
    image.0[512..576].fill(0);
    #[target_feature(enable = "xsave")]
    unsafe fn save(image: *mut u8) {
        // SAFETY: the caller passes an aligned image with room for the component.
        unsafe { _xsave64(image, 1 << PKRU) }
    }
    // SAFETY: a component behind the legacy ones is there with XSAVE alone, and this one ends
    // within the image.
    unsafe { save(image.0.as_mut_ptr()) };
    image.0[offset + 4..offset + 8] == [0xff; 4]
}
