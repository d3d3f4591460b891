//! The header: how, where and under which rules the recording was made.

use std::path::Path;

use crate::{Arch, Error};

/// Of every rr from 5.4 on.
pub const TRACE_VERSION: u64 = 85;
/// Recordings that require more than this were made by a later rr with new rules.
pub const FORWARD_COMPATIBILITY_VERSION: i32 = 3;

/// Fields that an older recorder did not write hold the value that describes its behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub uuid: [u8; 16],
    /// CPU that the recording was pinned to; `None` if it was not.
    pub bind_to_cpu: Option<u32>,
    pub syscallbuf_protocol_version: u16,
    /// False: the recorder died of an internal error, the tail may be missing.
    pub ok: bool,
    pub preload_thread_locals_recorded: bool,
    /// Number of the first system call that is rr's own.
    pub rrcall_base: i32,
    pub native_arch: Arch,
    pub x86: X86Header,
    pub quirks: Quirks,
    pub chaos_mode: Option<bool>,
    pub exclusion_range: std::ops::Range<model::Address>,
    pub required_forward_compatibility_version: i32,
    pub runtime_page_size: u32,
    pub preload_library_page_size: u32,
    /// Entries of the preload library's table of descriptor classes.
    pub syscallbuf_fds_disabled_size: u32,
    /// Bytes in front of the records of a syscall buffer.
    pub syscallbuf_header_size: u32,
    /// rr 5.8 and later.
    pub uname: Option<UtsName>,
    /// Bits of a virtual address.
    pub virtual_address_bits: u8,
    /// The recorder's guess whether its CPU counts wrongly.
    pub cpu_improperly_configured: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X86Header {
    /// CPUID instructions are events.
    pub has_cpuid_faulting: bool,
    pub cpuid_records: Vec<CpuidRecord>,
    /// 0 is "unknown" in the file; see [`Header::xcr0`].
    pub xcr0: u64,
    pub xsave_fip_fdp_quirk: Option<bool>,
    pub fdp_exception_only_quirk: Option<bool>,
    /// FIP and FDP are zeroed at every frame.
    pub clear_fip_fdp: bool,
}

/// One recorded result of CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuidRecord {
    pub eax_in: u32,
    /// `None`: whatever ECX holds.
    pub ecx_in: Option<u32>,
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// Which of several behaviours the recorder had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// Writes through /proc/pid/mem are recorded as memory writes.
    pub explicit_proc_mem: bool,
    pub special_librrpage: bool,
    pub pkey_alloc_recorded_extra_regs: bool,
    pub buffered_syscall_forced_tick: bool,
    /// The in-replay flag and the breakpoint value are in the preload library's globals.
    pub uses_globals_in_replay: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UtsName {
    pub sysname: Vec<u8>,
    pub nodename: Vec<u8>,
    pub release: Vec<u8>,
    pub version: Vec<u8>,
    pub machine: Vec<u8>,
    pub domainname: Vec<u8>,
}

impl Header {
    /// What CPUID answered during the recording.
    pub fn cpuid(&self, eax: u32, ecx: u32) -> Option<&CpuidRecord> {
        let matches = |record: &&CpuidRecord| {
            record.eax_in == eax && record.ecx_in.is_none_or(|recorded| recorded == ecx)
        };
        self.x86.cpuid_records.iter().find(matches)
    }

    /// The recorded XCR0, or what follows from CPUID where it was not recorded.
    pub fn xcr0(&self) -> u64 {
        if self.x86.xcr0 != 0 {
            return self.x86.xcr0;
        }
        let x87_and_sse = 3;
        self.cpuid(0xd, 0)
            .map_or(x87_and_sse, |leaf| u64::from(leaf.edx) << 32 | u64::from(leaf.eax))
    }

    /// Reads the file `version`, given as bytes, and refuses what cannot be replayed.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Header, Error> {
        let _ = (file, bytes);
        todo!()
    }
}
