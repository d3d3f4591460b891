//! `callers`: who called a function, how often.
//!
//! Calls are executions of the function, those by jumps and those that are inlined included: the
//! same that `executions` tells, so of inlined calls the stretches of their code. The caller is the function, inlined or not, that has the call
//! instruction, or into which the function is inlined.

use std::collections::{BTreeMap, BTreeSet};

use model::{Moment, Tid};
use serde::Serialize;
use store::Tree;

use crate::ask::{Asked, Flow};
use crate::code::CodeSet;
use crate::engine::Engine;
use crate::executions::{Execution, in_leaf};
use crate::failure::Failure;
use crate::places::Spot;
use crate::protocol::{Focus, MomentText, Place};
use crate::stretch::FrameKind;

/// Callers that are told apart; calls by others are counted together.
const CALLERS_MAX: usize = 10_000;
/// Calls between two looks at the clock.
const PIECE: usize = 1 << 12;

#[derive(Serialize)]
struct Row {
    /// The caller.
    function: String,
    count: String,
    /// The calls are inlined ones.
    inlined: bool,
    /// Of the first call.
    place: Place,
    first: MomentText,
    last: MomentText,
    /// At the first call, in the function.
    focus: Focus,
}

/// What is known of one caller.
struct Caller {
    count: u64,
    place: Place,
    first: Moment,
    last: Moment,
    tid: Tid,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let name: String = asked.argument("function")?;
    let (calls, inlined) = CodeSet::function(engine.db, &name)?;
    let names = full_names(engine, &name);
    let mut counting = Counting { names, callers: BTreeMap::new() };
    let db = engine.db;
    let tree = Tree::new(&db.reader);
    let mut whole = true;
    let next = |from: u64| -> Result<Option<u64>, Failure> {
        let found = [calls.first_leaf(&tree, from)?, inlined.first_leaf(&tree, from)?];
        Ok(found.into_iter().flatten().min())
    };
    let mut leaf = next(0)?;
    while let Some(at) = leaf {
        whole = counting.leaf(engine, asked, &calls, at, false)?
            && counting.leaf(engine, asked, &inlined, at, true)?;
        if !whole || asked.is_interrupted() {
            break;
        }
        asked.progress(at + 1, db.reader.leaves());
        leaf = next(at + 1)?;
    }
    let mut callers: Vec<((String, bool), Caller)> = counting.callers.into_iter().collect();
    callers.sort_by_key(|(_, caller)| (std::cmp::Reverse(caller.count), caller.first));
    for ((function, inlined), caller) in callers.into_iter().skip(asked.offset()?) {
        let Caller { count, place, first, last, tid } = caller;
        let task = db.history.task(tid, first).map_or(1, |task| task.number.0);
        let row = Row {
            function,
            count: count.to_string(),
            inlined,
            place,
            first: MomentText(first),
            last: MomentText(last),
            focus: Focus::at(first, task),
        };
        if asked.row(&row) == Flow::Full {
            break;
        }
    }
    asked.exact &= whole;
    Ok(())
}

/// Whole names of all functions of a name.
fn full_names(engine: &Engine<'_>, name: &str) -> BTreeSet<String> {
    let modules = engine.db.modules.all().filter_map(|module| module.symbols());
    let functions = modules.flat_map(|symbols| symbols.functions_named(name));
    let mut names: BTreeSet<String> =
        functions.map(|code| code.function.full_name.clone()).collect();
    // Of those without debug information.
    names.insert(name.to_owned());
    names
}

struct Counting {
    /// Whole names of the function.
    names: BTreeSet<String>,
    /// By name, and whether the calls are inlined.
    callers: BTreeMap<(String, bool), Caller>,
}

