//! From a value and its printer to what is shown.

use std::sync::Arc;

use model::Address;

use super::definition::{Alternatives, Formula, Printer, Shape, SummaryPart};
use super::walk::{Elements as Walked, Walk};
use crate::datum::{Context, Datum};
use crate::error::Error;
use crate::evaluate::{Evaluator, Scalar, template_argument};
use crate::types::Kind;
use crate::value::{Badge, ValueKind};
use crate::view::{Body, Part, Printed, Step};

/// More elements than any memory holds are taken for damage.
const COUNT_MAX: u64 = 1 << 40;
/// Bases of bases.
const NESTING_MAX: u32 = 200;

impl Context<'_> {
    /// A value as its printer shows it, if it has one. An error says that the value is not what
    /// its type promises.
    pub(crate) fn printed(&self, datum: &Datum) -> Result<Option<Printed>, Badge> {
        if self.raw {
            return Ok(None);
        }
        let Some(printer) = self.printers.find(&datum.ty) else { return Ok(None) };
        let context = self.deeper();
        if context.nesting == 0 {
            return Ok(None);
        }
        let show = Show { context: &context, printer, own: datum, names: &[] };
        show.printed().map(Some)
    }
}

/// A printer at work on a value.
pub(super) struct Show<'s> {
    pub context: &'s Context<'s>,
    pub printer: &'s Arc<Printer>,
    pub own: &'s Datum,
    /// What expressions may name besides members: `node`, `index`.
    pub names: &'s [(&'static str, Datum)],
}

impl<'s> Show<'s> {
    fn printed(&self) -> Result<Printed, Badge> {
        let mut printed = Printed {
            kind: ValueKind::Structure,
            summary: String::new(),
            body: Body::Nothing,
            badges: Vec::new(),
        };
        if !self.printer.when.is_empty() && !self.truth(&self.printer.when)? {
            printed.summary.clone_from(&self.printer.empty);
            return Ok(printed);
        }
        printed.summary = self.summary()?;
        match &self.printer.shape {
            Shape::Summary => {}
            Shape::Value(value) => {
                printed.body = Body::Instead(Box::new(self.datum(value)?));
            }
            Shape::Text { first, end, count } => {
                printed.kind = ValueKind::Text;
                printed.body = self.text(first, end, count)?;
            }
            Shape::Choice { choice, storage } => self.choice(choice, storage, &mut printed)?,
            Shape::Collect(name) => {
                let mut found = Vec::new();
                self.collect(self.own, name, NESTING_MAX, &mut found);
                printed.body = self.elements(Walk::Fixed(found));
            }
            Shape::Parts(parts) => {
                let parts = parts.iter().map(|(name, value)| {
                    let datum = self.datum(value)?;
                    Ok(Part { name: name.clone(), step: Step::Number(0), datum })
                });
                printed.body = self.elements(Walk::Fixed(parts.collect::<Result<_, Badge>>()?));
            }
            Shape::Array { first, end, count } => {
                printed.kind = ValueKind::Sequence;
                let (first, count) = self.array(first, end, count)?;
                printed.body = self.elements(Walk::Array { first, count });
            }
            Shape::Indexed { count, .. } => {
                printed.kind = ValueKind::Sequence;
                printed.body = self.elements(Walk::Indexed { count: self.count(count)? });
            }
            Shape::Slots { count, entry, .. }
            | Shape::List { count, entry, .. }
            | Shape::Tree { count, entry, .. }
            | Shape::Multiway { count, entry, .. } => {
                let map = !entry.key.is_empty();
                printed.kind = if map { ValueKind::Map } else { ValueKind::Sequence };
                let count = if count.is_empty() { None } else { Some(self.count(count)?) };
                printed.body = self.elements(Walk::Nodes { count });
            }
        }
        Ok(printed)
    }

    fn elements(&self, walk: Walk) -> Body {
        let printer = Arc::clone(self.printer);
        Body::Elements(Box::new(Walked { printer, own: self.own.clone(), walk }))
    }

