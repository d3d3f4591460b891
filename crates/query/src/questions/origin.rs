//! `origin`: where a value came from.

use model::Moment;

use crate::ask::Asked;
use crate::engine::Engine;
use crate::eval::encoding;
use crate::failure::{Code, Failure};
use crate::frames::Stack;
use crate::origin::{Cell, Spot, Story, Trail, cell_bytes, state};
use crate::target::{Part, Subject};

/// Hops unless the asker says otherwise, and at most.
const HOPS: usize = 200;
const HOPS_MAX: usize = 10_000;

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let limit = asked.optional::<usize>("limit")?.unwrap_or(HOPS).min(HOPS_MAX);
    let told = (asked.offset()?, limit);
    let subject = Subject::read(engine, asked)?;
    let (tid, moment) = (subject.here.tid, subject.here.moment);
    // Registers of a frame that is not the innermost: as it had them when it called.
    let stack = Stack::at(engine, subject.here)?;
    let index = asked.request.focus.frame.and_then(|id| stack.find(id)).unwrap_or(0);
    let called = match index.checked_sub(1) {
        Some(inner) => stack.frames[inner].entry,
        None => moment,
    };
    let mut trails = Vec::new();
    let mut at = 0;
    for part in &subject.parts {
        let length = part.length();
        if let Some(trail) = trail(engine, &subject, part, at, (tid, moment, called))? {
            trails.push(trail);
        }
        at += length;
    }
    if trails.is_empty() {
        let what = format!("{} is nowhere at moment {moment}", subject.name);
        let failure = Failure::new(Code::NotAvailable, what);
        return Err(failure.hint("it is optimised out, or not mapped"));
    }
    Story::new(engine, asked, subject.shape, at, told).tell(trails)
}

/// Where the story of a part begins, if it is somewhere.
fn trail(
    engine: &mut Engine<'_>,
    subject: &Subject,
    part: &Part,
    at: u64,
    (tid, moment, called): (model::Tid, Moment, Moment),
) -> Result<Option<Trail>, Failure> {
    match *part {
        Part::Memory { address, length } if length > 0 => {
            let mut value = vec![0; length as usize];
            let session = engine.at(moment)?;
            let read = session.memory(tid).map(|memory| memory.read(address, &mut value));
            if !matches!(read, Some(Ok(()))) {
                return Ok(None);
            }
            let spot = Spot::Memory { space: subject.space, address };
            Ok(Some(Trail::new(at..at + length, value, spot, tid, moment)))
        }
        Part::Register { number, first, length } if length > 0 => {
            let cell = match (number, encoding(number)) {
                (_, Some(encoding)) => Cell::General(encoding as u8),
                (17..=32, _) => Cell::Vector((number - 17) as u8),
                _ => return Ok(None),
            };
            let bytes = cell_bytes(&state(engine, tid, called)?, cell).unwrap_or_default();
            let range = first as usize..(first + length) as usize;
            let Some(value) = bytes.get(range).map(<[u8]>::to_vec) else { return Ok(None) };
            let spot = Spot::Register { cell, first: first as u8 };
            Ok(Some(Trail::new(at..at + length, value, spot, tid, called)))
        }
        _ => Ok(None),
    }
}
