//! `pernosco replay`: re-executes recordings and checks them, or shows registers at a position.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressStyle};
use model::{Event, Moment, Tid};
use replay::{Error, Options, Progress, Session};
use rr_trace::Trace;
use serde_json::json;

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["check", "registers"])))]
pub struct ReplayArguments {
    /// Replay to the end and compare registers and ticks at every event
    #[arg(long)]
    check: bool,
    /// Show all registers behind this event, or that many instructions further on
    #[arg(long, value_name = "EVENT[+INSTRUCTIONS]")]
    registers: Option<Place>,
    /// Show them after each of this many further instructions, too
    #[arg(long, value_name = "N", default_value_t = 0, requires = "registers")]
    count: u64,
    /// Write JSON, an object a line
    #[arg(long)]
    json: bool,
    /// Directories of recordings
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
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
    let Some(place) = arguments.registers else {
        let mut diverged = 0;
        for trace in &arguments.traces {
            diverged += usize::from(!check(trace, arguments.json)?);
        }
        anyhow::ensure!(diverged == 0, "{diverged} of {} replays diverged", arguments.traces.len());
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

/// Replays one recording to its end; false when it diverges.
fn check(directory: &Path, json: bool) -> anyhow::Result<bool> {
    let mut session = open(directory)?;
    let name = directory.display();
    let progress = progress_bar();
    let started = Instant::now();
    let mut events = 0u64;
    let outcome = loop {
        match session.advance(None) {
            Ok(Progress::Event(report)) => {
                events += 1;
                progress.set_position(report.event.0);
            }
            Ok(Progress::Restarted) => {
                events = 0;
                let note = format!(
                    "{name}: fewer ticks are recorded than there are conditional branches: \
                     replaying again, as if counted in software"
                );
                progress.suspend(|| writeln!(std::io::stderr(), "{note}"))?;
            }
            Ok(Progress::End | Progress::Moment) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    progress.finish_and_clear();
    let divergences = match &outcome {
        Ok(()) => 0,
        Err(Error::Divergence(divergence)) => {
            writeln!(std::io::stderr(), "{name}: {divergence}")?;
            1
        }
        Err(_) => {
            outcome.with_context(|| format!("{name}"))?;
            0
        }
    };
    let elapsed = started.elapsed();
    let (tasks, instructions) = (session.tasks_created(), session.moment().0);
    let ticks = session.total_ticks().0;
    let mut out = std::io::stdout().lock();
    if json {
        let line = json!({
            "trace": name.to_string(),
            "events": events,
            "tasks": tasks,
            "instructions": instructions,
            "ticks": ticks,
            "tick_rule": session.tick_rule().to_string(),
            "divergences": divergences,
            "seconds": elapsed.as_secs_f64(),
        });
        writeln!(out, "{line}")?;
    } else {
        let speed = instructions as f64 / elapsed.as_secs_f64().max(1e-9) / 1e6;
        writeln!(
            out,
            "{name}: {events} events, {tasks} tasks, {instructions} instructions, {ticks} ticks, \
             {divergences} divergences, {speed:.1} M instr/s"
        )?;
    }
    Ok(divergences == 0)
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} event {pos}, {elapsed}");
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
            Progress::Event(_) | Progress::Restarted => {}
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
