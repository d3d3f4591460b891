//! Replays rr recordings in the software machine and checks every event.
//!
//! A [`Session`] goes through the recording event by event. Each event says where a task must
//! arrive and what happens to it there: the session runs the task in the machine until it has
//! arrived, compares ticks and registers with the recorded ones, and applies the recorded
//! effects. What rr and Linux do to a process is modelled here, as far as a recording does not
//! hold the outcome already; nothing is ever executed by the kernel.
//!
//! Refused here: knowing how recordings are encoded (`rr-trace`) and how instructions execute
//! (`machine`). What is not supported is an [`Error::Unsupported`], what does not agree an
//! [`Error::Divergence`]; hostile recordings give errors, never panics.
//!
//! Costs: a stop of the machine for each event, each buffered system call and each trapped
//! instruction; memory for the program's own pages and the event at hand.
//!
//! Start reading at [`Session::advance`], then `run.rs` (arriving) and `event.rs` (effects).

mod address_space;
mod apply;
mod border;
mod checkpoint;
mod descriptors;
mod divergence;
mod effect;
mod error;
mod event;
mod listing;
mod maps;
mod numbers;
mod observe;
mod preload;
mod problem;
mod processor;
mod registers;
mod remap;
mod rr_page;
mod run;
mod session;
mod shared_files;
mod source;
mod stops;
mod task;
mod threads;
mod ticks;
mod traps;

pub use border::{Border, Passed};
pub use checkpoint::{Checkpoint, Digest, Opened, Owner, PageChange};
pub use descriptors::{
    Counterpart, Description, DescriptionId, DescriptorEvent, DescriptorObserver, Descriptors,
    Direction, Entry, FileId, FileIdentity, Happening, Kind, Offset, Stream, StreamId, Table,
    Transfer,
};
pub use divergence::{Block, Divergence};
pub use error::Error;
pub use listing::{LISTED_NAMES, listed_values, listing};
pub use observe::{
    BufferedCall, CallRun, Executions, FlowRun, Fork, MappingChange, MappingChangeKind, MemoryId,
    Observed, PageId,
};
pub use processor::{VectorRegister, VectorRegisters};
pub use registers::RegisterPair;
pub use session::{EventReport, Options, Progress, Session};
pub use stops::{Effect, Stop, StopReason, Stops};
pub use task::FilesId;
pub use ticks::TickRule;
