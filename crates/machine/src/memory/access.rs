//! Reading and writing guest memory from Rust, and what the guest itself may do.

use std::os::unix::fs::FileExt;

use model::Address;

use super::host::{self, PAGE};
use super::{Backing, Error, Mapping, Space};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessKind {
    Read,
    Write,
    Execute,
}

/// Why a guest access is not allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccessFault {
    /// The first byte that is not allowed.
    pub address: Address,
    /// Something is mapped there, and its protection forbids it.
    pub mapped: bool,
}

impl Space {
    /// Reads whatever the protection; fails at the first byte that is not mapped. Pages of a
    /// shared object behind its end count as not mapped.
    pub fn read(&self, address: Address, bytes: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < bytes.len() {
            let at = address + done as u64;
            let (mapping, length) = self.piece(at, bytes.len() - done)?;
            self.read_piece(mapping, at, &mut bytes[done..done + length])?;
            done += length;
        }
        Ok(())
    }

    /// Writes whatever the protection, as a debugger does; nothing is written when a byte is not
    /// mapped. Marks words, and translations made from these bytes are dropped.
    pub fn write(&mut self, address: Address, bytes: &[u8]) -> Result<(), Error> {
        let mut checked = 0;
        while checked < bytes.len() {
            checked += self.piece(address + checked as u64, bytes.len() - checked)?.1;
        }
        let (_, result) = self.write_pieces(address, bytes);
        result
    }

    /// As `write`, up to the first byte that is not mapped; returns how many bytes were written.
    pub fn write_mapped(&mut self, address: Address, bytes: &[u8]) -> usize {
        self.write_pieces(address, bytes).0
    }

    pub fn read_u64(&self, address: Address) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn write_u64(&mut self, address: Address, value: u64) -> Result<(), Error> {
        self.write(address, &value.to_le_bytes())
    }

    /// Whether the guest may do this.
    pub(crate) fn access(
        &self,
        address: Address,
        length: u64,
        kind: AccessKind,
    ) -> Result<(), AccessFault> {
        if address.0 >> 47 != 0 {
            return Err(AccessFault { address, mapped: false });
        }
        let mut at = address;
        let end = address.0.saturating_add(length);
        while at.0 < end {
            let Some(mapping) = self.mapping_at(at) else {
                return Err(AccessFault { address: at, mapped: false });
            };
            let allowed = match kind {
                AccessKind::Read => mapping.protection.readable(),
                AccessKind::Write => mapping.protection.write,
                AccessKind::Execute => mapping.protection.execute,
            };
            if !allowed {
                return Err(AccessFault { address: at, mapped: true });
            }
            at = mapping.range.end;
        }
        Ok(())
    }

    /// Reads bytes to execute; returns how many there are before the first page that is not
    /// executable.
    pub(crate) fn fetch(&self, address: Address, bytes: &mut [u8]) -> usize {
        let wanted = bytes.len();
        let mut done = 0;
        while done < wanted {
            let at = address + done as u64;
            let Ok((mapping, length)) = self.piece(at, wanted - done) else { break };
            if !mapping.protection.execute
                || self.read_piece(mapping, at, &mut bytes[done..done + length]).is_err()
            {
                break;
            }
            done += length;
        }
        done
    }

    /// The mapping at an address, and how many of `wanted` bytes lie in it.
    #[inline]
    fn piece(&self, at: Address, wanted: usize) -> Result<(&Mapping, usize), Error> {
        let mapping = self.mapping_at(at).ok_or(Error::NotMapped(at))?;
        let mut end = mapping.range.end.0;
        if let Backing::Shared { object, offset } = &mapping.backing {
            let there = object.touchable().saturating_sub(*offset);
            end = end.min(mapping.range.start.0.saturating_add(there));
        }
        if at.0 >= end {
            return Err(Error::NotMapped(at));
        }
        Ok((mapping, wanted.min((end - at.0) as usize)))
    }

