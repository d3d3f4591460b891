//! Every recording, compared with what rr itself says about it.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use model::Event;
use rr_trace::{
    Arch, Error, EventKind, Frame, MapSource, Piece, Signal, StreamName, SyscallState, Trace,
};
use serde_json::Value;

/// rr dump's name of an event, without names of system calls and signals.
fn kind_name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::InstructionTrap => "INSTRUCTION_TRAP",
        EventKind::PatchSyscall
        | EventKind::PatchAfterSyscall
        | EventKind::PatchVsyscall
        | EventKind::PatchTrappingInstruction => "PATCH_SYSCALL",
        EventKind::SyscallbufAbortCommit => "SYSCALLBUF_ABORT_COMMIT",
        EventKind::SyscallbufReset => "SYSCALLBUF_RESET",
        EventKind::Sched => "SCHED",
        EventKind::GrowMap => "GROW_MAP",
        EventKind::Signal(_) => "SIGNAL",
        EventKind::SignalDelivery(_) => "SIGNAL_DELIVERY",
        EventKind::SignalHandler(_) => "SIGNAL_HANDLER",
        EventKind::Exit => "EXIT",
        EventKind::SyscallbufFlush { .. } => "SYSCALLBUF_FLUSH",
        EventKind::Syscall(_) => "SYSCALL",
    }
}

fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap();
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

fn check_signal(signal: &Signal, told: &str) {
    let expected = if signal.deterministic { "(det)" } else { "(async)" };
    assert!(told.ends_with(expected), "{told}: {signal:?}");
    let name = match signal.number() {
        6 => "SIGABRT",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        14 => "SIGALRM",
        17 => "SIGCHLD",
        other => panic!("signal {other}, {told}"),
    };
    assert!(told.contains(name), "{told}: {name}");
}

fn check_frame(frame: &Frame, told: &Value, numbers: &mut BTreeMap<i32, String>) {
    assert_eq!(Some(frame.event.0), told["event"].as_u64());
    assert_eq!(Some(frame.tid.0.into()), told["tid"].as_i64());
    assert_eq!(Some(frame.ticks.0), told["ticks"].as_u64());
    let type_name = told["type"].as_str().unwrap();
    let (kind, detail) = type_name.split_once(": ").unwrap_or((type_name, ""));
    assert_eq!(kind_name(&frame.kind), kind);
    match &frame.kind {
        EventKind::Syscall(syscall) => {
            let state = match syscall.state {
                SyscallState::EnteringPtrace => "ENTERING_SYSCALL_PTRACE",
                SyscallState::Entering => "ENTERING_SYSCALL",
                SyscallState::Exiting => "EXITING_SYSCALL",
            };
            assert_eq!(Some(state), told["state"].as_str());
            assert_eq!(syscall.arch, Arch::X8664);
            // One number, one name, in all recordings.
            let name = numbers.entry(syscall.number).or_insert_with(|| detail.to_owned());
            assert_eq!(name, detail);
        }
        EventKind::Signal(signal)
        | EventKind::SignalDelivery(signal)
        | EventKind::SignalHandler(signal) => check_signal(signal, detail),
        _ => {}
    }
    check_registers(frame, &told["regs"]);
}

fn check_registers(frame: &Frame, told: &Value) {
    let told = told.as_object().unwrap();
    if told.is_empty() {
        assert!(frame.registers.is_none() && frame.extra_registers.is_none());
        return;
    }
    let mut unseen: Vec<&str> = told.keys().map(String::as_str).collect();
    let registers = frame.registers.as_ref().unwrap().x8664().unwrap();
    for (name, value) in registers.named() {
        assert_eq!(value, number(&told[name]), "{name}");
        unseen.retain(|&other| other != name);
    }
    // What is left are vector registers, exactly where there is an XSAVE area.
    assert_eq!(!unseen.is_empty(), frame.extra_registers.is_some(), "{unseen:?}");
    assert!(unseen.iter().all(|name| name.starts_with("st") || name.starts_with("ymm")));
    assert!(frame.extra_registers.as_ref().is_none_or(|area| area.len() == 2432));
}

