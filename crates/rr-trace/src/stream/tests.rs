//! Blocks, packing and their limits, on streams made by hand.

use capnp::message::Builder;

use super::source::Input;
use super::{
    BlockReader, BlockTable, DataStream, MMaps, Messages, Piece, Plain, Source, StreamPosition,
    Tasks,
};
use crate::testing::{blocks, name, packed, stored, tiny_segments};
use crate::trace_capnp as schema;
use crate::{Error, Hole, MemWrite};
use model::{Address, Event, Tid};

fn read_all(stream: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = BlockReader::new(Source::from_bytes(name(), stream));
    let mut all = Vec::new();
    loop {
        let part = reader.fill()?;
        if part.is_empty() {
            return Ok(all);
        }
        let length = part.len();
        all.extend_from_slice(part);
        reader.consume(length);
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

#[test]
fn blocks_make_one_stream() {
    for (length, block_length) in [(0, 1), (1, 1), (1000, 7), (200_000, 65_536), (200_000, 70_000)]
    {
        let content = bytes(length);
        let stream = blocks(&content, block_length);
        assert_eq!(read_all(&stream).unwrap(), content);
        let table = BlockTable::read(&Source::from_bytes(name(), &stream)).unwrap();
        assert_eq!(table.stream_length(), length as u64);
    }
}

#[test]
fn every_truncation_is_an_error_with_an_offset() {
    let content = bytes(50);
    let stream = blocks(&content, 20);
    let mut ends = vec![0];
    while let Some(header) = stream.get(*ends.last().unwrap()..).filter(|rest| !rest.is_empty()) {
        ends.push(ends.last().unwrap() + 8 + usize::from(header[0]));
    }
    for length in 0..stream.len() {
        match read_all(&stream[..length]) {
            Ok(read) => assert!(ends.contains(&length) && content.starts_with(&read)),
            Err(Error::Truncated { offset, .. }) => assert!(ends.contains(&(offset as usize))),
            Err(other) => panic!("{length}: {other}"),
        }
    }
}

#[test]
fn claims_of_blocks_are_compared_with_their_data() {
    let block = |length: u32, compressed: &[u8]| {
        let mut stream = (compressed.len() as u32).to_le_bytes().to_vec();
        stream.extend(length.to_le_bytes());
        stream.extend(compressed);
        read_all(&stream).map_err(|error| error.to_string())
    };
    let good = stored(b"hello");
    assert_eq!(block(5, &good).unwrap(), b"hello");
    assert_eq!(
        block(4, &good).unwrap_err(),
        "made: corrupt at offset 0: a block has 5 bytes but claims 4 (offset in the file)"
    );
    assert!(block(6, &good).unwrap_err().contains("a block has 5 bytes but claims 6"));
    assert!(block(5, &good[..good.len() - 1]).unwrap_err().contains("breaks off"));
    assert!(block(5, &[&good[..], b"x"].concat()).unwrap_err().contains("1 bytes behind"));
    assert!(block(5, &[0xff; 20]).unwrap_err().contains("damaged"));
    assert!(block(u32::MAX, &good).unwrap_err().contains("exceeds the limit"));
    // "Large window" Brotli, which could ask for 1 GiB.
    assert!(block(5, &[0x11, 0x1e, 0, 0, 0]).unwrap_err().contains("damaged"));
}

#[test]
fn skipping_and_seeking_arrive_at_the_same_bytes() {
    let content = bytes(5000);
    let source = Source::from_bytes(name(), &blocks(&content, 700));
    let table = BlockTable::read(&source).unwrap();
    for offset in (0..=5000).step_by(50) {
        let mut skipping = BlockReader::new(source.clone());
        skipping.skip(offset as u64 / 2).unwrap();
        if offset % 100 == 0 {
            skipping.fill().unwrap();
        }
        skipping.skip(offset as u64 - offset as u64 / 2).unwrap();
        let mut seeking = BlockReader::new(source.clone());
        seeking.fill().unwrap();
        seeking.seek(table.position(offset as u64).unwrap()).unwrap();
        let mut again = BlockReader::new(source.clone());
        again.seek(skipping.position()).unwrap();
        for reader in [&mut skipping, &mut seeking, &mut again] {
            assert_eq!(reader.position().offset, offset as u64);
            let part = reader.fill().unwrap();
            assert_eq!(part, &content[offset..offset + part.len()]);
            assert_eq!(part.is_empty(), offset == content.len());
        }
    }
    let mut reader = BlockReader::new(source);
    assert!(matches!(reader.skip(5001), Err(Error::Truncated { .. })));
    let numbers = [0, 1, 5000, u64::MAX / 2, u64::MAX];
    for (block_offset, offset_in_block) in numbers.into_iter().flat_map(|a| numbers.map(|b| (a, b)))
    {
        for offset in numbers {
            let position = StreamPosition { block_offset, offset_in_block, offset };
            _ = reader.seek(position).and_then(|()| reader.fill().map(<[u8]>::len));
        }
    }
}

#[test]
fn holes_are_zeroes_that_are_not_in_the_stream() {
    let write = |length, holes: &[(u64, u64)]| MemWrite {
        tid: Tid(1),
        address: Address(0x1000),
        length,
        holes: holes.iter().map(|&(offset, length)| Hole { offset, length }).collect(),
        length_is_conservative: false,
    };
    let mut data = DataStream::from_bytes(name(), &blocks(b"abcdefgh", 3));
    let first = write(10, &[(0, 2), (4, 1), (5, 0), (7, 3)]);
    assert_eq!(first.payload_length(), 4);
    assert_eq!(data.read_to_vec(&first, 10).unwrap(), b"\0\0ab\0cd\0\0\0");
    let too_much = data.read_to_vec(&write(1 << 40, &[(0, 1 << 40)]), 1 << 30);
    assert!(matches!(too_much, Err(Error::TooLarge { .. })));
    for bad in [write(4, &[(2, 1), (1, 1)]), write(4, &[(3, 2)]), write(4, &[(u64::MAX, 1)])] {
        assert!(matches!(data.read_to_vec(&bad, 10), Err(Error::Corrupt { .. })), "{bad:?}");
    }
    data.seek(Default::default()).unwrap();
    data.skip(&first).unwrap();
    let mut huge = 0;
    data.read_write::<Error>(&write(1 << 60, &[(1, (1 << 60) - 2)]), |piece| {
        if let Piece::Zeros { offset: 1, length } = piece {
            huge = length;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(huge, (1 << 60) - 2);
    let error = data.read_to_vec(&write(5, &[]), 10).unwrap_err().to_string();
    assert_eq!(error, "made: truncated at offset 8: a memory write needs 3 bytes more");
}

/// Task events with command lines of many shapes, so that packing has all kinds of runs.
fn task_events() -> Vec<u8> {
    let mut all = Vec::new();
    for index in 0..40 {
        let mut message = if index % 2 == 0 { tiny_segments() } else { Builder::new_default() };
        let mut event = message.init_root::<schema::task_event::Builder<'_>>();
        event.set_frame_time(index);
        let exec = event.init_exec();
        let mut command_line = exec.init_cmd_line(index as u32);
        for argument in 0..index {
            let byte = if argument % 3 == 0 { 0 } else { 0x5a };
            command_line.set(argument as u32, &vec![byte; argument as usize * 11]);
        }
        all.extend(packed(&message));
    }
    all
}

#[test]
fn messages_cross_blocks_of_any_length() {
    let stream = task_events();
    let plain: Vec<_> =
        Tasks::from_bytes(name(), &blocks(&stream, usize::MAX)).map(Result::unwrap).collect();
    assert_eq!(plain.len(), 40);
    for block_length in [1, 2, 3, 9, 10, 11, 64, 1000] {
        let mut tasks = Tasks::from_bytes(name(), &blocks(&stream, block_length));
        for (index, expected) in plain.iter().enumerate() {
            assert_eq!(expected.event, Event(index as u64));
            if index > 0 {
                assert_eq!(tasks.next_until(Event(index as u64 - 1)).unwrap(), None);
            }
            let position = tasks.position();
            assert_eq!(tasks.next_until(expected.event).unwrap().as_ref(), Some(expected));
            tasks.seek(position).unwrap();
            assert_eq!(&tasks.next().unwrap().unwrap(), expected);
        }
        assert!(tasks.next().is_none());
    }
}

#[test]
fn unpacking_equals_the_reference_implementation() {
    let stream = task_events();
    let mut ours = Messages::new(Plain::new(name(), &stream, 0));
    let mut theirs = &stream[..];
    loop {
        let expected = capnp::serialize_packed::try_read_message(&mut theirs, Default::default());
        let expected = expected.unwrap().map(|m| m.canonicalize().unwrap());
        let found = ours.next(|message| message.reader.canonicalize()).unwrap();
        assert!(found == expected);
        if found.is_none() {
            break;
        }
    }
}

#[test]
fn hostile_messages_are_refused_before_memory_is_claimed() {
    let error = |packed: &[u8]| {
        let mut mmaps = MMaps::from_bytes(name(), &blocks(packed, 1000));
        let error = mmaps.next().unwrap().unwrap_err();
        assert!(mmaps.next().is_none(), "ends after an error");
        error.to_string()
    };
    // 2^32 segments; one segment of 2^32 - 1 words; 64 MiB that are not there.
    assert!(error(&[0x0f, 0xff, 0xff, 0xff, 0xff]).contains("segments"));
    assert!(error(&[0xf0, 0xff, 0xff, 0xff, 0xff]).contains("exceeds the limit"));
    assert!(error(&[0x40, 0x80]).contains("ends inside a message"));
    // A message of one word, and zeroes announced beyond it.
    assert!(error(&[0x10, 1, 0x00, 3]).contains("a run of words crosses messages"));
    // A root struct pointer that leads outside.
    assert!(error(&[0x10, 1, 0x11, 0x40, 1]).contains("made: corrupt at offset 0: "));
    // Nothing at all behind the first byte of a message.
    assert!(error(&[0xff]).contains("truncated at offset 0"));
}
