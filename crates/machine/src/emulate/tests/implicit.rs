//! Bit tests, implicit pointers, segments and their bases, refusals.

use std::arch::x86_64::__cpuid_count;

use iced_x86::{Code, Instruction, MemoryOperand, Register};
use model::{PAGE_SIZE, gpr};

use super::{Bench, CLOSED, CODE, DATA, ISLAND, READ_ONLY, UNMAPPED, decode, emulate, encode};
use crate::emulate::Outcome;

fn pointer(bench: &mut Bench) -> u64 {
    let border = [DATA, READ_ONLY, UNMAPPED, ISLAND, ISLAND + 2 * PAGE_SIZE, CLOSED, 1 << 47, 0];
    match bench.random().below(3) {
        0 => bench.random().pick(&border).wrapping_add(bench.random().below(64)).wrapping_sub(32),
        _ => DATA + 64 + bench.random().below(3 * PAGE_SIZE),
    }
}

#[test]
fn bit_tests() {
    let mut bench = Bench::new(20);
    let opcodes = [0xa3, 0xab, 0xb3, 0xbb];
    for _ in 0..8000 {
        let mut cpu = bench.cpu();
        cpu.general[gpr::RBX] = pointer(&mut bench);
        cpu.general[gpr::RBP] = pointer(&mut bench);
        let offset = bench.random().next() as i64 >> bench.random().pick(&[63, 58, 56, 50, 47, 20]);
        cpu.general[gpr::RCX] = offset as u64;
        let operation = bench.random().below(4) as usize;
        let mut code = Vec::new();
        let narrow = bench.random().below(5) == 0;
        code.extend(narrow.then_some(0x67));
        let segment = bench.random().below(8);
        code.extend([0x64, 0x65, 0x3e, 0x36].get(segment as usize));
        if segment < 2 {
            let base = [cpu.fs_base, cpu.gs_base][segment as usize];
            cpu.general[gpr::RBX] = cpu.general[gpr::RBX].wrapping_sub(base);
        }
        // [rbx], [rbp + 8], rdx; the bit offset is in rcx or 77.
        let form = bench.random().below(4);
        if operation != 0 && form != 2 && bench.random().below(4) == 0 {
            code.push(0xf0);
        }
        code.extend([0x66, 0x48].get(bench.random().below(3) as usize));
        if bench.random().below(4) == 0 {
            let extension = 0x20 | (operation as u8) << 3;
            match form {
                0 => code.extend([0x0f, 0xba, 0x03 | extension, 77]),
                1 => code.extend([0x0f, 0xba, 0x45 | extension, 8, 77]),
                _ => code.extend([0x0f, 0xba, 0xc2 | extension, 77]),
            }
            if form == 3 && code.contains(&0xf0) {
                continue;
            }
        } else {
            match form {
                0 => code.extend([0x0f, opcodes[operation], 0x0b]),
                1 => code.extend([0x0f, opcodes[operation], 0x4d, 8]),
                2 => code.extend([0x0f, opcodes[operation], 0xca]),
                _ => code.extend([0x0f, opcodes[operation], 0x0b]),
            }
        }
        bench.check(&code, &cpu);
    }
}

#[test]
fn xlat() {
    let mut bench = Bench::new(21);
    for _ in 0..1000 {
        let mut cpu = bench.cpu();
        cpu.general[gpr::RBX] = pointer(&mut bench);
        let code: &[u8] = bench.random().pick(&[&[0xd7][..], &[0x67, 0xd7], &[0x64, 0xd7]]);
        if code[0] == 0x64 {
            cpu.general[gpr::RBX] = cpu.general[gpr::RBX].wrapping_sub(cpu.fs_base);
        }
        bench.check(code, &cpu);
    }
}

