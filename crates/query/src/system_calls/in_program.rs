//! Where a system call is in the program, if the recorder's library made it: the program's own
//! `syscall` instruction was replaced by a jump into the library, which goes to another stack.

use model::{Address, Moment, Tid, gpr};

use super::SystemCall;
use crate::engine::Engine;
use crate::exits::{Left, exit};
use crate::failure::Failure;
use crate::frames::calls_at;
use crate::stretch::{FrameChange, FrameKind};

/// Instructions between the program's jump and the library, at most.
const STUB_INSTRUCTIONS: u64 = 32;

/// The program's side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Around {
    /// In front of the instruction that makes the call.
    pub before: Moment,
    /// When the library has handed over what the call left in memory; at the call's end if there
    /// is no library between.
    pub over: Option<Moment>,
}

/// The program's side of a call that was over at a moment.
pub fn around(
    engine: &mut Engine<'_>,
    call: &SystemCall,
    over: Option<Moment>,
) -> Result<Around, Failure> {
    let before = call.before();
    if !call.is_in_library() {
        return Ok(Around { before, over });
    }
    let tid = call.tid;
    let Some(entered) = library_frame(engine, tid, call.moment)? else {
        return Ok(Around { before, over });
    };
    let ended = match over {
        Some(_) => exit(engine, tid, &entered)?,
        None => return Ok(Around { before: program(engine, tid, entered.entry)?, over }),
    };
    let returned = ended.moment.filter(|_| ended.left == Left::Returned);
    Ok(Around { before: program(engine, tid, entered.entry)?, over: returned.or(over) })
}

/// The last moment at which a task was in its program's code, if it is in the recorder's library;
/// else none.
pub fn left_program(
    engine: &mut Engine<'_>,
    tid: Tid,
    moment: Moment,
) -> Result<Option<Moment>, Failure> {
    match library_frame(engine, tid, moment)? {
        Some(entered) => program(engine, tid, entered.entry).map(Some),
        None => Ok(None),
    }
}

/// The outermost of the library's frames that a task is in.
fn library_frame(
    engine: &mut Engine<'_>,
    tid: Tid,
    moment: Moment,
) -> Result<Option<FrameChange>, Failure> {
    let session = engine.at(moment)?;
    let space = session.space_id(tid).map_or(0, |space| space.0);
    let pointer = session.registers(tid).unwrap_or_default().general[gpr::RSP];
    let frames = calls_at(engine, tid, (moment, pointer))?;
    let mut outermost = None;
    for frame in frames.iter().rev() {
        if !is_recorders(engine, space, frame.function, moment) {
            break;
        }
        outermost = Some(FrameChange {
            moment: frame.entry,
            tid,
            kind: FrameKind::Call,
            entry: frame.entry,
            function: frame.function,
            slot: frame.slot.unwrap_or_default(),
            depth: 0,
        });
    }
    Ok(outermost)
}

/// Whether code is the recorder's.
fn is_recorders(engine: &Engine<'_>, space: u32, address: Address, moment: Moment) -> bool {
    if super::STUBS.contains(&address.0) {
        return true;
    }
    let mapped = engine.db.history.mapped(space, address, moment);
    let name = mapped.map_or("", |mapped| &mapped.name);
    let name = name.rsplit('/').next().unwrap_or(name);
    ["librrpreload", "librrpage"].iter().any(|library| name.starts_with(library))
}

/// The last moment before the library was entered at which the task was in the program's code,
/// not in the stub, which is in memory that belongs to no file.
fn program(engine: &mut Engine<'_>, tid: Tid, entered: Moment) -> Result<Moment, Failure> {
    let mut found = None;
    for moment in entered.0.saturating_sub(STUB_INSTRUCTIONS)..entered.0 {
        let moment = Moment(moment);
        let session = engine.at(moment)?;
        let (Some(registers), Some(space)) = (session.registers(tid), session.space_id(tid)) else {
            continue;
        };
        let named = engine.db.history.mapped(space.0, registers.rip, moment).is_some();
        if named && !is_recorders(engine, space.0, registers.rip, moment) {
            found = Some(moment);
        }
    }
    Ok(found.unwrap_or(entered))
}
