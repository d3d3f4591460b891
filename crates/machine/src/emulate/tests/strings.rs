//! String instructions: every prefix, width and direction, at page borders and with overlap.

use model::{Address, PAGE_SIZE, gpr};

use super::{Bench, CLOSED, CODE, DATA, ISLAND, READ_ONLY, UNMAPPED, decode, emulate};
use crate::emulate::Outcome;
use crate::{Cpu, FLAG_DIRECTION};

/// movs, stos, lods, scas, cmps: byte form; the wide form is the next opcode.
const OPCODES: [u8; 5] = [0xa4, 0xaa, 0xac, 0xae, 0xa6];

fn pointer(bench: &mut Bench) -> u64 {
    let border = [DATA, DATA + PAGE_SIZE, READ_ONLY, UNMAPPED, ISLAND, ISLAND + 2 * PAGE_SIZE];
    match bench.random().below(8) {
        0 => CLOSED + bench.random().below(PAGE_SIZE),
        1..5 => bench.random().pick(&border).wrapping_add(bench.random().below(80)) - 40,
        _ => DATA + 256 + bench.random().below(3 * PAGE_SIZE),
    }
}

fn random_case(bench: &mut Bench) -> (Vec<u8>, Cpu) {
    let mut cpu = bench.cpu();
    let mut code = Vec::new();
    let narrow = bench.random().below(3) == 0;
    code.extend(narrow.then_some(0x67));
    let segment = bench.random().below(5);
    code.extend([0x64, 0x65].get(segment as usize));
    let repeat = bench.random().below(4);
    code.extend([0xf3, 0xf2, 0xf3].get(repeat as usize));
    let opcode = bench.random().pick(&OPCODES);
    match bench.random().below(4) {
        0 => code.push(opcode),
        1 => code.extend([0x66, opcode + 1]),
        2 => code.push(opcode + 1),
        _ => code.extend([0x48, opcode + 1]),
    }
    let high = |bench: &mut Bench| if narrow { bench.random().next() << 32 } else { 0 };
    let mut source = pointer(bench);
    let mut target = pointer(bench);
    if bench.random().below(2) == 0 {
        target = source.wrapping_add(bench.random().below(40)) - 20;
    }
    if segment < 2 {
        source = source.wrapping_sub([cpu.fs_base, cpu.gs_base][segment as usize]);
        source = if narrow { source & 0xffff_ffff } else { source };
    }
    match bench.random().below(40) {
        0 if !narrow => source = 1 << 47,
        1 if !narrow => target = (1 << 47) - 3,
        2 => target = 0xffff_fff0,
        3 if !narrow => target = 0_u64.wrapping_sub(bench.random().below(20)),
        4 if !narrow => target = 0xffff_8000_0000_0000 | bench.random().next() >> 17,
        5 if !narrow => source = 0_u64.wrapping_sub(bench.random().below(20)),
        _ => {}
    }
    cpu.general[gpr::RSI] = source | high(bench);
    cpu.general[gpr::RDI] = target | high(bench);
    let count = match bench.random().below(4) {
        0 => bench.random().below(3),
        1 => bench.random().below(30),
        2 => bench.random().below(200),
        _ => bench.random().below(5000),
    };
    cpu.general[gpr::RCX] = count | high(bench);
    if bench.random().below(3) == 0 {
        cpu.rflags |= FLAG_DIRECTION;
    }
    // Make some memory compare equal.
    if bench.random().below(2) == 0 {
        let zeroes = vec![0; 3000];
        bench.write(DATA + PAGE_SIZE, &zeroes);
        if bench.random().below(2) == 0 {
            cpu.general[gpr::RAX] = 0;
        }
    }
    (code, cpu)
}

#[test]
fn strings() {
    let mut bench = Bench::new(1);
    for _ in 0..4000 {
        let (code, cpu) = random_case(&mut bench);
        bench.check(&code, &cpu);
    }
}

/// Portions give the same end as the whole, and the count of iterations is exact.
#[test]
fn portions() {
    let mut whole = Bench::new(2);
    let mut parts = Bench::new(2);
    for _ in 0..500 {
        let (code, cpu) = random_case(&mut whole);
        random_case(&mut parts);
        let instruction = decode(&code, CODE);
        let mut expected = cpu.clone();
        let outcome = emulate(&mut whole.space, &mut expected, &instruction, None).unwrap();
        let mut actual = cpu.clone();
        let mut steps = 0;
        let end = loop {
            let portion = 1 + parts_random(&mut steps);
            let before = actual.general[gpr::RCX] as u32;
            match emulate(&mut parts.space, &mut actual, &instruction, Some(portion)).unwrap() {
                Outcome::Partial => {
                    assert_eq!(actual.rip, Address(CODE));
                    assert_eq!(before - actual.general[gpr::RCX] as u32, portion as u32);
                }
                other => break other,
            }
        };
        assert_eq!(end, outcome);
        assert_eq!(actual.general, expected.general);
        assert_eq!(actual.rip, expected.rip);
        if end == Outcome::Done {
            assert_eq!(actual.rflags, expected.rflags);
        }
        let read = |bench: &Bench| {
            let mut bytes = vec![0; 4 * PAGE_SIZE as usize];
            bench.space.read(Address(DATA), &mut bytes).unwrap();
            bytes
        };
        assert!(read(&whole) == read(&parts));
    }
}

fn parts_random(steps: &mut u64) -> u64 {
    *steps = steps.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*steps >> 33) % 700
}
