//! `cargo xtask bench machine`: whole programs, native and in the machine, and in other tools.
//!
//! Every run's output has to be that of the native one.
//!
//! Observers are paid in full: what they saw is taken from the machine as often as a debugger
//! with segments of a few million instructions would.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::measure::{Tool, ToolKind};
use super::report::Report;
use super::workloads::{self, Size, Workload};
use super::{Common, Timing, build, measure_in_turns, run_natively};

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// A quarter of the work, once.
    #[arg(long)]
    quick: bool,
    /// Runs of each, of which the fastest counts.
    #[arg(long)]
    runs: Option<usize>,
    /// Instructions between two times that the observers' results are taken.
    #[arg(long, default_value_t = 4 << 20)]
    slice: u64,
}

pub fn run(options: &Options) -> Result<()> {
    let live_run = build("live", "live-run")?;
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let size = if options.quick { Size::QUARTER } else { Size::FULL };
    let tools = tools(&live_run, options);
    let common = &options.common;
    let (workloads, missing) = workloads::prepare(directory.path(), size, &common.only)?;
    ensure!(!workloads.is_empty(), "there is nothing to run");
    let runs = options.runs.unwrap_or(if options.quick { 1 } else { 3 }).max(1);
    let mut report = Report { missing, ..Report::default() };
    report.missing.extend(missing_tools(&tools));
    let present: Vec<&Tool> = tools.iter().filter(|tool| tool.present()).collect();
    for workload in &workloads {
        if !common.json {
            eprintln!("{}: {runs} x {} runs", workload.name, present.len());
        }
        let native = run_natively(workload, present[0], common.core())?;
        let timing = Timing::for_native(runs, common.core(), &native);
        let runs: Vec<(&Workload, &Tool)> = present.iter().map(|tool| (workload, *tool)).collect();
        let output = native.output.context("native runs have an output")?;
        report.rows.extend(measure_in_turns(&runs, output, timing)?);
    }
    common.print(&report)
}

/// A run of live-run, which tells how many instructions it executed.
pub fn live_run_tool(live_run: &Path, name: &str, slice: u64, observe: &str) -> Tool {
    let mut prefix = vec![live_run.display().to_string(), "--stats".to_owned()];
    prefix.push(format!("--slice={slice}"));
    if !observe.is_empty() {
        prefix.push(format!("--observe={observe}"));
    }
    Tool { name: name.to_owned(), prefix, kind: ToolKind::Runs, install: "" }
}

/// The ways to run a program; native is the first, the machine without observers the second.
fn tools(live_run: &Path, options: &Options) -> Vec<Tool> {
    let machine = |name: &str, observe: &str| live_run_tool(live_run, name, options.slice, observe);
    let other = |name: &str, prefix: &[&str], install| Tool {
        name: name.to_owned(),
        prefix: prefix.iter().map(|word| (*word).to_owned()).collect(),
        kind: ToolKind::Runs,
        install,
    };
    let all = vec![
        Tool::native(),
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
    all.into_iter().filter(|tool| options.common.wants(tool)).collect()
}

fn missing_tools(tools: &[Tool]) -> Vec<String> {
    let missing = tools.iter().filter(|tool| !tool.present());
    missing.map(|tool| format!("{} is not installed: {}", tool.name, tool.install)).collect()
}
