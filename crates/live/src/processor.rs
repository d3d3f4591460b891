//! Instructions whose result is the host processor's: identification, time, random numbers.

use std::arch::x86_64;

use machine::{Cpu, Trap};
use model::gpr::{RAX, RBX, RCX, RDX};

use crate::Inputs;

/// Puts the instruction's result into `cpu`; false if it cannot be run live.
pub fn answer(kind: Trap, cpu: &mut Cpu, inputs: Inputs) -> bool {
    match kind {
        Trap::Cpuid => {
            let leaf = u32_of(cpu.general[RAX]);
            let subleaf = u32_of(cpu.general[RCX]);
            let mut host = x86_64::__cpuid_count(leaf, subleaf);
            if inputs == Inputs::Fixed {
                hide_core(leaf, &mut host);
            }
            cpu.general[RAX] = u64::from(host.eax);
            cpu.general[RBX] = u64::from(host.ebx);
            cpu.general[RCX] = u64::from(host.ecx);
            cpu.general[RDX] = u64::from(host.edx);
        }
        Trap::Rdtsc => set_pair(cpu, time_stamp(cpu.instructions, inputs)),
        Trap::Rdtscp => {
            set_pair(cpu, time_stamp(cpu.instructions, inputs));
            cpu.general[RCX] = 0;
        }
        Trap::Xgetbv if u32_of(cpu.general[RCX]) == 0 => set_pair(cpu, enabled_state()),
        _ => return false,
    }
    true
}

pub fn name(kind: Trap) -> &'static str {
    match kind {
        Trap::Syscall => "syscall",
        Trap::Int80 => "int 0x80",
        Trap::Sysenter => "sysenter",
        Trap::Cpuid => "cpuid",
        Trap::Rdtsc => "rdtsc",
        Trap::Rdtscp => "rdtscp",
        Trap::Rdpid => "rdpid",
        Trap::Rdrand => "rdrand",
        Trap::Rdseed => "rdseed",
        Trap::Xgetbv => "xgetbv",
        Trap::Rdpkru => "rdpkru",
        Trap::Wrpkru => "wrpkru",
        Trap::Tpause => "tpause",
        Trap::Umwait => "umwait",
        Trap::Xbegin => "xbegin",
        Trap::Breakpoint => "int3",
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the instructions read the low half")]
fn u32_of(register: u64) -> u32 {
    register as u32
}

fn set_pair(cpu: &mut Cpu, value: u64) {
    cpu.general[RAX] = value & 0xffff_ffff;
    cpu.general[RDX] = value >> 32;
}

/// Takes out which of the host's cores answers (SDM vol. 2, CPUID; AMD APM vol. 3, appendix E).
fn hide_core(leaf: u32, result: &mut x86_64::CpuidResult) {
    match leaf {
        1 => result.ebx &= 0x00ff_ffff,
        0xb | 0x1f | 0x8000_0026 => result.edx = 0,
        0x8000_001e => result.eax = 0,
        _ => {}
    }
}

#[expect(unsafe_code, reason = "reading the time stamp counter is an intrinsic")]
fn time_stamp(instructions: u64, inputs: Inputs) -> u64 {
    match inputs {
        // SAFETY: every x86-64 processor has `rdtsc`, and Linux allows it to programs.
        Inputs::Host => unsafe { x86_64::_rdtsc() },
        Inputs::Fixed => instructions,
    }
}

/// XCR0.
#[expect(unsafe_code, reason = "reading XCR0 is an intrinsic")]
fn enabled_state() -> u64 {
    if !std::is_x86_feature_detected!("xsave") {
        return 3;
    }
    // SAFETY: the processor and the kernel have XSAVE, and register 0 always exists then.
    unsafe { x86_64::_xgetbv(0) }
}

/// See [`crate::cpu_seconds`].
#[expect(unsafe_code, reason = "the process's CPU clock is reached through libc")]
pub fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to the place, which is a live local variable.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
