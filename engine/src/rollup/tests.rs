//! I2 over random tables: states of any split of the rows, at any granularity, merge to what the rows give.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};

use super::{RollupPlan, compare, rollup_schema};
use crate::catalog::{DimensionDef, RollupDef};
use crate::expr::AggregateFunction::{self, *};
use crate::expr::{AggregateCall, CompiledMeasure, CompiledMeasures};
use crate::order::sort_indices;
use crate::state::samples::{Rng, SampleCompiler, call, column, column_types, utc};
use crate::time::Granularity;

fn raw_schema() -> SchemaRef {
    let mut fields = vec![Field::new("time", utc(), false)];
    for (index, data_type) in column_types().into_iter().enumerate() {
        fields.push(Field::new(format!("c{index}"), data_type, true));
    }
    Arc::new(Schema::new(fields))
}

fn raw(rng: &mut Rng, rows: usize) -> RecordBatch {
    let schema = raw_schema();
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|f| column(rng, f.data_type(), rows, if f.is_nullable() { 15 } else { 0 }))
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Every function over every column that it takes; some with a filter on the boolean column.
fn all_calls(schema: &SchemaRef) -> Vec<AggregateCall> {
    let functions: [AggregateFunction; 12] = [
        Count,
        Sum,
        Min,
        Max,
        VarSamp,
        StddevPop,
        First,
        Last,
        ApproxDistinct,
        ApproxQuantile { p: 0.5 },
        ApproxSet,
        TopK { k: 5 },
    ];
    let mut calls = vec![call(schema, "p0", CountAll, &[], None)];
    for field in schema.fields() {
        for function in functions {
            let name = field.name().as_str();
            let args = match function {
                First | Last => vec![name, "time"],
                _ => vec![name],
            };
            let types = [field.data_type().clone(), utc()];
            if function.output_type(&types).is_ok() {
                let filter = (calls.len() % 3 == 0).then_some("c0");
                calls.push(call(schema, &format!("p{}", calls.len()), function, &args, filter));
            }
        }
    }
    calls
}

fn measures(calls: Vec<AggregateCall>) -> CompiledMeasures {
    let measures = calls
        .iter()
        .enumerate()
        .map(|(index, _)| CompiledMeasure {
            name: format!("m{index}"),
            data_type: DataType::Int64,
            finish_sql: format!("__call{index}"),
            calls: vec![index],
            additive: false,
            approximate: false,
        })
        .collect();
    CompiledMeasures { calls, measures }
}

fn def(dimensions: &[&str], measures: &[&str]) -> RollupDef {
    RollupDef {
        name: "r".into(),
        granularities: vec![Granularity::Minute, Granularity::Hour],
        dimensions: dimensions.iter().map(|name| (*name).into()).collect(),
        filter: None,
        measures: measures.iter().map(ToString::to_string).collect(),
    }
}

fn assert_sorted(batch: &RecordBatch, keys: usize) {
    assert!(sort_indices(&batch.columns()[..keys]).unwrap().is_none());
}

#[test]
fn any_split_merges_to_the_whole() {
    let mut rng = Rng(21);
    let schema = raw_schema();
    let measures = measures(all_calls(&schema));
    let dimension_lists: [&[&str]; 5] = [
        &[],
        &["c8"],
        &["c0", "c8"],
        &["c1", "c2", "c3", "c6", "c9", "c10", "c11"],
        &["c12", "c8"],
    ];
    for dimensions in dimension_lists {
        let plan =
            RollupPlan::new(&schema, "time", &def(dimensions, &[]), &measures, &SampleCompiler)
                .unwrap();
        let parts: Vec<RecordBatch> =
            (0..6).map(|i| raw(&mut rng, [0, 1, 40, 200, 7, 333][i])).collect();
        let g = Granularity::Minute;
        let states: Vec<RecordBatch> =
            parts.iter().map(|p| plan.from_raw(g, std::slice::from_ref(p)).unwrap()).collect();
        for state in &states {
            assert_eq!(state.schema(), *plan.schema());
            assert_sorted(state, 1 + dimensions.len());
        }
        for coarse in [g, Granularity::Hour, Granularity::Day, Granularity::Month] {
            let mut whole = plan.start(coarse).unwrap();
            for part in &parts {
                whole.push_raw(part).unwrap();
            }
            assert!(whole.size() > 0);
            // Merged twice over: states of states.
            let half = plan.merge(g, &states[..3]).unwrap();
            let merged = plan.merge(coarse, &[&[half], &states[3..]].concat()).unwrap();
            assert_sorted(&merged, 1 + dimensions.len());
            assert_eq!(merged.num_rows(), whole.len());
            let mut again = plan.start(coarse).unwrap();
            again.push_states(&merged).unwrap();
            assert_eq!(compare(whole, again).unwrap(), [], "{dimensions:?} by {coarse}");
        }
    }
}

