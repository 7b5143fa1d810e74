//! System tables, `otus.*`: what the log and the hot rows hold, as rows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use otus_engine::catalog::{Origin, RollupDef};
use otus_engine::coverage::Progress;
use otus_engine::dataset::rejected_schema;
use otus_engine::log::manifest::{ClaimState, Manifest, PositionState, TableState};
use otus_engine::log::op::{FileEntry, Note, Target};
use otus_engine::position::{LogIdentity, ReadCounts};
use otus_engine::reading::PartitionReport;
use otus_engine::snapshot::Snapshot;

use super::prune::{self, Files};
use super::scan::{Scan, predicate};
use crate::named::NamedQueries;
use crate::queries::Entry;

/// The schema of system tables.
pub(crate) const SYSTEM_SCHEMA: &str = "otus";
/// Their names.
pub(crate) const SYSTEM_TABLES: &[&str] = &[
    "partitions",
    "segments",
    "rollups",
    "rejected",
    "fields",
    "queries",
    "named_queries",
    "changes",
];

/// A system table at a snapshot; `named` are the named queries, `queries` gives the latest ones of the
/// process.
pub(crate) fn system_table(
    snapshot: &Arc<Snapshot>,
    name: &str,
    named: Option<&NamedQueries>,
    queries: impl FnOnce() -> Vec<Entry>,
) -> DfResult<Option<Arc<dyn TableProvider>>> {
    let batch = match name {
        "partitions" => partitions(snapshot)?,
        "segments" => segments(snapshot)?,
        "rollups" => rollups(snapshot)?,
        "fields" => fields(snapshot)?,
        "changes" => changes(snapshot)?,
        "queries" => latest(&queries())?,
        "named_queries" => named_queries(named)?,
        "rejected" => return Ok(Some(Arc::new(Rejected::new(Arc::clone(snapshot))))),
        _ => return Ok(None),
    };
    memory(batch).map(Some)
}

/// One batch as a table.
pub(crate) fn memory(batch: RecordBatch) -> DfResult<Arc<dyn TableProvider>> {
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

/// Columns under construction.
#[derive(Default)]
struct Columns(Vec<(Field, ArrayRef)>);

impl Columns {
    fn add(mut self, name: &str, array: ArrayRef) -> Self {
        self.0.push((Field::new(name, array.data_type().clone(), true), array));
        self
    }
    fn text(self, name: &str, values: impl IntoIterator<Item = Option<String>>) -> Self {
        self.add(name, Arc::new(values.into_iter().collect::<StringArray>()))
    }
    fn int(self, name: &str, values: impl IntoIterator<Item = Option<i64>>) -> Self {
        self.add(name, Arc::new(values.into_iter().collect::<Int64Array>()))
    }
    fn small(self, name: &str, values: impl IntoIterator<Item = Option<i32>>) -> Self {
        self.add(name, Arc::new(values.into_iter().collect::<Int32Array>()))
    }
    fn double(self, name: &str, values: impl IntoIterator<Item = Option<f64>>) -> Self {
        self.add(name, Arc::new(values.into_iter().collect::<Float64Array>()))
    }
    fn bool(self, name: &str, values: impl IntoIterator<Item = bool>) -> Self {
        self.add(name, Arc::new(values.into_iter().map(Some).collect::<BooleanArray>()))
    }
    fn time(self, name: &str, values: impl IntoIterator<Item = Option<i64>>) -> Self {
        let array: TimestampMicrosecondArray = values.into_iter().collect();
        self.add(name, Arc::new(array.with_timezone("UTC")))
    }
    fn batch(self) -> DfResult<RecordBatch> {
        let (fields, arrays): (Vec<_>, Vec<_>) = self.0.into_iter().unzip();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }
}

fn count(n: u64) -> Option<i64> {
    i64::try_from(n).ok()
}

/// A partition of a table, as committed and as its reader sees it.
struct PartitionRow<'a> {
    table: &'a TableState,
    topic: String,
    partition: Option<i32>,
    /// The position, the offset up to which rows are visible, and who has claimed the partition.
    read: Option<(&'a PositionState, i64, Option<&'a ClaimState>)>,
    /// How the visible records ended.
    counts: Option<ReadCounts>,
    report: Option<&'a PartitionReport>,
}

