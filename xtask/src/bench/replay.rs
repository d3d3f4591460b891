//! `cargo xtask bench replay`: recordings of the same programs, replayed and checked.
//!
//! Each program is recorded once, with less work than in `bench machine` since a recorder may be
//! slow. Then the same work is timed natively, in the machine without any recording, and as a
//! replay, so that what a replay costs beyond the machine shows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::machine::live_run_tool;
use super::measure::{self, Tool, ToolKind};
use super::report::{Benchmark, Report};
use super::workloads::{self, Size, Workload};
use super::{Common, Timing, build, measure_in_turns, run_natively};
use crate::workspace;

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Where recordings are kept, and looked for: by default $PERNOSCO_BENCH_RECORDINGS, else
    /// target/bench-recordings.
    #[arg(long, value_name = "DIRECTORY")]
    recordings: Option<PathBuf>,
    /// The recorder.
    #[arg(long, default_value = "rr", value_name = "PROGRAM")]
    rr: String,
    /// Words for it behind `record`, such as --rr-argument=-A --rr-argument="AMD Zen".
    #[arg(long, allow_hyphen_values = true, value_name = "WORD")]
    rr_argument: Vec<String>,
    /// One so-manieth of the work of `bench machine`: 50 means 80 to 430 million
    /// instructions.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    share: u32,
    /// Runs of each, of which the fastest counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

pub fn run(options: &Options) -> Result<()> {
    let common = &options.common;
    let live_run = build("live", "live-run")?;
    let pernosco = build("pernosco", "pernosco")?;
    let wanted = options.recordings.clone();
    let wanted = wanted.or_else(|| std::env::var_os("PERNOSCO_BENCH_RECORDINGS").map(Into::into));
    let directory = match wanted {
        Some(directory) => std::path::absolute(directory)?,
        None => workspace::target_directory()?.join("bench-recordings"),
    };
    // Recordings of different amounts of work do not overwrite each other.
    let directory = directory.join(format!("share-{}", options.share));
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let size = Size::share(options.share as usize);
    let (workloads, missing) = workloads::prepare(&directory, size, &common.only)?;
    let mut report = Report { missing, benchmark: Benchmark::Replay, ..Report::default() };
    let plain = live_run_tool(&live_run, "plain", u64::MAX, "");
    let replay = [pernosco.display().to_string(), "replay".into(), "--check".into()];
    let replay = Tool {
        name: "replay".into(),
        prefix: replay.into_iter().chain(["--json".into()]).collect(),
        kind: ToolKind::Replays,
        install: "",
    };
    let native = Tool::native();
    for workload in &workloads {
        let expected = run_natively(workload, &native, common.core())?;
        let output = expected.output.context("native runs have an output")?;
        let trace = match recorded(workload, output, options) {
            Ok(trace) => trace,
            Err(error) => {
                report.missing.push(format!("recording of {}: {error:#}", workload.name));
                continue;
            }
        };
        let recording = Workload {
            name: workload.name,
            directory: workload.directory.clone(),
            program: trace,
            arguments: Vec::new(),
            input: None,
        };
        let mut runs = vec![(workload, &native), (workload, &plain), (&recording, &replay)];
        runs.retain(|(_, tool)| common.wants(tool));
        if !common.json {
            eprintln!("{}: {} x {} runs", workload.name, options.runs, runs.len());
        }
        let timing = Timing::for_native(options.runs as usize, common.core(), &expected);
        report.rows.extend(measure_in_turns(&runs, output, timing)?);
    }
    ensure!(!report.rows.is_empty(), "there is nothing to run:\n{}", report.missing.join("\n"));
    common.print(&report)
}

/// The recording of a workload, made if it is not there yet.
fn recorded(workload: &Workload, output: (u64, u64), options: &Options) -> Result<PathBuf> {
    let trace = workload.directory.join(workload.name);
    // rr makes this file when the recording is complete.
    if trace.join("version").is_file() {
        return Ok(trace);
    }
    if trace.exists() {
        std::fs::remove_dir_all(&trace)
            .with_context(|| format!("cannot remove {}", trace.display()))?;
    }
    record(workload, &trace, output, options).inspect_err(|_| {
        // Whatever is there cannot be used; the error is what there is to say.
        let _ = std::fs::remove_dir_all(&trace);
    })?;
    Ok(trace)
}

fn record(workload: &Workload, trace: &Path, output: (u64, u64), options: &Options) -> Result<()> {
    let place = |kind: &str| workload.directory.join(format!("{}.{kind}", workload.name));
    let (printed, errors) = (place("stdout"), place("stderr"));
    let create = |path: &Path| File::create(path).with_context(|| format!("{}", path.display()));
    let mut command = Command::new(&options.rr);
    command.arg("record").args(&options.rr_argument).arg("-o").arg(trace);
    command.arg(&workload.program).args(&workload.arguments);
    workload.set_up(&mut command)?;
    // rr and what it is run by keep things there.
    command.envs(std::env::var_os("HOME").map(|home| ("HOME", home)));
    command.stdout(create(&printed)?).stderr(create(&errors)?);
    eprintln!("{}: recording, once", workload.name);
    let status = command.status().with_context(|| {
        format!("cannot run {} (--rr tells what records, --recordings where)", options.rr)
    })?;
    let told = std::fs::read(&errors).unwrap_or_default();
    let told = String::from_utf8_lossy(&told);
    ensure!(status.success(), "{} record: {status}: {}", options.rr, told.trim());
    ensure!(
        measure::length_and_hash(&printed)? == output,
        "the recorded program had another output than the native one"
    );
    ensure!(trace.join("version").is_file(), "{} made no complete recording", options.rr);
    Ok(())
}
