//! One partition and the tables that read it. A record is read once and decoded for every table whose position
//! is not past it; what the tables made of it becomes visible together.

use std::sync::Arc;

use otus_engine::catalog::{TableDef, TableId};
use otus_engine::dataset::Append;
use otus_engine::log::manifest::PositionState;
use otus_engine::position::{LogIdentity, ReadCounts, TopicPartition};
use otus_engine::{Error, Result};

use super::status::PartitionState;
use crate::decode::Decoder;
use crate::log::Bounds;
use crate::record::Slice;

/// Records after which the share of rejected ones is looked at.
const WINDOW_RECORDS: u64 = 200;
/// Fewest records that say anything about a partition whose end is reached.
const WINDOW_RECORDS_MIN: u64 = 20;

/// A table's reading of a partition.
#[derive(Debug)]
pub(crate) struct TableReader {
    pub(crate) id: TableId,
    pub(crate) def: Arc<TableDef>,
    pub(crate) decoder: Box<dyn Decoder>,
    /// Everything before this is visible.
    pub(crate) published: i64,
    /// Everything before this was decoded.
    pub(crate) next: i64,
    pub(crate) paused: bool,
    window: ReadCounts,
    rejecting: Option<String>,
    pub(crate) read: u64,
    /// Why the table must not read this partition at all.
    pub(crate) refused: Option<String>,
    /// When the table last stood at the end, microseconds.
    as_of_us: Option<i64>,
    /// Whether standing at the end is still to be told.
    tell: bool,
}

/// How a partition fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Finished,
    Stopped(String),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) tp: TopicPartition,
    pub(crate) epoch: u64,
    pub(crate) identity: LogIdentity,
    pub(crate) tables: Vec<TableReader>,
    pub(crate) phase: Phase,
    /// The end when it was opened.
    pub(crate) goal: Option<i64>,
    /// Whether the reader stands at the end.
    pub(crate) at_end: bool,
    /// Whether it has once reached the end seen when it was opened.
    pub(crate) reached: bool,
}

impl TableReader {
    pub(crate) fn new(
        id: TableId,
        def: Arc<TableDef>,
        decoder: Box<dyn Decoder>,
        position: &PositionState,
        paused: bool,
    ) -> Self {
        Self {
            id,
            def,
            decoder,
            published: position.offset,
            next: position.offset,
            refused: None,
            as_of_us: position.identity.as_of_us,
            tell: false,
            paused,
            window: ReadCounts::default(),
            rejecting: None,
            read: 0,
        }
    }

    pub(crate) fn state(&self, phase: &Phase, pressure: Option<&str>) -> PartitionState {
        if let Some(error) = &self.refused {
            return PartitionState::Stopped { error: error.clone() };
        }
        match phase {
            Phase::Stopped(error) => PartitionState::Stopped { error: error.clone() },
            Phase::Finished => PartitionState::Finished,
            Phase::Running if self.paused => PartitionState::Paused { reason: "paused".into() },
            Phase::Running => match (pressure, &self.rejecting) {
                (Some(reason), _) => PartitionState::Paused { reason: reason.to_string() },
                (None, Some(reason)) => PartitionState::Rejecting { reason: reason.clone() },
                (None, None) => PartitionState::Running,
            },
        }
    }

    /// Whether there is anything to publish.
    fn is_due(&self) -> bool {
        self.next > self.published || self.tell
    }

    /// Notes how a batch ended; decides whether the table is rejecting.
    fn judge(&mut self, counts: &ReadCounts, reason: Option<String>, at_end: bool) {
        self.window.add(counts);
        self.read += counts.read();
        let read = self.window.read();
        let full = read >= WINDOW_RECORDS;
        let enough = full || (at_end && read >= WINDOW_RECORDS_MIN);
        if !enough {
            return;
        }
        if self.window.rejected * 2 > read {
            if let Some(reason) = reason {
                self.rejecting = Some(reason);
            } else if self.rejecting.is_none() {
                self.rejecting = Some("most records are rejected".into());
            }
        } else {
            self.rejecting = None;
        }
        if full {
            self.window = ReadCounts::default();
        }
    }
}

impl Partition {
    pub(crate) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// The least position of the tables that read on; none if all are paused.
    pub(crate) fn reader_position(&self) -> Option<i64> {
        self.tables.iter().filter(|t| !t.paused).map(|t| t.next).min()
    }

    /// Decodes a slice for every table that has not seen it. A slice that leaves a gap is refused.
    pub(crate) fn take(&mut self, slice: &Slice, now_us: i64) -> Result<()> {
        let least = self.reader_position();
        if let Some(least) = least.filter(|least| slice.from > *least) {
            return Err(Error::internal(format!(
                "the log gave {} of {} where {least} was due",
                slice.from, self.tp
            )));
        }
        for table in self.tables.iter_mut().filter(|t| !t.paused && t.next < slice.next) {
            for record in slice.iter().filter(|r| r.offset >= table.next) {
                table.decoder.decode(&record, now_us);
            }
            table.next = slice.next;
        }
        if slice.leader_epoch.is_some() {
            self.identity.leader_epoch = slice.leader_epoch;
        }
        self.at_end = false;
        self.reached |= self.goal.is_some_and(|goal| slice.next >= goal);
        Ok(())
    }

