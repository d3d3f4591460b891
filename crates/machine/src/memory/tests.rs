//! Tests of guest memory.

mod model;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::access::AccessFault;
use super::code::CodePage;
use super::*;

const RW: Protection = Protection { read: true, write: true, execute: false };
const R: Protection = Protection { read: true, write: false, execute: false };
const RX: Protection = Protection { read: true, write: false, execute: true };
const RWX: Protection = Protection { read: true, write: true, execute: true };
const NONE: Protection = Protection { read: false, write: false, execute: false };

/// The tables are the process's, and so is the number of host mappings.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TABLES: Mutex<()> = Mutex::new(());
    TABLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `count` pages from page `first`.
fn pages(first: u64, count: u64) -> Range<Address> {
    Address(first * PAGE).range(count * PAGE)
}

/// What a page has at its start.
fn word(space: &Space, page: u64) -> u64 {
    space.read_u64(Address(page * PAGE)).unwrap()
}

/// A guest write as translated code would do it: straight into host memory.
fn guest_write(space: &Space, address: Address, value: u64) {
    host::copy_in(space.host(address).unwrap(), &value.to_le_bytes());
}

/// The same with its mark.
fn marked_write(space: &mut Space, address: Address, value: u64) {
    space.expect_marks();
    guest_write(space, address, value);
    let host = space.host(address).unwrap();
    host::copy_in(host >> crate::layout::WRITE_MARK_SHIFT, &[1]);
}

#[test]
fn map_write_read() {
    let mut space = Space::new();
    space.map(pages(16, 4), RW, Backing::Zero).unwrap();
    space.write_u64(Address(17 * PAGE - 4), 0x1234_5678_9abc_def0).unwrap();
    assert_eq!(space.read_u64(Address(17 * PAGE - 4)).unwrap(), 0x1234_5678_9abc_def0);
    assert!(space.write_u64(Address(20 * PAGE - 4), 1).is_err());
    assert_eq!(space.write_mapped(Address(20 * PAGE - 4), &[1; 8]), 4);
    space.unmap(pages(16, 4)).unwrap();
    assert!(space.read_u64(Address(16 * PAGE)).is_err());
    assert!(space.islands.is_empty());
}

#[test]
fn tables_show_the_active_space() {
    let _guard = one_at_a_time();
    let mut tables = Tables::reserve().unwrap();
    let again = Tables::reserve().unwrap_err().to_string();
    assert!(again.contains("0x60000000 (the place is taken by something else"), "{again}");
    let mut one = Space::new();
    let mut two = Space::new();
    one.map(pages(16, 4), RW, Backing::Zero).unwrap();
    two.map(Address(0x7fff_0000_0000).range(PAGE), RW, Backing::Zero).unwrap();
    for _ in 0..2 {
        one.activate(&mut tables).unwrap();
        let displacement = one.host(Address(0)).unwrap();
        assert_eq!(tables.get(0), (displacement, displacement + (2 << 30)));
        assert_eq!(tables.get(0x7fff), (1 << 63, 1 << 63));
        two.activate(&mut tables).unwrap();
        assert_eq!(tables.get(0), (1 << 63, 1 << 63));
        let host = two.host(Address(0x7fff_0000_0000)).unwrap();
        assert_eq!(tables.get(0x7fff).1, host + (2 << 30));
    }
    two.unmap(Address(0x7fff_0000_0000).range(PAGE)).unwrap();
    two.activate(&mut tables).unwrap();
    assert_eq!(tables.get(0x7fff), (1 << 63, 1 << 63));
}

