//! The build.
pub mod stacks;
