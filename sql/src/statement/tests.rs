//! What the allow-list lets through, what it refuses, and with which SQLSTATE.

use super::*;
use crate::outcome::CopyKind;

fn error(sql: &str) -> SqlError {
    match parse(sql) {
        Err(e) => e,
        Ok(list) => panic!("{sql} was accepted as {list:?}: {:?}", list[0].action()),
    }
}

fn action(sql: &str) -> Action {
    let list = parse(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    assert_eq!(list.len(), 1, "{sql}");
    list[0].action().clone()
}

#[test]
fn several_statements_are_split_with_their_text() {
    let list = parse("select 1 ; ; select ';' -- no;\n; show all;").unwrap();
    let texts: Vec<_> = list.iter().map(Statement::text).collect();
    assert_eq!(texts, ["select 1", "select ';'", "show all"]);
    assert!(parse(" -- nothing\n").unwrap().is_empty());
}

#[test]
fn what_touches_server_files_or_writes_is_refused() {
    for sql in ["COPY (SELECT 1) TO '/tmp/x.csv'", "COPY t TO 'x.csv'", "COPY t TO PROGRAM 'cat'"] {
        assert_eq!(error(sql).sqlstate, "42501", "{sql}");
    }
    for sql in [
        "CREATE EXTERNAL TABLE t (a bigint) STORED AS PARQUET LOCATION '/x'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "INSERT INTO t VALUES (1) RETURNING a",
        "WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x",
        "SELECT * INTO n FROM t",
        "SELECT * FROM t FOR UPDATE",
        "DROP VIEW v",
        "VACUUM",
    ] {
        let e = parse(sql).expect_err(sql);
        assert!(["0A000", "42601"].contains(&e.sqlstate), "{sql}: {e:?}");
    }
}

#[test]
fn syntax_errors_say_where() {
    let e = error("SELECT 1,\n  FROM t WHERE");
    assert_eq!(e.sqlstate, "42601");
    let e = error("SELEC 1");
    assert_eq!((e.sqlstate, e.message.as_str()), ("42601", "syntax error at or near \"SELEC\""));
    let e = error("SELECT (1");
    assert_eq!(e.message, "syntax error at end of input");
    let e = error("SELECT a FROM t x y");
    assert_eq!((e.message.as_str(), e.position), ("syntax error at or near \"y\"", Some(19)));
}

#[test]
fn deep_statements_are_refused_before_they_are_parsed() {
    let chain = format!("SELECT 1{}", "+1".repeat(100_000));
    assert_eq!(error(&chain).sqlstate, "54001");
    let nest = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    assert_eq!(error(&nest).sqlstate, "54001");
    let not = format!("SELECT {}true", "NOT ".repeat(5_000));
    assert_eq!(error(&not).sqlstate, "54001");
    let minus = format!("SELECT {}1", "- ".repeat(5_000));
    assert_eq!(error(&minus).sqlstate, "54001");
    assert!(parse(&format!("SELECT 1 IN ({}1)", "1,".repeat(50_000))).is_ok());
}

#[test]
fn cursors_are_declared_and_moved() {
    for (sql, wanted) in [
        ("fetch prior from c", Travel::Backward(Some(1))),
        ("fetch backward c", Travel::Backward(Some(1))),
        ("move backward all in c", Travel::Backward(None)),
        ("fetch -3 from c", Travel::Backward(Some(3))),
        ("fetch backward -3 c", Travel::Forward(Some(3))),
        ("fetch +3 c", Travel::Forward(Some(3))),
        ("fetch 0 c", Travel::Relative(0)),
        ("fetch first c", Travel::Absolute(1)),
        ("fetch last in c", Travel::Absolute(-1)),
        ("fetch absolute -2 c", Travel::Absolute(-2)),
        ("move relative 0 c", Travel::Relative(0)),
        ("fetch next", Travel::Forward(Some(1))),
        ("fetch forward all", Travel::Forward(Some(1))),
    ] {
        let read = action(sql);
        let found = match &read {
            Action::Fetch { travel, .. } | Action::Move { travel, .. } => *travel,
            _ => panic!("{sql}"),
        };
        assert_eq!(found, wanted, "{sql}");
    }
    for sql in ["fetch absolute c", "fetch - all c", "fetch 99999999999 c", "fetch 1.5 c"] {
        assert_eq!(parse(sql).unwrap_err().sqlstate, "42601", "{sql}");
    }
    let both = parse("declare c scroll no scroll cursor for select 1");
    assert_eq!(both.unwrap_err().sqlstate, "42P11");
    assert!(matches!(
        action("declare c insensitive scroll cursor for select 1"),
        Action::Declare { scroll: true, hold: false, .. }
    ));
    assert!(matches!(
        action("declare c no scroll cursor with hold for select 1"),
        Action::Declare { hold: true, scroll: false, .. }
    ));
}

#[test]
fn session_commands_are_read() {
    assert!(matches!(action("SET TIME ZONE 'Europe/Berlin'"),
        Action::Set { name, value: Some(v), local: false } if name == "timezone" && v == "Europe/Berlin"));
    assert!(matches!(action("set local statement_timeout to 500"),
        Action::Set { name, value: Some(v), local: true } if name == "statement_timeout" && v == "500"));
    assert!(matches!(action("SET search_path = a, \"B\", public"),
        Action::Set { value: Some(v), .. } if v == "a, B, public"));
    assert!(matches!(action("SET extra_float_digits = -1"),
        Action::Set { value: Some(v), .. } if v == "-1"));
    assert!(matches!(action("SHOW transaction isolation level"),
        Action::Show(name) if name == "transaction_isolation"));
    assert!(matches!(
        action("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        Action::Begin(Modes { isolation: Some("repeatable read"), read_only: Some(true) })
    ));
    assert!(matches!(
        action("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
        Action::SetCharacteristics(Modes { isolation: None, read_only: Some(true) })
    ));
    assert!(matches!(action("FETCH FORWARD 50 FROM \"C 1\""),
        Action::Fetch { name, travel: Travel::Forward(Some(50)) } if name == "C 1"));
    assert!(matches!(
        action("fetch 2048 in \"SQL_CUR\""),
        Action::Fetch { travel: Travel::Forward(Some(2048)), .. }
    ));
    assert!(matches!(action("FETCH ALL c"), Action::Fetch { travel: Travel::Forward(None), .. }));
    assert!(matches!(
        action("FETCH NEXT FROM c"),
        Action::Fetch { travel: Travel::Forward(Some(1)), .. }
    ));
    assert!(matches!(action("fetch c"), Action::Fetch { travel: Travel::Forward(Some(1)), .. }));
    assert!(
        matches!(action("PREPARE p (int, text) AS SELECT $1, $2"), Action::Prepare { types, .. } if types.len() == 2)
    );
    assert!(matches!(action("EXECUTE p(1, 'x')"), Action::Execute { args, .. } if args.len() == 2));
    assert!(matches!(action("ROLLBACK TO SAVEPOINT s"), Action::RollbackTo(_)));
    assert!(matches!(action("DISCARD ALL"), Action::DiscardAll));
    assert!(matches!(action("UNLISTEN *"), Action::Nothing("UNLISTEN")));
    assert!(matches!(action("EXPLAIN (ANALYZE, COSTS off) SELECT 1"), Action::Explain { .. }));
}

#[test]
fn copy_to_stdout_has_its_options() {
    let Action::CopyOut { format, .. } =
        action("COPY (SELECT 1) TO STDOUT WITH (FORMAT csv, HEADER, DELIMITER ';', NULL 'n')")
    else {
        panic!("not a copy");
    };
    let expected = CopyFormat {
        header: true,
        delimiter: ';',
        null: "n".into(),
        ..CopyFormat::new(CopyKind::Csv)
    };
    assert_eq!(format, expected);
    assert!(matches!(action("copy public.t (a, b) to stdout binary"), Action::CopyOut { .. }));
}

#[test]
fn outputs_are_named_as_postgres_names_them() {
    let check = |sql: &str, expected: &[&str]| {
        let Action::Query(plan) = action(sql) else { panic!("{sql}") };
        let SetExpr::Select(select) = &*plan.query.body else { panic!("{sql}") };
        let shown: Vec<String> = select
            .projection
            .iter()
            .map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => {
                    plan.names.shown(&alias.value).to_string()
                }
                other => other.to_string(),
            })
            .collect();
        assert_eq!(shown, expected, "{sql}");
    };
    use datafusion::sql::sqlparser::ast::SelectItem;
    check("SELECT count(*), sum(x), 1, 'a'", &["count", "sum", "?column?", "?column?"]);
    check("SELECT a, a, b AS a", &["a", "a", "a"]);
    check("SELECT x::int, 'a'::text, 1::bigint", &["x", "text", "int8"]);
    check("SELECT CASE WHEN a THEN 1 END, EXTRACT(hour FROM t)", &["case", "extract"]);
    check("SELECT *, a", &["*", "a"]);
    check("SELECT true, interval '1 day', now()", &["?column?", "interval", "now"]);
}