#[test]
fn neighbours_are_neighbours_wherever_islands_go() {
    let _guard = one_at_a_time();
    let unit = 1 << (crate::layout::UNIT_SHIFT - 12);
    let mut space = Space::new();
    for number in [10, 12, 20, 11, 13, 9, 21, 19, 14, 15, 16, 17, 18] {
        space.map(pages(number * unit, 2), RW, Backing::Zero).unwrap();
        guest_write(&space, Address(number * unit * PAGE), number);
        for island in &space.islands {
            for number in island.units.clone() {
                assert_eq!(word(&space, number * unit), number);
                let host = space.host(Address(number * unit * PAGE)).unwrap();
                assert_eq!(host, island.host + ((number - island.units.start) << 32));
                assert_eq!(space.guest(host), Some(Address(number * unit * PAGE)));
            }
        }
    }
    assert_eq!(space.islands.len(), 1);
    assert_eq!(space.islands[0].units, 9..22);
    // An area that crosses units is one mapping.
    space.map(pages(12 * unit - 3, 6), RW, Backing::Zero).unwrap();
    space.write(Address(12 * unit * PAGE - 9000), &[7; 18000]).unwrap();
    let mut bytes = [0; 18000];
    host::copy_out(space.host(Address(12 * unit * PAGE - 9000)).unwrap(), &mut bytes);
    assert_eq!(bytes, [7; 18000]);
}

#[test]
fn an_island_boxed_in_moves() {
    let _guard = one_at_a_time();
    let unit = 1 << (crate::layout::UNIT_SHIFT - 12);
    let mut spaces: Vec<Space> = (0..3).map(|_| Space::new()).collect();
    for space in &mut spaces {
        space.map(pages(100 * unit, 1), RW, Backing::Zero).unwrap();
        space.write_u64(Address(100 * unit * PAGE), 5).unwrap();
    }
    // Grows by more than the room between islands: once around, each has to move.
    for space in &mut spaces {
        let before = space.host(Address(100 * unit * PAGE)).unwrap();
        space.map(pages(101 * unit, 40 * unit), RW, Backing::Zero).unwrap();
        assert_eq!(word(space, 100 * unit), 5);
        let moved = space.host(Address(100 * unit * PAGE)).unwrap() != before;
        let end = space.host(Address(140 * unit * PAGE)).unwrap();
        assert!(moved || end > before);
    }
}

#[test]
fn bad_ranges_are_refused() {
    let mut space = Space::new();
    for range in [
        Address(1)..Address(PAGE),
        Address(PAGE)..Address(PAGE),
        Address(2 * PAGE)..Address(PAGE),
        Address(USER_END - PAGE)..Address(USER_END + PAGE),
        Address(u64::MAX - PAGE + 1)..Address(0),
        Address(PAGE)..Address(PAGE + 5),
    ] {
        let map = space.map(range.clone(), RW, Backing::Zero);
        assert!(matches!(map, Err(Error::BadRange(_))), "{range:?}");
        assert!(matches!(space.unmap(range), Err(Error::BadRange(_))));
    }
    let file = Arc::new(tempfile::tempfile().unwrap());
    for offset in [5, 1 << 63, u64::MAX - PAGE + 1] {
        let backing = Backing::File { file: file.clone(), offset, length: u64::MAX };
        assert!(matches!(space.map(pages(1, 4), RW, backing), Err(Error::BadRange(_))));
    }
    let backing = Backing::File { file: file.clone(), offset: 1 << 62, length: u64::MAX };
    space.map(pages(1, 4), RW, backing).unwrap();
    assert_eq!(word(&space, 2), 0);
    let whole = space.map(Address(0)..Address(USER_END), NONE, Backing::Zero).unwrap_err();
    assert!(whole.to_string().starts_with("placing 131080 GiB of guest units 0..32768"), "{whole}");
    assert!(space.relocate(pages(1, 2), Address(2 * PAGE)).is_err());
    assert!(space.relocate(pages(1, 2), Address(USER_END - PAGE)).is_err());
    space.map(Address(USER_END - PAGE)..Address(USER_END), RW, Backing::Zero).unwrap();
    space.write(Address(USER_END - 1), &[1]).unwrap();
    assert!(space.write(Address(USER_END - 1), &[1, 2]).is_err());
    assert!(space.write(Address(u64::MAX), &[1, 2]).is_err());
}

