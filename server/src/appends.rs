//! Records of INSERT and COPY FROM, on their way to the logs of tables: what would not become a row is refused
//! before it is written, with the reason that reading would give.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use otus_engine::catalog::{Source, TableDef};
use otus_engine::compiled::CompiledTable;
use otus_engine::keyed::Key;
use otus_engine::position::TopicPartition;
use otus_ingest::decode::{self, Decoded};
use otus_ingest::record::Slice;
use otus_ingest::{AppendError, AppendFault, AppendRecord};
use otus_sql::access::Identity;
use otus_sql::append::{Appender, Record};
use otus_sql::error::sqlstate;
use otus_sql::{SqlError, SqlResult};

use crate::keyed::{RowWrite, WriteError};
use crate::otus::{Inner, Otus, reads};
use crate::telemetry::RecordsAppended;

/// Rows of a keyed table that are written at a time.
const ROWS_AT_A_TIME: usize = 64;
/// Longest wait until records are visible.
const VISIBLE: Duration = Duration::from_secs(30);

/// Appends through an open Otus, which holds it.
pub(crate) struct Appends(Weak<Inner>);

impl Appends {
    pub(crate) fn new(otus: &Otus) -> Self {
        Self(otus.weak())
    }

    fn otus(&self) -> SqlResult<Otus> {
        Otus::of(&self.0).ok_or_else(|| SqlError::new(sqlstate::IO, "the server is about to stop"))
    }
}

impl fmt::Debug for Appends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Appends")
    }
}

/// The topic that a table's records are written to.
fn topic(def: &TableDef) -> SqlResult<&str> {
    let name = &def.name;
    match &def.source {
        Source::Topics(topics) if topics.len() == 1 => Ok(&topics[0]),
        Source::Topics(_) | Source::Pattern(_) => {
            let message = format!("table \"{name}\" reads several topics");
            Err(SqlError::new(sqlstate::WRONG_OBJECT_TYPE, message)
                .with_hint("append to one of them with POST /api/append/<topic>"))
        }
        Source::File(_) => {
            let message = format!("table \"{name}\" reads a file, and has no topic to append to");
            Err(SqlError::new(sqlstate::WRONG_OBJECT_TYPE, message))
        }
    }
}

#[async_trait]
impl Appender for Appends {
    fn check_table(&self, table: &CompiledTable) -> SqlResult<()> {
        let _topic = topic(&table.def)?;
        if table.def.append {
            return Ok(());
        }
        let name = table.def.qualified_name();
        Err(SqlError::new(
            sqlstate::NOT_ALLOWED,
            format!("table \"{name}\" is not open to appending"),
        )
        .with_hint(format!("set append = true in table {name} of the configuration")))
    }

    fn check(
        &self,
        table: &CompiledTable,
        records: &[Record],
        whose: Option<&Identity>,
    ) -> Result<(), (usize, SqlError)> {
        let otus = self.otus().map_err(|e| (0, e))?;
        let check = |records: &[Record]| {
            let decoded = decoded(&otus, &table.def, topic(&table.def)?, records)?;
            if let Some(reason) = decoded.first_reason {
                let name = &table.def.name;
                let message =
                    format!("new row for relation \"{name}\" would be rejected: {reason}");
                return Err(SqlError::new(sqlstate::INVALID_TEXT, message));
            }
            whose.map_or(Ok(()), |user| user.check_new_rows(table, &decoded.batch))
        };
        let Err(whole) = check(records) else { return Ok(()) };
        // Which one it was costs more, and is asked only where there is one.
        let each = records.iter().enumerate();
        let mut each =
            each.filter_map(|(at, one)| check(std::slice::from_ref(one)).err().map(|e| (at, e)));
        Err(each.next().unwrap_or((0, whole)))
    }

