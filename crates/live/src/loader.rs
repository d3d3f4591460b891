//! What `execve` does: maps the program and its interpreter, and builds the first stack.

use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use machine::{Backing, Protection, Space};
use model::{Address, PAGE_SIZE};

use crate::address_map::AddressMap;
use crate::{Error, Options};

/// Where a position-independent program goes, as under Linux without randomisation.
const PROGRAM_BASE: u64 = 0x5555_5555_4000;
const STACK: Range<Address> = Address(0x7fff_ff7f_f000)..Address(0x7fff_ffff_f000);

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const PROGRAM_HEADERS_MAX: usize = 128;

/// A loaded program that has not begun to run.
#[derive(Debug)]
pub struct Image {
    pub entry: Address,
    pub stack_pointer: Address,
    /// Behind the program's last byte: the heap begins here.
    pub program_end: Address,
}

pub fn load(space: &mut Space, map: &mut AddressMap, options: &Options) -> Result<Image, Error> {
    map.take(&STACK);
    space.map(STACK, READ_WRITE, Backing::Zero)?;
    let program = Elf::open(&options.program)?;
    let base = if program.position_independent { PROGRAM_BASE } else { 0 };
    program.map(space, map, base)?;
    let mut interpreter_base = 0;
    let mut entry = program.entry.wrapping_add(base);
    if let Some(path) = &program.interpreter {
        let interpreter = Elf::open(path)?;
        let span = interpreter.span();
        let range = map
            .find((span.end - span.start).next_multiple_of(PAGE_SIZE))
            .ok_or_else(|| interpreter.bad("the interpreter does not fit into the user half"))?;
        interpreter_base = range.start.0.wrapping_sub(span.start);
        interpreter.map(space, map, interpreter_base)?;
        entry = interpreter.entry.wrapping_add(interpreter_base);
    }
    let auxiliary = auxiliary_vector(&program, base, interpreter_base);
    let stack_pointer = build_stack(space, options, &auxiliary)?;
    let program_end = Address(program.span().end.wrapping_add(base)).page_ceil();
    Ok(Image { entry: Address(entry), stack_pointer, program_end })
}

const READ_WRITE: Protection = Protection { read: true, write: true, execute: false };

#[derive(Debug)]
struct Elf {
    path: PathBuf,
    file: Arc<File>,
    position_independent: bool,
    entry: u64,
    /// Where the program headers are in memory, relative to the base; and how many.
    headers: u64,
    header_count: u64,
    segments: Vec<Segment>,
    interpreter: Option<PathBuf>,
}

#[derive(Debug)]
struct Segment {
    protection: Protection,
    offset: u64,
    address: u64,
    file_bytes: u64,
    memory_bytes: u64,
}

