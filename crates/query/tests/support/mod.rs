//! Recordings with their databases, and questions about them.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use index::{Options, Shards, Watch};
use query::protocol::{Answer, Request};
use query::{DATABASE, Database, Engine};
use rr_trace::Trace;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A recording whose database lies in a directory of its own.
pub struct Recording {
    directory: TempDir,
    pub db: Database,
}

/// What was answered.
#[derive(Debug)]
pub struct Answers {
    pub rows: Vec<Value>,
    /// The last message.
    pub end: Value,
}

impl Recording {
    /// One of the shared recordings: `PERNOSCO_TRACES`, or `../shared/traces` beside the
    /// workspace. `None`, with a line that says so, if the host cannot execute it.
    pub fn shared(name: &str, segment_instructions: u64) -> Option<Recording> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces");
        let traces = std::env::var_os("PERNOSCO_TRACES").map_or(beside, PathBuf::from);
        Recording::build(name, &traces.join(name).join("trace"), segment_instructions)
    }

    /// One of the small recordings of the tree.
    pub fn small(name: &str) -> Recording {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings");
        let segment = Options::default().segment_instructions;
        Recording::build(name, &tree.join(name).join("trace"), segment).unwrap()
    }

    fn build(name: &str, source: &Path, segment_instructions: u64) -> Option<Recording> {
        let directory = tempfile::tempdir().unwrap();
        let entries = std::fs::read_dir(source)
            .unwrap_or_else(|error| panic!("{}: {error}", source.display()));
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
        if let Err(error) = index::build(&trace, &database, &options, Shards::None, &watch) {
            let text = error.to_string();
            assert!(text.contains("cannot execute"), "{name}: {text}");
            eprintln!("skipped {name}: this host {text}");
            return None;
        }
        let db = Database::open(trace).unwrap();
        Some(Recording { directory, db })
    }

    pub fn engine(&self) -> Engine<'_> {
        Engine::new(&self.db)
    }
}

/// Asks, and takes all that is answered.
pub fn ask(engine: &mut Engine<'_>, question: &str, focus: Value, arguments: Value) -> Answers {
    let window = json!({"before": 10_000, "after": 10_000});
    ask_window(engine, question, focus, arguments, window)
}

/// As [`ask`], with a window.
pub fn ask_window(
    engine: &mut Engine<'_>,
    question: &str,
    focus: Value,
    arguments: Value,
    window: Value,
) -> Answers {
    let request: Request = serde_json::from_value(json!({
        "ask": 1, "question": question, "focus": focus, "arguments": arguments, "window": window,
    }))
    .unwrap();
    let (mut rows, mut end) = (Vec::new(), Value::Null);
    let mut sink = |answer: Answer| {
        let mut message = serde_json::to_value(&answer).unwrap();
        assert!(end.is_null(), "a message behind the end: {message}");
        if let Some(Value::Array(more)) = message.as_object_mut().and_then(|it| it.remove("rows")) {
            rows.extend(more);
        } else if message.get("end").is_some() {
            end = message;
        }
    };
    query::ask(engine, &request, &AtomicBool::new(false), &mut sink);
    assert!(!end.is_null(), "{question} has no end");
    Answers { rows, end }
}

impl Answers {
    /// The rows of an answer that must be complete.
    pub fn complete(self) -> Vec<Value> {
        assert_eq!(self.end["end"], "complete", "{}", self.end);
        self.rows
    }
}

/// A moment as the protocol has it.
pub fn moment(value: &Value) -> u64 {
    value.as_str().unwrap_or_else(|| panic!("{value} is no moment")).parse().unwrap()
}

/// No arguments, or no focus.
pub fn nothing() -> Value {
    Value::Object(Map::new())
}