    async fn append(
        &self,
        table: &Arc<CompiledTable>,
        records: Vec<Record>,
        until_visible: bool,
    ) -> SqlResult<()> {
        let otus = self.otus()?;
        let table = Arc::clone(table);
        // A task of its own: what has begun is carried to its end, whatever the client does.
        let work = tokio::spawn(async move {
            match table.def.keyed() {
                Some(_) => put(&otus, &table, records, until_visible).await,
                None => append(&otus, &table, records, until_visible).await,
            }
        });
        work.await.unwrap_or_else(|_| Err(SqlError::internal("an append failed unexpectedly")))
    }
}

/// What reading makes of the records.
fn decoded(
    otus: &Otus,
    def: &Arc<TableDef>,
    topic: &str,
    records: &[Record],
) -> SqlResult<Decoded> {
    let compiler = otus.dataset().compiler();
    let now_us = otus.dataset().clock().now_us();
    let mut slice = Slice::new(TopicPartition::new(topic, 0), 0);
    for (offset, record) in (0..).zip(records) {
        slice.push(
            offset,
            Some(record.timestamp_us.unwrap_or(now_us)),
            record.key.as_deref(),
            Some(&record.value),
        );
        for (name, value) in &record.headers {
            slice.push_header(name.as_bytes(), Some(value));
        }
    }
    let mut decoder = decode::decoder(def, &slice.tp, compiler.as_ref()).map_err(SqlError::from)?;
    for record in slice.iter() {
        decoder.decode(&record, now_us);
    }
    decoder.flush().map_err(SqlError::from)
}

/// Refuses what a user sends to a topic as records: rows that no filter of its grants is true of, and any record of a
/// keyed table of which it sees a part.
pub(crate) fn check_records(
    otus: &Otus,
    identity: &Arc<Identity>,
    topic: &str,
    records: &[AppendRecord],
) -> SqlResult<()> {
    let snapshot = otus.dataset().snapshot();
    let reading = snapshot.tables().filter(|table| reads(&table.def, topic));
    for table in reading.filter(|t| identity.may_insert(&t.def.schema, &t.def.name)) {
        let is_keyed = table.def.keyed().is_some();
        if is_keyed && !otus.sql().may_write_rows(Arc::clone(&snapshot), identity, table) {
            let message = format!("permission denied for table {}", table.def.name);
            return Err(SqlError::new(sqlstate::NOT_ALLOWED, message)
                .with_hint("only a part of its rows is granted: they cannot be written"));
        }
        let (schema, name) = (&table.def.schema, &table.def.name);
        if identity.inserts_freely(schema, name) {
            continue;
        }
        if identity.insert_columns(schema, name).is_some() {
            let message = format!("permission denied for table {name}");
            return Err(SqlError::new(sqlstate::NOT_ALLOWED, message)
                .with_hint("only some of its columns may be written: use INSERT or COPY"));
        }
        let header = |(name, value): &(String, Option<Bytes>)| {
            (name.clone(), value.clone().unwrap_or_default())
        };
        let record = |record: &AppendRecord| Record {
            key: record.key.clone(),
            value: record.value.clone().unwrap_or_default(),
            headers: record.headers.iter().map(header).collect(),
            timestamp_us: record.timestamp_us,
        };
        let records: Vec<Record> = records.iter().map(record).collect();
        identity.check_new_rows(table, &decoded(otus, &table.def, topic, &records)?.batch)?;
    }
    Ok(())
}

fn appended(record: Record) -> AppendRecord {
    let header = |(name, value)| (name, Some(value));
    AppendRecord {
        key: record.key,
        value: Some(record.value),
        headers: record.headers.into_iter().map(header).collect(),
        timestamp_us: record.timestamp_us,
        partition: None,
    }
}

