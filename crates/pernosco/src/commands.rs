//! One module for each command.

mod piece;
mod replay;
mod trace;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Re-execute recordings in the software machine: check them, or show registers
    Replay(replay::ReplayArguments),
    /// Re-execute a piece of a recording from a checkpoint: the work of one process of `replay`
    #[command(hide = true)]
    ReplayPiece(piece::PieceArguments),
    /// Show what is in a recording, without replaying it
    #[command(subcommand)]
    Trace(trace::Command),
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Replay(arguments) => replay::run(&arguments),
        Command::ReplayPiece(arguments) => piece::run(&arguments),
        Command::Trace(command) => trace::run(command),
    }
}
