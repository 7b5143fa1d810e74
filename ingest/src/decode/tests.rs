//! Golden tables: one line per kind of record, good or bad.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use arrow::util::display::array_value_to_string;
use otus_engine::catalog::{Accept, ColumnDef, ColumnSource, EpochUnit, TableDef};
use otus_engine::position::TopicPartition;

use super::{Decoded, decoder};
use crate::record::Slice;
use crate::testing::{TestCompiler, column, path, table};

fn decode_slice(table: TableDef, slice: &Slice) -> Decoded {
    let table = Arc::new(table);
    let mut decoder = decoder(&table, &slice.tp, &TestCompiler).unwrap();
    for record in slice.iter() {
        decoder.decode(&record, 7);
    }
    let decoded = decoder.flush().unwrap();
    assert_eq!(decoded.batch.schema(), table.arrow_schema());
    assert_eq!(decoded.counts.read(), slice.len() as u64);
    assert_eq!(decoded.counts.kept, decoded.batch.num_rows() as u64);
    assert_eq!(decoded.counts.rejected, decoded.rejected.num_rows() as u64);
    decoded
}

fn decode(table: TableDef, values: &[&str]) -> Decoded {
    let mut slice = Slice::new(TopicPartition::new("events", 0), 0);
    for (offset, value) in (0..).zip(values) {
        slice.push(offset, Some(1_442_016_000_000_000), None, Some(value.as_bytes()));
    }
    decode_slice(table, &slice)
}

/// The one row's column as text, or the reason of its rejection with its detail.
fn outcome(decoded: &Decoded, column: &str) -> String {
    if decoded.rejected.num_rows() == 1 {
        let cell = |name: &str| {
            let cells = decoded.rejected.column_by_name(name).unwrap().as_string_view();
            cells.is_valid(0).then(|| cells.value(0))
        };
        let detail = cell("detail").map_or(String::new(), |detail| format!(" ({detail})"));
        return format!("! {}{detail}", cell("reason").unwrap());
    }
    let values = decoded.batch.column_by_name(column).unwrap();
    if values.is_null(0) { "null".into() } else { array_value_to_string(values, 0).unwrap() }
}

