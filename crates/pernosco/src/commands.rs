//! One module for each command.

mod build;
mod db;
mod piece;
mod replay;
mod shard;
mod trace;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Make the database of a recording, in the recording's directory, or go on with one that was
    /// stopped
    Build(build::BuildArguments),
    /// Execute segments for a build: the work of one process of `build`
    #[command(hide = true)]
    BuildShard(shard::ShardArguments),
    /// Show what is in a database, and verify it
    #[command(subcommand)]
    Db(db::Command),
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
        Command::Build(arguments) => build::run(&arguments),
        Command::BuildShard(arguments) => shard::run(&arguments),
        Command::Db(command) => db::run(command),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::ReplayPiece(arguments) => piece::run(&arguments),
        Command::Trace(command) => trace::run(command),
    }
}
