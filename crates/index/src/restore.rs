//! The state at a border, from the database.

use std::sync::Arc;

use machine::Pages;
use model::PAGE_SIZE;
use replay::{Checkpoint, Opened, Session, TickRule};
use rr_trace::Trace;
use store::{MemoryView, Owner, PageDelta, Reader};

use crate::Error;
use crate::records::blob;

/// A session that stands at the beginning of leaf `border`, whose number may be that of the next
/// leaf that there will be.
///
/// # Errors
///
/// A border that the database does not have, or what is there cannot be read.
pub fn restore(reader: &Reader, trace: &Trace, border: u64) -> Result<Session, Error> {
    let Some(before) = border.checked_sub(1) else {
        let tick_rule = tick_rule(reader, trace)?;
        return Ok(Session::open(trace, replay::Options { tick_rule, ..Default::default() })?);
    };
    let checkpoint = checkpoint((reader, before), trace, &Opened::default(), |owner, border| {
        all_pages(&MemoryView::new(reader), owner, border)
    })?;
    Ok(Session::resume(trace, replay::Options::default(), &checkpoint)?)
}

/// How the recording's ticks were counted, as far as the database knows.
fn tick_rule(reader: &Reader, trace: &Trace) -> Result<Option<TickRule>, Error> {
    if reader.leaves() == 0 {
        return Ok(None);
    }
    let none = |_, _| Ok(Pages::default());
    let first = checkpoint((reader, 0), trace, &Opened::default(), none)?;
    Ok(Some(first.tick_rule()))
}

/// The state at the end of a leaf, with the pages that `pages` gives of each owner at a border.
pub fn checkpoint(
    (reader, leaf): (&Reader, u64),
    trace: &Trace,
    opened: &Opened,
    mut pages: impl FnMut(Owner, u64) -> Result<Pages, Error>,
) -> Result<Checkpoint, Error> {
    let border = leaf + 1;
    let leaf = reader.leaf(leaf)?;
    let state = leaf.blob(blob::STATE)?.collect::<Result<Vec<_>, _>>()?.concat();
    let mut failed = None;
    let checkpoint = Checkpoint::decode(
        &state,
        |owner| {
            let number = match owner {
                replay::Owner::Space(number) | replay::Owner::Object(number) => number,
            };
            Ok(pages(Owner(number), border).unwrap_or_else(|error| {
                failed = Some(error);
                Pages::default()
            }))
        },
        trace,
        opened,
    );
    match failed {
        Some(error) => Err(error),
        None => Ok(checkpoint?),
    }
}

/// All that an owner has at a border.
pub fn all_pages(view: &MemoryView<'_>, owner: Owner, border: u64) -> Result<Pages, Error> {
    let mut pages = Pages::default();
    for page in view.pages(owner, border)? {
        change(&mut pages, &page?);
    }
    Ok(pages)
}

/// Makes a change to what an owner has.
pub fn change(pages: &mut Pages, delta: &PageDelta) {
    let number = delta.page.page;
    if delta.values.is_empty() {
        pages.remove(number);
        return;
    }
    let old = pages.get(number).filter(|_| !delta.dropped);
    let mut contents = old.map_or([0; PAGE_SIZE as usize], |page| **page);
    let (words, _) = contents.as_chunks_mut::<8>();
    for (word, value) in delta.changed_words() {
        words[word] = value.to_le_bytes();
    }
    pages.insert(number, Arc::new(contents));
}
