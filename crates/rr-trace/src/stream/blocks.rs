//! Compressed blocks as one stream of bytes (rr-replay 1.2).
//!
//! A block is its compressed length, its decompressed length (32 bits each, little-endian), and
//! one complete Brotli stream. Both lengths are only claims: data is decompressed through a
//! small buffer, and the claim is compared with what came out.

use std::fmt;
use std::sync::Arc;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use serde::{Deserialize, Serialize};

use super::kept::KEPT_BLOCK_BYTES_MAX;
use super::source::{Input, Source};
use crate::Error;

/// rr writes blocks of at most 1 MiB.
const BLOCK_BYTES_MAX: u32 = 64 << 20;
const HEADER_BYTES: u64 = 8;
const INPUT_BYTES: usize = 32 << 10;
const OUTPUT_BYTES: usize = 64 << 10;
/// Bytes of file between two entries of a block table.
const TABLE_STEP: u64 = 1 << 20;

/// A place in one stream, found by reading up to it or through a [`BlockTable`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// In the file: the header of a block.
    pub block_offset: u64,
    /// Decompressed bytes between the beginning of that block and the next byte.
    pub offset_in_block: u64,
    /// Decompressed bytes in front of the next byte, in the whole stream.
    pub offset: u64,
}

/// Beginnings of blocks: turns decompressed offsets into positions.
#[derive(Clone, Debug)]
pub struct BlockTable {
    /// (offset in the file, offset in the stream), both ascending, at least a step apart.
    entries: Vec<(u64, u64)>,
    stream_length: u64,
}

impl BlockTable {
    pub(crate) fn read(source: &Source) -> Result<BlockTable, Error> {
        let mut table = BlockTable { entries: vec![(0, 0)], stream_length: 0 };
        let mut block_offset = 0;
        let mut last_entry = 0;
        while block_offset < source.length() {
            if block_offset - last_entry >= TABLE_STEP {
                table.entries.push((block_offset, table.stream_length));
                last_entry = block_offset;
            }
            let header = BlockHeader::read(source, block_offset)?;
            block_offset = header.end;
            table.stream_length += u64::from(header.length);
        }
        Ok(table)
    }

    /// Decompressed length of the whole stream, as its blocks state it.
    pub fn stream_length(&self) -> u64 {
        self.stream_length
    }

    /// `None` behind the end of the stream.
    pub fn position(&self, offset: u64) -> Option<StreamPosition> {
        if offset > self.stream_length {
            return None;
        }
        let behind = self.entries.partition_point(|&(_, start)| start <= offset);
        let (block_offset, start) = self.entries[behind - 1];
        Some(StreamPosition { block_offset, offset_in_block: offset - start, offset })
    }
}

struct BlockHeader {
    compressed_length: u32,
    /// Decompressed.
    length: u32,
    /// Offset of the next block's header.
    end: u64,
}

impl BlockHeader {
    fn read(source: &Source, offset: u64) -> Result<BlockHeader, Error> {
        let left = source.length().saturating_sub(offset);
        if left < HEADER_BYTES {
            let reason = format!("{left} bytes where a block header of 8 should be");
            return Err(source.truncated(offset, reason + " (offset in the file)"));
        }
        let mut bytes = [0; HEADER_BYTES as usize];
        source.read_exact_at(&mut bytes, offset)?;
        let [c0, c1, c2, c3, l0, l1, l2, l3] = bytes;
        let compressed_length = u32::from_le_bytes([c0, c1, c2, c3]);
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if u64::from(compressed_length) > left - HEADER_BYTES {
            let reason = format!(
                "a block claims {compressed_length} bytes, {} are left (offset in the file)",
                left - HEADER_BYTES
            );
            return Err(source.truncated(offset, reason));
        }
        if length > BLOCK_BYTES_MAX {
            let what = "decompressed block";
            return Err(source.too_large(offset, what, length.into(), BLOCK_BYTES_MAX.into()));
        }
        let end = offset + HEADER_BYTES + u64::from(compressed_length);
        Ok(BlockHeader { compressed_length, length, end })
    }
}

/// Reads a stream of blocks forward.
#[derive(Debug)]
pub(crate) struct BlockReader {
    source: Source,
    /// Decompressed bytes of the current block that nobody consumed yet.
    output: Box<[u8]>,
    output_start: usize,
    output_end: usize,
    /// The current block as a whole, in place of `output`.
    whole: Option<Arc<[u8]>>,
    /// Of the next byte; its block is the current one if there is one.
    position: StreamPosition,
    block: Option<Block>,
}

