//! The state at a border, from the database.

use std::sync::Arc;

use machine::Pages;
use model::PAGE_SIZE;
use replay::{Checkpoint, Session};
use rr_trace::Trace;
use store::{MemoryView, Owner, Reader};

use crate::Error;
use crate::records::blob;

/// A session that stands at the beginning of leaf `border`, whose number may be that of the next
/// leaf that there will be.
///
/// # Errors
///
/// A border that the database does not have, or what is there cannot be read.
pub fn restore(reader: &Reader, trace: &Trace, border: u64) -> Result<Session, Error> {
    let options = replay::Options::default();
    let Some(before) = border.checked_sub(1) else { return Ok(Session::open(trace, options)?) };
    let checkpoint = checkpoint(reader, trace, before)?;
    Ok(Session::resume(trace, options, &checkpoint)?)
}

/// The state at the end of a leaf.
fn checkpoint(reader: &Reader, trace: &Trace, leaf: u64) -> Result<Checkpoint, Error> {
    let border = leaf + 1;
    let leaf = reader.leaf(leaf)?;
    let state = leaf.blob(blob::STATE)?.collect::<Result<Vec<_>, _>>()?.concat();
    let view = MemoryView::new(reader);
    let mut failed = None;
    let checkpoint = Checkpoint::decode(
        &state,
        |owner| {
            let number = match owner {
                replay::Owner::Space(number) | replay::Owner::Object(number) => number,
            };
            Ok(pages(&view, Owner(number), border).unwrap_or_else(|error| {
                failed = Some(error);
                Pages::default()
            }))
        },
        trace,
    );
    match failed {
        Some(error) => Err(error),
        None => Ok(checkpoint?),
    }
}

fn pages(view: &MemoryView<'_>, owner: Owner, border: u64) -> Result<Pages, Error> {
    let mut pages = Pages::default();
    for page in view.pages(owner, border)? {
        let page = page?;
        let mut contents = [0; PAGE_SIZE as usize];
        for word in 0..store::PAGE_WORDS {
            if let Some(value) = page.value(word) {
                contents[word * 8..][..8].copy_from_slice(&value.to_le_bytes());
            }
        }
        pages.insert(page.page.page, Arc::new(contents));
    }
    Ok(pages)
}
