//! What observers report, against the same stretch of a real program executed one instruction at
//! a time and decoded independently.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    Register,
};
use machine::{ControlFlow, Cpu, Exit, Limits, Machine, Observers, Options, Space};
use model::{Address, Call, Moment, gpr};
use testkit::{
    Image, Random, Sample, expected_trap, general_number, is_tick, pin_thread, samples, start,
};

/// Instructions of each program, at the most: a stretch between two system calls.
const LENGTH: u64 = 300_000;
const LINE: u64 = 64;

/// What must be reported.
#[derive(Debug, Default)]
struct Reference {
    calls: Vec<Call>,
    flow: ControlFlow,
    executions: BTreeMap<u64, u64>,
    /// Lines that are certainly read.
    lines: BTreeSet<u64>,
    instructions: u64,
    ticks: u64,
}

fn decode(space: &Space, rip: Address) -> Instruction {
    let mut bytes = [0; 15];
    let length = (1..=15).rev().find(|&n| space.read(rip, &mut bytes[..n]).is_ok()).unwrap_or(0);
    Decoder::with_ip(64, &bytes[..length], rip.0, DecoderOptions::NONE).decode()
}

fn register_value(cpu: &Cpu, register: Register) -> Option<u64> {
    match register {
        Register::FS => Some(cpu.fs_base),
        Register::GS => Some(cpu.gs_base),
        _ if register.is_segment_register() => Some(0),
        _ => {
            let value = cpu.general[general_number(register)?];
            Some(if register.is_gpr32() { u64::from(value as u32) } else { value })
        }
    }
}

impl Reference {
    fn note(
        &mut self,
        instruction: &Instruction,
        before: &Cpu,
        after: &Cpu,
        factory: &mut InstructionInfoFactory,
    ) {
        if let Some(at) =
            std::env::var("WATCH").ok().and_then(|text| u64::from_str_radix(&text, 16).ok())
        {
            for memory in factory.info(instruction).used_memory() {
                let value = |register, _, _| register_value(before, register);
                let address = memory.virtual_address(0, value).unwrap_or(0);
                if !matches!(memory.access(), OpAccess::Read)
                    && (address
                        ..address
                            + match memory.memory_size().size() {
                                0 => 2700,
                                size => size as u64,
                            })
                        .contains(&at)
                {
                    println!("{}: {instruction} at {address:#x}", before.rip);
                }
            }
        }
        *self.executions.entry(before.rip.0).or_default() += 1;
        if is_tick(instruction) {
            let ambiguous = instruction.near_branch_target() == instruction.next_ip();
            assert!(!ambiguous, "branch to the next instruction at {}", before.rip);
            self.flow.taken.push(after.rip.0 != instruction.next_ip());
        }
        let call = match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => Some(true),
            FlowControl::Return => Some(false),
            _ => None,
        };
        if let Some(call) = call {
            let stack = Address(after.general[gpr::RSP]);
            if self.calls.len() < 2 && std::env::var_os("SHOW").is_some() {
                println!("call or return {instruction} at {}", before.rip);
            }
            let moment = Moment(after.instructions);
            self.calls.push(Call { moment, is_call: call, target: after.rip, stack });
        }
        if matches!(
            instruction.flow_control(),
            FlowControl::IndirectCall | FlowControl::IndirectBranch | FlowControl::Return
        ) {
            self.flow.targets.push(after.rip);
        }
        if instruction.is_string_instruction() {
            return;
        }
        for memory in factory.info(instruction).used_memory() {
            let reads = matches!(memory.access(), OpAccess::Read | OpAccess::ReadWrite);
            if !reads || memory.base() == Register::RSP || memory.index().is_vector_register() {
                continue;
            }
            let value = |register, _, _| register_value(before, register);
            let size = memory.memory_size().size() as u64;
            if let Some(address) = memory.virtual_address(0, value)
                && size > 0
            {
                self.lines.insert(address / LINE);
                self.lines.insert((address + size - 1) / LINE);
            }
        }
    }
}

