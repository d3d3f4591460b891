//! Against the operations of the Intel SDM, volume 2.

use iced_x86::{Decoder, DecoderOptions, Instruction};
use model::Registers;

use super::{Cell, Executed, From, State, Target};

const RAX: Cell = Cell::General(0);
const RCX: Cell = Cell::General(1);
const XMM0: Cell = Cell::Vector(0);
const XMM1: Cell = Cell::Vector(1);

fn decode(code: &[u8]) -> Instruction {
    let instruction = Decoder::new(64, code, DecoderOptions::NONE).decode();
    assert!(!instruction.is_invalid());
    instruction
}

/// Sources of some bytes of what an instruction writes.
#[track_caller]
fn check(code: &[u8], target: Target, expected: &[(u64, From)]) {
    check_with(code, 0, target, expected);
}

#[track_caller]
fn check_with(code: &[u8], eflags: u64, target: Target, expected: &[(u64, From)]) {
    let instruction = decode(code);
    let registers = Registers { eflags, ..Registers::default() };
    let state = State { registers, vectors: None };
    let executed = Executed { instruction: &instruction, state: &state };
    for (byte, from) in expected {
        assert_eq!(executed.source(target, *byte), *from, "byte {byte} of {instruction:?}");
    }
}

#[test]
fn general_registers() {
    let rax = Target::Register(RAX);
    let rcx = |byte| From::Register(RCX, byte);
    // mov %ecx,%eax; mov %cl,%ah; movzbl %cl,%eax; movslq %ecx,%rax
    check(&[0x89, 0xc8], rax, &[(0, rcx(0)), (3, rcx(3)), (4, From::Extension)]);
    check(&[0x88, 0xcc], rax, &[(0, From::Unchanged), (1, rcx(0)), (2, From::Unchanged)]);
    check(&[0x0f, 0xb6, 0xc1], rax, &[(0, rcx(0)), (1, From::Extension), (7, From::Extension)]);
    check(&[0x48, 0x63, 0xc1], rax, &[(3, rcx(3)), (4, From::Extension)]);
    // mov 8(%rcx),%rax; mov $1,%eax; xor %eax,%eax; add %rcx,%rax
    check(&[0x48, 0x8b, 0x41, 0x08], rax, &[(0, From::Memory(0)), (7, From::Memory(7))]);
    check(&[0xb8, 1, 0, 0, 0], rax, &[(0, From::Literal), (4, From::Extension)]);
    check(&[0x31, 0xc0], rax, &[(0, From::Literal)]);
    check(&[0x48, 0x01, 0xc8], rax, &[(0, From::Computed)]);
    // lea (%rcx),%rax is a copy; lea 8(%rcx),%rax is a sum
    check(&[0x48, 0x8d, 0x01], rax, &[(0, rcx(0)), (7, rcx(7))]);
    check(&[0x48, 0x8d, 0x41, 0x08], rax, &[(0, From::Computed)]);
    // pop %rax; leave
    check(&[0x58], rax, &[(0, From::Memory(0))]);
    check(&[0xc9], Target::Register(Cell::General(5)), &[(7, From::Memory(7))]);
}

#[test]
fn conditional_moves() {
    const ZERO: u64 = 1 << 6;
    let rax = Target::Register(RAX);
    // cmove %rcx,%rax; cmove %ecx,%eax extends in any case
    check_with(&[0x48, 0x0f, 0x44, 0xc1], ZERO, rax, &[(0, From::Register(RCX, 0))]);
    check_with(&[0x48, 0x0f, 0x44, 0xc1], 0, rax, &[(0, From::Unchanged)]);
    check_with(&[0x0f, 0x44, 0xc1], 0, rax, &[(0, From::Unchanged), (4, From::Extension)]);
}

#[test]
fn stores() {
    let memory = Target::Memory(8);
    // mov %rcx,(%rax); movq $1,(%rax); push %rcx; call; rep movsb; rep stosq; xchg %rcx,(%rax)
    check(&[0x48, 0x89, 0x08], memory, &[(5, From::Register(RCX, 5))]);
    check(&[0x48, 0xc7, 0x00, 1, 0, 0, 0], memory, &[(5, From::Literal)]);
    check(&[0x51], memory, &[(7, From::Register(RCX, 7))]);
    check(&[0xe8, 0, 0, 0, 0], memory, &[(0, From::Literal)]);
    check(&[0xf3, 0xa4], Target::Memory(100), &[(0, From::Memory(0)), (99, From::Memory(99))]);
    check(&[0xf3, 0x48, 0xab], Target::Memory(100), &[(9, From::Register(RAX, 1))]);
    check(&[0x48, 0x87, 0x08], memory, &[(2, From::Register(RCX, 2))]);
    check(&[0x48, 0x87, 0x08], Target::Register(RCX), &[(2, From::Memory(2))]);
}

#[test]
fn vectors() {
    let xmm0 = Target::Register(XMM0);
    let one = |byte| From::Register(XMM1, byte);
    // movq %rcx,%xmm0; movhps (%rcx),%xmm0; movhps %xmm0,(%rcx)
    let movq = &[0x66, 0x48, 0x0f, 0x6e, 0xc1];
    check(movq, xmm0, &[(7, From::Register(RCX, 7)), (8, From::Literal), (16, From::Unchanged)]);
    check(&[0x0f, 0x16, 0x01], xmm0, &[(7, From::Unchanged), (8, From::Memory(0))]);
    check(&[0x0f, 0x17, 0x01], Target::Memory(8), &[(0, From::Register(XMM0, 8))]);
    // punpcklqdq %xmm1,%xmm0; punpckhqdq; punpcklbw
    check(&[0x66, 0x0f, 0x6c, 0xc1], xmm0, &[(0, From::Unchanged), (8, one(0)), (15, one(7))]);
    let high = From::Register(XMM0, 8);
    check(&[0x66, 0x0f, 0x6d, 0xc1], xmm0, &[(0, high), (8, one(8))]);
    check(&[0x66, 0x0f, 0x60, 0xc1], xmm0, &[(0, From::Unchanged), (1, one(0)), (3, one(1))]);
    // pshufd $0x1b,%xmm1,%xmm0 turns the elements round
    check(&[0x66, 0x0f, 0x70, 0xc1, 0x1b], xmm0, &[(0, one(12)), (5, one(9)), (15, one(3))]);
    // vmovdqu %ymm1,%ymm0; movaps %xmm1,%xmm0; vzeroupper; paddb %xmm1,%xmm0; pxor %xmm0,%xmm0
    check(&[0xc5, 0xfe, 0x6f, 0xc1], xmm0, &[(31, one(31)), (32, From::Literal)]);
    check(&[0x0f, 0x28, 0xc1], xmm0, &[(15, one(15)), (16, From::Unchanged)]);
    check(&[0xc5, 0xf8, 0x77], xmm0, &[(15, From::Unchanged), (16, From::Literal)]);
    check(&[0x66, 0x0f, 0xfc, 0xc1], xmm0, &[(0, From::Computed)]);
    check(&[0x66, 0x0f, 0xef, 0xc0], xmm0, &[(0, From::Literal)]);
    // vinserti128 $1,%xmm1,%ymm0,%ymm0; vextracti128 $1,%ymm1,%xmm0
    let insert = &[0xc4, 0xe3, 0x7d, 0x38, 0xc1, 0x01];
    check(insert, xmm0, &[(3, From::Register(XMM0, 3)), (16, one(0)), (31, one(15))]);
    check(&[0xc4, 0xe3, 0x7d, 0x39, 0xc8, 0x01], xmm0, &[(0, one(16)), (16, From::Literal)]);
}
