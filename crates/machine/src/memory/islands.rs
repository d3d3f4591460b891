//! Where the host keeps guest memory: one contiguous reservation for each run of adjacent units.
//!
//! Guest addresses that are neighbours must be neighbours in the host as well, because accesses
//! run natively across every border. So a run of units that grows into another becomes one
//! island with it, and an island without room to grow moves to another place.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use model::Address;

use super::host::{self, PAGE};
use super::{Error, Space};
use crate::layout::{GUARD, ISLANDS, READ_MARK_SHIFT, UNIT_SHIFT, UNIT_SIZE, WRITE_MARK_SHIFT};

/// Space left free on both sides of an island while there is enough, for it to grow into.
const ROOM: u64 = 4 * UNIT_SIZE;

/// Places in [`ISLANDS`] taken by the process: start to end.
static PLACES: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());

/// A host range without access that is given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    range: Range<u64>,
}

impl Reservation {
    pub fn new(range: Range<u64>, what: &str) -> Result<Reservation, Error> {
        let length = range.end - range.start;
        host::reserve(range.start, length).map_err(|source| {
            let size = host::amount(length);
            host::error(format!("reserving {size} of address space for {what}"), source)
        })?;
        Ok(Reservation { range })
    }

    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        give_back(self.range.start, self.range.end - self.range.start);
    }
}

/// A run of adjacent units in use.
#[derive(Debug)]
pub struct Island {
    pub units: Range<u64>,
    /// Host address of the first unit; guards lie on both sides.
    pub host: u64,
    pub write_marks: Option<Reservation>,
    pub read_marks: Option<Reservation>,
}

impl Island {
    fn new(units: Range<u64>) -> Result<Island, Error> {
        let length = (units.end - units.start) * UNIT_SIZE + 2 * GUARD;
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        let mut from = ISLANDS.start;
        loop {
            let (start, at) = find(&places, from, length).ok_or_else(|| {
                let what = format!(
                    "placing {} of guest units {units:?} (park some address spaces)",
                    host::amount(length)
                );
                host::error(what, std::io::Error::from(std::io::ErrorKind::OutOfMemory))
            })?;
            match host::reserve(at, length) {
                Ok(()) => {
                    places.insert(at, at + length);
                    let host = at + GUARD;
                    return Ok(Island { units, host, write_marks: None, read_marks: None });
                }
                // Something that is not ours lies there.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => from = start + GUARD,
                Err(source) => {
                    let size = host::amount(length);
                    let what = format!(
                        "reserving {size} of address space for guest memory, units {units:?}"
                    );
                    return Err(host::error(what, source));
                }
            }
        }
    }

    /// Grows to `units`, which contain its own, where it is. False when there is no room.
    fn extend(&mut self, units: Range<u64>) -> bool {
        let place = self.place();
        let low = (self.units.start - units.start) * UNIT_SIZE;
        let high = (units.end - self.units.end) * UNIT_SIZE;
        let Some(start) = place.start.checked_sub(low) else { return false };
        let end = place.end + high;
        if start < ISLANDS.start || end > ISLANDS.end {
            return false;
        }
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        let before = places.range(..place.start).next_back().is_none_or(|(_, &e)| e <= start);
        let behind = places.range(place.end..).next().is_none_or(|(&s, _)| s >= end);
        if !before || !behind || (low > 0 && host::reserve(start, low).is_err()) {
            return false;
        }
        if high > 0 && host::reserve(place.end, high).is_err() {
            if low > 0 {
                give_back(start, low);
            }
            return false;
        }
        places.remove(&place.start);
        places.insert(start, end);
        self.host -= low;
        self.units = units;
        true
    }

    /// Takes back an `extend`; nothing is mapped in what it added.
    fn shrink(&mut self, units: Range<u64>) {
        let place = self.place();
        let low = (units.start - self.units.start) * UNIT_SIZE;
        let high = (self.units.end - units.end) * UNIT_SIZE;
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        places.remove(&place.start);
        places.insert(place.start + low, place.end - high);
        for (start, length) in [(place.start, low), (place.end - high, high)] {
            if length > 0 {
                give_back(start, length);
            }
        }
        self.host += low;
        self.units = units;
    }

