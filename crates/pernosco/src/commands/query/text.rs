//! Rows for people: a line each, the most telling parts first.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Map, Value};

use crate::output::Output;

/// Parts that come first, in this order; others follow in theirs.
const FIRST: [&str; 14] = [
    "moment",
    "task",
    "kind",
    "name",
    "frame",
    "place",
    "function",
    "arguments",
    "text",
    "value",
    "old",
    "new",
    "result",
    "prints",
];
/// Parts that repeat others, for programs.
const LEFT_OUT: [&str; 6] = ["focus", "side", "full", "path", "depth", "own"];

/// Prints rows as lines; one row alone as a list of its parts.
pub fn print(output: &mut Output, question: &str, rows: &[Value]) -> anyhow::Result<()> {
    if let [Value::Object(row)] = rows
        && matches!(question, "overview" | "state" | "source")
    {
        for (name, value) in row {
            writeln!(output, "{name:13} {}", part(value))?;
        }
        return Ok(());
    }
    for row in rows {
        match row {
            Value::Object(row) if question == "calls" => writeln!(output, "{}", line(&call(row)))?,
            Value::Object(row) if question == "descriptors" => {
                writeln!(output, "{}", line(&descriptor(row)))?;
            }
            Value::Object(row) if question == "block" => {
                writeln!(output, "{}", line(&block(row)))?;
            }
            Value::Object(row) if question == "origin" => {
                writeln!(output, "{}", line(&hop(row)))?;
            }
            Value::Object(row) => writeln!(output, "{}", line(row))?,
            other => writeln!(output, "{other}")?,
        }
    }
    Ok(())
}

/// A system call as strace has it.
fn call(row: &Map<String, Value>) -> Map<String, Value> {
    let mut row = row.clone();
    let mut take = |name: &str| row.remove(name).map(|value| part(&value)).unwrap_or_default();
    let [name, arguments, result] = ["name", "arguments", "result"].map(&mut take);
    let _ = ["buffered", "exit"].map(take);
    row.insert("name".into(), format!("{name}({arguments}) = {result}").into());
    row
}

/// Of who allocated or freed a block, the user's own code.
fn block(row: &Map<String, Value>) -> Map<String, Value> {
    let mut row = row.clone();
    if let Some(Value::Array(stack)) = row.get_mut("stack") {
        stack.retain(|place| place["own"] == true);
    }
    row
}

/// A hop of a value's story: which bytes, what happened to them, where in the user's own code.
fn hop(row: &Map<String, Value>) -> Map<String, Value> {
    let mut row = row.clone();
    let mut take = |name: &str| row.remove(name).unwrap_or_default();
    let (bytes, own, called) = (take("bytes"), take("own"), take("called"));
    let (operands, kind) = (take("operands"), take("kind"));
    let (old, text) = (part(&take("old")), part(&take("text")));
    let _ = ["frame", "instruction"].map(&mut take);
    let bytes = match (bytes[0].as_u64(), bytes[1].as_u64()) {
        (Some(first), Some(end)) if end > first + 1 => format!("bytes {first}-{}", end - 1),
        (Some(first), _) => format!("byte {first}"),
        _ => String::new(),
    };
    if own.is_object() {
        row.insert("place".into(), own);
    }
    let called = part(&called);
    let called = if called.is_empty() { called } else { format!("in {called}: ") };
    row.insert("kind".into(), format!("{}, {bytes}", part(&kind)).into());
    row.insert("text".into(), format!("{called}{text}").into());
    if !old.is_empty() {
        let value = format!("{}, was {old}", part(row.get("value").unwrap_or(&Value::Null)));
        row.insert("value".into(), value.into());
    }
    // What the addresses of copies were made of is for programs.
    if part(&kind) == "computed"
        && let Value::Array(operands) = operands
    {
        let from = operands.iter().filter_map(|operand| {
            Some(format!("{} = {}", operand["name"].as_str()?, part(&operand["value"])))
        });
        row.insert("from".into(), from.collect::<Vec<_>>().join(", ").into());
    }
    row
}

/// What it is of comes first.
fn descriptor(row: &Map<String, Value>) -> Map<String, Value> {
    let mut row = row.clone();
    if let Some(path) = row.remove("path") {
        row.insert("text".into(), path);
    }
    row
}

fn line(row: &Map<String, Value>) -> String {
    let mut text = String::new();
    let mut add = |name: &str, value: &Value| {
        let shown = part(value);
        if shown.is_empty() {
            return;
        }
        if !text.is_empty() {
            text.push_str("  ");
        }
        let plain = matches!(
            name,
            "moment" | "kind" | "name" | "place" | "text" | "address" | "bytes" | "arguments"
        );
        let _ = match (plain, name) {
            (true, _) => write!(text, "{shown}"),
            (_, "value") => write!(text, "= {shown}"),
            (_, name) => write!(text, "{name} {shown}"),
        };
    };
    for name in FIRST {
        // What the place says already.
        let function = row.get("place").and_then(|place| place.get("function"));
        let repeated = name == "function" && function == row.get("function");
        if let Some(value) = row.get(name).filter(|_| !repeated) {
            add(name, value);
        }
    }
    for (name, value) in row {
        if !FIRST.contains(&name.as_str()) && !LEFT_OUT.contains(&name.as_str()) {
            add(name, value);
        }
    }
    text
}

/// A part of a row: nouns of the protocol as people write them.
fn part(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(false) => String::new(),
        Value::Bool(true) => "yes".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(part).collect();
            items.join(", ")
        }
        Value::Object(object) => noun(object),
    }
}

fn noun(object: &Map<String, Value>) -> String {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    if object.contains_key("own") {
        return place(object);
    }
    match (text("name"), text("text")) {
        (Some(name), Some(text)) => format!("{name}={text}"),
        (None, Some(text)) => text.to_owned(),
        _ => {
            let parts = object.iter().map(|(name, value)| format!("{name} {}", part(value)));
            parts.collect::<Vec<_>>().join(" ")
        }
    }
}

fn place(object: &Map<String, Value>) -> String {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let function = text("function").or(text("address")).unwrap_or("?");
    let file = text("file").map(|file| file.rsplit('/').next().unwrap_or(file));
    match (file, object.get("line")) {
        (Some(file), Some(line)) => format!("{function} at {file}:{line}"),
        _ => match text("module") {
            Some(module) => format!("{function} in {module}"),
            None => function.to_owned(),
        },
    }
}
