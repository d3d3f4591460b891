//! Where the bytes that an instruction writes come from, byte by byte.
//!
//! Copies are followed exactly: moves, string instructions, stack operations, exchanges, vector
//! moves, and those that put elements together in another order. Everything else is computed.
//! Source: Intel SDM volume 2, the operation of each instruction.

#[cfg(test)]
mod tests;

use iced_x86::{
    ConditionCode, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};
use model::Registers;
use replay::VectorRegisters;

use crate::effective::{general, is_high};
use crate::target::vector_number;

/// A register whose content is followed, by its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// Eight bytes.
    General(u8),
    /// Up to 64 bytes.
    Vector(u8),
}

/// What an instruction writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Register(Cell),
    /// Its memory operand, this many bytes long.
    Memory(u64),
}

/// Where a byte comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// It is what it was before.
    Unchanged,
    Register(Cell, u8),
    /// The memory that the instruction reads, so many bytes from its beginning on.
    Memory(u64),
    /// The instruction says it, or it is cleared.
    Literal,
    /// It extends the number in the bytes below it, by its sign or with zeroes.
    Extension,
    Computed,
}

/// A task's state in front of an instruction.
#[derive(Clone, Debug)]
pub struct State {
    pub registers: Registers,
    pub vectors: Option<VectorRegisters>,
}

/// An instruction with the state in front of it.
#[derive(Clone, Copy, Debug)]
pub struct Executed<'a> {
    pub instruction: &'a Instruction,
    pub state: &'a State,
}

/// A register operand: which bytes of which register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    cell: Cell,
    first: u8,
    length: u8,
}

/// The part of a cell that a register's name means.
fn slice(register: Register) -> Option<Slice> {
    if let Some(number) = general(register) {
        let first = u8::from(is_high(register));
        return Some(Slice {
            cell: Cell::General(number as u8),
            first,
            length: register.size() as u8,
        });
    }
    let number = vector_number(register)?;
    Some(Slice { cell: Cell::Vector(number), first: 0, length: register.size() as u8 })
}

/// The cell that a register is in.
pub fn cell(register: Register) -> Option<Cell> {
    slice(register).map(|slice| slice.cell)
}

/// Cells that an instruction may write: a bit for each, general ones first.
pub fn written(instruction: &Instruction, factory: &mut InstructionInfoFactory) -> u64 {
    let info = factory.info(instruction);
    let mut mask = 0;
    for used in info.used_registers() {
        let writes = matches!(
            used.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        if writes && let Some(cell) = cell(used.register()) {
            mask |= bit(cell);
        }
    }
    if restores_state(instruction.mnemonic()) {
        mask |= 0xffff_ffff << 16;
    }
    mask
}

/// Registers whose content an instruction reads, but for those that only make an address.
pub fn read_cells(instruction: &Instruction) -> Vec<Cell> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let reads = |index: &u32| {
        let access = info.op_access(*index);
        let read =
            [OpAccess::Read, OpAccess::CondRead, OpAccess::ReadWrite, OpAccess::ReadCondWrite];
        instruction.op_kind(*index) == OpKind::Register && read.contains(&access)
    };
    let operands = (0..instruction.op_count()).filter(reads);
    let mut cells: Vec<Cell> =
        operands.filter_map(|index| cell(instruction.op_register(index))).collect();
    // Sums are made by `lea` as well.
    if instruction.mnemonic() == Mnemonic::Lea {
        let parts = [instruction.memory_base(), instruction.memory_index()];
        cells.extend(parts.into_iter().filter_map(cell));
    }
    cells
}

/// The bit of a cell in [`written`].
pub fn bit(cell: Cell) -> u64 {
    match cell {
        Cell::General(number) => 1 << number,
        Cell::Vector(number) => 1 << (16 + number),
    }
}

/// Where xmm0 lies in the area of FXSAVE and XSAVE.
const SAVED_XMM: u64 = 160;

fn restores_state(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(mnemonic, M::Fxrstor | M::Fxrstor64 | M::Xrstor | M::Xrstor64)
}

