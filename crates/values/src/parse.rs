//! Reads expressions of C, C++ and Rust. They have most in common; where precedences differ, the
//! language of the frame decides, and where only a type could tell (`(a)-b`), the program does.

mod integer;
mod types;

use symbols::Language;

use crate::error::Error;
use crate::lex::{Token, TokenKind, tokens};
use crate::number::Int;
use crate::syntax::{Binary, Node, Syntax, TypeName, Unary};
use crate::value::Format;

/// Brackets in brackets, operators on operators.
const DEPTH_MAX: u32 = 100;
/// Parts of an expression, which may all be in each other: evaluation takes stack for each.
const NODES_MAX: u32 = 400;

/// What decides where syntax alone does not.
pub(crate) struct Dialect<'a> {
    pub language: Language,
    /// Whether a name is one of a type and of nothing else. None if it is not known yet.
    pub is_type: &'a dyn Fn(&str) -> Option<bool>,
}

/// An expression that was read.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub root: Node,
    pub format: Option<Format>,
    pub raw: bool,
    /// How many names it has.
    pub slots: usize,
}

pub(crate) fn parse(text: &str, dialect: &Dialect<'_>) -> Result<Parsed, Error> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        text,
        tokens: &tokens,
        at: 0,
        dialect,
        slots: 0,
        depth: 0,
        nodes: 0,
        prefix_only: false,
    };
    let (mut format, mut raw) = (None, false);
    if parser.take("/") {
        parser.formats(&mut format, &mut raw)?;
    }
    let root = parser.expression()?;
    if parser.take(",") {
        parser.formats(&mut format, &mut raw)?;
    }
    match parser.peek() {
        TokenKind::End => Ok(Parsed { root, format, raw, slots: parser.slots }),
        kind => Err(parser.unexpected(&kind.clone(), "an operator")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
    dialect: &'a Dialect<'a>,
    slots: usize,
    depth: u32,
    nodes: u32,
    /// Types have no signs behind them.
    prefix_only: bool,
}

impl<'a> Parser<'a> {
    fn token(&self) -> &'a Token {
        // The last one is the end.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &'a TokenKind {
        &self.token().kind
    }

    fn peek_behind(&self, count: usize) -> &'a TokenKind {
        &self.tokens[(self.at + count).min(self.tokens.len() - 1)].kind
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), TokenKind::Sign(known) if *known == sign)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), TokenKind::Word(known) if known == word)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Error> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.unexpected(self.peek(), &format!("`{sign}`")))
    }

    fn column(&self) -> usize {
        self.token().column
    }

    fn wrong<T>(&self, what: impl Into<String>) -> Result<T, Error> {
        Err(Error::Syntax { column: self.column(), what: what.into() })
    }

    fn unexpected(&self, found: &TokenKind, expected: &str) -> Error {
        let column = self.column();
        if let TokenKind::Sign(
            sign @ ("=" | "+=" | "-=" | "*=" | "/=" | "%=" | "&=" | "|=" | "^=" | "<<=" | ">>="
            | "++" | "--"),
        ) = found
        {
            return Error::Effect { column, what: format!("assigning with `{sign}`") };
        }
        let what = match found {
            TokenKind::End => format!("{expected} is missing at the end"),
            _ => {
                let (start, end) = self.token().range;
                format!("{expected} is expected instead of `{}`", &self.text[start..end])
            }
        };
        Error::Syntax { column, what }
    }

    fn node(&mut self, start: &Token, syntax: Syntax) -> Node {
        self.nodes += 1;
        let end = self.tokens[self.at.saturating_sub(1).min(self.tokens.len() - 1)].range.1;
        let range = (start.range.0, end.max(start.range.0));
        Node { syntax, column: start.column, range }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth >= DEPTH_MAX {
            let limit = u64::from(DEPTH_MAX);
            return Err(Error::Limit { column: self.column(), what: "nesting", limit });
        }
        self.check_size()?;
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn check_size(&self) -> Result<(), Error> {
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        let (what, limit) = ("the number of operators", u64::from(NODES_MAX));
        Err(Error::Limit { column: self.column(), what, limit })
    }

    fn formats(&mut self, format: &mut Option<Format>, raw: &mut bool) -> Result<(), Error> {
        let TokenKind::Word(letters) = self.peek() else {
            return self.wrong("a letter of a format is expected: x, d, o, t, s or r");
        };
        for letter in letters.chars() {
            *format = Some(match letter {
                'x' | 'a' | 'p' => Format::Hex,
                'd' | 'u' => Format::Decimal,
                'o' => Format::Octal,
                't' | 'b' => Format::Binary,
                's' | 'c' => Format::Text,
                'r' => {
                    *raw = true;
                    continue;
                }
                _ => {
                    return self.wrong(format!(
                        "`{letter}` is no format; they are x (hexadecimal), d (decimal), o (octal), \
                         t (binary), s (text), r (raw)"
                    ));
                }
            });
        }
        self.at += 1;
        Ok(())
    }

    fn expression(&mut self) -> Result<Node, Error> {
        self.deeper(|parser| {
            let start = parser.token();
            let test = parser.binary(0)?;
            if !parser.take("?") {
                return Ok(test);
            }
            let yes = Box::new(parser.expression()?);
            parser.expect(":")?;
            let no = Box::new(parser.expression()?);
            let test = Box::new(test);
            Ok(parser.node(start, Syntax::Conditional { test, yes, no }))
        })
    }

    /// The operator here, with how tightly it binds.
    fn operator(&self) -> Option<(Operator, u8)> {
        let rust = self.dialect.language == Language::Rust;
        let TokenKind::Sign(sign) = self.peek() else {
            return self.is_word("as").then_some((Operator::As, 14));
        };
        let binary = |operator, c, in_rust| {
            Some((Operator::Binary(operator), if rust { in_rust } else { c }))
        };
        match *sign {
            "||" => binary(Binary::Either, 1, 1),
            "&&" => binary(Binary::Both, 2, 2),
            "|" => binary(Binary::Or, 3, 7),
            "^" => binary(Binary::Xor, 4, 8),
            "&" => binary(Binary::And, 5, 9),
            "==" => binary(Binary::Equal, 6, 5),
            "!=" => binary(Binary::NotEqual, 6, 5),
            "<" => binary(Binary::Less, 7, 5),
            ">" => binary(Binary::Greater, 7, 5),
            "<=" => binary(Binary::LessEqual, 7, 5),
            ">=" => binary(Binary::GreaterEqual, 7, 5),
            "<<" => binary(Binary::ShiftLeft, 10, 10),
            ">>" => binary(Binary::ShiftRight, 10, 10),
            "@" => Some((Operator::Repeat, 11)),
            "+" => binary(Binary::Add, 12, 12),
            "-" => binary(Binary::Subtract, 12, 12),
            "*" => binary(Binary::Multiply, 13, 13),
            "/" => binary(Binary::Divide, 13, 13),
            "%" => binary(Binary::Remainder, 13, 13),
            _ => None,
        }
    }

    fn binary(&mut self, loosest: u8) -> Result<Node, Error> {
        let start = self.token();
        let mut left = self.unary()?;
        while let Some((operator, tightness)) = self.operator().filter(|(_, t)| *t >= loosest) {
            self.at += 1;
            self.check_size()?;
            let of = Box::new(left);
            let syntax = match operator {
                Operator::As => Syntax::Cast { of, to: self.type_behind_as()?, dynamic: false },
                Operator::Repeat => {
                    let count = Box::new(self.deeper(|p| p.binary(tightness + 1))?);
                    Syntax::Repeat { of, count }
                }
                Operator::Binary(operator) => {
                    let right = Box::new(self.deeper(|p| p.binary(tightness + 1))?);
                    Syntax::Binary { operator, left: of, right }
                }
            };
            left = self.node(start, syntax);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, Error> {
        self.deeper(Self::unary_inner)
    }

    fn unary_inner(&mut self) -> Result<Node, Error> {
        let start = self.token();
        if let TokenKind::Sign(sign) = self.peek() {
            let operator = match *sign {
                "-" => Some(Unary::Minus),
                "+" => Some(Unary::Plus),
                "!" => Some(Unary::Not),
                "~" => Some(Unary::Complement),
                "*" => Some(Unary::Star),
                "&" => Some(Unary::Address),
                "++" | "--" => return Err(self.unexpected(self.peek(), "a value")),
                _ => None,
            };
            if let Some(operator) = operator {
                self.at += 1;
                if operator == Unary::Address && self.dialect.language == Language::Rust {
                    self.take_word("mut");
                }
                let of = Box::new(self.unary()?);
                return Ok(self.node(start, Syntax::Unary { operator, of }));
            }
            if *sign == "&&" {
                return self.wrong("an address has no address");
            }
            if let Some(to) = self.cast()? {
                let of = Box::new(self.unary()?);
                return Ok(self.node(start, Syntax::Cast { of, to, dynamic: false }));
            }
        }
        if self.take_word("sizeof") {
            return self.size_of(start);
        }
        self.postfix()
    }

    fn size_of(&mut self, start: &Token) -> Result<Node, Error> {
        if let Some(name) = self.cast()? {
            return Ok(self.node(start, Syntax::SizeOfType(name)));
        }
        let of = Box::new(self.unary()?);
        Ok(self.node(start, Syntax::SizeOf(of)))
    }

    fn postfix(&mut self) -> Result<Node, Error> {
        let start = self.token();
        let mut node = self.primary()?;
        loop {
            let TokenKind::Sign(sign) = self.peek() else { return Ok(node) };
            self.check_size()?;
            let of = |node| Box::new(node);
            let syntax = match *sign {
                "." | "->" => {
                    self.at += 1;
                    self.member(node)?
                }
                "[" => {
                    self.at += 1;
                    let syntax = self.index(node)?;
                    self.expect("]")?;
                    syntax
                }
                "#" => {
                    self.at += 1;
                    Syntax::Part { of: of(node), numbers: self.part_numbers()? }
                }
                "(" => {
                    let (from, to) = node.range;
                    let what = format!("calling `{}`", &self.text[from..to]);
                    return Err(Error::Effect { column: node.column, what });
                }
                "++" | "--" => return Err(self.unexpected(self.peek(), "an operator")),
                _ => return Ok(node),
            };
            node = self.node(start, syntax);
        }
    }

    fn member(&mut self, of: Node) -> Result<Syntax, Error> {
        // `p->*m` and destructors are not read.
        let name = match self.peek() {
            TokenKind::Word(word) => {
                self.at += 1;
                let mut path = word.clone();
                // `e.Base::x`
                while self.is("::") && matches!(self.peek_behind(1), TokenKind::Word(_)) {
                    let TokenKind::Word(word) = self.peek_behind(1) else { break };
                    self.at += 2;
                    path = format!("{path}::{word}");
                }
                path
            }
            TokenKind::Integer { value, .. } => {
                self.at += 1;
                value.to_string()
            }
            kind => return Err(self.unexpected(kind, "the name of a member")),
        };
        let lengths = ["size", "len", "length"];
        let empty_call = self.is("(") && matches!(self.peek_behind(1), TokenKind::Sign(")"));
        if lengths.contains(&name.as_str()) && empty_call {
            self.at += 2;
            return Ok(Syntax::Length(Box::new(of)));
        }
        Ok(Syntax::Member { of: Box::new(of), name })
    }

    fn index(&mut self, of: Node) -> Result<Syntax, Error> {
        let of = Box::new(of);
        if self.take("..") {
            let to = if self.is("]") { None } else { Some(Box::new(self.expression()?)) };
            return Ok(Syntax::Slice { of, from: None, to });
        }
        let index = Box::new(self.expression()?);
        if self.take("..") {
            let to = if self.is("]") { None } else { Some(Box::new(self.expression()?)) };
            return Ok(Syntax::Slice { of, from: Some(index), to });
        }
        Ok(Syntax::Index { of, index })
    }

    fn part_numbers(&mut self) -> Result<Vec<u64>, Error> {
        let mut numbers = Vec::new();
        loop {
            let TokenKind::Integer { value, .. } = self.peek() else {
                return Err(self.unexpected(self.peek(), "the number of a part"));
            };
            let Ok(number) = u64::try_from(*value) else {
                return self.wrong("there is no part of such a number");
            };
            self.at += 1;
            numbers.push(number);
            let more = matches!(self.peek_behind(1), TokenKind::Integer { .. });
            if !(self.is(".") && more) {
                return Ok(numbers);
            }
            self.at += 1;
        }
    }

    fn primary(&mut self) -> Result<Node, Error> {
        let start = self.token();
        let syntax = match self.peek() {
            TokenKind::Integer { value, suffix, decimal } => {
                let Some((int, literal)) = integer::integer(*value, suffix, *decimal) else {
                    return self.wrong(format!("numbers have no suffix `{suffix}`"));
                };
                self.at += 1;
                Syntax::Integer { int, literal }
            }
            TokenKind::Float { value, suffix } => {
                self.at += 1;
                let single = ["f", "F", "f32", "_f32"].contains(&suffix.as_str());
                Syntax::Float { value: *value, single }
            }
            TokenKind::Character { value, byte } => {
                self.at += 1;
                Syntax::Character { value: *value, byte: *byte }
            }
            TokenKind::Text(bytes) => {
                self.at += 1;
                let mut bytes = bytes.clone();
                while let TokenKind::Text(more) = self.peek() {
                    bytes.extend(more);
                    self.at += 1;
                }
                Syntax::Text(bytes)
            }
            TokenKind::Dollar(word) => {
                self.at += 1;
                Syntax::Dollar(word.clone())
            }
            TokenKind::Word(word) => {
                if let Some(node) = self.named_cast(start, word)? {
                    return Ok(node);
                }
                match word.as_str() {
                    "true" | "false" => {
                        self.at += 1;
                        Syntax::Boolean(word == "true")
                    }
                    "nullptr" | "NULL" => {
                        self.at += 1;
                        Syntax::Integer { int: Int::new(0, 64, false), literal: true }
                    }
                    _ => self.name()?,
                }
            }
            TokenKind::Sign("::") => self.name()?,
            TokenKind::Sign("(") if self.anonymous_namespace() => self.name()?,
            TokenKind::Sign("(") => {
                self.at += 1;
                let inner = self.expression()?;
                self.expect(")")?;
                // The brackets are a part of it, for the sake of messages.
                return Ok(self.node(start, inner.syntax));
            }
            TokenKind::Sign("@") => {
                self.at += 1;
                let address = Box::new(self.unary()?);
                self.expect(":")?;
                let length = Box::new(self.unary()?);
                Syntax::Memory { address, length }
            }
            kind => return Err(self.unexpected(kind, "a value")),
        };
        Ok(self.node(start, syntax))
    }

    fn named_cast(&mut self, start: &Token, word: &str) -> Result<Option<Node>, Error> {
        let casts = ["static_cast", "reinterpret_cast", "const_cast", "dynamic_cast"];
        if !casts.contains(&word) {
            return Ok(None);
        }
        self.at += 1;
        self.expect("<")?;
        let to = self.type_name()?;
        self.expect(">")?;
        self.expect("(")?;
        let of = Box::new(self.expression()?);
        self.expect(")")?;
        let dynamic = word == "dynamic_cast";
        Ok(Some(self.node(start, Syntax::Cast { of, to, dynamic })))
    }

    fn anonymous_namespace(&self) -> bool {
        let word = |count, wanted: &str| matches!(self.peek_behind(count), TokenKind::Word(word) if word == wanted);
        word(1, "anonymous") && word(2, "namespace")
    }

    fn name(&mut self) -> Result<Syntax, Error> {
        let path = self.path(false)?;
        let mut outward = 0;
        if self.is("~")
            && let TokenKind::Integer { value, .. } = self.peek_behind(1)
        {
            outward = u32::try_from(*value).unwrap_or(u32::MAX);
            self.at += 2;
        }
        self.slots += 1;
        Ok(Syntax::Name { path, slot: self.slots - 1, outward })
    }

    /// A type in brackets, if that is what is here; else nothing is read.
    fn cast(&mut self) -> Result<Option<TypeName>, Error> {
        if !self.is("(") || self.anonymous_namespace() {
            return Ok(None);
        }
        let (at, slots, depth) = (self.at, self.slots, self.depth);
        self.at += 1;
        let before = std::mem::replace(&mut self.prefix_only, false);
        let name = self.type_name();
        self.prefix_only = before;
        let closed = self.take(")");
        if let (Ok(name), true) = (name, closed)
            && self.is_type(&name)
        {
            return Ok(Some(name));
        }
        (self.at, self.slots, self.depth) = (at, slots, depth);
        Ok(None)
    }
}

#[derive(Clone, Copy)]
enum Operator {
    As,
    Repeat,
    Binary(Binary),
}
