//! Rows as JSON and CSV, batch by batch: what `POST /api/sql` streams. Integers beyond 2^53 and numerics
//! are strings in JSON, since many readers would round them; the column types say so.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use otus_engine::types::PG_TYPE_KEY;
use otus_engine::{Error, Result};

/// Greatest integer that every JSON reader keeps exact.
const JSON_INTEGER_MAX: u64 = 1 << 53;

/// The Postgres name of a field's type.
pub(crate) fn type_name(field: &Field) -> String {
    if let Some(name) = field.metadata().get(PG_TYPE_KEY) {
        return name.clone();
    }
    match field.data_type() {
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".into(),
        DataType::Int32 | DataType::UInt16 => "integer".into(),
        DataType::UInt32 => "oid".into(),
        DataType::Int64 => "bigint".into(),
        DataType::UInt64 => "numeric(20,0)".into(),
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => format!("numeric({p},{s})"),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time".into(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytea".into(),
        DataType::List(item) | DataType::LargeList(item) => format!("{}[]", type_name(item)),
        DataType::Dictionary(_, value) => type_name(&Field::new("", (**value).clone(), true)),
        other => other.to_string(),
    }
}

/// `{"columns":[…],"rows":[` — what comes before the rows.
pub(crate) fn json_head(schema: &SchemaRef) -> String {
    let columns: Vec<_> = schema
        .fields()
        .iter()
        .map(|f| serde_json::json!({ "name": f.name(), "type": type_name(f) }))
        .collect();
    format!("{{\"columns\":{},\"rows\":[", serde_json::Value::Array(columns))
}

/// The rows of a batch, as JSON arrays parted by commas; `first` is false once a row was written.
pub(crate) fn json_rows(batch: &RecordBatch, first: &mut bool, out: &mut String) -> Result<()> {
    let columns = cells(batch)?;
    for row in 0..batch.num_rows() {
        out.push_str(if std::mem::take(first) { "[" } else { ",[" });
        for (n, column) in columns.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            column.json(row, out)?;
        }
        out.push(']');
    }
    Ok(())
}

/// The rows of a batch, each as a JSON object.
pub(crate) fn json_objects(batch: &RecordBatch) -> Result<Vec<String>> {
    let columns = cells(batch)?;
    let schema = batch.schema();
    let object = |row: usize| {
        let mut out = String::from("{");
        for (n, (column, field)) in columns.iter().zip(schema.fields()).enumerate() {
            if n > 0 {
                out.push(',');
            }
            quote(field.name(), &mut out)?;
            out.push(':');
            column.json(row, &mut out)?;
        }
        out.push('}');
        Ok(out)
    };
    (0..batch.num_rows()).map(object).collect()
}

/// The header line of a CSV answer.
pub(crate) fn csv_head(schema: &SchemaRef) -> String {
    let names: Vec<String> = schema.fields().iter().map(|f| csv_field(f.name())).collect();
    names.join(",") + "\r\n"
}

/// The rows of a batch as CSV; null is an empty field, empty text is `""`.
pub(crate) fn csv_rows(batch: &RecordBatch, out: &mut String) -> Result<()> {
    let columns = cells(batch)?;
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        for (n, column) in columns.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            if column.is_null(row) {
                continue;
            }
            text.clear();
            column.text(row, &mut text)?;
            out.push_str(&csv_field(&text));
        }
        out.push_str("\r\n");
    }
    Ok(())
}

fn csv_field(text: &str) -> String {
    let plain = !text.is_empty() && !text.contains(['"', ',', '\n', '\r']);
    if plain { text.to_string() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

/// How a column's values are spelt in JSON.
enum Spelling {
    /// As it prints: booleans and small numbers.
    Bare,
    /// As it prints unless it is beyond 2^53.
    Integer,
    /// As it prints unless it is not finite.
    Float,
    /// In quotes, escaped.
    Quoted,
    /// JSON text already.
    Json,
    /// One by one.
    List,
}

struct Cells<'a> {
    array: &'a ArrayRef,
    nulls: Option<NullBuffer>,
    formatter: ArrayFormatter<'a>,
    spelling: Spelling,
}

fn cells(batch: &RecordBatch) -> Result<Vec<Cells<'_>>> {
    let schema = batch.schema_ref();
    let columns = schema.fields().iter().zip(batch.columns());
    columns.map(|(field, array)| Cells::new(field, array)).collect()
}

