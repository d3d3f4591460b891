//! `calls`: system calls, as strace would tell them.

use model::Moment;
use serde::Serialize;

use crate::ask::{Asked, Flow, Side};
use crate::call_names;
use crate::engine::{Engine, Here};
use crate::failure::{Code, Failure};
use crate::history::TaskLife;
use crate::program::own_frame;
use crate::protocol::{Focus, FrameId, MomentText, Place};
use crate::questions::near;
use crate::system_calls::decode::{self, Part, finish, inputs, is_error};
use crate::system_calls::{
    Around, Kind, Outcome, Signature, SystemCall, around, in_leaf, memory, require, signature,
};

/// Calls that are looked at before their rows go out, the first time and at most: in order of
/// time, since going back costs more than going on.
const FIRST_PIECE: usize = 8;
const PIECE: usize = 64;

/// Which calls are wanted.
struct Wanted<'d> {
    descriptor: Option<i32>,
    number: Option<i32>,
    task: Option<&'d TaskLife>,
}

#[derive(Serialize)]
struct Row {
    /// When it began.
    moment: MomentText,
    task: u32,
    name: String,
    arguments: String,
    result: String,
    /// When it was over; absent if it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<MomentText>,
    /// Whether the recorder took its result from the preload library's buffer.
    buffered: bool,
    place: Place,
    focus: Focus,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    require(engine.db)?;
    let wanted = Wanted::read(engine, asked)?;
    let middle = asked.middle(here.moment)?;
    let leaf = engine.leaf_at(middle)?;
    let mut ahead = asked.wants(Side::After).then_some(leaf);
    let mut back = asked.wants(Side::Before).then_some(leaf);
    // What there is on a side that nobody wants is not counted.
    asked.exact &= ahead.is_some() && back.is_some();
    let leaves = engine.db.reader.leaves();
    let mut checked = 0;
    // Nearest first: one leaf of each side in turn.
    while ahead.is_some() || back.is_some() {
        if let Some(leaf) = ahead {
            let calls = in_leaf(engine, leaf)?;
            let first = calls.partition_point(|call| call.moment < middle);
            let flow = send(engine, asked, &wanted, &calls[first..], Side::After)?;
            ahead = (flow == Flow::More && leaf + 1 < leaves).then_some(leaf + 1);
            checked += 1;
        }
        if let Some(leaf) = back {
            let calls = in_leaf(engine, leaf)?;
            let end = calls.partition_point(|call| call.moment < middle);
            let flow = send(engine, asked, &wanted, &calls[..end], Side::Before)?;
            back = leaf.checked_sub(1).filter(|_| flow == Flow::More);
            checked += 1;
        }
        if asked.is_interrupted() {
            break;
        }
        asked.progress(checked, leaves);
    }
    Ok(())
}

impl<'d> Wanted<'d> {
    fn read(engine: &Engine<'d>, asked: &Asked<'_>) -> Result<Wanted<'d>, Failure> {
        let name: Option<String> = asked.optional("name")?;
        let number = name.map(|name| {
            call_names::number(&name).ok_or_else(|| {
                let what = format!("no system call is called `{name}`");
                Failure::new(Code::NoSuchName, what).hint(near(&name, call_names::names()))
            })
        });
        let task: Option<u32> = asked.optional("task")?;
        let tasks = &engine.db.history.tasks;
        let task = task.map(|number| {
            tasks.get((number as usize).wrapping_sub(1)).ok_or_else(|| {
                let what = format!("there is no task {number}, only 1 to {}", tasks.len());
                Failure::new(Code::NoSuchTask, what)
            })
        });
        Ok(Wanted {
            descriptor: asked.optional("descriptor")?,
            number: number.transpose()?,
            task: task.transpose()?,
        })
    }

    fn has(&self, engine: &mut Engine<'_>, call: &SystemCall) -> Result<bool, Failure> {
        let number = self.number.is_none_or(|number| number == call.number);
        let task = self.task.is_none_or(|wanted| {
            let task = engine.db.history.task(call.tid, call.moment);
            task.is_some_and(|task| task.number == wanted.number)
        });
        if !number || !task {
            return Ok(false);
        }
        match self.descriptor {
            Some(descriptor) => concerns(engine, call, descriptor),
            None => Ok(true),
        }
    }
}

/// Whether a descriptor is among a call's arguments, or comes of it.
fn concerns(engine: &mut Engine<'_>, call: &SystemCall, descriptor: i32) -> Result<bool, Failure> {
    let name = call_names::name(call.number);
    let Some(Signature { arguments, result }) = signature(&name) else { return Ok(false) };
    let given = arguments.iter().zip(call.arguments);
    let is = |kind: &Kind| matches!(kind, Kind::Descriptor | Kind::Directory);
    if given.clone().any(|(kind, value)| is(kind) && value as i32 == descriptor) {
        return Ok(true);
    }
    let makes = result == Kind::Descriptor
        // F_DUPFD, F_DUPFD_CLOEXEC
        || name == "fcntl" && matches!(call.arguments[1], 0 | 1030);
    let pair = given.clone().find(|(kind, _)| **kind == Kind::PairOut);
    if !makes && pair.is_none() {
        return Ok(false);
    }
    let outcome = call.outcome(&engine.db.history).filter(|outcome| !is_error(outcome.result));
    let Some(outcome) = outcome else { return Ok(false) };
    if makes {
        return Ok(outcome.result == i64::from(descriptor));
    }
    let Some((_, at)) = pair else { return Ok(false) };
    let over = around(engine, call, Some(outcome.moment))?.over.unwrap_or(outcome.moment);
    let memory = engine.at(over)?.memory(call.tid);
    let pair = memory.and_then(|memory| memory::pair(memory, model::Address(at)));
    Ok(pair.is_some_and(|pair| pair.contains(&descriptor)))
}

