//! Random instructions: bytes first, so that every encoding has its chance, then registers that
//! make their memory operands meet the test areas.

use std::collections::BTreeMap;

use iced_x86::{
    Code, CodeSize, Decoder, DecoderOptions, EncodingKind, FlowControl, Instruction,
    InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, UsedMemory,
};
use machine::Cpu;
use model::{Address, gpr};

use crate::{
    AREAS, Area, BORDER_AREA, CODE_AREA, LOW_AREA, NEAR_AREA, NONE_AREA, READ_ONLY_AREA, Random,
    STACK_AREA, Snippet, TOP_AREA, expected_trap, random_vector, set_vector_register,
};

/// Makes snippets, and knows which forms it has made how often.
#[derive(Debug)]
pub struct Generator {
    pub random: Random,
    /// How often each form was given out.
    pub counts: BTreeMap<u16, u32>,
    /// Forms that this host does not have: given out a few times only.
    pub unsupported: std::collections::BTreeSet<u16>,
    factory: Factory,
    total: u32,
}

struct Factory(InstructionInfoFactory);

impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Factory")
    }
}

/// A snippet and the forms in it.
#[derive(Clone, Debug)]
pub struct Generated {
    pub snippet: Snippet,
    pub instructions: Vec<Instruction>,
    /// Address of the `int3` at its end.
    pub end: u64,
}

