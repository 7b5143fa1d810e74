//! Filters over columns and measures, as a map or a tree, typed by what they are compared with. Nil is a
//! value here: what is not equal to "eu" includes nil, unlike in SQL.

use arrow::datatypes::DataType;
use chrono::NaiveDate;
use chrono_tz::Tz;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, Operator, binary_expr, in_list, lit};
use datafusion::scalar::ScalarValue;
use otus_engine::types::ColumnType;

use super::pattern::Comparison;
use super::problem::{Path, Problem, join};
use super::query::{instant, local_time};
use super::value::Value;

/// Nesting of a filter tree.
const DEPTH_MAX: usize = 20;
/// Values in all sets of a filter.
const VALUES_MAX: usize = 10_000;

/// What a filter compares.
#[derive(Debug, Clone)]
pub enum FieldType {
    /// A column of the table.
    Column(ColumnType),
    /// A measure.
    Measure(DataType),
}

/// A checked filter.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All of them.
    And(Vec<Filter>),
    /// Any of them.
    Or(Vec<Filter>),
    /// Whatever the other does not pass.
    Not(Box<Filter>),
    /// A comparison with a value that is not nil.
    Compare(String, Comparison, ScalarValue),
    /// One of these; and nil, if the flag says so.
    In(String, Vec<ScalarValue>, bool),
    /// From the first to the second, both included.
    Between(String, ScalarValue, ScalarValue),
    /// A text pattern with `%` and `_`.
    Like(String, String),
    /// Nil.
    Null(String),
}

impl Filter {
    /// As an expression; `named` gives the column that stands for a name.
    pub fn to_expr(&self, named: &dyn Fn(&str) -> Column) -> Expr {
        let column = |name: &String| Expr::Column(named(name));
        let value = |scalar: &ScalarValue| Expr::Literal(scalar.clone(), None);
        let each = |parts: &[Self]| parts.iter().map(|p| p.to_expr(named)).collect::<Vec<_>>();
        match self {
            Self::And(parts) => balanced(each(parts), Expr::and).unwrap_or_else(|| lit(true)),
            Self::Or(parts) => balanced(each(parts), Expr::or).unwrap_or_else(|| lit(false)),
            Self::Not(inner) => Expr::IsNotTrue(Box::new(inner.to_expr(named))),
            Self::Compare(name, comparison, scalar) => {
                let operator = match comparison {
                    Comparison::Equal => Operator::Eq,
                    Comparison::NotEqual => Operator::IsDistinctFrom,
                    Comparison::Greater => Operator::Gt,
                    Comparison::GreaterOrEqual => Operator::GtEq,
                    Comparison::Less => Operator::Lt,
                    Comparison::LessOrEqual => Operator::LtEq,
                };
                binary_expr(column(name), operator, value(scalar))
            }
            Self::In(name, values, with_null) => {
                let listed = match values.as_slice() {
                    [] => lit(false),
                    [one] => column(name).eq(value(one)),
                    many => in_list(column(name), many.iter().map(value).collect(), false),
                };
                if *with_null { listed.or(column(name).is_null()) } else { listed }
            }
            Self::Between(name, low, high) => {
                column(name).gt_eq(value(low)).and(column(name).lt_eq(value(high)))
            }
            Self::Like(name, pattern) => column(name).like(lit(pattern.as_str())),
            Self::Null(name) => column(name).is_null(),
        }
    }

    /// Names of what it compares.
    pub fn names(&self, into: &mut Vec<String>) {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.names(into)),
            Self::Not(inner) => inner.names(into),
            Self::Compare(name, ..)
            | Self::In(name, ..)
            | Self::Between(name, ..)
            | Self::Like(name, _)
            | Self::Null(name) => {
                if !into.contains(name) {
                    into.push(name.clone());
                }
            }
        }
    }
}

/// Joins expressions as a tree of little depth: planners walk expressions by recursion.
fn balanced(mut parts: Vec<Expr>, join: fn(Expr, Expr) -> Expr) -> Option<Expr> {
    while parts.len() > 1 {
        let mut pairs = Vec::with_capacity(parts.len().div_ceil(2));
        let mut rest = parts.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        parts = pairs;
    }
    parts.pop()
}

/// Decodes filters against the fields that `field` knows.
pub struct Decoder<'a> {
    /// What a name stands for.
    pub field: &'a dyn Fn(&str) -> Option<FieldType>,
    /// Zone of local times.
    pub zone: Tz,
    /// What is wrong.
    pub problems: &'a mut Vec<Problem>,
    values: usize,
}

impl std::fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("zone", &self.zone).finish_non_exhaustive()
    }
}

impl<'a> Decoder<'a> {
    /// A decoder.
    pub fn new(
        field: &'a dyn Fn(&str) -> Option<FieldType>,
        zone: Tz,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        Self { field, zone, problems, values: 0 }
    }

    fn fail<T>(&mut self, reason: impl Into<String>, path: &Path) -> Option<T> {
        self.problems.push(Problem::bad_argument(reason, path));
        None
    }

