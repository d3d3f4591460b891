//! Arguments and results of system calls as text, much as strace tells them.

use machine::Space;
use model::Address;

use super::signatures::{Kind, Signature};
use super::{errors, flags, memory};
use crate::signal_names::signal_name;

const O_CREAT: u64 = 0x40;
const O_TMPFILE: u64 = 0x41_0000;
const O_ACCMODE: u64 = 3;
const MREMAP_FIXED: u64 = 2;
const AT_FDCWD: i32 = -100;

/// An argument.
#[derive(Clone, Debug)]
pub enum Part {
    Text(String),
    /// What the call leaves in memory tells.
    Later(Kind, u64),
}

/// Arguments as they are when the call begins. Memory is what the task sees then.
pub fn inputs(
    name: &str,
    signature: Option<Signature>,
    arguments: [u64; 6],
    memory: Option<&Space>,
) -> Vec<Part> {
    let Some(signature) = signature else {
        return arguments.iter().map(|value| Part::Text(pointer(*value))).collect();
    };
    let count = arity(name, arguments).min(signature.arguments.len());
    let kinds = signature.arguments.iter().zip(arguments).take(count);
    kinds
        .enumerate()
        .map(|(index, (kind, value))| match special(name, index, arguments) {
            Some(kind) => input(kind, value, arguments, memory),
            None => input(*kind, value, arguments, memory),
        })
        .collect()
}

