//! The query map of `:records` with its row pattern, checked against a table.

use datafusion::scalar::ScalarValue;
use otus_engine::compiled::CompiledTable;

use super::cursor::{self, Cursor};
use super::filter::{Decoder, FieldType, Filter};
use super::metrics::{Call, row_entries};
use super::pattern::Target;
use super::problem::{Problem, join};
use super::query::{Interval, Page, Reader};
use super::value::Value;
use crate::access::Places;

const KEYS: [&str; 10] =
    ["from", "to", "window", "tz", "filters", "order", "limit", "offset", "after", "count"];

/// A checked query of `:records`.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordsQuery {
    /// Interval and zone.
    pub interval: Interval,
    /// Columns read, in the order of the pattern.
    pub columns: Vec<String>,
    /// Filters.
    pub filters: Vec<Filter>,
    /// Order of rows, each with whether it falls; newest first if nothing is said.
    pub order: Vec<(String, bool)>,
    /// Page.
    pub page: Page,
    /// What the last row before the page has in each term of the order.
    pub after: Option<Vec<ScalarValue>>,
    /// Whether all rows are counted, whatever the page.
    pub count: bool,
    /// Which query a cursor belongs to, and what it looks like.
    pub digest: (u64, Cursor),
}

fn field(table: &CompiledTable, name: &str) -> Option<FieldType> {
    use otus_engine::catalog::{INGESTED_AT_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN, TOPIC_COLUMN};
    use otus_engine::types::ColumnType;
    let system = match name {
        // Not all of them are granted to everybody.
        _ if table.schema.index_of(name).is_err() => None,
        PARTITION_COLUMN => Some(ColumnType::Integer),
        OFFSET_COLUMN => Some(ColumnType::BigInt),
        INGESTED_AT_COLUMN => Some(ColumnType::Timestamptz),
        TOPIC_COLUMN if table.def.source.is_many() => Some(ColumnType::Text),
        _ => None,
    };
    let declared = || table.def.column(name).map(|column| column.column_type.clone());
    system.or_else(declared).map(FieldType::Column)
}

/// Checks a call; `None` if something is wrong, all of it in `problems`.
pub fn check(call: Call<'_>, problems: &mut Vec<Problem>) -> Option<RecordsQuery> {
    let before = problems.len();
    let table = call.table;
    let path = call.argument_path.clone();
    let mut reader = Reader::new(call.argument, &KEYS, &[], path, problems);
    let zone = reader.zone();
    let interval = reader.interval(zone, call.moment);
    let page = reader.page(call.seq);
    let known = |name: &str| field(table, name);
    let mut order = reader.order().unwrap_or_else(|| vec![(table.def.time.clone(), true)]);
    for (name, _) in &order {
        if known(name).is_none() {
            reader.fail::<()>("order", format!("{name:?} is no column of the table"));
        }
    }
    // Partition and offset name a record, so the order of an answer never changes.
    let places = match Places::of(call.table) {
        Ok(places) => places,
        Err(e) => {
            tracing::error!(error = %e, "places of records cannot be read");
            return reader.fail("order", "the records of this table have no order");
        }
    };
    for name in &places.names {
        let falls = order.first().is_some_and(|(_, falls)| *falls);
        if !order.iter().any(|(given, _)| given == name) {
            order.push((name.clone(), falls));
        }
    }
    let kind = if places.hidden { Cursor::Sealed } else { Cursor::Plain };
    let digest = (cursor::digest(call.argument), kind);
    let after = after(&mut reader, digest, &places.table, &order);
    let count = match reader.get("count") {
        None | Some(Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(_) => reader.fail("count", "is true or false").unwrap_or_default(),
    };
    let mut filters = Vec::new();
    if let Some(form) = reader.get("filters") {
        let path = reader.path_of("filters");
        filters.extend(Decoder::new(&known, zone, reader.problems()).filter(form, &path));
    }
    let mut columns: Vec<String> = Vec::new();
    for entry in row_entries(call.rows) {
        let Value::Keyword(name) = &entry.key else { continue };
        if known(name).is_none() {
            continue;
        }
        match &entry.target {
            Target::Equal(literal) if entry.options.is_empty() => {
                let at = join(call.path, &entry.key);
                filters.extend(Decoder::new(&known, zone, problems).entry(name, literal, &at));
            }
            _ if columns.iter().any(|column| **column == **name) => {}
            _ => columns.push(name.to_string()),
        }
    }
    if problems.len() > before {
        return None;
    }
    let interval = interval?;
    Some(RecordsQuery { interval, columns, filters, order, page, after, count, digest })
}

/// The values of `:after`, of the types of the order's columns.
fn after(
    reader: &mut Reader<'_>,
    (digest, kind): (u64, Cursor),
    table: &CompiledTable,
    order: &[(String, bool)],
) -> Option<Vec<ScalarValue>> {
    let place = cursor::place(reader, digest, kind)?;
    let value = |((name, _), text): (&(String, bool), Option<String>)| {
        let data_type = table.schema.field_with_name(name).ok()?.data_type();
        match text {
            Some(text) => ScalarValue::try_from_string(text, data_type).ok(),
            None => ScalarValue::try_from(data_type).ok(),
        }
    };
    let known = place.len() == order.len();
    let values: Option<Vec<_>> = order.iter().zip(place).map(value).collect();
    match values.filter(|_| known) {
        Some(values) => Some(values),
        None => reader.fail("after", "is no cursor of this query"),
    }
}
