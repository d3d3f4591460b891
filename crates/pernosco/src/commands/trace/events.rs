//! `pernosco trace events`.

use std::io::Write;
use std::ops::Range;

use model::Address;
use rr_trace::{
    Disposition, EventKind, Frame, FrameRegisters, MemWrite, OpenedFd, Signal, Syscall,
    SyscallExtra, SyscallState, Trace,
};
use serde_json::{Map, Value, json};

use crate::locate::TraceArgument;
use crate::names;
use crate::output::{Output, bytes, hex, json_line};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    trace: TraceArgument,
    /// Only events of this task
    #[arg(long)]
    tid: Option<i32>,
    /// Begin with this event
    #[arg(long, default_value_t = 1, value_name = "EVENT")]
    from: u64,
    /// End with this event
    #[arg(long, value_name = "EVENT")]
    to: Option<u64>,
    /// Print registers and memory writes, too (JSON always has them)
    #[arg(long, short)]
    verbose: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, output: &mut Output) -> anyhow::Result<()> {
    let trace = arguments.trace.open()?;
    if !arguments.json {
        let (event, tid, ticks) = ("event", "tid", "ticks");
        writeln!(output, "{event:>10} {tid:>8} {ticks:>14}  what")?;
    }
    for frame in trace.frames()? {
        let frame = frame?;
        if arguments.to.is_some_and(|last| frame.event.0 > last) {
            break;
        }
        let wanted = arguments.tid.is_none_or(|tid| frame.tid.0 == tid);
        if !wanted || frame.event.0 < arguments.from {
            continue;
        }
        if arguments.json {
            json_line(output, &as_json(&frame, &trace))?;
        } else {
            line(output, &frame, &trace)?;
            if arguments.verbose {
                details(output, &frame)?;
            }
        }
    }
    Ok(())
}

fn line(output: &mut Output, frame: &Frame, trace: &Trace) -> anyhow::Result<()> {
    let (event, tid, ticks) = (frame.event, frame.tid, frame.ticks);
    let what = describe(frame, trace.header().rrcall_base);
    write!(output, "{event:>10} {tid:>8} {ticks:>14}  {what}")?;
    let length: u64 = frame.writes.iter().fold(0, |sum, write| sum.saturating_add(write.length));
    if length > 0 {
        write!(output, "; {} of memory", bytes(length))?;
    }
    Ok(writeln!(output)?)
}

/// Name of the kind of an event, in the words of the trace format.
pub fn kind_name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::InstructionTrap => "instruction trap",
        EventKind::PatchSyscall => "patch syscall",
        EventKind::SyscallbufAbortCommit => "syscallbuf abort commit",
        EventKind::SyscallbufReset => "syscallbuf reset",
        EventKind::Sched => "sched",
        EventKind::GrowMap => "grow map",
        EventKind::Signal(_) => "signal",
        EventKind::SignalDelivery(_) => "signal delivery",
        EventKind::SignalHandler(_) => "signal handler",
        EventKind::Exit => "exit",
        EventKind::SyscallbufFlush { .. } => "syscallbuf flush",
        EventKind::Syscall(_) => "syscall",
        EventKind::PatchAfterSyscall => "patch after syscall",
        EventKind::PatchVsyscall => "patch vsyscall",
        EventKind::PatchTrappingInstruction => "patch trapping instruction",
    }
}

fn describe(frame: &Frame, rrcall_base: i32) -> String {
    let kind = kind_name(&frame.kind);
    match &frame.kind {
        EventKind::Syscall(syscall) => {
            let name = names::syscall(syscall, rrcall_base);
            match (syscall.state, result(frame)) {
                (SyscallState::Exiting, Some(result)) => format!("{kind} {name} = {result}"),
                (SyscallState::Exiting, None) => format!("{kind} {name} exits"),
                (SyscallState::EnteringPtrace, _) => format!("{kind} {name} enters (ptrace)"),
                (SyscallState::Entering, _) => format!("{kind} {name} enters"),
            }
        }
        EventKind::Signal(signal)
        | EventKind::SignalDelivery(signal)
        | EventKind::SignalHandler(signal) => {
            let name = names::signal(signal.number());
            let cause = if signal.deterministic { "by its instruction" } else { "asynchronous" };
            format!("{kind} {name}, {cause}, {}", disposition(signal))
        }
        EventKind::SyscallbufFlush { mprotect_records } if !mprotect_records.is_empty() => {
            format!("{kind} with {} mprotect", mprotect_records.len())
        }
        _ => kind.to_owned(),
    }
}

