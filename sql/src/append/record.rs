//! From a row to the record that will be read as that row: a JSON object with a field for each column, by the
//! column's path; what a column takes from outside the value goes there.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow::array::Array;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate};
use datafusion::scalar::ScalarValue;
use otus_engine::catalog::{ColumnDef, ColumnSource, EpochUnit};
use otus_engine::types::ColumnType;

use super::{Record, Target};
use crate::error::{SqlError, SqlResult, sqlstate};

/// A JSON object under construction.
#[derive(Debug)]
enum Node {
    Leaf(String),
    Object(BTreeMap<String, Node>),
}

/// The record of a row; `values` are of the target's columns, in their types.
pub(crate) fn record(target: &Target, values: &[ScalarValue]) -> SqlResult<Record> {
    let mut record = Record::default();
    let mut fields = BTreeMap::new();
    for (column, value) in target.columns().zip(values) {
        if value.is_null() {
            continue;
        }
        match &column.source {
            ColumnSource::Path(path) => {
                let leaf = json(&column.column_type, column.epoch, value, &column.name)?;
                put(&mut fields, path, Node::Leaf(leaf), column)?;
            }
            ColumnSource::Rest => rest(&mut fields, value, column)?,
            ColumnSource::RecordKey => record.key = Some(outside(column, value)?),
            ColumnSource::RecordHeader(name) => {
                record.headers.push((name.clone(), outside(column, value)?));
            }
            ColumnSource::RecordTimestamp => record.timestamp_us = microseconds(value),
            ColumnSource::Computed(_) => {}
        }
    }
    let mut text = String::new();
    write(&fields, &mut text);
    record.value = Bytes::from(text);
    Ok(record)
}

fn put(
    fields: &mut BTreeMap<String, Node>,
    path: &[String],
    node: Node,
    column: &ColumnDef,
) -> SqlResult<()> {
    let taken = || {
        let message =
            format!("column \"{}\" lies in a field that another column fills", column.name);
        SqlError::new(sqlstate::INVALID_PARAMETER, message)
            .with_hint("leave one of the two columns out")
    };
    match path {
        [] => Err(taken()),
        [last] => match fields.insert(last.clone(), node) {
            None => Ok(()),
            Some(_) => Err(taken()),
        },
        [first, rest @ ..] => {
            let below =
                fields.entry(first.clone()).or_insert_with(|| Node::Object(BTreeMap::new()));
            match below {
                Node::Object(below) => put(below, rest, node, column),
                Node::Leaf(_) => Err(taken()),
            }
        }
    }
}

/// The fields of an object beside those of the columns.
fn rest(
    fields: &mut BTreeMap<String, Node>,
    value: &ScalarValue,
    column: &ColumnDef,
) -> SqlResult<()> {
    let text = value.try_as_str().flatten().unwrap_or_default();
    let object: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(text)
        .map_err(|_| {
            let message = format!("column \"{}\" takes a JSON object", column.name);
            SqlError::new(sqlstate::INVALID_TEXT, message)
        })?;
    for (name, value) in object {
        put(fields, &[name], Node::Leaf(value.get().to_owned()), column)?;
    }
    Ok(())
}

fn write(fields: &BTreeMap<String, Node>, out: &mut String) {
    out.push('{');
    for (at, (name, node)) in fields.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        quote(name, out);
        out.push(':');
        match node {
            Node::Leaf(text) => out.push_str(text),
            Node::Object(below) => write(below, out),
        }
    }
    out.push('}');
}

fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote(text, &mut out);
    out
}

/// A value as the bytes of a key or header: texts as they are, all else as its JSON.
fn outside(column: &ColumnDef, value: &ScalarValue) -> SqlResult<Bytes> {
    if let ScalarValue::BinaryView(Some(bytes)) | ScalarValue::Binary(Some(bytes)) = value {
        return Ok(Bytes::from(bytes.clone()));
    }
    let text = json(&column.column_type, column.epoch, value, &column.name)?;
    let bare = match &column.column_type {
        ColumnType::Jsonb | ColumnType::Array(_) => text,
        _ => match text.starts_with('"') {
            true => serde_json::from_str(&text)
                .map_err(|e| SqlError::internal(format!("a text was not written: {e}")))?,
            false => text,
        },
    };
    Ok(Bytes::from(bare))
}