/// All arguments, with what the call left in memory if it succeeded.
pub fn finish(
    parts: Vec<Part>,
    arguments: [u64; 6],
    result: Option<i64>,
    memory: Option<&Space>,
) -> String {
    let result = result.filter(|result| !is_error(*result));
    let texts = parts.into_iter().map(|part| match part {
        Part::Text(text) => text,
        Part::Later(kind, value) => {
            let found = result.zip(memory).and_then(|(result, memory)| {
                memory::output(kind, value, arguments, result, memory)
            });
            found.unwrap_or_else(|| pointer(value))
        }
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// The result; of a call that did not end, none.
pub fn result(name: &str, arguments: [u64; 6], kind: Option<Kind>, value: Option<i64>) -> String {
    let Some(value) = value else { return "?".into() };
    if is_error(value) {
        let number = value.unsigned_abs() as i64;
        return match errors::name(number) {
            Some(name) if errors::restarts(number) => format!("? {name}"),
            Some(name) => format!("-1 {name}"),
            None => format!("-1 (error {number})"),
        };
    }
    match (name, kind) {
        // F_GETFL.
        ("fcntl", _) if arguments[1] == 3 => open_flags(value as u64),
        (_, Some(Kind::Pointer)) => pointer(value as u64),
        (_, Some(Kind::Octal)) => octal(value as u64),
        _ => value.to_string(),
    }
}

/// Whether a result is an error's number.
pub fn is_error(result: i64) -> bool {
    (-4095..0).contains(&result)
}

/// How many arguments mean anything.
fn arity(name: &str, arguments: [u64; 6]) -> usize {
    let creates = |flags: u64| flags & O_CREAT != 0 || flags & O_TMPFILE == O_TMPFILE;
    match name {
        "open" if !creates(arguments[1]) => 2,
        "openat" if !creates(arguments[2]) => 3,
        // F_GETFD, F_GETFL, F_GETOWN, F_GETSIG, F_GETLEASE, F_GETPIPE_SZ, F_GET_SEALS
        "fcntl" if matches!(arguments[1], 1 | 3 | 9 | 11 | 1025 | 1032 | 1034) => 2,
        "mremap" if arguments[3] & MREMAP_FIXED == 0 => 4,
        // All that wake, lock and unlock.
        "futex" if matches!(arguments[1] & 0x7f, 1 | 7) => 3,
        "futex" if matches!(arguments[1] & 0x7f, 0 | 6) => 4,
        "prctl" => 2,
        _ => 6,
    }
}

/// What an argument is that depends on another one.
fn special(name: &str, index: usize, arguments: [u64; 6]) -> Option<Kind> {
    Some(match (name, index) {
        // F_SETFL
        ("fcntl", 2) if arguments[1] == 4 => Kind::Open,
        // PR_SET_NAME
        ("prctl", 1) if arguments[0] == 15 => Kind::Text,
        ("futex", 3) if matches!(arguments[1] & 0x7f, 0 | 6 | 9) => Kind::Time,
        _ => return None,
    })
}

fn input(kind: Kind, value: u64, arguments: [u64; 6], memory: Option<&Space>) -> Part {
    let text = match kind {
        Kind::Int => (value as i32).to_string(),
        Kind::Unsigned => (value as u32).to_string(),
        Kind::Long => (value as i64).to_string(),
        Kind::Size => value.to_string(),
        Kind::Octal => octal(u64::from(value as u32)),
        Kind::Hexadecimal if value == 0 => "0".into(),
        Kind::Hexadecimal | Kind::Pointer => pointer(value),
        Kind::Descriptor => (value as i32).to_string(),
        Kind::Directory if value as i32 == AT_FDCWD => "AT_FDCWD".into(),
        Kind::Directory => (value as i32).to_string(),
        Kind::Flags(table) => flags::flags(table, u64::from(value as u32)),
        Kind::Choice(table) => flags::choice(table, u64::from(value as u32)),
        Kind::Open => open_flags(value),
        Kind::Clone => clone_flags(value),
        Kind::Signal => signal_name(value as i32),
        kind if kind.is_output() => return Part::Later(kind, value),
        kind => {
            let found =
                memory.and_then(|memory| memory::input(kind, Address(value), arguments, memory));
            found.unwrap_or_else(|| pointer(value))
        }
    };
    Part::Text(text)
}

/// An address.
pub fn pointer(value: u64) -> String {
    if value == 0 { "NULL".into() } else { format!("{value:#x}") }
}

fn octal(value: u64) -> String {
    format!("0{value:03o}")
}

fn open_flags(value: u64) -> String {
    let access = flags::choice(&flags::OPEN_ACCESS, value & O_ACCMODE);
    match u64::from(value as u32) & !O_ACCMODE {
        0 => access,
        rest => format!("{access}|{}", flags::flags(&flags::OPEN, rest)),
    }
}

/// The low byte is the signal that tells the parent of the end.
fn clone_flags(value: u64) -> String {
    let (flags, signal) = (value & !0xff, (value & 0xff) as i32);
    match (flags, signal) {
        (0, 0) => "0".into(),
        (0, _) => signal_name(signal),
        (_, 0) => flags::flags(&flags::CLONE, flags),
        _ => format!("{}|{}", flags::flags(&flags::CLONE, flags), signal_name(signal)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::signatures::signature;
    use super::*;

    fn check(name: &str, arguments: [u64; 6], value: Option<i64>) -> String {
        let signature = signature(name);
        let parts = inputs(name, signature, arguments, None);
        let text = finish(parts, arguments, value, None);
        let result = result(name, arguments, signature.map(|known| known.result), value);
        format!("{name}({text}) = {result}")
    }

    #[test]
    fn numbers_by_name() {
        let minus = (-1_i64) as u64;
        let cases = [
            check("mmap", [0, 4096, 3, 0x22, minus, 0], Some(0x7000_0000)),
            check("openat", [minus - 99, 0x1000, 0x8_0000, 9, 9, 9], Some(-2)),
            check("openat", [3, 0x1000, 0x241, 0o644, 9, 9], Some(4)),
            check("fcntl", [1, 3, 7, 0, 0, 0], Some(0x8002)),
            check("fcntl", [1, 4, 0x801, 0, 0, 0], Some(0)),
            check("clone", [0x120_0011, 0, 0, 0, 0x5000, 0], Some(77)),
            check("kill", [minus, 10, 0, 0, 0, 0], Some(0)),
            check("futex", [0x1000, 0x81, 1, 0, 0, 0], Some(1)),
            check("exit_group", [7, 0, 0, 0, 0, 0], None),
            check("read", [0, 0x2000, 100, 0, 0, 0], Some(-512)),
            check("no such call", [1, 0, 0, 0, 0, 0], Some(-4000)),
        ];
        let expected = [
            "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) \
             = 0x70000000",
            "openat(AT_FDCWD, 0x1000, O_RDONLY|O_CLOEXEC) = -1 ENOENT",
            "openat(3, 0x1000, O_WRONLY|O_CREAT|O_TRUNC, 0644) = 4",
            "fcntl(1, F_GETFL) = O_RDWR|O_LARGEFILE",
            "fcntl(1, F_SETFL, O_WRONLY|O_NONBLOCK) = 0",
            "clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, NULL, NULL, NULL, 0x5000) \
             = 77",
            "kill(-1, SIGUSR1) = 0",
            "futex(0x1000, FUTEX_WAKE_PRIVATE, 1) = 1",
            "exit_group(7) = ?",
            "read(0, 0x2000, 100) = ? ERESTARTSYS",
            "no such call(0x1, NULL, NULL, NULL, NULL, NULL) = -1 (error 4000)",
        ];
        assert_eq!(cases, expected);
    }
}
