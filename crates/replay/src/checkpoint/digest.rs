//! Whether two checkpoints are equal, without having both.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::Xxh3;

use super::{Checkpoint, Owner};

/// A hash of a checkpoint's state and memory: equal checkpoints of one recording have equal
/// digests, in every process. It is no protection against forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u128);

impl Checkpoint {
    /// Costs as much as reading all pages.
    pub fn digest(&self) -> Digest {
        let mut hash = Xxh3::new();
        hash.update(&self.encode_state());
        for (owner, pages) in self.memory() {
            let (kind, number) = match owner {
                Owner::Space(number) => (0u32, number),
                Owner::Object(number) => (1, number),
            };
            let pages = pages.all();
            hash.update(&kind.to_le_bytes());
            hash.update(&number.to_le_bytes());
            hash.update(&(pages.len() as u64).to_le_bytes());
            for (page, contents) in pages {
                hash.update(&page.to_le_bytes());
                hash.update(&contents[..]);
            }
        }
        Digest(hash.digest128())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Digest, String> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(Digest).ok_or_else(|| format!("{text:?} is not 32 hexadecimal digits"))
    }
}
