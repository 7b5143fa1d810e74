//! Rows of keyed tables, written through the log: a write is a record, and what it expects of the row is judged
//! by every reader in the order of the log. The locks here only spare this process from writing what would lose.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use otus_engine::catalog::Source;
use otus_engine::compiled::CompiledTable;
use otus_engine::dataset::Dataset;
use otus_engine::keyed::{Key, KeyedTable, Voided};
use otus_engine::position::TopicPartition;
use otus_engine::snapshot::Snapshot;
use otus_engine::{Error, ErrorKind, Result};
use otus_ingest::log::condition::{Condition, HEADER};
use otus_ingest::{AppendRecord, Ingest};
use tokio::sync::watch;

use crate::otus::Otus;

/// Locks that the keys of all tables share.
const STRIPES: usize = 256;
/// Longest wait until a write is visible.
const VISIBLE: Duration = Duration::from_secs(30);

/// Where the record of a row stands; names its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPlace {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

impl fmt::Display for RowPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

/// One write to a keyed table.
#[derive(Debug, Clone)]
pub struct RowWrite {
    /// The key.
    pub key: Key,
    /// The record's value; none deletes.
    pub value: Option<Bytes>,
    /// What the row must be for the write to count.
    pub condition: Option<Condition>,
    /// Whether to return only when the write is visible. A conditional write always does.
    pub wait: bool,
}

/// Why a write did not take place, or may not have.
#[derive(Debug)]
pub enum WriteError {
    /// The row is not, or no longer, what the write expects; this is its version now, if there is one.
    Conflict(Option<RowPlace>),
    /// It is not known whether the record was written, or what became of it.
    Unsure(Error),
    /// Nothing was written.
    Failed(Error),
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Last offset of each partition of each topic that was written without waiting.
type Written = BTreeMap<(String, i32), i64>;

/// One lock for some keys each.
#[derive(Debug)]
pub(crate) struct RowLocks(Vec<tokio::sync::Mutex<Written>>);

impl Default for RowLocks {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| tokio::sync::Mutex::default()).collect())
    }
}

impl RowLocks {
    async fn lock(&self, table: &str, key: &Key) -> tokio::sync::MutexGuard<'_, Written> {
        let mut hasher = DefaultHasher::new();
        (table, key).hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % (STRIPES as u64)).unwrap_or(0);
        self.0[at].lock().await
    }
}

/// The rows of a keyed table in a snapshot.
pub(crate) fn rows<'a>(snapshot: &'a Snapshot, table: &CompiledTable) -> Result<&'a KeyedTable> {
    let name = table.def.qualified_name();
    // A rebuild takes the place of its table under another id.
    let now = snapshot.table(&table.def.schema, &table.def.name);
    let found = now.and_then(|now| snapshot.keyed(now.id));
    found.map(Arc::as_ref).ok_or_else(|| Error::not_found(format!("table {name:?} is not keyed")))
}

/// The version of a key's row.
pub(crate) fn place(rows: &KeyedTable, key: &Key) -> Option<RowPlace> {
    rows.get(key).map(|row| RowPlace { partition: row.partition(), offset: row.offset() })
}

fn holds(condition: Condition, current: Option<RowPlace>) -> bool {
    match (condition, current) {
        (Condition::Absent, current) => current.is_none(),
        (Condition::At { partition, offset }, current) => {
            current == Some(RowPlace { partition, offset })
        }
    }
}

impl Otus {
    /// Writes one row of a keyed table to its topic. Ok means durable; with a condition, or if asked to wait,
    /// also visible.
    pub async fn write_row(
        &self,
        table: &Arc<CompiledTable>,
        write: RowWrite,
    ) -> Result<RowPlace, WriteError> {
        let name = table.def.qualified_name();
        let topic = match &table.def.source {
            Source::Topics(topics) if topics.len() == 1 => topics[0].as_str(),
            _ => {
                let message = format!("table {name:?} reads several topics");
                let hint = "append to one of them with POST /api/append/<topic>";
                return Err(Error::invalid(message).with_hint(hint).into());
            }
        };
        let mut written = self.row_locks().lock(&name, &write.key).await;
        if let Some(condition) = write.condition {
            let before: Vec<RowPlace> = written
                .iter()
                .filter(|((written_to, _), _)| written_to == topic)
                .map(|((_, partition), offset)| RowPlace { partition: *partition, offset: *offset })
                .collect();
            for row in before {
                if !self.row_visible(table, topic, row).await? {
                    let waited = VISIBLE.as_secs();
                    let message = format!(
                        "nothing was written: a write before this one is not visible after {waited} s"
                    );
                    return Err(Error::unavailable(message).into());
                }
                written.remove(&(topic.to_string(), row.partition));
            }
            let current = place(rows(&self.dataset().snapshot(), table)?, &write.key);
            if !holds(condition, current) {
                return Err(WriteError::Conflict(current));
            }
        }
        let header = |c: Condition| (HEADER.to_string(), Some(Bytes::from(c.header())));
        let record = AppendRecord {
            key: Some(Bytes::from(write.key.to_string())),
            value: write.value,
            headers: write.condition.map(header).into_iter().collect(),
            ..AppendRecord::default()
        };
        let places = self.append(topic, vec![record]).await.map_err(|e| match e.kind() {
            ErrorKind::Unavailable => WriteError::Unsure(e),
            _ => WriteError::Failed(e),
        })?;
        let Some((partition, offset)) = places.first().copied() else {
            let e = Error::internal("the log did not say where a record went");
            return Err(WriteError::Unsure(e));
        };
        let own = RowPlace { partition, offset };
        if write.condition.is_none() && !write.wait {
            let last = written.entry((topic.to_string(), partition)).or_insert(offset);
            *last = offset.max(*last);
            return Ok(own);
        }
        if !self.row_visible(table, topic, own).await.map_err(WriteError::Unsure)? {
            let (tp, waited) = (TopicPartition::new(topic, partition), VISIBLE.as_secs());
            let message = format!("written as {tp} at {own}, not visible after {waited} s");
            return Err(WriteError::Unsure(Error::unavailable(message)));
        }
        let snapshot = self.dataset().snapshot();
        let rows = rows(&snapshot, table)?;
        if rows.is_voided(&TopicPartition::new(topic, partition), offset) {
            return Err(WriteError::Conflict(place(rows, &write.key)));
        }
        Ok(own)
    }

