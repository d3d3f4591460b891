//! What a value unfolds into: its parts with their names.

use model::Address;
use symbols::{Composite, Encoding};

use crate::datum::{Context, Datum};
use crate::parts::is_trait_object;
use crate::types::{ArrayKind, Kind};
use crate::value::{Badge, ValueKind};

/// Parts of one structure that are shown.
const PARTS_MAX: usize = 20_000;
/// Anonymous members in anonymous members.
const NESTING_MAX: u32 = 16;

/// A part of a value.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub name: String,
    /// How an expression gets to it.
    pub step: Step,
    pub datum: Datum,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// By a member's name.
    Member(String),
    /// By an index of the language.
    Index(i64),
    /// What a pointer points to.
    Star,
    /// By its number among the parts.
    Number(u64),
}

/// A value as it is to be shown: behind references, with its actual type, by its printer.
#[derive(Debug)]
pub(crate) struct Shown {
    pub datum: Datum,
    /// If a table of functions tells it, and it is not the declared one.
    pub actual_type: Option<String>,
    pub view: View,
    /// Why it is not shown by its printer.
    pub badge: Option<Badge>,
}

/// What there is below a value.
#[derive(Debug)]
pub(crate) enum View {
    Leaf,
    Parts(Vec<Part>),
    Array {
        count: u64,
    },
    /// A pointer, which unfolds into what it points to, or the parts of that.
    Pointer(Pointee),
    Printed(Printed),
}

#[derive(Debug)]
pub(crate) enum Pointee {
    /// Shown as one part.
    Whole(Datum),
    /// Its parts are shown.
    Open(Box<Shown>),
}

/// A value as a printer shows it.
#[derive(Debug)]
pub(crate) struct Printed {
    pub kind: ValueKind,
    /// In front of what follows: `unique_ptr`.
    pub summary: String,
    pub body: Body,
    pub badges: Vec<Badge>,
}

#[derive(Debug)]
pub(crate) enum Body {
    Nothing,
    /// Characters of so many bytes each, so many of them or up to a zero.
    Text {
        address: Address,
        size: u64,
        length: Option<u64>,
    },
    /// Another value in its place.
    Instead(Box<Datum>),
    Elements(Box<dyn Elements>),
}

/// Parts that are found by walking through memory.
pub(crate) trait Elements: std::fmt::Debug {
    /// How many there are; none if only a walk tells.
    fn count(&self) -> Option<u64>;

    /// Some from a number on, and what was in the way of more.
    fn range(&self, context: &Context<'_>, from: u64, count: usize) -> (Vec<Part>, Option<Badge>);
}

impl Context<'_> {
    /// What is to be shown for a value.
    pub fn shown(&self, datum: &Datum) -> Shown {
        let context = self.deeper();
        if context.nesting == 0 {
            let datum = Datum::absent(std::sync::Arc::clone(&datum.ty), Badge::TooMuch);
            return Shown { datum, actual_type: None, view: View::Leaf, badge: None };
        }
        context.shown_here(datum)
    }

    fn shown_here(&self, datum: &Datum) -> Shown {
        let declared = self.through_reference(datum);
        // What no pointer led to is what it is declared to be.
        let may_differ = declared.pointed || is_trait_object(&declared.ty);
        let actual = if self.raw || !may_differ { None } else { self.actual(&declared) };
        if let Some(actual) = actual {
            let actual_type = Some(actual.ty.name.clone());
            if is_trait_object(&declared.ty) {
                let inner = self.viewed(actual, None);
                let view = View::Pointer(Pointee::Open(Box::new(inner)));
                return Shown { datum: declared, actual_type, view, badge: None };
            }
            return self.viewed(actual, actual_type);
        }
        self.viewed(declared, None)
    }

    fn viewed(&self, datum: Datum, actual_type: Option<String>) -> Shown {
        if let crate::datum::Home::Absent(_) = datum.home {
            return Shown { datum, actual_type, view: View::Leaf, badge: None };
        }
        match self.printed(&datum) {
            Ok(Some(printed)) => {
                Shown { datum, actual_type, view: View::Printed(printed), badge: None }
            }
            Ok(None) => Shown { view: self.view(&datum), datum, actual_type, badge: None },
            Err(badge) => Shown { view: self.view(&datum), datum, actual_type, badge: Some(badge) },
        }
    }

