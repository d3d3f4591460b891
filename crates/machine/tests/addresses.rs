//! Invariant I1: whatever the pointer, an access reaches the guest's bytes or faults as it does
//! natively; the host's own memory is out of reach.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use iced_x86::{Decoder, DecoderOptions};
use machine::{Cpu, Exit, Limits, Machine, Observers, Options, Space, Trap, layout};
use model::{Address, gpr};
use testkit::{
    AREAS, CODE_AREA, Ending, Extent, NEAR_AREA, Outcome, Random, STACK_AREA, Sandbox, data_bytes,
    data_offset, differences, disassemble, guest_memory, pin_thread, set_guest_memory,
    word_differences,
};

/// Code whose memory access goes through a register. The pointer is in `pointer`; for forms with
/// an index, base and index share it.
struct Form {
    name: &'static str,
    code: &'static [u8],
    pointer: usize,
    /// What the instruction adds to the pointer.
    displacement: u64,
    /// Set before: register and value.
    registers: &'static [(usize, u64)],
    /// Base and index: the pointer is cut in two.
    index: Option<(usize, u64)>,
    /// The pointer is put in this segment base instead.
    segment: Option<char>,
}

impl Form {
    fn host_has(&self) -> bool {
        machine::host_has(&Decoder::new(64, self.code, DecoderOptions::NONE).decode())
    }
}

const FORM: Form = Form {
    name: "",
    code: &[],
    pointer: gpr::RAX,
    displacement: 0,
    registers: &[],
    index: None,
    segment: None,
};

