//! Values at a frame: what expressions read from, and rows of values.

mod registers;
mod row;

use std::collections::VecDeque;
use std::sync::Arc;

use model::{Address, Moment, Registers};
use rustc_hash::FxHashMap;
use symbols::VariableKind;
use values::{Expression, Given, Loaded, Options, Standing, Target};

pub use registers::{FrameRegisters, encoding};
pub use row::ValueRow;

use crate::engine::{Engine, Here};
use crate::failure::{Code, Failure};
use crate::frames::{Frame, Stack, spot};
use crate::protocol::{Focus, FrameId};
use crate::stretch::FrameKind;

/// Lists of loaded modules that are kept.
const LISTS_MAX: usize = 64;
/// Calls whose arguments are kept.
const ARGUMENTS_MAX: usize = 20_000;
/// A prologue is over after so many instructions, if ever.
const PROLOGUE_MAX: u64 = 400;

/// Modules of address spaces, for as long as nothing changes there.
#[derive(Debug, Default)]
pub struct LoadedModules(VecDeque<LoadedList>);

#[derive(Debug)]
struct LoadedList {
    space: u32,
    from: Moment,
    to: Moment,
    list: Arc<Vec<Loaded>>,
}

/// Arguments of calls as they were at entry, by what made the call.
#[derive(Debug, Default)]
pub struct Arguments(FxHashMap<(Moment, u32), Arc<Vec<ValueRow>>>);

/// A frame at a moment with all that evaluation needs, but memory.
#[derive(Clone, Debug)]
pub struct FrameView {
    pub here: Here,
    pub id: FrameId,
    standing: Option<Standing>,
    registers: FrameRegisters,
    /// Of the task, for those that have no number.
    task: Registers,
    modules: Arc<Vec<Loaded>>,
}

impl FrameView {
    /// The frame that a focus names; the innermost one if it names none.
    ///
    /// # Errors
    ///
    /// [`Code::NoSuchFrame`] if the task is not in that call then.
    pub fn of_focus(engine: &mut Engine<'_>, focus: &Focus) -> Result<FrameView, Failure> {
        let here = engine.here(focus)?;
        let stack = Stack::at(engine, here)?;
        let index = match focus.frame {
            None => 0,
            Some(id) => stack.find(id).ok_or_else(|| {
                let what =
                    format!("task {} is not in call {id} at moment {}", here.task, here.moment);
                Failure::new(Code::NoSuchFrame, what)
            })?,
        };
        FrameView::new(engine, here, &stack, index, focus.frame.map(|frame| frame.inlined))
    }

    /// A frame of a stack; `inlined` is how deep in what was inlined there, innermost if absent.
    pub fn new(
        engine: &mut Engine<'_>,
        here: Here,
        stack: &Stack,
        index: usize,
        inlined: Option<u32>,
    ) -> Result<FrameView, Failure> {
        let modules = modules_at(engine, stack.space, here.moment);
        let registers = FrameRegisters::of(engine, here, stack, index, &modules)?;
        let frame = stack.frames[index];
        let spot = spot(engine, here, stack.space, &frame);
        let innermost = spot.levels() as u32 - 1;
        let inlined = inlined.unwrap_or(innermost).min(innermost);
        let own = spot.loaded.as_ref().and_then(|loaded| {
            let symbols = loaded.module.symbols()?;
            modules.iter().position(|known| Arc::ptr_eq(&known.module, symbols))
        });
        let standing = own.map(|module| {
            let activations = &spot.code.activations;
            let activation = activations.get((innermost - inlined) as usize);
            Standing {
                module,
                address: spot
                    .loaded
                    .as_ref()
                    .map_or(symbols::LinkAddress(0), |loaded| loaded.link(frame.lookup())),
                instance: activation.map(|activation| activation.instance),
                cfa: frame.slot.filter(|_| frame.kind == FrameKind::Call).map(|slot| slot + 8),
            }
        });
        let id = FrameId { entry: frame.entry, inlined };
        let task = stack.registers;
        Ok(FrameView { here, id, standing, registers, task, modules })
    }

    /// Evaluates with the memory of the frame's moment.
    pub fn with<T>(
        &self,
        engine: &mut Engine<'_>,
        evaluate: impl FnOnce(&values::Values, &dyn Target) -> T,
    ) -> Result<T, Failure> {
        let values = Arc::clone(&engine.values);
        let session = engine.at(self.here.moment)?;
        let memory = session.memory(self.here.tid).ok_or_else(|| {
            Failure::new(Code::NoSuchTask, format!("task {} is not alive", self.here.task))
        })?;
        Ok(evaluate(&values, &Reading { view: self, memory }))
    }

    /// The value of an expression.
    pub fn show(
        &self,
        engine: &mut Engine<'_>,
        expression: &str,
        given: &[Given],
        options: &Options,
    ) -> Result<values::Value, Failure> {
        let parsed = Expression::parse(expression).map_err(|error| bad(&error))?;
        let shown =
            self.with(engine, |values, target| values.show(&parsed, target, given, options))?;
        shown.map_err(|error| bad(&error))
    }

    pub fn standing(&self) -> Option<Standing> {
        self.standing
    }

    pub fn modules(&self) -> &[Loaded] {
        &self.modules
    }
}

/// A frame with its memory.
struct Reading<'a> {
    view: &'a FrameView,
    memory: &'a machine::Space,
}