/// Every partition that has a position, and every one (or topic) of which a reader says something.
fn partition_rows<'a>(
    manifest: &'a Manifest,
    snapshot: &Snapshot,
    reports: &'a [PartitionReport],
) -> Vec<PartitionRow<'a>> {
    let mut rows = Vec::new();
    let mut told = vec![false; reports.len()];
    for table in manifest.tables.values().filter(|t| snapshot.sees_whole(t.id)) {
        let ends = snapshot.positions(table.id);
        let counts = snapshot.counts(table.id);
        for (tp, position) in &table.positions {
            let visible = ends.get(tp).map_or(position.offset, |(_, end)| *end);
            let of = |partition: Option<i32>| {
                reports.iter().position(|report| {
                    report.table == table.id
                        && *report.topic == *tp.topic
                        && report.partition == partition
                })
            };
            // What is waited for as a topic explains each of its partitions of which nothing else is said.
            let report = of(Some(tp.partition)).or_else(|| of(None));
            if let Some(told) = report.and_then(|at| told.get_mut(at)) {
                *told = true;
            }
            rows.push(PartitionRow {
                table,
                topic: tp.topic.to_string(),
                partition: Some(tp.partition),
                read: Some((position, visible, manifest.claims.get(tp))),
                counts: counts.get(tp).copied(),
                report: report.and_then(|at| reports.get(at)),
            });
        }
        let others = reports.iter().zip(&told).filter(|(r, told)| !**told && r.table == table.id);
        rows.extend(others.map(|(report, _)| PartitionRow {
            table,
            topic: report.topic.clone(),
            partition: report.partition,
            read: None,
            counts: None,
            report: Some(report),
        }));
    }
    rows
}

fn partitions(snapshot: &Snapshot) -> DfResult<RecordBatch> {
    let reports = snapshot.reading();
    let rows = partition_rows(snapshot.manifest(), snapshot, &reports);
    let reported = |value: fn(&PartitionReport) -> Option<i64>| {
        rows.iter().map(move |row| row.report.and_then(value))
    };
    let committed = |value: fn(&PositionState) -> Option<i64>| {
        rows.iter().map(move |row| row.read.and_then(|(position, ..)| value(position)))
    };
    let ended = |value: fn(&ReadCounts) -> u64| {
        rows.iter().map(move |row| row.counts.as_ref().and_then(|counts| count(value(counts))))
    };
    let identity = |value: fn(&LogIdentity) -> &String| {
        rows.iter().map(move |row| row.read.map(|(p, ..)| value(&p.identity).clone()))
    };
    let claims = || rows.iter().map(|row| row.read.and_then(|(.., claim)| claim));
    Columns::default()
        .text("schema", rows.iter().map(|r| Some(r.table.def.schema.clone())))
        .text("table", rows.iter().map(|r| Some(r.table.def.name.clone())))
        .text("topic", rows.iter().map(|r| Some(r.topic.clone())))
        .small("partition", rows.iter().map(|r| r.partition))
        .text("state", rows.iter().map(|r| r.report.map(|r| r.state.to_string())))
        .text("error", rows.iter().map(|r| r.report.and_then(|r| r.reason.clone())))
        .int("end_offset", reported(|r| r.end))
        .int("lag", reported(|r| r.lag))
        .int("start_offset", committed(|p| Some(p.start)))
        .int("committed_offset", committed(|p| Some(p.offset)))
        .int("visible_offset", rows.iter().map(|r| r.read.map(|(_, visible, _)| visible)))
        .int("rows_kept", ended(|counts| counts.kept))
        .int("rows_filtered", ended(|counts| counts.filtered))
        .int("rows_rejected", ended(|counts| counts.rejected))
        .text("log_kind", identity(|identity| &identity.kind))
        .text("log_cluster", identity(|identity| &identity.cluster))
        .text("topic_id", identity(|identity| &identity.topic_id))
        .text("member", claims().map(|c| c.map(|c| c.member.clone())))
        .int("epoch", claims().map(|c| c.and_then(|c| count(c.epoch))))
        .batch()
}

/// A live file with the names of what it belongs to.
struct Segment<'a> {
    table: Option<String>,
    rollup: Option<String>,
    file: &'a FileEntry,
}

