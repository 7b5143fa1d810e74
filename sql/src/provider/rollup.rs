//! Rollups: a table of partial states per granularity, and the finished view over it. A state of a coarser
//! granularity may still lie in level-0 files and hot rows at the finest one: its bucket is truncated here.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Column;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    Expr, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, cast, col,
};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{col as physical_col, lit};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use otus_engine::catalog::{BUCKET_COLUMN, RollupId};
use otus_engine::compiled::{CompiledRollup, CompiledTable};
use otus_engine::log::op::FileEntry;
use otus_engine::snapshot::Snapshot;
use otus_engine::time::Granularity;

use super::guarded::{self, guard_of};
use super::prune::{self, Files, Ranges};
use super::scan::{Scan, from_time, predicate, with_guard};
use crate::access::Guard;
use crate::aggregate;
use crate::cache::{Seen, StatesCache};
use crate::compile::finish_expr;
use crate::error::SqlError;
use crate::function;

/// Which states of a granularity are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    All,
    /// Those of compacted files.
    Compacted,
    /// Those of files of flushes and of sealed hot chunks, whatever their age.
    Fresh,
}

/// Partial states of one granularity of a rollup.
pub(crate) struct StatesTable {
    snapshot: Arc<Snapshot>,
    table: Arc<CompiledTable>,
    rollup: RollupId,
    granularity: Granularity,
    schema: SchemaRef,
    stage: Stage,
}

impl StatesTable {
    /// The states of `rollup` at `granularity`.
    pub(crate) fn new(
        snapshot: Arc<Snapshot>,
        table: Arc<CompiledTable>,
        rollup: &CompiledRollup,
        granularity: Granularity,
    ) -> Self {
        let schema = Arc::clone(rollup.plan.schema());
        Self { snapshot, table, rollup: rollup.id, granularity, schema, stage: Stage::All }
    }

    /// Only what compaction has brought to this granularity.
    pub(crate) fn compacted(self) -> Self {
        Self { stage: Stage::Compacted, ..self }
    }

    /// Only what no compaction has seen, without the open hot chunk, at the finest granularity.
    pub(crate) fn fresh(self) -> Self {
        Self { stage: Stage::Fresh, granularity: self.finest(), ..self }
    }

    /// What to tell whoever reads the states while rows from before the rollup was declared are not in them.
    pub(crate) fn partial(&self) -> Option<String> {
        let manifest = self.snapshot.manifest();
        let state = manifest.rollups.get(&self.rollup)?;
        let filling = state.progress(manifest.tables.get(&self.table.id)?).is_filling();
        if filling == Some(false) {
            return None;
        }
        let name = &self.table.rollup(self.rollup)?.def.name;
        let table = &self.table.def.name;
        Some(format!(
            "rollup {name:?} holds a part of the rows of {table:?} so far; see otus.rollups"
        ))
    }

    fn finest(&self) -> Granularity {
        self.table.rollup(self.rollup).map_or(self.granularity, |r| r.def.finest())
    }

    /// Truncates the bucket of a plan.
    fn truncated(
        &self,
        session: &dyn Session,
        plan: Arc<dyn ExecutionPlan>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let schema = plan.schema();
        let list = schema.fields().iter().map(|field| {
            let column = physical_col(field.name(), &schema)?;
            if field.name() != BUCKET_COLUMN {
                return Ok((column, field.name().clone()));
            }
            let name = lit(self.granularity.name());
            let expr = ScalarFunctionExpr::try_new(
                Arc::new(function::floor()),
                vec![name, column],
                &schema,
                Arc::new(session.config_options().clone()),
            )?;
            Ok((Arc::new(expr) as Arc<dyn PhysicalExpr>, field.name().clone()))
        });
        let list = list.collect::<DfResult<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(list, plan)?))
    }

    /// Live files that the predicate does not exclude: those to be read as they are, and those to be
    /// truncated.
    fn files(
        &self,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
        horizon: i64,
    ) -> DfResult<(Vec<Arc<FileEntry>>, Vec<Arc<FileEntry>>)> {
        let files = self.snapshot.rollup_files(self.rollup, self.granularity);
        let floor = |us: i64| self.granularity.floor_us(us);
        let shift: Option<(&str, &dyn Fn(i64) -> i64)> = Some((BUCKET_COLUMN, &floor));
        let known = Files { schema: &self.schema, files: &files, shift };
        let keep = prune::keep(predicate, &self.schema, &known)?;
        let coarser = self.granularity != self.finest();
        Ok(files
            .iter()
            .zip(keep)
            .filter(|(f, keep)| {
                *keep && f.rows > 0 && f.time.is_none_or(|(_, max)| floor(max) >= horizon)
            })
            .filter(|(f, _)| match self.stage {
                Stage::All => true,
                Stage::Compacted => f.level > 0,
                Stage::Fresh => f.level == 0,
            })
            .map(|(f, _)| Arc::clone(f))
            .partition(|f| f.level > 0 || !coarser))
    }
}