impl Target for Reading<'_> {
    fn read(&self, address: Address, bytes: &mut [u8]) -> bool {
        self.memory.read(address, bytes).is_ok()
    }

    fn register(&self, number: u16) -> Option<u128> {
        self.view.registers.get(number)
    }

    fn named_register(&self, name: &str) -> Option<u64> {
        self.view.task.named().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn modules(&self) -> &[Loaded] {
        &self.view.modules
    }

    fn standing(&self) -> Option<Standing> {
        self.view.standing
    }
}

/// Why an expression has no value.
pub fn bad(error: &values::Error) -> Failure {
    let code = match error {
        values::Error::Name { .. } => Code::NoSuchName,
        values::Error::Absent { .. } => Code::NotAvailable,
        _ => Code::BadExpression,
    };
    let text = error.to_string();
    let (location, what) = text.split_once(": ").unwrap_or(("", &text));
    let (what, near) =
        what.split_once(". Near: ").map_or((what, None), |(what, near)| (what, Some(near)));
    let failure = Failure::new(code, what).at(location);
    match near {
        Some(near) => failure.hint(format!("near: {near}")),
        None => failure,
    }
}

/// The modules in an address space at a moment.
pub fn modules_at(engine: &mut Engine<'_>, space: u32, moment: Moment) -> Arc<Vec<Loaded>> {
    let known = engine
        .loaded
        .0
        .iter()
        .find(|known| known.space == space && known.from <= moment && moment < known.to);
    if let Some(known) = known {
        return Arc::clone(&known.list);
    }
    let (mut from, mut to) = (Moment(0), Moment(u64::MAX));
    let mut list: Vec<Loaded> = Vec::new();
    let db = engine.db;
    for mapped in db.history.spaces.get(&space).into_iter().flat_map(|space| &space.mapped) {
        for change in [Some(mapped.from), mapped.to].into_iter().flatten() {
            if change <= moment {
                from = from.max(change);
            } else {
                to = to.min(change);
            }
        }
        let there = mapped.from <= moment && mapped.to.is_none_or(|to| moment < to);
        if !there {
            continue;
        }
        if let Some(loaded) = db.modules.of_mapping(mapped)
            && let Some(symbols) = loaded.module.symbols()
            && !list.iter().any(|known| Arc::ptr_eq(&known.module, symbols))
        {
            list.push(Loaded { module: Arc::clone(symbols), bias: loaded.bias });
        }
    }
    let list = Arc::new(list);
    engine.loaded.0.push_front(LoadedList { space, from, to, list: Arc::clone(&list) });
    engine.loaded.0.truncate(LISTS_MAX);
    list
}

/// The moment at which a call has its arguments in place: behind the prologue of the function.
/// Of a function without a known one, the entry.
pub fn arguments_at(
    engine: &mut Engine<'_>,
    here: Here,
    space: u32,
    entry: Moment,
) -> Result<Moment, Failure> {
    let leaf = engine.leaf_at(entry)?;
    let stretch = engine.stretch(leaf)?;
    let mut wanted = None;
    let from = stretch.index_at(entry);
    for visit in stretch.visits_from(from).take_while(|visit| visit.moment <= entry + PROLOGUE_MAX)
    {
        if visit.tid != here.tid || visit.end() <= entry {
            continue;
        }
        for (index, instruction) in visit.block.instructions.iter().enumerate() {
            let moment = visit.moment + index as u64;
            if moment < entry {
                continue;
            }
            if wanted.is_none() {
                // Behind stubs of the linker, and jumps to the function proper.
                let spot = engine.places.look(engine.db, space, instruction.address, entry);
                wanted = spot.loaded.as_ref().and_then(|loaded| {
                    let behind = loaded
                        .module
                        .symbols()?
                        .behind_prologue(loaded.link(instruction.address))?;
                    Some(loaded.run(behind))
                });
            }
            if wanted == Some(instruction.address) {
                return Ok(moment);
            }
        }
    }
    Ok(entry)
}

/// The arguments of a call as they were at entry.
pub fn arguments(
    engine: &mut Engine<'_>,
    here: Here,
    space: u32,
    frame: &Frame,
) -> Result<Arc<Vec<ValueRow>>, Failure> {
    let key = (frame.entry, here.task);
    if let Some(known) = engine.arguments.0.get(&key) {
        return Ok(Arc::clone(known));
    }
    let mut rows = Vec::new();
    if frame.kind != FrameKind::Start {
        let moment = arguments_at(engine, here, space, frame.entry)?;
        let there = Here { moment, ..here };
        let stack = Stack::at(engine, there)?;
        if let Some(index) = stack.frames.iter().position(|known| known.entry == frame.entry) {
            let view = FrameView::new(engine, there, &stack, index, Some(0))?;
            let options = Options { text_max: 60, ..Options::default() };
            let locals =
                view.with(engine, |values, target| values.variables(target, &options))??;
            let parameters =
                locals.into_iter().filter(|local| local.variable.kind == VariableKind::Parameter);
            rows.extend(parameters.map(|local| ValueRow::new(&local.value)));
        }
    }
    let rows = Arc::new(rows);
    if engine.arguments.0.len() >= ARGUMENTS_MAX {
        engine.arguments.0.clear();
    }
    engine.arguments.0.insert(key, Arc::clone(&rows));
    Ok(rows)
}
