//! Trimming and compaction. Both touch only batches below every reader's position, and never the last batch of
//! a partition.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use fjall::PersistMode;
use otus_engine::position::TopicPartition;
use otus_engine::{Error, Result};

use super::LocalLog;
use super::batch::{self, Head};
use super::store::{Store, base_of, record_key, store_error};

/// Batches that one write may change.
const WRITES_MAX: usize = 256;

/// A batch below the bound.
#[derive(Debug, Clone, Copy)]
struct Piece {
    base: i64,
    head: Head,
    bytes: u64,
}

impl Piece {
    fn end(&self) -> i64 {
        self.base + i64::from(self.head.last_delta) + 1
    }
}

impl LocalLog {
    /// Deletes what is past its retention and compacts keyed topics, below what `position_of` gives for each
    /// partition.
    pub fn tend(&self, position_of: &dyn Fn(&TopicPartition) -> i64) -> Result<()> {
        let topics: Vec<(String, i32, bool)> = {
            let state = self.shared.state.lock();
            let describe = |(name, topic): (&String, &super::store::Topic)| {
                (name.clone(), topic.meta.partitions, topic.meta.keyed)
            };
            state.topics.iter().map(describe).collect()
        };
        for (topic, partitions, keyed) in topics {
            for partition in 0..partitions {
                let tp = TopicPartition::new(topic.as_str(), partition);
                let below = position_of(&tp);
                if keyed {
                    self.compact(&tp, below)?;
                } else {
                    let horizon = self.retention_horizon(&tp, below)?;
                    self.trim(&tp, horizon)?;
                }
            }
        }
        Ok(())
    }

    /// Deletes whole batches below `below`; the last batch stays. Gives the new first offset.
    pub fn trim(&self, tp: &TopicPartition, below: i64) -> Result<i64> {
        let gone = self.pieces(tp, |piece| piece.end() <= below)?;
        let (number, _, extent) = self.shared.extent(tp)?;
        let Some(low) = gone.last().map(Piece::end) else { return Ok(extent.low) };
        // Readers must not begin to read what is about to go.
        self.set_low(tp, low);
        for some in gone.chunks(WRITES_MAX) {
            let store = self.shared.writable()?;
            let mut writes = store.database.batch();
            for piece in some {
                let key = record_key(number, tp.partition, piece.base);
                writes.remove(&store.records, key.to_vec());
            }
            writes.commit().map_err(|e| store_error("cannot be trimmed", e))?;
        }
        self.sync()?;
        Ok(low)
    }

    /// Keeps only the latest record of each key below `below`. Offsets stay; holes remain. A tombstone goes
    /// once it is older than its retention. Gives the number of records that went.
    pub fn compact(&self, tp: &TopicPartition, below: i64) -> Result<u64> {
        let (number, _, _) = self.shared.extent(tp)?;
        let pieces = self.pieces(tp, |piece| piece.end() <= below)?;
        let mut latest: HashMap<Bytes, i64> = HashMap::new();
        for piece in &pieces {
            let (_, entries) = entries(&*self.shared.slot.get()?, number, tp, piece)?;
            for entry in entries {
                if let Some(key) = entry.record.key {
                    latest.insert(key, piece.base + i64::from(entry.delta));
                }
            }
        }
        let oldest_us =
            self.shared.clock.now_us().saturating_sub(self.shared.options.delete_retention_us);
        let mut gone = 0;
        for some in pieces.chunks(WRITES_MAX) {
            let store = self.shared.writable()?;
            let mut writes = store.database.batch();
            for piece in some {
                let (head, mut entries) = entries(&store, number, tp, piece)?;
                let before = entries.len();
                entries.retain(|entry| {
                    let offset = piece.base + i64::from(entry.delta);
                    let newest = match &entry.record.key {
                        Some(key) => latest.get(key) == Some(&offset),
                        None => true,
                    };
                    newest && (entry.record.value.is_some() || entry.timestamp_us >= oldest_us)
                });
                if entries.len() == before {
                    continue;
                }
                gone += (before - entries.len()) as u64;
                let value = batch::encode(&entries, head.last_delta)?;
                let key = record_key(number, tp.partition, piece.base);
                writes.insert(&store.records, key.to_vec(), value);
            }
            writes.commit().map_err(|e| store_error("cannot be compacted", e))?;
        }
        self.sync()?;
        Ok(gone)
    }

