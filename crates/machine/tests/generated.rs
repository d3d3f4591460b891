//! Random instructions in short snippets: the machine against the hardware, under every set of
//! observers.
//!
//! `SNIPPETS` sets how many; `SEED` which.

use std::collections::BTreeMap;

use anyhow::Result;
use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic};
use machine::{Cpu, Exit, Limits, Machine, Observers, Options, Space, Trap};
use model::Address;
use testkit::{
    CODE_AREA, Ending, Extent, Generated, Generator, Memory, Outcome, Random, Sandbox, Snippet,
    area_of, data_bytes, data_offset, differences, disassemble, guest_memory, pin_thread,
    set_guest_memory, word_differences,
};

const SNIPPETS: u64 = 40_000;
const BATCH: u64 = 32;
const SLOT: u64 = 2 * 4096;
/// More instructions than any snippet executes.
const ENOUGH: u64 = 100;
const REPORTS_EACH: u32 = 2;
const REPORTS_MAX: u32 = 30;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How the machine is driven.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Steps,
    /// Stops by limits of so many instructions.
    Slices(u64),
    Free(Observers),
}

fn modes() -> Vec<Mode> {
    let none = Observers::default();
    let all = Observers {
        written_words: true,
        read_lines: true,
        executions: true,
        calls: true,
        control_flow: true,
        stores: true,
    };
    vec![
        Mode::Free(none),
        Mode::Steps,
        Mode::Slices(1),
        Mode::Slices(3),
        Mode::Free(Observers { written_words: true, ..none }),
        Mode::Free(Observers { read_lines: true, ..none }),
        Mode::Free(Observers { executions: true, ..none }),
        Mode::Free(Observers { calls: true, ..none }),
        Mode::Free(Observers { control_flow: true, ..none }),
        Mode::Free(Observers { stores: true, ..none }),
        Mode::Free(all),
    ]
}

/// How one mode differed from the hardware.
struct Failure {
    lines: Vec<String>,
    /// Where the machine stopped.
    at: Address,
    unsupported: bool,
    /// The instruction behind which the states differ first, when looked for.
    blamed: Option<Address>,
}

/// The code and the registers it starts with.
fn start_of(generated: &Generated) -> String {
    let Snippet { cpu, code, .. } = &generated.snippet;
    let text = disassemble(code, cpu.rip, generated.instructions.len() + 1);
    let (flags, fs, gs) = (cpu.rflags, cpu.fs_base, cpu.gs_base);
    format!("{text}  start {:x?} rflags {flags:#x} fs {fs:#x} gs {gs:#x}\n", cpu.general)
}

/// Known differences that are let pass; each is counted and printed. All of them are about which
/// of several reasons a fault has, never about results.
fn tolerated(
    generated: &Generated,
    outcome: &Outcome,
    exit: &Result<Exit, machine::Error>,
) -> Option<&'static str> {
    use Mnemonic::*;
    let at = generated.instructions.iter().find(|one| one.ip() == outcome.cpu.rip.0)?;
    let Ending::Signal(signal, code, _) = outcome.ending else { return None };
    let mnemonic = at.mnemonic();
    let text = format!("{mnemonic:?}").to_lowercase();
    let ignored = matches!(mnemonic, Serialize | Clzero | Movdir64b)
        || text.starts_with("vgatherpf")
        || text.starts_with("vscatterpf");
    if signal == libc::SIGILL && ignored {
        return Some("serialize, clzero, movdir64b or prefetch where it is undefined");
    }
    if matches!(mnemonic, Clui | Stui) && !has_user_interrupts() {
        return Some("clui and stui where they are rdpkru and wrpkru with a prefix");
    }
    match exit {
        Ok(Exit::Fault(fault)) if fault.signal != libc::SIGILL => {
            let wide = at.memory_size().size() >= 16;
            // The hardware looks at the alignment first, sometimes.
            if signal == libc::SIGSEGV && wide && code == 0x80 {
                return Some("alignment or page fault first");
            }
            if matches!(mnemonic, Fxrstor | Fxrstor64) || at.code() == Code::Movsxd_r16_rm16 {
                return Some("fxrstor through rbp, movsxd of 16 bits");
            }
            if fault.signal == signal && (at.has_op_mask() || text.contains("mask")) {
                return Some("which byte of a masked operand");
            }
            let large = at.is_save_restore_instruction()
                || matches!(mnemonic, Fldenv | Frstor | Fnsave | Fnstenv | Fxsave64 | Fxrstor64);
            (fault.signal == signal && large).then_some("which byte of a large operand")
        }
        Err(machine::Error::Unsupported { .. }) if signal == libc::SIGILL => {
            Some("unsupported instead of SIGILL")
        }
        // Enclaves and queues of devices, which some hosts refuse with SIGSEGV.
        Err(machine::Error::Unsupported { .. }) if matches!(mnemonic, Enclu | Enqcmd) => {
            Some("unsupported instead of a fault")
        }
        _ => None,
    }
}

