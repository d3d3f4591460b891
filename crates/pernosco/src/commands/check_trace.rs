//! `--check-trace`: whether a recording fits together, before anything is made of it.

use std::io::Write;

use anyhow::bail;
use rr_trace::Trace;

use crate::names;
use crate::output::{bytes, grouped, with_stdout};

/// Reads all of a recording and says what is in it.
///
/// # Errors
///
/// A recording that has problems, with all of them.
pub fn run(trace: &Trace) -> anyhow::Result<()> {
    let checked = rr_trace::check(trace)?;
    let directory = names::text(trace.directory().as_os_str().as_encoded_bytes());
    let count = checked.problems.len() as u64 + checked.more;
    with_stdout(|output| {
        Ok(writeln!(
            output,
            "{directory}: {} events, {} task records, {} mappings ({} of files), {} of memory, \
             {count} problems",
            grouped(checked.events),
            grouped(checked.task_events),
            grouped(checked.mappings),
            grouped(checked.file_mappings),
            bytes(checked.memory_bytes),
        )?)
    })?;
    if count == 0 {
        return Ok(());
    }
    let mut text = String::new();
    for problem in &checked.problems {
        text += "\n  ";
        text += &names::text(problem.as_bytes());
    }
    if checked.more > 0 {
        text += &format!("\n  and {} more", checked.more);
    }
    bail!("the recording does not fit together: record again, or get another copy of it{text}")
}
