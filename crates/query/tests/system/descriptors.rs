//! Lives of descriptors.

use query::Engine;
use serde_json::{Value, json};

use crate::support::{Recording, ask_all, text};

/// One row as text: descriptor, kind, path, how, bytes.
fn life(row: &Value) -> String {
    let path = row["path"].as_str().unwrap_or("-");
    let mode = row["mode"].as_str().unwrap_or("-");
    let [kind, by, read, written] = ["kind", "by", "read", "written"].map(|field| text(row, field));
    format!("{} {kind} {mode} {path} {by} {read} {written}", row["descriptor"])
}

#[test]
fn descriptors_of_known_children() {
    let built = Recording::shared("fork_pipe", 60_000);
    let mut engine = Engine::new(&built.db);
    let rows = ask_all(&mut engine, "descriptors", json!({}));
    let of = |task: u64| -> Vec<String> {
        rows.iter().filter(|row| row["task"] == task).map(life).collect()
    };
    let parent = of(1);
    let own = parent.iter().filter(|life| !life.contains("/lib"));
    let expected = [
        "3 file read /etc/ld.so.cache openat 0 0",
        "3 pipe read - pipe2 13 0",
        "4 pipe write - pipe2 0 0",
        // Standard output was a file, which fstat(2) has told.
        "1 file - - inherited 0 119",
        "5 pipe read - pipe2 0 0",
        "6 pipe write - pipe2 0 14",
        "7 pipe read - pipe2 14 0",
        "8 pipe write - pipe2 0 0",
    ];
    assert_eq!(own.take(8).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert!(parent[parent.len() - 2].starts_with("5 file read and write /tmp/fork_pipe."));
    assert!(parent[parent.len() - 2].ends_with(" openat 3 14"), "{parent:#?}");
    assert_eq!(parent.last().unwrap(), "2 unknown - - inherited 0 39");
    assert_eq!(of(2), ["3 pipe read - fork 0 0", "4 pipe write - fork 0 13"]);
    let cat = of(3);
    for life in ["0 pipe read - dup2 14 0", "1 pipe write - dup2 0 14", "6 pipe write - fork 0 0"] {
        assert!(cat.iter().any(|known| known == life), "{life} in {cat:#?}");
    }
    check_lives(&mut engine, &rows);
}

/// Lives against the calls: each begins and ends with a call of the task, or with the task.
fn check_lives(engine: &mut Engine<'_>, rows: &[Value]) {
    let calls = ask_all(engine, "calls", json!({}));
    let moment =
        |row: &Value, field: &str| row[field].as_str().map(|at| at.parse::<u64>().unwrap());
    let tasks = ask_all(engine, "tasks", json!({}));
    let mut closed = 0;
    for row in rows {
        let by = text(row, "by");
        let begins = |call: &&Value| {
            let spans = moment(call, "moment") <= moment(row, "opened")
                && moment(row, "opened") <= moment(call, "exit");
            text(call, "name") == by && call["task"] == row["task"] && spans
        };
        assert!(
            ["fork", "inherited"].contains(&by) || calls.iter().any(|call| begins(&call)),
            "{row}"
        );
        let Some(end) = moment(row, "closed") else { continue };
        closed += 1;
        let descriptor = row["descriptor"].to_string();
        let ends = |call: &&Value| {
            let own = call["task"] == row["task"] && moment(call, "exit") == Some(end);
            let closes = text(call, "name") == "close" && text(call, "arguments") == descriptor;
            let replaces = text(call, "name") == "dup2"
                && text(call, "arguments").ends_with(&format!(", {descriptor}"));
            own && (closes || replaces)
        };
        let task = tasks.iter().find(|task| task["task"] == row["task"]).unwrap();
        let with_task = moment(task, "end").is_some_and(|gone| gone >= end)
            && !calls
                .iter()
                .any(|call| call["task"] == row["task"] && moment(call, "moment").unwrap() > end);
        assert!(with_task || calls.iter().any(|call| ends(&call)), "{row}");
    }
    assert!(closed > 10, "{rows:#?}");
}