/// What is known of the state while a snippet grows.
struct Draft {
    cpu: Cpu,
    /// Registers whose value the snippet's start decides, and others that are spoken for.
    chosen: [bool; 16],
    written: [bool; 16],
    chosen_vectors: u32,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator {
            random: Random::new(seed),
            counts: BTreeMap::new(),
            unsupported: Default::default(),
            factory: Factory(InstructionInfoFactory::new()),
            total: 0,
        }
    }

    /// A snippet of up to `length_max` instructions to be put at `address`, in `room` bytes.
    pub fn snippet(&mut self, address: u64, length_max: u64, room: usize) -> Generated {
        let mut draft = self.draft(address);
        let mut code = Vec::new();
        let mut instructions: Vec<Instruction> = Vec::new();
        let length = 1 + self.random.below(length_max);
        let mut attempts = 0;
        while (instructions.len() as u64) < length && code.len() + 16 < room && attempts < 20_000 {
            attempts += 1;
            let ip = address + code.len() as u64;
            let Some((bytes, instruction)) = self.candidate(ip) else { continue };
            let alone = saves_pointers(&instruction);
            if alone && !instructions.is_empty() || !self.wanted(&instruction) {
                continue;
            }
            let Some((bytes, instruction)) = self.arrange(&mut draft, bytes, instruction) else {
                continue;
            };
            *self.counts.entry(instruction.code() as u16).or_default() += 1;
            self.total += 1;
            code.extend(bytes);
            let ends = instruction.flow_control() != FlowControl::Next;
            instructions.push(instruction);
            if alone || ends && self.random.chance(80) {
                break;
            }
        }
        let end = address + code.len() as u64;
        for instruction in &instructions {
            aim_branch(&mut code, address, instruction, end);
        }
        for instruction in instructions.iter().filter(|one| is_indirect_register(one)) {
            if let Some(number) = general_number(instruction.op0_register())
                && !draft.written[number]
                && self.random.chance(90)
            {
                draft.cpu.general[number] = end;
            }
        }
        code.push(0xcc);
        let ignored = ignored_bytes(&instructions[0], &draft.cpu);
        Generated { snippet: Snippet { cpu: draft.cpu, code, ignored }, instructions, end }
    }

    /// Registers that nothing speaks for yet.
    fn draft(&mut self, address: u64) -> Draft {
        let random = &mut self.random;
        let mut cpu =
            Cpu { rip: Address(address), vector: random_vector(random), ..Cpu::default() };
        for register in &mut cpu.general {
            *register = value(random);
        }
        cpu.general[gpr::RSP] = STACK_AREA.start + 0x1000 + random.below(0x1000) / 8 * 8;
        cpu.rflags |= random.word() & machine::FLAGS_ARITHMETIC;
        if random.chance(15) {
            cpu.rflags |= machine::FLAG_DIRECTION;
        }
        cpu.fs_base = base_value(random);
        cpu.gs_base = base_value(random);
        Draft { cpu, chosen: [false; 16], written: [false; 16], chosen_vectors: 0 }
    }

    /// Random bytes that decode to something to test.
    fn candidate(&mut self, ip: u64) -> Option<(Vec<u8>, Instruction)> {
        let mut bytes = encoding(&mut self.random);
        let mut decoder = Decoder::with_ip(64, &bytes, ip, DecoderOptions::NONE);
        let instruction = decoder.decode();
        if instruction.code() == Code::INVALID || !is_tested(&instruction) {
            return None;
        }
        // The processors of the two makers differ in near branches with operand size prefix, and
        // AMD's do something of their own with `repne loope`.
        let odd = bytes[..instruction.len()].iter().any(|byte| [0x66, 0xf2, 0xf3].contains(byte));
        if odd && instruction.flow_control() != FlowControl::Next {
            return None;
        }
        bytes.truncate(instruction.len());
        Some((bytes, instruction))
    }

    /// Forms seen often have to wait for the others.
    fn wanted(&mut self, instruction: &Instruction) -> bool {
        let code = instruction.code() as u16;
        let count = self.counts.get(&code).copied().unwrap_or(0);
        if self.unsupported.contains(&code) {
            return count < 3 && self.random.chance(10);
        }
        let average = self.total / (self.counts.len() as u32 + 1);
        count <= average || self.random.chance(2)
    }

    /// Chooses registers and displacements so that memory operands meet an area, mostly.
    fn arrange(
        &mut self,
        draft: &mut Draft,
        mut bytes: Vec<u8>,
        instruction: Instruction,
    ) -> Option<(Vec<u8>, Instruction)> {
        let ip = instruction.ip();
        let mut decoder = Decoder::with_ip(64, &bytes, ip, DecoderOptions::NONE);
        let constants = {
            let one = decoder.decode();
            decoder.get_constant_offsets(&one)
        };
        if instruction.is_ip_rel_memory_operand() {
            let area =
                self.random.pick(&[NEAR_AREA, NEAR_AREA, NEAR_AREA, READ_ONLY_AREA, CODE_AREA]);
            let target = place(&mut self.random, area);
            let displacement = target.wrapping_sub(ip + bytes.len() as u64) as u32;
            patch(&mut bytes, constants.displacement_offset(), &displacement.to_le_bytes());
        } else if is_absolute(&instruction) {
            let size = constants.displacement_size();
            let target = self.absolute_target(&instruction, draft, size);
            patch(&mut bytes, constants.displacement_offset(), &target.to_le_bytes()[..size]);
        }
        let mut decoder = Decoder::with_ip(64, &bytes, ip, DecoderOptions::NONE);
        let instruction = decoder.decode();
        let info = self.factory.0.info(&instruction).clone();
        set_operands(&mut self.random, draft, &instruction);
        for memory in info.used_memory() {
            solve(&mut self.random, draft, memory);
        }
        for used in info.used_registers() {
            let writes = !matches!(
                used.access(),
                OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess
            );
            if let Some(number) = general_number(used.register()) {
                draft.chosen[number] = true;
                draft.written[number] |= writes;
            } else if used.register().is_vector_register() {
                draft.chosen_vectors |= 1 << used.register().number();
            }
        }
        Some((bytes, instruction))
    }

    fn absolute_target(&mut self, instruction: &Instruction, draft: &Draft, size: usize) -> u64 {
        let area = if size == 8 { any_area(&mut self.random) } else { LOW_AREA };
        let target = place(&mut self.random, area);
        match instruction.memory_segment() {
            Register::FS => target.wrapping_sub(draft.cpu.fs_base),
            Register::GS => target.wrapping_sub(draft.cpu.gs_base),
            _ => target,
        }
    }
}

fn patch(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes[at..at + with.len()].copy_from_slice(with);
}

