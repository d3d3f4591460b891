//! Answers against executing the same stretch one instruction at a time.

mod support;

use std::collections::BTreeMap;

use model::{Address, Moment, gpr};
use query::Engine;
use replay::{Options, Progress, Session};
use serde_json::{Value, json};
use support::{Recording, ask, moment, nothing};

/// The stretch of `heap_list_O0` from `main` on.
const FROM: u64 = 123_055;
const TO: u64 = 134_000;

/// What single steps saw.
#[derive(Default)]
struct Seen {
    /// By moment, in front of the instruction there.
    addresses: BTreeMap<u64, u64>,
    stack: BTreeMap<u64, u64>,
    /// Of each place: moments of instructions that changed it, with what was there before and
    /// behind.
    changes: Vec<Vec<(u64, u64, u64)>>,
}

fn step(recording: &Recording, places: &[u64]) -> Seen {
    let mut session = Session::open(&recording.db.trace, Options::default()).unwrap();
    while session.moment() < Moment(FROM) {
        session.advance(Some(Moment(FROM))).unwrap();
    }
    let mut seen = Seen { changes: vec![Vec::new(); places.len()], ..Seen::default() };
    let tid = session.current_task().unwrap();
    let word = |session: &Session, at: u64| {
        session.memory(tid).and_then(|memory| memory.read_u64(Address(at)).ok()).unwrap_or_default()
    };
    let mut before: Vec<u64> = places.iter().map(|at| word(&session, *at)).collect();
    while session.moment() < Moment(TO) {
        let at = session.moment();
        let registers = session.registers(tid).unwrap();
        seen.addresses.insert(at.0, registers.rip.0);
        seen.stack.insert(at.0, registers.general[gpr::RSP]);
        while session.moment() == at {
            assert_ne!(session.advance(Some(at + 1)).unwrap(), Progress::End);
        }
        for (index, place) in places.iter().enumerate() {
            let now = word(&session, *place);
            if now != before[index] {
                seen.changes[index].push((at.0, before[index], now));
                before[index] = now;
            }
        }
    }
    seen
}

fn within(row: &Value) -> bool {
    (FROM..TO).contains(&moment(&row["moment"]))
}

fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap();
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    }
}

/// Executions of all lines of the function that is executed at a moment, by their definition: a
/// stretch of the line in one call, begun anew by entry from another line or by a jump back. The
/// function does not call itself.
fn lines(engine: &mut Engine<'_>, seen: &Seen, inside: u64) {
    let focus = json!({"moment": inside.to_string(), "task": 1});
    let place = ask(engine, "state", focus.clone(), nothing()).complete()[0]["place"].clone();
    let code = ask(engine, "disassembly", focus, nothing()).complete();
    let line_of: BTreeMap<u64, u64> = code
        .iter()
        .filter_map(|row| Some((number(&row["address"]), row["line"].as_u64()?)))
        .collect();
    let (entry, _) = line_of.first_key_value().unwrap();
    let mut expected: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut last: Option<(u64, u64)> = None;
    for (at, address) in &seen.addresses {
        let Some(line) = line_of.get(address) else { continue };
        if address == entry {
            last = None;
        }
        if last.is_none_or(|(before, of)| of != *line || address <= &before) {
            expected.entry(*line).or_default().push(*at);
        }
        last = Some((*address, *line));
    }
    assert!(expected.len() > 3, "{place}");
    for (line, moments) in expected {
        let arguments = json!({"file": place["file"], "line": line});
        let rows = ask(engine, "executions", nothing(), arguments).complete();
        let mut told: Vec<u64> =
            rows.iter().filter(|row| within(row)).map(|row| moment(&row["moment"])).collect();
        told.sort_unstable();
        assert_eq!(told, moments, "line {line} of {place}");
    }
}

fn address_of(engine: &mut Engine<'_>, at: u64, expression: &str) -> u64 {
    let focus = json!({"moment": at.to_string(), "task": 1});
    let row = ask(engine, "evaluate", focus, json!({"expression": expression})).complete();
    number(&row[0]["address"])
}

#[test]
fn a_small_program() {
    let recording = Recording::shared("heap_list_O0", 3_000);
    // A global, a field on the heap, and a local that other calls use as well.
    let places = {
        let engine = &mut recording.engine();
        [
            address_of(engine, 134_627, "head"),
            address_of(engine, 134_627, "e->balance"),
            address_of(engine, 128_978, "i"),
        ]
    };
    // There is one machine a process: first the steps, then the questions.
    let seen = step(&recording, &places);
    let engine = &mut recording.engine();
    for (place, changes) in places.iter().zip(&seen.changes) {
        assert!(changes.len() > 1, "{place:#x}");
        let arguments = json!({"address": format!("{place:#x}"), "length": 8});
        let rows = ask(engine, "writes", json!({"moment": "128000"}), arguments).complete();
        let told: Vec<(u64, u64, u64)> = rows
            .iter()
            .filter(|row| row["by"] == "instruction" && within(row))
            .filter(|row| row["old"] != row["new"])
            .map(|row| (moment(&row["moment"]), number(&row["old"]), number(&row["new"])))
            .collect();
        let mut sorted = told.clone();
        sorted.sort_unstable();
        assert_eq!(&sorted, changes, "{place:#x}");
        // The last one before a moment, asked for alone.
        for at in [126_000, 128_978, 129_000, 133_999] {
            let window = json!({"before": 1, "after": 0});
            let focus = json!({"moment": at.to_string()});
            let arguments = json!({"address": format!("{place:#x}"), "length": 8});
            let message = json!({"focus": focus, "arguments": arguments, "window": window});
            let one = support::ask_with(engine, "writes", &message).rows;
            let all = rows.iter().map(|row| moment(&row["moment"])).filter(|write| *write < at);
            assert_eq!(one.first().map(|row| moment(&row["moment"])), all.max(), "{place:#x}");
        }
    }
    // Executions of addresses: of some that ran often, and of some that ran once.
    let mut counts: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (at, address) in &seen.addresses {
        counts.entry(*address).or_default().push(*at);
    }
    for (address, moments) in counts.iter().step_by(97) {
        let arguments = json!({"address": format!("{address:#x}")});
        let rows = ask(engine, "executions", nothing(), arguments).complete();
        let mut told: Vec<u64> =
            rows.iter().filter(|row| within(row)).map(|row| moment(&row["moment"])).collect();
        told.sort_unstable();
        assert_eq!(&told, moments, "{address:#x}");
    }
    for inside in [128_978, 127_000, 128_610] {
        lines(engine, &seen, inside);
    }
    // Registers and steps anywhere.
    for at in (FROM..TO - 1).step_by(211) {
        let focus = json!({"moment": at.to_string(), "task": 1});
        let rows = ask(engine, "registers", focus.clone(), nothing()).complete();
        let register = |name: &str| {
            let row = rows.iter().find(|row| row["name"] == name);
            number(&row.unwrap()["value"])
        };
        assert_eq!(register("rip"), seen.addresses[&at]);
        assert_eq!(register("rsp"), seen.stack[&at]);
        let next = ask(engine, "step", focus, json!({"kind": "instruction"})).complete();
        assert_eq!(moment(&next[0]["focus"]["moment"]), at + 1);
        assert_eq!(number(&next[0]["place"]["address"]), seen.addresses[&(at + 1)]);
    }
}
