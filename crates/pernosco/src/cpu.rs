//! Compares the recording's processor with this machine's: what is missing, what may compute
//! differently.
//!
//! Only features that user programs can use are looked at (Intel SDM vol. 2A, CPUID; AMD APM
//! vol. 3, appendix E).

use rr_trace::{CpuidRecord, Header};

const EXTENDED: u32 = 0x8000_0001;
const BRAND: [u32; 3] = [0x8000_0002, 0x8000_0003, 0x8000_0004];

/// A register of one CPUID leaf, and the names of its bits.
struct Leaf {
    leaf: u32,
    subleaf: u32,
    register: fn(&CpuidRecord) -> u32,
    bits: &'static [(u32, &'static str)],
}

#[rustfmt::skip]
const LEAVES: [Leaf; 11] = [
    Leaf { leaf: 1, subleaf: 0, register: |r| r.ecx, bits: &[
        (0, "sse3"), (1, "pclmulqdq"), (9, "ssse3"), (12, "fma"), (13, "cmpxchg16b"),
        (19, "sse4.1"), (20, "sse4.2"), (22, "movbe"), (23, "popcnt"), (25, "aes"),
        (26, "xsave"), (28, "avx"), (29, "f16c"), (30, "rdrand"),
    ] },
    Leaf { leaf: 1, subleaf: 0, register: |r| r.edx, bits: &[
        (0, "x87"), (4, "tsc"), (8, "cmpxchg8b"), (15, "cmov"), (19, "clflush"), (23, "mmx"),
        (24, "fxsave"), (25, "sse"), (26, "sse2"),
    ] },
    Leaf { leaf: 7, subleaf: 0, register: |r| r.ebx, bits: &[
        (0, "fsgsbase"), (3, "bmi1"), (4, "hle"), (5, "avx2"), (8, "bmi2"), (9, "erms"),
        (11, "rtm"), (14, "mpx"), (16, "avx512f"), (17, "avx512dq"), (18, "rdseed"),
        (19, "adx"), (21, "avx512ifma"), (23, "clflushopt"), (24, "clwb"), (26, "avx512pf"),
        (27, "avx512er"), (28, "avx512cd"), (29, "sha"), (30, "avx512bw"), (31, "avx512vl"),
    ] },
    Leaf { leaf: 7, subleaf: 0, register: |r| r.ecx, bits: &[
        (1, "avx512vbmi"), (4, "protection keys"), (5, "waitpkg"), (6, "avx512vbmi2"),
        (7, "shadow stacks"), (8, "gfni"), (9, "vaes"), (10, "vpclmulqdq"), (11, "avx512vnni"),
        (12, "avx512bitalg"), (14, "avx512vpopcntdq"), (22, "rdpid"), (25, "cldemote"),
        (27, "movdiri"), (28, "movdir64b"),
    ] },
    Leaf { leaf: 7, subleaf: 0, register: |r| r.edx, bits: &[
        (2, "avx512 4vnniw"), (3, "avx512 4fmaps"), (4, "fast short rep movsb"), (5, "uintr"),
        (8, "avx512vp2intersect"), (14, "serialize"), (16, "tsxldtrk"), (22, "amx-bf16"),
        (23, "avx512-fp16"), (24, "amx-tile"), (25, "amx-int8"),
    ] },
    Leaf { leaf: 7, subleaf: 1, register: |r| r.eax, bits: &[
        (0, "sha512"), (1, "sm3"), (2, "sm4"), (4, "avx-vnni"), (5, "avx512-bf16"),
        (7, "cmpccxadd"), (21, "amx-fp16"), (23, "avx-ifma"),
    ] },
    Leaf { leaf: 7, subleaf: 1, register: |r| r.edx, bits: &[
        (4, "avx-vnni-int8"), (5, "avx-ne-convert"), (10, "avx-vnni-int16"), (19, "avx10"),
        (21, "apx"),
    ] },
    Leaf { leaf: 0xd, subleaf: 0, register: |r| r.eax, bits: &[
        (0, "x87 state"), (1, "sse state"), (2, "avx state"), (3, "mpx bound registers"),
        (4, "mpx configuration"), (5, "avx-512 masks"), (6, "avx-512 upper halves"),
        (7, "avx-512 registers 16 to 31"), (9, "protection key state"),
        (17, "amx configuration"), (18, "amx tiles"),
    ] },
    Leaf { leaf: 0xd, subleaf: 1, register: |r| r.eax, bits: &[
        (0, "xsaveopt"), (1, "xsavec"), (2, "xgetbv with ecx=1"),
    ] },
    Leaf { leaf: EXTENDED, subleaf: 0, register: |r| r.ecx, bits: &[
        (0, "lahf"), (5, "lzcnt"), (6, "sse4a"), (8, "prefetchw"), (11, "xop"), (15, "lwp"),
        (16, "fma4"), (21, "tbm"), (29, "monitorx"),
    ] },
    Leaf { leaf: EXTENDED, subleaf: 0, register: |r| r.edx, bits: &[
        (11, "syscall"), (22, "mmxext"), (27, "rdtscp"), (29, "long mode"), (30, "3dnowext"),
        (31, "3dnow"),
    ] },
];

/// A processor as its CPUID instruction describes it.
pub struct Processor<'a> {
    cpuid: Box<dyn Fn(u32, u32) -> Option<CpuidRecord> + 'a>,
}

/// Where the two differ.
pub struct Comparison {
    /// Recorded features that this machine lacks: such instructions cannot run here.
    pub missing: Vec<&'static str>,
    /// Features that only this machine has: the recording's programs were told otherwise.
    pub additional: Vec<&'static str>,
    /// What may compute differently, in sentences.
    pub notes: Vec<String>,
}