/// CPUID leaf 7, EDX bit 5.
fn has_user_interrupts() -> bool {
    use std::arch::x86_64::__cpuid_count;
    __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).edx >> 5 & 1 != 0
}

/// What most likely fails, to group reports by.
fn cause(generated: &Generated, outcome: &Outcome, failure: &Failure) -> String {
    let at = |rip: Address| generated.instructions.iter().find(|one| one.ip() == rip.0);
    if failure.unsupported {
        return at(failure.at)
            .map_or("unsupported".into(), |one| format!("unsupported {:?}", one.mnemonic()));
    }
    if let Some(one) = failure.blamed.and_then(at) {
        return format!("{:?}", one.code());
    }
    match (&generated.instructions[..], at(outcome.cpu.rip)) {
        ([one], _) => format!("{:?}", one.code()),
        (_, Some(one)) => format!("at {:?}", one.code()),
        _ => "several".to_string(),
    }
}

/// Counts for the report at the end.
#[derive(Default)]
struct Tally {
    features: BTreeMap<String, (u32, u32)>,
    forms: BTreeMap<String, std::collections::BTreeSet<u16>>,
    endings: BTreeMap<String, u32>,
    failures: BTreeMap<String, u32>,
    tolerated: BTreeMap<&'static str, u32>,
}

struct Bench<'m> {
    sandbox: Sandbox,
    machine: &'m mut Machine,
    space: Space,
    memory: Memory,
    found: Memory,
    tally: Tally,
    /// Print every snippet before it runs, to find one that kills the process.
    trace: bool,
}

#[test]
fn snippets_do_what_the_hardware_does() {
    pin_thread().expect("one CPU");
    let seed = setting("SEED", 1);
    let mut machine = Machine::new(Options::default()).expect("machine");
    let space = Sandbox::space(&mut machine).expect("guest areas");
    let mut bench = Bench {
        sandbox: Sandbox::new().expect("sandbox"),
        machine: &mut machine,
        space,
        memory: vec![0; data_bytes()],
        found: vec![0; data_bytes()],
        tally: Tally::default(),
        trace: std::env::var_os("TRACE").is_some(),
    };
    let mut generator = Generator::new(seed);
    let begin = std::time::Instant::now();
    let mut done = 0;
    while done < setting("SNIPPETS", SNIPPETS) {
        bench.batch(&mut generator, done).expect("batch");
        done += BATCH;
    }
    println!("{done} snippets, seed {seed}, {:?}", begin.elapsed());
    bench.tally.print();
    assert!(bench.tally.failures.is_empty(), "{:?}", bench.tally.failures);
    bench.tally.check_coverage();
}

