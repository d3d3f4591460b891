//! How state images lie in the guest's memory.

use crate::XSAVE_BYTES;
use crate::emulate::host::host;

/// Bytes of the legacy region and the header of an XSAVE image.
const HEADER_END: usize = 576;

/// An extended state component (2 and up).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// Where it lies in an image in standard format.
    pub offset: usize,
    pub size: usize,
    /// Begins at a multiple of 64 in the compacted format (CPUID leaf 0xD, ECX bit 1).
    pub aligned: bool,
}

/// What the images that the guest's xsave, fxsave and their like store and load are like. Makers
/// differ in offsets and in the mask of MXCSR, and the program was told by CPUID where its
/// processor has what; so a recording brings its processor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateImages {
    pub xcr0: u64,
    /// Bits of MXCSR that may be set.
    pub mxcsr_mask: u32,
    components: [Option<Component>; 63],
}

impl StateImages {
    /// A component that does not lie behind the header, or not within [`XSAVE_BYTES`] (AMX tiles),
    /// is left out: images that have it cannot be stored or loaded.
    pub fn new(
        xcr0: u64,
        mxcsr_mask: u32,
        components: impl IntoIterator<Item = (u32, Component)>,
    ) -> StateImages {
        let mut images = StateImages { xcr0, mxcsr_mask, components: [None; 63] };
        for (number, component) in components {
            let end = component.offset.checked_add(component.size);
            let fits = component.offset >= HEADER_END && end.is_some_and(|end| end <= XSAVE_BYTES);
            if let Some(place) = images.components.get_mut(number as usize)
                && number >= 2
                && fits
            {
                *place = Some(component);
            }
        }
        images
    }

    /// Those of the processor underneath.
    pub fn host() -> StateImages {
        host().images.clone()
    }

    pub(crate) fn component(&self, number: u32) -> Option<Component> {
        self.components.get(number as usize).copied().flatten()
    }

    /// Whether every component of the set can be handled: it is where it can be, and as large as
    /// the host's, if that has it.
    pub(crate) fn knows(&self, components: u64) -> bool {
        (2..63).filter(|n| components >> n & 1 != 0).all(|number| {
            self.component(number).is_some_and(|there| {
                host().component(number).is_none_or(|here| here.size == there.size)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_that_cannot_be() {
        let at = |offset, size| Component { offset, size, aligned: false };
        let (early, late) = (at(512, 64), at(XSAVE_BYTES - 8, 16));
        let huge = at(usize::MAX, usize::MAX);
        let all = [(9, early), (10, late), (11, huge), (1, at(576, 8)), (63, at(576, 8))];
        let images = StateImages::new(u64::MAX, 0xffff, all);
        assert!((0..64).all(|number| images.component(number).is_none()));
        assert!(images.knows(3) && !images.knows(1 << 9));
    }
}
