//! Names of signals, as signal(7) has them.

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The name of a signal; real-time signals by their distance from the first, as the kernel counts.
pub fn signal_name(signal: i32) -> String {
    let index = usize::try_from(signal - 1).unwrap_or(usize::MAX);
    match (NAMES.get(index), signal) {
        (Some(name), _) => format!("SIG{name}"),
        (None, 32..=64) => format!("SIGRT_{}", signal - 32),
        (None, _) => format!("signal {signal}"),
    }
}
