//! Names with paths, and types as they are written.

use symbols::Language;

use super::Parser;
use crate::error::Error;
use crate::lex::TokenKind;
use crate::syntax::{Around, TypeBase, TypeName};

/// Words that say nothing about the layout.
const QUALIFIERS: [&str; 12] = [
    "const",
    "volatile",
    "restrict",
    "struct",
    "class",
    "union",
    "enum",
    "typename",
    "mut",
    "dyn",
    "_Atomic",
    "__restrict",
];
/// Words that a number type of C is put together of.
const NUMBER_WORDS: [&str; 9] =
    ["unsigned", "signed", "short", "long", "int", "char", "double", "float", "__int128"];

impl Parser<'_> {
    /// Whether what was read as a type, in brackets, is one.
    pub(super) fn is_type(&self, name: &TypeName) -> bool {
        let TypeBase::Named(base) = &name.base else { return true };
        if name.sure {
            return true;
        }
        match (self.dialect.is_type)(base) {
            Some(known) => known,
            // A sign behind it, or a value: it will turn out.
            None => {
                crate::types::base_named(base, self.dialect.language).is_some()
                    || !name.around.is_empty()
                    || matches!(
                        self.peek(),
                        TokenKind::Word(_)
                            | TokenKind::Integer { .. }
                            | TokenKind::Float { .. }
                            | TokenKind::Character { .. }
                            | TokenKind::Dollar(_)
                            | TokenKind::Sign("(" | "~" | "!")
                    )
            }
        }
    }

    /// `a::b<int>::c`. Template arguments of a value are read only where a path goes on behind
    /// them: otherwise they would be comparisons.
    pub(super) fn path(&mut self, of_type: bool) -> Result<String, Error> {
        let mut path = String::new();
        self.take("::");
        loop {
            match self.peek() {
                TokenKind::Sign("(") if self.anonymous_namespace() => {
                    self.at += 3;
                    self.expect(")")?;
                    path.push_str("(anonymous namespace)");
                }
                TokenKind::Word(word) => {
                    self.at += 1;
                    path.push_str(word);
                }
                kind => return Err(self.unexpected(kind, "a name")),
            }
            // Rust's `name::<T>`.
            if self.is("::") && matches!(self.peek_behind(1), TokenKind::Sign("<")) {
                self.at += 1;
            }
            if self.is("<")
                && let Some(end) = self.template_arguments()
            {
                let goes_on = matches!(self.tokens[end].kind, TokenKind::Sign("::"));
                if of_type || goes_on {
                    let from = self.token().range.0;
                    path.push_str(&self.text[from..self.tokens[end - 1].range.1]);
                    self.at = end;
                }
            }
            if !self.take("::") {
                return Ok(path);
            }
            path.push_str("::");
        }
    }

    /// Where the tokens go on behind template arguments that begin here, if they have an end.
    /// `>>` closes two at once and so cannot be an end of one; it is split by the caller's text.
    fn template_arguments(&self) -> Option<usize> {
        let mut depth = 0i32;
        for (at, token) in self.tokens.iter().enumerate().skip(self.at) {
            match &token.kind {
                TokenKind::Sign("<") => depth += 1,
                TokenKind::Sign(">") => depth -= 1,
                TokenKind::Sign(">>") => depth -= 2,
                TokenKind::Sign("&&" | "||" | "==" | "!=" | "?" | ";" | "=") | TokenKind::End => {
                    return None;
                }
                _ => {}
            }
            if depth <= 0 {
                return (depth == 0).then_some(at + 1);
            }
        }
        None
    }

    pub(super) fn type_name(&mut self) -> Result<TypeName, Error> {
        self.deeper(Self::type_name_inner)
    }

    fn type_name_inner(&mut self) -> Result<TypeName, Error> {
        let column = self.column();
        // Rust's pointers stand in front.
        let rust_pointer = |word: &str| {
            self.is("*") && matches!(self.peek_behind(1), TokenKind::Word(w) if w == word)
        };
        if self.is("&") || rust_pointer("const") || rust_pointer("mut") {
            let start = self.token().range.0;
            self.at += 1;
            self.qualifiers();
            let mut inner = self.type_name_inner_deep()?;
            let end = self.tokens[self.at - 1].range.1;
            if let TypeBase::Named(base) = &inner.base
                && inner.around.is_empty()
                && (base == "str" || base.starts_with('['))
            {
                // Pointers with a length are types of their own.
                let name = self.text[start..end].to_owned();
                let base = TypeBase::Named(name);
                return Ok(TypeName { base, around: Vec::new(), sure: true, column });
            }
            inner.around.push(Around::Pointer);
            return Ok(TypeName { column, ..inner });
        }
        let first = self.at;
        self.qualifiers();
        let (sure, column) = (self.at > first, self.column());
        let base = self.type_base()?;
        let sure = sure || matches!(&base, TypeBase::Named(name) if name.contains('<'));
        let mut around = Vec::new();
        // Behind `as`, a sign is an operator.
        while !self.prefix_only {
            self.qualifiers();
            if self.take("*") {
                around.push(Around::Pointer);
            } else if self.take("&") || self.take("&&") {
                around.push(Around::Reference);
            } else if self.dialect.language != Language::Rust && self.take("[") {
                let TokenKind::Integer { value, .. } = self.peek() else {
                    return self.wrong("the length of an array is expected");
                };
                let Ok(length) = u64::try_from(*value) else {
                    return self.wrong("too long an array");
                };
                self.at += 1;
                self.expect("]")?;
                around.push(Around::Array(length));
            } else {
                break;
            }
        }
        // `int[2][3]` is two of `int[3]`.
        let arrays = around.iter().rev().take_while(|a| matches!(a, Around::Array(_))).count();
        let from = around.len() - arrays;
        around[from..].reverse();
        Ok(TypeName { base, around, sure, column })
    }

    /// A type behind `as`.
    pub(super) fn type_behind_as(&mut self) -> Result<TypeName, Error> {
        let before = std::mem::replace(&mut self.prefix_only, true);
        let name = self.type_name();
        self.prefix_only = before;
        name
    }

    fn type_name_inner_deep(&mut self) -> Result<TypeName, Error> {
        self.deeper(Self::type_name_inner)
    }

    fn qualifiers(&mut self) {
        while let TokenKind::Word(word) = self.peek()
            && QUALIFIERS.contains(&word.as_str())
        {
            self.at += 1;
        }
    }

    fn type_base(&mut self) -> Result<TypeBase, Error> {
        match self.peek() {
            TokenKind::Dollar(number) => {
                let Ok(number) = number.parse() else {
                    return self.wrong("a template argument is written as `$0`");
                };
                self.at += 1;
                let mut of = None;
                // `$0(x)`, but `($0)(x)` is a cast.
                if self.take("(") {
                    of = Some(Box::new(self.expression()?));
                    self.expect(")")?;
                }
                Ok(TypeBase::Argument { number, of })
            }
            TokenKind::Word(word) if ["decltype", "typeof", "__typeof__"].contains(&&**word) => {
                self.at += 1;
                self.expect("(")?;
                let of = Box::new(self.expression()?);
                self.expect(")")?;
                Ok(TypeBase::Of(of))
            }
            TokenKind::Word(word) if NUMBER_WORDS.contains(&word.as_str()) => {
                Ok(TypeBase::Named(self.number_type()))
            }
            TokenKind::Word(_) | TokenKind::Sign("::") => {
                let path = self.path(true)?;
                let name = if path == "_Bool" { "bool".to_owned() } else { path };
                Ok(TypeBase::Named(name))
            }
            TokenKind::Sign("(") if self.anonymous_namespace() => {
                Ok(TypeBase::Named(self.path(true)?))
            }
            TokenKind::Sign("[" | "(") if self.dialect.language == Language::Rust => {
                self.bracketed_type()
            }
            kind => Err(self.unexpected(kind, "a type")),
        }
    }

    /// Rust's slices, arrays and tuples, which have their text as name.
    fn bracketed_type(&mut self) -> Result<TypeBase, Error> {
        let start = self.token().range.0;
        let mut depth = 0u32;
        loop {
            match self.peek() {
                TokenKind::Sign("(" | "[" | "<") => depth += 1,
                TokenKind::Sign(")" | "]" | ">") => depth = depth.saturating_sub(1),
                TokenKind::End => return self.wrong("a closing bracket is missing"),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                let end = self.tokens[self.at - 1].range.1;
                return Ok(TypeBase::Named(self.text[start..end].to_owned()));
            }
        }
    }

    /// `unsigned long int` and the like, by its usual name.
    fn number_type(&mut self) -> String {
        let (mut unsigned, mut signed, mut longs, mut short) = (false, false, 0, false);
        let mut kind = "int";
        while let TokenKind::Word(word) = self.peek() {
            match word.as_str() {
                "unsigned" => unsigned = true,
                "signed" => signed = true,
                "long" => longs += 1,
                "short" => short = true,
                "int" => {}
                "char" => kind = "char",
                "double" => kind = "double",
                "float" => kind = "float",
                "__int128" => kind = "__int128",
                word if QUALIFIERS.contains(&word) => {}
                _ => break,
            }
            self.at += 1;
        }
        let kind = match (kind, longs, short) {
            ("int", 0, true) => "short",
            ("int", 1, _) => "long",
            ("int", 2.., _) => "long long",
            ("double", 1.., _) => "long double",
            (kind, ..) => kind,
        };
        match (kind, unsigned, signed) {
            ("char", false, true) => "signed char".to_owned(),
            ("int", true, _) => "unsigned int".to_owned(),
            (kind, true, _) => format!("unsigned {kind}"),
            (kind, ..) => kind.to_owned(),
        }
    }
}
