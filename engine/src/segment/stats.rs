//! Typed bounds per column, from the statistics that the Parquet writer gathers while it encodes. Text is
//! mostly looked at here instead, which is cheaper by views than by the writer's bytes.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{max_string, max_string_view, min_string, min_string_view};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};
use parquet::data_type::AsBytes;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

use super::SegmentOptions;
use super::properties::{TEXT_BOUND_BYTES, writer_has_statistics};
use crate::log::op::{ColumnStats, StatValue};

/// What is counted while batches go by, because the writer's statistics do not tell.
#[derive(Debug)]
pub(super) struct StatsTracker {
    nulls: Vec<u64>,
    nan: Vec<bool>,
    /// Least and greatest text, for columns whose statistics the writer does not gather.
    text: Vec<Option<TextBounds>>,
}

#[derive(Debug, Default)]
struct TextBounds {
    min: Option<String>,
    max: Option<String>,
}

impl StatsTracker {
    pub(super) fn new(schema: &Schema, options: &SegmentOptions) -> Self {
        let columns = schema.fields().len();
        let text = schema.fields().iter().map(|f| {
            (!writer_has_statistics(f, options)
                && matches!(f.data_type(), DataType::Utf8View | DataType::Utf8))
            .then(TextBounds::default)
        });
        Self { nulls: vec![0; columns], nan: vec![false; columns], text: text.collect() }
    }

    pub(super) fn see(&mut self, batch: &RecordBatch) {
        for (index, column) in batch.columns().iter().enumerate() {
            self.nulls[index] += column.logical_null_count() as u64;
            self.nan[index] |= has_nan(column.as_ref());
            if let Some(bounds) = &mut self.text[index] {
                bounds.see(column.as_ref());
            }
        }
    }

    /// The bounds of all columns of a finished file.
    pub(super) fn finish(self, schema: &Schema, metadata: &ParquetMetaData) -> Vec<ColumnStats> {
        let fields = schema.fields().iter().zip(self.nulls).zip(self.nan).zip(self.text);
        fields
            .map(|(((field, nulls), nan), text)| {
                let (min, max, exact) = match text {
                    Some(text) => text.finish(),
                    None => bounds(field.name(), field.data_type(), metadata),
                };
                // NaN is greater than all that the writer looked at.
                let max = if nan { None } else { max };
                ColumnStats { name: field.name().clone(), min, max, exact, nulls }
            })
            .collect()
    }
}

impl TextBounds {
    fn see(&mut self, column: &dyn Array) {
        let (least, greatest) = match column.data_type() {
            DataType::Utf8View => {
                let views = column.as_string_view();
                (min_string_view(views), max_string_view(views))
            }
            _ => (min_string(column.as_string::<i32>()), max_string(column.as_string::<i32>())),
        };
        if let Some(least) = least
            && self.min.as_deref().is_none_or(|min| least < min)
        {
            self.min = Some(least.to_string());
        }
        if let Some(greatest) = greatest
            && self.max.as_deref().is_none_or(|max| greatest > max)
        {
            self.max = Some(greatest.to_string());
        }
    }

    fn finish(self) -> Bounds {
        let (Some(min), Some(max)) = (self.min, self.max) else { return (None, None, false) };
        let exact = min.len().max(max.len()) <= TEXT_BOUND_BYTES;
        let low = prefix(&min).to_string();
        let high = if max.len() <= TEXT_BOUND_BYTES { Some(max) } else { next_text(prefix(&max)) };
        (Some(StatValue::Text(low)), high.map(StatValue::Text), exact)
    }
}

/// The text cut to the bytes that a bound may have.
fn prefix(text: &str) -> &str {
    let end = text.floor_char_boundary(TEXT_BOUND_BYTES);
    text.split_at(end).0
}

/// A text greater than all that begin with `prefix`, no longer than it is.
fn next_text(prefix: &str) -> Option<String> {
    let mut kept: Vec<char> = prefix.chars().collect();
    while let Some(last) = kept.pop() {
        // One past the last character before the surrogates comes the first one behind them.
        let next =
            if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
        let Some(next) = next else { continue };
        // A longer encoding must not make the bound longer than was asked for.
        if next.len_utf8() == last.len_utf8() {
            kept.push(next);
            return Some(kept.into_iter().collect());
        }
    }
    None
}

fn has_nan(column: &dyn Array) -> bool {
    match column.data_type() {
        DataType::Float64 => column.as_primitive::<Float64Type>().iter().flatten().any(f64::is_nan),
        DataType::Float32 => column.as_primitive::<Float32Type>().iter().flatten().any(f32::is_nan),
        _ => false,
    }
}