#[test]
fn forced_writes_leave_the_file_alone() {
    use std::os::unix::fs::FileExt;
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[9; 8192], 0).unwrap();
    let file = Arc::new(file);
    let object = SharedObject::new(1, "object").unwrap();
    object.grow(PAGE).unwrap();
    let mut space = Space::new();
    for (index, protection) in [NONE, R, RX, RW].into_iter().enumerate() {
        let at = 16 + index as u64 * 16;
        let filed = Backing::File { file: file.clone(), offset: 0, length: 6000 };
        space.map(pages(at, 4), protection, filed).unwrap();
        space.map(pages(at + 4, 1), protection, Backing::Zero).unwrap();
        let shared = Backing::Shared { object: object.clone(), offset: 0 };
        space.map(pages(at + 5, 1), protection, shared).unwrap();
        assert_eq!(word(&space, at + 1), 0x0909_0909_0909_0909);
        assert_eq!(space.read_u64(Address((at + 1) * PAGE + 6000 - 4096)).unwrap(), 0);
        let bytes = vec![index as u8 + 1; 6 * PAGE as usize - 10];
        space.write(Address(at * PAGE + 5), &bytes).unwrap();
        let mut back = vec![0; bytes.len()];
        space.read(Address(at * PAGE + 5), &mut back).unwrap();
        assert!(bytes == back, "{protection:?}");
        assert_eq!(
            space.access(Address(at * PAGE), 1, AccessKind::Read).is_ok(),
            protection != NONE
        );
    }
    let mut bytes = [0; 8192];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [9; 8192]);
}

#[test]
fn access_names_the_first_offender() {
    let mut space = Space::new();
    space.map(pages(16, 1), RW, Backing::Zero).unwrap();
    space.map(pages(17, 1), RX, Backing::Zero).unwrap();
    let access = |at: u64, length, kind| space.access(Address(at), length, kind);
    assert_eq!(access(17 * PAGE - 4, 8, AccessKind::Read), Ok(()));
    let fault = AccessFault { address: Address(17 * PAGE), mapped: true };
    assert_eq!(access(17 * PAGE - 4, 8, AccessKind::Write), Err(fault));
    let fault = AccessFault { address: Address(18 * PAGE), mapped: false };
    assert_eq!(access(18 * PAGE - 4, 8, AccessKind::Execute), Err(fault));
    let fault = AccessFault { address: Address(16 * PAGE + 8), mapped: true };
    assert_eq!(access(16 * PAGE + 8, 8, AccessKind::Execute), Err(fault));
    let mut bytes = [0; 16];
    assert_eq!(space.fetch(Address(18 * PAGE - 5), &mut bytes), 5);
    assert_eq!(space.fetch(Address(16 * PAGE), &mut bytes), 0);
    assert_eq!(space.fetch(Address(17 * PAGE), &mut bytes), 16);
}

#[test]
fn shared_pages_behind_the_end_are_not_there() {
    let object = SharedObject::new(1, "object").unwrap();
    object.grow(100).unwrap();
    let mut space = Space::new();
    space.map(pages(16, 2), RW, Backing::Shared { object: object.clone(), offset: 0 }).unwrap();
    space.write_u64(Address(17 * PAGE - 8), 3).unwrap();
    assert!(space.read_u64(Address(17 * PAGE)).is_err());
    object.grow(2 * PAGE).unwrap();
    assert_eq!(word(&space, 17), 0);
}

#[test]
fn a_write_through_any_alias_makes_code_stale() {
    let _guard = one_at_a_time();
    let mut tables = Tables::reserve().unwrap();
    let object = SharedObject::new(1, "jit").unwrap();
    object.grow(4 * PAGE).unwrap();
    let shared = |offset| Backing::Shared { object: object.clone(), offset };
    let (mut one, mut two) = (Space::new(), Space::new());
    one.map(pages(16, 4), RX, shared(0)).unwrap();
    one.map(pages(32, 4), RW, shared(0)).unwrap();
    two.map(pages(64, 2), RW, shared(2 * PAGE)).unwrap();
    two.activate(&mut tables).unwrap();

    // In the same space.
    one.activate(&mut tables).unwrap();
    assert_eq!(one.note_code(pages(18, 1)).unwrap(), CodePage::Fixed);
    assert_eq!(one.shielded_pages(), [34]);
    assert!(!one.write_fault(Address(33 * PAGE)).unwrap());
    assert!(one.write_fault(Address(34 * PAGE + 8)).unwrap());
    assert_eq!(one.take_stale(), [pages(18, 1)]);
    assert!(one.take_stale().is_empty());

    // In another one, by the guest: the shield is there when it runs.
    one.note_code(pages(18, 1)).unwrap();
    assert!(two.shielded_pages().is_empty());
    two.activate(&mut tables).unwrap();
    assert_eq!(two.shielded_pages(), [64]);
    assert!(two.write_fault(Address(64 * PAGE)).unwrap());
    assert!(two.take_stale().is_empty());
    one.activate(&mut tables).unwrap();
    assert_eq!(one.take_stale(), [pages(18, 1)]);

    // In another one, from Rust.
    one.note_code(pages(16, 4)).unwrap();
    two.write_u64(Address(65 * PAGE), 1).unwrap();
    assert_eq!(one.take_stale(), [pages(19, 1)]);
    assert_eq!(word(&one, 19), 1);

    // A mapping made later is shielded too.
    two.map(pages(80, 4), RWX, shared(0)).unwrap();
    assert_eq!(two.shielded_pages(), [80, 81, 82]);
    assert!(two.take_stale().is_empty());
}

