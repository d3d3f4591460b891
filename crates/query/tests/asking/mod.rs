//! Databases of the recordings, and asking them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use index::{Options, Shards, Watch};
use query::protocol::{Answer, Request};
use query::{DATABASE, Database, Engine};
use rr_trace::Trace;
use serde_json::{Value, json};

/// A recording with its database, in a directory of their own.
pub struct Built {
    pub db: Database,
    _directory: tempfile::TempDir,
}

/// Builds the database of a recording: `PERNOSCO_TRACES`, or `../shared/traces` beside the
/// workspace, has it.
pub fn build(name: &str, segment_instructions: u64) -> Built {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces");
    let traces = std::env::var_os("PERNOSCO_TRACES").map_or(beside, PathBuf::from);
    let source = traces.join(name).join("trace");
    let files = std::fs::read_dir(&source)
        .unwrap_or_else(|error| panic!("{}: {error}: set PERNOSCO_TRACES", source.display()));
    let directory = tempfile::tempdir().unwrap();
    for file in files {
        let file = file.unwrap().path();
        std::fs::copy(&file, directory.path().join(file.file_name().unwrap())).unwrap();
    }
    let trace = Trace::open(directory.path()).unwrap();
    let watch = Watch { sealed: &|_| {}, replayed: &|_| {}, stop: &AtomicBool::new(false) };
    let options = Options { segment_instructions, ..Options::default() };
    index::build(&trace, &directory.path().join(DATABASE), &options, Shards::None, &watch).unwrap();
    Built { db: Database::open(trace).unwrap(), _directory: directory }
}

/// An answer: its rows, and how it ended.
#[derive(Debug)]
pub struct Answered {
    pub rows: Vec<Value>,
    pub end: Value,
}

/// Asks with what a message has beside `ask` and `question`.
pub fn ask_with(engine: &mut Engine<'_>, question: &str, message: &Value) -> Answered {
    let mut whole = json!({"ask": 1, "question": question});
    for (name, value) in message.as_object().into_iter().flatten() {
        whole[name] = value.clone();
    }
    let request: Request = serde_json::from_value(whole).unwrap();
    let (mut rows, mut ends) = (Vec::new(), Vec::new());
    let mut take = |answer: Answer| match answer {
        Answer::Rows { rows: more, .. } => rows.extend(more),
        Answer::Progress { .. } => {}
        end => ends.push(serde_json::to_value(end).unwrap()),
    };
    query::ask(engine, &request, &AtomicBool::new(false), &mut take);
    assert_eq!(ends.len(), 1, "{question} ends once");
    Answered { rows, end: ends.remove(0) }
}

/// All rows of a question about the whole run, in order of time.
pub fn ask_all(engine: &mut Engine<'_>, question: &str, arguments: Value) -> Vec<Value> {
    let message = json!({
        "focus": {"moment": "0"}, "arguments": arguments,
        "window": {"before": 0, "after": 10_000}, "deadline": 600_000,
    });
    let answered = ask_with(engine, question, &message);
    assert_eq!(answered.end["end"], "complete", "{question}: {}", answered.end);
    answered.rows
}

/// A field that is text.
pub fn text<'r>(row: &'r Value, field: &str) -> &'r str {
    row[field].as_str().unwrap_or_else(|| panic!("no {field} in {row}"))
}

/// Numbers of tasks as rows have them, by tid: no tid recurs in these recordings.
pub fn tids(engine: &mut Engine<'_>) -> BTreeMap<u64, i32> {
    let rows = ask_all(engine, "tasks", json!({}));
    let mut tids = BTreeMap::new();
    for row in rows {
        let tid = row["tid"].as_i64().unwrap() as i32;
        assert!(tids.insert(row["task"].as_u64().unwrap(), tid).is_none());
    }
    tids
}
