//! Address spaces over time: which file was mapped where, from when to when.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use index::records::{CallersRecord, ForkRecord, MappingKind, MappingRecord};
use model::{Address, Moment, Tid};

/// A mapping of a named file, or of shared memory, for as long as it lasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    pub range: Range<Address>,
    /// Path of the file, or what the kernel calls it.
    pub name: Arc<str>,
    /// Of the range's beginning in the file, in bytes.
    pub offset: u64,
    /// Owner and page of the range's beginning, of shared memory.
    pub shared: Option<(u32, u64)>,
    pub from: Moment,
    /// `None`: to the end of the run.
    pub to: Option<Moment>,
}

/// An address space's mappings, in order of their beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpaceHistory {
    pub mapped: Vec<Mapped>,
    /// All changes of what is mapped, in order of time.
    pub changes: Vec<Change>,
    /// The space that it is a copy of, and since when.
    pub copied: Option<(u32, Moment)>,
}

/// Memory got another content because another thing is mapped there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub moment: Moment,
    /// Whose call it was, if it was one.
    pub tid: Option<Tid>,
    pub range: Range<Address>,
    pub kind: ChangeKind,
    /// Of what is there from now on: a file, or what the kernel calls it.
    pub name: Arc<str>,
    /// Of the range's beginning in the file, in bytes.
    pub offset: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Mapped,
    Unmapped,
    /// The content came from this address.
    Moved {
        from: Address,
    },
    /// The content was thrown away: madvise(2).
    Discarded,
}

impl SpaceHistory {
    /// What was mapped at an address at a moment. Of several, the one that was mapped last.
    pub fn at(&self, address: Address, moment: Moment) -> Option<&Mapped> {
        self.mapped.iter().rev().find(|mapped| {
            mapped.range.contains(&address)
                && mapped.from <= moment
                && mapped.to.is_none_or(|to| moment < to)
        })
    }
}

/// Puts the history together in order of time.
#[derive(Debug, Default)]
pub struct Spaces {
    histories: BTreeMap<u32, SpaceHistory>,
    /// What is there now: index into the history, by the range's end.
    now: BTreeMap<u32, BTreeMap<u64, Mapped>>,
    names: BTreeMap<Vec<u8>, Arc<str>>,
}

impl Spaces {
    /// What a segment's records say.
    pub fn add(&mut self, changes: Vec<MappingRecord>, callers: &CallersRecord) {
        let mut forks = callers.forks.iter().peekable();
        for change in changes {
            while let Some(fork) = forks.next_if(|fork| fork.moment <= change.moment) {
                self.fork(fork);
            }
            self.change(change);
        }
        forks.for_each(|fork| self.fork(fork));
        // When exactly they ended is not recorded, and nobody asks about them later.
        for space in &callers.ended {
            let rest = self.now.remove(space).unwrap_or_default();
            self.histories.entry(*space).or_default().mapped.extend(rest.into_values());
        }
    }

    fn fork(&mut self, fork: &ForkRecord) {
        let parent = self.now.get(&fork.from).cloned().unwrap_or_default();
        let copied =
            parent.into_iter().map(|(end, mapped)| (end, Mapped { from: fork.moment, ..mapped }));
        let history = self.histories.entry(fork.space).or_default();
        history.copied = Some((fork.from, fork.moment));
        // A record of the child may have come before.
        let child = self.now.entry(fork.space).or_default();
        let own = std::mem::take(child);
        *child = copied.collect();
        for (end, mapped) in own {
            child.insert(end, mapped);
        }
    }