fn saves_state(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Fxsave
            | M::Fxsave64
            | M::Xsave
            | M::Xsave64
            | M::Xsavec
            | M::Xsavec64
            | M::Xsaveopt
            | M::Xsaveopt64
    )
}

/// Whether it is encoded with VEX or EVEX: the rest of a vector register is cleared then.
fn clears_rest(instruction: &Instruction) -> bool {
    !matches!(instruction.encoding(), iced_x86::EncodingKind::Legacy)
}

impl Executed<'_> {
    /// Where a byte of what it writes comes from. Bytes of registers are counted in the whole
    /// register, bytes of memory from the operand's beginning.
    pub fn source(&self, target: Target, byte: u64) -> From {
        let instruction = self.instruction;
        let mnemonic = instruction.mnemonic();
        if saves_state(mnemonic) || restores_state(mnemonic) {
            return saved_state(target, byte, saves_state(mnemonic));
        }
        match target {
            Target::Memory(_) => self.stored(byte),
            Target::Register(cell) => self.loaded(cell, byte),
        }
    }

    /// A byte of a register.
    fn loaded(&self, cell: Cell, byte: u64) -> From {
        let instruction = self.instruction;
        let written = (0..instruction.op_count())
            .filter(|index| instruction.op_kind(*index) == OpKind::Register)
            .filter_map(|index| Some((index, slice(instruction.op_register(index))?)))
            .find(|(index, slice)| slice.cell == cell && self.writes(*index));
        let Some((index, slice)) = written else { return self.implied(cell, byte) };
        let (first, length) = (u64::from(slice.first), u64::from(slice.length));
        if (first..first + length).contains(&byte) {
            return match self.operand(index, byte - first) {
                From::Unchanged => From::Unchanged,
                from => from,
            };
        }
        match cell {
            Cell::General(_) if length == 4 => From::Extension,
            Cell::Vector(_) if clears_rest(instruction) => From::Literal,
            _ => From::Unchanged,
        }
    }

    /// A byte of a register that is no explicit operand.
    fn implied(&self, cell: Cell, byte: u64) -> From {
        use Mnemonic as M;
        let accumulator = cell == Cell::General(0);
        match self.instruction.mnemonic() {
            M::Leave if cell == Cell::General(5) => From::Memory(byte),
            M::Lodsb if accumulator => {
                if byte < 1 {
                    From::Memory(byte)
                } else {
                    From::Unchanged
                }
            }
            M::Lodsw if accumulator => {
                if byte < 2 {
                    From::Memory(byte)
                } else {
                    From::Unchanged
                }
            }
            M::Lodsd if accumulator => {
                if byte < 4 {
                    From::Memory(byte)
                } else {
                    From::Extension
                }
            }
            M::Lodsq if accumulator => From::Memory(byte),
            M::Cdqe if accumulator && byte < 4 => From::Unchanged,
            M::Cwde if accumulator && byte < 2 => From::Unchanged,
            M::Cbw if accumulator && byte != 1 => From::Unchanged,
            M::Cdqe | M::Cwde | M::Cbw if accumulator => From::Extension,
            M::Vzeroupper if byte < 16 => From::Unchanged,
            M::Vzeroupper | M::Vzeroall => From::Literal,
            // Where the exchange took place: see `Story::defined`.
            M::Cmpxchg if accumulator && byte < self.operand_length(0) => self.value_of(0, byte),
            _ => From::Computed,
        }
    }

    /// A byte of the memory operand.
    fn stored(&self, byte: u64) -> From {
        use Mnemonic as M;
        let instruction = self.instruction;
        match instruction.mnemonic() {
            M::Push => return self.value_of(0, byte),
            M::Call => return From::Literal,
            M::Movsb | M::Movsw | M::Movsd | M::Movsq
                if instruction.op0_kind() != OpKind::Register
                    && instruction.is_string_instruction() =>
            {
                return From::Memory(byte);
            }
            M::Stosb => return From::Register(Cell::General(0), 0),
            M::Stosw => return From::Register(Cell::General(0), (byte % 2) as u8),
            M::Stosd => return From::Register(Cell::General(0), (byte % 4) as u8),
            M::Stosq => return From::Register(Cell::General(0), (byte % 8) as u8),
            _ => {}
        }
        let memory = (0..instruction.op_count())
            .find(|index| instruction.op_kind(*index) == OpKind::Memory && self.writes(*index));
        match memory {
            Some(index) => self.operand(index, byte),
            None => From::Computed,
        }
    }

    fn writes(&self, index: u32) -> bool {
        let mut factory = InstructionInfoFactory::new();
        let access = factory.info(self.instruction).op_access(index);
        matches!(
            access,
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        )
    }

    /// A byte of an operand as it is before the instruction.
    fn value_of(&self, index: u32, byte: u64) -> From {
        let instruction = self.instruction;
        match instruction.op_kind(index) {
            OpKind::Register => match slice(instruction.op_register(index)) {
                Some(slice) if byte < u64::from(slice.length) => {
                    From::Register(slice.cell, slice.first + byte as u8)
                }
                _ => From::Computed,
            },
            OpKind::Memory => From::Memory(byte),
            OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => From::Literal,
            _ => From::Computed,
        }
    }

    fn operand_length(&self, index: u32) -> u64 {
        let instruction = self.instruction;
        match instruction.op_kind(index) {
            OpKind::Register => instruction.op_register(index).size() as u64,
            OpKind::Memory => instruction.memory_size().size() as u64,
            _ => 8,
        }
    }

    /// A byte of the destination operand `index` behind the instruction.
    fn operand(&self, index: u32, byte: u64) -> From {
        use Mnemonic as M;
        let instruction = self.instruction;
        let mnemonic = instruction.mnemonic();
        match mnemonic {
            M::Mov => self.value_of(1, byte),
            M::Movzx | M::Movsx | M::Movsxd => {
                if byte < self.operand_length(1) {
                    self.value_of(1, byte)
                } else {
                    From::Extension
                }
            }
            M::Pop => From::Memory(byte),
            M::Xchg => self.value_of(1 - index.min(1), byte),
            M::Xadd if index == 1 => self.value_of(0, byte),
            M::Cmpxchg => self.compared(index, byte),
            M::Lea => self.address(byte),
            M::Xor | M::Sub if self.is_same_register(0, 1) => From::Literal,
            M::Pxor | M::Xorps | M::Xorpd if self.is_same_register(0, 1) => From::Literal,
            M::Vpxor | M::Vxorps | M::Vxorpd | M::Vpxord | M::Vpxorq
                if self.is_same_register(1, 2) =>
            {
                From::Literal
            }
            _ if instruction.condition_code() != ConditionCode::None && is_move(mnemonic) => {
                match self.holds() {
                    true => self.value_of(1, byte),
                    false => From::Unchanged,
                }
            }
            _ => self.vector_operand(index, byte),
        }
    }

    /// The address of a `lea` is a copy if it is one register alone.
    fn address(&self, byte: u64) -> From {
        let instruction = self.instruction;
        let plain = instruction.memory_index() == Register::None
            && instruction.memory_displacement64() == 0;
        match slice(instruction.memory_base()) {
            Some(slice) if plain => From::Register(slice.cell, byte as u8),
            _ if instruction.is_ip_rel_memory_operand() => From::Literal,
            _ => From::Computed,
        }
    }

    /// Compare and exchange.
    fn compared(&self, index: u32, byte: u64) -> From {
        // It is known by the accumulator's register alone whether it succeeds: the caller sees by
        // the memory whether it did.
        if index == 0 { self.value_of(1, byte) } else { From::Computed }
    }

    fn is_same_register(&self, one: u32, other: u32) -> bool {
        let instruction = self.instruction;
        instruction.op_kind(one) == OpKind::Register
            && instruction.op_kind(other) == OpKind::Register
            && instruction.op_register(one) == instruction.op_register(other)
    }

    /// Whether the condition of a conditional move holds.
    fn holds(&self) -> bool {
        let flags = self.state.registers.eflags;
        let flag = |bit: u32| flags >> bit & 1 == 1;
        let (carry, parity, zero, sign, overflow) = (flag(0), flag(2), flag(6), flag(7), flag(11));
        match self.instruction.condition_code() {
            ConditionCode::None => true,
            ConditionCode::o => overflow,
            ConditionCode::no => !overflow,
            ConditionCode::b => carry,
            ConditionCode::ae => !carry,
            ConditionCode::e => zero,
            ConditionCode::ne => !zero,
            ConditionCode::be => carry || zero,
            ConditionCode::a => !carry && !zero,
            ConditionCode::s => sign,
            ConditionCode::ns => !sign,
            ConditionCode::p => parity,
            ConditionCode::np => !parity,
            ConditionCode::l => sign != overflow,
            ConditionCode::ge => sign == overflow,
            ConditionCode::le => zero || sign != overflow,
            ConditionCode::g => !zero && sign == overflow,
        }
    }

    fn vector_operand(&self, index: u32, byte: u64) -> From {
        let instruction = self.instruction;
        if instruction.has_op_mask() {
            return self.masked(index, byte);
        }
        self.unmasked(index, byte)
    }

    /// Elements whose mask bit is clear are left alone, or cleared.
    fn masked(&self, index: u32, byte: u64) -> From {
        let instruction = self.instruction;
        let Some(element) = element(instruction.mnemonic()) else { return From::Computed };
        let mask = instruction.op_mask() as usize - Register::K0 as usize;
        let Some(vectors) = &self.state.vectors else { return From::Computed };
        match vectors.masks.get(mask) {
            Some(bits) if bits >> (byte / element) & 1 == 1 => self.unmasked(index, byte),
            Some(_) if instruction.zeroing_masking() => From::Literal,
            Some(_) => From::Unchanged,
            None => From::Computed,
        }
    }

    fn unmasked(&self, index: u32, byte: u64) -> From {
        use Mnemonic as M;
        let instruction = self.instruction;
        let count = instruction.op_count();
        let to_register = instruction.op_kind(index) == OpKind::Register;
        // The first source of forms with three operands, else the destination as it was.
        let first = if count >= 3 { 1 } else { 0 };
        let second = count.saturating_sub(1);
        match instruction.mnemonic() {
            mnemonic if is_whole_move(mnemonic) => self.value_of(1, byte),
            M::Movd | M::Movq | M::Vmovd | M::Vmovq => {
                let length = self.operand_length(1).min(self.operand_length(0));
                let length = match instruction.mnemonic() {
                    M::Movd | M::Vmovd => length.min(4),
                    _ => length.min(8),
                };
                if byte < length { self.value_of(1, byte) } else { From::Literal }
            }
            M::Movss | M::Movsd | M::Vmovss | M::Vmovsd => {
                let single = matches!(instruction.mnemonic(), M::Movss | M::Vmovss);
                let length = if single { 4 } else { 8 };
                match (to_register, count) {
                    _ if byte < length => self.value_of(second, byte),
                    (true, 3) => self.value_of(1, byte),
                    (true, _) if instruction.op_kind(1) == OpKind::Memory => From::Literal,
                    _ => From::Unchanged,
                }
            }
            M::Movlps | M::Movlpd | M::Vmovlps | M::Vmovlpd => match (to_register, byte < 8) {
                (_, true) => self.value_of(second, byte),
                (true, false) if count == 3 => self.value_of(1, byte),
                _ => From::Unchanged,
            },
            M::Movhps | M::Movhpd | M::Vmovhps | M::Vmovhpd => match (to_register, byte < 8) {
                (false, _) => self.value_of(1, byte + 8),
                (true, false) => self.value_of(second, byte - 8),
                (true, true) if count == 3 => self.value_of(1, byte),
                (true, true) => From::Unchanged,
            },
            _ => self.rearranged(first, second, byte),
        }
    }

    /// A byte of what puts elements together in another order.
    fn rearranged(&self, first: u32, second: u32, byte: u64) -> From {
        use Mnemonic as M;
        let instruction = self.instruction;
        let count = instruction.op_count();
        match instruction.mnemonic() {
            M::Movlhps
            | M::Vmovlhps
            | M::Punpcklqdq
            | M::Vpunpcklqdq
            | M::Unpcklpd
            | M::Vunpcklpd => self.interleaved(first, second, byte, (8, false)),
            M::Punpckhqdq | M::Vpunpckhqdq | M::Unpckhpd | M::Vunpckhpd => {
                self.interleaved(first, second, byte, (8, true))
            }
            M::Punpckldq | M::Vpunpckldq | M::Unpcklps | M::Vunpcklps => {
                self.interleaved(first, second, byte, (4, false))
            }
            M::Punpckhdq | M::Vpunpckhdq | M::Unpckhps | M::Vunpckhps => {
                self.interleaved(first, second, byte, (4, true))
            }
            M::Punpcklwd | M::Vpunpcklwd => self.interleaved(first, second, byte, (2, false)),
            M::Punpckhwd | M::Vpunpckhwd => self.interleaved(first, second, byte, (2, true)),
            M::Punpcklbw | M::Vpunpcklbw => self.interleaved(first, second, byte, (1, false)),
            M::Punpckhbw | M::Vpunpckhbw => self.interleaved(first, second, byte, (1, true)),
            M::Movhlps | M::Vmovhlps => match byte < 8 {
                true => self.value_of(second, byte + 8),
                false => self.value_of(first, byte),
            },
            M::Pshufd | M::Vpshufd => {
                let order = u64::from(instruction.immediate8());
                let (lane, element) = (byte / 16 * 16, byte % 16 / 4);
                let from = lane + (order >> (2 * element) & 3) * 4 + byte % 4;
                self.value_of(1, from)
            }
            M::Pinsrb
            | M::Pinsrw
            | M::Pinsrd
            | M::Pinsrq
            | M::Vpinsrb
            | M::Vpinsrw
            | M::Vpinsrd
            | M::Vpinsrq => {
                let size = element(instruction.mnemonic()).unwrap_or(8);
                let at = u64::from(instruction.immediate8()) % (16 / size) * size;
                match (at..at + size).contains(&byte) {
                    true => self.value_of(second - 1, byte - at),
                    false if count == 4 => self.value_of(1, byte),
                    false => From::Unchanged,
                }
            }
            M::Pextrb
            | M::Pextrw
            | M::Pextrd
            | M::Pextrq
            | M::Vpextrb
            | M::Vpextrw
            | M::Vpextrd
            | M::Vpextrq => {
                let size = element(instruction.mnemonic()).unwrap_or(8);
                let at = u64::from(instruction.immediate8()) % (16 / size) * size;
                if byte < size { self.value_of(1, at + byte) } else { From::Literal }
            }
            M::Vinserti128
            | M::Vinsertf128
            | M::Vinserti64x2
            | M::Vinserti32x4
            | M::Vinsertf64x2
            | M::Vinsertf32x4 => {
                let lanes = self.operand_length(0) / 16;
                let at = u64::from(instruction.immediate8()) % lanes.max(1) * 16;
                match (at..at + 16).contains(&byte) {
                    true => self.value_of(2, byte - at),
                    false => self.value_of(1, byte),
                }
            }
            M::Vextracti128
            | M::Vextractf128
            | M::Vextracti64x2
            | M::Vextracti32x4
            | M::Vextractf64x2
            | M::Vextractf32x4 => {
                let lanes = self.operand_length(1) / 16;
                let at = u64::from(instruction.immediate8()) % lanes.max(1) * 16;
                if byte < 16 { self.value_of(1, at + byte) } else { From::Literal }
            }
            M::Vpbroadcastb
            | M::Vpbroadcastw
            | M::Vpbroadcastd
            | M::Vpbroadcastq
            | M::Vbroadcastss
            | M::Vbroadcastsd
            | M::Vbroadcasti128
            | M::Vbroadcastf128 => {
                self.value_of(1, byte % element(instruction.mnemonic()).unwrap_or(16))
            }
            _ => From::Computed,
        }
    }

    /// Elements of two operands in turn, from the low or high halves of their lanes.
    fn interleaved(&self, first: u32, second: u32, byte: u64, (size, high): (u64, bool)) -> From {
        let (lane, within) = (byte / 16 * 16, byte % 16);
        let (element, of) = (within / size / 2, within / size % 2);
        let half = if high { 8 } else { 0 };
        let from = lane + half + element * size + within % size;
        match of {
            0 if first == 0 && from == byte => From::Unchanged,
            0 => self.value_of(first, from),
            _ => self.value_of(second, from),
        }
    }
}

