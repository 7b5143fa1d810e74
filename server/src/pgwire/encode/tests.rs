//! Values of every column type against the bytes that PostgreSQL 15 sends for them.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{Int32Type, UInt64Type};
use otus_engine::types::ColumnType;

use super::*;

fn written(field: &Field, array: &ArrayRef, row: usize, format: Format) -> Vec<u8> {
    let mut out = BytesMut::new();
    Encoder::new(field, array).unwrap().put(row, format, &Zone::new("UTC"), &mut out).unwrap();
    let length = i32::from_be_bytes(out[..4].try_into().unwrap());
    assert_eq!(usize::try_from(length).unwrap(), out.len() - 4);
    out[4..].to_vec()
}

#[track_caller]
fn check(type_name: &str, array: ArrayRef, text: &str, binary: &[u8]) {
    let field = type_name.parse::<ColumnType>().unwrap().field("c", true);
    assert_eq!(field.data_type(), array.data_type(), "{type_name}");
    let shown = written(&field, &array, 0, Format::Text);
    assert_eq!(String::from_utf8(shown).unwrap(), text, "{type_name}");
    assert_eq!(written(&field, &array, 0, Format::Binary), binary, "{type_name}");
    let nulls = new_null_array(field.data_type(), 1);
    let mut out = BytesMut::new();
    let encoder = Encoder::new(&field, &nulls).unwrap();
    encoder.put(0, Format::Binary, &Zone::new("UTC"), &mut out).unwrap();
    assert_eq!(&out[..], [0xff; 4], "null {type_name}");
}

#[test]
fn scalars() {
    check("boolean", Arc::new(BooleanArray::from(vec![true])), "t", &[1]);
    check("smallint", Arc::new(Int16Array::from(vec![-2])), "-2", &[0xff, 0xfe]);
    check("integer", Arc::new(Int32Array::from(vec![258])), "258", &[0, 0, 1, 2]);
    check("bigint", Arc::new(Int64Array::from(vec![-1])), "-1", &[0xff; 8]);
    check("real", Arc::new(Float32Array::from(vec![1.5])), "1.5", &[0x3f, 0xc0, 0, 0]);
    check(
        "double precision",
        Arc::new(Float64Array::from(vec![-0.1])),
        "-0.1",
        &[0xbf, 0xb9, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a],
    );
    let numeric = Decimal128Array::from(vec![-12_345]).with_precision_and_scale(12, 2).unwrap();
    check(
        "numeric(12,2)",
        Arc::new(numeric),
        "-123.45",
        &[0, 2, 0, 0, 0x40, 0, 0, 2, 0, 123, 0x11, 0x94],
    );
    check("text", Arc::new(StringViewArray::from(vec!["o\u{e9}"])), "o\u{e9}", b"o\xc3\xa9");
    check("bytea", Arc::new(BinaryViewArray::from(vec![&b"\x00\xab"[..]])), "\\x00ab", b"\x00\xab");
    let uuid = "0190d7b2-0000-7000-8000-0000000000ff";
    check(
        "uuid",
        Arc::new(StringViewArray::from(vec![uuid])),
        uuid,
        &[0x01, 0x90, 0xd7, 0xb2, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0xff],
    );
    check(
        "jsonb",
        Arc::new(StringViewArray::from(vec![r#"{"a":1}"#])),
        r#"{"a": 1}"#,
        b"\x01{\"a\": 1}",
    );
}

#[test]
fn times() {
    check("date", Arc::new(Date32Array::from(vec![16_690])), "2015-09-12", &[0, 0, 0x16, 0x65]);
    let us = 1_442_065_678_771_000;
    check(
        "timestamp",
        Arc::new(TimestampMicrosecondArray::from(vec![us])),
        "2015-09-12 13:47:58.771",
        &[0, 1, 0xc2, 0x8b, 0xd9, 0x4e, 0xc3, 0x38],
    );
    check(
        "timestamptz",
        Arc::new(TimestampMicrosecondArray::from(vec![us]).with_timezone("UTC")),
        "2015-09-12 13:47:58.771+00",
        &[0, 1, 0xc2, 0x8b, 0xd9, 0x4e, 0xc3, 0x38],
    );
}

#[test]
fn a_session_sees_instants_in_its_zone() {
    let field = ColumnType::Timestamptz.field("c", true);
    let array: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![1_442_065_678_771_000]).with_timezone("UTC"));
    let mut out = BytesMut::new();
    let zone = Zone::new("America/New_York");
    Encoder::new(&field, &array).unwrap().put_text(0, &zone, &mut out).unwrap();
    assert_eq!(&out[..], b"2015-09-12 09:47:58.771-04");
}

#[test]
fn arrays() {
    let mut builder = ListBuilder::new(StringViewBuilder::new());
    for item in [Some("a"), None, Some("b c"), Some(""), Some("null"), Some("q\"\\")] {
        builder.values().append_option(item);
    }
    builder.append(true);
    check(
        "text[]",
        Arc::new(builder.finish()),
        r#"{a,NULL,"b c","","null","q\"\\"}"#,
        b"\0\0\0\x01\0\0\0\x01\0\0\0\x19\0\0\0\x06\0\0\0\x01\0\0\0\x01a\xff\xff\xff\xff\0\0\0\x03b c\
          \0\0\0\0\0\0\0\x04null\0\0\0\x03q\"\\",
    );
    let ints = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), Some(2)]),
        Some(vec![]),
    ]);
    check(
        "integer[]",
        Arc::new(ints.slice(0, 1)),
        "{1,2}",
        b"\0\0\0\x01\0\0\0\0\0\0\0\x17\0\0\0\x02\0\0\0\x01\0\0\0\x04\0\0\0\x01\0\0\0\x04\0\0\0\x02",
    );
    check("integer[]", Arc::new(ints.slice(1, 1)), "{}", b"\0\0\0\0\0\0\0\0\0\0\0\x17");
}

