//! Blocks kept decompressed: whoever goes to and fro in a recording needs the same ones again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Larger blocks than rr writes are not kept.
pub(crate) const KEPT_BLOCK_BYTES_MAX: u64 = 1 << 20;
/// Of each stream.
const KEPT_BLOCKS: usize = 8;

/// The blocks of one stream that were needed last, by their offset in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptBlocks(Arc<Mutex<Blocks>>);

type Blocks = VecDeque<(u64, Arc<[u8]>)>;

impl KeptBlocks {
    pub(crate) fn get(&self, offset: u64) -> Option<Arc<[u8]>> {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = blocks.iter().position(|(at, _)| *at == offset)?;
        let block = blocks.remove(index)?;
        blocks.push_front(block);
        blocks.front().map(|(_, bytes)| bytes.clone())
    }

    pub(crate) fn keep(&self, offset: u64, bytes: Arc<[u8]>) {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.retain(|(at, _)| *at != offset);
        blocks.truncate(KEPT_BLOCKS - 1);
        blocks.push_front((offset, bytes));
    }
}
