//! The dataset in memory: what is appended is seen once, before and after flush, compaction and reopening.

mod backfill;
mod declare;
mod define;
mod keyed;
mod verify;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use super::{Append, Dataset, DatasetOptions, FlushLimits, StartPosition, rejected_schema};
use crate::catalog::{ColumnDef, MeasureDef, RollupDef, TableDef, TableId};
use crate::clock::ManualClock;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::{
    AggregateCall, AggregateFunction, CompiledExpr, CompiledMeasure, CompiledMeasures,
    ExpressionCompiler,
};
use crate::position::{LogIdentity, OffsetRange, ReadCounts, TopicPartition};
use crate::store::Storage;
use crate::time::{DAY_US, Granularity};

/// Understands `count(*)`, `sum(column)`, and quotients of such calls or of measures.
#[derive(Debug)]
struct TinyCompiler;

impl TinyCompiler {
    /// Index of the call, which is named after `measure` if it is new.
    fn call(
        &self,
        schema: &SchemaRef,
        out: &mut CompiledMeasures,
        measure: &MeasureDef,
        sql: &str,
    ) -> Result<usize> {
        if let Some(known) = out.calls.iter().position(|c| c.key == sql) {
            return Ok(known);
        }
        let inner = sql.split(['(', ')']).nth(1).unwrap_or("*");
        let (function, args) = match inner {
            "*" => (AggregateFunction::CountAll, vec![]),
            column => (AggregateFunction::Sum, vec![self.scalar(schema, column)?]),
        };
        out.calls.push(AggregateCall {
            key: sql.into(),
            prefix: measure.name.clone(),
            function,
            args,
            args_sql: vec![inner.into()],
            filter: None,
            filter_sql: None,
        });
        Ok(out.calls.len() - 1)
    }
}

#[derive(Debug)]
struct Column(String, DataType, Vec<String>);

impl CompiledExpr for Column {
    fn data_type(&self) -> &DataType {
        &self.1
    }
    fn columns(&self) -> &[String] {
        &self.2
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let column = batch.column_by_name(&self.0);
        column.cloned().ok_or_else(|| Error::invalid("no such column"))
    }
}

impl ExpressionCompiler for TinyCompiler {
    fn scalar(&self, schema: &SchemaRef, sql: &str) -> Result<Arc<dyn CompiledExpr>> {
        let field = schema.field_with_name(sql)?;
        Ok(Arc::new(Column(sql.into(), field.data_type().clone(), vec![sql.into()])))
    }

    fn measures(
        &self,
        schema: &SchemaRef,
        _time: &str,
        measures: &[MeasureDef],
    ) -> Result<CompiledMeasures> {
        let mut out = CompiledMeasures::default();
        for measure in measures {
            let mut calls = Vec::new();
            for part in measure.sql.split(" / ") {
                // A part is a call, or the name of another measure.
                let other = measures.iter().find(|m| m.name == part);
                let sql = other.map_or(part, |m| m.sql.as_str());
                calls.push(self.call(schema, &mut out, other.unwrap_or(measure), sql)?);
            }
            let first = &out.calls[calls[0]];
            let types: Vec<_> = first.args.iter().map(|a| a.data_type().clone()).collect();
            out.measures.push(CompiledMeasure {
                name: measure.name.clone(),
                data_type: first.function.output_type(&types)?,
                finish_sql: format!("__call{}", calls[0]),
                additive: calls.len() == 1,
                calls,
                approximate: false,
            });
        }
        Ok(out)
    }
}

fn column(name: &str, column_type: &str) -> ColumnDef {
    ColumnDef::new(name, column_type.parse().unwrap())
}

fn measure(name: &str, sql: &str) -> MeasureDef {
    MeasureDef::new(name, sql)
}

fn table_def() -> TableDef {
    let columns = [("ts", "timestamptz"), ("kind", "text"), ("n", "bigint")];
    let columns = columns.map(|(name, t)| ColumnDef::new(name, t.parse().unwrap()));
    TableDef {
        measures: vec![MeasureDef::new("events", "count(*)"), MeasureDef::new("total", "sum(n)")],
        rollups: vec![RollupDef {
            name: "by_kind".into(),
            granularities: vec![Granularity::Minute, Granularity::Day],
            dimensions: vec!["kind".into()],
            filter: None,
            measures: vec![],
        }],
        ..TableDef::events("events", "ts", columns.into())
    }
}

