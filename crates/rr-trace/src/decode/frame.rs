//! Decodes frames (rr-replay 4 and appendix A).

use capnp::NotInSchema;
use model::{Address, Event, Ticks, Tid};

use super::{arch, check_list, invalid};
use crate::stream::Message;
use crate::trace_capnp as schema;
use crate::trace_capnp::frame::event as event_schema;
use crate::trace_capnp::frame::event::syscall::extra as extra_schema;
use crate::{
    Arch, Disposition, EventKind, Frame, FrameRegisters, Hole, MemWrite, MprotectRecord, OpenedFd,
    Signal, Syscall, SyscallExtra, SyscallState, registers,
};

const MPROTECT_RECORD_BYTES: usize = 24;
/// `si_signo`, `si_errno`, `si_code`.
const SIGINFO_BYTES_MIN: usize = 12;

pub(crate) fn frame(message: &Message<'_>, event: Event) -> capnp::Result<Frame> {
    let frame = message.reader.get_root::<schema::frame::Reader<'_>>()?;
    let arch = arch(frame.get_arch())?;
    let ticks = frame.get_ticks();
    let ticks = u64::try_from(ticks).map_err(|_| invalid(format!("{ticks} ticks")))?;
    let extra = frame.get_extra_registers()?.get_raw()?;
    Ok(Frame {
        event,
        tid: Tid(frame.get_tid()),
        ticks: Ticks(ticks),
        monotonic_seconds: frame.get_monotonic_sec(),
        arch,
        registers: frame_registers(arch, frame.get_registers()?.get_raw()?)?,
        extra_registers: (!extra.is_empty()).then(|| extra.to_vec()),
        in_syscallbuf_syscall_hook: Address(frame.get_in_syscallbuf_syscall_hook()),
        writes: writes(message, frame)?,
        kind: kind(message, frame.get_event())?,
    })
}

fn frame_registers(arch: Arch, raw: &[u8]) -> capnp::Result<Option<FrameRegisters>> {
    if raw.is_empty() {
        return Ok(None);
    }
    let parsed = match arch {
        Arch::X8664 => registers::parse_64(raw).map(FrameRegisters::X8664),
        Arch::X86 => registers::parse_32(raw).map(FrameRegisters::X86),
        Arch::Aarch64 => return Err(invalid("a frame of an aarch64 task")),
    };
    match parsed {
        Some(registers) => Ok(Some(registers)),
        None => Err(invalid(format!("{} bytes of registers for {arch:?}", raw.len()))),
    }
}

fn writes(message: &Message<'_>, frame: schema::frame::Reader<'_>) -> capnp::Result<Vec<MemWrite>> {
    let list = frame.get_mem_writes()?;
    check_list("memory writes", list.len(), message, 1)?;
    list.iter().map(|write| mem_write(message, write)).collect()
}

fn mem_write(
    message: &Message<'_>,
    write: schema::mem_write::Reader<'_>,
) -> capnp::Result<MemWrite> {
    let (address, length) = (write.get_addr(), write.get_size());
    if address.checked_add(length).is_none() {
        return Err(invalid(format!("a write of {length} bytes at {address:#x}")));
    }
    let list = write.get_holes()?;
    check_list("holes", list.len(), message, 1)?;
    let mut holes = Vec::with_capacity(list.len() as usize);
    let mut last_end = 0;
    for hole in list.iter() {
        let (offset, hole_length) = (hole.get_offset(), hole.get_size());
        let end = offset.checked_add(hole_length).filter(|&end| end <= length);
        let (Some(end), true) = (end, offset >= last_end) else {
            return Err(invalid(format!(
                "a hole of {hole_length} bytes at {offset} (the one before ends at {last_end}) \
                 in a write of {length}"
            )));
        };
        last_end = end;
        holes.push(Hole { offset, length: hole_length });
    }
    Ok(MemWrite {
        tid: Tid(write.get_tid()),
        address: Address(address),
        length,
        holes,
        length_is_conservative: write.get_size_is_conservative(),
    })
}

fn kind(message: &Message<'_>, event: event_schema::Reader<'_>) -> capnp::Result<EventKind> {
    use event_schema::Which;
    Ok(match event.which().map_err(|NotInSchema(tag)| unknown("event", tag))? {
        Which::InstructionTrap(()) => EventKind::InstructionTrap,
        Which::PatchSyscall(()) => EventKind::PatchSyscall,
        Which::SyscallbufAbortCommit(()) => EventKind::SyscallbufAbortCommit,
        Which::SyscallbufReset(()) => EventKind::SyscallbufReset,
        Which::Sched(()) => EventKind::Sched,
        Which::GrowMap(()) => EventKind::GrowMap,
        Which::Signal(value) => EventKind::Signal(signal(value?)?),
        Which::SignalDelivery(value) => EventKind::SignalDelivery(signal(value?)?),
        Which::SignalHandler(value) => EventKind::SignalHandler(signal(value?)?),
        Which::Exit(()) => EventKind::Exit,
        Which::SyscallbufFlush(flush) => EventKind::SyscallbufFlush {
            mprotect_records: mprotect_records(flush.get_mprotect_records()?)?,
        },
        Which::Syscall(value) => EventKind::Syscall(syscall(message, value)?),
        Which::PatchAfterSyscall(()) => EventKind::PatchAfterSyscall,
        Which::PatchVsyscall(()) => EventKind::PatchVsyscall,
        Which::PatchTrappingInstruction(()) => EventKind::PatchTrappingInstruction,
    })
}

