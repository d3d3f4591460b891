//! Watched ranges: every kind of access stops exactly, at the right place, and running goes on.
//!
//! What an instruction accesses is written down here by hand, from the manuals.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions};
use machine::{Exit, Limits, Machine, Observers, Options, Trap, Watch};
use model::{Address, gpr};
use testkit::{
    ALL_OBSERVERS, Drive, Extent, Guest, NO_OBSERVERS, differences, put_all_in_use, set_eax,
    set_ecx, set_rdi, set_vector_register,
};

const DATA: u64 = Guest::DATA;
/// Where rsp is at first.
const TOP: u64 = Guest::STACK + 0x1000;

/// One instruction that accesses memory.
struct Case {
    name: &'static str,
    /// Sets registers.
    prepare: Vec<u8>,
    access: Vec<u8>,
    writes: Vec<Range<u64>>,
    reads: Vec<Range<u64>>,
}

fn case(
    name: &'static str,
    prepare: &[&[u8]],
    access: &[u8],
    writes: &[Range<u64>],
    reads: &[Range<u64>],
) -> Case {
    Case {
        name,
        prepare: prepare.concat(),
        access: access.to_vec(),
        writes: writes.to_vec(),
        reads: reads.to_vec(),
    }
}

fn at(start: u64, length: u64) -> Range<u64> {
    start..start + length
}

/// `movabs $value,%rsi`
fn set_rsi(value: u64) -> Vec<u8> {
    [&[0x48, 0xbe][..], &value.to_le_bytes()].concat()
}

/// `mov $mask,%eax; kmovd %eax,%k1`
fn set_k1(mask: u32) -> Vec<u8> {
    [set_eax(mask), vec![0xc5, 0xfb, 0x92, 0xc8]].concat()
}

fn plain_stores() -> Vec<Case> {
    let mut cases = Vec::new();
    let forms: [(&str, &[u8], u64); 7] = [
        ("mov %al,(%rdi)", &[0x88, 0x07], 1),
        ("mov %ax,(%rdi)", &[0x66, 0x89, 0x07], 2),
        ("mov %eax,(%rdi)", &[0x89, 0x07], 4),
        ("mov %rax,(%rdi)", &[0x48, 0x89, 0x07], 8),
        ("movups %xmm0,(%rdi)", &[0x0f, 0x11, 0x07], 16),
        ("vmovups %ymm0,(%rdi)", &[0xc5, 0xfc, 0x11, 0x07], 32),
        ("fstpt (%rdi)", &[0xdb, 0x3f], 10),
    ];
    for (name, code, size) in forms {
        // In the middle, over borders of words, lines and pages, and at the last bytes.
        for place in [DATA + 0x40, DATA + 0x47, DATA + 0x7d, DATA + 0xfff, DATA + 0x8000 - size] {
            cases.push(case(name, &[&set_rdi(place)], code, &[at(place, size)], &[]));
        }
    }
    cases
}

fn modifying() -> Vec<Case> {
    let place = DATA + 0x105;
    let both = |name, code: &[u8], size| {
        case(name, &[&set_rdi(place)], code, &[at(place, size)], &[at(place, size)])
    };
    vec![
        both("incl (%rdi)", &[0xff, 0x07], 4),
        both("xchg %eax,(%rdi)", &[0x87, 0x07], 4),
        both("lock xadd %eax,(%rdi)", &[0xf0, 0x0f, 0xc1, 0x07], 4),
        // Writes the old value back when it fails (SDM vol. 2, CMPXCHG).
        case(
            "lock cmpxchg %ecx,(%rdi), fails",
            &[&set_rdi(place), &set_eax(5)],
            &[0xf0, 0x0f, 0xb1, 0x0f],
            &[at(place, 4)],
            &[at(place, 4)],
        ),
        case(
            "lock cmpxchg %ecx,(%rdi), succeeds",
            &[&set_rdi(place), &set_eax(0)],
            &[0xf0, 0x0f, 0xb1, 0x0f],
            &[at(place, 4)],
            &[at(place, 4)],
        ),
        case(
            "lock cmpxchg16b (%rdi)",
            &[&set_rdi(DATA + 0x40)],
            &[0xf0, 0x48, 0x0f, 0xc7, 0x0f],
            &[at(DATA + 0x40, 16)],
            &[at(DATA + 0x40, 16)],
        ),
        // Bit 100: the second eight bytes.
        case(
            "bts %rax,(%rdi)",
            &[&set_rdi(place), &set_eax(100)],
            &[0x48, 0x0f, 0xab, 0x07],
            &[at(place + 8, 8)],
            &[at(place + 8, 8)],
        ),
        case("mov (%rdi),%eax", &[&set_rdi(place)], &[0x8b, 0x07], &[], &[at(place, 4)]),
        case("test %eax,(%rdi)", &[&set_rdi(place)], &[0x85, 0x07], &[], &[at(place, 4)]),
        case("lods (%rsi),%al", &[&set_rsi(place)], &[0xac], &[], &[at(place, 1)]),
        // A prefetch reads nothing.
        case("prefetcht0 (%rdi)", &[&set_rdi(place)], &[0x0f, 0x18, 0x0f], &[], &[]),
        case("lea (%rdi),%eax", &[&set_rdi(place)], &[0x8d, 0x07], &[], &[]),
    ]
}

