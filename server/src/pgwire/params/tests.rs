//! Parameters as drivers send them, whole and damaged.

use arrow::array::Array;

use super::*;

fn text(pg: &Type, text: &str) -> Result<ScalarValue, WireError> {
    decode(pg, Format::Text, Some(text.as_bytes()), &Zone::new("Europe/Berlin"))
}

fn binary(pg: &Type, bytes: &[u8]) -> Result<ScalarValue, WireError> {
    decode(pg, Format::Binary, Some(bytes), &Zone::new("UTC"))
}

fn numeric(value: i128, scale: i8) -> ScalarValue {
    ScalarValue::Decimal128(Some(value), 38, scale)
}

#[test]
fn texts() {
    assert_eq!(text(&Type::BOOL, "yes").unwrap(), ScalarValue::Boolean(Some(true)));
    assert_eq!(text(&Type::INT4, " -7 ").unwrap(), ScalarValue::Int32(Some(-7)));
    assert_eq!(text(&Type::INT2, "40000").unwrap_err().sqlstate, "22003");
    assert_eq!(text(&Type::INT8, "x").unwrap_err().sqlstate, "22P02");
    assert_eq!(text(&Type::NUMERIC, "-1.50").unwrap(), numeric(-150, 2));
    assert_eq!(text(&Type::NUMERIC, "1.5e3").unwrap(), numeric(1_500, 0));
    assert_eq!(text(&Type::NUMERIC, "15e-3").unwrap(), numeric(15, 3));
    assert_eq!(text(&Type::NUMERIC, &"9".repeat(39)).unwrap_err().sqlstate, "22003");
    assert_eq!(text(&Type::NUMERIC, "1e999").unwrap_err().sqlstate, "22003");
    assert_eq!(text(&Type::NUMERIC, "").unwrap_err().sqlstate, "22P02");
    assert_eq!(text(&Type::BYTEA, "\\x00Ff").unwrap(), ScalarValue::BinaryView(Some(vec![0, 255])));
    assert_eq!(
        text(&Type::BYTEA, "a\\\\b\\001").unwrap(),
        ScalarValue::BinaryView(Some(b"a\\b\x01".to_vec()))
    );
    assert_eq!(text(&Type::BYTEA, "\\9").unwrap_err().sqlstate, "22P02");
    assert_eq!(text(&Type::DATE, "2015-09-12").unwrap(), ScalarValue::Date32(Some(16_690)));
    assert_eq!(text(&Type::DATE, "tomorrow").unwrap_err().sqlstate, "22007");
}

#[test]
fn instants() {
    let utc = |us| ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()));
    for (shown, us) in [
        ("2015-09-12 13:47:58.771Z", 1_442_065_678_771_000),
        ("2015-09-12 15:47:58.771", 1_442_065_678_771_000),
        ("2015-09-12 15:47:58.771+02", 1_442_065_678_771_000),
        ("2015-09-12", 1_442_008_800_000_000),
        // Once by the clock of summer, once by that of winter, which is meant.
        ("2026-10-25 02:30:00", 1_792_891_800_000_000),
    ] {
        assert_eq!(text(&Type::TIMESTAMPTZ, shown).unwrap(), utc(us), "{shown}");
    }
    assert_eq!(text(&Type::TIMESTAMPTZ, "never").unwrap_err().sqlstate, "22007");
    assert_eq!(
        text(&Type::TIMESTAMP, "1970-01-01 00:00:01").unwrap(),
        ScalarValue::TimestampMicrosecond(Some(1_000_000), None)
    );
    assert_eq!(binary(&Type::TIMESTAMPTZ, &[0; 8]).unwrap(), utc(946_684_800_000_000));
}

#[test]
fn binaries() {
    assert_eq!(binary(&Type::INT4, &[0, 0, 1, 0]).unwrap(), ScalarValue::Int32(Some(256)));
    assert_eq!(binary(&Type::INT4, &[0]).unwrap_err().sqlstate, "22P03");
    let sent = [0, 2, 0, 0, 0x40, 0, 0, 2, 0, 123, 0x11, 0x94];
    assert_eq!(binary(&Type::NUMERIC, &sent).unwrap(), numeric(-12_345, 2));
    assert_eq!(binary(&Type::NUMERIC, &[0, 0, 0, 0, 0, 0, 0, 2]).unwrap(), numeric(0, 2));
    let small = [0, 1, 0xff, 0xfe, 0, 0, 0, 5, 0x13, 0x88];
    assert_eq!(binary(&Type::NUMERIC, &small).unwrap(), numeric(5, 5));
    let large = [0, 1, 0, 1, 0, 0, 0, 0, 0, 1];
    assert_eq!(binary(&Type::NUMERIC, &large).unwrap(), numeric(10_000, 0));
    let nan = [0, 0, 0, 0, 0xc0, 0, 0, 0];
    assert_eq!(binary(&Type::NUMERIC, &nan).unwrap_err().sqlstate, "22003");
    for end in 0..sent.len() {
        assert!(binary(&Type::NUMERIC, &sent[..end]).is_err());
    }
    assert_eq!(binary(&Type::JSONB, b"\x01{}").unwrap(), ScalarValue::Utf8View(Some("{}".into())));
}

#[test]
fn arrays() {
    let items = |value: ScalarValue| match value {
        ScalarValue::List(list) => {
            let items = list.value(0);
            (0..items.len())
                .map(|i| ScalarValue::try_from_array(&items, i).unwrap().to_string())
                .collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(items(text(&Type::INT4_ARRAY, "{1,NULL,3}").unwrap()), ["1", "NULL", "3"]);
    assert_eq!(
        items(text(&Type::TEXT_ARRAY, r#"{a,"b, \"c\"", d }"#).unwrap()),
        ["a", "b, \"c\"", "d"]
    );
    assert!(items(text(&Type::TEXT_ARRAY, "{}").unwrap()).is_empty());
    for bad in ["", "{", "{a", "{\"a}", "{{1}}", "{\"a\"b}"] {
        assert!(text(&Type::TEXT_ARRAY, bad).is_err(), "{bad}");
    }
    let sent =
        b"\0\0\0\x01\0\0\0\0\0\0\0\x17\0\0\0\x02\0\0\0\x01\0\0\0\x04\0\0\0\x01\xff\xff\xff\xff";
    assert_eq!(items(binary(&Type::INT4_ARRAY, sent).unwrap()), ["1", "NULL"]);
    for end in 0..sent.len() {
        assert!(binary(&Type::INT4_ARRAY, &sent[..end]).is_err());
    }
    assert_eq!(items(text(&Type::NUMERIC_ARRAY, "{1.5,2}").unwrap()), ["1.5", "2.0"]);
}

#[test]
fn nulls_are_typed() {
    let value = decode(&Type::INT8, Format::Binary, None, &Zone::new("UTC")).unwrap();
    assert_eq!(value, ScalarValue::Int64(None));
}
