//! `alerts`: what went wrong, the worst first; and so where to begin.

use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess, Register};
use model::{Address, Moment, Registers, Tid};
use serde::Serialize;

use crate::ask::{Asked, Flow};
use crate::code::CodeSet;
use crate::engine::{Engine, Here};
use crate::executions::in_leaf;
use crate::exits::exit;
use crate::failure::Failure;
use crate::history::TaskLife;
use crate::program::{in_program, own_frame};
use crate::protocol::{Focus, FrameId, MomentText, Place};
use crate::questions::tasks::ending;
use crate::signal_names::signal_name;

/// Signals that a program's own fault raises: ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS.
const FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];
/// Alerts of one recording.
const ALERTS_MAX: usize = 1000;

#[derive(Clone, Debug, Serialize)]
pub struct Alert {
    /// 1 is the worst.
    rank: u32,
    kind: &'static str,
    text: String,
    pub handled: bool,
    moment: MomentText,
    task: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    pub focus: Focus,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    for alert in alerts(engine)?.iter().skip(asked.offset()?) {
        if asked.is_interrupted() || asked.row(alert) == Flow::Full {
            break;
        }
    }
    Ok(())
}

/// All of them, the worst first.
pub fn alerts(engine: &mut Engine<'_>) -> Result<Vec<Alert>, Failure> {
    let mut alerts = signals(engine)?;
    for complaint in &COMPLAINTS {
        complaints(engine, complaint, &mut alerts)?;
    }
    for task in &engine.db.history.tasks {
        // Threads end with their process.
        let exited = task.status.is_some_and(|status| status & 0x7f == 0 && status != 0);
        if exited && task.process == task.number && alerts.len() < ALERTS_MAX {
            alerts.extend(bad_exit(engine, task)?);
        }
    }
    alerts.sort_by_key(|alert| (alert.rank, alert.moment));
    for (rank, alert) in (1..).zip(&mut alerts) {
        alert.rank = rank;
    }
    Ok(alerts)
}

/// A function that is called when a program finds itself wrong.
struct Complaint {
    function: &'static str,
    kind: &'static str,
    text: &'static str,
}

const COMPLAINTS: [Complaint; 5] = [
    Complaint { function: "__assert_fail", kind: "assertion", text: "failed assertion" },
    Complaint { function: "rust_panic", kind: "panic", text: "panic" },
    Complaint { function: "std::terminate", kind: "terminate", text: "std::terminate" },
    Complaint {
        function: "__sanitizer_report_error_summary",
        kind: "sanitizer",
        text: "report of a sanitizer",
    },
    Complaint { function: "__stack_chk_fail", kind: "abort", text: "smashed stack" },
];

/// Calls of such a function.
fn complaints(
    engine: &mut Engine<'_>,
    complaint: &Complaint,
    alerts: &mut Vec<Alert>,
) -> Result<(), Failure> {
    let db = engine.db;
    let Ok((calls, _)) = CodeSet::function(db, complaint.function) else { return Ok(()) };
    let tree = store::Tree::new(&db.reader);
    let mut next = calls.first_leaf(&tree, 0)?;
    while let Some(leaf) = next {
        for execution in in_leaf(engine, &calls, leaf)? {
            if alerts.len() >= ALERTS_MAX {
                return Ok(());
            }
            let (moment, tid) = (execution.moment, execution.tid);
            let Some(task) = db.history.task(tid, moment) else { continue };
            let process = db.history.task_numbered(task.process).unwrap_or(task);
            // Who copes with it ends well.
            let handled = process.status == Some(0);
            let here = Here { moment, tid, task: task.number.0 };
            let found = own_frame(engine, here).ok();
            let place = found.as_ref().map(|(_, place)| place.clone());
            let text = match &place {
                Some(place) => format!("{} in {}", complaint.text, short(place)),
                None => complaint.text.to_owned(),
            };
            alerts.push(Alert {
                // It is why a signal or a bad exit follows.
                rank: if handled { 9 } else { 0 },
                kind: complaint.kind,
                text,
                handled,
                moment: MomentText(moment),
                task: here.task,
                place,
                focus: focus(here, found.map(|(frame, _)| frame)),
            });
        }
        next = calls.first_leaf(&tree, leaf + 1)?;
    }
    Ok(())
}