/// Steps through the stretch.
fn reference(machine: &mut Machine, space: &mut Space, cpu: &mut Cpu) -> Result<Reference> {
    let mut reference = Reference::default();
    let mut factory = InstructionInfoFactory::new();
    while cpu.instructions <= LENGTH {
        let before = cpu.clone();
        let instruction = decode(space, cpu.rip);
        match machine.step(space, cpu, None)? {
            Exit::InstructionLimit => reference.note(&instruction, &before, cpu, &mut factory),
            Exit::Trap { .. } => break,
            exit => anyhow::bail!("{exit:?} at {}", cpu.rip),
        }
    }
    reference.instructions = cpu.instructions;
    reference.ticks = cpu.ticks;
    Ok(reference)
}

/// All writable memory.
fn contents(space: &Space) -> Result<Vec<(Address, Vec<u8>)>> {
    let mut list = Vec::new();
    for mapping in space.mappings().filter(|mapping| mapping.protection.write) {
        let mut bytes = vec![0; (mapping.range.end - mapping.range.start) as usize];
        space.read(mapping.range.start, &mut bytes)?;
        list.push((mapping.range.start, bytes));
    }
    Ok(list)
}

/// Everything that the observers give.
#[derive(Default)]
struct Observed {
    calls: Vec<Call>,
    flow: ControlFlow,
    executions: BTreeMap<u64, u64>,
    written: BTreeMap<u64, [u64; 8]>,
    read: BTreeMap<u64, u64>,
    stores: Vec<machine::StoreRecord>,
}

impl Observed {
    fn collect(&mut self, machine: &mut Machine, space: &mut Space) -> Result<()> {
        self.calls.extend(machine.take_calls());
        let flow = machine.take_control_flow();
        self.flow.taken.extend(flow.taken);
        self.flow.targets.extend(flow.targets);
        self.stores.extend(machine.take_stores());
        for (range, count) in machine.take_executions() {
            let mut at = range.start;
            while at < range.end {
                let instruction = decode(space, at);
                *self.executions.entry(at.0).or_default() += count;
                at = at + instruction.len() as u64;
            }
            ensure!(at == range.end, "executions of {range:?} end inside an instruction");
        }
        for (page, words) in space.take_written()? {
            let sum = self.written.entry(page.0).or_default();
            sum.iter_mut().zip(words).for_each(|(sum, word)| *sum |= word);
        }
        for (page, lines) in space.take_read()? {
            *self.read.entry(page.0).or_default() |= lines;
        }
        Ok(())
    }
}

fn observe(
    machine: &mut Machine,
    space: &mut Space,
    cpu: &mut Cpu,
    end: u64,
    slice: Option<u64>,
) -> Result<Observed> {
    let mut observed = Observed::default();
    let Some(slice) = slice else {
        let exit = machine.run(space, cpu, Limits::default())?;
        ensure!(
            matches!(exit, Exit::Trap { .. }) && cpu.instructions == end,
            "{exit:?} at {}",
            cpu.rip
        );
        observed.collect(machine, space)?;
        return Ok(observed);
    };
    while cpu.instructions < end {
        let limits = Limits { instructions: Some(end.min(cpu.instructions + slice)), ticks: None };
        let exit = machine.run(space, cpu, limits)?;
        ensure!(exit == Exit::InstructionLimit, "{exit:?} at {}", cpu.rip);
        observed.collect(machine, space)?;
    }
    Ok(observed)
}

fn first_difference<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &[T],
    found: &[T],
) -> Result<()> {
    let at = expected.iter().zip(found).position(|(expected, found)| expected != found);
    if let Some(at) = at {
        anyhow::bail!("{what} {at}: expected {:?} found {:?}", expected[at], found[at]);
    }
    ensure!(
        expected.len() == found.len(),
        "{what}: expected {} found {}",
        expected.len(),
        found.len()
    );
    Ok(())
}