#[test]
fn stale_code_of_private_pages() {
    let mut space = Space::new();
    space.map(pages(16, 8), RWX, Backing::Zero).unwrap();
    assert_eq!(
        space.note_code(Address(17 * PAGE - 1)..Address(17 * PAGE + 1)).unwrap(),
        CodePage::Shielded
    );
    assert_eq!(space.shielded_pages(), [16, 17]);
    space.write(Address(17 * PAGE), &[1]).unwrap();
    assert_eq!(space.take_stale(), [pages(17, 1)]);
    assert_eq!(word(&space, 17), 1);
    assert!(space.write_fault(Address(16 * PAGE)).unwrap());
    guest_write(&space, Address(16 * PAGE), 2);
    assert_eq!(space.take_stale(), [pages(16, 1)]);
    // Losing execute permission, being moved, discarded, unmapped.
    space.note_code(pages(16, 8)).unwrap();
    space.protect(pages(16, 1), RW).unwrap();
    guest_write(&space, Address(16 * PAGE), 2);
    space.protect(pages(17, 1), RX).unwrap();
    space.relocate(pages(18, 1), Address(64 * PAGE)).unwrap();
    guest_write(&space, Address(64 * PAGE), 2);
    space.discard(pages(20, 1)).unwrap();
    space.unmap(pages(22, 1)).unwrap();
    let expected = [pages(16, 1), pages(18, 1), pages(20, 1), pages(22, 1)];
    assert_eq!(space.take_stale(), expected);
    // A page that becomes writable again is shielded again.
    space.protect(pages(17, 1), RWX).unwrap();
    assert!(space.shielded_pages().contains(&17));
}

#[test]
fn marks_are_found_and_cleared() {
    let _guard = one_at_a_time();
    let mut space = Space::new();
    space.map(pages(16, 1 << 20), RW, Backing::Zero).unwrap();
    space.enable_marks(true, true).unwrap();
    space.map(pages(4 << 20, 16), R, Backing::Zero).unwrap();
    for page in [16, 17, 900_000] {
        marked_write(&mut space, Address(page * PAGE + 8 * page % 4096), 1);
    }
    space.expect_marks();
    let host = space.host(Address(4 << 32)).unwrap() + 64 * 65;
    host::copy_in(host >> crate::layout::READ_MARK_SHIFT, &[0x80]);
    space.write(Address(18 * PAGE - 1), &[1, 2]).unwrap();
    // Islands move; marks that nobody took do not get lost.
    space.map(pages(5 << 20, 16), R, Backing::Zero).unwrap();
    let bit = |word: u64| {
        let mut words = [0; 8];
        words[word as usize / 64] = 1 << (word % 64);
        words
    };
    let mut seventeen = bit(17);
    seventeen[7] |= 1 << 63;
    let expected = [(16, bit(16)), (17, seventeen), (18, bit(0)), (900_000, bit(900_000 % 512))];
    let expected = expected.map(|(page, words)| (Address(page * PAGE), words));
    assert_eq!(space.take_written().unwrap(), expected);
    assert_eq!(space.take_read().unwrap(), [(Address((4 << 32) + PAGE), 2)]);
    assert!(space.take_written().unwrap().is_empty());
    assert!(space.take_read().unwrap().is_empty());
    // Found empty again, mark memory is given back.
    space.expect_marks();
    assert!(space.take_written().unwrap().is_empty());
    let marks = space.islands[0].write_marks.as_ref().unwrap().range();
    assert!(residency::changed_pages(marks).unwrap().is_empty());
}

