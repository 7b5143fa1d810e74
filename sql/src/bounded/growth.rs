//! What a call will cost for one row, from its arguments alone: bytes of the value it builds, and steps of
//! work. Estimates are upper bounds, or near them.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ColumnarValue;

use crate::function::LOOKS_AROUND;

/// Bytes taken for a value whose length does not vary.
const FIXED_BYTES: u64 = 16;
/// Bytes of an array's element beside its value.
const ELEMENT_BYTES: u64 = 8;
/// Characters of a number or a time as text.
const NUMBER_BYTES: u64 = 32;
/// How far an estimate that knows only the worst case may exceed what is allowed of a value.
const LOOSE: u64 = 4;
/// Length up to which occurrences are not counted but taken to be everywhere.
const SHORT_BYTES: u64 = 1 << 20;

/// How a function's answer grows with its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Growth {
    /// First times second argument.
    Repeat,
    /// As many characters as the second argument says.
    Pad,
    /// Each occurrence of the second argument becomes the third.
    Replace,
    /// As replace; what matches is not known before.
    ReplacePattern,
    /// All arguments together.
    Sum,
    /// All arguments with the first between them.
    Joined,
    /// At most so many bytes for each of the arguments.
    Coded(u64),
    /// Elements of the first argument, as many as the second says.
    RepeatElement,
    /// As many elements as the second argument says.
    Resize,
    /// Numbers or times from the first to the second argument.
    Series,
    /// Elements of the first argument as text with the second between.
    JoinElements,
    /// Elements of the first argument, parted where the second is.
    Split,
    /// As split; what matches is not known before.
    SplitPattern,
    /// Nothing grows; the work is the product of the lengths.
    Product,
    /// Nothing grows; the work is the length of the text.
    Search,
}

/// What one row costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Bytes of the value.
    pub(super) bytes: u64,
    /// Steps.
    pub(super) work: u64,
}

impl Cost {
    fn of(bytes: u64) -> Self {
        Self { bytes, work: bytes }
    }
}

impl Growth {
    /// Of the function of this name, if it grows or is slow.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "repeat" => Self::Repeat,
            "lpad" | "rpad" => Self::Pad,
            "replace" => Self::Replace,
            "regexp_replace" => Self::ReplacePattern,
            "concat_ws" => Self::Joined,
            // Two digits for a byte.
            "encode" => Self::Coded(2),
            "convert_to" | "convert_from" | "decode" | "upper" | "lower" | "initcap"
            | "reverse" | "translate" | "quote_literal" | "left" | "right" | "substr"
            | "split_part" | "btrim" | "ltrim" | "rtrim" | "format" => Self::Coded(1),
            "json_build_array" | "json_build_object" | "jsonb_build_array"
            | "jsonb_build_object" | "to_json" | "to_jsonb" | "row_to_json" | "array_to_json" => {
                Self::Coded(1)
            }
            "concat" | "array_concat" | "array_append" | "array_prepend" | "make_array"
            | "overlay" => Self::Sum,
            "array_repeat" => Self::RepeatElement,
            "array_resize" => Self::Resize,
            "range" | "generate_series" => Self::Series,
            "array_to_string" => Self::JoinElements,
            "string_to_array" => Self::Split,
            "regexp_split_to_array" => Self::SplitPattern,
            "levenshtein" | "array_has_all" | "array_has_any" => Self::Product,
            "regexp_like" | "regexp_match" | "regexp_count" | "regexp_instr" | LOOKS_AROUND => {
                Self::Search
            }
            _ => return None,
        })
    }
}

/// The arguments of a call, measured row by row.
pub(super) struct Measure<'a> {
    growth: Growth,
    args: &'a [ColumnarValue],
    /// The second argument as a number, where it counts.
    count: Option<ColumnarValue>,
}

impl<'a> Measure<'a> {
    pub(super) fn new(growth: Growth, args: &'a [ColumnarValue]) -> DfResult<Self> {
        let counts =
            matches!(growth, Growth::Repeat | Growth::Pad | Growth::RepeatElement | Growth::Resize);
        let count = match args.get(1).filter(|_| counts) {
            Some(count) => Some(count.cast_to(&DataType::Int64, None)?),
            None => None,
        };
        Ok(Self { growth, args, count })
    }

    /// Whether all rows together surely stay below `bytes`, told without a look at each.
    pub(super) fn is_small(&self, rows: usize, bytes: u64) -> bool {
        if !matches!(self.growth, Growth::Sum | Growth::Coded(1) | Growth::Search) {
            return false;
        }
        let sizes = self.args.iter().map(|arg| match arg {
            // Many views may share one long text.
            ColumnarValue::Array(array) => match array.as_string_view_opt() {
                Some(views) => size(views.total_bytes_len()),
                None => size(array.get_array_memory_size()),
            },
            ColumnarValue::Scalar(value) => size(value.size()).saturating_mul(size(rows)),
        });
        sizes.fold(0_u64, u64::saturating_add) <= bytes
    }