    fn view(&self, datum: &Datum) -> View {
        match &datum.ty.kind {
            Kind::Composite(composite) if !composite.declaration => {
                View::Parts(self.members(datum, composite))
            }
            Kind::Array(array) => match self.length(&datum.ty, array) {
                Ok(Some(0) | None) | Err(_) => View::Leaf,
                Ok(Some(count)) => View::Array { count },
            },
            Kind::Pointer(_) => self.pointer_view(datum),
            Kind::Base(Encoding::ComplexFloat) => View::Leaf,
            _ => View::Leaf,
        }
    }

    fn pointer_view(&self, pointer: &Datum) -> View {
        match self.bits(pointer) {
            Ok(0) => return View::Leaf,
            Err(_) if self.implicit_target(pointer).is_none() => return View::Leaf,
            _ => {}
        }
        let pointee = self.pointee(pointer);
        match &pointee.ty.kind {
            Kind::Void | Kind::Function | Kind::Unspecified | Kind::Other(_) => View::Leaf,
            Kind::Composite(composite) if composite.declaration => View::Leaf,
            Kind::Composite(_) => {
                // One look only: what is behind may be a pointer again.
                let shown = self.shown(&pointee);
                View::Pointer(Pointee::Open(Box::new(shown)))
            }
            _ => View::Pointer(Pointee::Whole(pointee)),
        }
    }

    /// The members of a structure as the source has them.
    fn members(&self, of: &Datum, composite: &Composite) -> Vec<Part> {
        let mut parts = Vec::new();
        for base in &composite.bases {
            let datum = self.part(of, &base.place, base.type_);
            let empty = |c: &Composite| c.bases.is_empty() && c.members.is_empty();
            if !self.raw && datum.ty.composite().is_some_and(empty) {
                continue;
            }
            let name = datum.ty.name.clone();
            parts.push(Part { name, step: Step::Number(parts.len() as u64), datum });
        }
        self.add_members(of, composite, &mut parts, NESTING_MAX);
        for member in &composite.statics {
            let Some(module) = of.ty.module.as_ref().and_then(|m| self.number_of(m)) else {
                break;
            };
            let datum = self.variable(module, member.variable, member.type_);
            let name = format!("static {}", member.name);
            parts.push(Part { name, step: Step::Member(member.name.clone()), datum });
        }
        parts.truncate(PARTS_MAX);
        parts
    }

    fn add_members(&self, of: &Datum, composite: &Composite, parts: &mut Vec<Part>, nesting: u32) {
        for member in &composite.members {
            if parts.len() >= PARTS_MAX {
                return;
            }
            if member.artificial && !self.raw {
                continue;
            }
            let datum = self.part(of, &member.place, member.type_);
            match (&member.name, datum.ty.composite()) {
                (Some(name), _) => {
                    let name = shown_name(name, of.ty.is_rust());
                    parts.push(Part { step: Step::Member(name.clone()), name, datum });
                }
                // What has no name is seen through.
                (None, Some(inner)) if nesting > 0 => {
                    self.add_members(&datum, inner, parts, nesting - 1);
                }
                (None, _) => {
                    let step = Step::Number(parts.len() as u64);
                    parts.push(Part { name: "(no name)".to_owned(), step, datum });
                }
            }
        }
        if let Ok(Some(variant)) = self.variant(of, composite) {
            for member in &variant.members {
                let datum = self.part(of, &member.place, member.type_);
                match datum.ty.composite() {
                    Some(inner) if nesting > 0 => {
                        self.add_members(&datum, inner, parts, nesting - 1);
                    }
                    _ => {
                        let name = member.name.clone().unwrap_or_default();
                        parts.push(Part { step: Step::Member(name.clone()), name, datum });
                    }
                }
            }
        }
    }