impl<'a> Processor<'a> {
    pub fn recorded(header: &'a Header) -> Processor<'a> {
        Processor { cpuid: Box::new(|leaf, subleaf| header.cpuid(leaf, subleaf).copied()) }
    }

    /// The one that we run on.
    pub fn host() -> Processor<'static> {
        Processor { cpuid: Box::new(host_cpuid) }
    }

    /// Such as `AuthenticAMD`.
    pub fn vendor(&self) -> String {
        let Some(leaf) = (self.cpuid)(0, 0) else { return String::new() };
        ascii(&[leaf.ebx, leaf.edx, leaf.ecx])
    }

    /// What the maker calls it, if it says.
    pub fn brand(&self) -> String {
        let words: Vec<u32> = BRAND
            .iter()
            .filter_map(|&leaf| (self.cpuid)(leaf, 0))
            .flat_map(|r| [r.eax, r.ebx, r.ecx, r.edx])
            .collect();
        ascii(&words)
    }

    /// Family, model, stepping.
    pub fn signature(&self) -> (u32, u32, u32) {
        let eax = (self.cpuid)(1, 0).map_or(0, |leaf| leaf.eax);
        let (family, model) = (eax >> 8 & 0xf, eax >> 4 & 0xf);
        let extended_family = if family == 0xf { eax >> 20 & 0xff } else { 0 };
        let extended_model = if matches!(family, 6 | 0xf) { eax >> 16 & 0xf } else { 0 };
        (family + extended_family, extended_model << 4 | model, eax & 0xf)
    }

    fn has(&self, leaf: &Leaf, bit: u32) -> bool {
        (self.cpuid)(leaf.leaf, leaf.subleaf)
            .is_some_and(|record| (leaf.register)(&record) >> bit & 1 != 0)
    }
}

pub fn compare(recorded: &Processor<'_>, host: &Processor<'_>) -> Comparison {
    let mut comparison = Comparison { missing: vec![], additional: vec![], notes: vec![] };
    for leaf in &LEAVES {
        for &(bit, name) in leaf.bits {
            match (recorded.has(leaf, bit), host.has(leaf, bit)) {
                (true, false) => comparison.missing.push(name),
                (false, true) => comparison.additional.push(name),
                _ => {}
            }
        }
    }
    let notes = &mut comparison.notes;
    let (theirs, ours) = (recorded.vendor(), host.vendor());
    if theirs != ours {
        notes.push(format!(
            "recorded on {theirs}, this is {ours}: approximations (rcpps, rsqrtps, their AVX-512 \
             forms, fsin and its like) and flags that the manuals leave undefined may differ"
        ));
    } else if recorded.signature() != host.signature() {
        notes.push(
            "another model of the same maker: approximations and undefined flags are nearly \
             always, but not surely, the same"
                .to_owned(),
        );
    }
    comparison
}

/// Features of the recording's processor, by name.
pub fn features(processor: &Processor<'_>) -> Vec<&'static str> {
    let named = |leaf: &'static Leaf| {
        leaf.bits.iter().filter(|(bit, _)| processor.has(leaf, *bit)).map(|&(_, name)| name)
    };
    LEAVES.iter().flat_map(named).collect()
}

fn ascii(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    crate::names::text(&bytes[..end]).trim().to_owned()
}

#[cfg(target_arch = "x86_64")]
fn host_cpuid(leaf: u32, subleaf: u32) -> Option<CpuidRecord> {
    use std::arch::x86_64::__cpuid_count;
    // Each range of leaves says in its first one how far it goes.
    let highest = __cpuid_count(leaf & 0x8000_0000, 0).eax;
    if leaf > highest {
        return None;
    }
    let result = __cpuid_count(leaf, subleaf);
    Some(CpuidRecord {
        eax_in: leaf,
        ecx_in: Some(subleaf),
        eax: result.eax,
        ebx: result.ebx,
        ecx: result.ecx,
        edx: result.edx,
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn host_cpuid(_leaf: u32, _subleaf: u32) -> Option<CpuidRecord> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = (u32, fn(&mut CpuidRecord));

    /// The host with some leaves changed.
    fn changed(changes: &'static [Change]) -> Processor<'static> {
        Processor {
            cpuid: Box::new(|leaf, subleaf| {
                let mut record = host_cpuid(leaf, subleaf)?;
                changes.iter().filter(|(l, _)| *l == leaf).for_each(|(_, f)| f(&mut record));
                Some(record)
            }),
        }
    }

    #[test]
    fn the_same_processor_differs_in_nothing() {
        let result = compare(&Processor::host(), &Processor::host());
        assert!(result.missing.is_empty() && result.additional.is_empty());
        assert!(result.notes.is_empty());
        let features = features(&Processor::host());
        assert!(features.contains(&"sse2") && features.contains(&"x87 state"));
    }

    #[test]
    fn differences_have_names() {
        let host = Processor::host();
        let other = changed(&[(1, |r| r.edx ^= 1 << 26), (0, |r| r.ebx = 0x4242_4242)]);
        let result = compare(&other, &host);
        assert_eq!((result.missing, result.additional), (vec![], vec!["sse2"]));
        assert!(result.notes[0].contains("recorded on BBBB"), "{:?}", result.notes);
        assert_eq!(compare(&host, &other).missing, ["sse2"]);
        let older = changed(&[(1, |r| r.eax ^= 1)]);
        assert!(compare(&older, &host).notes[0].contains("another model"));
    }
}
