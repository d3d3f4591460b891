//! One module for each command.

mod replay;
mod trace;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Re-execute recordings in the software machine: check them, or show registers
    Replay(replay::ReplayArguments),
    /// Show what is in a recording, without replaying it
    #[command(subcommand)]
    Trace(trace::Command),
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Trace(command) => trace::run(command),
    }
}
