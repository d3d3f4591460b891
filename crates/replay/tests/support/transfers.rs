//! Follows all bytes that a recording moves through descriptors, and checks them by content.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use machine::Space;
use replay::{
    Counterpart, Description, DescriptionId, DescriptorEvent, DescriptorObserver, Direction,
    Happening, Kind, StreamId, Transfer,
};

/// What was seen of a recording.
#[derive(Debug, Default)]
pub struct Seen {
    /// Bytes written to what was standard output and error when the recording began.
    pub output: [Vec<u8>; 2],
    pub events: Vec<DescriptorEvent>,
    descriptions: BTreeMap<DescriptionId, Description>,
    written: BTreeMap<StreamId, Vec<u8>>,
    read: Vec<(StreamId, u64, Vec<u8>)>,
    /// Transfers between a file of known content and memory.
    pub checked_in_files: u64,
}

#[derive(Debug)]
pub struct Follower(Rc<RefCell<Seen>>);

impl Follower {
    pub fn new() -> (Box<Follower>, Rc<RefCell<Seen>>) {
        let seen = Rc::new(RefCell::new(Seen::default()));
        (Box::new(Follower(Rc::clone(&seen))), seen)
    }
}

/// The byte at an offset of a file whose name ends with `.pat`.
pub fn pattern(offset: u64) -> u8 {
    (offset * 7 + (offset >> 8) * 13 + (offset >> 16) * 29 + 1) as u8
}

fn is_patterned(description: &Description) -> bool {
    description.path.as_deref().is_some_and(|path| path.ends_with(b".pat"))
        || description.path.as_deref() == Some(b"memory")
}

impl DescriptorObserver for Follower {
    fn observe(&mut self, event: &DescriptorEvent, memory: &Space) {
        let seen = &mut *self.0.borrow_mut();
        match &event.what {
            Happening::Opened { description, .. } | Happening::Described { description } => {
                seen.descriptions.insert(description.id, description.clone());
            }
            Happening::Transferred(transfer) => seen.transferred(event, transfer, memory),
            _ => {}
        }
        seen.events.push(event.clone());
    }
}

impl Seen {
    fn transferred(&mut self, event: &DescriptorEvent, transfer: &Transfer, memory: &Space) {
        let description = self.descriptions.get(&transfer.description);
        let description = description.unwrap_or_else(|| panic!("unknown: {event:?}")).clone();
        let mut bytes = Vec::new();
        for range in &transfer.memory {
            let mut part = vec![0; (range.end - range.start) as usize];
            memory
                .read(range.start, &mut part)
                .unwrap_or_else(|error| panic!("{event:?}: {error}"));
            bytes.extend(part);
        }
        if let Some(counterpart) = &transfer.counterpart {
            assert_eq!(transfer.memory, [], "{event:?}");
            if transfer.direction == Direction::Read {
                return;
            }
            bytes = self.moved(counterpart, transfer.length);
        }
        assert!(!transfer.order_uncertain, "{event:?}");
        // Only MSG_TRUNC says more than it gives.
        assert_eq!(bytes.len() as u64, transfer.length, "{event:?}");
        if is_patterned(&description) {
            let offset = transfer.offset.unwrap_or_else(|| panic!("no offset: {event:?}"));
            let places = offset.value..offset.value + transfer.length;
            let expected: Vec<u8> = places.map(pattern).collect();
            assert_eq!(bytes, expected, "{event:?}");
            self.checked_in_files += transfer.length;
        }
        match transfer.direction {
            Direction::Write => {
                if let Some(number @ (1 | 2)) = description.inherited {
                    self.output[number as usize - 1].extend(&bytes);
                }
                let stream = self.written.entry(transfer.stream).or_default();
                assert_eq!(stream.len() as u64, transfer.start, "{event:?}");
                stream.extend(&bytes);
            }
            Direction::Read if is_tied(&description.kind) => {
                self.read.push((transfer.stream, transfer.start, bytes));
            }
            Direction::Read => {}
        }
    }

    /// Bytes that the kernel moved between two descriptors.
    fn moved(&self, from: &Counterpart, length: u64) -> Vec<u8> {
        let description = &self.descriptions[&from.description];
        if is_patterned(description) {
            let offset = from.offset.expect("the offset in a file is known").value;
            return (offset..offset + length).map(pattern).collect();
        }
        let stream = self.written.get(&from.stream).map_or(&[][..], Vec::as_slice);
        let range = from.start as usize..(from.start + length) as usize;
        stream.get(range).map_or_else(|| vec![0; length as usize], <[u8]>::to_vec)
    }

    /// Compares what was read from pipes and connections with what was written there; the bytes
    /// that were compared. What no task of the recording wrote cannot be known.
    pub fn check_streams(&self, name: &str) -> u64 {
        let mut compared = 0;
        for (stream, start, bytes) in &self.read {
            let Some(written) = self.written.get(stream) else { continue };
            let range = *start as usize..*start as usize + bytes.len();
            let expected = written.get(range.clone());
            let expected =
                expected.unwrap_or_else(|| panic!("{name}: {stream:?} {range:?} not written"));
            assert!(bytes == expected, "{name}: {stream:?} {range:?} differs");
            compared += bytes.len() as u64;
        }
        compared
    }

    /// Each descriptor that is used or closed was opened, and at the end none is left.
    pub fn check_lives(&self, name: &str) {
        let mut open: BTreeMap<_, BTreeMap<i32, DescriptionId>> = BTreeMap::new();
        for event in &self.events {
            let place = |descriptor: i32| format!("{name}: descriptor {descriptor}: {event:?}");
            if let Happening::Copied { from } = event.what {
                let copy = open.get(&from).cloned().unwrap_or_default();
                open.insert(event.table, copy);
                continue;
            }
            let table = open.entry(event.table).or_default();
            match &event.what {
                Happening::Opened { descriptor, description, .. } => {
                    let before = table.insert(*descriptor, description.id);
                    assert_eq!(before, None, "{}", place(*descriptor));
                }
                Happening::Duplicated { descriptor, description, .. }
                | Happening::Received { descriptor, description, .. } => {
                    let before = table.insert(*descriptor, *description);
                    assert_eq!(before, None, "{}", place(*descriptor));
                }
                Happening::Closed { descriptor, description, .. } => {
                    let before = table.remove(descriptor);
                    assert_eq!(before, Some(*description), "{}", place(*descriptor));
                }
                Happening::Sent { descriptor, description, .. } => {
                    assert_eq!(table.get(descriptor), Some(description), "{}", place(*descriptor));
                }
                Happening::Transferred(Transfer { descriptor, description, .. }) => {
                    assert_eq!(table.get(descriptor), Some(description), "{}", place(*descriptor));
                }
                _ => {}
            }
        }
        assert!(open.values().all(BTreeMap::is_empty), "{name}: left open: {open:?}");
    }
}

fn is_tied(kind: &Kind) -> bool {
    matches!(kind, Kind::Pipe | Kind::Socket { .. })
}
