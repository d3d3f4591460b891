//! The header: how, where and under which rules the recording was made.

use std::path::Path;

use crate::stream::{Messages, Plain};
use crate::{Arch, Error, decode};

/// Of every rr from 5.4 on.
pub const TRACE_VERSION: u64 = 85;
/// Recordings that require more than this were made by a later rr with new rules.
pub const FORWARD_COMPATIBILITY_VERSION: i32 = 3;

/// No rr comes near these; a reader of memory may rely on them.
const FDS_DISABLED_MAX: u32 = 1 << 20;
const SYSCALLBUF_HEADER_MAX: u32 = 4096;
const VERSION_DIGITS_MAX: usize = 19;

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
        let start = parse_version(file, bytes)?;
        let mut messages = Messages::new(Plain::new(file, bytes, start));
        let Some((header, ticks_semantics)) = messages.next(decode::header)? else {
            let reason = "no header behind the version number".to_owned();
            return Err(Error::Truncated { file: file.into(), offset: start as u64, reason });
        };
        header.check(file, ticks_semantics)?;
        Ok(header)
    }

    fn check(&self, file: &Path, ticks_semantics: i64) -> Result<(), Error> {
        let refuse = |field, found: i64, supported| {
            Err(Error::Unsupported { file: file.into(), field, found, supported })
        };
        let required = self.required_forward_compatibility_version;
        if required > FORWARD_COMPATIBILITY_VERSION {
            let field = "requiredForwardCompatibilityVersion";
            return refuse(field, required.into(), "at most 3 (made by a later rr)");
        }
        if self.native_arch == Arch::Aarch64 {
            return refuse("nativeArch", 2, "0 and 1 (x86 and x86-64)");
        }
        if ticks_semantics != 0 {
            return refuse("ticksSemantics", ticks_semantics, "0 (retired conditional branches)");
        }
        let protocol = self.syscallbuf_protocol_version;
        if protocol > 0 {
            return refuse("syscallbufProtocolVersion", protocol.into(), "0");
        }
        for (field, found) in [
            ("runtimePageSize", self.runtime_page_size),
            ("preloadLibraryPageSize", self.preload_library_page_size),
        ] {
            if u64::from(found) != model::PAGE_SIZE {
                return refuse(field, found.into(), "4096");
            }
        }
        if self.syscallbuf_fds_disabled_size > FDS_DISABLED_MAX {
            let found = self.syscallbuf_fds_disabled_size.into();
            return refuse("syscallbufFdsDisabledSize", found, "at most 1048576");
        }
        if self.syscallbuf_header_size > SYSCALLBUF_HEADER_MAX {
            return refuse("syscallbufHdrSize", self.syscallbuf_header_size.into(), "at most 4096");
        }
        Ok(())
    }
}

/// Checks the decimal number and newline in front of the header; returns where that begins.
fn parse_version(file: &Path, bytes: &[u8]) -> Result<usize, Error> {
    let digits = bytes.iter().take(VERSION_DIGITS_MAX).take_while(|b| b.is_ascii_digit()).count();
    let number = str::from_utf8(&bytes[..digits]).ok().and_then(|text| text.parse().ok());
    match number {
        Some(_) if digits == bytes.len() => {
            let reason = "ends inside the version number".to_owned();
            Err(Error::Truncated { file: file.into(), offset: digits as u64, reason })
        }
        Some(found) if bytes[digits] == b'\n' && found != TRACE_VERSION => {
            Err(Error::WrongVersion { file: file.into(), found })
        }
        Some(_) if bytes[digits] == b'\n' => Ok(digits + 1),
        _ => {
            let reason = "does not begin with a version number and a newline".to_owned();
            Err(Error::Corrupt { file: file.into(), offset: 0, reason })
        }
    }
}
