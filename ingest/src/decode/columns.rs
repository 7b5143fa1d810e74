//! Arrow builders, one per declared column. Appending a [`Value`] of the column's type cannot fail, so a row
//! is appended whole or not at all.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, ListArray,
    StringViewBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use otus_engine::Result;
use otus_engine::types::ColumnType;

use super::value::{Scratch, Value};

/// What a value may point into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) record: &'a str,
    pub(crate) scratch: &'a Scratch,
}

/// A growing column.
#[derive(Debug)]
pub(crate) enum ColumnBuilder {
    Boolean(BooleanBuilder),
    SmallInt(Int16Builder),
    Integer(Int32Builder),
    BigInt(Int64Builder),
    Real(Float32Builder),
    Double(Float64Builder),
    Numeric(Decimal128Builder),
    Text(StringViewBuilder),
    Bytea(BinaryViewBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    List(Box<ListBuilder>),
}

/// A column of arrays.
#[derive(Debug)]
pub(crate) struct ListBuilder {
    item_type: ColumnType,
    items: ColumnBuilder,
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl ColumnBuilder {
    pub(crate) fn new(column_type: &ColumnType) -> Result<Self> {
        Ok(match column_type {
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::SmallInt => Self::SmallInt(Int16Builder::new()),
            ColumnType::Integer => Self::Integer(Int32Builder::new()),
            ColumnType::BigInt => Self::BigInt(Int64Builder::new()),
            ColumnType::Real => Self::Real(Float32Builder::new()),
            ColumnType::Double => Self::Double(Float64Builder::new()),
            ColumnType::Numeric { .. } => {
                Self::Numeric(Decimal128Builder::new().with_data_type(column_type.arrow()))
            }
            ColumnType::Text | ColumnType::Uuid | ColumnType::Jsonb => {
                Self::Text(StringViewBuilder::new())
            }
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new()),
            ColumnType::Timestamptz => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
            }
            ColumnType::Bytea => Self::Bytea(BinaryViewBuilder::new()),
            ColumnType::Array(item) => Self::List(Box::new(ListBuilder {
                item_type: (**item).clone(),
                items: Self::new(item)?,
                lengths: Vec::new(),
                valid: Vec::new(),
            })),
        })
    }

    /// Appends a value; one that is not of the column's type becomes null.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "conversion has checked that the value fits the column's type"
    )]
    pub(crate) fn append(&mut self, value: Value, sources: Sources<'_>) {
        match (self, value) {
            (Self::Text(b), Value::Text(start, end)) => {
                b.append_value(sources.record.get(start..end).unwrap_or_default());
            }
            (Self::Text(b), Value::Made(start, end)) => {
                b.append_value(sources.scratch.text.get(start..end).unwrap_or_default());
            }
            (Self::BigInt(b), Value::Int(v)) => b.append_value(v),
            (Self::Timestamp(b), Value::Int(v)) => b.append_value(v),
            (Self::Boolean(b), Value::True) => b.append_value(true),
            (Self::Boolean(b), Value::False) => b.append_value(false),
            (Self::Integer(b), Value::Int(v)) => b.append_value(v as i32),
            (Self::SmallInt(b), Value::Int(v)) => b.append_value(v as i16),
            (Self::Double(b), Value::Double(v)) => b.append_value(v),
            (Self::Real(b), Value::Double(v)) => b.append_value(v as f32),
            (Self::Numeric(b), Value::Decimal(high, low)) => {
                b.append_value((i128::from(high) << 64) | i128::from(low));
            }
            (Self::Date(b), Value::Int(v)) => b.append_value(v as i32),
            (Self::Bytea(b), Value::Bytes(start, end)) => {
                b.append_value(sources.scratch.bytes.get(start..end).unwrap_or_default());
            }
            (Self::List(b), Value::List(start, end)) => {
                for item in sources.scratch.items.get(start..end).unwrap_or_default() {
                    b.items.append(*item, sources);
                }
                b.lengths.push(end - start);
                b.valid.push(true);
            }
            (column, _) => column.append_null(),
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Boolean(b) => b.append_null(),
            Self::SmallInt(b) => b.append_null(),
            Self::Integer(b) => b.append_null(),
            Self::BigInt(b) => b.append_null(),
            Self::Real(b) => b.append_null(),
            Self::Double(b) => b.append_null(),
            Self::Numeric(b) => b.append_null(),
            Self::Text(b) => b.append_null(),
            Self::Bytea(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Timestamp(b) => b.append_null(),
            Self::List(b) => {
                b.lengths.push(0);
                b.valid.push(false);
            }
        }
    }

    /// The column so far; the builder is empty again.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Boolean(b) => Arc::new(b.finish()),
            Self::SmallInt(b) => Arc::new(b.finish()),
            Self::Integer(b) => Arc::new(b.finish()),
            Self::BigInt(b) => Arc::new(b.finish()),
            Self::Real(b) => Arc::new(b.finish()),
            Self::Double(b) => Arc::new(b.finish()),
            Self::Numeric(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Timestamp(b) => Arc::new(b.finish()),
            Self::Text(b) => {
                let mut array = b.finish();
                *b = StringViewBuilder::new();
                array.shrink_to_fit();
                Arc::new(array)
            }
            Self::Bytea(b) => {
                let mut array = b.finish();
                *b = BinaryViewBuilder::new();
                array.shrink_to_fit();
                Arc::new(array)
            }
            Self::List(b) => {
                let field = Arc::new(b.item_type.field("item", true));
                let offsets = OffsetBuffer::from_lengths(std::mem::take(&mut b.lengths));
                let valid = NullBuffer::from(std::mem::take(&mut b.valid));
                Arc::new(ListArray::try_new(field, offsets, b.items.finish()?, Some(valid))?)
            }
        })
    }
}