/// Bytes that may be an instruction, all encodings about as often.
fn encoding(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    let kind = random.below(100);
    if random.chance(if kind < 65 { 4 } else { 1 }) {
        bytes.push(0x67);
    }
    if random.chance(8) {
        bytes.push(random.pick(&[0x64, 0x65, 0x64, 0x65, 0x64, 0x2e, 0x36, 0x3e, 0x26]));
    }
    match kind {
        0..65 => legacy(random, &mut bytes, kind),
        65..68 => {
            bytes.extend([0xc5, random.word() as u8]);
            bytes.push(random.word() as u8);
        }
        68..80 => {
            let map = random.pick(&[1, 1, 2, 2, 3]);
            bytes.extend([0xc4, (random.word() as u8 & 0xe0) | map, random.word() as u8]);
            bytes.push(random.word() as u8);
        }
        _ => {
            let map = random.pick(&[1, 1, 1, 2, 2, 2, 3, 3, 5, 6]);
            let (p0, p1) = ((random.word() as u8 & 0xf0) | map, random.word() as u8 | 4);
            let mut p2 = random.word() as u8;
            if random.chance(40) {
                p2 &= 0x78;
            }
            bytes.extend([0x62, p0, p1, p2, random.word() as u8]);
        }
    }
    let number = |random: &mut Random| random.pick(&[0_u8, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7]);
    let form = random.pick(&[0, 1, 1, 2, 2, 2, 3, 3, 3]) << 6;
    bytes.push(form | number(random) << 3 | number(random));
    bytes.push((random.word() as u8 & 0xc0) | number(random) << 3 | number(random));
    let mut rest = [0; 12];
    random.fill(&mut rest);
    if random.chance(30) {
        // A small displacement or immediate.
        let sign = if rest[0] & 0x80 != 0 { 0xff } else { 0 };
        rest[1..8].fill(sign);
    }
    bytes.extend(rest);
    bytes
}

fn legacy(random: &mut Random, bytes: &mut Vec<u8>, kind: u64) {
    for (prefix, percent) in [(0xf0, 4), (0xf2, 8), (0xf3, 10), (0x66, 22)] {
        if random.chance(percent) {
            bytes.push(prefix);
        }
    }
    if random.chance(65) {
        bytes.push(0x40 | random.below(16) as u8);
    }
    match kind {
        0..28 => {}
        28..52 => bytes.push(0x0f),
        52..60 => bytes.extend([0x0f, 0x38]),
        _ => bytes.extend([0x0f, 0x3a]),
    }
    bytes.push(random.word() as u8);
}

/// Whether random uses of this instruction can be compared; the others have tests of their own
/// or belong to the kernel.
pub fn is_tested(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    if expected_trap(instruction).is_some()
        || instruction.is_save_restore_instruction() && is_supervisor(instruction)
    {
        return false;
    }
    let far = matches!(
        instruction.mnemonic(),
        Iret | Iretd
            | Iretq
            | Retf
            | Lss
            | Lfs
            | Lgs
            | Int
            | Into
            | Sysret
            | Sysretq
            | Sysexit
            | Sysexitq
            | Uiret
    ) || instruction.is_call_far_indirect()
        || instruction.is_jmp_far_indirect();
    // The kernel emulates some (UMIP); others depend on the CPU or time or wait.
    let kernel = matches!(
        instruction.mnemonic(),
        Sgdt | Sidt
            | Sldt
            | Smsw
            | Str
            | Lar
            | Lsl
            | Verr
            | Verw
            | Monitorx
            | Mwaitx
            | Rdpru
            | Rdpmc
            | Umonitor
            | Vmmcall
            | Vmcall
            | Wrfsbase
            | Wrgsbase
            | Xabort
            | Xend
            | Xtest
    );
    // Null and other selectors change bases behind the program's back.
    let segment = instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().is_segment_register()
        && matches!(instruction.mnemonic(), Mov | Pop);
    let short_branch =
        matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32)
            || matches!(
                instruction.code(),
                Code::Retnw | Code::Retnw_imm16 | Code::Call_rm16 | Code::Jmp_rm16
            );
    // This CPU (Zen 4) may take rsp from before a push or pop here, unless single-stepped.
    let stale = instruction.op_code().encoding() == EncodingKind::EVEX
        && (0..instruction.op_count())
            .any(|operand| instruction.op_register(operand).full_register() == Register::RSP);
    !(far || stale || instruction.is_privileged() || kernel || segment || short_branch)
}

fn is_supervisor(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(instruction.mnemonic(), Xsaves | Xsaves64 | Xrstors | Xrstors64)
}

/// Whether this instruction stores the x87 pointers or the in-use bits, which the machine makes
/// the same on every run.
fn saves_pointers(instruction: &Instruction) -> bool {
    ignored_length(instruction).is_some()
}

