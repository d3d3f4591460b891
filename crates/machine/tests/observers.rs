//! What observers report of small programs whose behaviour is known by reasoning.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions};
use machine::{Backing, Exit, Limits, Machine, Observers, Options, StoreRecord, Trap, Watch};
use model::{Address, Call, Moment, gpr};
use testkit::{
    ALL_OBSERVERS, Drive, Guest, NO_OBSERVERS, READ_EXECUTE, READ_WRITE, set_eax, set_ecx, set_rdi,
};

const CODE: u64 = Guest::CODE;
const DATA: u64 = Guest::DATA;
const TOP: u64 = Guest::STACK + 0x1000;
const DRIVES: [Drive; 4] = [Drive::Freely, Drive::Steps, Drive::Slices(1), Drive::Slices(7)];

fn is_breakpoint(exit: &Exit) -> bool {
    matches!(exit, Exit::Trap { kind: Trap::Breakpoint, .. })
}

fn only(set: impl FnOnce(&mut Observers)) -> [Observers; 2] {
    let mut one = NO_OBSERVERS;
    set(&mut one);
    [one, ALL_OBSERVERS]
}

/// Runs a program under observers in every drive.
fn everywhere(observers: [Observers; 2], code: &[u8], check: impl Fn(&mut Guest, Exit)) {
    for observers in observers {
        for drive in DRIVES {
            println!("{drive:?} {observers:?}");
            let mut guest = Guest::new(observers, code).expect("guest");
            let exit = guest.run(drive).expect("run");
            check(&mut guest, exit);
        }
    }
}

/// Executions by address of the instruction, decoded from the guest's code.
fn executions(guest: &mut Guest) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for (range, count) in guest.machine.take_executions() {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        guest.space.read(range.start, &mut bytes).expect("code");
        let decoder = Decoder::with_ip(64, &bytes, range.start.0, DecoderOptions::NONE);
        for instruction in decoder {
            assert!(!instruction.is_invalid(), "{range:?} ends inside an instruction");
            *counts.entry(instruction.ip() - CODE).or_default() += count;
        }
    }
    counts
}

/// Undoes stores and returns what memory was before.
fn undone(guest: &Guest, stores: &[StoreRecord]) -> Vec<u8> {
    let mut memory = guest.memory().expect("memory");
    for store in stores.iter().rev() {
        let at = match store.address.0 {
            at if at < Guest::DATA_END => at - DATA,
            at => at - Guest::STACK + Guest::DATA_END - DATA,
        } as usize;
        let size = usize::from(store.size);
        memory[at..at + size].copy_from_slice(&store.old.to_le_bytes()[..size]);
    }
    memory
}

#[test]
fn traps_that_a_run_stops_at_are_not_counted() {
    // mov $3,%eax; cpuid; nop; syscall
    let code = [&set_eax(3)[..], &[0x0f, 0xa2, 0x90, 0x0f, 0x05]].concat();
    everywhere(only(|one| one.executions = true), &code, |guest, exit| {
        assert_eq!(exit, Exit::Trap { kind: Trap::Cpuid, length: 2 });
        assert_eq!(executions(guest), BTreeMap::from([(0, 1)]));
        // The caller does it.
        guest.machine.count_execution(guest.cpu.rip.range(2));
        guest.cpu.rip = guest.cpu.rip + 2;
        guest.cpu.instructions += 1;
        let exit = guest.run(Drive::Freely).expect("run");
        assert_eq!(exit, Exit::Trap { kind: Trap::Syscall, length: 2 });
        assert_eq!(executions(guest), BTreeMap::from([(5, 1), (7, 1)]));
    });
}