/// Microseconds of a time.
fn microseconds(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampMicrosecond(us, _) => *us,
        ScalarValue::Date32(days) => days.map(|days| i64::from(days) * 86_400_000_000),
        _ => None,
    }
}

/// The JSON text of a value of a column.
fn json(
    column_type: &ColumnType,
    epoch: Option<EpochUnit>,
    value: &ScalarValue,
    column: &str,
) -> SqlResult<String> {
    let unfit = || {
        let message = format!("a value of column \"{column}\" has no form in a record");
        SqlError::new(sqlstate::OUT_OF_RANGE, message)
    };
    if let (Some(unit), Some(us)) = (epoch, microseconds(value)) {
        return Ok(counted(us, unit));
    }
    Ok(match value {
        value if value.is_null() => "null".into(),
        ScalarValue::Boolean(Some(value)) => value.to_string(),
        ScalarValue::Int16(Some(value)) => value.to_string(),
        ScalarValue::Int32(Some(value)) => value.to_string(),
        ScalarValue::Int64(Some(value)) => value.to_string(),
        ScalarValue::Float32(Some(value)) if value.is_finite() => format!("{value:?}"),
        ScalarValue::Float64(Some(value)) if value.is_finite() => format!("{value:?}"),
        ScalarValue::Float32(_) | ScalarValue::Float64(_) => {
            let message = format!("column \"{column}\" cannot hold NaN or infinity");
            return Err(SqlError::new(sqlstate::OUT_OF_RANGE, message)
                .with_hint("records are JSON, which has no such numbers"));
        }
        ScalarValue::Decimal128(Some(value), _, scale) => decimal(*value, *scale),
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => match column_type {
            ColumnType::Jsonb => {
                let parsed: Result<&serde_json::value::RawValue, _> = serde_json::from_str(text);
                parsed.map_err(|e| {
                    let message = format!("invalid input syntax for type json: \"{text}\"");
                    SqlError::new(sqlstate::INVALID_TEXT, message).with_detail(e.to_string())
                })?;
                text.clone()
            }
            _ => quoted(text),
        },
        ScalarValue::Date32(Some(days)) => {
            let day = days.checked_add(719_163).and_then(NaiveDate::from_num_days_from_ce_opt);
            format!("\"{}\"", day.filter(is_shown).ok_or_else(unfit)?.format("%Y-%m-%d"))
        }
        ScalarValue::TimestampMicrosecond(Some(us), zone) => {
            let at = DateTime::from_timestamp_micros(*us).filter(|at| is_shown(&at.date_naive()));
            let at = at.ok_or_else(unfit)?.format("%Y-%m-%dT%H:%M:%S%.6f");
            format!("\"{at}{}\"", if zone.is_some() { "Z" } else { "" })
        }
        ScalarValue::Binary(Some(bytes)) | ScalarValue::BinaryView(Some(bytes)) => {
            let mut hex = String::with_capacity(2 * bytes.len() + 6);
            hex.push_str("\"\\\\x");
            for byte in bytes {
                let _written = write!(hex, "{byte:02x}");
            }
            hex + "\""
        }
        ScalarValue::List(list) => {
            let ColumnType::Array(item) = column_type else { return Err(unfit()) };
            let items = list.value(0);
            let mut out = String::from("[");
            for at in 0..items.len() {
                if at > 0 {
                    out.push(',');
                }
                let value = ScalarValue::try_from_array(&items, at).map_err(SqlError::from)?;
                out.push_str(&json(item, epoch, &value, column)?);
            }
            out + "]"
        }
        _ => return Err(unfit()),
    })
}

/// Records name years by four digits.
fn is_shown(day: &NaiveDate) -> bool {
    (0..=9_999).contains(&chrono::Datelike::year(day))
}

fn counted(us: i64, unit: EpochUnit) -> String {
    match unit {
        EpochUnit::Seconds => decimal(us.into(), 6),
        EpochUnit::Millis => decimal(us.into(), 3),
        EpochUnit::Micros => us.to_string(),
        EpochUnit::Nanos => (i128::from(us) * 1_000).to_string(),
    }
}

