//! `cargo xtask bench build`: databases of recordings that are there.
//!
//! For each recording in turn: its plain replay, its build in one pass, its build by as many
//! workers as there are processors, and how long it takes to be at a random moment. Every figure
//! is the least of several runs but for moments, which are a median and a 99th percentile.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::build;
use super::measure::{self, Usage};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Recordings, such as those that `bench replay` keeps. They are copied: each gets a database.
    #[arg(required = true, value_name = "TRACE")]
    recordings: Vec<PathBuf>,
    /// Runs of each, of which the fastest counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Random moments to go to.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    moments: u32,
    /// Print JSON, a line for each recording.
    #[arg(long)]
    json: bool,
}

/// Fresh processes that go to one moment each.
const COLD_MOMENTS: u32 = 15;

pub fn run(options: &Options) -> Result<()> {
    let pernosco = build("pernosco", "pernosco")?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    for recording in &options.recordings {
        let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
        let trace = temporary.path().join("trace");
        copy(recording, &trace)?;
        let figures = measure(&pernosco, &trace, processors, options)
            .with_context(|| recording.display().to_string())?;
        if options.json {
            println!(
                "{}",
                json!({ "recording": recording.display().to_string(), "figures": figures })
            );
        } else {
            print(recording, &figures, processors);
        }
    }
    Ok(())
}

/// Everything but a database that is there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    let entries = std::fs::read_dir(from).with_context(|| from.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))
                .with_context(|| entry.path().display().to_string())?;
        }
    }
    Ok(())
}

fn measure(pernosco: &Path, trace: &Path, processors: usize, options: &Options) -> Result<Value> {
    let database = trace.join("pernosco.db");
    let run = |words: &[&str]| {
        let mut command = Command::new(pernosco);
        command.args(words).arg(trace).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let usage = measure::usage_of(&mut command)?;
        ensure!(usage.status.success(), "`pernosco {}` failed", words.join(" "));
        Ok((usage, started.elapsed().as_secs_f64()))
    };
    let fresh = |shards: &str| {
        if database.exists() {
            std::fs::remove_dir_all(&database)?;
        }
        run(&["build", "--shards", shards])
    };
    let all = processors.max(2).to_string();
    let (mut replay, mut one, mut many) = (Best::default(), Best::default(), Best::default());
    for _ in 0..options.runs {
        replay.take(run(&["replay", "--check"])?);
        many.take(fresh(&all)?);
        one.take(fresh("1")?);
    }
    let ask = |words: &[&str]| -> Result<Value> {
        let output = Command::new(pernosco).args(words).arg(trace).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let mut cold: Vec<f64> = Vec::new();
    for seed in 0..COLD_MOMENTS {
        let seed = seed.to_string();
        let told = ask(&["db", "moments", "--samples", "1", "--seed", &seed])?;
        cold.push(told["median_ms"].as_f64().context("no median")?);
    }
    cold.sort_by(f64::total_cmp);
    Ok(json!({
        "replay": replay.json(), "one": one.json(), "many": many.json(),
        "info": ask(&["db", "info", "--json"])?,
        "warm": ask(&["db", "moments", "--samples", &options.moments.to_string()])?,
        "cold": { "median_ms": cold[cold.len() / 2], "most_ms": cold[cold.len() - 1] },
    }))
}

/// The least of several runs, each by itself.
#[derive(Debug)]
struct Best {
    cpu: f64,
    /// Without the processes that it started.
    wall: f64,
    memory: u64,
}

impl Default for Best {
    fn default() -> Best {
        Best { cpu: f64::INFINITY, wall: f64::INFINITY, memory: u64::MAX }
    }
}

impl Best {
    fn take(&mut self, (usage, wall): (Usage, f64)) {
        self.cpu = self.cpu.min(usage.cpu_seconds);
        self.wall = self.wall.min(wall);
        self.memory = self.memory.min(usage.peak_bytes);
    }

    fn json(&self) -> Value {
        json!({ "cpu_s": self.cpu, "wall_s": self.wall, "largest_process_bytes": self.memory })
    }
}

fn print(recording: &Path, figures: &Value, processors: usize) {
    let number = |path: &str| figures.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let ratio = |of: &str, what: &str| {
        number(&format!("/{of}/{what}")) / number(&format!("/replay/{what}"))
    };
    let instructions = number("/info/instructions");
    println!("{}: {:.0} M instructions", recording.display(), instructions / 1e6);
    println!(
        "  build to replay: one pass {:.2} (CPU) {:.2} (wall), {} workers {:.2} (CPU) {:.2} (wall)",
        ratio("one", "cpu_s"),
        ratio("one", "wall_s"),
        processors.max(2),
        ratio("many", "cpu_s"),
        ratio("many", "wall_s"),
    );
    println!("  largest process: {:.0} MB", number("/one/largest_process_bytes") / 1e6);
    println!("  bytes an instruction: {:.4}", number("/info/bytes/sum") / instructions);
    println!(
        "  opened in {:.2} ms; at a random moment in {:.1} ms, 99 of 100 in {:.1} ms; \
         in a fresh process {:.1} ms, at most {:.1} ms",
        number("/warm/open_ms"),
        number("/warm/median_ms"),
        number("/warm/percentile_99_ms"),
        number("/cold/median_ms"),
        number("/cold/most_ms"),
    );
}
