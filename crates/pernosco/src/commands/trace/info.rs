//! `pernosco trace info`.

use std::collections::BTreeMap;
use std::io::Write;

use rr_trace::{Header, StreamName, TaskEventKind, Trace};
use serde_json::{Value, json};

use super::events::kind_name;
use super::tasks::describe_exit;
use crate::cpu::{self, Comparison, Processor};
use crate::locate::TraceArgument;
use crate::names;
use crate::output::{Output, bytes, grouped, hex, json_line};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    trace: TraceArgument,
    /// Do not count the events, which takes a second for every million or less
    #[arg(long)]
    no_count: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What all events together say.
#[derive(Default)]
struct Events {
    count: u64,
    kinds: BTreeMap<&'static str, u64>,
    memory_length: u64,
    seconds: f64,
}

/// What the tasks say.
#[derive(Default)]
struct Program {
    command_line: Vec<Vec<u8>>,
    tasks: u64,
    exit: Option<i32>,
}

pub fn run(arguments: &Arguments, output: &mut Output) -> anyhow::Result<()> {
    let trace = arguments.trace.open()?;
    let program = program(&trace)?;
    let events = if arguments.no_count { None } else { Some(count(&trace)?) };
    let mut streams = Vec::new();
    for stream in StreamName::ALL {
        streams.push((stream.file_name(), trace.block_table(stream)?.stream_length()));
    }
    let recorded = Processor::recorded(trace.header());
    let comparison = cpu::compare(&recorded, &Processor::host());
    if arguments.json {
        let value = as_json(&trace, &program, events.as_ref(), &streams, &comparison);
        return json_line(output, &value);
    }
    print_recording(output, &trace, &program, events.as_ref(), &streams)?;
    print_header(output, trace.header())?;
    print_comparison(output, &recorded, &comparison)
}

fn program(trace: &Trace) -> anyhow::Result<Program> {
    let mut program = Program::default();
    let mut first_tid = None;
    for task in trace.tasks()? {
        let task = task?;
        first_tid.get_or_insert(task.tid);
        match task.kind {
            TaskEventKind::Exec { command_line, .. } if program.command_line.is_empty() => {
                program.command_line = command_line;
            }
            TaskEventKind::Clone { .. } => program.tasks += 1,
            TaskEventKind::Exit { status } if first_tid == Some(task.tid) => {
                program.exit = Some(status);
            }
            _ => {}
        }
    }
    // The first one is not cloned by anybody.
    program.tasks += u64::from(first_tid.is_some());
    Ok(program)
}

fn count(trace: &Trace) -> anyhow::Result<Events> {
    let mut events = Events::default();
    let mut first_seconds = None;
    for frame in trace.frames()? {
        let frame = frame?;
        events.count = frame.event.0;
        *events.kinds.entry(kind_name(&frame.kind)).or_default() += 1;
        for write in &frame.writes {
            events.memory_length = events.memory_length.saturating_add(write.length);
        }
        let first = *first_seconds.get_or_insert(frame.monotonic_seconds);
        events.seconds = frame.monotonic_seconds - first;
    }
    Ok(events)
}

fn field(output: &mut Output, name: &str, value: impl std::fmt::Display) -> std::io::Result<()> {
    writeln!(output, "{name:<20} {value}")
}

