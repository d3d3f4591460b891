//! Runs a program in the machine, for benchmarks and by hand: `live-run --stats gzip -6 FILE`.
//!
//! Development only, see the library.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use live::{Inputs, Options, Outcome};
use machine::Observers;

/// Exit status when the program could not be run to its end.
const FAILED: u8 = 125;

#[derive(Debug, Parser)]
#[command(about = "Runs an x86-64 program in the machine")]
struct Arguments {
    /// Observers to compile in: written, reads, executions, calls, control, stores, all.
    #[arg(long, value_delimiter = ',')]
    observe: Vec<String>,
    /// Leave the machine after so many instructions.
    #[arg(long, default_value_t = 4 << 20)]
    slice: u64,
    /// Constants instead of the host's clocks, process number and random bytes.
    #[arg(long)]
    fixed: bool,
    /// Report counts and CPU seconds on standard error at the end.
    #[arg(long)]
    stats: bool,
    /// MiB of translated code to keep.
    #[arg(long, default_value_t = 256)]
    code_cache: usize,
    program: OsString,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut errors = match live::keep_standard_error() {
        Ok(errors) => errors,
        Err(_) => return ExitCode::from(FAILED),
    };
    let (text, status) = match run(&arguments) {
        Ok(outcome) => {
            let text = if arguments.stats { report(&outcome) } else { String::new() };
            (text, u8::try_from(outcome.status & 0xff).unwrap_or(FAILED))
        }
        Err(error) => (format!("live-run: {error:#}\n"), FAILED),
    };
    // Without a place for messages the status has to do.
    let _ = errors.write_all(text.as_bytes());
    ExitCode::from(status)
}

fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let program = find(&arguments.program)?;
    let mut all = vec![arguments.program.clone()];
    all.extend(arguments.arguments.iter().cloned());
    let environment = std::env::vars_os().map(|(name, value)| {
        let mut variable = name;
        variable.push("=");
        variable.push(value);
        variable
    });
    let options = Options {
        program,
        arguments: all,
        environment: environment.collect(),
        observers: observers(&arguments.observe)?,
        slice_instructions: arguments.slice,
        inputs: if arguments.fixed { Inputs::Fixed } else { Inputs::Host },
        machine: machine::Options {
            code_cache_bytes: arguments.code_cache << 20,
            ..Default::default()
        },
    };
    Ok(live::run(&options)?)
}

/// The program's file, searched for as `execvp` does.
fn find(program: &OsString) -> anyhow::Result<PathBuf> {
    if Path::new(program).components().count() > 1 {
        return Ok(PathBuf::from(program));
    }
    let path = std::env::var_os("PATH").context("PATH is not set")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("{} is not in PATH", program.display()))
}

fn observers(names: &[String]) -> anyhow::Result<Observers> {
    let mut observers = Observers::default();
    for name in names {
        match name.as_str() {
            "written" => observers.written_words = true,
            "reads" => observers.read_lines = true,
            "executions" => observers.executions = true,
            "calls" => observers.calls = true,
            "control" => observers.control_flow = true,
            "stores" => observers.stores = true,
            "all" => {
                observers = Observers {
                    written_words: true,
                    read_lines: true,
                    executions: true,
                    calls: true,
                    control_flow: true,
                    stores: true,
                }
            }
            _ => bail!(
                "no observer {name}: there are written, reads, executions, calls, control, \
                 stores, all"
            ),
        }
    }
    Ok(observers)
}

fn report(outcome: &Outcome) -> String {
    let mut text = format!(
        "live-run: {} instructions, {} ticks, {} system calls, {:.2} s CPU\n",
        outcome.instructions,
        outcome.ticks,
        outcome.system_calls,
        live::cpu_seconds()
    );
    text += &format!("live-run: {:?}\n", outcome.machine);
    for (name, count) in &outcome.observed {
        text += &format!("live-run: observed {name}: {count}\n");
    }
    for (number, count) in &outcome.unsupported {
        text += &format!("live-run: system call {number} answered with ENOSYS {count} times\n");
    }
    text
}
