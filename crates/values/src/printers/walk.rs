//! Elements of containers, found by walking.

use std::sync::Arc;

use symbols::{Encoding, Language};

use super::definition::{Alternatives, Entry, Printer, Shape};
use super::print::Show;
use crate::datum::{Context, Datum};
use crate::types::number_type;
use crate::value::{Badge, Format};
use crate::view::{Elements as Walked, Part, Step};

/// Levels of trees.
const DEPTH_MAX: usize = 300;
/// Nodes of one walk. All memory may be damaged.
const NODES_MAX: u64 = 1 << 20;
/// Elements in a node of a multiway tree.
const NODE_LENGTH_MAX: u64 = 1 << 12;

/// The elements of a value.
#[derive(Debug)]
pub(super) struct Elements {
    pub printer: Arc<Printer>,
    pub own: Datum,
    pub walk: Walk,
}

#[derive(Debug)]
pub(super) enum Walk {
    Fixed(Vec<Part>),
    /// The first, and how many.
    Array {
        first: Datum,
        count: u64,
    },
    Indexed {
        count: u64,
    },
    Nodes {
        count: Option<u64>,
    },
}

impl Walked for Elements {
    fn count(&self) -> Option<u64> {
        match &self.walk {
            Walk::Fixed(parts) => Some(parts.len() as u64),
            Walk::Array { count, .. } | Walk::Indexed { count } => Some(*count),
            Walk::Nodes { count } => *count,
        }
    }

    fn range(&self, context: &Context<'_>, from: u64, count: usize) -> (Vec<Part>, Option<Badge>) {
        let context = context.deeper();
        let show = Show { context: &context, printer: &self.printer, own: &self.own, names: &[] };
        let end = from.saturating_add(count as u64);
        let known_end = self.count().map_or(end, |all| end.min(all));
        let mut taker = Taker { from, end: known_end, seen: 0, parts: Vec::new() };
        let trouble = match &self.walk {
            Walk::Fixed(parts) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                taker.parts = parts.iter().skip(from).take(count).cloned().collect();
                None
            }
            Walk::Array { first, .. } => {
                array(&context, first, from, known_end, &mut taker.parts);
                None
            }
            Walk::Indexed { .. } => indexed(&show, from, known_end, &mut taker.parts).err(),
            Walk::Nodes { .. } if count == 0 || from >= known_end => None,
            Walk::Nodes { .. } => nodes(&show, &mut taker).err(),
        };
        (taker.parts, trouble)
    }
}

fn array(context: &Context<'_>, first: &Datum, from: u64, end: u64, parts: &mut Vec<Part>) {
    let Ok(size) = context.size(&first.ty) else { return };
    for index in from..end {
        let home = first.home.at(index.wrapping_mul(size));
        let datum = Datum { ty: Arc::clone(&first.ty), home, bits: None, pointed: false };
        parts.push(Part { name: format!("[{index}]"), step: Step::Number(index), datum });
    }
}

fn number(value: u64) -> Datum {
    let ty = number_type(Encoding::Unsigned, 8, Language::Cpp);
    Datum::number(ty, u128::from(value))
}

fn indexed(show: &Show<'_>, from: u64, end: u64, parts: &mut Vec<Part>) -> Result<(), Badge> {
    let Shape::Indexed { item, .. } = &show.printer.shape else { return Ok(()) };
    for index in from..end {
        let names = [("index", number(index))];
        let datum = show.with_names(&names).datum(item)?;
        parts.push(Part { name: format!("[{index}]"), step: Step::Number(index), datum });
    }
    Ok(())
}

/// Takes the elements that are asked for out of all.
struct Taker {
    from: u64,
    end: u64,
    seen: u64,
    parts: Vec<Part>,
}

