//! The four streams: from files to records.
//!
//! Layers, from below: `source` (bytes at offsets), `blocks` (Brotli blocks as one stream of
//! bytes), `packed` (Cap'n Proto messages), and here records; `data` is the stream without
//! messages. `writer` makes blocks again, for the one stream that packing rewrites.

mod blocks;
mod data;
mod kept;
mod packed;
mod records;
mod source;
mod writer;

pub use blocks::{BlockTable, StreamPosition};
pub use data::{DataStream, Piece};
pub use records::{Frames, MMaps, Records, Tasks};

pub(crate) use blocks::BlockReader;
pub(crate) use kept::KeptBlocks;
pub(crate) use packed::{Message, Messages};
pub(crate) use source::{Plain, Source};
pub(crate) use writer::BlockWriter;

#[cfg(test)]
mod tests;
