//! Decodes the header message (rr-replay 1.8 and appendix A).

use capnp::NotInSchema;
use model::Address;

use super::{arch, invalid};
use crate::stream::Message;
use crate::trace_capnp as schema;
use crate::{CpuidRecord, Header, Quirks, UtsName, X86Header};

const CPUID_RECORD_BYTES: usize = 24;
const ANY_ECX: u32 = u32::MAX;
/// What `maxVirtualAddressSize` 0 stands for: four-level page tables.
const VIRTUAL_ADDRESS_BITS: u8 = 47;

/// The header, and the raw value of `ticksSemantics`, which decides whether it can be used.
pub(crate) fn header(message: &Message<'_>) -> capnp::Result<(Header, i64)> {
    let header = message.reader.get_root::<schema::header::Reader<'_>>()?;
    let uuid = header.get_uuid()?;
    let uuid = uuid.try_into().map_err(|_| invalid(format!("a uuid of {} bytes", uuid.len())))?;
    let quirks = header.get_quirks();
    let ticks_semantics = match header.get_ticks_semantics() {
        Ok(value) => value as i64,
        Err(NotInSchema(value)) => value.into(),
    };
    let header = Header {
        uuid,
        bind_to_cpu: u32::try_from(header.get_bind_to_cpu()).ok(),
        syscallbuf_protocol_version: header.get_syscallbuf_protocol_version(),
        ok: header.get_ok(),
        preload_thread_locals_recorded: header.get_preload_thread_locals_recorded(),
        rrcall_base: header.get_rrcall_base(),
        native_arch: arch(header.get_native_arch())?,
        x86: x86(header.get_x86())?,
        quirks: Quirks {
            explicit_proc_mem: quirks.get_explicit_proc_mem(),
            special_librrpage: quirks.get_special_librrpage(),
            pkey_alloc_recorded_extra_regs: quirks.get_pkey_alloc_recorded_extra_regs(),
            buffered_syscall_forced_tick: quirks.get_buffered_syscall_forced_tick(),
            uses_globals_in_replay: quirks.get_uses_globals_in_replay(),
        },
        chaos_mode: match header.get_chaos_mode()? {
            schema::ChaosMode::Unknown => None,
            schema::ChaosMode::KnownTrue => Some(true),
            schema::ChaosMode::KnownFalse => Some(false),
        },
        exclusion_range: Address(header.get_exclusion_range_start())
            ..Address(header.get_exclusion_range_end()),
        required_forward_compatibility_version: header.get_required_forward_compatibility_version(),
        runtime_page_size: header.get_runtime_page_size(),
        preload_library_page_size: header.get_preload_library_page_size(),
        syscallbuf_fds_disabled_size: header.get_syscallbuf_fds_disabled_size(),
        syscallbuf_header_size: header.get_syscallbuf_hdr_size(),
        uname: match header.has_uname() {
            true => Some(uname(header.get_uname()?)?),
            false => None,
        },
        virtual_address_bits: match header.get_max_virtual_address_size() {
            0 => VIRTUAL_ADDRESS_BITS,
            bits => bits,
        },
        cpu_improperly_configured: tri_state(header.get_cpu_improperly_configured())?,
    };
    Ok((header, ticks_semantics))
}

fn x86(x86: schema::header::x86::Reader<'_>) -> capnp::Result<X86Header> {
    Ok(X86Header {
        has_cpuid_faulting: x86.get_has_cpuid_faulting(),
        cpuid_records: cpuid_records(x86.get_cpuid_records()?)?,
        xcr0: x86.get_xcr0(),
        xsave_fip_fdp_quirk: tri_state(x86.get_xsave_fip_fdp_quirk())?,
        fdp_exception_only_quirk: tri_state(x86.get_fdp_exception_only_quirk())?,
        clear_fip_fdp: x86.get_clear_fip_fdp(),
    })
}

fn cpuid_records(raw: &[u8]) -> capnp::Result<Vec<CpuidRecord>> {
    let (records, rest) = raw.as_chunks::<CPUID_RECORD_BYTES>();
    if !rest.is_empty() {
        return Err(invalid(format!("{} bytes of CPUID records", raw.len())));
    }
    let record = |bytes: &[u8; CPUID_RECORD_BYTES]| {
        let (words, _) = bytes.as_chunks::<4>();
        let word = |index: usize| u32::from_le_bytes(words[index]);
        CpuidRecord {
            eax_in: word(0),
            ecx_in: Some(word(1)).filter(|&ecx| ecx != ANY_ECX),
            eax: word(2),
            ebx: word(3),
            ecx: word(4),
            edx: word(5),
        }
    };
    Ok(records.iter().map(record).collect())
}

fn tri_state(value: Result<schema::CpuTriState, NotInSchema>) -> capnp::Result<Option<bool>> {
    Ok(match value? {
        schema::CpuTriState::Unknown => None,
        schema::CpuTriState::KnownTrue => Some(true),
        schema::CpuTriState::KnownFalse => Some(false),
    })
}

fn uname(uname: schema::uts_name::Reader<'_>) -> capnp::Result<UtsName> {
    Ok(UtsName {
        sysname: uname.get_sysname()?.to_vec(),
        nodename: uname.get_nodename()?.to_vec(),
        release: uname.get_release()?.to_vec(),
        version: uname.get_version()?.to_vec(),
        machine: uname.get_machine()?.to_vec(),
        domainname: uname.get_domainname()?.to_vec(),
    })
}
