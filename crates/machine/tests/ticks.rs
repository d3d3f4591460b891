//! Ticks where not every conditional branch counts: exact at every stop and fault, however the
//! machine is driven, and never taken over from where they count differently.

use std::collections::BTreeSet;
use std::rc::Rc;

use iced_x86::{Decoder, DecoderOptions, Instruction};
use machine::{
    Backing, Cpu, Exit, Limits, Machine, Observers, Options, Protection, SharedObject, Space,
    TickFilter, Trap,
};
use model::{Address, gpr};

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x7fff_4000_0000;
const READ_EXECUTE: Protection = Protection { read: true, write: false, execute: true };
const READ_WRITE: Protection = Protection { read: true, write: true, execute: false };

/// Branches of every kind, taken and not, in the middle of a block and at its ends, before and
/// behind a load.
#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0xb9, 7, 0, 0, 0,           //  0     mov $7,%ecx
    0x01, 0xc8,                 //  5 top: add %ecx,%eax
    0xa8, 1,                    //  7     test $1,%al
    0x74, 2,                    //  9     jz 13
    0xff, 0xc3,                 // 11     inc %ebx
    0xa8, 2,                    // 13     test $2,%al
    0x0f, 0x85, 3, 0, 0, 0,     // 15     jnz 24
    0x83, 0xc3, 5,              // 21     add $5,%ebx
    0xe3, 2,                    // 24     jrcxz 28
    0xff, 0xc2,                 // 26     inc %edx
    0x48, 0x8b, 0x37,           // 28     mov (%rdi),%rsi
    0x48, 0x83, 0xc7, 8,        // 31     add $8,%rdi
    0x81, 0xfa, 0xe8, 3, 0, 0,  // 35     cmp $1000,%edx
    0x7f, 1,                    // 41     jg 44
    0x90,                       // 43     nop
    0xe2, 0xd7,                 // 44     loop top
    0xb9, 3, 0, 0, 0,           // 46     mov $3,%ecx
    0xff, 0xc9,                 // 51 end: dec %ecx
    0x75, 0xfc,                 // 53     jnz end
    0xcc,                       // 55     int3
];
const BRANCHES: [u64; 6] = [9, 15, 24, 41, 44, 53];

#[derive(Debug)]
struct AllBut(BTreeSet<Address>);

impl TickFilter for AllBut {
    fn counts(&self, _: &Space, address: Address) -> bool {
        !self.0.contains(&address)
    }
}

/// Counts branches in private memory.
#[derive(Debug)]
struct Private;

impl TickFilter for Private {
    fn counts(&self, space: &Space, address: Address) -> bool {
        let mapping = space.mapping_at(address);
        mapping.is_some_and(|mapping| !matches!(mapping.backing, Backing::Shared { .. }))
    }
}

fn all_observers() -> Observers {
    Observers {
        written_words: true,
        read_lines: true,
        executions: true,
        calls: true,
        control_flow: true,
        stores: true,
    }
}

fn machine(observers: Observers) -> Machine {
    let mut machine = Machine::new(Options::default()).expect("machine");
    machine.set_observers(observers).expect("observers");
    machine
}

/// A space with the program in memory of `backing`, and a page of data.
fn space(machine: &mut Machine, backing: Backing) -> Space {
    let mut space = machine.new_space().expect("space");
    space.map(Address(DATA)..Address(DATA + 0x1000), READ_WRITE, Backing::Zero).expect("data");
    map_program(&mut space, backing);
    space
}

fn map_program(space: &mut Space, backing: Backing) {
    space.map(Address(CODE)..Address(CODE + 0x1000), READ_EXECUTE, backing).expect("map");
    space.write(Address(CODE), PROGRAM).expect("write");
}

fn shared() -> Backing {
    let object = SharedObject::new(1, "program").expect("object");
    object.grow(0x1000).expect("grow");
    Backing::Shared { object, offset: 0 }
}

/// At the program's start; the load faults in the pass of this number, from 0.
fn start(faulting_pass: u64) -> Cpu {
    let mut cpu = Cpu { rip: Address(CODE), ..Cpu::default() };
    cpu.general[gpr::RDI] = DATA + 0x1000 - 8 * faulting_pass;
    cpu
}

fn instruction_at(space: &Space, address: Address) -> Instruction {
    let mut bytes = [0; 15];
    space.read(address, &mut bytes).expect("code");
    Decoder::with_ip(64, &bytes, address.0, DecoderOptions::NONE).decode()
}

fn is_conditional(instruction: &Instruction) -> bool {
    instruction.is_jcc_short_or_near() || instruction.is_jcx_short() || instruction.is_loop()
}

/// The states before each instruction, with ticks counted here, and how it ends.
fn stepped(
    machine: &mut Machine,
    space: &mut Space,
    mut cpu: Cpu,
    counts: impl Fn(Address) -> bool,
) -> (Vec<Cpu>, Exit) {
    let mut states = vec![cpu.clone()];
    let mut ticks = 0;
    loop {
        let instruction = instruction_at(space, cpu.rip);
        let tick = is_conditional(&instruction) && counts(cpu.rip);
        match machine.step(space, &mut cpu, None).expect("step") {
            Exit::InstructionLimit => ticks += u64::from(tick),
            exit => return (states, exit),
        }
        assert_eq!(cpu.ticks, ticks, "behind {instruction}");
        states.push(cpu.clone());
    }
}

