//! What arguments of system calls point to, as text.

use machine::Space;
use model::Address;

use super::decode::pointer;
use super::flags;
use super::signatures::Kind;
use crate::signal_names::signal_name;

/// Bytes that are shown of data, of a path, and items of a list.
const DATA_MAX: u64 = 64;
const TEXT_MAX: u64 = 256;
const ITEMS_MAX: u64 = 16;

/// What a call is given. `None`: it cannot be read, or there is nothing.
pub fn input(kind: Kind, address: Address, arguments: [u64; 6], memory: &Space) -> Option<String> {
    if address.0 == 0 {
        return None;
    }
    Some(match kind {
        Kind::Text => text(memory, address)?,
        Kind::Texts => texts(memory, address)?,
        Kind::Bytes(length) => data(memory, address, arguments[length])?,
        Kind::Vector(count) => {
            vector(memory, address, u64::from(arguments[count] as u32), u64::MAX)?
        }
        Kind::Socket(length) => socket(memory, address, u64::from(arguments[length] as u32))?,
        Kind::SignalSet => signals(word(memory, address)?),
        Kind::Action => action(memory, address)?,
        Kind::Time => time(memory, address, "tv_nsec")?,
        Kind::MicroTime => time(memory, address, "tv_usec")?,
        Kind::Timer => timer(memory, address)?,
        Kind::Limit => limit(memory, address)?,
        Kind::Polls(count) => polls(memory, address, u64::from(arguments[count] as u32))?,
        _ => return None,
    })
}

/// What a call that succeeded has left.
pub fn output(
    kind: Kind,
    value: u64,
    arguments: [u64; 6],
    result: i64,
    memory: &Space,
) -> Option<String> {
    let address = Address(value);
    if value == 0 {
        return None;
    }
    Some(match kind {
        Kind::BytesOut => data(memory, address, u64::try_from(result).ok()?)?,
        Kind::TextOut => text(memory, address)?,
        Kind::VectorOut(count) => {
            let count = u64::from(arguments[count] as u32);
            vector(memory, address, count, u64::try_from(result).ok()?)?
        }
        Kind::SocketOut(length) => {
            let length = half(memory, Address(arguments[length]))?;
            socket(memory, address, u64::from(length))?
        }
        Kind::SignalSetOut => signals(word(memory, address)?),
        Kind::ActionOut => action(memory, address)?,
        Kind::TimeOut => time(memory, address, "tv_nsec")?,
        Kind::MicroTimeOut => time(memory, address, "tv_usec")?,
        Kind::TimerOut => timer(memory, address)?,
        Kind::LimitOut => limit(memory, address)?,
        Kind::StatusOut => status(memory, address)?,
        // Nobody was waited for.
        Kind::WaitOut if result <= 0 => return None,
        Kind::WaitOut => format!("[{}]", ended(half(memory, address)? as i32)),
        Kind::IntOut => format!("[{}]", half(memory, address)? as i32),
        Kind::PairOut => {
            let [one, other] = pair(memory, address)?;
            format!("[{one}, {other}]")
        }
        Kind::SystemOut => {
            let field = |index: u64| text(memory, address + 65 * index);
            format!("{{sysname={}, nodename={}, ...}}", field(0)?, field(1)?)
        }
        _ => return None,
    })
}

/// Two descriptors, as pipe(2) leaves them.
pub fn pair(memory: &Space, address: Address) -> Option<[i32; 2]> {
    Some([half(memory, address)? as i32, half(memory, address + 4)? as i32])
}

fn word(memory: &Space, address: Address) -> Option<u64> {
    memory.read_u64(address).ok()
}

fn half(memory: &Space, address: Address) -> Option<u32> {
    let mut bytes = [0; 4];
    memory.read(address, &mut bytes).ok()?;
    Some(u32::from_le_bytes(bytes))
}

/// The first bytes of a range, of which there may be fewer.
fn bytes(memory: &Space, address: Address, length: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    memory.read(address, &mut bytes).ok()?;
    Some(bytes)
}

fn data(memory: &Space, address: Address, length: u64) -> Option<String> {
    let shown = bytes(memory, address, length.min(DATA_MAX))?;
    let more = if length > DATA_MAX { "..." } else { "" };
    Some(format!("{}{more}", quoted(&shown)))
}

