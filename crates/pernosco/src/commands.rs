//! One module for each command.

mod trace;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Show what is in a recording, without replaying it
    #[command(subcommand)]
    Trace(trace::Command),
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Trace(command) => trace::run(command),
    }
}