/// Rows of `schema`, whose columns are told by name and type.
fn rows(schema: &SchemaRef, from: i64, to: i64) -> RecordBatch {
    let offsets: Vec<i64> = (from..to).collect();
    let minute = 60_000_000;
    let times = |times: Vec<i64>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
    };
    let kinds = offsets.iter().map(|o| format!("a kind of event, number {}", o % 3));
    let kinds: ArrayRef = Arc::new(StringViewArray::from_iter_values(kinds));
    let column = |field: &Arc<arrow::datatypes::Field>| -> ArrayRef {
        match (field.name().as_str(), field.data_type()) {
            ("ts", _) => times(offsets.iter().map(|o| o * minute / 7).collect()),
            ("_ingested_at", _) => times(vec![1; offsets.len()]),
            ("_partition", _) => Arc::new(Int32Array::from(vec![0; offsets.len()])),
            (_, DataType::Int64) => Arc::new(Int64Array::from(offsets.clone())),
            (_, DataType::Int32) => Arc::new(Int32Array::from_iter_values(
                offsets.iter().map(|o| i32::try_from(*o).unwrap()),
            )),
            _ => Arc::clone(&kinds),
        }
    };
    RecordBatch::try_new(Arc::clone(schema), schema.fields().iter().map(column).collect()).unwrap()
}

fn append(dataset: &Dataset, epoch: u64, from: i64, to: i64) -> Result<()> {
    let snapshot = dataset.snapshot();
    let table = snapshot.table("public", "events").unwrap();
    dataset.append(vec![Append {
        table: table.id,
        tp: tp(),
        epoch,
        from,
        to,
        batch: rows(&table.schema, from, to),
        counts: ReadCounts { kept: (to - from) as u64, ..ReadCounts::default() },
        rejected: RecordBatch::new_empty(rejected_schema()),
        fields: vec![],
        identity: LogIdentity::default(),
    }])
}

fn tp() -> TopicPartition {
    TopicPartition::new("events", 0)
}

fn options(clock: &Arc<ManualClock>, member: &str) -> DatasetOptions {
    DatasetOptions {
        member: member.into(),
        clock: Arc::<ManualClock>::clone(clock),
        compiler: Arc::new(TinyCompiler),
        flush: FlushLimits { collect_grace_us: 1000, ..FlushLimits::default() },
    }
}

async fn open(storage: &Storage, clock: &Arc<ManualClock>, member: &str) -> Arc<Dataset> {
    let dataset = Dataset::open(storage.clone(), options(clock, member)).await.unwrap();
    dataset.apply_tables(&[table_def()], false).await.unwrap();
    dataset
}

async fn claim(dataset: &Dataset) -> u64 {
    let epoch = dataset.claim(&[tp()]).await.unwrap()[0].epoch;
    let table = dataset.snapshot().table("public", "events").unwrap().id;
    if dataset.snapshot().positions(table).is_empty() {
        let identity = LogIdentity::default();
        let start = StartPosition { table, tp: tp(), epoch, offset: 0, identity };
        dataset.start_positions(vec![start]).await.unwrap();
    }
    epoch
}

fn memory() -> Storage {
    Storage::from_store(Arc::new(object_store::memory::InMemory::new()))
}

/// Offsets that a snapshot shows, with how often; and the sums of its rollup per granularity.
async fn seen(dataset: &Dataset) -> (BTreeMap<i64, usize>, Vec<(i64, i128)>) {
    let snapshot = dataset.snapshot();
    let table = Arc::clone(snapshot.table("public", "events").unwrap());
    let mut batches: Vec<RecordBatch> =
        snapshot.hot(table.id).iter().flat_map(|c| c.batches().to_vec()).collect();
    for file in snapshot.raw_files(table.id) {
        let read = crate::segment::read_segment(dataset.storage(), file, &table.schema, None);
        batches.extend(read.await.unwrap());
    }
    let mut offsets = BTreeMap::new();
    for batch in &batches {
        for offset in batch["_offset"].as_primitive::<Int64Type>().values() {
            *offsets.entry(*offset).or_default() += 1;
        }
    }
    let rollup = &table.rollups[0];
    let mut sums = Vec::new();
    for &granularity in &rollup.def.granularities {
        let mut parts = snapshot.hot_states(rollup.id).unwrap();
        for file in snapshot.rollup_files(rollup.id, granularity) {
            let schema = rollup.plan.schema();
            let read = crate::segment::read_segment(dataset.storage(), &file, schema, None);
            parts.extend(read.await.unwrap());
        }
        let merged = rollup.plan.merge(granularity, &parts).unwrap();
        let counts = merged["events__count"].as_primitive::<Int64Type>();
        let totals = merged["total__sum"].as_primitive::<arrow::datatypes::Decimal128Type>();
        sums.push((counts.values().iter().sum::<i64>(), totals.iter().flatten().sum::<i128>()));
    }
    (offsets, sums)
}