fn signals(engine: &mut Engine<'_>) -> Result<Vec<Alert>, Failure> {
    let history = &engine.db.history;
    let mut alerts = Vec::new();
    for (index, event) in history.events().iter().enumerate() {
        let number = history.kind(event).strip_prefix("SIGNAL ");
        let Some(number) = number.and_then(|number| number.parse::<i32>().ok()) else { continue };
        // What comes of it is its next signal event, though not always its next event.
        let next = history.events()[index + 1..]
            .iter()
            .find(|next| next.tid == event.tid && history.kind(next).starts_with("SIGNAL"));
        let handled = next.is_some_and(|next| history.kind(next).starts_with("SIGNAL_HANDLER"));
        let Some(task) = history.task(event.tid, event.moment) else { continue };
        let status = task.status.unwrap_or_default();
        // The last thing that happened to it, and what it died of.
        let fatal = !handled && status & 0x7f == number;
        if !fatal && !FAULTS.contains(&number) {
            continue;
        }
        if alerts.len() >= ALERTS_MAX {
            break;
        }
        let here = Here { moment: event.moment, tid: event.tid, task: task.number.0 };
        alerts.push(signal(engine, here, number, handled)?);
    }
    Ok(alerts)
}

fn signal(
    engine: &mut Engine<'_>,
    here: Here,
    number: i32,
    handled: bool,
) -> Result<Alert, Failure> {
    let found = own_frame(engine, here).ok();
    let place = found.as_ref().map(|(_, place)| place.clone());
    let mut text = signal_name(number);
    if let Some(place) = &place {
        text = format!("{text} in {}", short(place));
    }
    if matches!(number, 7 | 11)
        && let Some(what) = touched(engine, here)
    {
        text = format!("{text}: {what}");
    }
    Ok(Alert {
        rank: match (handled, FAULTS.contains(&number)) {
            (false, true) => 1,
            (false, false) => 2,
            (true, _) => 9,
        },
        kind: if number == 6 { "abort" } else { "signal" },
        text,
        handled,
        moment: MomentText(here.moment),
        task: here.task,
        place,
        focus: focus(here, found.map(|(frame, _)| frame)),
    })
}

fn focus(here: Here, frame: Option<FrameId>) -> Focus {
    Focus { frame, ..Focus::at(here.moment, here.task) }
}

/// `walk:26`
fn short(place: &Place) -> String {
    let function = place.function.as_deref().unwrap_or("?");
    match place.line {
        Some(line) => format!("{function}:{line}"),
        None => function.to_owned(),
    }
}

