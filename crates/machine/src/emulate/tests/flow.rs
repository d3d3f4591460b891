//! Stack instructions and near transfers, at every kind of stack.

use iced_x86::{Code, Instruction, MemoryOperand, Register};
use model::{PAGE_SIZE, gpr};

use super::{Bench, CLOSED, CODE, DATA, ISLAND, READ_ONLY, STACK, UNMAPPED, encode};
use crate::Cpu;

const GENERAL: [Register; 16] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RBX,
    Register::RSP,
    Register::RBP,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// Mostly good places for 8 bytes, sometimes borders and bad ones.
fn pointer(bench: &mut Bench) -> u64 {
    let border = [DATA, READ_ONLY, UNMAPPED, ISLAND, ISLAND + 2 * PAGE_SIZE, CLOSED, 1 << 47, 0];
    match bench.random().below(3) {
        0 => bench.random().pick(&border).wrapping_add(bench.random().below(32)).wrapping_sub(16),
        1 => STACK + 64 + bench.random().below(3 * PAGE_SIZE),
        _ => DATA + 64 + bench.random().below(3 * PAGE_SIZE),
    }
}

fn cpu(bench: &mut Bench) -> Cpu {
    let mut cpu = bench.cpu();
    for number in 0..16 {
        if number != gpr::RSP || bench.random().below(3) == 0 {
            cpu.general[number] = pointer(bench);
        }
    }
    cpu
}

fn memory(bench: &mut Bench) -> MemoryOperand {
    let base = bench.random().pick(&GENERAL);
    let displacement = bench.random().below(32) as i64 - 16;
    let size = if displacement == 0 { 0 } else { 1 };
    MemoryOperand::with_base_displ_size(base, displacement, size)
}

#[test]
fn push_and_pop() {
    let mut bench = Bench::new(10);
    for _ in 0..6000 {
        let cpu = cpu(&mut bench);
        let register = bench.random().pick(&GENERAL);
        let half = Register::AX + (register as u32 - Register::RAX as u32);
        let memory = memory(&mut bench);
        let instruction = match bench.random().below(12) {
            0 => Instruction::with1(Code::Push_r64, register),
            1 => Instruction::with1(Code::Push_r16, half),
            2 => Instruction::with1(Code::Push_rm64, memory),
            3 => Instruction::with1(Code::Push_rm16, memory),
            4 => Instruction::with1(Code::Pop_r64, register),
            5 => Instruction::with1(Code::Pop_r16, half),
            6 => Instruction::with1(Code::Pop_rm64, memory),
            7 => Instruction::with1(Code::Pop_rm16, memory),
            8 => Instruction::with1(Code::Pushq_imm32, -5000),
            9 => Instruction::with1(Code::Push_imm16, 0x9234),
            10 => Instruction::with1(Code::Pushq_imm8, -3),
            _ => Instruction::with1(Code::Pushw_imm8, -3),
        };
        bench.check(&encode(&instruction.unwrap()), &cpu);
    }
}

#[test]
fn frames() {
    let mut bench = Bench::new(11);
    for _ in 0..6000 {
        let cpu = cpu(&mut bench);
        let [low, high] = (bench.random().below(300) as u16 * 40).to_le_bytes();
        let level = bench.random().pick(&[0, 0, 1, 2, 3, 7, 31, 32, 37]);
        let code = match bench.random().below(4) {
            0 => vec![0xc9],
            1 => vec![0x66, 0xc9],
            2 => vec![0xc8, low, high, level],
            _ => vec![0x66, 0xc8, low, high, level],
        };
        bench.check(&code, &cpu);
    }
}

#[test]
fn flags() {
    let mut bench = Bench::new(12);
    for _ in 0..3000 {
        let mut cpu = cpu(&mut bench);
        cpu.rflags ^= bench.random().next() & 0x0020_4cd5;
        // The trap flag would trap.
        let image = bench.random().next() & !0x100;
        if (STACK..STACK + 3 * PAGE_SIZE).contains(&cpu.general[gpr::RSP]) {
            bench.write(cpu.general[gpr::RSP], &image.to_le_bytes());
            let code: &[u8] = bench.random().pick(&[&[0x9d][..], &[0x66, 0x9d]]);
            bench.check(code, &cpu);
        }
        let code: &[u8] = bench.random().pick(&[&[0x9c][..], &[0x66, 0x9c]]);
        bench.check(code, &cpu);
    }
}

#[test]
fn transfers() {
    let mut bench = Bench::new(13);
    for _ in 0..6000 {
        let mut cpu = cpu(&mut bench);
        // Breakpoints fill the code pages; elsewhere there is nothing to execute.
        let mut target = CODE + 64 + bench.random().below(PAGE_SIZE);
        if bench.random().below(8) == 0 {
            target = bench.random().pick(&[1 << 47, 0xffff_7fff_ffff_ffff, 1 << 63]);
        }
        let register = bench.random().pick(&GENERAL);
        let memory = memory(&mut bench);
        let place = match memory.base {
            Register::None => 0,
            base => cpu.general[base.number()].wrapping_add(memory.displacement as u64),
        };
        let mut put = |place: u64| {
            let writable = (STACK..STACK + 4 * PAGE_SIZE - 8).contains(&place)
                || (DATA..DATA + 4 * PAGE_SIZE - 8).contains(&place);
            if writable {
                bench.write(place, &target.to_le_bytes());
            }
            writable
        };
        let instruction = match cpu.general[0] % 8 {
            0 => Instruction::with_branch(Code::Call_rel32_64, target),
            1 => Instruction::with_branch(Code::Jmp_rel32_64, CODE + 100),
            2 | 3 => {
                cpu.general[register.number()] = target;
                let code = [Code::Call_rm64, Code::Jmp_rm64][cpu.general[1] as usize % 2];
                Instruction::with1(code, register)
            }
            4 | 5 if put(place) => {
                let code = [Code::Call_rm64, Code::Jmp_rm64][cpu.general[1] as usize % 2];
                Instruction::with1(code, memory)
            }
            _ if put(cpu.general[gpr::RSP]) => match cpu.general[1] % 2 {
                0 => Ok(Instruction::with(Code::Retnq)),
                _ => Instruction::with1(Code::Retnq_imm16, 0xfff8),
            },
            _ => continue,
        };
        let instruction = instruction.unwrap();
        if !matches!(instruction.code(), Code::Call_rel32_64) || target < 1 << 32 {
            bench.check(&encode(&instruction), &cpu);
        }
    }
}
