//! One run of one program: its CPU time, its output, what it says about itself.

use std::fs::File;
use std::hash::Hasher;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::workloads::Workload;

/// A way to run a program: words before its command line.
#[derive(Clone, Debug)]
pub struct Tool {
    pub name: String,
    pub prefix: Vec<String>,
    pub kind: ToolKind,
    /// How to install it.
    pub install: &'static str,
}

/// What a tool prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolKind {
    /// What the program prints, which has to be the same always.
    Runs,
    /// The JSON of `pernosco replay --check`.
    Replays,
}

impl Tool {
    pub fn native() -> Tool {
        Tool { name: "native".into(), prefix: Vec::new(), kind: ToolKind::Runs, install: "" }
    }

    pub fn present(&self) -> bool {
        self.prefix.first().is_none_or(|program| find_program(program).is_some())
    }
}

/// The file of a program, as the shell finds it.
pub fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut files = std::env::split_paths(&path).map(|directory| directory.join(name));
    files.find(|file| file.is_file())
}

#[derive(Debug)]
pub struct Run {
    /// Or why there are no figures.
    pub result: Result<Figures, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    pub cpu_seconds: f64,
    /// Counted by the machine; no other tool tells.
    pub instructions: Option<u64>,
    /// Length and hash of what the program printed; a replay prints nothing.
    pub output: Option<(u64, u64)>,
}

/// Runs `workload` under `tool` on one core.
pub fn run(workload: &Workload, tool: &Tool, core: usize, limit: Duration) -> Result<Run> {
    let directory = workload.directory.as_path();
    let (printed, errors) = (directory.join("stdout"), directory.join("stderr"));
    let create = |path: &Path| File::create(path).with_context(|| format!("{}", path.display()));
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string());
    command.args(&tool.prefix).arg(&workload.program).args(&workload.arguments);
    workload.set_up(&mut command)?;
    command.stdout(create(&printed)?).stderr(create(&errors)?);
    let child = command.spawn().context("cannot run taskset (package util-linux)")?;
    let ended = wait(child.id().cast_signed(), limit)?;
    let told = std::fs::read(&errors).unwrap_or_default();
    let told = String::from_utf8_lossy(&told);
    let Some((status, cpu_seconds)) = ended else {
        return Ok(Run { result: Err(format!("took more than {} s", limit.as_secs())) });
    };
    if !status.success() {
        let why = told.lines().next_back().unwrap_or("no message");
        return Ok(Run { result: Err(format!("{status}: {why}")) });
    }
    let (instructions, output) = match tool.kind {
        ToolKind::Runs => (live_instructions(&told), Some(length_and_hash(&printed)?)),
        ToolKind::Replays => (Some(replayed_instructions(&printed)?), None),
    };
    Ok(Run { result: Ok(Figures { cpu_seconds, instructions, output }) })
}

fn live_instructions(told: &str) -> Option<u64> {
    told.lines().find_map(|line| {
        let (number, _) = line.strip_prefix("live-run: ")?.split_once(" instructions")?;
        number.parse().ok()
    })
}

fn replayed_instructions(printed: &Path) -> Result<u64> {
    let text = std::fs::read(printed).with_context(|| format!("{}", printed.display()))?;
    let told: serde_json::Value =
        serde_json::from_slice(&text).context("pernosco prints no JSON")?;
    told["instructions"].as_u64().context("pernosco does not tell the instructions")
}

/// What a process has used.
#[derive(Debug)]
pub struct Usage {
    pub status: ExitStatus,
    /// With the processes that it waited for.
    pub cpu_seconds: f64,
    /// Of the largest process.
    pub peak_bytes: u64,
}

/// Runs a command to its end.
pub fn usage_of(command: &mut Command) -> Result<Usage> {
    let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    let forever = Duration::from_secs(3600);
    let usage = wait_for_usage(child.id().cast_signed(), forever)?;
    usage.with_context(|| format!("{command:?} took more than an hour"))
}

/// Waits for a child of ours and tells its status and CPU time; kills it after `limit`.
fn wait(child: i32, limit: Duration) -> Result<Option<(ExitStatus, f64)>> {
    let usage = wait_for_usage(child, limit)?;
    Ok(usage.map(|usage| (usage.status, usage.cpu_seconds)))
}

#[expect(unsafe_code, reason = "the standard library does not tell a child's CPU time")]
fn wait_for_usage(child: i32, limit: Duration) -> Result<Option<Usage>> {
    let start = Instant::now();
    let mut killed = false;
    loop {
        let mut status = 0;
        // SAFETY: `rusage` is plain numbers, for which zeroes are valid.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both places are live local variables of the types that the kernel writes.
        let ended = unsafe { libc::wait4(child, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if ended < 0 {
            return Err(std::io::Error::last_os_error()).context("wait4");
        }
        if ended == child {
            let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
            let cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
            let usage = Usage {
                status: ExitStatus::from_raw(status),
                cpu_seconds,
                peak_bytes: usage.ru_maxrss.unsigned_abs() << 10,
            };
            return Ok((!killed).then_some(usage));
        }
        if start.elapsed() > limit && !killed {
            killed = true;
            // SAFETY: takes no pointer; the child is ours and has not been waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn length_and_hash(path: &Path) -> Result<(u64, u64)> {
    let mut file = File::open(path).with_context(|| format!("{}", path.display()))?;
    let mut hasher = std::hash::DefaultHasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("{}", path.display()))?;
        if read == 0 {
            return Ok((length, hasher.finish()));
        }
        hasher.write(&buffer[..read]);
        length += read as u64;
    }
}