/// What a system call returned.
fn result(frame: &Frame) -> Option<String> {
    let value = match frame.registers? {
        FrameRegisters::X8664(registers) => registers.general[model::gpr::RAX] as i64,
        FrameRegisters::X86(registers) => {
            let (_, eax) = registers.named().find(|(name, _)| *name == "eax")?;
            i64::from(eax as i32)
        }
    };
    // Addresses look better in hexadecimal.
    Some(if value.unsigned_abs() < 1 << 20 { value.to_string() } else { format!("{value:#x}") })
}

fn disposition(signal: &Signal) -> &'static str {
    match signal.disposition {
        Disposition::Fatal => "fatal",
        Disposition::UserHandler => "handled",
        Disposition::Ignored => "ignored",
    }
}

fn details(output: &mut Output, frame: &Frame) -> anyhow::Result<()> {
    const REGISTERS_A_LINE: usize = 6;
    for chunk in registers(frame).chunks(REGISTERS_A_LINE) {
        let line: Vec<_> = chunk.iter().map(|(name, value)| format!("{name} {value}")).collect();
        writeln!(output, "{:>34}  {}", "", line.join("  "))?;
    }
    for write in &frame.writes {
        let (address, tid) = (write.address, write.tid);
        write!(output, "{:>34}  writes {} at {address} of {tid}", "", bytes(write.length))?;
        if !write.holes.is_empty() {
            write!(output, ", {} holes", write.holes.len())?;
        }
        writeln!(output)?;
    }
    Ok(())
}

fn registers(frame: &Frame) -> Vec<(&'static str, String)> {
    match &frame.registers {
        Some(FrameRegisters::X8664(registers)) => {
            registers.named().map(|(name, value)| (name, hex(value))).collect()
        }
        Some(FrameRegisters::X86(registers)) => {
            registers.named().map(|(name, value)| (name, hex(value.into()))).collect()
        }
        None => vec![],
    }
}

fn as_json(frame: &Frame, trace: &Trace) -> Value {
    let mut object = json!({
        "event": frame.event.0,
        "tid": frame.tid.0,
        "ticks": frame.ticks.0,
        "seconds": frame.monotonic_seconds,
        "kind": kind_name(&frame.kind),
        "writes": frame.writes.iter().map(write_json).collect::<Vec<_>>(),
    });
    let fields = object.as_object_mut().expect("made as an object");
    match &frame.kind {
        EventKind::Syscall(syscall) => syscall_json(fields, syscall, trace),
        EventKind::Signal(signal)
        | EventKind::SignalDelivery(signal)
        | EventKind::SignalHandler(signal) => {
            fields.insert("signal".into(), names::signal(signal.number()).into());
            fields.insert("code".into(), signal.code().into());
            fields.insert("deterministic".into(), signal.deterministic.into());
            fields.insert("disposition".into(), disposition(signal).into());
        }
        _ => {}
    }
    if frame.registers.is_some() {
        let registers: Map<String, Value> = registers(frame)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        fields.insert("registers".into(), registers.into());
    }
    if let Some(extra) = &frame.extra_registers {
        fields.insert("extra_register_bytes".into(), extra.len().into());
    }
    if frame.in_syscallbuf_syscall_hook.0 != 0 {
        let address = hex(frame.in_syscallbuf_syscall_hook.0);
        fields.insert("in_syscallbuf_syscall_hook".into(), address.into());
    }
    object
}

fn write_json(write: &MemWrite) -> Value {
    json!({
        "tid": write.tid.0,
        "address": hex(write.address.0),
        "length": write.length,
        "payload_length": write.payload_length(),
    })
}

fn syscall_json(fields: &mut Map<String, Value>, syscall: &Syscall, trace: &Trace) {
    let state = match syscall.state {
        SyscallState::EnteringPtrace => "entering ptrace",
        SyscallState::Entering => "entering",
        SyscallState::Exiting => "exiting",
    };
    let name = names::syscall(syscall, trace.header().rrcall_base);
    fields.insert("syscall".into(), name.into());
    fields.insert("number".into(), syscall.number.into());
    fields.insert("state".into(), state.into());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (name, value) = match &syscall.extra {
        SyscallExtra::None => return,
        SyscallExtra::WriteOffset(offset) => ("write_offset", json!(offset)),
        SyscallExtra::ExecFdsToClose(fds) => ("fds_to_close", json!(fds)),
        SyscallExtra::OpenedFds(opened) => {
            let one = |file: &OpenedFd| json!({ "fd": file.fd, "path": text(&file.path) });
            ("opened", opened.iter().map(one).collect())
        }
        SyscallExtra::SocketAddrs { local, remote } => {
            ("sockets", json!({ "local": local, "remote": remote }))
        }
        SyscallExtra::MadviseRanges(ranges) => {
            let one = |range: &Range<Address>| json!([hex(range.start.0), hex(range.end.0)]);
            ("madvise_ranges", ranges.iter().map(one).collect())
        }
    };
    fields.insert(name.into(), value);
}