impl Elf {
    /// Reads headers only. The layout is that of the System V ABI, chapter 4 and 5.
    fn open(path: &Path) -> Result<Elf, Error> {
        let io = |source| Error::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let bad = |reason| Error::BadProgram { path: path.to_owned(), reason };
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).map_err(io)?;
        if header[..6] != *b"\x7fELF\x02\x01" {
            return Err(bad("not a 64-bit little-endian ELF file"));
        }
        let kind = half(&header, 16);
        if half(&header, 18) != 62 || !(2..=3).contains(&kind) {
            return Err(bad("not an x86-64 program"));
        }
        let count = usize::from(half(&header, 56));
        if count > PROGRAM_HEADERS_MAX || usize::from(half(&header, 54)) != PROGRAM_HEADER_BYTES {
            return Err(bad("too many program headers, or of a strange size"));
        }
        let headers_offset = word(&header, 32);
        let mut table = vec![0; count * PROGRAM_HEADER_BYTES];
        file.read_exact_at(&mut table, headers_offset).map_err(io)?;
        let mut elf = Elf {
            path: path.to_owned(),
            file: Arc::new(file),
            position_independent: kind == 3,
            entry: word(&header, 24),
            headers: 0,
            header_count: count as u64,
            segments: Vec::new(),
            interpreter: None,
        };
        for entry in table.chunks_exact(PROGRAM_HEADER_BYTES) {
            elf.add_program_header(entry)?;
        }
        if elf.segments.is_empty() {
            return Err(bad("nothing to load"));
        }
        let holds_headers = elf
            .segments
            .iter()
            .find(|s| (s.offset..s.offset.saturating_add(s.file_bytes)).contains(&headers_offset));
        if let Some(segment) = holds_headers {
            elf.headers = segment.address.wrapping_add(headers_offset - segment.offset);
        }
        Ok(elf)
    }

    fn add_program_header(&mut self, entry: &[u8]) -> Result<(), Error> {
        const LOAD: u16 = 1;
        const INTERPRETER: u16 = 3;
        let flags = half(entry, 4);
        let (offset, file_bytes) = (word(entry, 8), word(entry, 32));
        match half(entry, 0) {
            LOAD => self.segments.push(Segment {
                protection: Protection {
                    read: flags & 4 != 0,
                    write: flags & 2 != 0,
                    execute: flags & 1 != 0,
                },
                offset,
                address: word(entry, 16),
                file_bytes,
                memory_bytes: word(entry, 40),
            }),
            INTERPRETER => {
                let mut name = vec![0; usize::try_from(file_bytes.min(4096)).unwrap_or(0)];
                self.file
                    .read_exact_at(&mut name, offset)
                    .map_err(|source| Error::File { path: self.path.clone(), source })?;
                name.pop_if(|last| *last == 0);
                self.interpreter = Some(PathBuf::from(std::ffi::OsStr::from_bytes(&name)));
            }
            _ => {}
        }
        Ok(())
    }

    /// Addresses from the first page of the first segment to the end of the last one.
    fn span(&self) -> Range<u64> {
        let start = self.segments.iter().map(|s| s.address).min().unwrap_or(0);
        let end = self.segments.iter().map(|s| s.address.saturating_add(s.memory_bytes)).max();
        Address(start).page_start().0..end.unwrap_or(0)
    }

    fn bad(&self, reason: &'static str) -> Error {
        Error::BadProgram { path: self.path.clone(), reason }
    }

    fn map(&self, space: &mut Space, map: &mut AddressMap, base: u64) -> Result<(), Error> {
        for segment in &self.segments {
            let inside = segment.address % PAGE_SIZE;
            let consistent = segment.offset % PAGE_SIZE == inside
                && segment.file_bytes <= segment.memory_bytes
                && segment.memory_bytes < 1 << 40
                && segment.address < 1 << 46;
            if !consistent {
                return Err(self.bad("a segment is not laid out for pages"));
            }
            let start = Address(base + segment.address).page_start();
            let file_bytes = segment.file_bytes + inside;
            let file_end = (start + file_bytes).page_ceil();
            let end = (start + segment.memory_bytes + inside).page_ceil();
            if segment.file_bytes > 0 {
                let file = Arc::clone(&self.file);
                let offset = segment.offset - inside;
                let backing = Backing::File { file, offset, length: file_bytes };
                map.take(&(start..file_end));
                space.map(start..file_end, segment.protection, backing)?;
            }
            let zeroes = if segment.file_bytes > 0 { file_end..end } else { start..end };
            if !zeroes.is_empty() {
                map.take(&zeroes);
                space.map(zeroes, segment.protection, Backing::Zero)?;
            }
        }
        Ok(())
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// An entry of the auxiliary vector: a number, or the address of bytes on the stack.
enum Auxiliary {
    Number(u64),
    Bytes(&'static [u8]),
    ProgramName,
}

/// No AT_SYSINFO_EHDR: the kernel's own shared object would read clocks behind our back.
fn auxiliary_vector(program: &Elf, base: u64, interpreter_base: u64) -> Vec<(u64, Auxiliary)> {
    use Auxiliary::{Bytes, Number, ProgramName};
    let entry = program.entry.wrapping_add(base);
    let headers = program.headers.wrapping_add(base);
    let host = host_auxiliary;
    vec![
        (libc::AT_HWCAP, Number(host(libc::AT_HWCAP))),
        (libc::AT_PAGESZ, Number(PAGE_SIZE)),
        (libc::AT_CLKTCK, Number(100)),
        (libc::AT_PHDR, Number(headers)),
        (libc::AT_PHENT, Number(PROGRAM_HEADER_BYTES as u64)),
        (libc::AT_PHNUM, Number(program.header_count)),
        (libc::AT_BASE, Number(interpreter_base)),
        (libc::AT_FLAGS, Number(0)),
        (libc::AT_ENTRY, Number(entry)),
        (libc::AT_UID, Number(host(libc::AT_UID))),
        (libc::AT_EUID, Number(host(libc::AT_EUID))),
        (libc::AT_GID, Number(host(libc::AT_GID))),
        (libc::AT_EGID, Number(host(libc::AT_EGID))),
        (libc::AT_SECURE, Number(0)),
        (libc::AT_RANDOM, Bytes(b"sixteen bytes...")),
        (libc::AT_HWCAP2, Number(host(libc::AT_HWCAP2))),
        (libc::AT_EXECFN, ProgramName),
        (libc::AT_PLATFORM, Bytes(b"x86_64\0")),
        (libc::AT_NULL, Number(0)),
    ]
}

#[expect(unsafe_code, reason = "the auxiliary vector is reached through libc")]
fn host_auxiliary(key: u64) -> u64 {
    // SAFETY: `getauxval` reads the process's own vector and answers 0 for what is not there.
    unsafe { libc::getauxval(key) }
}

/// The layout of the System V ABI for x86-64, figure 3.9: strings at the top, below them the
/// auxiliary vector, the environment, the arguments and their number.
fn build_stack(
    space: &mut Space,
    options: &Options,
    auxiliary: &[(u64, Auxiliary)],
) -> Result<Address, Error> {
    let mut strings = Strings { space, next: STACK.end };
    let name = strings.push_text(options.program.as_os_str().as_bytes())?;
    let mut words = vec![options.arguments.len() as u64];
    for argument in &options.arguments {
        words.push(strings.push_text(argument.as_bytes())?);
    }
    words.push(0);
    for variable in &options.environment {
        words.push(strings.push_text(variable.as_bytes())?);
    }
    words.push(0);
    for (key, value) in auxiliary {
        words.push(*key);
        words.push(match value {
            Auxiliary::Number(number) => *number,
            Auxiliary::Bytes(bytes) => strings.push(bytes)?,
            Auxiliary::ProgramName => name,
        });
    }
    let below = Address(strings.next.0 & !15);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let start = Address((below - bytes.len() as u64).0 & !15);
    if start < STACK.start + (STACK.end - STACK.start) / 2 {
        return Err(Error::ArgumentsTooLong);
    }
    space.write(start, &bytes)?;
    Ok(start)
}

/// Pushes bytes downwards from the top of the stack.
struct Strings<'a> {
    space: &'a mut Space,
    next: Address,
}

impl Strings<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        if bytes.len() as u64 > self.next - STACK.start {
            return Err(Error::ArgumentsTooLong);
        }
        self.next = self.next - bytes.len() as u64;
        self.space.write(self.next, bytes)?;
        Ok(self.next.0)
    }

    fn push_text(&mut self, text: &[u8]) -> Result<u64, Error> {
        let mut bytes = text.to_vec();
        bytes.push(0);
        self.push(&bytes)
    }
}
