//! Going to and fro in a database.

use std::collections::VecDeque;

use machine::Pages;
use model::Moment;
use replay::{Progress, Session};
use rr_trace::Trace;
use store::{MemoryView, Owner, Reader};

use crate::Error;
use crate::restore::{all_pages, change, checkpoint, restore};

/// Borders at which memory is kept, in leaves: those of nodes of the first level.
const BASE: u64 = 16;
/// Pages that are kept, at most, not counting what is in use: 256 MiB.
const KEPT_PAGES: usize = 1 << 16;

/// A session that can be sent to any moment. What is known of one place serves the next:
/// translations, decompressed parts of the recording, and memory at some borders.
#[derive(Debug)]
pub struct Navigator<'a> {
    reader: &'a Reader,
    trace: &'a Trace,
    session: Option<Session>,
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
        Navigator { reader, trace, session: None, kept: VecDeque::new() }
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
            // There is one machine at a time.
            drop(before);
            return Ok(self.session.insert(restore(self.reader, self.trace, border)?));
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
        // A session that is there already may be behind events.
        let near = self.session.as_ref().is_some_and(|at| (start..moment).contains(&at.moment()));
        if !near {
            self.border(leaf)?;
        }
        // Without one, the lines above have failed.
        let session = self.session.as_mut().ok_or(Error::BehindEnd { moment, end })?;
        while session.moment() < moment {
            if session.advance(Some(moment))? == Progress::End {
                break;
            }
        }
        Ok(session)
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
