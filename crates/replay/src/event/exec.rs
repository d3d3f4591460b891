//! The end of a successful execve: a new address space, from the recorded mappings
//! (rr-replay 3.3).

use machine::Backing;
use model::{Address, PAGE_SIZE, Tid};
use rr_trace::{EventKind, SyscallExtra, TaskEventKind};

use crate::address_space::AddressSpace;
use crate::maps::Place;
use crate::numbers::{PROT_EXEC, PROT_READ, PROT_WRITE};
use crate::preload::THREAD_LOCALS_BYTES;
use crate::problem::{Problem, Result};
use crate::processor::{XsaveProblem, vector_from_recording};
use crate::registers::CANONICAL_FLAGS;
use crate::remap::Mapped;
use crate::rr_page::{self, RR_PAGE, THREAD_LOCALS_PAGE};
use crate::session::Session;
use crate::source::Current;
use crate::task::SpaceId;

impl Session {
    pub(super) fn exec(&mut self, current: &mut Current) -> Result<()> {
        if self.source.trace.header().quirks.special_librrpage {
            return Err(Problem::unsupported("recordings of rr 5.4"));
        }
        let tid = current.frame.tid;
        let first = self.groups.get(&tid).is_none_or(|group| group.execs == 0)
            && self.tasks_created == 1
            && self.spaces.is_empty();
        self.rename_to_leader(tid)?;
        self.start_program(current)?;
        self.map_rr_pages(tid)?;
        self.map_program(current)?;
        self.apply_writes(current)?;
        let registers = current.registers()?;
        let mut vector = None;
        if current.frame.extra_registers.is_some() {
            vector = Some(self.recorded_vector(current)?);
        }
        let task = self.task_mut(tid)?;
        task.load_registers(&registers);
        task.cpu.rflags = CANONICAL_FLAGS;
        task.cpu.vector = vector.unwrap_or_default();
        task.in_syscall = false;
        if first {
            task.cpu.ticks = 0;
        }
        let leader = task.leader;
        self.groups.entry(leader).or_default().execs += 1;
        self.check_ticks(current)
    }

    /// The kernel gives the thread that execs the number of its group's leader, which is gone.
    fn rename_to_leader(&mut self, tid: Tid) -> Result<()> {
        if self.tasks.contains_key(&tid) {
            return Ok(());
        }
        let mut members =
            self.tasks.values().filter(|task| task.leader == tid).map(|task| task.tid);
        let (Some(old), None) = (members.next(), members.next()) else {
            return Err(Problem::malformed("an exec of an unknown task"));
        };
        let mut task = self.tasks.remove(&old).ok_or_else(|| Problem::malformed("no task"))?;
        self.former_spaces.insert(old, task.space);
        self.tasks_created += 1;
        task.tid = tid;
        task.serial = self.tasks_created;
        task.cloned_data_position = 0;
        self.tasks.insert(tid, task);
        Ok(())
    }

    fn start_program(&mut self, current: &Current) -> Result<()> {
        let tid = current.frame.tid;
        let new_space = SpaceId(self.new_id());
        let space = AddressSpace::new(self.machine.new_space()?);
        self.insert_space(new_space, space);
        // While the recorder's areas are known.
        self.collect_marks(self.task(tid)?.space)?;
        let task = self.task_mut(tid)?;
        let old_space = std::mem::replace(&mut task.space, new_space);
        task.scratch = None;
        task.syscall_buffer = None;
        task.globals = None;
        task.rseq = None;
        task.thread_locals = [0; THREAD_LOCALS_BYTES];
        for event in &current.task_events {
            if let (true, TaskEventKind::Exec { file_name, .. }) = (event.tid == tid, &event.kind) {
                let base = file_name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
                task.name = base.iter().copied().take(15).collect();
            }
        }
        self.drop_unused_space(old_space)?;
        self.close_on_exec(current)
    }

    fn close_on_exec(&mut self, current: &Current) -> Result<()> {
        let tid = current.frame.tid;
        self.task_mut(tid)?.late_call = None;
        self.abandon_calls(tid, |_| true)?;
        let EventKind::Syscall(syscall) = &current.frame.kind else { return Ok(()) };
        let recorded = match &syscall.extra {
            SyscallExtra::ExecFdsToClose(closed) => closed.as_slice(),
            _ => &[],
        };
        self.unshare_files(tid, syscall.number)?;
        self.with_descriptors(tid, Some(syscall.number), |descriptors, table, happenings| {
            descriptors.close_on_exec(table, recorded, happenings);
        })
    }

    /// rr's page with what replay needs in it, and the page of the preload library's variables.
    fn map_rr_pages(&mut self, tid: Tid) -> Result<()> {
        let page = |start: Address, prot| Place { range: start.range(PAGE_SIZE), prot, flags: 0 };
        self.map_at(tid, &page(RR_PAGE, PROT_READ | PROT_EXEC), Backing::Zero, Mapped::default())?;
        self.map_at(
            tid,
            &page(THREAD_LOCALS_PAGE, PROT_READ | PROT_WRITE),
            Backing::Zero,
            Mapped::default(),
        )?;
        let contents = rr_page::contents(!self.rules.flag_in_globals);
        self.space_of_mut(tid)?.space.write(RR_PAGE, &contents)?;
        Ok(())
    }

    fn map_program(&mut self, current: &mut Current) -> Result<()> {
        let tid = current.frame.tid;
        let mut last = None;
        while let Some(map) = current.maps.pop_front() {
            if map.range.start == RR_PAGE || map.range.start == THREAD_LOCALS_PAGE {
                continue;
            }
            self.map_record(tid, &map, &Place::of_record(&map))?;
            last = Some(map.range);
        }
        let scratch = last.ok_or_else(|| Problem::malformed("an exec without mappings"))?;
        let end = scratch.end;
        self.task_mut(tid)?.scratch = Some(scratch);
        self.set_alt_stack(tid, end)
    }

    /// The frame's XSAVE image in the machine's form.
    pub(crate) fn recorded_vector(&self, current: &Current) -> Result<machine::VectorState> {
        let raw = current.frame.extra_registers.as_deref();
        self.vector_of(raw.ok_or_else(|| Problem::malformed("the frame has no extra registers"))?)
    }

    /// An XSAVE image of the recording processor in the machine's form.
    pub(crate) fn vector_of(&self, raw: &[u8]) -> Result<machine::VectorState> {
        let processor = &self.processor;
        Ok(vector_from_recording(raw, &processor.recorded, &processor.host)?)
    }
}

impl From<XsaveProblem> for Problem {
    fn from(problem: XsaveProblem) -> Problem {
        match problem {
            XsaveProblem::Length { expected, found } => Problem::malformed(format!(
                "{found} bytes of extra registers where {expected} belong"
            )),
            XsaveProblem::ComponentMissing(index) => Problem::unsupported(format!(
                "XSAVE component {index}, which this processor does not have"
            )),
            XsaveProblem::Compacted => Problem::malformed("compacted extra registers"),
            XsaveProblem::Mxcsr(value) => Problem::unsupported(format!(
                "MXCSR {value:#x}, which has bits that this processor does not know"
            )),
        }
    }
}