    /// Waits until a record is visible in the table that bears the name now; false if it is not in time.
    async fn row_visible(&self, table: &CompiledTable, topic: &str, row: RowPlace) -> Result<bool> {
        let tp = TopicPartition::new(topic, row.partition);
        let mut changes = self.dataset().watch();
        let visible = async {
            loop {
                let snapshot = self.dataset().snapshot();
                let Some(now) = snapshot.table(&table.def.schema, &table.def.name) else {
                    let name = table.def.qualified_name();
                    return Err(Error::not_found(format!("table {name:?} was dropped meanwhile")));
                };
                let end = snapshot.positions(now.id).get(&tp).map(|p| p.1);
                if end.is_some_and(|end| end > row.offset) {
                    return Ok(true);
                }
                if changes.changed().await.is_err() {
                    return Err(Error::unavailable("the dataset is closing"));
                }
            }
        };
        tokio::time::timeout(VISIBLE, visible).await.unwrap_or(Ok(false))
    }
}

/// Writes rows again that stand in the log behind a record that did not count: compaction keeps the last record
/// of a key, and so must find the row there. Runs until stopped, wherever writes of a table are open.
pub(crate) async fn restore(
    dataset: Arc<Dataset>,
    ingest: Arc<Ingest>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut changes = dataset.watch();
    let mut done: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = stopped.changed() => {
                if changed.is_err() || *stopped.borrow() {
                    return;
                }
            }
        }
        let snapshot = dataset.snapshot();
        for table in snapshot.tables().filter(|t| t.def.append) {
            let Some(rows) = snapshot.keyed(table.id) else { continue };
            for void in rows.voided() {
                if done.get(&void.tp).is_some_and(|done| *done >= void.offset) {
                    continue;
                }
                done.insert(void.tp.clone(), void.offset);
                if let Err(error) = restore_one(&ingest, rows, void).await {
                    let (partition, offset) = (&void.tp, void.offset);
                    tracing::warn!(%partition, offset, %error, "a row could not be written again");
                }
            }
        }
    }
}

async fn restore_one(ingest: &Arc<Ingest>, rows: &KeyedTable, void: &Voided) -> Result<()> {
    let Some((offset, deleted)) = rows.latest_in(&void.key, &void.tp) else { return Ok(()) };
    if offset > void.offset {
        // What counts stands last already.
        return Ok(());
    }
    let tp = void.tp.clone();
    let record = match deleted {
        true => Some(AppendRecord {
            key: Some(Bytes::from(void.key.to_string())),
            partition: Some(tp.partition),
            ..AppendRecord::default()
        }),
        false => {
            let own = Arc::clone(ingest);
            let read = tokio::task::spawn_blocking(move || own.read_record(&tp, offset)).await;
            read.map_err(|e| Error::internal("reading a record ended with a bug").with_source(e))??
        }
    };
    let Some(mut record) = record else {
        return Err(Error::not_found(format!("record {offset} of {} is gone", void.tp)));
    };
    // It counts only if nobody has written the key since.
    let condition = Condition::At { partition: void.tp.partition, offset: void.offset };
    record.headers.retain(|(name, _)| name != HEADER);
    record.headers.push((HEADER.to_string(), Some(Bytes::from(condition.header()))));
    ingest.append(&void.tp.topic, vec![record]).await?;
    tracing::debug!(partition = %void.tp, offset, "a row was written again behind a lost write");
    Ok(())
}