#[test]
fn a_snapshot_costs_what_was_written() {
    let _guard = one_at_a_time();
    let mut space = Space::new();
    space.enable_marks(true, false).unwrap();
    space.map(pages(16, 100_000), RW, Backing::Zero).unwrap();
    for page in 0..100 {
        marked_write(&mut space, Address((16 + page) * PAGE), page + 1);
    }
    marked_write(&mut space, Address(1000 * PAGE), 0);
    let before = space.costs();
    let first = space.snapshot().unwrap();
    assert_eq!(space.costs().compared - before.compared, 101);
    assert_eq!(space.costs().copied - before.copied, 100);
    assert_eq!(first.pages().all().len(), 100);
    // Taking marks does not hide what changed from the next snapshot, nor the reverse.
    assert_eq!(space.take_written().unwrap().len(), 101);
    marked_write(&mut space, Address(16 * PAGE), 500);
    marked_write(&mut space, Address(17 * PAGE), 2);
    assert_eq!(space.take_written().unwrap().len(), 2);
    marked_write(&mut space, Address(5000 * PAGE), 1);
    let before = space.costs();
    let second = space.snapshot().unwrap();
    assert_eq!(space.costs().compared - before.compared, 3);
    assert_eq!(space.costs().copied - before.copied, 2);
    assert_eq!(space.take_written().unwrap().len(), 1);

    let before = space.costs();
    space.restore(&first).unwrap();
    assert_eq!(space.costs().restored - before.restored, 2);
    assert_eq!(word(&space, 16), 1);
    assert_eq!(word(&space, 5000), 0);
    space.restore(&second).unwrap();
    assert_eq!(word(&space, 16), 500);
    assert_eq!(word(&space, 5000), 1);
    // A fork.
    let mut child = Space::new();
    child.restore(&second).unwrap();
    assert_eq!(word(&child, 16), 500);
    assert_eq!(word(&child, 115), 100);
    child.write_u64(Address(16 * PAGE), 1).unwrap();
    assert_eq!(word(&space, 16), 500);
    // Pages never touched are not made by any of this.
    let host = child.host(Address(16 * PAGE)).unwrap();
    let resident = residency::changed_pages(host..host + 100_000 * PAGE).unwrap();
    assert!(resident.iter().map(|run| (run.end - run.start) / PAGE).sum::<u64>() <= 101);
}

#[test]
fn parked_spaces_can_be_read_and_come_back() {
    let _guard = one_at_a_time();
    let mut tables = Tables::reserve().unwrap();
    let mut space = Space::new();
    space.map(pages(16, 1000), RW, Backing::Zero).unwrap();
    space.map(pages(1 << 22, 10), NONE, Backing::Zero).unwrap();
    space.write_u64(Address(20 * PAGE), 7).unwrap();
    space.write_u64(Address(1 << 34), 8).unwrap();
    for _ in 0..3 {
        space.park().unwrap();
        assert!(space.islands.is_empty());
        assert_eq!((word(&space, 20), word(&space, 21)), (7, 0));
        assert_eq!(space.snapshot().unwrap().pages().all().len(), 2);
        space.activate(&mut tables).unwrap();
        assert_eq!((word(&space, 20), word(&space, 1 << 22)), (7, 8));
        assert_eq!(tables.get(0).0, space.host(Address(0)).unwrap());
    }
}

