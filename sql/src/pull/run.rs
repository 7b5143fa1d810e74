//! Checked queries run: plans become rows, rows are filled, ordered, paged and named, and meta says what was done.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use chrono_tz::Tz;
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use futures::future::{try_join, try_join_all};
use otus_engine::compiled::CompiledTable;

use super::branch::{answering_view, columns_of, count_meta, row_value};
use super::compare::Facet;
use super::convert::{data_type_name, instant_in, type_name, values as values_of};
use super::cursor;
use super::fill::{self, Row};
use super::filter::Filter;
use super::metrics::{Column, Fill, GROUPS_MAX, MetricsQuery};
use super::plan::{self, Ground};
use super::query::{Interval, Page};
use super::records::RecordsQuery;
use super::source::TimeRanges;
use super::top::Top;
use super::tree::keyed;
use super::value::{Map, Value};
use super::values::ValuesQuery;
use crate::access::Places;
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::session::{PinnedState, Session};

/// What a query runs over, and for whom.
pub(super) struct Over<'a> {
    pub(super) table: &'a Arc<CompiledTable>,
    pub(super) session: &'a Session,
    pub(super) pinned: &'a PinnedState,
}

impl Over<'_> {
    fn ground(&self) -> Ground<'_> {
        Ground { state: self.pinned.state(), snapshot: self.pinned.snapshot(), table: self.table }
    }

    /// The rows of a plan, and the view of the rollup that has answered, if one has.
    async fn plan(&self, plan: LogicalPlan) -> SqlResult<(Vec<RecordBatch>, Option<String>)> {
        let (stream, report) = self.session.run_plan(self.pinned, plan).await?;
        let view = answering_view(report);
        Ok((stream.try_collect().await.map_err(SqlError::from)?, view))
    }

    /// The only number of a plan.
    async fn number(&self, plan: LogicalPlan) -> SqlResult<i64> {
        let (batches, _) = self.plan(plan).await?;
        let column = batches.iter().find(|batch| batch.num_rows() > 0).map(|b| b.column(0));
        let numbers = column.and_then(|column| column.as_primitive_opt::<Int64Type>());
        Ok(numbers.and_then(|numbers| numbers.iter().next().flatten()).unwrap_or(0))
    }
}

/// Rows of `:metrics`.
pub(super) async fn metrics(
    over: &Over<'_>,
    query: &MetricsQuery,
    meta: &mut Map,
) -> SqlResult<Value> {
    interval_meta(over, query.interval, meta);
    let columns =
        query.columns.iter().map(|(name, column)| column_meta(over.table, query, name, *column));
    meta.insert(Value::keyword("columns"), Value::Vector(columns.collect()));
    buckets_meta(query, meta);
    let (found, totals) = try_join(
        whole(over, query),
        try_join_all(query.totals.iter().map(|keys| {
            let names = keys.dims.iter().filter_map(|i| query.dims.get(*i).cloned());
            totals(over, query, names.collect(), keys.bucket)
        })),
    )
    .await?;
    meta.insert(Value::keyword("rollup"), found.view.map_or(Value::Nil, Value::text));
    if let Some(others) = found.others {
        meta.insert(Value::keyword("others"), Value::Int(others));
    }
    let rows = page(query, found.rows, meta);
    if !query.totals.is_empty() {
        meta.insert(Value::keyword("totals"), Value::Vector(totals));
    }
    Ok(rows)
}

/// All rows of a query.
struct Found {
    rows: Vec<Row>,
    view: Option<String>,
    /// How many values of the dimension of `:top` are taken together.
    others: Option<i64>,
}

