//! `variables`, `evaluate`, `unfold`: values at the focus's frame.

use serde::Serialize;
use symbols::VariableKind;
use values::{Format, Options};

use crate::ask::{Asked, Flow};
use crate::engine::Engine;
use crate::eval::{FrameView, ValueRow};
use crate::failure::Failure;

/// Children of one page at most.
const CHILDREN_MAX: u32 = 1000;

#[derive(Serialize)]
struct VariableRow {
    #[serde(flatten)]
    value: ValueRow,
    group: &'static str,
    /// How many blocks are around it in its function.
    scope: u32,
    shadowed: bool,
    /// Line of its declaration.
    declared: Option<u32>,
}

pub fn variables(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let view = FrameView::of_focus(engine, &asked.request.focus)?;
    let all = asked.optional::<bool>("all")?.unwrap_or(false);
    let options = Options::default();
    let locals = view.with(engine, |values, target| values.variables(target, &options))??;
    let line = asked.offset()?;
    let wanted = locals.into_iter().filter(|local| {
        all || !(local.variable.artificial && local.variable.name.starts_with("__"))
    });
    for local in wanted.skip(line) {
        let row = VariableRow {
            value: ValueRow::new(&local.value),
            group: match local.variable.kind {
                VariableKind::Parameter => "argument",
                VariableKind::Local => "local",
                VariableKind::Static => "static",
            },
            scope: local.variable.depth,
            shadowed: local.variable.shadowed,
            declared: local.variable.declared.as_ref().map(|place| place.line),
        };
        if asked.row(&row) == Flow::Full {
            break;
        }
    }
    Ok(())
}

pub fn evaluate(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let view = FrameView::of_focus(engine, &asked.request.focus)?;
    let expression: String = asked.argument("expression")?;
    let format: Option<Format> = asked.optional("format")?;
    let options = Options { format: format.unwrap_or_default(), ..Options::default() };
    let value = view.show(engine, &expression, &[], &options)?;
    let _ = asked.row(&ValueRow::new(&value));
    Ok(())
}

pub fn unfold(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let view = FrameView::of_focus(engine, &asked.request.focus)?;
    let path: String = asked.argument("path")?;
    let from: u64 = asked.optional("from")?.unwrap_or(0);
    let count: u32 = asked.optional("count")?.unwrap_or(100);
    let options = Options {
        depth: 1,
        first_child: from,
        children_max: count.min(CHILDREN_MAX),
        ..Options::default()
    };
    let value = view.show(engine, &path, &[], &options)?;
    for child in &value.unfolded {
        if asked.row(&ValueRow::new(child)) == Flow::Full {
            break;
        }
    }
    Ok(())
}
