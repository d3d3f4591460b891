//! `pernosco trace`: what is in a recording.

mod events;
mod info;
mod maps;
mod tasks;

use rr_trace::Trace;

use crate::locate::TraceArgument;
use crate::output::with_stdout;

#[derive(clap::Subcommand)]
pub enum Command {
    /// How and where it was made, how much is in it, and whether this machine suits it
    Info(info::Arguments),
    /// Its events, one a line
    Events(events::Arguments),
    /// How its tasks began, executed programs, and ended
    Tasks(Listing),
    /// Its mappings, as they were made
    Maps(Listing),
}

/// Arguments of a plain list.
#[derive(clap::Args)]
pub struct Listing {
    #[command(flatten)]
    trace: TraceArgument,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub fn run(command: Command) -> anyhow::Result<()> {
    with_stdout(|output| match command {
        Command::Info(arguments) => info::run(&arguments, output),
        Command::Events(arguments) => events::run(&arguments, output),
        Command::Tasks(listing) => tasks::run(&listing.open()?, listing.json, output),
        Command::Maps(listing) => maps::run(&listing.open()?, listing.json, output),
    })
}

impl Listing {
    fn open(&self) -> anyhow::Result<Trace> {
        self.trace.open()
    }
}
