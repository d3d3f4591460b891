//! What goes wrong inside the replay of one event, before it is known to whom it belongs.

use model::Registers;

/// [`crate::Session::advance`] adds event, task and moment, and makes a [`crate::Error`] of it.
#[derive(Debug)]
pub enum Problem {
    Unsupported(String),
    Malformed(String),
    Diverged { reason: String, expected: Option<Box<Registers>> },
    Machine(machine::Error),
    Trace(rr_trace::Error),
    MappedFile { path: String, source: std::io::Error },
}

pub type Result<T> = std::result::Result<T, Problem>;

impl From<machine::Error> for Problem {
    fn from(error: machine::Error) -> Problem {
        Problem::Machine(error)
    }
}

impl From<rr_trace::Error> for Problem {
    fn from(error: rr_trace::Error) -> Problem {
        Problem::Trace(error)
    }
}

impl Problem {
    pub fn unsupported(what: impl Into<String>) -> Problem {
        Problem::Unsupported(what.into())
    }

    pub fn malformed(what: impl Into<String>) -> Problem {
        Problem::Malformed(what.into())
    }

    pub fn diverged(reason: impl Into<String>) -> Problem {
        Problem::Diverged { reason: reason.into(), expected: None }
    }
}