/// Offsets of bytes in the memory operand that are not compared.
fn ignored_length(instruction: &Instruction) -> Option<&'static [(u64, u64)]> {
    use Mnemonic::*;
    Some(match instruction.code() {
        Code::Fnstenv_m14byte
        | Code::Fnsave_m94byte
        | Code::Fstenv_m14byte
        | Code::Fsave_m94byte => &[(6, 8)],
        Code::Fnstenv_m28byte
        | Code::Fnsave_m108byte
        | Code::Fstenv_m28byte
        | Code::Fsave_m108byte => &[(12, 16)],
        _ => match instruction.mnemonic() {
            Fxsave | Fxsave64 => &[(6, 18)],
            Xsave | Xsave64 => &[(6, 18), (512, 64)],
            Xsaveopt | Xsaveopt64 | Xsavec | Xsavec64 => &[(0, 2696)],
            _ => return None,
        },
    })
}

fn ignored_bytes(instruction: &Instruction, cpu: &Cpu) -> Vec<(u64, u64)> {
    let Some(ranges) = ignored_length(instruction) else { return Vec::new() };
    let address = effective_address(instruction, cpu);
    ranges.iter().map(|&(offset, length)| (address.wrapping_add(offset), length)).collect()
}

/// Address of the first operand.
fn effective_address(instruction: &Instruction, cpu: &Cpu) -> u64 {
    let value = |register: Register, _: usize, _: usize| {
        Some(match register {
            Register::FS => cpu.fs_base,
            Register::GS => cpu.gs_base,
            _ => match general_number(register) {
                Some(number) if register.is_gpr32() => u64::from(cpu.general[number] as u32),
                Some(number) => cpu.general[number],
                None => 0,
            },
        })
    };
    instruction.virtual_address(0, 0, value).unwrap_or(0)
}

/// Makes a relative branch lead to the end of the snippet.
fn aim_branch(code: &mut [u8], address: u64, instruction: &Instruction, end: u64) {
    if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::NearBranch64 {
        return;
    }
    let at = (instruction.ip() - address) as usize;
    let bytes = &code[at..at + instruction.len()];
    let mut decoder = Decoder::with_ip(64, bytes, instruction.ip(), DecoderOptions::NONE);
    let one = decoder.decode();
    let constants = decoder.get_constant_offsets(&one);
    let distance = end.wrapping_sub(instruction.next_ip()) as u32;
    let size = constants.immediate_size();
    patch(code, at + constants.immediate_offset(), &distance.to_le_bytes()[..size]);
}

fn is_indirect_register(instruction: &Instruction) -> bool {
    matches!(instruction.flow_control(), FlowControl::IndirectBranch | FlowControl::IndirectCall)
        && instruction.op0_kind() == OpKind::Register
}

pub fn general_number(register: Register) -> Option<usize> {
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => {
            Some(register as usize - Register::AH as usize)
        }
        _ if register.is_gpr() => Some(register.full_register().number()),
        _ => None,
    }
}

fn is_absolute(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory)
        && instruction.memory_base() == Register::None
        && instruction.memory_index() == Register::None
}

/// A value for a register that is not an address.
fn value(random: &mut Random) -> u64 {
    match random.below(10) {
        0 => random.below(3),
        1 => random.below(3).wrapping_neg(),
        2 => random.below(256),
        3 => random.word() as u32 as u64,
        4 => random.word() as i32 as u64,
        5 => random.pick(&[
            0x7f,
            0x80,
            0x7fff,
            0x8000,
            0x7fff_ffff,
            0x8000_0000,
            1 << 63,
            (1 << 63) - 1,
        ]),
        6 => place(random, LOW_AREA),
        _ => random.word(),
    }
}

fn base_value(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => 0,
        1 => random.below(1 << 20),
        2 => NEAR_AREA.start + random.below(0x2000),
        _ => BORDER_AREA.start + 0x1f00 + random.below(0x200),
    }
}

fn any_area(random: &mut Random) -> Area {
    random.pick(&[
        NEAR_AREA,
        NEAR_AREA,
        NEAR_AREA,
        LOW_AREA,
        LOW_AREA,
        BORDER_AREA,
        BORDER_AREA,
        BORDER_AREA,
        STACK_AREA,
        STACK_AREA,
        TOP_AREA,
        READ_ONLY_AREA,
        NONE_AREA,
        CODE_AREA,
    ])
}

/// An address in or about an area: anywhere, aligned, near borders of pages and of the area.
pub fn place(random: &mut Random, area: Area) -> u64 {
    let size = area.end() - area.start;
    match random.below(20) {
        0..8 => area.start + random.below(size),
        8..14 => area.start + random.below(size / 64) * 64,
        14..17 => area.start + random.below(area.pages) * 4096 + 4096 - random.below(65),
        17..19 => area.end() - random.below(72),
        _ => area.start.wrapping_add(random.below(16)).wrapping_sub(random.below(32)),
    }
}

