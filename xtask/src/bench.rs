//! `cargo xtask bench machine`: whole programs, native and in the machine, and in other tools.
//!
//! Every figure is the CPU time of a whole process, start-up and translation included, the
//! least of several runs; the tools take turns, so that a slow moment of the host hits all of
//! them. Every run's output has to be that of the native one.
//!
//! Observers are paid in full: what they saw is taken from the machine as often as a debugger
//! with segments of a few million instructions would.

mod measure;
mod report;
mod workloads;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::workspace;
use measure::{Run, Tool};
use report::{Cell, Report, Row};
use workloads::{Size, Workload};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// A quarter of the work, once.
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Only these programs: gzip, sort, sqlite3, python, cc1.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these ways to run them, by their names in the table.
    #[arg(long, value_delimiter = ',')]
    tools: Vec<String>,
    /// Runs of each, of which the fastest counts.
    #[arg(long)]
    runs: Option<usize>,
    /// Instructions between two times that the observers' results are taken.
    #[arg(long, default_value_t = 4 << 20)]
    slice: u64,
    /// The core that everything runs on.
    #[arg(long)]
    core: Option<usize>,
}

pub fn run(options: &Options) -> Result<()> {
    let live_run = build_live_run()?;
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let size = if options.quick { Size::Quarter } else { Size::Full };
    let tools = tools(&live_run, options);
    let (workloads, missing) = workloads::prepare(directory.path(), size, &options.only)?;
    ensure!(!workloads.is_empty(), "there is nothing to run");
    let runs = options.runs.unwrap_or(if options.quick { 1 } else { 3 }).max(1);
    let core = options.core.unwrap_or_else(last_core);
    let mut report = Report { missing, ..Report::default() };
    report.missing.extend(missing_tools(&tools));
    let present: Vec<&Tool> = tools.iter().filter(|tool| tool.present()).collect();
    for workload in &workloads {
        if !options.json {
            eprintln!("{}: {runs} x {} runs", workload.name, present.len());
        }
        report.rows.extend(measure_workload(workload, &present, runs, core)?);
    }
    if options.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    ensure!(!report.has_failures(), "a run failed or had another output than the native one");
    Ok(())
}

/// Builds the runner as users would have it: optimised.
fn build_live_run() -> Result<PathBuf> {
    let status = workspace::cargo().args(["build", "--release", "--package", "live"]).status();
    ensure!(status.context("cannot run cargo")?.success(), "the live runner does not build");
    Ok(workspace::target_directory()?.join("release/live-run"))
}

/// The ways to run a program; native is the first, the machine without observers the second.
fn tools(live_run: &std::path::Path, options: &Options) -> Vec<Tool> {
    let machine = |name: &str, observe: &str| {
        let mut prefix = vec![live_run.display().to_string(), "--stats".to_owned()];
        prefix.push(format!("--slice={}", options.slice));
        if !observe.is_empty() {
            prefix.push(format!("--observe={observe}"));
        }
        Tool { name: name.to_owned(), prefix, install: "" }
    };
    let other = |name: &str, prefix: &[&str], install| Tool {
        name: name.to_owned(),
        prefix: prefix.iter().map(|word| (*word).to_owned()).collect(),
        install,
    };
    let all = vec![
        other("native", &[], ""),
        machine("plain", ""),
        machine("written", "written"),
        machine("reads", "reads"),
        machine("executions", "executions"),
        machine("calls", "calls"),
        machine("control", "control"),
        machine("stores", "stores"),
        machine("written+executions", "written,executions"),
        machine("all", "all"),
        other("valgrind", &["valgrind", "--tool=none", "-q"], "apt-get install valgrind"),
        other("qemu", &["qemu-x86_64"], "apt-get install qemu-user"),
    ];
    let wanted = |tool: &Tool| {
        options.tools.is_empty() || tool.name == "native" || options.tools.contains(&tool.name)
    };
    all.into_iter().filter(wanted).collect()
}

fn missing_tools(tools: &[Tool]) -> Vec<String> {
    let missing = tools.iter().filter(|tool| !tool.present());
    missing.map(|tool| format!("{} is not installed: {}", tool.name, tool.install)).collect()
}

fn measure_workload(
    workload: &Workload,
    tools: &[&Tool],
    runs: usize,
    core: usize,
) -> Result<Vec<Row>> {
    let native = measure::run(workload, tools[0], core, Duration::from_secs(600))?;
    let expected = native.result.map_err(|why| anyhow::anyhow!("{}: {why}", workload.name))?;
    let limit = Duration::from_secs_f64((expected.cpu_seconds * 100.0).max(60.0));
    let mut best = BTreeMap::<usize, Cell>::new();
    for _ in 0..runs {
        for (index, tool) in tools.iter().enumerate() {
            if matches!(best.get(&index), Some(Cell::Failed(_))) {
                continue;
            }
            let Run { result } = measure::run(workload, tool, core, limit)?;
            let cell = match result {
                Ok(figures) if figures.output != expected.output => {
                    Cell::Failed("another output than the native run".to_owned())
                }
                Ok(figures) => Cell::Measured(figures),
                Err(why) => Cell::Failed(why),
            };
            let old = best.remove(&index);
            best.insert(index, report::better(old, cell));
        }
    }
    let row = |(index, cell): (usize, Cell)| Row {
        workload: workload.name,
        tool: tools[index].name.clone(),
        cell,
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
