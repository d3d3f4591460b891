//! Single instructions with an interface of their own: traps, and rep strings cut short.

use iced_x86::{Decoder, DecoderOptions};
use machine::{Backing, Exit, Limits, Machine, Observers, Options, Protection, Trap};
use model::{Address, gpr};
use testkit::{
    CODE_AREA, Extent, NEAR_AREA, Random, STACK_AREA, Sandbox, data_bytes, differences,
    disassemble, expected_trap, guest_memory, pin_thread, random_vector, set_guest_memory,
};

const TRAPS: &[(&[u8], Trap)] = &[
    (&[0x0f, 0x05], Trap::Syscall),
    (&[0x48, 0x0f, 0x05], Trap::Syscall),
    (&[0xcd, 0x80], Trap::Int80),
    (&[0x0f, 0x34], Trap::Sysenter),
    (&[0x0f, 0xa2], Trap::Cpuid),
    (&[0x0f, 0x31], Trap::Rdtsc),
    (&[0x0f, 0x01, 0xf9], Trap::Rdtscp),
    (&[0xf3, 0x0f, 0xc7, 0xf8], Trap::Rdpid),
    (&[0x48, 0x0f, 0xc7, 0xf0], Trap::Rdrand),
    (&[0x41, 0x0f, 0xc7, 0xf1], Trap::Rdrand),
    (&[0x0f, 0xc7, 0xfa], Trap::Rdseed),
    (&[0x0f, 0x01, 0xd0], Trap::Xgetbv),
    (&[0x0f, 0x01, 0xee], Trap::Rdpkru),
    (&[0x0f, 0x01, 0xef], Trap::Wrpkru),
    (&[0x66, 0x0f, 0xae, 0xf0], Trap::Tpause),
    (&[0xf2, 0x0f, 0xae, 0xf0], Trap::Umwait),
    (&[0xc7, 0xf8, 0, 0, 0, 0], Trap::Xbegin),
    (&[0xcc], Trap::Breakpoint),
    (&[0xcd, 3], Trap::Breakpoint),
    (&[0xf1], Trap::Breakpoint),
];

#[test]
fn trapping_instructions_are_left_to_the_caller() {
    let mut machine = Machine::new(Options::default()).expect("machine");
    let mut space = machine.new_space().expect("space");
    let protection = Protection { read: true, write: false, execute: true };
    let page = 0x40_0000;
    space.map(Address(page)..Address(page + 0x2000), protection, Backing::Zero).expect("map");
    let mut random = Random::new(1);
    for &(code, trap) in TRAPS {
        let decoded = Decoder::with_ip(64, code, 0, DecoderOptions::NONE).decode();
        assert_eq!(expected_trap(&decoded), Some(trap), "{code:x?}");
        for start in [page + 0x100, page + 0x1000 - 1, page + 0x2000 - code.len() as u64 - 2] {
            // Two nops first, so that the trap ends a block.
            let bytes = [&[0x90, 0x90], code].concat();
            space.write(Address(start), &bytes).expect("write");
            let mut cpu = machine::Cpu { rip: Address(start), ..Default::default() };
            cpu.vector = random_vector(&mut random);
            cpu.general.iter_mut().for_each(|register| *register = random.word());
            let mut expected = cpu.clone();
            expected.rip = Address(start + 2);
            let exit = machine.run(&mut space, &mut cpu, Limits::default()).expect("run");
            let length = code.len() as u8;
            assert_eq!(exit, Exit::Trap { kind: trap, length }, "{code:x?}");
            let lines = differences(&expected, &cpu, Extent::WithVector);
            assert!(lines.is_empty(), "{code:x?}: {lines:?}");
            assert_eq!(cpu.instructions, 2, "{code:x?}");
            let exit = machine.step(&mut space, &mut cpu, None).expect("step");
            assert_eq!(exit, Exit::Trap { kind: trap, length }, "{code:x?}");
            assert_eq!(cpu.instructions, 2, "{code:x?}");
        }
    }
}