#[test]
fn every_event_is_as_rr_dumps_it() {
    let mut numbers = BTreeMap::new();
    for (name, directory) in support::recordings() {
        let oracle = support::gunzip(&directory.join("oracle/events.jsonl.gz"));
        let trace = Trace::open(&directory.join("trace")).unwrap();
        let mut frames = trace.frames().unwrap();
        for line in oracle.lines() {
            let told: Value = serde_json::from_str(line).unwrap();
            let frame = frames.next().unwrap_or_else(|| panic!("{name}: ends early")).unwrap();
            check_frame(&frame, &told, &mut numbers);
        }
        assert!(frames.next().is_none(), "{name}: more events than rr dumps");
    }
}

#[test]
fn payloads_fill_the_data_stream_exactly() {
    for (name, directory) in support::recordings() {
        let trace = Trace::open(&directory.join("trace")).unwrap();
        let table = trace.block_table(StreamName::Data).unwrap();
        let (mut reading, mut skipping) = (trace.data().unwrap(), trace.data().unwrap());
        let (mut payload, mut length) = (0, 0);
        for frame in trace.frames().unwrap() {
            let frame = frame.unwrap();
            payload += frame.payload_length();
            for write in &frame.writes {
                let mut next = 0;
                reading
                    .read_write::<Error>(write, |piece| {
                        let (offset, piece_length) = match piece {
                            Piece::Bytes { offset, bytes } => (offset, bytes.len() as u64),
                            Piece::Zeros { offset, length } => (offset, length),
                        };
                        assert_eq!(offset, next);
                        next += piece_length;
                        Ok(())
                    })
                    .unwrap();
                assert_eq!(next, write.length);
                length += write.length;
                skipping.skip(write).unwrap();
                assert_eq!(skipping.position().offset, reading.position().offset);
            }
        }
        assert!(payload <= length);
        assert_eq!(payload, table.stream_length(), "{name}");
        assert!(reading.at_end().unwrap() && skipping.at_end().unwrap(), "{name}");
    }
}

#[test]
fn every_mapping_and_task_event_belongs_to_a_frame() {
    for (name, directory) in support::recordings() {
        let trace = Trace::open(&directory.join("trace")).unwrap();
        let (mut mmaps, mut tasks) = (trace.mmaps().unwrap(), trace.tasks().unwrap());
        for frame in trace.frames().unwrap() {
            let event = frame.unwrap().event;
            while let Some(mapping) = mmaps.next_until(event).unwrap() {
                assert_eq!(mapping.event, event, "{name}");
                check_backing(&trace, &mapping);
            }
            while let Some(task) = tasks.next_until(event).unwrap() {
                assert_eq!(task.event, event, "{name}: {task:?}");
            }
        }
        assert!(mmaps.next().is_none() && tasks.next().is_none(), "{name}");
    }
}

fn check_backing(trace: &Trace, mapping: &rr_trace::MMap) {
    match trace.backing_path(mapping).unwrap() {
        Some(path) => {
            assert_eq!(path.parent(), Some(trace.directory()));
            assert!(path.is_file(), "{}", path.display());
        }
        None => assert!(!matches!(mapping.source, MapSource::File { .. })),
    }
}

