//! What a printer says, as it is written and as it is used.

use serde::Deserialize;
use symbols::Language;

use crate::bind::Bound;
use crate::types::normal;

use super::pattern;

/// One or several of the same.
fn one_or_more<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(from)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}

/// A printer as it is written: `docs/printers.md` explains the fields.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Definition {
    #[serde(rename = "type", deserialize_with = "one_or_more")]
    pub type_: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    unless: Vec<String>,
    language: Option<String>,
    summary: Option<String>,
    empty: Option<String>,
    #[serde(deserialize_with = "one_or_more")]
    when: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    value: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    text: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    first: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    end: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    count: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    item: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    key: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    next: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    root: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    left: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    right: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    slots: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    used: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    height: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    length: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    child: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    choice: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    storage: Vec<String>,
    collect: Option<String>,
    part: Vec<PartDefinition>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartDefinition {
    name: String,
    #[serde(deserialize_with = "one_or_more")]
    value: Vec<String>,
}

/// A printer, ready for use.
#[derive(Debug)]
pub(crate) struct Printer {
    patterns: Vec<String>,
    unless: Vec<String>,
    language: Option<Language>,
    /// Texts and expressions in turn.
    pub summary: Vec<SummaryPart>,
    /// Shown where `when` does not hold.
    pub empty: String,
    pub when: Alternatives,
    pub shape: Shape,
}

#[derive(Debug)]
pub(crate) enum SummaryPart {
    Text(String),
    Value(Box<Formula>),
}

/// An expression over the members of a value.
#[derive(Debug)]
pub(crate) struct Formula {
    pub text: String,
    pub bound: Bound,
}

/// Expressions of which the first that has a value counts: versions of a library differ.
pub(crate) type Alternatives = Vec<Formula>;

#[derive(Debug)]
pub(crate) enum Shape {
    /// Nothing but a summary.
    Summary,
    /// Another value in its place.
    Value(Alternatives),
    /// Characters, up to an end, so many, or up to a zero.
    Text {
        first: Alternatives,
        end: Alternatives,
        count: Alternatives,
    },
    /// Elements that lie one after the other.
    Array {
        first: Alternatives,
        end: Alternatives,
        count: Alternatives,
    },
    /// Elements by their number.
    Indexed {
        count: Alternatives,
        item: Alternatives,
    },
    /// Slots of which some are used.
    Slots {
        slots: Alternatives,
        used: Alternatives,
        count: Alternatives,
        entry: Entry,
    },
    /// One node after the other.
    List {
        first: Alternatives,
        next: Alternatives,
        end: Alternatives,
        count: Alternatives,
        entry: Entry,
    },
    /// A binary tree.
    Tree {
        root: Alternatives,
        left: Alternatives,
        right: Alternatives,
        count: Alternatives,
        entry: Entry,
    },
    /// A tree with several elements in each node.
    Multiway {
        root: Alternatives,
        height: Alternatives,
        length: Alternatives,
        child: Alternatives,
        count: Alternatives,
        entry: Entry,
    },
    /// One of the template's types.
    Choice {
        choice: Alternatives,
        storage: Alternatives,
    },
    /// All members of a name, in the value and its bases, those of the last base first.
    Collect(String),
    Parts(Vec<(String, Alternatives)>),
}

/// What is shown of a node.
#[derive(Debug)]
pub(crate) struct Entry {
    pub item: Alternatives,
    /// Makes it a map.
    pub key: Alternatives,
}

impl Definition {
    pub fn compile(self) -> Result<Printer, String> {
        let language = match self.language.as_deref() {
            None => None,
            Some("c++") => Some(Language::Cpp),
            Some("rust") => Some(Language::Rust),
            Some("c") => Some(Language::C),
            Some(other) => return Err(format!("`{other}` is no language; c, c++ and rust are")),
        };
        if self.type_.is_empty() {
            return Err("`type` is missing".to_owned());
        }
        let patterns = self.type_.iter().map(|pattern| normal(pattern)).collect();
        let unless = self.unless.iter().map(|pattern| normal(pattern)).collect();
        let compiler = Compiler { language: language.unwrap_or(Language::Cpp) };
        let summary = compiler.summary(self.summary.as_deref().unwrap_or_default())?;
        let empty = self.empty.clone().unwrap_or_else(|| "empty".to_owned());
        let when = compiler.all(&self.when)?;
        let shape = self.shape(&compiler)?;
        if matches!(shape, Shape::Summary) && summary.is_empty() {
            return Err("it says nothing to show".to_owned());
        }
        Ok(Printer { patterns, unless, language, summary, empty, when, shape })
    }

