//! One module for each command.

mod build;
mod check_trace;
mod compatibility;
mod db;
mod package;
mod piece;
mod query;
mod replay;
mod serve;
mod shard;
mod trace;

pub use compatibility::Options as CompatibilityOptions;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Make a recording self-contained and then its database, or go on where that was stopped:
    /// `package-build`, then `only-build`
    Build(build::BuildArguments),
    /// Copy the files that a recording needs into its directory, so that it can be moved to
    /// another machine
    PackageBuild(package::Arguments),
    /// Make the database of a recording, in the recording's directory, or go on with one that was
    /// stopped
    OnlyBuild(build::BuildArguments),
    /// Execute segments for a build: the work of one process of `build`
    #[command(hide = true)]
    BuildShard(shard::ShardArguments),
    /// Show what is in a database, and verify it
    #[command(subcommand)]
    Db(db::Command),
    /// Ask a question about a recorded execution; needs its database
    Query(query::QueryArguments),
    /// Answer questions that come as lines of JSON: the work of one process of `serve`
    #[command(hide = true)]
    QueryWorker(query::WorkerArguments),
    /// Re-execute recordings in the software machine: check them, or show registers
    Replay(replay::ReplayArguments),
    /// Re-execute a piece of a recording from a checkpoint: the work of one process of `replay`
    #[command(hide = true)]
    ReplayPiece(piece::PieceArguments),
    /// Debug a recording in the browser; needs its database
    Serve(serve::ServeArguments),
    /// Show what is in a recording, without replaying it
    #[command(subcommand)]
    Trace(trace::Command),
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Build(arguments) => build::run(&arguments, package::package),
        Command::PackageBuild(arguments) => package::run(&arguments),
        Command::OnlyBuild(arguments) => build::run(&arguments, |_| Ok(())),
        Command::BuildShard(arguments) => shard::run(&arguments),
        Command::Db(command) => db::run(command),
        Command::Query(arguments) => query::run(&arguments),
        Command::QueryWorker(arguments) => query::worker(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::ReplayPiece(arguments) => piece::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Trace(command) => trace::run(command),
    }
}
