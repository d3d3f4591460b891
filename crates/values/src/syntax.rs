//! Expressions as trees.

use crate::number::Int;

/// A part of an expression and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub syntax: Syntax,
    /// In characters from 1.
    pub column: usize,
    /// Its bytes in the text.
    pub range: (usize, usize),
}

#[derive(Clone, Debug)]
pub(crate) enum Syntax {
    /// And whether it takes the type of what it meets.
    Integer {
        int: Int,
        literal: bool,
    },
    Float {
        value: f64,
        single: bool,
    },
    Character {
        value: u32,
        byte: bool,
    },
    Text(Vec<u8>),
    Boolean(bool),
    /// With its path; the number of its place among the names; how many of the same name are
    /// passed on the way outwards.
    Name {
        path: String,
        slot: usize,
        outward: u32,
    },
    /// A register, or something that the caller gave.
    Dollar(String),
    Member {
        of: Box<Node>,
        name: String,
    },
    Index {
        of: Box<Node>,
        index: Box<Node>,
    },
    /// `of[from..to]`.
    Slice {
        of: Box<Node>,
        from: Option<Box<Node>>,
        to: Option<Box<Node>>,
    },
    Unary {
        operator: Unary,
        of: Box<Node>,
    },
    Binary {
        operator: Binary,
        left: Box<Node>,
        right: Box<Node>,
    },
    Conditional {
        test: Box<Node>,
        yes: Box<Node>,
        no: Box<Node>,
    },
    Cast {
        of: Box<Node>,
        to: TypeName,
        dynamic: bool,
    },
    SizeOf(Box<Node>),
    SizeOfType(TypeName),
    /// So many in a row: `x @ 3`.
    Repeat {
        of: Box<Node>,
        count: Box<Node>,
    },
    /// Bytes of memory: `@0x1234:16`.
    Memory {
        address: Box<Node>,
        length: Box<Node>,
    },
    /// A part by its number among those shown: `x#1.2`.
    Part {
        of: Box<Node>,
        numbers: Vec<u64>,
    },
    /// The number of elements: `v.size()`.
    Length(Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Minus,
    Plus,
    Not,
    Complement,
    Star,
    Address,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Multiply,
    Divide,
    Remainder,
    Add,
    Subtract,
    ShiftLeft,
    ShiftRight,
    Less,
    Greater,
    LessEqual,
    GreaterEqual,
    Equal,
    NotEqual,
    And,
    Xor,
    Or,
    Both,
    Either,
}

impl Binary {
    pub fn is_comparison(self) -> bool {
        use Binary::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Less | Greater | LessEqual | GreaterEqual | Equal | NotEqual)
    }

    pub fn sign(self) -> &'static str {
        match self {
            Binary::Multiply => "*",
            Binary::Divide => "/",
            Binary::Remainder => "%",
            Binary::Add => "+",
            Binary::Subtract => "-",
            Binary::ShiftLeft => "<<",
            Binary::ShiftRight => ">>",
            Binary::Less => "<",
            Binary::Greater => ">",
            Binary::LessEqual => "<=",
            Binary::GreaterEqual => ">=",
            Binary::Equal => "==",
            Binary::NotEqual => "!=",
            Binary::And => "&",
            Binary::Xor => "^",
            Binary::Or => "|",
            Binary::Both => "&&",
            Binary::Either => "||",
        }
    }
}

/// A type as it is written.
#[derive(Clone, Debug)]
pub(crate) struct TypeName {
    pub base: TypeBase,
    /// From the base outwards.
    pub around: Vec<Around>,
    /// Words such as `struct` leave no doubt that it is one.
    pub sure: bool,
    pub column: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum TypeBase {
    Named(String),
    /// `$0`: a template argument of the value that is printed, or `$0(x)`: of that of `x`.
    Argument {
        number: usize,
        of: Option<Box<Node>>,
    },
    /// `decltype(x)`.
    Of(Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Around {
    Pointer,
    /// The same object, seen as another type.
    Reference,
    Array(u64),
}
