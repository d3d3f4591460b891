//! Where to stop in a function so that its arguments can be read: behind the prologue.

use crate::debug::Debug;

/// No prologue is searched further for its second line.
const PROLOGUE_BYTES_MAX: usize = 64;

impl Debug<'_> {
    /// The address behind the prologue of the function that contains an address, which is its
    /// entry if it has none, or if its variables can be read from the first instruction on.
    pub fn behind_prologue(&self, address: u64) -> Option<u64> {
        let (unit, entry, end) = self.function_entry(address)?;
        if self.places_hold_at_entry(unit).ok()? {
            return Some(entry);
        }
        let program_unit = self.program_unit(unit);
        let lines = self.lines_or_trouble(program_unit)?;
        let Some((rows, first)) = lines.row_at(entry) else { return Some(entry) };
        let inside = || rows[first..].iter().filter(|row| row.address < end);
        // Compilers of the LLVM family say it.
        if let Some(row) = inside().find(|row| row.prologue_end()) {
            return Some(row.address);
        }
        let frame_set_up = entry + sets_up_frame(self.code(entry, PROLOGUE_BYTES_MAX)) as u64;
        if frame_set_up == entry {
            return Some(entry);
        }
        // The row behind the one that sets up the frame: there arguments have been stored.
        Some(inside().map(|row| row.address).find(|at| *at >= frame_set_up).unwrap_or(frame_set_up))
    }
}

/// The length of what sets up `rbp` as frame pointer at the beginning of a function, or 0:
/// `[endbr64] [realignment of the stack] push %rbp; mov %rsp,%rbp`.
fn sets_up_frame(code: &[u8]) -> usize {
    let after = |at: usize, patterns: &[&[u8]]| {
        let rest = code.get(at..).unwrap_or_default();
        patterns.iter().find(|pattern| rest.starts_with(pattern)).map_or(at, |p| at + p.len())
    };
    let mut at = after(0, &[&[0xf3, 0x0f, 0x1e, 0xfa]]);
    // lea 8(%rsp),%r10; and $-N,%rsp; push -8(%r10)
    let realigned = after(at, &[&[0x4c, 0x8d, 0x54, 0x24, 0x08]]);
    if realigned > at {
        let masked = match code.get(realigned..realigned + 3) {
            Some([0x48, 0x83, 0xe4]) => realigned + 4,
            Some([0x48, 0x81, 0xe4]) => realigned + 7,
            _ => realigned,
        };
        at = after(masked, &[&[0x41, 0xff, 0x72, 0xf8]]);
    }
    let pushed = after(at, &[&[0x55], &[0x40, 0x55]]);
    let set = after(pushed, &[&[0x48, 0x89, 0xe5], &[0x48, 0x8b, 0xec]]);
    if pushed > at && set > pushed { set } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        let check = |code: &[u8]| sets_up_frame(code);
        assert_eq!(check(&[0x55, 0x48, 0x89, 0xe5, 0xc3]), 4);
        assert_eq!(check(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5]), 8);
        assert_eq!(check(&[0x55, 0xc3]), 0);
        assert_eq!(check(&[0x48, 0x83, 0xec, 0x08]), 0);
        let realigns = [
            0x4c, 0x8d, 0x54, 0x24, 0x08, 0x48, 0x83, 0xe4, 0xe0, 0x41, 0xff, 0x72, 0xf8, 0x55,
            0x48, 0x89, 0xe5,
        ];
        assert_eq!(check(&realigns), realigns.len());
        assert_eq!(check(&[]), 0);
    }
}