fn stack() -> Vec<Case> {
    let place = DATA + 0x205;
    let rdi = set_rdi(place);
    let (pushed, popped) = (at(TOP - 8, 8), at(TOP, 8));
    // lea 0x10(%rsp),%rbp
    let frame: &[u8] = &[0x48, 0x8d, 0x6c, 0x24, 0x10];
    vec![
        case("push %rax", &[], &[0x50], std::slice::from_ref(&pushed), &[]),
        case("push %ax", &[], &[0x66, 0x50], &[at(TOP - 2, 2)], &[]),
        case("pushf", &[], &[0x9c], std::slice::from_ref(&pushed), &[]),
        case("push (%rdi)", &[&rdi], &[0xff, 0x37], std::slice::from_ref(&pushed), &[at(place, 8)]),
        case("pop %rax", &[], &[0x58], &[], std::slice::from_ref(&popped)),
        case("pop (%rdi)", &[&rdi], &[0x8f, 0x07], &[at(place, 8)], std::slice::from_ref(&popped)),
        // The address counts from rsp behind the pop.
        case(
            "pop 8(%rsp)",
            &[],
            &[0x8f, 0x44, 0x24, 0x08],
            &[at(TOP + 16, 8)],
            std::slice::from_ref(&popped),
        ),
        case("call next", &[], &[0xe8, 0, 0, 0, 0], std::slice::from_ref(&pushed), &[]),
        // lea 3(%rip),%rax: behind the call
        case(
            "call *%rax",
            &[&[0x48, 0x8d, 0x05, 2, 0, 0, 0]],
            &[0xff, 0xd0],
            std::slice::from_ref(&pushed),
            &[],
        ),
        case("leave", &[frame], &[0xc9], &[], &[at(TOP + 16, 8)]),
        // Frame pointer, one outer frame pointer, the new frame pointer; and rsp is probed.
        case(
            "enter $16,$2",
            &[frame],
            &[0xc8, 0x10, 0, 2],
            &[at(TOP - 8, 8), at(TOP - 16, 8), at(TOP - 24, 8)],
            &[at(TOP + 8, 8)],
        ),
        case("mov %ds,(%rdi)", &[&rdi], &[0x8c, 0x1f], &[at(place, 2)], &[]),
    ]
}

fn images() -> Vec<Case> {
    let place = DATA + 0x1000 - 0x40;
    let rdi = set_rdi(place);
    vec![
        // What is not defined for the last 96 bytes is not stored.
        case("fxsave (%rdi)", &[&rdi], &[0x0f, 0xae, 0x07], &[at(place, 416)], &[]),
        case(
            "xsave (%rdi), x87 alone",
            &[&rdi, &set_eax(1)],
            &[0x0f, 0xae, 0x27],
            &[at(place, 24), at(place + 32, 128), at(place + 512, 8)],
            &[at(place + 512, 8)],
        ),
        case("fnsave (%rdi)", &[&rdi], &[0xdd, 0x37], &[at(place, 108)], &[]),
        case("fnstenv (%rdi)", &[&rdi], &[0xd9, 0x37], &[at(place, 28)], &[]),
    ]
}