async fn assert_seen(dataset: &Dataset, n: i64) {
    let (offsets, sums) = seen(dataset).await;
    assert_eq!(offsets, (0..n).map(|o| (o, 1)).collect(), "each offset once");
    let total = i128::from(n) * i128::from(n - 1) / 2;
    assert_eq!(sums, vec![(n, total); 2], "rollup equals raw at every granularity");
}

#[tokio::test]
async fn rows_are_seen_once_through_flush_compaction_and_reopening() {
    let storage = memory();
    let clock = Arc::new(ManualClock::new(1_700_000_000_000_000));
    let dataset = open(&storage, &clock, "one").await;
    let epoch = claim(&dataset).await;
    let mut end = 0;
    for round in 1..=6 {
        for _ in 0..3 {
            append(&dataset, epoch, end, end + 5000 * round).unwrap();
            end += 5000 * round;
            assert_seen(&dataset, end).await;
        }
        dataset.flush().await.unwrap().unwrap();
        assert_seen(&dataset, end).await;
        clock.advance(10_000);
        if round % 3 == 0 {
            let report = dataset.maintain(true).await.unwrap();
            assert!(report.compactions > 0);
            assert_seen(&dataset, end).await;
        }
    }
    clock.advance(10_000_000);
    let first = dataset.maintain(true).await.unwrap().deleted;
    clock.advance(10_000_000);
    let second = dataset.maintain(true).await.unwrap().deleted;
    assert!(first + second > 0, "old files are deleted");
    assert_seen(&dataset, end).await;
    append(&dataset, epoch, end, end + 10).unwrap();
    drop(dataset);
    let dataset = open(&storage, &clock, "one").await;
    assert_seen(&dataset, end).await;
}

#[tokio::test]
async fn appends_that_do_not_tile_are_refused() {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000_000));
    let dataset = open(&memory(), &clock, "one").await;
    let epoch = claim(&dataset).await;
    append(&dataset, epoch, 0, 10).unwrap();
    assert_eq!(append(&dataset, epoch, 11, 20).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(append(&dataset, epoch, 5, 20).unwrap_err().kind(), ErrorKind::Busy);
    append(&dataset, epoch, 10, 20).unwrap();
    assert_seen(&dataset, 20).await;
}

#[tokio::test]
async fn a_zombie_commits_nothing() {
    let storage = memory();
    let clock = Arc::new(ManualClock::new(1_700_000_000_000_000));
    let zombie = open(&storage, &clock, "zombie").await;
    let old = claim(&zombie).await;
    append(&zombie, old, 0, 100).unwrap();

    let heir = open(&storage, &clock, "heir").await;
    let new = claim(&heir).await;
    assert!(new > old);
    append(&heir, new, 0, 50).unwrap();
    heir.flush().await.unwrap().unwrap();

    assert_eq!(zombie.flush().await.unwrap(), None, "nothing is left to write");
    zombie.refresh().await.unwrap();
    assert_seen(&zombie, 50).await;
    assert_seen(&heir, 50).await;
}

#[tokio::test]
async fn retention_moves_the_horizon_by_whole_days() {
    let storage = memory();
    let clock = Arc::new(ManualClock::new(1_700_000_000_000_000));
    let dataset = open(&storage, &clock, "one").await;
    let epoch = claim(&dataset).await;
    append(&dataset, epoch, 0, 30_000).unwrap();
    dataset.flush().await.unwrap();
    let table = dataset.snapshot().table("public", "events").unwrap().id;
    let horizon = dataset.clock().now_us().min(2 * DAY_US + 5);
    dataset.advance_horizon(table, horizon).await.unwrap();
    assert_eq!(dataset.snapshot().horizon_us(table), Some(2 * DAY_US));
}

#[tokio::test]
async fn another_declaration_needs_a_word() {
    let storage = memory();
    let clock = Arc::new(ManualClock::new(1_700_000_000_000_000));
    let dataset = open(&storage, &clock, "one").await;
    let mut def = table_def();
    def.columns[2].column_type = "numeric(10,2)".parse().unwrap();
    assert_eq!(dataset.apply_tables(&[def], true).await.unwrap_err().kind(), ErrorKind::Invalid);
    let mut def = table_def();
    def.rollups[0].dimensions.clear();
    let refused = dataset.apply_tables(&[def.clone()], false).await.unwrap_err();
    assert!(refused.message().contains("by_kind"), "{refused}");
    let changes = dataset.apply_tables(&[def.clone()], true).await.unwrap();
    assert!(changes.iter().any(|c| c.destructive));
    assert!(dataset.apply_tables(&[def], false).await.unwrap().is_empty());
    let gone = dataset.apply_tables(&[], true).await.unwrap();
    assert_eq!(gone.len(), 1);
    assert!(dataset.snapshot().table("public", "events").is_none());
    assert_eq!(TableId(1), dataset.snapshot().manifest().tables.values().next().unwrap().id);
}
