//! Expressions and measures as a declaration writes them, compiled and run over small batches.

use super::*;
use arrow::array::{AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use otus_engine::expr::AggregateFunction;

fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("time", utc, false),
        Field::new("user", DataType::Utf8View, true),
        Field::new("countryName", DataType::Utf8View, true),
        Field::new("added", DataType::Int64, true),
        Field::new("price", DataType::Decimal128(12, 2), true),
        Field::new("current_date", DataType::Int64, true),
    ]))
}

fn measures(list: &[(&str, &str)]) -> Result<CompiledMeasures> {
    let defs: Vec<_> = list.iter().map(|(name, sql)| MeasureDef::new(*name, *sql)).collect();
    SqlCompiler::new().measures(&schema(), "time", &defs)
}

#[test]
fn names_are_columns_before_they_are_keywords() {
    let compiler = SqlCompiler::new();
    let check = |sql: &str, columns: &[&str], data_type: DataType| {
        let compiled = compiler.scalar(&schema(), sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(compiled.columns(), columns, "{sql}");
        assert_eq!(compiled.data_type(), &data_type, "{sql}");
    };
    check("user", &["user"], DataType::Utf8View);
    check("current_date + 1", &["current_date"], DataType::Int64);
    check("countryName = 'France'", &["countryName"], DataType::Boolean);
    check("extract(hour from time)", &["time"], DataType::Int32);
    check("upper(user) || '!'", &["user"], DataType::Utf8View);
    check("CASE WHEN added > 0 THEN user END", &["user", "added"], DataType::Utf8View);
    check("added::double precision", &["added"], DataType::Float64);
}

#[test]
fn what_may_change_from_run_to_run_is_refused() {
    let compiler = SqlCompiler::new();
    for sql in [
        "random()",
        "now()",
        "added > (SELECT 1)",
        "sum(added)",
        "row_number() over ()",
        "nothing + 1",
        "$1",
        "added +",
        "added, user",
        "uuid()",
    ] {
        let e = compiler.scalar(&schema(), sql).expect_err(sql);
        assert_eq!(e.kind(), otus_engine::ErrorKind::Invalid, "{sql}: {e}");
    }
}

#[test]
fn a_compiled_expression_computes() {
    let two = Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8View, true),
        Field::new("added", DataType::Int64, true),
    ]));
    let batch = RecordBatch::try_new(
        Arc::clone(&two),
        vec![
            Arc::new(StringViewArray::from(vec![Some("ann"), None])),
            Arc::new(Int64Array::from(vec![Some(2), Some(3)])),
        ],
    )
    .unwrap();
    let compiler = SqlCompiler::new();
    let names = compiler.scalar(&two, "coalesce(user, 'x') || added").unwrap();
    let values = names.evaluate(&batch).unwrap();
    let values: Vec<_> = values.as_string_view().iter().flatten().collect();
    assert_eq!(values, ["ann2", "x3"]);
    let constant = compiler.scalar(&two, "1").unwrap().evaluate(&batch).unwrap();
    assert_eq!(constant.len(), 2);
}

