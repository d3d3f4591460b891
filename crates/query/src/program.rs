//! The program itself, without what the recorder put into it.

use model::Address;

use crate::ask::Asked;
use crate::database::Database;
use crate::engine::{Engine, Here};
use crate::failure::{Code, Failure};
use crate::frame_path::{Walk, backwards};
use crate::frames::{Stack, spot};
use crate::protocol::{FrameId, Place};

/// The recorder has system calls made in a page of its own, which no call history leads out of:
/// its addresses.
const RECORDER: std::ops::Range<u64> = 0x7000_0000..0x7000_1000;
/// Names of what it has loaded into the program.
const LIBRARIES: [&str; 2] = ["librrpreload.so", "librrpage.so"];
/// Instructions of one call of its library that are walked over, at most.
const WALK_MAX: u64 = 200_000;

/// Whether code belongs to the recorder: its library, its page, and the stubs in memory without
/// a name that lead there.
fn is_recorder(db: &Database, space: u32, address: Address, here: Here) -> Recorder {
    if RECORDER.contains(&address.0) {
        return Recorder::Yes;
    }
    match db.history.mapped(space, address, here.moment) {
        Some(mapped) if LIBRARIES.iter().any(|name| mapped.name.ends_with(name)) => Recorder::Yes,
        Some(mapped) if !mapped.name.is_empty() => Recorder::No,
        _ => Recorder::Stub,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recorder {
    Yes,
    No,
    /// If it leads to the recorder's library.
    Stub,
}

/// A task in its program: at the instruction that led into the recorder's code, if it is there.
pub fn in_program(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    here: Here,
) -> Result<Here, Failure> {
    let session = engine.at(here.moment)?;
    let (Some(registers), Some(space)) = (session.registers(here.tid), session.space_id(here.tid))
    else {
        return Ok(here);
    };
    if is_recorder(engine.db, space.0, registers.rip, here) != Recorder::Yes {
        return Ok(here);
    }
    let mut found = here;
    backwards(engine, asked, here.tid, here.moment, |engine, step| {
        if here.moment - step.moment > WALK_MAX {
            return Ok(Walk::Stop);
        }
        if is_recorder(engine.db, step.space, step.address, here) != Recorder::No {
            return Ok(Walk::On);
        }
        found.moment = step.moment;
        Ok(Walk::Stop)
    })?;
    Ok(found)
}

/// The innermost frame of the user's own code, else the innermost of all.
pub fn own_frame(engine: &mut Engine<'_>, here: Here) -> Result<(FrameId, Place), Failure> {
    let Own { frame, place, .. } = own_call(engine, here)?;
    Ok((frame, place))
}

/// See [`own_call`].
#[derive(Clone, Debug)]
pub struct Own {
    pub frame: FrameId,
    pub place: Place,
    /// The function of the system's that it has called, if it is in one.
    pub called: Option<String>,
}

/// As [`own_frame`], and what it has called.
pub fn own_call(engine: &mut Engine<'_>, here: Here) -> Result<Own, Failure> {
    let stack = Stack::at(engine, here)?;
    let mut first = None;
    let mut called = None;
    for (index, frame) in stack.frames.iter().enumerate() {
        let spot = spot(engine, here, stack.space, frame);
        for inlined in (0..spot.levels()).rev() {
            let place = spot.place(inlined);
            let id = FrameId { entry: frame.entry, inlined: inlined as u32 };
            if place.own {
                // A stub of the linker knows the name that was called; what it leads to may be
                // one of several functions for the same.
                let inner = index.checked_sub(1).map(|inner| stack.frames[inner].function);
                let stub = inner.and_then(|function| {
                    let spot = engine.places.look(engine.db, stack.space, function, here.moment);
                    Some(spot.place(0).function?.strip_suffix("@plt")?.to_owned())
                });
                return Ok(Own { frame: id, place, called: stub.or(called) });
            }
            called.clone_from(&place.function);
            first.get_or_insert(Own { frame: id, place, called: None });
        }
    }
    first.ok_or_else(|| Failure::new(Code::NoSuchFrame, "the task is in no call then"))
}
