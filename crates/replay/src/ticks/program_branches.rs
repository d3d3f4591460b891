//! The conditional branches of a program file, as a software counter finds them: a linear sweep
//! over what the file declares to be code.
//!
//! The counter puts a kernel probe (uprobe) on each, and the kernel takes all or none: a single
//! instruction that it cannot emulate, or too many of them, and the file is not counted at all.
//! That is common: OpenSSL has tables in its code, which look like branches with odd prefixes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use iced_x86::{Decoder, DecoderOptions, Instruction};

/// Code is read in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;
/// Longest x86 instruction.
const INSTRUCTION_BYTES: u64 = 15;
/// More code than any program has: the rest is not looked at.
const CODE_BYTES_MAX: u64 = 1 << 30;
/// As many probes as the kernel takes at once.
const PROBES_MAX: u64 = 1 << 20;

const SECTION_PROGBITS: u32 = 1;
const SECTION_EXECUTABLE: u64 = 4;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_EXECUTABLE: u32 = 1;

/// Offsets in the file at which there are counted branches.
#[derive(Debug, Default)]
pub struct ProgramBranches {
    /// By start: a range of file offsets, and a bit for each byte of it.
    ranges: Vec<(Range<u64>, Vec<u64>)>,
    count: u64,
}

impl ProgramBranches {
    /// None for what is not an x86-64 ELF file, or that cannot be probed.
    pub fn of_file(file: &File) -> io::Result<ProgramBranches> {
        let length = file.metadata()?.len();
        let mut found = ProgramBranches::default();
        let mut left = CODE_BYTES_MAX;
        for range in code_ranges(file, length)? {
            let range = range.start..range.end.min(range.start + left);
            left -= range.end - range.start;
            if !found.sweep(file, range)? {
                return Ok(ProgramBranches::default());
            }
        }
        Ok(if found.count > PROBES_MAX { ProgramBranches::default() } else { found })
    }

    pub fn contains(&self, offset: u64) -> bool {
        let behind = self.ranges.partition_point(|(range, _)| range.start <= offset);
        let Some((range, bits)) = behind.checked_sub(1).map(|index| &self.ranges[index]) else {
            return false;
        };
        let index = offset - range.start;
        range.contains(&offset) && bits[(index / 64) as usize] >> (index % 64) & 1 != 0
    }

    /// False when there is a branch that cannot be probed.
    fn sweep(&mut self, file: &File, range: Range<u64>) -> io::Result<bool> {
        let mut bits = vec![0u64; (range.end - range.start).div_ceil(64) as usize];
        let mut piece = Vec::new();
        let mut at = range.start;
        let mut instruction = Instruction::default();
        while at < range.end {
            let end = range.end.min(at + PIECE_BYTES);
            piece.resize((end - at) as usize, 0);
            file.read_exact_at(&mut piece, at)?;
            // An instruction that may go on behind the piece begins the next one.
            let whole = if end == range.end { end - at } else { end - at - INSTRUCTION_BYTES };
            let mut decoder = Decoder::with_ip(64, &piece, 0, DecoderOptions::NONE);
            let mut position = 0;
            while position < whole {
                let here = position as usize;
                if decoder.position() != here && decoder.set_position(here).is_err() {
                    break;
                }
                decoder.decode_out(&mut instruction);
                if instruction.is_invalid() {
                    position += 1;
                    continue;
                }
                if is_conditional(&instruction) {
                    if !can_be_probed(&piece[here..here + instruction.len()], &instruction) {
                        return Ok(false);
                    }
                    let index = at + position - range.start;
                    bits[(index / 64) as usize] |= 1 << (index % 64);
                    self.count += 1;
                }
                position += instruction.len() as u64;
            }
            at += position;
        }
        self.ranges.push((range, bits));
        Ok(true)
    }
}

fn is_conditional(instruction: &Instruction) -> bool {
    instruction.is_jcc_short_or_near()
        || instruction.is_jcx_short()
        || instruction.is_loop()
        || instruction.is_loopcc()
}

/// Whether Linux takes a probe on a branch: not with a prefix of segments other than fs and gs,
/// and not on Jcc with an operand size (`is_prefix_bad` and `branch_setup_xol_ops` in
/// arch/x86/kernel/uprobes.c).
fn can_be_probed(bytes: &[u8], instruction: &Instruction) -> bool {
    let is_prefix = |byte: &&u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    let jcc = instruction.is_jcc_short_or_near();
    !bytes
        .iter()
        .take_while(is_prefix)
        .any(|byte| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0xf0) || jcc && *byte == 0x66)
}

/// What an x86-64 ELF file declares to be code, by start, without overlaps: executable sections, or
/// segments if there are no such sections.
fn code_ranges(file: &File, length: u64) -> io::Result<Vec<Range<u64>>> {
    const HEADER_BYTES: u64 = 64;
    const X86_64: u16 = 62;
    const CLASS_64: u8 = 2;
    if length < HEADER_BYTES {
        return Ok(Vec::new());
    }
    let mut bytes = [0; HEADER_BYTES as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let header = Fields(&bytes);
    if !bytes.starts_with(b"\x7fELF") || bytes[4] != CLASS_64 || header.half(18) != X86_64 {
        return Ok(Vec::new());
    }
    let mut ranges = Vec::new();
    for entry in table(file, length, header.double(40), header.half(58), header.half(60), 64)? {
        let entry = Fields(&entry);
        if entry.word(4) == SECTION_PROGBITS && entry.double(8) & SECTION_EXECUTABLE != 0 {
            ranges.push((entry.double(24), entry.double(32)));
        }
    }
    if ranges.is_empty() {
        for entry in table(file, length, header.double(32), header.half(54), header.half(56), 56)? {
            let entry = Fields(&entry);
            if entry.word(0) == SEGMENT_LOAD && entry.word(4) & SEGMENT_EXECUTABLE != 0 {
                ranges.push((entry.double(8), entry.double(32)));
            }
        }
    }
    ranges.sort_unstable();
    let mut disjoint: Vec<Range<u64>> = Vec::new();
    for (start, size) in ranges {
        let start = start.max(disjoint.last().map_or(0, |last| last.end));
        let end = start.saturating_add(size).min(length);
        if start < end {
            disjoint.push(start..end);
        }
    }
    Ok(disjoint)
}

/// The entries of a table of headers; none when it does not lie in the file.
fn table(
    file: &File,
    length: u64,
    start: u64,
    entry_bytes: u16,
    count: u16,
    needed: u16,
) -> io::Result<Vec<Vec<u8>>> {
    let size = u64::from(entry_bytes) * u64::from(count);
    let inside = start.checked_add(size).is_some_and(|end| end <= length);
    if start == 0 || !inside || entry_bytes < needed {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes.chunks_exact(usize::from(entry_bytes)).map(<[u8]>::to_vec).collect())
}

/// Little-endian fields by offset.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0[at..at + N].try_into().expect("as long as was asked for")
    }

    fn half(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn double(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}
