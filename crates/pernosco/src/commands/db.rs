//! `pernosco db`: what is in a database, and whether it is right.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use anyhow::{Context, bail};
use index::{Method, Navigator};
use model::Moment;
use rr_trace::Trace;
use serde_json::json;
use store::Reader;

use super::build::DATABASE;
use crate::locate::TraceArgument;
use crate::output::with_stdout;

/// Decoded parts of the database kept in memory.
const CACHE_BYTES: usize = 64 << 20;

#[derive(clap::Subcommand)]
pub enum Command {
    /// How much of what is in it
    Info(InfoArguments),
    /// Check all checksums, and execute segments again from what the database says: everything
    /// that it holds of them must come out the same
    Verify(VerifyArguments),
    /// Go to random moments and tell how long that takes, as JSON
    #[command(hide = true)]
    Moments(MomentsArguments),
}

#[derive(clap::Args)]
pub struct InfoArguments {
    #[command(flatten)]
    trace: TraceArgument,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    trace: TraceArgument,
    /// Execute only one segment in this many again
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Execute them instruction by instruction: a second or more for each million
    #[arg(long)]
    stepping: bool,
}

#[derive(clap::Args)]
pub struct MomentsArguments {
    #[command(flatten)]
    trace: TraceArgument,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    samples: u32,
    /// Of the random numbers
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Info(arguments) => with_stdout(|output| info(&arguments, output)),
        Command::Verify(arguments) => with_stdout(|output| verify(&arguments, output)),
        Command::Moments(arguments) => with_stdout(|output| moments(&arguments, output)),
    }
}

fn open(trace: &Trace) -> anyhow::Result<Reader> {
    let directory = trace.directory().join(DATABASE);
    let reader = Reader::open(&directory, CACHE_BYTES)?;
    anyhow::ensure!(
        reader.manifest().identity == trace.identity()?,
        "{}: the database is of another recording, or the recording has changed since",
        directory.display()
    );
    Ok(reader)
}

fn info(arguments: &InfoArguments, output: &mut dyn Write) -> anyhow::Result<()> {
    let trace = arguments.trace.open()?;
    let reader = open(&trace)?;
    let (leaves, instructions) = (reader.leaves(), reader.end().0);
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut nodes = 0;
    for leaf in 0..leaves {
        for section in reader.section_sizes(0, leaf)?.context("a leaf is missing")? {
            *kinds.entry(section.name.to_string()).or_default() += section.bytes;
        }
    }
    for level in 1.. {
        let (mut number, mut any) = (0, false);
        while let Some(sections) = reader.section_sizes(level, number)? {
            nodes += sections.iter().map(|section| section.bytes).sum::<u64>();
            (number, any) = (number + 1, true);
        }
        if !any {
            break;
        }
    }
    let total = kinds.values().sum::<u64>() + nodes;
    let state = format!("{:?}", reader.manifest().state);
    if arguments.json {
        let object = json!({
            "state": state,
            "instructions": instructions,
            "segments": leaves,
            "bytes": { "segments": kinds, "nodes": nodes, "sum": total },
        });
        writeln!(output, "{object}")?;
        return Ok(());
    }
    let per = |bytes: u64| bytes as f64 / instructions.max(1) as f64;
    writeln!(output, "state         {state}")?;
    writeln!(output, "instructions  {instructions}")?;
    writeln!(output, "segments      {leaves}")?;
    writeln!(output, "\n{:<14}{:>14}{:>18}", "bytes", "", "an instruction")?;
    for (kind, bytes) in kinds.iter().map(|(kind, bytes)| (kind.as_str(), *bytes)) {
        writeln!(output, "{kind:<14}{bytes:>14}{:>18.5}", per(bytes))?;
    }
    writeln!(output, "{:<14}{nodes:>14}{:>18.5}", "nodes", per(nodes))?;
    writeln!(output, "{:<14}{total:>14}{:>18.5}", "sum", per(total))?;
    Ok(())
}

fn verify(arguments: &VerifyArguments, output: &mut dyn Write) -> anyhow::Result<()> {
    let trace = arguments.trace.open()?;
    let reader = open(&trace)?;
    let files = reader.verify(|_| {})?;
    let chosen = (0..reader.leaves()).step_by(usize::try_from(arguments.every)?);
    let method = if arguments.stepping { Method::Stepping } else { Method::Again };
    let verified = index::verify(&reader, &trace, chosen, method)?;
    writeln!(
        output,
        "{}: {} records, {} of {} segments executed again, {} differences",
        reader.directory().display(),
        files.records,
        verified.leaves,
        reader.leaves(),
        verified.differences.len()
    )?;
    if let Some(first) = verified.differences.first() {
        bail!("the database is wrong: {first}; build it anew");
    }
    Ok(())
}

fn moments(arguments: &MomentsArguments, output: &mut dyn Write) -> anyhow::Result<()> {
    let trace = arguments.trace.open()?;
    let milliseconds = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    let opening = Instant::now();
    let reader = open(&trace)?;
    let open_ms = milliseconds(opening);
    let mut navigator = Navigator::new(&reader, &trace);
    let mut random = arguments.seed;
    let mut took = Vec::new();
    for _ in 0..arguments.samples {
        // splitmix64.
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (random ^ random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let moment = Moment((mixed ^ mixed >> 31) % reader.end().0.max(1));
        let started = Instant::now();
        navigator.moment(moment)?;
        took.push(milliseconds(started));
    }
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize];
    let object = json!({
        "open_ms": open_ms,
        "samples": took.len(),
        "median_ms": at(0.5),
        "percentile_99_ms": at(0.99),
        "most_ms": at(1.0),
    });
    writeln!(output, "{object}")?;
    Ok(())
}
