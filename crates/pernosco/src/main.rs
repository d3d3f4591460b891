//! The command line of the debugger: arguments, wiring, printing, exit codes.
//!
//! Exit codes: 0 success, 1 failure (explained on stderr), 2 wrong usage. Results go to stdout,
//! all else to stderr. Each command is a module of `commands`.

mod commands;
mod cpu;
mod locate;
mod names;
mod output;

use std::process::ExitCode;

use clap::Parser;

/// An omniscient debugger for rr recordings.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match commands::run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pernosco: {error:#}");
            ExitCode::FAILURE
        }
    }
}