    /// The shape by the fields that are there.
    fn shape(&self, compiler: &Compiler) -> Result<Shape, String> {
        let has = |list: &Vec<String>| !list.is_empty();
        let all = |list: &Vec<String>| compiler.all(list);
        let count = all(&self.count)?;
        let entry = || Ok::<_, String>(Entry { item: all(&self.item)?, key: all(&self.key)? });
        if has(&self.value) {
            return Ok(Shape::Value(all(&self.value)?));
        }
        if has(&self.text) {
            return Ok(Shape::Text { first: all(&self.text)?, end: all(&self.end)?, count });
        }
        if has(&self.choice) {
            let (choice, storage) = (all(&self.choice)?, all(&self.storage)?);
            return Ok(Shape::Choice { choice, storage });
        }
        if let Some(name) = &self.collect {
            return Ok(Shape::Collect(name.clone()));
        }
        if has(&self.slots) {
            let (slots, used) = (all(&self.slots)?, all(&self.used)?);
            return Ok(Shape::Slots { slots, used, count, entry: entry()? });
        }
        if has(&self.root) && has(&self.child) {
            return Ok(Shape::Multiway {
                root: all(&self.root)?,
                height: all(&self.height)?,
                length: all(&self.length)?,
                child: all(&self.child)?,
                count,
                entry: entry()?,
            });
        }
        if has(&self.root) {
            return Ok(Shape::Tree {
                root: all(&self.root)?,
                left: all(&self.left)?,
                right: all(&self.right)?,
                count,
                entry: entry()?,
            });
        }
        if has(&self.first) && has(&self.next) {
            return Ok(Shape::List {
                first: all(&self.first)?,
                next: all(&self.next)?,
                end: all(&self.end)?,
                count,
                entry: entry()?,
            });
        }
        if has(&self.first) {
            if self.end.is_empty() && self.count.is_empty() {
                return Err("`first` needs `end`, `count` or `next`".to_owned());
            }
            return Ok(Shape::Array { first: all(&self.first)?, end: all(&self.end)?, count });
        }
        if has(&self.item) {
            if count.is_empty() {
                return Err("`item` needs `count`".to_owned());
            }
            return Ok(Shape::Indexed { count, item: all(&self.item)? });
        }
        if !self.part.is_empty() {
            let parts = self.part.iter();
            let parts = parts.map(|part| Ok((part.name.clone(), all(&part.value)?)));
            return Ok(Shape::Parts(parts.collect::<Result<_, String>>()?));
        }
        Ok(Shape::Summary)
    }
}

struct Compiler {
    language: Language,
}

impl Compiler {
    fn formula(&self, text: &str) -> Result<Formula, String> {
        let bound = Bound::for_printer(text, self.language);
        let bound = bound.map_err(|error| format!("`{text}`: {error}"))?;
        Ok(Formula { text: text.to_owned(), bound })
    }

    fn all(&self, texts: &[String]) -> Result<Alternatives, String> {
        texts.iter().map(|text| self.formula(text)).collect()
    }

    /// `use {count}, weak {weak}`.
    fn summary(&self, text: &str) -> Result<Vec<SummaryPart>, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (inside, behind) = behind
                .split_once('}')
                .ok_or_else(|| format!("`{text}`: the closing bracket is missing"))?;
            if !before.is_empty() {
                parts.push(SummaryPart::Text(before.to_owned()));
            }
            parts.push(SummaryPart::Value(Box::new(self.formula(inside)?)));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(SummaryPart::Text(rest.to_owned()));
        }
        Ok(parts)
    }
}

impl Printer {
    /// Whether it is for a type, by its name without spaces.
    pub fn fits(&self, name: &str, rust: bool) -> bool {
        let language = self.language.is_none_or(|known| (known == Language::Rust) == rust);
        let any = |patterns: &[String]| patterns.iter().any(|p| pattern::fits(p, name));
        language && any(&self.patterns) && !any(&self.unless)
    }
}