async fn append(
    otus: &Otus,
    table: &CompiledTable,
    records: Vec<Record>,
    until_visible: bool,
) -> SqlResult<()> {
    let topic = topic(&table.def)?;
    let all = records.len();
    let records = records.into_iter().map(appended).collect();
    let results = otus.append_each(topic, records).await.map_err(|e| refused(&e, 0, all))?;
    let durable = results.iter().filter(|result| result.is_ok()).count();
    RecordsAppended { topic, records: durable }.emit();
    // What nobody knows matters most: it must not simply be repeated.
    let failed = || results.iter().filter_map(|result| result.as_ref().err());
    let unknown = failed().find(|e| e.fault == AppendFault::Unknown);
    if let Some(e) = unknown.or_else(|| failed().next()) {
        return Err(refused(e, durable, all));
    }
    if !until_visible {
        return Ok(());
    }
    let mut last: HashMap<i32, i64> = HashMap::new();
    for (partition, offset) in results.into_iter().flatten() {
        let end = last.entry(partition).or_insert(offset);
        *end = offset.max(*end);
    }
    for (partition, offset) in last {
        let waited = otus.wait_visible(topic, partition, offset, VISIBLE).await;
        waited.map_err(|e| unseen(&e))?;
    }
    Ok(())
}

/// Written, but not to be seen in time.
fn unseen(e: &otus_engine::Error) -> SqlError {
    SqlError::new(sqlstate::CANCELED, format!("the rows are written, but not visible: {e}"))
        .with_hint("they need not be written again")
}

/// Why records were not, or perhaps not, written.
fn refused(e: &AppendError, durable: usize, all: usize) -> SqlError {
    let state = match e.fault {
        AppendFault::NotFound => sqlstate::UNDEFINED_OBJECT,
        AppendFault::Invalid => sqlstate::INVALID_PARAMETER,
        AppendFault::TooLarge => sqlstate::LIMIT_EXCEEDED,
        AppendFault::Forbidden => sqlstate::NOT_ALLOWED,
        AppendFault::Busy => sqlstate::IN_USE,
        AppendFault::Full => sqlstate::DISK_FULL,
        AppendFault::Unavailable => sqlstate::IO,
        AppendFault::Unknown => sqlstate::OUTCOME_UNKNOWN,
    };
    let what = match e.fault {
        AppendFault::Unknown => "whether the rows were written is not known",
        _ if durable > 0 => "not all rows were written",
        _ => "nothing was written",
    };
    let mut error = SqlError::new(state, format!("{what}: {e}"));
    if durable > 0 {
        error = error.with_detail(format!("{durable} of {all} rows are written"));
    }
    match &e.hint {
        Some(hint) => error.with_hint(hint.clone()),
        None => error,
    }
}

/// Writes rows of a keyed table; of rows of one key the last is written.
async fn put(
    otus: &Otus,
    table: &Arc<CompiledTable>,
    records: Vec<Record>,
    until_visible: bool,
) -> SqlResult<()> {
    let compiler = otus.dataset().compiler();
    let (mut seen, mut rows) = (HashSet::new(), Vec::new());
    for record in records.into_iter().rev() {
        let bytes = record.key.as_deref().unwrap_or_default();
        let key = decode::key_of_record(&table.def, bytes, &record.value, compiler.as_ref())
            .map_err(SqlError::from)?;
        if seen.insert(key.clone()) {
            rows.push((key, record.value));
        }
    }
    let write = |(key, value): (Key, Bytes)| async move {
        let write = RowWrite { key, value: Some(value), condition: None, wait: until_visible };
        otus.write_row(table, write).await
    };
    let written = futures::stream::iter(rows.into_iter().rev())
        .map(write)
        .buffered(ROWS_AT_A_TIME)
        .try_fold(0_usize, |count, _| async move { Ok(count + 1) });
    match written.await {
        Ok(_) => Ok(()),
        Err(WriteError::Failed(e)) => {
            Err(SqlError::from(e).with_detail("rows before it may be written"))
        }
        Err(WriteError::Unsure(e)) => {
            let message = format!("whether all rows were written is not known: {e}");
            Err(SqlError::new(sqlstate::OUTCOME_UNKNOWN, message))
        }
        Err(WriteError::Conflict(_)) => Err(SqlError::internal("a write without condition failed")),
    }
}