fn print_recording(
    output: &mut Output,
    trace: &Trace,
    program: &Program,
    events: Option<&Events>,
    streams: &[(&'static str, u64)],
) -> anyhow::Result<()> {
    field(output, "recording", trace.directory().display())?;
    let words: Vec<_> = program.command_line.iter().map(|word| names::text(word)).collect();
    field(output, "program", words.join(" "))?;
    let exit = program.exit.map_or("unknown".to_owned(), describe_exit);
    field(output, "ended with", exit)?;
    field(output, "tasks", program.tasks)?;
    if let Some(events) = events {
        let seconds = format!("{} in {:.3} s", grouped(events.count), events.seconds);
        field(output, "events", seconds)?;
        for (kind, count) in &events.kinds {
            field(output, "", format!("{:>10} {kind}", grouped(*count)))?;
        }
        field(output, "recorded memory", bytes(events.memory_length))?;
    }
    for (name, length) in streams {
        field(output, &format!("stream {name}"), bytes(*length))?;
    }
    Ok(())
}

fn print_header(output: &mut Output, header: &Header) -> anyhow::Result<()> {
    let yes_no = |yes| if yes { "yes" } else { "no" };
    let guess = |value: Option<bool>| value.map_or("unknown", yes_no);
    if !header.ok {
        let warning = "NO: the recorder failed, the end may be missing";
        field(output, "complete", warning)?;
    }
    field(output, "identity", uuid(header))?;
    let compatibility = header.required_forward_compatibility_version;
    let version = format!("{} (compatibility {compatibility})", rr_trace::TRACE_VERSION);
    field(output, "trace version", version)?;
    let cpu = header.bind_to_cpu.map_or("none".to_owned(), |cpu| cpu.to_string());
    field(output, "bound to CPU", cpu)?;
    field(output, "chaos mode", guess(header.chaos_mode))?;
    field(output, "CPUID trapped", yes_no(header.x86.has_cpuid_faulting))?;
    field(output, "XCR0", hex(header.xcr0()))?;
    if let Some(uname) = &header.uname {
        let words = [&uname.sysname, &uname.release, &uname.machine].map(|word| names::text(word));
        field(output, "kernel", words.join(" "))?;
    }
    if header.cpu_improperly_configured == Some(true) {
        field(output, "CPU", "improperly configured: tick counts may be wrong")?;
    }
    Ok(())
}

fn print_comparison(
    output: &mut Output,
    recorded: &Processor<'_>,
    comparison: &Comparison,
) -> anyhow::Result<()> {
    field(output, "recorded on", describe(recorded))?;
    field(output, "this machine", describe(&Processor::host()))?;
    let missing = match comparison.missing.as_slice() {
        [] => "nothing that the recording can have used".to_owned(),
        names => format!("{}: a program that used them cannot be replayed here", names.join(", ")),
    };
    field(output, "  lacks", missing)?;
    if !comparison.additional.is_empty() {
        field(output, "  has besides", comparison.additional.join(", "))?;
    }
    for note in &comparison.notes {
        field(output, "  note", note)?;
    }
    Ok(())
}

fn describe(processor: &Processor<'_>) -> String {
    let (family, model, stepping) = processor.signature();
    let (vendor, brand) = (processor.vendor(), processor.brand());
    format!("{vendor} family {family} model {model} stepping {stepping} {brand}")
}

fn uuid(header: &Header) -> String {
    header.uuid.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn as_json(
    trace: &Trace,
    program: &Program,
    events: Option<&Events>,
    streams: &[(&'static str, u64)],
    comparison: &Comparison,
) -> Value {
    let header = trace.header();
    let quirks = &header.quirks;
    let recorded = Processor::recorded(header);
    let words = program.command_line.iter().map(|word| String::from_utf8_lossy(word));
    let streams: serde_json::Map<String, Value> =
        streams.iter().map(|&(name, length)| (name.to_owned(), length.into())).collect();
    json!({
        "directory": trace.directory().to_string_lossy(),
        "command_line": words.collect::<Vec<_>>(),
        "exit_status": program.exit,
        "tasks": program.tasks,
        "events": events.map(|events| events.count),
        "event_kinds": events.map(|events| &events.kinds),
        "seconds": events.map(|events| events.seconds),
        "recorded_memory": events.map(|events| events.memory_length),
        "stream_bytes": streams,
        "uuid": uuid(header),
        "trace_version": rr_trace::TRACE_VERSION,
        "complete": header.ok,
        "required_forward_compatibility_version": header.required_forward_compatibility_version,
        "bind_to_cpu": header.bind_to_cpu,
        "chaos_mode": header.chaos_mode,
        "rrcall_base": header.rrcall_base,
        "has_cpuid_faulting": header.x86.has_cpuid_faulting,
        "clear_fip_fdp": header.x86.clear_fip_fdp,
        "xcr0": hex(header.xcr0()),
        "syscallbuf_fds_disabled_size": header.syscallbuf_fds_disabled_size,
        "syscallbuf_header_size": header.syscallbuf_header_size,
        "quirks": {
            "explicit_proc_mem": quirks.explicit_proc_mem,
            "special_librrpage": quirks.special_librrpage,
            "pkey_alloc_recorded_extra_regs": quirks.pkey_alloc_recorded_extra_regs,
            "buffered_syscall_forced_tick": quirks.buffered_syscall_forced_tick,
            "uses_globals_in_replay": quirks.uses_globals_in_replay,
        },
        "recorded_processor": processor_json(&recorded),
        "this_processor": processor_json(&Processor::host()),
        "missing_features": comparison.missing,
        "additional_features": comparison.additional,
        "notes": comparison.notes,
    })
}

fn processor_json(processor: &Processor<'_>) -> Value {
    let (family, model, stepping) = processor.signature();
    json!({
        "vendor": processor.vendor(),
        "brand": processor.brand(),
        "family": family,
        "model": model,
        "stepping": stepping,
        "features": cpu::features(processor),
    })
}