/// Implicit and special operands: counts, dividends, bit offsets.
fn set_operands(random: &mut Random, draft: &mut Draft, instruction: &Instruction) {
    use Mnemonic::*;
    let mut set = |number: usize, value: u64| {
        if !draft.chosen[number] && !draft.written[number] {
            draft.cpu.general[number] = value;
        }
    };
    if instruction.is_string_instruction() || instruction.is_loop() || instruction.is_jcx_short() {
        let count = match random.below(20) {
            0..4 => 0,
            4..14 => 1 + random.below(16),
            14..18 => random.below(400),
            18 => 1 << 40,
            _ => random.word(),
        };
        set(gpr::RCX, count);
    }
    match instruction.mnemonic() {
        Div | Idiv if random.chance(70) => {
            set(gpr::RDX, 0);
            set(gpr::RAX, random.word() >> random.below(64));
        }
        Bt | Bts | Btr | Btc if instruction.op1_kind() == OpKind::Register && random.chance(80) => {
            if let Some(number) = general_number(instruction.op1_register()) {
                set(number, random.below(8 * 600).wrapping_sub(8 * 300));
            }
        }
        Xlatb => set(gpr::RAX, random.below(256)),
        _ => {}
    }
}

/// Chooses base and index registers of a memory operand that are still free.
fn solve(random: &mut Random, draft: &mut Draft, memory: &UsedMemory) {
    let low = memory.address_size() == CodeSize::Code32;
    let stack = memory.base() == Register::RSP && random.chance(80);
    let area = if low {
        LOW_AREA
    } else if stack {
        STACK_AREA
    } else {
        any_area(random)
    };
    let mut target = place(random, area);
    let segment = match memory.segment() {
        Register::FS => draft.cpu.fs_base,
        Register::GS => draft.cpu.gs_base,
        _ => 0,
    };
    target = target.wrapping_sub(segment).wrapping_sub(memory.displacement());
    let free = |draft: &Draft, number: usize| !draft.chosen[number] && !draft.written[number];
    let base = general_number(memory.base());
    let scale = memory.scale().max(1) as u64;
    if memory.index().is_vector_register() {
        set_index_vector(random, draft, memory);
    } else if let Some(index) = general_number(memory.index()) {
        if base == Some(index) {
            if free(draft, index) {
                draft.cpu.general[index] = target / (1 + scale);
                draft.chosen[index] = true;
            }
            return;
        }
        let base_is_free = base.is_some_and(|base| free(draft, base));
        if free(draft, index) {
            draft.cpu.general[index] = if base_is_free {
                match random.below(10) {
                    0..7 => random.below(257).wrapping_sub(128),
                    7..9 => random.word() as i32 as u64,
                    _ => random.word(),
                }
            } else {
                let rest = base.map_or(0, |base| draft.cpu.general[base]);
                (target.wrapping_sub(rest) as i64 / scale as i64) as u64
            };
            draft.chosen[index] = true;
        }
        target = target.wrapping_sub(draft.cpu.general[index].wrapping_mul(scale));
    }
    if let Some(base) = base
        && free(draft, base)
    {
        // The upper half does not matter to a 32-bit address.
        let upper = if low { random.word() << 32 } else { 0 };
        draft.cpu.general[base] = if low { target & 0xffff_ffff | upper } else { target };
        draft.chosen[base] = true;
    }
}

/// Small indices, mostly.
fn set_index_vector(random: &mut Random, draft: &mut Draft, memory: &UsedMemory) {
    let number = memory.index().number();
    if draft.chosen_vectors >> number & 1 != 0 {
        return;
    }
    let mut bytes = [0; 64];
    let size = if memory.vsib_size() == 8 { 8 } else { 4 };
    for chunk in bytes.chunks_mut(size) {
        let index =
            if random.chance(97) { random.below(257).wrapping_sub(128) } else { random.word() };
        chunk.copy_from_slice(&index.to_le_bytes()[..size]);
    }
    set_vector_register(&mut draft.cpu.vector, number, &bytes);
    draft.chosen_vectors |= 1 << number;
}

/// The area that holds an address, for reports.
pub fn area_of(address: u64) -> &'static str {
    AREAS
        .iter()
        .find(|area| (area.start..area.end()).contains(&address))
        .map_or("none", |area| area.name)
}
