//! rr's page at 0x70000000: system call stubs that behave differently while replaying
//! (rr-replay 6.2), and the other addresses that rr fixes (3.4).

use std::ops::Range;

use model::{Address, PAGE_SIZE};

pub const RR_PAGE: Address = Address(0x7000_0000);
pub const THREAD_LOCALS_PAGE: Address = Address(0x7000_1000);

/// The stub of traced calls that the library makes for itself.
pub const PRIVILEGED_TRACED: Address = Address(0x7000_0003);
/// `syscall; ret`, run only while recording: here `xor eax,eax; ret`. A blocking call stops here.
pub const UNTRACED_RECORD_ONLY: Address = Address(0x7000_000c);
pub const PRIVILEGED_RECORD_ONLY: Address = Address(0x7000_0015);
/// The `int3` inside the replay-assist stub.
pub const REPLAY_ASSIST: Address = Address(0x7000_0019);

/// Stubs that make a system call in replay which has no frame.
const UNTRACED_REPLAYED: [Address; 4] =
    [Address(0x7000_0006), Address(0x7000_0009), Address(0x7000_000f), Address(0x7000_0012)];

const CALL: [u8; 3] = [0x0f, 0x05, 0xc3];
const NOTHING: [u8; 3] = [0x31, 0xc0, 0xc3];
const TRAP: [u8; 3] = [0x90, 0xcc, 0xc3];
const STUBS: [[u8; 3]; 9] = [CALL, CALL, CALL, CALL, NOTHING, CALL, CALL, NOTHING, TRAP];

/// Bytes behind the stubs: the in-replay flag and the breakpoint value.
const FLAG_OFFSET: usize = 0x1b;
pub const BREAKPOINT_VALUE: Range<usize> = 0x1f..0x27;

/// Whether a `syscall` instruction here is performed by the replayer alone.
pub fn is_untraced_stub(address: Address) -> bool {
    UNTRACED_REPLAYED.contains(&address)
}

/// Whether an entering frame may stop here though no `syscall` instruction is here.
pub fn is_record_only_stub(address: Address) -> bool {
    address == UNTRACED_RECORD_ONLY || address == PRIVILEGED_RECORD_ONLY
}

/// The page as replay sees it. `flag_in_page` is true from rr 5.7 on; before, the flag is in the
/// preload library's globals.
pub fn contents(flag_in_page: bool) -> [u8; PAGE_SIZE as usize] {
    let mut page = [0; PAGE_SIZE as usize];
    for (index, stub) in STUBS.iter().enumerate() {
        page[index * 3..index * 3 + 3].copy_from_slice(stub);
    }
    if flag_in_page {
        page[FLAG_OFFSET] = 1;
        page[BREAKPOINT_VALUE].fill(0xff);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_only_stubs_do_nothing_in_replay() {
        let page = contents(true);
        assert_eq!(page[0xc..0xf], NOTHING);
        assert_eq!(page[0x15..0x18], NOTHING);
        assert_eq!(page[0x12..0x15], CALL);
        assert_eq!(page[0x19], 0xcc);
        assert_eq!(page[0x1b..0x28], [1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0]);
    }
}