#[test]
fn executions_are_exact_with_strings_branches_and_faults() {
    // 0: mov $50,%ecx
    // 5: l: mov %ecx,%edx; 7: and $3,%edx; 10: jnz m (15); 12: inc %ebx; 14: nop
    // 15: m: dec %ecx; 17: jnz l (5)
    // 19: mov $9,%ecx; 24: movabs $DATA,%rdi; 34: rep stosb
    // 36: jmp n (39); 38: nop; 39: n: nop; 40: mov %eax,(%rax)
    let code = [
        &set_ecx(50)[..],
        &[0x89, 0xca, 0x83, 0xe2, 0x03, 0x75, 0x03, 0xff, 0xc3, 0x90, 0xff, 0xc9, 0x75, 0xf2],
        &set_ecx(9),
        &set_rdi(DATA),
        &[0xf3, 0xaa, 0xeb, 0x01, 0x90, 0x90, 0x89, 0x00, 0xcc],
    ]
    .concat();
    everywhere(only(|one| one.executions = true), &code, |guest, exit| {
        assert!(matches!(exit, Exit::Fault(_)), "{exit:?}");
        assert_eq!(guest.cpu.rip, Address(CODE + 40));
        let loop_counts = [(5, 50), (7, 50), (10, 50), (12, 12), (14, 12), (15, 50), (17, 50)];
        let rest = [(0, 1), (19, 1), (24, 1), (34, 1), (36, 1), (39, 1)];
        let expected: BTreeMap<u64, u64> = loop_counts.into_iter().chain(rest).collect();
        assert_eq!(executions(guest), expected);
        assert_eq!(guest.cpu.instructions, expected.values().sum::<u64>());
    });
}

#[test]
fn a_fault_in_the_middle_of_a_string_does_not_count_it() {
    // mov $9,%ecx; movabs $END-4,%rdi; nop; rep stosb
    let code = [&set_ecx(9)[..], &set_rdi(Guest::DATA_END - 4), &[0x90, 0xf3, 0xaa, 0xcc]].concat();
    let observers = [
        Observers { executions: true, ..NO_OBSERVERS },
        Observers { stores: true, ..NO_OBSERVERS },
    ];
    everywhere([observers[0], ALL_OBSERVERS], &code, |guest, exit| {
        assert!(matches!(exit, Exit::Fault(_)), "{exit:?}");
        assert_eq!(guest.cpu.general[gpr::RCX], 5);
        assert_eq!(executions(guest), BTreeMap::from([(0, 1), (5, 1), (15, 1)]));
    });
    everywhere([observers[1], ALL_OBSERVERS], &code, |guest, _| {
        let stored: u64 = guest.machine.take_stores().iter().map(|s| u64::from(s.size)).sum();
        assert_eq!(stored, 4);
    });
}

#[test]
fn calls_and_returns() {
    // 0: call f (29)                      instruction 1
    // 5: call next (10); 10: pop %rax     6, 7
    // 11: push $1; 13: call g (33)        8, 9
    // 18: lea f(%rip),%rax (29); 25: call *%rax   12, 13
    // 27: jmp end (37)                    18
    // 29: f: inc %ebx; 31: jmp h (39)     tail jump
    // 33: g: nop; 34: ret $8
    // 37: end: int3; 38: int3
    // 39: h: nop; 40: ret
    let code = [
        0xe8, 24, 0, 0, 0, //
        0xe8, 0, 0, 0, 0, 0x58, //
        0x6a, 1, 0xe8, 15, 0, 0, 0, //
        0x48, 0x8d, 0x05, 4, 0, 0, 0, 0xff, 0xd0, //
        0xeb, 8, //
        0xff, 0xc3, 0xeb, 6, //
        0x90, 0xc2, 8, 0, //
        0xcc, 0xcc, //
        0x90, 0xc3,
    ];
    let record = |is_call, target: u64, stack, instructions| Call {
        moment: Moment(instructions),
        is_call,
        target: Address(CODE + target),
        stack: Address(stack),
    };
    let expected = [
        record(true, 29, TOP - 8, 1),
        record(false, 5, TOP, 5),
        record(true, 10, TOP - 8, 6),
        record(true, 33, TOP - 16, 9),
        record(false, 18, TOP, 11),
        record(true, 29, TOP - 8, 13),
        record(false, 27, TOP, 17),
    ];
    let observers = only(|one| (one.calls, one.control_flow) = (true, true));
    everywhere(observers, &code, |guest, exit| {
        assert!(is_breakpoint(&exit), "{exit:?}");
        assert_eq!(guest.machine.take_calls(), expected);
        let flow = guest.machine.take_control_flow();
        // Returns, and the call through a register.
        let targets: Vec<u64> = flow.targets.iter().map(|target| target.0 - CODE).collect();
        assert_eq!(targets, [5, 18, 29, 27]);
        assert_eq!(flow.taken, []);
        assert_eq!(guest.cpu.instructions, 18);
    });
}