fn segments(snapshot: &Snapshot) -> DfResult<RecordBatch> {
    let manifest = snapshot.manifest();
    let mut rows = Vec::new();
    for table in manifest.tables.values().filter(|t| snapshot.sees_whole(t.id)) {
        let name = Some(table.def.qualified_name());
        rows.extend(table.files.iter().map(|file| Segment {
            table: name.clone(),
            rollup: None,
            file,
        }));
    }
    for rollup in manifest.rollups.values().filter(|r| snapshot.sees_whole(r.table)) {
        let table = manifest.tables.get(&rollup.table).map(|t| t.def.qualified_name());
        let name = Some(rollup.def.name.clone());
        rows.extend(rollup.files.iter().map(|file| Segment {
            table: table.clone(),
            rollup: name.clone(),
            file,
        }));
    }
    let rejected = manifest.rejected.iter().filter(|_| snapshot.catalog().whole().is_none());
    rows.extend(rejected.map(|file| Segment { table: None, rollup: None, file }));
    let kind = |target: Target| match target {
        Target::Raw(_) => "raw",
        Target::Rollup { .. } => "rollup",
        Target::Rejected => "rejected",
    };
    let granularity = |target: Target| match target {
        Target::Rollup { granularity, .. } => Some(granularity.to_string()),
        _ => None,
    };
    let ranges = |file: &FileEntry| {
        let list = file.ranges.iter().map(|r| format!("{}:{}-{}", r.tp, r.from, r.to));
        Some(list.collect::<Vec<_>>().join(" "))
    };
    Columns::default()
        .text("kind", rows.iter().map(|r| Some(kind(r.file.target).to_string())))
        .text("table", rows.iter().map(|r| r.table.clone()))
        .text("rollup", rows.iter().map(|r| r.rollup.clone()))
        .text("granularity", rows.iter().map(|r| granularity(r.file.target)))
        .text("path", rows.iter().map(|r| Some(r.file.path.clone())))
        .small("level", rows.iter().map(|r| Some(i32::from(r.file.level))))
        .int("rows", rows.iter().map(|r| count(r.file.rows)))
        .int("bytes", rows.iter().map(|r| count(r.file.bytes)))
        .time("min_time", rows.iter().map(|r| r.file.time.map(|t| t.0)))
        .time("max_time", rows.iter().map(|r| r.file.time.map(|t| t.1)))
        .text("sorted_by", rows.iter().map(|r| Some(r.file.sorted_by.join(", "))))
        .text("offsets", rows.iter().map(|r| ranges(r.file)))
        .time("created_at", rows.iter().map(|r| Some(r.file.created_at_us)))
        .int("commit", rows.iter().map(|r| r.file.commit.and_then(count)))
        .batch()
}

fn rollups(snapshot: &Snapshot) -> DfResult<RecordBatch> {
    let manifest = snapshot.manifest();
    let mut rows = Vec::new();
    for rollup in manifest.rollups.values().filter(|r| snapshot.sees_whole(r.table)) {
        let Some(table) = manifest.tables.get(&rollup.table) else { continue };
        for granularity in &rollup.def.granularities {
            let files = snapshot.rollup_files(rollup.id, *granularity);
            let stored: u64 = files.iter().map(|f| f.rows).sum();
            let bytes: u64 = files.iter().map(|f| f.bytes).sum();
            let progress = rollup.progress(table);
            rows.push((table, rollup, *granularity, files.len(), stored, bytes, progress));
        }
    }
    let state = |progress: &Progress| match progress.is_filling() {
        Some(false) => "live",
        Some(true) => "backfilling",
        None => "partial",
    };
    Columns::default()
        .text("schema", rows.iter().map(|r| Some(r.0.def.schema.clone())))
        .text("table", rows.iter().map(|r| Some(r.0.def.name.clone())))
        .text("rollup", rows.iter().map(|r| Some(r.1.def.name.clone())))
        .text("granularity", rows.iter().map(|r| Some(r.2.to_string())))
        .text("view", rows.iter().map(|r| Some(r.1.def.view_name(r.2))))
        .text("dimensions", rows.iter().map(|r| Some(dimensions(&r.1.def))))
        .text("measures", rows.iter().map(|r| Some(r.1.def.measures.join(", "))))
        .int("files", rows.iter().map(|r| i64::try_from(r.3).ok()))
        .int("rows", rows.iter().map(|r| count(r.4)))
        .int("bytes", rows.iter().map(|r| count(r.5)))
        .bool("complete", rows.iter().map(|r| r.6.is_filling() == Some(false)))
        .time("horizon", rows.iter().map(|r| r.1.horizon_us.get(&r.2).copied()))
        .text("state", rows.iter().map(|r| Some(state(&r.6).to_string())))
        .int("offsets_covered", rows.iter().map(|r| r.6.covered.and_then(count)))
        .int("offsets_total", rows.iter().map(|r| count(r.6.total)))
        .double("covered", rows.iter().map(|r| r.6.fraction()))
        .time("whole_from", rows.iter().map(|r| r.1.whole_from_us))
        .time("declared_at", rows.iter().map(|r| r.1.declared_at_us))
        .text("filter", rows.iter().map(|r| r.1.def.filter.clone()))
        .batch()
}

/// Dimensions as a statement names them.
fn dimensions(def: &RollupDef) -> String {
    let each: Vec<_> = def.dimensions.iter().map(ToString::to_string).collect();
    each.join(", ")
}

