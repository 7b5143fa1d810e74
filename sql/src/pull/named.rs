//! `:queries`: the named queries of the configuration, called with a map of their parameters.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono_tz::Tz;
use datafusion::common::Column;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use otus_engine::types::ColumnType;

use super::branch::{answering_view, columns_of, count_meta, row_value};
use super::convert::type_name;
use super::metrics::row_entries;
use super::pattern::{Pattern, RowsPattern, Target};
use super::problem::{Path, Problem, join};
use super::query::{Page, ROWS_DEFAULT, ROWS_MAX};
use super::shape::{ArgumentShape, Kind, Shape};
use super::table::kind_of_data;
use super::tree::keyed;
use super::value::{Map, Value};
use crate::error::SqlResult;
use crate::named::{self, NamedQueries, NamedQuery};
use crate::session::{PinnedState, Session};

/// The columns of the queries that a request calls, by name.
pub(super) type Described = BTreeMap<String, SchemaRef>;

/// The name under which the queries stand in the tree.
pub(super) const QUERIES: &str = "queries";

/// Looks at the queries that a pattern calls. One that cannot be planned is left out: it fails when it runs.
pub(super) async fn describe(session: &Session, pattern: &Pattern) -> Described {
    let mut described = Described::new();
    let queries = session.named();
    let Pattern::Map(root) = pattern else { return described };
    for entry in root.entries.iter().filter(|entry| entry.key == Value::keyword(QUERIES)) {
        let Target::Into(Pattern::Map(calls)) = &entry.target else { continue };
        for call in &calls.entries {
            let Value::Keyword(name) = &call.key else { continue };
            let Some(query) = queries.find(name) else { continue };
            if let Ok(columns) = session.named_columns(query).await {
                described.insert(name.to_string(), columns);
            }
        }
    }
    described
}

/// The shape of `:queries`.
pub(super) fn shape(queries: &NamedQueries, described: &Described) -> Shape {
    let endpoint = |query: &Arc<NamedQuery>| {
        let name = query.def.name.as_str();
        let rows = described.get(name).map(|columns| {
            let column = |f: &Arc<arrow::datatypes::Field>| {
                (Value::keyword(f.name()), Shape::Leaf(kind_of_data(f.data_type())))
            };
            let row = Shape::Map(columns.fields().iter().map(column).collect());
            Shape::Rows(Box::new(row))
        });
        let returns = Box::new(rows.unwrap_or(Shape::Leaf(Kind::Any)));
        let arguments = vec![ArgumentShape::Query];
        (Value::keyword(name), Shape::Endpoint { arguments, returns })
    };
    Shape::Map(queries.iter().map(endpoint).collect())
}

/// A checked call of a named query.
#[derive(Debug)]
pub(super) struct NamedCall {
    query: Arc<NamedQuery>,
    /// One per parameter, of its type.
    values: Vec<ScalarValue>,
    /// Columns read, in the order of the pattern.
    columns: Vec<String>,
    page: Page,
}

/// Checks a call; `None` if something is wrong, all of it in `problems`.
pub(super) fn check(
    state: &SessionState,
    query: &Arc<NamedQuery>,
    (argument, path): (&Map, &Path),
    rows: Option<&RowsPattern>,
    seq: Option<(usize, Option<usize>)>,
    problems: &mut Vec<Problem>,
) -> Option<NamedCall> {
    let before = problems.len();
    let parameters = &query.def.parameters;
    for (key, _) in argument.iter() {
        let name = match key {
            Value::Keyword(name) => &**name,
            _ => "",
        };
        if !parameters.iter().any(|p| p.name == name) {
            let names: Vec<_> = parameters.iter().map(|p| p.name.as_str()).collect();
            let reason = match names.as_slice() {
                [] => "the query takes no parameters".to_string(),
                names => format!("unknown key; there is {}", names.join(", ")),
            };
            problems.push(Problem::bad_argument(reason, &join(path, key)));
        }
    }
    let mut values = Vec::with_capacity(parameters.len());
    for parameter in parameters {
        let given = argument.get_keyword(&parameter.name);
        let at = match given {
            Some(_) => join(path, &Value::keyword(&parameter.name)),
            None => path.clone(),
        };
        let value = given.map(|value| scalar(value, &parameter.column_type)).transpose();
        let value = value.and_then(|value| {
            named::of_value(state, query, parameter, value).map_err(|e| e.message)
        });
        match value {
            Ok(value) => values.push(value),
            Err(reason) => problems.push(Problem::bad_argument(reason, &at)),
        }
    }
    let mut columns: Vec<String> = Vec::new();
    for entry in row_entries(rows) {
        if let Value::Keyword(name) = &entry.key
            && !columns.iter().any(|column| **column == **name)
        {
            columns.push(name.to_string());
        }
    }
    let (offset, count) = seq.unwrap_or((0, None));
    let limit = if seq.is_some() { count.unwrap_or(ROWS_MAX).min(ROWS_MAX) } else { ROWS_DEFAULT };
    let page = Page { offset, limit };
    let call = NamedCall { query: Arc::clone(query), values, columns, page };
    (problems.len() == before).then_some(call)
}