async fn whole(over: &Over<'_>, query: &MetricsQuery) -> SqlResult<Found> {
    let mut others = None;
    let (mut rows, view) = match &query.top {
        _ if query.starts.is_empty() => (Vec::new(), None),
        None => grouped(over, query).await?,
        Some(top) => {
            let (rows, view, count) = topped(over, query, top).await?;
            others = top.others.then_some(count);
            (rows, view)
        }
    };
    if query.is_finished_in_memory() {
        let too_many = || {
            let message = format!("the query gives more than {GROUPS_MAX} rows before paging");
            SqlError::new(sqlstate::LIMIT_EXCEEDED, message)
        };
        if rows.len() > GROUPS_MAX {
            return Err(too_many());
        }
        if query.fill != Fill::None {
            let zero = zero_row(&over.ground(), query)?;
            rows = fill::fill(query, rows, &zero, GROUPS_MAX).ok_or_else(too_many)?;
        }
        fill::sort(query, &mut rows);
        rows = rows.into_iter().skip(query.page.offset).collect();
    }
    Ok(Found { rows, view, others })
}

async fn grouped(over: &Over<'_>, query: &MetricsQuery) -> SqlResult<(Vec<Row>, Option<String>)> {
    let (batches, view) = over.plan(plan::metrics(&over.ground(), query)?).await?;
    Ok((decode_rows(&batches, query)?, view))
}

/// Rows of the first values of a dimension, and of the others if they are asked for; and how many these are.
async fn topped(
    over: &Over<'_>,
    query: &MetricsQuery,
    top: &Top,
) -> SqlResult<(Vec<Row>, Option<String>, i64)> {
    let dim = query.dims.get(top.dim).cloned().unwrap_or_default();
    let mut ranking = query.regrouped(vec![dim.clone()]);
    ranking.page = Page { offset: 0, limit: top.n };
    ranking.order =
        vec![(Column::Measure(top.by.0, top.by.1), top.falls), (Column::Dimension(0), false)];
    let ground = over.ground();
    let ranked = over.plan(plan::metrics(&ground, &ranking)?);
    let counted = async {
        match top.others {
            true => over.number(plan::count(&ground, &ranking)?).await,
            false => Ok(0),
        }
    };
    let ((batches, _), count) = try_join(ranked, counted).await?;
    let (values, with_null) = first_values(over, &batches, &dim, top.n)?;
    let told = values.len() + usize::from(with_null);
    let among = Filter::In(dim, values, with_null);
    let mut first = query.clone();
    first.filters.push(among.clone());
    let mut rest = query.clone();
    rest.filters.push(Filter::Not(Box::new(among)));
    rest.dims.remove(top.dim);
    let others = count.saturating_sub(i64::try_from(told).unwrap_or(i64::MAX)).max(0);
    let rest = async {
        match top.others && others > 0 {
            true => Ok(grouped(over, &rest).await?.0),
            false => Ok(Vec::new()),
        }
    };
    let ((mut rows, view), rest) = try_join(grouped(over, &first), rest).await?;
    let name = keyed([("others", Value::Int(others))]);
    rows.extend(rest.into_iter().map(|mut row| {
        row.dims.insert(top.dim.min(row.dims.len()), name.clone());
        row
    }));
    Ok((rows, view, others))
}

/// The values of a ranking, and whether nil is among them.
fn first_values(
    over: &Over<'_>,
    batches: &[RecordBatch],
    dim: &str,
    n: usize,
) -> SqlResult<(Vec<ScalarValue>, bool)> {
    let field = over.table.schema.field_with_name(dim);
    let field = field.map_err(|e| SqlError::internal(e.to_string()))?;
    let (mut values, mut with_null) = (Vec::new(), false);
    let columns = batches.iter().filter_map(|batch| batch.columns().get(1));
    let cells = columns.flat_map(|column| (0..column.len()).map(move |i| (column, i)));
    for (column, i) in cells.take(n) {
        let value = ScalarValue::try_from_array(column, i)?.cast_to(field.data_type())?;
        match value.is_null() {
            true => with_null = true,
            false => values.push(value),
        }
    }
    Ok((values, with_null))
}