fn assert_same(found: &Cpu, expected: &Cpu, what: &str) {
    let state = |cpu: &Cpu| (cpu.rip, cpu.general, cpu.instructions, cpu.ticks);
    assert_eq!(state(found), state(expected), "{what}");
}

#[test]
fn uncounted_branches_in_every_place() {
    for observers in [Observers::default(), all_observers()] {
        let mut machine = machine(observers);
        let mut space = space(&mut machine, Backing::Zero);
        for subset in 0..1 << BRANCHES.len() {
            let left_out = BRANCHES.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 != 0);
            let left_out: BTreeSet<_> = left_out.map(|(_, at)| Address(CODE + at)).collect();
            machine.set_tick_filter(Some(Rc::new(AllBut(left_out.clone()))));
            for faulting_pass in [0, 3, 100] {
                let cpu = start(faulting_pass);
                let counts = |address| !left_out.contains(&address);
                let (states, end) = stepped(&mut machine, &mut space, cpu.clone(), counts);
                let what = format!("{observers:?} without {left_out:?}");
                let last = states.last().expect("a state");
                for (index, expected) in states.iter().enumerate() {
                    let mut at = cpu.clone();
                    let limits = Limits { instructions: Some(index as u64), ticks: None };
                    let exit = machine.run(&mut space, &mut at, limits).expect("run");
                    assert_eq!(exit, Exit::InstructionLimit);
                    assert_same(&at, expected, &what);
                }
                for ticks in 0..=last.ticks {
                    let mut at = cpu.clone();
                    let limits = Limits { instructions: None, ticks: Some(ticks) };
                    let exit = machine.run(&mut space, &mut at, limits).expect("run");
                    assert_eq!(exit, Exit::TickLimit);
                    let first = states.iter().find(|state| state.ticks == ticks);
                    assert_same(&at, first.expect("every count"), &what);
                }
                let mut at = cpu;
                let exit = machine.run(&mut space, &mut at, Limits::default()).expect("run");
                assert_eq!(exit, end, "{what}");
                assert_same(&at, last, &what);
            }
        }
    }
}

/// Runs or steps to the breakpoint; returns the ticks.
fn ticks_to_end(machine: &mut Machine, space: &mut Space, steps: bool) -> u64 {
    let mut cpu = start(100);
    loop {
        let exit = match steps {
            true => machine.step(space, &mut cpu, None),
            false => machine.run(space, &mut cpu, Limits::default()),
        };
        match exit.expect("runs") {
            Exit::InstructionLimit => {}
            exit => {
                assert!(matches!(exit, Exit::Trap { kind: Trap::Breakpoint, .. }), "{exit:?}");
                return cpu.ticks;
            }
        }
    }
}

#[test]
fn equal_code_of_two_spaces_counts_by_its_own_mapping() {
    for steps in [false, true] {
        let mut machine = machine(Observers::default());
        machine.set_tick_filter(Some(Rc::new(Private)));
        let mut private = space(&mut machine, Backing::Zero);
        let mut common = space(&mut machine, shared());
        let all = ticks_to_end(&mut machine, &mut private, steps);
        assert!(all > 0);
        assert_eq!(ticks_to_end(&mut machine, &mut common, steps), 0);
        let mut third = space(&mut machine, Backing::Zero);
        assert_eq!(ticks_to_end(&mut machine, &mut third, steps), all);
        let mut fourth = space(&mut machine, shared());
        assert_eq!(ticks_to_end(&mut machine, &mut fourth, steps), 0);
        assert_eq!(ticks_to_end(&mut machine, &mut private, steps), all);
        if !steps {
            assert!(machine.statistics().blocks_copied > 0, "nothing was taken over");
        }
    }
}

#[test]
fn code_mapped_anew_counts_by_its_new_mapping() {
    for steps in [false, true] {
        let mut machine = machine(Observers::default());
        machine.set_tick_filter(Some(Rc::new(Private)));
        let mut space = space(&mut machine, Backing::Zero);
        let all = ticks_to_end(&mut machine, &mut space, steps);
        map_program(&mut space, shared());
        assert_eq!(ticks_to_end(&mut machine, &mut space, steps), 0);
        map_program(&mut space, Backing::Zero);
        assert_eq!(ticks_to_end(&mut machine, &mut space, steps), all);
    }
}

#[test]
fn the_filter_can_change() {
    for steps in [false, true] {
        let mut machine = machine(Observers::default());
        let mut space = space(&mut machine, shared());
        let all = ticks_to_end(&mut machine, &mut space, steps);
        assert!(all > 0);
        machine.set_tick_filter(Some(Rc::new(Private)));
        assert_eq!(ticks_to_end(&mut machine, &mut space, steps), 0);
        machine.set_tick_filter(None);
        assert_eq!(ticks_to_end(&mut machine, &mut space, steps), all);
    }
}