fn check_memory(
    observed: &Observed,
    before: &[(Address, Vec<u8>)],
    after: &[(Address, Vec<u8>)],
    observers: Observers,
) -> Result<()> {
    let mut undone: Vec<(Address, Vec<u8>)> = after.to_vec();
    if observers.stores {
        for store in observed.stores.iter().rev() {
            for (offset, byte) in store.old.to_le_bytes()[..store.size.into()].iter().enumerate() {
                let address = store.address + offset as u64;
                let (start, bytes) = undone
                    .iter_mut()
                    .find(|(start, bytes)| {
                        *start <= address && address - *start < bytes.len() as u64
                    })
                    .expect("stores go to mapped memory");
                bytes[(address - *start) as usize] = *byte;
            }
        }
    }
    for ((start, before), ((_, after), (_, undone))) in before.iter().zip(after.iter().zip(&undone))
    {
        for (index, ((old, new), undone)) in
            before.chunks(8).zip(after.chunks(8)).zip(undone.chunks(8)).enumerate()
        {
            let address = *start + 8 * index as u64;
            if observers.stores && old != undone {
                let stores = observed.stores.iter().rev();
                let near = stores.filter(|store| store.address.0.abs_diff(address.0) < 64);
                let near: Vec<_> = near.take(8).collect();
                bail!("store log misses a change at {address}: {old:x?} {undone:x?} {near:x?}");
            }
            if old != new && observers.written_words {
                let page = address.page_start();
                let word = ((address - page) / 8) as usize;
                let marked = observed
                    .written
                    .get(&page.0)
                    .is_some_and(|w| w[word / 64] >> (word % 64) & 1 != 0);
                ensure!(marked, "changed word at {address} is not marked");
            }
        }
    }
    Ok(())
}

fn check(
    reference: &Reference,
    observed: &Observed,
    observers: Observers,
    space: &Space,
) -> Result<()> {
    if observers.calls {
        first_difference("call", &reference.calls, &observed.calls)?;
    }
    if observers.control_flow {
        first_difference("outcome", &reference.flow.taken, &observed.flow.taken)?;
        first_difference("target", &reference.flow.targets, &observed.flow.targets)?;
    }
    if observers.executions {
        let all: BTreeSet<&u64> =
            reference.executions.keys().chain(observed.executions.keys()).collect();
        let count = |map: &BTreeMap<u64, u64>, at: &u64| map.get(at).copied().unwrap_or(0);
        let wrong: Vec<String> = all
            .into_iter()
            .map(|at| (at, count(&reference.executions, at), count(&observed.executions, at)))
            .filter(|(_, expected, found)| expected != found)
            // Reached, but left to the caller: counted all the same.
            .filter(|(at, ..)| {
                let instruction = decode(space, Address(**at));
                expected_trap(&instruction).is_none() && instruction.mnemonic() != Mnemonic::Xend
            })
            .map(|(at, expected, found)| {
                format!(
                    "{at:#x}: {} expected {expected} found {found}",
                    decode(space, Address(*at))
                )
            })
            .collect();
        ensure!(
            wrong.is_empty(),
            "{} executions: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(6)]
        );
    }
    if observers.read_lines {
        for &line in &reference.lines {
            let page = Address(line * LINE).page_start();
            let bit = (line * LINE - page.0) / LINE;
            let marked = observed.read.get(&page.0).is_some_and(|lines| lines >> bit & 1 != 0);
            ensure!(marked, "line {:#x} was read and is not marked", line * LINE);
        }
    }
    Ok(())
}

/// The start of the longest stretch without system calls that is not too long, of a few.
fn longest_stretch(machine: &mut Machine, sample: &Sample) -> Result<Image> {
    let mut best: Option<(u64, Image)> = None;
    for calls in [0, 4, 7, 11, 15, 16, 17, 18, 19, 20, 23] {
        let Ok(native) = start(&sample.program, sample.system_calls + calls) else { break };
        let image = Image::capture(&native)?;
        let mut space = image.load(machine)?;
        let mut cpu = image.cpu.clone();
        let limits = Limits { instructions: Some(LENGTH), ticks: None };
        let exit = machine.run(&mut space, &mut cpu, limits)?;
        let longer = best.as_ref().is_none_or(|(length, _)| cpu.instructions > *length);
        if matches!(exit, Exit::Trap { .. }) && longer {
            best = Some((cpu.instructions, image));
        }
    }
    Ok(best.context("no stretch")?.1)
}

