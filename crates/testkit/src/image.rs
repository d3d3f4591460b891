//! The state of a native process at one moment, to be loaded into the machine any number of times.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use machine::{Backing, Cpu, Machine, Protection, Space};
use model::{Address, PAGE_SIZE, gpr};

use crate::{Native, NativeMapping};

/// The native stack grows by itself, the guest's is this large from the start.
const STACK_BYTES: u64 = 8 << 20;
const CHUNK: usize = 1 << 20;

#[derive(Clone, Debug)]
pub struct Image {
    pub cpu: Cpu,
    mappings: Vec<ImageMapping>,
}

#[derive(Clone, Debug)]
struct ImageMapping {
    range: Range<Address>,
    protection: Protection,
    name: String,
    /// Pages that are not all zero.
    pages: Vec<(Address, Vec<u8>)>,
}

impl Image {
    pub fn capture(native: &Native) -> Result<Image> {
        let mut mappings: Vec<ImageMapping> = Vec::new();
        for NativeMapping { mut range, protection, name } in native.mappings()? {
            let pages = pages_of(native, &range);
            if name == "[stack]" {
                let below = mappings.last().map_or(0, |mapping| mapping.range.end.0);
                range.start.0 = below.max(range.end.0 - STACK_BYTES).min(range.start.0);
            }
            mappings.push(ImageMapping { range, protection, name, pages });
        }
        Ok(Image { cpu: native.cpu()?, mappings })
    }

    /// Where writable memory differs from this image, a line each word.
    pub fn differences(&self, space: &Space) -> Result<Vec<String>> {
        let zeros = vec![0; PAGE_SIZE as usize];
        let mut found = vec![0; PAGE_SIZE as usize];
        let mut lines = Vec::new();
        for mapping in self.mappings.iter().filter(|mapping| mapping.protection.write) {
            let pages: std::collections::HashMap<u64, &Vec<u8>> =
                mapping.pages.iter().map(|(address, bytes)| (address.0, bytes)).collect();
            let mut at = mapping.range.start;
            let dead = dead_stack(&mapping.name, &mapping.range, self.cpu.general[gpr::RSP]);
            while at < mapping.range.end && lines.len() < 20 {
                let expected = pages.get(&at.0).copied().unwrap_or(&zeros);
                space.read(at, &mut found).with_context(|| format!("guest lacks {at}"))?;
                if *expected != found {
                    let mut expected = expected.clone();
                    pass_over(&dead, at, &mut expected, &found);
                    lines.extend(word_differences(at, &expected, &found));
                }
                at = at + PAGE_SIZE;
            }
        }
        Ok(lines)
    }

    /// A new address space with this memory.
    pub fn load(&self, machine: &mut Machine) -> Result<Space> {
        let mut space = machine.new_space()?;
        for mapping in &self.mappings {
            let ImageMapping { range, protection, pages, .. } = mapping;
            space
                .map(range.clone(), *protection, Backing::Zero)
                .with_context(|| format!("{range:?}"))?;
            for (address, bytes) in pages {
                space.write(*address, bytes)?;
            }
        }
        Ok(space)
    }
}

fn pages_of(native: &Native, range: &Range<Address>) -> Vec<(Address, Vec<u8>)> {
    let mut pages = Vec::new();
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let mut at = 0;
    while at < bytes.len() {
        // A page that cannot be read lies behind the end of its file.
        at += native.read_mapped(range.start.0 + at as u64, &mut bytes[at..]);
        at = (at / PAGE_SIZE as usize + 1) * PAGE_SIZE as usize;
    }
    for (index, page) in bytes.chunks(PAGE_SIZE as usize).enumerate() {
        if page.iter().any(|&byte| byte != 0) {
            pages.push((range.start + index as u64 * PAGE_SIZE, page.to_vec()));
        }
    }
    pages
}

/// Stack below the red zone: `xsavec` of the dynamic linker leaves there what components the
/// hardware takes to be in use, which differs from run to run.
fn dead_stack(name: &str, range: &Range<Address>, rsp: u64) -> Range<u64> {
    const RED_ZONE: u64 = 128;
    if name == "[stack]" && (range.start.0..range.end.0).contains(&rsp) {
        range.start.0..rsp - RED_ZONE
    } else {
        0..0
    }
}

/// Makes the bytes of `dead` the same.
fn pass_over(dead: &Range<u64>, at: Address, expected: &mut [u8], found: &[u8]) {
    let end = at.0 + found.len() as u64;
    let (from, to) = (dead.start.max(at.0), dead.end.min(end));
    if from < to {
        let range = (from - at.0) as usize..(to - at.0) as usize;
        expected[range.clone()].copy_from_slice(&found[range]);
    }
}

/// The first places where the guest's memory differs from the native one, a line each.
pub fn memory_differences(native: &Native, space: &Space) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let (mut expected, mut found) = (vec![0; CHUNK], vec![0; CHUNK]);
    let rsp = native.registers()?.rsp;
    for mapping in native.mappings()?.into_iter().filter(|mapping| mapping.protection.write) {
        let mut at = mapping.range.start;
        let dead = dead_stack(&mapping.name, &mapping.range, rsp);
        while at < mapping.range.end {
            let length = CHUNK.min((mapping.range.end - at) as usize);
            let (expected, found) = (&mut expected[..length], &mut found[..length]);
            native.read(at.0, expected)?;
            space.read(at, found).with_context(|| format!("guest lacks {mapping:?}"))?;
            if expected != found {
                pass_over(&dead, at, expected, found);
                lines.extend(word_differences(at, expected, found));
            }
            at = at + length as u64;
            if lines.len() > 20 {
                return Ok(lines);
            }
        }
    }
    Ok(lines)
}

/// The first eight-byte words that differ, a line each.
pub fn word_differences(start: Address, expected: &[u8], found: &[u8]) -> Vec<String> {
    let words = expected.chunks(8).zip(found.chunks(8)).enumerate();
    words
        .filter(|(_, (expected, found))| expected != found)
        .map(|(index, (expected, found))| {
            format!(
                "memory {}: expected {expected:02x?} found {found:02x?}",
                start + index as u64 * 8
            )
        })
        .take(20)
        .collect()
}

/// The guest maps what the native process maps, with the same rights; the stack may be larger.
pub fn check_mappings(native: &Native, space: &Space) -> Result<()> {
    for mapping in native.mappings()? {
        let mut at = mapping.range.start;
        while at < mapping.range.end {
            let found =
                space.mapping_at(at).with_context(|| format!("guest lacks {at} of {mapping:?}"))?;
            ensure!(found.protection == mapping.protection, "{found:?} but natively {mapping:?}");
            at = found.range.end;
        }
    }
    Ok(())
}

/// A hash of all writable memory of the guest (FNV-1a over words).
pub fn memory_hash(space: &Space) -> Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut bytes = vec![0; CHUNK];
    for mapping in space.mappings().filter(|mapping| mapping.protection.write) {
        let mut at = mapping.range.start;
        while at < mapping.range.end {
            let length = CHUNK.min((mapping.range.end - at) as usize);
            space.read(at, &mut bytes[..length])?;
            for word in bytes[..length].chunks_exact(8) {
                let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
                hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3);
                hash ^= hash >> 29;
            }
            at = at + length as u64;
        }
    }
    Ok(hash)
}
