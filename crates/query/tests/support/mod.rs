//! Recordings with their databases, and questions about them.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use index::{Options, Shards, Watch};
use query::protocol::{Answer, Request};
use query::{DATABASE, Database, Engine};
use rr_trace::Trace;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A recording whose database lies in a directory of its own.
pub struct Recording {
    pub db: Database,
    _directory: TempDir,
}

/// What was answered: all rows, and the last message.
#[derive(Debug)]
pub struct Answers {
    pub rows: Vec<Value>,
    pub end: Value,
}

impl Recording {
    /// One of the shared recordings: `PERNOSCO_TRACES`, or `../shared/traces` beside the
    /// workspace.
    pub fn shared(name: &str, segment_instructions: u64) -> Recording {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces");
        let traces = std::env::var_os("PERNOSCO_TRACES").map_or(beside, PathBuf::from);
        Recording::build(&traces.join(name).join("trace"), segment_instructions)
    }

    /// One of the small recordings of the tree.
    pub fn small(name: &str) -> Recording {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings");
        let segment = Options::default().segment_instructions;
        Recording::build(&tree.join(name).join("trace"), segment)
    }

    fn build(source: &Path, segment_instructions: u64) -> Recording {
        let directory = tempfile::tempdir().unwrap();
        let entries = std::fs::read_dir(source)
            .unwrap_or_else(|error| panic!("{}: {error}: set PERNOSCO_TRACES", source.display()));
        for entry in entries.map(Result::unwrap) {
            if entry.file_name() != DATABASE {
                let link = directory.path().join(entry.file_name());
                let original = std::fs::canonicalize(entry.path()).unwrap();
                std::os::unix::fs::symlink(original, link).unwrap();
            }
        }
        let trace = Trace::open(directory.path()).unwrap();
        let watch = Watch { sealed: &|_| {}, replayed: &|_| {}, stop: &AtomicBool::new(false) };
        let options = Options { segment_instructions, ..Options::default() };
        let database = directory.path().join(DATABASE);
        index::build(&trace, &database, &options, Shards::None, &watch).unwrap();
        Recording { db: Database::open(trace).unwrap(), _directory: directory }
    }

    pub fn engine(&self) -> Engine<'_> {
        Engine::new(&self.db)
    }
}

/// Asks with what a message has beside `ask` and `question`.
pub fn ask_with(engine: &mut Engine<'_>, question: &str, message: &Value) -> Answers {
    let mut whole = json!({"ask": 1, "question": question});
    for (name, value) in message.as_object().into_iter().flatten() {
        whole[name] = value.clone();
    }
    let request: Request = serde_json::from_value(whole).unwrap();
    let (mut rows, mut ends) = (Vec::new(), Vec::new());
    let mut take = |answer: Answer| match answer {
        Answer::Rows { rows: more, .. } => {
            assert!(ends.is_empty(), "rows behind the end");
            rows.extend(more);
        }
        Answer::Progress { .. } => {}
        end => ends.push(serde_json::to_value(end).unwrap()),
    };
    query::ask(engine, &request, &AtomicBool::new(false), &mut take);
    assert_eq!(ends.len(), 1, "{question} ends once");
    Answers { rows, end: ends.remove(0) }
}

/// Asks at a focus, with the largest window.
pub fn ask(engine: &mut Engine<'_>, question: &str, focus: Value, arguments: Value) -> Answers {
    let window = json!({"before": 10_000, "after": 10_000});
    ask_with(engine, question, &json!({"focus": focus, "arguments": arguments, "window": window}))
}

/// All rows of a question about the whole run, in order of time.
pub fn ask_all(engine: &mut Engine<'_>, question: &str, arguments: Value) -> Vec<Value> {
    let message = json!({
        "focus": {"moment": "0"}, "arguments": arguments,
        "window": {"before": 0, "after": 10_000}, "deadline": 600_000,
    });
    ask_with(engine, question, &message).complete()
}

impl Answers {
    /// The rows of an answer that must be complete.
    #[track_caller]
    pub fn complete(self) -> Vec<Value> {
        assert_eq!(self.end["end"], "complete", "{}", self.end);
        self.rows
    }
}

/// A moment as the protocol has it.
pub fn moment(value: &Value) -> u64 {
    value.as_str().unwrap_or_else(|| panic!("{value} is no moment")).parse().unwrap()
}

/// A field that is text.
pub fn text<'r>(row: &'r Value, field: &str) -> &'r str {
    row[field].as_str().unwrap_or_else(|| panic!("no {field} in {row}"))
}

/// No arguments, or no focus.
pub fn nothing() -> Value {
    json!({})
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