fn forms() -> Vec<Form> {
    use gpr::*;
    let form = |name, code, pointer| Form { name, code, pointer, ..FORM };
    vec![
        form("load", &[0x48, 0x8b, 0x18], RAX),
        form("load byte", &[0x8a, 0x18], RAX),
        form("load through r9", &[0x4d, 0x8b, 0x11], R9),
        form("store", &[0x48, 0x89, 0x18], RAX),
        form("store byte", &[0x88, 0x18], RAX),
        form("store through r10", &[0x4d, 0x89, 0x1a], R10),
        form("store immediate", &[0xc7, 0x00, 1, 2, 3, 4], RAX),
        form("add to memory", &[0x48, 0x01, 0x18], RAX),
        form("locked xadd", &[0xf0, 0x48, 0x0f, 0xc1, 0x18], RAX),
        form("xchg", &[0x48, 0x87, 0x18], RAX),
        form("cmpxchg16b", &[0x48, 0x0f, 0xc7, 0x0e], RSI),
        form("load 16", &[0x0f, 0x10, 0x00], RAX),
        form("store 16", &[0x0f, 0x11, 0x00], RAX),
        form("load 32", &[0xc5, 0xfc, 0x10, 0x00], RAX),
        form("store 32", &[0xc5, 0xfc, 0x11, 0x00], RAX),
        form("store 64", &[0x62, 0xf1, 0x7c, 0x48, 0x11, 0x00], RAX),
        form("push", &[0x53], RSP),
        form("pop", &[0x5b], RSP),
        form("pushf", &[0x9c], RSP),
        form("call", &[0xe8, 0, 0, 0, 0], RSP),
        form("ret", &[0xc3], RSP),
        form("leave", &[0xc9], RBP),
        form("enter", &[0xc8, 8, 0, 0], RSP),
        form("load of the stack", &[0x48, 0x8b, 0x04, 0x24], RSP),
        form("push memory", &[0xff, 0x30], RAX),
        form("pop memory", &[0x8f, 0x00], RAX),
        form("jmp memory", &[0xff, 0x20], RAX),
        form("call memory", &[0xff, 0x10], RAX),
        form("jmp register", &[0xff, 0xe0], RAX),
        form("call register", &[0xff, 0xd3], RBX),
        form("jmp r11", &[0x41, 0xff, 0xe3], R11),
        form("bts", &[0x48, 0x0f, 0xab, 0x18], RAX),
        form("xlat", &[0xd7], RBX),
        form("fstp", &[0xdb, 0x38], RAX),
        form("fnstcw", &[0xd9, 0x38], RAX),
        form("stos", &[0x48, 0xab], RDI),
        form("lods", &[0x48, 0xad], RSI),
        form("maskmovdqu", &[0x66, 0x0f, 0xf7, 0xc1], RDI),
        Form { registers: &[(RCX, 9)], ..form("rep stosb", &[0xf3, 0xaa], RDI) },
        Form { registers: &[(RCX, 700)], ..form("rep stosq", &[0xf3, 0x48, 0xab], RDI) },
        Form {
            registers: &[(RCX, 600), (RSI, NEAR_AREA.start)],
            ..form("rep movsq to", &[0xf3, 0x48, 0xa5], RDI)
        },
        Form {
            registers: &[(RCX, 3000), (RDI, NEAR_AREA.start)],
            ..form("rep movsb from", &[0xf3, 0xa4], RSI)
        },
        Form {
            registers: &[(RCX, 5000), (RDI, NEAR_AREA.start)],
            ..form("repe cmpsb", &[0xf3, 0xa6], RSI)
        },
        Form {
            registers: &[(RCX, 1 << 40), (RAX, 0x1234_5678)],
            ..form("repne scasd", &[0xf2, 0xaf], RDI)
        },
        Form { displacement: 0x10, ..form("load disp8", &[0x48, 0x8b, 0x58, 0x10], RAX) },
        Form {
            displacement: 0x10_0000,
            ..form("load disp32", &[0x48, 0x8b, 0x98, 0, 0, 0x10, 0], RAX)
        },
        Form {
            displacement: 0x7fff_fff0,
            ..form("store far disp", &[0x48, 0x89, 0x98, 0xf0, 0xff, 0xff, 0x7f], RAX)
        },
        Form {
            displacement: -0x8000_0000_i64 as u64,
            ..form("store far below", &[0x48, 0x89, 0x98, 0, 0, 0, 0x80], RAX)
        },
        Form {
            displacement: 0x1200_0000,
            ..form("load disp 12000000", &[0x48, 0x8b, 0x98, 0, 0, 0, 0x12], RAX)
        },
        Form {
            displacement: 0x1a00_0000,
            ..form("store disp 1a000000", &[0x48, 0x89, 0x98, 0, 0, 0, 0x1a], RAX)
        },
        Form {
            displacement: 0x1100_0000,
            ..form("load vector disp 11000000", &[0x0f, 0x10, 0x80, 0, 0, 0, 0x11], RAX)
        },
        Form {
            displacement: 0x4000_0000,
            ..form("load disp 40000000", &[0x48, 0x8b, 0x98, 0, 0, 0, 0x40], RAX)
        },
        Form {
            displacement: 0x7fff_fff0,
            ..form("load vector far disp", &[0x0f, 0x10, 0x80, 0xf0, 0xff, 0xff, 0x7f], RAX)
        },
        Form {
            displacement: -0x8000_0000_i64 as u64,
            ..form("push far below", &[0xff, 0xb0, 0, 0, 0, 0x80], RAX)
        },
        Form {
            displacement: 0x7fff_fff0,
            ..form("stack far disp", &[0x48, 0x89, 0x9c, 0x24, 0xf0, 0xff, 0xff, 0x7f], RSP)
        },
        Form { displacement: 0x40, ..form("stack disp8", &[0x48, 0x8b, 0x5c, 0x24, 0x40], RSP) },
        Form { index: Some((RCX, 1)), ..form("load indexed", &[0x48, 0x8b, 0x1c, 0x08], RAX) },
        Form {
            index: Some((RCX, 8)),
            displacement: 0x1000,
            ..form("store scaled", &[0x48, 0x89, 0x9c, 0xc8, 0, 0x10, 0, 0], RAX)
        },
        Form { index: Some((R9, 4)), ..form("add scaled r9", &[0x42, 0x01, 0x1c, 0x88], RAX) },
        Form { index: Some((RCX, 8)), ..form("stack scaled", &[0x48, 0x89, 0x1c, 0xcc], RSP) },
        Form {
            segment: Some('f'),
            registers: &[(RAX, 0)],
            ..form("load fs", &[0x64, 0x48, 0x8b, 0x18], RAX)
        },
        Form {
            segment: Some('g'),
            registers: &[(RAX, 0)],
            ..form("store gs", &[0x65, 0x48, 0x89, 0x18], RAX)
        },
        Form {
            segment: Some('f'),
            displacement: 0x28,
            ..form("load fs:28", &[0x64, 0x48, 0x8b, 0x1c, 0x25, 0x28, 0, 0, 0], RAX)
        },
        Form {
            segment: Some('g'),
            displacement: -8_i64 as u64,
            ..form("store gs:-8", &[0x65, 0x48, 0x89, 0x1c, 0x25, 0xf8, 0xff, 0xff, 0xff], RAX)
        },
        // vpgatherqq (%rax,%ymm1,1),%ymm0 with all of mask ymm2.
        form("gather", &[0xc4, 0xe2, 0xed, 0x91, 0x04, 0x08], RAX),
        form("scatter", &[0x62, 0xf2, 0xfd, 0x29, 0xa1, 0x04, 0x08], RAX),
        form("fxsave", &[0x0f, 0xae, 0x00], RAX),
        form("prefetch", &[0x0f, 0x18, 0x08], RAX),
    ]
}