#[test]
fn transfers_that_fault_leave_no_record() {
    // The stack ends: xor %esp,%esp; call f. To where nothing can be: mov $-1,%rax; not ...
    let no_stack: &[u8] = &[0x90, 0x31, 0xe4, 0xe8, 0, 0, 0, 0, 0xcc];
    // movabs $0x8000000000000000,%rax; call *%rax | jmp *%rax | push %rax; ret
    let far = [&[0x48, 0xb8][..], &(1_u64 << 63).to_le_bytes()].concat();
    let call = [&far[..], &[0xff, 0xd0]].concat();
    let jump = [&far[..], &[0xff, 0xe0]].concat();
    let ret = [&far[..], &[0x50, 0xc3]].concat();
    for (code, instructions) in [(no_stack, 2), (&call, 1), (&jump, 1), (&ret, 2)] {
        everywhere(
            only(|one| (one.calls, one.control_flow, one.stores) = (true, true, true)),
            code,
            |guest, exit| {
                assert!(matches!(exit, Exit::Fault(_)), "{exit:?}");
                assert_eq!(guest.cpu.instructions, instructions);
                assert_eq!(guest.machine.take_calls(), []);
                assert_eq!(guest.machine.take_control_flow().targets, []);
                let stores = guest.machine.take_stores();
                let zero = vec![0; guest.memory().expect("memory").len()];
                assert!(undone(guest, &stores) == zero);
            },
        );
    }
    // To a page that is not mapped: the call has happened.
    let lost = [&[0x48, 0xb8][..], &0x1234_5678_u64.to_le_bytes(), &[0xff, 0xd0]].concat();
    everywhere(only(|one| one.calls = true), &lost, |guest, exit| {
        assert!(matches!(exit, Exit::Fault(fault) if fault.address == Address(0x1234_5678)));
        assert_eq!(guest.machine.take_calls().len(), 1);
        assert_eq!(guest.cpu.instructions, 2);
    });
}

#[test]
fn the_stack_of_a_record_may_lie_at_the_end_of_all_memory_around() {
    // A stack that ends with its unit: movabs $0x700000000,%rsp; push %rax (at the very end);
    // lea f(%rip),%rax; xchg: call f; int3; f: movabs $TOP,%rsp ... ret is left out.
    // movabs $end,%rsp; call f; int3; f: ret $0
    let end = 0x7_0000_0000_u64;
    let code = [
        &[0x48, 0xbc][..],
        &end.to_le_bytes(),
        &[0xe8, 11, 0, 0, 0],
        // movabs $TOP,%rsp; int3
        &[0x48, 0xbc],
        &TOP.to_le_bytes(),
        &[0xcc],
        &[0xc3],
    ]
    .concat();
    for observers in only(|one| one.calls = true) {
        let mut guest = Guest::new(observers, &code).expect("guest");
        let range = Address(end - 0x1000)..Address(end);
        guest.space.map(range, READ_WRITE, Backing::Zero).expect("map");
        assert!(is_breakpoint(&guest.run(Drive::Freely).expect("run")));
        let stacks: Vec<u64> =
            guest.machine.take_calls().iter().map(|record| record.stack.0).collect();
        assert_eq!(stacks, [end - 8, end]);
    }
}

#[test]
fn outcomes_of_conditional_branches() {
    // xor %eax,%eax; mov $4,%ecx
    // l: jz n; n: (both ways the same) loop l; jrcxz e; int3; e: int3
    let code =
        [&[0x31, 0xc0][..], &set_ecx(4), &[0x74, 0, 0xe2, 0xfc, 0xe3, 1, 0xcc, 0xcc]].concat();
    everywhere(only(|one| one.control_flow = true), &code, |guest, exit| {
        assert!(is_breakpoint(&exit), "{exit:?}");
        let taken = guest.machine.take_control_flow().taken;
        assert_eq!(taken, [true, true, true, true, true, true, true, false, true]);
        assert_eq!(guest.cpu.ticks, 9);
    });
}

/// Line of an address, as `take_read` has it.
fn is_marked(lines: &[(Address, u64)], address: u64) -> bool {
    lines.iter().any(|(page, lines)| {
        page.0 == address & !0xfff && (lines >> ((address & 0xfff) / 64)) & 1 != 0
    })
}

