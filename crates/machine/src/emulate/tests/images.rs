//! State images: what is stored, what is loaded, what is refused.

use model::{PAGE_SIZE, gpr};

use super::{Bench, DATA, READ_ONLY, UNMAPPED};
use crate::emulate::components::{self, X87};
use crate::emulate::host::host;
use crate::{Component, Cpu, StateImages};

const SAVES: [&[u8]; 6] = [
    &[0x0f, 0xae, 0x23],       // xsave [rbx]
    &[0x48, 0x0f, 0xae, 0x23], // xsave64
    &[0x0f, 0xc7, 0x23],       // xsavec
    &[0x48, 0x0f, 0xc7, 0x23],
    &[0x0f, 0xae, 0x33], // xsaveopt
    &[0x48, 0x0f, 0xae, 0x33],
];
const RESTORES: [&[u8]; 2] = [&[0x0f, 0xae, 0x2b], &[0x48, 0x0f, 0xae, 0x2b]];

fn random_x87(bench: &mut Bench) -> X87 {
    let mut x87 = X87::INITIAL;
    x87.control = 0x37f & !(bench.random().next() as u16 & 0xc00);
    x87.status = bench.random().next() as u16 & 0x7f7f;
    x87.valid = bench.random().next() as u8;
    for register in &mut x87.registers {
        register.copy_from_slice(&bench.random().bytes(10));
        match bench.random().below(8) {
            0 => register.fill(0),
            1 => register[8..].fill(0),
            2 => register[8..].fill(0xff),
            3 => register[7] |= 0x80,
            4 => register[7] &= 0x7f,
            _ => {}
        }
    }
    x87
}

/// Random components, some of them initial.
fn cpu(bench: &mut Bench) -> Cpu {
    let mut cpu = bench.cpu();
    let x87 = random_x87(bench);
    components::set_x87(&mut cpu.vector, &x87);
    let kept = bench.random().next() | bench.random().next();
    cpu.vector.set_xstate_bv(cpu.vector.xstate_bv() & kept);
    // The kernel takes no MXCSR from the tracer without SSE state.
    let sse = cpu.vector.xstate_bv() & 2 != 0;
    let mxcsr = bench.random().pick(&[0x1f80, 0x9fff, 0x7fa1]);
    let mxcsr = if sse { mxcsr } else { components::MXCSR_INITIAL };
    components::set_mxcsr(&mut cpu.vector, mxcsr);
    cpu.general[gpr::RBX] = DATA + 64 * bench.random().below(32);
    if bench.random().below(4) == 0 {
        cpu.general[gpr::RAX] = u64::MAX;
    }
    cpu
}

#[test]
fn saves() {
    let mut bench = Bench::new(40);
    for round in 0..3000 {
        let mut cpu = cpu(&mut bench);
        let old = bench.random().next();
        bench.write(cpu.general[gpr::RBX] + 512, &old.to_le_bytes());
        if bench.random().below(8) == 0 {
            cpu.general[gpr::RBX] += bench.random().pick(&[1, 8, 32]);
        }
        bench.check_save(SAVES[round % SAVES.len()], &cpu);
    }
}

#[test]
fn saves_that_fault() {
    let mut bench = Bench::new(41);
    for round in 0..500 {
        let mut cpu = cpu(&mut bench);
        cpu.general[gpr::RBX] = bench.random().pick(&[READ_ONLY, 1 << 47, READ_ONLY - 512]);
        bench.check_save(SAVES[round % SAVES.len()], &cpu);
    }
}

#[test]
fn legacy_images() {
    let mut bench = Bench::new(42);
    for round in 0..2000 {
        let mut cpu = cpu(&mut bench);
        cpu.general[gpr::RBX] += 16 * bench.random().below(4);
        if bench.random().below(8) == 0 {
            cpu.general[gpr::RBX] += bench.random().pick(&[1, 8]);
        }
        let codes: [&[u8]; 4] = [
            &[0x0f, 0xae, 0x03],
            &[0x0f, 0xae, 0x0b],
            &[0x48, 0x0f, 0xae, 0x03],
            &[0x48, 0x0f, 0xae, 0x0b],
        ];
        let code = codes[round % 4];
        if round % 2 == 1 {
            put_image(&mut bench, &cpu);
        }
        bench.check(code, &cpu);
    }
}

/// Writes a valid legacy region to where rbx points.
fn put_image(bench: &mut Bench, cpu: &Cpu) {
    let at = cpu.general[gpr::RBX];
    let x87 = random_x87(bench);
    bench.write(at, &x87.header());
    let mxcsr: u32 = bench.random().pick(&[0x1f80, 0x1fa0, 0x9fff, 0x1_1f80]);
    bench.write(at + 24, &mxcsr.to_le_bytes());
    bench.write(at + 32, &x87.slots());
}

#[test]
fn restores() {
    let mut bench = Bench::new(43);
    for round in 0..4000 {
        let mut cpu = cpu(&mut bench);
        put_image(&mut bench, &cpu);
        let at = cpu.general[gpr::RBX];
        let compacted = bench.random().below(2) == 0;
        let format = (bench.random().next() | bench.random().next()) & host().images.xcr0 | 1 << 63;
        let mut header = [0_u8; 64];
        let mut bits = bench.random().next() & host().images.xcr0;
        if compacted {
            header[8..16].copy_from_slice(&format.to_le_bytes());
            bits &= format;
        }
        header[..8].copy_from_slice(&bits.to_le_bytes());
        match bench.random().below(20) {
            0 => header[bench.random().below(64) as usize] ^= 0x10,
            1 => header[bench.random().below(24) as usize] ^= 1 << (round % 8),
            _ => {}
        }
        bench.write(at + 512, &header);
        if bench.random().below(12) == 0 {
            cpu.general[gpr::RBX] += bench.random().pick(&[1, 8, 32]);
        }
        bench.check(RESTORES[round % 2], &cpu);
    }
}

