//! Tests of guest memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

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
fn marked_write(space: &Space, address: Address, value: u64) {
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