    /// The log says that there is nothing before `offset` that was not given.
    pub(crate) fn end_at(&mut self, offset: i64, now_us: i64) {
        self.at_end = true;
        self.reached = true;
        for table in self.tables.iter_mut().filter(|t| !t.paused) {
            table.next = table.next.max(offset);
            table.as_of_us = Some(now_us);
            table.tell = table.def.rebuild().is_some();
        }
    }

    /// Records and bytes that are decoded but not visible.
    pub(crate) fn pending(&self) -> (usize, usize) {
        self.tables.iter().fold((0, 0), |(rows, bytes), table| {
            (rows + table.decoder.pending(), bytes + table.decoder.pending_bytes())
        })
    }

    /// Whether there is anything to publish.
    pub(crate) fn is_due(&self) -> bool {
        self.tables.iter().any(TableReader::is_due)
    }

    /// What is to become visible. The caller publishes it or opens the partition again.
    pub(crate) fn appends(&mut self) -> Result<Vec<Append>> {
        let mut appends = Vec::new();
        for table in self.tables.iter_mut().filter(|table| table.is_due()) {
            let decoded = table.decoder.flush()?;
            table.judge(&decoded.counts, decoded.first_reason, self.at_end);
            let mut identity = self.identity.clone();
            identity.as_of_us = table.as_of_us.filter(|_| table.def.keyed().is_some());
            appends.push(Append {
                table: table.id,
                tp: self.tp.clone(),
                epoch: self.epoch,
                from: table.published,
                to: table.next,
                batch: decoded.batch,
                counts: decoded.counts,
                rejected: decoded.rejected,
                fields: decoded.fields,
                identity,
            });
            table.tell = false;
            table.published = table.next;
        }
        Ok(appends)
    }
}

/// Whether a table that stands at `position` can read on in a log that now looks like `bounds`; else why not.
pub(crate) fn check_position(
    tp: &TopicPartition,
    position: &PositionState,
    bounds: &Bounds,
) -> Result<(), String> {
    let (was, is) = (&position.identity, &bounds.identity);
    if was.kind != is.kind {
        return Err(format!(
            "{tp} was read from a {} log and is now in a {} log",
            was.kind, is.kind
        ));
    }
    let differs = |was: &str, is: &str| !was.is_empty() && !is.is_empty() && was != is;
    if differs(&was.cluster, &is.cluster) {
        return Err(format!(
            "{tp} was read from cluster {:?}, this is cluster {:?}",
            was.cluster, is.cluster
        ));
    }
    if differs(&was.topic_id, &is.topic_id) {
        return Err(match is.kind.as_str() {
            "file" => format!("file {:?} is not the one that was read before", tp.topic),
            _ => format!(
                "topic {:?} was deleted and made again (its id was {}, is {})",
                tp.topic, was.topic_id, is.topic_id
            ),
        });
    }
    if position.offset < bounds.low {
        return Err(format!(
            "records {} to {} of {tp} are gone from the log before they were read",
            position.offset,
            bounds.low - 1
        ));
    }
    if let Some(high) = bounds.high.filter(|high| position.offset > *high) {
        return Err(format!(
            "{tp} was read up to {}, but the log ends at {high}: it was cut or made again",
            position.offset
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_checked_against_the_log() {
        let identity = |kind: &str, cluster: &str, topic_id: &str| LogIdentity {
            kind: kind.into(),
            cluster: cluster.into(),
            topic_id: topic_id.into(),
            ..LogIdentity::default()
        };
        let position = PositionState {
            start: 0,
            offset: 10,
            counts: ReadCounts::default(),
            identity: identity("kafka", "c1", "t1"),
        };
        let tp = TopicPartition::new("t", 0);
        for (low, high, now, expected) in [
            (0, 10, identity("kafka", "c1", "t1"), ""),
            (10, 20, identity("kafka", "c1", ""), ""),
            (
                0,
                10,
                identity("local", "c1", "t1"),
                "t/0 was read from a kafka log and is now in a local log",
            ),
            (
                0,
                10,
                identity("kafka", "c2", "t1"),
                "t/0 was read from cluster \"c1\", this is cluster \"c2\"",
            ),
            (
                0,
                10,
                identity("kafka", "c1", "t2"),
                "topic \"t\" was deleted and made again (its id was t1, is t2)",
            ),
            (
                12,
                20,
                identity("kafka", "c1", "t1"),
                "records 10 to 11 of t/0 are gone from the log before they were read",
            ),
            (
                0,
                9,
                identity("kafka", "c1", "t1"),
                "t/0 was read up to 10, but the log ends at 9: it was cut or made again",
            ),
        ] {
            let bounds = Bounds { low, high: Some(high), identity: now };
            let result = check_position(&tp, &position, &bounds);
            assert_eq!(result.err().unwrap_or_default(), expected);
        }
    }
}