/// MXCSR outlives SSE registers that become initial.
#[test]
fn restored_mxcsr_is_kept() {
    let mut bench = Bench::new(47);
    let mut cpu = bench.cpu();
    cpu.general[gpr::RAX] = 2;
    cpu.general[gpr::RBX] = DATA;
    bench.write(DATA + 24, &0x9fc0_u32.to_le_bytes());
    bench.write(DATA + 512, &[0; 64]);
    let instruction = super::decode(RESTORES[0], super::CODE);
    super::emulate(&mut bench.space, &mut cpu, &instruction, None).unwrap();
    let state = cpu.vector.normalised();
    assert_eq!(components::mxcsr(&state), 0x9fc0);
    assert_eq!(components::in_use(&state) & 2, 0);
}

#[test]
fn restores_that_fault() {
    let mut bench = Bench::new(46);
    for round in 0..1000 {
        let mut cpu = cpu(&mut bench);
        let at = READ_ONLY + bench.random().pick(&[0xe00, 0xe40, 0xdc0, 0x1000, 0x900, 0x700]);
        cpu.general[gpr::RBX] = bench.random().pick(&[at, at, 1 << 47]);
        let mut header = [0_u8; 64];
        header[..8].copy_from_slice(&(bench.random().next() & host().images.xcr0).to_le_bytes());
        if bench.random().below(2) == 0 {
            header[8..16].copy_from_slice(&(host().images.xcr0 | 1 << 63).to_le_bytes());
        }
        if at + 576 <= UNMAPPED {
            put_image(&mut bench, &Cpu { general: [at; 16], ..cpu.clone() });
            bench.write(at + 24, &0x1f80_u32.to_le_bytes());
            bench.write(at + 512, &header);
        }
        bench.check(RESTORES[round % 2], &cpu);
    }
}

/// A recording's processor may have its components elsewhere than the host, and another mask.
#[test]
fn images_of_another_processor() {
    let mut bench = Bench::new(48);
    let mut offset = 576;
    // Places that no processor has: the components backwards.
    let theirs = (2..63).rev().filter_map(|number| {
        let size = host().component(number)?.size;
        offset += size;
        Some((number, Component { offset: offset - size, size, aligned: false }))
    });
    let theirs: Vec<_> = theirs.collect();
    let images = StateImages::new(host().images.xcr0, 0x12_ffff, theirs.clone());
    let code = |bytes| super::decode(bytes, super::CODE);
    for save in SAVES {
        let mut cpu = bench.cpu();
        cpu.general[gpr::RAX] = u64::MAX;
        cpu.general[gpr::RBX] = DATA;
        let before = cpu.clone();
        bench.write(DATA, &[0; 4096]);
        let save = code(save);
        super::super::emulate(&mut bench.space, &mut cpu, &save, &images, None).unwrap();
        let mut image = vec![0; 4096];
        bench.space.read(model::Address(DATA), &mut image).unwrap();
        assert_eq!(image[28..32], 0x12_ffff_u32.to_le_bytes());
        if image[527] & 0x80 == 0 {
            for (number, place) in &theirs {
                let found = &image[place.offset..place.offset + place.size];
                let expected = components::component_bytes(&before.vector, *number);
                assert!(expected.is_none_or(|bytes| bytes == found), "component {number}");
            }
        }
        cpu.vector = crate::VectorState::default();
        let restore = code(RESTORES[0]);
        super::super::emulate(&mut bench.space, &mut cpu, &restore, &images, None).unwrap();
        assert!(cpu.vector == before.vector, "{save}");
    }
}

#[test]
fn environments() {
    let mut bench = Bench::new(44);
    for round in 0..3000 {
        let mut cpu = cpu(&mut bench);
        cpu.general[gpr::RBX] += bench.random().below(64);
        if bench.random().below(10) == 0 {
            cpu.general[gpr::RBX] = READ_ONLY - bench.random().below(120);
        }
        let codes: [&[u8]; 4] =
            [&[0xd9, 0x33], &[0x66, 0xd9, 0x33], &[0xdd, 0x33], &[0x66, 0xdd, 0x33]];
        bench.check(codes[round % 4], &cpu);
    }
}

/// With exceptions that are raised and not masked.
#[test]
fn pending_exceptions() {
    let mut bench = Bench::new(45);
    for round in 0..1000 {
        let mut cpu = cpu(&mut bench);
        let mut x87 = random_x87(&mut bench);
        x87.control &= !(bench.random().next() as u16 & 0x3f);
        if x87.is_pending() {
            x87.status |= 0x8080;
        }
        components::set_x87(&mut cpu.vector, &x87);
        cpu.general[gpr::RDI] = DATA + PAGE_SIZE;
        let codes: [&[u8]; 5] = [
            &[0xd9, 0x33],
            &[0xdd, 0x33],
            &[0x0f, 0xf7, 0xca],
            &[0x0f, 0xae, 0x23],
            &[0x0f, 0xae, 0x03],
        ];
        bench.check_save(codes[round % 5], &cpu);
    }
}
