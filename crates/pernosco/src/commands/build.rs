//! `pernosco build`: the database of a recording.

use std::io::{IsTerminal, Write};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use index::Shards;
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use model::{Moment, Ticks};
use rr_trace::{Packing, Trace};

use super::shard::Process;
use super::{check_trace, compatibility};
use crate::locate::TraceArgument;
use crate::ticks::recorded_ticks;

/// Name of the database in the directory of its recording.
pub const DATABASE: &str = "pernosco.db";

#[derive(clap::Args)]
pub struct BuildArguments {
    #[command(flatten)]
    trace: TraceArgument,
    /// How hard to compress: 1 is fast, 22 is small
    #[arg(long, value_name = "LEVEL", default_value_t = 3,
          value_parser = clap::value_parser!(i32).range(1..=22))]
    compression_level: i32,
    /// Workers that execute segments, each a process. 1: one pass over the recording by this
    /// process, in which one thread executes and one encodes. More: this process leads, replaying
    /// ahead of them. The bytes of the database are the same. Without it, as many as are of use.
    ///
    /// Memory: for each process what the program has changed, up to twice, and what was observed
    /// in a segment (most: 134 MB for calls alone), three times with one worker; translations up
    /// to 256 MB; with more workers, 1 GiB of checkpoints that wait, on disk
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: Option<u16>,
    /// Before anything else, read the whole recording and check whether it fits together
    #[arg(long)]
    check_trace: bool,
    #[command(flatten)]
    compatibility: compatibility::BuildOptions,
}

/// With fewer processors, leading costs more than it brings.
const PROCESSORS_FOR_SHARDS: usize = 4;

impl BuildArguments {
    fn shards(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let useful = if processors < PROCESSORS_FOR_SHARDS { 1 } else { processors - 1 };
        self.shards.map_or(useful, usize::from)
    }
}

/// Builds the database, or goes on where an earlier build was stopped, once `prepare` has
/// prepared the recording.
pub fn run(
    arguments: &BuildArguments,
    prepare: impl FnOnce(&Trace) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    arguments.compatibility.tell();
    let trace = arguments.trace.open()?;
    if arguments.check_trace {
        check_trace::run(&trace)?;
    }
    prepare(&trace)?;
    let stamp = trace.stamp()?;
    let directory = trace.directory().join(DATABASE);
    let options =
        index::Options { level: arguments.compression_level, ..index::Options::default() };
    let progress = Mutex::new(Progress::new(&trace));
    let seen = || progress.lock().unwrap_or_else(PoisonError::into_inner);
    let sealed = |moment| seen().sealed(moment);
    let replayed = |ticks| seen().replayed(ticks);
    ctrlc::set_handler(stop_or_end).context("cannot handle interruptions")?;
    let watch = index::Watch { sealed: &sealed, replayed: &replayed, stop: &STOP };
    let path = trace.directory().to_owned();
    let make = move || Box::new(Process::new(path.clone())) as Box<dyn index::Worker>;
    let shards = match arguments.shards() {
        1 => Shards::None,
        number => Shards::Workers(number, &make),
    };
    let summary = index::build(&trace, &directory, &options, shards, &watch);
    let progress = progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    progress.finish();
    let directory = directory.display();
    let changed = trace.stamp().ok() != Some(stamp);
    let summary = summary.with_context(|| match (changed, Packing::plan(&trace)) {
        (true, _) => format!("{directory}: the recording was written to while this was built"),
        // A likely reason.
        (false, Err(error @ rr_trace::Error::MappedFiles { .. })) => {
            format!("{error}\n{directory}")
        }
        (false, _) => directory.to_string(),
    })?;
    ensure!(
        !changed,
        "the recording was written to while {directory} was built: remove that and build it again"
    );
    if !summary.complete {
        let leaves = summary.leaves;
        bail!("stopped with {leaves} segments in {directory}; the same command goes on from there");
    }
    if summary.resumed > 0 {
        tracing::info!(segments = summary.resumed, "went on with an earlier build");
    }
    let seconds = progress.started.elapsed().as_secs_f64();
    writeln!(
        std::io::stdout(),
        "{}: {} instructions in {} segments ({} were there), {seconds:.1} s",
        directory,
        summary.instructions,
        summary.leaves,
        summary.resumed,
    )?;
    Ok(())
}

/// Somebody wants the build to stop.
static STOP: AtomicBool = AtomicBool::new(false);

/// The first interruption lets the build come to an orderly end, the second does not. Either way
/// nothing that is sealed is lost.
fn stop_or_end() {
    if STOP.swap(true, Ordering::Relaxed) {
        std::process::exit(INTERRUPTED);
    }
}

/// Exit status of a program that SIGINT ended, as shells give it.
const INTERRUPTED: i32 = 130;

/// A bar on terminals, a line now and then elsewhere.
struct Progress {
    bar: ProgressBar,
    started: Instant,
    line_due: Instant,
    terminal: bool,
    /// Of the recording, once they are counted.
    all_ticks: Arc<OnceLock<u64>>,
    /// Replayed when the first segment was, and by now.
    first_ticks: Option<(Ticks, Instant)>,
    ticks: Ticks,
}

const BETWEEN_LINES: Duration = Duration::from_secs(10);

impl Progress {
    fn new(trace: &Trace) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(100) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:30} {msg}, {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let all_ticks = Arc::new(OnceLock::new());
        let (trace, counted) = (trace.clone(), all_ticks.clone());
        // Events without end take a while.
        std::thread::spawn(move || counted.set(recorded_ticks(&trace)));
        let started = Instant::now();
        let line_due = started + BETWEEN_LINES;
        let (first_ticks, ticks) = (None, Ticks(0));
        Progress { bar, started, line_due, terminal, all_ticks, first_ticks, ticks }
    }

    fn replayed(&mut self, ticks: Ticks) {
        self.ticks = ticks;
        self.first_ticks.get_or_insert((ticks, Instant::now()));
    }

    /// Which share of the ticks is replayed, and the seconds that the rest will take, if it goes
    /// on like this.
    fn left(&self) -> Option<(f64, u64)> {
        let all = (*self.all_ticks.get()?).max(1);
        let (first, since) = self.first_ticks?;
        let done = self.ticks.0.saturating_sub(first.0);
        let left = all.saturating_sub(self.ticks.0);
        let seconds = since.elapsed().as_secs_f64() * left as f64 / done as f64;
        let share = self.ticks.0 as f64 / all as f64;
        (done > 0).then_some((share.min(1.0), seconds.ceil() as u64))
    }

    fn sealed(&mut self, moment: Moment) {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        let speed = moment.0 as f64 / seconds / 1e6;
        let mut text = format!("{} instructions, {speed:.0} M instr/s", HumanCount(moment.0));
        if let Some((share, seconds)) = self.left() {
            let left = HumanDuration(Duration::from_secs(seconds));
            text = format!("{text}, {:.0} % of the ticks, {left:#} left", share * 100.0);
            self.bar.set_position((share * 100.0) as u64);
        }
        if self.terminal {
            self.bar.set_message(text);
        } else if Instant::now() >= self.line_due {
            // Whoever closed stderr wants no progress.
            let _ = writeln!(std::io::stderr(), "pernosco: {text}");
            self.line_due = Instant::now() + BETWEEN_LINES;
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
