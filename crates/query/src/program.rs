//! The program itself, without what the recorder put into it.

use crate::engine::{Engine, Here};
use crate::failure::{Code, Failure};
use crate::frames::{Stack, spot};
use crate::protocol::{FrameId, Place};
use crate::system_calls::left_program;

/// A task in its program: in front of the recorder's code, if it is in that. The recorder has
/// system calls made by a library of its own, on a stack that no call history leads out of.
pub fn in_program(engine: &mut Engine<'_>, here: Here) -> Result<Here, Failure> {
    let before = left_program(engine, here.tid, here.moment)?;
    Ok(Here { moment: before.unwrap_or(here.moment), ..here })
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