impl Taker {
    /// Whether more are wanted.
    fn take(
        &mut self,
        show: &Show<'_>,
        entry: &Entry,
        names: &[(&'static str, Datum)],
    ) -> Result<bool, Badge> {
        if self.seen >= self.from {
            let show = show.with_names(names);
            let datum = show.datum(&entry.item)?;
            let name = if entry.key.is_empty() {
                format!("[{}]", self.seen)
            } else {
                format!("[{}]", key(&show, &entry.key)?)
            };
            self.parts.push(Part { name, step: Step::Number(self.seen), datum });
        }
        self.seen += 1;
        Ok(self.seen < self.end)
    }
}

/// The text of a key.
fn key(show: &Show<'_>, formulas: &Alternatives) -> Result<String, Badge> {
    let datum = show.datum(formulas)?;
    let mut line = crate::text::Line::new(200, Format::Natural);
    show.context.write_shown(&mut line, &show.context.shown(&datum));
    Ok(line.finish().0)
}

fn nodes(show: &Show<'_>, taker: &mut Taker) -> Result<(), Badge> {
    match &show.printer.shape {
        Shape::List { first, next, end, entry, .. } => list(show, taker, (first, next, end), entry),
        Shape::Tree { root, left, right, entry, .. } => {
            tree(show, taker, (root, left, right), entry)
        }
        Shape::Slots { slots, used, entry, .. } => {
            let count = show.count(slots)?;
            for index in 0..count.min(NODES_MAX) {
                let names = [("index", number(index))];
                if show.with_names(&names).truth(used)? && !taker.take(show, entry, &names)? {
                    return Ok(());
                }
            }
            if count > NODES_MAX { Err(Badge::TooMuch) } else { Ok(()) }
        }
        Shape::Multiway { root, height, .. } => {
            let height = show.count(height)?;
            if height > DEPTH_MAX as u64 {
                return Err(Badge::Implausible(format!("a tree of {height} levels")));
            }
            let root = show.pointer(root)?;
            multiway(show, taker, root, height).map(|_| ())
        }
        _ => Ok(()),
    }
}

fn list(
    show: &Show<'_>,
    taker: &mut Taker,
    (first, next, end): (&Alternatives, &Alternatives, &Alternatives),
    entry: &Entry,
) -> Result<(), Badge> {
    let end = if end.is_empty() { None } else { Some(show.address(end)?) };
    let mut node = show.pointer(first)?;
    for _ in 0..NODES_MAX {
        let address = model::Address(show.context.bits(&node)? as u64);
        if address.0 == 0 || Some(address) == end {
            return Ok(());
        }
        let names = [("node", node)];
        if !taker.take(show, entry, &names)? {
            return Ok(());
        }
        node = show.with_names(&names).pointer(next)?;
    }
    Err(Badge::TooMuch)
}

/// Goes through a binary tree from left to right.
fn tree(
    show: &Show<'_>,
    taker: &mut Taker,
    (root, left, right): (&Alternatives, &Alternatives, &Alternatives),
    entry: &Entry,
) -> Result<(), Badge> {
    let mut stack: Vec<Datum> = Vec::new();
    let mut next = Some(show.pointer(root)?);
    for _ in 0..NODES_MAX {
        if let Some(node) = next.take() {
            if show.context.bits(&node)? != 0 {
                if stack.len() >= DEPTH_MAX {
                    let what = format!("a tree of more than {DEPTH_MAX} levels");
                    return Err(Badge::Implausible(what));
                }
                let names = [("node", node.clone())];
                next = Some(show.with_names(&names).pointer(left)?);
                stack.push(node);
            }
            continue;
        }
        let Some(node) = stack.pop() else { return Ok(()) };
        let names = [("node", node)];
        if !taker.take(show, entry, &names)? {
            return Ok(());
        }
        next = Some(show.with_names(&names).pointer(right)?);
    }
    Err(Badge::TooMuch)
}

/// Goes through a node of a tree with many elements in each. Whether more are wanted.
fn multiway(show: &Show<'_>, taker: &mut Taker, node: Datum, height: u64) -> Result<bool, Badge> {
    let Shape::Multiway { length, child, entry, .. } = &show.printer.shape else {
        return Ok(false);
    };
    if show.context.bits(&node)? == 0 {
        return Err(Badge::Implausible("a null pointer in a tree".to_owned()));
    }
    let of_node = [("node", node.clone())];
    let count = show.with_names(&of_node).count(length)?;
    if count > NODE_LENGTH_MAX {
        return Err(Badge::Implausible(format!("{count} elements in a node")));
    }
    for index in 0..=count {
        let names = [("node", node.clone()), ("index", number(index))];
        if height > 0 {
            let below = show.with_names(&names).pointer(child)?;
            if !multiway(show, taker, below, height - 1)? {
                return Ok(false);
            }
        }
        if index < count && !taker.take(show, entry, &names)? {
            return Ok(false);
        }
    }
    Ok(true)
}
