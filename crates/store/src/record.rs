//! The fixed-width structures of the files: headers, and the entries of the index.

use crate::bytes::{Cursor, Fields, is_sealed};
use crate::error::Malformed;

/// Version of everything in the directory; readers refuse others.
pub const FORMAT_VERSION: u32 = 1;

const VOLUME_MAGIC: &[u8; 8] = b"pernoVOL";
const INDEX_MAGIC: &[u8; 8] = b"pernoIDX";
const RECORD_MAGIC: &[u8; 8] = b"pernoREC";

/// Bytes of the header of a volume and of the index.
pub const FILE_HEADER: usize = 32;
/// Bytes of the header of a record.
pub const RECORD_HEADER: usize = 64;
/// Bytes of an entry of the index.
pub const INDEX_ENTRY: usize = 64;

/// Names a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    pub kind: RecordKind,
    /// 0 for leaves and what belongs to them, 1 and more for nodes of the tree.
    pub level: u8,
    /// Node `n` of level `l` is about the leaves `n * 16^l .. (n + 1) * 16^l`.
    pub number: u64,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKind(pub u16);

impl RecordKind {
    /// What happened in a segment of the run.
    pub const LEAF: RecordKind = RecordKind(1);
    /// A summary of sixteen leaves or nodes.
    pub const NODE: RecordKind = RecordKind(2);
    /// From here on, meanings are the caller's: opaque records that belong to a leaf.
    pub const OWN: RecordKind = RecordKind(16);
}

impl RecordId {
    pub fn leaf(number: u64) -> RecordId {
        RecordId { kind: RecordKind::LEAF, level: 0, number }
    }

    pub fn node(level: u8, number: u64) -> RecordId {
        match level {
            0 => RecordId::leaf(number),
            _ => RecordId { kind: RecordKind::NODE, level, number },
        }
    }

    /// The leaf that must be there before this can be complete: records are in this order.
    pub fn last_leaf(&self) -> u64 {
        let width = leaves_below(self.level);
        self.number.saturating_add(1).saturating_mul(width) - 1
    }
}

/// Leaves below a complete node.
pub fn leaves_below(level: u8) -> u64 {
    1_u64.checked_shl(4 * u32::from(level)).unwrap_or(u64::MAX)
}

/// Levels above which nothing can be: 16^15 leaves would not fit into moments.
pub const LEVEL_MAX: u8 = 15;

/// Where a record is and what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub id: RecordId,
    pub volume: u32,
    /// Of the record's header in the volume.
    pub offset: u64,
    /// Of the payload, which follows the header.
    pub length: u64,
    /// The moments that it is about.
    pub start: u64,
    pub end: u64,
    /// Of the payload.
    pub sum: u64,
}

impl IndexEntry {
    pub fn put(&self) -> [u8; INDEX_ENTRY] {
        Fields::<INDEX_ENTRY>::new()
            .put(&self.id.kind.0.to_le_bytes())
            .put(&[self.id.level, 0])
            .put(&self.volume.to_le_bytes())
            .put(&self.id.number.to_le_bytes())
            .put(&self.offset.to_le_bytes())
            .put(&self.length.to_le_bytes())
            .put(&self.start.to_le_bytes())
            .put(&self.end.to_le_bytes())
            .put(&self.sum.to_le_bytes())
            .seal()
    }

    pub fn get(bytes: &[u8]) -> Result<IndexEntry, Malformed> {
        if bytes.len() != INDEX_ENTRY || !is_sealed(bytes) {
            return Err(Malformed("the checksum of an entry is wrong"));
        }
        let mut cursor = Cursor::new(bytes);
        let kind = RecordKind(cursor.u16()?);
        let level = cursor.u8()?;
        if cursor.u8()? != 0 || level > LEVEL_MAX {
            return Err(Malformed("an entry with an unknown level"));
        }
        let volume = cursor.u32()?;
        let number = cursor.u64()?;
        let entry = IndexEntry {
            id: RecordId { kind, level, number },
            volume,
            offset: cursor.u64()?,
            length: cursor.u64()?,
            start: cursor.u64()?,
            end: cursor.u64()?,
            sum: cursor.u64()?,
        };
        let end = entry.offset.checked_add(RECORD_HEADER as u64);
        if number >= 1 << 60 {
            return Err(Malformed("an entry with an impossible number"));
        }
        if end.and_then(|end| end.checked_add(entry.length)).is_none_or(|end| end > 1 << 62) {
            return Err(Malformed("an entry of impossible length"));
        }
        Ok(entry)
    }

    /// Where the record ends in its volume.
    pub fn volume_end(&self) -> u64 {
        self.offset + RECORD_HEADER as u64 + self.length
    }

    /// The header that the record has in the volume.
    pub fn record_header(&self) -> [u8; RECORD_HEADER] {
        Fields::<RECORD_HEADER>::new()
            .put(RECORD_MAGIC)
            .put(&self.id.kind.0.to_le_bytes())
            .put(&[self.id.level, 0, 0, 0, 0, 0])
            .put(&self.id.number.to_le_bytes())
            .put(&self.length.to_le_bytes())
            .put(&self.start.to_le_bytes())
            .put(&self.end.to_le_bytes())
            .put(&self.sum.to_le_bytes())
            .seal()
    }
}

/// Opens every volume.
pub fn volume_header(number: u32) -> [u8; FILE_HEADER] {
    file_header(VOLUME_MAGIC, u64::from(number))
}

/// Opens the index.
pub fn index_header() -> [u8; FILE_HEADER] {
    file_header(INDEX_MAGIC, 0)
}

fn file_header(magic: &[u8; 8], number: u64) -> [u8; FILE_HEADER] {
    Fields::<FILE_HEADER>::new()
        .put(magic)
        .put(&FORMAT_VERSION.to_le_bytes())
        .put(&[0; 4])
        .put(&number.to_le_bytes())
        .seal()
}
