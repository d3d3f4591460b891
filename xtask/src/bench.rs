//! `cargo xtask bench machine`, `cargo xtask bench replay`, `cargo xtask bench build`,
//! `cargo xtask bench query`.
//!
//! Every figure is the CPU time of a whole process, start-up and translation included, the
//! least of several runs; the tools take turns, so that a slow moment of the host hits all of
//! them.

pub mod build_database;
pub mod machine;
mod measure;
pub mod query;
pub mod replay;
mod report;
mod workloads;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::workspace;
use measure::{Figures, Run, Tool};
use report::{Cell, Report, Row};
use workloads::Workload;

/// What all benchmarks are told.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Only these programs: gzip, sort, sqlite3, python, cc1.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these ways to run them, by their names in the table.
    #[arg(long, value_delimiter = ',')]
    tools: Vec<String>,
    /// The core that everything runs on.
    #[arg(long)]
    core: Option<usize>,
}

impl Common {
    /// Native execution is always there, to compare with.
    fn wants(&self, tool: &Tool) -> bool {
        self.tools.is_empty() || tool.name == "native" || self.tools.contains(&tool.name)
    }

    fn core(&self) -> usize {
        self.core.unwrap_or_else(last_core)
    }

    /// Prints the report; an error if a run failed.
    fn print(&self, report: &Report) -> Result<()> {
        if self.json {
            println!("{}", report.json());
        } else {
            print!("{report}");
        }
        ensure!(!report.has_failures(), "a run failed or had another output than the native one");
        Ok(())
    }
}

/// Builds a program as users would have it, optimised, and tells where it is.
fn build(package: &str, program: &str) -> Result<PathBuf> {
    let status = workspace::cargo().args(["build", "--release", "--package", package]).status();
    ensure!(status.context("cannot run cargo")?.success(), "{package} does not build");
    Ok(workspace::target_directory()?.join("release").join(program))
}

/// How to time one workload.
#[derive(Clone, Copy, Debug)]
struct Timing {
    runs: usize,
    core: usize,
    /// No run may take longer.
    limit: Duration,
}

impl Timing {
    /// A hundred times what the native run took, and a minute at least.
    fn for_native(runs: usize, core: usize, native: &Figures) -> Timing {
        let limit = Duration::from_secs_f64((native.cpu_seconds * 100.0).max(60.0));
        Timing { runs, core, limit }
    }
}

/// The first, native run, whose output the others have to have.
fn run_natively(workload: &Workload, native: &Tool, core: usize) -> Result<Figures> {
    let run = measure::run(workload, native, core, Duration::from_secs(600))?;
    run.result.map_err(|why| anyhow::anyhow!("{}: {why}", workload.name))
}

/// Runs everything in turns and keeps the fastest run of each.
fn measure_in_turns(
    runs: &[(&Workload, &Tool)],
    output: (u64, u64),
    timing: Timing,
) -> Result<Vec<Row>> {
    let mut best = BTreeMap::<usize, Cell>::new();
    for _ in 0..timing.runs {
        for (index, (workload, tool)) in runs.iter().enumerate() {
            if matches!(best.get(&index), Some(Cell::Failed(_))) {
                continue;
            }
            let Run { result } = measure::run(workload, tool, timing.core, timing.limit)?;
            let cell = match result {
                Ok(figures) if figures.output.is_some_and(|found| found != output) => {
                    Cell::Failed("another output than the native run".to_owned())
                }
                Ok(figures) => Cell::Measured(figures),
                Err(why) => Cell::Failed(why),
            };
            let old = best.remove(&index);
            best.insert(index, report::better(old, cell));
        }
    }
    let row = |(index, cell): (usize, Cell)| {
        let (workload, tool) = runs[index];
        Row { workload: workload.name, tool: tool.name.clone(), cell }
    };
    Ok(best.into_iter().map(row).collect())
}

/// The first core is where the host does its own work.
fn last_core() -> usize {
    let text = Command::new("taskset").args(["-pc", &std::process::id().to_string()]).output();
    let text = text.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let last = text.ok().and_then(|text| {
        text.trim().rsplit([',', '-', ' ']).next().and_then(|core| core.parse().ok())
    });
    last.unwrap_or(0)
}