    /// What the call costs for this row.
    pub(super) fn cost(&self, row: usize) -> Cost {
        match self.growth {
            Growth::Repeat => Cost::of(self.bytes(0, row).saturating_mul(self.count(row))),
            Growth::Pad => {
                let fill = self.args.get(2).map_or(1, |fill| widest(fill, row));
                let padded = self.count(row).saturating_mul(fill);
                Cost::of(padded.saturating_add(self.bytes(0, row)))
            }
            Growth::Replace => Cost::of(self.replaced(row)),
            Growth::ReplacePattern => {
                let (text, by) = (self.bytes(0, row), self.bytes(2, row));
                let worst = text.saturating_add(1).saturating_mul(by.saturating_add(1));
                Cost { bytes: worst / LOOSE, work: worst }
            }
            Growth::Sum => {
                let parts = (0..self.args.len()).map(|i| self.bytes(i, row));
                Cost::of(parts.fold(0, u64::saturating_add))
            }
            Growth::Joined => {
                let parts = (1..self.args.len()).map(|i| self.bytes(i, row));
                let parts = parts.fold(0, u64::saturating_add);
                let between = size(self.args.len().saturating_sub(2));
                Cost::of(parts.saturating_add(self.bytes(0, row).saturating_mul(between)))
            }
            Growth::Coded(times) => {
                let parts = (0..self.args.len()).map(|i| self.bytes(i, row));
                Cost::of(parts.fold(0, u64::saturating_add).saturating_mul(times))
            }
            Growth::RepeatElement => {
                let element = self.bytes(0, row).saturating_add(ELEMENT_BYTES);
                Cost::of(element.saturating_mul(self.count(row)))
            }
            Growth::Resize => {
                let element = self.args.get(2).map_or(0, |_| self.bytes(2, row)) + ELEMENT_BYTES;
                let added = element.saturating_mul(self.count(row));
                Cost::of(added.saturating_add(self.bytes(0, row)))
            }
            Growth::Series => Cost::of(self.series(row).saturating_mul(ELEMENT_BYTES)),
            Growth::JoinElements => {
                let elements = self.args.first().map_or(0, |arg| elements(arg, row));
                let each = self.bytes(1, row).saturating_add(NUMBER_BYTES);
                Cost::of(elements.saturating_mul(each).saturating_add(self.bytes(0, row)))
            }
            Growth::Split | Growth::SplitPattern => Cost::of(self.split(row)),
            Growth::Product => {
                let of = |i: usize| {
                    let arg = self.args.get(i);
                    arg.map_or(0, |arg| elements(arg, row).max(text_bytes(arg, row)))
                };
                Cost { bytes: 0, work: of(0).saturating_mul(of(1)) }
            }
            Growth::Search => Cost { bytes: 0, work: self.bytes(0, row) },
        }
    }

    fn bytes(&self, index: usize, row: usize) -> u64 {
        self.args.get(index).map_or(0, |arg| value_bytes(arg, row))
    }

    fn count(&self, row: usize) -> u64 {
        let count = match &self.count {
            Some(ColumnarValue::Scalar(ScalarValue::Int64(n))) => *n,
            Some(ColumnarValue::Array(array)) => {
                let counts = array.as_primitive::<Int64Type>();
                (row < counts.len() && counts.is_valid(row)).then(|| counts.value(row))
            }
            _ => None,
        };
        count.map_or(0, |n| u64::try_from(n).unwrap_or(0))
    }

    fn split(&self, row: usize) -> u64 {
        let [text, by] = [0, 1].map(|i| self.args.get(i).and_then(|arg| text(arg, row)));
        let (Some(text), Some(by)) = (text, by) else { return 0 };
        let length = size(text.len());
        let parts = match self.growth {
            Growth::SplitPattern => length / LOOSE,
            _ if by.is_empty() => 0,
            _ if length <= SHORT_BYTES => length / size(by.len()),
            _ => size(text.matches(by).count()),
        };
        length.saturating_add((parts + 1).saturating_mul(2 * ELEMENT_BYTES))
    }

    fn replaced(&self, row: usize) -> u64 {
        let [Some(text), Some(from), Some(to)] =
            [0, 1, 2].map(|i| self.args.get(i).and_then(|arg| text(arg, row)))
        else {
            return 0;
        };
        let (length, by) = (size(text.len()), size(to.len()));
        if to.len() <= from.len() {
            return length;
        }
        let most = length / size(from.len()).max(1) + 1;
        let most = match length.saturating_add(most.saturating_mul(by)) {
            few if few <= SHORT_BYTES => return few,
            _ if from.is_empty() => length + 1,
            _ => size(text.matches(from).count()),
        };
        length.saturating_add(most.saturating_mul(by))
    }

    /// Elements from the first to the second argument by steps of the third.
    fn series(&self, row: usize) -> u64 {
        let number = |i: usize| self.args.get(i).and_then(|arg| place(arg, row));
        let (from, to) = match (number(0), number(1)) {
            (Some(to), None) if self.args.len() == 1 => (0, to),
            (Some(from), Some(to)) => (from, to),
            _ => return 0,
        };
        let step = match self.args.get(2) {
            None => 1,
            Some(arg) => place(arg, row).unwrap_or(1),
        };
        // The function refuses it.
        if step == 0 {
            return 0;
        }
        let steps = (to - from).unsigned_abs() / step.unsigned_abs();
        u64::try_from(steps).unwrap_or(u64::MAX).saturating_add(1)
    }
}