#[test]
fn observers_report_what_happened() {
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
        Observers { written_words: true, ..none },
        Observers { read_lines: true, ..none },
        Observers { executions: true, ..none },
        Observers { calls: true, ..none },
        Observers { control_flow: true, ..none },
        Observers { stores: true, ..none },
        all,
    ];
    let directory = tempfile::tempdir().expect("temporary directory");
    pin_thread().expect("one CPU");
    let mut failures = Vec::new();
    for sample in samples(directory.path()).expect("sample programs") {
        let mut machine = Machine::new(Options::default()).expect("machine");
        let image = longest_stretch(&mut machine, &sample).expect("a stretch");
        let mut space = image.load(&mut machine).expect("space");
        let before = contents(&space).expect("contents");
        let mut last = image.cpu.clone();
        let reference = reference(&mut machine, &mut space, &mut last).expect("reference");
        let after = contents(&space).expect("contents");
        drop(space);
        for observers in sets {
            for slice in [None, Some(777), Some(50_000)] {
                let mut run = || -> Result<()> {
                    machine.set_observers(observers)?;
                    let mut space = image.load(&mut machine)?;
                    let mut cpu = image.cpu.clone();
                    space.take_written()?;
                    let observed =
                        observe(&mut machine, &mut space, &mut cpu, reference.instructions, slice)?;
                    ensure!(cpu.ticks == reference.ticks, "{} ticks", cpu.ticks);
                    ensure!(contents(&space)? == after, "memory differs");
                    check_memory(&observed, &before, &after, observers)?;
                    check(&reference, &observed, observers, &space)
                };
                if let Err(error) = run() {
                    println!("{} {observers:?} slice {slice:?}: {error:#}", sample.name);
                    failures.push(sample.name);
                }
            }
        }
        println!(
            "{}: {} instructions, {} calls, {} indirect",
            sample.name,
            reference.instructions,
            reference.calls.len(),
            reference.flow.targets.len()
        );
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn hooks_stop_at_every_execution() {
    let directory = tempfile::tempdir().expect("temporary directory");
    pin_thread().expect("one CPU");
    let mut random = Random::new(3);
    for sample in samples(directory.path()).expect("sample programs") {
        let mut machine = Machine::new(Options::default()).expect("machine");
        let image = longest_stretch(&mut machine, &sample).expect("a stretch");
        let mut space = image.load(&mut machine).expect("space");
        let mut last = image.cpu.clone();
        let reference = reference(&mut machine, &mut space, &mut last).expect("reference");
        let executed: Vec<u64> = reference.executions.keys().copied().collect();
        let rare = |count: u64| count < 2000;
        for _ in 0..8 {
            let hooks: Vec<Address> = (0..5)
                .map(|_| Address(random.pick(&executed)))
                .filter(|at| *at != image.cpu.rip && rare(reference.executions[&at.0]))
                .collect();
            machine.set_hooks(&hooks);
            let mut space = image.load(&mut machine).expect("space");
            let mut cpu = image.cpu.clone();
            let mut stops: BTreeMap<u64, u64> = BTreeMap::new();
            while machine.run(&mut space, &mut cpu, Limits::default()).expect("run") == Exit::Hook {
                *stops.entry(cpu.rip.0).or_default() += 1;
            }
            let expected: BTreeMap<u64, u64> =
                hooks.iter().map(|at| (at.0, reference.executions[&at.0])).collect();
            assert_eq!(stops, expected, "{}", sample.name);
            assert_eq!(cpu.instructions, reference.instructions, "{}", sample.name);
            assert_eq!(cpu.ticks, reference.ticks, "{}", sample.name);
        }
    }
}
