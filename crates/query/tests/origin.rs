//! Where values come from, in programs that move them in known ways.

mod support;

use query::Engine;
use serde_json::{Value, json};
use support::{Recording, ask, moment, nothing};

/// The moment of the `nth` execution of a line (from 1), or the last one.
fn execution(engine: &mut Engine<'_>, file: &str, line: u32, nth: Option<usize>) -> String {
    let arguments = json!({"file": file, "line": line});
    let mut rows = ask(engine, "executions", nothing(), arguments).complete();
    rows.sort_by_key(|row| moment(&row["moment"]));
    let row = match nth {
        Some(nth) => &rows[nth - 1],
        None => rows.last().unwrap(),
    };
    row["moment"].as_str().unwrap().to_owned()
}

fn place(hop: &Value) -> String {
    let place = &hop["place"];
    let function = place["function"].as_str().unwrap_or("?");
    match place["line"].as_u64() {
        Some(line) => format!("{function}:{line}"),
        None => function.to_owned(),
    }
}

/// The story in short: `[0,8] stored set_note:51`.
fn story(engine: &mut Engine<'_>, focus: &Value, expression: &str) -> Vec<String> {
    let rows = ask(engine, "origin", focus.clone(), json!({"expression": expression})).complete();
    let short = |hop: &Value| {
        let kind = hop["kind"].as_str().unwrap();
        let what = match kind {
            "source" | "passed" => hop["text"].as_str().unwrap().to_owned(),
            _ => place(hop),
        };
        format!("{} {kind} {what}", hop["bytes"])
    };
    rows.iter().map(short).collect()
}

/// Whether a line of a story begins and ends like that.
#[track_caller]
fn assert_story(found: &[String], expected: &[(&str, &str)]) {
    let same = found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(line, (start, part))| line.starts_with(start) && line.contains(part));
    assert!(same, "expected {expected:#?}, found {found:#?}");
}

#[test]
fn bytes_of_different_origin_apart() {
    let recording = Recording::shared("heap_list_O0", 50_000);
    let engine = &mut recording.engine();
    let mut focus = nothing();
    // The list is printed from its head: 8, 7, 6, and then 5.
    for nth in 1.. {
        focus = json!({"moment": execution(engine, "heap_list.c", 72, Some(nth)), "task": 1});
        let id = ask(engine, "evaluate", focus.clone(), json!({"expression": "e->id"})).complete();
        if id[0]["text"] == "5" {
            break;
        }
    }
    let found = story(engine, &focus, "e->balance");
    assert_story(
        &found,
        &[
            ("[0,1] copied set_note:51", ""),
            ("[0,1] source", "\"holiday savings 2024\""),
            ("[1,8] stored main:66", ""),
            ("[1,8] source", "literal 777"),
        ],
    );
    let rows = ask(engine, "origin", focus.clone(), json!({"expression": "e->balance"})).complete();
    assert_eq!(rows[2]["text"], "stored 777");
    // Where the row leads to, the loop was at the byte that does not fit.
    let there = rows[0]["focus"].clone();
    let i = ask(engine, "evaluate", there, json!({"expression": "i"})).complete();
    assert_eq!(i[0]["text"], "20");
}

