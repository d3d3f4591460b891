//! The innermost call of each task, as it changes.

use std::collections::BTreeMap;

use index::records::{CallersRecord, ForkRecord, blob, decode};
use index::stacks::Stacks;
use model::{Address, Call, Moment, Tid};

use super::decode::{HandlerEvent, HandlerEventKind};
use crate::database::Database;
use crate::failure::{Code, Failure};

/// Addresses that are further apart are taken to be of different stacks.
pub const STACK_BYTES: u64 = 1 << 20;

/// What made a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    Call,
    /// The kernel called a signal's handler.
    Handler,
    /// Nothing that was seen: the program's start.
    Start,
}

/// From a moment on, a task is in this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameChange {
    pub moment: Moment,
    pub tid: Tid,
    pub kind: FrameKind,
    /// Behind what made it; 0 for [`FrameKind::Start`].
    pub entry: Moment,
    /// Where the call went.
    pub function: Address,
    /// Where the return address lies.
    pub slot: Address,
    /// How many frames are around it on its stack.
    pub depth: u32,
}

/// A signal handler that has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handler {
    pub moment: Moment,
    pub function: Address,
    /// Not known of those that began in an earlier leaf.
    pub slot: Option<Address>,
}

impl Handler {
    /// Whether a task is still in the handler whose stack pointer leaves this slot to the next
    /// call, and the outermost call of whose stack began at `first`. A handler may have been left
    /// by a jump, also from a stack of its own.
    pub fn holds(&self, next: u64, first: Option<Moment>) -> bool {
        let Some(Address(slot)) = self.slot else { return true };
        if next < slot && slot - next < STACK_BYTES {
            return true;
        }
        let is_left = next >= slot && next - slot < STACK_BYTES;
        // On another stack, which the handler has come to: its calls are newer.
        !is_left && first.is_none_or(|first| first > self.moment)
    }
}

/// Follows calls, returns and signal handlers of all tasks.
#[derive(Debug)]
pub struct Following {
    pub stacks: Stacks,
    pub handlers: BTreeMap<Tid, Vec<Handler>>,
}

impl Following {
    /// At the beginning of a leaf.
    pub fn at_border(db: &Database, leaf: u64) -> Result<Following, Failure> {
        let stacks = index::stacks_at(&db.reader, leaf)?;
        let start = db.reader.span(leaf)?.start;
        Ok(Following { stacks, handlers: handlers_before(db, start) })
    }

    /// The innermost frame of a task, from a moment on.
    fn innermost(&self, tid: Tid, moment: Moment) -> FrameChange {
        let frames = self.stacks.frames(tid);
        let handlers = self.handlers.get(&tid).map_or(&[][..], Vec::as_slice);
        let depth = (frames.len() + handlers.len()).saturating_sub(1) as u32;
        let (last, handler) = (frames.last(), handlers.last());
        match (last, handler) {
            (frame, Some(handler))
                if frame.is_none_or(|frame| frame.moment <= handler.moment.0) =>
            {
                FrameChange {
                    moment,
                    tid,
                    kind: FrameKind::Handler,
                    entry: handler.moment,
                    function: handler.function,
                    slot: handler.slot.unwrap_or_default(),
                    depth,
                }
            }
            (Some(frame), _) => FrameChange {
                moment,
                tid,
                kind: FrameKind::Call,
                entry: Moment(frame.moment),
                function: frame.function,
                slot: frame.slot,
                depth,
            },
            (None, _) => FrameChange {
                moment,
                tid,
                kind: FrameKind::Start,
                entry: Moment(0),
                function: Address(0),
                slot: Address(0),
                depth: 0,
            },
        }
    }

    /// Returns the task whose innermost frame it changes.
    pub fn transfer(&mut self, transfer: &Transfer) -> Tid {
        let (tid, space, call) = match transfer {
            Transfer::Call(tid, space, call) => (*tid, *space, call),
            Transfer::Fork(fork) => {
                self.stacks.fork(fork.parent, fork.child, fork.space);
                let handlers = self.handlers.get(&fork.parent).cloned();
                self.handlers.insert(fork.child, handlers.unwrap_or_default());
                return fork.child;
            }
        };
        self.stacks.follow(tid, space, std::slice::from_ref(call));
        if let Some(handlers) = self.handlers.get_mut(&tid) {
            let slot = call.stack.0.wrapping_sub(if call.is_call { 0 } else { 8 });
            let first = self.stacks.frames(tid).first().map(|frame| Moment(frame.moment));
            while handlers.pop_if(|handler| !handler.holds(slot, first)).is_some() {}
        }
        tid
    }

    pub fn handler(&mut self, event: &HandlerEvent) {
        let handlers = self.handlers.entry(event.tid).or_default();
        match event.kind {
            HandlerEventKind::Began { function, slot } => {
                handlers.push(Handler { moment: event.moment, function, slot: Some(slot) });
            }
            HandlerEventKind::Returned => {
                handlers.pop();
            }
        }
    }
}

