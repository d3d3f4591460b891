//! The four streams: from files to records.

use model::{Event, Tid};

use crate::{Error, Frame, MMap, MemWrite, TaskEvent};

/// A place in one stream, found by reading up to it or through a [`BlockTable`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamPosition {
    /// In the file: the header of the block that holds the next byte.
    pub block_offset: u64,
    /// Decompressed bytes in front of the next byte, in its block.
    pub offset_in_block: u64,
    /// Decompressed bytes in front of the next byte, in the whole stream.
    pub offset: u64,
}

/// Begin of every block of a stream: turns decompressed offsets into positions.
#[derive(Clone, Debug)]
pub struct BlockTable {}

impl BlockTable {
    /// Decompressed length of the whole stream.
    pub fn stream_length(&self) -> u64 {
        todo!()
    }

    pub fn position(&self, offset: u64) -> Option<StreamPosition> {
        let _ = offset;
        todo!()
    }
}

/// Records that belong to frames, one after the other. Iterates over `Result`s; after an error
/// it ends.
#[derive(Debug)]
pub struct Records<T> {
    next: Option<T>,
}

pub type MMaps = Records<MMap>;
pub type Tasks = Records<TaskEvent>;

impl<T> Records<T> {
    /// The next record if it belongs to `event` or to an earlier one.
    pub fn next_until(&mut self, event: Event) -> Result<Option<T>, Error> {
        let _ = (event, &self.next);
        todo!()
    }

    /// In front of the record that comes next.
    pub fn position(&self) -> StreamPosition {
        todo!()
    }

    pub fn seek(&mut self, position: StreamPosition) -> Result<(), Error> {
        let _ = position;
        todo!()
    }
}

impl<T> Iterator for Records<T> {
    type Item = Result<T, Error>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// Iterates over `Result<Frame, Error>`; after an error it ends.
#[derive(Debug)]
pub struct Frames {}

impl Frames {
    /// The last event that was read (0: none) and the place behind it.
    pub fn position(&self) -> (Event, StreamPosition) {
        todo!()
    }

    /// Goes on behind `event`, whose end is at `position`.
    pub fn seek(&mut self, event: Event, position: StreamPosition) -> Result<(), Error> {
        let _ = (event, position);
        todo!()
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, Error>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// The bytes of memory writes. Every write of every frame has to be read or skipped, in order.
#[derive(Debug)]
pub struct DataStream {}

/// A part of a memory write, `offset` bytes behind its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// At most 1 MiB.
    Bytes { offset: u64, bytes: &'a [u8] },
    /// A hole: as long as it was recorded.
    Zeros { offset: u64, length: u64 },
}

impl DataStream {
    /// Calls `sink` with the pieces of `write` in ascending order, without gaps. If `sink`
    /// fails, its error is returned and the rest of the write remains unread.
    pub fn read_write<E: From<Error>>(
        &mut self,
        write: &MemWrite,
        sink: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let _ = (write, sink);
        todo!()
    }

    /// All bytes of `write`, holes filled with zeroes; an error if they are more than `limit`.
    pub fn read_to_vec(&mut self, write: &MemWrite, limit: u64) -> Result<Vec<u8>, Error> {
        let _ = (write, limit, Tid(0));
        todo!()
    }

    /// Passes over `write`; whole blocks are not even decompressed.
    pub fn skip(&mut self, write: &MemWrite) -> Result<(), Error> {
        let _ = write;
        todo!()
    }

    /// True at the end of the stream, where a reader must be after the last frame.
    pub fn at_end(&mut self) -> Result<bool, Error> {
        todo!()
    }

    pub fn position(&self) -> StreamPosition {
        todo!()
    }

    pub fn seek(&mut self, position: StreamPosition) -> Result<(), Error> {
        let _ = position;
        todo!()
    }
}
