//! Every kind of record, written with the schema's own builders and read back.

use capnp::message::Builder;
use model::{Address, Event, Ticks, Tid};

use crate::testing::{blocks, name, packed, tiny_segments};
use crate::trace_capnp as schema;
use crate::*;

type Event15<'a> = schema::frame::event::Builder<'a>;

/// A frame whose event `set` chooses, read back.
fn frame_with(set: impl FnOnce(Event15<'_>)) -> Result<Frame, String> {
    frame_from(|mut frame| {
        frame.set_arch(schema::Arch::X8664);
        set(frame.init_event());
    })
}

fn frame_from(set: impl FnOnce(schema::frame::Builder<'_>)) -> Result<Frame, String> {
    let mut message = tiny_segments();
    set(message.init_root());
    let stream = blocks(&packed(&message), 1 << 16);
    let mut frames = Frames::from_bytes(name(), &stream);
    let result = frames.next().unwrap().map_err(|error| error.to_string());
    assert!(frames.next().is_none());
    result
}

#[test]
fn kinds_without_data() {
    let cases: [(fn(Event15<'_>), EventKind); 11] = [
        (|mut e| e.set_instruction_trap(()), EventKind::InstructionTrap),
        (|mut e| e.set_patch_syscall(()), EventKind::PatchSyscall),
        (|mut e| e.set_syscallbuf_abort_commit(()), EventKind::SyscallbufAbortCommit),
        (|mut e| e.set_syscallbuf_reset(()), EventKind::SyscallbufReset),
        (|mut e| e.set_sched(()), EventKind::Sched),
        (|mut e| e.set_grow_map(()), EventKind::GrowMap),
        (|mut e| e.set_exit(()), EventKind::Exit),
        (|mut e| e.set_patch_after_syscall(()), EventKind::PatchAfterSyscall),
        (|mut e| e.set_patch_vsyscall(()), EventKind::PatchVsyscall),
        (|mut e| e.set_patch_trapping_instruction(()), EventKind::PatchTrappingInstruction),
        (
            |e| _ = e.init_syscallbuf_flush(),
            EventKind::SyscallbufFlush { mprotect_records: vec![] },
        ),
    ];
    for (set, kind) in cases {
        assert_eq!(frame_with(set).unwrap().kind, kind);
    }
}

#[test]
fn signals() {
    let mut siginfo = vec![0; 128];
    siginfo[0] = 11;
    siginfo[8] = 4;
    let set = |mut signal: schema::signal::Builder<'_>| {
        signal.set_siginfo_arch(schema::Arch::X8664);
        signal.set_siginfo(&siginfo);
        signal.set_deterministic(true);
        signal.set_disposition(schema::SignalDisposition::UserHandler);
    };
    let expected = Signal {
        siginfo_arch: Arch::X8664,
        siginfo: siginfo.clone(),
        deterministic: true,
        disposition: Disposition::UserHandler,
    };
    assert_eq!((expected.number(), expected.code()), (11, 4));
    let kind = |frame: Result<Frame, String>| frame.unwrap().kind;
    assert_eq!(kind(frame_with(|e| set(e.init_signal()))), EventKind::Signal(expected.clone()));
    let delivery = kind(frame_with(|e| set(e.init_signal_delivery())));
    assert_eq!(delivery, EventKind::SignalDelivery(expected.clone()));
    let handler = kind(frame_with(|e| set(e.init_signal_handler())));
    assert_eq!(handler, EventKind::SignalHandler(expected));
    let short = frame_with(|e| e.init_signal().set_siginfo(&[0; 11])).unwrap_err();
    assert!(short.contains("11 bytes of siginfo"), "{short}");
}

#[test]
fn system_calls_with_all_their_data() {
    type Syscall15<'a> = schema::frame::event::syscall::Builder<'a>;
    let extra = |set: fn(Syscall15<'_>)| {
        let frame = frame_with(|event| {
            let mut syscall = event.init_syscall();
            syscall.set_arch(schema::Arch::X86);
            syscall.set_number(-7);
            syscall.set_state(schema::SyscallState::Exiting);
            syscall.set_failed_during_preparation(true);
            set(syscall);
        });
        match frame.unwrap().kind {
            EventKind::Syscall(syscall) => {
                assert_eq!((syscall.arch, syscall.number), (Arch::X86, -7));
                assert_eq!(syscall.state, SyscallState::Exiting);
                assert!(syscall.failed_during_preparation);
                syscall.extra
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(extra(|s| s.init_extra().set_none(())), SyscallExtra::None);
    let offset = extra(|s| s.init_extra().set_write_offset(-1));
    assert_eq!(offset, SyscallExtra::WriteOffset(-1));
    let to_close = extra(|s| {
        let mut list = s.init_extra().init_exec_fds_to_close(3);
        (0..3).for_each(|index| list.set(index, index as i32 * 10));
    });
    assert_eq!(to_close, SyscallExtra::ExecFdsToClose(vec![0, 10, 20]));
    let opened = extra(|s| {
        let mut opened = s.init_extra().init_opened_fds(1).get(0);
        opened.set_fd(3);
        opened.set_path(b"/\xff");
        opened.set_device(4);
        opened.set_inode(5);
    });
    let expected = OpenedFd { fd: 3, path: b"/\xff".to_vec(), device: 4, inode: 5 };
    assert_eq!(opened, SyscallExtra::OpenedFds(vec![expected]));
    let sockets = extra(|s| {
        let mut addresses = s.init_extra().init_socket_addrs();
        addresses.set_local_addr(b"l");
        addresses.set_remote_addr(b"remote");
    });
    let (local, remote) = (b"l".to_vec(), b"remote".to_vec());
    assert_eq!(sockets, SyscallExtra::SocketAddrs { local, remote });
    let ranges = extra(|s| {
        let mut range = s.init_extra().init_madvise_ranges(1).get(0);
        range.set_start(0x1000);
        range.set_end(0x3000);
    });
    assert_eq!(ranges, SyscallExtra::MadviseRanges(vec![Address(0x1000)..Address(0x3000)]));
}

#[test]
fn fields_of_a_frame() {
    let raw: Vec<u8> = (0..27u64).flat_map(|word| (word + 100).to_le_bytes()).collect();
    let frame = frame_from(|mut frame| {
        frame.set_tid(42);
        frame.set_ticks(1 << 40);
        frame.set_monotonic_sec(1.5);
        frame.set_arch(schema::Arch::X8664);
        frame.set_in_syscallbuf_syscall_hook(0x7000_0000);
        frame.reborrow().init_registers().set_raw(&raw);
        frame.reborrow().init_extra_registers().set_raw(&[9; 512]);
        let mut writes = frame.init_mem_writes(2);
        let mut write = writes.reborrow().get(1);
        write.set_tid(43);
        write.set_addr(0x5000);
        write.set_size(0x3000);
        write.set_size_is_conservative(true);
        let mut hole = write.init_holes(1).get(0);
        hole.set_offset(0x1000);
        hole.set_size(0x2000);
    })
    .unwrap();
    assert_eq!((frame.event, frame.tid, frame.ticks), (Event(1), Tid(42), Ticks(1 << 40)));
    assert_eq!(frame.monotonic_seconds, 1.5);
    assert_eq!(frame.in_syscallbuf_syscall_hook, Address(0x7000_0000));
    let registers = *frame.registers.as_ref().unwrap().x8664().unwrap();
    let words: Vec<_> = registers.named().map(|(name, word)| format!("{name}={word}")).collect();
    // Where user_regs_struct has them (rr-replay 2.1).
    let expected = "rax=110 rcx=111 rdx=112 rbx=105 rsp=119 rbp=104 rsi=113 rdi=114 r8=109 r9=108 \
                    r10=107 r11=106 r12=103 r13=102 r14=101 r15=100 rip=116 eflags=118 \
                    orig_rax=115 cs=117 ss=120 ds=123 es=124 fs=125 gs=126 fs_base=121 \
                    gs_base=122";
    assert_eq!(words.join(" "), expected);
    assert_eq!(frame.extra_registers, Some(vec![9; 512]));
    assert_eq!(frame.payload_length(), 0x1000);
    assert_eq!(frame.writes[1].holes, [Hole { offset: 0x1000, length: 0x2000 }]);
    assert!(frame.writes[1].length_is_conservative && !frame.writes[0].length_is_conservative);
}

#[test]
fn registers_of_32_bit_tasks() {
    let raw: Vec<u8> = (0..17u32).flat_map(u32::to_le_bytes).collect();
    let frame = frame_from(|frame| frame.init_registers().set_raw(&raw)).unwrap();
    assert_eq!(frame.arch, Arch::X86);
    let Some(FrameRegisters::X86(registers)) = frame.registers else { panic!("{frame:?}") };
    let named: Vec<_> = registers.named().collect();
    assert_eq!(named[6], ("eax", 6));
    assert_eq!(named[16], ("ss", 16));
}

#[test]
fn what_a_frame_must_not_say() {
    let corrupt = |set: fn(schema::frame::Builder<'_>), reason: &str| {
        let error = frame_from(set).unwrap_err();
        assert!(error.starts_with("made: corrupt at offset 0: "), "{error}");
        assert!(error.contains(reason), "{error}");
    };
    corrupt(|mut frame| frame.set_ticks(-1), "-1 ticks");
    corrupt(|frame| frame.init_registers().set_raw(&[0; 216]), "216 bytes of registers for X86");
    corrupt(
        |mut frame| {
            frame.set_arch(schema::Arch::Aarch64);
            frame.init_registers().set_raw(&[0; 8]);
        },
        "aarch64",
    );
    corrupt(
        |frame| {
            let mut write = frame.init_mem_writes(1).get(0);
            write.set_addr(u64::MAX);
            write.set_size(2);
        },
        "a write of 2 bytes at 0xffffffffffffffff",
    );
    corrupt(
        |frame| {
            let mut write = frame.init_mem_writes(1).get(0);
            write.set_size(10);
            let mut holes = write.init_holes(2);
            holes.reborrow().get(0).set_size(5);
            holes.reborrow().get(1).set_offset(4);
        },
        "a hole of 0 bytes at 4 (the one before ends at 5)",
    );
    corrupt(
        |frame| frame.init_event().init_syscallbuf_flush().set_mprotect_records(&[0; 25]),
        "25 bytes of mprotect records",
    );
}

/// Sets 16 bits of the root struct's data: tags and enums beyond what the schema knows.
fn poked(set: impl FnOnce(schema::frame::Builder<'_>), bit: usize, value: u16) -> String {
    let mut message = Builder::new_default();
    set(message.init_root());
    let mut bytes = Vec::new();
    capnp::serialize::write_message(&mut bytes, &message).unwrap();
    // The segment table and the root pointer, then the data section.
    let at = 16 + bit / 8;
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    // Packing by hand: every word as one literal.
    let packed: Vec<u8> = bytes
        .chunks(8)
        .flat_map(|word| {
            let tag = (0..8).fold(0, |tag, bit| tag | u8::from(word[bit] != 0) << bit);
            let mut packed = vec![tag];
            packed.extend(word.iter().filter(|&&byte| byte != 0));
            if matches!(tag, 0 | 0xff) {
                packed.push(0);
            }
            packed
        })
        .collect();
    let mut frames = Frames::from_bytes(name(), &blocks(&packed, 1 << 16));
    match frames.next().unwrap() {
        Ok(frame) => format!("{:?}", frame.kind),
        Err(error) => error.to_string(),
    }
}

#[test]
fn unknown_tags_are_errors() {
    let nothing = |_: schema::frame::Builder<'_>| {};
    assert_eq!(poked(nothing, 48, 14), "PatchTrappingInstruction");
    assert!(poked(nothing, 48, 15).contains("unknown kind 15 of event"));
    assert!(poked(nothing, 32, 3).contains("corrupt"));
    let syscall = |frame: schema::frame::Builder<'_>| _ = frame.init_event().init_syscall();
    assert!(poked(syscall, 272, 6).contains("unknown kind 6 of system call data"));
    assert!(poked(syscall, 208, 3).contains("corrupt"));
    assert!(poked(syscall, 192, 3).contains("corrupt"));
}

#[test]
fn mappings() {
    let map = |set: fn(schema::m_map::Builder<'_>)| {
        let mut message = tiny_segments();
        set(message.init_root());
        MMaps::from_bytes(name(), &blocks(&packed(&message), 1 << 16))
            .next()
            .unwrap()
            .map_err(|error| error.to_string())
    };
    let full = map(|mut map| {
        map.set_frame_time(9);
        map.set_start(0x1000);
        map.set_end(0x3000);
        map.set_fsname(b"/lib/x");
        map.set_device(1);
        map.set_inode(2);
        map.set_prot(5);
        map.set_flags(0x12);
        map.set_file_offset_bytes(0x2000);
        map.set_stat_mode(0o100644);
        map.set_stat_size(12345);
        map.set_skip_monitoring_mapped_fd(true);
        let mut remote = map.reborrow().init_extra_fds(1).get(0);
        remote.set_tid(7);
        remote.set_fd(8);
        map.init_source().init_file().set_backing_file_name(b"mmap_copy_1_x");
    })
    .unwrap();
    let expected = MMap {
        event: Event(9),
        range: Address(0x1000)..Address(0x3000),
        name: b"/lib/x".to_vec(),
        device: 1,
        inode: 2,
        prot: 5,
        flags: 0x12,
        file_offset: 0x2000,
        stat: Stat { mode: 0o100644, size: 12345, ..Stat::default() },
        source: MapSource::File { backing_name: b"mmap_copy_1_x".to_vec() },
        extra_fds: vec![RemoteFd { tid: Tid(7), fd: 8 }],
        skip_monitoring_mapped_fd: true,
    };
    assert_eq!(full, expected);
    assert_eq!(map(|_| {}).unwrap().source, MapSource::Zero);
    let trace = map(|map| map.init_source().set_trace(()));
    assert_eq!(trace.unwrap().source, MapSource::Trace);
    assert!(map(|mut map| map.set_start(1)).unwrap_err().contains("a mapping from 0x1 to 0x0"));
    assert!(map(|mut map| map.set_end(1)).unwrap_err().contains("a mapping from 0x0 to 0x1"));
    assert!(map(|mut map| map.set_frame_time(-1)).unwrap_err().contains("frame time -1"));
    assert!(map(|mut map| map.set_file_offset_bytes(-1)).unwrap_err().contains("file offset"));
}

#[test]
fn task_events() {
    let task = |set: fn(schema::task_event::Builder<'_>)| {
        let mut message = tiny_segments();
        set(message.init_root());
        let stream = blocks(&packed(&message), 1 << 16);
        Tasks::from_bytes(name(), &stream).next().unwrap().unwrap()
    };
    let clone = task(|mut task| {
        task.set_tid(5);
        let mut clone = task.init_clone();
        clone.set_parent_tid(4);
        clone.set_flags(0x100);
        clone.set_own_ns_tid(2);
    });
    let kind = TaskEventKind::Clone { parent: Tid(4), flags: 0x100, own_namespace_tid: Tid(2) };
    assert_eq!(clone, TaskEvent { event: Event(0), tid: Tid(5), kind });
    // As rr before 5.6 wrote it: no interpreter.
    let exec = task(|task| {
        let mut exec = task.init_exec();
        exec.set_file_name(b"/bin/x");
        exec.set_exe_base(0x4000);
        exec.init_cmd_line(2).set(1, b"-v");
    });
    let kind = TaskEventKind::Exec {
        file_name: b"/bin/x".to_vec(),
        command_line: vec![vec![], b"-v".to_vec()],
        exe_base: Address(0x4000),
        interpreter_base: Address(0),
        interpreter_name: vec![],
        pointer_authentication: vec![],
    };
    assert_eq!(exec.kind, kind);
    let exit = task(|task| task.init_exit().set_exit_status(0x8b));
    assert_eq!(exit.kind, TaskEventKind::Exit { status: 0x8b });
    assert_eq!(task(|mut task| task.set_detach(())).kind, TaskEventKind::Detach);
}

fn header_from(set: impl FnOnce(schema::header::Builder<'_>)) -> Result<Header, String> {
    let mut message = tiny_segments();
    let mut header = message.init_root::<schema::header::Builder<'_>>();
    header.set_uuid(&[7; 16]);
    set(header);
    let bytes = [b"85\n", &packed(&message)[..]].concat();
    Header::parse(name(), &bytes).map_err(|error| error.to_string())
}

#[test]
fn absent_header_fields_describe_the_oldest_recorder() {
    let header = header_from(|_| {}).unwrap();
    assert_eq!((header.uuid, header.bind_to_cpu), ([7; 16], Some(0)));
    assert!(header.ok && !header.preload_thread_locals_recorded);
    assert_eq!((header.rrcall_base, header.native_arch), (442, Arch::X8664));
    let quirks = header.quirks;
    assert!(quirks.explicit_proc_mem && quirks.special_librrpage && quirks.uses_globals_in_replay);
    assert!(!quirks.pkey_alloc_recorded_extra_regs && !quirks.buffered_syscall_forced_tick);
    assert_eq!((header.runtime_page_size, header.preload_library_page_size), (4096, 4096));
    assert_eq!((header.syscallbuf_fds_disabled_size, header.syscallbuf_header_size), (1024, 30));
    assert_eq!((header.chaos_mode, header.cpu_improperly_configured), (None, None));
    assert_eq!((header.uname.is_none(), header.virtual_address_bits), (true, 47));
    // XCR0 unknown and no leaf 0xd: x87 and SSE.
    assert_eq!(header.xcr0(), 3);
}

#[test]
fn header_fields_of_later_recorders() {
    let header = header_from(|mut header| {
        header.set_bind_to_cpu(-1);
        header.set_max_virtual_address_size(56);
        header.set_chaos_mode(schema::ChaosMode::KnownTrue);
        header.set_cpu_improperly_configured(schema::CpuTriState::KnownFalse);
        header.set_syscallbuf_fds_disabled_size(16384);
        header.set_syscallbuf_hdr_size(32);
        header.reborrow().init_uname().set_release(b"6.1");
        header.reborrow().get_quirks().set_uses_globals_in_replay(false);
        let words = [0xd, 0, 7, 0, 0, 1, 1, u32::MAX, 1, 2, 3, 4];
        let raw: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        header.get_x86().set_cpuid_records(&raw);
    })
    .unwrap();
    assert_eq!((header.bind_to_cpu, header.virtual_address_bits), (None, 56));
    assert_eq!((header.chaos_mode, header.cpu_improperly_configured), (Some(true), Some(false)));
    assert_eq!((header.syscallbuf_fds_disabled_size, header.syscallbuf_header_size), (16384, 32));
    assert_eq!(header.uname.as_ref().unwrap().release, b"6.1");
    assert!(!header.quirks.uses_globals_in_replay);
    assert_eq!(header.xcr0(), 1 << 32 | 7);
    assert_eq!(header.cpuid(1, 99).unwrap().edx, 4);
    assert_eq!(header.cpuid(0xd, 1), None);
}

#[test]
fn headers_that_are_refused() {
    let refused = |set: fn(schema::header::Builder<'_>), field: &str| {
        let error = header_from(set).unwrap_err();
        assert!(error.starts_with(&format!("made: {field} is ")), "{error}");
    };
    let compatible = header_from(|mut h| h.set_required_forward_compatibility_version(3));
    assert!(compatible.is_ok());
    refused(
        |mut h| h.set_required_forward_compatibility_version(4),
        "requiredForwardCompatibilityVersion",
    );
    refused(|mut h| h.set_native_arch(schema::Arch::Aarch64), "nativeArch");
    refused(|mut h| h.set_ticks_semantics(schema::TicksSemantics::TakenBranches), "ticksSemantics");
    refused(|mut h| h.set_syscallbuf_protocol_version(1), "syscallbufProtocolVersion");
    refused(|mut h| h.set_runtime_page_size(65536), "runtimePageSize");
    refused(|mut h| h.set_syscallbuf_hdr_size(1 << 30), "syscallbufHdrSize");
    assert!(header_from(|mut h| h.set_uuid(&[1])).unwrap_err().contains("a uuid of 1 bytes"));
    let parse = |bytes: &[u8]| Header::parse(name(), bytes).unwrap_err().to_string();
    assert!(parse(b"").contains("does not begin with a version number"));
    assert!(parse(b"x\n").contains("does not begin with a version number"));
    assert!(parse(b"99999999999999999999999\n").contains("does not begin"));
    assert!(parse(b"85").contains("ends inside the version number"));
    assert!(parse(b"86\n").contains("trace version 86"));
}

#[test]
fn names_of_backing_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut message = Builder::new_default();
    message.init_root::<schema::header::Builder<'_>>().set_uuid(&[0; 16]);
    let bytes = [b"85\n", &packed(&message)[..]].concat();
    std::fs::write(directory.path().join("version"), bytes).unwrap();
    let trace = Trace::open(directory.path()).unwrap();
    let path = |name: &[u8]| {
        let source = MapSource::File { backing_name: name.to_vec() };
        trace.backing_path(&MMap { source, ..map_of_nothing() })
    };
    assert_eq!(path(b"mmap_1").unwrap(), Some(directory.path().join("mmap_1")));
    assert_eq!(path(b"/usr/bin/true").unwrap(), Some("/usr/bin/true".into()));
    for bad in [&b""[..], b".", b"..", b"../x", b"a/b", b"a\0b", b"/a\0b"] {
        assert!(matches!(path(bad), Err(Error::BackingName { .. })), "{bad:?}");
    }
    assert_eq!(trace.backing_path(&map_of_nothing()).unwrap(), None);
}

#[test]
fn changed_backing_files() {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata("/proc/self/exe").unwrap();
    let stat = Stat {
        mode: file.mode(),
        uid: file.uid(),
        gid: file.gid(),
        size: file.size() as i64,
        mtime: file.mtime(),
    };
    let map = |name: &str, stat: Stat| {
        let source = MapSource::File { backing_name: name.as_bytes().to_vec() };
        MMap { source, stat, inode: file.ino(), ..map_of_nothing() }
    };
    let changes = |name, stat| map(name, stat).changes_since_recording(&file);
    assert_eq!(changes("/bin/x", stat), [""; 0]);
    let other = Stat { mtime: 1, size: 2, ..stat };
    assert_eq!(changes("/bin/x", other), ["size", "modification time"]);
    assert_eq!(changes("mmap_hardlink_3_x", other), ["size", "modification time"]);
    // Copies do not change, and a packed recording does not know.
    assert_eq!(changes("mmap_copy_3_x", other), [""; 0]);
    assert_eq!(changes("mmap_pack_3_x", Stat { size: 2, ..Stat::default() }), [""; 0]);
}

fn map_of_nothing() -> MMap {
    MMap {
        event: Event(1),
        range: Address(0)..Address(0),
        name: vec![],
        device: 0,
        inode: 0,
        prot: 0,
        flags: 0,
        file_offset: 0,
        stat: Stat::default(),
        source: MapSource::Zero,
        extra_fds: vec![],
        skip_monitoring_mapped_fd: false,
    }
}