fn check(column: ColumnDef, json: &str, expected: &str) {
    let name = column.name.clone();
    let text = format!(r#"{{"time":"2015-09-12T00:00:00Z","x":{json}}}"#);
    let kind = column.column_type.to_string();
    let decoded = decode(table(vec![column]), &[&text]);
    assert_eq!(outcome(&decoded, &name), expected, "{kind} from {json}");
}

/// Column type, JSON, and what is stored (`! reason` for a rejected record).
const VALUES: &[(&str, &str, &str)] = &[
    ("boolean", "true", "true"),
    ("boolean", "\"true\"", "! column \"x\": boolean expected, got a string (\"true\")"),
    ("smallint", "-32768", "-32768"),
    ("smallint", "32768", "! column \"x\": value out of range for smallint (32768)"),
    ("integer", "2147483647", "2147483647"),
    ("integer", "1.5", "! column \"x\": a whole number expected for integer (1.5)"),
    ("integer", "2e3", "2000"),
    ("bigint", "9007199254740993", "9007199254740993"),
    ("bigint", "\"9223372036854775807\"", "9223372036854775807"),
    (
        "bigint",
        "9223372036854775808",
        "! column \"x\": value out of range for bigint (9223372036854775808)",
    ),
    ("bigint", "\"12x\"", "! column \"x\": bigint expected, got a string (\"12x\")"),
    ("bigint", "true", "! column \"x\": bigint expected, got a boolean (true)"),
    ("bigint", "[1]", "! column \"x\": bigint expected, got an array"),
    ("bigint", "null", "null"),
    ("real", "0.1", "0.1"),
    ("real", "1e39", "! column \"x\": value out of range for real (1e39)"),
    ("double precision", "0.1", "0.1"),
    ("double precision", "-0.0", "-0.0"),
    (
        "double precision",
        "1e999",
        "! column \"x\": value out of range for double precision (1e999)",
    ),
    ("double precision", "\"2.5\"", "2.5"),
    (
        "double precision",
        "\"NaN\"",
        "! column \"x\": double precision expected, got a string (\"NaN\")",
    ),
    ("numeric(6,2)", "1234.565", "1234.57"),
    ("numeric(6,2)", "12345", "! column \"x\": value out of range for numeric(6,2) (12345)"),
    (
        "numeric(38,0)",
        "12345678901234567890123456789012345678",
        "12345678901234567890123456789012345678",
    ),
    ("text", "\"a\\u00e9\\n\"", "aé\n"),
    ("text", "12.50", "12.50"),
    ("text", "false", "false"),
    ("text", "{}", "! column \"x\": text expected, got an object"),
    ("text", "\"a\\u0000b\"", "! column \"x\": text cannot hold the character U+0000"),
    ("uuid", "\"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11\"", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("uuid", "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("uuid", "\"x\"", "! column \"x\": uuid expected, got a string (\"x\")"),
    ("date", "\"2015-09-12\"", "2015-09-12"),
    ("date", "\"2015-02-30\"", "! column \"x\": date expected, got a string (\"2015-02-30\")"),
    ("timestamp", "\"2015-09-12T02:00:00+02:00\"", "2015-09-12T00:00:00"),
    ("timestamptz", "\"2015-09-12T02:00:00+02:00\"", "2015-09-12T00:00:00Z"),
    (
        "timestamptz",
        "1442016000",
        "! column \"x\": timestamptz expected, got a number but no epoch unit is declared (1442016000)",
    ),
    ("bytea", "\"\\\\x00ff\"", "00ff"),
    ("bytea", "\"AP8=\"", "00ff"),
    ("bytea", "\"AP8\"", "00ff"),
    ("bytea", "\"_-8\"", "ffef"),
    ("bytea", "\"***\"", "! column \"x\": bytea expected, got a string (\"***\")"),
    ("jsonb", "{ \"b\" : 1, \"a\":[ true ], \"b\": 2.50 }", "{\"b\":2.50,\"a\":[true]}"),
    ("jsonb", "\"s\"", "\"s\""),
    ("jsonb", "\"\\u0000\"", "! column \"x\": jsonb cannot hold the character U+0000 (at byte 36)"),
    ("text[]", "[\"a\",null,\"\\n\"]", "[a, , \n]"),
    ("bigint[]", "[1,\"2\"]", "[1, 2]"),
    ("bigint[]", "[]", "[]"),
    ("bigint[]", "[1,\"b\"]", "! column \"x\": bigint expected, got a string (\"b\")"),
    ("bigint[]", "5", "! column \"x\": bigint[] expected, got a number (5)"),
];

#[test]
fn every_type_takes_its_values() {
    for (kind, json, expected) in VALUES {
        check(path("x", kind), json, expected);
    }
}

#[test]
fn epoch_times_take_numbers_in_their_unit() {
    for (unit, json, expected) in [
        (EpochUnit::Seconds, "1442016000.5", "2015-09-12T00:00:00.500Z"),
        (EpochUnit::Millis, "\"1442016000001\"", "2015-09-12T00:00:00.001Z"),
        (EpochUnit::Millis, "\"2015-09-12\"", "2015-09-12T00:00:00Z"),
        (EpochUnit::Nanos, "1442016000000000999", "2015-09-12T00:00:00Z"),
        (EpochUnit::Seconds, "1e30", "! column \"x\": value out of range for timestamptz (1e30)"),
    ] {
        check(ColumnDef { epoch: Some(unit), ..path("x", "timestamptz") }, json, expected);
    }
}

#[test]
fn bad_records_are_rejected_with_their_reason() {
    let deep = "[".repeat(100_000);
    let nested = format!(r#"{{"time":"2015-09-12","y":{deep}}}"#);
    let large = format!(r#"{{"time":"2015-09-12","y":"{}"}}"#, "x".repeat(1 << 20));
    for (json, expected) in [
        ("{nope}", "! bad JSON: key expected (at byte 1)"),
        (r#"{"time":"2015-09-12","x":1"#, "! bad JSON: unexpected end (at byte 26)"),
        (r#"{"time":"2015-09-12"#, "! bad JSON: unexpected end (at byte 19)"),
        ("", "! empty value"),
        (" \n", "! empty value"),
        ("[1]", "! a JSON object expected, got an array"),
        ("{} x", "! bad JSON: trailing bytes (at byte 3)"),
        ("{}", "! event time \"time\" is missing"),
        (r#"{"time":null}"#, "! event time \"time\" is missing"),
        (
            r#"{"time":"yesterday"}"#,
            "! column \"time\": timestamptz expected, got a string (\"yesterday\")",
        ),
        (
            r#"{"time":"1969-12-31T23:59:59Z"}"#,
            "! event time \"time\" is outside 1970 to 2200 (1969-12-31T23:59:59Z)",
        ),
        (
            r#"{"time":"2200-01-01"}"#,
            "! event time \"time\" is outside 1970 to 2200 (2200-01-01T00:00:00Z)",
        ),
        (
            r#"{"time":"2015-09-12","x":"a"}"#,
            "! column \"x\": bigint expected, got a string (\"a\")",
        ),
        (r#"{"time":"2015-09-12","y":"\ud800"}"#, "! bad JSON: lone surrogate (at byte 26)"),
        (&deep, "! bad JSON: nested too deeply (at byte 128)"),
        (&nested, "! bad JSON: nested too deeply (at byte 152)"),
        (
            &large,
            "! the record is larger than the table's limit (1048604 bytes, the limit is 1048576)",
        ),
        (r#"{"time":"2015-09-12","x":1,"x":2}"#, "2"),
        (r#"{"time":"2015-09-12","x":"a","x":2}"#, "2"),
        (r#"{"time":"2015-09-12","\u0078":3}"#, "3"),
    ] {
        let decoded = decode(table(vec![path("x", "bigint")]), &[json]);
        assert_eq!(outcome(&decoded, "x"), expected, "{}", json.get(..60).unwrap_or(json));
    }
}

#[test]
fn a_rejected_row_leaves_its_neighbours_alone() {
    let good = r#"{"time":"2015-09-12","x":1,"s":"long enough for a buffer"}"#;
    let late = r#"{"time":"2015-09-12","x":2,"s":{}}"#;
    let decoded = decode(table(vec![path("x", "bigint"), path("s", "text")]), &[good, late, good]);
    assert_eq!((decoded.counts.kept, decoded.counts.rejected), (2, 1));
    let offsets = decoded.batch.column_by_name("_offset").unwrap().as_primitive::<Int64Type>();
    assert_eq!(offsets.values(), &[0, 2]);
    let offset = decoded.rejected.column_by_name("offset").unwrap().as_primitive::<Int64Type>();
    assert_eq!(offset.value(0), 1);
    let payload = decoded.rejected.column_by_name("payload").unwrap().as_binary_view();
    assert_eq!(payload.value(0), late.as_bytes());
    let reason = decoded.first_reason.as_deref();
    assert_eq!(reason, Some("column \"s\": text expected, got an object"));
}

#[test]
fn null_payloads_are_filtered_and_bytes_must_be_text() {
    let mut slice = Slice::new(TopicPartition::new("events", 0), 0);
    slice.push(0, None, Some(b"k"), None);
    slice.push(1, None, None, Some(b"{\"time\":\"2015-09-12\",\"y\":\"\xff\"}"));
    let decoded = decode_slice(table(vec![]), &slice);
    assert_eq!((decoded.counts.filtered, decoded.counts.rejected), (1, 1));
    assert_eq!(outcome(&decoded, "x"), "! bad JSON: not UTF-8 (at byte 26)");
}

#[test]
fn nested_paths_rest_and_defaults() {
    let columns = || {
        vec![
            path("geo.city", "text"),
            path("geo.at.lat", "double precision"),
            ColumnDef { default: Some(serde_json::json!("none")), ..path("tag", "text") },
            column("rest", "jsonb", ColumnSource::Rest),
        ]
    };
    let json = r#"{"z":1,"geo":{"city":"Ulm","zip":"8","at":{"lat":4.5}},"time":"2015-09-12","y":{"a": []}}"#;
    let decoded = decode(table(columns()), &[json]);
    for (column, expected) in [
        ("geo_city", "Ulm"),
        ("geo_at_lat", "4.5"),
        ("tag", "none"),
        ("rest", r#"{"z":1,"geo":{"zip":"8"},"y":{"a":[]}}"#),
    ] {
        assert_eq!(outcome(&decoded, column), expected);
    }
    // The last of two equal keys wins with all that is below it.
    let json = r#"{"time":"2015-09-12","geo":{"city":"Ulm"},"geo":{"at":{"lat":1}}}"#;
    assert_eq!(outcome(&decode(table(columns()), &[json]), "geo_city"), "null");
    let json = r#"{"time":"2015-09-12","geo":{"city":"Ulm"},"geo":7}"#;
    assert_eq!(outcome(&decode(table(columns()), &[json]), "geo_city"), "null");
}

#[test]
fn undeclared_and_retyped_fields_are_noted() {
    let rows = [
        r#"{"time":"2015-09-12","x":1,"new":{"a":1}}"#,
        r#"{"time":"2015-09-12","x":"2","new":null}"#,
        r#"{"new":[],"x":"3","time":"2015-09-12"}"#,
    ];
    let decoded = decode(table(vec![path("x", "bigint")]), &rows);
    let mut seen: Vec<_> = decoded
        .fields
        .iter()
        .map(|f| (f.path.as_str(), f.json_type.as_str(), f.count, f.first.1))
        .collect();
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            ("new", "array", 1, 2),
            ("new", "null", 1, 1),
            ("new", "object", 1, 0),
            ("x", "string", 2, 1)
        ]
    );
}

#[test]
fn columns_from_outside_the_value() {
    let columns = vec![
        column("at", "timestamptz", ColumnSource::RecordTimestamp),
        column("id", "bigint", ColumnSource::RecordKey),
        column("trace", "text", ColumnSource::RecordHeader("trace".into())),
        column("tags", "text[]", ColumnSource::RecordHeader("tags".into())),
    ];
    let mut slice = Slice::new(TopicPartition::new("events", 0), 0);
    slice.push(0, Some(1), Some(b"42"), Some(b"{\"time\":\"2015-09-12\"}"));
    slice.push_header(b"trace", Some(b"old"));
    slice.push_header(b"trace", Some("nöw".as_bytes()));
    slice.push_header(b"tags", Some(b"[\"a\"]"));
    let decoded = decode_slice(table(columns.clone()), &slice);
    for (column, expected) in
        [("at", "1970-01-01T00:00:00.000001Z"), ("id", "42"), ("trace", "nöw"), ("tags", "[a]")]
    {
        assert_eq!(outcome(&decoded, column), expected);
    }
    let mut slice = Slice::new(TopicPartition::new("events", 0), 0);
    slice.push(0, None, Some(b"x"), Some(b"{\"time\":\"2015-09-12\"}"));
    let decoded = decode_slice(table(columns), &slice);
    assert_eq!(outcome(&decoded, "id"), "! column \"id\": bigint expected, got a string (\"x\")");
}

#[test]
fn the_accept_window_is_around_the_record() {
    for (time, expected) in [
        ("2015-09-11T23:00:00Z", "2015-09-11T23:00:00Z"),
        (
            "2015-09-11T22:59:59Z",
            "! event time \"time\" is too late (2015-09-11T22:59:59Z in a record of 2015-09-12T00:00:00Z)",
        ),
        (
            "2015-09-12T00:00:01Z",
            "! event time \"time\" is too early (2015-09-12T00:00:01Z in a record of 2015-09-12T00:00:00Z)",
        ),
    ] {
        let mut table = table(vec![]);
        table.accept = Accept { late_us: Some(3_600_000_000), early_us: Some(0) };
        let decoded = decode(table, &[&format!(r#"{{"time":"{time}"}}"#)]);
        assert_eq!(outcome(&decoded, "time"), expected);
    }
}

#[test]
fn computed_columns_and_filter_reject_and_drop_single_rows() {
    let row = |x: i64| format!(r#"{{"time":"2015-09-12","x":{x}}}"#);
    let rows: Vec<String> = (-5..200).map(row).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let mut table = table(vec![
        column("twice", "integer", ColumnSource::Computed("double x".into())),
        path("x", "bigint"),
    ]);
    table.filter = Some("positive x".into());
    let decoded = decode(table.clone(), &rows);
    assert_eq!(
        (decoded.counts.kept, decoded.counts.filtered, decoded.counts.rejected),
        (100, 6, 99)
    );
    assert_eq!(
        decoded.first_reason.as_deref(),
        Some("column \"twice\": the expression failed (101 is more than 100)")
    );
    let twice = decoded.batch.column_by_name("twice").unwrap();
    assert_eq!(array_value_to_string(twice, 99).unwrap(), "200");
    table.filter = Some("double x".into());
    assert!(decoder(&Arc::new(table), &TopicPartition::new("t", 0), &TestCompiler).is_err());
}

#[test]
fn definitions_that_cannot_work_are_refused() {
    let try_table = |table: TableDef| {
        let tp = TopicPartition::new("t", 0);
        decoder(&Arc::new(table), &tp, &TestCompiler).map(drop).map_err(|e| e.to_string())
    };
    let bad_default = ColumnDef { default: Some(serde_json::json!("x")), ..path("n", "bigint") };
    assert_eq!(
        try_table(table(vec![bad_default])),
        Err("default of column \"n\" does not fit: bigint expected, got a string (\"x\")".into())
    );
    let mut other = table(vec![]);
    other.format = "csv".into();
    assert_eq!(
        try_table(other),
        Err("table \"public.events\" has the unknown format \"csv\"".into())
    );
    let mut other = table(vec![path("x", "bigint")]);
    other.time = "x".into();
    assert!(try_table(other).is_err());
}

#[test]
fn records_of_a_kind_share_their_reason() {
    let rows = [
        r#"{"time":"2015-09-12","x":"a"}"#,
        r#"{"x":"another","time":"2015-09-12"}"#,
        r#"{"time":"2015-09-12"#,
        r#"{"time":"2015-09-12","x"#,
        r#"{"time":"2015-09-12","x":9223372036854775808}"#,
        r#"{"time":"2015-09-12","x":-9223372036854775809}"#,
        r#"{"time":"2500-01-01"}"#,
        r#"{"time":"1500-01-01"}"#,
    ];
    let decoded = decode(table(vec![path("x", "bigint")]), &rows);
    let reasons = decoded.rejected.column_by_name("reason").unwrap().as_string_view();
    let details = decoded.rejected.column_by_name("detail").unwrap().as_string_view();
    for pair in (0..rows.len()).step_by(2) {
        assert_eq!(reasons.value(pair), reasons.value(pair + 1));
        assert_ne!(details.value(pair), details.value(pair + 1));
    }
    let distinct: std::collections::BTreeSet<_> = reasons.iter().flatten().collect();
    assert_eq!(distinct.len(), 4, "{distinct:?}");
}