fn signal(signal: schema::signal::Reader<'_>) -> capnp::Result<Signal> {
    let siginfo = signal.get_siginfo()?;
    if siginfo.len() < SIGINFO_BYTES_MIN {
        return Err(invalid(format!("{} bytes of siginfo", siginfo.len())));
    }
    Ok(Signal {
        siginfo_arch: arch(signal.get_siginfo_arch())?,
        siginfo: siginfo.to_vec(),
        deterministic: signal.get_deterministic(),
        disposition: match signal.get_disposition()? {
            schema::SignalDisposition::Fatal => Disposition::Fatal,
            schema::SignalDisposition::UserHandler => Disposition::UserHandler,
            schema::SignalDisposition::Ignored => Disposition::Ignored,
        },
    })
}

fn mprotect_records(raw: &[u8]) -> capnp::Result<Vec<MprotectRecord>> {
    let (records, rest) = raw.as_chunks::<MPROTECT_RECORD_BYTES>();
    if !rest.is_empty() {
        return Err(invalid(format!("{} bytes of mprotect records", raw.len())));
    }
    let record = |bytes: &[u8; MPROTECT_RECORD_BYTES]| {
        let (words, _) = bytes.as_chunks::<8>();
        MprotectRecord {
            start: Address(u64::from_le_bytes(words[0])),
            length: u64::from_le_bytes(words[1]),
            prot: i32::from_le_bytes([words[2][0], words[2][1], words[2][2], words[2][3]]),
        }
    };
    Ok(records.iter().map(record).collect())
}

fn syscall(
    message: &Message<'_>,
    syscall: event_schema::syscall::Reader<'_>,
) -> capnp::Result<Syscall> {
    Ok(Syscall {
        arch: arch(syscall.get_arch())?,
        number: syscall.get_number(),
        state: match syscall.get_state()? {
            schema::SyscallState::EnteringPtrace => SyscallState::EnteringPtrace,
            schema::SyscallState::Entering => SyscallState::Entering,
            schema::SyscallState::Exiting => SyscallState::Exiting,
        },
        failed_during_preparation: syscall.get_failed_during_preparation(),
        extra: extra(message, syscall.get_extra())?,
    })
}

fn extra(message: &Message<'_>, extra: extra_schema::Reader<'_>) -> capnp::Result<SyscallExtra> {
    use extra_schema::Which;
    let unknown_extra = |NotInSchema(tag)| unknown("system call data", tag);
    Ok(match extra.which().map_err(unknown_extra)? {
        Which::None(()) => SyscallExtra::None,
        Which::WriteOffset(offset) => SyscallExtra::WriteOffset(offset),
        Which::ExecFdsToClose(list) => {
            let list = list?;
            check_list("descriptors", list.len(), message, 2)?;
            SyscallExtra::ExecFdsToClose(list.iter().collect())
        }
        Which::OpenedFds(list) => {
            let list = list?;
            check_list("opened files", list.len(), message, 1)?;
            SyscallExtra::OpenedFds(list.iter().map(opened_fd).collect::<Result<_, _>>()?)
        }
        Which::SocketAddrs(addresses) => SyscallExtra::SocketAddrs {
            local: addresses.get_local_addr()?.to_vec(),
            remote: addresses.get_remote_addr()?.to_vec(),
        },
        Which::MadviseRanges(list) => {
            let list = list?;
            check_list("ranges", list.len(), message, 1)?;
            let range = |range: schema::mem_range::Reader<'_>| {
                Address(range.get_start())..Address(range.get_end())
            };
            SyscallExtra::MadviseRanges(list.iter().map(range).collect())
        }
    })
}

fn opened_fd(opened: schema::opened_fd::Reader<'_>) -> capnp::Result<OpenedFd> {
    Ok(OpenedFd {
        fd: opened.get_fd(),
        path: opened.get_path()?.to_vec(),
        device: opened.get_device(),
        inode: opened.get_inode(),
    })
}

fn unknown(what: &str, tag: u16) -> capnp::Error {
    invalid(format!("unknown kind {tag} of {what}: made by a later rr?"))
}
