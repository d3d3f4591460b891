//! Every change of what is mapped in a recorded address space, in one place: so that what was
//! observed until then is kept, and the change itself is observed.

use std::ops::Range;

use machine::{Backing, Protection};
use model::{Address, PAGE_SIZE, Tid};

use crate::observe::{MappingChange, MappingChangeKind, MemoryId, PageId};
use crate::problem::{Problem, Result};
use crate::session::Session;
use crate::task::SpaceId;

/// What a mapping is of, for those who observe.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mapped<'a> {
    /// Of the file, or what the kernel calls it; empty of anonymous memory.
    pub name: &'a [u8],
    /// Of the mapping's beginning in the file, in bytes.
    pub offset: u64,
}

impl Session {
    /// Maps a range anew.
    pub(crate) fn remap(
        &mut self,
        tid: Tid,
        range: Range<Address>,
        protection: Protection,
        backing: Backing,
        of: Mapped<'_>,
    ) -> Result<()> {
        let id = self.task(tid)?.space;
        self.before_remapping(id, &range)?;
        if self.observing.is_on() {
            let shared = match &backing {
                Backing::Shared { object, offset } => {
                    Some(PageId { memory: MemoryId(object.number()), page: offset / PAGE_SIZE })
                }
                _ => None,
            };
            let (name, offset) = (of.name.to_vec(), of.offset);
            let kind = MappingChangeKind::Mapped { protection, shared, name, offset };
            self.note_mapping(id, Some(tid), range.clone(), kind);
        }
        self.space_mut(id)?.map(range, protection, backing)?;
        Ok(())
    }

    pub(crate) fn unmap(&mut self, tid: Tid, range: Range<Address>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let id = self.task(tid)?.space;
        self.before_remapping(id, &range)?;
        self.note_mapping(id, Some(tid), range.clone(), MappingChangeKind::Unmapped);
        self.space_mut(id)?.unmap(range)?;
        Ok(())
    }

    pub(crate) fn protect(
        &mut self,
        tid: Tid,
        range: Range<Address>,
        protection: Protection,
    ) -> Result<()> {
        let id = self.task(tid)?.space;
        let kind = MappingChangeKind::Protected { protection };
        self.note_mapping(id, Some(tid), range.clone(), kind);
        self.space_mut(id)?.space.protect(range, protection)?;
        Ok(())
    }

    /// Moves mappings with their contents and marks; nothing is left at `from`.
    pub(crate) fn relocate(&mut self, tid: Tid, from: Range<Address>, to: Address) -> Result<()> {
        let id = self.task(tid)?.space;
        self.before_remapping(id, &from)?;
        let target = to.range(from.end - from.start);
        self.before_remapping(id, &target)?;
        let kind = MappingChangeKind::MovedHere { from: from.start };
        self.note_mapping(id, Some(tid), target, kind);
        let space = self.space_mut(id)?;
        space.marks.relocate(&from, to);
        space.space.relocate(from, to)?;
        Ok(())
    }

    /// Private pages of a mapped range lose what was written to them.
    pub(crate) fn discard_pages(&mut self, tid: Tid, range: Range<Address>) -> Result<()> {
        let id = self.task(tid)?.space;
        self.note_mapping(id, Some(tid), range.clone(), MappingChangeKind::Discarded);
        self.space_mut(id)?.space.discard(range)?;
        Ok(())
    }

    fn space_mut(&mut self, id: SpaceId) -> Result<&mut crate::address_space::AddressSpace> {
        self.spaces.get_mut(&id).ok_or_else(|| Problem::malformed("no such address space"))
    }

    fn note_mapping(
        &mut self,
        id: SpaceId,
        tid: Option<Tid>,
        range: Range<Address>,
        kind: MappingChangeKind,
    ) {
        if self.observing.is_on() {
            let (moment, space) = (self.moment, MemoryId(id.0));
            self.observing.note_mapping(MappingChange { moment, space, tid, range, kind });
        }
    }
}
