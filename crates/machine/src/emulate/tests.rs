//! Each emulated instruction against the processor: same state, same memory, same faults.

mod flow;
mod images;
mod implicit;

mod native;
mod strings;
mod vectors;

use iced_x86::{Code, Decoder, DecoderOptions, Formatter, GasFormatter, Instruction};
use model::{Address, PAGE_SIZE};

use self::native::{Native, Region};
use super::Outcome;
use super::components::{OPMASK, SSE, mask, mxcsr, vector, vector_parts, x87};
use super::host::host;
use crate::{Backing, Cpu, Error, Fault, Protection, Space, VectorState, host_has};

pub const CODE: u64 = 0x2100_0000;
/// Four pages to write, one to read, one that is not mapped, in this order.
pub const DATA: u64 = 0x2200_0000;
pub const READ_ONLY: u64 = DATA + 4 * PAGE_SIZE;
pub const UNMAPPED: u64 = DATA + 5 * PAGE_SIZE;
/// Two pages to write between pages that are not mapped.
pub const ISLAND: u64 = DATA + 8 * PAGE_SIZE;
/// May not be touched.
pub const CLOSED: u64 = DATA + 12 * PAGE_SIZE;
/// Four pages to write.
pub const STACK: u64 = 0x2300_0000;

const NONE: Protection = Protection { read: false, write: false, execute: false };
const R: Protection = Protection { read: true, ..NONE };
const RW: Protection = Protection { write: true, ..R };
const RX: Protection = Protection { execute: true, ..R };

const REGIONS: [Region; 6] = [
    Region { start: CODE, length: 2 * PAGE_SIZE, protection: RX },
    Region { start: DATA, length: 4 * PAGE_SIZE, protection: RW },
    Region { start: READ_ONLY, length: PAGE_SIZE, protection: R },
    Region { start: ISLAND, length: 2 * PAGE_SIZE, protection: RW },
    Region { start: CLOSED, length: PAGE_SIZE, protection: NONE },
    Region { start: STACK, length: 4 * PAGE_SIZE, protection: RW },
];

/// The same memory twice: in a child process, and as a guest's.
#[derive(Debug)]
pub struct Bench {
    native: Native,
    pub space: Space,
    random: Random,
}

impl Bench {
    pub fn new(seed: u64) -> Bench {
        let native = Native::start(&REGIONS);
        let mut space = Space::new();
        let mut random = Random(seed);
        for region in &REGIONS {
            let range = Address(region.start).range(region.length);
            space.map(range, region.protection, Backing::Zero).unwrap();
        }
        for region in &REGIONS {
            let bytes = if region.start == CODE {
                vec![0xcc; region.length as usize]
            } else {
                random.bytes(region.length as usize)
            };
            native.write(region.start, &bytes);
            space.write(Address(region.start), &bytes).unwrap();
        }
        Bench { native, space, random }
    }

    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    pub fn write(&mut self, address: u64, bytes: &[u8]) {
        self.native.write(address, bytes);
        self.space.write(Address(address), bytes).unwrap();
    }

    /// A state about to execute at [`CODE`], with random registers and a stack.
    pub fn cpu(&mut self) -> Cpu {
        let mut cpu = Cpu { rip: Address(CODE), ..Cpu::default() };
        for register in &mut cpu.general {
            *register = self.random.next();
        }
        cpu.general[4] = STACK + 2 * PAGE_SIZE + 8 * self.random.below(16);
        cpu.rflags = 0x202 | self.random.next() & super::registers::ARITHMETIC;
        cpu.fs_base = DATA + PAGE_SIZE;
        cpu.gs_base = DATA + 2 * PAGE_SIZE;
        for number in 0..32 {
            let bytes = self.random.bytes(64).try_into().unwrap();
            set_vector(&mut cpu.vector, number, &bytes);
        }
        for number in 0..8 {
            let bits = self.random.next();
            set_mask(&mut cpu.vector, number, bits);
        }
        cpu
    }

    /// Executes `code` on both sides; the processor's state and fault are the answer.
    #[track_caller]
    pub fn check(&mut self, code: &[u8], cpu: &Cpu) -> (Cpu, Option<Fault>) {
        let mut line = code.to_vec();
        line.resize(32, 0xcc);
        self.write(cpu.rip.0, &line);
        let instruction = decode(code, cpu.rip.0);
        let cpu = &Cpu { rflags: self.native.possible_flags(cpu.rflags), ..cpu.clone() };
        self.run(&instruction, cpu)
    }

    /// As `check` for instructions that store XSTATE_BV: the processor may call a component in
    /// use that is in its initial configuration, and does so once it has been interrupted. Is
    /// satisfied with one agreement in several attempts.
    #[track_caller]
    pub fn check_save(&mut self, code: &[u8], cpu: &Cpu) {
        let memory = self.memory();
        for _ in 0..5 {
            let run = std::panic::AssertUnwindSafe(|| self.check(code, cpu));
            if std::panic::catch_unwind(run).is_ok() {
                return;
            }
            for (region, bytes) in &memory {
                self.write(region.start, bytes);
            }
        }
        self.check(code, cpu);
    }