/// Sends rows of calls that are on one side, the nearest first.
fn send(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    wanted: &Wanted<'_>,
    calls: &[SystemCall],
    side: Side,
) -> Result<Flow, Failure> {
    let mut left = 0..calls.len();
    let mut size = FIRST_PIECE;
    loop {
        let room = asked.room(side);
        // One that there is no room for shows that there are more.
        let most = size.min(room + 1);
        size = (2 * size).min(PIECE);
        let mut piece = Vec::new();
        while piece.len() < most {
            let next = if side == Side::After { left.next() } else { left.next_back() };
            let Some(call) = next.map(|index| calls[index]) else { break };
            if wanted.has(engine, &call)? {
                piece.push(call);
            }
            if asked.is_interrupted() {
                return Ok(Flow::Full);
            }
        }
        if piece.is_empty() {
            return Ok(Flow::More);
        }
        let more = piece.len() > room;
        piece.truncate(room);
        if side == Side::Before {
            piece.reverse();
        }
        let mut rows = rows(engine, asked, &piece)?;
        if side == Side::Before {
            rows.reverse();
        }
        for row in rows {
            let _ = asked.row_at(side, row.moment.0, &row);
        }
        if more {
            return Ok(asked.row_at(side, Moment(0), &()));
        }
        if asked.is_interrupted() {
            return Ok(Flow::Full);
        }
    }
}

/// Of what is to be known about a call at a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    Place,
    Inputs,
    Outputs,
}

/// A row that is being filled in.
struct Draft {
    call: SystemCall,
    name: String,
    signature: Option<Signature>,
    task: u32,
    outcome: Option<Outcome>,
    around: Around,
    arguments: [u64; 6],
    parts: Vec<Part>,
    text: String,
    place: Place,
    /// The frame of the place.
    frame: Option<FrameId>,
}

/// Rows of calls that are in order of time; fewer if there is no time for all.
fn rows(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    calls: &[SystemCall],
) -> Result<Vec<Row>, Failure> {
    let mut drafts = Vec::new();
    let mut looks: Vec<(Moment, usize, Look)> = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        if asked.is_interrupted() {
            return Ok(Vec::new());
        }
        let draft = Draft::new(engine, call)?;
        looks.push((draft.around.before, index, Look::Place));
        looks.push((call.before(), index, Look::Inputs));
        let over = draft.around.over.filter(|_| draft.leaves_something());
        looks.extend(over.map(|over| (over, index, Look::Outputs)));
        drafts.push(draft);
    }
    // In order of time.
    looks.sort_unstable();
    for (moment, index, look) in looks {
        if asked.is_interrupted() {
            return Ok(Vec::new());
        }
        drafts[index].look(engine, moment, look)?;
    }
    Ok(drafts.into_iter().map(Draft::row).collect())
}

impl Draft {
    fn new(engine: &mut Engine<'_>, call: &SystemCall) -> Result<Draft, Failure> {
        let history = &engine.db.history;
        let outcome = call.outcome(history);
        let task = history.task(call.tid, call.moment).map_or(1, |task| task.number.0);
        let name = call_names::name(call.number);
        Ok(Draft {
            call: *call,
            signature: signature(&name),
            name,
            task,
            outcome,
            around: around(engine, call, outcome.map(|outcome| outcome.moment))?,
            arguments: call.arguments,
            parts: Vec::new(),
            text: String::new(),
            place: Place::default(),
            frame: None,
        })
    }

    fn result(&self) -> Option<i64> {
        self.outcome.map(|outcome| outcome.result)
    }

    /// Whether memory behind the call tells of it.
    fn leaves_something(&self) -> bool {
        let succeeded = self.result().is_some_and(|result| !is_error(result));
        let kinds = self.signature.map_or(&[][..], |signature| signature.arguments);
        succeeded && kinds.iter().any(|kind| kind.is_output())
    }

    fn look(&mut self, engine: &mut Engine<'_>, moment: Moment, look: Look) -> Result<(), Failure> {
        let tid = self.call.tid;
        match look {
            Look::Place => {
                let here = Here { moment, tid, task: self.task };
                if let Ok((frame, place)) = own_frame(engine, here) {
                    (self.frame, self.place) = (Some(frame), place);
                }
            }
            Look::Inputs => {
                let session = engine.at(moment)?;
                if self.call.is_in_library()
                    && let Some((number, arguments)) = session.call_of_library(tid)
                    && number == self.call.number
                {
                    self.arguments = arguments;
                }
                let memory = session.memory(tid);
                self.parts = inputs(&self.name, self.signature, self.arguments, memory);
                if !self.leaves_something() || self.around.over.is_none() {
                    self.write(None);
                }
            }
            Look::Outputs => {
                let memory = engine.at(moment)?.memory(tid);
                self.write(memory);
            }
        }
        Ok(())
    }

    fn write(&mut self, memory: Option<&machine::Space>) {
        let parts = std::mem::take(&mut self.parts);
        self.text = finish(parts, self.arguments, self.result(), memory);
    }

    fn row(self) -> Row {
        let kind = self.signature.map(|signature| signature.result);
        let result = decode::result(&self.name, self.arguments, kind, self.result());
        Row {
            moment: MomentText(self.call.moment),
            task: self.task,
            name: self.name,
            arguments: self.text,
            result,
            exit: self.outcome.map(|outcome| MomentText(outcome.moment)),
            buffered: self.call.is_buffered(),
            place: self.place,
            focus: Focus { frame: self.frame, ..Focus::at(self.around.before, self.task) },
        }
    }
}
