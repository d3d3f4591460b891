//! The benchmark's table, its floors, and the same as JSON.

use std::fmt;

use serde_json::{Value, json};

use super::measure::Figures;

/// The slowdown to native that the machine may have without observers.
const PLAIN_MAX: [(&str, f64); 5] =
    [("gzip", 2.0), ("sort", 2.0), ("sqlite3", 2.7), ("python", 2.7), ("cc1", 4.0)];
/// What a replay may cost, times the same program in the machine without observers.
const REPLAY_MAX: f64 = 1.1;
/// What words written and execution counts together may cost, times plain.
const INDEXING_MAX: f64 = 1.6;

#[derive(Debug)]
pub enum Cell {
    Measured(Figures),
    Failed(String),
}

#[derive(Debug)]
pub struct Row {
    pub workload: &'static str,
    pub tool: String,
    pub cell: Cell,
}

/// Which floors there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Benchmark {
    #[default]
    Machine,
    /// With so little work that translation weighs more than the floors of the machine allow.
    Replay,
}

#[derive(Debug, Default)]
pub struct Report {
    pub benchmark: Benchmark,
    pub rows: Vec<Row>,
    /// What is not installed.
    pub missing: Vec<String>,
}

/// The faster of two runs; a failure stays.
pub fn better(old: Option<Cell>, new: Cell) -> Cell {
    match (old, new) {
        (Some(Cell::Measured(old)), Cell::Measured(new)) => {
            Cell::Measured(if old.cpu_seconds <= new.cpu_seconds { old } else { new })
        }
        (Some(Cell::Failed(why)), _) => Cell::Failed(why),
        (_, new) => new,
    }
}

