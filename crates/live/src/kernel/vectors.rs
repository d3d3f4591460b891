//! `readv`, `writev` and their kin: done as plain reads and writes of one buffer.

use libc::c_long;
use machine::Space;
use model::Address;

use super::forward::{read_at, write_at};
use super::{Answer, BUFFER_BYTES_MAX, Errno, low_half};

/// IOV_MAX of Linux.
const PIECES_MAX: u64 = 1024;

pub fn call(space: &mut Space, number: c_long, arguments: &[u64; 6]) -> Option<Answer> {
    let [descriptor, pieces, count, offset, ..] = *arguments;
    let descriptor = low_half(descriptor);
    let at = match number {
        libc::SYS_readv | libc::SYS_writev => None,
        libc::SYS_preadv | libc::SYS_pwritev => Some(offset.cast_signed()),
        _ => return None,
    };
    let pieces = match read_pieces(space, pieces, count) {
        Ok(pieces) => pieces,
        Err(error) => return Some(Err(error)),
    };
    let reads = matches!(number, libc::SYS_readv | libc::SYS_preadv);
    Some(if reads {
        scatter(space, descriptor, &pieces, at)
    } else {
        gather(space, descriptor, &pieces, at)
    })
}

/// Address and length of each piece, cut where the sum exceeds what one call moves.
fn read_pieces(space: &Space, pieces: u64, count: u64) -> Result<Vec<(Address, usize)>, Errno> {
    if count > PIECES_MAX {
        return Err(Errno(libc::EINVAL));
    }
    let mut left = BUFFER_BYTES_MAX;
    let mut result = Vec::new();
    for index in 0..count {
        let at = Address(pieces) + index * 16;
        let address = Address(space.read_u64(at)?);
        let length = space.read_u64(at + 8)?.min(left);
        left -= length;
        result.push((address, usize::try_from(length).unwrap_or(0)));
    }
    Ok(result)
}

fn scatter(
    space: &mut Space,
    descriptor: i32,
    pieces: &[(Address, usize)],
    at: Option<i64>,
) -> Answer {
    let mut buffer = vec![0; pieces.iter().map(|(_, length)| length).sum()];
    let result = read_at(descriptor, &mut buffer, at)?;
    let mut rest = &buffer[..result];
    for (address, length) in pieces {
        let (piece, behind) = rest.split_at(rest.len().min(*length));
        if !piece.is_empty() {
            space.write(*address, piece)?;
        }
        rest = behind;
    }
    Ok(i64::try_from(result).unwrap_or(i64::MAX))
}

fn gather(space: &Space, descriptor: i32, pieces: &[(Address, usize)], at: Option<i64>) -> Answer {
    let mut buffer = Vec::new();
    for (address, length) in pieces {
        let begin = buffer.len();
        buffer.resize(begin + length, 0);
        if *length > 0 {
            space.read(*address, &mut buffer[begin..])?;
        }
    }
    let result = write_at(descriptor, &buffer, at)?;
    Ok(i64::try_from(result).unwrap_or(i64::MAX))
}
