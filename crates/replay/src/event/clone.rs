//! A task makes another one: clone, fork, vfork (rr-replay 3.5).

use machine::Backing;
use model::{PAGE_SIZE, Tid, gpr};
use rr_trace::TaskEventKind;

use crate::address_space::{AddressSpace, Marks};
use crate::maps::Place;
use crate::numbers::{CLONE_FILES, CLONE_SETTLS, CLONE_THREAD, CLONE_VM, syscall};
use crate::numbers::{PROT_READ, PROT_WRITE};
use crate::observe::{Fork, MemoryId};
use crate::preload::{THREAD_LOCALS_BYTES, thread_locals};
use crate::problem::{Problem, Result};
use crate::registers::{arguments, canonicalise};
use crate::rr_page::THREAD_LOCALS_PAGE;
use crate::session::Session;
use crate::source::Current;
use crate::task::{FilesId, SpaceId, Task, ThreadGroup};

/// clone(2)'s flags of vfork(2): CLONE_VM, CLONE_VFORK, SIGCHLD.
const VFORK_FLAGS: u64 = 0x4111;
const SIGCHLD: u64 = 17;

impl Session {
    /// The child exists from the parent's entry on.
    pub(super) fn clone_task(&mut self, current: &mut Current, number: i32) -> Result<()> {
        let parent = current.frame.tid;
        let [first, stack, _, _, tls, _] = arguments(&current.registers()?);
        let flags = match number {
            syscall::CLONE => first,
            syscall::VFORK => VFORK_FLAGS,
            _ => SIGCHLD,
        };
        let (tid, own_tid, recorded_flags) = self.cloned_task(current)?;
        let space = if flags & CLONE_VM != 0 {
            self.task(parent)?.space
        } else {
            self.copy_space(current)?
        };
        let mut child = self.child_of(parent, tid, flags)?;
        child.own_tid = own_tid;
        child.space = space;
        if number == syscall::CLONE {
            if stack != 0 {
                child.cpu.general[gpr::RSP] = stack;
            }
            child.cpu.general[gpr::RDI] = u64::from(recorded_flags as u32);
            if flags & CLONE_SETTLS != 0 {
                child.cpu.fs_base = tls;
            }
        }
        let parent_space = self.task(parent)?.space;
        if space != parent_space && self.observing.is_on() {
            let (from, space) = (MemoryId(parent_space.0), MemoryId(space.0));
            let (moment, generation) = (self.moment, self.spaces[&child.space].marks.generation);
            let fork = Fork { moment, parent, child: tid, from, space, generation };
            self.observing.forks.push(fork);
        }
        self.tasks.insert(tid, child);
        self.tasks_created += 1;
        self.inherit_files(parent, tid)?;
        let scratch = current.maps.pop_back();
        let scratch =
            scratch.ok_or_else(|| Problem::malformed("a clone without scratch memory"))?;
        self.map_record(tid, &scratch, &Place::of_record(&scratch))?;
        let end = scratch.range.end;
        self.task_mut(tid)?.scratch = Some(scratch.range);
        self.set_alt_stack(tid, end)
    }

    /// What the recording says about the child.
    fn cloned_task(&self, current: &mut Current) -> Result<(Tid, Tid, i32)> {
        while let Some(event) = current.task_events.pop_front() {
            let TaskEventKind::Clone { parent, flags, own_namespace_tid } = event.kind else {
                continue;
            };
            if parent != current.frame.tid || self.tasks.contains_key(&event.tid) {
                return Err(Problem::malformed("a clone record of another task"));
            }
            return Ok((event.tid, own_namespace_tid, flags));
        }
        Err(Problem::malformed("a clone without a task record"))
    }

    fn child_of(&mut self, parent: Tid, tid: Tid, flags: u64) -> Result<Task> {
        let locals = self.thread_locals_of(parent)?;
        let mut child = self.task(parent)?.clone();
        child.tid = tid;
        child.serial = self.tasks_created + 1;
        child.cloned_data_position = 0;
        child.thread_locals = [0; THREAD_LOCALS_BYTES];
        let inherited = thread_locals::ALT_STACK_NESTING_LEVEL..thread_locals::SAVED_FLAGS + 4;
        child.thread_locals[inherited.clone()].copy_from_slice(&locals[inherited]);
        child.cpu.general[gpr::RAX] = 0;
        canonicalise(&mut child);
        child.cpu.ticks = 0;
        child.cpu.instructions = 0;
        child.scratch = None;
        child.syscall_buffer = None;
        child.in_syscall = false;
        child.unchecked = false;
        child.skip_next = false;
        child.calls.clear();
        child.late_call = None;
        child.buffered_at = None;
        if flags & CLONE_VM != 0 {
            child.rseq = None;
        }
        if flags & CLONE_THREAD == 0 {
            child.leader = tid;
            self.groups.insert(tid, ThreadGroup::default());
        }
        if flags & CLONE_FILES == 0 {
            child.files = FilesId(self.new_id());
        }
        Ok(child)
    }

    /// A forked address space, without what rr keeps there for other tasks.
    fn copy_space(&mut self, current: &mut Current) -> Result<SpaceId> {
        let parent = current.frame.tid;
        let parent_space = self.task(parent)?.space;
        let fresh = self.machine.new_space()?;
        let contents = self.space_of_mut(parent)?.space.snapshot()?;
        let mut child = AddressSpace::new(fresh);
        child.space.restore(&contents)?;
        let source = self.space_of(parent)?;
        let generation = source.marks.generation.saturating_add(1);
        child.marks = Marks { active_task: None, generation, ..source.marks.clone() };
        for range in source.marks.dont_fork.iter() {
            child.space.unmap(range.clone())?;
        }
        let others = self.tasks.values().filter(|task| task.space == parent_space);
        for task in others.filter(|task| task.tid != parent) {
            for area in task.scratch.iter().chain(&task.syscall_buffer) {
                child.space.unmap(area.clone())?;
            }
        }
        if current.maps.front().is_some_and(|map| map.range.start == THREAD_LOCALS_PAGE) {
            current.maps.pop_front();
            let protection = crate::address_space::protection(PROT_READ | PROT_WRITE);
            child.space.map(THREAD_LOCALS_PAGE.range(PAGE_SIZE), protection, Backing::Zero)?;
        }
        let id = SpaceId(self.new_id());
        self.insert_space(id, child);
        Ok(id)
    }
}
