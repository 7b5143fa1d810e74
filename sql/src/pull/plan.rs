//! A checked query as a logical plan over one snapshot. Values are literals of the plan, never text.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch};
use arrow::compute::cast as cast_array;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::catalog::TableProvider;
use datafusion::common::Column as PlanColumn;
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, SortExpr, TableSource, Volatility, cast, lit,
};
use datafusion::scalar::ScalarValue;
use otus_engine::compiled::CompiledTable;
use otus_engine::expr::{AggregateCall, AggregateFunction};
use otus_engine::snapshot::Snapshot;

use super::metrics::{Column, Fill, GROUPS_MAX, MetricsQuery};
use super::query::Interval;
use super::records::RecordsQuery;
use crate::compile::finish_expr;
use crate::error::{SqlError, SqlResult};
use crate::provider::RawTable;
use crate::rewrite::over_raw;

/// What a plan is built over.
pub(super) struct Ground<'a> {
    pub(super) state: &'a SessionState,
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) table: &'a Arc<CompiledTable>,
}

/// Rows of a metrics query: index of the bucket, dimensions, measures. One row more than the page, so that
/// a cut is seen. It stands over raw rows: the planner lets a rollup answer where one can.
pub(super) fn metrics(ground: &Ground<'_>, query: &MetricsQuery) -> SqlResult<LogicalPlan> {
    let time = ground.table.def.time.as_str();
    let Interval { from_us, to_us, .. } = query.interval;
    let mut plan = LogicalPlanBuilder::scan("source", ground.source(), None)?
        .filter(ground.within(time, from_us, to_us))?;
    for filter in &query.filters {
        plan = plan.filter(filter.to_expr(&|name| PlanColumn::new_unqualified(name)))?;
    }
    let bucket = ScalarUDF::from(BucketIndex::new(&query.starts)).call(vec![plain(time)]);
    let mut keys = vec![bucket.alias("__bucket")];
    keys.extend(query.dims.iter().enumerate().map(|(i, dim)| plain(dim).alias(format!("__d{i}"))));
    let calls = Calls::new(ground, query)?;
    plan = plan.aggregate(keys, calls.aggregates(ground)?)?;
    let mut columns = vec![plain("__bucket")];
    columns.extend((0..query.dims.len()).map(|i| plain(&format!("__d{i}"))));
    for (place, index) in query.measures.iter().enumerate() {
        let Some(measure) = ground.table.measures.measures.get(*index) else { continue };
        let finish = finish_expr(ground.state, &measure.finish_sql, &calls.schema)?;
        columns.push(cast(finish, measure.data_type.clone()).alias(format!("__m{place}")));
    }
    plan = plan.project(columns)?;
    for filter in &query.having {
        let measures = &ground.table.measures.measures;
        plan = plan.filter(filter.to_expr(&|name| {
            let place = query
                .measures
                .iter()
                .position(|index| measures.get(*index).is_some_and(|m| m.name == name));
            PlanColumn::new_unqualified(format!("__m{}", place.unwrap_or(usize::MAX)))
        }))?;
    }
    if query.fill != Fill::None {
        // Filling comes before order and page.
        return Ok(plan.limit(0, Some(GROUPS_MAX + 1))?.build()?);
    }
    let order = query.order.iter().map(|(column, falls)| {
        let name = match column {
            Column::Bucket => "__bucket".to_string(),
            Column::Dimension(i) => format!("__d{i}"),
            Column::Measure(i) => format!("__m{i}"),
        };
        SortExpr::new(plain(&name), !falls, false)
    });
    let plan = plan.sort_with_limit(order.collect::<Vec<_>>(), None)?;
    Ok(plan.limit(query.page.offset, Some(query.page.limit + 1))?.build()?)
}

/// Rows of a records query, columns in its order.
pub(super) fn records(ground: &Ground<'_>, query: &RecordsQuery) -> SqlResult<LogicalPlan> {
    let time = ground.table.def.time.as_str();
    let mut plan = LogicalPlanBuilder::scan("source", ground.source(), None)?
        .filter(ground.within(time, query.interval.from_us, query.interval.to_us))?;
    for filter in &query.filters {
        plan = plan.filter(filter.to_expr(&|name| PlanColumn::new_unqualified(name)))?;
    }
    let order = query.order.iter().map(|(name, falls)| SortExpr::new(plain(name), !falls, false));
    let plan = plan
        .sort_with_limit(order.collect::<Vec<_>>(), None)?
        .limit(query.page.offset, Some(query.page.limit + 1))?;
    // A row without columns would be no row: the time stands in.
    let columns: Vec<Expr> = match query.columns.as_slice() {
        [] => vec![plain(time)],
        names => names.iter().map(|name| plain(name)).collect(),
    };
    Ok(plan.project(columns)?.build()?)
}

impl Ground<'_> {
    /// The rows of the table.
    pub(super) fn source(&self) -> Arc<dyn TableSource> {
        provider_as_source(self.raw())
    }

    fn raw(&self) -> Arc<dyn TableProvider> {
        Arc::new(RawTable::new(Arc::clone(self.snapshot), Arc::clone(self.table)))
    }

    fn within(&self, column: &str, from_us: i64, to_us: i64) -> Expr {
        let zone = match self.table.schema.field_with_name(column).map(Field::data_type) {
            Ok(DataType::Timestamp(_, zone)) => zone.clone(),
            _ => Some("UTC".into()),
        };
        let at = |us: i64| lit(ScalarValue::TimestampMicrosecond(Some(us), zone.clone()));
        plain(column).gt_eq(at(from_us)).and(plain(column).lt(at(to_us)))
    }
}

