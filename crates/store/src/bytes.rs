//! Reading and writing of numbers in bytes: little-endian, and varints of seven bits a byte.

use crate::error::Malformed;

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small for numbers near zero, of either sign.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads bytes from their beginning; whoever is done with it calls [`Cursor::end`].
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    pub fn rest_len(&self) -> usize {
        self.rest.len()
    }

    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed("ends early"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed("ends early"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Only the shortest form is accepted: the same numbers are always the same bytes.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let overflows = shift == 63 && byte > 1;
                if overflows || (byte == 0 && shift > 0) {
                    break;
                }
                return Ok(value);
            }
        }
        Err(Malformed("a number is not in its shortest form"))
    }

    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes are left over")) }
    }
}

/// Several byte strings in one: their lengths, then each.
pub fn join<const N: usize>(columns: [&[u8]; N], out: &mut Vec<u8>) {
    for column in columns {
        put_varint(out, column.len() as u64);
    }
    for column in columns {
        out.extend_from_slice(column);
    }
}

/// The inverse of [`join`].
pub fn split<const N: usize>(bytes: &[u8]) -> Result<[Cursor<'_>; N], Malformed> {
    let mut cursor = Cursor::new(bytes);
    let mut lengths = [0; N];
    for length in &mut lengths {
        *length = cursor.varint()?;
    }
    let mut columns = [Cursor::new(&[]); N];
    for (column, length) in columns.iter_mut().zip(lengths) {
        let length = usize::try_from(length).map_err(|_| Malformed("ends early"))?;
        *column = Cursor::new(cursor.bytes(length)?);
    }
    cursor.end()?;
    Ok(columns)
}

/// Little-endian fields of a fixed-width structure.
#[derive(Debug)]
pub struct Fields<const N: usize> {
    bytes: [u8; N],
    used: usize,
}

impl<const N: usize> Fields<N> {
    pub fn new() -> Fields<N> {
        Fields { bytes: [0; N], used: 0 }
    }

    pub fn put(mut self, bytes: &[u8]) -> Self {
        self.bytes[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
        self
    }

    pub fn bytes(self) -> [u8; N] {
        assert_eq!(self.used, N, "a structure of fixed width is not filled");
        self.bytes
    }

    /// Fills the last eight bytes with the checksum of those before.
    pub fn seal(mut self) -> [u8; N] {
        assert_eq!(self.used, N - 8, "a structure of fixed width is not filled");
        let sum = checksum(&self.bytes[..N - 8]);
        self.bytes[N - 8..].copy_from_slice(&sum.to_le_bytes());
        self.bytes
    }
}

/// Whether bytes that [`Fields::seal`] made are still the same.
pub fn is_sealed(bytes: &[u8]) -> bool {
    let Some((body, sum)) = bytes.split_last_chunk() else { return false };
    checksum(body).to_le_bytes() == *sum
}

/// XXH3, 64 bits: against accidents, not against malice.
pub fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_have_one_form() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(cursor.varint(), Ok(value));
            cursor.end().unwrap();
        }
        for bytes in [&[0x80, 0][..], &[0xff; 10], &[0x80], &[0xff; 11]] {
            assert!(Cursor::new(bytes).varint().is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn zigzag_is_small_near_zero() {
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
        for value in [0, 5, -5, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn columns_come_back() {
        let mut bytes = Vec::new();
        join([b"abc", b"", b"z"], &mut bytes);
        let [mut a, b, mut z] = split(&bytes).unwrap();
        assert_eq!((a.bytes(3), b.rest_len(), z.u8()), (Ok(&b"abc"[..]), 0, Ok(b'z')));
        assert!(split::<3>(&bytes[..bytes.len() - 1]).is_err());
        assert!(split::<2>(&bytes).is_err());
    }
}