fn size(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Text of a row.
fn text(arg: &ColumnarValue, row: usize) -> Option<&str> {
    match arg {
        ColumnarValue::Scalar(value) => value.try_as_str().flatten(),
        ColumnarValue::Array(array) if row < array.len() && array.is_valid(row) => {
            match array.data_type() {
                DataType::Utf8 => Some(array.as_string::<i32>().value(row)),
                DataType::LargeUtf8 => Some(array.as_string::<i64>().value(row)),
                DataType::Utf8View => Some(array.as_string_view().value(row)),
                _ => None,
            }
        }
        ColumnarValue::Array(_) => None,
    }
}

fn text_bytes(arg: &ColumnarValue, row: usize) -> u64 {
    text(arg, row).map_or(0, |text| size(text.len()))
}

/// Bytes of the widest character that pads.
fn widest(fill: &ColumnarValue, row: usize) -> u64 {
    match text(fill, row) {
        Some(fill) if !fill.is_ascii() => 4,
        _ => 1,
    }
}

fn value_bytes(arg: &ColumnarValue, row: usize) -> u64 {
    if let Some(text) = text(arg, row) {
        return size(text.len());
    }
    match arg {
        ColumnarValue::Scalar(value) if value.is_null() => 0,
        ColumnarValue::Scalar(
            ScalarValue::Binary(Some(bytes))
            | ScalarValue::LargeBinary(Some(bytes))
            | ScalarValue::BinaryView(Some(bytes)),
        ) => size(bytes.len()),
        ColumnarValue::Scalar(value) => match value.data_type() {
            t if t.is_nested() => size(value.size()),
            _ => FIXED_BYTES,
        },
        ColumnarValue::Array(array) => match list(array, row) {
            Some((elements, element_bytes)) => elements.saturating_mul(element_bytes),
            None => binary_bytes(array, row).unwrap_or(FIXED_BYTES),
        },
    }
}

/// Bytes of a row's bytea.
fn binary_bytes(array: &ArrayRef, row: usize) -> Option<u64> {
    if row >= array.len() {
        return None;
    }
    let bytes = match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().value(row),
        DataType::LargeBinary => array.as_binary::<i64>().value(row),
        DataType::BinaryView => array.as_binary_view().value(row),
        _ => return None,
    };
    Some(size(bytes.len()))
}

/// Elements of a row's array; 0 if it is none.
fn elements(arg: &ColumnarValue, row: usize) -> u64 {
    match arg {
        ColumnarValue::Array(array) => list(array, row).map_or(0, |(elements, _)| elements),
        ColumnarValue::Scalar(value) => match value {
            ScalarValue::List(list) => size(list.values().len()),
            ScalarValue::LargeList(list) => size(list.values().len()),
            ScalarValue::FixedSizeList(list) => size(list.values().len()),
            _ => 0,
        },
    }
}

/// Elements of a row's array, and the mean bytes of one.
fn list(array: &ArrayRef, row: usize) -> Option<(u64, u64)> {
    if row >= array.len() {
        return None;
    }
    let (elements, values) = match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            (u64::try_from(list.value_length(row)).ok()?, list.values())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            (u64::try_from(list.value_length(row)).ok()?, list.values())
        }
        _ => return None,
    };
    let mean = size(values.get_array_memory_size()) / size(values.len()).max(1);
    Some((elements, mean.max(1)))
}

/// A number, time or span as a place on a line whose unit both ends share.
fn place(arg: &ColumnarValue, row: usize) -> Option<i128> {
    const DAY_NS: i128 = 86_400_000_000_000;
    let value = match arg {
        ColumnarValue::Scalar(value) => value.clone(),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row).ok()?,
    };
    Some(match value {
        ScalarValue::Int8(n) => n?.into(),
        ScalarValue::Int16(n) => n?.into(),
        ScalarValue::Int32(n) => n?.into(),
        ScalarValue::Int64(n) => n?.into(),
        ScalarValue::UInt64(n) => n?.into(),
        ScalarValue::Date32(days) => i128::from(days?) * DAY_NS,
        ScalarValue::TimestampSecond(n, _) => i128::from(n?) * 1_000_000_000,
        ScalarValue::TimestampMillisecond(n, _) => i128::from(n?) * 1_000_000,
        ScalarValue::TimestampMicrosecond(n, _) => i128::from(n?) * 1_000,
        ScalarValue::TimestampNanosecond(n, _) => n?.into(),
        ScalarValue::IntervalMonthDayNano(span) => {
            let span = span?;
            let days = i128::from(span.months) * 28 + i128::from(span.days);
            days * DAY_NS + i128::from(span.nanoseconds)
        }
        _ => return None,
    })
}
