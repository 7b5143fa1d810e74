//! A checked query as a logical plan over one snapshot. Values are literals of the plan, never text.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch};
use arrow::compute::cast as cast_array;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column as PlanColumn, JoinType, NullEquality};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, SortExpr, TableSource, Volatility, binary_expr, cast, lit, when,
};
use datafusion::scalar::ScalarValue;
use otus_engine::compiled::CompiledTable;
use otus_engine::expr::{AggregateCall, AggregateFunction};
use otus_engine::snapshot::Snapshot;

use super::compare::Facet;
use super::filter::Filter;
use super::metrics::{Column, GROUPS_MAX, MetricsQuery};
use super::query::Interval;
use super::records::RecordsQuery;
use super::values::ValuesQuery;
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

/// Rows of a metrics query: index of the bucket, dimensions, measures, facet by facet. One row more than the page, so
/// that a cut is seen. It stands over raw rows: the planner lets a rollup answer where one can. What is worked on in
/// memory afterwards is neither ordered nor paged.
pub(super) fn metrics(ground: &Ground<'_>, query: &MetricsQuery) -> SqlResult<LogicalPlan> {
    let mut plan = grouped(ground, query, query.interval, &query.starts)?;
    if let Some(other) = &query.compare {
        let other = grouped(ground, query, other.interval, &other.starts)?;
        plan = compared(ground, query, plan, other)?;
    }
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
    if query.is_finished_in_memory() {
        return Ok(plan.limit(0, Some(GROUPS_MAX + 1))?.build()?);
    }
    let order = query.order.iter().map(|(column, falls)| {
        let name = match column {
            Column::Bucket => "__bucket".to_string(),
            Column::Dimension(i) => format!("__d{i}"),
            Column::Measure(i, facet) => measure_name(*i, *facet),
        };
        SortExpr::new(plain(&name), !falls, false)
    });
    let plan = plan.sort_with_limit(order.collect::<Vec<_>>(), None)?;
    Ok(plan.limit(query.page.offset, Some(query.page.limit + 1))?.build()?)
}

/// How many groups there are for the dimensions of a query, whatever their bucket, in either of two intervals that are
/// compared: one row.
pub(super) fn count(ground: &Ground<'_>, query: &MetricsQuery) -> SqlResult<LogicalPlan> {
    let keys: Vec<Expr> = query.dims.iter().map(|dim| plain(dim)).collect();
    let mut plan = match query.compare {
        None => filtered(ground, Some(query.interval), &query.filters)?,
        Some(_) => filtered(ground, None, &query.filters)?,
    };
    if let Some(other) = &query.compare {
        let time = ground.table.def.time.as_str();
        let within = |i: Interval| ground.within(time, i.from_us, i.to_us);
        plan = plan.filter(within(query.interval).or(within(other.interval)))?;
    }
    counted(plan.aggregate(keys, Vec::<Expr>::new())?)
}

/// The rows of a table that pass.
fn filtered(
    ground: &Ground<'_>,
    interval: Option<Interval>,
    filters: &[Filter],
) -> SqlResult<LogicalPlanBuilder> {
    let mut plan = LogicalPlanBuilder::scan("source", ground.source(), None)?;
    if let Some(Interval { from_us, to_us, .. }) = interval {
        plan = plan.filter(ground.within(ground.table.def.time.as_str(), from_us, to_us))?;
    }
    for filter in filters {
        plan = plan.filter(filter.to_expr(&|name| PlanColumn::new_unqualified(name)))?;
    }
    Ok(plan)
}

/// The number of rows of a plan, as one row.
fn counted(plan: LogicalPlanBuilder) -> SqlResult<LogicalPlan> {
    let rows = datafusion::functions_aggregate::count::count(lit(1_i64)).alias("__count");
    Ok(plan.aggregate(Vec::<Expr>::new(), [rows])?.build()?)
}

