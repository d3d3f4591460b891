//! Questions about what the program and the kernel had to do with each other, against what the
//! recordings themselves say, and against what the programs are known to do.

mod asking;

use std::collections::BTreeMap;

use asking::{Built, ask_all, ask_with, build, text};
use query::Engine;
use rr_trace::{EventKind, SyscallState, Trace};
use serde_json::{Value, json};

/// The result of a call as a register, from its text.
fn value(result: &str) -> Option<i64> {
    match result {
        "?" => None,
        hexadecimal if hexadecimal.starts_with("0x") => {
            Some(u64::from_str_radix(&hexadecimal[2..], 16).unwrap() as i64)
        }
        other => other.parse().ok(),
    }
}

/// Calls that have events: task's number, number of the call, result.
fn with_events(trace: &Trace) -> Vec<(i32, i32, Option<i64>)> {
    let recorder = trace.header().rrcall_base;
    let mut calls: Vec<(i32, i32, Option<i64>)> = Vec::new();
    let mut open: BTreeMap<i32, usize> = BTreeMap::new();
    let mut started = false;
    for frame in trace.frames().unwrap() {
        let frame = frame.unwrap();
        let EventKind::Syscall(call) = &frame.kind else { continue };
        let registers = *frame.registers.as_ref().unwrap().x8664().unwrap();
        let result = registers.general[model::gpr::RAX] as i64;
        let tid = frame.tid.0;
        if !started {
            started = call.number == 59 && call.state == SyscallState::Exiting && result == 0;
            continue;
        }
        match call.state {
            SyscallState::Exiting => {
                if let Some(index) = open.remove(&tid) {
                    calls[index].2 = Some(result);
                }
            }
            // The library's own stubs.
            _ if [0x7000_0005, 0x7000_0017].contains(&registers.rip.0) => {}
            _ if call.number >= recorder => {}
            _ => {
                open.insert(tid, calls.len());
                calls.push((tid, call.number, None));
            }
        }
    }
    calls
}

/// Calls whose results are in buffers, by task.
fn buffered(trace: &Trace) -> BTreeMap<i32, Vec<(i32, i64)>> {
    let mut calls: BTreeMap<i32, Vec<(i32, i64)>> = BTreeMap::new();
    let mut data = trace.data().unwrap();
    for frame in trace.frames().unwrap() {
        let frame = frame.unwrap();
        let mut writes = frame.writes.iter();
        if matches!(frame.kind, EventKind::SyscallbufFlush { .. })
            && let Some(write) = writes.next()
        {
            let dump = data.read_to_vec(write, 1 << 26).unwrap();
            let mut at = trace.header().syscallbuf_header_size as usize;
            while at + 16 <= dump.len() {
                let record = &dump[at..];
                let result = i64::from_le_bytes(record[..8].try_into().unwrap());
                let number = u16::from_le_bytes(record[8..10].try_into().unwrap());
                let size = u32::from_le_bytes(record[12..16].try_into().unwrap());
                // The library itself asks by readlinkat(2) what the program has opened, and by
                // lseek(2) where a large read is, which pipes do not know.
                if number != 267 && (number, result) != (8, -29) {
                    calls.entry(frame.tid.0).or_default().push((number.into(), result));
                }
                at += (size as usize).next_multiple_of(8);
            }
        }
        for write in writes {
            data.skip(write).unwrap();
        }
    }
    calls
}

/// Numbers of tasks as rows have them, by tid: no tid recurs in these recordings.
fn tids(engine: &mut Engine<'_>) -> BTreeMap<u64, i32> {
    let rows = ask_all(engine, "tasks", json!({}));
    let mut tids = BTreeMap::new();
    for row in rows {
        let tid = row["tid"].as_i64().unwrap() as i32;
        assert!(tids.insert(row["task"].as_u64().unwrap(), tid).is_none());
    }
    tids
}

