//! Standard output: buffered, in lines of JSON or of text, and not surprised when it closes.

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use serde_json::Value;

/// Everything that commands print goes through here.
pub type Output = BufWriter<StdoutLock<'static>>;

/// Runs `print` and writes out what it left in the buffer.
pub fn with_stdout(print: impl FnOnce(&mut Output) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut output = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let result = print(&mut output);
    // Lines in front of an error are right: print them, but report the first error.
    let flushed = output.flush();
    result?;
    Ok(flushed?)
}

/// One value on one line.
pub fn json_line(output: &mut Output, value: &Value) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *output, value).map_err(io::Error::from)?;
    Ok(output.write_all(b"\n")?)
}

pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    };
    error.chain().any(broken)
}

pub fn hex(number: u64) -> String {
    format!("{number:#x}")
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes for people.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}
