//! `cargo xtask bench query`: how long answers take.
//!
//! For each recording a worker process is asked the same questions at random moments, one after
//! the other. The first time a question is asked there is cold: nothing of that place is in the
//! worker's caches, though it may be in the host's. Asked again at once it is warm. A figure is
//! what passes between sending a question and having its end; goals are 20 ms in the median and
//! 100 ms at the 99th percentile, warm 5 ms.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::build;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Recordings; a database is built where there is none.
    #[arg(required = true, value_name = "TRACE")]
    recordings: Vec<PathBuf>,
    /// Random moments to ask at.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    moments: u32,
    /// The program to measure; by default it is built, optimised.
    #[arg(long, value_name = "PERNOSCO")]
    program: Option<PathBuf>,
    /// Print JSON, a line for each recording.
    #[arg(long)]
    json: bool,
}

/// What was measured of one question, in milliseconds.
#[derive(Debug, Default)]
struct Times {
    cold: Vec<f64>,
    warm: Vec<f64>,
    /// Answers that were an error, such as there being no variable.
    failed: usize,
}

pub fn run(options: &Options) -> Result<()> {
    let pernosco = match &options.program {
        Some(program) => program.clone(),
        None => build("pernosco", "pernosco")?,
    };
    for recording in &options.recordings {
        let name = recording.display().to_string();
        let measured = measure(&pernosco, recording, options).with_context(|| name.clone())?;
        if options.json {
            let figures: serde_json::Map<String, Value> =
                measured.iter().map(|(name, times)| ((*name).to_owned(), figures(times))).collect();
            println!("{}", json!({"recording": name, "milliseconds": figures}));
        } else {
            print(&name, &measured);
        }
    }
    Ok(())
}

