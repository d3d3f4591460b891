//! The smallest programs: does anything run at all?

use model::{Address, gpr};

use crate::{Backing, Cpu, Exit, Limits, Machine, Options, Protection, Trap};

const CODE: Address = Address(0x40_0000);
const DATA: Address = Address(0x7fff_0000_0000);

fn run(code: &[u8], limits: Limits) -> (Exit, Cpu) {
    let mut machine = Machine::new(Options::default()).unwrap();
    let mut space = machine.new_space().unwrap();
    let rx = Protection { read: true, write: false, execute: true };
    let rw = Protection { read: true, write: true, execute: false };
    space.map(CODE.range(4096), rx, Backing::Zero).unwrap();
    space.map(DATA.range(65536), rw, Backing::Zero).unwrap();
    space.write(CODE, code).unwrap();
    let mut cpu = Cpu { rip: CODE, ..Cpu::default() };
    cpu.general[gpr::RSP] = DATA.0 + 65536;
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
