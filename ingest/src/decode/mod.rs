//! Decoders: from the bytes of a record to a row of a table, or to a rejected record with its reason. A
//! decoder is a pure function of record and definition; the moment of ingestion is handed in.
//!
//! ```text
//!  record ─► format (json) ─► values ─► builders ─┐            ┌─► rows
//!                │                                ├─► finish ──┼─► counts, undeclared fields
//!                └─► rejected, filtered           │ (computed, └─► rejected
//!                                                 │  filter)
//! ```

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use otus_engine::catalog::TableDef;
use otus_engine::expr::ExpressionCompiler;
use otus_engine::keyed::Key;
use otus_engine::log::op::FieldSeen;
use otus_engine::position::{ReadCounts, TopicPartition};
use otus_engine::types::ColumnType;
use otus_engine::{Error, Result};

use crate::record::{Record, Slice};
use value::{Scratch, Target, Value, convert_bytes};

mod columns;
mod computed;
mod json;
mod number;
pub(crate) mod reason;
mod rejects;
mod rows;
mod time;
mod value;

pub use computed::{expression_schema, filter_schema};

/// Turns records of one partition into rows of one table.
pub trait Decoder: Debug + Send {
    /// Takes one record: it becomes a row, is filtered, or is rejected. Never fails for what the record holds.
    fn decode(&mut self, record: &Record<'_>, ingested_at_us: i64);
    /// Records taken since the last flush.
    fn pending(&self) -> usize;
    /// Bytes of memory that the pending records hold, roughly.
    fn pending_bytes(&self) -> usize;
    /// Hands over everything taken since the last flush.
    fn flush(&mut self) -> Result<Decoded>;
}

/// What a decoder made of some records.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// Rows in order of offset, of the table's raw schema.
    pub batch: RecordBatch,
    /// Rejected records.
    pub rejected: RecordBatch,
    /// How the records ended.
    pub counts: ReadCounts,
    /// Undeclared and retyped fields seen.
    pub fields: Vec<FieldSeen>,
    /// The reason of the first rejected record, with its detail.
    pub first_reason: Option<String>,
}

/// Names of the formats that [`decoder`] knows.
pub const FORMATS: [&str; 1] = ["json"];

/// A decoder for `table` and the records of `tp`, by the table's format.
pub fn decoder(
    table: &Arc<TableDef>,
    tp: &TopicPartition,
    compiler: &dyn ExpressionCompiler,
) -> Result<Box<dyn Decoder>> {
    match table.format.as_str() {
        "json" => Ok(Box::new(json::JsonDecoder::new(table, tp, compiler)?)),
        other => Err(Error::invalid(format!(
            "table {:?} has the unknown format {other:?}",
            table.qualified_name()
        ))
        .with_hint(format!("one of {}", FORMATS.join(", ")))),
    }
}

/// Checks what can be checked of a table's decoding without a record: format, defaults, expressions.
pub fn check(table: &Arc<TableDef>, compiler: &dyn ExpressionCompiler) -> Result<()> {
    decoder(table, &TopicPartition::new("check", 0), compiler).map(drop)
}

/// The key that these bytes of a record are to a keyed table, in the form in which rows hold it.
pub fn key(column_type: &ColumnType, bytes: &[u8]) -> Result<Key> {
    let mut scratch = Scratch::default();
    let target = Target { column_type, epoch: None };
    let value = convert_bytes(target, bytes, &mut scratch)
        .map_err(|reason| Error::invalid(format!("not a key: {reason}")))?;
    match value {
        Value::Int(value) => Ok(Key::Int(value)),
        Value::Made(start, end) => {
            Ok(Key::Text(scratch.text.get(start..end).unwrap_or_default().to_string()))
        }
        _ => Err(Error::invalid(format!("{column_type} cannot be a key"))),
    }
}

/// The key of the row that a keyed table would make of this record; the error says why it would not.
pub fn key_of_record(
    table: &Arc<TableDef>,
    key: &[u8],
    value: &[u8],
    compiler: &dyn ExpressionCompiler,
) -> Result<Key> {
    let mut slice = Slice::new(TopicPartition::new("check", 0), 0);
    slice.push(0, None, Some(key), Some(value));
    let mut decoder = decoder(table, &slice.tp, compiler)?;
    for record in slice.iter() {
        decoder.decode(&record, 0);
    }
    let decoded = decoder.flush()?;
    if let Some(reason) = decoded.first_reason {
        return Err(Error::invalid(reason));
    }
    let name = table.keyed().map_or("", |keyed| keyed.key.as_str());
    let column = decoded.batch.column_by_name(name).filter(|column| column.len() == 1);
    let int = column.and_then(|c| c.as_primitive_opt::<Int64Type>()).map(|c| Key::Int(c.value(0)));
    let text = column.and_then(|c| c.as_string_view_opt()).map(|c| Key::Text(c.value(0).into()));
    int.or(text).ok_or_else(|| {
        Error::invalid(format!("table {:?} makes no row of the record", table.qualified_name()))
    })
}

#[cfg(test)]
mod tests;