/// One entry of `:totals`: what it is grouped by, and its rows.
async fn totals(
    over: &Over<'_>,
    query: &MetricsQuery,
    dims: Vec<String>,
    by_bucket: bool,
) -> SqlResult<Value> {
    let mut total = query.regrouped(dims);
    if by_bucket {
        total.starts.clone_from(&query.starts);
        total.compare.clone_from(&query.compare);
        total.all = query.all;
        total.order.push((Column::Bucket, false));
    }
    total.order.extend((0..total.dims.len()).map(|i| (Column::Dimension(i), false)));
    if total.dims.is_empty() {
        total.fill = Fill::Zero;
    }
    let measures = query.columns.iter().filter(|(_, c)| matches!(c, Column::Measure(..)));
    let named = total.dims.iter().enumerate();
    let mut columns: Vec<_> = named.map(|(i, n)| (n.clone(), Column::Dimension(i))).collect();
    if by_bucket {
        columns.insert(0, (otus_engine::catalog::BUCKET_COLUMN.to_string(), Column::Bucket));
    }
    columns.extend(measures.cloned());
    total.columns = columns;
    let by = total.columns.iter().filter(|(_, c)| !matches!(c, Column::Measure(..)));
    let by = by.map(|(name, _)| Value::keyword(name)).collect();
    // A future of its own: totals have no totals.
    let found = Box::pin(whole(over, &total)).await?;
    let mut about = Map::new();
    let rows = page(&total, found.rows, &mut about);
    Ok(keyed([("by", Value::Vector(by)), ("rows", rows)]))
}

/// Cuts the page and names the columns.
fn page(query: &MetricsQuery, rows: Vec<Row>, meta: &mut Map) -> Value {
    let limit = query.page.limit;
    let truncated = rows.len() > limit;
    let keys: Vec<Value> = query.columns.iter().map(|(name, _)| Value::keyword(name)).collect();
    let width = query.measures.len();
    let compared = |bucket| query.compare.as_ref().is_none_or(|other| other.has(bucket));
    let rows: Vec<Value> = rows
        .into_iter()
        .take(limit)
        .map(|row| {
            let cells = query.columns.iter().map(|(_, column)| match column {
                Column::Bucket => match query.starts.get(row.bucket) {
                    Some(start) => instant_in(*start, query.interval.zone),
                    None => Value::Nil,
                },
                Column::Dimension(i) => row.dims.get(*i).cloned().unwrap_or(Value::Nil),
                Column::Measure(_, facet) if *facet != Facet::Now && !compared(row.bucket) => {
                    Value::Nil
                }
                Column::Measure(i, facet) => {
                    let facets = query.facets().iter();
                    let place = facets.take_while(|known| *known != facet).count() * width + i;
                    row.measures.get(place).cloned().unwrap_or(Value::Nil)
                }
            });
            row_value(&keys, cells)
        })
        .collect();
    count_meta(&rows, truncated, meta);
    meta.insert(Value::keyword("next"), cursor::next(query.digest, query.page, truncated));
    Value::Vector(rows)
}

/// Rows of `:records`.
pub(super) async fn records(
    over: &Over<'_>,
    query: &RecordsQuery,
    meta: &mut Map,
) -> SqlResult<Value> {
    let ground = over.ground();
    interval_meta(over, query.interval, meta);
    let schema = &over.table.schema;
    let known = query.columns.iter().filter_map(|name| schema.field_with_name(name).ok());
    let columns: Vec<Value> = known
        .map(|field| {
            keyed([("name", Value::keyword(field.name())), ("type", Value::text(type_name(field)))])
        })
        .collect();
    meta.insert(Value::keyword("columns"), Value::Vector(columns));
    let counted = async {
        match query.count {
            true => over.number(plan::count_records(&ground, query)?).await.map(Some),
            false => Ok(None),
        }
    };
    let places = Places::of(over.table)?;
    let ground = Ground { table: &places.table, ..ground };
    let rows = over.plan(plan::records(&ground, query)?);
    let ((batches, _), count) = try_join(rows, counted).await?;
    if let Some(count) = count {
        meta.insert(Value::keyword("count"), Value::Int(count));
    }
    let keys: Vec<Value> = query.columns.iter().map(Value::keyword).collect();
    let mut rows = Vec::new();
    let mut last = Vec::new();
    for batch in &batches {
        let columns = columns_of(batch, query.interval.zone, 0)?;
        for i in 0..batch.num_rows() {
            if rows.len() + 1 == query.page.limit {
                last = place_of(batch, i, keys.len())?;
            }
            let cells = columns.iter().map(|c| c.get(i).cloned().unwrap_or(Value::Nil));
            rows.push(row_value(&keys, cells.take(keys.len())));
        }
    }
    let truncated = rows.len() > query.page.limit;
    rows.truncate(query.page.limit);
    count_meta(&rows, truncated, meta);
    let next = match truncated && !last.is_empty() {
        true => Value::text(cursor::write(query.digest.0, &last, query.digest.1)?),
        false => Value::Nil,
    };
    meta.insert(Value::keyword("next"), next);
    Ok(Value::Vector(rows))
}

