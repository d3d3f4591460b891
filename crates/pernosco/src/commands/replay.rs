//! `pernosco replay`: re-executes recordings and checks them, shows registers at a position, or
//! what becomes of descriptors.

mod descriptors;

mod leader;
mod pieces;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressStyle};
use model::{Event, Moment, Tid};
use replay::{Options, Progress, Session};
use rr_trace::Trace;
use serde_json::json;

use leader::{Checkpoints, Run};
use pieces::{Checked, Plan};

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["check", "registers", "descriptors"])))]
pub struct ReplayArguments {
    /// Replay to the end and compare registers and ticks at every event
    #[arg(long)]
    check: bool,
    /// Take N checkpoints, spread evenly over the run's ticks and also inside of events and string
    /// instructions, or one behind `every` event; and re-execute every piece between two of them
    /// in a process of its own, which starts from the checkpoint's file, and compare all state at
    /// its end
    ///
    /// Parallel are processes. The first replay, which finds the checkpoints, is one of them;
    /// pieces are re-executed by the others as soon as they are found, and by all --jobs when the
    /// first replay has ended. With `--jobs 1` all comes one after the other. Which of the pieces
    /// found so far comes next, chance decides.
    ///
    /// In memory are N checkpoints (with `every`, one for each event); each takes the pages that
    /// were written since the one before it, and about 10 KiB a task. On the disk, in TMPDIR,
    /// there is one file for each process at a time, with all pages that are not as the program's
    /// files have them, compressed.
    #[arg(long, value_name = "N|every", conflicts_with = "registers", verbatim_doc_comment)]
    checkpoints: Option<Checkpoints>,
    /// Decides the order in which pieces are re-executed
    #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "checkpoints")]
    seed: u64,
    /// Processes at a time, the first replay being one [default: as many as there are processors]
    #[arg(long, value_name = "NUMBER", requires = "checkpoints", value_parser = jobs)]
    jobs: Option<usize>,
    /// Kill the process of a piece when it gives no sign of life for so long: it is expected to
    /// begin within that time, and then to come on by an event or 16 million instructions
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "checkpoints",
          value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
    /// Show all registers behind this event, or that many instructions further on
    #[arg(long, value_name = "EVENT[+INSTRUCTIONS]")]
    registers: Option<Place>,
    /// Show what becomes of each open file, pipe and socket, and who reads and writes how much
    /// (JSON: every transfer, with its place)
    #[arg(long)]
    descriptors: bool,
    /// Show the registers after each of this many further instructions, too
    #[arg(long, value_name = "N", default_value_t = 0, requires = "registers")]
    count: u64,
    /// Write JSON, an object a line
    #[arg(long)]
    json: bool,
    /// Directories of recordings
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
}

fn jobs(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=4096).contains(number));
    number.ok_or_else(|| "not a number from 1 to 4096".into())
}

/// A position: behind an event, and behind some instructions after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    event: Event,
    instructions: u64,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let (event, instructions) = text.split_once('+').unwrap_or((text, "0"));
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number"));
        Ok(Place { event: Event(number(event)?), instructions: number(instructions)? })
    }
}

pub fn run(arguments: &ReplayArguments) -> anyhow::Result<()> {
    if arguments.descriptors {
        let [trace] = &arguments.traces[..] else { bail!("--descriptors takes one recording") };
        return descriptors::show(trace, arguments.json);
    }
    let Some(place) = arguments.registers else {
        let (mut diverged, mut failed) = (0, 0);
        for trace in &arguments.traces {
            let (divergences, failures) = check(trace, arguments)?;
            diverged += usize::from(divergences > 0);
            failed += failures;
        }
        let traces = arguments.traces.len();
        anyhow::ensure!(failed == 0, "{failed} pieces could not be replayed");
        anyhow::ensure!(diverged == 0, "{diverged} of {traces} replays diverged");
        return Ok(());
    };
    let [trace] = &arguments.traces[..] else { bail!("--registers takes one recording") };
    show_registers(trace, place, arguments.count, arguments.json)
}

fn open(directory: &Path) -> anyhow::Result<Session> {
    let trace = Trace::open(directory)?;
    let session = Session::open(&trace, Options::default());
    session.with_context(|| format!("{}: cannot replay", directory.display()))
}

/// Replays one recording to its end, and in pieces if that is wanted: the numbers of divergences
/// and of pieces that failed.
fn check(directory: &Path, arguments: &ReplayArguments) -> anyhow::Result<(usize, usize)> {
    let trace = Trace::open(directory)?;
    let processors = std::thread::available_parallelism().map_or(1, |number| number.get());
    let plan = Plan {
        seed: arguments.seed,
        jobs: arguments.jobs.unwrap_or(processors),
        patience: arguments.patience,
    };
    let progress = progress_bar("{spinner} event {pos}, {msg} {elapsed}");
    let outcome = match arguments.checkpoints {
        None => {
            leader::run(&trace, Checkpoints::None, &progress, &mut |_| {}).map(|run| (run, None))
        }
        Some(wanted) => pieces::check(&trace, plan, &progress, |found| {
            leader::run(&trace, wanted, &progress, found)
        }),
    };
    progress.finish_and_clear();
    let (run, checked) = outcome?;
    let mut err = std::io::stderr();
    if let Some(divergence) = &run.divergence {
        writeln!(err, "{}: {divergence}", directory.display())?;
    }
    for failure in checked.iter().flat_map(|checked| &checked.failures) {
        writeln!(err, "{}", failure.message)?;
    }
    let checked = checked.map(|checked| (checked, plan));
    let in_pieces = checked.as_ref().map_or(&[][..], |(pieces, _)| &pieces.failures);
    let diverged = in_pieces.iter().filter(|failure| failure.diverged).count();
    let divergences = usize::from(run.divergence.is_some()) + diverged;
    print_run(directory, &run, divergences, checked.as_ref(), arguments.json)?;
    Ok((divergences, in_pieces.len() - diverged))
}

