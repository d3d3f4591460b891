//! The recording as the session consumes it: one frame with all that belongs to it.

use std::collections::VecDeque;
use std::path::PathBuf;

use model::{Event, Registers};
use rr_trace::{
    DataStream, EventKind, Frame, Frames, MMap, MMaps, Position, TaskEvent, Tasks, Trace,
};

use crate::problem::{Problem, Result};

/// Mapping or task records of one frame; more are refused.
const RECORDS_MAX: usize = 1 << 20;

#[derive(Debug)]
pub struct Source {
    pub trace: Trace,
    frames: Frames,
    pub data: DataStream,
    mmaps: MMaps,
    tasks: Tasks,
}

/// The frame that is being replayed.
#[derive(Clone, Debug)]
pub struct Current {
    pub frame: Frame,
    /// In front of the frame and of its records.
    pub start: Position,
    pub maps: VecDeque<MMap>,
    pub task_events: VecDeque<TaskEvent>,
    /// Index of the next memory write that has not been taken from the data stream.
    pub next_write: usize,
    /// Whether the effects that come before running have been applied.
    pub prepared: bool,
    /// What the dump of a syscall buffer says about the records to come.
    pub flush_record_bytes: u32,
}

impl Source {
    pub fn open(trace: &Trace) -> std::result::Result<Source, rr_trace::Error> {
        Ok(Source {
            trace: trace.clone(),
            frames: trace.frames()?,
            data: trace.data()?,
            mmaps: trace.mmaps()?,
            tasks: trace.tasks()?,
        })
    }

    /// The next frame with its records; `None` at the end of the recording.
    pub fn next(&mut self) -> Result<Option<Current>> {
        let start = self.position();
        let Some(frame) = self.frames.next().transpose()? else { return Ok(None) };
        let event = frame.event;
        Ok(Some(Current {
            start,
            maps: self.maps_of(event)?,
            task_events: self.task_events_of(event)?,
            next_write: 0,
            prepared: false,
            flush_record_bytes: 0,
            frame,
        }))
    }

    fn maps_of(&mut self, event: Event) -> Result<VecDeque<MMap>> {
        let mut maps = VecDeque::new();
        while let Some(map) = self.mmaps.next_until(event)? {
            if map.event == event {
                maps.push_back(map);
            }
            if maps.len() > RECORDS_MAX {
                return Err(Problem::malformed("too many mapping records in one frame"));
            }
        }
        Ok(maps)
    }

    fn task_events_of(&mut self, event: Event) -> Result<VecDeque<TaskEvent>> {
        let mut events = VecDeque::new();
        while let Some(task_event) = self.tasks.next_until(event)? {
            if task_event.event == event {
                events.push_back(task_event);
            }
            if events.len() > RECORDS_MAX {
                return Err(Problem::malformed("too many task records in one frame"));
            }
        }
        Ok(events)
    }

    /// Behind the frame that was taken last, and behind what was read of its data.
    pub fn position(&self) -> Position {
        let (event, frames) = self.frames.position();
        Position {
            event,
            frames,
            data: self.data.position(),
            mmaps: self.mmaps.position(),
            tasks: self.tasks.position(),
        }
    }

    pub fn seek(&mut self, position: &Position) -> Result<()> {
        self.frames.seek(position.event, position.frames)?;
        self.data.seek(position.data)?;
        self.mmaps.seek(position.mmaps)?;
        self.tasks.seek(position.tasks)?;
        Ok(())
    }

    /// At the end every stream must have been consumed (rr-replay 4.13).
    pub fn check_end(&mut self) -> Result<()> {
        if !self.data.at_end()? {
            return Err(Problem::malformed("the data stream goes on behind the last frame"));
        }
        if self.mmaps.next().transpose()?.is_some() {
            return Err(Problem::malformed("mapping records behind the last frame"));
        }
        Ok(())
    }

    pub fn backing_path(&self, map: &MMap) -> Result<Option<PathBuf>> {
        Ok(self.trace.backing_path(map)?)
    }
}

impl Current {
    /// The 64-bit registers of the frame.
    pub fn registers(&self) -> Result<Registers> {
        match &self.frame.registers {
            Some(registers) => {
                registers.x8664().copied().ok_or_else(|| Problem::unsupported("32-bit tasks"))
            }
            None => Err(Problem::malformed("the frame has no registers")),
        }
    }

    /// The next mapping record; the frame must have one.
    pub fn take_map(&mut self) -> Result<MMap> {
        self.maps.pop_front().ok_or_else(|| Problem::malformed("a mapping record is missing"))
    }

    /// Name of the frame's kind for people.
    pub fn kind_name(&self) -> String {
        kind_name(&self.frame.kind)
    }
}

pub fn kind_name(kind: &EventKind) -> String {
    match kind {
        EventKind::InstructionTrap => "INSTRUCTION_TRAP".into(),
        EventKind::PatchSyscall => "PATCH_SYSCALL".into(),
        EventKind::SyscallbufAbortCommit => "SYSCALLBUF_ABORT_COMMIT".into(),
        EventKind::SyscallbufReset => "SYSCALLBUF_RESET".into(),
        EventKind::Sched => "SCHED".into(),
        EventKind::GrowMap => "GROW_MAP".into(),
        EventKind::Signal(signal) => format!("SIGNAL {}", signal.number()),
        EventKind::SignalDelivery(signal) => format!("SIGNAL_DELIVERY {}", signal.number()),
        EventKind::SignalHandler(signal) => format!("SIGNAL_HANDLER {}", signal.number()),
        EventKind::Exit => "EXIT".into(),
        EventKind::SyscallbufFlush { .. } => "SYSCALLBUF_FLUSH".into(),
        EventKind::Syscall(syscall) => {
            let state = match syscall.state {
                rr_trace::SyscallState::EnteringPtrace => "entering (ptrace)",
                rr_trace::SyscallState::Entering => "entering",
                rr_trace::SyscallState::Exiting => "exiting",
            };
            format!("SYSCALL {} {state}", syscall.number)
        }
        EventKind::PatchAfterSyscall => "PATCH_AFTER_SYSCALL".into(),
        EventKind::PatchVsyscall => "PATCH_VSYSCALL".into(),
        EventKind::PatchTrappingInstruction => "PATCH_TRAPPING_INSTRUCTION".into(),
    }
}
