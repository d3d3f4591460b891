//! Code maps: where indirect jumps find the translation of a guest address.
//!
//! A unit with code has a map of 4 bytes for each guest byte, sparse, holding host addresses in
//! the code cache. Entries never filled are zero: jumping to them faults at address 0, which the
//! fault handler takes for a miss. Parts become accessible with the executable mapping they stand
//! for, so that little is accounted even under strict overcommit.

#![allow(unsafe_code)] // entries of the maps, at addresses computed from guest addresses

use std::collections::BTreeMap;
use std::ops::Range;

use model::Address;

use crate::Error;
use crate::host::Reservation;
use crate::layout::{CODE_MAPS, CODE_MAPS_RESERVED, UNIT_SHIFT, UNIT_SIZE, UNITS};

/// Makes the sum with four times any canonical address non-canonical.
const ABSENT: u64 = 1 << 62;
/// Entries filled with the miss stub at a time: four pages of the map. The first jump to a part
/// that is not filled costs a fault.
const FILL: u64 = 4096;

/// The table that translated code reaches through gs.
#[derive(Debug)]
pub struct CodeMapTable {
    reservation: Reservation,
}

impl CodeMapTable {
    pub fn new() -> Result<CodeMapTable, Error> {
        let mut reservation =
            Reservation::new(Some(CODE_MAPS), CODE_MAPS_RESERVED, "the table of code maps")?;
        reservation.open(0, UNITS as u64 * 8, "the table of code maps")?;
        reservation.words(UNITS).fill(ABSENT);
        Ok(CodeMapTable { reservation })
    }

    fn set(&mut self, unit: usize, value: u64) {
        self.reservation.words(UNITS)[unit] = value;
    }
}

/// The code maps of one address space.
#[derive(Debug, Default)]
pub struct CodeMaps {
    units: BTreeMap<u64, UnitMap>,
}

#[derive(Debug)]
struct UnitMap {
    reservation: Reservation,
    /// Offsets into the unit whose entries are accessible.
    open: Vec<Range<u64>>,
}

impl UnitMap {
    /// What the table holds, so that adding four times a guest address gives its entry.
    fn base(&self, unit: u64) -> u64 {
        self.reservation.start().wrapping_sub((unit << UNIT_SHIFT) * 4)
    }

    fn is_open(&self, offset: u64) -> bool {
        self.open.iter().any(|range| range.contains(&offset))
    }
}

impl CodeMaps {
    pub fn activate(&self, table: &mut CodeMapTable) {
        for (unit, map) in &self.units {
            table.set(*unit as usize, map.base(*unit));
        }
    }

    pub fn deactivate(&self, table: &mut CodeMapTable) {
        for unit in self.units.keys() {
            table.set(*unit as usize, ABSENT);
        }
    }

    /// Enters a translation; `mapping` is the executable mapping that `guest` lies in.
    pub fn enter(
        &mut self,
        table: &mut CodeMapTable,
        guest: Address,
        mapping: &Range<Address>,
        code: u64,
        miss: u64,
    ) -> Result<(), Error> {
        let unit = guest.0 >> UNIT_SHIFT;
        let map = match self.units.entry(unit) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let reservation = Reservation::new(None, UNIT_SIZE * 4, "a code map")?;
                let map = entry.insert(UnitMap { reservation, open: Vec::new() });
                table.set(unit as usize, map.base(unit));
                map
            }
        };
        let start_of_unit = unit << UNIT_SHIFT;
        let offset = guest.0 - start_of_unit;
        if !map.is_open(offset) {
            let start = mapping.start.0.max(start_of_unit) - start_of_unit;
            let end = mapping.end.0.min(start_of_unit + UNIT_SIZE) - start_of_unit;
            let (start, end) = (start / FILL * FILL, end.div_ceil(FILL) * FILL);
            map.reservation.open(start * 4, (end - start) * 4, "a code map")?;
            map.open.push(start..end);
        }
        let entries = map.reservation.start() as *mut u32;
        // SAFETY: the page of entries that holds `offset` was opened above and is written by this
        // thread alone.
        unsafe {
            if *entries.add(offset as usize) == 0 {
                let page = offset / FILL * FILL;
                for n in page..page + FILL {
                    *entries.add(n as usize) = miss as u32;
                }
            }
            *entries.add(offset as usize) = code as u32;
        }
        Ok(())
    }

    /// Makes jumps to `guest` miss again.
    pub fn remove(&mut self, guest: Address, miss: u64) {
        let unit = guest.0 >> UNIT_SHIFT;
        let Some(map) = self.units.get(&unit) else { return };
        let offset = guest.0 - (unit << UNIT_SHIFT);
        if !map.is_open(offset) {
            return;
        }
        let entry = (map.reservation.start() + offset * 4) as *mut u32;
        // SAFETY: the entry is accessible, as just checked.
        unsafe {
            if *entry != 0 {
                *entry = miss as u32;
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self, table: &mut CodeMapTable, active: bool) {
        if active {
            self.deactivate(table);
        }
        self.units.clear();
    }
}
