//! The coordinates of a recording: its events, its tasks, its clock.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Address, Moment};

/// Number of an event of the recording; the first is 1 (what rr calls the frame or global time).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Event(pub u64);

/// Identifies a task (a thread) of the recording, in the recorder's pid namespace.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Tid(pub i32);

/// Conditional branches that a task has retired: rr's clock of that task.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Ticks(pub u64);

/// A call or a return of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Behind the instruction.
    pub moment: Moment,
    /// Else a return.
    pub is_call: bool,
    /// Where it went.
    pub target: Address,
    /// The stack pointer behind the instruction.
    pub stack: Address,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