/// A value of a request for a parameter of a type; an integer is an instant in epoch milliseconds, as
/// everywhere in a pattern.
fn scalar(value: &Value, column_type: &ColumnType) -> Result<ScalarValue, String> {
    let instant = |us: i64| ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()));
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_string()));
    Ok(match value {
        Value::Nil => ScalarValue::Null,
        Value::Bool(b) => ScalarValue::Boolean(Some(*b)),
        Value::Int(ms) if *column_type == ColumnType::Timestamptz => {
            instant(ms.checked_mul(1_000).ok_or("the instant is out of range")?)
        }
        Value::Int(n) => ScalarValue::Int64(Some(*n)),
        Value::Float(x) => ScalarValue::Float64(Some(*x)),
        Value::Inst { micros, .. } => instant(*micros),
        Value::BigInt(digits) | Value::Decimal(digits) => text(digits),
        Value::String(s) | Value::Keyword(s) | Value::Uuid(s) => text(s),
        Value::Char(c) => text(&c.to_string()),
        other => return Err(format!("must be a plain value, not {}", other.kind_name())),
    })
}

impl NamedCall {
    /// Runs the query; what it did goes into `meta`.
    pub(super) async fn run(
        &self,
        session: &Session,
        pinned: &PinnedState,
        meta: &mut Map,
    ) -> SqlResult<Value> {
        let (columns, page) = (self.columns.clone(), self.page);
        let finish = move |plan: LogicalPlan| {
            let mut plan = LogicalPlanBuilder::from(plan).alias("q")?;
            if !columns.is_empty() {
                let column = |name| Expr::Column(Column::new(Some("q"), name));
                plan = plan.project(columns.into_iter().map(column))?;
            }
            Ok(plan.limit(page.offset, Some(page.limit.saturating_add(1)))?.build()?)
        };
        let query = Arc::clone(&self.query);
        let started = session.run_named(pinned, query, self.values.clone(), finish).await?;
        let (stream, report) = started;
        let fields = stream.schema();
        let view = answering_view(report);
        let known =
            fields.fields().iter().filter(|f| self.columns.contains(f.name())).map(|field| {
                let name = ("name", Value::keyword(field.name()));
                keyed([name, ("type", Value::text(type_name(field)))])
            });
        meta.insert(Value::keyword("columns"), Value::Vector(known.collect()));
        meta.insert(Value::keyword("rollup"), view.map_or(Value::Nil, Value::text));
        let keys: Vec<Value> = self.columns.iter().map(Value::keyword).collect();
        let batches: Vec<_> = stream.try_collect().await.map_err(crate::error::SqlError::from)?;
        let mut rows = Vec::new();
        for batch in &batches {
            let columns = columns_of(batch, Tz::UTC, 0)?;
            for i in 0..batch.num_rows() {
                let cells = columns.iter().map(|c| c.get(i).cloned().unwrap_or(Value::Nil));
                rows.push(row_value(&keys, cells.take(keys.len())));
            }
        }
        let truncated = rows.len() > self.page.limit;
        rows.truncate(self.page.limit);
        count_meta(&rows, truncated, meta);
        Ok(Value::Vector(rows))
    }
}
