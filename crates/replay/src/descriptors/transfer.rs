//! Positions: what a transfer does to its description, its stream and its file.

use std::ops::Range;

use model::{Address, Moment};

use super::{
    Counterpart, DescriptionId, Descriptors, Direction, Happening, Happenings, Offset, Stream,
    StreamId, Transfer,
};
use crate::numbers::O_APPEND;

/// Where in a file the bytes of a call go or come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The position of the description, which moves on.
    Position,
    Fixed(u64),
    End,
}

/// One transfer as the system call tells it.
#[derive(Clone, Debug)]
pub struct Movement {
    pub direction: Direction,
    pub descriptor: i32,
    pub description: DescriptionId,
    pub at: At,
    /// Bytes that the call says it moved.
    pub length: u64,
    pub memory: Vec<Range<Address>>,
    pub peeked: bool,
    pub order_uncertain: bool,
    pub begun: Moment,
}

/// Where a movement took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub stream: StreamId,
    pub start: u64,
    /// First byte that the call did not take.
    pub end: u64,
    pub offset: Option<Offset>,
}

impl Descriptors {
    /// Moves positions on.
    pub(super) fn place(&mut self, movement: &Movement) -> Option<Place> {
        let Movement { direction, length, peeked, .. } = *movement;
        let description = self.descriptions.get_mut(&movement.description)?;
        let mut at = movement.at;
        if direction == Direction::Write && description.flags & O_APPEND != 0 {
            at = At::End;
        }
        let mut file = description.file.and_then(|file| self.files.get_mut(&file));
        let known_length = file.as_ref().and_then(|file| file.length);
        let mut offset = None;
        if description.kind.is_seekable() {
            offset = match at {
                At::Position => description.offset,
                At::Fixed(value) => Some(Offset::exact(value)),
                At::End => known_length.map(|value| Offset { value, assumed: true }),
            };
            if !matches!(at, At::Fixed(_)) {
                description.offset = offset.map(|offset| offset.plus(length));
            }
        }
        if let (Direction::Write, Some(file), Some(offset)) = (direction, &mut file, offset) {
            let end = offset.value.saturating_add(length);
            file.length = file.length.map(|known| known.max(end));
        }
        let id = match direction {
            Direction::Read => description.reads,
            Direction::Write => description.writes,
        };
        let stream = self.streams.get_mut(&id)?;
        let (start, end) = match direction {
            Direction::Write => stream.take_written(length),
            Direction::Read if peeked => (stream.read, stream.read.saturating_add(length)),
            Direction::Read => stream.take_read(length),
        };
        Some(Place { stream: id, start, end, offset })
    }

    pub(super) fn tell_transfer(
        &self,
        movement: &Movement,
        place: Place,
        counterpart: Option<Counterpart>,
        happenings: &mut Happenings,
    ) {
        happenings.push(|| {
            Happening::Transferred(Transfer {
                direction: movement.direction,
                descriptor: movement.descriptor,
                description: movement.description,
                stream: place.stream,
                start: place.start,
                offset: place.offset,
                length: movement.length,
                memory: first_bytes(&movement.memory, movement.length),
                peeked: movement.peeked,
                order_uncertain: movement.order_uncertain,
                begun: movement.begun,
                counterpart,
            })
        });
    }

    /// Moves positions on and tells; the place of the first byte, and the end of what was taken.
    pub(super) fn transfer(
        &mut self,
        movement: &Movement,
        happenings: &mut Happenings,
    ) -> Option<Place> {
        let place = self.place(movement)?;
        self.tell_transfer(movement, place, None, happenings);
        Some(place)
    }

    pub(super) fn counterpart(&self, id: DescriptionId, place: Place) -> Counterpart {
        let Place { stream, start, offset, .. } = place;
        Counterpart { description: id, stream, start, offset }
    }

    /// The result of lseek(2).
    pub(super) fn position(
        &mut self,
        id: DescriptionId,
        value: u64,
        from_end: Option<i64>,
        happenings: &mut Happenings,
    ) {
        let Some(description) = self.descriptions.get_mut(&id) else { return };
        description.offset = Some(Offset::exact(value));
        let file = description.file.and_then(|file| self.files.get_mut(&file));
        if let (Some(file), Some(distance)) = (file, from_end) {
            file.length = value.checked_add_signed(distance.saturating_neg());
        }
        happenings.push(|| Happening::Positioned { description: id, offset: Offset::exact(value) });
    }

    pub(super) fn resize(&mut self, id: DescriptionId, length: u64, happenings: &mut Happenings) {
        let file = self.descriptions.get(&id).and_then(|description| description.file);
        if let Some(file) = file.and_then(|file| self.files.get_mut(&file)) {
            file.length = Some(length);
        }
        happenings.push(|| Happening::Resized { description: id, length });
    }
}

impl Stream {
    fn take_written(&mut self, length: u64) -> (u64, u64) {
        let start = self.written;
        self.written = self.written.saturating_add(length);
        if let Some(messages) = &mut self.messages {
            messages.push_back(self.written);
        }
        (start, self.written)
    }

    /// Of a message all is taken, however little was asked for.
    fn take_read(&mut self, length: u64) -> (u64, u64) {
        let start = self.read;
        let end = start.saturating_add(length);
        let message = self.messages.as_mut().and_then(|messages| messages.pop_front());
        self.read = message.map_or(end, |message| message.max(end));
        (start, self.read)
    }
}

/// The first `length` bytes of some ranges.
pub fn first_bytes(ranges: &[Range<Address>], length: u64) -> Vec<Range<Address>> {
    let mut left = length;
    let mut first = Vec::new();
    for range in ranges {
        let taken = (range.end - range.start).min(left);
        if taken > 0 {
            first.push(range.start.range(taken));
            left -= taken;
        }
    }
    first
}