/// What a row has in each term of the order, as text.
fn place_of(batch: &RecordBatch, row: usize, skip: usize) -> SqlResult<Vec<Option<String>>> {
    let columns = batch.columns().iter().skip(skip);
    columns
        .map(|column| {
            let value = ScalarValue::try_from_array(column, row)?;
            let text = value.cast_to(&arrow::datatypes::DataType::Utf8)?;
            Ok(match text {
                ScalarValue::Utf8(text) => text,
                _ => None,
            })
        })
        .collect()
}

/// Rows of `:values`.
pub(super) async fn values(
    over: &Over<'_>,
    query: &ValuesQuery,
    meta: &mut Map,
) -> SqlResult<Value> {
    let ground = over.ground();
    if query.bounded {
        interval_meta(over, query.groups.interval, meta);
    }
    let columns = query.columns.iter().map(|(name, place)| {
        let column = match place {
            Some(place) => Column::Measure(*place, Facet::Now),
            None => Column::Dimension(0),
        };
        let shown = if place.is_some() { name.as_str() } else { query.dim() };
        let Value::Map(mut about) = column_meta(over.table, &query.groups, shown, column) else {
            return Value::Nil;
        };
        about.insert(Value::keyword("name"), Value::keyword(name));
        Value::Map(about)
    });
    meta.insert(Value::keyword("columns"), Value::Vector(columns.collect()));
    let rows = over.plan(plan::values(&ground, query)?);
    let counted = over.number(plan::count_values(&ground, query)?);
    let ((batches, view), count) = try_join(rows, counted).await?;
    meta.insert(Value::keyword("rollup"), view.map_or(Value::Nil, Value::text));
    let keys: Vec<Value> = query.columns.iter().map(|(name, _)| Value::keyword(name)).collect();
    let mut rows = Vec::new();
    for batch in &batches {
        let columns = columns_of(batch, query.groups.interval.zone, 0)?;
        for i in 0..batch.num_rows() {
            let cells = query.columns.iter().map(|(_, place)| {
                let column = columns.get(place.map_or(0, |place| place + 1));
                column.and_then(|column| column.get(i)).cloned().unwrap_or(Value::Nil)
            });
            rows.push(row_value(&keys, cells));
        }
    }
    let truncated = rows.len() > query.groups.page.limit;
    rows.truncate(query.groups.page.limit);
    count_meta(&rows, truncated, meta);
    meta.insert(Value::keyword("count"), Value::Int(count));
    let shown = query.groups.page.offset.saturating_add(rows.len());
    let behind = count.saturating_sub(i64::try_from(shown).unwrap_or(i64::MAX)).max(0);
    meta.insert(Value::keyword("behind"), Value::Int(behind));
    Ok(Value::Vector(rows))
}

fn interval_meta(over: &Over<'_>, interval: Interval, meta: &mut Map) {
    let at = |us: i64| instant_in(us, interval.zone);
    let newest = TimeRanges::default().get(over.pinned.snapshot(), over.table);
    for (name, value) in [
        ("from", at(interval.from_us)),
        ("to", at(interval.to_us)),
        ("tz", Value::text(interval.zone.name())),
        ("last-event", newest.map_or(Value::Nil, |(_, newest)| at(newest))),
    ] {
        meta.insert(Value::keyword(name), value);
    }
}

