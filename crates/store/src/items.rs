//! What a database holds, item by item.
//!
//! A *leaf* is a segment of the run; its *number* counts from 0, and *border* `n` is the moment
//! at which leaf `n` begins. A *moment* is the number of instructions retired since the beginning
//! of the run, over all tasks. An *owner* is whatever has pages: an address space or a shared
//! object; what its page numbers mean (addresses or offsets, divided by 4096) is up to the caller.

pub use model::Call;
use model::{Address, Event, Moment, Tid};

/// Words of eight bytes in a page.
pub const PAGE_WORDS: usize = 512;
/// Lines of 64 bytes in a page.
pub const PAGE_LINES: u64 = 64;

/// An address space or a shared object, numbered by the builder in the order of their making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Owner(pub u32);

/// A page of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PageId {
    pub owner: Owner,
    /// Address or offset divided by 4096; at most 2^52 - 1.
    pub page: u64,
}

/// Which of the 512 words of a page: bit `n % 64` of element `n / 64` is word `n`. So bits
/// `8 * (l % 8) ..` of element `l / 8` are the eight words of line `l`.
pub type WordMask = [u64; 8];

/// The words of a page that were written within a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenPage {
    pub page: PageId,
    pub words: WordMask,
}

/// The lines of a page that were read within a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPage {
    pub page: PageId,
    /// Bit `l` is line `l` of 64 bytes.
    pub lines: u64,
}

/// A line of 64 bytes that was written or read, at any level of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TouchedLine {
    pub owner: Owner,
    /// Address or offset divided by 64.
    pub line: u64,
    /// The words of it that were written; all of them for reads.
    pub words: u8,
    /// The children of the node in which that happened; 1 in leaves.
    pub children: u16,
}

/// Code bytes `start..end`, each executed `count` times: as (the beginning of) an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeRun {
    pub owner: Owner,
    pub start: Address,
    pub end: Address,
    /// Not zero.
    pub count: u64,
    /// The children of the node in which that happened; 1 in leaves.
    pub children: u16,
}

/// How often something happened that has a number: a call of a function (class: owner, key:
/// address), the use of a descriptor, an event of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub class: u32,
    pub key: u64,
    /// Not zero.
    pub count: u64,
    /// The children of the node in which that happened; 1 in leaves.
    pub children: u16,
}

/// The least depth of a task's call stack, for each child in which the task ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depths {
    pub task: Tid,
    /// 1 in leaves.
    pub children: u16,
    /// One for each bit of `children`, lowest first.
    pub depths: Vec<i64>,
}

/// The new values of words of a page, at the end of a leaf (or of a node) against its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageDelta {
    pub page: PageId,
    /// The page was mapped anew: what is older does not count. Words not in `words` are then as
    /// whatever is mapped there says.
    pub dropped: bool,
    pub words: WordMask,
    /// One for each bit of `words`, lowest first.
    pub values: Vec<u64>,
    /// The children of the node that have such an entry; 1 in leaves.
    pub children: u16,
}

/// Something that happened at a moment: a system call, a signal, output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    pub moment: Moment,
    /// The event of the recording; more than one may have no instruction between.
    pub event: Event,
    pub kind: u16,
    /// Meaningless here.
    pub payload: Vec<u8>,
}

/// Where an owner comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    pub owner: Owner,
    /// A smaller number, and the border at which the parent's memory was taken over: the
    /// beginning of the leaf in which the fork happened. Whatever the parent changed between that
    /// border and the fork is in the memory delta of the child, as if the child had changed it.
    pub parent: Option<(Owner, u64)>,
}

impl PageDelta {
    /// The value of word `word` (0..512) if it is among the changed ones.
    pub fn value(&self, word: usize) -> Option<u64> {
        rank(&self.words, word).map(|rank| self.values[rank])
    }

    /// The changed words with their values, in order.
    pub fn changed_words(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let words = self.words.iter().enumerate().flat_map(|(element, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let bit = left.checked_ilog2().map(|_| left.trailing_zeros())?;
                left &= left - 1;
                Some(element * 64 + bit as usize)
            })
        });
        words.zip(self.values.iter().copied())
    }
}

impl CodeRun {
    /// Whether the two are one run.
    pub(crate) fn continues_in(&self, next: &CodeRun) -> bool {
        (self.owner, self.end, self.count, self.children)
            == (next.owner, next.start, next.count, next.children)
    }
}

/// How many bits are set before bit `word`, if that is set.
pub(crate) fn rank(words: &WordMask, word: usize) -> Option<usize> {
    let (element, bit) = (word / 64, word % 64);
    if words[element] >> bit & 1 == 0 {
        return None;
    }
    let before: u32 = words[..element].iter().map(|bits| bits.count_ones()).sum();
    let within = (words[element] & ((1 << bit) - 1)).count_ones();
    Some((before + within) as usize)
}

/// The numbers of the set bits, in order.
pub(crate) fn set_words(words: &WordMask) -> impl Iterator<Item = usize> + use<> {
    let words = *words;
    (0..8).flat_map(move |element| {
        let mut bits = words[element];
        std::iter::from_fn(move || {
            let bit = bits.trailing_zeros() as usize;
            bits &= bits.checked_sub(1)?;
            Some(element * 64 + bit)
        })
    })
}

/// The numbers of the set bits of a set of children, lowest first.
pub(crate) fn set_children(children: u16) -> impl DoubleEndedIterator<Item = u32> {
    (0..16).filter(move |child| children >> child & 1 == 1)
}
