//! Limits of single calls, and what they refuse.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringViewArray};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;

use super::growth::{Cost, Growth, Measure};

fn text(value: &str) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Utf8(Some(value.into())))
}

fn number(value: i64) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Int64(Some(value)))
}

fn array(values: impl arrow::array::Array + 'static) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(values) as ArrayRef)
}

fn cost(function: &str, args: &[ColumnarValue], row: usize) -> Cost {
    let growth = Growth::of(function).unwrap();
    Measure::new(growth, args).unwrap().cost(row)
}

#[test]
fn what_will_be_built_is_known_before() {
    let bytes = |function: &str, args: &[ColumnarValue], expected: u64| {
        assert_eq!(cost(function, args, 0).bytes, expected, "{function} {args:?}");
    };
    bytes("repeat", &[text("ab"), number(1_000_000_000)], 2_000_000_000);
    bytes("repeat", &[text("ab"), number(-1)], 0);
    bytes("lpad", &[text("ab"), number(10)], 12);
    bytes("rpad", &[text("ab"), number(10), text("é")], 42);
    bytes("replace", &[text("abab"), text("ab"), text("")], 4);
    bytes("concat", &[text("ab"), text("cde")], 5);
    bytes("generate_series", &[number(1), number(1_000)], 8_000);
    bytes("generate_series", &[number(1_000), number(0), number(-10)], 808);
    bytes("array_repeat", &[text("ab"), number(10)], 100);
    bytes("concat_ws", &[text("---"), text("ab"), text("c"), text("")], 9);
    bytes("concat_ws", &[text("---"), text("ab")], 2);
    let coded = ColumnarValue::Scalar(ScalarValue::Binary(Some(vec![0; 100])));
    bytes("encode", &[coded, text("hex")], 206);
    bytes("json_build_array", &[text("ab"), text("cde")], 5);
    let long = "ab".repeat(1 << 20);
    bytes("replace", &[text(&long), text("a"), text("xyz")], 5 << 20);
}

#[test]
fn rows_are_measured_one_by_one() {
    let args = [
        array(StringViewArray::from(vec![Some("a"), None, Some("abc")])),
        array(Int64Array::from(vec![Some(2), Some(2), None])),
    ];
    let bytes: Vec<_> = (0..3).map(|row| cost("repeat", &args, row).bytes).collect();
    assert_eq!(bytes, [2, 32, 0]);
}

#[test]
fn a_product_costs_work_and_no_bytes() {
    let long = "x".repeat(1_000);
    let found = cost("levenshtein", &[text(&long), text(&long)], 0);
    assert_eq!(found, Cost { bytes: 0, work: 1_000_000 });
}

#[tokio::test]
async fn batches_are_small_where_gathered_values_are_repeated() {
    let mut state = crate::state::functions().unwrap();
    let config = state.config().clone().with_create_default_catalog_and_schema(true);
    *state.config_mut() = config;
    let context = datafusion::prelude::SessionContext::new_with_state(state);
    let rows = "(VALUES (1, 'a'), (2, 'b')) t (i, x)";
    for (sql, expected) in [
        ("SELECT i, array_agg(x) FROM {} GROUP BY i", 8192),
        ("SELECT first_value(x) OVER (ORDER BY i) FROM {}", 8192),
        ("SELECT array_agg(x) OVER (ORDER BY i) FROM {}", super::FEW_ROWS),
        ("SELECT g.a FROM (SELECT array_agg(x) a FROM {}) g, (VALUES (1), (2)) u", super::FEW_ROWS),
        (
            "SELECT first_value(s) OVER () FROM (SELECT string_agg(x, ',') s FROM {} GROUP BY i) g",
            super::FEW_ROWS,
        ),
        ("SELECT max(x) FROM {}, (VALUES (1), (2)) u", 8192),
    ] {
        let plan = context.state().create_logical_plan(&sql.replace("{}", rows)).await.unwrap();
        let plan = crate::strict::checked(plan).unwrap();
        assert_eq!(super::batch_rows(&plan, 8192).unwrap(), expected, "{sql}");
    }
}