/// xmm1/ymm1/zmm1 is 0x80000000, 0, 0x80000000, 0, 0, ...: chooses the first and third double word;
/// bytes 3 and 11.
fn masked() -> Vec<Case> {
    let place = DATA + 0x1000 - 0x21;
    let rdi = set_rdi(place);
    let mut cases = vec![
        case(
            "vmaskmovps %ymm0,%ymm1,(%rdi)",
            &[&rdi],
            &[0xc4, 0xe2, 0x75, 0x2e, 0x07],
            &[at(place, 4), at(place + 8, 4)],
            &[],
        ),
        case(
            "vpmaskmovd (%rdi),%ymm1,%ymm0",
            &[&rdi],
            &[0xc4, 0xe2, 0x75, 0x8c, 0x07],
            &[],
            &[at(place, 4), at(place + 8, 4)],
        ),
        case(
            "maskmovdqu %xmm1,%xmm0",
            &[&rdi],
            &[0x66, 0x0f, 0xf7, 0xc1],
            &[at(place + 3, 1), at(place + 11, 1)],
            &[],
        ),
    ];
    if !std::is_x86_feature_detected!("avx512vl") {
        eprintln!("this host lacks AVX-512VL: its masked accesses are left out");
        return cases;
    }
    cases.extend([
        case(
            "vmovups %zmm0,(%rdi)",
            &[&rdi],
            &[0x62, 0xf1, 0x7c, 0x48, 0x11, 0x07],
            &[at(place, 64)],
            &[],
        ),
        case(
            "vmovdqu32 %zmm0,(%rdi){%k1}",
            &[&set_k1(0b1000_0000_1100_0101), &rdi],
            &[0x62, 0xf1, 0x7e, 0x49, 0x7f, 0x07],
            &[at(place, 4), at(place + 8, 4), at(place + 24, 8), at(place + 60, 4)],
            &[],
        ),
        case(
            "vmovdqu32 (%rdi),%zmm0{%k1}",
            &[&set_k1(0b1000_0000_1100_0101), &rdi],
            &[0x62, 0xf1, 0x7e, 0x49, 0x6f, 0x07],
            &[],
            &[at(place, 4), at(place + 8, 4), at(place + 24, 8), at(place + 60, 4)],
        ),
        case(
            "vpmovdb %zmm0,(%rdi){%k1}",
            &[&set_k1(0b1000_0000_1100_0101), &rdi],
            &[0x62, 0xf2, 0x7e, 0x49, 0x31, 0x07],
            &[at(place, 1), at(place + 2, 1), at(place + 6, 2), at(place + 15, 1)],
            &[],
        ),
        case(
            "vmovss %xmm0,(%rdi){%k1}, not chosen",
            &[&set_k1(0b10), &rdi],
            &[0x62, 0xf1, 0x7e, 0x09, 0x11, 0x07],
            &[],
            &[],
        ),
        case(
            "vpcompressd %zmm0,(%rdi){%k1}",
            &[&set_k1(0b1000_0000_1100_0101), &rdi],
            &[0x62, 0xf2, 0x7d, 0x49, 0x8b, 0x07],
            &[at(place, 20)],
            &[],
        ),
        // Indexes 0x80000000 (negative) for elements 0 and 2, else 0; times 4.
        case(
            "vpscatterdd %zmm0,0x7ffffffc(%rdi,%zmm1,1){%k1}",
            &[&set_k1(0b110), &rdi],
            &[0x62, 0xf2, 0x7d, 0x49, 0xa0, 0x44, 0x0f, 0x01],
            &[at(place + 4, 4), at((place + 4).wrapping_sub(1 << 31), 4)],
            &[],
        ),
    ]);
    // The second element of the scatter lies outside of all memory: not for this list.
    cases.pop();
    cases.push(case(
        "vpscatterdd %zmm0,(%rdi,%zmm2,4){%k1}",
        &[&set_k1(0b1010), &rdi],
        &[0x62, 0xf2, 0x7d, 0x49, 0xa0, 0x04, 0x97],
        &[at(place + 4 * 11, 4), at(place + 4 * 13, 4)],
        &[],
    ));
    cases
}

fn lines() -> Vec<Case> {
    vec![
        // mov %rdi,%rax
        case(
            "clzero",
            &[&set_rdi(DATA + 0x345), &[0x48, 0x89, 0xf8]],
            &[0x0f, 0x01, 0xfc],
            &[at(DATA + 0x340, 64)],
            &[],
        ),
        case(
            "movdir64b (%rsi),%rdi",
            &[&set_rdi(DATA + 0x340), &set_rsi(DATA + 0x101)],
            &[0x66, 0x0f, 0x38, 0xf8, 0x3e],
            &[at(DATA + 0x340, 64)],
            &[at(DATA + 0x101, 64)],
        ),
    ]
}

/// `mov $rounds,%ecx; loop: mov %ecx,-72(%rsp); mov -72(%rsp),%edx; dec %ecx; jnz loop`
fn idle(rounds: u32) -> Vec<u8> {
    let body = [0x89, 0x4c, 0x24, 0xb8, 0x8b, 0x54, 0x24, 0xb8, 0xff, 0xc9, 0x75, 0xf4].as_slice();
    [&set_ecx(rounds), body].concat()
}

fn count(code: &[u8]) -> u64 {
    Decoder::new(64, code, DecoderOptions::NONE).iter().count() as u64
}

