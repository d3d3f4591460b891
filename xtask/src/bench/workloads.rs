//! The programs of the benchmark and their inputs, the same bytes on every machine.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::measure::find_program;
use crate::workspace;

/// How much work, as one so-manieth of the full one, which takes one to two seconds natively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    share: usize,
}

impl Size {
    pub const FULL: Size = Size { share: 1 };
    pub const QUARTER: Size = Size { share: 4 };

    /// The full work divided by a number that is not 0.
    pub fn share(share: usize) -> Size {
        Size { share: share.max(1) }
    }

    fn of(self, full: usize) -> usize {
        (full / self.share).max(1)
    }
}

#[derive(Debug)]
pub struct Workload {
    pub name: &'static str,
    /// Where it runs, and where its output goes.
    pub directory: PathBuf,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// The file on its standard input.
    pub input: Option<PathBuf>,
}

impl Workload {
    /// Gives a command the workload's directory, input and environment.
    pub fn set_up(&self, command: &mut Command) -> Result<()> {
        let input = match &self.input {
            Some(path) => {
                let file = File::open(path).with_context(|| format!("{}", path.display()))?;
                Stdio::from(file)
            }
            None => Stdio::null(),
        };
        command.current_dir(&self.directory).env_clear().stdin(input);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs([("LC_ALL", "C"), ("PYTHONHASHSEED", "0"), ("TMPDIR", ".")]);
        Ok(())
    }
}

/// Makes the inputs; also tells which programs are missing and how to install them.
pub fn prepare(
    directory: &Path,
    size: Size,
    only: &[String],
) -> Result<(Vec<Workload>, Vec<String>)> {
    type Make = fn(&Path, Size) -> Result<Option<Workload>>;
    let all: [(&str, Make, &str); 5] = [
        ("gzip", gzip, "apt-get install gzip"),
        ("sort", sort, "apt-get install coreutils"),
        ("sqlite3", sqlite3, "apt-get install sqlite3"),
        ("python", python, "apt-get install python3"),
        ("cc1", cc1, "apt-get install gcc libc6-dev"),
    ];
    let mut workloads = Vec::new();
    let mut missing = Vec::new();
    for (name, make, install) in all {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        match make(directory, size)? {
            Some(workload) => workloads.push(workload),
            None => missing.push(format!("{name} is not installed: {install}")),
        }
    }
    Ok((workloads, missing))
}

fn gzip(directory: &Path, size: Size) -> Result<Option<Workload>> {
    let Some(program) = find_program("gzip") else { return Ok(None) };
    let mut random = Random::new(1);
    let words = vocabulary(&mut random, 20_000);
    let length = size.of(24 << 20);
    let mut text = String::with_capacity(length + 100);
    let mut column = 0;
    while text.len() < length {
        let word = &words[random.skewed(words.len())];
        text.push_str(word);
        column += word.len() + 1;
        text.push(if column > 76 { '\n' } else { ' ' });
        column %= 77;
    }
    write(directory, "text", &text)?;
    let arguments = strings(&["-6", "-n", "-c", "text"]);
    Ok(Some(Workload {
        name: "gzip",
        directory: directory.into(),
        program,
        arguments,
        input: None,
    }))
}

fn sort(directory: &Path, size: Size) -> Result<Option<Workload>> {
    let Some(program) = find_program("sort") else { return Ok(None) };
    let mut random = Random::new(2);
    let words = vocabulary(&mut random, 5_000);
    let mut text = String::new();
    for _ in 0..size.of(3_000_000) {
        let first = &words[random.skewed(words.len())];
        let second = &words[random.below(words.len())];
        writeln!(text, "{first} {second} {}", random.below(100_000)).expect("strings grow");
    }
    write(directory, "lines", &text)?;
    let arguments = strings(&["--parallel=1", "-S", "300M", "lines"]);
    Ok(Some(Workload {
        name: "sort",
        directory: directory.into(),
        program,
        arguments,
        input: None,
    }))
}

fn sqlite3(directory: &Path, size: Size) -> Result<Option<Workload>> {
    let Some(program) = find_program("sqlite3") else { return Ok(None) };
    let script = include_str!("workloads/queries.sql")
        .replace("@ROWS@", &size.of(500_000).to_string())
        .replace("@KEYS@", &size.of(60_000).to_string());
    write(directory, "queries.sql", &script)?;
    let arguments = strings(&["-batch", ":memory:"]);
    let input = Some(directory.join("queries.sql"));
    Ok(Some(Workload { name: "sqlite3", directory: directory.into(), program, arguments, input }))
}

