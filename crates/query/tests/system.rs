//! Questions about what the program and the kernel had to do with each other, and about who called
//! whom, against what the recordings themselves say and what the programs are known to do.

mod support;

#[path = "system/callers.rs"]
mod callers;
#[path = "system/calls.rs"]
mod calls;
#[path = "system/descriptors.rs"]
mod descriptors;
#[path = "system/signals.rs"]
mod signals;
#[path = "system/timeline.rs"]
mod timeline;