#[test]
fn types_of_the_engine_reach_a_postgres_type() {
    let show = |array: ArrayRef, row: usize| {
        let field = Field::new("c", array.data_type().clone(), true);
        String::from_utf8(written(&field, &array, row, Format::Text)).unwrap()
    };
    assert_eq!(show(Arc::new(UInt64Array::from(vec![3])), 0), "3");
    assert_eq!(show(Arc::new(Int8Array::from(vec![-3])), 0), "-3");
    assert_eq!(show(Arc::new(LargeStringArray::from(vec!["x"])), 0), "x");
    assert_eq!(show(Arc::new(TimestampSecondArray::from(vec![1])), 0), "1970-01-01 00:00:01");
    assert_eq!(show(Arc::new(DurationMillisecondArray::from(vec![1_500])), 0), "00:00:01.5");
    let long = DurationMillisecondArray::from(vec![90_000_000, -90_000_000]);
    assert_eq!(show(Arc::new(long.clone()), 0), "1 day 01:00:00");
    assert_eq!(show(Arc::new(long), 1), "-1 days -01:00:00");
    let dictionary: DictionaryArray<Int32Type> = vec!["a", "b", "a"].into_iter().collect();
    assert_eq!(show(Arc::new(dictionary), 1), "b");
    let widest = Decimal128Array::from(vec![10_i128.pow(38) - 1]).with_precision_and_scale(38, 0);
    assert_eq!(show(Arc::new(widest.unwrap()), 0), "9".repeat(38));
    let record = StructArray::from(vec![
        (
            Arc::new(Field::new("a", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![1])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("b", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec!["x y"])) as ArrayRef,
        ),
    ]);
    assert_eq!(show(Arc::new(record), 0), "(1,\"x y\")");
}

#[test]
fn a_value_out_of_range_is_an_error() {
    let array: ArrayRef = Arc::new(PrimitiveArray::<UInt64Type>::from(vec![u64::MAX]));
    let field = Field::new("n", DataType::UInt64, true);
    assert_eq!(Encoder::new(&field, &array).unwrap_err().sqlstate, "22003");
}