fn python(directory: &Path, size: Size) -> Result<Option<Workload>> {
    let Some(program) = python_program() else { return Ok(None) };
    write(directory, "work.py", include_str!("workloads/work.py"))?;
    let rounds = size.of(48).to_string();
    let arguments = strings(&["-I", "-S", "work.py", &rounds]);
    Ok(Some(Workload {
        name: "python",
        directory: directory.into(),
        program,
        arguments,
        input: None,
    }))
}

/// The interpreter itself: `python3` in the path may be a script that looks for one.
fn python_program() -> Option<PathBuf> {
    let system = PathBuf::from("/usr/bin/python3");
    if system.is_file() {
        return Some(system);
    }
    let print = "import os, sys; print(os.path.realpath(sys.executable))";
    let path = workspace::output(Command::new("python3").args(["-c", print])).ok()?;
    Some(PathBuf::from(path.trim()))
}

fn cc1(directory: &Path, size: Size) -> Result<Option<Workload>> {
    let Ok(path) = workspace::output(Command::new("gcc").arg("-print-prog-name=cc1")) else {
        return Ok(None);
    };
    let program = PathBuf::from(path.trim());
    if !program.is_absolute() {
        return Ok(None);
    }
    write(directory, "source.c", &c_source(size.of(130)))?;
    let preprocess = ["-E", "source.c", "-o", "source.i"];
    workspace::output(Command::new("gcc").args(preprocess).current_dir(directory))?;
    let arguments = strings(&["-quiet", "-O2", "-fpreprocessed", "source.i", "-o", "-"]);
    Ok(Some(Workload { name: "cc1", directory: directory.into(), program, arguments, input: None }))
}

/// A C file of so many functions, each with loops, branches, calls, tables and structures.
fn c_source(functions: usize) -> String {
    let mut random = Random::new(3);
    let mut text = String::from(
        "#include <math.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <stdlib.h>\n\
         #include <string.h>\nstruct item { struct item *next; uint64_t key; double weight; \
         char name[24]; };\nstatic uint64_t total;\n",
    );
    for number in 0..functions {
        let a = random.below(1000) + 3;
        let b = random.below(61) + 2;
        let c = random.below(7) + 1;
        let callee = random.below(number.max(1));
        let call = if number == 0 {
            "key * 3".to_owned()
        } else {
            format!("work_{callee}(list->next, key >> {c}, scratch)")
        };
        writeln!(
            text,
            "uint64_t work_{number}(struct item *list, uint64_t key, double *scratch) {{\n\
             \x20 static const int table_{number}[] = {{{a}, {b}, {c}, 5, 8, 13}};\n\
             \x20 uint64_t sum = key * {a}u;\n\
             \x20 for (unsigned i = 0; list && i < {b}; i++, list = list->next) {{\n\
             \x20   sum = (sum << {c}) ^ (sum >> {b}) ^ list->key;\n\
             \x20   switch ((sum + table_{number}[i % 6]) & 7) {{\n\
             \x20   case 0: sum += strlen(list->name); break;\n\
             \x20   case 1: list->weight += sqrt((double)sum) / {a}.5; break;\n\
             \x20   case 2: if (list->next) sum -= list->next->key % {a}; break;\n\
             \x20   case 3: memcpy(list->name, \"name {a}\", {c}); break;\n\
             \x20   case 4: for (int j = 0; j < {b}; j++) scratch[j] = scratch[j] * 1.{a} + j; break;\n\
             \x20   case 5: sum ^= {call}; break;\n\
             \x20   default: list->key = sum / (list->key | 1); total += sum; break;\n\
             \x20   }}\n\
             \x20 }}\n\
             \x20 return sum > {a} ? sum - {b} : total + sum;\n\
             }}"
        )
        .expect("strings grow");
    }
    text
}

fn write(directory: &Path, name: &str, text: &str) -> Result<()> {
    let path = directory.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn vocabulary(random: &mut Random, words: usize) -> Vec<String> {
    let letters = b"etaoinshrdlucmfwypvbgkjqxz";
    let word = |random: &mut Random| {
        let length = 2 + random.skewed(11);
        (0..length).map(|_| char::from(letters[random.skewed(letters.len())])).collect()
    };
    (0..words).map(|_| word(random)).collect()
}

/// Marsaglia's xorshift64*: the inputs must never change with somebody's generator.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `end`, every number alike.
    fn below(&mut self, end: usize) -> usize {
        let product = u128::from(self.next()) * end as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// Less than `end`, small numbers far more often.
    fn skewed(&mut self, end: usize) -> usize {
        let first = self.below(end) + 1;
        let second = self.below(first) + 1;
        self.below(second)
    }
}
