//! Random columns and trivial expressions for tests.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::{cast, is_null};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use crate::catalog::MeasureDef;
use crate::error::{Error, Result};
use crate::expr::{
    AggregateCall, AggregateFunction, CompiledExpr, CompiledMeasures, ExpressionCompiler,
};

/// SplitMix64, seeded: runs replay.
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Less than `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
    fn small(&mut self) -> i64 {
        i64::try_from(self.below(2001)).unwrap() - 1000
    }
}

pub(crate) fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Types of columns, as a table can have them.
pub(crate) fn column_types() -> Vec<DataType> {
    vec![
        DataType::Boolean,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(12, 2),
        DataType::Decimal128(38, 4),
        DataType::Utf8View,
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, None),
        utc(),
        DataType::BinaryView,
    ]
}

fn words(rng: &mut Rng, rows: usize, nulls: usize) -> Vec<Option<String>> {
    const WORDS: [&str; 6] =
        ["", "owl", "Eule", "grüne Eule", "zu lang für eine Ansicht", "\u{1f989}"];
    (0..rows)
        .map(|_| {
            let word = WORDS[rng.below(WORDS.len())];
            let text =
                if rng.chance(30) { format!("{word}{}", rng.below(500)) } else { word.into() };
            (!rng.chance(nulls)).then_some(text)
        })
        .collect()
}

fn doubles(rng: &mut Rng, rows: usize, nulls: usize) -> Vec<Option<f64>> {
    (0..rows)
        .map(|_| {
            let value = match rng.below(40) {
                0 => -0.0,
                1 => 0.0,
                2 => f64::NAN,
                3 => -f64::NAN,
                _ => f64::from(i32::try_from(rng.small()).unwrap()) / 8.0,
            };
            (!rng.chance(nulls)).then_some(value)
        })
        .collect()
}

/// A column of `rows` random values, of which `nulls` percent are null.
pub(crate) fn column(rng: &mut Rng, data_type: &DataType, rows: usize, nulls: usize) -> ArrayRef {
    let mut longs = |wild: bool| -> Int64Array {
        (0..rows)
            .map(|_| {
                let value = match rng.below(50) {
                    0 if wild => i64::MAX,
                    1 if wild => i64::MIN,
                    _ => rng.small(),
                };
                (!rng.chance(nulls)).then_some(value)
            })
            .collect()
    };
    let array: ArrayRef = match data_type {
        DataType::Boolean => {
            let bools: BooleanArray = longs(false).iter().map(|v| v.map(|v| v % 2 == 0)).collect();
            Arc::new(bools)
        }
        DataType::Int64 => Arc::new(longs(true)),
        DataType::Int16 | DataType::Int32 | DataType::Date32 => {
            let ints = cast(&longs(false), &DataType::Int32).unwrap();
            cast(&ints, data_type).unwrap()
        }
        DataType::Float32 | DataType::Float64 => {
            let values = Float64Array::from(doubles(rng, rows, nulls));
            cast(&values, data_type).unwrap()
        }
        DataType::Decimal128(precision, scale) => {
            let values: Decimal128Array = longs(false).iter().map(|v| v.map(i128::from)).collect();
            Arc::new(values.with_precision_and_scale(*precision, *scale).unwrap())
        }
        DataType::Utf8View => Arc::new(StringViewArray::from_iter(words(rng, rows, nulls))),
        DataType::BinaryView => {
            let words = words(rng, rows, nulls);
            Arc::new(BinaryViewArray::from_iter(
                words.into_iter().map(|w| w.map(String::into_bytes)),
            ))
        }
        DataType::Timestamp(_, _) => {
            let base = 1_442_016_000_000_000_i64;
            let times: Int64Array =
                longs(false).iter().map(|v| v.map(|v| base + v * 7_300_001)).collect();
            cast(&times, data_type).unwrap()
        }
        other => panic!("no samples of {other}"),
    };
    assert_eq!(array.data_type(), data_type);
    array
}

/// A reference to a column.
#[derive(Debug)]
pub(crate) struct ColumnExpr {
    index: usize,
    data_type: DataType,
    columns: Vec<String>,
}

impl ColumnExpr {
    pub(crate) fn shared(schema: &SchemaRef, name: &str) -> Arc<dyn CompiledExpr> {
        let index = schema.index_of(name).unwrap();
        let data_type = schema.field(index).data_type().clone();
        Arc::new(Self { index, data_type, columns: vec![name.into()] })
    }
}

impl CompiledExpr for ColumnExpr {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }
    fn columns(&self) -> &[String] {
        &self.columns
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        batch.columns().get(self.index).cloned().ok_or_else(|| Error::internal("no such column"))
    }
}

/// Whether a column is null.
#[derive(Debug)]
struct Lacks(Arc<dyn CompiledExpr>);

impl CompiledExpr for Lacks {
    fn data_type(&self) -> &DataType {
        &DataType::Boolean
    }
    fn columns(&self) -> &[String] {
        self.0.columns()
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        Ok(Arc::new(is_null(&self.0.evaluate(batch)?)?))
    }
}

/// Knows columns, and `no <column>`.
#[derive(Debug)]
pub(crate) struct SampleCompiler;

impl ExpressionCompiler for SampleCompiler {
    fn scalar(&self, schema: &SchemaRef, sql: &str) -> Result<Arc<dyn CompiledExpr>> {
        let name = sql.strip_prefix("no ").unwrap_or(sql);
        if schema.index_of(name).is_err() {
            return Err(Error::invalid(format!("{sql:?} is no expression")).with_hint("try no c1"));
        }
        let column = ColumnExpr::shared(schema, name);
        Ok(if name == sql { column } else { Arc::new(Lacks(column)) })
    }

    fn measures(&self, _: &SchemaRef, _: &str, _: &[MeasureDef]) -> Result<CompiledMeasures> {
        Ok(CompiledMeasures::default())
    }
}

/// A call over plain columns.
pub(crate) fn call(
    schema: &SchemaRef,
    prefix: &str,
    function: AggregateFunction,
    args: &[&str],
    filter: Option<&str>,
) -> AggregateCall {
    AggregateCall {
        key: format!("{}({}) {filter:?}", function.sql_name(), args.join(", ")),
        prefix: prefix.into(),
        function,
        args: args.iter().map(|a| ColumnExpr::shared(schema, a)).collect(),
        args_sql: args.iter().map(ToString::to_string).collect(),
        filter: filter.map(|f| ColumnExpr::shared(schema, f)),
        filter_sql: filter.map(ToString::to_string),
    }
}
