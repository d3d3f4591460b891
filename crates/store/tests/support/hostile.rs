//! Payloads that are wrong behind right checksums. `docs/store-format.md` has the layout.

use model::Moment;
use store::EncodedLeaf;

const TRAILER: usize = 24;
const ENTRY: usize = 40;

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<usize> {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(bytes.get(at..at.checked_add(N)?)?);
    usize::try_from(u64::from_le_bytes(wide)).ok()
}

/// Makes all checksums right that can be found.
pub fn repair(bytes: &mut [u8]) -> Option<()> {
    let end = bytes.len().checked_sub(TRAILER)?;
    let sections = number::<4>(bytes, end + 8)?;
    let table = end.checked_sub(sections.checked_mul(ENTRY)?)?;
    for entry in (table..end).step_by(ENTRY) {
        repair_section(bytes, entry);
    }
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[table..end + 16]);
    bytes[end + 16..].copy_from_slice(&sum.to_le_bytes());
    Some(())
}

fn repair_section(bytes: &mut [u8], entry: usize) -> Option<()> {
    let chunks = number::<4>(bytes, entry + 8)?;
    let offset = number::<8>(bytes, entry + 16)?;
    let length = number::<8>(bytes, entry + 24)?;
    let end = offset.checked_add(length)?;
    let directory = end.checked_sub(chunks.checked_mul(ENTRY)?)?;
    bytes.get(directory..end)?;
    for chunk in (directory..end).step_by(ENTRY) {
        let stored = number::<4>(bytes, chunk + 20)?;
        let start = offset.checked_add(number::<8>(bytes, chunk + 24)?)?;
        if let Some(body) = bytes.get(start..start.saturating_add(stored)) {
            let sum = xxhash_rust::xxh3::xxh3_64(body);
            bytes[chunk + 32..chunk + 40].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[directory..end]);
    bytes[entry + 32..entry + 40].copy_from_slice(&sum.to_le_bytes());
    Some(())
}

/// Reads all sections, up to each one's first error. Whether the payload could be opened at all.
pub fn read(bytes: &[u8]) -> bool {
    let Ok(leaf) = EncodedLeaf::from_bytes(bytes.to_vec()) else { return false };
    let leaf = leaf.read().unwrap();
    _ = leaf.written().map(Iterator::count);
    _ = leaf.read().map(Iterator::count);
    _ = leaf.code().map(Iterator::count);
    _ = leaf.called().map(Iterator::count);
    _ = leaf.keys().map(Iterator::count);
    _ = leaf.depths().map(Iterator::count);
    _ = leaf.memory().map(Iterator::count);
    _ = leaf.lineages().map(Iterator::count);
    _ = leaf.happenings(Moment(0)).map(Iterator::count);
    for task in leaf.tasks_with_calls() {
        _ = leaf.calls(task, Moment(0)).map(Iterator::count);
    }
    for tag in leaf.blobs() {
        _ = leaf.blob(tag).map(Iterator::count);
    }
    true
}