fn print_run(
    directory: &Path,
    run: &Run,
    divergences: usize,
    checked: Option<&(Checked, Plan)>,
    json: bool,
) -> anyhow::Result<()> {
    let name = directory.display();
    let mut out = std::io::stdout().lock();
    let Run { events, tasks, instructions, ticks, tick_rule, seconds, .. } = run;
    if json {
        let mut line = json!({
            "trace": name.to_string(),
            "events": events,
            "tasks": tasks,
            "instructions": instructions,
            "ticks": ticks.0,
            "tick_rule": tick_rule.to_string(),
            "divergences": divergences,
            "seconds": seconds,
        });
        if let Some((pieces, plan)) = checked {
            let failed = pieces.failures.iter().filter(|failure| !failure.diverged).count();
            line["pieces"] = json!({
                "count": pieces.pieces,
                "failed": failed,
                "jobs": plan.jobs,
                "seconds": pieces.seconds,
                "restore_seconds": pieces.restore_seconds,
                "replay_seconds": pieces.replay_seconds,
                "compare_seconds": pieces.compare_seconds,
                "files": pieces.files,
                "file_bytes": pieces.file_bytes,
            });
        }
        writeln!(out, "{line}")?;
        return Ok(());
    }
    let speed = *instructions as f64 / seconds.max(1e-9) / 1e6;
    write!(
        out,
        "{name}: {events} events, {tasks} tasks, {instructions} instructions, {ticks} ticks, \
         {divergences} divergences, {speed:.1} M instr/s"
    )?;
    if let Some((pieces, plan)) = checked {
        let bytes = crate::output::bytes(pieces.file_bytes / pieces.files.max(1));
        let Checked { pieces: count, seconds, .. } = pieces;
        let jobs = plan.jobs;
        write!(
            out,
            "; {count} pieces, {jobs} processes at a time, in all {seconds:.2} s, {bytes} a checkpoint"
        )?;
    }
    writeln!(out)?;
    Ok(())
}

fn progress_bar(template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn show_registers(directory: &Path, place: Place, count: u64, json: bool) -> anyhow::Result<()> {
    let mut session = open(directory)?;
    while session.last_event() < place.event {
        if session.step_event()?.is_none() {
            bail!("the recording has {} events only", session.last_event());
        }
    }
    let base = session.moment();
    let shown = place.instructions..=place.instructions.saturating_add(count);
    for instructions in shown {
        if instructions > 0 && !advance(&mut session, base + instructions)? {
            bail!("the recording ends before that");
        }
        print_registers(&session, Place { event: place.event, instructions }, json)?;
    }
    Ok(())
}

/// Up to the instruction that begins at `moment`, with all events before it; false at the end of
/// the recording.
fn advance(session: &mut Session, moment: Moment) -> anyhow::Result<bool> {
    loop {
        let before = session.moment();
        match session.advance(Some(moment))? {
            Progress::Event(_) | Progress::Restarted | Progress::Stop(_) => {}
            Progress::Moment if before < moment => {}
            Progress::Moment => return Ok(true),
            Progress::End => return Ok(false),
        }
    }
}

fn print_registers(session: &Session, place: Place, json: bool) -> anyhow::Result<()> {
    let tid: Tid = session.current_task().context("no task has run yet")?;
    let state = session.registers(tid).zip(session.vector_registers(tid));
    let (registers, vector) = state.with_context(|| format!("task {tid} has ended"))?;
    let listing = replay::listing(&registers, &vector);
    let ticks = session.ticks(tid).unwrap_or_default();
    let (moment, Place { event, instructions }) = (session.moment(), place);
    let mut out = std::io::stdout().lock();
    if json {
        let registers: serde_json::Map<_, _> =
            listing.into_iter().map(|(name, value)| (name, value.into())).collect();
        let line = json!({
            "after_event": event.0,
            "instructions": instructions,
            "moment": moment.0,
            "tid": tid.0,
            "ticks": ticks.0,
            "regs": registers,
        });
        writeln!(out, "{line}")?;
        return Ok(());
    }
    writeln!(out, "event {event}+{instructions}, task {tid}, moment {moment}, ticks {ticks}")?;
    for (name, value) in listing {
        writeln!(out, "  {name:<8} {value}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let place = |event, instructions| Ok(Place { event: Event(event), instructions });
        assert_eq!("12".parse(), place(12, 0));
        assert_eq!("12+34".parse(), place(12, 34));
        assert!("12+".parse::<Place>().is_err());
        assert!("+1".parse::<Place>().is_err());
    }
}