#[test]
fn read_lines_miss_nothing() {
    let mut cases: Vec<(&str, Vec<u8>, Vec<u64>)> = Vec::new();
    let line = DATA + 0x1000 - 3;
    let rdi = set_rdi(line);
    for (name, load) in [
        ("mov (%rdi),%rax", &[0x48, 0x8b, 0x07][..]),
        ("cmp %rax,(%rdi)", &[0x48, 0x39, 0x07]),
        ("incq (%rdi)", &[0x48, 0xff, 0x07]),
        ("push (%rdi)", &[0xff, 0x37]),
        ("scasq", &[0x48, 0xaf]),
        ("vmovups (%rdi),%ymm0", &[0xc5, 0xfc, 0x10, 0x07]),
    ] {
        cases.push((name, [&rdi[..], load, &[0xcc]].concat(), vec![line, line + 7]));
    }
    // mov %rdi,%rbp; leave: the frame need not be where rsp points.
    let leave = [&rdi[..], &[0x48, 0x89, 0xfd, 0xc9, 0xcc]].concat();
    cases.push(("leave", leave, vec![line, line + 7]));
    // The greatest displacement: mov 0x7fffffff(%rdi),%rax
    let far = [&set_rdi(line - 0x7fff_ffff)[..], &[0x48, 0x8b, 0x87, 0xff, 0xff, 0xff, 0x7f, 0xcc]]
        .concat();
    cases.push(("mov 0x7fffffff(%rdi),%rax", far, vec![line, line + 7]));
    for (name, code, expected) in cases {
        everywhere(only(|one| one.read_lines = true), &code, |guest, exit| {
            assert!(is_breakpoint(&exit), "{name}: {exit:?}");
            let lines = guest.space.take_read().expect("lines");
            for address in &expected {
                assert!(is_marked(&lines, *address), "{name}: {address:x} in {lines:x?}");
            }
            // The slack is a line on either side at the most.
            let marked: u32 = lines.iter().map(|(_, lines)| lines.count_ones()).sum();
            assert!(marked <= 2 * expected.len() as u32 + 2, "{name}: {lines:x?}");
        });
    }
}

/// A program of one instruction for each class of stores, all over the data.
fn storing() -> Vec<u8> {
    let mut code = Vec::new();
    // lea 0x10(%rsp),%rbp
    code.extend([0x48, 0x8d, 0x6c, 0x24, 0x10]);
    let forms: &[&[u8]] = &[
        &[0x88, 0x07],
        &[0x66, 0x89, 0x07],
        &[0x48, 0x89, 0x07],
        &[0x0f, 0x11, 0x07],
        &[0xc5, 0xfc, 0x11, 0x07],
        &[0xdb, 0x3f],
        &[0xdd, 0x37],
        &[0xd9, 0x37],
        &[0x87, 0x07],
        &[0xff, 0x07],
        &[0xf0, 0x0f, 0xc1, 0x07],
        &[0x48, 0x0f, 0xab, 0x07],
        &[0x8f, 0x07],
        &[0x50],
        &[0x9c],
        &[0xff, 0x37],
        &[0x8c, 0x1f],
        &[0xc8, 0x10, 0, 2],
        &[0xc9],
        &[0xe8, 0, 0, 0, 0],
        // rep stosq, rep movsb with 5 and 3 iterations
        &[0xb9, 5, 0, 0, 0, 0xf3, 0x48, 0xab],
        &[0x48, 0x8d, 0x77, 0xf9, 0xb9, 3, 0, 0, 0, 0xf3, 0xa4],
    ];
    for (n, form) in forms.iter().enumerate() {
        for place in [DATA + 0x200 * n as u64 + 3, DATA + 0x4ffd] {
            code.extend(set_eax(0x5a));
            code.extend(set_rdi(place));
            code.extend(*form);
        }
    }
    // Images: they need aligned places. mov $7,%eax; xor %edx,%edx
    for form in [&[0x0f, 0xae, 0x27][..], &[0x0f, 0xc7, 0x27], &[0x0f, 0xae, 0x07]] {
        code.extend(set_eax(7));
        code.extend([0x31, 0xd2]);
        code.extend(set_rdi(DATA + 0x5fc0));
        code.extend(form);
    }
    code.push(0xcc);
    code
}

