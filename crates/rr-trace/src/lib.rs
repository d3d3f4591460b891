//! Reads the recordings of rr: header, events, memory contents, mappings, task events.
//!
//! A recording is a directory. [`Trace::open`] checks it and gives one reader for each of its
//! four streams; all of them go forward once and can resume at a remembered [`Position`].
//!
//! ```text
//! trace.frames()   Frame      what happened next, to which task, with which registers
//! trace.data()     bytes      the payload of every Frame's `writes`, in order, no markers
//! trace.mmaps()    MMap       mappings, each belonging to a frame
//! trace.tasks()    TaskEvent  clone, exec, exit, each belonging to a frame
//! ```
//!
//! [`Packing`] copies the files that are mapped into the recording, which is all that is ever
//! written.
//!
//! Refused here: knowing what an event means (that is `replay`), making recordings, reading rr
//! before 5.4 or recordings of other processors than x86.
//!
//! Costs: memory is bounded whatever the recording's size: a decompression window (at most
//! 16 MiB) and a buffer for each stream, and the record at hand (at most 128 MiB as it is
//! recorded). Every length in a file is doubted: a damaged or hostile recording gives an
//! [`Error`] with file and offset. A core reads a million frames or more a second.
//!
//! Start reading at [`Trace`], then `frame.rs`; the encoding is in `stream/`.

mod check;
mod decode;
mod error;
mod frame;
mod header;
mod mapping;
mod pack;
mod registers;
mod stream;
mod task;
#[cfg(test)]
mod testing;
mod trace;
#[allow(warnings, clippy::all, clippy::iter_over_hash_type, missing_debug_implementations)]
#[rustfmt::skip]
mod trace_capnp;

pub use check::{Checked, check};
pub use error::{Error, MappedFileProblem};
pub use frame::*;
pub use header::*;
pub use mapping::*;
pub use pack::{Copied, Packing};
pub use registers::*;
pub use stream::{BlockTable, DataStream, Frames, MMaps, Piece, Records, StreamPosition, Tasks};
pub use task::*;
pub use trace::{Position, Stamp, StreamName, Trace};
