//! Where a value came from: back through copies, calls, system calls, threads and processes, to
//! the instruction that computed it or the input that it is.
//!
//! `semantics.rs` says where the bytes come from that an instruction writes; `writers.rs` finds
//! the last writers of memory, `definition.rs` what defined a register, `kernel.rs` who gave the
//! kernel what it wrote, `races.rs` what others wrote in between; `story.rs` puts these together, hop by hop.

mod definition;
mod hop;
mod kernel;
mod races;
mod semantics;
mod story;
mod writers;

pub use semantics::Cell;
pub use story::{Spot, Story, Trail, cell_bytes, state};