/// Which memory the next instruction of a task wants and cannot have.
pub fn touched(engine: &mut Engine<'_>, here: Here) -> Option<String> {
    let session = engine.at(here.moment).ok()?;
    let registers = session.registers(here.tid)?;
    let fs_gs = [registers.fs_base, registers.gs_base];
    let memory = session.memory(here.tid)?;
    let mut bytes = [0; 15];
    let Some(length) =
        (1..=15).rev().find(|length| memory.read(registers.rip, &mut bytes[..*length]).is_ok())
    else {
        return Some(format!("there is no code at {:#x}", registers.rip.0));
    };
    let rip = registers.rip.0;
    let instruction = Decoder::with_ip(64, &bytes[..length], rip, DecoderOptions::NONE).decode();
    let mut factory = InstructionInfoFactory::new();
    for used in factory.info(&instruction).used_memory() {
        let address =
            used.virtual_address(0, |register, _, _| value(&registers, fs_gs, register))?;
        let missing = memory.read(Address(address), &mut [0]).is_err();
        let writes = matches!(
            used.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        if !missing && !writes {
            continue;
        }
        let verb = if writes { "write to" } else { "read of" };
        let canonical = address >> 47 == 0 || address >> 47 == 0x1_ffff;
        let why = match (address, canonical, missing) {
            (0..4096, _, _) => "near null",
            (_, false, _) => "not an address",
            (_, _, true) => "nothing is mapped there",
            _ => "not allowed there",
        };
        return Some(format!("{verb} {address:#x}, {why}"));
    }
    None
}

fn value(registers: &Registers, [fs, gs]: [u64; 2], register: Register) -> Option<u64> {
    match register {
        Register::None | Register::CS | Register::DS | Register::ES | Register::SS => Some(0),
        Register::FS => Some(fs),
        Register::GS => Some(gs),
        Register::RIP => Some(registers.rip.0),
        _ if register.is_gpr() => {
            let full = *registers.general.get(register.full_register().number())?;
            Some(match register.size() {
                8 => full,
                4 => full & 0xffff_ffff,
                2 => full & 0xffff,
                _ => full & 0xff,
            })
        }
        _ => None,
    }
}

/// A process that says that it failed: where `main` returned, or where its own code called `exit`.
fn bad_exit(engine: &mut Engine<'_>, task: &TaskLife) -> Result<Option<Alert>, Failure> {
    let Some(status) = task.status else { return Ok(None) };
    let end = task.end.unwrap_or(engine.db.reader.end());
    let here = match main_returned(engine, task.tid, end)? {
        Some(moment) => Here { moment, tid: task.tid, task: task.number.0 },
        None => {
            let moment = left(engine, task.tid, end);
            in_program(engine, Here { moment, tid: task.tid, task: task.number.0 })?
        }
    };
    let found = own_frame(engine, here).ok();
    // A child's failure that its parents have coped with.
    let root = engine.db.history.tasks.first();
    let handled = task.parent.is_some() && root.is_some_and(|root| root.status == Some(0));
    Ok(Some(Alert {
        rank: match (task.parent, handled) {
            (None, _) => 3,
            (_, false) => 4,
            (_, true) => 8,
        },
        kind: "exit",
        text: ending(status),
        handled,
        moment: MomentText(here.moment),
        task: here.task,
        place: found.as_ref().map(|(_, place)| place.clone()),
        focus: focus(here, found.map(|(frame, _)| frame)),
    }))
}

/// When the task asked the kernel to end it.
fn left(engine: &Engine<'_>, tid: Tid, end: Moment) -> Moment {
    let history = &engine.db.history;
    let asks = |kind: &str| kind.starts_with("SYSCALL 231 ") || kind.starts_with("SYSCALL 60 ");
    let mut before = history.events().iter().rev().skip_while(|event| event.moment > end);
    let asked = before.find(|event| event.tid == tid && asks(history.kind(event)));
    asked.map_or(end, |event| event.moment)
}

/// The moment at which the last `main` of a task is about to return.
pub fn main_returned(
    engine: &mut Engine<'_>,
    tid: Tid,
    end: Moment,
) -> Result<Option<Moment>, Failure> {
    let db = engine.db;
    let Ok((calls, _)) = CodeSet::function(db, "main") else { return Ok(None) };
    let tree = store::Tree::new(&db.reader);
    let mut border = engine.leaf_at(end)? + 1;
    while let Some(leaf) = calls.last_leaf(&tree, border)? {
        let mut found = in_leaf(engine, &calls, leaf)?;
        found.retain(|execution| execution.tid == tid && execution.moment <= end);
        if let Some(last) = found.last() {
            let exit = exit(engine, tid, &last.frame)?;
            // In front of the return.
            return Ok(exit.moment.map(|moment| Moment(moment.0.saturating_sub(1))));
        }
        border = leaf;
    }
    Ok(None)
}