#[test]
fn masked_stores() {
    let mut bench = Bench::new(22);
    for _ in 0..6000 {
        let mut cpu = bench.cpu();
        cpu.general[gpr::RDI] = pointer(&mut bench);
        let mask: Vec<u8> = match bench.random().below(4) {
            0 => vec![0; 16],
            1 => vec![0xff; 16],
            2 => bench.random().bytes(16).iter().map(|byte| byte & 0x7f).collect(),
            _ => bench.random().bytes(16),
        };
        cpu.vector.0[160 + 32..160 + 48].copy_from_slice(&mask);
        if bench.random().below(2) == 0 {
            let mut x87 = crate::emulate::components::x87(&cpu.vector);
            x87.status = (bench.random().below(8) as u16) << 11 | 0x4000;
            x87.valid = bench.random().next() as u8;
            for register in &mut x87.registers {
                register.copy_from_slice(&bench.random().bytes(10));
            }
            if bench.random().below(2) == 0 {
                let slot = (2 + 8 - x87.top()) & 7;
                x87.registers[slot][..8].fill(0);
            }
            crate::emulate::components::set_x87(&mut cpu.vector, &x87);
        }
        let code: &[u8] = bench.random().pick(&[
            &[0x66, 0x0f, 0xf7, 0xca][..],
            &[0xc5, 0xf9, 0xf7, 0xca],
            &[0x0f, 0xf7, 0xca],
            &[0x67, 0x66, 0x0f, 0xf7, 0xca],
        ]);
        bench.check(code, &cpu);
    }
}

/// AMD's processors have clzero; on others against its definition.
#[test]
fn zeroed_lines() {
    let mut bench = Bench::new(23);
    // CPUID leaf 0x8000_0008, EBX bit 0.
    let native = __cpuid_count(0x8000_0000, 0).eax >= 0x8000_0008
        && __cpuid_count(0x8000_0008, 0).ebx & 1 != 0;
    for _ in 0..500 {
        let mut cpu = bench.cpu();
        cpu.general[gpr::RAX] = pointer(&mut bench);
        let code: &[u8] =
            bench.random().pick(&[&[0x0f, 0x01, 0xfc][..], &[0x67, 0x0f, 0x01, 0xfc]]);
        if native {
            bench.check(code, &cpu);
            continue;
        }
        let line = cpu.general[gpr::RAX] & !63;
        let around = model::Address(DATA)..model::Address(READ_ONLY);
        if !around.contains(&model::Address(line)) {
            continue;
        }
        let mut expected = vec![0; 4 * PAGE_SIZE as usize];
        bench.space.read(around.start, &mut expected).unwrap();
        expected[(line - DATA) as usize..][..64].fill(0);
        let outcome = emulate(&mut bench.space, &mut cpu, &decode(code, CODE), None).unwrap();
        assert_eq!(outcome, Outcome::Done);
        let mut found = vec![0; 4 * PAGE_SIZE as usize];
        bench.space.read(around.start, &mut found).unwrap();
        assert!(found == expected, "clzero at {line:#x}");
    }
}

/// Not every host has movdir64b: against its definition.
#[test]
fn moved_lines() {
    let mut bench = Bench::new(24);
    let memory = MemoryOperand::with_base(Register::RSI);
    let move_line = Instruction::with2(Code::Movdir64b_r64_m512, Register::RDI, memory).unwrap();
    let instruction = decode(&encode(&move_line), CODE);
    let mut cpu = bench.cpu();
    cpu.general[gpr::RSI] = DATA + 3;
    cpu.general[gpr::RDI] = DATA + 256;
    let outcome = emulate(&mut bench.space, &mut cpu, &instruction, None).unwrap();
    assert_eq!(outcome, Outcome::Done);
    let (mut source, mut target) = ([0; 64], [0; 64]);
    bench.space.read(model::Address(DATA + 3), &mut source).unwrap();
    bench.space.read(model::Address(DATA + 256), &mut target).unwrap();
    assert_eq!(source, target);
    cpu.general[gpr::RDI] += 8;
    cpu.rip = model::Address(CODE);
    let outcome = emulate(&mut bench.space, &mut cpu, &instruction, None).unwrap();
    assert!(matches!(outcome, Outcome::Fault(fault) if fault.code == 0x80));
}

