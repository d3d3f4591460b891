//! The mmap family (rr-replay 5.1).

use std::ops::Range;

use machine::Backing;
use model::{Address, Tid};
use rr_trace::{EventKind, SyscallExtra};

use crate::address_space::protection;
use crate::descriptors::{FileIdentity, Monitor};
use crate::maps::Place;
use crate::numbers::*;
use crate::problem::{Problem, Result};
use crate::remap::Mapped;
use crate::session::Session;
use crate::source::Current;

/// The range of a mapping call: its length is rounded up to pages.
fn page_range(start: u64, length: u64) -> Result<Range<Address>> {
    let start = Address(start);
    let end = start.0.checked_add(length).map(|end| Address(end).page_ceil());
    match end {
        Some(end) if end >= start && start.page_start() == start => Ok(start..end),
        _ => Err(Problem::malformed(format!(
            "a mapping call with start {start}, length {length:#x}"
        ))),
    }
}

impl Session {
    pub(super) fn mmap(
        &mut self,
        current: &mut Current,
        arguments: [u64; 6],
        result: i64,
    ) -> Result<()> {
        let tid = current.frame.tid;
        let map = current.take_map()?;
        let [_, length, prot, flags, descriptor, _] = arguments;
        let range = page_range(result as u64, length)?;
        let place = Place { range, prot: prot as i32, flags: flags as i32 };
        self.map_record(tid, &map, &place)?;
        let file = place.flags & MAP_SHARED != 0 && place.flags & MAP_ANONYMOUS == 0;
        if file && !map.skip_monitoring_mapped_fd {
            let identity = FileIdentity { device: map.device, inode: map.inode };
            let monitor = Monitor::Mapped(identity);
            self.with_descriptors(tid, None, |descriptors, table, happenings| {
                descriptors.set_monitor(table, descriptor as i32, monitor, happenings);
            })?;
        }
        Ok(())
    }

    pub(super) fn munmap(&mut self, tid: Tid, arguments: [u64; 6]) -> Result<()> {
        let range = page_range(arguments[0], arguments[1])?;
        self.unmap(tid, range)
    }

    pub(super) fn mprotect(&mut self, tid: Tid, arguments: [u64; 6], result: i64) -> Result<()> {
        if result < 0 && result != -ENOMEM {
            return Ok(());
        }
        let mut range = page_range(arguments[0], arguments[1])?;
        let prot = arguments[2] as i32;
        let space = self.space_of_mut(tid)?;
        if prot & PROT_GROWSDOWN != 0
            && let Some(stack) = space.marks.grows_down.containing(range.start)
        {
            range.start = stack.start;
        }
        range.end = range.end.min(space.mapped_until(range.start));
        if range.start < range.end {
            self.protect(tid, range, protection(prot))?;
        }
        Ok(())
    }

    pub(super) fn brk(&mut self, current: &mut Current) -> Result<()> {
        let tid = current.frame.tid;
        let Some(map) = current.maps.pop_front() else { return Ok(()) };
        if map.range.is_empty() {
            return Ok(());
        }
        if map.flags != 0 {
            let of = Mapped { name: b"[heap]", offset: 0 };
            return self.map_at(tid, &Place::of_record(&map), Backing::Zero, of);
        }
        self.unmap(tid, map.range)
    }

    /// The kept part moves; a grown part is a mapping of its own.
    pub(super) fn mremap(
        &mut self,
        current: &mut Current,
        arguments: [u64; 6],
        result: i64,
    ) -> Result<()> {
        let tid = current.frame.tid;
        let [old, old_length, new_length, flags, ..] = arguments;
        let from = page_range(old, old_length)?;
        let to = page_range(result as u64, new_length)?;
        let (old_length, new_length) = (from.end - from.start, to.end - to.start);
        let prot = self.prot_at(tid, Address(old))?;
        let _kept = current.take_map()?;
        if old_length == 0 {
            return self.duplicate_shared(tid, from.start, to, prot);
        }
        let kept = old_length.min(new_length);
        if to.start != from.start {
            self.unmap(tid, to.clone())?;
            self.relocate(tid, from.start.range(kept), to.start)?;
            if kept < old_length {
                self.unmap(tid, from.start + kept..from.end)?;
            }
            if flags & MREMAP_DONTUNMAP != 0 {
                self.remap(tid, from, protection(prot), Backing::Zero, Mapped::default())?;
            }
        } else if kept < old_length {
            self.unmap(tid, from.start + kept..from.end)?;
        }
        if kept < new_length {
            let map = current.take_map()?;
            let range = to.start + kept..to.end;
            self.map_record(tid, &map, &Place { range, prot, flags: map.flags })?;
        }
        Ok(())
    }

