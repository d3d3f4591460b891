//! Calls of allocators, from call history: which blocks were given out and taken back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use model::{Address, Moment, Registers, Tid, gpr};
use serde::Deserialize;
use store::Tree;

use crate::code::{CodeSet, Counting, places};
use crate::database::Database;
use crate::engine::Engine;
use crate::executions::{Execution, in_leaf as executions_in_leaf};
use crate::failure::{Code, Failure};
use crate::stretch::{FrameKind, Transfer};

/// The functions that are known.
const TABLE: &str = include_str!("../data/allocators.toml");
/// Calls of leaves that are kept.
const KEPT_MAX: usize = 1 << 20;
/// Registers of integer arguments.
const ARGUMENTS: [usize; 6] = [gpr::RDI, gpr::RSI, gpr::RDX, gpr::RCX, gpr::R8, gpr::R9];

/// The table as it is written.
#[derive(Debug, Deserialize)]
struct Table {
    allocate: Vec<Function>,
    resize: Vec<Function>,
    free: Vec<Function>,
}

/// Where a function's arguments are; see the table.
#[derive(Clone, Debug, Deserialize)]
struct Function {
    names: Vec<String>,
    #[serde(default)]
    pointer: Option<usize>,
    #[serde(default)]
    count: Option<usize>,
    #[serde(default)]
    size: Option<usize>,
    #[serde(default)]
    result: Option<usize>,
}

/// A call of an allocator's function, not made by another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapCall {
    /// Before the function's first instruction.
    pub moment: Moment,
    pub tid: Tid,
    pub space: u32,
    /// Behind its return, if it has returned.
    pub exit: Option<Moment>,
    /// What it took back.
    pub freed: Option<Address>,
    /// What it gave out, and how many bytes.
    pub given: Option<(Address, u64)>,
}

/// The allocators of the recording's programs.
#[derive(Debug)]
pub struct Allocators {
    /// By address space and address of their first instruction.
    functions: BTreeMap<(u32, Address), Function>,
    code: CodeSet,
}

/// What is known about the heap, when it was asked for.
#[derive(Debug, Default)]
pub struct Heap {
    allocators: Option<Arc<Allocators>>,
    kept: VecDeque<(u64, Arc<Vec<HeapCall>>)>,
}

impl Allocators {
    /// Looks for the functions of the table in all modules.
    fn find(db: &Database) -> Result<Allocators, Failure> {
        let table: Table = toml::from_str(TABLE).map_err(|error| {
            Failure::new(Code::NotAvailable, format!("the table of allocators: {error}"))
        })?;
        let mut functions = BTreeMap::new();
        for module in db.modules.all() {
            let Some(symbols) = module.symbols() else { continue };
            let mut starts = Vec::new();
            for function in table.allocate.iter().chain(&table.resize).chain(&table.free) {
                for symbol in function.names.iter().flat_map(|name| symbols.symbols_named(name)) {
                    if symbol.kind.is_code() {
                        starts.push((symbol.range.start, function));
                    }
                }
            }
            if starts.is_empty() {
                continue;
            }
            for (space, bias) in places(db, module) {
                for (start, function) in &starts {
                    let address = Address(start.0.wrapping_add(bias));
                    functions.insert((space, address), (*function).clone());
                }
            }
        }
        let mut spaces: BTreeMap<u32, Vec<std::ops::Range<Address>>> = BTreeMap::new();
        for (space, address) in functions.keys() {
            spaces.entry(*space).or_default().push(address.range(1));
        }
        Ok(Allocators { functions, code: CodeSet { counting: Counting::Start, spaces } })
    }
}

fn allocators(engine: &mut Engine<'_>) -> Result<Arc<Allocators>, Failure> {
    if let Some(known) = &engine.heap.allocators {
        return Ok(Arc::clone(known));
    }
    let found = Arc::new(Allocators::find(engine.db)?);
    engine.heap.allocators = Some(Arc::clone(&found));
    Ok(found)
}

/// The last leaf before `border` in which an allocator was called.
///
/// # Errors
///
/// A database that is damaged.
pub fn last_leaf(engine: &mut Engine<'_>, border: u64) -> Result<Option<u64>, Failure> {
    let allocators = allocators(engine)?;
    allocators.code.last_leaf(&Tree::new(&engine.db.reader), border)
}

/// The first leaf from `border` on.
///
/// # Errors
///
/// A database that is damaged.
pub fn first_leaf(engine: &mut Engine<'_>, border: u64) -> Result<Option<u64>, Failure> {
    let allocators = allocators(engine)?;
    allocators.code.first_leaf(&Tree::new(&engine.db.reader), border)
}

