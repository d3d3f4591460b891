//! Tiles of the call tree.

use query::Engine;
use serde_json::{Value, json};

use crate::support::{Recording, ask_all, ask_with, text};

/// A call of a program with one task and one stack: behind the call, behind the return, depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Called {
    depth: u32,
    entry: u64,
    end: u64,
}

/// All calls, from nothing but the transfers of control: a return ends what it takes off the
/// stack, and so does whatever happens above.
fn all_calls(built: &Recording) -> Vec<Called> {
    let reader = &built.db.reader;
    let (mut open, mut calls) = (Vec::<(u64, u64)>::new(), Vec::new());
    let mut end_above = |open: &mut Vec<(u64, u64)>, slot: u64, end: u64| {
        while let Some((entry, _)) = open.pop_if(|(_, known)| *known <= slot) {
            calls.push(Called { depth: open.len() as u32, entry, end });
        }
    };
    for leaf in 0..reader.leaves() {
        let leaf = reader.leaf(leaf).unwrap();
        let tids: Vec<model::Tid> = leaf.tasks_with_calls().collect();
        assert!(tids.len() <= 1, "{tids:?}");
        // Some leaves have none.
        let Some(tid) = tids.first().copied() else { continue };
        for call in leaf.calls(tid, model::Moment(0)).unwrap() {
            let call = call.unwrap();
            if call.is_call {
                end_above(&mut open, call.stack.0, call.moment.0);
                open.push((call.moment.0, call.stack.0));
            } else {
                end_above(&mut open, call.stack.0 - 8, call.moment.0);
            }
        }
    }
    end_above(&mut open, u64::MAX, reader.end().0);
    calls.sort();
    calls
}

/// A box of a tile.
struct Tiled {
    call: Called,
    merged: u64,
    function: String,
}

fn tile(engine: &mut Engine<'_>, level: u32, tile: u64) -> (Value, Vec<Tiled>) {
    let rows = ask_all(engine, "timeline", json!({"level": level, "tile": tile, "task": 1}));
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let number = |field: &str, index: usize| row[field][index].as_u64().unwrap();
    let from: u64 = text(row, "from").parse().unwrap();
    assert_eq!(from, tile << (level + 10));
    let count = row["start"].as_array().unwrap().len();
    assert!(count <= 4000, "{count} boxes in tile {tile} of level {level}");
    let boxes = (0..count).map(|index| {
        let entry = from + number("start", index);
        let end = entry + number("length", index);
        let depth = number("depth", index) as u32;
        let function = number("function", index) as usize;
        let function = row["functions"][function].as_str().unwrap().to_owned();
        Tiled { call: Called { depth, entry, end }, merged: number("merged", index), function }
    });
    (row.clone(), boxes.collect())
}

/// Every tile of a level against all calls.
fn check_tiles(engine: &mut Engine<'_>, calls: &[Called], level: u32) {
    let end = calls.iter().map(|call| call.end).max().unwrap();
    let width = 1_u64 << (level + 10);
    for number in 0..end.div_ceil(width) {
        let (row, boxes) = tile(engine, level, number);
        let (from, to) = (number * width, ((number + 1) * width).min(end));
        assert_eq!((&row["complete"], &row["coarse"]), (&json!(true), &json!(false)));
        assert!(row["depth_max"].is_null());
        let grain = row["grain"].as_u64().unwrap();
        let inside = calls.iter().filter(|call| call.entry < to && call.end > from);
        let clip =
            |call: &Called| Called { entry: call.entry.max(from), end: call.end.min(to), ..*call };
        let inside: Vec<Called> = inside.copied().collect();
        // As many calls, wherever they are.
        let merged: u64 = boxes.iter().map(|known| known.merged).sum();
        assert_eq!(merged, inside.len() as u64, "tile {number} of level {level}");
        // Long ones alone and exactly.
        let long: Vec<Called> =
            inside.iter().filter(|call| call.end.min(to) - call.entry >= grain).map(clip).collect();
        let alone: Vec<Called> =
            boxes.iter().filter(|known| known.merged == 1).map(|known| known.call).collect();
        for call in &long {
            assert!(alone.binary_search(call).is_ok(), "{call:?} in tile {number} of {level}");
        }
        // Nothing lies over another thing, and short ones are inside of a box.
        assert!(boxes.iter().map(|known| known.call).is_sorted());
        for pair in boxes.windows(2) {
            let [one, next] = [&pair[0].call, &pair[1].call];
            assert!(one.depth < next.depth || one.end <= next.entry, "{one:?} {next:?}");
        }
        for call in inside.iter().map(clip) {
            let covers = |known: &&Tiled| {
                let of = known.call;
                of.depth == call.depth && of.entry <= call.entry && call.end <= of.end
            };
            assert!(boxes.iter().any(|known| covers(&known)), "{call:?}");
        }
    }
}

