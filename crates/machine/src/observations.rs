//! What the observers have seen, collected from the logs that translated code appends to.
//!
//! Collected at the end of each slice; grows until it is taken, so take it after every run of
//! bounded length: a call costs 32 bytes, a store 24 (for each eight bytes), a branch one, an
//! indirect target eight. A `rep` string is one instruction, and yet logs all that it stores.

#![allow(unsafe_code)] // reads the logs at their fixed addresses

use std::ops::Range;

use model::{Address, Call, Moment};

use crate::block::{BLOCK_MAX, instructions_between};
use crate::executions::Executions;
use crate::faults::STORE_ENTRY;
use crate::host::Reservation;
use crate::layout;
use crate::machine::SLICE;
use crate::state::State;
use crate::{Error, Observers, Space};

/// At most eight bytes stored, with what was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreRecord {
    pub address: Address,
    /// 1, 2, 4 or 8.
    pub size: u8,
    pub old: u64,
}

/// Conditional outcomes and indirect targets, each in order of execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlFlow {
    pub taken: Vec<bool>,
    pub targets: Vec<Address>,
}

/// Instructions of a slice that may log something: all of its budget, and those of the last block
/// that come before the place where it counts.
const LOGGING: u64 = SLICE + BLOCK_MAX as u64;
/// Bytes of an entry in the log of calls and returns: where it went; host rsp behind it, with 1 in
/// the top byte for a call; the counter register.
pub const CALL_ENTRY: usize = 24;
/// Bytes of an entry in the log of ranges: an address with the size of an element in its top
/// byte, and the address behind.
const RANGE_ENTRY: u64 = 16;
/// A store of 64 bytes; whatever stores more is carried out by the engine (see the test of
/// `translate::classify`).
const STORE_ENTRIES: u64 = 8;
const _: () = {
    assert!(LOGGING <= length(layout::FLOW_LOG));
    assert!(LOGGING * 8 <= length(layout::TARGET_LOG));
    assert!(LOGGING * CALL_ENTRY as u64 <= length(layout::CALL_LOG));
    assert!(LOGGING * RANGE_ENTRY <= length(layout::RANGE_LOG));
    assert!(LOGGING * STORE_ENTRIES * STORE_ENTRY <= length(layout::STORE_LOG));
};

const fn length(area: Range<u64>) -> u64 {
    area.end - area.start
}

#[derive(Debug, Default)]
pub struct Observations {
    logs: Option<Logs>,
    pub calls: Vec<Call>,
    /// The moment less `Cpu::instructions`, wrapping.
    pub clock: u64,
    pub stores: Vec<StoreRecord>,
    pub flow: ControlFlow,
    pub executions: Executions,
}

/// The logs' memory.
#[derive(Debug)]
struct Logs {
    _areas: Vec<Reservation>,
}

impl Observations {
    /// Makes the memory that these observers write to.
    pub fn prepare(&mut self, observers: Observers) -> Result<(), Error> {
        let wanted = observers.calls
            || observers.control_flow
            || observers.stores
            || observers.written_words;
        if wanted && self.logs.is_none() {
            let areas = [
                layout::FLOW_LOG,
                layout::TARGET_LOG,
                layout::CALL_LOG,
                layout::STORE_LOG,
                layout::RANGE_LOG,
            ];
            let areas = areas.into_iter().map(|area| {
                let length = area.end - area.start;
                let reservation = Reservation::new(Some(area.start), length, "observers' logs")?;
                reservation.open(0, length, "observers' logs")?;
                Ok(reservation)
            });
            self.logs = Some(Logs { _areas: areas.collect::<Result<_, Error>>()? });
        }
        Ok(())
    }

    /// Empties the logs before a slice.
    pub fn start(&self, state: &mut State) {
        state.flow_log = layout::FLOW_LOG.start;
        state.target_log = layout::TARGET_LOG.start;
        state.call_log = layout::CALL_LOG.start;
        state.store_log = layout::STORE_LOG.start;
        state.range_log = layout::RANGE_LOG.start;
    }

