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

use arrow::array::RecordBatch;
use otus_engine::catalog::TableDef;
use otus_engine::expr::ExpressionCompiler;
use otus_engine::log::op::FieldSeen;
use otus_engine::position::{ReadCounts, TopicPartition};
use otus_engine::{Error, Result};

use crate::record::Record;

mod columns;
mod computed;
mod json;
mod number;
mod reason;
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

#[cfg(test)]
mod tests;