/// Up to a zero.
fn text(memory: &Space, address: Address) -> Option<String> {
    let mut found = Vec::new();
    let mut at = address;
    while (found.len() as u64) < TEXT_MAX {
        let mut byte = [0];
        memory.read(at, &mut byte).ok()?;
        if byte[0] == 0 {
            return Some(quoted(&found));
        }
        found.push(byte[0]);
        at = Address(at.0.checked_add(1)?);
    }
    Some(format!("{}...", quoted(&found)))
}

fn texts(memory: &Space, address: Address) -> Option<String> {
    let mut items = Vec::new();
    loop {
        let item = word(memory, Address(address.0.checked_add(8 * items.len() as u64)?))?;
        if item == 0 {
            break;
        }
        if items.len() as u64 == ITEMS_MAX {
            items.push("...".into());
            break;
        }
        items.push(text(memory, Address(item)).unwrap_or_else(|| pointer(item)));
    }
    Some(format!("[{}]", items.join(", ")))
}

/// As C would have it.
fn quoted(bytes: &[u8]) -> String {
    let valid = std::str::from_utf8(bytes).is_ok();
    let mut text = String::from("\"");
    let chars: Vec<char> = match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().collect(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    };
    for (index, letter) in chars.iter().enumerate() {
        match letter {
            '"' | '\\' => text.extend(['\\', *letter]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            ' '..='~' => text.push(*letter),
            _ if valid && !letter.is_control() => text.push(*letter),
            _ => {
                let digit = chars.get(index + 1).is_some_and(char::is_ascii_digit);
                let number = u32::from(*letter);
                text += &if digit { format!("\\{number:03o}") } else { format!("\\{number:o}") };
            }
        }
    }
    text.push('"');
    text
}

/// `length` is that of all data together.
fn vector(memory: &Space, address: Address, count: u64, length: u64) -> Option<String> {
    let mut left = length;
    let mut items = Vec::new();
    for index in 0..count.min(ITEMS_MAX) {
        let at = Address(address.0.checked_add(16 * index)?);
        let (base, size) = (word(memory, at)?, word(memory, at + 8)?);
        let there = size.min(left);
        left -= there;
        let shown = data(memory, Address(base), there).unwrap_or_else(|| pointer(base));
        items.push(format!("{{iov_base={shown}, iov_len={size}}}"));
    }
    if count > ITEMS_MAX {
        items.push("...".into());
    }
    Some(format!("[{}]", items.join(", ")))
}

fn socket(memory: &Space, address: Address, length: u64) -> Option<String> {
    let bytes = bytes(memory, address, length.min(110))?;
    let family = u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    let name = flags::choice(&flags::FAMILIES, family.into());
    Some(match family {
        1 => {
            let path = bytes.get(2..)?;
            let end =
                path.iter().skip(1).position(|byte| *byte == 0).map_or(path.len(), |at| at + 1);
            // A name that begins with a zero is as long as the address.
            let path = if path.first() == Some(&0) { path } else { &path[..end.min(path.len())] };
            format!("{{sa_family={name}, sun_path={}}}", quoted(path))
        }
        2 => {
            let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            let ip = std::net::Ipv4Addr::from(octets);
            format!("{{sa_family={name}, sin_addr={ip}, sin_port={}}}", port()?)
        }
        10 => {
            let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            let ip = std::net::Ipv6Addr::from(octets);
            format!("{{sa_family={name}, sin6_addr={ip}, sin6_port={}}}", port()?)
        }
        _ => format!("{{sa_family={name}, ...}}"),
    })
}

/// Bit 0 is signal 1. A set of most of them is told by those that are missing.
fn signals(set: u64) -> String {
    let (set, not) = if set.count_ones() > 32 { (!set, "~") } else { (set, "") };
    let names = (1..=64).filter(|signal| set >> (signal - 1) & 1 != 0).map(|signal| {
        let name = signal_name(signal);
        name.strip_prefix("SIG").map(str::to_owned).unwrap_or(name)
    });
    format!("{not}[{}]", names.collect::<Vec<_>>().join(" "))
}

/// The kernel's `struct sigaction`, whose parts are not in C's order.
fn action(memory: &Space, address: Address) -> Option<String> {
    let handler = match word(memory, address)? {
        0 => "SIG_DFL".into(),
        1 => "SIG_IGN".into(),
        handler => pointer(handler),
    };
    let bits = word(memory, address + 8)?;
    let mask = signals(word(memory, address + 24)?);
    let bits = flags::flags(&flags::ACTION, bits);
    Some(format!("{{sa_handler={handler}, sa_mask={mask}, sa_flags={bits}}}"))
}

fn time(memory: &Space, address: Address, part: &str) -> Option<String> {
    let (seconds, rest) = (word(memory, address)? as i64, word(memory, address + 8)? as i64);
    Some(format!("{{tv_sec={seconds}, {part}={rest}}}"))
}

fn timer(memory: &Space, address: Address) -> Option<String> {
    let interval = time(memory, address, "tv_usec")?;
    let value = time(memory, address + 16, "tv_usec")?;
    Some(format!("{{it_interval={interval}, it_value={value}}}"))
}

fn limit(memory: &Space, address: Address) -> Option<String> {
    let value = |value: u64| match value {
        u64::MAX => "RLIM_INFINITY".into(),
        value => value.to_string(),
    };
    let (soft, hard) = (value(word(memory, address)?), value(word(memory, address + 8)?));
    Some(format!("{{rlim_cur={soft}, rlim_max={hard}}}"))
}

/// `struct stat` of x86-64: the mode lies at 24, the device's number at 40, the size at 48.
fn status(memory: &Space, address: Address) -> Option<String> {
    const TYPE: u64 = 0o170_000;
    let mode = u64::from(half(memory, address + 24)?);
    let kind = flags::choice(&flags::FILES, mode & TYPE);
    let mode = format!("st_mode={kind}|0{:03o}", mode & !TYPE);
    Some(match kind.as_str() {
        "S_IFCHR" | "S_IFBLK" => {
            let device = word(memory, address + 40)?;
            format!("{{{mode}, st_rdev={device:#x}, ...}}")
        }
        _ => format!("{{{mode}, st_size={}, ...}}", word(memory, address + 48)? as i64),
    })
}

/// As wait(2) gives it.
fn ended(status: i32) -> String {
    let signal = status & 0x7f;
    match signal {
        0 => format!("{{WIFEXITED(s) && WEXITSTATUS(s) == {}}}", status >> 8 & 0xff),
        0x7f if status == 0xffff => "{WIFCONTINUED(s)}".into(),
        0x7f => {
            let signal = signal_name(status >> 8 & 0xff);
            format!("{{WIFSTOPPED(s) && WSTOPSIG(s) == {signal}}}")
        }
        _ => {
            let core = if status & 0x80 != 0 { " && WCOREDUMP(s)" } else { "" };
            format!("{{WIFSIGNALED(s) && WTERMSIG(s) == {}{core}}}", signal_name(signal))
        }
    }
}

fn polls(memory: &Space, address: Address, count: u64) -> Option<String> {
    let mut items = Vec::new();
    for index in 0..count.min(ITEMS_MAX) {
        let at = Address(address.0.checked_add(8 * index)?);
        let (descriptor, events) = (half(memory, at)? as i32, half(memory, at + 4)?);
        let events = flags::flags(&flags::POLL, u64::from(events as u16));
        items.push(format!("{{fd={descriptor}, events={events}}}"));
    }
    if count > ITEMS_MAX {
        items.push("...".into());
    }
    Some(format!("[{}]", items.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        assert_eq!(quoted(b"a\"b\\\n\t"), r#""a\"b\\\n\t""#);
        assert_eq!(quoted(b"\x7fELF\x02\x01"), r#""\177ELF\2\1""#);
        assert_eq!(quoted(b"\x027"), r#""\0027""#);
        assert_eq!(quoted("gr\u{fc}n".as_bytes()), "\"gr\u{fc}n\"");
        assert_eq!(quoted(b"\xff\0"), r#""\377\0""#);
    }

    #[test]
    fn sets_and_ends() {
        assert_eq!(signals(1 << 9 | 1 << 16), "[USR1 CHLD]");
        assert_eq!(signals(!(1 << 8)), "~[KILL]");
        assert_eq!(signals(0), "[]");
        let ends = [0x700, 11 | 0x80, 0x137f, 0xffff].map(ended);
        let expected = [
            "{WIFEXITED(s) && WEXITSTATUS(s) == 7}",
            "{WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)}",
            "{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}",
            "{WIFCONTINUED(s)}",
        ];
        assert_eq!(ends, expected);
    }
}
