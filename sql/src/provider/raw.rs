//! The raw rows of a table: pruned files united with hot chunks, from the raw horizon on.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use otus_engine::compiled::CompiledTable;
use otus_engine::hot::Chunk;
use otus_engine::log::op::FileEntry;
use otus_engine::snapshot::Snapshot;

use super::guarded::{self, guard_of};
use super::prune::{self, Files, Ranges};
use super::scan::{Scan, declared, from_time, predicate, with_guard};
use crate::access::Guard;
use crate::cache::Seen;

/// A raw table at one snapshot.
#[derive(Clone)]
pub(crate) struct RawTable {
    snapshot: Arc<Snapshot>,
    table: Arc<CompiledTable>,
    /// Only the rows of the hot chunk that still grows.
    open_only: bool,
    /// Only the columns that were declared.
    declared: Option<SchemaRef>,
}

impl RawTable {
    pub(crate) fn new(snapshot: Arc<Snapshot>, table: Arc<CompiledTable>) -> Self {
        Self { snapshot, table, open_only: false, declared: None }
    }

    /// The rows of the hot chunk that still grows.
    pub(crate) fn open_chunk(snapshot: Arc<Snapshot>, table: Arc<CompiledTable>) -> Self {
        Self { snapshot, table, open_only: true, declared: None }
    }

    /// The same table with the declared columns alone, as `*` shows it.
    pub(crate) fn declared(self) -> Self {
        Self { declared: declared(&self.table), ..self }
    }

    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub(crate) fn table(&self) -> &Arc<CompiledTable> {
        &self.table
    }

    /// Whether it shows the declared columns alone.
    pub(crate) fn is_declared(&self) -> bool {
        self.declared.is_some()
    }

    /// Whether it has all rows of its snapshot.
    pub(crate) fn is_usual(&self) -> bool {
        !self.open_only
    }

    /// How many rows lie within the times that conditions ask for, about: as if they came evenly.
    pub(crate) fn rows_about(&self, filters: &[Expr]) -> u64 {
        let wanted = times(filters, &self.table.def.time);
        let files = self.files().iter().map(|file| within(file.rows, file.time, wanted));
        let chunks = self.chunks().iter();
        let chunks = chunks.map(|c| within(c.rows() as u64, c.time_range(), wanted));
        files.chain(chunks).fold(0, u64::saturating_add)
    }

    fn files(&self) -> &[Arc<FileEntry>] {
        if self.open_only { &[] } else { self.snapshot.raw_files(self.table.id) }
    }

    fn chunks(&self) -> &[Arc<Chunk>] {
        match self.snapshot.hot_open(self.table.id) {
            _ if !self.open_only => self.snapshot.hot(self.table.id),
            Some(open) => std::slice::from_ref(open),
            None => &[],
        }
    }
}

impl fmt::Debug for RawTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawTable({}, {})", self.table.def.qualified_name(), self.snapshot.sequence())
    }
}

/// Files and batches of a table that a scan must read, and whether any row of them may lie before the
/// horizon.
struct Pieces {
    files: Vec<Arc<FileEntry>>,
    batches: Vec<arrow::array::RecordBatch>,
    /// Least and greatest event time of `batches`.
    hot: Option<(i64, i64)>,
    cut: bool,
}

impl RawTable {
    fn pieces(
        &self,
        session: &dyn Session,
        filters: &[Expr],
        guard: Option<&Guard>,
    ) -> DfResult<Pieces> {
        let schema = &self.table.schema;
        let predicate = with_guard(predicate(session, schema, filters)?, guard, schema)?;
        let horizon = self.snapshot.horizon_us(self.table.id).unwrap_or(i64::MIN);
        let files = self.files();
        let keep = prune::keep(predicate.as_ref(), schema, &Files { schema, files, shift: None })?;
        let kept = files.iter().zip(keep).filter(|(_, keep)| *keep).map(|(f, _)| Arc::clone(f));
        let files: Vec<_> =
            kept.filter(|f| f.rows > 0 && f.time.is_none_or(|(_, max)| max >= horizon)).collect();
        let chunks = self.chunks();
        let ranges: Vec<_> = chunks.iter().map(|c| c.time_range()).collect();
        let column = self.table.def.time.as_str();
        let keep =
            prune::keep(predicate.as_ref(), schema, &Ranges { schema, column, ranges: &ranges })?;
        let chunks: Vec<_> = chunks
            .iter()
            .zip(keep)
            .filter(|(c, keep)| *keep && c.time_range().is_some_and(|(_, max)| max >= horizon))
            .map(|(c, _)| c)
            .collect();
        let before = |time: Option<(i64, i64)>| time.is_none_or(|(min, _)| min < horizon);
        let cut = horizon > i64::MIN
            && (files.iter().any(|f| before(f.time))
                || chunks.iter().any(|c| before(c.time_range())));
        if let Some(seen) = Seen::of(session) {
            seen.scan((self.table.id, self.open_only), filters);
            seen.files(&files);
            chunks.iter().for_each(|chunk| seen.chunk(self.table.id, chunk));
            if cut {
                seen.horizon(self.table.id, horizon);
            }
        }
        let batches = chunks.iter().flat_map(|c| c.batches());
        let ranges: Vec<_> = chunks.iter().flat_map(|c| c.batch_times().iter().copied()).collect();
        let keep =
            prune::keep(predicate.as_ref(), schema, &Ranges { schema, column, ranges: &ranges })?;
        let batches = batches.zip(&keep).filter(|(_, keep)| **keep).map(|(b, _)| b.clone());
        let batches = batches.collect();
        let ranges = ranges.iter().zip(&keep).filter(|(_, keep)| **keep).filter_map(|(r, _)| *r);
        let hot = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        Ok(Pieces { files, batches, hot, cut })
    }