    fn memory(&self) -> Vec<(Region, Vec<u8>)> {
        let writable = REGIONS.iter().filter(|region| region.protection.write);
        writable.map(|r| (*r, self.native.read(r.start..r.start + r.length))).collect()
    }

    #[track_caller]
    fn run(&mut self, instruction: &Instruction, cpu: &Cpu) -> (Cpu, Option<Fault>) {
        let (expected, expected_fault) = self.native.run(cpu);
        let mut actual = cpu.clone();
        let outcome = emulate(&mut self.space, &mut actual, instruction, None).unwrap();
        let what = describe(instruction, cpu);
        let fault = match outcome {
            Outcome::Done => None,
            Outcome::Fault(fault) => Some(fault),
            Outcome::Unsupported if !host_has(instruction) => {
                let illegal = expected_fault.is_some_and(|fault| fault.signal == libc::SIGILL);
                assert!(illegal, "{what}: {expected_fault:?}");
                expected_fault
            }
            other => panic!("{what}: {other:?}"),
        };
        assert_eq!(fault, expected_fault, "{what}");
        let differences = Bench::differences(&expected, &actual);
        assert!(differences.is_empty(), "{what}\nprocessor, engine:\n{differences}");
        self.compare_memory(&what);
        (expected, expected_fault)
    }

    fn differences(expected: &Cpu, actual: &Cpu) -> String {
        let mut lines = String::new();
        let mut compare = |name: &str, left: String, right: String| {
            if left != right {
                lines += &format!("{name}: {left}\n{name}: {right}\n");
            }
        };
        for (n, name) in model::GENERAL_NAMES.iter().enumerate() {
            compare(name, hex(expected.general[n]), hex(actual.general[n]));
        }
        compare("rip", hex(expected.rip.0), hex(actual.rip.0));
        let flags = !super::registers::RESUME;
        compare("rflags", hex(expected.rflags & flags), hex(actual.rflags & flags));
        compare("fs_base", hex(expected.fs_base), hex(actual.fs_base));
        compare("gs_base", hex(expected.gs_base), hex(actual.gs_base));
        let (left, right) = (&expected.vector, &actual.vector);
        for n in 0..32 {
            let name = format!("vector {n}");
            compare(&name, format!("{:x?}", vector(left, n)), format!("{:x?}", vector(right, n)));
        }
        for n in 0..8 {
            compare(&format!("k{n}"), hex(mask(left, n)), hex(mask(right, n)));
        }
        compare("x87", format!("{:x?}", x87(left)), format!("{:x?}", x87(right)));
        compare("mxcsr", hex(mxcsr(left).into()), hex(mxcsr(right).into()));
        lines
    }

    #[track_caller]
    fn compare_memory(&mut self, what: &str) {
        for (region, expected) in self.memory() {
            let mut actual = vec![0; expected.len()];
            self.space.read(Address(region.start), &mut actual).unwrap();
            if let Some(at) = (0..actual.len()).find(|at| actual[*at] != expected[*at]) {
                let part = at..(at + 32).min(actual.len());
                panic!(
                    "{what}\nmemory at {:#x}: processor {:x?}\nengine {:x?}",
                    region.start + at as u64,
                    &expected[part.clone()],
                    &actual[part]
                );
            }
        }
    }
}

/// Sets as much of a vector register as the host has.
pub fn set_vector(state: &mut VectorState, number: usize, value: &[u8; 64]) {
    let mut value = *value;
    for (component, part, _) in vector_parts(number) {
        if component != SSE && host().component(component).is_none() {
            value[part].fill(0);
        }
    }
    super::components::set_vector(state, number, &value);
}

/// Sets a mask register if the host has it.
pub fn set_mask(state: &mut VectorState, number: usize, value: u64) {
    if host().component(OPMASK).is_some() {
        super::components::set_mask(state, number, value);
    }
}

/// Of instructions that the host lacks, only that they are refused can be tested.
pub fn say_what_is_refused(codes: &[Code]) {
    let lacking = codes.iter().filter(|code| {
        let mut instruction = Instruction::default();
        instruction.set_code(**code);
        !host_has(&instruction)
    });
    let lacking: Vec<_> = lacking.collect();
    if let Some(first) = lacking.first() {
        eprintln!(
            "this host lacks {} instructions, {first:?} the first: only refused",
            lacking.len()
        );
    }
}

/// With the state images of the host.
pub fn emulate(
    space: &mut Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
    iterations: Option<u64>,
) -> Result<Outcome, Error> {
    super::emulate(space, cpu, instruction, &host().images, iterations)
}

pub fn decode(code: &[u8], address: u64) -> Instruction {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE).decode()
}

/// The bytes of an instruction made by iced's constructors.
pub fn encode(instruction: &Instruction) -> Vec<u8> {
    let mut encoder = iced_x86::Encoder::new(64);
    encoder.encode(instruction, CODE).unwrap();
    encoder.take_buffer()
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

fn describe(instruction: &Instruction, cpu: &Cpu) -> String {
    let mut text = String::new();
    GasFormatter::new().format(instruction, &mut text);
    let registers = cpu.general.map(|value| format!("{value:x}")).join(" ");
    format!("{text} ({:?}) from {registers} flags {:#x}", instruction.code(), cpu.rflags)
}

/// Splitmix64.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