fn fields(snapshot: &Snapshot) -> DfResult<RecordBatch> {
    let manifest = snapshot.manifest();
    let of = |table| snapshot.fields(table);
    let shown = manifest.tables.values().filter(|t| snapshot.sees_whole(t.id));
    let rows: Vec<_> = shown.flat_map(|t| of(t.id).into_iter().map(move |f| (t, f))).collect();
    Columns::default()
        .text("schema", rows.iter().map(|r| Some(r.0.def.schema.clone())))
        .text("table", rows.iter().map(|r| Some(r.0.def.name.clone())))
        .text("path", rows.iter().map(|r| Some(r.1.path.clone())))
        .text("json_type", rows.iter().map(|r| Some(r.1.json_type.clone())))
        .int("count", rows.iter().map(|r| count(r.1.count)))
        .text("first_topic", rows.iter().map(|r| Some(r.1.first.0.topic.to_string())))
        .small("first_partition", rows.iter().map(|r| Some(r.1.first.0.partition)))
        .int("first_offset", rows.iter().map(|r| Some(r.1.first.1)))
        .batch()
}

/// Changes of definitions that the log remembers.
fn changes(snapshot: &Snapshot) -> DfResult<RecordBatch> {
    // Statements say what tables are made of, also those that are gone.
    let rows = match snapshot.catalog().whole() {
        Some(_) => &[],
        None => snapshot.manifest().notes.as_slice(),
    };
    let (origin, who) = (
        |note: &Note| match note.origin {
            Origin::File => "file",
            Origin::Sql => "sql",
        },
        |note: &Note| match note.origin {
            Origin::File => "file".to_string(),
            Origin::Sql => note.user.clone(),
        },
    );
    Columns::default()
        .time("time", rows.iter().map(|r| Some(r.at_us)))
        .text("origin", rows.iter().map(|r| Some(origin(&r.note).to_string())))
        .text("who", rows.iter().map(|r| Some(who(&r.note))))
        .text("object", rows.iter().map(|r| Some(r.note.object.clone())))
        .text("statement", rows.iter().map(|r| Some(r.note.statement.clone())))
        .int("commit", rows.iter().map(|r| count(r.commit)))
        .batch()
}

fn latest(queries: &[Entry]) -> DfResult<RecordBatch> {
    let text = |of: fn(&Entry) -> Option<String>| queries.iter().map(of).collect::<Vec<_>>();
    Columns::default()
        .time("started_at", queries.iter().map(|q| Some(q.started_at_us)))
        .text("user", text(|q| Some(q.user.clone())))
        .text("query", text(|q| Some(q.text.clone())))
        .int("duration_us", queries.iter().map(|q| Some(q.duration_us)))
        .int("rows", queries.iter().map(|q| count(q.rows)))
        .int("bytes_read", queries.iter().map(|q| count(q.bytes_read)))
        .text("rollup", text(|q| q.rollup.clone()))
        .text("raw_reason", text(|q| q.reason.clone()))
        .text("wanted_rollup", text(Entry::wanted))
        .text("sqlstate", text(|q| q.error.clone()))
        .text("lane", text(|q| q.lane.map(|lane| lane.name().to_string())))
        .bool("cached", queries.iter().map(|q| q.cached))
        .batch()
}

fn named_queries(named: Option<&NamedQueries>) -> DfResult<RecordBatch> {
    let defs: Vec<_> = named.into_iter().flat_map(NamedQueries::iter).map(|q| &q.def).collect();
    Columns::default()
        .text("name", defs.iter().map(|def| Some(def.name.clone())))
        .text("call", defs.iter().map(|def| Some(def.signature())))
        .text("description", defs.iter().map(|def| def.description.clone()))
        .text("query", defs.iter().map(|def| Some(def.sql.clone())))
        .batch()
}

/// `otus.rejected`: committed files and what is not yet committed.
#[derive(Debug)]
struct Rejected {
    snapshot: Arc<Snapshot>,
    schema: SchemaRef,
}

impl Rejected {
    fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, schema: rejected_schema() }
    }
}

#[async_trait]
impl TableProvider for Rejected {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let schema = &self.schema;
        let predicate = predicate(session, schema, filters)?;
        // A file has records of any table. Its payloads are what was refused, of all rows and columns.
        if self.snapshot.catalog().whole().is_some() {
            let snapshot = &self.snapshot;
            let scan = Scan { session, snapshot, schema, projection, filters, limit, guard: None };
            return scan.union(Vec::new());
        }
        let files = self.snapshot.rejected_files();
        let keep = prune::keep(predicate.as_ref(), schema, &Files { schema, files, shift: None })?;
        let kept = files.iter().zip(keep).filter(|(f, keep)| *keep && f.rows > 0);
        let files: Vec<_> = kept.map(|(f, _)| Arc::clone(f)).collect();
        let snapshot = &self.snapshot;
        let scan = Scan { session, snapshot, schema, projection, filters, limit, guard: None };
        let mut plans = Vec::new();
        if !files.is_empty() {
            plans.push(scan.parquet(&files)?);
        }
        let hot = self.snapshot.hot_rejected();
        if !hot.is_empty() {
            plans.push(scan.memory(hot)?);
        }
        scan.union(plans)
    }
}
