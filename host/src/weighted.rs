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

    /// Keeps `value`, unless it is heavier than the whole cache may be. Gives what is not kept, for
    /// whoever holds a lock around this to drop once it does not.
    #[must_use]
    pub(crate) fn put(&mut self, key: K, value: V, weight: u64) -> Vec<V> {
        if weight > self.limit {
            return vec![value];
        }
        let replaced = self.entries.put(key, (value, weight));
        let mut gone = Vec::new();
        gone.extend(replaced.map(|old| self.without(old)));
        self.weight += weight;
        while self.weight > self.limit {
            let Some((_, old)) = self.entries.pop_lru() else {
                break;
            };
            gone.push(self.without(old));
        }
        gone
    }

    /// Takes out every value that `is_to_go`.
    #[must_use]
    pub(crate) fn take_if(&mut self, is_to_go: impl Fn(&V) -> bool) -> Vec<V>
    where
        K: Clone,
    {
        let entries = self.entries.iter();
        let keys: Vec<K> = entries
            .filter(|(_, (value, _))| is_to_go(value))
            .map(|(key, _)| key.clone())
            .collect();
        let taken = keys.iter().filter_map(|key| self.entries.pop(key));
        let taken: Vec<_> = taken.collect();
        taken.into_iter().map(|old| self.without(old)).collect()
    }

    /// The value of an entry that has gone.
    fn without(&mut self, (value, weight): (V, u64)) -> V {
        self.weight -= weight;
        value
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

    const NONE: [i32; 0] = [];

    #[test]
    fn the_longest_unused_goes_first_and_the_bound_holds() {
        let mut cache = Weighted::new(10);
        assert_eq!(cache.put("a", 1, 4), NONE);
        assert_eq!(cache.put("b", 2, 4), NONE);
        assert_eq!(cache.get("a"), Some(1));
        assert_eq!(cache.put("c", 3, 4), [2]);
        assert_eq!(cache.get("b"), None);
        assert_eq!((cache.get("a"), cache.get("c")), (Some(1), Some(3)));
        assert_eq!(cache.weight(), 8);
    }

    #[test]
    fn replacing_counts_once_and_too_heavy_is_not_kept() {
        let mut cache = Weighted::new(10);
        assert_eq!(cache.put("a", 1, 4), NONE);
        assert_eq!(cache.put("a", 2, 6), [1]);
        assert_eq!(cache.put("b", 3, 11), [3]);
        assert_eq!((cache.weight(), cache.len()), (6, 1));
    }

    #[test]
    fn what_is_taken_out_weighs_nothing() {
        let mut cache = Weighted::new(10);
        for (key, value) in [("a", 1), ("b", 2), ("c", 3)] {
            assert_eq!(cache.put(key, value, 3), NONE);
        }
        let mut taken = cache.take_if(|value| *value != 2);
        taken.sort_unstable();
        assert_eq!((taken, cache.weight(), cache.len()), (vec![1, 3], 3, 1));
        assert_eq!(cache.get("b"), Some(2));
    }
}
