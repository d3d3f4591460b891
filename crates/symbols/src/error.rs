//! What can be wrong with a file as a whole, and with parts of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file as a whole is of no use.
    #[error("not a program file for x86-64 Linux: {0}")]
    NotElf(String),
    /// Debug information contradicts the standard; what it concerns has no answer.
    #[error("broken debug information at {place}: {what}")]
    Broken { place: String, what: String },
    /// Debug information is right but uses what is not understood here.
    #[error("debug information at {place} uses {what}, which is not supported")]
    Unsupported { place: String, what: String },
    /// The caller's frame could not give what an expression needs.
    #[error("the frame has no {0}")]
    Frame(String),
    /// A limit on work or memory was reached.
    #[error("{what} exceeds the limit of {limit}")]
    Limit { what: &'static str, limit: u64 },
    /// The identifier belongs to another module, or to no such thing.
    #[error("there is no {0}")]
    Absent(String),
}

/// Something wrong with a part of the debug information, which is left out of answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// File and section or unit.
    pub place: String,
    pub what: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// So many different troubles of one module are kept.
pub(crate) const TROUBLES_MAX: usize = 1000;

/// Troubles met so far, each once.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<BTreeSet<Trouble>>);

impl Troubles {
    pub fn add(&self, place: impl fmt::Display, what: impl fmt::Display) {
        let trouble = Trouble { place: place.to_string(), what: what.to_string() };
        let mut troubles = self.lock();
        if troubles.len() < TROUBLES_MAX {
            troubles.insert(trouble);
        }
    }

    pub fn list(&self) -> Vec<Trouble> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<Trouble>> {
        // A panic while inserting leaves a set that is still right.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