    /// Takes over what a slice has logged. `counted` is `Cpu::instructions` at its start and
    /// `start` the counter's value there.
    pub fn collect(
        &mut self,
        state: &State,
        space: &Space,
        counted: u64,
        start: u64,
        keep_stores: bool,
    ) {
        if self.logs.is_none() {
            return;
        }
        // The stack may have been another one; its guest address is found from the host's.
        let (mut known, mut back) = (0..0, 0);
        let calls = words(layout::CALL_LOG, state.call_log).as_chunks::<{ CALL_ENTRY / 8 }>().0;
        self.calls.extend(calls.iter().map(|entry| {
            let (is_call, host) = (entry[1] >> 56 != 0, entry[1] & (u64::MAX >> 8));
            if !known.contains(&host) {
                let there = space.way_back(host);
                (known, back) = there.unwrap_or((0..0, state.stack_back));
            }
            let instructions = counted + instructions_between(start, entry[2]);
            Call {
                moment: Moment(instructions.wrapping_add(self.clock)),
                is_call,
                target: Address(entry[0]),
                stack: Address(host.wrapping_add(back)),
            }
        }));
        if keep_stores {
            let stores: Vec<StoreRecord> = self.stores_of(state, space).collect();
            self.stores.extend(stores);
        }
        let targets = words(layout::TARGET_LOG, state.target_log);
        self.flow.targets.extend(targets.iter().map(|target| Address(*target)));
        let taken = bytes(layout::FLOW_LOG, state.flow_log);
        self.flow.taken.extend(taken.iter().map(|byte| *byte != 0));
    }

    /// The ranges that string instructions in translated code have stored to.
    pub fn ranges_of(&self, state: &State) -> impl Iterator<Item = Range<Address>> + use<> {
        let area = layout::RANGE_LOG;
        let entries = if self.logs.is_some() { words(area, state.range_log) } else { &[] };
        entries.as_chunks::<2>().0.iter().map(|entry| {
            let (from, size) = (entry[0] & (u64::MAX >> 8), entry[0] >> 56);
            let to = entry[1];
            // Downwards, the addresses are those of the last bytes' elements.
            if from <= to {
                Address(from)..Address(to)
            } else {
                Address(to + size)..Address(from + size)
            }
        })
    }

    /// The stores that translated code has logged, in order.
    pub fn stores_of<'a>(
        &self,
        state: &State,
        space: &'a Space,
    ) -> impl Iterator<Item = StoreRecord> + use<'a> {
        let area = layout::STORE_LOG;
        let end = if self.logs.is_some() { state.store_log } else { area.start };
        let entries = if end > area.start { words(area, end) } else { &[] };
        entries.as_chunks::<2>().0.iter().filter_map(|entry| record(entry, space))
    }

    /// So many stores behind those, which an instruction that faulted was about to make.
    pub fn dropped_stores(&self, state: &State, space: &Space, count: u64) -> Vec<StoreRecord> {
        if self.logs.is_none() || count == 0 {
            return Vec::new();
        }
        let begin = (state.store_log - layout::STORE_LOG.start) / 8;
        let entries = words(layout::STORE_LOG, state.store_log + count * STORE_ENTRY);
        let entries = entries[begin as usize..].as_chunks::<2>().0;
        entries.iter().filter_map(|entry| record(entry, space)).collect()
    }
}

fn record(entry: &[u64; 2], space: &Space) -> Option<StoreRecord> {
    let (host, size) = (entry[0] & (u64::MAX >> 8), (entry[0] >> 56) as u8);
    Some(StoreRecord { address: space.guest(host)?, size, old: entry[1] })
}

/// Appends the range that a string instruction has stored to, up to `end`, to the log; where it
/// began is there.
pub fn end_range(state: &mut State, end: u64) {
    assert!(layout::RANGE_LOG.contains(&state.range_log));
    // SAFETY: inside the area, which is mapped where code that logs ranges runs.
    unsafe { *((state.range_log + 8) as *mut u64) = end };
    state.range_log += RANGE_ENTRY;
}

fn bytes(area: Range<u64>, end: u64) -> &'static [u8] {
    assert!((area.start..=area.end).contains(&end));
    // SAFETY: the area is mapped while `Observations::logs` is there (checked by the caller), and
    // translated code, its only writer, is not running.
    unsafe { std::slice::from_raw_parts(area.start as *const u8, (end - area.start) as usize) }
}

fn words(area: Range<u64>, end: u64) -> &'static [u64] {
    assert!((area.start..=area.end).contains(&end));
    let count = (end - area.start) as usize / 8;
    // SAFETY: as in `bytes`; areas are page aligned.
    unsafe { std::slice::from_raw_parts(area.start as *const u64, count) }
}