impl Bench<'_> {
    fn batch(&mut self, generator: &mut Generator, number: u64) -> Result<()> {
        fill_memory(&mut generator.random, &mut self.memory);
        let mut code = vec![0xcc; (CODE_AREA.end() - CODE_AREA.start) as usize];
        let mut batch = Vec::new();
        for slot in 0..BATCH {
            let page = slot * SLOT;
            let offset = match generator.random.below(4) {
                0 => 4096 - generator.random.below(24),
                _ => generator.random.below(SLOT - 256),
            };
            let address = CODE_AREA.start + page + offset;
            let length = generator.random.pick(&[1, 1, 2, 4, 8]);
            let generated = generator.snippet(address, length, 200);
            let at = (page + offset) as usize;
            code[at..at + generated.snippet.code.len()].copy_from_slice(&generated.snippet.code);
            batch.push(generated);
        }
        self.sandbox.set_memory(&self.memory)?;
        self.sandbox.set_code(CODE_AREA.start, &code)?;
        let mut expected = Vec::new();
        for generated in &batch {
            let outcome = self.sandbox.run(&generated.snippet.cpu)?;
            if let Ending::Signal(libc::SIGILL, ..) = outcome.ending
                && let Some(at) =
                    generated.instructions.iter().find(|one| one.ip() == outcome.cpu.rip.0)
            {
                generator.unsupported.insert(at.code() as u16);
            }
            self.tally.count(generated, &outcome);
            expected.push(outcome);
        }
        set_guest_memory(&mut self.space, &self.memory)?;
        self.space.write(Address(CODE_AREA.start), &code)?;
        let mut failures: BTreeMap<usize, Vec<(Mode, Failure)>> = BTreeMap::new();
        for mode in modes() {
            if let Mode::Free(observers) = mode {
                self.machine.set_observers(observers).expect("observers");
            }
            for (index, (generated, outcome)) in batch.iter().zip(&expected).enumerate() {
                if is_comparable(outcome)
                    && let Some(failure) = self.check(mode, generated, outcome)?
                {
                    failures.entry(index).or_default().push((mode, failure));
                }
            }
        }
        for (index, mut failures) in failures {
            let panics = failures[0].1.lines[0].contains("panics");
            if batch[index].instructions.len() > 1 && !panics {
                self.blame(&batch[index], &mut failures[0].1)?;
            }
            self.tally.report(number + index as u64, &batch[index], &expected[index], &failures);
        }
        Ok(())
    }

    fn check(
        &mut self,
        mode: Mode,
        generated: &Generated,
        outcome: &Outcome,
    ) -> Result<Option<Failure>> {
        let mut cpu = generated.snippet.cpu.clone();
        if self.trace {
            eprintln!("{mode:?}\n{}", start_of(generated));
        }
        if let Mode::Free(observers) = mode {
            self.forget_observations(observers)?;
        }
        let run = std::panic::AssertUnwindSafe(|| match mode {
            Mode::Free(_) => {
                let limits = Limits { instructions: Some(ENOUGH), ticks: None };
                self.machine.run(&mut self.space, &mut cpu, limits)
            }
            Mode::Steps => self.steps(&mut cpu),
            Mode::Slices(length) => self.slices(&mut cpu, length),
        });
        let Ok(exit) = std::panic::catch_unwind(run) else {
            let lines = vec!["the machine panics".to_string()];
            return Ok(Some(Failure { lines, at: cpu.rip, unsupported: false, blamed: None }));
        };
        let mut lines = match &exit {
            Ok(exit) => exit_differences(exit, outcome),
            Err(error) => vec![format!("error: {error}")],
        };
        lines.extend(differences(&outcome.cpu, &cpu, Extent::WithVector));
        if let (Mode::Free(observers), Ok(_)) = (mode, &exit) {
            lines.extend(self.observed_differences(observers, &cpu)?);
        }
        lines.extend(self.memory_differences(generated, outcome)?);
        if !lines.is_empty()
            && let Some(reason) = tolerated(generated, outcome, &exit)
        {
            *self.tally.tolerated.entry(reason).or_default() += 1;
            return Ok(None);
        }
        let unsupported = exit.is_err();
        Ok((!lines.is_empty()).then_some(Failure { lines, at: cpu.rip, unsupported, blamed: None }))
    }

    /// Finds the first instruction behind which the states differ, by single steps.
    fn blame(&mut self, generated: &Generated, failure: &mut Failure) -> Result<()> {
        let mut cpu = generated.snippet.cpu.clone();
        let states = self.sandbox.trace(&cpu, generated.instructions.len())?;
        for expected in states {
            let at = cpu.rip;
            let exit = self.machine.step(&mut self.space, &mut cpu, None);
            let lines = differences(&expected, &cpu, Extent::WithVector);
            if expected.rip != at && (!lines.is_empty() || exit.is_err()) {
                failure.lines.insert(0, format!("first differs at {at}: {}", lines.join("; ")));
                failure.blamed = Some(at);
                break;
            }
        }
        set_guest_memory(&mut self.space, &self.memory)
    }

    fn slices(&mut self, cpu: &mut Cpu, length: u64) -> Result<Exit, machine::Error> {
        while cpu.instructions < ENOUGH {
            let limits = Limits { instructions: Some(cpu.instructions + length), ticks: None };
            match self.machine.run(&mut self.space, cpu, limits)? {
                Exit::InstructionLimit => {}
                exit => return Ok(exit),
            }
        }
        Ok(Exit::InstructionLimit)
    }

    fn steps(&mut self, cpu: &mut Cpu) -> Result<Exit, machine::Error> {
        for _ in 0..ENOUGH {
            match self.machine.step(&mut self.space, cpu, None)? {
                Exit::InstructionLimit => {}
                exit => return Ok(exit),
            }
        }
        Ok(Exit::InstructionLimit)
    }

    fn forget_observations(&mut self, observers: Observers) -> Result<()> {
        self.machine.take_stores();
        if observers.executions {
            self.machine.take_executions();
        }
        if observers.written_words {
            self.space.take_written()?;
        }
        Ok(())
    }

    /// Stores undone must give the memory from before, changed words be marked, and executions be
    /// as many as instructions have retired.
    fn observed_differences(&mut self, observers: Observers, cpu: &Cpu) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        guest_memory(&self.space, &mut self.found)?;
        if observers.stores {
            let mut undone = self.found.clone();
            for store in self.machine.take_stores().iter().rev() {
                for (byte, address) in store.old.to_le_bytes().iter().zip(store.address.0..) {
                    // Code can be in the log, for a store whose mask is empty.
                    if address - store.address.0 < u64::from(store.size)
                        && let Some(at) = data_offset(address)
                    {
                        undone[at] = *byte;
                    }
                }
            }
            if undone != self.memory {
                lines.push("stores undone do not give the memory from before".to_string());
            }
        }
        if observers.written_words {
            let written = self.space.take_written()?;
            let is_marked = |address: u64| {
                let page = written.iter().find(|(page, _)| *page == Address(address).page_start());
                let word = (address % 4096 / 8) as usize;
                page.is_some_and(|(_, words)| words[word / 64] >> (word % 64) & 1 != 0)
            };
            for area in testkit::DATA_AREAS {
                for address in (area.start..area.end()).step_by(8) {
                    let at = data_offset(address).expect("a data area");
                    let word = at..at + 8;
                    if self.found[word.clone()] != self.memory[word] && !is_marked(address) {
                        lines.push(format!("the changed word at {address:x} is not marked"));
                    }
                }
            }
        }
        if observers.executions {
            let mut executed = 0;
            for (range, count) in self.machine.take_executions() {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                self.space.read(range.start, &mut bytes)?;
                let decoder = Decoder::with_ip(64, &bytes, range.start.0, DecoderOptions::NONE);
                executed += count * decoder.into_iter().count() as u64;
            }
            if executed != cpu.instructions {
                lines.push(format!("{executed} executions of {}", cpu.instructions));
            }
        }
        Ok(lines)
    }

    /// Compares guest memory and puts it back.
    fn memory_differences(
        &mut self,
        generated: &Generated,
        outcome: &Outcome,
    ) -> Result<Vec<String>> {
        let mut expected = self.memory.clone();
        for (address, bytes) in &outcome.changes {
            let at = data_offset(*address).expect("changes lie in data areas");
            expected[at..at + 8].copy_from_slice(bytes);
        }
        guest_memory(&self.space, &mut self.found)?;
        for &(start, length) in &generated.snippet.ignored {
            for address in (0..length).map(|offset| start.wrapping_add(offset)) {
                if let Some(at) = data_offset(address) {
                    expected[at] = self.found[at];
                }
            }
        }
        let mut lines = Vec::new();
        if expected != self.found {
            for area in testkit::DATA_AREAS {
                let at = data_offset(area.start).expect("data area");
                let range = at..at + (area.end() - area.start) as usize;
                lines.extend(word_differences(
                    Address(area.start),
                    &expected[range.clone()],
                    &self.found[range],
                ));
            }
        }
        if self.found != self.memory {
            set_guest_memory(&mut self.space, &self.memory)?;
        }
        Ok(lines)
    }
}

