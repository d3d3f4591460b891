//! What the tests of other crates need: native programs under single steps as the oracle of the
//! machine, random instructions, comparisons that say what differs.
//!
//! Development only, never shipped. A single step costs about 3 us, a snippet about 30 us.
//! Start reading at [`Native`] (a real program) and [`Sandbox`] (snippets).

mod effects;
mod generate;
mod guest;
mod image;
mod lockstep;
mod native;
mod programs;
mod ptrace;
mod random;
mod recording;
mod recordings;
mod report;
mod sandbox;
mod traps;
mod vector;

pub use effects::*;
pub use generate::*;
pub use guest::*;
pub use image::*;
pub use lockstep::*;
pub use native::*;
pub use programs::*;
pub use random::*;
pub use recording::*;
pub use recordings::*;
pub use report::*;
pub use sandbox::*;
pub use traps::*;
pub use vector::*;