#[test]
fn stores_undone_in_reverse_give_the_start() {
    let code = storing();
    for observers in only(|one| one.stores = true) {
        for drive in [Drive::Freely, Drive::Steps, Drive::Slices(1), Drive::Slices(7)] {
            let mut guest = Guest::new(observers, &code).expect("guest");
            let bytes: Vec<u8> = (0..0x8000_u32).map(|n| ((n * 31) >> 3) as u8).collect();
            guest.space.write(Address(DATA), &bytes).expect("write");
            guest.space.write(Address(Guest::STACK), &bytes[..0x2000]).expect("write");
            let before = guest.memory().expect("memory");
            guest.space.take_written().expect("written");
            let exit = guest.run(drive).expect("run");
            assert!(is_breakpoint(&exit), "{exit:?} at {}", guest.cpu.rip);
            let stores = guest.machine.take_stores();
            assert!(undone(&guest, &stores) == before, "{drive:?} {observers:?}");
            assert!(guest.memory().expect("memory") != before);
            if !observers.written_words {
                continue;
            }
            // Everything stored is marked, and no more than a word behind each store.
            let written = guest.space.take_written().expect("written");
            let marked: u32 = written.iter().flat_map(|(_, w)| w).map(|w| w.count_ones()).sum();
            let is_marked = |address: u64| {
                let page = written.iter().find(|(page, _)| page.0 == address & !0xfff);
                let word = (address & 0xfff) / 8;
                page.is_some_and(|(_, words)| words[word as usize / 64] >> (word % 64) & 1 != 0)
            };
            for store in &stores {
                let last = store.address.0 + u64::from(store.size) - 1;
                assert!(is_marked(store.address.0) && is_marked(last), "{store:x?}");
            }
            assert!(marked as usize <= 3 * stores.len(), "{marked} {}", stores.len());
        }
    }
}

#[test]
fn a_store_that_faults_halfway_leaves_no_record() {
    // movabs $END-8,%rdi; vmovups %ymm0,(%rdi): the log's first entry is already written.
    let code = [&set_rdi(Guest::DATA_END - 8)[..], &[0xc5, 0xfc, 0x11, 0x07, 0xcc]].concat();
    everywhere(only(|one| one.stores = true), &code, |guest, exit| {
        assert!(matches!(exit, Exit::Fault(_)), "{exit:?}");
        assert_eq!(guest.machine.take_stores(), []);
    });
}

/// What is stored nevertheless: Intel's processors keep the first eight bytes of ten.
#[test]
fn a_store_that_faults_in_its_second_part() {
    // fldpi; movabs $END-9,%rdi; fstpt (%rdi), and fbstp (%rdi)
    for modrm in [[0xdb, 0x3f], [0xdf, 0x37]] {
        let code = [&[0xd9, 0xeb][..], &set_rdi(Guest::DATA_END - 9), &modrm, &[0xcc]].concat();
        everywhere(only(|one| one.stores = true), &code, |guest, exit| {
            assert!(matches!(exit, Exit::Fault(_)), "{exit:?}");
            let stores = guest.machine.take_stores();
            assert!(undone(guest, &stores).iter().all(|byte| *byte == 0), "{stores:x?}");
        });
    }
}

/// 3 rounds of: call f; f: ret, with a string and branches between, at known addresses.
/// 0: mov $3,%ecx; 5: l: call f (17); 10: dec %ecx; 12: jnz l; 14: jmp e (20); 16: nop
/// 17: f: inc %ebx; 19: ret; 20: e: nop; 21: int3
const ROUNDS: [u8; 22] = [
    0xb9, 3, 0, 0, 0, 0xe8, 7, 0, 0, 0, 0xff, 0xc9, 0x75, 0xf7, 0xeb, 4, 0x90, 0xff, 0xc3, 0xc3,
    0x90, 0xcc,
];

/// Addresses at which a run stops for hooks, and instructions retired by then.
fn hook_stops(guest: &mut Guest) -> Vec<(u64, u64)> {
    let mut stops = Vec::new();
    loop {
        match guest.run(Drive::Freely).expect("run") {
            Exit::Hook => stops.push((guest.cpu.rip.0 - CODE, guest.cpu.instructions)),
            exit => {
                assert!(is_breakpoint(&exit), "{exit:?}");
                return stops;
            }
        }
    }
}

