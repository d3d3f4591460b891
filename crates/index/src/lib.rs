//! The build: from a recording to a database of its whole execution.
//!
//! The run is cut into segments at fixed moments. Each becomes a leaf of the database: the state
//! at its end, what it changed in memory, and indexes of what happened in it. A leaf can be
//! executed again by itself ([`restore()`]), which is how questions are answered, and how a
//! database is verified ([`verify()`]).
//!
//! Refused here: the bytes of the database (`store`), and what a recording means (`replay`).
//!
//! Costs: one replay with all observers, and compression of what they saw; memory for what the
//! program has changed, twice, and for the observations of three segments. With shards, for the
//! checkpoints that wait ([`shards::WAITING_BYTES_MAX`]), and the same for each process.
//!
//! Start reading at [`build()`], then `segment.rs`, `leaf.rs`, `stitch.rs`, `shards.rs`.

mod build;
mod error;
mod leaf;
mod navigate;
mod pages;
pub mod records;
mod restore;
mod segment;
pub mod shards;
pub mod stacks;
mod stitch;
mod verify;
mod work;

pub use build::{Options, Shards, Summary, Watch, build, has_buffered_calls};
pub use error::Error;
pub use navigate::Navigator;
pub use restore::restore;
pub use stitch::{follow_leaf, stacks_at};
pub use verify::{Method, Verified, verify};
pub use work::{Executor, Work, Worker};
