//! Which bytes of memory are the same, whatever address and process they are seen from.

use std::ops::Range;

use machine::Watch;
use model::{Address, Moment, PAGE_SIZE};
use store::{Key, Owner};

use crate::database::Database;

/// Ancestors of an address space that are looked at.
const ANCESTORS_MAX: usize = 64;

/// Bytes of memory with all the places at which they can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bytes {
    /// Where they were asked for.
    pub space: u32,
    pub address: Address,
    pub length: u64,
    pub views: Vec<View>,
}

/// A part of the bytes in an address space, for some time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    pub space: u32,
    pub range: Range<Address>,
    /// Of its beginning in the bytes.
    pub at: u64,
    /// Whose memory it is in the database, and where there.
    pub owner: Owner,
    pub owned: u64,
    pub from: Moment,
    /// `None`: to the end of the run.
    pub to: Option<Moment>,
}

impl View {
    pub fn is_at(&self, moment: Moment) -> bool {
        self.from <= moment && self.to.is_none_or(|to| moment <= to)
    }

    fn overlaps(&self, span: &Range<Moment>) -> bool {
        self.from <= span.end && self.to.is_none_or(|to| span.start <= to)
    }
}

impl Bytes {
    /// What lies at an address at a moment.
    pub fn at(db: &Database, space: u32, address: Address, length: u64, moment: Moment) -> Bytes {
        let mut views = Vec::new();
        let end = address.0.saturating_add(length);
        let mut at = address.0;
        while at < end {
            let page_end = (at / PAGE_SIZE * PAGE_SIZE).saturating_add(PAGE_SIZE).min(end);
            let mapped = db.history.mapped(space, Address(at), moment);
            let shared = mapped.and_then(|mapped| Some((mapped, mapped.shared?)));
            match shared {
                Some((mapped, (owner, page))) => {
                    let owned = page * PAGE_SIZE + (Address(at) - mapped.range.start);
                    shared_views(
                        db,
                        owner,
                        owned..owned + (page_end - at),
                        at - address.0,
                        &mut views,
                    );
                }
                None => private_views(db, space, at..page_end, at - address.0, &mut views),
            }
            at = page_end;
        }
        Bytes { space, address, length, views: joined(views) }
    }

    /// Ranges to stop at; what stops elsewhere is sorted out by [`Bytes::part`].
    pub fn watches(&self, reads: bool) -> Vec<Watch> {
        let mut ranges: Vec<Range<Address>> =
            self.views.iter().map(|view| view.range.clone()).collect();
        ranges.sort_by_key(|range| (range.start, range.end));
        ranges.dedup();
        ranges.into_iter().map(|range| Watch { range, reads }).collect()
    }

    pub fn keys(&self, read: bool) -> Vec<Key> {
        let mut keys: Vec<(Owner, Range<u64>)> = Vec::new();
        for view in &self.views {
            let key = (view.owner, view.owned..view.owned + (view.range.end - view.range.start));
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let key = |(owner, bytes)| match read {
            true => Key::Read { owner, bytes },
            false => Key::Written { owner, bytes },
        };
        keys.into_iter().map(key).collect()
    }

    /// Views that there are at some time of a span.
    pub fn views_in<'b>(&'b self, span: &'b Range<Moment>) -> impl Iterator<Item = &'b View> {
        self.views.iter().filter(move |view| view.overlaps(span))
    }

    /// Where an address space sees one of the bytes.
    pub fn address(&self, space: u32, byte: u64, moment: Moment) -> Option<Address> {
        let sees = |view: &&View| {
            let length = view.range.end - view.range.start;
            view.space == space && view.is_at(moment) && (view.at..view.at + length).contains(&byte)
        };
        let view = self.views.iter().rfind(sees)?;
        Some(view.range.start + (byte - view.at))
    }

    /// Which of the bytes a range of an address space is.
    pub fn part(&self, space: u32, range: &Range<Address>, moment: Moment) -> Option<Range<u64>> {
        let mut part: Option<Range<u64>> = None;
        for view in self.views.iter().filter(|view| view.space == space && view.is_at(moment)) {
            let start = range.start.max(view.range.start);
            let end = range.end.min(view.range.end);
            if start < end {
                let piece =
                    view.at + (start - view.range.start)..view.at + (end - view.range.start);
                part = Some(match part {
                    Some(part) => part.start.min(piece.start)..part.end.max(piece.end),
                    None => piece,
                });
            }
        }
        part
    }
}

/// Of private memory: the space's own, and its ancestors' until it was copied.
fn private_views(db: &Database, space: u32, range: Range<u64>, at: u64, views: &mut Vec<View>) {
    let (mut space, mut to) = (space, None);
    for _ in 0..ANCESTORS_MAX {
        let copied = db.history.spaces.get(&space).and_then(|history| history.copied);
        views.push(View {
            space,
            range: Address(range.start)..Address(range.end),
            at,
            owner: Owner(space),
            owned: range.start,
            from: copied.map_or(Moment(0), |(_, moment)| moment),
            to,
        });
        let Some((parent, moment)) = copied else { break };
        (space, to) = (parent, Some(moment));
    }
}

/// Of shared memory: wherever it was mapped.
fn shared_views(db: &Database, owner: u32, range: Range<u64>, at: u64, views: &mut Vec<View>) {
    for (space, history) in &db.history.spaces {
        for mapped in &history.mapped {
            let Some((_, page)) = mapped.shared.filter(|(of, _)| *of == owner) else { continue };
            let first = page * PAGE_SIZE;
            let start = range.start.max(first);
            let end = range.end.min(first + (mapped.range.end - mapped.range.start));
            if start < end {
                views.push(View {
                    space: *space,
                    range: mapped.range.start + (start - first)..mapped.range.start + (end - first),
                    at: at + (start - range.start),
                    owner: Owner(owner),
                    owned: start,
                    from: mapped.from,
                    to: mapped.to,
                });
            }
        }
    }
}

/// Neighbours that were told page by page, together.
fn joined(mut views: Vec<View>) -> Vec<View> {
    views.sort_by_key(|view| (view.space, view.from, view.owner, view.to, view.at));
    let mut joined: Vec<View> = Vec::new();
    for view in views {
        if let Some(last) = joined.last_mut()
            && (last.space, last.from, last.to, last.owner)
                == (view.space, view.from, view.to, view.owner)
            && last.range.end == view.range.start
            && last.at + (last.range.end - last.range.start) == view.at
            && last.owned + (last.range.end - last.range.start) == view.owned
        {
            last.range.end = view.range.end;
        } else if joined.last() != Some(&view) {
            joined.push(view);
        }
    }
    joined
}
