//! Code that changes: by itself, in the same block and elsewhere, through an alias, by writes from
//! outside. Each program computes a number that is wrong when an old instruction is executed.

use machine::{
    Backing, Cpu, Exit, Machine, Observers, Options, Protection, SharedObject, Space, Trap,
};
use model::{Address, gpr};
use testkit::{
    ALL_OBSERVERS, Drive, NO_OBSERVERS, READ_EXECUTE, READ_WRITE, READ_WRITE_EXECUTE, set_eax,
    set_rdi,
};

const CODE: u64 = 0x40_0000;
const ALIAS: u64 = 0x7fff_4000_0000;
const STACK: u64 = 0x7fff_8000_0000;
const ALL: Protection = READ_WRITE_EXECUTE;

fn observer_sets() -> Vec<Observers> {
    let none = NO_OBSERVERS;
    let (words, stores) =
        (Observers { written_words: true, ..none }, Observers { stores: true, ..none });
    vec![none, words, stores, ALL_OBSERVERS]
}

fn run(machine: &mut Machine, space: &mut Space, cpu: &mut Cpu, drive: Drive) -> Exit {
    drive.run(machine, space, cpu).expect("run")
}

/// Runs `check` under every set of observers and drive.
fn everywhere(check: impl Fn(&mut Machine, &mut Space, Drive)) {
    for observers in observer_sets() {
        for drive in Drive::ALL {
            let mut machine = Machine::new(Options::default()).expect("machine");
            machine.set_observers(observers).expect("observers");
            let mut space = machine.new_space().expect("space");
            let stack = Address(STACK)..Address(STACK + 0x2000);
            space.map(stack, READ_WRITE, Backing::Zero).expect("stack");
            println!("{observers:?} {drive:?}");
            check(&mut machine, &mut space, drive);
        }
    }
}

fn start(rip: u64) -> Cpu {
    let mut cpu = Cpu { rip: Address(rip), ..Cpu::default() };
    cpu.general[gpr::RSP] = STACK + 0x1000;
    cpu
}

fn expect_breakpoint(exit: &Exit) {
    assert!(matches!(exit, Exit::Trap { kind: Trap::Breakpoint, .. }), "{exit:?}");
}

/// A little assembler: bytes with places to fill in.
fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn the_next_instruction_of_the_same_block_changes() {
    everywhere(|machine, space, drive| {
        // movl $77,1+next(%rip); next: mov $1,%eax; int3
        let store = bytes(&[&[0xc7, 0x05], &1_i32.to_le_bytes(), &77_u32.to_le_bytes()]);
        let code = bytes(&[&store, &set_eax(1), &[0xcc]]);
        space.map(Address(CODE)..Address(CODE + 0x1000), ALL, Backing::Zero).expect("map");
        for offset in [0, 100, 4096 - code.len() as u64] {
            space.write(Address(CODE + offset), &code).expect("write");
            let mut cpu = start(CODE + offset);
            expect_breakpoint(&run(machine, space, &mut cpu, drive));
            assert_eq!(cpu.general[gpr::RAX], 77);
            assert_eq!(cpu.instructions, 2);
        }
    });
}

#[test]
fn an_instruction_rewrites_its_own_bytes() {
    everywhere(|machine, space, drive| {
        // At `here`: movb $0x90,here(%rip) twice over: the store replaces its own first byte, the
        // loop around it runs it once more. lea here(%rip),%rdi; rep stosb over itself.
        // mov $nops,%ecx; lea here,%rdi; mov $0x90,%al; here: rep stosb (2 bytes); inc %ebx; int3
        let code = bytes(&[
            &[0xb9, 2, 0, 0, 0],
            &[0x48, 0x8d, 0x3d, 2, 0, 0, 0],
            &[0xb0, 0x90],
            &[0xf3, 0xaa],
            &[0xff, 0xc3],
            &[0xcc],
        ]);
        space.map(Address(CODE)..Address(CODE + 0x1000), ALL, Backing::Zero).expect("map");
        space.write(Address(CODE), &code).expect("write");
        let mut cpu = start(CODE);
        expect_breakpoint(&run(machine, space, &mut cpu, drive));
        let mut now = [0; 2];
        space.read(Address(CODE + 14), &mut now).expect("read");
        // What the processor does when a rep instruction overwrites itself is its own affair
        // beyond the first iteration; the program goes on behind it in any case.
        assert_eq!(now[0], 0x90);
        assert_eq!(cpu.general[gpr::RBX], 1);
    });
}