#[derive(Debug)]
struct Block {
    length: u64,
    /// Offset of the next block's header.
    end: u64,
    /// `None` once the block is decompressed completely, or before its first byte is wanted.
    decoder: Option<Box<Decoder>>,
    started: bool,
}

impl BlockReader {
    pub(crate) fn new(source: Source) -> BlockReader {
        BlockReader {
            source,
            output: vec![0; OUTPUT_BYTES].into_boxed_slice(),
            output_start: 0,
            output_end: 0,
            whole: None,
            position: StreamPosition::default(),
            block: None,
        }
    }

    pub(crate) fn position(&self) -> StreamPosition {
        self.position
    }

    pub(crate) fn seek(&mut self, position: StreamPosition) -> Result<(), Error> {
        self.output_start = 0;
        self.output_end = 0;
        self.whole = None;
        self.block = None;
        // Far from overflow, wherever the position comes from.
        let inside = |offset: &u64| *offset >= position.offset_in_block && *offset < 1 << 62;
        let Some(end) = Some(position.offset).filter(inside) else {
            let reason = "a position outside the stream";
            return Err(self.source.corrupt(position.block_offset, reason));
        };
        let offset = end - position.offset_in_block;
        self.position =
            StreamPosition { block_offset: position.block_offset, offset_in_block: 0, offset };
        if position.offset_in_block > 0
            && let Some(whole) = self.whole_block()?
            && let Ok(inside) = usize::try_from(position.offset_in_block)
            && inside <= whole.len()
        {
            (self.output_start, self.output_end) = (inside, whole.len());
            self.whole = Some(whole);
            self.position = position;
            return Ok(());
        }
        self.skip(position.offset_in_block)
    }

    /// The block that begins here, if it is one that can be kept. Either way the reader stands at
    /// its beginning, and if there is one, it counts as decompressed.
    fn whole_block(&mut self) -> Result<Option<Arc<[u8]>>, Error> {
        let start = self.position;
        let kept = self.source.kept().get(start.block_offset);
        let Some(block) = self.current_block()? else { return Ok(None) };
        if block.length > KEPT_BLOCK_BYTES_MAX {
            return Ok(None);
        }
        if let Some(whole) = kept {
            block.started = true;
            return Ok(Some(whole));
        }
        let mut bytes = Vec::with_capacity(block.length as usize);
        loop {
            // What is damaged behind the wanted place is for whoever comes there.
            if self.decompress().is_err() {
                self.output_end = 0;
                self.block = None;
                return Ok(None);
            }
            bytes.extend_from_slice(&self.output[..self.output_end]);
            if self.block.as_ref().is_none_or(|block| block.decoder.is_none()) {
                break;
            }
        }
        (self.output_start, self.output_end) = (0, 0);
        let whole: Arc<[u8]> = bytes.into();
        self.source.kept().keep(start.block_offset, whole.clone());
        Ok(Some(whole))
    }

    /// Passes over `count` bytes; blocks that lie inside them are not decompressed.
    pub(crate) fn skip(&mut self, mut count: u64) -> Result<(), Error> {
        while count > 0 {
            let Some(block) = self.current_block()? else {
                let reason = format!("{count} bytes more were to be skipped");
                return Err(self.source.truncated(self.position.offset, reason));
            };
            let left = block.length - self.position.offset_in_block;
            if count >= left {
                count -= left;
                self.position.offset += left;
                self.leave_block();
                continue;
            }
            let at_hand = self.fill()?.len();
            let step = at_hand.min(usize::try_from(count).unwrap_or(usize::MAX));
            self.consume(step);
            count -= step as u64;
        }
        Ok(())
    }

    /// Opens the next block if there is no current one; `None` at the end of the file.
    fn current_block(&mut self) -> Result<Option<&mut Block>, Error> {
        if self.block.is_none() {
            let offset = self.position.block_offset;
            if offset == self.source.length() {
                return Ok(None);
            }
            let header = BlockHeader::read(&self.source, offset)?;
            self.block = Some(Block {
                length: header.length.into(),
                end: header.end,
                decoder: None,
                started: false,
            });
            debug_assert!(header.end >= u64::from(header.compressed_length));
        }
        Ok(self.block.as_mut())
    }

    fn leave_block(&mut self) {
        if let Some(block) = self.block.take() {
            self.position.block_offset = block.end;
            self.position.offset_in_block = 0;
        }
        self.output_start = 0;
        self.output_end = 0;
        self.whole = None;
    }