type Bounds = (Option<StatValue>, Option<StatValue>, bool);

/// Bounds over all row groups. Exact only if every row group tells its own, and never for floats, whose
/// zeros are widened.
fn bounds(name: &str, data_type: &DataType, metadata: &ParquetMetaData) -> Bounds {
    if data_type.is_nested() {
        return (None, None, false);
    }
    let descriptor = metadata.file_metadata().schema_descr();
    let leaf = (0..descriptor.num_columns()).find(|i| {
        let parts = descriptor.column(*i).path().parts().to_vec();
        parts.len() == 1 && parts[0] == name
    });
    let Some(leaf) = leaf else { return (None, None, false) };
    let (mut min, mut max, mut exact) = (None, None, !data_type.is_floating());
    for group in metadata.row_groups() {
        let column = group.column(leaf);
        let Some(statistics) = column.statistics() else { return (None, None, false) };
        let all_null = statistics.null_count_opt() == u64::try_from(group.num_rows()).ok();
        let (low, high) = values(statistics, data_type);
        if (low.is_none() || high.is_none()) && !all_null {
            return (None, None, false);
        }
        exact &= all_null || (statistics.min_is_exact() && statistics.max_is_exact());
        merge(&mut min, low, true);
        merge(&mut max, high, false);
    }
    let exact = exact && min.is_some();
    (min, max, exact)
}

type Pair = (Option<StatValue>, Option<StatValue>);

fn values(statistics: &Statistics, data_type: &DataType) -> Pair {
    let decimal = matches!(data_type, DataType::Decimal128(_, _));
    let integer =
        |v: i64| if decimal { StatValue::Decimal(v.to_string()) } else { StatValue::Int(v) };
    let unscaled = |b: &[u8]| big_endian(b).map(|v| StatValue::Decimal(v.to_string()));
    match statistics {
        Statistics::Boolean(s) => both(s.min_opt(), s.max_opt(), |v| Some(StatValue::Bool(*v))),
        Statistics::Int32(s) => both(s.min_opt(), s.max_opt(), |v| Some(integer(i64::from(*v)))),
        Statistics::Int64(s) => both(s.min_opt(), s.max_opt(), |v| Some(integer(*v))),
        Statistics::Float(s) => both(s.min_opt(), s.max_opt(), |v| float(f64::from(*v))),
        Statistics::Double(s) => both(s.min_opt(), s.max_opt(), |v| float(*v)),
        Statistics::ByteArray(s) => both(s.min_opt(), s.max_opt(), |v| text(v.as_bytes())),
        Statistics::FixedLenByteArray(s) if decimal => {
            both(s.min_opt(), s.max_opt(), |v| unscaled(v.as_bytes()))
        }
        _ => (None, None),
    }
}

fn both<T>(min: Option<&T>, max: Option<&T>, value: impl Fn(&T) -> Option<StatValue>) -> Pair {
    (min.and_then(&value), max.and_then(&value))
}

fn float(value: f64) -> Option<StatValue> {
    (!value.is_nan()).then_some(StatValue::Float(value))
}

fn text(bytes: &[u8]) -> Option<StatValue> {
    std::str::from_utf8(bytes).ok().map(|t| StatValue::Text(t.to_string()))
}

/// A two's-complement number of up to 16 bytes.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    if bytes.is_empty() || bytes.len() > 16 {
        return None;
    }
    let fill = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [fill; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

fn merge(kept: &mut Option<StatValue>, other: Option<StatValue>, least: bool) {
    let Some(other) = other else { return };
    let replace = match kept {
        None => true,
        Some(kept) => {
            let less = less(&other, kept);
            if least { less } else { !less }
        }
    };
    if replace {
        *kept = Some(other);
    }
}

fn less(a: &StatValue, b: &StatValue) -> bool {
    match (a, b) {
        (StatValue::Bool(a), StatValue::Bool(b)) => a < b,
        (StatValue::Int(a), StatValue::Int(b)) => a < b,
        (StatValue::Float(a), StatValue::Float(b)) => a < b,
        (StatValue::Text(a), StatValue::Text(b)) => a < b,
        (StatValue::Decimal(a), StatValue::Decimal(b)) => {
            a.parse::<i128>().unwrap_or(0) < b.parse::<i128>().unwrap_or(0)
        }
        // Bounds of one column are of one kind.
        _ => false,
    }
}
