//! Which flags mean nothing at a position, because an instruction has left them undefined.
//!
//! Makers differ in what they leave there, so an oracle of one and a replay on a processor of
//! another agree only in the others, and so do AMD's from before and after Zen 4. With processors alike
//! nothing is let pass.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, RflagsBits};
use model::{Address, Tid};
use replay::Session;
use rr_trace::Trace;

/// CF, PF, AF, ZF, SF, OF.
const STATUS: u128 = 0x8d5;

#[derive(Debug)]
pub struct UndefinedFlags {
    alike: bool,
    of_tasks: BTreeMap<Tid, u128>,
}

impl UndefinedFlags {
    pub fn new(trace: &Trace) -> UndefinedFlags {
        let host = std::arch::x86_64::__cpuid_count(0, 0);
        let header = trace.header();
        let same_maker = header
            .cpuid(0, 0)
            .is_some_and(|r| (r.ebx, r.ecx, r.edx) == (host.ebx, host.ecx, host.edx));
        // Zen 4 was the first with AVX-512 (CPUID leaf 7, EBX bit 16), and the first of AMD's to
        // leave flags as it does.
        let recorded = header.cpuid(7, 0).is_some_and(|leaf| leaf.ebx >> 16 & 1 != 0);
        let alike = same_maker && recorded == std::is_x86_feature_detected!("avx512f");
        UndefinedFlags { alike, of_tasks: BTreeMap::new() }
    }

    /// Nothing is known: the next positions lie elsewhere.
    pub fn start(&mut self) {
        self.of_tasks.clear();
    }

    /// The task executes what nobody looks at.
    pub fn forget(&mut self, tid: Option<Tid>) {
        if let Some(tid) = tid {
            self.of_tasks.remove(&tid);
        }
    }

    /// Behind a system call the flags are the recorder's.
    pub fn define(&mut self, tid: Tid) {
        self.of_tasks.insert(tid, 0);
    }

    pub fn get(&self, tid: Tid) -> u128 {
        if self.alike { 0 } else { self.of_tasks.get(&tid).copied().unwrap_or(STATUS) }
    }

    /// Before the instruction at which the task stands is executed.
    pub fn execute(&mut self, session: &Session, tid: Tid) {
        if self.alike {
            return;
        }
        let before = self.get(tid);
        let rip = session.registers(tid).expect("the task executes").rip;
        let after = instruction(session, tid, rip).map_or(STATUS, |next| behind(&next, before));
        self.of_tasks.insert(tid, after);
    }
}

fn instruction(session: &Session, tid: Tid, rip: Address) -> Option<Instruction> {
    let space = session.memory(tid)?;
    let mut bytes = [0; 15];
    let length = (1..=15).rev().find(|&n| space.read(rip, &mut bytes[..n]).is_ok())?;
    let code = &bytes[..length];
    let next = Decoder::with_ip(64, code, rip.0, DecoderOptions::NONE).decode();
    (!next.is_invalid()).then_some(next)
}

fn behind(next: &Instruction, undefined: u128) -> u128 {
    let written = next.rflags_written() | next.rflags_cleared() | next.rflags_set();
    let defined = if may_leave_flags(next) { 0 } else { status(written) };
    undefined & !defined | status(next.rflags_undefined())
}

/// Shifts by nothing leave all flags alone, and so do repeated strings of no elements.
fn may_leave_flags(next: &Instruction) -> bool {
    use Mnemonic as M;
    let shift = matches!(
        next.mnemonic(),
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd
    );
    let counted = (0..next.op_count()).last().is_some_and(|last| match next.op_kind(last) {
        OpKind::Immediate8 => next.immediate8() & 0x1f == 0,
        _ => true,
    });
    shift && counted || next.has_rep_prefix() || next.has_repne_prefix()
}

fn status(bits: u32) -> u128 {
    let flags = [
        (RflagsBits::CF, 0x1),
        (RflagsBits::PF, 0x4),
        (RflagsBits::AF, 0x10),
        (RflagsBits::ZF, 0x40),
        (RflagsBits::SF, 0x80),
        (RflagsBits::OF, 0x800),
    ];
    flags.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, flag)| flag).sum()
}

#[test]
fn flags_become_undefined_and_defined() {
    let check = |code: &[u8], undefined: u128| {
        behind(&Decoder::new(64, code, DecoderOptions::NONE).decode(), undefined)
    };
    assert_eq!(check(&[0x31, 0xc0], STATUS), 0x10); // xor %eax,%eax
    assert_eq!(check(&[0x01, 0xc0], STATUS), 0); // add %eax,%eax
    assert_eq!(check(&[0xff, 0xc0], STATUS), 0x1); // inc %eax
    assert_eq!(check(&[0xd3, 0xe0], 0x40), 0x850); // shl %cl,%eax
    assert_eq!(check(&[0xc1, 0xe0, 3], 0x40), 0x810); // shl $3,%eax
    assert_eq!(check(&[0x90], 0x10), 0x10); // nop
}
