//! Places at which a session comes back on its way, and what was written without an instruction.

use std::collections::BTreeSet;
use std::ops::Range;

use machine::Watch;
use model::{Address, Moment, Tid};

use crate::address_space::AddressSpace;
use crate::observe::MemoryId;
use crate::problem::Result;
use crate::session::Session;
use crate::task::SpaceId;

/// Where [`Session::advance`] is to come back, in whatever address space.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    /// Before each execution of the instruction at one of these addresses.
    pub addresses: BTreeSet<Address>,
    /// Before each access to one of these ranges by an instruction. Writes by others are told by
    /// [`Session::take_effects`].
    pub watches: Vec<Watch>,
}

/// A stop that was asked for. The instruction has not been executed, and need not retire: it may
/// fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The task that is about to execute the instruction at its rip.
    pub tid: Tid,
    pub moment: Moment,
    pub reason: StopReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The instruction is at one of the addresses.
    Address,
    /// It accesses a watched range, at the lowest such byte of its first access; see
    /// [`machine::Exit::Watch`].
    Watch { address: Address, write: bool },
}

/// A write to watched memory without a stop before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub space: MemoryId,
    pub range: Range<Address>,
}

/// What a session knows of stops.
#[derive(Debug, Default)]
pub struct Stopping {
    stops: Stops,
    /// The execution at which it stopped last for an address.
    reported: Option<(Moment, Tid)>,
    effects: Vec<Effect>,
}

impl Stopping {
    pub fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.stops.addresses.iter().copied()
    }

    pub fn watches(&self) -> bool {
        !self.stops.watches.is_empty()
    }
}

impl Session {
    /// Watches will be set and taken away often: translated code is made for both.
    ///
    /// # Errors
    ///
    /// The host has no memory for it.
    pub fn expect_watches(&mut self) -> std::result::Result<(), crate::Error> {
        self.machine.expect_watches(true).map_err(|error| self.error_here(error.into()))
    }

    /// Changes where to stop from now on.
    pub fn set_stops(&mut self, stops: Stops) -> std::result::Result<(), crate::Error> {
        let watches = std::mem::replace(&mut self.stopping.stops, stops);
        if watches.watches != self.stopping.stops.watches {
            let set = self.machine.set_watches(&self.stopping.stops.watches);
            set.map_err(|error| self.error_here(error.into()))?;
            let noted = self.stopping.watches();
            for space in self.spaces.values_mut() {
                space.space.note_writes(noted);
            }
        }
        self.stopping.reported = None;
        self.stopping.effects.clear();
        self.set_hooks(None);
        Ok(())
    }

    /// Writes to watched ranges since the last time that no instruction made, or whose
    /// instruction was cut by an asynchronous event: those of system calls, signal frames and
    /// the like.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        let ids: Vec<SpaceId> = self.spaces.keys().copied().collect();
        for id in ids {
            self.collect_effects(id);
        }
        std::mem::take(&mut self.stopping.effects)
    }

    /// Takes a new address space in.
    pub(crate) fn insert_space(&mut self, id: SpaceId, mut space: AddressSpace) {
        space.space.note_writes(self.stopping.watches());
        self.spaces.insert(id, space);
    }

    /// The session goes elsewhere.
    pub(crate) fn forget_effects(&mut self) {
        self.take_effects();
        self.stopping.reported = None;
    }

    /// Takes over what was written to a space from outside, before it goes or is asked for.
    pub(crate) fn collect_effects(&mut self, id: SpaceId) {
        let Some(space) = self.spaces.get_mut(&id) else { return };
        for range in space.space.take_noted_writes() {
            self.add_effect(id, range);
        }
    }

    pub(crate) fn add_effect(&mut self, id: SpaceId, range: Range<Address>) {
        let stopping = &mut self.stopping;
        let touches = |watch: &Watch| {
            watch.range.start < range.end && range.start < watch.range.end && !range.is_empty()
        };
        if stopping.stops.watches.iter().any(touches) {
            stopping.effects.push(Effect { space: MemoryId(id.0), range });
        }
    }

    /// Whether a task that is about to run is at an address to stop at.
    pub(crate) fn is_stop(&mut self, tid: Tid) -> Result<bool> {
        if self.stopping.stops.addresses.is_empty() {
            return Ok(false);
        }
        let here = (self.moment, tid);
        let rip = self.task(tid)?.cpu.rip;
        if self.stopping.reported == Some(here) || !self.stopping.stops.addresses.contains(&rip) {
            return Ok(false);
        }
        self.stopping.reported = Some(here);
        Ok(true)
    }
}
