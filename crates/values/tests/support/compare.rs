//! Compares our trees with what gdb told.

use serde_json::Value as Json;
use values::{Badge, Lives, Options, Value, ValueKind};

use super::Stop;

/// What was compared.
#[derive(Debug, Default)]
pub struct Tally {
    pub leaves: usize,
    pub containers: usize,
    pub out: usize,
}

fn unquoted(text: &str) -> String {
    let inside = text.trim_end_matches('…').trim_matches('"');
    let mut plain = String::new();
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        let escaped = match c {
            '\\' => chars.next().unwrap(),
            c => {
                plain.push(c);
                continue;
            }
        };
        plain.push(match escaped {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '0' => '\0',
            'x' => {
                let digits: String = chars.by_ref().take(2).collect();
                char::from(u8::from_str_radix(&digits, 16).unwrap())
            }
            other => other,
        });
    }
    plain
}

/// Compares a value and all below it; values are unfolded by their expressions.
pub fn compare(stop: &Stop, what: &str, value: &Value, told: &Json, tally: &mut Tally) {
    compare_as(stop, what, value, told, tally, false);
}

fn compare_as(stop: &Stop, what: &str, value: &Value, told: &Json, tally: &mut Tally, raw: bool) {
    let text = &value.text;
    let told_value = told["value"].as_str().unwrap_or_default();
    match told["kind"].as_str().unwrap() {
        "int" => {
            let ours = text.split(' ').next().unwrap();
            // Rust's and C++'s characters are shown as such.
            let ours = match value.kind {
                ValueKind::Boolean => if ours == "true" { "1" } else { "0" }.to_owned(),
                _ => ours.to_owned(),
            };
            assert_eq!(ours, told_value, "{what}: {value:?}");
        }
        "bool" => assert_eq!(text, told_value, "{what}: {value:?}"),
        "float" => {
            let ours: f64 = text.parse().unwrap_or_else(|_| panic!("{what}: {value:?}"));
            let theirs: f64 = told_value.parse().unwrap();
            let same = ours == theirs || (ours - theirs).abs() <= theirs.abs() * 1e-7;
            assert!(same, "{what}: {value:?}, gdb {told}");
        }
        "pointer" => {
            let number: u64 = told_value.parse().unwrap();
            let ours = text.split(' ').next().unwrap();
            assert_eq!(ours, format!("{number:#x}"), "{what}: {value:?}");
        }
        "enum" => {
            let last = |name: &str| {
                let name = name.trim_matches(|c| c == '(' || c == ')');
                let parts = name.split(" | ").map(|part| part.rsplit("::").next().unwrap());
                parts.map(str::to_owned).collect::<Vec<_>>().join(" | ")
            };
            assert_eq!(last(text), last(told_value), "{what}: {value:?}");
        }
        "text" => {
            let theirs = told["text"].as_str().unwrap();
            let cut = value.badges.contains(&Badge::Cut);
            let ours = unquoted(text);
            let same = if cut { theirs.starts_with(&ours) } else { theirs == ours };
            assert!(same, "{what}: {value:?}, gdb {told}");
        }
        "optimised out" => {
            // For gdb a value is not there if a part of it is not, such as a padding.
            let nowhere = |place: &Lives| matches!(place, Lives::Nowhere { .. });
            let in_part = value.lives.len() > 1 && value.lives.iter().any(nowhere);
            assert!(text.contains("<optimised out>") || in_part, "{what}: {value:?}");
            tally.out += 1;
        }
        "parts" | "printed" => {
            // Where gdb has no printer, without ours.
            let plain = told["kind"] == "parts" && value.kind != ValueKind::Structure;
            let arrays = [ValueKind::Sequence, ValueKind::Text].contains(&value.kind)
                && told["children"][0][0].as_str().is_none_or(|name| name.starts_with('['));
            return compare_children(stop, what, value, told, tally, raw || plain && !arrays);
        }
        "unreadable" => assert!(text.contains("<unreadable"), "{what}: {value:?}"),
        _ => return,
    }
    tally.leaves += 1;
}

fn compare_children(
    stop: &Stop,
    what: &str,
    value: &Value,
    told: &Json,
    tally: &mut Tally,
    raw: bool,
) {
    let theirs = told["children"].as_array().unwrap();
    let hint = told["hint"].as_str().unwrap_or_default();
    let options =
        Options { depth: 1, children_max: 40, text_max: 10_000, raw, ..Options::default() };
    let unfolded = stop.show(&value.expression, &options);
    let unfolded = unfolded.unwrap_or_else(|error| panic!("{what}: {value:?}: {error}"));
    let ours: Vec<Value> =
        unfolded.unfolded.into_iter().filter(|v| !v.name.starts_with("static ")).collect();
    let ours: Vec<Value> = ours.into_iter().filter(|v| !v.name.starts_with("_vptr")).collect();
    tally.containers += 1;
    // What we show as one value in place of another.
    if let [child] = &theirs[..]
        && ["[contained value]", "get()"].contains(&child[0].as_str().unwrap())
    {
        return compare(stop, what, value, &child[1], tally);
    }
    if hint == "map" {
        // gdb has keys and values in turn.
        assert_eq!(ours.len(), theirs.len() / 2, "{what}: {ours:?}, gdb {told}");
        for (ours, pair) in ours.iter().zip(theirs.chunks(2)) {
            let what = format!("{what}{}", ours.name);
            if pair[0][1]["kind"] == "text" {
                let key = unquoted(ours.name.trim_start_matches('[').trim_end_matches(']'));
                assert_eq!(key, pair[0][1]["text"].as_str().unwrap(), "{what}");
            } else if pair[0][1]["kind"] == "int" {
                let key = ours.name.trim_start_matches('[').trim_end_matches(']');
                assert_eq!(key, pair[0][1]["value"].as_str().unwrap(), "{what}");
            }
            compare(stop, &what, ours, &pair[1][1], tally);
        }
        return;
    }
    let theirs = flat(theirs);
    assert_eq!(ours.len(), theirs.len(), "{what}: {ours:#?}, gdb {told}");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        compare_as(stop, &format!("{what}.{}", ours.name), ours, &theirs[1], tally, raw);
    }
}

/// Parts without a name are seen through.
fn flat(children: &[Json]) -> Vec<Json> {
    let mut all = Vec::new();
    for child in children {
        if child[0] == "" && child[1]["kind"] == "parts" {
            all.extend(flat(child[1]["children"].as_array().unwrap()));
        } else {
            all.push(child.clone());
        }
    }
    all
}

/// Compares all variables that gdb told with ours.
pub fn compare_variables(stop: &Stop, what: &str, tally: &mut Tally) {
    let locals = stop.values.variables(stop, &Options::default()).unwrap();
    let mut used = std::collections::BTreeMap::<&str, usize>::new();
    for (name, told) in &stop.variables {
        let number = used.entry(name).or_default();
        let local = locals.iter().filter(|l| l.variable.name == *name).nth(*number);
        *number += 1;
        let Some(local) = local else { panic!("{what}: no {name}") };
        // gdb shows the bits that are set, and the element as a text.
        if name == "bitset" || name == "iterator" {
            continue;
        }
        compare(stop, &format!("{what} {name}"), &local.value, told, tally);
    }
    assert!(!locals.is_empty(), "{what}: no variables");
}