fn column_meta(table: &CompiledTable, query: &MetricsQuery, name: &str, column: Column) -> Value {
    let measure = match column {
        Column::Measure(place, _) => {
            query.measures.get(place).and_then(|index| table.measures.measures.get(*index))
        }
        _ => None,
    };
    let data_type = match (column, measure) {
        (Column::Bucket, _) => "timestamptz".to_string(),
        (Column::Measure(_, Facet::Share), _) => "double precision".to_string(),
        (_, Some(measure)) => data_type_name(&measure.data_type),
        _ => table.def.column(name).map_or(String::new(), |c| c.column_type.to_string()),
    };
    let mut entries = vec![("name", Value::keyword(name)), ("type", Value::text(data_type))];
    if measure.is_some_and(|measure| measure.approximate) {
        entries.push(("approximate", Value::Bool(true)));
    }
    keyed(entries)
}

/// The buckets of an answer, those that the interval cuts or that have not ended yet, and what they are compared with.
fn buckets_meta(query: &MetricsQuery, meta: &mut Map) {
    let Interval { from_us, to_us, zone, known_to_us } = query.interval;
    let at = |us: i64| instant_in(us, zone);
    let ends = query.starts.iter().skip(1).copied().chain([to_us]);
    let last = query.starts.len().saturating_sub(1);
    let (mut buckets, mut partial) = (Vec::new(), Vec::new());
    for (i, (start, end)) in query.starts.iter().copied().zip(ends).enumerate() {
        let cut_off = i == last && !query.all && !query.ends_whole;
        let filling = start <= known_to_us && end > known_to_us;
        let is_partial = start < from_us || cut_off || filling;
        partial.extend(is_partial.then(|| at(start)));
        buckets.push(keyed([
            ("start", at(start)),
            ("end", at(end)),
            ("partial", Value::Bool(is_partial)),
        ]));
    }
    meta.insert(Value::keyword("partial"), Value::Vector(partial));
    meta.insert(Value::keyword("buckets"), Value::Vector(buckets));
    if let Some(other) = &query.compare {
        let about = [
            ("from", at(other.interval.from_us)),
            ("to", at(other.interval.to_us)),
            ("cut", Value::Bool(other.cut)),
        ];
        meta.insert(Value::keyword("compare"), keyed(about));
    }
}

fn decode_rows(batches: &[RecordBatch], query: &MetricsQuery) -> SqlResult<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in batches {
        let cells = columns_of(batch, query.interval.zone, 1)?;
        let Some(buckets) = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int32Type>())
        else {
            return Err(SqlError::internal("the first column of a metrics plan is no bucket"));
        };
        let (dims, measures) = cells.split_at(query.dims.len().min(cells.len()));
        let take = |columns: &[Vec<Value>], i: usize| -> Vec<Value> {
            columns.iter().map(|c| c.get(i).cloned().unwrap_or(Value::Nil)).collect()
        };
        for (i, bucket) in buckets.values().iter().enumerate() {
            let bucket = usize::try_from(*bucket).unwrap_or(0);
            rows.push(Row { bucket, dims: take(dims, i), measures: take(measures, i) });
        }
    }
    Ok(rows)
}

/// What a row is where nothing happened: in both intervals, if there are two.
fn zero_row(ground: &Ground<'_>, query: &MetricsQuery) -> SqlResult<Vec<Value>> {
    let columns = plan::over_nothing(ground, query)?;
    let nothing: Vec<Value> = columns
        .iter()
        .map(|(array, field)| {
            let cells = values_of(array, field, Tz::UTC)?;
            Ok(cells.into_iter().next().unwrap_or(Value::Nil))
        })
        .collect::<SqlResult<_>>()?;
    let of = |facet: &Facet| match facet {
        Facet::Share => vec![Value::Nil; nothing.len()],
        _ => nothing.clone(),
    };
    Ok(query.facets().iter().flat_map(of).collect())
}
