//! What memory became in a segment.
//!
//! A page is stored as the new values of its words. What they are new against is the page at the
//! segment's beginning: of the same owner, or, for an address space that was forked on the way,
//! of the space that it is a copy of. Its leaf says which that is, unless there are so many
//! ancestors already that whoever looks a page up would have to go through too many: then it is
//! stored whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use machine::Page;
use model::{Address, PAGE_SIZE};
use replay::{Checkpoint, MappingChange, MappingChangeKind, Observed};
use store::{LINEAGE_MAX, Owner, PAGE_WORDS, PageDelta, PageId};

use crate::records::{MappingKind, MappingRecord};

/// A page before and after; `None` is as mapped.
#[derive(Clone, Debug)]
pub struct PageVersions {
    page: PageId,
    old: Option<Arc<Page>>,
    new: Option<Arc<Page>>,
}

/// Of each address space that came to be as a copy, which one of those at the beginning it is
/// compared with.
pub type Bases = BTreeMap<u32, u32>;

pub fn bases(start: &Checkpoint, observed: &Observed) -> Bases {
    let at_start: Vec<replay::Owner> = start.memory().into_iter().map(|(owner, _)| owner).collect();
    let mut bases = Bases::new();
    for fork in &observed.forks {
        let was_there = at_start.contains(&replay::Owner::Space(fork.from.0));
        let from = was_there.then_some(fork.from.0);
        let whole = (fork.generation as usize).is_multiple_of(LINEAGE_MAX);
        let base = bases.get(&fork.from.0).copied().or(from);
        if let Some(base) = base.filter(|_| !whole) {
            bases.insert(fork.space.0, base);
        }
    }
    bases
}

/// The pages that changed, in order.
pub fn versions(
    start: &Checkpoint,
    end: &Checkpoint,
    bases: &Bases,
    mappings: &[MappingChange],
) -> Vec<PageVersions> {
    let base = |owner: replay::Owner| match owner {
        replay::Owner::Space(number) => {
            replay::Owner::Space(bases.get(&number).copied().unwrap_or(number))
        }
        object => object,
    };
    let remapped = |owner: Owner, page: u64| {
        let address = Address(page * PAGE_SIZE);
        let base = bases.get(&owner.0).copied().unwrap_or(owner.0);
        mappings.iter().any(|change| {
            let space = change.space.0;
            (space == owner.0 || bases.get(&space).copied().unwrap_or(space) == base)
                && change.range.contains(&address)
        })
    };
    let mut pages: Vec<PageVersions> = end
        .changes_since(start, base)
        .into_iter()
        .map(|change| {
            let number = match change.owner {
                replay::Owner::Space(number) | replay::Owner::Object(number) => number,
            };
            let page = PageId { owner: Owner(number), page: change.page };
            let old = change.before.filter(|_| !remapped(page.owner, page.page));
            PageVersions { page, old, new: change.contents }
        })
        .collect();
    pages.sort_by_key(|version| version.page);
    pages
}

/// New values of the words that changed.
pub fn deltas(versions: &[PageVersions]) -> impl Iterator<Item = PageDelta> + '_ {
    versions.iter().map(delta).filter(|delta| delta.dropped || !delta.values.is_empty())
}

/// A page that is given whole, with the words that are zero left out, is marked as dropped: so
/// whatever is not known of a page is zero.
fn delta(PageVersions { page, old, new }: &PageVersions) -> PageDelta {
    let mut delta = PageDelta {
        page: *page,
        dropped: old.is_none() || new.is_none(),
        words: [0; 8],
        values: Vec::new(),
        children: 1,
    };
    let Some(new) = new else { return delta };
    let zeroes = [0; PAGE_SIZE as usize];
    let old = old.as_deref().unwrap_or(&zeroes);
    let (new, old) = (new.as_chunks::<8>().0, old.as_chunks::<8>().0);
    for (index, (new, old)) in new.iter().zip(old).enumerate().take(PAGE_WORDS) {
        if new != old {
            delta.words[index / 64] |= 1 << (index % 64);
            delta.values.push(u64::from_le_bytes(*new));
        }
    }
    if delta.dropped && delta.values.is_empty() {
        // A page of zeroes, which may not be as mapped.
        delta.words[0] = 1;
        delta.values.push(0);
    }
    delta
}

pub fn mapping_records(changes: &[MappingChange]) -> Vec<MappingRecord> {
    let bits = |protection: &machine::Protection| {
        u8::from(protection.read)
            | u8::from(protection.write) << 1
            | u8::from(protection.execute) << 2
    };
    let record = |change: &MappingChange| MappingRecord {
        moment: change.moment,
        space: change.space.0,
        tid: change.tid,
        start: change.range.start,
        end: change.range.end,
        change: match &change.kind {
            MappingChangeKind::Mapped { protection, shared, name, offset } => MappingKind::Mapped {
                protection: bits(protection),
                shared: shared.map(|page| (page.memory.0, page.page)),
                name: name.clone(),
                offset: *offset,
            },
            MappingChangeKind::Unmapped => MappingKind::Unmapped,
            MappingChangeKind::Protected { protection } => {
                MappingKind::Protected { protection: bits(protection) }
            }
            MappingChangeKind::MovedHere { from } => MappingKind::MovedHere { from: *from },
            MappingChangeKind::Discarded => MappingKind::Discarded,
        },
    };
    changes.iter().map(record).collect()
}
