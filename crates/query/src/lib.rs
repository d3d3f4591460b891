//! Questions about a recorded execution, answered from its database.
//!
//! A [`Database`] is what is known without executing anything: the index, and the history of
//! tasks, address spaces and mappings. An [`Engine`] executes parts of the recording again where
//! an answer needs it. Each question is a module of `questions`; [`ask()`] finds it by its name.
//! `docs/protocol.md` has the questions, their arguments and their rows.
//!
//! Refused here: transports (lines and sockets are the caller's), and changing anything.
//!
//! Costs: one machine a process, so one [`Engine`] a process; memory for the pages of a moment,
//! and for the caches that their modules bound.
//!
//! Start reading at [`ask()`], then `engine.rs`, `stretch.rs`.

mod accesses;
mod ask;
mod call_names;
mod call_tree;
mod code;
mod database;
mod effective;
mod engine;
mod eval;
mod executions;
mod exits;
mod failure;
mod frame_path;
mod frames;
mod heap;
mod history;
mod memory_identity;
mod modules;
mod origin;
mod places;
mod program;
pub mod protocol;
mod questions;
mod signal_names;
mod signals;
mod stretch;
mod system_calls;
mod target;
pub mod worker;

pub use ask::{Asked, Sink, ask};
pub use database::{DATABASE, Database};
pub use engine::Engine;
pub use failure::{Code, Failure};
pub use history::{History, TaskNumber};