fn decimal(value: i128, scale: i8) -> String {
    let Some(scale) = usize::try_from(scale).ok().filter(|scale| *scale > 0) else {
        let zeros = "0".repeat(usize::from(scale.unsigned_abs()));
        return if value == 0 { "0".into() } else { format!("{value}{zeros}") };
    };
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ListArray;
    use arrow::datatypes::Int32Type;
    use otus_engine::catalog::TableDef;

    use super::*;

    fn column(name: &str, column_type: &str, source: ColumnSource) -> ColumnDef {
        ColumnDef { source, ..ColumnDef::new(name, column_type.parse().unwrap()) }
    }

    fn of(columns: Vec<(ColumnDef, ScalarValue)>) -> SqlResult<Record> {
        let (columns, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let def = TableDef::events("t", "at", columns);
        record(&Target::of_columns(&def), &values)
    }

    #[test]
    fn values_stand_at_their_paths() {
        let path = |parts: &[&str]| ColumnSource::Path(parts.iter().map(|p| (*p).into()).collect());
        let text = |t: &str| ScalarValue::Utf8View(Some(t.into()));
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]);
        let at = ScalarValue::TimestampMicrosecond(Some(1_442_065_678_771_000), Some("UTC".into()));
        let mut epoch = column("e", "timestamptz", path(&["e"]));
        epoch.epoch = Some(EpochUnit::Seconds);
        let made = of(vec![
            (column("c", "text", path(&["geo", "country"])), text("d\"e")),
            (column("k", "text", path(&["geo", "city"])), text("x")),
            (column("at", "timestamptz", path(&["at"])), at.clone()),
            (epoch, at),
            (column("d", "date", path(&["d"])), ScalarValue::Date32(Some(16_690))),
            (column("m", "numeric(6,2)", path(&["m"])), ScalarValue::Decimal128(Some(-5), 6, 2)),
            (column("f", "double precision", path(&["f"])), ScalarValue::Float64(Some(1e300))),
            (column("by", "bytea", path(&["by"])), ScalarValue::BinaryView(Some(vec![0, 255]))),
            (column("j", "jsonb", path(&["j"])), text("{\"a\": 1}")),
            (column("l", "integer[]", path(&["l"])), ScalarValue::List(Arc::new(list))),
            (column("n", "text", path(&["n"])), ScalarValue::Utf8View(None)),
            (column("r", "jsonb", ColumnSource::Rest), text("{\"more\": [1]}")),
            (column("key", "bigint", ColumnSource::RecordKey), ScalarValue::Int64(Some(7))),
            (column("h", "text", ColumnSource::RecordHeader("trace".into())), text("a b")),
        ])
        .unwrap();
        assert_eq!(
            std::str::from_utf8(&made.value).unwrap(),
            "{\"at\":\"2015-09-12T13:47:58.771000Z\",\"by\":\"\\\\x00ff\",\"d\":\"2015-09-12\",\
             \"e\":1442065678.771000,\"f\":1e300,\"geo\":{\"city\":\"x\",\"country\":\"d\\\"e\"},\
             \"j\":{\"a\": 1},\"l\":[1,null],\"m\":-0.05,\"more\":[1]}"
        );
        assert_eq!(made.key.as_deref(), Some(&b"7"[..]));
        assert_eq!(made.headers, [("trace".to_owned(), Bytes::from_static(b"a b"))]);
    }

    #[test]
    fn what_a_record_cannot_hold_is_refused() {
        let path = |name: &str| ColumnSource::Path(vec![name.into()]);
        let refused = |column_type: &str, value: ScalarValue| {
            of(vec![(column("x", column_type, path("x")), value)]).unwrap_err().sqlstate
        };
        assert_eq!(refused("double precision", ScalarValue::Float64(Some(f64::NAN))), "22003");
        assert_eq!(refused("jsonb", ScalarValue::Utf8View(Some("{".into()))), "22P02");
        assert_eq!(refused("date", ScalarValue::Date32(Some(i32::MAX))), "22003");
        let twice = of(vec![
            (column("a", "text", path("x")), ScalarValue::Utf8View(Some("1".into()))),
            (column("b", "text", path("x")), ScalarValue::Utf8View(Some("2".into()))),
        ]);
        assert_eq!(twice.unwrap_err().sqlstate, "22023");
    }
}
