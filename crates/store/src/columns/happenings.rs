//! Events at their moments.

use model::{Event, Moment};

use crate::bytes::{join, put_varint, split, unzigzag, zigzag};
use crate::error::Malformed;
use crate::items::Happening;
use crate::section::{Codec, Key};

/// Bytes that an event may carry; more belongs elsewhere (most of it is in the recording).
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

#[derive(Debug)]
pub struct Happenings;

impl Codec for Happenings {
    type Item = Happening;

    fn key(item: &Happening) -> Key {
        (0, item.moment.0)
    }

    fn size(item: &Happening) -> usize {
        6 + item.payload.len()
    }

    fn check(before: Option<&Happening>, item: &Happening) -> Result<(), &'static str> {
        let key = |item: &Happening| (item.moment, item.event);
        if before.is_some_and(|before| key(before) > key(item)) {
            return Err("it is before the one before");
        }
        if item.payload.len() > PAYLOAD_BYTES_MAX {
            return Err("it carries more than 16 MiB");
        }
        Ok(())
    }

    fn encode(items: &[Happening], _: u8, out: &mut Vec<u8>) {
        let [mut moments, mut events, mut kinds, mut lengths] = [const { Vec::new() }; 4];
        let mut payloads = Vec::new();
        let (mut moment, mut event) = (0, 0);
        for item in items {
            put_varint(&mut moments, item.moment.0 - moment);
            put_varint(&mut events, zigzag(item.event.0.wrapping_sub(event) as i64));
            put_varint(&mut kinds, u64::from(item.kind));
            put_varint(&mut lengths, item.payload.len() as u64);
            payloads.extend_from_slice(&item.payload);
            (moment, event) = (item.moment.0, item.event.0);
        }
        join([&moments, &events, &kinds, &lengths, &payloads], out);
    }

    fn decode(raw: &[u8], items: usize) -> Result<Vec<Happening>, Malformed> {
        let [mut moments, mut events, mut kinds, mut lengths, mut payloads] = split(raw)?;
        if moments.rest_len() < items {
            return Err(Malformed("there are fewer events"));
        }
        let mut out = Vec::with_capacity(items);
        let (mut moment, mut event) = (0_u64, 0_u64);
        for _ in 0..items {
            let distance = moments.varint()?;
            moment = moment.checked_add(distance).ok_or(Malformed("a moment overflows"))?;
            event = event.wrapping_add(unzigzag(events.varint()?) as u64);
            let kind = u16::try_from(kinds.varint()?)
                .map_err(|_| Malformed("the kind of an event is too large"))?;
            let length = usize::try_from(lengths.varint()?).unwrap_or(usize::MAX);
            let payload = payloads.bytes(length)?.to_vec();
            let (moment, event) = (Moment(moment), Event(event));
            out.push(Happening { moment, event, kind, payload });
        }
        for column in [moments, events, kinds, lengths, payloads] {
            column.end()?;
        }
        Ok(out)
    }

    fn memory(item: &Happening) -> usize {
        size_of::<Happening>() + item.payload.len()
    }
}
