//! How a session follows descriptors: which system calls count, and when their memory is there.
//!
//! A call with frames begins at the one and is over at the other. A buffered call begins at the
//! stub where the preload library made it, with the result in the record that waits there; what it
//! left in the program's own memory is there when the record is committed. A buffered call that
//! blocked has frames, but works on the library's memory: the program's own is filled when the
//! library makes its next call.

use model::{Address, Tid, gpr};
use rr_trace::{EventKind, SyscallExtra};

use super::sockets::Ends;
use super::{Call, DescriptorEvent, DescriptorObserver, Descriptors, Happening, Happenings, Kind};
use crate::numbers::{is_error, syscall};
use crate::observe::BufferedCall;
use crate::preload::{read_u32, thread_locals};
use crate::problem::Result;
use crate::rr_page::{self, THREAD_LOCALS_PAGE};
use crate::run::Goal;
use crate::session::Session;
use crate::source::Current;
use crate::task::FilesId;

/// Interrupted calls of one task that are remembered: signal handlers nest.
const CALLS_MAX: usize = 16;
const SYSCALL_BYTES: u64 = 2;

impl Session {
    /// Tells an observer from now on what happens to descriptors, or nobody. The observer is no
    /// part of checkpoints.
    pub fn observe_descriptors(&mut self, observer: Option<Box<dyn DescriptorObserver>>) {
        self.observer = observer;
    }

    /// Descriptors as they are now.
    pub fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    /// Changes descriptors on behalf of a task and tells of it.
    pub(crate) fn with_descriptors(
        &mut self,
        tid: Tid,
        call: Option<i32>,
        change: impl FnOnce(&mut Descriptors, FilesId, &mut Happenings),
    ) -> Result<()> {
        let table = self.task(tid)?.files;
        let mut happenings = Happenings::new(self.observer.is_some());
        change(&mut self.descriptors, table, &mut happenings);
        self.tell(tid, call, happenings.into_list())
    }

    pub(crate) fn tell(
        &mut self,
        tid: Tid,
        call: Option<i32>,
        happenings: Vec<Happening>,
    ) -> Result<()> {
        if happenings.is_empty() {
            return Ok(());
        }
        let Some(mut observer) = self.observer.take() else { return Ok(()) };
        let event = model::Event(self.last_event.0 + 1);
        let (moment, table) = (self.moment, self.task(tid)?.files);
        let memory = &self.space_of(tid)?.space;
        for what in happenings {
            observer.observe(&DescriptorEvent { event, moment, tid, table, call, what }, memory);
        }
        self.observer = Some(observer);
        Ok(())
    }

    /// A task has entered a system call.
    pub(crate) fn descriptors_entered(&mut self, current: &Current) -> Result<()> {
        let tid = current.frame.tid;
        self.finish_late_call(tid)?;
        let registers = current.registers()?;
        if registers.rip == rr_page::PRIVILEGED_TRACED + SYSCALL_BYTES {
            return Ok(());
        }
        let EventKind::Syscall(call) = &current.frame.kind else { return Ok(()) };
        let stack = registers.general[gpr::RSP];
        let known = self.task(tid)?.calls.iter().any(|known| known.stack == stack);
        if call.number == syscall::RESTART_SYSCALL && known {
            return Ok(());
        }
        let mut number = match call.number {
            syscall::RESTART_SYSCALL => registers.orig_rax as i32,
            number => number,
        };
        let mut arguments = crate::registers::arguments(&registers);
        if is_inside_library(current)?
            && let Some((original, own)) = self.original_call(tid)?
            && original == number
        {
            (number, arguments) = (original, own);
        }
        self.abandon_calls(tid, |call| call.stack == stack)?;
        let Some(call) = self.begin_call(tid, number, arguments, stack)? else { return Ok(()) };
        if self.task(tid)?.calls.len() >= CALLS_MAX {
            let oldest = self.task_mut(tid)?.calls.remove(0);
            self.descriptors.unwatch(&oldest);
        }
        self.task_mut(tid)?.calls.push(call);
        Ok(())
    }

    /// The call that a task leaves, if it has to do with descriptors.
    pub(crate) fn left_call(&mut self, current: &Current) -> Result<Option<Call>> {
        let stack = current.registers()?.general[gpr::RSP];
        let calls = &mut self.task_mut(current.frame.tid)?.calls;
        let index = calls.iter().rposition(|call| call.stack == stack);
        Ok(index.map(|index| calls.remove(index)))
    }

