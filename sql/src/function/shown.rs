//! Values as texts, as Postgres writes them: floats with as few digits as tell them, intervals, arrays in braces.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::error::Result as DfResult;

use crate::datetime::Span;

/// Whether values of a type are written here, and not by the planner.
pub(crate) fn is_shown(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 | DataType::Interval(IntervalUnit::MonthDayNano) => {
            true
        }
        DataType::List(item) => is_element(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| {
            is_element(field.data_type()) || matches!(field.data_type(), DataType::Timestamp(..))
        }),
        _ => false,
    }
}

fn is_element(data_type: &DataType) -> bool {
    is_shown(data_type)
        || data_type.is_integer()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Utf8
                | DataType::Utf8View
                | DataType::Date32
                | DataType::Decimal128(..)
                | DataType::Null
        )
}

/// The texts of values.
pub(super) fn texts(values: &ArrayRef) -> DfResult<StringViewArray> {
    Ok(match values.data_type() {
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let spans = values.as_primitive::<IntervalMonthDayNanoType>().iter();
            spans.map(|span| span.map(|span| Span::from(span).text())).collect()
        }
        DataType::Float64 => {
            let floats = values.as_primitive::<Float64Type>().iter();
            floats.map(|float| float.map(|f| float_text(&format!("{f:e}"), 15))).collect()
        }
        DataType::Float32 => {
            let floats = values.as_primitive::<Float32Type>().iter();
            floats.map(|float| float.map(|f| float_text(&format!("{f:e}"), 6))).collect()
        }
        DataType::List(_) => {
            let lists = values.as_list::<i32>();
            let text = |row| lists.is_valid(row).then(|| list_text(&lists.value(row))).transpose();
            (0..lists.len()).map(text).collect::<DfResult<StringViewArray>>()?
        }
        DataType::Boolean => {
            let flags = values.as_boolean().iter();
            flags.map(|flag| flag.map(|flag| if flag { "t" } else { "f" })).collect()
        }
        _ => cast(values, &DataType::Utf8View)?.as_string_view().clone(),
    })
}

/// From `1.5e-7`: as it is read by people if it has few digits before or behind the point.
fn float_text(scientific: &str, digits_max: i32) -> String {
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return match scientific {
            "inf" => "Infinity".into(),
            "-inf" => "-Infinity".into(),
            other => other.to_owned(),
        };
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits_max {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{first}{rest}");
    let places = usize::try_from(exponent.unsigned_abs()).unwrap_or(0);
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(places.saturating_sub(1)));
    }
    let whole = places + 1;
    match digits.split_at_checked(whole) {
        Some((whole, "")) => format!("{sign}{whole}"),
        Some((whole, fraction)) => format!("{sign}{whole}.{fraction}"),
        None => format!("{sign}{digits:0<whole$}"),
    }
}

fn list_text(items: &ArrayRef) -> DfResult<String> {
    let mut out = String::from("{");
    let is_list = matches!(items.data_type(), DataType::List(_));
    let texts = texts(items)?;
    for (place, text) in texts.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        match text {
            None => out.push_str("NULL"),
            Some(text) if is_list => out.push_str(text),
            Some(text) => push_quoted(text, &mut out),
        }
    }
    out.push('}');
    Ok(out)
}

/// The texts of records, `(1,"a b",)`, from those of their fields.
pub(super) fn records(values: &StructArray, fields: &[StringViewArray]) -> StringViewArray {
    let text = |row: usize| {
        let mut out = String::from("(");
        for (place, texts) in fields.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            if texts.is_null(row) {
                continue;
            }
            let text = texts.value(row);
            let special = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | '"' | '\\');
            if text.is_empty() || text.contains(special) {
                let escaped = text.replace('\\', "\\\\").replace('"', "\"\"");
                let _written = write!(out, "\"{escaped}\"");
            } else {
                out.push_str(text);
            }
        }
        out.push(')');
        out
    };
    (0..values.len()).map(|row| values.is_valid(row).then(|| text(row))).collect()
}

fn push_quoted(text: &str, out: &mut String) {
    let special = |c: char| c.is_whitespace() || matches!(c, '"' | '\\' | '{' | '}' | ',');
    let is_plain =
        !text.is_empty() && !text.contains(special) && !text.eq_ignore_ascii_case("null");
    if is_plain {
        out.push_str(text);
        return;
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    let _written = write!(out, "\"{escaped}\"");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_have_as_few_digits_as_tell_them() {
        for (float, text) in [
            (2.0, "2"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (1e20, "1e+20"),
            (1e-7, "1e-07"),
            (1.5e300, "1.5e+300"),
            (123_456.789, "123456.789"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (0.0001, "0.0001"),
            (0.000_012, "1.2e-05"),
            (0.0, "0"),
            (-0.0, "-0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(float_text(&format!("{float:e}"), 15), text);
        }
    }

    #[test]
    fn records_have_nothing_for_null() {
        use std::sync::Arc;
        let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![
            Some("a b"),
            None,
            Some(""),
            Some("\"\\"),
            Some("x"),
        ]));
        let field = Arc::new(arrow::datatypes::Field::new("c0", DataType::Utf8, true));
        let nulls = arrow::buffer::NullBuffer::from(vec![true, true, true, true, false]);
        let values = StructArray::new(vec![field].into(), vec![Arc::clone(&texts)], Some(nulls));
        let fields = [super::texts(&texts).unwrap()];
        let found = records(&values, &fields);
        let found: Vec<Option<&str>> = found.iter().collect();
        let expected =
            [Some("(\"a b\")"), Some("()"), Some("(\"\")"), Some("(\"\"\"\\\\\")"), None];
        assert_eq!(found, expected);
    }

    #[test]
    fn elements_are_quoted_where_they_must() {
        let mut out = String::new();
        for text in ["a", "b c", "d\"e", "", "null", "x,y"] {
            push_quoted(text, &mut out);
            out.push(';');
        }
        assert_eq!(out, "a;\"b c\";\"d\\\"e\";\"\";\"null\";\"x,y\";");
    }
}
