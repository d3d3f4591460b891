//! Recorded memory writes: taken from the data stream in order, applied through the address
//! space of the task that each names (rr-replay 1.5).

use model::{Address, PAGE_SIZE};
use rr_trace::{MemWrite, Piece};

use crate::problem::{Problem, Result};
use crate::rr_page::THREAD_LOCALS_PAGE;
use crate::session::Session;
use crate::source::Current;
use crate::task::SpaceId;

/// Dumps of syscall buffers are this long at most.
const DUMP_BYTES_MAX: u64 = 64 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What to do with bytes that have no memory under them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    MustBeMapped,
    Ignored,
}

impl Session {
    /// Applies all writes of the frame that have not been taken yet.
    pub(crate) fn apply_writes(&mut self, current: &mut Current) -> Result<()> {
        self.apply_writes_with(current, Tail::MustBeMapped)
    }

    pub(crate) fn apply_writes_with(&mut self, current: &mut Current, tail: Tail) -> Result<()> {
        while let Some(write) = current.frame.writes.get(current.next_write) {
            current.next_write += 1;
            self.apply_write(write, tail)?;
        }
        Ok(())
    }

    /// Takes all writes from the stream without effect.
    pub(crate) fn skip_writes(&mut self, current: &mut Current) -> Result<()> {
        for write in current.frame.writes.iter().skip(current.next_write) {
            self.source.data.skip(write)?;
        }
        current.next_write = current.frame.writes.len();
        Ok(())
    }

    /// The bytes of the frame's next write, which is not applied.
    pub(crate) fn take_write(&mut self, current: &mut Current) -> Result<(MemWrite, Vec<u8>)> {
        let write = current.frame.writes.get(current.next_write).cloned();
        let write = write.ok_or_else(|| Problem::malformed("a memory write is missing"))?;
        current.next_write += 1;
        let bytes = self.source.data.read_to_vec(&write, DUMP_BYTES_MAX)?;
        Ok((write, bytes))
    }

    fn apply_write(&mut self, write: &MemWrite, tail: Tail) -> Result<()> {
        let Some(id) = self.target_space(write)? else {
            return Ok(self.source.data.skip(write)?);
        };
        let end = write.address + write.length;
        if write.address < THREAD_LOCALS_PAGE + PAGE_SIZE
            && end > THREAD_LOCALS_PAGE
            && self.tasks.contains_key(&write.tid)
        {
            self.activate_thread_locals(write.tid)?;
        }
        let space = self.spaces.get_mut(&id);
        let space = &mut space.ok_or_else(|| Problem::malformed("no such address space"))?.space;
        let lenient = tail == Tail::Ignored || write.length_is_conservative;
        self.source.data.read_write(write, |piece| match piece {
            Piece::Bytes { offset, bytes } => put(space, write.address + offset, bytes, lenient),
            Piece::Zeros { offset, length } => {
                put_zeros(space, write.address + offset, length, lenient)
            }
        })
    }

    fn target_space(&self, write: &MemWrite) -> Result<Option<SpaceId>> {
        if write.address == Address(0) || write.length == 0 {
            return Ok(None);
        }
        let live = self.tasks.get(&write.tid).map(|task| task.space);
        let id = live.or_else(|| self.former_spaces.get(&write.tid).copied());
        let id = id.ok_or_else(|| {
            Problem::malformed(format!("a memory write for the unknown task {}", write.tid))
        })?;
        Ok(self.spaces.contains_key(&id).then_some(id))
    }
}

fn put(space: &mut machine::Space, address: Address, bytes: &[u8], lenient: bool) -> Result<()> {
    if lenient {
        space.write_mapped(address, bytes);
    } else {
        space.write(address, bytes)?;
    }
    Ok(())
}

fn put_zeros(
    space: &mut machine::Space,
    address: Address,
    length: u64,
    lenient: bool,
) -> Result<()> {
    let mut done = 0;
    while done < length {
        let count = (length - done).min(ZEROS.len() as u64) as usize;
        if lenient {
            if space.write_mapped(address + done, &ZEROS[..count]) < count {
                return Ok(());
            }
        } else {
            space.write(address + done, &ZEROS[..count])?;
        }
        done += count as u64;
    }
    Ok(())
}
