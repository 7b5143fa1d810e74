//! What the operators mean, as Postgres has it.

use super::arguments::array_literal;
use super::*;

const DOC: &str = r#"{"a":{"b":[10,{"c":"x\ny"}]},"n":null,"s":"t","big":12345678901234567890.125,"a2":1,"s":"last"}"#;

#[test]
fn parts_are_found_where_they_lie() {
    assert_eq!(walk::member(DOC, "s").unwrap(), Some("\"last\""));
    assert_eq!(walk::member(DOC, "n").unwrap(), Some("null"));
    assert_eq!(walk::member(DOC, "none").unwrap(), None);
    assert_eq!(walk::member(DOC, "big").unwrap(), Some("12345678901234567890.125"));
    assert_eq!(walk::member("[1]", "a").unwrap(), None);
    assert_eq!(walk::member("1e999", "a").unwrap(), None);
    assert_eq!(walk::member(r#"{"k\u0041":1}"#, "kA").unwrap(), Some("1"));
    assert_eq!(walk::element("[1, [2,3] ,4]", 1).unwrap(), Some("[2,3]"));
    assert_eq!(walk::element("[1,2,3]", -1).unwrap(), Some("3"));
    assert_eq!(walk::element("[1,2,3]", -4).unwrap(), None);
    assert_eq!(walk::element("[1,2,3]", 3).unwrap(), None);
    assert_eq!(walk::element(DOC, 0).unwrap(), None);
    let path = |steps: &[&'static str]| steps.iter().map(|s| Cow::from(*s)).collect::<Vec<_>>();
    let found = walk::at_path(DOC, &path(&["a", "b", "1", "c"])).unwrap().unwrap();
    assert_eq!(walk::text(found).unwrap().unwrap(), "x\ny");
    assert_eq!(walk::at_path(DOC, &path(&["a", "b", "x"])).unwrap(), None);
    assert_eq!(walk::at_path(DOC, &path(&["s", "x"])).unwrap(), None);
    assert_eq!(walk::at_path(DOC, &[]).unwrap(), Some(DOC));
    assert_eq!(walk::length("[]").unwrap(), Some(0));
    assert_eq!(walk::length("[1,[2,3]]").unwrap(), Some(2));
    assert_eq!(walk::length("{}").unwrap(), None);
    assert_eq!(walk::keys(DOC).unwrap().unwrap(), ["a", "n", "s", "big", "a2"]);
}

#[test]
fn what_is_no_json_is_refused() {
    for bad in ["", "{", "[1,]", "{\"a\":1}x", "nope", "{'a':1}", "\"a"] {
        let e = walk::member(bad, "a").expect_err(bad);
        assert_eq!(e.sqlstate, sqlstate::INVALID_TEXT, "{bad}");
    }
    let deep = "[".repeat(100_000);
    assert!(walk::element(&deep, 0).is_err());
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    assert_eq!(walk::length(&deep).unwrap(), Some(1));
    assert!(walk::value(&deep).is_err());
}

#[test]
fn containment_is_that_of_jsonb() {
    let check = |a: &str, b: &str, expected: bool| {
        let (a, b) = (walk::value(a).unwrap(), walk::value(b).unwrap());
        assert_eq!(walk::contains(&a, &b), expected, "{a} @> {b}");
    };
    check(r#"{"a":1,"b":{"c":[1,2]}}"#, r#"{"b":{"c":[2]}}"#, true);
    check(r#"{"a":1}"#, r#"{"a":2}"#, false);
    check(r#"{"a":1}"#, "{}", true);
    check("[1,2,3]", "[3,1,1]", true);
    check("[1,[2,3]]", "[[3]]", true);
    check("[1,[2,3]]", "[3]", false);
    check(r#"["foo","bar"]"#, r#""bar""#, true);
    check(r#"[["bar"]]"#, r#"["bar"]"#, false);
    check(r#""bar""#, r#"["bar"]"#, false);
    check("[1.0]", "[1]", true);
    check(r#"{"a":[{"x":1,"y":2}]}"#, r#"{"a":[{"y":2}]}"#, true);
    check("null", "null", true);
}

#[test]
fn keys_exist() {
    assert!(exists(r#"{"a":null}"#, "a").unwrap());
    assert!(!exists(r#"{"a":null}"#, "b").unwrap());
    assert!(exists(r#"["a","b\"c"]"#, "b\"c").unwrap());
    assert!(!exists("[1]", "1").unwrap());
    assert!(exists(r#""a""#, "a").unwrap());
}

#[test]
fn array_literals_read() {
    assert_eq!(array_literal("{a, b ,0}").unwrap(), ["a", "b", "0"]);
    assert_eq!(array_literal(r#"{"a,b","c\"d",e\,f,""}"#).unwrap(), ["a,b", "c\"d", "e,f", ""]);
    assert!(array_literal("{}").unwrap().is_empty());
    for bad in ["a", "{a", "{a,}", "{,a}", "{{a}}", r#"{"a}"#] {
        assert!(array_literal(bad).is_err(), "{bad}");
    }
}