/// FXSAVE and XSAVE keep xmm0 to xmm15 where both formats have them.
fn saved_state(target: Target, byte: u64, saves: bool) -> From {
    let area = SAVED_XMM..SAVED_XMM + 256;
    match target {
        Target::Memory(_) if saves && area.contains(&byte) => {
            let at = byte - SAVED_XMM;
            From::Register(Cell::Vector((at / 16) as u8), (at % 16) as u8)
        }
        Target::Register(Cell::Vector(number)) if !saves && number < 16 && byte < 16 => {
            From::Memory(SAVED_XMM + u64::from(number) * 16 + byte)
        }
        Target::Register(Cell::General(_)) => From::Unchanged,
        _ => From::Computed,
    }
}

fn is_move(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Cmova
            | M::Cmovae
            | M::Cmovb
            | M::Cmovbe
            | M::Cmove
            | M::Cmovg
            | M::Cmovge
            | M::Cmovl
            | M::Cmovle
            | M::Cmovne
            | M::Cmovno
            | M::Cmovnp
            | M::Cmovns
            | M::Cmovo
            | M::Cmovp
            | M::Cmovs
    )
}

/// Moves of whole vectors.
fn is_whole_move(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Movaps
            | M::Movapd
            | M::Movups
            | M::Movupd
            | M::Movdqa
            | M::Movdqu
            | M::Lddqu
            | M::Movntdq
            | M::Movntdqa
            | M::Movntps
            | M::Movntpd
            | M::Movnti
            | M::Vmovaps
            | M::Vmovapd
            | M::Vmovups
            | M::Vmovupd
            | M::Vmovdqa
            | M::Vmovdqu
            | M::Vlddqu
            | M::Vmovntdq
            | M::Vmovntdqa
            | M::Vmovntps
            | M::Vmovntpd
            | M::Vmovdqa32
            | M::Vmovdqa64
            | M::Vmovdqu8
            | M::Vmovdqu16
            | M::Vmovdqu32
            | M::Vmovdqu64
    )
}

/// Bytes of the elements that an instruction deals with.
fn element(mnemonic: Mnemonic) -> Option<u64> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Vmovdqu8 | M::Vpbroadcastb | M::Pinsrb | M::Pextrb | M::Vpinsrb | M::Vpextrb => 1,
        M::Vmovdqu16 | M::Vpbroadcastw | M::Pinsrw | M::Pextrw | M::Vpinsrw | M::Vpextrw => 2,
        M::Vmovdqu32
        | M::Vmovdqa32
        | M::Vmovups
        | M::Vmovaps
        | M::Vpbroadcastd
        | M::Vbroadcastss
        | M::Pinsrd
        | M::Pextrd
        | M::Vpinsrd
        | M::Vpextrd => 4,
        M::Vmovdqu64
        | M::Vmovdqa64
        | M::Vmovupd
        | M::Vmovapd
        | M::Vpbroadcastq
        | M::Vbroadcastsd
        | M::Pinsrq
        | M::Pextrq
        | M::Vpinsrq
        | M::Vpextrq => 8,
        _ => return None,
    })
}