/// A column by its name as it is, never parsed.
fn plain(name: &str) -> Expr {
    Expr::Column(PlanColumn::new_unqualified(name))
}

/// The aggregate calls that the measures of a query need.
struct Calls {
    indexes: Vec<usize>,
    /// Their results, named as finishes name them.
    schema: Schema,
}

impl Calls {
    fn new(ground: &Ground<'_>, query: &MetricsQuery) -> SqlResult<Self> {
        let measures = &ground.table.measures;
        let mut indexes: Vec<usize> = Vec::new();
        for measure in query.measures.iter().filter_map(|index| measures.measures.get(*index)) {
            for call in &measure.calls {
                if !indexes.contains(call) {
                    indexes.push(*call);
                }
            }
        }
        let mut fields = Vec::with_capacity(indexes.len());
        for (index, call) in indexes.iter().filter_map(|i| Some((i, measures.calls.get(*i)?))) {
            fields.push(Field::new(format!("__call{index}"), output_type(call)?, true));
        }
        Ok(Self { indexes, schema: Schema::new(fields) })
    }

    fn aggregates(&self, ground: &Ground<'_>) -> SqlResult<Vec<Expr>> {
        let calls = &ground.table.measures.calls;
        let known = self.indexes.iter().filter_map(|index| Some((*index, calls.get(*index)?)));
        known
            .map(|(index, call)| {
                Ok(over_raw(ground.state, ground.table, call)?.alias(format!("__call{index}")))
            })
            .collect()
    }
}

fn output_type(call: &AggregateCall) -> SqlResult<DataType> {
    let types: Vec<_> = call.args.iter().map(|arg| arg.data_type().clone()).collect();
    call.function.output_type(&types).map_err(SqlError::from)
}

/// What each measure of a query is over no rows: counts and sums are zero, and so is what follows from them.
pub(super) fn over_nothing(
    ground: &Ground<'_>,
    query: &MetricsQuery,
) -> SqlResult<Vec<(ArrayRef, Field)>> {
    let calls = Calls::new(ground, query)?;
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (index, field) in calls.indexes.iter().zip(calls.schema.fields()) {
        let function = ground.table.measures.calls.get(*index).map(|call| call.function);
        let counts = matches!(
            function,
            Some(
                AggregateFunction::CountAll
                    | AggregateFunction::Count
                    | AggregateFunction::Sum
                    | AggregateFunction::ApproxDistinct
            )
        );
        let value = if counts {
            ScalarValue::new_zero(field.data_type())?
        } else {
            ScalarValue::try_from(field.data_type())?
        };
        columns.push(value.to_array()?);
    }
    let schema = Arc::new(calls.schema.clone());
    let rows = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(schema, columns, &rows)
        .map_err(|e| SqlError::internal(e.to_string()))?;
    let df_schema = datafusion::common::DFSchema::try_from(calls.schema.clone())?;
    let known =
        query.measures.iter().filter_map(|index| ground.table.measures.measures.get(*index));
    known
        .map(|measure| {
            let finish = finish_expr(ground.state, &measure.finish_sql, &calls.schema)?;
            let expr = cast(finish, measure.data_type.clone());
            let physical = ground.state.create_physical_expr(expr, &df_schema)?;
            let value = physical.evaluate(&batch)?.into_array(1)?;
            Ok((value, Field::new(&measure.name, measure.data_type.clone(), true)))
        })
        .collect()
}

/// The index of the bucket that holds a time: buckets are given by their starts, so the zone's calendar is
/// asked once per query, not once per row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct BucketIndex {
    starts: Arc<[i64]>,
    signature: Signature,
}

impl BucketIndex {
    fn new(starts: &[i64]) -> Self {
        let signature = Signature::any(1, Volatility::Immutable);
        Self { starts: Arc::from(starts), signature }
    }

    /// Starts of the buckets, microseconds.
    pub(crate) fn starts(&self) -> Arc<[i64]> {
        Arc::clone(&self.starts)
    }

    fn index(&self, at: i64, known: usize) -> usize {
        let begins = |i: usize| self.starts.get(i).is_none_or(|start| *start <= at);
        let ends = |i: usize| self.starts.get(i + 1).is_none_or(|next| at < *next);
        // Rows come sorted by time, mostly.
        if begins(known) && ends(known) {
            return known;
        }
        self.starts.partition_point(|start| *start <= at).saturating_sub(1)
    }
}

impl ScalarUDFImpl for BucketIndex {
    fn name(&self) -> &str {
        "otus_bucket_index"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Int32)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let Some(times) = args.args.first() else {
            return Err(DataFusionError::Internal("a bucket needs a time".into()));
        };
        let times = times.to_array(args.number_rows)?;
        let times = cast_array(&times, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let mut known = 0;
        let indexes: Int32Array = times
            .iter()
            .map(|at| {
                at.map(|at| {
                    known = self.index(at, known);
                    i32::try_from(known).unwrap_or(i32::MAX)
                })
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(indexes)))
    }
}