#[test]
fn states_of_all_rows_are_those_of_their_batches() {
    // Exact states are equal to the bit, whichever way they came about.
    let mut rng = Rng(22);
    let schema = raw_schema();
    let exact: Vec<AggregateCall> = all_calls(&schema)
        .into_iter()
        .filter(|c| matches!(c.function, CountAll | Count | Min | Max | First | Last))
        .collect();
    let plan =
        RollupPlan::new(&schema, "time", &def(&["c8"], &[]), &measures(exact), &SampleCompiler)
            .unwrap();
    let parts = [raw(&mut rng, 500), raw(&mut rng, 300)];
    let whole = concat_batches(&schema, &parts).unwrap();
    let g = Granularity::FifteenMinute;
    let states: Vec<RecordBatch> =
        parts.iter().map(|p| plan.from_raw(g, std::slice::from_ref(p)).unwrap()).collect();
    let merged = plan.merge(g, &states).unwrap();
    let from_all = plan.from_raw(g, &[whole]).unwrap();
    assert_eq!(plan.from_raw(g, &parts).unwrap().num_rows(), from_all.num_rows());
    for (a, b) in merged.columns().iter().zip(from_all.columns()) {
        let floats = a.data_type().is_floating();
        assert!(floats || a.to_data() == b.to_data());
    }
    let buckets = merged.column(0).as_primitive::<TimestampMicrosecondType>();
    assert!(buckets.values().iter().all(|b| g.floor_us(*b) == *b));
}

#[test]
fn the_schema_names_states_and_picks_calls() {
    let schema = raw_schema();
    let calls = vec![
        call(&schema, "edits", CountAll, &[], None),
        call(&schema, "added", Sum, &["c2"], None),
        call(&schema, "price", Sum, &["c6"], None),
        call(&schema, "spread", StddevSamp, &["c5"], None),
        call(&schema, "last", Last, &["c8", "time"], None),
        call(&schema, "editors", ApproxDistinct, &["c8"], None),
    ];
    let measures = measures(calls);
    let text = |s: &SchemaRef| -> Vec<String> {
        s.fields()
            .iter()
            .map(|f| {
                format!("{} {}{}", f.name(), f.data_type(), if f.is_nullable() { "?" } else { "" })
            })
            .collect()
    };
    let all =
        rollup_schema(&schema, "time", &def(&["c8"], &[]), &measures, &SampleCompiler).unwrap();
    assert_eq!(
        text(&all),
        [
            "bucket Timestamp(µs, \"UTC\")",
            "c8 Utf8View?",
            "edits__count Int64",
            "added__sum Decimal128(38, 0)?",
            "price__sum Decimal128(38, 2)?",
            "spread__n Int64",
            "spread__mean Float64",
            "spread__m2 Float64",
            "last__value Utf8View?",
            "last__time Timestamp(µs, \"UTC\")?",
            "editors__hll BinaryView?",
        ]
    );
    let plan =
        RollupPlan::new(&schema, "time", &def(&["c8"], &["m4", "m1"]), &measures, &SampleCompiler)
            .unwrap();
    assert_eq!(plan.calls(), [1, 4]);
    assert_eq!(plan.state_columns(1), 2..3);
    assert_eq!(plan.state_columns(4), 3..5);
    assert_eq!(plan.state_columns(0), 0..0);
    assert_eq!(plan.sort_keys(), ["bucket", "c8"]);
}

#[test]
fn wrong_definitions_say_what_is_wrong() {
    let schema = raw_schema();
    let measures = measures(vec![call(&schema, "n", CountAll, &[], None)]);
    let fails = |time: &str, def: RollupDef| {
        RollupPlan::new(&schema, time, &def, &measures, &SampleCompiler).unwrap_err().to_string()
    };
    assert_eq!(fails("c3", def(&[], &[])), "no event-time column \"c3\" of a timestamp type");
    assert_eq!(fails("time", def(&["x"], &[])), "rollup \"r\": dimension \"x\" is no column");
    assert_eq!(
        fails("time", def(&["c5"], &[])),
        "rollup \"r\": column \"c5\" of type Float64 cannot be a dimension"
    );
    assert_eq!(fails("time", def(&[], &["x"])), "rollup \"r\": no measure \"x\"");
    assert_eq!(
        fails("time", def(&["c1", "c1"], &[])),
        "rollup \"r\" would have two columns \"c1\""
    );
}

