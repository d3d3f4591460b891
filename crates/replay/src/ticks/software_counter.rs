//! The rule of software counters: a branch counts where the counter has put a probe.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use machine::{Backing, Space, TickFilter};
use model::Address;

use super::program_branches::ProgramBranches;

/// How each of rr's stubs for patched system calls begins (rr 5.6), and where its one conditional
/// branch is: `jne`.
const STUB_START: [u8; 9] = [0x48, 0x89, 0x24, 0x25, 0x10, 0x10, 0x00, 0x70, 0xbc];
const STUB_BRANCH: u64 = 0x26;
const JNE: u8 = 0x75;
/// Where and how such a stub jumps to rr's library. The counter puts a probe to where the jump
/// goes. It does not find it in stubs for patched `rdtsc`, which have an instruction more: theirs
/// do not count.
const STUB_JUMP: u64 = 0x50;
const JUMP: [u8; 6] = [0xff, 0x25, 0, 0, 0, 0];

/// Branches count in private mappings of program files, unless the program has overwritten them,
/// and in rr's stubs. Files are swept when their first branch is asked for.
#[derive(Debug, Default)]
pub struct SoftwareCounter {
    /// By the identity of the opened file, which is kept so that it stays one.
    files: RefCell<BTreeMap<usize, (Arc<File>, ProgramBranches)>>,
}

impl TickFilter for SoftwareCounter {
    fn counts(&self, space: &Space, address: Address) -> bool {
        let Some(mapping) = space.mapping_at(address) else { return false };
        match &mapping.backing {
            Backing::File { file, offset, .. } => {
                let at = offset + (address - mapping.range.start);
                let mut there = [0];
                self.is_probed(file, at)
                    && file.read_exact_at(&mut there, at).is_ok()
                    && byte_at(space, address) == Some(there[0])
            }
            Backing::Zero => is_stub_branch(space, address),
            Backing::Shared { .. } => false,
        }
    }
}

impl SoftwareCounter {
    fn is_probed(&self, file: &Arc<File>, offset: u64) -> bool {
        let mut files = self.files.borrow_mut();
        let (_, branches) = files.entry(Arc::as_ptr(file) as usize).or_insert_with(|| {
            // A file that cannot be read was not counted, or the ticks will show it.
            let branches = ProgramBranches::of_file(file).unwrap_or_default();
            (Arc::clone(file), branches)
        });
        branches.contains(offset)
    }
}

fn byte_at(space: &Space, address: Address) -> Option<u8> {
    let mut byte = [0];
    space.read(address, &mut byte).ok().map(|()| byte[0])
}

fn is_stub_branch(space: &Space, address: Address) -> bool {
    let (mut start, mut jump) = (STUB_START, JUMP);
    let Some(at) = address.0.checked_sub(STUB_BRANCH) else { return false };
    let jump_at = Address(at + STUB_JUMP);
    byte_at(space, address) == Some(JNE)
        && space.read(Address(at), &mut start).is_ok()
        && start == STUB_START
        && space.read(jump_at, &mut jump).is_ok()
        && jump == JUMP
}
