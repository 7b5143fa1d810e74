//! Tests of the log: one file per theme, over the helpers here.

use std::sync::Arc;

use uuid::{Timestamp, Uuid};

use super::manifest::Manifest;
use super::op::{Entry, FORMAT, FileEntry, Op, Target};
use super::{CommitLog, LogSettings};
use crate::catalog::{ColumnDef, Retention, RollupDef, RollupId, Source, TableDef, TableId};
use crate::clock::{Clock, ManualClock};
use crate::error::Result;
use crate::position::{LogIdentity, OffsetRange, ReadCounts, TopicPartition};
use crate::store::Storage;
use crate::time::Granularity;
use crate::types::ColumnType;

mod apply;
mod commit;
mod faults;
mod golden;
#[cfg(unix)]
mod powercut;
mod world;

/// 2026-01-01T00:00:00Z, microseconds.
pub(super) const NOW_US: i64 = 1_767_225_600_000_000;

pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(NOW_US))
}

pub(super) fn settings() -> LogSettings {
    LogSettings { backoff: std::time::Duration::from_micros(1), ..LogSettings::default() }
}

pub(super) async fn open(storage: &Storage, member: &str) -> Result<(CommitLog, Arc<Manifest>)> {
    CommitLog::open_with(storage.clone(), member.into(), clock(), settings()).await
}

pub(super) fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("events", partition)
}

pub(super) fn identity() -> LogIdentity {
    LogIdentity {
        kind: "local".into(),
        cluster: "c".into(),
        topic_id: "t".into(),
        ..LogIdentity::default()
    }
}

pub(super) fn table_def(name: &str) -> TableDef {
    let at = ColumnDef::new("at", ColumnType::Timestamptz);
    let rollup_us = [(Granularity::FiveMinute, 5)].into_iter().collect();
    TableDef {
        source: Source::Topics(vec!["events".into()]),
        retention: Retention { raw_us: Some(1), rollup_us },
        ..TableDef::events(name, "at", vec![at])
    }
}

pub(super) fn rollup_def(name: &str) -> RollupDef {
    RollupDef {
        name: name.into(),
        granularities: vec![Granularity::Minute, Granularity::Hour],
        dimensions: Vec::new(),
        filter: None,
        measures: Vec::new(),
    }
}

/// A name as files have it, of the moment `at_us`.
pub(super) fn file_name(at_us: i64, unique: u64) -> Uuid {
    let seconds = u64::try_from(at_us / 1_000_000).unwrap();
    let nanos = u32::try_from(at_us % 1_000_000).unwrap() * 1_000;
    let mut bytes = *Uuid::new_v7(Timestamp::from_unix_time(seconds, nanos, 0, 0)).as_bytes();
    // Version, then nothing random; variant, then the number.
    bytes[6..8].copy_from_slice(&[0x70, 0]);
    bytes[8..].copy_from_slice(&(unique & (u64::MAX >> 2)).to_be_bytes());
    bytes[8] |= 0x80;
    Uuid::from_bytes(bytes)
}

pub(super) fn file(target: Target, unique: u64, ranges: &[(i32, i64, i64)]) -> FileEntry {
    let folder = match target {
        Target::Raw(id) => format!("t{}/raw", id.0),
        Target::Rollup { id, .. } => format!("r{}", id.0),
        Target::Rejected => "rejected".into(),
    };
    FileEntry {
        path: format!("{folder}/{}.parquet", file_name(NOW_US, unique)),
        target,
        bytes: 1_000,
        footer_bytes: 100,
        rows: 10,
        schema_id: 1,
        level: 0,
        sorted_by: vec!["at".into()],
        time: Some((0, 10)),
        ranges: ranges
            .iter()
            .map(|(p, from, to)| OffsetRange { tp: tp(*p), from: *from, to: *to })
            .collect(),
        columns: Vec::new(),
        created_at_us: NOW_US,
        commit: None,
    }
}

pub(super) fn raw(unique: u64, ranges: &[(i32, i64, i64)]) -> FileEntry {
    file(Target::Raw(TableId(1)), unique, ranges)
}

pub(super) fn put_table(id: u32, name: &str) -> Op {
    Op::PutTable { table: TableId(id), schema_id: 1, def: Box::new(table_def(name)) }
}

pub(super) fn put_rollup(id: u32, table: u32) -> Op {
    Op::PutRollup {
        rollup: RollupId(id),
        table: TableId(table),
        def: rollup_def("r"),
        coverage: Vec::new(),
    }
}

pub(super) fn claim(partition: i32, epoch: u64, member: &str) -> Op {
    Op::Claim { tp: tp(partition), epoch, member: member.into() }
}

pub(super) fn start(partition: i32, epoch: u64, offset: i64) -> Op {
    Op::Start { table: TableId(1), tp: tp(partition), epoch, offset, identity: identity() }
}

pub(super) fn advance(partition: i32, epoch: u64, from: i64, to: i64) -> Op {
    let kept = u64::try_from(to - from).unwrap();
    Op::Advance {
        table: TableId(1),
        tp: tp(partition),
        epoch,
        from,
        to,
        counts: ReadCounts { kept, filtered: 0, rejected: 0 },
        identity: identity(),
    }
}

pub(super) fn add(file: FileEntry) -> Op {
    Op::AddFile { file }
}

/// A table with one rollup, reading partitions 0 and 1 from offset 0 under epoch 1.
pub(super) fn setup(member: &str) -> Vec<Op> {
    vec![
        put_table(1, "events"),
        put_rollup(1, 1),
        claim(0, 1, member),
        claim(1, 1, member),
        start(0, 1, 0),
        start(1, 1, 0),
    ]
}

pub(super) fn entry(number: u64, ops: Vec<Op>) -> Entry {
    Entry {
        format: FORMAT,
        number,
        commit_id: Uuid::from_u128(u128::from(number) + 0x1000),
        member: "m".into(),
        at_us: NOW_US,
        ops,
        notes: Vec::new(),
    }
}
