//! A least-recently-used cache that is bounded by bytes.

use std::hash::Hash;

use lru::LruCache;

/// Values with a weight each; beyond `limit` in all, the ones longest unused go.
pub(crate) struct Weighted<K: Hash + Eq, V> {
    entries: LruCache<K, (V, u64)>,
    weight: u64,
    limit: u64,
}

impl<K: Hash + Eq, V: Clone> Weighted<K, V> {
    pub(crate) fn new(limit: u64) -> Self {
        Weighted {
            entries: LruCache::unbounded(),
            weight: 0,
            limit,
        }
    }

    pub(crate) fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.get(key).map(|(value, _)| value.clone())
    }

    /// Keeps `value`, unless it is heavier than the whole cache may be.
    pub(crate) fn put(&mut self, key: K, value: V, weight: u64) {
        if weight > self.limit {
            return;
        }
        if let Some((_, old)) = self.entries.put(key, (value, weight)) {
            self.weight -= old;
        }
        self.weight += weight;
        while self.weight > self.limit {
            let Some((_, (_, old))) = self.entries.pop_lru() else {
                break;
            };
            self.weight -= old;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.weight = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_goes_first_and_the_bound_holds() {
        let mut cache = Weighted::new(10);
        cache.put("a", 1, 4);
        cache.put("b", 2, 4);
        assert_eq!(cache.get("a"), Some(1));
        cache.put("c", 3, 4);
        assert_eq!(cache.get("b"), None);
        assert_eq!((cache.get("a"), cache.get("c")), (Some(1), Some(3)));
        assert_eq!(cache.weight(), 8);
    }

    #[test]
    fn replacing_counts_once_and_too_heavy_is_not_kept() {
        let mut cache = Weighted::new(10);
        cache.put("a", 1, 4);
        cache.put("a", 2, 6);
        cache.put("b", 3, 11);
        assert_eq!((cache.weight(), cache.len()), (6, 1));
    }
}
