//! Watches on random instructions, against the same snippet executed one instruction at a time:
//! every change is stopped before, no stop is without an access, and what is computed is the same.
//!
//! `SNIPPETS` sets how many; `SEED` which.

use std::ops::Range;

use anyhow::Result;
use iced_x86::{Instruction, InstructionInfoFactory, OpAccess, Register};
use machine::{Cpu, Exit, Limits, Machine, Observers, Options, Space, Watch};
use model::{Address, gpr};
use testkit::{
    ALL_OBSERVERS, CODE_AREA, Extent, Generated, Generator, Memory, NO_OBSERVERS, Random, Sandbox,
    area_of, data_bytes, differences, disassemble, general_number, guest_memory, is_repeated,
    set_guest_memory,
};

const SNIPPETS: u64 = 6_000;
/// More instructions than any snippet executes.
const ENOUGH: u64 = 100;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One instruction of the reference.
struct Step {
    before: Cpu,
    instruction: Instruction,
    /// Bytes that are different behind it.
    changed: Vec<u64>,
}

struct Reference {
    steps: Vec<Step>,
    cpu: Cpu,
    exit: Exit,
    memory: Memory,
}

fn address_at(offset: usize) -> u64 {
    let mut left = offset as u64;
    for area in testkit::DATA_AREAS {
        let length = area.end() - area.start;
        if left < length {
            return area.start + left;
        }
        left -= length;
    }
    unreachable!("inside the data areas")
}

/// `None` when the machine cannot execute it.
fn reference(
    machine: &mut Machine,
    space: &mut Space,
    generated: &Generated,
    memory: &Memory,
) -> Result<Option<Reference>> {
    let mut cpu = generated.snippet.cpu.clone();
    let mut steps = Vec::new();
    let mut now = memory.clone();
    let mut then = memory.clone();
    for _ in 0..ENOUGH {
        // A trap behind each instruction, and faults of what is not aligned, are not for this test.
        if cpu.rflags & (machine::FLAG_TRAP | 1 << 18) != 0 {
            return Ok(None);
        }
        let before = cpu.clone();
        let Ok(exit) = machine.step(space, &mut cpu, None) else { return Ok(None) };
        guest_memory(space, &mut now)?;
        let changed: Vec<u64> = if now == then {
            Vec::new()
        } else {
            let pairs = now.iter().zip(&then).enumerate();
            pairs.filter(|(_, (a, b))| a != b).map(|(at, _)| address_at(at)).collect()
        };
        then.clone_from(&now);
        let instruction = generated.instructions.iter().find(|one| one.ip() == before.rip.0);
        if let Some(instruction) = instruction {
            steps.push(Step { before, instruction: *instruction, changed });
        }
        if exit != Exit::InstructionLimit {
            return Ok(Some(Reference { steps, cpu, exit, memory: now }));
        }
    }
    Ok(None)
}

/// Ranges that an instruction may access; `None` when that is not simply written in it.
fn accesses(step: &Step, write: bool) -> Option<Vec<Range<u128>>> {
    let (instruction, cpu) = (&step.instruction, &step.before);
    if reaches_beyond(instruction) {
        return None;
    }
    let mut factory = InstructionInfoFactory::new();
    let mut ranges = Vec::new();
    for memory in factory.info(instruction).used_memory() {
        let size = memory.memory_size().size() as u128;
        let odd = size == 0
            || memory.index().is_vector_register()
            || instruction.is_string_instruction()
            || instruction.is_save_restore_instruction();
        if odd {
            return None;
        }
        let writes = !matches!(
            memory.access(),
            OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess | OpAccess::None
        );
        let reads = !matches!(
            memory.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::NoMemAccess | OpAccess::None
        );
        if !(if write { writes } else { reads }) {
            continue;
        }
        let value = |register: Register, _, _| match register {
            Register::FS => Some(cpu.fs_base),
            Register::GS => Some(cpu.gs_base),
            // xlat adds no more of rax.
            Register::AL => Some(cpu.general[gpr::RAX] & 0xff),
            _ if register.is_segment_register() => Some(0),
            _ if register.is_gpr32() => {
                Some(u64::from(cpu.general[general_number(register)?] as u32))
            }
            _ => Some(cpu.general[general_number(register)?]),
        };
        let start = u128::from(memory.virtual_address(0, value)?);
        ranges.push(start..start + size);
    }
    Some(ranges)
}