    /// A filter in either form.
    pub fn filter(&mut self, form: &Value, path: &Path) -> Option<Filter> {
        match form {
            Value::Map(map) => {
                let mut parts = Vec::with_capacity(map.len());
                for (key, value) in map.iter() {
                    let here = join(path, key);
                    let Some(name) = key.as_name() else {
                        self.fail::<()>("a key of a filter is a name", &here);
                        continue;
                    };
                    parts.extend(self.entry(name, value, &here));
                }
                Some(Filter::And(parts))
            }
            Value::Vector(_) | Value::List(_) => self.tree(form, path, 1),
            other => {
                self.fail(format!("a filter is a map or a tree, not {}", other.kind_name()), path)
            }
        }
    }

    /// One entry of the map form: equality, membership of a set, or nil.
    pub fn entry(&mut self, name: &str, value: &Value, path: &Path) -> Option<Filter> {
        let field = self.known(name, path)?;
        match value {
            Value::Nil => Some(Filter::Null(name.to_string())),
            Value::Set(items) | Value::Vector(items) | Value::List(items) => {
                self.members(name, &field, items, path)
            }
            value => {
                let scalar = self.scalar(&field, value, path)?;
                Some(Filter::Compare(name.to_string(), Comparison::Equal, scalar))
            }
        }
    }

    fn known(&mut self, name: &str, path: &Path) -> Option<FieldType> {
        match (self.field)(name) {
            Some(field) => Some(field),
            None => {
                self.problems.push(Problem::new(
                    "unknown-key",
                    format!("nothing here is named {name:?}"),
                    path,
                ));
                None
            }
        }
    }

    fn members(
        &mut self,
        name: &str,
        field: &FieldType,
        items: &[Value],
        path: &Path,
    ) -> Option<Filter> {
        self.values = self.values.saturating_add(items.len());
        if self.values > VALUES_MAX {
            return self.fail(format!("a filter holds at most {VALUES_MAX} values"), path);
        }
        let mut scalars = Vec::with_capacity(items.len());
        for item in items.iter().filter(|item| !item.is_nil()) {
            scalars.push(self.scalar(field, item, path)?);
        }
        Some(Filter::In(name.to_string(), scalars, items.iter().any(Value::is_nil)))
    }

    fn tree(&mut self, form: &Value, path: &Path, depth: usize) -> Option<Filter> {
        if depth > DEPTH_MAX {
            return self.fail(format!("a filter is nested deeper than {DEPTH_MAX}"), path);
        }
        if matches!(form, Value::Map(_)) {
            return self.filter(form, path);
        }
        let parts = form.as_sequence().and_then(<[Value]>::split_first);
        let Some((operator, rest)) = parts.and_then(|(o, rest)| Some((o.as_name()?, rest))) else {
            return self.fail("a filter is a map, or a vector that begins with an operator", path);
        };
        match (operator, rest) {
            ("and" | "or", rest) => {
                let mut parts = Vec::with_capacity(rest.len());
                for (i, part) in rest.iter().enumerate() {
                    parts.extend(self.tree(part, &join(path, i + 1), depth + 1));
                }
                Some(if operator == "and" { Filter::And(parts) } else { Filter::Or(parts) })
            }
            ("not", [inner]) => {
                let inner = self.tree(inner, &join(path, 1_usize), depth + 1)?;
                Some(Filter::Not(Box::new(inner)))
            }
            (operator, [name, arguments @ ..]) => {
                let Some(name) = name.as_name() else {
                    return self.fail("an operator is followed by a name", path);
                };
                let field = self.known(name, &join(path, 1_usize))?;
                self.leaf(operator, name, &field, arguments, path)
            }
            _ => self.fail(format!("operator :{operator} lacks its arguments"), path),
        }
    }

    fn leaf(
        &mut self,
        operator: &str,
        name: &str,
        field: &FieldType,
        arguments: &[Value],
        path: &Path,
    ) -> Option<Filter> {
        let at = join(path, 2_usize);
        let owned = name.to_string();
        match (operator, arguments) {
            ("null?", []) => Some(Filter::Null(owned)),
            ("in", [Value::Set(items) | Value::Vector(items) | Value::List(items)]) => {
                self.members(name, field, items, &at)
            }
            ("between", [low, high]) => {
                let low = self.scalar(field, low, &at)?;
                let high = self.scalar(field, high, &join(path, 3_usize))?;
                Some(Filter::Between(owned, low, high))
            }
            ("like", [Value::String(text)]) => match field {
                FieldType::Column(ColumnType::Text | ColumnType::Uuid) => {
                    Some(Filter::Like(owned, text.to_string()))
                }
                _ => self.fail(":like compares text", &at),
            },
            (_, [value]) => match (Comparison::from_name(operator), value) {
                (Some(Comparison::Equal), Value::Nil) => Some(Filter::Null(owned)),
                (Some(Comparison::NotEqual), Value::Nil) => {
                    Some(Filter::Not(Box::new(Filter::Null(owned))))
                }
                (Some(_), Value::Nil) => self.fail("nil has no order", &at),
                (Some(comparison), value) => {
                    let scalar = self.scalar(field, value, &at)?;
                    Some(Filter::Compare(owned, comparison, scalar))
                }
                (None, _) => self.fail(format!("there is no operator :{operator} like this"), path),
            },
            _ => self.fail(format!("there is no operator :{operator} like this"), path),
        }
    }

