//! Plans that read files and batches of one schema: plain Parquet scans with the statistics of the log,
//! in-memory scans of hot rows, the lower bound of a horizon, and a column cut to a coarser bucket.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::common::DFSchema;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, col, lit};
use datafusion::physical_expr::utils::reassign_expr_columns;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use datafusion::scalar::ScalarValue;
use otus_engine::compiled::CompiledTable;
use otus_engine::log::op::{FileEntry, StatValue};
use otus_engine::snapshot::Snapshot;

use super::bounds;
use super::hot::{Bound, HotSource};
use super::indexed::IndexedReaders;
use crate::access::Guard;
use crate::error::SqlError;
use crate::few::ReadsFew;

/// Columns from which a projection counts as wide: late materialisation pays then.
const WIDE_COLUMNS: usize = 8;

/// The columns of a table that were declared, which are the first ones; none if there is no other, or none of them.
pub(super) fn declared(table: &CompiledTable) -> Option<SchemaRef> {
    let fields = table.schema.fields();
    let first = fields.iter().take_while(|field| table.def.column(field.name()).is_some()).count();
    if first == 0 || first == fields.len() {
        return None;
    }
    let first = fields.iter().take(first).cloned().collect::<Vec<_>>();
    Some(Arc::new(Schema::new_with_metadata(first, table.schema.metadata().clone())))
}

/// What one scan reads of one table.
pub(super) struct Scan<'a> {
    pub(super) session: &'a dyn Session,
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) schema: &'a SchemaRef,
    /// Columns to give, as indexes into `schema`; all if none.
    pub(super) projection: Option<&'a Vec<usize>>,
    pub(super) filters: &'a [Expr],
    pub(super) limit: Option<usize>,
    /// What says which rows may be seen: row groups in which there are none are not read.
    pub(super) guard: Option<&'a Guard>,
}

/// A predicate, and what a guard asks of rows besides.
pub(super) fn with_guard(
    predicate: Option<Arc<dyn PhysicalExpr>>,
    guard: Option<&Guard>,
    schema: &SchemaRef,
) -> DfResult<Option<Arc<dyn PhysicalExpr>>> {
    let Some(condition) = guard.and_then(Guard::condition) else { return Ok(predicate) };
    let condition = reassign_expr_columns(Arc::clone(condition), schema)?;
    Ok(Some(match predicate {
        Some(predicate) => Arc::new(BinaryExpr::new(condition, Operator::And, predicate)),
        None => condition,
    }))
}

/// Logical filters of a scan as one physical expression over the whole schema.
pub(super) fn predicate(
    session: &dyn Session,
    schema: &SchemaRef,
    filters: &[Expr],
) -> DfResult<Option<Arc<dyn PhysicalExpr>>> {
    let Some(expr) = conjunction(filters.iter().cloned()) else { return Ok(None) };
    let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
    session.create_physical_expr(expr, &df_schema).map(Some)
}

