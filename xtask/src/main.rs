//! The project's chores, instead of scripts: `cargo xtask check`, `tidy`, `bench`.

mod bench;
mod check;
mod client;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Chores of the pernosco workspace")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// All that continuous integration runs: format, lints, tidy, tests, documentation.
    Check,
    /// The rules of the style guide that a program can check.
    Tidy,
    /// Measurements; without a floor that fails, so that they can be read.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// The machine against native execution, Valgrind and QEMU.
    Machine(bench::machine::Options),
    /// Replays of recorded programs against native execution and against the machine.
    Replay(bench::replay::Options),
    /// Databases of recordings: build against replay, size, memory, time to be at a moment.
    Build(bench::build_database::Options),
    /// Answers: how long they take, cold and warm.
    Query(bench::query::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Check => check::run(),
        Chore::Tidy => tidy::run(),
        Chore::Bench(Bench::Machine(options)) => bench::machine::run(&options),
        Chore::Bench(Bench::Replay(options)) => bench::replay::run(&options),
        Chore::Bench(Bench::Build(options)) => bench::build_database::run(&options),
        Chore::Bench(Bench::Query(options)) => bench::query::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