#[test]
fn tiles_are_the_call_tree() {
    let built = Recording::shared("heap_list_O2_n", 40_000);
    let mut engine = Engine::new(&built.db);
    let calls = all_calls(&built);
    assert!(calls.len() > 1000, "{}", calls.len());
    for level in [3, 5, 7, 10] {
        check_tiles(&mut engine, &calls, level);
    }
    // What is merged is the longest call's; nothing is merged at level 0.
    let (row, boxes) = tile(&mut engine, 7, 1);
    assert_eq!(row["functions"].as_array().unwrap().len(), {
        let mut names: Vec<&str> = boxes.iter().map(|known| known.function.as_str()).collect();
        names.sort();
        names.dedup();
        names.len()
    });
    let (row, boxes) = tile(&mut engine, 0, 70);
    assert_eq!(row["grain"], 1);
    assert!(boxes.iter().all(|known| known.merged == 1));
}

/// Deep recursion: 64 tiles' worth of depth.
#[test]
fn tiles_of_deep_recursion() {
    let built = Recording::shared("recursion_O2", 1 << 22);
    let mut engine = Engine::new(&built.db);
    for level in [4, 8, 12] {
        let (_, boxes) = tile(&mut engine, level, 0);
        assert!(!boxes.is_empty());
    }
    // The program's own functions are there, under main.
    let (_, boxes) = tile(&mut engine, 10, 0);
    let main = boxes.iter().find(|known| known.function == "main").unwrap();
    let own = boxes.iter().find(|known| known.function == "ackermann").unwrap();
    assert!(main.call.depth < own.call.depth);
    assert!(main.call.entry < own.call.entry && own.call.end < main.call.end);
}

/// Above the length of a segment, calls are found by what is under way at borders.
#[test]
fn coarse_tiles() {
    const SEGMENT: u64 = 1 << 10;
    let built = Recording::shared("use_after_free_n", SEGMENT);
    let mut engine = Engine::new(&built.db);
    let calls = all_calls(&built);
    let end = built.db.reader.end().0;
    let (row, boxes) = tile(&mut engine, 10, 0);
    assert_eq!((&row["coarse"], text(&row, "to")), (&json!(true), end.to_string().as_str()));
    let crosses = |call: &&Called| call.entry / SEGMENT < (call.end - 1) / SEGMENT;
    let long: Vec<&Called> = calls.iter().filter(|call| call.end - call.entry > SEGMENT).collect();
    assert!(long.len() > 20 && long.iter().all(crosses), "{}", long.len());
    for call in long {
        let found = boxes.iter().find(|known| {
            let of = known.call;
            (of.depth, of.entry) == (call.depth, call.entry)
        });
        let found = found.unwrap_or_else(|| panic!("{call:?}"));
        let late = found.call.end - call.end;
        assert!(found.merged == 1 && late < SEGMENT, "{call:?} {:?}", found.call);
    }
    for pair in boxes.windows(2) {
        let [one, next] = [&pair[0].call, &pair[1].call];
        assert!(one.depth < next.depth || one.end <= next.entry, "{one:?} {next:?}");
    }
}

