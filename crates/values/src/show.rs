//! From questions to trees of values.

use std::cell::Cell;

use symbols::{Encoding, Variable};

use crate::datum::{Budget, Context, Datum};
use crate::error::Error;
use crate::evaluate::{Evaluator, Given};
use crate::expression::Expression;
use crate::path;
use crate::printers::Printers;
use crate::target::Target;
use crate::text::Line;
use crate::types::{Kind, Types};
use crate::value::{Children, Options, Value, ValueKind};
use crate::view::{Body, Pointee, Shown, View};

/// Values in one answer.
const VALUES_MAX: u32 = 50_000;
/// Values shown by way of another: what is in a smart pointer in an option.
const NESTING_MAX: u32 = 12;

/// Reads and shows values. Keeps types that it met, so one should be used for a whole program;
/// can be shared between threads.
#[derive(Debug, Default)]
pub struct Values {
    types: Types,
    printers: Printers,
}

/// A variable of a frame with its value.
#[derive(Clone, Debug)]
pub struct Local {
    pub variable: Variable,
    pub value: Value,
}

impl Values {
    pub fn new(printers: Printers) -> Values {
        Values { types: Types::default(), printers }
    }

    /// The variables that can be seen in the frame, those of the innermost block first.
    pub fn variables(
        &self,
        target: &dyn Target,
        options: &Options,
    ) -> Result<Vec<Local>, symbols::Error> {
        let budget = Budget::new();
        let context = self.context(target, &budget, options.raw);
        let (Some(standing), Some(module)) = (context.standing, context.own_module()) else {
            return Ok(Vec::new());
        };
        let instance = standing.instance.or_else(|| {
            let activations = module.activations(standing.address);
            activations.first().map(|activation| activation.instance)
        });
        let Some(instance) = instance else { return Ok(Vec::new()) };
        let variables = module.variables(instance, standing.address)?;
        let builder = Builder { context, options, left: Cell::new(VALUES_MAX) };
        let mut locals: Vec<Local> = Vec::new();
        for variable in variables {
            let outward = locals.iter().filter(|l| l.variable.name == variable.name).count();
            let name = variable.name.clone();
            let expression = if outward > 0 { format!("{name}~{outward}") } else { name.clone() };
            let datum = context.variable(standing.module, variable.id, variable.type_);
            let value = builder.build(&datum, name, expression, options.depth, options.first_child);
            locals.push(Local { variable, value });
        }
        Ok(locals)
    }

    /// The value of an expression, with the children that are asked for.
    pub fn show(
        &self,
        expression: &Expression,
        target: &dyn Target,
        given: &[Given],
        options: &Options,
    ) -> Result<Value, Error> {
        let budget = Budget::new();
        let context = self.context(target, &budget, options.raw);
        let bound = expression.bound(&context)?;
        let options = Options {
            format: bound.parsed.format.unwrap_or(options.format),
            raw: options.raw || bound.parsed.raw,
            ..*options
        };
        let context = Context { raw: options.raw, ..context };
        let text = expression.text();
        let evaluator = Evaluator { context, bound: &bound, text, given, own: None, names: &[] };
        let datum = evaluator.datum(&bound.parsed.root)?;
        let (from, to) = bound.parsed.root.range;
        let bare = text.get(from..to).unwrap_or(text).trim().to_owned();
        let builder = Builder { context, options: &options, left: Cell::new(VALUES_MAX) };
        let mut value =
            builder.build(&datum, bare.clone(), bare, options.depth, options.first_child);
        value.name = text.trim().to_owned();
        Ok(value)
    }

    /// Whether a condition holds.
    pub fn test(
        &self,
        condition: &Expression,
        target: &dyn Target,
        given: &[Given],
    ) -> Result<bool, Error> {
        let budget = Budget::new();
        let context = self.context(target, &budget, false);
        let bound = condition.bound(&context)?;
        let text = condition.text();
        let evaluator = Evaluator { context, bound: &bound, text, given, own: None, names: &[] };
        evaluator.truth(&bound.parsed.root)
    }