#[test]
fn reading_resumes_at_remembered_positions() {
    let (_, directory) = support::recordings().into_iter().find(|(n, _)| n == "signals").unwrap();
    let trace = Trace::open(&directory.join("trace")).unwrap();
    let mut frames = trace.frames().unwrap();
    let mut data = trace.data().unwrap();
    let mut mmaps = trace.mmaps().unwrap();
    let mut seen = Vec::new();
    loop {
        let position = rr_trace::Position {
            event: frames.position().0,
            frames: frames.position().1,
            data: data.position(),
            mmaps: mmaps.position(),
            tasks: Default::default(),
        };
        let Some(frame) = frames.next() else { break };
        let frame = frame.unwrap();
        let bytes: Vec<_> =
            frame.writes.iter().map(|write| data.read_to_vec(write, 1 << 30).unwrap()).collect();
        let mut maps = Vec::new();
        while let Some(mapping) = mmaps.next_until(frame.event).unwrap() {
            maps.push(mapping);
        }
        seen.push((position, frame, bytes, maps));
    }
    let table = trace.block_table(StreamName::Data).unwrap();
    for (position, frame, bytes, maps) in seen.iter().rev().step_by(7) {
        frames.seek(position.event, position.frames).unwrap();
        assert_eq!(&frames.next().unwrap().unwrap(), frame);
        mmaps.seek(position.mmaps).unwrap();
        for mapping in maps {
            assert_eq!(mmaps.next_until(frame.event).unwrap().as_ref(), Some(mapping));
        }
        assert_eq!(mmaps.next_until(frame.event).unwrap(), None);
        for start in [position.data, table.position(position.data.offset).unwrap()] {
            data.seek(start).unwrap();
            assert_eq!(data.position().offset, position.data.offset);
            for (write, bytes) in frame.writes.iter().zip(bytes) {
                assert_eq!(&data.read_to_vec(write, 1 << 30).unwrap(), bytes);
            }
        }
    }
    assert_eq!(table.position(table.stream_length() + 1), None);
    assert_eq!(seen.last().unwrap().1.event, Event(seen.len() as u64));
}

#[test]
fn header_of_a_recording() {
    let (_, directory) = support::recordings().into_iter().find(|(n, _)| n == "true").unwrap();
    let trace = Trace::open(&directory.join("trace")).unwrap();
    let header = trace.header();
    assert_eq!(header.bind_to_cpu, Some(0));
    assert!(header.ok && header.preload_thread_locals_recorded);
    assert_eq!(header.rrcall_base, 1000);
    assert_eq!(header.native_arch, Arch::X8664);
    assert_eq!((header.x86.xcr0, header.xcr0()), (231, 231));
    assert!(!header.x86.has_cpuid_faulting);
    let quirks = &header.quirks;
    assert!(!quirks.explicit_proc_mem && !quirks.special_librrpage);
    assert!(quirks.pkey_alloc_recorded_extra_regs && quirks.buffered_syscall_forced_tick);
    assert!(quirks.uses_globals_in_replay, "its default: 5.6 does not write it");
    assert_eq!(header.required_forward_compatibility_version, 3);
    assert_eq!(header.syscallbuf_fds_disabled_size, 1024);
    assert_eq!(header.syscallbuf_header_size, 30);
    assert_eq!((header.uname.as_ref(), header.virtual_address_bits), (None, 47));
    assert_eq!(header.cpuid(0, 17).unwrap().ebx, u32::from_le_bytes(*b"Auth"));
    assert_eq!(header.cpuid(0xd, 2).unwrap().ebx, 576);
    assert_eq!(header.cpuid(0x1234_5678, 0), None);
}

#[test]
fn what_is_not_a_finished_recording_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let open = |path: &Path| Trace::open(path).unwrap_err();
    assert!(matches!(open(&directory.path().join("absent")), Error::Io { .. }));
    assert!(matches!(open(directory.path()), Error::NotATrace { .. }));
    std::fs::write(directory.path().join("incomplete"), b"").unwrap();
    assert!(matches!(open(directory.path()), Error::Incomplete { .. }));
    let version = directory.path().join("version");
    std::fs::create_dir(&version).unwrap();
    let error = open(directory.path());
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert!(error.to_string().ends_with("version"), "{error}");
    assert_eq!(cause.as_deref(), Some("not a regular file"));
    std::fs::remove_dir(&version).unwrap();
    std::fs::write(&version, b"84\n").unwrap();
    assert!(matches!(open(directory.path()), Error::WrongVersion { found: 84, .. }));
    std::fs::write(&version, b"85\n").unwrap();
    assert!(matches!(open(directory.path()), Error::Truncated { offset: 3, .. }));
    std::fs::write(&version, vec![b'1'; 2 << 20]).unwrap();
    assert!(matches!(open(directory.path()), Error::TooLarge { .. }));
}