    fn change(&mut self, change: MappingRecord) {
        let MappingRecord { moment, space, tid, start, end, change } = change;
        let range = start..end;
        let kind = match &change {
            MappingKind::Mapped { .. } => Some(ChangeKind::Mapped),
            MappingKind::Unmapped => Some(ChangeKind::Unmapped),
            MappingKind::MovedHere { from } => Some(ChangeKind::Moved { from: *from }),
            MappingKind::Discarded => Some(ChangeKind::Discarded),
            MappingKind::Protected { .. } => None,
        };
        if let Some(kind) = kind {
            let (name, offset) = match &change {
                MappingKind::Mapped { name, offset, .. } => (name.clone(), *offset),
                _ => (Vec::new(), 0),
            };
            let name = self.name(name);
            let change = Change { moment, tid, range: range.clone(), kind, name, offset };
            self.histories.entry(space).or_default().changes.push(change);
        }
        match change {
            MappingKind::Mapped { shared, name, offset, .. } => {
                self.cut(space, &range, moment);
                if name.is_empty() && shared.is_none() {
                    return;
                }
                let name = self.name(name);
                let mapped =
                    Mapped { range: range.clone(), name, offset, shared, from: moment, to: None };
                self.now.entry(space).or_default().insert(range.end.0, mapped);
            }
            MappingKind::Unmapped => self.cut(space, &range, moment),
            MappingKind::MovedHere { from } => {
                let old = from..from + (end - start);
                let moved: Vec<Mapped> = self
                    .pieces(space, &old)
                    .into_iter()
                    .map(|piece| Mapped {
                        range: start + (piece.range.start - from)..start + (piece.range.end - from),
                        from: moment,
                        ..piece
                    })
                    .collect();
                self.cut(space, &old, moment);
                self.cut(space, &range, moment);
                let now = self.now.entry(space).or_default();
                now.extend(moved.into_iter().map(|mapped| (mapped.range.end.0, mapped)));
            }
            MappingKind::Protected { .. } | MappingKind::Discarded => {}
        }
    }

    fn name(&mut self, name: Vec<u8>) -> Arc<str> {
        let text = || Arc::from(String::from_utf8_lossy(&name).as_ref());
        if let Some(known) = self.names.get(&name) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text();
        self.names.insert(name, Arc::clone(&text));
        text
    }

    /// The parts of mappings that lie in a range.
    fn pieces(&self, space: u32, range: &Range<Address>) -> Vec<Mapped> {
        let Some(now) = self.now.get(&space) else { return Vec::new() };
        let touched = now.range(range.start.0.saturating_add(1)..).map(|(_, mapped)| mapped);
        touched
            .take_while(|mapped| mapped.range.start < range.end)
            .map(|mapped| {
                let start = mapped.range.start.max(range.start);
                part(mapped, start..mapped.range.end.min(range.end))
            })
            .collect()
    }

    /// Nothing is mapped in a range any more.
    fn cut(&mut self, space: u32, range: &Range<Address>, moment: Moment) {
        let now = self.now.entry(space).or_default();
        let touched: Vec<u64> = now
            .range(range.start.0.saturating_add(1)..)
            .take_while(|(_, mapped)| mapped.range.start < range.end)
            .map(|(end, _)| *end)
            .collect();
        let history = self.histories.entry(space).or_default();
        for end in touched {
            let Some(mapped) = now.remove(&end) else { continue };
            let before = mapped.range.start..range.start.max(mapped.range.start);
            let behind = range.end.min(mapped.range.end)..mapped.range.end;
            for rest in [before, behind].into_iter().filter(|rest| !rest.is_empty()) {
                now.insert(rest.end.0, part(&mapped, rest));
            }
            // The parts that stay are told twice; they say the same.
            history.mapped.push(Mapped { to: Some(moment), ..mapped });
        }
    }

    pub fn finish(mut self) -> BTreeMap<u32, SpaceHistory> {
        for (space, now) in self.now {
            self.histories.entry(space).or_default().mapped.extend(now.into_values());
        }
        for history in self.histories.values_mut() {
            history.mapped.sort_by_key(|mapped| (mapped.from, mapped.range.start));
        }
        self.histories
    }
}

fn part(mapped: &Mapped, range: Range<Address>) -> Mapped {
    let distance = range.start - mapped.range.start;
    let shared = mapped.shared.map(|(owner, page)| (owner, page + distance / model::PAGE_SIZE));
    Mapped { range, offset: mapped.offset + distance, shared, ..mapped.clone() }
}
