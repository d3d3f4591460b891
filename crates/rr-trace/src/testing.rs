//! Writes streams for the tests of this crate: messages, packing, blocks.

use std::path::Path;

use capnp::message::{Builder, HeapAllocator};

/// What errors call a stream that a test wrote.
pub(crate) fn name() -> &'static Path {
    Path::new("made")
}

/// One packed message.
pub(crate) fn packed(message: &Builder<HeapAllocator>) -> Vec<u8> {
    let mut bytes = Vec::new();
    capnp::serialize_packed::write_message(&mut bytes, message).unwrap();
    bytes
}

/// A builder whose segments are as small as can be, so that far pointers occur.
pub(crate) fn tiny_segments() -> Builder<HeapAllocator> {
    let allocator = HeapAllocator::new()
        .first_segment_words(1)
        .allocation_strategy(capnp::message::AllocationStrategy::FixedSize);
    Builder::new(allocator)
}

/// A stream of blocks of `block_length` bytes each, stored uncompressed inside Brotli.
pub(crate) fn blocks(bytes: &[u8], block_length: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for block in bytes.chunks(block_length) {
        let compressed = stored(block);
        stream.extend((compressed.len() as u32).to_le_bytes());
        stream.extend((block.len() as u32).to_le_bytes());
        stream.extend(compressed);
    }
    stream
}

/// A Brotli stream (RFC 7932, 9.2) of uncompressed meta-blocks.
pub(crate) fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (index, part) in bytes.chunks(1 << 16).enumerate() {
        // Not last, four nibbles of length, length - 1, uncompressed.
        let header = (part.len() as u32 - 1) << 3 | 1 << 19;
        // The very first bit of the stream, 0, is its window size.
        let header = if index == 0 { header << 1 } else { header };
        stream.extend(&header.to_le_bytes()[..3]);
        stream.extend(part);
    }
    // Last and empty; with the window size in front if there was no part.
    stream.push(if bytes.is_empty() { 6 } else { 3 });
    stream
}