/// All calls of allocators in a leaf, in order of time.
///
/// # Errors
///
/// What executing the leaf says.
pub fn calls_in_leaf(engine: &mut Engine<'_>, leaf: u64) -> Result<Arc<Vec<HeapCall>>, Failure> {
    if let Some((_, known)) = engine.heap.kept.iter().find(|(known, _)| *known == leaf) {
        return Ok(Arc::clone(known));
    }
    let found = Arc::new(look(engine, leaf)?);
    let kept = &mut engine.heap.kept;
    kept.push_front((leaf, Arc::clone(&found)));
    let mut total = 0;
    kept.retain(|(known, calls)| {
        total += calls.len();
        total <= KEPT_MAX || *known == leaf
    });
    Ok(found)
}

fn look(engine: &mut Engine<'_>, leaf: u64) -> Result<Vec<HeapCall>, Failure> {
    let allocators = allocators(engine)?;
    let executions = executions_in_leaf(engine, &allocators.code, leaf)?;
    let exits = exits(engine, &executions)?;
    // What is to be read, in order of time: arguments at the entry, results at the exit.
    let mut calls: Vec<HeapCall> = Vec::new();
    let mut wanted: Vec<(Moment, usize, bool)> = Vec::new();
    let mut busy: BTreeMap<Tid, Option<Moment>> = BTreeMap::new();
    for (execution, exit) in executions.iter().zip(exits) {
        let tid = execution.tid;
        // A call that another one of them makes is a part of that one's work.
        let inside =
            busy.get(&tid).is_some_and(|until| until.is_none_or(|until| execution.moment < until));
        if inside {
            continue;
        }
        busy.insert(tid, exit);
        wanted.push((execution.moment, calls.len(), false));
        wanted.extend(exit.map(|exit| (exit, calls.len(), true)));
        let (moment, space) = (execution.moment, execution.space);
        calls.push(HeapCall { moment, tid, space, exit, freed: None, given: None });
    }
    wanted.sort_unstable();
    let mut sizes: Vec<(u64, Option<u64>)> = vec![(0, None); calls.len()];
    let functions: Vec<&Function> = calls
        .iter()
        .map(|call| {
            let at = executions.binary_search_by_key(&call.moment, |execution| execution.moment);
            let address = at.map_or(Address(0), |at| executions[at].address);
            &allocators.functions[&(call.space, address)]
        })
        .collect();
    for (moment, index, is_exit) in wanted {
        let (function, call) = (functions[index], &mut calls[index]);
        let session = engine.at(moment)?;
        let Some(registers) = session.registers(call.tid) else { continue };
        if !is_exit {
            let argument = |number: Option<usize>| argument(&registers, number);
            let size = argument(function.size).unwrap_or(0);
            let size = size.saturating_mul(argument(function.count).unwrap_or(1));
            sizes[index] = (size, argument(function.result));
            call.freed = argument(function.pointer).filter(|at| *at != 0).map(Address);
            continue;
        }
        let (size, pointer) = sizes[index];
        let rax = registers.general[gpr::RAX];
        let block = match pointer {
            Some(pointer) if rax == 0 => {
                let memory = session.memory(call.tid);
                memory.and_then(|memory| memory.read_u64(Address(pointer)).ok()).unwrap_or(0)
            }
            Some(_) => 0,
            None => rax,
        };
        if function.size.is_some() {
            call.given = (block != 0).then_some((Address(block), size));
            // What could not be resized stays.
            if block == 0 && size > 0 {
                call.freed = None;
            }
        }
    }
    Ok(calls)
}

fn argument(registers: &Registers, number: Option<usize>) -> Option<u64> {
    Some(registers.general[*ARGUMENTS.get(number?)?])
}

/// When each call returned.
fn exits(
    engine: &mut Engine<'_>,
    executions: &[Execution],
) -> Result<Vec<Option<Moment>>, Failure> {
    let mut exits = vec![None; executions.len()];
    let Some(first) = executions.first() else { return Ok(exits) };
    let leaf = engine.leaf_at(first.moment)?;
    let transfers = engine.transfers(leaf)?;
    let mut next = 0;
    // Of each task the calls that have not returned.
    let mut open: BTreeMap<Tid, Vec<usize>> = BTreeMap::new();
    for transfer in transfers.iter() {
        let Transfer::Call(tid, _, call) = transfer else { continue };
        while let Some(execution) = executions.get(next)
            && execution.moment < call.moment
        {
            open.entry(execution.tid).or_default().push(next);
            next += 1;
        }
        let Some(open) = open.get_mut(tid).filter(|_| !call.is_call) else { continue };
        let slot = call.stack.0.wrapping_sub(8);
        while let Some(last) = open.pop_if(|last| executions[*last].frame.slot.0 <= slot) {
            if executions[last].frame.slot.0 == slot {
                exits[last] = Some(call.moment);
            }
        }
    }
    // Calls at the end of the leaf return in a later one.
    for (execution, exit) in executions.iter().zip(&mut exits) {
        if exit.is_none() && execution.frame.kind == FrameKind::Call {
            *exit = crate::exits::exit(engine, execution.tid, &execution.frame)?.moment;
        }
    }
    Ok(exits)
}
