//! Compares a replay with `steps.txt.gz`: every register at every instruction.
//!
//! A line of the oracle is a position. Between two lines lies one instruction, or only events
//! that need none (leaving a system call, a signal). So the replay goes on by *atoms*, an event
//! or an instruction, until it is in the state of the line; it must be before it has executed
//! two instructions. Flags that an instruction has left undefined are compared only on processors
//! like the recording's (`flags.rs`). Of a `rep` string the oracle may have a line for each
//! iteration: those are passed over.

use model::{Address, Event, Moment, Tid, gpr};
use replay::{LISTED_NAMES, Progress, Session, listed_values};

use super::flags::UndefinedFlags;

/// TF and RF are the recorder's.
const FLAGS_SEEN: u128 = !0x1_0100;

type Values = [u128; LISTED_NAMES.len()];

struct Line {
    number: usize,
    ticks: u64,
    values: Values,
}

/// One run of the oracle: `@ after=E thread=T` and its lines.
struct Run {
    /// The first event that had not happened at the first line. It is the one behind E, except
    /// where that is a buffer's flush: rr stops only behind it.
    next: Event,
    tid: Tid,
    lines: Vec<Line>,
}

fn parse(text: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut values = [0; LISTED_NAMES.len()];
    for (index, line) in text.lines().enumerate() {
        if let Some(head) = line.strip_prefix("@ after=") {
            let (_, thread) = head.split_once(" thread=").expect("thread");
            let tid = thread.rsplit('.').next().expect("tid");
            runs.push(Run {
                next: Event(0),
                tid: Tid(i32::from_str_radix(tid, 16).expect("hexadecimal")),
                lines: Vec::new(),
            });
            continue;
        }
        let mut words = line.split(' ');
        let event = words.next().and_then(|word| word.parse().ok()).expect("event");
        let ticks = words.next().and_then(|word| word.parse().ok()).expect("ticks");
        let hex = |text: &str| u128::from_str_radix(text, 16).expect("hexadecimal");
        values[0] = hex(words.next().expect("rip"));
        for word in words {
            let (name, value) = word.split_once('=').expect("register=value");
            let register = LISTED_NAMES.iter().position(|known| *known == name);
            values[register.unwrap_or_else(|| panic!("register {name}"))] = hex(value);
        }
        let run = runs.last_mut().expect("@ comes first");
        if run.lines.is_empty() {
            run.next = Event(event);
        }
        run.lines.push(Line { number: index + 1, ticks, values });
    }
    runs
}

/// The state of the replay as the oracle would write it.
fn state(session: &Session, tid: Tid) -> Option<(u64, Values)> {
    let registers = session.registers(tid)?;
    let values = listed_values(&registers, &session.vector_registers(tid)?);
    Some((session.ticks(tid)?.0, values))
}

