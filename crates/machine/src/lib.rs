//! A user-mode x86-64 processor in software: guest memory is virtual, instructions other than
//! control flow run natively after their operands have been rewritten.
//!
//! It knows neither files formats nor Linux: a system call is an [`Exit`], and so is a fault.
//! Start reading at [`Machine::run`].

mod cpu;
mod emulate;
mod layout;
mod machine;
mod memory;

pub use cpu::*;
pub use machine::*;
pub use memory::*;
