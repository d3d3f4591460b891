//! Real programs: the machine against native single steps, register for register.
//!
//! About 15 us an instruction, most of it in the kernel. `LOCKSTEP_PROGRAM` and `LOCKSTEP_BUDGET` (instructions a program
//! and mode) narrow or widen a run by hand.

use anyhow::{Result, bail};
use machine::{Limits, Machine, Observers, Options};
use testkit::{Extent, Lockstep, Random, Sample, pin_thread, samples, start};

/// Instructions a program and mode.
const BUDGET: u64 = 100_000;
/// XSAVE images are compared every so many instructions.
const VECTOR_EVERY: u64 = 16;
const MEMORY_EVERY: u64 = 50_000;
const DISTANCE_MAX: u64 = 3000;

fn budget() -> u64 {
    std::env::var("LOCKSTEP_BUDGET").ok().and_then(|text| text.parse().ok()).unwrap_or(BUDGET)
}

fn observer_sets() -> Vec<Observers> {
    let none = Observers::default();
    vec![
        none,
        Observers { written_words: true, ..none },
        Observers { read_lines: true, ..none },
        Observers { executions: true, ..none },
        Observers { calls: true, ..none },
        Observers { control_flow: true, ..none },
        Observers { stores: true, ..none },
        Observers {
            written_words: true,
            read_lines: true,
            executions: true,
            calls: true,
            control_flow: true,
            stores: true,
        },
    ]
}

/// Runs `check` for every sample program, reports all that fail.
fn for_each_sample(mode: &str, mut check: impl FnMut(&Sample, &mut Machine) -> Result<u64>) {
    let directory = tempfile::tempdir().expect("temporary directory");
    pin_thread().expect("one CPU");
    let only = std::env::var("LOCKSTEP_PROGRAM").ok();
    let mut failures = Vec::new();
    for sample in samples(directory.path()).expect("sample programs") {
        if only.as_ref().is_some_and(|only| only != sample.name) {
            continue;
        }
        let mut machine = Machine::new(Options::default()).expect("machine");
        let begin = std::time::Instant::now();
        match check(&sample, &mut machine) {
            Ok(count) => {
                println!("{mode} {}: {count} instructions, {:?}", sample.name, begin.elapsed())
            }
            Err(error) => {
                println!("{mode} {}: {error:#}", sample.name);
                failures.push(sample.name);
            }
        }
    }
    assert!(failures.is_empty(), "{mode} differs from the hardware in {failures:?}");
}

#[test]
fn one_instruction_at_a_time() {
    for_each_sample("step", |sample, machine| {
        let mut both = Lockstep::new(start(&sample.program, sample.system_calls)?, machine)?;
        let mut next_memory = MEMORY_EVERY;
        while !both.ended && both.expected.instructions < budget() {
            let vector = both.expected.instructions % VECTOR_EVERY == 0;
            both.step_both(if vector { Extent::WithVector } else { Extent::General })?;
            if both.expected.instructions >= next_memory {
                next_memory += MEMORY_EVERY;
                both.compare_memory()?;
            }
        }
        if !both.ended {
            both.compare_memory()?;
        }
        Ok(both.expected.instructions)
    });
}

/// One slice of a random run, and how it goes on from there.
#[derive(Clone, Copy, Debug)]
struct Slice {
    observers: Observers,
    /// Which limit, how far.
    by_ticks: bool,
    distance: u64,
}

/// Runs slices chosen by `seed`. `cut` replaces the distance of one slice, after which it stops.
/// A failure names its slice.
fn random_run(
    sample: &Sample,
    machine: &mut Machine,
    seed: u64,
    cut: Option<(u64, u64)>,
) -> Result<u64, (u64, Slice, anyhow::Error)> {
    let mut random = Random::new(seed);
    let sets = observer_sets();
    let mut slice = Slice { observers: sets[0], by_ticks: false, distance: 0 };
    let begun = start(&sample.program, sample.system_calls)
        .and_then(|native| Lockstep::new(native, machine));
    let mut both = begun.map_err(|error| (0, slice, error))?;
    let mut next_memory = MEMORY_EVERY;
    let mut index = 0;
    while !both.ended && both.expected.instructions < budget() {
        index += 1;
        if index % 16 == 1 {
            slice.observers = random.pick(&sets);
            both.set_observers(slice.observers).map_err(|error| (index, slice, error))?;
        }
        slice.by_ticks = random.chance(30);
        slice.distance = 1 + random.below(DISTANCE_MAX);
        if random.chance(20) {
            slice.distance = 1 + slice.distance % 100;
        }
        if let Some((cut_index, distance)) = cut
            && cut_index == index
        {
            slice.distance = distance;
        }
        run_slice(&mut both, slice).map_err(|error| (index, slice, error))?;
        let last = cut.is_some_and(|(cut_index, _)| cut_index == index);
        if !both.ended && (last || both.expected.instructions >= next_memory) {
            next_memory = both.expected.instructions + MEMORY_EVERY;
            both.compare_memory().map_err(|error| (index, slice, error))?;
        }
        if last {
            break;
        }
    }
    if !both.ended {
        both.compare_memory().map_err(|error| (index, slice, error))?;
    }
    Ok(both.expected.instructions)
}

fn run_slice(both: &mut Lockstep, slice: Slice) -> Result<()> {
    let limits = if slice.by_ticks {
        // A loop without ticks would run on: bounded by instructions as well.
        let instructions = Some(both.cpu.instructions + 40 * slice.distance);
        Limits { ticks: Some(both.cpu.ticks + slice.distance / 5 + 1), instructions }
    } else {
        Limits { instructions: Some(both.cpu.instructions + slice.distance), ticks: None }
    };
    both.run_both(limits, Extent::WithVector)
}

#[test]
fn random_distances() {
    for_each_sample("random", |sample, machine| {
        let seed = 0x5eed_0001;
        let (index, slice, error) = match random_run(sample, machine, seed, None) {
            Ok(count) => return Ok(count),
            Err(failure) => failure,
        };
        println!("{}: slice {index} {slice:?} of seed {seed:#x} failed: {error:#}", sample.name);
        // The shortest slice that fails: halve between the longest that passes and this one.
        let (mut passes, mut fails, mut text) = (0, slice.distance, String::new());
        while passes + 1 < fails {
            let middle = passes.midpoint(fails);
            match random_run(sample, machine, seed, Some((index, middle))) {
                Ok(_) => passes = middle,
                Err((at, _, error)) if at == index => {
                    fails = middle;
                    text = format!("{error:#}");
                }
                Err((at, _, error)) => bail!("not the same twice: failed at slice {at}: {error:#}"),
            }
        }
        bail!(
            "seed {seed:#x} slice {index} fails from distance {fails}, passes {passes}: {slice:?}\n{text}"
        )
    });
}
