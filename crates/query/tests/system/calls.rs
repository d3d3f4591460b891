//! System calls.

use std::collections::BTreeMap;

use query::Engine;
use rr_trace::{EventKind, SyscallState, Trace};
use serde_json::{Value, json};

use crate::support::{Recording, ask_all, ask_with, text, tids};

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
    let Recording { db, .. } = &Recording::shared(name, 100_000);
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
    let built = Recording::shared("fork_pipe", 100_000);
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
        let built = Recording::shared(name, 1 << 22);
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
    let built = Recording::shared(name, 60_000);
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
    let built = Recording::shared(name, 60_000);
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
    let built = Recording::shared("use_after_free_n", 1 << 22);
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

/// The program's calls are there before the recorder's library makes a system call, and behind.
#[test]
fn stacks_around_system_calls() {
    let built = Recording::shared("fork_pipe", 1 << 22);
    let mut engine = Engine::new(&built.db);
    let writes = ask_all(&mut engine, "calls", json!({"task": 1, "name": "write"}));
    let own = writes.iter().find(|row| row["place"]["line"] == 52).unwrap();
    let start: u64 = text(&own["focus"], "moment").parse().unwrap();
    let (mut inside, mut behind) = (0, 0);
    for moment in start..start + 600 {
        let message = json!({"focus": {"moment": moment.to_string(), "task": 1}});
        let stack = ask_with(&mut engine, "stack", &message).rows;
        let module = stack[0]["place"]["module"].as_str().unwrap_or_default();
        // Stubs have no name.
        let functions: Vec<&str> =
            stack.iter().filter_map(|frame| frame["function"].as_str()).collect();
        if ["libc.so.6", "fork_pipe"].iter().any(|own| module.starts_with(own)) {
            assert!(functions.contains(&"main"), "{moment}: {functions:?}");
            behind += usize::from(inside > 0);
        } else {
            inside += 1;
        }
    }
    assert!(inside > 100 && behind > 10, "{inside} {behind}");
}

/// Whatever is asked for, each row is one, and an answer that had no time can be gone on with.
#[test]
fn calls_without_time() {
    let built = Recording::shared("fork_pipe", 60_000);
    let mut engine = Engine::new(&built.db);
    let whole = ask_all(&mut engine, "calls", json!({}));
    let mut message =
        json!({"focus": {"moment": "0"}, "window": {"before": 0, "after": 10_000}, "deadline": 0});
    let answered = ask_with(&mut engine, "calls", &message);
    assert_eq!((answered.rows.len(), &answered.end["end"]), (0, &json!("deadline")));
    // A little more each time.
    let mut rows: Vec<Value> = Vec::new();
    for deadline in (40..).step_by(20) {
        message["deadline"] = deadline.into();
        let answered = ask_with(&mut engine, "calls", &message);
        assert!(answered.rows.iter().all(Value::is_object), "{:?}", answered.rows);
        rows.extend(answered.rows);
        if answered.end["end"] == "complete" {
            break;
        }
        assert_eq!(answered.end["end"], "deadline");
        if let Some(cursor) = answered.end["after"].as_str() {
            message["cursor"] = cursor.into();
        }
    }
    assert_eq!(lines(&rows), lines(&whole));
}