#[test]
fn a_filter_keeps_rows_out_and_an_expression_is_a_key() {
    let mut rng = Rng(24);
    let schema = raw_schema();
    let measures = measures(all_calls(&schema));
    let computed = DimensionDef::computed("unpriced", "no c6");
    let filtered = RollupDef {
        dimensions: vec![computed, "c8".into()],
        filter: Some("c0".into()),
        ..def(&[], &[])
    };
    let plan = RollupPlan::new(&schema, "time", &filtered, &measures, &SampleCompiler).unwrap();
    assert_eq!(plan.sort_keys(), ["bucket", "unpriced", "c8"]);
    assert!(plan.raw_columns().iter().any(|name| name == "c6"));
    let parts = [raw(&mut rng, 400), raw(&mut rng, 90)];
    // The same rows, filtered by hand, under a plan without a filter.
    let plain = RollupDef { filter: None, ..filtered.clone() };
    let plain = RollupPlan::new(&schema, "time", &plain, &measures, &SampleCompiler).unwrap();
    let (mut kept, mut states) = (plain.start(Granularity::Hour).unwrap(), Vec::new());
    for part in &parts {
        states.push(plan.from_raw(Granularity::Minute, std::slice::from_ref(part)).unwrap());
        let wanted = part.column_by_name("c0").unwrap().as_boolean();
        assert!(wanted.null_count() > 0 && wanted.true_count() < part.num_rows());
        kept.push_raw(&arrow::compute::filter_record_batch(part, wanted).unwrap()).unwrap();
    }
    let mut merged = plan.start(Granularity::Hour).unwrap();
    states.iter().for_each(|state| merged.push_states(state).unwrap());
    assert_eq!(compare(kept, merged).unwrap(), []);
    let none = parts[0].slice(0, 0);
    assert_eq!(plan.from_raw(Granularity::Hour, &[none]).unwrap().num_rows(), 0);
}

#[test]
fn wrong_expressions_name_the_rollup() {
    let schema = raw_schema();
    let measures = measures(vec![call(&schema, "n", CountAll, &[], None)]);
    let fails = |def: RollupDef| {
        let e = RollupPlan::new(&schema, "time", &def, &measures, &SampleCompiler).unwrap_err();
        format!("{} | {}", e.message(), e.hint().unwrap_or_default())
    };
    let computed = |name: &str, sql: &str| RollupDef {
        dimensions: vec![DimensionDef::computed(name, sql)],
        ..def(&[], &[])
    };
    let filtered = |sql: &str| RollupDef { filter: Some(sql.into()), ..def(&[], &[]) };
    assert_eq!(
        fails(filtered("nothing")),
        "rollup \"r\": its filter: \"nothing\" is no expression | try no c1"
    );
    assert!(fails(filtered("c3")).starts_with("rollup \"r\": its filter \"c3\" gives Int64, not"));
    assert!(fails(computed("x", "c5")).contains("dimension \"x\" gives Float64, which cannot"));
    assert!(fails(computed("c1", "no c2")).contains("is called as a column of the table is"));
    assert!(fails(computed("bucket", "no c2")).contains("is called as the bucket is"));
    assert!(fails(computed("n__count", "no c2")).contains("two columns"));
}

#[test]
fn the_log_keeps_a_plain_dimension_as_its_name() {
    let mut plain = def(&["c8"], &[]);
    plain.granularities = vec![Granularity::Hour];
    let text = r#"{"name":"r","granularities":["hour"],"dimensions":["c8"],"measures":[]}"#;
    assert_eq!(serde_json::to_string(&plain).unwrap(), text);
    assert_eq!(serde_json::from_str::<RollupDef>(text).unwrap(), plain);
    let computed = RollupDef {
        dimensions: vec!["c8".into(), DimensionDef::computed("host", "f(c8)")],
        filter: Some("c0".into()),
        ..plain
    };
    let text = serde_json::to_string(&computed).unwrap();
    assert!(text.contains(r#""dimensions":["c8",{"name":"host","sql":"f(c8)"}],"filter":"c0""#));
    assert_eq!(serde_json::from_str::<RollupDef>(&text).unwrap(), computed);
}

#[test]
fn comparing_finds_what_differs() {
    let mut rng = Rng(23);
    let schema = raw_schema();
    let measures = measures(all_calls(&schema));
    let plan =
        RollupPlan::new(&schema, "time", &def(&["c8"], &[]), &measures, &SampleCompiler).unwrap();
    let rows = raw(&mut rng, 200);
    let g = Granularity::Hour;
    let fed = |batch: &RecordBatch| {
        let mut aggregation = plan.start(g).unwrap();
        aggregation.push_raw(batch).unwrap();
        aggregation
    };
    assert_eq!(compare(fed(&rows), fed(&rows)).unwrap(), []);
    let fewer = compare(fed(&rows), fed(&rows.slice(0, 199))).unwrap();
    assert!(!fewer.is_empty());
    assert!(
        compare(fed(&rows), plan.start(g).unwrap())
            .unwrap()
            .iter()
            .all(|d| d.what == "key" && d.rollup.is_none())
    );
    assert!(compare(plan.start(g).unwrap(), fed(&rows)).unwrap().iter().all(|d| d.raw.is_none()));
}