    fn context<'a>(&'a self, target: &'a dyn Target, budget: &'a Budget, raw: bool) -> Context<'a> {
        Context {
            types: &self.types,
            printers: &self.printers,
            target,
            standing: target.standing(),
            budget,
            raw,
            nesting: NESTING_MAX,
        }
    }
}

struct Builder<'a> {
    context: Context<'a>,
    options: &'a Options,
    left: Cell<u32>,
}

impl Builder<'_> {
    fn build(
        &self,
        datum: &Datum,
        name: String,
        expression: String,
        depth: u32,
        first: u64,
    ) -> Value {
        let context = &self.context;
        let shown = context.shown(datum);
        let mut line = Line::new(self.options.text_max as usize, self.options.format);
        context.write_shown(&mut line, &shown);
        let (text, mut badges) = line.finish();
        badges.extend(shown.badge.clone());
        let children = match context.part_count(&shown) {
            Some(0) => Children::None,
            Some(count) => Children::Count(count),
            None => Children::Unknown,
        };
        let actual_type = match &shown.view {
            View::Pointer(Pointee::Open(inner)) => {
                shown.actual_type.clone().or_else(|| inner.actual_type.clone())
            }
            _ => shown.actual_type.clone(),
        };
        let mut unfolded = Vec::new();
        if depth > 0 && children != Children::None {
            let count = self.options.children_max.min(self.left.get()) as usize;
            let found = context.parts(&shown, first, count);
            self.left.set(self.left.get().saturating_sub(found.parts.len() as u32));
            let rust = shown.datum.ty.is_rust();
            // Below an actual type, members are those of another type than the expression has.
            let by_number = actual_type.is_some();
            for (part, number) in found.parts.into_iter().zip(first..) {
                let step = match &part.step {
                    crate::view::Step::Member(_) if by_number => crate::view::Step::Number(number),
                    step => step.clone(),
                };
                let path = path::part(&expression, &step, found.behind_pointer, rust);
                let name = match (part.name.as_str(), &step) {
                    ("*", crate::view::Step::Star) => path.clone(),
                    ("*", _) => format!("*{name}"),
                    _ => part.name,
                };
                unfolded.push(self.build(&part.datum, name, path, depth - 1, 0));
            }
            badges.extend(found.trouble);
        }
        let plain = context.through_reference(datum);
        Value {
            name,
            expression,
            type_name: datum.ty.name.clone(),
            actual_type,
            text,
            kind: kind(context, &shown),
            lives: plain.lives(context.size(&plain.ty).unwrap_or(0)),
            children,
            badges,
            unfolded,
        }
    }
}

fn kind(context: &Context<'_>, shown: &Shown) -> ValueKind {
    match &shown.view {
        View::Printed(printed) => {
            return match &printed.body {
                Body::Instead(inner) => {
                    let context = context.deeper();
                    kind(&context, &context.shown(inner))
                }
                _ => printed.kind,
            };
        }
        View::Array { .. } => return ValueKind::Sequence,
        View::Pointer(Pointee::Open(_) | Pointee::Whole(_)) => return ValueKind::Pointer,
        View::Parts(_) => return ValueKind::Structure,
        View::Leaf => {}
    }
    if let crate::datum::Home::Absent(_) = shown.datum.home {
        return ValueKind::Nothing;
    }
    match &shown.datum.ty.kind {
        Kind::Base(Encoding::Boolean) => ValueKind::Boolean,
        Kind::Base(Encoding::SignedCharacter | Encoding::Unicode) => ValueKind::Character,
        Kind::Base(_) => ValueKind::Number,
        Kind::Enumeration(_) => ValueKind::Enumeration,
        Kind::Pointer(_) | Kind::Reference(_) | Kind::MemberPointer { .. } => ValueKind::Pointer,
        Kind::Function => ValueKind::Function,
        Kind::Array(_) => ValueKind::Sequence,
        Kind::Composite(_) => ValueKind::Structure,
        Kind::Void | Kind::Unspecified | Kind::Other(_) => ValueKind::Nothing,
    }
}