/// Pointers of every class, and their neighbours.
fn pointers(random: &mut Random, canaries: &[u64]) -> Vec<u64> {
    let mut list = vec![0, 1, 8, 4095, 4096, 0xffff];
    for area in AREAS {
        for border in [area.start, area.end()] {
            list.extend((-20..=20).map(|k: i64| border.wrapping_add((k * 4) as u64)));
        }
        list.push(area.start + 64 + random.below(area.end() - area.start - 128));
    }
    for shift in 0..64 {
        list.extend([
            1_u64 << shift,
            (1_u64 << shift).wrapping_sub(8),
            !(1 << shift),
            u64::MAX << shift,
        ]);
    }
    for unit in [
        1,
        2,
        0x5554,
        0x5555,
        0x5556,
        0x7ffe,
        0x7fff,
        0x8000,
        0x8001,
        0xffff_7fff,
        0xffff_8000,
        0xffff_ffff_u64,
    ] {
        list.extend((-3..=3).map(|k: i64| (unit << 32).wrapping_add((k * 8) as u64)));
        list.push((unit << 32) + random.below(1 << 32));
    }
    for place in [
        layout::CODE.start,
        layout::CODE.end,
        layout::STATE,
        layout::UNIT_MIDDLE,
        layout::DISPLACEMENT,
        layout::DISPLACEMENT + layout::DISPLACEMENT_RESERVED,
        layout::ISLANDS.start,
        layout::ISLANDS.end,
        layout::ISLANDS.start >> layout::WRITE_MARK_SHIFT,
        layout::ISLANDS.start >> layout::READ_MARK_SHIFT,
        layout::ISLANDS.start + layout::GUARD,
    ] {
        list.extend([
            place,
            place + 0x100,
            place + 0x1000,
            place - 8,
            place + random.below(1 << 20),
        ]);
    }
    list.extend(canaries);
    for _ in 0..100 {
        list.push(random.word());
        list.push(random.word() & 0x7fff_ffff_ffff);
        // The top of the address space, from which displacements wrap around.
        list.push(random.word() | 0xffff_ffff_0000_0000);
        list.push(0xffff_8000_0000_0000 | random.word() >> 17);
    }
    list
}

struct Sweep<'m> {
    sandbox: Sandbox,
    machine: &'m mut Machine,
    space: Space,
    memory: Vec<u8>,
    found: Vec<u8>,
    /// Differences of each form; only the first of them are described.
    counts: BTreeMap<&'static str, u32>,
    failures: Vec<String>,
    runs: u64,
}