    pub fn guest_start(&self) -> u64 {
        self.units.start << UNIT_SHIFT
    }

    pub fn guest_end(&self) -> u64 {
        self.units.end << UNIT_SHIFT
    }

    pub fn length(&self) -> u64 {
        (self.units.end - self.units.start) << UNIT_SHIFT
    }

    /// Host minus guest address.
    pub fn displacement(&self) -> u64 {
        self.host.wrapping_sub(self.guest_start())
    }

    /// The host range it occupies, guards included.
    fn place(&self) -> Range<u64> {
        self.host - GUARD..self.host + self.length() + GUARD
    }

    /// Reserves the marks that are asked for and not there.
    pub fn reserve_marks(&mut self, written: bool, read: bool) -> Result<(), Error> {
        let place = self.place();
        let reserve = |shift: u32, what: &str| {
            let range = place.start >> shift..place.end >> shift;
            let marks = Reservation::new(range.clone(), what)?;
            host::small_pages(range.start, range.end - range.start);
            Ok::<_, Error>(marks)
        };
        if written && self.write_marks.is_none() {
            self.write_marks = Some(reserve(WRITE_MARK_SHIFT, "marks of written words")?);
        }
        if read && self.read_marks.is_none() {
            self.read_marks = Some(reserve(READ_MARK_SHIFT, "marks of read lines")?);
        }
        Ok(())
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        let place = self.place();
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        places.remove(&place.start);
        give_back(place.start, place.end - place.start);
    }
}

/// Unmaps. This fails only where a host mapping would have to be cut in two and there are too
/// many; the place is then found taken and passed over by whoever tries it next.
fn give_back(start: u64, length: u64) {
    let _ = host::release(start, length);
}

/// A free place of `length` bytes at or behind `from`: the start of the gap, and the place, with
/// room on both sides if a gap has that much.
fn find(places: &BTreeMap<u64, u64>, from: u64, length: u64) -> Option<(u64, u64)> {
    let search = |room: u64| {
        let mut start = ISLANDS.start.max(from);
        let ends = (ISLANDS.end, ISLANDS.end);
        for (taken, end) in places.iter().map(|(&s, &e)| (s, e)).chain([ends]) {
            if taken >= start + length + 2 * room {
                return Some((start, start + room));
            }
            start = start.max(end);
        }
        None
    };
    search(ROOM).or_else(|| search(0))
}

impl Space {
    /// The island that holds the unit of an address.
    #[inline]
    pub(super) fn island(&self, address: u64) -> Option<&Island> {
        let unit = address >> UNIT_SHIFT;
        self.islands.iter().find(|island| island.units.contains(&unit))
    }

    /// The host address of a guest address whose unit is in use, mapped or not.
    #[inline]
    pub(crate) fn host(&self, address: Address) -> Option<u64> {
        let island = self.island(address.0)?;
        Some(address.0.wrapping_add(island.displacement()))
    }

    /// The guest address of a host address inside an island, guards not included.
    pub(crate) fn guest(&self, host: u64) -> Option<Address> {
        let island = self.islands.iter().find(|i| (i.host..i.host + i.length()).contains(&host))?;
        Some(Address(host.wrapping_sub(island.displacement())))
    }

    /// What to add to a host address to get the guest's, and for which host addresses else that
    /// holds. It may lie in an island's guards, as a stack pointer may.
    pub(crate) fn way_back(&self, host: u64) -> Option<(Range<u64>, u64)> {
        let island = self.islands.iter().find(|island| island.place().contains(&host))?;
        let inside = island.host..island.host + island.length();
        // Neighbours share their guards.
        let holds = if inside.contains(&host) { inside } else { host..host + 1 };
        Some((holds, island.displacement().wrapping_neg()))
    }

    /// Host address of a mapped guest address.
    pub(super) fn place(&self, address: u64) -> u64 {
        self.host(Address(address)).expect("mapped memory has an island")
    }

