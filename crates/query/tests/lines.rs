//! Marks and values beside lines, in a loop that goes too far.

mod support;

use serde_json::{Value, json};
use support::{Recording, ask, nothing};

fn row(rows: &[Value], line: u64) -> &Value {
    rows.iter().find(|row| row["line"] == line).unwrap()
}

fn value<'r>(row: &'r Value, name: &str) -> &'r Value {
    let values = row["values"].as_array().unwrap();
    values.iter().find(|value| value["name"] == name).unwrap_or(&Value::Null)
}

#[test]
fn values_of_the_iteration_that_is_looked_at() {
    let recording = Recording::shared("heap_list_O0", 50_000);
    let engine = &mut recording.engine();
    let arguments = json!({"file": "heap_list.c", "line": 51, "condition": "n == 20"});
    let rows = ask(engine, "executions", nothing(), arguments).complete();
    assert_eq!(rows.len(), 21);
    for row_of in &rows {
        let focus = row_of["focus"].clone();
        let i = ask(engine, "evaluate", focus.clone(), json!({"expression": "i"})).complete();
        let lines =
            ask(engine, "lines", focus, json!({"file": "heap_list.c", "from": 44, "to": 53}));
        let lines = lines.complete();
        // The head of the loop: its counter as it is now.
        let head = row(&lines, 50);
        assert_eq!(value(head, "i")["text"], i[0]["text"]);
        assert_eq!(value(head, "i")["changed"], true);
        assert_eq!(value(head, "n")["text"], "20");
        assert_eq!(value(head, "n")["changed"], Value::Null);
        // Before the loop.
        assert_eq!(row(&lines, 48)["mark"], "strong");
        assert_eq!(value(row(&lines, 48), "n")["text"], "20");
        // Nothing is told of what has not run.
        assert_eq!(row(&lines, 51)["values"], Value::Null);
        assert_eq!(row(&lines, 52)["values"], Value::Null);
        assert_eq!(row(&lines, 51)["count"], 21);
    }
}
