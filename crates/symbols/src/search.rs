//! Search while typing: names ranked by how well they fit what was typed so far.

use std::cmp::Reverse;

use rayon::prelude::*;

use crate::LinkAddress;
use crate::debug::Debug;
use crate::die::DieId;
use crate::index::{NameKind, base_name};
use crate::names::{Name, demangle};
use crate::parallel::apart;

/// Something that fits what was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub kind: NameKind,
    /// With its path; of a source file, its path.
    pub name: String,
    pub id: Option<DieId>,
    /// Of a symbol.
    pub address: Option<LinkAddress>,
    /// Higher is better; comparable between modules.
    pub score: u32,
}

/// A name that only the linker knows, readable.
#[derive(Debug)]
pub(crate) struct PlainSymbol {
    name: String,
    base: String,
    address: u64,
}

enum Candidate<'i> {
    Named(u32),
    File(u32),
    Symbol(&'i PlainSymbol),
}

impl<'a> Debug<'a> {
    /// The names that fit best, best first, at most `limit`. Words and components of paths must
    /// all fit, the last one the name itself.
    pub fn search(&self, typed: &str, limit: usize) -> Vec<Found> {
        let query = Query::new(typed);
        if query.last.is_empty() || limit == 0 {
            return Vec::new();
        }
        let index = self.index();
        let named = index.unique.par_iter().filter_map(|at| {
            let named = &index.named[*at as usize];
            let score = query.score(base_name(named.name.slice()), || index.path(named))?;
            Some((score + kind_bonus(named.kind), Candidate::Named(*at)))
        });
        let files = &self.sources().files;
        let sources = (0..files.len() as u32).into_par_iter().filter_map(|at| {
            let path = &files[at as usize].path;
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let directories = || parent.rsplit('/').map(str::as_bytes);
            let score = query.score(name.as_bytes(), directories)?;
            Some((score + kind_bonus(NameKind::SourceFile), Candidate::File(at)))
        });
        let symbols = self.plain_symbols().par_iter().filter_map(|symbol| {
            let path = || symbol.name.rsplit("::").skip(1).map(str::as_bytes);
            let score = query.score(symbol.base.as_bytes(), path)?;
            Some((score, Candidate::Symbol(symbol)))
        });
        let mut all: Vec<(u32, Candidate<'_>)> = named.chain(sources).chain(symbols).collect();
        if all.len() > limit {
            // Names are made for those only that may be shown; equal ones are ordered by them.
            all.select_nth_unstable_by_key(limit - 1, |(score, _)| Reverse(*score));
            let worst = all[limit - 1].0;
            let (mut better, equal): (Vec<_>, Vec<_>) =
                all.into_iter().filter(|(s, _)| *s >= worst).partition(|(s, _)| *s > worst);
            // Many names of one score: the first of them in the order of the index.
            let mut equal = equal;
            equal.sort_by(|(_, a), (_, b)| a.order().cmp(&b.order()));
            equal.truncate(limit - better.len());
            better.extend(equal);
            all = better;
        }
        let mut found: Vec<Found> = all.into_iter().map(|(s, c)| self.found(s, &c)).collect();
        found.sort_by(|a, b| {
            let key =
                |f: &Found| (Reverse(f.score), f.name.len(), f.name.clone(), f.kind, f.address);
            key(a).cmp(&key(b))
        });
        found
    }

    fn found(&self, score: u32, candidate: &Candidate<'_>) -> Found {
        match candidate {
            Candidate::Named(at) => {
                let named = &self.index().named[*at as usize];
                let name = self.index().full_name(named);
                Found { kind: named.kind, name, id: Some(named.id), address: None, score }
            }
            Candidate::File(at) => {
                let name = self.sources().files[*at as usize].path.clone();
                Found { kind: NameKind::SourceFile, name, id: None, address: None, score }
            }
            Candidate::Symbol(symbol) => Found {
                kind: NameKind::Symbol,
                name: symbol.name.clone(),
                id: None,
                address: Some(LinkAddress(symbol.address)),
                score,
            },
        }
    }

    /// Symbols of what has no debug information.
    fn plain_symbols(&self) -> &[PlainSymbol] {
        self.plain_symbols.get_or_init(|| apart(|| self.read_plain_symbols()))
    }

    fn read_plain_symbols(&self) -> Vec<PlainSymbol> {
        let names: Vec<_> = self.symbols.names().collect();
        let plain = names.into_par_iter().filter_map(|(name, kind, address)| {
            if kind.is_code() && self.unit_ranges.containing(address).next().is_some() {
                return None;
            }
            let name = String::from_utf8_lossy(name);
            let name = demangle(&name).unwrap_or_else(|| name.into_owned());
            Some(PlainSymbol { base: Name::parse(&name).base(), name, address })
        });
        let mut plain: Vec<PlainSymbol> = plain.collect();
        plain.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
        plain.dedup_by(|a, b| a.name == b.name && a.address == b.address);
        plain
    }
}

impl Candidate<'_> {
    fn order(&self) -> (u8, u64, &str) {
        match self {
            Candidate::Named(at) => (0, u64::from(*at), ""),
            Candidate::File(at) => (1, u64::from(*at), ""),
            Candidate::Symbol(symbol) => (2, symbol.address, &symbol.name),
        }
    }
}

