//! Whole programs at full speed: the machine against a native run at every system call and at the
//! end; the same under all observers and slice lengths.

use anyhow::{Context, Result, ensure};
use machine::{Cpu, Exit, Limits, Machine, Observers, Options, Space};
use testkit::{Recording, Sample, memory_hash, pin_thread, run_freely, run_sliced, samples};

const CALLS_MAX: usize = 1500;

fn for_each_sample(check: impl Fn(&Sample) -> Result<String>) {
    let directory = tempfile::tempdir().expect("temporary directory");
    pin_thread().expect("one CPU");
    let only = std::env::var("LOCKSTEP_PROGRAM").ok();
    let mut failures = Vec::new();
    for sample in samples(directory.path()).expect("sample programs") {
        if only.as_ref().is_some_and(|only| only != sample.name) {
            continue;
        }
        match check(&sample) {
            Ok(text) => println!("{}: {text}", sample.name),
            Err(error) => {
                println!("{}: {error:#}", sample.name);
                failures.push(sample.name);
            }
        }
    }
    assert!(failures.is_empty(), "differs from the hardware in {failures:?}");
}

#[test]
fn programs_end_as_they_do_natively() {
    for_each_sample(|sample| {
        let recording = Recording::make(sample, CALLS_MAX)?;
        let mut machine = Machine::new(Options::default())?;
        let begin = std::time::Instant::now();
        let (_, cpu) = recording.repeat(&mut machine, run_freely)?;
        Ok(format!(
            "{} instructions, {} ticks, {} system calls, {:?}",
            cpu.instructions,
            cpu.ticks,
            recording.calls(),
            begin.elapsed()
        ))
    });
}

#[test]
fn observers_and_slices_change_nothing() {
    let none = Observers::default();
    let all = Observers {
        written_words: true,
        read_lines: true,
        executions: true,
        calls: true,
        control_flow: true,
        stores: true,
    };
    let sets = [
        none,
        Observers { written_words: true, ..none },
        Observers { read_lines: true, ..none },
        Observers { executions: true, ..none },
        Observers { calls: true, ..none },
        Observers { control_flow: true, ..none },
        Observers { stores: true, ..none },
        all,
    ];
    for_each_sample(|sample| {
        let recording = Recording::make(sample, if sample.name == "gzip" { 3 } else { 12 })?;
        let mut machine = Machine::new(Options::default())?;
        let begin = std::time::Instant::now();
        let (space, first) = recording.repeat(&mut machine, run_freely)?;
        let hash = memory_hash(&space)?;
        let slices: &[u64] =
            if first.instructions < 3_000_000 { &[7, 100, 128 << 10] } else { &[1000, 128 << 10] };
        let mut runs = 1;
        for observers in sets {
            machine.set_observers(observers)?;
            for &slice in slices {
                let context = || format!("{observers:?} slice {slice}");
                let (space, cpu) =
                    repeat_draining(&recording, &mut machine, slice).with_context(context)?;
                let same = (cpu.instructions, cpu.ticks) == (first.instructions, first.ticks);
                ensure!(
                    same,
                    "{}: {:?} and {:?}",
                    context(),
                    (cpu.instructions, cpu.ticks),
                    (first.instructions, first.ticks)
                );
                ensure!(memory_hash(&space)? == hash, "{}: memory", context());
                runs += 1;
            }
        }
        Ok(format!(
            "{runs} runs of {} instructions the same, {:?}",
            first.instructions,
            begin.elapsed()
        ))
    });
}

/// Repeats it, throwing away what observers have collected now and then.
fn repeat_draining(
    recording: &Recording,
    machine: &mut Machine,
    slice: u64,
) -> Result<(machine::Space, machine::Cpu)> {
    let mut run = run_sliced(slice);
    recording.repeat(machine, |machine, space, cpu| {
        let exit = run(machine, space, cpu)?;
        machine.take_calls();
        machine.take_stores();
        machine.take_control_flow();
        Ok(exit)
    })
}

/// Two address spaces of one machine, at the same guest addresses, in turns.
#[test]
fn address_spaces_do_not_meet() {
    let directory = tempfile::tempdir().expect("temporary directory");
    pin_thread().expect("one CPU");
    let samples = samples(directory.path()).expect("sample programs");
    let find = |name| samples.iter().find(|sample| sample.name == name).expect("sample");
    let recording = Recording::make(find("dash"), CALLS_MAX).expect("recording");
    let other = Recording::make(find("gunzip"), 0).expect("recording");
    let mut machine = Machine::new(Options::default()).expect("machine");
    let (_, alone) = recording.repeat(&mut machine, run_freely).expect("dash alone");
    for slice in [500, 20_000] {
        let mut other_space = other.start.load(&mut machine).expect("space");
        let mut other_cpu = other.start.cpu.clone();
        let mut rounds = 0;
        let run = |machine: &mut Machine, space: &mut Space, cpu: &mut Cpu| loop {
            let limits =
                |cpu: &Cpu| Limits { instructions: Some(cpu.instructions + slice), ticks: None };
            if rounds < 300 {
                rounds += 1;
                let limits = limits(&other_cpu);
                // At its first system call it begins anew.
                if let Exit::Trap { .. } = machine.run(&mut other_space, &mut other_cpu, limits)? {
                    other_space = other.start.load(machine)?;
                    other_cpu = other.start.cpu.clone();
                }
            }
            let limits = if rounds < 300 { limits(cpu) } else { Limits::default() };
            match machine.run(space, cpu, limits)? {
                Exit::InstructionLimit => {}
                exit => return Ok(exit),
            }
        };
        let (_, cpu) = recording.repeat(&mut machine, run).expect("dash in turns");
        assert_eq!((cpu.instructions, cpu.ticks), (alone.instructions, alone.ticks));
    }
}