    fn summary(&self) -> Result<String, Badge> {
        let mut text = String::new();
        for part in &self.printer.summary {
            match part {
                SummaryPart::Text(part) => text.push_str(part),
                SummaryPart::Value(formula) => {
                    let datum = self.evaluate(formula, |e| e.datum(&formula.bound.parsed.root));
                    let datum = datum.map_err(implausible)?;
                    let format = formula.bound.parsed.format.unwrap_or_default();
                    let mut line = crate::text::Line::new(60, format);
                    self.context.write_shown(&mut line, &self.context.shown(&datum));
                    text.push_str(&line.finish().0);
                }
            }
        }
        Ok(text)
    }

    fn text(
        &self,
        first: &Alternatives,
        end: &Alternatives,
        count: &Alternatives,
    ) -> Result<Body, Badge> {
        let Some(Scalar::Pointer { address, to }) = self.scalar(first)? else {
            return Err(Badge::Implausible("a text without a pointer".to_owned()));
        };
        let size = to.size.unwrap_or(1).clamp(1, 4);
        let length = if !count.is_empty() {
            Some(self.count(count)?)
        } else if !end.is_empty() {
            Some(self.address(end)?.0.wrapping_sub(address) / size)
        } else {
            None
        };
        if length.is_some_and(|length| length > COUNT_MAX) {
            return Err(Badge::Implausible(format!(
                "a text of {} characters",
                length.unwrap_or(0)
            )));
        }
        Ok(Body::Text { address: Address(address), size, length })
    }

    fn array(
        &self,
        first: &Alternatives,
        end: &Alternatives,
        count: &Alternatives,
    ) -> Result<(Datum, u64), Badge> {
        let Some(Scalar::Pointer { address, to }) = self.scalar(first)? else {
            return Err(Badge::Implausible("elements without a pointer".to_owned()));
        };
        let size = self.context.size(&to)?;
        let count = if count.is_empty() {
            let bytes = self.address(end)?.0.wrapping_sub(address);
            if size == 0 || bytes % size != 0 {
                let what = format!("{bytes} bytes of elements of {size} bytes");
                return Err(Badge::Implausible(what));
            }
            bytes / size
        } else {
            self.count(count)?
        };
        if count.checked_mul(size.max(1)).is_none_or(|bytes| bytes > COUNT_MAX) {
            return Err(Badge::Implausible(format!("{count} elements")));
        }
        Ok((Datum::at(to, Address(address)), count))
    }

    /// The value of the type that a number chooses among the template's.
    fn choice(
        &self,
        choice: &Alternatives,
        storage: &Alternatives,
        printed: &mut Printed,
    ) -> Result<(), Badge> {
        let number = self.signed(choice)?;
        let ty = usize::try_from(number)
            .ok()
            .and_then(|number| template_argument(self.context, &self.own.ty, number));
        let Some(ty) = ty else {
            // `variant_npos` is all ones of whatever width.
            if number == -1 || [0xff, 0xffff, 0xffff_ffff].contains(&number) {
                printed.summary.clone_from(&self.printer.empty);
                return Ok(());
            }
            return Err(Badge::Implausible(format!("there is no alternative {number}")));
        };
        let place = self.datum(storage)?;
        let inner = Datum { ty, home: place.home, bits: None, pointed: false };
        printed.body = Body::Instead(Box::new(inner));
        Ok(())
    }

    fn collect(&self, of: &Datum, name: &str, nesting: u32, found: &mut Vec<Part>) {
        let (Some(composite), Some(nesting)) = (of.ty.composite(), nesting.checked_sub(1)) else {
            return;
        };
        // Tuples are laid out from the last to the first.
        for base in composite.bases.iter().rev() {
            let part = self.context.part(of, &base.place, base.type_);
            self.collect(&part, name, nesting, found);
        }
        for member in composite.members.iter().filter(|m| m.name.as_deref() == Some(name)) {
            let datum = self.context.part(of, &member.place, member.type_);
            let name = format!("[{}]", found.len());
            found.push(Part { name, step: Step::Number(0), datum });
        }
    }