/// A guest at the start of a case, in a machine that exists.
struct Prepared {
    code: Vec<u8>,
    /// Address of the access, and instructions before it.
    rip: Address,
    instructions: u64,
}

fn prepare(case: &Case, rounds: u32) -> Prepared {
    let head = [idle(rounds), case.prepare.clone()].concat();
    let code = [&head, &case.access[..], &[0xcc]].concat();
    let instructions = 1 + 4 * u64::from(rounds) + count(&case.prepare);
    Prepared { rip: Address(Guest::CODE + head.len() as u64), code, instructions }
}

fn guest(mut machine: Machine, code: &[u8]) -> Guest {
    let mut space = Guest::space(&mut machine, code).expect("space");
    // Any bytes, so that stores are seen; none where comparisons and images are picky.
    let bytes: Vec<u8> = (0..0x2000_u32).map(|n| (n * 7) as u8).collect();
    space.write(Address(DATA + 0x2000), &bytes).expect("data");
    let mut cpu = Guest::start();
    let mut mask = [0; 64];
    (mask[3], mask[11]) = (0x80, 0x80);
    set_vector_register(&mut cpu.vector, 1, &mask);
    let mut indexes = [0; 64];
    (0..16).for_each(|n| indexes[4 * n] = 10 + n as u8);
    set_vector_register(&mut cpu.vector, 2, &indexes);
    set_vector_register(&mut cpu.vector, 0, &[0xa5; 64]);
    put_all_in_use(&mut cpu.vector);
    Guest { machine, space, cpu }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

fn watch(range: &Range<u64>, reads: bool) -> Watch {
    Watch { range: Address(range.start)..Address(range.end), reads }
}

/// Ranges that just touch what is accessed, and some that just do not.
fn interesting(case: &Case) -> Vec<Range<u64>> {
    let mut ranges = vec![DATA..Guest::DATA_END, TOP - 64..TOP + 64];
    for range in case.writes.iter().chain(&case.reads) {
        ranges.extend([
            at(range.start, 1),
            at(range.end - 1, 1),
            at(range.start - 1, 1),
            at(range.end, 1),
            at(range.start - 5, 6),
            range.end..range.end + 0x2345,
            range.start - 0x1fff..range.end + 0x1001,
        ]);
    }
    ranges.push(at(DATA + 0x6000, 3));
    ranges
}

fn check_case(mut machine: Machine, case: &Case, observers: Observers) -> Machine {
    for (drive, rounds) in [(Drive::Freely, 500), (Drive::Slices(7), 30), (Drive::Slices(1), 3)] {
        let prepared = prepare(case, rounds);
        machine.set_watches(&[]).expect("watches");
        machine.set_observers(NO_OBSERVERS).expect("observers");
        let mut plain = guest(machine, &prepared.code);
        assert_eq!(
            plain.run_until(prepared.instructions).expect("run"),
            Exit::InstructionLimit,
            "{}",
            case.name
        );
        let (before, memory) = (plain.cpu.clone(), plain.memory().expect("memory"));
        assert_eq!(before.rip, prepared.rip, "{}", case.name);
        let end = plain.run(Drive::Freely).expect("run");
        assert!(matches!(end, Exit::Trap { kind: Trap::Breakpoint, .. }), "{}: {end:?}", case.name);
        let (after, last) = (plain.cpu.clone(), plain.memory().expect("memory"));
        machine = plain.machine;
        machine.set_observers(observers).expect("observers");
        for range in interesting(case) {
            for reads in [false, true] {
                let written = case.writes.iter().any(|write| overlap(write, &range));
                let read = reads && case.reads.iter().any(|read| overlap(read, &range));
                let what =
                    format!("{} watch {range:x?} reads {reads} {drive:?} {observers:?}", case.name);
                // What the loop before stores to is another matter.
                if overlap(&range, &at(TOP - 72, 4)) {
                    continue;
                }
                machine.set_watches(&[watch(&range, reads)]).expect("watches");
                let mut guest = guest(machine, &prepared.code);
                let mut exit = guest.run(drive).expect("run");
                if written || read {
                    let Exit::Watch { address, write } = exit else {
                        panic!("{what}: {exit:x?} at {}", guest.cpu.rip)
                    };
                    assert_eq!(write, written, "{what}");
                    assert!(range.contains(&address.0), "{what}: {address}");
                    let list = if written { &case.writes } else { &case.reads };
                    assert!(list.iter().any(|r| r.contains(&address.0)), "{what}: {address}");
                    let lines = differences(&before, &guest.cpu, Extent::WithVector);
                    assert!(lines.is_empty(), "{what}: {lines:?}");
                    assert_eq!(guest.cpu.instructions, prepared.instructions, "{what}");
                    assert_eq!(guest.cpu.ticks, before.ticks, "{what}");
                    assert!(guest.memory().expect("memory") == memory, "{what}: memory");
                    exit = guest.run(drive).expect("run");
                }
                assert!(
                    matches!(exit, Exit::Trap { kind: Trap::Breakpoint, .. }),
                    "{what}: {exit:x?} at {}",
                    guest.cpu.rip
                );
                let lines = differences(&after, &guest.cpu, Extent::WithVector);
                assert!(lines.is_empty(), "{what}: {lines:?}");
                assert_eq!(guest.cpu.instructions, after.instructions, "{what}");
                assert!(guest.memory().expect("memory") == last, "{what}: memory at the end");
                machine = guest.machine;
            }
        }
    }
    machine
}

fn check_all(cases: &[Case]) {
    for observers in [NO_OBSERVERS, ALL_OBSERVERS] {
        let mut machine = Machine::new(Options::default()).expect("machine");
        for case in cases {
            machine = check_case(machine, case, observers);
        }
    }
}

#[test]
fn plain_stores_of_all_sizes_and_places() {
    check_all(&plain_stores());
}

#[test]
fn instructions_that_read_and_write() {
    check_all(&modifying());
}

#[test]
fn the_stack() {
    check_all(&stack());
}

#[test]
fn state_images() {
    check_all(&images());
}

#[test]
fn bytes_that_a_mask_excludes_are_not_accessed() {
    check_all(&masked());
}

#[test]
fn whole_lines() {
    check_all(&lines());
}

/// A program with a watch; every stop until something else happens.
fn stops(guest: &mut Guest, drive: Drive) -> (Vec<(u64, Address, u64, Exit)>, Exit) {
    let mut stops = Vec::new();
    loop {
        match guest.run(drive).expect("run") {
            exit @ Exit::Watch { .. } => {
                let cpu = &guest.cpu;
                stops.push((cpu.instructions, cpu.rip, cpu.general[gpr::RCX], exit));
                assert!(stops.len() < 10_000, "stops for ever");
            }
            exit => return (stops, exit),
        }
    }
}

fn is_breakpoint(exit: &Exit) -> bool {
    matches!(exit, Exit::Trap { kind: Trap::Breakpoint, .. })
}

const DRIVES: [Drive; 3] = [Drive::Freely, Drive::Slices(1), Drive::Slices(7)];

#[test]
fn rep_strings_stop_before_the_iteration() {
    // mov $100,%ecx; movabs $DATA+0x100,%rdi; rep stosw; int3
    let up = [&set_ecx(100), &set_rdi(DATA + 0x100)[..], &[0xf3, 0x66, 0xab, 0xcc]].concat();
    // std; ... rep movsb with a source
    let down = [
        &set_ecx(100),
        &set_rdi(DATA + 0x100)[..],
        &set_rsi(DATA + 0x1000),
        &[0xfd, 0xf3, 0xa4, 0xcc],
    ]
    .concat();
    let mut machine = Machine::new(Options::default()).expect("machine");
    for observers in [NO_OBSERVERS, ALL_OBSERVERS] {
        machine.set_observers(observers).expect("observers");
        for drive in DRIVES {
            // Bytes 0x151 and 0x152 belong to the iterations at 0x150 and 0x152.
            machine.set_watches(&[watch(&at(DATA + 0x151, 2), false)]).expect("watches");
            let mut up = guest(machine, &up);
            let (found, exit) = stops(&mut up, drive);
            assert!(is_breakpoint(&exit), "{exit:?}");
            let lefts: Vec<(u64, u64)> = found.iter().map(|stop| (stop.0, stop.2)).collect();
            assert_eq!(lefts, [(2, 100 - 0x28), (2, 100 - 0x29)], "{drive:?} {observers:?}");
            assert_eq!(up.cpu.instructions, 3);
            let mut bytes = [1; 202];
            up.space.read(Address(DATA + 0xff), &mut bytes).expect("read");
            assert!(bytes.iter().all(|byte| *byte == 0));
            machine = up.machine;

            // The source is read backwards from 0x1000.
            let watches = [watch(&at(DATA + 0xff0, 1), true), watch(&at(DATA + 0xfc, 1), false)];
            machine.set_watches(&watches).expect("watches");
            let mut down = guest(machine, &down);
            let (found, exit) = stops(&mut down, drive);
            assert!(is_breakpoint(&exit), "{exit:?}");
            let found: Vec<(u64, u64, Exit)> =
                found.into_iter().map(|stop| (stop.0, stop.2, stop.3)).collect();
            let expected = [
                (4, 96, Exit::Watch { address: Address(DATA + 0xfc), write: true }),
                (4, 84, Exit::Watch { address: Address(DATA + 0xff0), write: false }),
            ];
            assert_eq!(found, expected, "{drive:?} {observers:?}");
            assert_eq!(down.cpu.instructions, 5);
            machine = down.machine;
        }
    }
}

#[test]
fn comparing_strings_stop_before_the_iteration_that_reads() {
    // xor %eax,%eax; mov $100,%ecx; movabs $DATA+0x100,%rdi; repe scasb; int3
    let code =
        [&[0x31, 0xc0], &set_ecx(100)[..], &set_rdi(DATA + 0x100), &[0xf3, 0xae, 0xcc]].concat();
    let mut machine = Machine::new(Options::default()).expect("machine");
    for drive in DRIVES {
        machine.set_watches(&[watch(&at(DATA + 0x110, 1), true)]).expect("watches");
        // The scan ends at byte 0x120, and 0x121 is never read.
        for (other, expected) in [(0x111, 2), (0x120, 2), (0x121, 1)] {
            let watches = [watch(&at(DATA + 0x110, 1), true), watch(&at(DATA + other, 1), true)];
            machine.set_watches(&watches).expect("watches");
            let mut guest = guest(machine, &code);
            guest.space.write(Address(DATA + 0x120), &[1]).expect("write");
            let (found, exit) = stops(&mut guest, drive);
            assert!(is_breakpoint(&exit), "{exit:?}");
            assert_eq!(found.len(), expected, "{found:?}");
            assert_eq!(found[0].2, 100 - 0x10);
            assert_eq!(guest.cpu.general[gpr::RCX], 100 - 0x21);
            machine = guest.machine;
        }
    }
}

#[test]
fn an_access_that_faults_is_none() {
    // movabs $place,%rdi; mov %rax,(%rdi): its last byte lies behind the data.
    let place = Guest::DATA_END - 7;
    let store = [&set_rdi(place)[..], &[0x48, 0x89, 0x07, 0xcc]].concat();
    let load = [&set_rdi(place)[..], &[0x48, 0x8b, 0x07, 0xcc]].concat();
    // rep stosb over the end: seven iterations are done.
    let string = [&set_ecx(100), &set_rdi(place)[..], &[0xf3, 0xaa, 0xcc]].concat();
    let mut machine = Machine::new(Options::default()).expect("machine");
    for observers in [NO_OBSERVERS, ALL_OBSERVERS] {
        machine.set_observers(observers).expect("observers");
        for drive in DRIVES {
            for (code, reads) in [(&store, false), (&store, true), (&load, true)] {
                machine.set_watches(&[watch(&at(place, 7), reads)]).expect("watches");
                let mut guest = guest(machine, code);
                let (found, exit) = stops(&mut guest, drive);
                assert!(
                    matches!(exit, Exit::Fault(fault)
                    if fault.address == Address(Guest::DATA_END)),
                    "{exit:?}"
                );
                assert_eq!(found, [], "{drive:?} {observers:?}");
                assert_eq!(guest.cpu.instructions, 1);
                machine = guest.machine;
            }
            machine.set_watches(&[watch(&at(place, 7), false)]).expect("watches");
            let mut guest = guest(machine, &string);
            let (found, exit) = stops(&mut guest, drive);
            assert!(
                matches!(exit, Exit::Fault(fault)
                if fault.address == Address(Guest::DATA_END)),
                "{exit:?}"
            );
            let lefts: Vec<u64> = found.iter().map(|stop| stop.2).collect();
            assert_eq!(lefts, [100, 99, 98, 97, 96, 95, 94], "{drive:?} {observers:?}");
            assert_eq!(guest.cpu.general[gpr::RCX], 93);
            machine = guest.machine;
        }
    }
}

/// Stores to one of 16 double words in turn, `rounds` times:
/// loop: mov %ecx,%edx; and $15,%edx; mov %ecx,(%rdi,%rdx,4); dec %ecx; jnz loop; int3
fn in_turn(rounds: u32) -> Vec<u8> {
    let body = [0x89, 0xca, 0x83, 0xe2, 0x0f, 0x89, 0x0c, 0x97, 0xff, 0xc9, 0x75, 0xf4, 0xcc];
    [&set_rdi(DATA)[..], &set_ecx(rounds), &body].concat()
}

#[test]
fn frequent_and_rare_hits_are_all_found() {
    let mut machine = Machine::new(Options::default()).expect("machine");
    for (rounds, drive) in [
        (3000, Drive::Freely),
        (300, Drive::Slices(1)),
        (300, Drive::Slices(5)),
        (3000, Drive::Slices(777)),
    ] {
        machine.set_watches(&[watch(&at(DATA + 21, 1), false)]).expect("watches");
        let mut guest = guest(machine, &in_turn(rounds));
        let (found, exit) = stops(&mut guest, drive);
        assert!(is_breakpoint(&exit), "{exit:?}");
        // Double word 5 is stored to when ecx is 5 modulo 16.
        let expected: Vec<u64> = (1..=u64::from(rounds)).rev().filter(|n| n % 16 == 5).collect();
        let counters: Vec<u64> = found.iter().map(|stop| stop.2).collect();
        assert_eq!(counters, expected, "{drive:?}");
        for stop in &found {
            assert_eq!(stop.0, 2 + 5 * (u64::from(rounds) - stop.2) + 2);
        }
        machine = guest.machine;
    }
}

#[test]
fn limits_hooks_and_watches_at_one_place_all_stop() {
    let mut machine = Machine::new(Options::default()).expect("machine");
    machine.set_watches(&[watch(&at(DATA + 20, 4), false)]).expect("watches");
    let mut guest = guest(machine, &in_turn(21));
    let store = Address(Guest::CODE + 15 + 5);
    guest.machine.set_hooks(&[store]);
    // ecx is 21, and a store to double word 5 comes third in the loop.
    assert_eq!(guest.run_until(4).expect("run"), Exit::InstructionLimit);
    assert_eq!((guest.cpu.rip, guest.cpu.instructions), (store, 4));
    // The hook at the first instruction is the caller's to see.
    let hit = Exit::Watch { address: Address(DATA + 20), write: true };
    assert_eq!(guest.run(Drive::Freely).expect("run"), hit);
    assert_eq!((guest.cpu.rip, guest.cpu.instructions), (store, 4));
    for n in 1..16 {
        assert_eq!(guest.run(Drive::Freely).expect("run"), Exit::Hook);
        assert_eq!((guest.cpu.rip, guest.cpu.instructions), (store, 4 + 5 * n));
    }
    assert_eq!(guest.run(Drive::Freely).expect("run"), Exit::Hook);
    assert_eq!(guest.cpu.general[gpr::RCX], 5);
    assert_eq!(guest.run(Drive::Freely).expect("run"), hit);
    assert_eq!(guest.cpu.general[gpr::RCX], 5);
    // A limit that is reached already comes first, and the watch is not forgotten for it.
    let now = guest.cpu.instructions;
    assert_eq!(guest.run_until(now).expect("run"), Exit::InstructionLimit);
    assert_eq!(guest.run_until(now + 1).expect("run"), hit);
    assert_eq!(guest.run_until(now + 1).expect("run"), Exit::InstructionLimit);
    assert_eq!(guest.cpu.instructions, now + 1);
}

#[test]
fn a_step_passes_over_watches() {
    let mut machine = Machine::new(Options::default()).expect("machine");
    machine.set_watches(&[watch(&at(DATA, 64), true)]).expect("watches");
    let mut guest = guest(machine, &in_turn(21));
    for n in 1..=20 {
        let exit = guest.machine.step(&mut guest.space, &mut guest.cpu, None).expect("step");
        assert_eq!((exit, guest.cpu.instructions), (Exit::InstructionLimit, n));
    }
}

#[test]
fn watches_change_during_a_run() {
    let mut machine = Machine::new(Options::default()).expect("machine");
    machine.set_observers(Observers { executions: true, ..NO_OBSERVERS }).expect("observers");
    let mut guest = guest(machine, &in_turn(1000));
    let word = |n: u64| watch(&at(DATA + 4 * n, 4), false);
    assert_eq!(guest.run_until(600).expect("run"), Exit::InstructionLimit);
    guest.machine.set_watches(&[word(3), word(4)]).expect("watches");
    let mut seen = Vec::new();
    for _ in 0..4 {
        assert!(matches!(guest.run(Drive::Freely).expect("run"), Exit::Watch { .. }));
        seen.push(guest.cpu.general[gpr::RCX]);
    }
    guest.machine.set_watches(&[word(3)]).expect("watches");
    for _ in 0..2 {
        assert!(matches!(guest.run(Drive::Freely).expect("run"), Exit::Watch { .. }));
        seen.push(guest.cpu.general[gpr::RCX]);
    }
    // 600 instructions: 119 rounds, and three more instructions.
    assert_eq!(seen, [868, 867, 852, 851, 851, 835]);
    guest.machine.set_watches(&[]).expect("watches");
    assert!(is_breakpoint(&guest.run(Drive::Freely).expect("run")));
    assert_eq!(guest.cpu.instructions, 2 + 5 * 1000);
    // Undoing and doing again counts nothing twice, and forgets nothing.
    let executions = guest.machine.take_executions();
    let head = Address(Guest::CODE);
    let end = Address(Guest::CODE + in_turn(1000).len() as u64 - 1);
    assert_eq!(executions, [(head..head + 15, 1), (head + 15..end, 1000)]);
}

#[test]
fn watches_hold_in_all_address_spaces() {
    let mut machine = Machine::new(Options::default()).expect("machine");
    machine.set_watches(&[watch(&at(DATA + 20, 4), false)]).expect("watches");
    let mut one = guest(machine, &in_turn(40));
    let mut other = Guest::space(&mut one.machine, &in_turn(40)).expect("space");
    let mut cpu = Guest::start();
    let expected = |left: u64| 2 + 5 * (40 - left) + 2;
    for left in [37, 21, 5] {
        assert!(matches!(one.run(Drive::Freely).expect("run"), Exit::Watch { .. }));
        assert_eq!(one.cpu.instructions, expected(left));
        let exit = one.machine.run(&mut other, &mut cpu, Limits::default()).expect("run");
        assert!(matches!(exit, Exit::Watch { .. }), "{exit:?}");
        assert_eq!(cpu.instructions, expected(left));
        // Each goes on from its own stop.
        one.machine.step(&mut one.space, &mut one.cpu, None).expect("step");
        one.machine.step(&mut other, &mut cpu, None).expect("step");
    }
    assert!(is_breakpoint(&one.run(Drive::Freely).expect("run")));
}

#[test]
fn code_that_is_watched_stops_when_it_is_written() {
    use machine::{Backing, Protection};
    let all = Protection { read: true, write: true, execute: true };
    let mut machine = Machine::new(Options::default()).expect("machine");
    let at_code = 0x50_0000_u64;
    // loop: add $imm32,%rbx; incl loop+3(%rip); dec %ecx; jnz loop; int3
    let rounds = 40_u32;
    let head = [&[0x31, 0xdb][..], &set_ecx(rounds)].concat();
    let body = [
        &[0x48, 0x81, 0xc3, 0, 0, 0, 0][..],
        &[0xff, 0x05],
        &(-10_i32).to_le_bytes(),
        &[0xff, 0xc9],
    ]
    .concat();
    let back = -(body.len() as i8 + 2) as u8;
    let code = [&head[..], &body, &[0x75, back, 0xcc]].concat();
    let place = at_code + head.len() as u64 + 3;
    for drive in DRIVES {
        for reads in [false, true] {
            machine.set_watches(&[watch(&at(place, 1), reads)]).expect("watches");
            let mut guest = guest(machine, &[0xcc]);
            let range = Address(at_code)..Address(at_code + 0x1000);
            guest.space.map(range, all, Backing::Zero).expect("map");
            guest.space.write(Address(at_code), &code).expect("write");
            guest.cpu.rip = Address(at_code);
            let (found, exit) = stops(&mut guest, drive);
            assert!(is_breakpoint(&exit), "{exit:?}");
            assert_eq!(found.len() as u32, rounds);
            let r = u64::from(rounds);
            assert_eq!(guest.cpu.general[gpr::RBX], r * (r - 1) / 2);
            assert_eq!(guest.cpu.instructions, 2 + r * 4);
            machine = guest.machine;
        }
    }
}

#[test]
fn what_others_write_is_not_seen() {
    let mut machine = Machine::new(Options::default()).expect("machine");
    machine.set_watches(&[watch(&at(DATA, 8), true)]).expect("watches");
    // mov (%rdi),... behind a system call: read(2) as the caller carries it out.
    let code = [&set_rdi(DATA)[..], &[0x0f, 0x05, 0x8b, 0x07, 0xcc]].concat();
    let mut guest = guest(machine, &code);
    let exit = guest.run(Drive::Freely).expect("run");
    assert_eq!(exit, Exit::Trap { kind: Trap::Syscall, length: 2 });
    guest.space.write(Address(DATA), &[1, 2, 3, 4]).expect("write");
    guest.cpu.rip = guest.cpu.rip + 2;
    guest.cpu.instructions += 1;
    // The very first instruction of a run is watched as well.
    let exit = guest.run(Drive::Freely).expect("run");
    assert_eq!(exit, Exit::Watch { address: Address(DATA), write: false });
    assert!(is_breakpoint(&guest.run(Drive::Freely).expect("run")));
    assert_eq!(guest.cpu.general[gpr::RAX], 0x0403_0201);
}
