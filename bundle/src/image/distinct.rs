//! Which blocks of an image are the first of their id.

use std::collections::HashSet;
use std::ops::Range;

use crate::ids::BlockId;

/// Where each distinct id is first, ascending.
///
/// By sorting, which is as fast as hashing tens of thousands of ids, and takes the same time whatever
/// ids a peer makes up.
pub(super) fn positions(ids: &[BlockId]) -> Vec<u32> {
    let begin = |id: &BlockId| {
        let (begin, _) = id.as_bytes().split_first_chunk().expect("an id is longer");
        u64::from_be_bytes(*begin)
    };
    let mut order: Vec<(u64, u32)> = ids.iter().map(begin).zip(0..).collect();
    order.sort_unstable();
    let mut positions = Vec::with_capacity(ids.len());
    for same_begin in order.chunk_by_mut(|a, b| a.0 == b.0) {
        let id = |at: &(u64, u32)| &ids[at.1 as usize];
        same_begin.sort_unstable_by(|a, b| id(a).cmp(id(b)).then(a.1.cmp(&b.1)));
        let same = same_begin.chunk_by(|a, b| id(a) == id(b));
        positions.extend(same.map(|same| same[0].1));
    }
    positions.sort_unstable();
    positions
}

/// The same for ids of which many are those of another image, of which it is known.
///
/// `parts` are all positions, ascending, each range with the first position of the other image from
/// where it has the same ids, if it does. Nothing when so many are new that it takes as long as anew.
pub(super) fn positions_like(
    ids: &[BlockId],
    (other_ids, other): (&[BlockId], &[u32]),
    parts: &[(Range<usize>, Option<usize>)],
) -> Option<Vec<u32>> {
    let changed =
        |(range, same): &(Range<usize>, Option<usize>)| same.is_none().then(|| range.clone());
    let new: usize = parts.iter().filter_map(changed).map(|it| it.len()).sum();
    if new > ids.len() / 8 {
        return None;
    }
    // Where one of these is, another may be first now: what is new, and what is gone from between parts
    // that are the same. Behind the last of those none was first that is still there.
    let mut moved = Sought::default();
    parts.iter().filter_map(changed).for_each(|range| {
        ids[range].iter().for_each(|id| moved.insert(*id));
    });
    let mut behind = 0;
    for (range, same) in parts {
        if let Some(same) = *same {
            let gone = other_ids.get(behind..same).unwrap_or_default();
            gone.iter().for_each(|id| moved.insert(*id));
            behind = same + range.len();
        }
    }
    let mut seen = HashSet::new();
    let mut first = Vec::with_capacity(ids.len());
    for (range, same) in parts {
        let from = same.unwrap_or_default();
        let known = &other[other.partition_point(|it| (*it as usize) < from)..];
        let mut known = known.iter().peekable();
        for (position, there) in range.clone().zip(from..) {
            let was_first = known.next_if(|it| **it as usize == there).is_some();
            let is_first = match moved.contains(&ids[position]) {
                true => seen.insert(ids[position]),
                false => was_first,
            };
            if is_first {
                first.push(position as u32);
            }
        }
    }
    Some(first)
}

/// A few ids that are sought among many.
#[derive(Default)]
pub(super) struct Sought {
    ids: HashSet<BlockId>,
    /// The first two bytes of each: most others are told from them by a look at this.
    begins: Vec<u64>,
}

impl Sought {
    fn place(id: &BlockId) -> (usize, u64) {
        let [a, b, ..] = *id.as_bytes();
        let begin = u16::from_be_bytes([a, b]);
        (usize::from(begin / 64), 1 << (begin % 64))
    }

    pub(super) fn insert(&mut self, id: BlockId) {
        self.begins.resize(1 << 10, 0);
        let (word, bit) = Sought::place(&id);
        self.begins[word] |= bit;
        self.ids.insert(id);
    }

    pub(super) fn contains(&self, id: &BlockId) -> bool {
        let (word, bit) = Sought::place(id);
        self.begins.get(word).is_some_and(|it| it & bit != 0) && self.ids.contains(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