/// Random bytes, some words of which are useful to a program.
fn fill_memory(random: &mut Random, memory: &mut Memory) {
    random.fill(memory);
    for word in memory.chunks_mut(8) {
        let value = match random.below(16) {
            0..2 => CODE_AREA.end() - 1 - random.below(4000),
            2 => random.below(100),
            3 => testkit::place(random, testkit::NEAR_AREA),
            4 => 0x3ff0_0000_0000_0000,
            // Flags without TF, NT and AC.
            5 => 0x202 | random.word() & 0xcd5,
            _ => continue,
        };
        word.copy_from_slice(&value.to_le_bytes());
    }
}

/// Single-step traps by a popped TF, and endless loops, are not for this test.
fn is_comparable(outcome: &Outcome) -> bool {
    !matches!(outcome.ending, Ending::Endless | Ending::Signal(libc::SIGTRAP, ..))
        && outcome.cpu.rflags & 0x4_4000 == 0
}

fn exit_differences(exit: &Exit, outcome: &Outcome) -> Vec<String> {
    let same = match (outcome.ending, exit) {
        (Ending::Breakpoint, Exit::Trap { kind: Trap::Breakpoint, length: 1 }) => true,
        (Ending::Signal(signal, code, address), Exit::Fault(fault)) => {
            let has_address = signal == libc::SIGSEGV || signal == libc::SIGBUS;
            fault.signal == signal
                && fault.code == code
                && (!has_address || fault.address.0 == address)
        }
        _ => false,
    };
    if same {
        Vec::new()
    } else {
        vec![format!("ending: expected {:x?} found {exit:x?}", outcome.ending)]
    }
}

