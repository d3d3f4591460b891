//! What is shown of a value: a node of a tree.

use model::Address;
use serde::{Deserialize, Serialize};

/// A value to be shown, with as many of its children as were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// Within its parent: `balance`, `[3]`, `Base`. Of a variable its name, of anything else the
    /// expression.
    pub name: String,
    /// An expression that gives this value again in the same frame.
    pub expression: String,
    pub type_name: String,
    /// The type of the object, where a virtual table says that it is another than the declared.
    pub actual_type: Option<String>,
    /// The value in one line.
    pub text: String,
    pub kind: ValueKind,
    /// Where it is, lowest bits first; empty if it is nowhere: computed, or not there.
    pub lives: Vec<Lives>,
    pub children: Children,
    pub badges: Vec<Badge>,
    /// The children that were asked for, from the first one asked for on.
    pub unfolded: Vec<Value>,
}

/// What a value is, roughly: for its picture on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueKind {
    Number,
    Boolean,
    Character,
    Text,
    Enumeration,
    Pointer,
    Function,
    /// A structure, class, union or tuple.
    Structure,
    /// Elements by index: arrays, vectors, sets.
    Sequence,
    /// Keys with values.
    Map,
    /// There is nothing that could be shown.
    Nothing,
}

/// Where a value is, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lives {
    Memory {
        address: Address,
        /// In bytes.
        size: u64,
    },
    /// Bits of memory, counted from the least significant bit of the byte at the address.
    MemoryBits { address: Address, first_bit: u64, bits: u64 },
    Register {
        /// In the psABI.
        number: u16,
        first_bit: u64,
        bits: u64,
    },
    /// So many bits are in no place: the compiler knew them, or did not keep them.
    Nowhere { bits: u64 },
}

/// How many children a value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Children {
    None,
    Count(u64),
    /// There are some; how many is known only when all were visited.
    Unknown,
}

/// What is to be said about a value besides what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Badge {
    /// The compiler did not keep it.
    OptimisedOut,
    /// Its memory is not mapped.
    Unreadable(Address),
    /// It is in a register that this frame does not have any more, or something like it.
    NotKnown(String),
    /// Its type is only declared.
    Incomplete,
    /// The text shows a part.
    Cut,
    /// What a printer expects is not there: not initialised yet, or damaged.
    Implausible(String),
    /// Debug information is broken or not understood.
    Broken(String),
    /// Reading it all would take too long.
    TooMuch,
}

impl Badge {
    /// What follows behind the name of a value.
    pub fn sentence(&self) -> String {
        match self {
            Badge::OptimisedOut => "was optimised out".to_owned(),
            Badge::Unreadable(address) => format!("is at {address}, which cannot be read"),
            Badge::NotKnown(what) => format!("is not known: {what}"),
            Badge::Incomplete => "has a type that is only declared".to_owned(),
            Badge::Cut => "is shown in part".to_owned(),
            Badge::Implausible(what) => format!("is not plausible: {what}"),
            Badge::Broken(what) => format!("has broken debug information: {what}"),
            Badge::TooMuch => "takes too long to read".to_owned(),
        }
    }

    /// In place of a value.
    pub(crate) fn text(&self) -> String {
        match self {
            Badge::OptimisedOut => "<optimised out>".to_owned(),
            Badge::Unreadable(address) => format!("<unreadable at {address}>"),
            Badge::NotKnown(what) => format!("<not known: {what}>"),
            Badge::Incomplete => "<incomplete type>".to_owned(),
            Badge::Cut | Badge::TooMuch => "…".to_owned(),
            Badge::Implausible(what) => format!("<not plausible: {what}>"),
            Badge::Broken(what) => format!("<broken debug information: {what}>"),
        }
    }
}

/// How values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Levels of children that are given at once: 0 is none.
    pub depth: u32,
    /// The first child that is given of the value itself; of its children, those from the first.
    pub first_child: u64,
    /// So many children of each value.
    pub children_max: u32,
    /// Characters of a text.
    pub text_max: u32,
    pub format: Format,
    /// Without printers: as the compiler lays it out.
    pub raw: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            depth: 0,
            first_child: 0,
            children_max: 100,
            text_max: 160,
            format: Format::Natural,
            raw: false,
        }
    }
}

/// How numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    Natural,
    Hex,
    Decimal,
    Octal,
    Binary,
    /// As a character, or as text up to a zero.
    Text,
}