    fn duplicate_shared(
        &mut self,
        tid: Tid,
        from: Address,
        to: Range<Address>,
        prot: i32,
    ) -> Result<()> {
        let mapping = self.space_of(tid)?.space.mapping_at(from).cloned();
        let mapping = mapping.ok_or_else(|| Problem::diverged("mremap of nothing"))?;
        let Backing::Shared { object, offset } = mapping.backing else {
            return Err(Problem::malformed("mremap duplicates a private mapping"));
        };
        let offset = offset + (from - mapping.range.start);
        let of = Mapped { name: b"", offset };
        self.remap(tid, to, protection(prot), Backing::Shared { object, offset }, of)
    }

    fn prot_at(&self, tid: Tid, address: Address) -> Result<i32> {
        let mapping = self.space_of(tid)?.space.mapping_at(address);
        let found = mapping.ok_or_else(|| Problem::diverged("mremap of nothing"))?.protection;
        let bit = |set: bool, bit: i32| if set { bit } else { 0 };
        Ok(bit(found.read, PROT_READ)
            | bit(found.write, PROT_WRITE)
            | bit(found.execute, PROT_EXEC))
    }

    pub(super) fn madvise(
        &mut self,
        current: &Current,
        arguments: [u64; 6],
        result: i64,
    ) -> Result<()> {
        let tid = current.frame.tid;
        let [start, length, advice, ..] = arguments;
        let mut ranges = Vec::new();
        if result >= 0 {
            ranges.push(page_range(start, length)?);
        } else if let EventKind::Syscall(syscall) = &current.frame.kind
            && let SyscallExtra::MadviseRanges(done) = &syscall.extra
        {
            ranges.extend(done.iter().cloned());
        }
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            match advice {
                MADV_DONTNEED | MADV_DONTNEED_LOCKED => self.discard(tid, range)?,
                MADV_REMOVE => self.zero(tid, range)?,
                MADV_DONTFORK => self.space_of_mut(tid)?.marks.dont_fork.insert(range),
                MADV_DOFORK => self.space_of_mut(tid)?.marks.dont_fork.remove(&range),
                MADV_WIPEONFORK => self.space_of_mut(tid)?.marks.wipe_on_fork.insert(range),
                MADV_KEEPONFORK => self.space_of_mut(tid)?.marks.wipe_on_fork.remove(&range),
                _ => {}
            }
        }
        Ok(())
    }

    /// The mapped parts of a range lose what was written to private pages.
    pub(crate) fn discard(&mut self, tid: Tid, range: Range<Address>) -> Result<()> {
        for part in self.mapped_parts(tid, &range)? {
            if self.space_of(tid)?.marks.unknown_origin.touches(&part) {
                return Err(Problem::unsupported("discarding pages of a file that was not kept"));
            }
            self.discard_pages(tid, part)?;
        }
        Ok(())
    }

    fn zero(&mut self, tid: Tid, range: Range<Address>) -> Result<()> {
        let zeros = vec![0; model::PAGE_SIZE as usize];
        for part in self.mapped_parts(tid, &range)? {
            let space = &mut self.space_of_mut(tid)?.space;
            let mut at = part.start;
            while at < part.end {
                space.write(at, &zeros)?;
                at = at + model::PAGE_SIZE;
            }
        }
        Ok(())
    }

    fn mapped_parts(&self, tid: Tid, range: &Range<Address>) -> Result<Vec<Range<Address>>> {
        let mappings = self.space_of(tid)?.space.mappings();
        let parts = mappings
            .map(|mapping| mapping.range.start.max(range.start)..mapping.range.end.min(range.end));
        Ok(parts.filter(|part| part.start < part.end).collect())
    }

    pub(super) fn shmat(&mut self, current: &mut Current, arguments: [u64; 6]) -> Result<()> {
        let tid = current.frame.tid;
        let map = current.take_map()?;
        let flags = arguments[2];
        let writable = if flags & SHM_RDONLY != 0 { 0 } else { PROT_WRITE };
        let executable = if flags & SHM_EXEC != 0 { PROT_EXEC } else { 0 };
        let prot = PROT_READ | writable | executable;
        let place = Place { range: map.range.clone(), prot, flags: MAP_SHARED };
        self.map_record(tid, &map, &place)?;
        let length = map.range.end - map.range.start;
        self.space_of_mut(tid)?.marks.segments.insert(map.range.start, length);
        Ok(())
    }

    pub(super) fn shmdt(&mut self, tid: Tid, arguments: [u64; 6]) -> Result<()> {
        let start = Address(arguments[0]);
        let space = self.space_of_mut(tid)?;
        let length = space.marks.segments.remove(&start);
        let length = length.ok_or_else(|| Problem::diverged("shmdt of an unknown segment"))?;
        self.unmap(tid, start.range(length))
    }
}