/// A native single step does one iteration of a rep string.
#[test]
fn rep_strings_stop_between_iterations() {
    pin_thread().expect("one CPU");
    let mut random = Random::new(5);
    let mut machine = Machine::new(Options::default()).expect("machine");
    let mut space = Sandbox::space(&mut machine).expect("space");
    let mut sandbox = Sandbox::new().expect("sandbox");
    let mut memory = vec![0; data_bytes()];
    // Equal stretches, so that repeated comparisons go on for a while.
    memory.chunks_mut(61).for_each(|chunk| chunk[0] = random.word() as u8);
    sandbox.set_memory(&memory).expect("memory");
    set_guest_memory(&mut space, &memory).expect("memory");
    let mut cuts = 0;
    for round in 0..3000 {
        let rex: &[u8] = random.pick(&[&[], &[0x48], &[0x41], &[0x4f]]);
        let size: &[u8] = random.pick(&[&[], &[0x66]]);
        let repeat = random.pick(&[0xf3, 0xf2]);
        let operation = random.pick(&[0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf]);
        let code = [size, &[repeat], rex, &[operation, 0xcc]].concat();
        let address = CODE_AREA.start + 64 * random.below(60);
        sandbox.set_code(address, &code).expect("code");
        space.write(Address(address), &code).expect("code");
        let mut cpu = machine::Cpu { rip: Address(address), ..Default::default() };
        cpu.vector = random_vector(&mut random);
        if random.chance(30) {
            cpu.rflags |= machine::FLAG_DIRECTION;
        }
        let middle = NEAR_AREA.start + 0x1000;
        cpu.general[gpr::RAX] = 0;
        cpu.general[gpr::RCX] = random.below(40);
        cpu.general[gpr::RSI] = middle + random.below(0x800);
        cpu.general[gpr::RDI] = cpu.general[gpr::RSI] + random.below(80) - 40;
        cpu.general[gpr::RSP] = STACK_AREA.start + 0x1000;
        let states = sandbox.trace(&cpu, 45).expect("trace");
        let whole = states.iter().take_while(|state| state.rip == Address(address)).count() as u64;
        let observers = Observers {
            written_words: round % 2 == 0,
            stores: round % 3 == 0,
            ..Default::default()
        };
        if round % 500 == 0 {
            machine.set_observers(observers).expect("observers");
        }
        let cut = random.below(whole + 3);
        let mut found = cpu.clone();
        let exit = machine.step(&mut space, &mut found, Some(cut)).expect("step");
        assert_eq!(exit, Exit::InstructionLimit);
        let text = disassemble(&code, Address(address), 1);
        let expected = match cut {
            // No iteration: nothing, unless the count is 0.
            0 if cpu.general[gpr::RCX] != 0 => cpu.clone(),
            0 => states[0].clone(),
            _ => states[(cut - 1).min(whole) as usize].clone(),
        };
        let lines = differences(&expected, &found, Extent::WithVector);
        assert!(
            lines.is_empty(),
            "{cut} of {whole} iterations of {text}{:x?}: {lines:?}",
            cpu.general
        );
        let retired = u64::from(found.rip != Address(address));
        assert_eq!(found.instructions, retired, "{cut} of {whole} iterations of {text}");
        cuts += 1 - retired;
        // The rest at once.
        if retired == 0 {
            let exit = machine.step(&mut space, &mut found, None).expect("step");
            assert_eq!(exit, Exit::InstructionLimit);
            let last = &states[whole as usize];
            let lines = differences(last, &found, Extent::WithVector);
            assert!(
                lines.is_empty(),
                "rest after {cut} of {whole} iterations of {text}: {lines:?}"
            );
        }
        set_guest_memory(&mut space, &memory).expect("memory");
    }
    let mut now = memory.clone();
    guest_memory(&space, &mut now).expect("memory");
    assert!(now == memory);
    println!("{cuts} cut short");
}

#[test]
fn code_runs_across_unit_borders_and_off_its_end() {
    let mut machine = Machine::new(Options::default()).expect("machine");
    let mut space = machine.new_space().expect("space");
    let protection = Protection { read: true, write: false, execute: true };
    // Start and end of code of nops, with a jump over the middle for good measure.
    for (start, end) in [
        (0x7ffe_ffff_e000, 0x7fff_0000_2000),
        (0x1_0000_0000 - 0x1000, 0x1_0000_0000),
        (0x1_0000_0000 - 0x1000, 0x1_0000_1000),
        (0x7fff_ffff_e000, 0x7fff_ffff_f000),
        (0x1_0000, 0x1_2000),
    ] {
        space.map(Address(start)..Address(end), protection, Backing::Zero).expect("map");
        space.write(Address(start), &vec![0x90; (end - start) as usize]).expect("write");
        for limit in [1, 100, u64::MAX] {
            let mut cpu = machine::Cpu { rip: Address(start + 5), ..Default::default() };
            let exit = loop {
                let instructions = cpu.instructions.checked_add(limit);
                match machine
                    .run(&mut space, &mut cpu, Limits { instructions, ticks: None })
                    .expect("run")
                {
                    Exit::InstructionLimit => {}
                    exit => break exit,
                }
            };
            let Exit::Fault(fault) = exit else { panic!("{exit:?}") };
            const SEGV_MAPERR: i32 = 1;
            assert_eq!((fault.signal, fault.code), (libc::SIGSEGV, SEGV_MAPERR));
            assert_eq!((cpu.rip, fault.address), (Address(end), Address(end)));
            assert_eq!(cpu.instructions, end - start - 5);
        }
        space.unmap(Address(start)..Address(end)).expect("unmap");
    }
}