fn host_mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[test]
fn three_hundred_spaces_fit() {
    let _guard = one_at_a_time();
    let mut spaces = Vec::new();
    let protections = [R, RX, R, RW];
    for number in 0..300 {
        let mut space = Space::new();
        space.enable_marks(true, false).unwrap();
        for mapping in 0..40u64 {
            // An executable, a heap, libraries, stacks, and two far away.
            let base = [0x5555_5000_0000, 0x7f12_3000_0000, 0x7fff_f000_0000, 0x1_0000_0000];
            let at = base[mapping as usize % 4] + (mapping << 20);
            let range = Address(at).range((1 + mapping % 5) * PAGE);
            space
                .map(
                    range,
                    protections[mapping as usize % 3 + mapping as usize / 39],
                    Backing::Zero,
                )
                .unwrap();
            space.write_u64(Address(at), number * 100 + mapping).unwrap();
        }
        spaces.push(space);
    }
    println!("{} host mappings", host_mappings());
    assert!(host_mappings() < 50_000);
    for (number, space) in spaces.iter().enumerate() {
        assert_eq!(space.read_u64(Address(0x5555_5000_0000)).unwrap(), number as u64 * 100);
    }
    drop(spaces);
    assert!(host_mappings() < 1000);
}

#[test]
fn lack_of_address_space_is_an_error_with_advice() {
    const ROLE: &str = "PERNOSCO_TEST_LIMITED";
    if std::env::var_os(ROLE).is_some() {
        println!("tables: {}", Tables::reserve().unwrap_err());
        println!("space: {}", Space::new().map(pages(16, 1), RW, Backing::Zero).unwrap_err());
        return;
    }
    let command = "ulimit -v 8388608; exec \"$0\" --exact --nocapture \
         memory::tests::lack_of_address_space_is_an_error_with_advice";
    let output = std::process::Command::new("sh")
        .args(["-c", command])
        .arg(std::env::current_exe().unwrap())
        .env(ROLE, "1")
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let line = |start: &str| output.lines().find(|l| l.contains(start)).unwrap_or(&output);
    let expected = "reserving 32 GiB of address space for tables at 0x60000000 (address space is \
         limited to 8 GiB: raise `ulimit -v`)";
    assert!(line("tables: ").ends_with(expected), "{output}");
    let expected = "reserving 12 GiB of address space for guest memory, units 0..1 (address space \
         is limited to 8 GiB: raise `ulimit -v`)";
    assert!(line("space: ").ends_with(expected), "{output}");
}

#[test]
fn snapshots_of_shared_objects() {
    let object = SharedObject::new(1, "object").unwrap();
    object.grow(3 * PAGE + 100).unwrap();
    let (mut one, mut two) = (Space::new(), Space::new());
    for space in [&mut one, &mut two] {
        let backing = Backing::Shared { object: object.clone(), offset: 0 };
        space.map(pages(16, 4), RW, backing).unwrap();
    }
    guest_write(&one, Address(16 * PAGE), 1);
    guest_write(&one, Address(19 * PAGE + 80), 2);
    let (snapshot, length) = (object.snapshot().unwrap(), object.length());
    object.grow(length + PAGE).unwrap();
    guest_write(&two, Address(16 * PAGE), 5);
    guest_write(&two, Address(17 * PAGE), 6);
    guest_write(&two, Address(19 * PAGE + 80), 7);
    let later = object.snapshot().unwrap();
    assert_eq!(snapshot.differences(&later), [0, 1, 3]);
    object.restore(length, &snapshot).unwrap();
    assert_eq!(object.length(), length);
    assert_eq!([16, 17].map(|page| word(&two, page)), [1, 0]);
    assert_eq!(two.read_u64(Address(19 * PAGE + 80)).unwrap(), 2);
    object.restore(length, &later).unwrap();
    assert_eq!([16, 17].map(|page| word(&one, page)), [5, 6]);
    assert!(object.snapshot().unwrap().differences(&later).is_empty());
}

#[test]
fn equal_contents_give_equal_snapshots() {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[7; 2 * PAGE as usize + 100]).unwrap();
    let file = Arc::new(file);
    let backing = || Backing::File { file: file.clone(), offset: 0, length: 2 * PAGE + 50 };
    let mut space = Space::new();
    for marks in [false, true] {
        space.enable_marks(marks, false).unwrap();
        space.map(pages(16, 4), RW, backing()).unwrap();
        space.map(pages(32, 4), RW, Backing::Zero).unwrap();
        // Written with what was there, and changed back.
        space.write(Address(17 * PAGE), &[7; 8]).unwrap();
        space.write(Address(18 * PAGE), &[9; 8]).unwrap();
        space.write(Address(33 * PAGE), &[1; 8]).unwrap();
        let numbers = |space: &mut Space| -> Vec<u64> {
            space.snapshot().unwrap().pages().all().iter().map(|(page, _)| *page).collect()
        };
        assert_eq!(numbers(&mut space), [18, 33]);
        space.write(Address(18 * PAGE), &[7; 8]).unwrap();
        space.write(Address(33 * PAGE), &[0; 8]).unwrap();
        assert!(numbers(&mut space).is_empty());
    }
}