    /// Before the frame's memory is written.
    pub(crate) fn descriptors_before_memory(
        &mut self,
        current: &Current,
        call: Option<Call>,
        result: i64,
    ) -> Result<Option<Call>> {
        match call {
            Some(call) if is_error(result) || !call.waits_for_memory() => {
                self.complete_call(current.frame.tid, &call, result, ends(current))?;
                Ok(None)
            }
            call => Ok(call),
        }
    }

    /// Behind that.
    pub(crate) fn descriptors_after_memory(
        &mut self,
        current: &Current,
        call: Option<Call>,
        result: i64,
    ) -> Result<()> {
        let tid = current.frame.tid;
        if let Some(call) = call {
            if is_inside_library(current)? {
                self.task_mut(tid)?.late_call = Some((call, result));
            } else {
                self.complete_call(tid, &call, result, ends(current))?;
            }
        }
        self.opened_descriptors(current)
    }

    /// The program's memory has what the call that was buffered, or began so, left there.
    pub(crate) fn finish_late_call(&mut self, tid: Tid) -> Result<()> {
        let Some((call, result)) = self.task_mut(tid)?.late_call.take() else { return Ok(()) };
        self.complete_call(tid, &call, result, Ends::default())
    }

    /// A stop on the way to the end of a buffer's dump: maybe at a buffered call, or at its commit.
    pub(crate) fn look_for_buffered_call(&mut self, tid: Tid, goal: &Goal) -> Result<()> {
        let Goal::Flush { buffer, breakpoint, record_bytes, .. } = goal else { return Ok(()) };
        let task = self.task(tid)?;
        let at = task.cpu.rip;
        if at == breakpoint.address(*record_bytes) {
            self.task_mut(tid)?.buffered_at = None;
            return self.finish_late_call(tid);
        }
        if !rr_page::is_record_only_stub(at) && !rr_page::is_untraced_stub(at) {
            return Ok(());
        }
        let committed = read_u32(&self.space_of(tid)?.space, *buffer)?;
        if committed >= *record_bytes || task.buffered_at == Some(committed) {
            return Ok(());
        }
        let (number, stack) = (task.cpu.general[gpr::RAX] as i32, task.cpu.general[gpr::RSP]);
        let Some(record) = self.pending_record(tid)? else { return Ok(()) };
        let original = self.original_call(tid)?;
        let Some((_, arguments)) = original.filter(|(original, _)| *original == number) else {
            return Ok(());
        };
        if i32::from(record.number) != number {
            return Ok(());
        }
        self.task_mut(tid)?.buffered_at = Some(committed);
        self.finish_late_call(tid)?;
        self.observing.note_buffered_call(BufferedCall {
            moment: self.moment,
            event: model::Event(self.last_event.0 + 1),
            tid,
            number,
            arguments,
            result: record.result,
        });
        let Some(call) = self.begin_call(tid, number, arguments, stack)? else { return Ok(()) };
        if !is_error(record.result) && call.waits_for_memory() {
            self.task_mut(tid)?.late_call = Some((call, record.result));
            return Ok(());
        }
        self.complete_call(tid, &call, record.result, Ends::default())
    }

    /// Number and arguments of the system call that the preload library is making for a task, as
    /// the program gave them.
    pub fn call_of_library(&self, tid: Tid) -> Option<(i32, [u64; 6])> {
        self.original_call(tid).ok().flatten()
    }

    /// The system call that the preload library is about, as the program made it.
    fn original_call(&self, tid: Tid) -> Result<Option<(i32, [u64; 6])>> {
        let space = &self.space_of(tid)?.space;
        let pointer = THREAD_LOCALS_PAGE + thread_locals::ORIGINAL_CALL;
        let word = |address: Address| space.read_u64(address).ok();
        let Some(at) = word(pointer).filter(|&at| at != 0) else { return Ok(None) };
        let mut words = [0; 7];
        for (index, value) in words.iter_mut().enumerate() {
            let Some(found) = word(Address(at) + 8 * index as u64) else { return Ok(None) };
            *value = found;
        }
        let [number, arguments @ ..] = words;
        Ok(Some((number as i32, arguments)))
    }

    fn begin_call(
        &mut self,
        tid: Tid,
        number: i32,
        arguments: [u64; 6],
        stack: u64,
    ) -> Result<Option<Call>> {
        let (table, space) = (self.task(tid)?.files, self.task(tid)?.space);
        let Some(space) = self.spaces.get(&space) else { return Ok(None) };
        let begun = (self.moment, stack);
        Ok(self.descriptors.begin(table, number, arguments, begun, &space.space))
    }

