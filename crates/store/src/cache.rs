//! A cache of decoded things, bounded in bytes. What was not used for longest goes, nearly:
//! everything used since it was last looked at gets a second chance.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Position of a record in the index, section in it, chunk in that.
pub type CacheKey = (u64, u32, u32);

#[derive(Debug)]
pub struct Cache {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<CacheKey, Slot>,
    queue: VecDeque<CacheKey>,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    value: Arc<dyn Any + Send + Sync>,
    bytes: usize,
    used: bool,
}

/// For the bookkeeping of an entry.
const SLOT_BYTES: usize = 128;

impl Cache {
    pub fn new(limit: usize) -> Cache {
        Cache { limit, inner: Mutex::default() }
    }

    /// What is cached under `key`, or else what `load` makes, with its size in bytes.
    /// Two threads that miss at once both load.
    pub fn get<T: Send + Sync + 'static, E>(
        &self,
        key: CacheKey,
        load: impl FnOnce() -> Result<(T, usize), E>,
    ) -> Result<Arc<T>, E> {
        if let Some(value) = self.lock().find(key).and_then(|value| value.downcast().ok()) {
            return Ok(value);
        }
        let (value, bytes) = load()?;
        let value = Arc::new(value);
        self.lock().insert(key, value.clone(), bytes + SLOT_BYTES, self.limit);
        Ok(value)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn find(&mut self, key: CacheKey) -> Option<Arc<dyn Any + Send + Sync>> {
        let slot = self.slots.get_mut(&key)?;
        slot.used = true;
        Some(slot.value.clone())
    }

    fn insert(
        &mut self,
        key: CacheKey,
        value: Arc<dyn Any + Send + Sync>,
        bytes: usize,
        limit: usize,
    ) {
        if bytes > limit {
            return;
        }
        let slot = Slot { value, bytes, used: false };
        match self.slots.insert(key, slot) {
            Some(old) => self.bytes -= old.bytes,
            None => self.queue.push_back(key),
        }
        self.bytes += bytes;
        while self.bytes > limit {
            let Some(oldest) = self.queue.pop_front() else { break };
            let Some(slot) = self.slots.get_mut(&oldest) else { continue };
            if std::mem::take(&mut slot.used) {
                self.queue.push_back(oldest);
            } else {
                self.bytes -= slot.bytes;
                self.slots.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_bound_holds() {
        let cache = Cache::new(10 * (SLOT_BYTES + 100));
        let load = |n: u64| cache.get((n, 0, 0), || Ok::<_, ()>((n, 100))).unwrap();
        for n in 0..1000 {
            assert_eq!(*load(n), n);
            let kept = cache.get((0, 0, 0), || Err::<(u64, usize), ()>(()));
            assert_eq!(kept.as_deref(), Ok(&0), "used each time and yet lost");
        }
        let inner = cache.lock();
        assert!(inner.bytes <= 10 * (SLOT_BYTES + 100));
        assert_eq!(inner.slots.len(), inner.queue.len());
        drop(inner);
        assert_eq!(cache.get((1, 0, 0), || Err::<(u64, usize), _>(())), Err(()));
    }

    #[test]
    fn what_is_larger_than_the_cache_is_handed_through() {
        let cache = Cache::new(100);
        assert_eq!(*cache.get((0, 0, 0), || Ok::<_, ()>(("x", 1000))).unwrap(), "x");
        assert_eq!(cache.lock().bytes, 0);
    }
}
