//! Details of units that were asked for, within a budget of bytes.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

/// Something kept as long as there is room. The least recently used goes first.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    state: Mutex<State<V>>,
    bytes_max: usize,
}

#[derive(Debug)]
struct State<V> {
    entries: FxHashMap<(u32, u32), Kept<V>>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Kept<V> {
    value: Arc<V>,
    bytes: usize,
    used: u64,
}

impl<V> Cache<V> {
    pub fn new(bytes_max: usize) -> Cache<V> {
        let state = State { entries: FxHashMap::default(), bytes: 0, clock: 0 };
        Cache { state: Mutex::new(state), bytes_max }
    }

    /// What is kept under a key, or what `make` gives, with its size in bytes. Two threads may
    /// make the same at the same time; the first to finish is kept.
    pub fn get<E>(
        &self,
        key: (u32, u32),
        make: impl FnOnce() -> Result<(V, usize), E>,
    ) -> Result<Arc<V>, E> {
        {
            let mut state = self.lock();
            state.clock += 1;
            let clock = state.clock;
            if let Some(kept) = state.entries.get_mut(&key) {
                kept.used = clock;
                return Ok(Arc::clone(&kept.value));
            }
        }
        let (value, bytes) = make()?;
        let mut state = self.lock();
        let used = state.clock;
        if let Some(kept) = state.entries.get(&key) {
            return Ok(Arc::clone(&kept.value));
        }
        let value = Arc::new(value);
        state.entries.insert(key, Kept { value: Arc::clone(&value), bytes, used });
        state.bytes += bytes;
        if state.bytes > self.bytes_max {
            state.shrink(self.bytes_max / 2);
        }
        Ok(value)
    }

    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<V>> {
        // Nothing that can panic happens while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> State<V> {
    /// Drops what was not used for longest, down to a number of bytes or one entry.
    fn shrink(&mut self, bytes: usize) {
        #[allow(clippy::iter_over_hash_type, reason = "sorted below, by a stamp and the key")]
        let mut ages: Vec<_> = self.entries.iter().map(|(key, kept)| (kept.used, *key)).collect();
        ages.sort_unstable();
        ages.pop();
        for (_, key) in ages {
            if self.bytes <= bytes {
                break;
            }
            if let Some(kept) = self.entries.remove(&key) {
                self.bytes -= kept.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_the_least_recently_used() {
        let cache = Cache::new(100);
        let get = |key: u32, fresh: u32| {
            *cache.get((0, key), || Ok::<_, ()>(((key, fresh), 30))).unwrap()
        };
        for key in 0..3 {
            get(key, 0);
        }
        assert_eq!(get(0, 1), (0, 0));
        // The fourth is too much: 1 and 2, used before 0, go.
        get(3, 0);
        assert!(cache.bytes() <= 60);
        assert_eq!(get(3, 1), (3, 0));
        assert_eq!(get(1, 1), (1, 1));
    }
}