/// What `ROUNDS` executes: address and instructions before.
fn rounds() -> Vec<(u64, u64)> {
    let round = [5, 17, 19, 10, 12];
    let all = [0].into_iter().chain(round.into_iter().cycle().take(15)).chain([14, 20]);
    all.zip(0..).collect()
}

#[test]
fn hooks_stop_once_at_each_execution() {
    let addresses = [5, 10, 12, 14, 17, 19, 20];
    // Each alone, all pairs, and all.
    let mut sets: Vec<Vec<u64>> = addresses.iter().map(|at| vec![*at]).collect();
    sets.extend(addresses.iter().flat_map(|a| addresses.iter().map(|b| vec![*a, *b])));
    sets.push(addresses.to_vec());
    // Where no instruction begins, and where none is.
    sets.push(vec![6, 7, 100, 1 << 40]);
    for observers in [NO_OBSERVERS, ALL_OBSERVERS] {
        let mut guest = Guest::new(observers, &ROUNDS).expect("guest");
        for set in &sets {
            let hooks: Vec<Address> = set.iter().map(|at| Address(CODE + at)).collect();
            guest.machine.set_hooks(&hooks);
            guest.cpu = Guest::start();
            let expected: Vec<(u64, u64)> =
                rounds().into_iter().filter(|(at, _)| set.contains(at)).collect();
            assert_eq!(hook_stops(&mut guest), expected, "{set:?}");
            if observers.executions {
                let counts = executions(&mut guest);
                assert_eq!(counts.values().sum::<u64>(), 18, "{set:?} {counts:?}");
            }
        }
    }
}

#[test]
fn hooks_come_and_go_during_a_run() {
    let hook = |at: u64| Address(CODE + at);
    for observers in [NO_OBSERVERS, ALL_OBSERVERS] {
        let mut guest = Guest::new(observers, &ROUNDS).expect("guest");
        // The program runs without hooks first: its blocks are linked.
        assert_eq!(hook_stops(&mut guest), []);
        guest.cpu = Guest::start();
        guest.machine.set_hooks(&[hook(19)]);
        assert_eq!(guest.run(Drive::Freely).expect("run"), Exit::Hook);
        // Another one, in the block that runs on from here.
        guest.machine.set_hooks(&[hook(12)]);
        assert_eq!(guest.run(Drive::Freely).expect("run"), Exit::Hook);
        assert_eq!(guest.cpu.rip, hook(12));
        // One that is gone does not stop any more.
        guest.machine.set_hooks(&[hook(20)]);
        assert_eq!(guest.run(Drive::Freely).expect("run"), Exit::Hook);
        assert_eq!((guest.cpu.rip, guest.cpu.instructions), (hook(20), 17));
        guest.machine.set_hooks(&[]);
        guest.cpu = Guest::start();
        assert_eq!(hook_stops(&mut guest), []);
    }
}

#[test]
fn a_hook_at_a_page_border_is_forgotten_too() {
    // nops up to the border, then int3 behind the hooked nop.
    let mut code = vec![0x90; 0x1001];
    code.push(0xcc);
    let mut guest = Guest::new(NO_OBSERVERS, &code).expect("guest");
    guest.cpu.rip = Address(CODE + 0xffd);
    guest.machine.set_hooks(&[Address(CODE + 0x1000)]);
    assert_eq!(guest.run(Drive::Freely).expect("run"), Exit::Hook);
    guest.machine.set_hooks(&[]);
    guest.cpu.rip = Address(CODE + 0xffd);
    assert!(is_breakpoint(&guest.run(Drive::Freely).expect("run")));
}

#[test]
fn an_instruction_whose_rest_comes_later_is_executed() {
    // The page border cuts mov $1,%eax in two.
    let mut machine = Machine::new(Options::default()).expect("machine");
    let mut space = machine.new_space().expect("space");
    let pages =
        [Address(CODE)..Address(CODE + 0x1000), Address(CODE + 0x1000)..Address(CODE + 0x2000)];
    space.map(pages[0].clone(), READ_EXECUTE, Backing::Zero).expect("map");
    let start = Address(CODE + 0xffd);
    space.write(start, &set_eax(1)[..3]).expect("write");
    for drive in [Drive::Freely, Drive::Steps] {
        let mut cpu = machine::Cpu { rip: start, ..Default::default() };
        let exit = drive.run(&mut machine, &mut space, &mut cpu).expect("run");
        assert!(matches!(exit, Exit::Fault(fault) if fault.address == pages[1].start), "{exit:?}");
    }
    space.map(pages[1].clone(), READ_EXECUTE, Backing::Zero).expect("map");
    space.write(pages[1].start, &[0, 0, 0xcc]).expect("write");
    for drive in [Drive::Freely, Drive::Steps] {
        let mut cpu = machine::Cpu { rip: start, ..Default::default() };
        let exit = drive.run(&mut machine, &mut space, &mut cpu).expect("run");
        assert!(is_breakpoint(&exit), "{drive:?}: {exit:?}");
        assert_eq!(cpu.general[gpr::RAX], 1);
    }
}

