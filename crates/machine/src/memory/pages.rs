//! A persistent map from page numbers to page contents: clones cost nothing, and changing one
//! copies only the path to the change.

use std::ops::Range;
use std::sync::Arc;

use super::host::PAGE;

/// Contents of a page.
pub type Page = [u8; PAGE as usize];

/// Bits of the page number that one level decides.
const BITS: u32 = 6;
/// Six levels of six bits cover the 35 bits of a page number in the user half.
const TOP: u32 = 5 * BITS;

/// Contents of pages by page number: address, or offset in an object, divided by the page size.
/// Clones share what is the same.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    root: Option<Arc<Node>>,
}

/// Slots are there for the set bits of `present`, in their order.
#[derive(Clone, Debug, Default)]
struct Node {
    present: u64,
    slots: Vec<Slot>,
}

#[derive(Clone, Debug)]
enum Slot {
    Node(Arc<Node>),
    Page(Arc<Page>),
}

impl Pages {
    pub fn get(&self, page: u64) -> Option<&Arc<Page>> {
        let mut node = self.root.as_ref()?;
        let mut shift = TOP;
        loop {
            match node.slots.get(node.find(page, shift)?)? {
                Slot::Node(below) => node = below,
                Slot::Page(contents) => return Some(contents),
            }
            shift -= BITS;
        }
    }

    /// # Panics
    ///
    /// If the page does not lie in the user half of an address space.
    pub fn insert(&mut self, page: u64, contents: Arc<Page>) {
        assert!(page < super::USER_END / PAGE, "page number {page:#x}");
        let root = self.root.get_or_insert_default();
        insert(Arc::make_mut(root), page, contents, TOP);
    }

    pub fn remove(&mut self, page: u64) {
        self.remove_range(page..page + 1);
    }

    pub fn remove_range(&mut self, pages: Range<u64>) {
        if let Some(root) = &mut self.root
            && any(root, &pages, 0, TOP)
        {
            remove(Arc::make_mut(root), &pages, 0, TOP);
            if root.present == 0 {
                self.root = None;
            }
        }
    }

    /// The pages of a range in order.
    pub fn range(&self, pages: Range<u64>) -> Vec<(u64, Arc<Page>)> {
        let mut found = Vec::new();
        if let Some(root) = &self.root {
            collect(root, &pages, 0, TOP, &mut found);
        }
        found
    }

    /// All pages in order.
    pub fn all(&self) -> Vec<(u64, Arc<Page>)> {
        self.range(0..super::USER_END / PAGE)
    }

    /// Page numbers, in order, at which two maps differ or may: contents are the same if shared.
    pub fn differences(&self, other: &Pages) -> Vec<u64> {
        let mut found = Vec::new();
        differences(self.root.as_ref(), other.root.as_ref(), 0, TOP, &mut found);
        found
    }
}

impl Node {
    fn find(&self, page: u64, shift: u32) -> Option<usize> {
        let bit = 1 << (page >> shift & 63);
        (self.present & bit != 0).then(|| (self.present & (bit - 1)).count_ones() as usize)
    }

    /// Slots with the first page number each stands for.
    fn entries(&self, base: u64, shift: u32) -> impl Iterator<Item = (u64, &Slot)> {
        let mut left = self.present;
        self.slots.iter().map(move |slot| {
            let index = left.trailing_zeros();
            left &= left - 1;
            (base + (u64::from(index) << shift), slot)
        })
    }
}

fn insert(node: &mut Node, page: u64, contents: Arc<Page>, shift: u32) {
    let bit = 1u64 << (page >> shift & 63);
    let index = (node.present & (bit - 1)).count_ones() as usize;
    if node.present & bit == 0 {
        node.present |= bit;
        node.slots.insert(index, Slot::Node(Arc::default()));
    }
    match &mut node.slots[index] {
        slot if shift == 0 => *slot = Slot::Page(contents),
        Slot::Node(below) => insert(Arc::make_mut(below), page, contents, shift - BITS),
        Slot::Page(_) => unreachable!("pages are at the bottom only"),
    }
}

fn overlaps(pages: &Range<u64>, base: u64, shift: u32) -> bool {
    base < pages.end && pages.start < base + (1 << shift)
}

/// Whether any page of a range is there: looked up first so as not to copy shared nodes in vain.
fn any(node: &Node, pages: &Range<u64>, base: u64, shift: u32) -> bool {
    node.entries(base, shift).any(|(base, slot)| {
        overlaps(pages, base, shift)
            && match slot {
                Slot::Node(below) => any(below, pages, base, shift - BITS),
                Slot::Page(_) => true,
            }
    })
}

fn remove(node: &mut Node, pages: &Range<u64>, base: u64, shift: u32) {
    let mut index = 0;
    for number in 0..64 {
        let bit = 1u64 << number;
        if node.present & bit == 0 {
            continue;
        }
        let base = base + (number << shift);
        let gone = overlaps(pages, base, shift)
            && match &mut node.slots[index] {
                Slot::Page(_) => true,
                Slot::Node(below) if any(below, pages, base, shift - BITS) => {
                    let below = Arc::make_mut(below);
                    remove(below, pages, base, shift - BITS);
                    below.present == 0
                }
                Slot::Node(_) => false,
            };
        if gone {
            node.present &= !bit;
            node.slots.remove(index);
        } else {
            index += 1;
        }
    }
}

fn collect(
    node: &Node,
    pages: &Range<u64>,
    base: u64,
    shift: u32,
    found: &mut Vec<(u64, Arc<Page>)>,
) {
    for (base, slot) in node.entries(base, shift).filter(|e| overlaps(pages, e.0, shift)) {
        match slot {
            Slot::Node(below) => collect(below, pages, base, shift - BITS, found),
            Slot::Page(contents) => found.push((base, contents.clone())),
        }
    }
}

fn differences(
    left: Option<&Arc<Node>>,
    right: Option<&Arc<Node>>,
    base: u64,
    shift: u32,
    found: &mut Vec<u64>,
) {
    match (left, right) {
        (None, None) => return,
        (Some(left), Some(right)) if Arc::ptr_eq(left, right) => return,
        _ => {}
    }
    let slot = |node: Option<&Arc<Node>>, number: u64| -> Option<Slot> {
        let node = node?;
        node.find(number << shift, shift).map(|index| node.slots[index].clone())
    };
    let present = left.map_or(0, |n| n.present) | right.map_or(0, |n| n.present);
    for number in (0..64).filter(|number| present >> number & 1 != 0) {
        let base = base + (number << shift);
        let below = |slot: &Option<Slot>| match slot {
            Some(Slot::Node(node)) => Some(node.clone()),
            _ => None,
        };
        match (slot(left, number), slot(right, number)) {
            (Some(Slot::Page(left)), Some(Slot::Page(right))) => {
                if !Arc::ptr_eq(&left, &right) {
                    found.push(base);
                }
            }
            (Some(Slot::Page(_)), None) | (None, Some(Slot::Page(_))) => found.push(base),
            (left, right) => {
                let (left, right) = (below(&left), below(&right));
                differences(left.as_ref(), right.as_ref(), base, shift - BITS, found);
            }
        }
    }
}