/// Whether a row's result is what the register said.
fn agrees(row: &Value, result: Option<i64>) -> bool {
    let told = text(row, "result");
    match result {
        None => told == "?",
        Some(result @ -4095..0) => {
            let restart = [-512, -513, -514, -516].contains(&result);
            told.starts_with(if restart { "? ERESTART" } else { "-1 E" })
        }
        // F_GETFL and umask tell more than a number.
        Some(_) if text(row, "name") == "fcntl" => !told.starts_with('-'),
        Some(result) => value(told) == Some(result),
    }
}

fn check_against_recording(name: &str) {
    let Built { db, .. } = &build(name, 100_000);
    let mut engine = Engine::new(db);
    let tids = tids(&mut engine);
    let rows = ask_all(&mut engine, "calls", json!({}));
    let (of_buffer, of_events): (Vec<&Value>, Vec<&Value>) =
        rows.iter().partition(|row| row["buffered"] == true);

    let expected = with_events(&db.trace);
    assert!(expected.len() > 10, "{name}");
    assert_eq!(of_events.len(), expected.len(), "{name}: calls with events");
    for (row, (tid, number, result)) in of_events.iter().zip(&expected) {
        assert_eq!(tids[&row["task"].as_u64().unwrap()], *tid, "{name}: {row}");
        assert!(names_call(row, *number) && agrees(row, *result), "{name}: {row}, {result:?}");
    }

    let expected = buffered(&db.trace);
    let mut found: BTreeMap<i32, Vec<&Value>> = BTreeMap::new();
    for row in of_buffer {
        found.entry(tids[&row["task"].as_u64().unwrap()]).or_default().push(row);
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
    for (tid, expected) in &expected {
        let all = &found[tid];
        assert_eq!(all.len(), expected.len(), "{name}, {tid}: {all:#?}\n{expected:?}");
        for (row, (number, result)) in found[tid].iter().zip(expected) {
            let same = names_call(row, *number) && agrees(row, Some(*result));
            assert!(same, "{name}: {row}, {number}, {result}");
        }
    }
    let moments: Vec<u64> = rows.iter().map(|row| text(row, "moment").parse().unwrap()).collect();
    assert!(moments.is_sorted(), "{name}");
}

/// Numbers that the recordings have.
fn names_call(row: &Value, number: i32) -> bool {
    let known = [
        (0, "read"),
        (1, "write"),
        (2, "open"),
        (3, "close"),
        (4, "stat"),
        (5, "fstat"),
        (8, "lseek"),
        (9, "mmap"),
        (10, "mprotect"),
        (11, "munmap"),
        (12, "brk"),
        (13, "rt_sigaction"),
        (14, "rt_sigprocmask"),
        (15, "rt_sigreturn"),
        (16, "ioctl"),
        (17, "pread64"),
        (20, "writev"),
        (21, "access"),
        (22, "pipe"),
        (24, "sched_yield"),
        (25, "mremap"),
        (28, "madvise"),
        (33, "dup2"),
        (35, "nanosleep"),
        (38, "setitimer"),
        (39, "getpid"),
        (56, "clone"),
        (59, "execve"),
        (60, "exit"),
        (61, "wait4"),
        (72, "fcntl"),
        (87, "unlink"),
        (89, "readlink"),
        (96, "gettimeofday"),
        (131, "sigaltstack"),
        (129, "rt_sigqueueinfo"),
        (102, "getuid"),
        (157, "prctl"),
        (158, "arch_prctl"),
        (186, "gettid"),
        (200, "tkill"),
        (202, "futex"),
        (204, "sched_getaffinity"),
        (218, "set_tid_address"),
        (219, "restart_syscall"),
        (221, "fadvise64"),
        (228, "clock_gettime"),
        (230, "clock_nanosleep"),
        (231, "exit_group"),
        (234, "tgkill"),
        (257, "openat"),
        (262, "newfstatat"),
        (273, "set_robust_list"),
        (302, "prlimit64"),
        (318, "getrandom"),
        (334, "rseq"),
        (435, "clone3"),
        (293, "pipe2"),
        (7, "poll"),
    ];
    known.contains(&(number, text(row, "name")))
}

#[test]
fn calls_are_those_of_the_recording() {
    check_against_recording("fork_pipe");
}

#[test]
fn calls_of_many_threads() {
    check_against_recording("threads_slices");
}

#[test]
fn calls_without_the_syscall_buffer() {
    check_against_recording("use_after_free_n");
}

#[test]
fn calls_that_signals_interrupt() {
    check_against_recording("signals");
}

/// A row as strace would have it.
fn line(row: &Value) -> String {
    let [name, arguments, result] = ["name", "arguments", "result"].map(|field| text(row, field));
    format!("{name}({arguments}) = {result}")
}

fn lines(rows: &[Value]) -> Vec<String> {
    rows.iter().map(line).collect()
}

/// The rows whose place is in the program's own code.
fn own(rows: Vec<Value>) -> Vec<Value> {
    rows.into_iter().filter(|row| row["place"]["own"] == true).collect()
}

/// What the source says that the children do, and what the parent sees of it.
#[test]
fn calls_of_known_children() {
    let built = build("fork_pipe", 100_000);
    let mut engine = Engine::new(&built.db);
    let mut of = |arguments| own(ask_all(&mut engine, "calls", arguments));
    assert_eq!(
        lines(&of(json!({"task": 2}))),
        [r#"write(4, "child sees 99", 13) = 13"#, "exit_group(7) = ?",]
    );
    assert_eq!(
        lines(&of(json!({"task": 3})))[..6],
        [
            "dup2(5, 0) = 0",
            "dup2(8, 1) = 1",
            "close(5) = 0",
            "close(6) = 0",
            "close(7) = 0",
            "close(8) = 0",
        ]
    );
    let exec = lines(&of(json!({"task": 3, "name": "execve"})));
    assert!(exec[0].starts_with(r#"execve("/bin/cat", ["cat"], 0x"#), "{exec:?}");
    let waited = lines(&of(json!({"name": "wait4"})));
    assert!(
        waited[0].contains("[{WIFEXITED(s) && WEXITSTATUS(s) == 7}], 0, NULL) ="),
        "{waited:?}"
    );
    let opened = of(json!({"task": 1, "name": "openat"}));
    let last = opened.last().unwrap();
    assert_eq!(line(last), r#"openat(AT_FDCWD, "/nonexistent/file", O_RDONLY) = -1 ENOENT"#);
    assert_eq!((text(&last["place"], "function"), &last["place"]["line"]), ("main", &json!(76)));
    assert_eq!(last["buffered"], true);
    // The file's descriptor, the pipe's before, and those of libraries before that.
    let five = lines(&of(json!({"task": 1, "descriptor": 5})));
    let whole = [
        "pipe2([5, 6], 0) = 0",
        "close(5) = 0",
        r#"write(5, "one\ntwo\nthree\n", 14) = 14"#,
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE, 5, 0) = 0x",
        "lseek(5, 0, SEEK_SET) = 0",
        r#"read(5, "one", 3) = 3"#,
        "close(5) = 0",
    ];
    let five: Vec<&String> = five.iter().filter(|line| !line.starts_with("openat")).collect();
    assert_eq!(five.len(), whole.len(), "{five:?}");
    assert!(five.iter().zip(whole).all(|(line, start)| line.starts_with(start)), "{five:?}");
}

/// A program does the same with the buffer and without.
#[test]
fn buffered_calls_read_like_others() {
    let written = |name: &str| {
        let built = build(name, 1 << 22);
        let mut engine = Engine::new(&built.db);
        let rows = ask_all(&mut engine, "calls", json!({"name": "write"}));
        (rows.iter().any(|row| row["buffered"] == true), lines(&rows))
    };
    let (_, buffered) = written("heap_list_O0");
    let (any, plain) = written("heap_list_O2_n");
    assert!(!any, "it has no buffer");
    assert_eq!(buffered, plain);
}

/// Pages of any size, to both sides of any place, are the whole answer cut up.
fn check_windows(name: &str, question: &str, middles: &[u64], sizes: [usize; 2]) {
    let built = build(name, 60_000);
    let mut engine = Engine::new(&built.db);
    let whole = ask_all(&mut engine, question, json!({}));
    let moment = |row: &Value| text(row, "moment").parse::<u64>().unwrap();
    // Which side it is on depends on who asks.
    let bare = |row: &Value| {
        let mut row = row.clone();
        row.as_object_mut().unwrap().remove("side");
        row
    };
    for middle in middles {
        let split = whole.partition_point(|row| moment(row) < *middle);
        for (side, size) in ["before", "after"].iter().flat_map(|side| sizes.map(|n| (*side, n))) {
            let other = if side == "before" { "after" } else { "before" };
            let mut message = json!({
                "focus": {"moment": middle.to_string()}, "deadline": 600_000,
                "window": {side: size, other: 0},
            });
            let mut rows: Vec<Value> = Vec::new();
            loop {
                let answered = ask_with(&mut engine, question, &message);
                assert!(answered.rows.len() <= size);
                let of_side = answered.rows.iter().all(|row| row["side"] == side);
                assert!(of_side, "{:?}", answered.rows);
                rows.extend(answered.rows);
                match answered.end[side].as_str() {
                    Some(cursor) => message["cursor"] = cursor.into(),
                    None => break,
                }
            }
            let expected: Vec<Value> = match side {
                "before" => whole[..split].iter().rev().map(bare).collect(),
                _ => whole[split..].iter().map(bare).collect(),
            };
            let rows: Vec<Value> = rows.iter().map(bare).collect();
            assert_eq!(rows, expected, "{size} {side} {middle}");
        }
    }
}

/// A side that is full does not end the other.
fn check_both_sides(name: &str, question: &str, middle: u64, [before, after]: [usize; 2]) {
    let built = build(name, 60_000);
    let mut engine = Engine::new(&built.db);
    let message = json!({
        "focus": {"moment": middle.to_string()}, "deadline": 600_000,
        "window": {"before": before, "after": after},
    });
    let answered = ask_with(&mut engine, question, &message);
    let of = |side: &str| answered.rows.iter().filter(|row| row["side"] == side).count();
    assert_eq!([of("before"), of("after")], [before, after], "{question}");
    assert_eq!(answered.end["end"], "rows");
}

#[test]
fn windows_to_both_sides() {
    check_both_sides("signals", "signals", 400_000, [5, 1]);
    check_both_sides("signals", "signals", 400_000, [1, 5]);
    check_both_sides("fork_pipe", "calls", 144_330, [40, 3]);
    check_both_sides("fork_pipe", "calls", 144_330, [3, 40]);
}

#[test]
fn windows_of_calls() {
    check_windows("fork_pipe", "calls", &[0, 27_321, 144_330, 321_012], [7, 65]);
}

#[test]
fn windows_of_signals() {
    check_windows("signals", "signals", &[0, 400_000, 473_603], [1, 5]);
}

#[test]
fn calls_that_nobody_knows() {
    let built = build("use_after_free_n", 1 << 22);
    let mut engine = Engine::new(&built.db);
    let mut code = |arguments: Value| {
        let answered = ask_with(&mut engine, "calls", &json!({"arguments": arguments}));
        answered.end["error"]["code"].as_str().map(str::to_owned)
    };
    assert_eq!(code(json!({"name": "opne"})).as_deref(), Some("no-such-name"));
    assert_eq!(code(json!({"task": 2})).as_deref(), Some("no-such-task"));
    assert_eq!(code(json!({"task": 0})).as_deref(), Some("no-such-task"));
    assert_eq!(code(json!({"descriptor": "x"})).as_deref(), Some("bad-request"));
    assert_eq!(code(json!({"name": "read"})), None);
}

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
        let built = build(name, 100_000);
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
    let built = build("signals", 100_000);
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

    let built = build("fork_pipe", 1 << 22);
    let mut engine = Engine::new(&built.db);
    let rows = ask_all(&mut engine, "signals", json!({}));
    let texts: Vec<&str> = rows.iter().map(|row| text(row, "text")).collect();
    assert!(texts[0].starts_with("task 2 ") && texts[0].contains("exited with 7 (CLD_EXITED)"));
    assert!(texts[1].starts_with("task 3 ") && texts[1].contains("exited with 0"), "{texts:?}");
    assert!(rows.iter().all(|row| text(row, "disposition") == "ignored"), "{rows:#?}");
}

/// One row as text: descriptor, kind, path, how, bytes.
fn life(row: &Value) -> String {
    let path = row["path"].as_str().unwrap_or("-");
    let mode = row["mode"].as_str().unwrap_or("-");
    let [kind, by, read, written] = ["kind", "by", "read", "written"].map(|field| text(row, field));
    format!("{} {kind} {mode} {path} {by} {read} {written}", row["descriptor"])
}

#[test]
fn descriptors_of_known_children() {
    let built = build("fork_pipe", 60_000);
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

/// Callers of a function as (name, count).
fn callers(engine: &mut Engine<'_>, function: &str) -> Vec<(String, u64)> {
    let rows = ask_all(engine, "callers", json!({"function": function}));
    let pair =
        |row: &Value| (text(row, "function").to_owned(), text(row, "count").parse().unwrap());
    rows.iter().map(pair).collect()
}

/// What the stack says at each call.
fn callers_by_stacks(engine: &mut Engine<'_>, function: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for call in ask_all(engine, "executions", json!({"function": function})) {
        let focus = json!({"focus": call["focus"]});
        let stack = ask_with(engine, "stack", &focus).rows;
        // It may be inlined, or have something inlined at its beginning, or another name.
        let named = stack.iter().position(|frame| text(frame, "function") == function);
        let outer = || stack.iter().position(|frame| frame["kind"] != "inlined");
        let own = named.or_else(outer).unwrap();
        *found.entry(text(&stack[own + 1], "function").to_owned()).or_default() += 1;
    }
    found
}

#[test]
fn callers_are_those_of_all_stacks() {
    for (name, segment, functions) in [
        ("heap_list_O0", 20_000, &["add", "find", "sum", "calloc", "strlen"][..]),
        ("struct_copy_O0", 1 << 22, &["memcpy", "malloc"]),
    ] {
        let built = build(name, segment);
        let mut engine = Engine::new(&built.db);
        for function in functions {
            let expected = callers_by_stacks(&mut engine, function);
            let mut found: BTreeMap<String, u64> = BTreeMap::new();
            for (caller, count) in callers(&mut engine, function) {
                *found.entry(caller).or_default() += count;
            }
            assert!(
                !expected.is_empty() && found == expected,
                "{function}: {found:?} {expected:?}"
            );
        }
        drop(engine);
    }
}

#[test]
fn callers_of_known_functions() {
    let built = build("heap_list_O0", 1 << 22);
    let mut engine = Engine::new(&built.db);
    let main = |count| vec![("main".to_owned(), count)];
    assert_eq!(callers(&mut engine, "add"), main(8));
    assert_eq!(callers(&mut engine, "find"), main(4));
    assert_eq!(callers(&mut engine, "set_note"), main(3));
    let answered = ask_with(&mut engine, "callers", &json!({"arguments": {"function": "fnid"}}));
    assert_eq!(answered.end["error"]["code"], "no-such-name");
    drop(engine);

    let built = build("recursion_O2", 20_000);
    let mut engine = Engine::new(&built.db);
    // The compiler has made a loop of its recursion.
    assert_eq!(callers(&mut engine, "dig"), main(1));
    // The compiler has inlined some of its calls of itself.
    let ackermann = callers(&mut engine, "ackermann");
    let executions = ask_all(&mut engine, "executions", json!({"function": "ackermann"}));
    let sum: u64 = ackermann.iter().map(|(_, count)| count).sum();
    assert_eq!(sum, executions.len() as u64);
    assert_eq!(ackermann.last(), Some(&("main".to_owned(), 1)));
    assert!(ackermann[..ackermann.len() - 1].iter().all(|(name, _)| name == "ackermann"));
    // Inlined ones are found where `executions` finds them.
    for (function, caller) in [("descending", "insertion_sort"), ("apply", "main")] {
        let rows = ask_all(&mut engine, "callers", json!({"function": function}));
        let executions = ask_all(&mut engine, "executions", json!({"function": function}));
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!((text(&rows[0], "function"), &rows[0]["inlined"]), (caller, &json!(true)));
        assert_eq!(text(&rows[0], "count"), executions.len().to_string(), "{function}");
    }
}
