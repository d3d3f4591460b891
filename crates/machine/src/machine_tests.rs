//! The smallest programs: does anything run at all?

use model::{Address, gpr};

use crate::{Backing, Cpu, Exit, Limits, Machine, Options, Protection, Space, Trap};

const CODE: Address = Address(0x40_0000);
const DATA: Address = Address(0x7fff_0000_0000);

fn space_with(machine: &mut Machine, code: &[u8]) -> (Space, Cpu) {
    let mut space = machine.new_space().unwrap();
    let rx = Protection { read: true, write: false, execute: true };
    let rw = Protection { read: true, write: true, execute: false };
    space.map(CODE.range(4096), rx, Backing::Zero).unwrap();
    space.map(DATA.range(65536), rw, Backing::Zero).unwrap();
    space.write(CODE, code).unwrap();
    let mut cpu = Cpu { rip: CODE, ..Cpu::default() };
    cpu.general[gpr::RSP] = DATA.0 + 65536;
    (space, cpu)
}

fn run(code: &[u8], limits: Limits) -> (Exit, Cpu) {
    let mut machine = Machine::new(Options::default()).unwrap();
    let (mut space, mut cpu) = space_with(&mut machine, code);
    let exit = machine.run(&mut space, &mut cpu, limits).unwrap();
    (exit, cpu)
}

#[test]
fn loops_and_counts() {
    // mov ecx, 1000000; push rcx; pop r10; mov r10,[rsp-8]; dec ecx; jnz -10; syscall
    let code = [
        0xb9, 0x40, 0x42, 0x0f, 0x00, 0x51, 0x41, 0x5a, 0x4c, 0x8b, 0x54, 0x24, 0xf8, 0xff, 0xc9,
        0x75, 0xf4, 0x0f, 0x05,
    ];
    let (exit, cpu) = run(&code, Limits::default());
    assert_eq!(exit, Exit::Trap { kind: Trap::Syscall, length: 2 });
    assert_eq!(cpu.instructions, 1 + 5 * 1_000_000);
    assert_eq!(cpu.ticks, 1_000_000);
    assert_eq!(cpu.general[gpr::R10], 1);
    for limit in [1, 2, 63, 64, 65, 66, 67, 1000, 12345, 300_001, 4_999_999] {
        let (exit, cpu) = run(&code, Limits { instructions: Some(limit), ticks: None });
        assert_eq!((exit, cpu.instructions), (Exit::InstructionLimit, limit));
        assert_eq!(cpu.ticks, (limit - 1) / 5);
        let (exit, cpu) = run(&code, Limits { ticks: Some(limit), instructions: None });
        if limit <= 1_000_000 {
            assert_eq!((exit, cpu.instructions), (Exit::TickLimit, limit * 5 + 1));
        }
    }
}

#[test]
fn equal_code_is_translated_once() {
    // mov ecx, 300; L: test ecx, 1; jz +2; nop; nop; call F; dec ecx; jnz L; syscall; F: inc rax; ret
    let code = [
        0xb9, 0x2c, 0x01, 0x00, 0x00, 0xf7, 0xc1, 0x01, 0x00, 0x00, 0x00, 0x74, 0x02, 0x90, 0x90,
        0xe8, 0x06, 0x00, 0x00, 0x00, 0xff, 0xc9, 0x75, 0xed, 0x0f, 0x05, 0x48, 0xff, 0xc0, 0xc3,
    ];
    let mut machine = Machine::new(Options::default()).unwrap();
    let mut all = Vec::new();
    let mut translated = None;
    for n in 0..5 {
        let (mut space, mut cpu) = space_with(&mut machine, &code);
        let exit = machine.run(&mut space, &mut cpu, Limits::default()).unwrap();
        assert_eq!(exit, Exit::Trap { kind: Trap::Syscall, length: 2 });
        assert_eq!((cpu.general[gpr::RAX], cpu.ticks), (300, 600));
        let blocks = machine.statistics().blocks_translated;
        assert_eq!(*translated.get_or_insert(blocks), blocks, "space {n}");
        all.push(space);
    }
    assert!(machine.statistics().blocks_copied > 0);
    // Other bytes at the same place are other code.
    let mut other = code;
    other[27] = 0x83; // inc rax -> 83 c0 c3: add eax, -61
    let (mut space, mut cpu) = space_with(&mut machine, &other);
    let limits = Limits { instructions: Some(100), ticks: None };
    machine.run(&mut space, &mut cpu, limits).unwrap();
    assert!(machine.statistics().blocks_translated > translated.unwrap());
}
