//! Time of a replay: instructions retired since its beginning.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

/// Instructions retired since the beginning of the recording, over all tasks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Moment(pub u64);

impl Add<u64> for Moment {
    type Output = Moment;
    fn add(self, instructions: u64) -> Moment {
        Moment(self.0.saturating_add(instructions))
    }
}

impl AddAssign<u64> for Moment {
    fn add_assign(&mut self, instructions: u64) {
        self.0 += instructions;
    }
}

impl Sub<Moment> for Moment {
    type Output = u64;
    fn sub(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
