//! The command line of the debugger: arguments, wiring, printing, exit codes.
//!
//! Exit codes: 0 success, 1 failure (explained on stderr), 2 wrong usage. Results go to stdout,
//! all else to stderr. Each command is a module of `commands`.

mod commands;
mod cpu;
mod locate;
mod log;
mod names;
mod output;
mod ticks;

use std::process::ExitCode;

use clap::Parser;

/// An omniscient debugger for rr recordings.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Append what there is to report from this level on (debug, info, warn, error) to a file, in
    /// lines that begin with `ERROR:`, `WARN:` and so on; `LEVEL=FILE` is the same
    ///
    /// Errors go to stderr in any case.
    #[arg(long, global = true, value_name = "LEVEL:FILE")]
    log: Option<String>,
    #[command(flatten)]
    compatibility: commands::CompatibilityOptions,
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let started = log::start(arguments.log.as_deref());
    arguments.compatibility.tell();
    match started.and_then(|()| commands::run(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            log::failure(&error);
            ExitCode::FAILURE
        }
    }
}
