//! Values beside a line: the variables that it read and wrote when it ran.

use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess};
use model::{Address, Moment, gpr};
use serde::Serialize;
use values::{Lives, Options};

use crate::effective::{general, touched};
use crate::engine::{Engine, Here};
use crate::eval::{FrameView, encoding};
use crate::failure::Failure;
use crate::frame_path::Step;
use crate::frames::Stack;

/// Values of one line at most.
const VALUES_MAX: usize = 3;
/// Letters of one.
const LETTERS_MAX: u32 = 40;
/// Instructions of one execution that are looked at.
const STEPS_MAX: usize = 200;

#[derive(Clone, Debug, Serialize)]
pub struct LineValue {
    name: String,
    text: String,
    /// It was written there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    changed: bool,
}

/// What an execution accessed, in order.
#[derive(Debug, Default)]
struct Accessed {
    memory: Vec<(std::ops::Range<Address>, bool)>,
    /// By encoding.
    registers: Vec<(usize, bool)>,
}

/// Variables that one execution of a line accessed, the written ones first, with their values
/// behind it. `steps` are what the call itself executed of it.
pub fn of_execution(
    engine: &mut Engine<'_>,
    here: Here,
    entry: Moment,
    steps: &[Step],
) -> Result<Vec<LineValue>, Failure> {
    let Some(last) = steps.last() else { return Ok(Vec::new()) };
    let mut accessed = Accessed::default();
    for step in steps.iter().take(STEPS_MAX) {
        look(engine, here, step, &mut accessed)?;
    }
    let behind = Here { moment: last.moment + 1, ..here };
    let Ok(stack) = Stack::at(engine, behind) else { return Ok(Vec::new()) };
    // A return has left the call.
    let Some(index) = stack.frames.iter().position(|frame| frame.entry == entry) else {
        return Ok(Vec::new());
    };
    let view = FrameView::new(engine, behind, &stack, index, None)?;
    let options = Options { text_max: LETTERS_MAX, ..Options::default() };
    let locals = view.with(engine, |values, target| values.variables(target, &options))??;
    let mut found: Vec<(usize, LineValue)> = Vec::new();
    for local in locals.iter().filter(|local| !local.variable.shadowed) {
        let lives = local.value.lives.iter();
        let uses: Vec<(usize, bool)> = lives.flat_map(|lives| accessed.uses(lives)).collect();
        let Some(first) = uses.iter().map(|(order, _)| *order).min() else { continue };
        let changed = uses.iter().any(|(_, writes)| *writes);
        let (name, text) = (local.value.name.clone(), local.value.text.clone());
        found.push((first, LineValue { name, text, changed }));
    }
    found.sort_by_key(|(order, value)| (!value.changed, *order));
    Ok(found.into_iter().map(|(_, value)| value).take(VALUES_MAX).collect())
}

fn look(
    engine: &mut Engine<'_>,
    here: Here,
    step: &Step,
    accessed: &mut Accessed,
) -> Result<(), Failure> {
    let session = engine.at(step.moment)?;
    let (Some(registers), Some(memory)) = (session.registers(here.tid), session.memory(here.tid))
    else {
        return Ok(());
    };
    let mut code = vec![0; usize::from(step.length)];
    if memory.read(step.address, &mut code).is_err() {
        return Ok(());
    }
    let instruction = Decoder::with_ip(64, &code, step.address.0, DecoderOptions::NONE).decode();
    for touched in touched(&instruction, &registers) {
        accessed.memory.push((touched.range, touched.writes));
    }
    let mut factory = InstructionInfoFactory::new();
    for used in factory.info(&instruction).used_registers() {
        let writes = matches!(
            used.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        if let Some(number) = general(used.register()).filter(|number| *number != gpr::RSP) {
            accessed.registers.push((number, writes));
        }
    }
    Ok(())
}

impl Accessed {
    /// Accesses to where a part of a variable is: their order, and whether they write.
    fn uses(&self, lives: &Lives) -> Vec<(usize, bool)> {
        match *lives {
            Lives::Memory { address, size } if size > 0 => {
                let range = address..Address(address.0.saturating_add(size));
                let all = self.memory.iter().enumerate();
                let overlap = all.filter(|(_, (touched, _))| {
                    touched.start < range.end && range.start < touched.end
                });
                overlap.map(|(order, (_, writes))| (order, *writes)).collect()
            }
            Lives::Register { number, .. } => {
                let Some(wanted) = encoding(number) else { return Vec::new() };
                let all = self.registers.iter().enumerate();
                let same = all.filter(|(_, (number, _))| *number == wanted);
                same.map(|(order, (_, writes))| (order, *writes)).collect()
            }
            _ => Vec::new(),
        }
    }
}