impl<'a> Cells<'a> {
    fn new(field: &Field, array: &'a ArrayRef) -> Result<Self> {
        let formatter = ArrayFormatter::try_new(array.as_ref(), &FORMAT)?;
        let is_json = field
            .metadata()
            .get(PG_TYPE_KEY)
            .is_some_and(|name| matches!(name.as_str(), "json" | "jsonb"));
        let spelling = match array.data_type() {
            _ if is_json => Spelling::Json,
            DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32 => Spelling::Bare,
            DataType::Int64 | DataType::UInt64 => Spelling::Integer,
            DataType::Float32 | DataType::Float64 => Spelling::Float,
            DataType::List(_) => Spelling::List,
            _ => Spelling::Quoted,
        };
        // A column of nothing but nulls has no list of them.
        let nulls = array.logical_nulls();
        Ok(Self { array, nulls, formatter, spelling })
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    fn text(&self, row: usize, out: &mut String) -> Result<()> {
        match self.array.data_type() {
            // Arrow drops the fraction of whole doubles or adds one; print the shortest exact text.
            DataType::Float64 => {
                write!(out, "{}", self.array.as_primitive::<Float64Type>().value(row))
            }
            DataType::Float32 => {
                write!(out, "{}", self.array.as_primitive::<Float32Type>().value(row))
            }
            DataType::List(_) => {
                self.json_list(row, out)?;
                Ok(())
            }
            _ => write!(out, "{}", self.formatter.value(row)),
        }
        .map_err(|_| Error::internal("a value cannot be printed"))
    }

    fn json(&self, row: usize, out: &mut String) -> Result<()> {
        if self.is_null(row) {
            out.push_str("null");
            return Ok(());
        }
        match self.spelling {
            Spelling::Bare | Spelling::Json => self.text(row, out),
            Spelling::List => self.json_list(row, out),
            Spelling::Integer => {
                let from = out.len();
                self.text(row, out)?;
                let magnitude = out.get(from..).map(|t| t.trim_start_matches('-').parse::<u64>());
                if !matches!(magnitude, Some(Ok(n)) if n <= JSON_INTEGER_MAX) {
                    out.insert(from, '"');
                    out.push('"');
                }
                Ok(())
            }
            Spelling::Float => {
                let value = match self.array.data_type() {
                    DataType::Float32 => {
                        f64::from(self.array.as_primitive::<Float32Type>().value(row))
                    }
                    _ => self.array.as_primitive::<Float64Type>().value(row),
                };
                if value.is_finite() {
                    self.text(row, out)
                } else {
                    quote(
                        if value.is_nan() {
                            "NaN"
                        } else if value > 0.0 {
                            "Infinity"
                        } else {
                            "-Infinity"
                        },
                        out,
                    )
                }
            }
            Spelling::Quoted => {
                let mut text = String::new();
                self.text(row, &mut text)?;
                quote(&text, out)
            }
        }
    }

    fn json_list(&self, row: usize, out: &mut String) -> Result<()> {
        let items = self.array.as_list::<i32>().value(row);
        let field = match self.array.data_type() {
            DataType::List(field) => Arc::clone(field),
            _ => return Err(Error::internal("a list is none")),
        };
        let cells = Cells::new(&field, &items)?;
        out.push('[');
        for n in 0..items.len() {
            if n > 0 {
                out.push(',');
            }
            cells.json(n, out)?;
        }
        out.push(']');
        Ok(())
    }
}

const FORMAT: FormatOptions<'static> = FormatOptions::new().with_display_error(false);

fn quote(text: &str, out: &mut String) -> Result<()> {
    let quoted = serde_json::to_string(text)
        .map_err(|e| Error::internal("text cannot be written as JSON").with_source(e))?;
    out.push_str(&quoted);
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Decimal128Array, Float64Array, Int64Array, NullArray, StringArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Schema, TimeUnit};

    use super::*;

    fn batch() -> RecordBatch {
        let jsonb = Field::new("j", DataType::Utf8, true)
            .with_metadata([(PG_TYPE_KEY.to_string(), "jsonb".to_string())].into());
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("x", DataType::Float64, true),
            Field::new("d", DataType::Decimal128(38, 2), true),
            Field::new("s", DataType::Utf8, true),
            jsonb,
            Field::new("t", utc, true),
            Field::new("v", DataType::Null, true),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(1), Some(9_007_199_254_740_993), None])),
            Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), None])),
            Arc::new(
                Decimal128Array::from(vec![Some(150), Some(-1), None])
                    .with_precision_and_scale(38, 2)
                    .unwrap(),
            ),
            Arc::new(StringArray::from(vec![Some("a\"b"), Some(""), None])),
            Arc::new(StringArray::from(vec![Some("{\"a\":1}"), Some("[2]"), None])),
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(0), Some(1_500), None])
                    .with_timezone("UTC"),
            ),
            Arc::new(NullArray::new(3)),
        ];
        RecordBatch::try_new(schema, columns).unwrap()
    }

    #[test]
    fn json_keeps_every_digit() {
        let batch = batch();
        let (mut out, mut first) = (json_head(&batch.schema()), true);
        json_rows(&batch, &mut first, &mut out).unwrap();
        out.push_str("]}");
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["columns"][2]["type"], "numeric(38,2)");
        assert_eq!(
            value["rows"].to_string(),
            r#"[[1,1.0,"1.50","a\"b",{"a":1},"1970-01-01T00:00:00Z",null],["9007199254740993","NaN","-0.01","",[2],"1970-01-01T00:00:00.001500Z",null],[null,null,null,null,null,null,null]]"#
                .replace("1.0,", "1,")
        );
    }

    #[test]
    fn csv_tells_null_from_empty() {
        let batch = batch();
        let mut out = csv_head(&batch.schema());
        csv_rows(&batch, &mut out).unwrap();
        assert_eq!(
            out,
            "n,x,d,s,j,t,v\r\n1,1,1.50,\"a\"\"b\",\"{\"\"a\"\":1}\",1970-01-01T00:00:00Z,\r\n\
             9007199254740993,NaN,-0.01,\"\",[2],1970-01-01T00:00:00.001500Z,\r\n,,,,,,\r\n"
        );
    }
}
