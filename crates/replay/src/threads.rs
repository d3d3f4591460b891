//! Tasks of an address space: who owns the thread-locals page, and what ends with a task.

use model::{Address, Tid};

use crate::observe::MemoryId;
use crate::preload::{THREAD_LOCALS_BYTES, thread_locals};
use crate::problem::Result;
use crate::rr_page::THREAD_LOCALS_PAGE;
use crate::session::Session;
use crate::task::SpaceId;

/// Fields of rseq(2)'s structure.
const RSEQ_CPU_ID_START: u64 = 0;
const RSEQ_CPU_ID: u64 = 4;

impl Session {
    /// Puts a task's bytes into the thread-locals page of its address space (rr-replay 6.4).
    pub(crate) fn activate_thread_locals(&mut self, tid: Tid) -> Result<()> {
        let switched = self.last_task != Some(tid);
        self.last_task = Some(tid);
        if switched {
            self.write_rseq_cpu(tid)?;
        }
        let space = self.space_of(tid)?;
        let previous = space.marks.active_task;
        if previous == Some(tid) || !space.has_thread_locals() {
            return Ok(());
        }
        let mut bytes = [0; THREAD_LOCALS_BYTES];
        space.space.read(THREAD_LOCALS_PAGE, &mut bytes)?;
        let id = self.task(tid)?.space;
        if let Some(previous) = previous.and_then(|tid| self.tasks.get_mut(&tid))
            && previous.space == id
        {
            previous.thread_locals = bytes;
        }
        let own = self.task(tid)?.thread_locals;
        let space = self.space_of_mut(tid)?;
        space.marks.active_task = Some(tid);
        space.space.write(THREAD_LOCALS_PAGE, &own)?;
        Ok(())
    }

    /// The recorder writes the processor's number at every switch (rr-replay 3.7).
    fn write_rseq_cpu(&mut self, tid: Tid) -> Result<()> {
        let Some(rseq) = self.task(tid)?.rseq else { return Ok(()) };
        let cpu = self.processor.bound_to.unwrap_or(0).to_le_bytes();
        let space = &mut self.space_of_mut(tid)?.space;
        space.write_mapped(rseq.pointer + RSEQ_CPU_ID_START, &cpu);
        space.write_mapped(rseq.pointer + RSEQ_CPU_ID, &cpu);
        Ok(())
    }

    /// A task's bytes of the thread-locals page, wherever they are now.
    pub(crate) fn thread_locals_of(&self, tid: Tid) -> Result<[u8; THREAD_LOCALS_BYTES]> {
        let (task, space) = (self.task(tid)?, self.space_of(tid)?);
        let mut bytes = task.thread_locals;
        if space.marks.active_task == Some(tid) && space.has_thread_locals() {
            space.space.read(THREAD_LOCALS_PAGE, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// Tells the preload library where its alternative stack ends.
    pub(crate) fn set_alt_stack(&mut self, tid: Tid, end: Address) -> Result<()> {
        let task = self.task_mut(tid)?;
        task.thread_locals[..8].copy_from_slice(&end.0.to_le_bytes());
        let space = self.space_of_mut(tid)?;
        if space.marks.active_task == Some(tid) && space.has_thread_locals() {
            let address = THREAD_LOCALS_PAGE + thread_locals::STUB_ALT_STACK;
            space.space.write_u64(address, end.0)?;
        }
        Ok(())
    }

    /// Unmaps what rr had mapped for a task: at its exit call, at the latest at its EXIT event.
    pub(crate) fn drop_recorder_memory(&mut self, tid: Tid) -> Result<()> {
        let task = self.task(tid)?;
        let (id, areas) = (task.space, [task.scratch.clone(), task.syscall_buffer.clone()]);
        // While they are known as the recorder's.
        areas.iter().flatten().try_for_each(|area| self.before_remapping(id, area))?;
        let task = self.task_mut(tid)?;
        (task.scratch, task.syscall_buffer) = (None, None);
        areas.into_iter().flatten().try_for_each(|area| self.unmap(tid, area))
    }

    /// The task disappears, and what it was the last user of.
    pub(crate) fn remove_task(&mut self, tid: Tid) -> Result<()> {
        self.drop_recorder_memory(tid)?;
        self.leave_files(tid)?;
        let Some(task) = self.tasks.remove(&tid) else { return Ok(()) };
        self.former_spaces.insert(tid, task.space);
        self.former_ticks += task.cpu.ticks;
        self.drop_unused_space(task.space)?;
        Ok(())
    }

    pub(crate) fn drop_unused_space(&mut self, id: SpaceId) -> Result<()> {
        if self.tasks.values().any(|task| task.space == id) {
            return Ok(());
        }
        self.collect_marks(id)?;
        self.collect_effects(id);
        if let Some(space) = self.spaces.remove(&id) {
            self.machine.forget_space(&space.space);
            if self.observing.is_on() {
                self.observing.ended.push(MemoryId(id.0));
            }
        }
        Ok(())
    }

    /// How many live tasks a thread group has.
    pub(crate) fn group_size(&self, leader: Tid) -> usize {
        self.tasks.values().filter(|task| task.leader == leader).count()
    }
}