fn difference(line: &Line, ticks: u64, found: &Values, undefined: u128) -> Option<String> {
    let mut text = String::new();
    if line.ticks != ticks {
        text += &format!(" ticks: expected {}, found {ticks};", line.ticks);
    }
    for (index, name) in LISTED_NAMES.iter().enumerate() {
        let seen = if *name == "eflags" { FLAGS_SEEN & !undefined } else { u128::MAX };
        let (expected, found) = (line.values[index] & seen, found[index] & seen);
        if expected != found {
            text += &format!(" {name}: expected {expected:x}, found {found:x};");
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Replays a recording along its oracle; returns how many lines were compared, or what differs.
pub fn compare(name: &str) -> Result<usize, String> {
    let text = super::oracle(name, "steps.txt.gz");
    let mut compared = 0;
    let mut session = super::open(name);
    let mut flags = UndefinedFlags::new(&super::trace(name));
    let mut runs = parse(&text);
    runs.retain(|run| !run.lines.is_empty());
    runs.sort_by_key(|run| run.next);
    for run in runs {
        // Runs may overlap: the next one needs a replay of its own then.
        let last = Event(run.next.0 - 1);
        if session.last_event() >= last && last.0 > 0 {
            drop(session);
            session = super::open(name);
        }
        while session.last_event() < last {
            session.step_event().map_err(|error| format!("{name}: {error}"))?.ok_or("too short")?;
        }
        compared +=
            follow(&mut session, &run, &mut flags).map_err(|text| format!("{name}: {text}"))?;
    }
    Ok(compared)
}

fn follow(session: &mut Session, run: &Run, flags: &mut UndefinedFlags) -> Result<usize, String> {
    flags.start();
    let mut compared = 0;
    let mut tid = run.tid;
    for (index, line) in run.lines.iter().enumerate() {
        if index > 0 && is_iteration(session, tid, line) {
            continue;
        }
        reach(session, line, &mut tid, index == 0, flags)?;
        compared += 1;
    }
    Ok(compared)
}

/// Whether the line is a further iteration of the `rep` string that comes next.
fn is_iteration(session: &Session, tid: Tid, line: &Line) -> bool {
    let Some(registers) = session.registers(tid) else { return false };
    let rcx = u128::from(registers.general[gpr::RCX]);
    let same_place = line.values[0] == u128::from(registers.rip.0);
    same_place && line.values[RCX] != rcx && is_repeated_string(session, tid, registers.rip)
}

/// Position of rcx in a line.
const RCX: usize = 3;

fn is_repeated_string(session: &Session, tid: Tid, rip: Address) -> bool {
    let mut bytes = [0; 3];
    let Some(space) = session.memory(tid) else { return false };
    if space.read(rip, &mut bytes).is_err() || !matches!(bytes[0], 0xf2 | 0xf3) {
        return false;
    }
    let opcode = if bytes[1] & 0xf0 == 0x40 { bytes[2] } else { bytes[1] };
    matches!(opcode, 0xa4..=0xa7 | 0xaa..=0xaf)
}

/// Advances by atoms until the state is that of the line.
///
/// Behind system calls for which rr makes calls of its own in the task (mmap and its like), rr's
/// step executes one instruction more.
fn reach(
    session: &mut Session,
    line: &Line,
    tid: &mut Tid,
    first: bool,
    flags: &mut UndefinedFlags,
) -> Result<(), String> {
    let mut last = String::from(" nothing to compare");
    let own = |session: &Session, tid| session.cpu(tid).map_or(0, |cpu| cpu.instructions);
    let start = own(session, *tid);
    let mut allowed = 1;
    if first {
        let (ticks, found) = state(session, *tid).ok_or("the task is gone")?;
        let Some(text) = difference(line, ticks, &found, flags.get(*tid)) else { return Ok(()) };
        last = text;
    }
    loop {
        // First only what needs no instruction.
        let mut progress = advance(session, session.moment())?;
        if progress == Progress::Moment && session.current_task() != Some(*tid) {
            // Another task runs on to its next event.
            flags.forget(session.current_task());
            progress = session.advance(None).map_err(|error| error.to_string())?;
        } else if progress == Progress::Moment && own(session, *tid) - start < allowed {
            flags.execute(session, *tid);
            progress = advance(session, session.moment() + 1)?;
        } else if progress == Progress::Moment {
            return Err(format!("line {}, moment {}:{last}", line.number, session.moment()));
        }
        match progress {
            Progress::End => return Err(format!("line {}: the recording ended", line.number)),
            Progress::Event(event) if event.kind.ends_with("exiting") => {
                flags.define(event.tid);
                allowed = 2;
            }
            _ => {}
        }
        let (ticks, found) = state(session, *tid).ok_or("the task is gone")?;
        match difference(line, ticks, &found, flags.get(*tid)) {
            None => return Ok(()),
            Some(text) => last = text,
        }
    }
}

fn advance(session: &mut Session, until: Moment) -> Result<Progress, String> {
    session.advance(Some(until)).map_err(|error| error.to_string())
}