    fn scalar(&mut self, field: &FieldType, value: &Value, path: &Path) -> Option<ScalarValue> {
        let (scalar, wanted) = match field {
            FieldType::Column(column) => {
                (column_scalar(column, value, self.zone), column.to_string())
            }
            FieldType::Measure(data_type) => {
                (measure_scalar(data_type, value, self.zone), "the measure".to_string())
            }
        };
        if scalar.is_none() {
            let reason = format!("{} cannot be compared with {wanted}", value.kind_name());
            self.problems.push(Problem::new("type-mismatch", reason, path));
        }
        scalar
    }
}

fn column_scalar(column: &ColumnType, value: &Value, zone: Tz) -> Option<ScalarValue> {
    Some(match (column, value) {
        (ColumnType::Boolean, Value::Bool(b)) => ScalarValue::Boolean(Some(*b)),
        (ColumnType::SmallInt, _) => match integer(value)? {
            n @ -32_768..=32_767 => ScalarValue::Int16(i16::try_from(n).ok()),
            n => ScalarValue::Int64(Some(n)),
        },
        (ColumnType::Integer, _) => {
            let n = integer(value)?;
            i32::try_from(n).map_or(ScalarValue::Int64(Some(n)), |n| ScalarValue::Int32(Some(n)))
        }
        (ColumnType::BigInt, _) => ScalarValue::Int64(Some(integer(value)?)),
        #[expect(clippy::cast_possible_truncation, reason = "a real column holds no more")]
        (ColumnType::Real, _) => ScalarValue::Float32(Some(value.as_float()? as f32)),
        (ColumnType::Double, _) => ScalarValue::Float64(Some(value.as_float()?)),
        (ColumnType::Numeric { .. }, _) => decimal(&number_text(value)?)?,
        (ColumnType::Text, Value::String(text)) | (ColumnType::Uuid, Value::Uuid(text)) => {
            ScalarValue::Utf8View(Some(text.to_string()))
        }
        (ColumnType::Uuid, Value::String(text)) => {
            ScalarValue::Utf8View(Some(super::text::parse_uuid(text)?))
        }
        (ColumnType::Date, Value::String(text)) => {
            let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            let days = date.signed_duration_since(NaiveDate::default()).num_days();
            ScalarValue::Date32(Some(i32::try_from(days).ok()?))
        }
        (ColumnType::Timestamp, Value::String(text)) => {
            let local = local_time(text)?.and_utc().timestamp_micros();
            ScalarValue::TimestampMicrosecond(Some(local), None)
        }
        (ColumnType::Timestamptz, _) => {
            ScalarValue::TimestampMicrosecond(Some(instant(value, zone)?), Some("UTC".into()))
        }
        _ => return None,
    })
}

fn measure_scalar(data_type: &DataType, value: &Value, zone: Tz) -> Option<ScalarValue> {
    Some(match data_type {
        DataType::Boolean => match value {
            Value::Bool(b) => ScalarValue::Boolean(Some(*b)),
            _ => return None,
        },
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => match value {
            Value::String(text) => ScalarValue::Utf8View(Some(text.to_string())),
            _ => return None,
        },
        DataType::Timestamp(_, _) => {
            ScalarValue::TimestampMicrosecond(Some(instant(value, zone)?), Some("UTC".into()))
        }
        DataType::Float32 | DataType::Float64 => ScalarValue::Float64(Some(value.as_float()?)),
        t if t.is_numeric() => match value {
            Value::Int(n) => ScalarValue::Int64(Some(*n)),
            other => decimal(&number_text(other)?)?,
        },
        _ => return None,
    })
}

/// An integer; JSON gives those beyond 2^53 as text.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(n) => Some(*n),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn number_text(value: &Value) -> Option<String> {
    match value {
        Value::Int(n) => Some(n.to_string()),
        Value::BigInt(text) | Value::Decimal(text) | Value::String(text) => Some(text.to_string()),
        Value::Float(x) => Some(x.to_string()),
        _ => None,
    }
}

/// A decimal text as the narrowest exact scalar of 38 digits.
fn decimal(text: &str) -> Option<ScalarValue> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0').len().max(1);
    if significant.max(fraction.len()) > 38 {
        return None;
    }
    let unscaled: i128 = digits.parse().ok()?;
    let unscaled = if text.starts_with('-') { -unscaled } else { unscaled };
    Some(ScalarValue::Decimal128(Some(unscaled), 38, i8::try_from(fraction.len()).ok()?))
}