    /// Decompresses the next part of the current block into the empty output buffer.
    fn decompress(&mut self) -> Result<(), Error> {
        let block_offset = self.position.block_offset;
        let block = self.block.as_mut().expect("the caller has opened a block");
        if !block.started {
            block.started = true;
            block.decoder = Some(Box::new(Decoder::new(block_offset + HEADER_BYTES, block.end)));
        }
        let Some(decoder) = &mut block.decoder else { return Ok(()) };
        let (length, finished) = decoder.read(&self.source, &mut self.output)?;
        let total = decoder.produced;
        if total > block.length || (finished && total != block.length) {
            let claim = block.length;
            let more = if finished { "" } else { "at least " };
            let reason = format!("a block has {more}{total} bytes but claims {claim}");
            return Err(self.source.corrupt(block_offset, reason + " (offset in the file)"));
        }
        if finished {
            block.decoder = None;
        }
        self.output_start = 0;
        self.output_end = length;
        Ok(())
    }
}

impl Input for BlockReader {
    fn fill(&mut self) -> Result<&[u8], Error> {
        while self.output_start == self.output_end {
            let Some(block) = self.current_block()? else { return Ok(&[]) };
            if block.started && block.decoder.is_none() {
                self.leave_block();
            } else {
                self.decompress()?;
            }
        }
        let shown = self.whole.as_deref().unwrap_or(&self.output);
        Ok(&shown[self.output_start..self.output_end])
    }

    fn consume(&mut self, count: usize) {
        assert!(count <= self.output_end - self.output_start, "consumed more than was shown");
        self.output_start += count;
        self.position.offset_in_block += count as u64;
        self.position.offset += count as u64;
        let finished = self.block.as_ref().is_some_and(|b| b.started && b.decoder.is_none());
        if self.output_start == self.output_end && finished {
            self.leave_block();
        }
    }

    fn offset(&self) -> u64 {
        self.position.offset
    }

    fn source(&self) -> &Source {
        &self.source
    }
}

/// The Brotli stream of one block.
struct Decoder {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    input: Box<[u8]>,
    input_start: usize,
    input_end: usize,
    /// In the file: compressed bytes that were not read yet.
    next: u64,
    end: u64,
    /// Decompressed bytes so far.
    produced: u64,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("next", &self.next).field("end", &self.end).finish()
    }
}

impl Decoder {
    fn new(start: u64, end: u64) -> Decoder {
        let allocator = StandardAlloc::default;
        Decoder {
            // Strict: no "large windows", which would let the data ask for 1 GiB of memory.
            state: BrotliState::new_strict(allocator(), allocator(), allocator()),
            input: vec![0; INPUT_BYTES].into_boxed_slice(),
            input_start: 0,
            input_end: 0,
            next: start,
            end,
            produced: 0,
        }
    }

    /// Fills `output` as far as there is data: its length, and whether the stream has ended.
    fn read(&mut self, source: &Source, output: &mut [u8]) -> Result<(usize, bool), Error> {
        let mut written = 0;
        let mut space = output.len();
        loop {
            let mut at_hand = self.input_end - self.input_start;
            let mut total = 0;
            let result = BrotliDecompressStream(
                &mut at_hand,
                &mut self.input_start,
                &self.input[..self.input_end],
                &mut space,
                &mut written,
                output,
                &mut total,
                &mut self.state,
            );
            match result {
                BrotliResult::ResultSuccess => {
                    self.produced += written as u64;
                    let left = self.end - self.next + (self.input_end - self.input_start) as u64;
                    if left > 0 {
                        let reason = format!("{left} bytes behind a block's compressed data");
                        return Err(self.error(source, &reason));
                    }
                    return Ok((written, true));
                }
                BrotliResult::NeedsMoreOutput => {
                    self.produced += written as u64;
                    return Ok((written, false));
                }
                BrotliResult::NeedsMoreInput if self.next == self.end => {
                    return Err(self.error(source, "a block's compressed data breaks off"));
                }
                BrotliResult::NeedsMoreInput => self.refill(source)?,
                BrotliResult::ResultFailure => {
                    return Err(self.error(source, "a block's compressed data is damaged"));
                }
            }
        }
    }

    fn refill(&mut self, source: &Source) -> Result<(), Error> {
        let length = INPUT_BYTES.min(usize::try_from(self.end - self.next).unwrap_or(usize::MAX));
        source.read_exact_at(&mut self.input[..length], self.next)?;
        self.next += length as u64;
        self.input_start = 0;
        self.input_end = length;
        Ok(())
    }

    fn error(&self, source: &Source, reason: &str) -> Error {
        let offset = self.next - (self.input_end - self.input_start) as u64;
        source.corrupt(offset, format!("{reason} (offset in the file)"))
    }
}
