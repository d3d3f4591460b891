//! Callers of functions.

use std::collections::BTreeMap;

use query::Engine;
use serde_json::{Value, json};

use crate::support::{Recording, ask_all, ask_with, text};

/// Callers of a function as (name, count).
fn callers(engine: &mut Engine<'_>, function: &str) -> Vec<(String, u64)> {
    let rows = ask_all(engine, "callers", json!({"function": function}));
    let pair =
        |row: &Value| (text(row, "function").to_owned(), text(row, "count").parse().unwrap());
    rows.iter().map(pair).collect()
}

/// What the stack says at each call.
fn callers_by_stacks(engine: &mut Engine<'_>, function: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for call in ask_all(engine, "executions", json!({"function": function})) {
        let focus = json!({"focus": call["focus"]});
        let stack = ask_with(engine, "stack", &focus).rows;
        // It may be inlined, or have something inlined at its beginning, or another name.
        let named = stack.iter().position(|frame| text(frame, "function") == function);
        let outer = || stack.iter().position(|frame| frame["kind"] != "inlined");
        let own = named.or_else(outer).unwrap();
        *found.entry(text(&stack[own + 1], "function").to_owned()).or_default() += 1;
    }
    found
}

#[test]
fn callers_are_those_of_all_stacks() {
    for (name, segment, functions) in [
        ("heap_list_O0", 20_000, &["add", "find", "sum", "calloc", "strlen"][..]),
        ("struct_copy_O0", 1 << 22, &["memcpy", "malloc"]),
    ] {
        let built = Recording::shared(name, segment);
        let mut engine = Engine::new(&built.db);
        for function in functions {
            let expected = callers_by_stacks(&mut engine, function);
            let mut found: BTreeMap<String, u64> = BTreeMap::new();
            for (caller, count) in callers(&mut engine, function) {
                *found.entry(caller).or_default() += count;
            }
            assert!(
                !expected.is_empty() && found == expected,
                "{function}: {found:?} {expected:?}"
            );
        }
        drop(engine);
    }
}

#[test]
fn callers_of_known_functions() {
    let built = Recording::shared("heap_list_O0", 1 << 22);
    let mut engine = Engine::new(&built.db);
    let main = |count| vec![("main".to_owned(), count)];
    assert_eq!(callers(&mut engine, "add"), main(8));
    assert_eq!(callers(&mut engine, "find"), main(4));
    assert_eq!(callers(&mut engine, "set_note"), main(3));
    let answered = ask_with(&mut engine, "callers", &json!({"arguments": {"function": "fnid"}}));
    assert_eq!(answered.end["error"]["code"], "no-such-name");
    drop(engine);

    let built = Recording::shared("recursion_O2", 20_000);
    let mut engine = Engine::new(&built.db);
    // The compiler has made a loop of its recursion.
    assert_eq!(callers(&mut engine, "dig"), main(1));
    // The compiler has inlined some of its calls of itself.
    let ackermann = callers(&mut engine, "ackermann");
    let executions = ask_all(&mut engine, "executions", json!({"function": "ackermann"}));
    let sum: u64 = ackermann.iter().map(|(_, count)| count).sum();
    assert_eq!(sum, executions.len() as u64);
    assert_eq!(ackermann.last(), Some(&("main".to_owned(), 1)));
    assert!(ackermann[..ackermann.len() - 1].iter().all(|(name, _)| name == "ackermann"));
    // Inlined ones are found where `executions` finds them.
    for (function, caller) in [("descending", "insertion_sort"), ("apply", "main")] {
        let rows = ask_all(&mut engine, "callers", json!({"function": function}));
        let executions = ask_all(&mut engine, "executions", json!({"function": function}));
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!((text(&rows[0], "function"), &rows[0]["inlined"]), (caller, &json!(true)));
        assert_eq!(text(&rows[0], "count"), executions.len().to_string(), "{function}");
    }
}
