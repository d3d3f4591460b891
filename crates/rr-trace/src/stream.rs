//! The four streams: from files to records.
//!
//! Layers, from below: `source` (bytes at offsets), `blocks` (Brotli blocks as one stream of
//! bytes), `packed` (Cap'n Proto messages), and here records; `data` is the stream without
//! messages.

mod blocks;
mod data;
mod packed;
mod records;
mod source;

pub use blocks::{BlockTable, StreamPosition};
pub use data::{DataStream, Piece};
pub use records::{Frames, MMaps, Records, Tasks};

pub(crate) use packed::{Message, Messages};
pub(crate) use source::{Plain, Source};

#[cfg(test)]
mod tests;
#[cfg(test)]
use blocks::BlockReader;