impl Tally {
    fn count(&mut self, generated: &Generated, outcome: &Outcome) {
        let ending = match outcome.ending {
            Ending::Signal(signal, code, _) => format!("signal {signal} code {code:#x}"),
            other => format!("{other:?}"),
        };
        *self.endings.entry(ending).or_default() += 1;
        let illegal = matches!(outcome.ending, Ending::Signal(libc::SIGILL, ..));
        for instruction in &generated.instructions {
            for feature in instruction.cpuid_features() {
                let name = format!("{feature:?}");
                let counts = self.features.entry(name.clone()).or_default();
                if illegal && instruction.ip() == outcome.cpu.rip.0 {
                    counts.1 += 1;
                } else {
                    counts.0 += 1;
                    self.forms.entry(name).or_default().insert(instruction.code() as u16);
                }
            }
        }
    }

    fn report(
        &mut self,
        number: u64,
        generated: &Generated,
        outcome: &Outcome,
        failures: &[(Mode, Failure)],
    ) {
        let (mode, first) = &failures[0];
        let key = cause(generated, outcome, first);
        let count = self.failures.entry(key.clone()).or_default();
        *count += 1;
        if *count > REPORTS_EACH && key != "several" || *count > REPORTS_MAX {
            return;
        }
        let mut text =
            format!("{key}: snippet {number} in {} modes, first {mode:?}:\n", failures.len());
        text.push_str(&start_of(generated));
        text.push_str(&format!("  native {:x?} at {}", outcome.ending, outcome.cpu.rip));
        if let Ending::Signal(_, _, address) = outcome.ending {
            text.push_str(&format!(" (area {})", area_of(address)));
        }
        for line in first.lines.iter().take(12) {
            text.push_str(&format!("\n  {line}"));
        }
        println!("{text}\n");
    }

    fn print(&self) {
        println!("endings: {:?}", self.endings);
        println!("tolerated: {:?}", self.tolerated);
        for (feature, (ran, illegal)) in &self.features {
            let forms = self.forms.get(feature).map_or(0, |forms| forms.len());
            println!("  {feature}: {ran} ran in {forms} forms, {illegal} undefined on this host");
        }
    }

    fn check_coverage(&self) {
        let mut needed = vec![
            "INTEL8086",
            "INTEL386",
            "X64",
            "CMOV",
            "FPU",
            "MMX",
            "SSE",
            "SSE2",
            "SSE3",
            "SSSE3",
            "SSE4_1",
            "SSE4_2",
        ];
        if is_x86_feature_detected!("avx2") {
            needed.extend(["AVX", "AVX2", "FMA", "BMI1", "BMI2", "AES", "SHA"]);
        }
        if is_x86_feature_detected!("avx512vl") {
            needed.extend(["AVX512F", "AVX512BW", "AVX512VL", "AVX512DQ"]);
        }
        for feature in needed {
            let ran = self.features.get(feature).map_or(0, |counts| counts.0);
            assert!(ran > 20, "only {ran} instructions of {feature} ran");
        }
    }
}

#[test]
fn natively_the_generator_covers_what_it_should() {
    pin_thread().expect("one CPU");
    let mut sandbox = Sandbox::new().expect("sandbox");
    let mut generator = Generator::new(7);
    let mut tally = Tally::default();
    let mut memory = vec![0; data_bytes()];
    fill_memory(&mut generator.random, &mut memory);
    sandbox.set_memory(&memory).expect("memory");
    let begin = std::time::Instant::now();
    for _ in 0..setting("SNIPPETS", 20_000) {
        let address = CODE_AREA.start + generator.random.below(5000);
        let generated = generator.snippet(address, 2, 200);
        sandbox.set_code(address, &generated.snippet.code).expect("code");
        let outcome = sandbox.run(&generated.snippet.cpu).expect("run");
        if let Ending::Signal(libc::SIGILL, ..) = outcome.ending
            && let Some(at) =
                generated.instructions.iter().find(|one| one.ip() == outcome.cpu.rip.0)
        {
            generator.unsupported.insert(at.code() as u16);
        }
        tally.count(&generated, &outcome);
    }
    println!("{:?} natively", begin.elapsed());
    tally.print();
    tally.check_coverage();
}