    fn read_piece(&self, mapping: &Mapping, at: Address, bytes: &mut [u8]) -> Result<(), Error> {
        if self.parked {
            return self.read_parked(mapping, at, bytes);
        }
        let host = self.place(at.0);
        if mapping.protection.readable() {
            host::copy_out(host, bytes);
            return Ok(());
        }
        if let Backing::Shared { object, offset } = &mapping.backing {
            return object.read(offset + (at - mapping.range.start), bytes);
        }
        host::force_read(host, bytes, host::protection_bits(mapping.protection))
            .map_err(|source| host::error(format!("reading guest memory at {at}"), source))
    }

    /// Page by page from what was kept, else from what was mapped.
    fn read_parked(&self, mapping: &Mapping, at: Address, bytes: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < bytes.len() {
            let at = at + done as u64;
            let in_page = (at.0 % PAGE) as usize;
            let length = (PAGE as usize - in_page).min(bytes.len() - done);
            let part = &mut bytes[done..done + length];
            match (self.contents.pages.get(at.0 / PAGE), &mapping.backing) {
                (Some(page), _) => part.copy_from_slice(&page[in_page..in_page + length]),
                (None, Backing::Shared { object, offset }) => {
                    object.read(offset + (at - mapping.range.start), part)?;
                }
                (None, _) => mapping.read_original(at, part)?,
            }
            done += length;
        }
        Ok(())
    }

    /// Writes up to the first byte that is not mapped; how many bytes were, and why it ended.
    fn write_pieces(&mut self, address: Address, bytes: &[u8]) -> (usize, Result<(), Error>) {
        if let Err(error) = self.unpark() {
            return (0, Err(error));
        }
        let mut done = 0;
        let mut result = Ok(());
        while done < bytes.len() {
            let at = address + done as u64;
            let written = self.piece(at, bytes.len() - done).and_then(|(mapping, length)| {
                self.write_piece(mapping, at, &bytes[done..done + length])?;
                Ok(length)
            });
            match written {
                Ok(length) => done += length,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        if done > 0 {
            self.note_write(address..address + done as u64);
        }
        (done, result)
    }

    /// Writes into one mapping without any bookkeeping.
    pub(super) fn write_piece(
        &self,
        mapping: &Mapping,
        at: Address,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let host = self.place(at.0);
        if let Backing::Shared { object, offset } = &mapping.backing {
            let offset = offset + (at - mapping.range.start);
            if !mapping.protection.write || self.shielded(at, bytes.len()) {
                return object.write(offset, bytes);
            }
            host::copy_in(host, bytes);
            object.note_write(offset..offset + bytes.len() as u64);
            return Ok(());
        }
        let mut bits = host::protection_bits(mapping.protection);
        if mapping.protection.write {
            if !self.shielded(at, bytes.len()) {
                host::copy_in(host, bytes);
                return Ok(());
            }
            // Only for a kernel that refuses writes through /proc/self/mem; pages of the range
            // without code lose their shield then, and their write faults are taken twice.
            bits = libc::PROT_READ;
        }
        host::force_write(host, bytes, bits)
            .map_err(|source| host::error(format!("writing guest memory at {at}"), source))
    }
}

impl Mapping {
    /// What a private mapping held when it was made.
    pub(super) fn read_original(&self, at: Address, bytes: &mut [u8]) -> Result<(), Error> {
        bytes.fill(0);
        let Backing::File { file, offset, length } = &self.backing else { return Ok(()) };
        let distance = at - self.range.start;
        let there = length.saturating_sub(distance).min(bytes.len() as u64);
        let mut filled = 0;
        while filled < there {
            let rest = &mut bytes[filled as usize..there as usize];
            let read = file.read_at(rest, offset + distance + filled);
            match read
                .map_err(|source| host::error(format!("reading the file mapped at {at}"), source))?
            {
                0 => break,
                count => filled += count as u64,
            }
        }
        Ok(())
    }
}