    /// Up to where retention by age and bytes lets records go, but not past `below`.
    fn retention_horizon(&self, tp: &TopicPartition, below: i64) -> Result<i64> {
        let options = &self.shared.options;
        let oldest_us = options.retention_us.map(|age| self.shared.clock.now_us() - age);
        let mut excess = match options.retention_bytes {
            Some(max) => self.stored_bytes(tp)?.saturating_sub(max),
            None => 0,
        };
        let gone = self.pieces(tp, |piece| {
            let old = oldest_us.is_some_and(|oldest| piece.head.greatest_us < oldest);
            let goes = piece.end() <= below && (old || excess > 0);
            excess = excess.saturating_sub(piece.bytes);
            goes
        })?;
        Ok(gone.last().map_or(i64::MIN, Piece::end))
    }

    /// The first batches of a partition, as long as they are wanted; never the last one.
    fn pieces(
        &self,
        tp: &TopicPartition,
        mut wanted: impl FnMut(&Piece) -> bool,
    ) -> Result<Vec<Piece>> {
        let (number, _, extent) = self.shared.extent(tp)?;
        let cannot = |e| store_error("cannot be read", e);
        let all = record_key(number, tp.partition, extent.low)
            ..record_key(number, tp.partition, extent.high);
        let mut pieces = Vec::new();
        let mut before: Option<Piece> = None;
        let store = self.shared.slot.get()?;
        for guard in store.records.range(all) {
            if let Some(piece) = before.take() {
                if !wanted(&piece) {
                    break;
                }
                pieces.push(piece);
            }
            let (key, value) = guard.into_inner().map_err(cannot)?;
            let head = batch::head(&value)?;
            before = Some(Piece { base: base_of(&key)?, head, bytes: value.len() as u64 });
        }
        Ok(pieces)
    }

    fn stored_bytes(&self, tp: &TopicPartition) -> Result<u64> {
        let (number, _, extent) = self.shared.extent(tp)?;
        let all = record_key(number, tp.partition, extent.low)
            ..record_key(number, tp.partition, extent.high);
        let mut bytes = 0;
        let store = self.shared.slot.get()?;
        for guard in store.records.range(all) {
            bytes += u64::from(guard.size().map_err(|e| store_error("cannot be read", e))?);
        }
        Ok(bytes)
    }

    fn set_low(&self, tp: &TopicPartition, low: i64) {
        let mut state = self.shared.state.lock();
        let extent = state
            .topics
            .get_mut(&*tp.topic)
            .and_then(|topic| topic.extents.get_mut(usize::try_from(tp.partition).ok()?));
        if let Some(extent) = extent {
            extent.low = extent.low.max(low);
        }
    }

    fn sync(&self) -> Result<()> {
        let synced = self.shared.writable()?.database.persist(PersistMode::SyncAll);
        synced.map_err(|e| store_error("cannot be made durable", e))
    }

    /// Bytes as stored, per topic.
    pub fn bytes_by_topic(&self) -> Result<BTreeMap<String, u64>> {
        let names: Vec<(String, i32)> = {
            let state = self.shared.state.lock();
            state.topics.iter().map(|(n, t)| (n.clone(), t.meta.partitions)).collect()
        };
        let mut sizes = BTreeMap::new();
        for (name, partitions) in names {
            let mut bytes = 0;
            for partition in 0..partitions {
                bytes += self.stored_bytes(&TopicPartition::new(name.as_str(), partition))?;
            }
            sizes.insert(name, bytes);
        }
        Ok(sizes)
    }
}

fn entries(
    store: &Store,
    number: u32,
    tp: &TopicPartition,
    piece: &Piece,
) -> Result<(Head, Vec<batch::Entry>)> {
    let key = record_key(number, tp.partition, piece.base);
    let value = store
        .records
        .get(key)
        .map_err(|e| store_error("cannot be read", e))?
        .ok_or_else(|| Error::corrupt(format!("a batch of {tp} is gone")))?;
    batch::entries(&value)
}