fn kind_bonus(kind: NameKind) -> u32 {
    match kind {
        NameKind::Function => 6,
        NameKind::Type => 5,
        NameKind::Variable => 4,
        NameKind::SourceFile => 3,
        NameKind::Enumerator => 2,
        NameKind::TypeDeclaration | NameKind::Symbol => 0,
    }
}

/// What was typed, in parts.
struct Query {
    /// Fit the names around, in this order.
    path: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Query {
    fn new(typed: &str) -> Query {
        let parts = typed.split(|c: char| c.is_whitespace() || c == '/');
        let mut parts: Vec<Vec<u8>> = parts
            .flat_map(|part| part.split("::"))
            .filter(|part| !part.is_empty())
            .map(|part| part.as_bytes().to_vec())
            .collect();
        let last = parts.pop().unwrap_or_default();
        Query { path: parts, last }
    }

    /// How well a name fits, with the names around it innermost first. `None` if not at all.
    fn score<'n, I: Iterator<Item = &'n [u8]>>(
        &self,
        name: &[u8],
        path: impl FnOnce() -> I,
    ) -> Option<u32> {
        let mut score = fit(name, &self.last)?;
        if !self.path.is_empty() {
            let mut around = path();
            for part in self.path.iter().rev() {
                let fits = around.by_ref().find_map(|name| fit(base_name(name), part))?;
                score += fits / 100;
            }
        }
        Some(score * 10)
    }
}

/// How well a name fits a word: whole, its beginning, the beginning of a word in it, anywhere, or
/// the first letters of its words.
fn fit(name: &[u8], word: &[u8]) -> Option<u32> {
    let surplus = name.len().checked_sub(word.len()).map(|surplus| surplus.min(50) as u32);
    let same_case = |at: usize| u32::from(name[at..].starts_with(word)) * 20;
    if let Some(surplus) = surplus {
        let at = |at: usize| name[at..at + word.len()].eq_ignore_ascii_case(word);
        if surplus == 0 && at(0) {
            return Some(1000 + same_case(0));
        }
        if at(0) {
            return Some(800 - surplus + same_case(0));
        }
        let places = (1..=name.len() - word.len()).filter(|place| at(*place));
        let mut anywhere = None;
        for place in places {
            if begins_word(name, place) {
                return Some(600 - surplus + same_case(place));
            }
            anywhere = anywhere.or(Some(400 - surplus + same_case(place)));
        }
        if anywhere.is_some() {
            return anywhere;
        }
    }
    let starts = (0..name.len()).filter(|at| *at == 0 || begins_word(name, *at));
    (word.len() >= 2 && fits_words(name, &starts.collect::<Vec<_>>(), word))
        .then(|| 200 - surplus.unwrap_or(50))
}

fn begins_word(name: &[u8], at: usize) -> bool {
    let (before, here) = (name[at - 1], name[at]);
    let separated = !before.is_ascii_alphanumeric() && here.is_ascii_alphanumeric();
    let hump = !before.is_ascii_uppercase() && here.is_ascii_uppercase();
    let digit = !before.is_ascii_digit() && here.is_ascii_digit();
    separated || hump || digit
}

/// Whether a word is made of beginnings of words of a name, in their order: `pushb` and `pb` of
/// `push_back`. Takes the earliest words that fit, as long as possible.
fn fits_words(name: &[u8], starts: &[usize], word: &[u8]) -> bool {
    let mut left = word;
    for start in starts {
        let same = name[*start..].iter().zip(left);
        let length = same.take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
        left = &left[length..];
        if left.is_empty() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that fit, best first.
    fn check(typed: &str, names: &[&str]) -> String {
        let query = Query::new(typed);
        let mut fitting: Vec<_> = names
            .iter()
            .filter_map(|name| {
                let mut parts = name.rsplit("::").map(str::as_bytes);
                let base = parts.next()?;
                Some((Reverse(query.score(base, || parts)?), *name))
            })
            .collect();
        fitting.sort();
        fitting.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ranks() {
        let names = ["push_back", "push", "Push", "get_push", "repush", "pull_us_high", "other"];
        assert_eq!(check("push", &names), "push Push push_back get_push repush");
        assert_eq!(check("pb", &names), "push_back");
        assert_eq!(check("puh", &names), "pull_us_high");
        assert_eq!(check("x", &names), "");
        let names = ["std::vector::size", "ns::vector_view::size", "std::list::size"];
        assert_eq!(check("vector::size", &names), "std::vector::size ns::vector_view::size");
        assert_eq!(check("std size", &names), "std::list::size std::vector::size");
        assert_eq!(check("JsP", &["JSParser", "js_parse", "jsp"]), "jsp JSParser js_parse");
    }
}