#[test]
fn snapshots_from_elsewhere_are_checked() {
    let mapping =
        |first, count, backing| Mapping { range: pages(first, count), protection: RW, backing };
    let page = |number| {
        let mut pages = Pages::default();
        pages.insert(number, Arc::new([1; PAGE as usize]));
        pages
    };
    let object = SharedObject::new(1, "object").unwrap();
    let shared = |offset| Backing::Shared { object: object.clone(), offset };
    let good = vec![mapping(16, 4, Backing::Zero), mapping(20, 4, shared(PAGE))];
    let snapshot = Snapshot::new(good.clone(), page(19)).unwrap();
    let mut space = Space::new();
    space.restore(&snapshot).unwrap();
    assert_eq!(word(&space, 19), 0x0101_0101_0101_0101);
    for number in [15, 20, 24] {
        let result = Snapshot::new(good.clone(), page(number));
        assert!(matches!(result, Err(Error::NotMapped(_))), "{number}");
    }
    for bad in [
        vec![mapping(16, 4, Backing::Zero), mapping(19, 4, Backing::Zero)],
        vec![mapping(16, 0, Backing::Zero)],
        vec![mapping(USER_END / PAGE - 1, 2, Backing::Zero)],
        vec![mapping(16, 4, shared(5))],
        vec![mapping(16, 4, shared(u64::MAX / PAGE * PAGE))],
    ] {
        let result = Snapshot::new(bad.clone(), Pages::default());
        assert!(matches!(result, Err(Error::BadRange(_))), "{bad:?}");
    }
}

#[test]
fn memory_with_a_history_moves() {
    // Pages that were touched while they had different neighbours and protections are several
    // host mappings, although all look the same in the end.
    let mut space = Space::new();
    space.map(pages(16, 64), RW, Backing::Zero).unwrap();
    for page in (16..80).step_by(3) {
        space.protect(pages(page, 1), R).unwrap();
        space.write_u64(Address(page * PAGE), page).unwrap();
        guest_write(&space, Address((page - 16) / 64 * PAGE + 17 * PAGE), 17);
    }
    for page in (16..80).step_by(5) {
        space.relocate(pages(page, 1), Address((4096 + page) * PAGE)).unwrap();
        space.relocate(pages(4096 + page, 1), Address(page * PAGE)).unwrap();
    }
    space.protect(pages(16, 64), RW).unwrap();
    assert_eq!(space.mappings().count(), 1);
    space.relocate(pages(16, 64), Address(1 << 40)).unwrap();
    for page in (16..80).step_by(3).filter(|&page| page != 17) {
        assert_eq!(word(&space, (1 << 28) + page - 16), page);
    }
}

proptest::proptest! {
    #[test]
    fn marks_become_bits(marks: [[u8; 32]; 2], zero: u64) {
        let mut marks = marks.concat();
        for (index, mark) in marks.iter_mut().enumerate() {
            *mark *= u8::from((zero >> index) & 1 != 0);
        }
        let bits = (0..64).fold(0, |bits, i| bits | u64::from(marks[i] != 0) << i);
        proptest::prop_assert_eq!(marks::gather(&marks), bits);
    }
}