    /// The scan of a table that is all there. A guard says which files need not be read, and nothing else.
    fn read(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
        guard: Option<&Guard>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let Pieces { files, batches, hot, cut } = self.pieces(session, filters, guard)?;
        let wanted = projection.map_or(self.table.schema.fields().len(), Vec::len);
        let with_time = projection
            .filter(|p| cut && !p.contains(&self.table.time_index))
            .map(|p| p.iter().copied().chain([self.table.time_index]).collect::<Vec<_>>());
        let scan = Scan {
            session,
            snapshot: &self.snapshot,
            schema: &self.table.schema,
            projection: with_time.as_ref().or(projection),
            filters,
            limit: limit.filter(|_| !cut),
            guard,
        };
        let mut plans = Vec::new();
        if !files.is_empty() {
            plans.push(scan.parquet(&files)?);
        }
        if let Some(bounds) = hot {
            plans.push(scan.hot(batches, self.table.time_index, bounds)?);
        }
        let plan = scan.union(plans)?;
        match self.snapshot.horizon_us(self.table.id) {
            Some(horizon) if cut => from_time(plan, &self.table.def.time, horizon, wanted),
            _ => Ok(plan),
        }
    }
}

/// Least and greatest time that conditions let through.
fn times(filters: &[Expr], column: &str) -> (i64, i64) {
    let mut wanted = (i64::MIN, i64::MAX);
    for filter in filters.iter().flat_map(split_conjunction) {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { continue };
        let (Expr::Column(named), Expr::Literal(value, _)) = (left.as_ref(), right.as_ref()) else {
            continue;
        };
        let ScalarValue::TimestampMicrosecond(Some(us), _) = value else { continue };
        if named.name != column {
            continue;
        }
        match op {
            Operator::Gt | Operator::GtEq => wanted.0 = wanted.0.max(*us),
            Operator::Lt | Operator::LtEq => wanted.1 = wanted.1.min(*us),
            Operator::Eq => wanted = (wanted.0.max(*us), wanted.1.min(*us)),
            _ => {}
        }
    }
    wanted
}

/// The share of some rows of these times that lies within the wanted ones.
fn within(rows: u64, times: Option<(i64, i64)>, (from, to): (i64, i64)) -> u64 {
    let Some((min, max)) = times else { return rows };
    let (low, high) = (i128::from(min.max(from)), i128::from(max.min(to)));
    let all = i128::from(max) - i128::from(min) + 1;
    let share = i128::from(rows) * (high - low + 1).max(0) / all.max(1);
    u64::try_from(share).unwrap_or(rows)
}

#[async_trait]
impl TableProvider for RawTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.declared.as_ref().unwrap_or(&self.table.schema))
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DfResult<Vec<TableProviderFilterPushDown>> {
        guarded::pushdown_of(&self.table, filters)
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        // The declared columns are the first ones.
        let all = self.declared.as_ref().map(|schema| (0..schema.fields().len()).collect());
        let projection = projection.or(all.as_ref());
        let Some(restriction) = &self.table.restriction else {
            return self.read(session, projection, filters, limit, None);
        };
        let whole = Self { table: Arc::clone(&restriction.whole), ..self.clone() };
        let output = guarded::output(&self.table.schema, projection)?;
        let guard = guard_of(&self.table)?;
        let inputs = guarded::inputs(guard, &restriction.whole.schema, &output)?;
        let Some(guard) = guard else {
            return whole.read(session, Some(&inputs), filters, limit, None);
        };
        let rows = whole.read(session, Some(&inputs), filters, None, Some(guard))?;
        guarded::guarded(guard, rows, output, &self.table)
    }
}