/// bt and its like with an offset in a register reach beyond the operand, clzero begins before it.
fn reaches_beyond(instruction: &Instruction) -> bool {
    use iced_x86::{Mnemonic as M, OpKind};
    if instruction.mnemonic() == M::Clzero {
        return true;
    }
    matches!(instruction.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc)
        && instruction.op1_kind() == OpKind::Register
}

/// A watch that has something to do with the snippet.
fn random_watch(random: &mut Random, reference: &Reference) -> Watch {
    let step = &reference.steps[random.below(reference.steps.len() as u64) as usize];
    let reads = random.chance(40);
    let somewhere = testkit::NEAR_AREA.start + random.below(0x3000);
    let place = match &step.changed[..] {
        changed if !changed.is_empty() && random.chance(70) => random.pick(changed),
        _ => {
            let write = !reads || random.chance(50);
            let ranges = accesses(step, write).unwrap_or_default();
            ranges.first().map_or(somewhere, |range| range.start as u64)
        }
    };
    let length = random.pick(&[1, 1, 2, 5, 8, 64, 0x1000, 0x2345]);
    let start = place.saturating_sub(random.pick(&[0, 0, 0, 1, 3, length - 1, length]));
    Watch { range: Address(start)..Address(start.saturating_add(length)), reads }
}

struct Stop {
    cpu: Cpu,
    address: u64,
    write: bool,
}

/// Runs under a watch, by limits of so many instructions.
fn watched(
    machine: &mut Machine,
    space: &mut Space,
    start: &Cpu,
    slice: u64,
) -> Result<(Vec<Stop>, Cpu, Exit)> {
    let (mut cpu, mut stops) = (start.clone(), Vec::new());
    loop {
        let limits = Limits { instructions: Some(cpu.instructions + slice), ticks: None };
        match machine.run(space, &mut cpu, limits)? {
            Exit::InstructionLimit => {}
            Exit::Watch { address, write } => {
                anyhow::ensure!(stops.len() < 20_000, "stops for ever at {}", cpu.rip);
                stops.push(Stop { cpu: cpu.clone(), address: address.0, write });
            }
            exit => return Ok((stops, cpu, exit)),
        }
    }
}

/// What is wrong with the stops.
fn complaints(reference: &Reference, watch: &Watch, stops: &[Stop]) -> Vec<String> {
    let mut lines = Vec::new();
    let range = watch.range.start.0..watch.range.end.0;
    for (number, step) in reference.steps.iter().enumerate() {
        let here = |stop: &&Stop| {
            stop.cpu.instructions == step.before.instructions && stop.cpu.rip == step.before.rip
        };
        let changes = step.changed.iter().any(|at| range.contains(at));
        let found = stops.iter().filter(here).count();
        if changes && !stops.iter().filter(here).any(|stop| stop.write) {
            lines.push(format!("step {number} changes a watched byte and was not stopped at"));
        }
        if found > 1 && !is_repeated(&step.instruction) {
            lines.push(format!("{found} stops at step {number}"));
        }
        if let Some(stop) = stops.iter().find(here)
            && !is_repeated(&step.instruction)
        {
            let wrong = differences(&step.before, &stop.cpu, Extent::WithVector);
            lines.extend(wrong.iter().map(|line| format!("at the stop of step {number}: {line}")));
        }
        for stop in stops.iter().filter(here) {
            let at = u128::from(stop.address);
            let accessed = accesses(step, stop.write)
                .is_none_or(|ranges| ranges.iter().any(|range| range.contains(&at)));
            if !range.contains(&stop.address) || !accessed || !stop.write && !watch.reads {
                lines.push(format!(
                    "step {number} does not access {:x} (write {})",
                    stop.address, stop.write
                ));
            }
        }
    }
    let known = |stop: &Stop| {
        reference.steps.iter().any(|step| {
            step.before.instructions == stop.cpu.instructions && step.before.rip == stop.cpu.rip
        })
    };
    lines
        .extend(stops.iter().filter(|stop| !known(stop)).map(|s| format!("stop at {}", s.cpu.rip)));
    lines
}