impl fmt::Debug for StatesTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatesTable({}, {})", self.rollup.0, self.granularity)
    }
}

#[async_trait]
impl TableProvider for StatesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
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
        _limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let projection = projection.unwrap_or(&all);
        // A rollup is there only if what the guard asks for is among its dimensions.
        let Some(guard) = guard_of(&self.table)? else {
            return self.read(session, projection, filters, None).await;
        };
        let output = guarded::output(&self.schema, Some(projection))?;
        let inputs = guarded::inputs(Some(guard), &self.schema, &output)?;
        let rows = self.read(session, &inputs, filters, Some(guard)).await?;
        guarded::guarded(guard, rows, output, &self.table)
    }
}

impl StatesTable {
    /// The scan. A guard says which files need not be read, and nothing else.
    async fn read(
        &self,
        session: &dyn Session,
        projection: &[usize],
        filters: &[Expr],
        guard: Option<&Guard>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let horizon = match self.stage {
            // A coarser granularity may keep what the finest does not: the reader says from when.
            Stage::Fresh => None,
            _ => self.snapshot.rollup_horizon_us(self.rollup, self.granularity),
        };
        let horizon = horizon.unwrap_or(i64::MIN);
        let predicate = predicate(session, &self.schema, filters)?;
        let predicate = with_guard(predicate, guard, &self.schema)?;
        let (whole, fine) = self.files(predicate.as_ref(), horizon)?;
        // Bucket is column 0; a horizon needs it even where the query does not.
        let bucket = self.schema.index_of(BUCKET_COLUMN)?;
        let cut = horizon > i64::MIN;
        let mut wide = projection.to_vec();
        if cut && !wide.contains(&bucket) {
            wide.push(bucket);
        }
        let scan = Scan {
            session,
            snapshot: &self.snapshot,
            schema: &self.schema,
            projection: Some(&wide),
            filters,
            limit: None,
            guard,
        };
        let coarser = self.granularity != self.finest() && wide.contains(&bucket);
        let seen = Seen::of(session);
        if let Some(seen) = &seen {
            seen.scan((self.rollup, self.granularity, self.stage), filters);
            seen.files(&whole);
            seen.files(&fine);
            if cut {
                seen.horizon(self.table.id, horizon);
            }
        }
        let (whole, mut whole_rows) = self.at_hand(session, whole).await;
        let (fine, mut fine_rows) = self.at_hand(session, fine).await;
        fine_rows.extend(self.hot(predicate.as_ref(), seen.as_deref())?);
        if !coarser {
            whole_rows.append(&mut fine_rows);
        }
        let mut plans = Vec::new();
        if !whole.is_empty() {
            plans.push(scan.parquet(&whole)?);
        }
        if !whole_rows.is_empty() {
            plans.push(scan.memory(whole_rows)?);
        }
        // Bounds in `filters` are of truncated buckets, which the pruning inside a file does not know.
        let fine_scan = Scan { filters: if coarser { &[] } else { filters }, ..scan };
        let mut cut_down = |plan| -> DfResult<()> {
            plans.push(if coarser { self.truncated(session, plan)? } else { plan });
            Ok(())
        };
        if !fine.is_empty() {
            cut_down(fine_scan.parquet(&fine)?)?;
        }
        if !fine_rows.is_empty() {
            cut_down(fine_scan.memory(fine_rows)?)?;
        }
        let plan = fine_scan.union(plans)?;
        if cut { from_time(plan, BUCKET_COLUMN, horizon, projection.len()) } else { Ok(plan) }
    }