/// Figures for the documentation: `cargo test --release figures -- --nocapture`.
#[test]
fn figures() {
    let _guard = one_at_a_time();
    let mut tables = Tables::reserve().unwrap();
    let per = |start: Instant, count: u64| start.elapsed().as_secs_f64() * 1e6 / count as f64;
    let mut space = Space::new();
    space.enable_marks(true, false).unwrap();
    let start = Instant::now();
    for number in 0..1000 {
        let protection = [R, RW][number as usize % 2];
        space.map(pages(16 + number * 8, 4), protection, Backing::Zero).unwrap();
    }
    println!("map {:.2} us", per(start, 1000));
    let start = Instant::now();
    for number in 0..1000 {
        space.protect(pages(16 + number * 8, 4), RW).unwrap();
    }
    println!("protect {:.2} us", per(start, 1000));
    let start = Instant::now();
    for number in 0..1000 {
        space.unmap(pages(16 + number * 8, 4)).unwrap();
    }
    println!("unmap {:.2} us", per(start, 1000));

    space.map(pages(1 << 20, 100_000), RW, Backing::Zero).unwrap();
    for round in 0..3 {
        let start = Instant::now();
        for page in 0..10_000 {
            marked_write(&mut space, Address(((1 << 20) + page * 7) * PAGE), page + round);
        }
        println!("first touch with marks {:.3} us a page", per(start, 10_000));
        let start = Instant::now();
        space.harvest().unwrap();
        println!("harvest {:.3} us a page", per(start, 10_000));
        let start = Instant::now();
        assert_eq!(space.take_written().unwrap().len(), 10_000);
        println!("take_written {:.3} us a page", per(start, 10_000));
        let start = Instant::now();
        std::hint::black_box(space.snapshot().unwrap());
        println!("snapshot {:.3} us a page", per(start, 10_000));
    }
    let snapshot = space.snapshot().unwrap();
    let start = Instant::now();
    for _ in 0..100 {
        std::hint::black_box(space.snapshot().unwrap());
    }
    println!("snapshot of nothing {:.2} us", per(start, 100));
    for page in 0..1000 {
        marked_write(&mut space, Address(((1 << 20) + page * 7) * PAGE), 3);
    }
    let start = Instant::now();
    space.harvest().unwrap();
    println!("harvest of 8,750 pages of marks, 1,000 set {:.3} us", per(start, 1));
    let start = Instant::now();
    space.restore(&snapshot).unwrap();
    println!("restore {:.3} us a page", per(start, 1000));
    space.enable_marks(false, false).unwrap();
    let start = Instant::now();
    space.snapshot().unwrap();
    println!("snapshot by comparing {:.3} us a page", per(start, 10_000));
    let start = Instant::now();
    space.park().unwrap();
    println!("park {:.3} us a page", per(start, 10_000));
    let start = Instant::now();
    space.unpark().unwrap();
    println!("unpark {:.3} us a page", per(start, 10_000));

    for number in 0..1000 {
        space.map(pages(16 + number * 8, 4), R, Backing::Zero).unwrap();
    }
    let start = Instant::now();
    for number in 0..1_000_000 {
        std::hint::black_box(space.mapping_at(Address((number * 7919 * 8) & 0x1f_ffff)));
    }
    println!("mapping_at {:.4} us", per(start, 1_000_000));
    let start = Instant::now();
    for number in 0..1_000_000 {
        std::hint::black_box(space.host(Address((number * 7919 * 8) & 0x1f_ffff)));
    }
    println!("host {:.4} us", per(start, 1_000_000));
    let mut other = Space::new();
    other.map(pages(16, 1), RW, Backing::Zero).unwrap();
    let start = Instant::now();
    for _ in 0..10_000 {
        space.activate(&mut tables).unwrap();
        other.activate(&mut tables).unwrap();
    }
    println!("activate {:.3} us", per(start, 20_000));
    let start = Instant::now();
    for _ in 0..100_000 {
        space.activate(&mut tables).unwrap();
    }
    println!("activate again {:.4} us", per(start, 100_000));
    let start = Instant::now();
    for page in 0..1000 {
        space.protect(pages((1 << 20) + page, 1), R).unwrap();
        space.write_u64(Address(((1 << 20) + page) * PAGE), 3).unwrap();
    }
    println!("protect and forced write {:.3} us", per(start, 1000));
    let start = Instant::now();
    for page in 0..1000 {
        space.write_u64(Address(((1 << 20) + page) * PAGE), 3).unwrap();
    }
    println!("forced write {:.3} us", per(start, 1000));
}
