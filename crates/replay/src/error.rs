//! Why a replay cannot go on.

use std::path::PathBuf;

use model::{Event, Moment, Tid};

use crate::divergence::Divergence;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// The replay is not doing what the recording did.
    #[error("{0}")]
    Divergence(Box<Divergence>),
    /// The recording needs something that this replayer does not have.
    #[error("event {event}, task {tid}: not supported: {what}")]
    Unsupported { what: String, event: Event, tid: Tid },
    /// The recording contradicts itself.
    #[error("event {event}, task {tid}: malformed recording: {what}")]
    Malformed { what: String, event: Event, tid: Tid },
    #[error("reading the recording")]
    Trace(#[from] rr_trace::Error),
    #[error("event {event}, moment {moment}")]
    Machine { event: Event, moment: Moment, source: machine::Error },
    #[error("starting the machine")]
    Start(#[source] machine::Error),
    /// A checkpoint that is damaged, of another version or of another recording. The offset is
    /// in the file, or in the encoded state.
    #[error("{}: unusable checkpoint: at offset {offset}: {reason}", file.display())]
    Checkpoint { file: PathBuf, offset: u64, reason: String },
    #[error("checkpoint {}", file.display())]
    CheckpointFile { file: PathBuf, source: std::io::Error },
    /// A file that the program had mapped cannot be opened.
    #[error("event {event}: mapped file {path}")]
    MappedFile { event: Event, path: String, source: std::io::Error },
}