#[test]
fn observers_change_during_a_run() {
    let mut guest = Guest::new(NO_OBSERVERS, &ROUNDS).expect("guest");
    let mut seen = BTreeMap::new();
    // Another set for each instruction or two; all of them have to say what was executed then.
    for (end, observers) in [
        (3, Observers { executions: true, ..NO_OBSERVERS }),
        (4, ALL_OBSERVERS),
        (9, Observers { executions: true, calls: true, ..NO_OBSERVERS }),
        (9, NO_OBSERVERS),
        (17, Observers { executions: true, stores: true, ..NO_OBSERVERS }),
    ] {
        guest.machine.set_observers(observers).expect("observers");
        guest.run_until(end).expect("run");
        for (at, count) in executions(&mut guest) {
            *seen.entry(at).or_insert(0) += count;
        }
    }
    let mut expected = BTreeMap::new();
    rounds().into_iter().take(17).for_each(|(at, _)| *expected.entry(at).or_insert(0) += 1);
    assert_eq!(seen, expected);
    // Calls were logged from the fourth instruction to the ninth: ret, call, ret.
    let calls: Vec<(bool, u64)> =
        guest.machine.take_calls().iter().map(|c| (c.is_call, c.moment.0)).collect();
    assert_eq!(calls, [(false, 4), (true, 7), (false, 9)]);
}

#[test]
fn counts_survive_a_full_cache_and_pieces_that_are_undone() {
    // Many blocks: a chain of `inc %eax; jmp next` in turn, and a loop around it; the smallest
    // cache is full several times.
    let links = 30_000_u32;
    // 0: mov $4,%ecx; 5: movabs $DATA,%rdi; 15: head
    let mut code = [&set_ecx(4)[..], &set_rdi(DATA)].concat();
    let head = code.len();
    for _ in 0..links {
        // test %eax,%eax; js +0; mov %eax,(%rdi); inc %eax; jmp +0
        code.extend([0x85, 0xc0, 0x78, 0, 0x89, 0x07, 0xff, 0xc0, 0xeb, 0]);
    }
    // mov %eax,4(%rdi); dec %ecx; jnz head; int3
    code.extend([0x89, 0x47, 0x04, 0xff, 0xc9, 0x0f, 0x85]);
    let back = head as i32 - (code.len() as i32 + 4);
    code.extend(back.to_le_bytes());
    code.push(0xcc);
    let options = Options { code_cache_bytes: 4 << 20, ..Options::default() };
    let observers = Observers { executions: true, stores: true, ..NO_OBSERVERS };
    let mut guest = Guest::with_options(&options, observers, &code).expect("guest");
    let watch = Watch { range: Address(DATA + 4).range(4), reads: false };
    guest.machine.set_watches(&[watch]).expect("watches");
    let mut stops = Vec::new();
    loop {
        match guest.run(Drive::Freely).expect("run") {
            Exit::Watch { .. } => stops.push(guest.cpu.general[gpr::RAX]),
            exit => {
                assert!(is_breakpoint(&exit), "{exit:?}");
                break;
            }
        }
    }
    let links = u64::from(links);
    assert_eq!(stops, [links, 2 * links, 3 * links, 4 * links]);
    assert!(guest.machine.statistics().cache_flushes > 2);
    let counts = executions(&mut guest);
    assert_eq!(counts.len() as u64, 2 + 5 * links + 3);
    for (at, count) in &counts {
        assert_eq!(*count, if *at < head as u64 { 1 } else { 4 }, "{at}");
    }
    let stores = guest.machine.take_stores();
    assert_eq!(stores.len() as u64, 4 * (links + 1));
    assert!(stores.iter().filter(|s| s.address.0 == DATA + 4).map(|s| s.old).eq([
        0,
        links,
        2 * links,
        3 * links
    ]));
}