    /// Puts every unit of `range` into one island.
    pub(super) fn ensure_units(&mut self, range: &Range<Address>) -> Result<(), Error> {
        let mut units = range.start.0 >> UNIT_SHIFT..((range.end.0 - 1) >> UNIT_SHIFT) + 1;
        let inside = |i: &Island| i.units.start <= units.start && units.end <= i.units.end;
        if self.islands.iter().any(inside) {
            // Marks are missing only if making them failed before.
            return self.make_marks();
        }
        self.harvest()?;
        let touching: Vec<usize> = (0..self.islands.len())
            .filter(|&i| {
                let other = &self.islands[i].units;
                other.start <= units.end && units.start <= other.end
            })
            .collect();
        for &index in &touching {
            let other = &self.islands[index].units;
            units = units.start.min(other.start)..units.end.max(other.end);
        }
        self.islands_version += 1;
        let keeper = touching.iter().copied().max_by_key(|&i| self.islands[i].length());
        let before_growth = keeper.map(|index| self.islands[index].units.clone());
        let mut island = match keeper {
            Some(index) => {
                let island = &mut self.islands[index];
                // Their ranges change; they are empty after the harvest.
                island.write_marks = None;
                island.read_marks = None;
                if island.extend(units.clone()) { None } else { Some(Island::new(units.clone())?) }
            }
            None => Some(Island::new(units.clone())?),
        };
        let movers = touching.iter().copied().filter(|&i| island.is_some() || Some(i) != keeper);
        let movers: Vec<usize> = movers.collect();
        let target = match (&island, keeper) {
            (Some(island), _) => island.displacement(),
            (None, Some(index)) => self.islands[index].displacement(),
            (None, None) => unreachable!("without a keeper there is a new island"),
        };
        if let Err(error) = self.move_mappings(&movers, target) {
            // The islands are as they were, but for their marks.
            if let (None, Some(index), Some(kept)) = (&island, keeper, before_growth) {
                self.islands[index].shrink(kept);
            }
            self.make_marks()?;
            return Err(error);
        }
        for &index in movers.iter().rev() {
            self.islands.remove(index);
        }
        self.islands.extend(island.take());
        self.islands.sort_by_key(|island| island.units.start);
        self.make_marks()
    }

    /// Moves the mappings of some islands to where `target` displaces them; all or none.
    fn move_mappings(&mut self, islands: &[usize], target: u64) -> Result<(), Error> {
        let mut moved: Vec<(u64, u64, u64)> = Vec::new();
        for &index in islands {
            let island = &self.islands[index];
            let guest = island.guest_start()..island.guest_start() + island.length();
            for (&start, mapping) in self.mappings.range(guest) {
                let length = mapping.range.end.0 - start;
                let from = start.wrapping_add(island.displacement());
                let to = start.wrapping_add(target);
                if let Err(source) = host::relocate(from, to, length) {
                    for (from, to, length) in moved.into_iter().rev() {
                        // Nothing but what was just moved lies there; it fits where it was.
                        let _ = host::relocate(to, from, length);
                    }
                    let what = format!("moving guest memory {:?}", mapping.range);
                    return Err(host::error(what, source));
                }
                moved.push((from, to, length));
            }
        }
        Ok(())
    }

    /// Gives up islands in `range` that hold no mapping any more.
    pub(super) fn drop_empty_islands(&mut self, range: &Range<Address>) -> Result<(), Error> {
        let empty = |island: &Island, mappings: &BTreeMap<u64, super::Mapping>| {
            let guest = island.guest_start()..island.guest_start() + island.length();
            guest.start < range.end.0
                && range.start.0 < guest.end
                && mappings.range(guest).next().is_none()
        };
        if self.islands.iter().any(|island| empty(island, &self.mappings)) {
            self.harvest()?;
            self.islands_version += 1;
            let mappings = &self.mappings;
            self.islands.retain(|island| !empty(island, mappings));
        }
        Ok(())
    }

    /// Takes away host memory of a guest range that lies in one island.
    pub(super) fn reset(&self, range: &Range<Address>) -> Result<(), Error> {
        let length = range.end.0 - range.start.0;
        debug_assert!(length.is_multiple_of(PAGE));
        host::map(self.place(range.start.0), length, libc::PROT_NONE, host::Source::Zero)
            .map_err(|source| host::error(format!("unmapping guest memory {range:?}"), source))
    }
}