/// Buckets of one interval, dimensions, measures.
fn grouped(
    ground: &Ground<'_>,
    query: &MetricsQuery,
    interval: Interval,
    starts: &[i64],
) -> SqlResult<LogicalPlanBuilder> {
    let time = ground.table.def.time.as_str();
    let bucket = ScalarUDF::from(BucketIndex::new(starts)).call(vec![plain(time)]);
    let mut keys = vec![bucket.alias("__bucket")];
    keys.extend(query.dims.iter().enumerate().map(|(i, dim)| plain(dim).alias(format!("__d{i}"))));
    let calls = Calls::new(ground, query)?;
    let plan = filtered(ground, Some(interval), &query.filters)?;
    let plan = plan.aggregate(keys, calls.aggregates(ground)?)?;
    let mut columns = keys_of(query);
    columns.extend(calls.finished(ground, query)?);
    Ok(plan.project(columns)?)
}

fn keys_of(query: &MetricsQuery) -> Vec<Expr> {
    let dims = (0..query.dims.len()).map(|i| plain(&format!("__d{i}")));
    std::iter::once(plain("__bucket")).chain(dims).collect()
}

fn measure_name(place: usize, facet: Facet) -> String {
    let letter = match facet {
        Facet::Now => 'm',
        Facet::Previous => 'p',
        Facet::Delta => 'c',
        Facet::Share => 'r',
    };
    format!("__{letter}{place}")
}

/// Both sides by bucket and dimensions; what only one side has is over no rows on the other.
fn compared(
    ground: &Ground<'_>,
    query: &MetricsQuery,
    now: LogicalPlanBuilder,
    other: LogicalPlanBuilder,
) -> SqlResult<LogicalPlanBuilder> {
    let of = |side: &str, name: &str| Expr::Column(PlanColumn::new(Some(side), name));
    let keys: Vec<String> = std::iter::once("__bucket".to_string())
        .chain((0..query.dims.len()).map(|i| format!("__d{i}")))
        .collect();
    let on = |side: &str| keys.iter().map(|k| PlanColumn::new(Some(side), k)).collect::<Vec<_>>();
    let plan = now.alias("now")?.join_detailed(
        other.alias("other")?.build()?,
        JoinType::Full,
        (on("now"), on("other")),
        None,
        NullEquality::NullEqualsNull,
    )?;
    let here = of("now", "__bucket").is_not_null();
    let mut columns = Vec::with_capacity(keys.len() + 4 * query.measures.len());
    for key in &keys {
        columns.push(when(here.clone(), of("now", key)).otherwise(of("other", key))?.alias(key));
    }
    let nothing = over_nothing(ground, query)?;
    let mut facets: [Vec<Expr>; 4] = Default::default();
    for (place, (zero, _)) in nothing.iter().enumerate() {
        let name = measure_name(place, Facet::Now);
        let zero = lit(ScalarValue::try_from_array(zero, 0)?);
        let side = |side: &str| -> SqlResult<Expr> {
            let there = of(side, "__bucket").is_not_null();
            Ok(when(there, of(side, &name)).otherwise(zero.clone())?)
        };
        let (now, other) = (side("now")?, side("other")?);
        let data_type = zero_type(&zero);
        let wide = match &data_type {
            t if t.is_integer() => DataType::Int64,
            t if t.is_floating() => DataType::Float64,
            t => t.clone(),
        };
        let delta = cast(now.clone(), wide.clone()) - cast(other.clone(), wide);
        let base = cast(other.clone(), DataType::Float64);
        let share =
            when(base.clone().gt(lit(0.0)), cast(delta.clone(), DataType::Float64) / base.clone())
                .when(base.clone().lt(lit(0.0)), cast(delta.clone(), DataType::Float64) / -base)
                .end()?;
        let exprs = Facet::ALL.into_iter().zip([now, other, delta, share]);
        for (list, (facet, expr)) in facets.iter_mut().zip(exprs) {
            list.push(expr.alias(measure_name(place, facet)));
        }
    }
    columns.extend(facets.into_iter().flatten());
    Ok(plan.project(columns)?)
}

fn zero_type(zero: &Expr) -> DataType {
    match zero {
        Expr::Literal(value, _) => value.data_type(),
        _ => DataType::Null,
    }
}