fn measure(
    pernosco: &Path,
    recording: &Path,
    options: &Options,
) -> Result<Vec<(&'static str, Times)>> {
    if !recording.join("pernosco.db/manifest").exists() {
        let built = Command::new(pernosco).arg("build").arg(recording).status()?;
        ensure!(built.success(), "the database was not built");
    }
    let mut worker = Worker::start(pernosco, recording)?;
    let overview = worker.rows("overview", &json!({}), json!({}), (0, 1))?;
    let first = overview.first().context("no overview")?;
    let end: u64 = first["sealed"].as_str().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut all: Vec<(&'static str, Times)> = Vec::new();
    let line = hot_line(&mut worker)?;
    for _ in 0..options.moments {
        let focus = json!({"moment": (1 + random.below(end)).to_string()});
        let stack_place = worker.register(&focus, "rsp")?;
        let heap_place = worker.heap_place(&focus, &mut random)?;
        let mut questions = vec![
            ("state", "state", json!({}), (0, 1)),
            ("stack", "stack", json!({}), (0, 100)),
            ("stack with arguments", "stack", json!({"arguments": true}), (0, 100)),
            ("variables", "variables", json!({}), (0, 100)),
            ("callees", "callees", json!({}), (20, 20)),
            ("last write, stack", "writes", at(stack_place), (1, 0)),
            ("origin, stack", "origin", with_limit(at(stack_place)), (0, 100)),
            ("search", "search", json!({"text": "ma"}), (0, 20)),
        ];
        if let Some(place) = heap_place {
            questions.push(("last write, heap", "writes", at(place), (1, 0)));
            questions.push(("origin, heap", "origin", with_limit(at(place)), (0, 100)));
        }
        if let Some((file, line)) = &line {
            let arguments = json!({"file": file, "line": line});
            questions.push(("executions of a hot line", "executions", arguments, (50, 50)));
        }
        for (name, question, arguments, window) in questions {
            let index = match all.iter().position(|(known, _)| *known == name) {
                Some(index) => index,
                None => {
                    all.push((name, Times::default()));
                    all.len() - 1
                }
            };
            for warm in [false, true] {
                let (milliseconds, answered) = worker.time(question, &focus, &arguments, window)?;
                let times = &mut all[index].1;
                if !answered {
                    times.failed += usize::from(!warm);
                }
                if warm { &mut times.warm } else { &mut times.cold }.push(milliseconds);
            }
        }
    }
    Ok(all)
}

fn at(address: u64) -> Value {
    json!({"address": format!("{address:#x}"), "length": 8})
}

fn with_limit(mut arguments: Value) -> Value {
    arguments["limit"] = 10.into();
    arguments
}

/// The line of the user's own code that the search ranks first and that runs most.
fn hot_line(worker: &mut Worker) -> Result<Option<(String, u64)>> {
    let found = worker.rows("search", &json!({}), json!({"text": "main"}), (0, 50))?;
    let place = found.iter().find(|row| row["place"]["file"].is_string());
    Ok(place.and_then(|row| {
        let file = row["place"]["file"].as_str()?.to_owned();
        Some((file, row["place"]["line"].as_u64()?))
    }))
}

/// A worker process that answers over lines.
struct Worker {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    asks: u64,
}

impl Worker {
    fn start(pernosco: &Path, recording: &Path) -> Result<Worker> {
        let mut process = Command::new(pernosco)
            .arg("query-worker")
            .arg(recording)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", pernosco.display()))?;
        let input = process.stdin.take().context("no input")?;
        let output = BufReader::new(process.stdout.take().context("no output")?);
        Ok(Worker { process, input, output, asks: 0 })
    }

    /// Asks, and returns all rows with whether it was no error.
    fn ask(
        &mut self,
        question: &str,
        focus: &Value,
        arguments: &Value,
        (before, after): (u32, u32),
    ) -> Result<(Vec<Value>, bool)> {
        self.asks += 1;
        let request = json!({
            "ask": self.asks, "question": question, "focus": focus, "arguments": arguments,
            "window": {"before": before, "after": after},
        });
        writeln!(self.input, "{request}")?;
        let mut rows = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                bail!("the worker has ended at {request}");
            }
            let mut message: Value = serde_json::from_str(&line)?;
            if let Value::Array(more) = message["rows"].take() {
                rows.extend(more);
            }
            if let Some(end) = message["end"].as_str() {
                return Ok((rows, end != "error"));
            }
        }
    }

    fn rows(
        &mut self,
        question: &str,
        focus: &Value,
        arguments: Value,
        window: (u32, u32),
    ) -> Result<Vec<Value>> {
        Ok(self.ask(question, focus, &arguments, window)?.0)
    }

    fn time(
        &mut self,
        question: &str,
        focus: &Value,
        arguments: &Value,
        window: (u32, u32),
    ) -> Result<(f64, bool)> {
        let started = Instant::now();
        let (_, answered) = self.ask(question, focus, arguments, window)?;
        Ok((started.elapsed().as_secs_f64() * 1000.0, answered))
    }

    fn register(&mut self, focus: &Value, name: &str) -> Result<u64> {
        let rows = self.rows("registers", focus, json!({}), (0, 100))?;
        let row = rows.iter().find(|row| row["name"] == name);
        let text = row.and_then(|row| row["value"].as_str()).context("no such register")?;
        Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)?)
    }

    /// A place that a register points to beside the stack, if any does.
    fn heap_place(&mut self, focus: &Value, random: &mut Random) -> Result<Option<u64>> {
        let rows = self.rows("registers", focus, json!({}), (0, 100))?;
        let values = rows.iter().filter_map(|row| {
            let text = row["value"].as_str()?;
            u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
        });
        let places: Vec<u64> =
            values.filter(|value| (0x5000_0000_0000..0x5fff_ffff_0000).contains(value)).collect();
        Ok((!places.is_empty()).then(|| places[random.below(places.len() as u64) as usize] & !7))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Marsaglia's xorshift: the same moments in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

fn percentile(times: &[f64], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or_default()
}

fn figures(times: &Times) -> Value {
    let pair = |times: &[f64]| json!([percentile(times, 0.5), percentile(times, 0.99)]);
    json!({"cold": pair(&times.cold), "warm": pair(&times.warm), "failed": times.failed})
}

fn print(name: &str, measured: &[(&'static str, Times)]) {
    println!("{name}: milliseconds, median and 99th percentile");
    println!("{:28} {:>8} {:>8}   {:>8} {:>8}  failed", "", "cold", "", "warm", "");
    for (question, times) in measured {
        println!(
            "{question:28} {:8.1} {:8.1}   {:8.1} {:8.1}  {}",
            percentile(&times.cold, 0.5),
            percentile(&times.cold, 0.99),
            percentile(&times.warm, 0.5),
            percentile(&times.warm, 0.99),
            times.failed
        );
    }
}