#[test]
fn a_hot_loop_rewrites_a_function_of_another_page() {
    everywhere(|machine, space, drive| {
        let function = CODE + 0x3000;
        // xor %ebx,%ebx; mov $ROUNDS,%ecx; movabs $function+1,%rdi
        // loop: mov %ecx,(%rdi); call function; add %rax,%rbx; dec %ecx; jnz loop; int3
        let rounds = 3000_u32;
        let head = bytes(&[&[0x31, 0xdb, 0xb9], &rounds.to_le_bytes(), &set_rdi(function + 1)]);
        let call_end = CODE + head.len() as u64 + 2 + 5;
        let distance = (function.wrapping_sub(call_end) as u32).to_le_bytes();
        let body = bytes(&[&[0x89, 0x0f, 0xe8], &distance, &[0x48, 0x01, 0xc3, 0xff, 0xc9]]);
        let back = -(body.len() as i8 + 2) as u8;
        let code = bytes(&[&head, &body, &[0x75, back, 0xcc]]);
        space.map(Address(CODE)..Address(CODE + 0x1000), READ_EXECUTE, Backing::Zero).expect("map");
        space.map(Address(CODE + 0x3000)..Address(CODE + 0x4000), ALL, Backing::Zero).expect("map");
        space.write(Address(CODE), &code).expect("write");
        space.write(Address(function), &bytes(&[&set_eax(0), &[0xc3]])).expect("write");
        let mut cpu = start(CODE);
        expect_breakpoint(&run(machine, space, &mut cpu, drive));
        let rounds = u64::from(rounds);
        assert_eq!(cpu.general[gpr::RBX], rounds * (rounds + 1) / 2);
        assert_eq!(cpu.ticks, rounds);
        assert_eq!(cpu.instructions, 3 + rounds * 7);
    });
}

#[test]
fn a_loop_rewrites_itself() {
    everywhere(|machine, space, drive| {
        // loop: add $imm32,%rbx; incl loop+3(%rip); dec %ecx; jnz loop; int3
        let rounds = 2000_u32;
        let head = bytes(&[&[0x31, 0xdb, 0xb9], &rounds.to_le_bytes()]);
        let add = [0x48, 0x81, 0xc3, 0, 0, 0, 0];
        let increment = bytes(&[&[0xff, 0x05], &(-10_i32).to_le_bytes()]);
        let body = bytes(&[&add, &increment, &[0xff, 0xc9]]);
        let back = -(body.len() as i8 + 2) as u8;
        let code = bytes(&[&head, &body, &[0x75, back, 0xcc]]);
        space.map(Address(CODE)..Address(CODE + 0x1000), ALL, Backing::Zero).expect("map");
        space.write(Address(CODE), &code).expect("write");
        let mut cpu = start(CODE);
        expect_breakpoint(&run(machine, space, &mut cpu, drive));
        let rounds = u64::from(rounds);
        assert_eq!(cpu.general[gpr::RBX], rounds * (rounds - 1) / 2);
        assert_eq!(cpu.instructions, 2 + rounds * 4);
    });
}

/// Maps a shared object writable at one address and executable at another.
fn map_alias(space: &mut Space) -> SharedObject {
    let object = SharedObject::new(1, "alias").expect("object");
    object.grow(0x2000).expect("grow");
    let backing = |offset| Backing::Shared { object: object.clone(), offset };
    space.map(Address(CODE)..Address(CODE + 0x2000), READ_EXECUTE, backing(0)).expect("map");
    space.map(Address(ALIAS)..Address(ALIAS + 0x2000), READ_WRITE, backing(0)).expect("map");
    object
}

#[test]
fn code_changes_through_an_alias() {
    everywhere(|machine, space, drive| {
        let _object = map_alias(space);
        let rounds = 500_u32;
        let function = CODE + 0x1000;
        let head = bytes(&[&[0x31, 0xdb, 0xb9], &rounds.to_le_bytes(), &set_rdi(ALIAS + 0x1001)]);
        let call_end = CODE + head.len() as u64 + 2 + 5;
        let distance = (function.wrapping_sub(call_end) as u32).to_le_bytes();
        let body = bytes(&[&[0x89, 0x0f, 0xe8], &distance, &[0x48, 0x01, 0xc3, 0xff, 0xc9]]);
        let back = -(body.len() as i8 + 2) as u8;
        let code = bytes(&[&head, &body, &[0x75, back, 0xcc]]);
        space.write(Address(ALIAS), &code).expect("write");
        space.write(Address(function), &bytes(&[&set_eax(0), &[0xc3]])).expect("write");
        let mut cpu = start(CODE);
        expect_breakpoint(&run(machine, space, &mut cpu, drive));
        let rounds = u64::from(rounds);
        assert_eq!(cpu.general[gpr::RBX], rounds * (rounds + 1) / 2);
    });
}

#[test]
fn the_next_instruction_changes_through_an_alias() {
    everywhere(|machine, space, drive| {
        let _object = map_alias(space);
        // movabs $ALIAS+place,%rdi; movl $77,(%rdi); mov $1,%eax; int3
        let place = 10 + 6 + 1;
        let store = bytes(&[&[0xc7, 0x07], &77_u32.to_le_bytes()]);
        let code = bytes(&[&set_rdi(ALIAS + place), &store, &set_eax(1), &[0xcc]]);
        space.write(Address(CODE), &code).expect("write");
        let mut cpu = start(CODE);
        expect_breakpoint(&run(machine, space, &mut cpu, drive));
        assert_eq!(cpu.general[gpr::RAX], 77);
    });
}

