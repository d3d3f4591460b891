//! Going to and fro in a database.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use machine::Pages;
use model::Moment;
use replay::{Checkpoint, Progress, Session};
use rr_trace::Trace;
use store::{MemoryView, Owner, Reader};

use crate::Error;
use crate::restore::{all_pages, change, checkpoint, restore};

/// Borders at which memory is kept, in leaves: those of nodes of the first level.
const BASE: u64 = 16;
/// A leaf is gone through in so many steps at most, of so many instructions at least: from their
/// ends it can be gone on from. What these hold of memory are pages that the leaf has written.
const RUNGS: u64 = 16;
const RUNG_MIN: u64 = 1 << 14;
/// Leaves with such places at a time.
const LADDERS: usize = 4;
/// Pages that are kept, at most, not counting what is in use: 256 MiB.
const KEPT_PAGES: usize = 1 << 16;

/// A session that can be sent to any moment. What is known of one place serves the next:
/// translations, decompressed parts of the recording, and memory at some borders.
#[derive(Debug)]
pub struct Navigator<'a> {
    reader: &'a Reader,
    trace: &'a Trace,
    session: Option<Session>,
    /// The recording's beginning, once it was needed.
    beginning: Option<Checkpoint>,
    /// Places inside of the leaves that were gone to last, by moment.
    ladder: BTreeMap<Moment, Checkpoint>,
    /// The leaves that the ladder is of, what was used last in front.
    climbed: VecDeque<u64>,
    /// Memory of owners at borders, what was used last in front.
    kept: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    owner: Owner,
    border: u64,
    pages: Pages,
    count: usize,
}

impl<'a> Navigator<'a> {
    pub fn new(reader: &'a Reader, trace: &'a Trace) -> Navigator<'a> {
        Navigator {
            reader,
            trace,
            session: None,
            beginning: None,
            ladder: BTreeMap::new(),
            climbed: VecDeque::new(),
            kept: VecDeque::new(),
        }
    }

    /// The session at the beginning of a leaf, whose number may be that of the next leaf that
    /// there will be.
    ///
    /// # Errors
    ///
    /// A border that the database does not have, or what is there cannot be read.
    pub fn border(&mut self, border: u64) -> Result<&mut Session, Error> {
        let before = self.session.take();
        let Some(leaf) = border.checked_sub(1) else {
            return self.begin(before);
        };
        let opened = before.as_ref().map(Session::opened).unwrap_or_default();
        let (reader, kept) = (self.reader, &mut self.kept);
        let view = MemoryView::new(reader);
        let pages = |owner, border| pages(&view, kept, owner, border);
        let checkpoint = checkpoint((reader, leaf), self.trace, &opened, pages)?;
        let session = match before {
            Some(mut session) => {
                session.restore(&checkpoint)?;
                session
            }
            None => Session::resume(self.trace, replay::Options::default(), &checkpoint)?,
        };
        Ok(self.session.insert(session))
    }

    /// The session at the beginning of the recording.
    fn begin(&mut self, before: Option<Session>) -> Result<&mut Session, Error> {
        let session = match (before, &self.beginning) {
            (Some(mut session), Some(beginning)) => {
                session.restore(beginning)?;
                session
            }
            (before, _) => {
                // There is one machine at a time.
                drop(before);
                let mut session = restore(self.reader, self.trace, 0)?;
                self.beginning = Some(session.checkpoint()?);
                session
            }
        };
        Ok(self.session.insert(session))
    }

    /// The session where it is.
    pub fn session(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    /// The session at a moment: the last instruction before it has been executed, and none of the
    /// events that follow.
    ///
    /// # Errors
    ///
    /// As [`Navigator::border`]; a moment behind the end of the database.
    pub fn moment(&mut self, moment: Moment) -> Result<&mut Session, Error> {
        let end = self.reader.end();
        if moment > end {
            return Err(Error::BehindEnd { moment, end });
        }
        let last = self.reader.leaves().saturating_sub(1);
        let leaf = self.reader.leaf_at(moment)?.unwrap_or(last);
        let start = self.reader.span(leaf)?.start;
        self.climb(leaf)?;
        // A session that is there already may be behind events.
        let here = self.session.as_ref().map(Session::moment);
        let here = here.filter(|here| (start..moment).contains(here));
        match self.ladder.range(start..=moment).next_back() {
            Some((rung, checkpoint)) if here.is_none_or(|here| here < *rung) => {
                match &mut self.session {
                    Some(session) => session.restore(checkpoint)?,
                    None => {
                        self.border(leaf)?;
                    }
                }
            }
            _ if here.is_none() => {
                self.border(leaf)?;
            }
            _ => {}
        }
        // Without one, the lines above have failed.
        let session = self.session.as_mut().ok_or(Error::BehindEnd { moment, end })?;
        let span = self.reader.span(leaf)?;
        let step = ((span.end - span.start) / RUNGS).max(RUNG_MIN);
        while session.moment() < moment {
            let next = Moment(start.0 + ((session.moment() - start) / step + 1) * step);
            let progress = session.advance(Some(next.min(moment)))?;
            match progress {
                Progress::End => break,
                Progress::Moment if session.moment() == next => {
                    if let Entry::Vacant(rung) = self.ladder.entry(next) {
                        rung.insert(session.checkpoint()?);
                    }
                }
                _ => {}
            }
        }
        Ok(session)
    }

    /// Makes room for places of a leaf.
    fn climb(&mut self, leaf: u64) -> Result<(), Error> {
        self.climbed.retain(|known| *known != leaf);
        self.climbed.push_front(leaf);
        while self.climbed.len() > LADDERS {
            let Some(last) = self.climbed.pop_back() else { break };
            let span = self.reader.span(last)?;
            self.ladder.retain(|moment, _| !(span.start < *moment && *moment <= span.end));
        }
        Ok(())
    }

    /// Moments in a leaf from which [`Navigator::moment`] goes on at once, up to one of its
    /// moments: the leaf's beginning, and what it passed on the way to the moment.
    ///
    /// # Errors
    ///
    /// As of [`Navigator::moment`].
    pub fn rungs(&mut self, leaf: u64, moment: Moment) -> Result<Vec<Moment>, Error> {
        let span = self.reader.span(leaf)?;
        let last = moment.min(Moment(span.end.0.saturating_sub(1))).max(span.start);
        self.moment(last)?;
        let passed = self.ladder.range(span.start + 1..last).map(|(rung, _)| *rung);
        Ok(std::iter::once(span.start).chain(passed).collect())
    }
}

/// What an owner has at a border: from a border below, as far as it was there then.
fn pages(
    view: &MemoryView<'_>,
    kept: &mut VecDeque<Kept>,
    owner: Owner,
    border: u64,
) -> Result<Pages, Error> {
    let base = border / BASE * BASE;
    let parent = view.lineage(owner)?.and_then(|lineage| lineage.parent);
    if base == 0 || parent.is_some_and(|(_, forked)| forked >= base) {
        return all_pages(view, owner, border);
    }
    let known = kept.iter().position(|kept| (kept.owner, kept.border) == (owner, base));
    let known = known.and_then(|index| kept.remove(index));
    let found = match known {
        Some(found) => found,
        None => {
            let pages = all_pages(view, owner, base)?;
            let count = pages.all().len();
            Kept { owner, border: base, pages, count }
        }
    };
    let mut pages = found.pages.clone();
    for delta in view.changed(owner, base..border)? {
        change(&mut pages, &delta?);
    }
    kept.push_front(found);
    let mut total = 0;
    kept.retain(|kept| {
        total += kept.count;
        total <= KEPT_PAGES
    });
    Ok(pages)
}
