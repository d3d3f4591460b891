//! Signals.

use query::Engine;
use rr_trace::{EventKind, Trace};
use serde_json::{Value, json};

use crate::support::{Recording, ask_all, ask_with, text, tids};

/// Signals that the recording delivers: tid, number, and address of a fault.
fn delivered(trace: &Trace) -> Vec<(i32, i32, Option<u64>)> {
    let mut signals = Vec::new();
    for frame in trace.frames().unwrap() {
        let frame = frame.unwrap();
        if let EventKind::SignalDelivery(signal) | EventKind::SignalHandler(signal) = &frame.kind {
            let address = u64::from_le_bytes(signal.siginfo[16..24].try_into().unwrap());
            let fault = signal.deterministic && signal.code() > 0 && signal.code() != 0x80;
            signals.push((frame.tid.0, signal.number(), fault.then_some(address)));
        }
    }
    signals
}

#[test]
fn signals_are_those_of_the_recording() {
    for name in ["signals", "crash", "fork_pipe", "selfmod"] {
        let built = Recording::shared(name, 100_000);
        let mut engine = Engine::new(&built.db);
        let tids = tids(&mut engine);
        let rows = ask_all(&mut engine, "signals", json!({}));
        let expected = delivered(&built.db.trace);
        assert!(!expected.is_empty(), "{name}");
        assert_eq!(rows.len(), expected.len(), "{name}");
        for (row, (tid, number, fault)) in rows.iter().zip(expected) {
            assert_eq!(tids[&row["task"].as_u64().unwrap()], tid, "{name}: {row}");
            let names = [
                (11, "SIGSEGV"),
                (10, "SIGUSR1"),
                (12, "SIGUSR2"),
                (14, "SIGALRM"),
                (17, "SIGCHLD"),
            ];
            assert!(names.contains(&(number, text(row, "name"))), "{name}: {row}, {number}");
            let fault = fault.map(|address| format!("{address:#x}"));
            assert_eq!(row["address"].as_str().map(str::to_owned), fault, "{name}: {row}");
        }
        drop(engine);
    }
}

#[test]
fn signals_of_known_programs() {
    let built = Recording::shared("signals", 100_000);
    let mut engine = Engine::new(&built.db);
    let rows = ask_all(&mut engine, "signals", json!({}));
    let told = |name: &str| -> Vec<&Value> {
        rows.iter().filter(|row| text(row, "name") == name).collect()
    };
    let alarms = told("SIGALRM");
    assert!(alarms.len() >= 8, "{rows:#?}");
    for alarm in alarms {
        assert_eq!(text(alarm, "disposition"), "handled by on_alarm");
        assert_eq!(text(&alarm["place"], "function"), "main", "it came while main computed");
    }
    let [usr2] = told("SIGUSR2")[..] else { panic!("{rows:#?}") };
    assert!(text(usr2, "text").contains("sent by task 1 "), "{usr2}");
    assert!(text(usr2, "text").contains("with the value 4711 (SI_QUEUE)"), "{usr2}");
    assert_eq!(text(usr2, "disposition"), "handled by on_usr2");
    let [usr1] = told("SIGUSR1")[..] else { panic!("{rows:#?}") };
    assert_eq!(
        (text(usr1, "disposition"), &usr1["place"]["line"]),
        ("handled by on_usr1", &json!(70))
    );
    let faults = told("SIGSEGV");
    let addresses: Vec<&str> = faults.iter().map(|fault| text(fault, "address")).collect();
    assert_eq!(addresses, ["0x0", "0x8", "0x10"]);
    for fault in faults {
        assert_eq!(text(fault, "disposition"), "handled by on_segv");
        assert_eq!(fault["place"]["line"], 74);
    }
    drop(engine);

    let built = Recording::shared("fork_pipe", 1 << 22);
    let mut engine = Engine::new(&built.db);
    let rows = ask_all(&mut engine, "signals", json!({}));
    let texts: Vec<&str> = rows.iter().map(|row| text(row, "text")).collect();
    assert!(texts[0].starts_with("task 2 ") && texts[0].contains("exited with 7 (CLD_EXITED)"));
    assert!(texts[1].starts_with("task 3 ") && texts[1].contains("exited with 0"), "{texts:?}");
    assert!(rows.iter().all(|row| text(row, "disposition") == "ignored"), "{rows:#?}");
}

/// A handler's frame lies over what it interrupted, wherever that was.
#[test]
fn stacks_of_handlers() {
    let built = Recording::shared("signals", 100_000);
    let mut engine = Engine::new(&built.db);
    let mut looked = 0;
    for row in ask_all(&mut engine, "signals", json!({})) {
        let (name, handler) = match text(&row, "name") {
            "SIGALRM" => ("SIGALRM", "on_alarm"),
            "SIGSEGV" => ("SIGSEGV", "on_segv"),
            // They come in front of what the recorder's library does.
            _ => continue,
        };
        let moment: u64 = text(&row, "moment").parse().unwrap();
        let mut stack = |moment: u64| {
            let message = json!({"focus": {"moment": moment.to_string(), "task": 1}});
            ask_with(&mut engine, "stack", &message).rows
        };
        let functions = |stack: &[Value]| -> Vec<String> {
            stack.iter().map(|frame| text(frame, "function").to_owned()).collect()
        };
        let (before, inside) = (stack(moment), stack(moment + 2));
        let around = ["main", "__libc_start_call_main", "__libc_start_main_impl", "_start"];
        assert_eq!(functions(&before), around, "in front of {name}");
        assert_eq!(functions(&inside)[1..], around, "in {handler}");
        assert_eq!((text(&inside[0], "function"), text(&inside[0], "kind")), (handler, "signal"));
        assert_eq!(inside[1]["place"], before[0]["place"], "what was interrupted");
        looked += 1;
    }
    assert!(looked >= 11, "{looked}");

    // As soon as a handler has been left by a jump, its frames are gone.
    let around = ["main", "__libc_start_call_main", "__libc_start_main_impl", "_start"];
    let loops = ask_all(&mut engine, "executions", json!({"file": "signals.c", "line": 73}));
    assert!(loops.len() >= 4, "{loops:#?}");
    for row in loops {
        let stack = ask_with(&mut engine, "stack", &json!({"focus": {"moment": row["moment"]}}));
        let functions: Vec<&str> = stack.rows.iter().map(|frame| text(frame, "function")).collect();
        assert_eq!(functions, around, "{row:#?}");
    }

    // Behind a jump out of a handler, the loop goes on in main's own frame: at the latest when
    // it has called something.
    let arguments = json!({"file": "signals.c", "line": 74});
    let rows = ask_all(&mut engine, "executions", arguments);
    assert!(rows.len() >= 3, "{rows:#?}");
    let main = ask_all(&mut engine, "executions", json!({"function": "main"}));
    for row in rows {
        assert_eq!(text(&row, "frame"), text(&main[0], "frame"), "{row:#?}");
    }
}
