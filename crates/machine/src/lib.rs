//! A user-mode x86-64 processor in software: guest memory is virtual, instructions other than
//! control flow run natively after their operands have been rewritten.
//!
//! It knows neither file formats nor Linux: a system call is an [`Exit`], and so is a fault.
//! Start reading at [`Machine::run`]; how one instruction is translated is in `translate`, where
//! everything lies in the host in `layout`.
//!
//! Costs: an exit half a microsecond, translating half a microsecond an instruction.

mod block;
mod cache;
mod code_map;
mod cpu;
mod directory;
mod emit;
mod emulate;
mod entry;
mod executions;
mod faults;
mod features;
mod fixed;
mod host;
mod images;
mod interface;
pub mod layout;
mod machine;
mod memory;
mod observations;
mod state;
mod translate;

pub use cpu::*;
pub use features::host_has;
pub use images::*;
pub use interface::*;
pub use machine::Machine;
pub use memory::*;
pub use observations::{ControlFlow, StoreRecord};

#[cfg(test)]
mod machine_tests;
