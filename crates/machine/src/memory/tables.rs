//! The tables through which translated code finds guest memory: at fixed places, one set a
//! process, showing one address space at a time.

use std::io;
use std::ops::Range;

use super::{Error, Space, host, residency};
use crate::layout::{
    ABSENT, DISPLACEMENT, DISPLACEMENT_RESERVED, UNIT_MIDDLE, UNIT_SHIFT, UNIT_SIZE, UNITS,
};

/// The unit tables of the process.
#[derive(Debug)]
pub struct Tables {
    /// Which space is shown, and the version of its islands.
    shown: Option<(u64, u64)>,
    /// Units whose entries are not [`ABSENT`].
    units: Vec<Range<u64>>,
}

const BACKED: u64 = UNITS as u64 * 8;

impl Tables {
    /// Makes the tables, all absent. The caller sees to it that there is one a process.
    pub fn reserve() -> Result<Tables, Error> {
        // Opened now: a confined process cannot later.
        let open = |name: &str, source| host::error(format!("opening {name}"), source);
        host::own_memory().map_err(|source| open("/proc/self/mem", source))?;
        residency::own_pagemap().map_err(|source| open("/proc/self/pagemap", source))?;
        place(DISPLACEMENT, DISPLACEMENT_RESERVED)?;
        if let Err(error) = place(UNIT_MIDDLE, BACKED) {
            remove(DISPLACEMENT, DISPLACEMENT_RESERVED);
            return Err(error);
        }
        let mut tables = Tables { shown: None, units: Vec::new() };
        for table in [DISPLACEMENT, UNIT_MIDDLE] {
            // SAFETY: the start of a mapping that `place` just made and nothing borrows.
            let returned = unsafe {
                libc::mprotect(table as *mut _, BACKED as usize, libc::PROT_READ | libc::PROT_WRITE)
            };
            if returned != 0 {
                let source = io::Error::last_os_error();
                return Err(host::error(format!("making {BACKED} bytes of tables"), source));
            }
        }
        for unit in 0..UNITS as u64 {
            tables.set(unit, ABSENT, ABSENT);
        }
        Ok(tables)
    }

    fn set(&mut self, unit: u64, displacement: u64, middle: u64) {
        assert!(unit < UNITS as u64);
        // SAFETY: `self` is the proof that both tables are mapped read-write for UNITS entries;
        // only translated code, which is not running now, reads them elsewhere.
        unsafe {
            *((DISPLACEMENT + unit * 8) as *mut u64) = displacement;
            *((UNIT_MIDDLE + unit * 8) as *mut u64) = middle;
        }
    }

    /// The displacement that translated code uses for an address; none for a non-canonical one.
    pub fn displacement(&self, address: u64) -> Option<u64> {
        let unit = address >> UNIT_SHIFT;
        // SAFETY: as in `set`.
        (unit < UNITS as u64).then(|| unsafe { *((DISPLACEMENT + unit * 8) as *const u64) })
    }

    #[cfg(test)]
    pub fn get(&self, unit: u64) -> (u64, u64) {
        assert!(unit < UNITS as u64);
        // SAFETY: as in `set`.
        unsafe {
            (*((DISPLACEMENT + unit * 8) as *const u64), *((UNIT_MIDDLE + unit * 8) as *const u64))
        }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        remove(DISPLACEMENT, DISPLACEMENT_RESERVED);
        remove(UNIT_MIDDLE, BACKED);
    }
}

impl Space {
    /// Makes this the address space that translated code sees, bringing it back if parked.
    /// Cheap when it is already. To be called before every run, and again before going on after
    /// any other call that takes `&mut Space`, but for [`Space::write_fault`] and noting code.
    pub(crate) fn activate(&mut self, tables: &mut Tables) -> Result<(), Error> {
        self.unpark()?;
        self.expect_marks();
        self.shield_aliases()?;
        if tables.shown == Some((self.id, self.islands_version)) {
            return Ok(());
        }
        for units in std::mem::take(&mut tables.units) {
            for unit in units {
                tables.set(unit, ABSENT, ABSENT);
            }
        }
        for island in &self.islands {
            for unit in island.units.clone() {
                let middle = (unit << UNIT_SHIFT) + UNIT_SIZE / 2;
                let displacement = island.displacement();
                tables.set(unit, displacement, middle.wrapping_add(displacement));
            }
            tables.units.push(island.units.clone());
        }
        tables.shown = Some((self.id, self.islands_version));
        Ok(())
    }
}

fn place(start: u64, length: u64) -> Result<(), Error> {
    let flags =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: MAP_FIXED_NOREPLACE disturbs nothing that exists.
    let place =
        unsafe { libc::mmap(start as *mut _, length as usize, libc::PROT_NONE, flags, -1, 0) };
    if place as u64 == start {
        return Ok(());
    }
    let mut source = io::Error::last_os_error();
    if place != libc::MAP_FAILED {
        remove(place as u64, length);
        source = io::Error::from_raw_os_error(libc::EEXIST);
    }
    let size = host::amount(length);
    Err(host::error(format!("reserving {size} of address space for tables at {start:#x}"), source))
}

fn remove(start: u64, length: u64) {
    // SAFETY: callers pass what `place` made; nothing borrows it.
    unsafe { libc::munmap(start as *mut _, length as usize) };
}