impl Counting {
    /// Adds the calls in a leaf; false if there was no time for all.
    fn leaf(
        &mut self,
        engine: &mut Engine<'_>,
        asked: &mut Asked<'_>,
        set: &CodeSet,
        leaf: u64,
        inlined: bool,
    ) -> Result<bool, Failure> {
        for (index, execution) in in_leaf(engine, set, leaf)?.iter().enumerate() {
            if index % PIECE == 0 && asked.is_interrupted() {
                return Ok(false);
            }
            let place = match inlined {
                true => self.around(engine, execution),
                false => self.caller(engine, execution)?,
            };
            let name = match (&place, execution.frame.kind) {
                (None, FrameKind::Handler) => "a signal".into(),
                (None, _) => "nobody".into(),
                (Some(place), _) => name(place),
            };
            self.count((name, inlined), place.unwrap_or_default(), execution);
        }
        Ok(true)
    }

    fn count(&mut self, by: (String, bool), place: Place, execution: &Execution) {
        let (moment, tid) = (execution.moment, execution.tid);
        let by = match self.callers.len() < CALLERS_MAX || self.callers.contains_key(&by) {
            true => by,
            false => ("others".into(), by.1),
        };
        let caller = self.callers.entry(by).or_insert_with(|| Caller {
            count: 0,
            place: place.clone(),
            first: moment,
            last: moment,
            tid,
        });
        caller.count += 1;
        caller.last = caller.last.max(moment);
        if moment < caller.first {
            (caller.first, caller.tid, caller.place) = (moment, tid, place);
        }
    }

    /// The place of the call instruction.
    fn caller(
        &self,
        engine: &mut Engine<'_>,
        execution: &Execution,
    ) -> Result<Option<Place>, Failure> {
        let entry = execution.frame.entry;
        // Between a call and the function there may be the linker's stub, or functions that left
        // by a jump. The function itself may jump to its beginning.
        if entry != execution.moment
            && let Some(before) = previous(engine, execution)?
            && let Some(spot) = spot(engine, before)?
            && self.is_own(&spot)
        {
            return Ok(Some(spot.innermost()));
        }
        match execution.frame.kind {
            FrameKind::Call => {
                let call = Moment(entry.0.saturating_sub(1));
                Ok(spot(engine, call)?.map(|spot| spot.innermost()))
            }
            FrameKind::Handler | FrameKind::Start => Ok(None),
        }
    }

    /// Whether code belongs to the function, not inlined.
    fn is_own(&self, spot: &Spot) -> bool {
        let outer = spot.code.activations.last().map(|outer| &outer.function.full_name);
        outer.or(spot.code.symbol.as_ref()).is_some_and(|name| self.names.contains(name))
    }

    /// The place into which it is inlined.
    fn around(&self, engine: &mut Engine<'_>, execution: &Execution) -> Option<Place> {
        let (space, address) = (execution.space, execution.address);
        let spot = engine.places.look(engine.db, space, address, execution.moment);
        let activations = &spot.code.activations;
        let own = activations
            .iter()
            .position(|activation| self.names.contains(&activation.function.full_name))?;
        let depth = activations.len().checked_sub(own + 2)?;
        Some(spot.place(depth))
    }
}

/// The moment of the instruction that a task executed before, in the same leaf.
fn previous(engine: &mut Engine<'_>, execution: &Execution) -> Result<Option<Moment>, Failure> {
    let leaf = engine.leaf_at(execution.moment)?;
    let stretch = engine.stretch(leaf)?;
    let index = stretch.index_at(execution.moment);
    let before = stretch.visits_before(index).find(|visit| visit.tid == execution.tid);
    Ok(before.map(|visit| Moment(visit.end().0 - 1)))
}

/// Where the instruction behind a moment is.
fn spot(engine: &mut Engine<'_>, moment: Moment) -> Result<Option<Spot>, Failure> {
    let leaf = engine.leaf_at(moment)?;
    let stretch = engine.stretch(leaf)?;
    let Some(visit) = stretch.visit_at(moment) else { return Ok(None) };
    let Some(address) = visit.address_at(moment) else { return Ok(None) };
    Ok(Some(engine.places.look(engine.db, visit.space, address, moment)))
}

fn name(place: &Place) -> String {
    let address = || place.address.map_or_else(String::new, |address| format!("{:#x}", address.0));
    place.function.clone().unwrap_or_else(address)
}