#[test]
fn segments() {
    let mut bench = Bench::new(25);
    let codes: [&[u8]; 26] = [
        &[0x0f, 0xa0], // push fs
        &[0x66, 0x0f, 0xa0],
        &[0x0f, 0xa8], // push gs
        &[0x66, 0x0f, 0xa8],
        &[0x8c, 0xe0], // mov eax, fs
        &[0x8c, 0xd8], // mov eax, ds
        &[0x8c, 0xd0], // mov eax, ss
        &[0x8c, 0xc8], // mov eax, cs
        &[0x66, 0x8c, 0xc8],
        &[0x48, 0x8c, 0xc8],
        &[0x8c, 0x0b], // mov [rbx], cs
        &[0x48, 0x8c, 0x0b],
        &[0x8e, 0xe2],                   // mov fs, edx
        &[0x8e, 0xea],                   // mov gs, edx
        &[0x8e, 0xda],                   // mov ds, edx
        &[0x8e, 0xc2],                   // mov es, edx
        &[0x0f, 0xa1],                   // pop fs
        &[0x66, 0x0f, 0xa9],             // pop gs
        &[0xf3, 0x0f, 0xae, 0xc1],       // rdfsbase ecx
        &[0xf3, 0x48, 0x0f, 0xae, 0xc1], // rdfsbase rcx
        &[0xf3, 0x0f, 0xae, 0xc9],       // rdgsbase ecx
        &[0xf3, 0x48, 0x0f, 0xae, 0xc9],
        &[0xf3, 0x0f, 0xae, 0xd1], // wrfsbase ecx
        &[0xf3, 0x48, 0x0f, 0xae, 0xd1],
        &[0xf3, 0x0f, 0xae, 0xd9], // wrgsbase ecx
        &[0xf3, 0x48, 0x0f, 0xae, 0xd9],
    ];
    for round in 0..codes.len() * 20 {
        let mut cpu = bench.cpu();
        cpu.general[gpr::RBX] = pointer(&mut bench);
        cpu.general[gpr::RDX] &= !0xffff;
        cpu.general[gpr::RCX] >>= bench.random().pick(&[0, 17, 20]);
        let stack = cpu.general[gpr::RSP];
        bench.write(stack, &0xabcd_0000_u64.to_le_bytes());
        bench.check(codes[round % codes.len()], &cpu);
    }
}

#[test]
fn refusals() {
    let mut bench = Bench::new(26);
    let codes: [&[u8]; 37] = [
        &[0x0f, 0x0b],       // ud2
        &[0x0f, 0xff, 0xc0], // ud0
        &[0x0f, 0xb9, 0xc0], // ud1
        &[0x06],             // push es
        &[0xce],             // into
        &[0x8e, 0xc8],       // mov cs, eax
        &[0xf0, 0x90],       // lock nop
        &[0xfa],             // cli
        &[0xfb],             // sti
        &[0xf4],             // hlt
        &[0xec],             // in al, dx
        &[0xe7, 0x80],       // out 0x80, eax
        &[0x6c],             // insb
        &[0xf3, 0x6e],       // rep outsb
        &[0xcd, 0x00],       // int 0
        &[0xcd, 0x2c],       // int 0x2c
        &[0xcd, 0xff],       // int 0xff
        &[0x0f, 0x06],       // clts
        &[0x0f, 0x08],       // invd
        &[0x0f, 0x09],       // wbinvd
        &[0x0f, 0x30],       // wrmsr
        &[0x0f, 0x32],       // rdmsr
        &[0x0f, 0x01, 0xf8], // swapgs
        &[0x0f, 0x01, 0xd1], // xsetbv
        &[0x0f, 0x01, 0x13], // lgdt
        &[0x0f, 0x00, 0xd0], // lldt
        &[0x0f, 0x00, 0xd8], // ltr
        &[0x0f, 0x01, 0xf0], // lmsw
        &[0x0f, 0x01, 0x3b], // invlpg
        &[0x48, 0x0f, 0x07], // sysretq
        &[0x0f, 0x22, 0xd8], // mov cr3
        &[0x0f, 0x20, 0xd8], // mov from cr3
        &[0x0f, 0x23, 0xc0], // mov dr0
        &[0x0f, 0x01, 0xc8], // monitor
        &[0x0f, 0x01, 0xc9], // mwait
        &[0x0f, 0x01, 0xca], // clac
        &[0x0f, 0xc7, 0x2b], // xsaves [rbx]
    ];
    for code in codes {
        let mut cpu = bench.cpu();
        cpu.general[gpr::RBX] = DATA;
        bench.check(code, &cpu);
    }
}