    /// Files to be read, and the rows of those that need not be.
    async fn at_hand(
        &self,
        session: &dyn Session,
        files: Vec<Arc<FileEntry>>,
    ) -> (Vec<Arc<FileEntry>>, Vec<RecordBatch>) {
        match StatesCache::of(session) {
            Some(cache) => cache.take(&self.snapshot, &self.schema, files).await,
            None => (files, Vec::new()),
        }
    }

    fn hot(
        &self,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
        seen: Option<&Seen>,
    ) -> DfResult<Vec<RecordBatch>> {
        let chunks = match self.stage {
            Stage::All => self.snapshot.hot(self.table.id),
            Stage::Compacted => &[],
            Stage::Fresh => self.snapshot.hot_sealed(self.table.id),
        };
        let Some(rollup) = self.table.rollup(self.rollup) else { return Ok(Vec::new()) };
        let chunks: Vec<_> = chunks.iter().filter(|c| c.rows() > 0).collect();
        let floor = |us: i64| self.granularity.floor_us(us);
        let ranges: Vec<_> =
            chunks.iter().map(|c| c.time_range().map(|(a, b)| (floor(a), floor(b)))).collect();
        let known = Ranges { schema: &self.schema, column: BUCKET_COLUMN, ranges: &ranges };
        let keep = prune::keep(predicate, &self.schema, &known)?;
        let kept = chunks.into_iter().zip(keep).filter(|(_, keep)| *keep);
        kept.map(|(chunk, _)| {
            if let Some(seen) = seen {
                seen.chunk(self.table.id, chunk);
            }
            chunk.states(rollup).map_err(|e| DataFusionError::from(SqlError::from(e)))
        })
        .collect()
    }
}

/// The finished view `<rollup>_<granularity>`: bucket, dimensions, measures.
pub(crate) fn view(
    state: &SessionState,
    snapshot: &Arc<Snapshot>,
    table: &Arc<CompiledTable>,
    rollup: &CompiledRollup,
    granularity: Granularity,
) -> DfResult<Arc<dyn TableProvider>> {
    let states = StatesTable::new(Arc::clone(snapshot), Arc::clone(table), rollup, granularity);
    let schema = Arc::clone(&states.schema);
    let keys: Vec<String> = std::iter::once(BUCKET_COLUMN.to_string())
        .chain(rollup.def.dimension_names().cloned())
        .collect();
    let plain = |name: &str| Expr::Column(Column::new_unqualified(name));
    let mut fields = Vec::new();
    let mut merges = Vec::new();
    for call in rollup.plan.calls() {
        let Some(compiled) = table.measures.calls.get(*call) else { continue };
        let columns = schema.fields().get(rollup.plan.state_columns(*call)).unwrap_or_default();
        let mut args: Vec<Expr> = columns.iter().map(|f| plain(f.name())).collect();
        args.extend(aggregate::parameter(compiled.function));
        let name = format!("__call{call}");
        let types: Vec<_> = compiled.args.iter().map(|a| a.data_type().clone()).collect();
        let output = compiled.function.output_type(&types);
        let output = output.map_err(|e| DataFusionError::from(SqlError::from(e)))?;
        fields.push(Field::new(&name, output, true));
        merges.push(aggregate::merging(compiled.function).call(args).alias(name));
    }
    let calls = Schema::new(fields);
    let mut finished: Vec<Expr> = keys.iter().map(|k| plain(k)).collect();
    for measure in &table.measures.measures {
        let listed = rollup.def.measures.is_empty() || rollup.def.measures.contains(&measure.name);
        if listed && measure.calls.iter().all(|c| rollup.plan.calls().contains(c)) {
            let finish = finish_expr(state, &measure.finish_sql, &calls)?;
            finished.push(cast(finish, measure.data_type.clone()).alias(&measure.name));
        }
    }
    let source = provider_as_source(Arc::new(states));
    let plan = LogicalPlanBuilder::scan("states", source, None)?
        .aggregate(keys.iter().map(|k| col(Column::new_unqualified(k))), merges)?
        .project(finished)?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}