#[test]
fn code_changes_from_outside() {
    everywhere(|machine, space, drive| {
        space.map(Address(CODE)..Address(CODE + 0x1000), READ_EXECUTE, Backing::Zero).expect("map");
        // A loop first, so that blocks are linked.
        let code = |value| {
            bytes(&[&[0xb9, 50, 0, 0, 0], &set_eax(value), &[0xff, 0xc9, 0x75, 0xf7, 0xcc]])
        };
        for value in 0..200 {
            space.write(Address(CODE), &code(value)).expect("write");
            let mut cpu = start(CODE);
            expect_breakpoint(&run(machine, space, &mut cpu, drive));
            assert_eq!(cpu.general[gpr::RAX], u64::from(value));
            assert_eq!(cpu.instructions, 1 + 3 * 50);
        }
    });
}

#[test]
fn code_changes_with_its_mapping() {
    everywhere(|machine, space, drive| {
        let range = Address(CODE)..Address(CODE + 0x1000);
        let other = Address(CODE + 0x10_0000);
        for value in 0..50 {
            space.map(range.clone(), READ_WRITE, Backing::Zero).expect("map");
            space.write(Address(CODE), &bytes(&[&set_eax(value), &[0xcc]])).expect("write");
            let mut cpu = start(CODE);
            let exit = run(machine, space, &mut cpu, drive);
            assert!(
                matches!(exit, Exit::Fault(fault) if fault.address == Address(CODE) && fault.code == 2),
                "{exit:?}"
            );
            space.protect(range.clone(), READ_EXECUTE).expect("protect");
            expect_breakpoint(&run(machine, space, &mut cpu, drive));
            assert_eq!(cpu.general[gpr::RAX], u64::from(value));
            space.relocate(range.clone(), other).expect("relocate");
            let mut cpu = start(CODE);
            let exit = run(machine, space, &mut cpu, drive);
            assert!(
                matches!(exit, Exit::Fault(fault) if fault.address == Address(CODE) && fault.code == 1),
                "{exit:?}"
            );
            let mut cpu = start(other.0);
            expect_breakpoint(&run(machine, space, &mut cpu, drive));
            assert_eq!(cpu.general[gpr::RAX], u64::from(value));
            space.unmap(other..other + 0x1000).expect("unmap");
        }
    });
}

#[test]
fn an_instruction_across_pages_changes_in_either() {
    everywhere(|machine, space, drive| {
        space.map(Address(CODE)..Address(CODE + 0x2000), ALL, Backing::Zero).expect("map");
        let at = CODE + 0x1000 - 3;
        for value in [0x1111_1111_u32, 0x2222_2222, 0x1111_2222, 0x3311_2244] {
            // Only the bytes that differ are written, by the guest: movb $v,(%rdi); int3.
            space.write(Address(at), &bytes(&[&set_eax(0), &[0xcc]])).expect("write");
            expect_breakpoint(&run(machine, space, &mut start(at), drive));
            for (index, byte) in value.to_le_bytes().into_iter().enumerate() {
                let poke = bytes(&[&set_rdi(at + 1 + index as u64), &[0xc6, 0x07, byte, 0xcc]]);
                space.write(Address(CODE + 0x100), &poke).expect("write");
                expect_breakpoint(&run(machine, space, &mut start(CODE + 0x100), drive));
            }
            let mut cpu = start(at);
            expect_breakpoint(&run(machine, space, &mut cpu, drive));
            assert_eq!(cpu.general[gpr::RAX], u64::from(value));
        }
    });
}

#[test]
fn data_beside_code_is_written_often() {
    everywhere(|machine, space, drive| {
        space.map(Address(CODE)..Address(CODE + 0x1000), ALL, Backing::Zero).expect("map");
        // mov $ROUNDS,%ecx; movabs $data,%rdi; loop: incl (%rdi); dec %ecx; jnz loop; int3
        let rounds = 5000_u32;
        let head = bytes(&[&[0xb9], &rounds.to_le_bytes(), &set_rdi(CODE + 0x800)]);
        let code = bytes(&[&head, &[0xff, 0x07, 0xff, 0xc9, 0x75, 0xfa, 0xcc]]);
        space.write(Address(CODE), &code).expect("write");
        let mut cpu = start(CODE);
        expect_breakpoint(&run(machine, space, &mut cpu, drive));
        assert_eq!(space.read_u64(Address(CODE + 0x800)).expect("read"), u64::from(rounds));
        assert_eq!(cpu.instructions, 2 + 3 * u64::from(rounds));
    });
}