#[test]
fn calls_are_shared_and_finishes_name_them() {
    let m = measures(&[
        ("edits", "count(*)"),
        ("added", "sum(added)"),
        ("mean", "avg(added)"),
        ("per_edit", "added / edits"),
        ("robots", "count(*) FILTER (WHERE user = 'bot')"),
        ("share", "round(100.0 * robots / edits, 2)"),
        ("editors", "approx_distinct(user)"),
        ("p95", "approx_quantile(added, 0.95)"),
        ("latest", "last(user)"),
        ("spread", "max(added) - min(added)"),
    ])
    .unwrap();
    let finish = |name: &str| {
        m.measures.iter().find(|x| x.name == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    assert_eq!(finish("edits").finish_sql, "__call0");
    assert_eq!(finish("per_edit").finish_sql, "otus_divide(__call1, __call0)");
    assert_eq!(finish("mean").finish_sql, "otus_average(__call1, __call2)");
    assert_eq!(finish("mean").data_type, DataType::Float64);
    assert_eq!(finish("added").data_type, DataType::Decimal128(38, 0));
    assert_eq!(finish("latest").data_type, DataType::Utf8View);
    assert!(finish("added").additive && !finish("per_edit").additive);
    assert!(finish("editors").approximate && !finish("edits").approximate);
    let prefixes: Vec<_> = m.calls.iter().map(|c| c.prefix.as_str()).collect();
    assert_eq!(&prefixes[..3], ["count", "sum_added", "count_added"]);
    assert!(m.calls.iter().any(|c| c.function == AggregateFunction::ApproxQuantile { p: 0.95 }));
    let last = m.calls.iter().find(|c| c.function == AggregateFunction::Last).unwrap();
    assert_eq!(last.args.len(), 2);
    assert_eq!(m.calls.iter().filter(|c| c.key == "count()").count(), 1);
}

#[test]
fn wrong_measures_say_why() {
    let check = |list: &[(&str, &str)], part: &str| {
        let e = measures(list).expect_err(part);
        assert!(e.to_string().contains(part), "{e} lacks {part:?}");
    };
    check(&[("a", "b + 1"), ("b", "a + 1")], "defined by itself");
    check(&[("a", "a")], "defined by itself");
    check(&[("a", "price")], "outside an aggregate");
    check(&[("a", "count(distinct user)")], "DISTINCT");
    check(&[("a", "median(added)")], "no mergeable state");
    check(&[("a", "sum(user)")], "sum()");
    check(&[("a", "1 + 1")], "aggregates nothing");
    check(&[("a", "sum(random())")], "random");
    check(&[("a", "count(*)"), ("a", "sum(added)")], "twice");
    check(&[("a", "approx_quantile(added, 2)")], "between 0 and 1");
    check(&[("a", "other / 2")], "no measure");
    check(&[("a", "cont(*)")], "function cont() does not exist");
    check(&[("a", "cont(added)")], "function cont() does not exist");
    check(&[("a", "cont(*) + count(*)")], "function cont() does not exist");
    let hint = measures(&[("a", "cont(*)")]).expect_err("cont").hint().map(str::to_string);
    assert_eq!(hint.as_deref(), Some("perhaps you meant count()"));
}

#[test]
fn an_expression_over_kept_rows_fails_on_none() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8View, true),
        Field::new("added", DataType::Int64, true),
    ]));
    let users = StringViewArray::from(vec![Some("1"), Some("x"), None, Some("-4"), Some("")]);
    let added = Int64Array::from(vec![Some(1), Some(0), Some(i64::MAX), None, Some(5)]);
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(users), Arc::new(added)]).unwrap();
    let compiler = SqlCompiler::new();
    let values = |sql: &str| -> Vec<Option<i64>> {
        let compiled = compiler.lenient(&schema, sql).unwrap();
        let array = compiled.evaluate(&batch).unwrap();
        array.as_primitive::<arrow::datatypes::Int64Type>().iter().collect()
    };
    assert_eq!(values("user::bigint"), [Some(1), None, None, Some(-4), None]);
    assert_eq!(values("10 / added"), [Some(10), None, Some(0), None, Some(2)]);
    assert_eq!(values("added + 1"), [Some(2), Some(1), Some(i64::MIN), None, Some(6)]);
    assert!(compiler.scalar(&schema, "user::bigint").unwrap().evaluate(&batch).is_err());
    for sql in ["random()", "now()", "sum(added)", "nothing"] {
        compiler.lenient(&schema, sql).expect_err(sql);
    }
}

#[test]
fn a_computed_column_refuses_what_does_not_fit() {
    let added = |expr: &str, value: i64| {
        let batch = RecordBatch::try_new(
            Arc::new(Schema::new(vec![Field::new("added", DataType::Int64, true)])),
            vec![Arc::new(Int64Array::from(vec![value]))],
        );
        let batch = batch.unwrap();
        let compiled = SqlCompiler::new().scalar(&batch.schema(), expr).unwrap();
        compiled.evaluate(&batch).map(|array| format!("{array:?}"))
    };
    assert!(added("added * 2", 21).unwrap().contains("42"));
    let e = added("added * 2", i64::MAX).unwrap_err();
    assert!(e.to_string().contains("bigint out of range"), "{e}");
    let e = added("added::double precision / 0", 1).unwrap_err();
    assert!(e.to_string().contains("division by zero"), "{e}");
    assert!(added("to_char(added, 'FM999.0')", 7).unwrap().contains("7.0"));
}