    fn complete_call(&mut self, tid: Tid, call: &Call, result: i64, ends: Ends<'_>) -> Result<()> {
        let (table, space) = (self.task(tid)?.files, self.task(tid)?.space);
        let mut happenings = Happenings::new(self.observer.is_some());
        if let Some(space) = self.spaces.get(&space) {
            let memory = (&space.space as &dyn super::Memory, ends);
            self.descriptors.complete(table, call, result, memory, &mut happenings);
        }
        if call.number == syscall::PIDFD_GETFD && !is_error(result) {
            self.taken_from_process(table, call, result, &mut happenings);
        }
        self.tell(tid, Some(call.number), happenings.into_list())
    }

    /// pidfd_getfd(2).
    fn taken_from_process(
        &mut self,
        table: FilesId,
        call: &Call,
        result: i64,
        happenings: &mut Happenings,
    ) {
        let [pid_descriptor, from, ..] = call.arguments;
        let process = self.descriptors.lookup(table, pid_descriptor as i32);
        let kind = process.and_then(|id| self.descriptors.description(id)).map(|known| &known.kind);
        let task = match kind {
            Some(&Kind::PidFd { pid }) => {
                let own = |task: &&crate::task::Task| task.own_tid.0 == pid;
                self.tasks.get(&Tid(pid)).or_else(|| self.tasks.values().find(own))
            }
            _ => None,
        };
        let from = from as i32;
        match task.map(|task| task.files) {
            Some(other) => {
                self.descriptors.take_from(other, from, table, result as i32, happenings);
            }
            None => {
                let id = self.descriptors.new_description(Kind::Unknown, None, 0);
                self.descriptors.open(table, result as i32, id, true, happenings);
            }
        }
    }

    /// Forgets calls that will not go on.
    pub(crate) fn abandon_calls(&mut self, tid: Tid, which: impl Fn(&Call) -> bool) -> Result<()> {
        let calls = std::mem::take(&mut self.task_mut(tid)?.calls);
        let (gone, kept): (Vec<_>, Vec<_>) = calls.into_iter().partition(which);
        gone.iter().for_each(|call| {
            self.descriptors.unwatch(call);
        });
        self.task_mut(tid)?.calls = kept;
        Ok(())
    }

    /// The task gets a table of its own, if it shares one; the table that it has.
    pub(crate) fn unshare_files(&mut self, tid: Tid, call: i32) -> Result<FilesId> {
        let from = self.task(tid)?.files;
        if !self.tasks.values().any(|task| task.files == from && task.tid != tid) {
            return Ok(from);
        }
        let id = FilesId(self.new_id());
        self.descriptors.copy_table(from, id);
        self.task_mut(tid)?.files = id;
        let happenings = Happenings::one(self.observer.is_some(), || Happening::Copied { from });
        self.tell(tid, Some(call), happenings)?;
        Ok(id)
    }

    /// A new task has its parent's table, or a copy of it.
    pub(crate) fn inherit_files(&mut self, parent: Tid, tid: Tid) -> Result<()> {
        let (from, to) = (self.task(parent)?.files, self.task(tid)?.files);
        let wanted = self.observer.is_some();
        let happenings = if from == to {
            Happenings::one(wanted, || Happening::Shared)
        } else {
            self.descriptors.copy_table(from, to);
            Happenings::one(wanted, || Happening::Copied { from })
        };
        self.tell(tid, None, happenings)
    }

    /// The task ends, and its table if nobody else has it.
    pub(crate) fn leave_files(&mut self, tid: Tid) -> Result<()> {
        self.task_mut(tid)?.late_call = None;
        self.abandon_calls(tid, |_| true)?;
        let files = self.task(tid)?.files;
        if self.tasks.values().any(|task| task.files == files && task.tid != tid) {
            return Ok(());
        }
        self.with_descriptors(tid, None, |descriptors, table, happenings| {
            descriptors.drop_table(table, happenings);
        })
    }
}

/// Whether the frame belongs to a buffered call that blocked: it works on the library's memory.
fn is_inside_library(current: &Current) -> Result<bool> {
    Ok(rr_page::is_record_only_stub(current.registers()?.rip - SYSCALL_BYTES))
}

fn ends(current: &Current) -> Ends<'_> {
    match &current.frame.kind {
        EventKind::Syscall(syscall) => match &syscall.extra {
            SyscallExtra::SocketAddrs { local, remote } => Ends { local, remote },
            _ => Ends::default(),
        },
        _ => Ends::default(),
    }
}
