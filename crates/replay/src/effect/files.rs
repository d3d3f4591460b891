//! Descriptors: which ones lead to modelled memory, and what is written through them
//! (rr-replay 5.2.4, 5.8, 9.4).

use model::{Address, Tid};
use rr_trace::{EventKind, OpenedFd, SyscallExtra};

use crate::descriptors::{FileIdentity, Monitor};
use crate::numbers::syscall::*;
use crate::numbers::{CLONE_FILES, CLOSE_RANGE_UNSHARE};
use crate::problem::Result;
use crate::session::Session;
use crate::source::Current;
use crate::task::SpaceId;

/// Pieces of a vectored write, as the kernel limits them.
const PIECES_MAX: u64 = 1024;

impl Session {
    pub(super) fn descriptor_effects(
        &mut self,
        current: &Current,
        number: i32,
        arguments: [u64; 6],
        result: i64,
    ) -> Result<()> {
        let tid = current.frame.tid;
        match number {
            UNSHARE if arguments[0] & CLONE_FILES != 0 => {
                self.unshare_files(tid, number)?;
            }
            CLOSE_RANGE if arguments[2] & CLOSE_RANGE_UNSHARE != 0 => {
                self.unshare_files(tid, number)?;
            }
            WRITE | WRITEV => {
                self.written_to_descriptor(tid, arguments, write_offset(current), result)?;
            }
            PWRITE64 => self.written_to_descriptor(tid, arguments, Some(arguments[3]), result)?,
            PWRITEV | PWRITEV2 => {
                self.written_to_descriptor(tid, arguments, Some(arguments[3]), result)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// New descriptors that the recorder found worth mentioning.
    pub(crate) fn opened_descriptors(&mut self, current: &Current) -> Result<()> {
        let EventKind::Syscall(syscall) = &current.frame.kind else { return Ok(()) };
        let SyscallExtra::OpenedFds(opened) = &syscall.extra else { return Ok(()) };
        for descriptor in opened {
            let monitor = self.monitor_of(descriptor);
            let call = Some(syscall.number);
            self.with_descriptors(current.frame.tid, call, |descriptors, table, happenings| {
                descriptors.recorded(table, descriptor, monitor, happenings);
            })?;
        }
        Ok(())
    }

    fn monitor_of(&self, opened: &OpenedFd) -> Option<Monitor> {
        let identity = FileIdentity { device: opened.device, inode: opened.inode };
        if self.mapped_file(identity).is_some() {
            return Some(Monitor::Mapped(identity));
        }
        self.process_memory(&opened.path).map(Monitor::ProcessMemory)
    }

    /// The address space that `/proc/TID/mem` or `/proc/PID/task/TID/mem` is about.
    fn process_memory(&self, path: &[u8]) -> Option<SpaceId> {
        let number = path.strip_prefix(b"/proc/")?.strip_suffix(b"/mem")?;
        let number = number.rsplit(|&byte| byte == b'/').next()?;
        let number: i32 = std::str::from_utf8(number).ok()?.parse().ok()?;
        self.tasks.get(&Tid(number)).map(|task| task.space)
    }

    /// `length` bytes went to the descriptor in the first argument, at `offset` of its file.
    pub(crate) fn written_to_descriptor(
        &mut self,
        tid: Tid,
        arguments: [u64; 6],
        offset: Option<u64>,
        length: i64,
    ) -> Result<()> {
        let (Some(offset), Ok(length @ 1..)) = (offset, u64::try_from(length)) else {
            return Ok(());
        };
        let files = self.task(tid)?.files;
        match self.descriptors.monitor(files, arguments[0] as i32) {
            Some(Monitor::Mapped(identity)) => {
                if let Some(file) = self.mapped_file(identity) {
                    file.object.grow(offset.saturating_add(length))?;
                }
            }
            Some(Monitor::ProcessMemory(space)) if self.rules.writes_process_memory => {
                self.write_process_memory(tid, space, arguments, offset, length)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn write_process_memory(
        &mut self,
        tid: Tid,
        target: SpaceId,
        arguments: [u64; 6],
        offset: u64,
        length: u64,
    ) -> Result<()> {
        let mut done = 0;
        for (start, piece) in self.written_pieces(tid, arguments)? {
            let mut bytes = [0; 4096];
            let mut copied = 0;
            while copied < piece && done < length {
                let count = (piece - copied).min(length - done).min(bytes.len() as u64) as usize;
                let bytes = &mut bytes[..count];
                self.space_of(tid)?.space.read(start + copied, bytes)?;
                if let Some(space) = self.spaces.get_mut(&target) {
                    space.space.write_mapped(Address(offset) + done, bytes);
                }
                copied += count as u64;
                done += count as u64;
            }
        }
        Ok(())
    }

    /// Where the written bytes come from: one buffer, or the caller's vector of buffers.
    fn written_pieces(&self, tid: Tid, arguments: [u64; 6]) -> Result<Vec<(Address, u64)>> {
        let number = self.task(tid)?.orig_rax as i32;
        if ![WRITEV, PWRITEV, PWRITEV2].contains(&number) {
            return Ok(vec![(Address(arguments[1]), arguments[2])]);
        }
        let space = &self.space_of(tid)?.space;
        let pieces = (0..arguments[2].min(PIECES_MAX)).map(|index| {
            let at = Address(arguments[1]) + index * 16;
            Ok((Address(space.read_u64(at)?), space.read_u64(at + 8)?))
        });
        pieces.collect()
    }
}

/// Where a write(2) went: known only for descriptors that the recorder watched.
fn write_offset(current: &Current) -> Option<u64> {
    let EventKind::Syscall(syscall) = &current.frame.kind else { return None };
    match syscall.extra {
        SyscallExtra::WriteOffset(offset) => u64::try_from(offset).ok(),
        _ => None,
    }
}
