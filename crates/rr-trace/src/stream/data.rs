//! The data stream: the bytes of all memory writes (rr-replay 1.5).

use std::path::Path;

use super::blocks::{BlockReader, StreamPosition};
use super::source::{Input, Source};
use crate::{Error, Hole, MemWrite};

/// The bytes of memory writes. Every write of every frame has to be read or skipped, in order:
/// the stream itself has no marks.
#[derive(Debug)]
pub struct DataStream {
    blocks: BlockReader,
}

/// A part of a memory write, `offset` bytes behind its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// At most 1 MiB.
    Bytes { offset: u64, bytes: &'a [u8] },
    /// A hole: as long as it was recorded.
    Zeros { offset: u64, length: u64 },
}

impl DataStream {
    pub(crate) fn new(source: Source) -> DataStream {
        DataStream { blocks: BlockReader::new(source) }
    }

    /// Reads a stream that is in memory; `name` is what errors call it.
    pub fn from_bytes(name: &Path, bytes: &[u8]) -> DataStream {
        DataStream::new(Source::from_bytes(name, bytes))
    }

    /// Calls `sink` with the pieces of `write` in ascending order, without gaps. If `sink`
    /// fails, its error is returned and the rest of the write remains unread.
    pub fn read_write<E: From<Error>>(
        &mut self,
        write: &MemWrite,
        mut sink: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut offset = 0;
        for &Hole { offset: hole, length } in &write.holes {
            // Frames that were read have valid holes; others could be made by hand.
            if hole < offset || write.length.checked_sub(hole).is_none_or(|left| left < length) {
                let at = self.blocks.offset();
                return Err(self.blocks.source().corrupt(at, "holes out of order").into());
            }
            self.read_bytes(offset, hole, &mut sink)?;
            sink(Piece::Zeros { offset: hole, length })?;
            offset = hole + length;
        }
        self.read_bytes(offset, write.length, &mut sink)
    }

    /// All bytes of `write`, holes filled with zeroes; an error if they are more than `limit`.
    pub fn read_to_vec(&mut self, write: &MemWrite, limit: u64) -> Result<Vec<u8>, Error> {
        if write.length > limit {
            let at = self.blocks.offset();
            return Err(self.blocks.source().too_large(at, "memory write", write.length, limit));
        }
        let mut all = Vec::new();
        self.read_write::<Error>(write, |piece| {
            match piece {
                Piece::Bytes { bytes, .. } => all.extend_from_slice(bytes),
                Piece::Zeros { length, .. } => {
                    let length = usize::try_from(length).expect("below the limit");
                    all.resize(all.len() + length, 0);
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Passes over `write`; whole blocks are not even decompressed.
    pub fn skip(&mut self, write: &MemWrite) -> Result<(), Error> {
        self.blocks.skip(write.payload_length())
    }

    /// True at the end of the stream, where a reader must be after the last frame.
    pub fn at_end(&mut self) -> Result<bool, Error> {
        Ok(self.blocks.fill()?.is_empty())
    }

    /// Reads to the end: the number of bytes that were left.
    pub(crate) fn drain(&mut self) -> Result<u64, Error> {
        let start = self.blocks.offset();
        loop {
            let length = self.blocks.fill()?.len();
            if length == 0 {
                return Ok(self.blocks.offset() - start);
            }
            self.blocks.consume(length);
        }
    }

    pub fn position(&self) -> StreamPosition {
        self.blocks.position()
    }

    /// To a position that [`DataStream::position`] or a [`crate::BlockTable`] gave.
    pub fn seek(&mut self, position: StreamPosition) -> Result<(), Error> {
        self.blocks.seek(position)
    }

    fn read_bytes<E: From<Error>>(
        &mut self,
        mut offset: u64,
        end: u64,
        sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while offset < end {
            let bytes = self.blocks.fill()?;
            let length = bytes.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
            if length == 0 {
                let reason = format!("a memory write needs {} bytes more", end - offset);
                let at = self.blocks.offset();
                return Err(self.blocks.source().truncated(at, reason).into());
            }
            sink(Piece::Bytes { offset, bytes: &bytes[..length] })?;
            self.blocks.consume(length);
            offset += length as u64;
        }
        Ok(())
    }
}