impl Sweep<'_> {
    fn run(
        &mut self,
        form: &Form,
        address: u64,
        cpu: &Cpu,
        modes: &[Option<Observers>],
    ) -> Result<()> {
        let mut code = form.code.to_vec();
        code.push(0xcc);
        self.sandbox.set_code(address, &code)?;
        self.space.write(Address(address), &code)?;
        let outcome = self.sandbox.run(cpu)?;
        for mode in modes {
            self.runs += 1;
            let mut found = cpu.clone();
            let exit = match mode {
                Some(_) => {
                    let limits = Limits { instructions: Some(10), ticks: None };
                    self.machine.run(&mut self.space, &mut found, limits)
                }
                None => self.machine.step(&mut self.space, &mut found, None),
            };
            let exit = match exit {
                // A step ends behind the instruction: on to the breakpoint.
                Ok(Exit::InstructionLimit) if mode.is_none() => {
                    self.machine.step(&mut self.space, &mut found, None)
                }
                other => other,
            };
            let refused = match (outcome.ending, &exit) {
                (Ending::Signal(libc::SIGILL, ..), Err(machine::Error::Unsupported { .. })) => {
                    !form.host_has()
                }
                _ => false,
            };
            let lines = self.compare(&outcome, &exit, &found, refused)?;
            if !lines.is_empty() && !is_tolerated(form, &outcome, &exit) {
                let text = disassemble(&code, Address(address), 2);
                let (general, fs, gs) = (cpu.general, cpu.fs_base, cpu.gs_base);
                let count = self.counts.entry(form.name).or_default();
                *count += 1;
                if *count > 3 {
                    continue;
                }
                self.failures.push(format!(
                    "{}: {mode:?}\n{text}  {general:x?} fs {fs:#x} gs {gs:#x}\n  native {:x?}\n  {}",
                    form.name, outcome.ending, lines.join("\n  ")
                ));
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        outcome: &Outcome,
        exit: &Result<Exit, machine::Error>,
        found: &Cpu,
        refused: bool,
    ) -> Result<Vec<String>> {
        let same = refused
            || match (outcome.ending, exit) {
                (Ending::Breakpoint, Ok(Exit::Trap { kind: Trap::Breakpoint, .. })) => true,
                (Ending::Signal(signal, code, address), Ok(Exit::Fault(fault))) => {
                    (signal, code, address) == (fault.signal, fault.code, fault.address.0)
                }
                _ => false,
            };
        let mut lines = differences(&outcome.cpu, found, Extent::WithVector);
        if !same {
            lines.insert(0, format!("ending: expected {:x?} found {exit:x?}", outcome.ending));
        }
        let mut expected = self.memory.clone();
        for (address, bytes) in &outcome.changes {
            let at = data_offset(*address).expect("data area");
            expected[at..at + 8].copy_from_slice(bytes);
        }
        guest_memory(&self.space, &mut self.found)?;
        if expected != self.found {
            lines.extend(word_differences(Address(0), &expected, &self.found).into_iter().take(3));
        }
        if self.found != self.memory {
            set_guest_memory(&mut self.space, &self.memory)?;
        }
        Ok(lines)
    }
}

/// Differences that `generated.rs` reports and describes: the order of checks, not their effect.
fn is_tolerated(form: &Form, outcome: &Outcome, exit: &Result<Exit, machine::Error>) -> bool {
    let (Ending::Signal(_, _, address), Ok(Exit::Fault(_))) = (outcome.ending, exit) else {
        return false;
    };
    if address == u64::MAX {
        return true;
    }
    ["fxsave", "cmpxchg16b", "enter", "maskmovdqu", "fstp", "gather"].contains(&form.name)
}

/// The processor state for a form and a pointer value.
fn start(form: &Form, address: u64, pointer: u64, random: &mut Random) -> Cpu {
    let mut cpu = Cpu { rip: Address(address), ..Cpu::default() };
    cpu.vector = testkit::random_vector(random);
    cpu.vector.0[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
    testkit::set_vector_register(&mut cpu.vector, 2, &[0xff; 64]);
    let mut indices = [0; 64];
    for (number, chunk) in indices.chunks_mut(8).enumerate() {
        chunk[0] = 8 * number as u8;
    }
    testkit::set_vector_register(&mut cpu.vector, 1, &indices);
    for register in &mut cpu.general {
        *register = random.word() >> random.below(64);
    }
    cpu.general[gpr::RSP] = STACK_AREA.start + 0x1800;
    cpu.general[gpr::RAX] = 0;
    for &(register, value) in form.registers {
        cpu.general[register] = value;
    }
    let mut base = pointer.wrapping_sub(form.displacement);
    if let Some((index, scale)) = form.index {
        let value = match random.below(4) {
            0 => random.below(1000),
            1 => random.word() as i32 as u64,
            2 => random.below(100).wrapping_neg(),
            _ => random.word(),
        };
        cpu.general[index] = value;
        base = base.wrapping_sub(value.wrapping_mul(scale));
    }
    match form.segment {
        Some('f') => cpu.fs_base = base,
        Some(_) => cpu.gs_base = base,
        None => cpu.general[form.pointer] = base,
    }
    cpu
}

#[test]
fn every_pointer_reaches_the_guest_or_faults() -> Result<()> {
    pin_thread()?;
    let mut random = Random::new(0xadd2);
    let heap = vec![0x5a5a_5a5a_5a5a_5a5a_u64; 4096];
    let stack = [0xa5a5_a5a5_a5a5_a5a5_u64; 512];
    let canaries = [heap.as_ptr() as u64 + 64, stack.as_ptr() as u64 + 64, &raw const heap as u64];
    let mut machine = Machine::new(Options::default())?;
    let space = Sandbox::space(&mut machine)?;
    let mut memory = vec![0; data_bytes()];
    random.fill(&mut memory);
    let mut sweep = Sweep {
        sandbox: Sandbox::new()?,
        space,
        machine: &mut machine,
        found: memory.clone(),
        memory,
        counts: BTreeMap::new(),
        failures: Vec::new(),
        runs: 0,
    };
    sweep.sandbox.set_memory(&sweep.memory)?;
    set_guest_memory(&mut sweep.space, &sweep.memory)?;
    let filler = vec![0xcc; (CODE_AREA.end() - CODE_AREA.start) as usize];
    sweep.sandbox.set_code(CODE_AREA.start, &filler)?;
    sweep.space.write(Address(CODE_AREA.start), &filler)?;
    let none = Observers::default();
    let writes = Observers { written_words: true, stores: true, read_lines: true, ..none };
    let pointers = pointers(&mut random, &canaries);
    for form in forms().iter().filter(|form| !form.host_has()) {
        eprintln!("this host lacks \"{}\": only that it is refused is tested", form.name);
    }
    for observers in [none, writes] {
        sweep.machine.set_observers(observers)?;
        let modes = if observers == none { vec![Some(none), None] } else { vec![Some(writes)] };
        for form in forms() {
            for &pointer in &pointers {
                // fs and gs bases that are not canonical cannot be set natively.
                let canonical = pointer.wrapping_sub(form.displacement) < 0x7fff_ffff_f000;
                if form.segment.is_some() && !canonical {
                    continue;
                }
                let address = CODE_AREA.start + 0x2000;
                let cpu = start(&form, address, pointer, &mut random);
                sweep.run(&form, address, &cpu, &modes)?;
            }
        }
    }
    println!("{} accesses, differences: {:?}", sweep.runs, sweep.counts);
    for failure in &sweep.failures {
        println!("{failure}\n");
    }
    ensure!(heap.iter().all(|word| *word == 0x5a5a_5a5a_5a5a_5a5a), "host heap was changed");
    ensure!(stack.iter().all(|word| *word == 0xa5a5_a5a5_a5a5_a5a5), "host stack was changed");
    ensure!(sweep.counts.is_empty(), "accesses differ: {:?}", sweep.counts);

    Ok(())
}
