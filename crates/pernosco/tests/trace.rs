//! `pernosco trace` as users call it, over genuine recordings.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The directory of a recording of the test corpus.
fn recording(name: &str) -> PathBuf {
    let root = match std::env::var_os("PERNOSCO_TRACES") {
        Some(directory) => directory.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces"),
    };
    let path = root.join(name).join("trace");
    assert!(path.exists(), "no {}: set PERNOSCO_TRACES to the recordings", path.display());
    path
}

/// `pernosco trace ARGUMENTS`, knowing nothing of the user's recordings.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pernosco"));
    command.arg("trace").args(arguments).env_remove("_RR_TRACE_DIR").env_remove("XDG_DATA_HOME");
    command.env("HOME", "/nonexistent");
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn stdout(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn json_lines(subcommand: &str, name: &str) -> Vec<Value> {
    let text = stdout(run(&[subcommand, "--json", recording(name).to_str().unwrap()]));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn info() {
    let path = recording("signals");
    let text = stdout(run(&["info", path.to_str().unwrap()]));
    for line in [
        "program              ./signals\n",
        "ended with           exit 0\n",
        "trace version        85 (compatibility 3)\n",
        "                             13 signal handler\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains("events               218 in "), "{text}");
    assert!(text.contains("recorded on          AuthenticAMD family 25 model 17"), "{text}");
    let quick = stdout(run(&["info", "--no-count", path.to_str().unwrap()]));
    assert!(!quick.contains("events               218"));

    let info = json_lines("info", "signals");
    assert_eq!(info.len(), 1);
    assert_eq!(info[0]["events"], 218);
    assert_eq!(info[0]["event_kinds"]["signal"], 13);
    assert_eq!(info[0]["xcr0"], "0xe7");
    assert_eq!(info[0]["quirks"]["uses_globals_in_replay"], true);
    assert!(info[0]["missing_features"].is_array());
}

#[test]
fn events_have_the_names_that_rr_gives_them() {
    for name in ["signals", "fork_pipe", "threads_slices"] {
        let oracle = recording(name).join("../oracle/events.jsonl.gz");
        let oracle = Command::new("gzip").arg("-dc").arg(oracle).output().unwrap();
        let oracle = String::from_utf8(oracle.stdout).unwrap();
        let events = json_lines("events", name);
        assert_eq!(oracle.lines().count(), events.len());
        for (line, event) in oracle.lines().zip(&events) {
            let told: Value = serde_json::from_str(line).unwrap();
            for field in ["event", "tid", "ticks"] {
                assert_eq!(told[field], event[field]);
            }
            let told_type = told["type"].as_str().unwrap();
            let (_, detail) = told_type.split_once(": ").unwrap_or((told_type, ""));
            if let Some(syscall) = event["syscall"].as_str() {
                // rr has its own idea of this one.
                assert_eq!(syscall.replace("newfstatat", "fstatat"), detail);
            }
            if let Some(signal) = event["signal"].as_str() {
                assert!(detail.starts_with(signal), "{detail}");
            }
            for (register, value) in told["regs"].as_object().unwrap() {
                if !register.starts_with("st") && !register.starts_with("ymm") {
                    assert_eq!(&event["registers"][register], value);
                }
            }
        }
    }
}

#[test]
fn events_as_text() {
    let path = recording("signals");
    let path = path.to_str().unwrap();
    let text = stdout(run(&["events", path, "--from", "126", "--to", "127"]));
    let expected = "     \
     event      tid          ticks  what
       126     3894          29461  signal SIGALRM, asynchronous, handled
       127     3894          29461  signal handler SIGALRM, asynchronous, handled; 3.6 KiB of memory
";
    assert_eq!(text, expected);
    let detailed = stdout(run(&["events", path, "--from", "14", "--to", "14", "--verbose"]));
    assert!(detailed.contains("rip 0x7fcf90063b70  eflags 0x246"), "{detailed}");
    assert!(detailed.contains("writes 136.0 KiB at 0x7ffcc61d4000 of 3894"), "{detailed}");
    assert_eq!(stdout(run(&["events", path, "--tid", "1"])).lines().count(), 1);
}

#[test]
fn tasks_and_maps() {
    let text = stdout(run(&["tasks", recording("fork_pipe").to_str().unwrap()]));
    let expected = "     \
     event      tid  what
        14     3985  exec ./fork_pipe: ./fork_pipe
       118     3990  process, made by 3985
       134     3990  exit 7
       160     3992  process, made by 3985
       185     3992  exec /bin/cat: cat
       318     3992  exit 0
       353     3985  exit 0
";
    assert_eq!(text, expected);
    let tasks = json_lines("tasks", "threads_chaos");
    let threads = tasks.iter().filter(|task| task["thread"] == true).count();
    assert_eq!(threads, 4);
    let crash = json_lines("tasks", "crash");
    let exit = crash.iter().find(|task| task["kind"] == "exit").unwrap();
    assert!(exit["description"].as_str().unwrap().starts_with("killed by SIGSEGV"));

    let maps = json_lines("maps", "crash");
    let text = stdout(run(&["maps", recording("crash").to_str().unwrap()]));
    assert_eq!(text.lines().count(), maps.len() + 1);
    assert!(text.contains("rw-p          0  recorded  [stack]"), "{text}");
    let stack = maps.iter().find(|map| map["name"] == "[stack]").unwrap();
    assert_eq!(stack["protection"], "rw-p");
    assert_eq!(stack["source"], "trace");
}

#[test]
fn latest_and_named_recordings() {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(recording("true"), directory.path().join("true-0")).unwrap();
    let run = |arguments: &[&str]| {
        command(arguments).env("_RR_TRACE_DIR", directory.path()).output().unwrap()
    };
    let none = run(&["tasks"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8(none.stderr).unwrap().contains("rr has left none at"));
    std::os::unix::fs::symlink("true-0", directory.path().join("latest-trace")).unwrap();
    assert_eq!(stdout(run(&["tasks"])), stdout(run(&["tasks", "true-0"])));
}

#[test]
fn failures_say_what_and_where() {
    let failure = |arguments: &[&str]| {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("pernosco: ") && text.lines().count() == 1, "{text}");
        text
    };
    assert!(failure(&["info", "no-such-trace"]).contains("no recording no-such-trace"));
    assert!(failure(&["info", "/usr"]).contains("/usr is not a recording"));
    let directory = tempfile::tempdir().unwrap();
    for file in ["version", "tasks", "events"] {
        std::fs::copy(recording("true").join(file), directory.path().join(file)).unwrap();
    }
    let path = directory.path().to_str().unwrap();
    assert!(failure(&["maps", path]).contains("mmaps: No such file"));
    let events = std::fs::read(directory.path().join("events")).unwrap();
    std::fs::write(directory.path().join("events"), &events[..100]).unwrap();
    let cut = failure(&["events", path]);
    assert!(cut.contains("events: truncated at offset 0: a block claims"), "{cut}");

    assert_eq!(run(&["events", "--from", "x"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let path = recording("threads_chaos");
    let mut child = command(&["events", "--json", path.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