    /// How many parts there are, as far as it is known.
    pub fn part_count(&self, shown: &Shown) -> Option<u64> {
        match &shown.view {
            View::Leaf => Some(0),
            View::Parts(parts) => Some(parts.len() as u64),
            View::Array { count } => Some(*count),
            View::Pointer(Pointee::Whole(_)) => Some(1),
            View::Pointer(Pointee::Open(inner)) => self.part_count(inner),
            View::Printed(printed) => match &printed.body {
                Body::Nothing | Body::Text { .. } => Some(0),
                Body::Instead(datum) => self.deeper().part_count_of(datum),
                Body::Elements(elements) => elements.count(),
            },
        }
    }

    fn part_count_of(&self, datum: &Datum) -> Option<u64> {
        self.part_count(&self.shown(datum))
    }

    /// What is shown in place of a value, if its printer says so.
    pub fn inside(&self, datum: &Datum) -> Option<Datum> {
        let context = self.deeper();
        if context.nesting == 0 || self.raw {
            return None;
        }
        match context.printed(datum).ok()??.body {
            Body::Instead(inner) => Some(*inner),
            _ => None,
        }
    }

    /// What a value that is a pointer of the library points to.
    pub fn owned_pointee(&self, datum: &Datum) -> Option<Datum> {
        let inner = self.inside(datum)?;
        match inner.ty.kind {
            Kind::Pointer(_) => Some(self.pointee(&inner)),
            _ => Some(inner),
        }
    }

    /// Some parts from a number on, and what was in the way of more. The flag tells whether they
    /// are parts of what the value points to.
    pub fn parts(&self, shown: &Shown, from: u64, count: usize) -> Parts {
        let plain = |parts| Parts { parts, trouble: None, behind_pointer: false };
        match &shown.view {
            View::Leaf => plain(Vec::new()),
            View::Parts(parts) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                plain(parts.iter().skip(from).take(count).cloned().collect())
            }
            View::Array { count: all } => {
                let Kind::Array(array) = &shown.datum.ty.kind else { return plain(Vec::new()) };
                let end = from.saturating_add(count as u64).min(*all);
                plain((from..end).map(|index| self.array_part(shown, array, index)).collect())
            }
            View::Pointer(Pointee::Whole(datum)) => {
                let part = Part { name: "*".to_owned(), step: Step::Star, datum: datum.clone() };
                plain(if from == 0 && count > 0 { vec![part] } else { Vec::new() })
            }
            View::Pointer(Pointee::Open(inner)) => {
                Parts { behind_pointer: true, ..self.parts(inner, from, count) }
            }
            View::Printed(printed) => match &printed.body {
                Body::Nothing | Body::Text { .. } => plain(Vec::new()),
                Body::Instead(datum) => {
                    let context = self.deeper();
                    let mut inner = context.parts(&context.shown(datum), from, count);
                    number(&mut inner.parts, from);
                    inner.behind_pointer = false;
                    inner
                }
                Body::Elements(elements) => {
                    let (mut parts, trouble) = elements.range(self, from, count);
                    number(&mut parts, from);
                    Parts { parts, trouble, behind_pointer: false }
                }
            },
        }
    }

    fn array_part(&self, shown: &Shown, array: &ArrayKind, index: u64) -> Part {
        let lower = array.dimensions.first().map_or(0, |d| d.lower);
        let index = index as i64;
        let name = format!("[{}]", index.wrapping_add(lower));
        Part { name, step: Step::Index(index), datum: self.element(&shown.datum, array, index) }
    }
}

/// Parts of a value.
#[derive(Debug)]
pub(crate) struct Parts {
    pub parts: Vec<Part>,
    /// What was in the way of more.
    pub trouble: Option<Badge>,
    pub behind_pointer: bool,
}

/// What no member access of the language gets to is found by its number.
fn number(parts: &mut [Part], from: u64) {
    for (part, number) in parts.iter_mut().zip(from..) {
        part.step = Step::Number(number);
    }
}

/// Rust's tuples have fields 0, 1, ….
fn shown_name(name: &str, rust: bool) -> String {
    match name.strip_prefix("__") {
        Some(digits) if rust && digits.bytes().all(|b| b.is_ascii_digit()) => digits.to_owned(),
        _ => name.to_owned(),
    }
}
