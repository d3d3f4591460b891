//! Names of functions and types: demangled, as trees that can be shown short.

use std::fmt;

use cpp_demangle::{DemangleOptions, Symbol};

/// Longer linkage names stay as they are.
const MANGLED_BYTES_MAX: usize = 64 << 10;
/// A short name can stand for an exponentially long one (substitutions of substitutions).
const DEMANGLED_BYTES_MAX: usize = 256 << 10;
/// Brackets within brackets; what is deeper stays text.
const DEPTH_MAX: usize = 100;

/// A name with its brackets told apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub parts: Vec<NamePart>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamePart {
    Text(String),
    /// Something in brackets, which are not part of `parts`.
    Group {
        kind: GroupKind,
        parts: Vec<NamePart>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKind {
    /// `<int, 3>` behind a name.
    TemplateArguments,
    /// `(int, char*)` behind a name.
    Parameters,
    /// `<T as Trait>` in front of one.
    Angle,
    /// `(anonymous namespace)`.
    Round,
}

impl GroupKind {
    fn brackets(self) -> (char, char) {
        match self {
            GroupKind::TemplateArguments | GroupKind::Angle => ('<', '>'),
            GroupKind::Parameters | GroupKind::Round => ('(', ')'),
        }
    }
}

impl Name {
    /// Reads a name in C++ or Rust syntax. Never fails: brackets that do not match are text.
    pub fn parse(text: &str) -> Name {
        Name { parts: Parser { text, at: 0 }.parts(None, 0).unwrap_or_default() }
    }

    /// Without parameters, and template arguments as `<…>`.
    pub fn short(&self) -> String {
        let mut text = String::new();
        write_short(&mut text, &self.parts, "<…>");
        text.trim_end().to_owned()
    }

    /// Components of the path without arguments and parameters: `std`, `vector`, `push_back`.
    pub fn components(&self) -> Vec<String> {
        let mut text = String::new();
        write_short(&mut text, &self.parts, "");
        split_path(text.trim_end())
    }

    /// The last component without arguments and parameters.
    pub fn base(&self) -> String {
        self.components().pop().unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_full(f, &self.parts)
    }
}

fn write_full(to: &mut impl fmt::Write, parts: &[NamePart]) -> fmt::Result {
    for part in parts {
        match part {
            NamePart::Text(text) => to.write_str(text)?,
            NamePart::Group { kind, parts } => {
                let (open, close) = kind.brackets();
                to.write_char(open)?;
                write_full(to, parts)?;
                to.write_char(close)?;
            }
        }
    }
    Ok(())
}

fn write_short(to: &mut String, parts: &[NamePart], arguments: &str) {
    for part in parts {
        match part {
            NamePart::Text(text) => to.push_str(text),
            NamePart::Group { kind: GroupKind::TemplateArguments, .. } => {
                // Rust's `name::<T>` without its arguments is `name`.
                if arguments.is_empty() && to.ends_with("::") {
                    to.truncate(to.len() - 2);
                }
                to.push_str(arguments);
            }
            NamePart::Group { kind: GroupKind::Parameters, .. } => {}
            NamePart::Group { kind, parts } => {
                let (open, close) = kind.brackets();
                to.push(open);
                write_short(to, parts, arguments);
                to.push(close);
            }
        }
    }
}

/// Splits at `::` outside of brackets.
fn split_path(text: &str) -> Vec<String> {
    let mut components = vec![String::new()];
    let mut depth = 0usize;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let (0, Some(behind)) = (depth, rest.strip_prefix("::")) {
            components.push(String::new());
            rest = behind;
            continue;
        }
        match operator(rest) {
            Some(length) if depth == 0 => {
                components.last_mut().unwrap_or(&mut String::new()).push_str(&rest[..length]);
                rest = &rest[length..];
                continue;
            }
            _ => {}
        }
        match c {
            '<' | '(' | '{' => depth += 1,
            '>' | ')' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if let Some(last) = components.last_mut() {
            last.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    components.retain(|component| !component.is_empty());
    components
}

/// The length of `operator<<` and the like at the beginning of a text.
fn operator(text: &str) -> Option<usize> {
    const SIGNS: [&str; 12] =
        ["()", "[]", "<=>", "<<=", ">>=", "->*", "<<", ">>", "<=", ">=", "->", "<"];
    let rest = text.strip_prefix("operator")?;
    let signs = SIGNS.iter().find(|signs| rest.starts_with(**signs));
    let signs = signs.copied().or_else(|| rest.starts_with('>').then_some(">"))?;
    Some("operator".len() + signs.len())
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    /// Parts up to the closing bracket, behind which `at` is then. `None`, with `at` unchanged, if
    /// it is missing.
    fn parts(&mut self, close: Option<char>, depth: usize) -> Option<Vec<NamePart>> {
        let start = self.at;
        let mut parts = Vec::new();
        let mut text = String::new();
        // Where no closing bracket is missing, none is looked for again.
        let mut hopeless = depth >= DEPTH_MAX;
        while let Some(c) = self.text[self.at..].chars().next() {
            let rest = &self.text[self.at..];
            let at_word = !text.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if at_word && let Some(length) = operator(rest) {
                text.push_str(&rest[..length]);
                self.at += length;
                continue;
            }
            if rest.starts_with("->") {
                text.push_str("->");
                self.at += 2;
                continue;
            }
            self.at += c.len_utf8();
            if Some(c) == close {
                push_text(&mut parts, &mut text);
                return Some(parts);
            }
            let kind = if hopeless { None } else { opening(c, &text, parts.last()) };
            let Some(kind) = kind else {
                text.push(c);
                continue;
            };
            match self.parts(Some(kind.brackets().1), depth + 1) {
                Some(inner) => {
                    push_text(&mut parts, &mut text);
                    parts.push(NamePart::Group { kind, parts: inner });
                }
                None => {
                    hopeless = true;
                    text.push(c);
                }
            }
        }
        if close.is_some() {
            self.at = start;
            return None;
        }
        push_text(&mut parts, &mut text);
        Some(parts)
    }
}

fn push_text(parts: &mut Vec<NamePart>, text: &mut String) {
    if !text.is_empty() {
        parts.push(NamePart::Text(std::mem::take(text)));
    }
}

/// What a bracket opens, from what is in front of it.
fn opening(c: char, text: &str, previous: Option<&NamePart>) -> Option<GroupKind> {
    let behind_name = match (text.chars().next_back(), previous) {
        (Some(c), _) => c.is_alphanumeric() || "_]})".contains(c) || text.contains("operator"),
        (None, Some(NamePart::Group { .. })) => true,
        (None, _) => false,
    };
    match c {
        '<' if behind_name || text.ends_with("::") => Some(GroupKind::TemplateArguments),
        '<' => Some(GroupKind::Angle),
        '(' if behind_name => Some(GroupKind::Parameters),
        '(' => Some(GroupKind::Round),
        _ => None,
    }
}

/// The readable form of a linkage name of C++ or Rust, without return type and hash. `None` if it
/// is neither.
pub fn demangle(linkage_name: &str) -> Option<String> {
    if linkage_name.len() > MANGLED_BYTES_MAX {
        return None;
    }
    if let Ok(name) = rustc_demangle::try_demangle(linkage_name) {
        let mut text = Bounded(String::new());
        fmt::write(&mut text, format_args!("{name:#}")).ok()?;
        return Some(text.0);
    }
    if !linkage_name.starts_with("_Z") {
        return None;
    }
    let symbol = Symbol::new(linkage_name).ok()?;
    let mut text = Bounded(String::new());
    let options = DemangleOptions::new().no_return_type();
    symbol.structured_demangle(&mut text, &options).ok()?;
    Some(text.0)
}

struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > DEMANGLED_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (String, String, String) {
        let name = Name::parse(text);
        assert_eq!(name.to_string(), text);
        (name.short(), name.components().join(" | "), name.base())
    }

    fn shown(text: &str) -> String {
        let (short, components, _) = check(text);
        format!("{short}   {components}")
    }

    #[test]
    fn trees() {
        assert_eq!(
            shown("std::vector<int, std::allocator<int> >::push_back(int const&)"),
            "std::vector<…>::push_back   std | vector | push_back"
        );
        assert_eq!(
            shown("ns::operator<< <char>(std::ostream&)"),
            "ns::operator<< <…>   ns | operator<<"
        );
        assert_eq!(shown("A::operator()(int) const"), "A::operator() const   A | operator() const");
        assert_eq!(shown("operator<(A, B)"), "operator<   operator<");
        assert_eq!(
            shown("(anonymous namespace)::f(int)"),
            "(anonymous namespace)::f   (anonymous namespace) | f"
        );
        assert_eq!(
            shown("<alloc::vec::Vec<T> as core::iter::Iterator>::next"),
            "<alloc::vec::Vec<…> as core::iter::Iterator>::next   \
             <alloc::vec::Vec as core::iter::Iterator> | next"
        );
        assert_eq!(
            shown("core::ptr::drop_in_place::<alloc::string::String>"),
            "core::ptr::drop_in_place::<…>   core | ptr | drop_in_place"
        );
        assert_eq!(shown("a::b::{{closure}}<u8>"), "a::b::{{closure}}<…>   a | b | {{closure}}");
        assert_eq!(shown("f(int"), "f(int   f(int");
    }

    #[test]
    fn deep_and_unclosed() {
        for text in ["<".repeat(10_000), "f(".repeat(10_000), "a<(".repeat(5_000)] {
            assert_eq!(Name::parse(&text).to_string(), text);
        }
    }

    #[test]
    fn demangles() {
        let check = |name: &str| demangle(name).unwrap_or_default();
        assert_eq!(check("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(
            check("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"),
            "core::fmt::Write::write_fmt"
        );
        assert_eq!(check("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(check("_Z3maxIiET_S0_S0_"), "max<int>(int, int)");
        assert_eq!(check("main"), "");
        assert_eq!(check("_Z"), "");
        // Each S_ doubles what came before.
        let bomb = format!("_Z1fP{}", (0..60).map(|_| "1AIS_S_E").collect::<String>());
        assert!(check(&bomb).len() <= DEMANGLED_BYTES_MAX);
    }
}