fn keys(stops: &[Stop]) -> Vec<(u64, Address, [u64; 16], u64, bool)> {
    let key = |stop: &Stop| {
        let cpu = &stop.cpu;
        (cpu.instructions, cpu.rip, cpu.general, stop.address, stop.write)
    };
    stops.iter().map(key).collect()
}

#[test]
fn watches_stop_at_changes_and_at_nothing_else() {
    let seed = setting("SEED", 1);
    let mut machine = Machine::new(Options::default()).expect("machine");
    let mut space = Sandbox::space(&mut machine).expect("areas");
    let mut generator = Generator::new(seed);
    let mut memory = vec![0; data_bytes()];
    generator.random.fill(&mut memory);
    set_guest_memory(&mut space, &memory).expect("memory");
    let (mut failures, mut stopped, mut ran) = (0, 0, 0);
    for number in 0..setting("SNIPPETS", SNIPPETS) {
        let address = CODE_AREA.start + 64 * (number % 1000);
        let generated = generator.snippet(address, 6, 60);
        space.write(Address(address), &generated.snippet.code).expect("code");
        machine.set_watches(&[]).expect("watches");
        machine.set_observers(NO_OBSERVERS).expect("observers");
        let expected = reference(&mut machine, &mut space, &generated, &memory).expect("steps");
        set_guest_memory(&mut space, &memory).expect("memory");
        let Some(expected) = expected.filter(|one| !one.steps.is_empty()) else { continue };
        ran += 1;
        let watch = random_watch(&mut generator.random, &expected);
        let observers = if number % 3 == 0 { ALL_OBSERVERS } else { Observers::default() };
        machine.set_observers(observers).expect("observers");
        machine.set_watches(std::slice::from_ref(&watch)).expect("watches");
        let mut first: Option<Vec<Stop>> = None;
        for slice in [ENOUGH * 1000, 1, 3] {
            let start = &generated.snippet.cpu;
            let (stops, cpu, exit) =
                watched(&mut machine, &mut space, start, slice).expect("watched");
            let mut lines = complaints(&expected, &watch, &stops);
            lines.extend(differences(&expected.cpu, &cpu, Extent::WithVector));
            if exit != expected.exit {
                lines.push(format!("{exit:?} instead of {:?}", expected.exit));
            }
            let mut found = memory.clone();
            guest_memory(&space, &mut found).expect("memory");
            if found != expected.memory {
                lines.push("memory differs at the end".to_string());
            }
            if first.as_ref().is_some_and(|first| keys(first) != keys(&stops)) {
                lines.push("other stops than in one piece".to_string());
            }
            set_guest_memory(&mut space, &memory).expect("memory");
            stopped += stops.len();
            first.get_or_insert(stops);
            if !lines.is_empty() {
                failures += 1;
                if failures <= 10 {
                    let code = &generated.snippet.code;
                    let text = disassemble(code, Address(address), generated.instructions.len());
                    let area = area_of(watch.range.start.0);
                    println!("{number}, by {slice}: {text}{watch:x?} ({area})\n  {lines:#?}");
                }
                break;
            }
        }
    }
    println!("{ran} snippets with {stopped} stops");
    assert!(failures == 0, "{failures} failures");
    assert!(stopped > ran / 6, "hardly any stops");
}