/// Handlers that had begun before a moment and had not returned.
pub fn handlers_before(db: &Database, moment: Moment) -> BTreeMap<Tid, Vec<Handler>> {
    let mut handlers: BTreeMap<Tid, Vec<Handler>> = BTreeMap::new();
    let history = &db.history;
    for event in history.events().iter().take_while(|event| event.moment <= moment) {
        let kind = history.kind(event);
        if kind.starts_with("SIGNAL_HANDLER") {
            let handler = Handler { moment: event.moment, function: event.rip, slot: None };
            handlers.entry(event.tid).or_default().push(handler);
        } else if kind == "SYSCALL 15 exiting"
            && let Some(open) = handlers.get_mut(&event.tid)
        {
            open.pop();
        } else if kind == "EXIT" {
            handlers.remove(&event.tid);
        }
    }
    handlers
}

/// Something that changes call stacks.
#[derive(Clone, Copy, Debug)]
pub enum Transfer {
    /// A call or return of a task in an address space.
    Call(Tid, u32, Call),
    Fork(ForkRecord),
}

impl Transfer {
    pub fn moment(&self) -> Moment {
        match self {
            Transfer::Call(_, _, call) => call.moment,
            Transfer::Fork(fork) => fork.moment,
        }
    }
}

/// What changes call stacks in a leaf, in order of time.
pub fn transfers(db: &Database, leaf: u64) -> Result<Vec<Transfer>, Failure> {
    let open = db.reader.leaf(leaf)?;
    let bytes = open.blob(blob::CALLERS)?.collect::<Result<Vec<_>, _>>()?.concat();
    let callers: CallersRecord = decode(leaf, &bytes)?;
    let mut by_task = BTreeMap::new();
    let tasks: Vec<Tid> = open.tasks_with_calls().collect();
    for tid in tasks {
        by_task.insert(tid, open.calls(tid, Moment(0))?);
    }
    let mut all = Vec::new();
    let mut forks = callers.forks.iter().copied().peekable();
    for run in &callers.runs {
        let Some(calls) = by_task.get_mut(&run.tid) else { continue };
        for _ in 0..run.calls {
            let call = calls.next().transpose()?.ok_or_else(|| {
                Failure::new(Code::Database, "its calls are not those it says")
                    .at(format!("leaf {leaf}"))
            })?;
            while let Some(fork) = forks.next_if(|fork| fork.moment < call.moment) {
                all.push(Transfer::Fork(fork));
            }
            all.push(Transfer::Call(run.tid, run.space, call));
        }
    }
    all.extend(forks.map(Transfer::Fork));
    Ok(all)
}

/// Follows a part of a leaf's transfers, whole runs of one task at a time.
pub fn follow(stacks: &mut Stacks, transfers: &[Transfer]) {
    let mut calls: Vec<Call> = Vec::new();
    let mut of = None;
    for transfer in transfers {
        match transfer {
            Transfer::Call(tid, space, call) => {
                if of != Some((*tid, *space)) {
                    flush(stacks, &mut calls, of);
                    of = Some((*tid, *space));
                }
                calls.push(*call);
            }
            Transfer::Fork(fork) => {
                flush(stacks, &mut calls, of);
                stacks.fork(fork.parent, fork.child, fork.space);
            }
        }
    }
    flush(stacks, &mut calls, of);
}

fn flush(stacks: &mut Stacks, calls: &mut Vec<Call>, of: Option<(Tid, u32)>) {
    if let Some((tid, space)) = of {
        stacks.follow(tid, space, calls);
    }
    calls.clear();
}

/// The innermost frames of all tasks, whenever one changes; at the beginning those of all.
pub fn frames(
    db: &Database,
    leaf: u64,
    handlers: &[HandlerEvent],
) -> Result<Vec<FrameChange>, Failure> {
    let start = db.reader.span(leaf)?.start;
    let mut following = Following::at_border(db, leaf)?;
    let tids: Vec<Tid> = following.stacks.active().map(|(tid, _)| tid).collect();
    let mut changes: Vec<FrameChange> =
        tids.iter().map(|tid| following.innermost(*tid, start)).collect();
    let mut handlers = handlers.iter().peekable();
    for transfer in transfers(db, leaf)? {
        let moment = transfer.moment();
        while let Some(event) = handlers.next_if(|event| event.moment < moment) {
            following.handler(event);
            changes.push(following.innermost(event.tid, event.moment));
        }
        let tid = following.transfer(&transfer);
        changes.push(following.innermost(tid, moment));
    }
    for event in handlers {
        following.handler(event);
        changes.push(following.innermost(event.tid, event.moment));
    }
    Ok(changes)
}