#[test]
fn through_copies_and_calls_unoptimised() {
    let recording = Recording::shared("struct_copy_O0", 40_000);
    let engine = &mut recording.engine();
    let focus = json!({"moment": execution(engine, "struct_copy.c", 59, Some(2)), "task": 1});
    let value =
        ask(engine, "evaluate", focus.clone(), json!({"expression": "store[i].serial"})).complete();
    assert_eq!(value[0]["text"], "10");
    let rows =
        ask(engine, "origin", focus.clone(), json!({"expression": "store[i].serial"})).complete();
    let own: Vec<u64> = rows
        .iter()
        .map(|hop| hop["own"]["line"].as_u64().or(hop["place"]["line"].as_u64()).unwrap_or(0))
        .collect();
    assert_eq!(own, [52, 51, 31, 46, 22, 19, 18, 45, 44, 44], "{rows:#?}");
    assert_eq!(rows[7]["text"], "make(serial=10)");
    let kinds: Vec<&str> = rows.iter().map(|hop| hop["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..7], ["copied"; 7]);
    assert_eq!(kinds[7..], ["passed", "stored", "computed"]);
    // What it was computed from can be asked about where it was.
    let operand = &rows[9]["operands"][0];
    assert_eq!(operand["value"], "0x9");
    let before =
        ask(engine, "origin", operand["focus"].clone(), json!({"expression": operand["data"]}));
    let before = before.complete();
    assert_eq!((before[0]["kind"].as_str(), place(&before[0])), (Some("stored"), "main:44".into()));
}

#[test]
fn across_processes_and_a_program_of_others() {
    let recording = Recording::shared("fork_pipe", 60_000);
    let engine = &mut recording.engine();
    let focus = json!({"moment": execution(engine, "fork_pipe.c", 37, Some(1)), "task": 1});
    let found = story(engine, &focus, "buf[11]");
    assert_story(&found[..2], &[("[0,1] kernel main:34", ""), ("[0,1] process main:30", "")]);
    let found = story(engine, &focus, "*shared_value");
    assert_story(
        &found,
        &[
            ("[0,4] process main:27", ""),
            ("[0,4] stored main:27", ""),
            ("[0,4] computed main:27", ""),
        ],
    );
    let focus = json!({"moment": execution(engine, "fork_pipe.c", 60, Some(1)), "task": 1});
    let found = story(engine, &focus, "buf[0]");
    assert_story(
        &found,
        &[
            ("[0,1] kernel main:56", ""),
            ("[0,1] process", "write"),
            ("[0,1] kernel", "read"),
            ("[0,1] process main:52", ""),
            ("[0,1] source", "\"one\\ntwo\\nthree\\n\""),
        ],
    );
}

#[test]
fn a_dangling_pointer() {
    let recording = Recording::shared("crash", 400_000);
    let engine = &mut recording.engine();
    let alerts = ask(engine, "alerts", nothing(), nothing()).complete();
    let found = story(engine, &alerts[0]["focus"], "n");
    assert_story(
        &found,
        &[
            ("[0,8] copied walk:27", ""),
            ("[0,8] stored main:42", ""),
            ("[0,8] source", "literal 4702111234474983745"),
        ],
    );
}

/// A program at -O2, with all kinds of ways.
#[test]
fn ways_of_optimised_code() {
    let recording = Recording::small("flows");
    let engine = &mut recording.engine();
    let focus = json!({"task": 1, "frame": "2.0"});
    let first = story(engine, &focus, "kept[0]");
    assert_story(
        &first,
        &[
            ("[0,16] copied keep:43", ""),
            ("[0,8] stored fill:37", ""),
            ("[0,8] passed fill(", "id=4242"),
            ("[0,8] passed returned by parse(", "\"4242;teapot;\""),
            ("[0,8] computed parse:32", ""),
            ("[8,14] copied memcpy:24", ""),
            ("[8,14] kernel run:106", ""),
            ("[8,10] process", ""),
            ("[8,10] source", "\"4242;te\""),
            ("[10,14] kernel run:106", ""),
            ("[10,14] process", ""),
            ("[10,14] source", "\"apot;\""),
            ("[14,16] source never written", ""),
            ("[16,32] copied keep:43", ""),
            ("[16,24] source never written", ""),
            ("[24,32] stored fill:39", ""),
            ("[24,32] source literal 350", ""),
        ],
    );
    let second = story(engine, &focus, "kept[1].id");
    assert_story(
        &second,
        &[
            ("[0,8] copied keep:43", ""),
            ("[0,8] thread keep:43", ""),
            ("[0,8] copied keep:43", ""),
            ("[0,8] stored fill:37", ""),
            ("[0,8] passed fill(", "id=99"),
            ("[0,8] source literal 99", ""),
        ],
    );
    let seeded = [("[0,8] passed returned by seed(from=99)", ""), ("[0,8] computed seed:46", "")];
    // Through a register that the call of `disturb` keeps.
    assert_story(
        &story(engine, &focus, "carried"),
        &[&[("[0,8] stored carry:55", "")], &seeded[..]].concat(),
    );
    // Through compare-and-exchange.
    assert_story(
        &story(engine, &focus, "replaced"),
        &[
            &[
                ("[0,8] copied run:117", ""),
                ("[0,8] copied run:116", ""),
                ("[0,8] stored carry:55", ""),
            ],
            &seeded[..],
        ]
        .concat(),
    );
    // Through an exchange, to what the program file holds.
    assert_story(
        &story(engine, &focus, "swapped"),
        &[("[0,8] copied run:114", ""), ("[0,8] source content of the file", "")],
    );
    // Through a conditional move, and memory that the child wrote.
    assert_story(
        &story(engine, &focus, "chosen"),
        &[
            ("[0,8] copied choose:59", ""),
            ("[0,8] passed choose(", "one=13"),
            ("[0,8] copied run:108", ""),
            ("[0,8] process run:99", ""),
            ("[0,8] stored run:99", ""),
            ("[0,8] passed returned by seed(from=4)", ""),
            ("[0,8] computed seed:46", ""),
        ],
    );
    // Through an extension of its sign.
    let widened = story(engine, &focus, "widened");
    assert_story(
        &widened,
        &[
            ("[0,8] copied widen:62", ""),
            ("[0,8] passed widen(", ""),
            ("[0,8] stored run:92", ""),
            ("[0,8] source literal -5", ""),
        ],
    );
}

/// A story in pages is the story.
#[test]
fn stories_in_pages() {
    let recording = Recording::small("flows");
    let engine = &mut recording.engine();
    let focus = json!({"task": 1, "frame": "2.0"});
    let arguments = json!({"expression": "kept[0]"});
    let whole = ask(engine, "origin", focus.clone(), arguments.clone()).complete();
    let (mut told, mut cursor) = (Vec::new(), Value::Null);
    for page in 0.. {
        assert!(page <= whole.len(), "it does not end");
        let message = json!({
            "focus": focus, "arguments": arguments, "window": {"after": 5}, "cursor": cursor,
        });
        let answers = support::ask_with(engine, "origin", &message);
        told.extend(answers.rows);
        cursor = answers.end["after"].clone();
        if answers.end["end"] == "complete" {
            break;
        }
        assert_eq!(answers.end["end"], "rows");
    }
    assert_eq!(told, whole);
}

#[test]
fn lost_updates_are_pointed_out() {
    let recording = Recording::small("race");
    let engine = &mut recording.engine();
    let arguments = json!({
        "expression": "account.balance",
        "condition": "new - old != 990 && new - old != 2970",
    });
    let lost = ask(engine, "writes", nothing(), arguments).complete();
    let lost: Vec<&Value> = lost.iter().filter(|row| row["by"] == "instruction").collect();
    assert!(!lost.is_empty());
    for row in lost {
        let behind = (moment(&row["moment"]) + 1).to_string();
        let focus = json!({"moment": behind, "task": row["task"]});
        let hops = ask(engine, "origin", focus, json!({"expression": "account.balance"}));
        let hops = hops.complete();
        let warning = hops[0]["warning"].as_str().unwrap_or_default();
        assert!(warning.contains("by others since it was read"), "{hops:#?}");
    }
    let kept = json!({
        "expression": "account.balance",
        "condition": "new - old == 990 || new - old == 2970",
    });
    let kept = ask(engine, "writes", nothing(), kept).complete();
    let behind = (moment(&kept[0]["moment"]) + 1).to_string();
    let focus = json!({"moment": behind, "task": kept[0]["task"]});
    let hops = ask(engine, "origin", focus, json!({"expression": "account.balance"})).complete();
    assert_eq!(hops[0]["warning"], Value::Null);
}

#[test]
fn what_has_no_origin_is_an_error() {
    let recording = Recording::small("flows");
    let engine = &mut recording.engine();
    let focus = json!({"task": 1, "frame": "2.0"});
    let mut error = |arguments: Value| {
        let answers = ask(engine, "origin", focus.clone(), arguments);
        assert_eq!(answers.end["end"], "error");
        answers.end["error"]["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(error(json!({})), "bad-request");
    assert_eq!(error(json!({"expression": "nothing_like_that"})), "no-such-name");
    assert_eq!(error(json!({"address": "0x10", "length": 8})), "not-available");
    assert_eq!(error(json!({"address": "0x10", "length": 1_u64 << 40})), "bad-request");
    assert_eq!(error(json!({"register": "r99"})), "no-such-name");
}