impl Report {
    pub fn has_failures(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.cell, Cell::Failed(_)))
    }

    fn figures(&self, workload: &str, tool: &str) -> Option<&Figures> {
        let row = self.rows.iter().find(|row| row.workload == workload && row.tool == tool)?;
        match &row.cell {
            Cell::Measured(figures) => Some(figures),
            Cell::Failed(_) => None,
        }
    }

    fn ratio(&self, workload: &str, tool: &str, to: &str) -> Option<f64> {
        let to = self.figures(workload, to)?.cpu_seconds;
        Some(self.figures(workload, tool)?.cpu_seconds / to)
    }

    fn instructions_per_second(&self, workload: &str, tool: &str) -> Option<f64> {
        let figures = self.figures(workload, tool)?;
        let plain = || self.figures(workload, "plain")?.instructions;
        Some(figures.instructions.or_else(plain)? as f64 / figures.cpu_seconds)
    }

    fn workloads(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.rows.iter().map(|row| row.workload).collect();
        names.dedup();
        names
    }

    /// Floors that are missed.
    fn warnings(&self) -> Vec<String> {
        match self.benchmark {
            Benchmark::Machine => self.machine_warnings(),
            Benchmark::Replay => self.replay_warnings(),
        }
    }

    fn replay_warnings(&self) -> Vec<String> {
        let slow = |workload| {
            let ratio = self.ratio(workload, "replay", "plain")?;
            let text = format!("{workload}: replay is {ratio:.2} plain, above {REPLAY_MAX}");
            (ratio > REPLAY_MAX).then_some(text)
        };
        self.workloads().into_iter().filter_map(slow).collect()
    }

    fn machine_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for workload in self.workloads() {
            let Some(plain) = self.ratio(workload, "plain", "native") else { continue };
            let floor = PLAIN_MAX.iter().find(|(name, _)| *name == workload);
            if let Some((_, max)) = floor.filter(|(_, max)| plain > *max) {
                warnings.push(format!("{workload}: plain is {plain:.2} native, above {max}"));
            }
            let indexing = self.ratio(workload, "written+executions", "plain");
            if let Some(ratio) = indexing.filter(|ratio| *ratio > INDEXING_MAX) {
                warnings.push(format!(
                    "{workload}: written+executions is {ratio:.2} plain, above {INDEXING_MAX}"
                ));
            }
            for other in ["valgrind", "qemu"] {
                if self.ratio(workload, "plain", other).is_some_and(|ratio| ratio >= 1.0) {
                    warnings.push(format!("{workload}: plain is not ahead of {other}"));
                }
            }
        }
        warnings
    }

    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| self.json_row(row)).collect();
        json!({ "runs": rows, "warnings": self.warnings(), "missing": self.missing })
    }

    fn json_row(&self, row: &Row) -> Value {
        match &row.cell {
            Cell::Failed(why) => {
                json!({ "workload": row.workload, "tool": row.tool, "failed": why })
            }
            Cell::Measured(figures) => json!({
                "workload": row.workload,
                "tool": row.tool,
                "cpu_seconds": figures.cpu_seconds,
                "instructions": figures.instructions,
                "slowdown": self.ratio(row.workload, &row.tool, "native"),
                "to_plain": self.ratio(row.workload, &row.tool, "plain"),
                "instructions_per_second":
                    self.instructions_per_second(row.workload, &row.tool),
            }),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["program", "run", "CPU s", "to native", "to plain", "M instr/s"];
        writeln!(
            f,
            "{:8}  {:18}  {:>7}  {:>9}  {:>8}  {:>9}",
            head[0], head[1], head[2], head[3], head[4], head[5]
        )?;
        for row in &self.rows {
            write!(f, "{:8}  {:18}  ", row.workload, row.tool)?;
            let figures = match &row.cell {
                Cell::Measured(figures) => figures,
                Cell::Failed(why) => {
                    writeln!(f, "FAILED: {why}")?;
                    continue;
                }
            };
            let number = |value: Option<f64>, digits: usize| {
                value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
            };
            let native = number(self.ratio(row.workload, &row.tool, "native"), 2);
            let plain = number(self.ratio(row.workload, &row.tool, "plain"), 2);
            let speed = self.instructions_per_second(row.workload, &row.tool);
            let speed = number(speed.map(|speed| speed / 1e6), 0);
            writeln!(f, "{:7.3}  {native:>9}  {plain:>8}  {speed:>9}", figures.cpu_seconds)?;
        }
        for line in &self.missing {
            writeln!(f, "missing: {line}")?;
        }
        for line in self.warnings() {
            writeln!(f, "floor missed: {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(workload: &'static str, tool: &str, cpu_seconds: f64) -> Row {
        let figures = Figures { cpu_seconds, instructions: Some(1_000_000), output: None };
        Row { workload, tool: tool.to_owned(), cell: Cell::Measured(figures) }
    }

    #[test]
    fn warns_of_missed_floors_only() {
        let rows = vec![
            row("gzip", "native", 1.0),
            row("gzip", "plain", 2.5),
            row("gzip", "written+executions", 3.0),
            row("gzip", "qemu", 2.4),
            row("cc1", "native", 1.0),
            row("cc1", "plain", 3.9),
            row("cc1", "written+executions", 6.5),
            row("cc1", "valgrind", 9.0),
        ];
        let report = Report { rows, ..Report::default() };
        assert_eq!(
            report.warnings(),
            [
                "gzip: plain is 2.50 native, above 2",
                "gzip: plain is not ahead of qemu",
                "cc1: written+executions is 1.67 plain, above 1.6",
            ]
        );
    }

    #[test]
    fn warns_of_slow_replays() {
        let mut rows = vec![row("gzip", "native", 1.0), row("gzip", "plain", 9.0)];
        rows.extend([row("gzip", "replay", 9.8), row("sort", "replay", 1.0)]);
        rows.extend([row("cc1", "plain", 1.0), row("cc1", "replay", 1.2)]);
        let report = Report { rows, benchmark: Benchmark::Replay, ..Report::default() };
        assert_eq!(report.warnings(), ["cc1: replay is 1.20 plain, above 1.1"]);
    }

    #[test]
    fn keeps_the_fastest_and_failures() {
        let cell = |seconds| row("sort", "plain", seconds).cell;
        let best = better(Some(cell(2.0)), cell(1.0));
        assert!(matches!(&best, Cell::Measured(f) if f.cpu_seconds == 1.0));
        let failed = better(Some(Cell::Failed("x".to_owned())), cell(1.0));
        assert!(matches!(failed, Cell::Failed(_)));
    }
}