/// Rows of a records query, columns in its order.
pub(super) fn records(ground: &Ground<'_>, query: &RecordsQuery) -> SqlResult<LogicalPlan> {
    let plan = filtered(ground, Some(query.interval), &query.filters)?;
    let order = query.order.iter().map(|(name, falls)| SortExpr::new(plain(name), !falls, false));
    let mut plan = plan;
    if let Some(after) = &query.after {
        plan = plan.filter(beyond(&query.order, after))?;
    }
    let plan = plan
        .sort_with_limit(order.collect::<Vec<_>>(), None)?
        .limit(query.page.offset, Some(query.page.limit + 1))?;
    // What orders the rows follows them: the cursor of the next page is made from it.
    let columns = query.columns.iter().map(|name| plain(name).alias(format!("c:{name}")));
    let order = query.order.iter().map(|(name, _)| plain(name).alias(format!("o:{name}")));
    Ok(plan.project(columns.chain(order).collect::<Vec<_>>())?.build()?)
}

/// How many rows a records query has, whatever its page: one row.
pub(super) fn count_records(ground: &Ground<'_>, query: &RecordsQuery) -> SqlResult<LogicalPlan> {
    counted(filtered(ground, Some(query.interval), &query.filters)?)
}

/// Rows that come after a place in an order in which nil is last.
fn beyond(order: &[(String, bool)], place: &[ScalarValue]) -> Expr {
    let mut any = lit(false);
    let mut equal = lit(true);
    for ((name, falls), value) in order.iter().zip(place) {
        let at = || Expr::Literal(value.clone(), None);
        if !value.is_null() {
            let past = if *falls { plain(name).lt(at()) } else { plain(name).gt(at()) };
            any = any.or(equal.clone().and(past.or(plain(name).is_null())));
        }
        equal = equal.and(binary_expr(plain(name), Operator::IsNotDistinctFrom, at()));
    }
    // The same said of the first key alone: files and pages are left out by it.
    match (order.first(), place.first()) {
        (Some((name, falls)), Some(value)) if !value.is_null() => {
            let at = Expr::Literal(value.clone(), None);
            let within = if *falls { plain(name).lt_eq(at) } else { plain(name).gt_eq(at) };
            within.or(plain(name).is_null()).and(any)
        }
        _ => any,
    }
}

/// Values of one dimension with measures, greatest first, or in their order where no measure is asked for.
pub(super) fn values(ground: &Ground<'_>, query: &ValuesQuery) -> SqlResult<LogicalPlan> {
    let groups = &query.groups;
    let calls = Calls::new(ground, groups)?;
    let plan = searched(ground, query)?.aggregate([value_of(groups)], calls.aggregates(ground)?)?;
    let mut columns = vec![plain("__d0")];
    columns.extend(calls.finished(ground, groups)?);
    let by =
        query.by.map(|place| SortExpr::new(plain(&measure_name(place, Facet::Now)), false, false));
    let order = by.into_iter().chain([SortExpr::new(plain("__d0"), true, false)]);
    let plan = plan.project(columns)?.sort_with_limit(order.collect::<Vec<_>>(), None)?;
    Ok(plan.limit(groups.page.offset, Some(groups.page.limit + 1))?.build()?)
}

/// How many values there are, whatever the page: one row.
pub(super) fn count_values(ground: &Ground<'_>, query: &ValuesQuery) -> SqlResult<LogicalPlan> {
    let plan = searched(ground, query)?;
    counted(plan.aggregate([value_of(&query.groups)], Vec::<Expr>::new())?)
}

fn searched(ground: &Ground<'_>, query: &ValuesQuery) -> SqlResult<LogicalPlanBuilder> {
    let groups = &query.groups;
    let plan = filtered(ground, query.bounded.then_some(groups.interval), &groups.filters)?;
    match &query.search {
        None => Ok(plan),
        Some(pattern) => {
            let text = cast(plain(query.dim()), DataType::Utf8View);
            Ok(plan.filter(text.ilike(lit(pattern.as_str())))?)
        }
    }
}

fn value_of(groups: &MetricsQuery) -> Expr {
    plain(groups.dims.first().map_or("", String::as_str)).alias("__d0")
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

impl Calls {
    /// The measures of a query from the results of the calls.
    fn finished(&self, ground: &Ground<'_>, query: &MetricsQuery) -> SqlResult<Vec<Expr>> {
        let measures = query.measures.iter().filter_map(|i| ground.table.measures.measures.get(*i));
        measures
            .enumerate()
            .map(|(place, measure)| {
                let finish = finish_expr(ground.state, &measure.finish_sql, &self.schema)?;
                let name = measure_name(place, Facet::Now);
                Ok(cast(finish, measure.data_type.clone()).alias(name))
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
