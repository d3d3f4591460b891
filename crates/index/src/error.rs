//! Why a database cannot be built, restored from, or verified.

use model::Moment;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Trace(#[from] rr_trace::Error),
    #[error(transparent)]
    Replay(#[from] replay::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the database is of another recording")]
    OtherRecording,
    #[error("leaf {leaf} of the database: {reason}; build it anew")]
    Leaf { leaf: u64, reason: String },
    #[error(
        "a shard could not execute the segments from {first} on, in {attempt} attempts: {reason}"
    )]
    Shard { first: u64, attempt: u32, reason: String },
    #[error("moment {moment} is behind the end of the database, {end}")]
    BehindEnd { moment: Moment, end: Moment },
    /// The replay ended where the database says that it goes on.
    #[error("leaf {leaf} of the database ends at moment {expected}, its replay at {found}")]
    OtherEnd { leaf: u64, expected: Moment, found: Moment },
}

impl Error {
    /// The recording cannot be replayed further: no disk, no other machine helps.
    pub(crate) fn is_of_recording(&self) -> bool {
        matches!(
            self,
            Error::Replay(
                replay::Error::Divergence(_)
                    | replay::Error::Unsupported { .. }
                    | replay::Error::Malformed { .. }
                    | replay::Error::Machine { .. }
            )
        )
    }
}
