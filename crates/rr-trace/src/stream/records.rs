//! Streams of records: frames, mappings, task events.

use std::path::Path;

use model::Event;

use super::Messages;
use super::blocks::{BlockReader, StreamPosition};
use super::source::Source;
use crate::decode::Record;
use crate::{Error, Frame, MMap, TaskEvent};

/// Records that belong to frames, one after the other. Iterates over `Result`s; after an error
/// it ends.
#[derive(Debug)]
pub struct Records<T> {
    messages: Messages<BlockReader>,
    /// A record that was read but not handed out, and the position in front of it.
    ahead: Option<(T, StreamPosition)>,
    failed: bool,
}

pub type MMaps = Records<MMap>;
pub type Tasks = Records<TaskEvent>;

impl<T: Record> Records<T> {
    pub(crate) fn new(source: Source) -> Records<T> {
        let messages = Messages::new(BlockReader::new(source));
        Records { messages, ahead: None, failed: false }
    }

    /// Reads a stream that is in memory; `name` is what errors call it.
    pub fn from_bytes(name: &Path, bytes: &[u8]) -> Records<T> {
        Records::new(Source::from_bytes(name, bytes))
    }

    /// The next record if it belongs to `event` or to an earlier one.
    pub fn next_until(&mut self, event: Event) -> Result<Option<T>, Error> {
        if self.ahead.is_none() {
            let position = self.messages.input.position();
            self.ahead = self.read()?.map(|record| (record, position));
        }
        Ok(self.ahead.take_if(|(record, _)| record.event() <= event).map(|(record, _)| record))
    }

    /// In front of the record that comes next.
    pub fn position(&self) -> StreamPosition {
        match &self.ahead {
            Some((_, position)) => *position,
            None => self.messages.input.position(),
        }
    }

    /// To a position that [`Records::position`] gave.
    pub fn seek(&mut self, position: StreamPosition) -> Result<(), Error> {
        self.ahead = None;
        self.failed = false;
        self.messages.reset();
        self.messages.input.seek(position)
    }

    fn read(&mut self) -> Result<Option<T>, Error> {
        if self.failed {
            return Ok(None);
        }
        let result = self.messages.next(T::decode);
        self.failed = result.is_err();
        result
    }
}

impl<T: Record> Iterator for Records<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.ahead.take() {
            Some((record, _)) => Some(Ok(record)),
            None => self.read().transpose(),
        }
    }
}

/// The events. Iterates over `Result<Frame, Error>`; after an error it ends.
#[derive(Debug)]
pub struct Frames {
    messages: Messages<BlockReader>,
    last: Event,
    failed: bool,
}

impl Frames {
    pub(crate) fn new(source: Source) -> Frames {
        let messages = Messages::new(BlockReader::new(source));
        Frames { messages, last: Event(0), failed: false }
    }

    /// Reads a stream that is in memory; `name` is what errors call it.
    pub fn from_bytes(name: &Path, bytes: &[u8]) -> Frames {
        Frames::new(Source::from_bytes(name, bytes))
    }

    /// The last event that was read (0: none) and the place behind it.
    pub fn position(&self) -> (Event, StreamPosition) {
        (self.last, self.messages.input.position())
    }

    /// Goes on behind `event`, whose end is at `position`.
    pub fn seek(&mut self, event: Event, position: StreamPosition) -> Result<(), Error> {
        self.last = event;
        self.failed = false;
        self.messages.reset();
        self.messages.input.seek(position)
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let event = Event(self.last.0.saturating_add(1));
        let result = self.messages.next(|message| crate::decode::frame(message, event));
        match &result {
            Ok(Some(_)) => self.last = event,
            Ok(None) => {}
            Err(_) => self.failed = true,
        }
        result.transpose()
    }
}
