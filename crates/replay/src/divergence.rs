//! The report of a divergence: what was expected, what was found, and how the task came there.

use std::fmt;

use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter};
use machine::Space;
use model::{Address, Event, Moment, Ticks, Tid};

use crate::registers::RegisterPair;

/// Longest x86 instruction.
const INSTRUCTION_BYTES: u64 = 15;
/// Blocks are cut here in the report.
const BLOCK_INSTRUCTIONS: usize = 24;
const BLOCKS: usize = 8;

/// Everything about one divergence.
#[derive(Clone, Debug)]
pub struct Divergence {
    pub event: Event,
    /// Name of the event's kind, as `SYSCALL open entering`.
    pub kind: String,
    pub tid: Tid,
    pub moment: Moment,
    /// What went wrong, in a sentence.
    pub reason: String,
    /// Ticks of the frame, and of the task.
    pub ticks: (Ticks, Ticks),
    /// All registers; empty when the frame has none.
    pub registers: Vec<RegisterPair>,
    /// The last blocks executed, oldest first.
    pub blocks: Vec<Block>,
}

/// A run of instructions.
#[derive(Clone, Debug)]
pub struct Block {
    pub address: Address,
    /// Address and text of each instruction.
    pub instructions: Vec<(Address, String)>,
}

/// The blocks at the end of `addresses`, up to the control flow that ends each.
pub fn disassemble_blocks(space: &Space, addresses: &[Address]) -> Vec<Block> {
    let first = addresses.len().saturating_sub(BLOCKS);
    addresses[first..].iter().map(|&address| disassemble_block(space, address)).collect()
}

fn disassemble_block(space: &Space, start: Address) -> Block {
    let mut block = Block { address: start, instructions: Vec::new() };
    let mut at = start;
    let mut formatter = GasFormatter::new();
    while block.instructions.len() < BLOCK_INSTRUCTIONS {
        let bytes = read_available(space, at, INSTRUCTION_BYTES);
        let mut decoder = Decoder::with_ip(64, &bytes, at.0, DecoderOptions::NONE);
        if !decoder.can_decode() {
            block.instructions.push((at, "(not mapped)".into()));
            break;
        }
        let instruction = decoder.decode();
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        block.instructions.push((at, text));
        if instruction.is_invalid() || instruction.flow_control() != iced_x86::FlowControl::Next {
            break;
        }
        at = Address(instruction.next_ip());
    }
    block
}

/// As many of the bytes at `address` as are mapped.
fn read_available(space: &Space, address: Address, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    if space.read(address, &mut bytes).is_ok() {
        return bytes;
    }
    let in_page = address.page_start() + model::PAGE_SIZE - address;
    bytes.truncate(in_page.min(length) as usize);
    if space.read(address, &mut bytes).is_err() {
        bytes.clear();
    }
    bytes
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "divergence at event {} ({}), task {}, moment {}: {}",
            self.event, self.kind, self.tid, self.moment, self.reason
        )?;
        let (expected, found) = self.ticks;
        let mark = if expected == found { ' ' } else { '*' };
        writeln!(f, "{mark} {:<8} expected {expected:>18}  found {found:>18}", "ticks")?;
        for pair in &self.registers {
            let mark = if pair.differs() { '*' } else { ' ' };
            let RegisterPair { name, expected, found } = pair;
            writeln!(f, "{mark} {name:<8} expected {expected:>#18x}  found {found:>#18x}")?;
        }
        for block in &self.blocks {
            writeln!(f, "block {}", block.address)?;
            for (address, text) in &block.instructions {
                writeln!(f, "    {address}  {text}")?;
            }
        }
        Ok(())
    }
}