impl Scan<'_> {
    fn columns(&self) -> Vec<usize> {
        match self.projection {
            Some(list) => list.clone(),
            None => (0..self.schema.fields().len()).collect(),
        }
    }

    /// Reads Parquet files.
    pub(super) fn parquet(&self, files: &[Arc<FileEntry>]) -> DfResult<Arc<dyn ExecutionPlan>> {
        let columns = self.columns();
        let mut used = vec![false; self.schema.fields().len()];
        for i in &columns {
            if let Some(slot) = used.get_mut(*i) {
                *slot = true;
            }
        }
        for column in self.filters.iter().flat_map(Expr::column_refs) {
            if let Ok(i) = self.schema.index_of(column.name())
                && let Some(slot) = used.get_mut(i)
            {
                *slot = true;
            }
        }
        let parts = files.iter().map(|file| self.file(file, &used)).collect::<Vec<_>>();
        let total = parts.iter().filter_map(|p| p.statistics.as_deref());
        let total = datafusion::common::Statistics::try_merge_iter(total, self.schema)?;
        let storage = self.snapshot.storage();
        let cache = self.session.runtime_env().cache_manager.get_file_metadata_cache();
        let factory = CachedParquetFileReaderFactory::new(Arc::clone(storage.store()), cache);
        let factory: Arc<dyn ParquetFileReaderFactory> = match self.filters.is_empty() {
            true => Arc::new(factory),
            false => Arc::new(IndexedReaders(factory)),
        };
        let source =
            ParquetSource::new(Arc::clone(self.schema)).with_parquet_file_reader_factory(factory);
        let late = columns.len() >= WIDE_COLUMNS && self.filters.iter().any(is_selective);
        let is_told = self.session.config().get_extension::<ReadsFew>().is_some();
        let source = match self.guard.is_some() || is_told {
            // The planner sees no predicate here, or tells nobody, so that it has to be told; it is asked of
            // bounds alone.
            true => match with_guard(
                predicate(self.session, self.schema, self.filters)?,
                self.guard,
                self.schema,
            )? {
                Some(predicate) => source.with_predicate(predicate),
                None => source,
            },
            false if late => source.with_pushdown_filters(true).with_reorder_filters(true),
            false => source,
        };
        let url = ObjectStoreUrl::parse(storage.object_url())?;
        let groups = FileGroup::new(parts).split_files(self.session.config().target_partitions());
        let config: FileScanConfig = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(self.projection.cloned())?
            .with_statistics(total)
            .with_limit(self.limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn file(&self, file: &FileEntry, used: &[bool]) -> PartitionedFile {
        let mut part = PartitionedFile::new(file.path.clone(), file.bytes);
        let footer = usize::try_from(file.footer_bytes).unwrap_or(0);
        if footer > 0 {
            part = part.with_metadata_size_hint(footer);
        }
        part = part.with_statistics(bounds::statistics(file, self.schema, used));
        part.with_ordering(self.ordering(file))
    }

    fn ordering(&self, file: &FileEntry) -> Option<LexOrdering> {
        let keys = file.sorted_by.iter().map_while(|name| col(name, self.schema).ok());
        let options = arrow::compute::SortOptions { descending: false, nulls_first: true };
        LexOrdering::new(keys.map(|key| PhysicalSortExpr::new(key, options)))
    }

    /// Reads batches in memory; their schema is brought up to date by name.
    pub(super) fn memory(&self, batches: Vec<RecordBatch>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(DataSourceExec::from_data_source(self.memory_source(batches)?))
    }

    /// As [`Self::memory`], for batches whose least and greatest value in the time column are known.
    pub(super) fn hot(
        &self,
        batches: Vec<RecordBatch>,
        time: usize,
        bounds: (i64, i64),
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let source = self.memory_source(batches)?;
        let field = self.schema.field(time);
        let value = |us| bounds::scalar(&StatValue::Int(us), field.data_type());
        let column = self.columns().iter().position(|c| *c == time);
        Ok(match (column, value(bounds.0), value(bounds.1)) {
            (Some(column), Some(min), Some(max)) => {
                let bound = Bound { column, min, max };
                DataSourceExec::from_data_source(HotSource::new(source, bound))
            }
            _ => DataSourceExec::from_data_source(source),
        })
    }

    fn memory_source(&self, batches: Vec<RecordBatch>) -> DfResult<MemorySourceConfig> {
        let batches = batches
            .into_iter()
            .map(|batch| adapt(batch, self.schema))
            .collect::<DfResult<Vec<_>>>()?;
        let partitions = self.session.config().target_partitions().max(1);
        let share = batches.iter().map(RecordBatch::num_rows).sum::<usize>() / partitions;
        let mut groups: Vec<Vec<RecordBatch>> = vec![Vec::new()];
        let mut rows = 0;
        for batch in batches {
            if rows > share.max(self.session.config().batch_size()) {
                groups.push(Vec::new());
                rows = 0;
            }
            rows += batch.num_rows();
            if let Some(group) = groups.last_mut() {
                group.push(batch);
            }
        }
        let source = MemorySourceConfig::try_new(
            &groups,
            Arc::clone(self.schema),
            self.projection.cloned(),
        )?;
        Ok(source.with_show_sizes(false))
    }

    /// One plan of several, or an empty one.
    pub(super) fn union(
        &self,
        mut plans: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match plans.len() {
            0 => {
                let columns = self.columns();
                Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&columns)?))))
            }
            1 => plans.pop().ok_or_else(|| {
                DataFusionError::from(SqlError::internal("a plan of one lost its one"))
            }),
            _ => UnionExec::try_new(plans),
        }
    }
}

/// Whether a filter names single values of something else than time.
fn is_selective(filter: &Expr) -> bool {
    use arrow::datatypes::DataType;
    let value = |e: &Expr| matches!(e, Expr::Literal(v, _) if !matches!(v.data_type(), DataType::Boolean | DataType::Timestamp(..)));
    match filter {
        Expr::BinaryExpr(b) if b.op == Operator::Eq => value(&b.left) || value(&b.right),
        Expr::BinaryExpr(b) if b.op == Operator::And => {
            is_selective(&b.left) || is_selective(&b.right)
        }
        Expr::InList(list) => !list.negated && list.list.len() <= 20,
        _ => false,
    }
}

/// Keeps rows whose time is at or after `from_us`, then gives the first `columns` columns only.
pub(super) fn from_time(
    plan: Arc<dyn ExecutionPlan>,
    time: &str,
    from_us: i64,
    columns: usize,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let field = schema.field_with_name(time)?;
    let bound = match field.data_type() {
        arrow::datatypes::DataType::Timestamp(_, zone) => {
            ScalarValue::TimestampMicrosecond(Some(from_us), zone.clone())
        }
        other => {
            let e = SqlError::internal(format!("time column {time:?} has type {other}"));
            return Err(DataFusionError::from(e));
        }
    };
    let after = BinaryExpr::new(col(time, &schema)?, Operator::GtEq, lit(bound));
    let filter = Arc::new(FilterExec::try_new(Arc::new(after), plan)?);
    if columns == schema.fields().len() {
        return Ok(filter);
    }
    let kept = schema
        .fields()
        .iter()
        .take(columns)
        .map(|f| Ok((col(f.name(), &schema)?, f.name().clone())));
    let kept = kept.collect::<DfResult<Vec<_>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(kept, filter)?))
}

/// A batch under the current schema of its table: missing columns are null, changed types are cast.
fn adapt(batch: RecordBatch, schema: &SchemaRef) -> DfResult<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => arrow::compute::cast(column, field.data_type()),
        None => Ok(arrow::array::new_null_array(field.data_type(), batch.num_rows())),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