#[test]
fn tiles_that_are_not_there() {
    let built = Recording::shared("use_after_free_n", 1 << 22);
    let mut engine = Engine::new(&built.db);
    let mut code = |arguments: Value| {
        let answered = ask_with(&mut engine, "timeline", &json!({"arguments": arguments}));
        let rows = answered.rows.len();
        (answered.end["error"]["code"].as_str().map(str::to_owned), rows)
    };
    let refused = |code: &str| (Some(code.to_owned()), 0);
    assert_eq!(code(json!({"level": 70, "tile": 0})), refused("bad-request"));
    assert_eq!(code(json!({"level": 40, "tile": u64::MAX})), refused("bad-request"));
    assert_eq!(code(json!({"level": 4})), refused("bad-request"));
    assert_eq!(code(json!({"level": 4, "tile": 0, "task": 9})), refused("no-such-task"));
    // Behind the end there is nothing.
    assert_eq!(code(json!({"level": 4, "tile": 1_u64 << 40})), (None, 1));
    assert_eq!(code(json!({"level": 48, "tile": 0})), (None, 1));
}

/// The recorder's library works on a stack of its own: the program's calls are still under way.
#[test]
fn calls_go_on_during_system_calls() {
    let built = Recording::shared("fork_pipe", 1 << 22);
    let mut engine = Engine::new(&built.db);
    let writes = ask_all(&mut engine, "calls", json!({"task": 1, "name": "write"}));
    let moment = text(&writes[0], "moment").parse::<u64>().unwrap();
    let level = 4;
    let (_, boxes) = tile(&mut engine, level, moment >> (level + 10));
    let around = |known: &&Tiled| known.call.entry < moment && moment < known.call.end;
    let mut names: Vec<&str> =
        boxes.iter().filter(around).map(|known| known.function.as_str()).collect();
    names.dedup();
    assert!(names.contains(&"main") && names.contains(&"syscall_hook"), "{names:?}");
}

/// At any moment the calls of the stack are those whose boxes are there.
fn check_against_stacks(name: &str, step: usize) {
    let built = Recording::shared(name, 150_000);
    let mut engine = Engine::new(&built.db);
    let end = built.db.reader.end().0;
    let mut looked = 0;
    for moment in (0..end).step_by(step) {
        let message = json!({"focus": {"moment": moment.to_string()}});
        let stack = ask_with(&mut engine, "stack", &message);
        let state = ask_with(&mut engine, "state", &message);
        let task = &state.rows[0]["focus"]["task"];
        let arguments = json!({"level": 0, "tile": moment >> 10, "task": task});
        let rows = ask_all(&mut engine, "timeline", arguments);
        let column = |field: &str| rows[0][field].as_array().unwrap().iter();
        let from: u64 = text(&rows[0], "from").parse().unwrap();
        let spans = column("start").zip(column("length")).map(|(start, length)| {
            let start = from + start.as_u64().unwrap();
            start..start + length.as_u64().unwrap()
        });
        let there: Vec<&str> = spans
            .zip(column("frame"))
            .filter(|(span, _)| span.contains(&moment))
            .map(|(_, frame)| frame.as_str().unwrap())
            .collect();
        for frame in stack.rows.iter().filter(|frame| frame["kind"] == "call") {
            let frame = text(frame, "frame");
            assert!(there.contains(&frame), "{name}, {moment}: {frame} is not in {there:?}");
            looked += 1;
        }
    }
    assert!(looked > 100, "{name}: {looked}");
}

#[test]
fn tiles_agree_with_stacks() {
    check_against_stacks("containers_O0", 60_013);
    check_against_stacks("signals", 9_973);
}

#[test]
fn tiles_of_threads_and_processes_agree_with_stacks() {
    check_against_stacks("threads_slices", 13_009);
    check_against_stacks("fork_pipe", 7_001);
}
