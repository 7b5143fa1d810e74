//! Where the rows of a key stand: many small sorted shards, shared between versions until one changes.

use std::sync::Arc;

/// Entries of a shard, on average, at which the number of shards doubles.
const SHARD_ENTRIES: usize = 128;
/// Shards of an empty index, as a power of two.
const BITS_MIN: u32 = 4;

/// A row of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: u32,
    pub(super) row: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Low half of the key's hash; the high half chooses the shard.
    tag: u32,
    place: Place,
}

/// See the module. A clone shares all shards.
#[derive(Debug, Clone)]
pub(super) struct Index {
    shards: Vec<Arc<Vec<Entry>>>,
    bits: u32,
    entries: usize,
}

impl Index {
    pub(super) fn new() -> Self {
        let shards = (0..1_usize << BITS_MIN).map(|_| Arc::new(Vec::new())).collect();
        Self { shards, bits: BITS_MIN, entries: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        // A shard grows by doubling: half of its room is unused at worst, a quarter on average.
        self.entries * size_of::<Entry>() * 4 / 3 + self.shards.len() * 64
    }

    /// Places of rows whose key may have this hash.
    pub(super) fn find(&self, hash: u64) -> impl Iterator<Item = Place> + use<'_> {
        let tag = tag_of(hash);
        let shard = self.shards.get(shard_of(hash, self.bits)).map_or(&[][..], |s| s.as_slice());
        let from = shard.partition_point(|entry| entry.tag < tag);
        let equal = shard.get(from..).unwrap_or_default().iter().take_while(move |e| e.tag == tag);
        equal.map(|entry| entry.place)
    }

    /// Adds a place. `hash_of` gives the hash of the key at a place, should the index have to grow.
    pub(super) fn insert(&mut self, hash: u64, place: Place, hash_of: &dyn Fn(Place) -> u64) {
        if self.entries >= SHARD_ENTRIES << self.bits {
            self.grow(hash_of);
        }
        let tag = tag_of(hash);
        let Some(shard) = self.shards.get_mut(shard_of(hash, self.bits)) else { return };
        let shard = Arc::make_mut(shard);
        let at = shard.partition_point(|entry| entry.tag <= tag);
        shard.insert(at, Entry { tag, place });
        self.entries += 1;
    }

    /// Puts `new` where `old` stood.
    pub(super) fn replace(&mut self, hash: u64, old: Place, new: Place) {
        if let Some(entry) = self.entry(hash, old) {
            entry.place = new;
        }
    }

    /// Forgets a place.
    pub(super) fn remove(&mut self, hash: u64, place: Place) {
        let tag = tag_of(hash);
        let Some(shard) = self.shards.get_mut(shard_of(hash, self.bits)) else { return };
        let found = shard.iter().position(|e| e.tag == tag && e.place == place);
        if let Some(at) = found {
            Arc::make_mut(shard).remove(at);
            self.entries -= 1;
        }
    }

    fn entry(&mut self, hash: u64, place: Place) -> Option<&mut Entry> {
        let tag = tag_of(hash);
        let shard = Arc::make_mut(self.shards.get_mut(shard_of(hash, self.bits))?);
        let from = shard.partition_point(|entry| entry.tag < tag);
        shard.get_mut(from..)?.iter_mut().find(|entry| entry.place == place)
    }

    fn grow(&mut self, hash_of: &dyn Fn(Place) -> u64) {
        let bits = self.bits + 1;
        let mut shards = Vec::with_capacity(self.shards.len() * 2);
        for shard in &self.shards {
            // A shard's entries go to two neighbours and stay sorted.
            let (low, high): (Vec<Entry>, Vec<Entry>) = shard
                .iter()
                .partition(|entry| shard_of(hash_of(entry.place), bits).is_multiple_of(2));
            shards.push(Arc::new(low));
            shards.push(Arc::new(high));
        }
        self.shards = shards;
        self.bits = bits;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half of the hash is wanted")]
fn tag_of(hash: u64) -> u32 {
    hash as u32
}

fn shard_of(hash: u64, bits: u32) -> usize {
    usize::try_from(hash >> (64 - bits)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> u64 {
        u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn clones_keep_what_they_had() {
        let place = |n: u32| Place { block: 0, row: n };
        let mut index = Index::new();
        for n in 0..20_000 {
            index.insert(hash(n), place(n), &|place| hash(place.row));
        }
        let before = index.clone();
        for n in 0..20_000 {
            let moved = Place { block: 1, row: n };
            if n % 2 == 0 {
                index.replace(hash(n), place(n), moved);
            } else {
                index.remove(hash(n), place(n));
            }
        }
        assert_eq!((before.len(), index.len()), (20_000, 10_000));
        for n in 0..20_000 {
            assert!(before.find(hash(n)).any(|p| p == place(n)), "{n}");
            let now: Vec<Place> = index.find(hash(n)).filter(|p| p.row == n).collect();
            let expected: &[Place] = if n % 2 == 0 { &[Place { block: 1, row: n }] } else { &[] };
            assert_eq!(now, expected, "{n}");
        }
    }
}