    fn evaluate<T>(
        &self,
        formula: &Formula,
        ask: impl FnOnce(&Evaluator<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let evaluator = Evaluator {
            context: *self.context,
            bound: &formula.bound,
            text: &formula.text,
            given: &[],
            own: Some(self.own),
            names: self.names,
        };
        ask(&evaluator)
    }

    /// The first that has a value.
    fn first<T>(
        &self,
        formulas: &Alternatives,
        ask: impl Fn(&Evaluator<'_>, &Formula) -> Result<T, Error>,
    ) -> Result<T, Badge> {
        let mut error = None;
        for formula in formulas {
            match self.evaluate(formula, |evaluator| ask(evaluator, formula)) {
                Ok(value) => return Ok(value),
                Err(new) => {
                    // What is unreadable says more than what has another name.
                    let better = matches!(new, Error::Absent { .. });
                    if error.is_none() || better {
                        error = Some(new);
                    }
                }
            }
        }
        let missing = || Badge::Implausible("its printer lacks an expression".to_owned());
        Err(error.map_or_else(missing, implausible))
    }

    pub fn datum(&self, formulas: &Alternatives) -> Result<Datum, Badge> {
        self.first(formulas, |evaluator, formula| evaluator.datum(&formula.bound.parsed.root))
    }

    pub fn scalar(&self, formulas: &Alternatives) -> Result<Option<Scalar>, Badge> {
        if formulas.is_empty() {
            return Ok(None);
        }
        let ask = |evaluator: &Evaluator<'_>, formula: &Formula| {
            evaluator.scalar(&formula.bound.parsed.root)
        };
        self.first(formulas, ask).map(Some)
    }

    pub fn truth(&self, formulas: &Alternatives) -> Result<bool, Badge> {
        self.first(formulas, |evaluator, formula| evaluator.truth(&formula.bound.parsed.root))
    }

    fn signed(&self, formulas: &Alternatives) -> Result<i128, Badge> {
        match self.scalar(formulas)? {
            Some(Scalar::Int { int, .. }) => Ok(int.value()),
            Some(Scalar::Pointer { address, .. }) => Ok(i128::from(address)),
            Some(Scalar::Boolean(value)) => Ok(i128::from(value)),
            Some(Scalar::Float { .. }) | None => {
                Err(Badge::Implausible("a number is missing".to_owned()))
            }
        }
    }

    pub fn count(&self, formulas: &Alternatives) -> Result<u64, Badge> {
        let number = self.signed(formulas)?;
        match u64::try_from(number) {
            Ok(count) if count <= COUNT_MAX => Ok(count),
            _ => Err(Badge::Implausible(format!("{number} elements"))),
        }
    }

    pub fn address(&self, formulas: &Alternatives) -> Result<Address, Badge> {
        match self.scalar(formulas)? {
            Some(Scalar::Pointer { address, .. }) => Ok(Address(address)),
            Some(Scalar::Int { int, .. }) => Ok(Address(int.bits as u64)),
            _ => Err(Badge::Implausible("a pointer is missing".to_owned())),
        }
    }

    /// A pointer to a node, with its type.
    pub fn pointer(&self, formulas: &Alternatives) -> Result<Datum, Badge> {
        let datum = self.context.through_reference(&self.datum(formulas)?);
        match datum.ty.kind {
            Kind::Pointer(_) => {
                let bits = self.context.bits(&datum)?;
                Ok(Datum::number(datum.ty, bits))
            }
            _ => Err(Badge::Implausible("a pointer to a node is missing".to_owned())),
        }
    }

    pub fn with_names<'n>(&'n self, names: &'n [(&'static str, Datum)]) -> Show<'n> {
        Show { context: self.context, printer: self.printer, own: self.own, names }
    }
}

fn implausible(error: Error) -> Badge {
    match error {
        Error::Absent { badge, .. } => badge,
        error => Badge::Implausible(error.to_string()),
    }
}