/// Runs code that logs as much as any can for longer than two slices: `body` over and over.
fn flood(body: &[u8], prepare: &[u8]) -> Guest {
    let mut code = prepare.to_vec();
    let head = code.len();
    for _ in 0..40 {
        code.extend(body);
    }
    code.push(0xe9);
    let back = head as i32 - (code.len() as i32 + 4);
    code.extend(back.to_le_bytes());
    let mut guest = Guest::new(ALL_OBSERVERS, &code).expect("guest");
    assert_eq!(guest.run_until(600_000).expect("run"), Exit::InstructionLimit);
    assert_eq!(guest.cpu.instructions, 600_000);
    guest
}

#[test]
fn no_log_overflows() {
    // push %rax; lea 8(%rsp),%rsp
    let pushes = flood(&[0x50, 0x48, 0x8d, 0x64, 0x24, 8], &[]).machine.take_stores().len();
    assert!(pushes > 290_000, "{pushes}");
    // call next; lea 8(%rsp),%rsp
    let calls = flood(&[0xe8, 0, 0, 0, 0, 0x48, 0x8d, 0x64, 0x24, 8], &[]).machine.take_calls();
    assert!(calls.len() > 290_000);
    assert!(calls.windows(2).all(|two| two[0].moment < two[1].moment));
    // Nothing but stores of 64 bytes, over page borders.
    if std::is_x86_feature_detected!("avx512f") {
        let store = [0x62, 0xf1, 0x7c, 0x48, 0x11, 0x07];
        let stores = flood(&store, &set_rdi(DATA + 0xfe1)).machine.take_stores().len();
        assert!(stores > 8 * 580_000, "{stores}");
    } else {
        eprintln!("this host lacks AVX-512F: no flood of stores of 64 bytes");
    }
    // Nothing but branches: jz +0
    let taken = flood(&[0x74, 0], &[0x31, 0xc0]).machine.take_control_flow().taken;
    assert!(taken.len() > 580_000 && taken.iter().all(|taken| *taken));
}

#[test]
fn ticks_and_limits_agree_under_observers() {
    let mut guest = Guest::new(ALL_OBSERVERS, &ROUNDS).expect("guest");
    let limits = Limits { ticks: Some(2), instructions: None };
    let exit = guest.machine.run(&mut guest.space, &mut guest.cpu, limits).expect("run");
    assert_eq!(exit, Exit::TickLimit);
    assert_eq!((guest.cpu.instructions, guest.cpu.rip), (11, Address(CODE + 5)));
    assert_eq!(guest.machine.take_control_flow().taken, [true, true]);
    assert_eq!(executions(&mut guest).values().sum::<u64>(), 11);
}

/// Marks are stored where they have to be, whether the guest wants its own accesses aligned or not.
#[test]
fn the_guest_has_its_own_accesses_checked_for_alignment() {
    let set = [0x9c, 0x81, 0x0c, 0x24, 0, 0, 4, 0, 0x9d]; // pushf; orl $AC,(%rsp); popf
    let stores: Vec<u8> =
        (0x80..0xf8_u8).step_by(8).flat_map(|at| [0x89, 0x44, 0x24, at]).collect();
    let clear = [0x9c, 0x81, 0x24, 0x24, 0xff, 0xff, 0xfb, 0xff, 0x9d]; // andl $~AC
    let aligned = [&set[..], &stores, &clear, &[0xcc]].concat();
    everywhere(only(|one| one.written_words = true), &aligned, |guest, exit| {
        assert!(is_breakpoint(&exit), "{exit:?}");
        let instructions = 6 + stores.len() as u64 / 4;
        assert_eq!(guest.cpu.instructions, instructions);
    });
    // mov %eax,-7(%rsp)
    let unaligned = [&set[..], &[0x89, 0x44, 0x24, 0xf9]].concat();
    everywhere(only(|one| one.written_words = true), &unaligned, |guest, exit| {
        assert!(matches!(exit, Exit::Fault(fault) if fault.signal == libc::SIGBUS), "{exit:?}");
        assert_eq!(guest.cpu.instructions, 3);
    });
}
