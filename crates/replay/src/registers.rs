//! General registers as the recording stores them, and the rule for "the same registers".

use machine::{Cpu, FLAG_DIRECTION, FLAG_TRAP, FLAGS_ARITHMETIC};
use model::{GENERAL_NAMES, Registers, gpr};
use serde::{Deserialize, Serialize};

use crate::task::Task;

/// What rr leaves in rcx, r11 and the flags behind every recorded system call (rr-replay 4.1).
pub const CANONICAL_RCX: u64 = u64::MAX;
pub const CANONICAL_R11: u64 = 0x246;
pub const CANONICAL_FLAGS: u64 = 0x246;
/// `orig_rax` of a task that runs its own code.
pub const NO_SYSCALL: u64 = u64::MAX;

/// The recorder's own single steps and probes show in the trap and resume flags of frames.
const FLAG_RESUME: u64 = 0x1_0000;
const FLAGS_IMPORTED: u64 = !(FLAG_TRAP | FLAG_RESUME);

/// Segment selectors. A 64-bit program hardly ever changes them, so they are carried, not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selectors {
    pub cs: u64,
    pub ss: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

impl Default for Selectors {
    fn default() -> Selectors {
        Selectors { cs: 0x33, ss: 0x2b, ds: 0, es: 0, fs: 0, gs: 0 }
    }
}

impl From<&Registers> for Selectors {
    fn from(registers: &Registers) -> Selectors {
        let Registers { cs, ss, ds, es, fs, gs, .. } = *registers;
        Selectors { cs, ss, ds, es, fs, gs }
    }
}

/// The state of a task as a frame would show it.
pub fn of_task(cpu: &Cpu, orig_rax: u64, selectors: Selectors) -> Registers {
    let Selectors { cs, ss, ds, es, fs, gs } = selectors;
    Registers {
        general: cpu.general,
        rip: cpu.rip,
        eflags: cpu.rflags,
        orig_rax,
        cs,
        ss,
        ds,
        es,
        fs,
        gs,
        fs_base: cpu.fs_base,
        gs_base: cpu.gs_base,
    }
}

/// Gives the processor a frame's registers; TF and RF of a recording are not the program's.
pub fn load(registers: &Registers, cpu: &mut Cpu) {
    cpu.general = registers.general;
    cpu.rip = registers.rip;
    cpu.rflags = registers.eflags & FLAGS_IMPORTED;
    cpu.fs_base = registers.fs_base;
    cpu.gs_base = registers.gs_base;
}

/// Gives the registers that the kernel clobbers the values that rr leaves in them.
pub fn canonicalise(task: &mut Task) {
    task.cpu.general[gpr::RCX] = CANONICAL_RCX;
    task.cpu.general[gpr::R11] = CANONICAL_R11;
    task.cpu.rflags = CANONICAL_FLAGS;
}

/// The six arguments of an x86-64 system call.
pub fn arguments(registers: &Registers) -> [u64; 6] {
    [gpr::RDI, gpr::RSI, gpr::RDX, gpr::R10, gpr::R8, gpr::R9].map(|index| registers.general[index])
}

pub fn result(registers: &Registers) -> i64 {
    registers.general[gpr::RAX] as i64
}

/// One register of two compared states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterPair {
    pub name: &'static str,
    pub expected: u64,
    pub found: u64,
}

impl RegisterPair {
    pub fn differs(&self) -> bool {
        self.expected != self.found
    }
}

/// The registers in which two states differ: those that must agree, and those that only warn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    pub differing: Vec<RegisterPair>,
    pub warnings: Vec<RegisterPair>,
}

impl Mismatch {
    pub fn is_match(&self) -> bool {
        self.differing.is_empty()
    }
}

/// rr's notion of the same registers (rr-replay 2.1): everything but rsp, flags and cs ss ds es;
/// `orig_rax` only where both sides are inside a system call.
pub fn compare(expected: &Registers, found: &Registers) -> Mismatch {
    let mut mismatch = Mismatch::default();
    for (name, expected, found) in pairs(expected, found) {
        if expected != found {
            mismatch.differing.push(RegisterPair { name, expected, found });
        }
    }
    let rsp = (expected.general[gpr::RSP], found.general[gpr::RSP]);
    if rsp.0 != rsp.1 {
        let pair = RegisterPair { name: "rsp", expected: rsp.0, found: rsp.1 };
        mismatch.warnings.push(pair);
    }
    let seen = FLAGS_ARITHMETIC | FLAG_DIRECTION;
    let flags = (expected.eflags & seen, found.eflags & seen);
    if flags.0 != flags.1 {
        let pair = RegisterPair { name: "eflags", expected: flags.0, found: flags.1 };
        mismatch.warnings.push(pair);
    }
    mismatch
}

/// Every register of both states, for a report.
pub fn all_pairs(expected: &Registers, found: &Registers) -> Vec<RegisterPair> {
    let both = expected.named().zip(found.named());
    both.map(|((name, expected), (_, found))| RegisterPair { name, expected, found }).collect()
}

/// As [`compare`], without saying what differs: asked at every instruction near an
/// asynchronous event. The stack pointer has to agree as well.
pub fn matches(expected: &Registers, found: &Registers) -> bool {
    expected.general[gpr::RSP] == found.general[gpr::RSP]
        && pairs(expected, found).all(|(_, expected, found)| expected == found)
}

fn pairs<'a>(
    expected: &'a Registers,
    found: &'a Registers,
) -> impl Iterator<Item = (&'static str, u64, u64)> + 'a {
    let both_in_syscall = expected.orig_rax as i64 >= 0 && found.orig_rax as i64 >= 0;
    let general = (0..16)
        .filter(|&index| index != gpr::RSP)
        .map(|index| (GENERAL_NAMES[index], expected.general[index], found.general[index]));
    let orig_rax = both_in_syscall.then_some(("orig_rax", expected.orig_rax, found.orig_rax));
    let rest = [
        ("rip", expected.rip.0, found.rip.0),
        ("fs", expected.fs, found.fs),
        ("gs", expected.gs, found.gs),
        ("fs_base", expected.fs_base, found.fs_base),
        ("gs_base", expected.gs_base, found.gs_base),
    ];
    general.chain(orig_rax).chain(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_pointer_and_flags_only_warn() {
        let expected = Registers::default();
        let mut found = expected;
        found.general[gpr::RSP] += 8;
        found.eflags ^= 0x1_0001;
        let mismatch = compare(&expected, &found);
        assert!(mismatch.is_match());
        assert_eq!(mismatch.warnings.len(), 2);
        assert!(!matches(&expected, &found));
    }

    #[test]
    fn syscall_number_counts_only_inside_system_calls() {
        let expected = Registers { orig_rax: 5, ..Registers::default() };
        let outside = Registers { orig_rax: NO_SYSCALL, ..expected };
        let other = Registers { orig_rax: 6, ..expected };
        assert!(compare(&expected, &outside).is_match());
        assert!(!compare(&expected, &other).is_match());
    }
}
