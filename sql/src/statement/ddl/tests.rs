//! Statements that declare: what is read, what is refused and where.

use super::super::{Action, parse};
use crate::ddl::*;

fn ddl(text: &str) -> Ddl {
    let statements = parse(text).unwrap();
    let [statement] = statements.as_slice() else { panic!("one statement") };
    let Action::Define(ddl) = statement.action() else { panic!("{statement:?}") };
    Ddl::clone(ddl)
}

fn refused(text: &str) -> String {
    let error = parse(text).unwrap_err();
    let rest = [error.detail.as_deref(), error.hint.as_deref()].into_iter().flatten();
    rest.fold(format!("{} {}", error.sqlstate, error.message), |all, more| {
        format!("{all} | {more}")
    })
}

fn name(name: &str) -> TableName {
    TableName { schema: None, name: name.into() }
}

fn plain(name: &str) -> DimensionClause {
    DimensionClause { name: name.into(), sql: None }
}

fn text(value: &str) -> Literal {
    Literal::Text(value.into())
}

#[test]
fn a_table_has_columns_measures_and_options() {
    let Ddl::CreateTable { table, if_not_exists, columns, measures, options } =
        ddl("create table if not exists web.clicks (
            at timestamp with time zone,
            \"Page\" text default '(none)' with (path = 'page.url', title = 'Page'),
            price numeric(10, 2),
            tags text[] with (path = ('meta', 'tags')),
            n int default -1,
            is_big boolean generated always as (price > 10 and (n <> 2)) stored,
            host text as (split_part(\"Page\", '/', 3)),
            measure double precision,
            measure clicks as (count(*)),
            measure spent as (sum(price)) with (unit = 'EUR')
        ) with (topic = 'clicks', time = 'at', retention.raw = '30d', append = true, x = 1e3)")
    else {
        panic!()
    };
    assert_eq!(table, TableName { schema: Some("web".into()), name: "clicks".into() });
    assert!(if_not_exists);
    let types: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.data_type.as_str())).collect();
    assert_eq!(
        types,
        [
            ("at", "timestamp with time zone"),
            ("Page", "text"),
            ("price", "numeric(10,2)"),
            ("tags", "text[]"),
            ("n", "int"),
            ("is_big", "boolean"),
            ("host", "text"),
            ("measure", "double precision"),
        ]
    );
    assert_eq!(columns[1].default, Some(text("(none)")));
    assert_eq!(columns[1].options[0], (vec!["path".into()], text("page.url")));
    assert_eq!(columns[3].options[0].1, Literal::List(vec![text("meta"), text("tags")]));
    assert_eq!(columns[4].default, Some(Literal::Number("-1".into())));
    assert_eq!(columns[5].computed.as_deref(), Some("price > 10 and (n <> 2)"));
    assert_eq!(columns[6].computed.as_deref(), Some("split_part(\"Page\", '/', 3)"));
    assert_eq!(measures[0].sql, "count(*)");
    assert_eq!(measures[1].options, [(vec!["unit".into()], text("EUR"))]);
    assert_eq!(options[2], (vec!["retention".into(), "raw".into()], text("30d")));
    assert_eq!(options[3].1, Literal::Boolean(true));
}

#[test]
fn a_rollup_is_on_columns_of_a_table() {
    let Ddl::CreateRollup { rollup, table, dimensions, options, .. } = ddl(
        "CREATE ROLLUP pages ON clicks (page, country) WITH (granularity = ('minute', 'hour'))",
    ) else {
        panic!()
    };
    assert_eq!((rollup.as_str(), table), ("pages", name("clicks")));
    assert_eq!(dimensions, ["page", "country"].map(plain));
    assert_eq!(
        options,
        [(vec!["granularity".into()], Literal::List(vec![text("minute"), text("hour")]))]
    );
    let bare = ddl("create rollup r on t with (granularity = array['day'])");
    assert!(matches!(bare, Ddl::CreateRollup { dimensions, .. } if dimensions.is_empty()));
}

#[test]
fn changes_come_in_a_list_and_may_let_data_go() {
    let Ddl::AlterTable { actions, apply, if_exists, .. } = ddl(
        "alter table if exists t add column if not exists c text, drop d, alter e type bigint, \
         alter column f set data type numeric(20,2), add measure m as (max(x)), drop measure if exists n, \
         set (retention.raw = '7d'), reset (filter) apply",
    ) else {
        panic!()
    };
    assert!(apply && if_exists);
    assert_eq!(actions.len(), 8);
    assert_eq!(actions[2], TableAction::SetType { column: "e".into(), data_type: "bigint".into() });
    assert_eq!(
        actions[3],
        TableAction::SetType { column: "f".into(), data_type: "numeric(20,2)".into() }
    );
    assert_eq!(actions[7], TableAction::Reset(vec![vec!["filter".into()]]));
    let rollup = ddl("alter rollup r on s.t add dimension d, add measure m");
    let added = [RollupAction::AddDimension(plain("d")), RollupAction::AddMeasure("m".into())];
    assert!(matches!(rollup, Ddl::AlterRollup { actions, apply: false, .. } if actions == added));
}

#[test]
fn drops_and_comments() {
    let dropped = Ddl::DropTable { tables: vec![name("a"), name("b")], if_exists: true };
    assert_eq!(ddl("drop table if exists a, b cascade"), dropped);
    let dropped = Ddl::DropRollup { rollup: "r".into(), table: None, if_exists: false };
    assert_eq!(ddl("drop rollup r"), dropped);
    let on = Commented::Column(name("t"), "c".into());
    assert_eq!(
        ddl("comment on column t.c is 'what'"),
        Ddl::Comment { on, text: Some("what".into()) }
    );
    let on = Commented::Table(name("t"));
    assert_eq!(ddl("comment on table t is null"), Ddl::Comment { on, text: None });
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    for (statement, told) in [
        ("create view v as select 1", "0A000 CREATE VIEW is not supported"),
        ("create materialized view v as select 1", "CREATE ROLLUP name ON table"),
        ("create temp table t (a int)", "temporary tables are not supported | write the query"),
        ("create local temporary table t (a int)", "WITH name AS (SELECT …)"),
        ("create table t as select 1", "CREATE TABLE AS is not supported"),
        ("create table t (a int primary key) with (topic = 't')", "PRIMARY in a table"),
        ("create table t (a int not null) with (topic = 't')", "column \"a\": NOT NULL"),
        ("create table t (a int)", "42601 syntax error at end of input | expected with"),
        ("create table t (a) with (topic = 't')", "near \")\" | expected a type"),
        ("create table t (a int default now()) with (topic = 't')", "expected a literal"),
        ("create table t (a int as (b + 1) with (topic = 't')", "42601"),
        ("create rollup r on t (a) with (granularity = hour)", "expected a literal"),
        (
            "create rollup r on t (a) with (granularity = 'hour', Granularity = 'day')",
            "near \"Granularity\" | option \"granularity\" stands here twice",
        ),
        ("create rollup r on t (a) with (measures = ())", "near \")\" | expected a value"),
        ("alter rollup r set (granularity = array[])", "near \"]\" | expected a value"),
        ("alter table t rename to u", "RENAME is not supported"),
        ("alter table t frobnicate", "expected ADD, DROP, ALTER, SET or RESET"),
        ("drop view v", "DROP VIEW is not supported"),
        ("drop table t u", "near \"u\""),
        ("comment on column c is 'x'", "expected table.column"),
    ] {
        let shown = refused(statement);
        assert!(shown.contains(told), "{statement}: {shown}");
    }
}

#[test]
fn a_rollup_filters_and_computes() {
    let Ddl::CreateRollup { dimensions, filter, options, .. } = ddl(
        "create rollup r on t (country, split_part(url, '/', 3) as host, (n % 10) AS \"Digit\", \
         cast(x as text) as x_text, case when a[1] > 2 then 'b, c' end as e, as_of)
         where not is_robot and at >= timestamp with time zone '2024-01-01 00:00:00Z' and f(with_x)
         with (granularity = 'hour')",
    ) else {
        panic!()
    };
    let computed =
        |name: &str, sql: &str| DimensionClause { name: name.into(), sql: Some(sql.into()) };
    let expected = [
        plain("country"),
        computed("host", "split_part(url, '/', 3)"),
        computed("Digit", "(n % 10)"),
        computed("x_text", "cast(x as text)"),
        computed("e", "case when a[1] > 2 then 'b, c' end"),
        plain("as_of"),
    ];
    assert_eq!(dimensions, expected);
    let condition =
        "not is_robot and at >= timestamp with time zone '2024-01-01 00:00:00Z' and f(with_x)";
    assert_eq!(filter.as_deref(), Some(condition));
    assert_eq!(options.len(), 1);
    let Ddl::AlterRollup { actions, apply, .. } = ddl(
        "alter rollup r add dimension host as (split_part(url, '/', 3)), add dimension b, reset (filter) apply",
    ) else {
        panic!()
    };
    assert!(apply);
    let expected = [
        RollupAction::AddDimension(computed("host", "split_part(url, '/', 3)")),
        RollupAction::AddDimension(plain("b")),
        RollupAction::Reset(vec![vec!["filter".into()]]),
    ];
    assert_eq!(actions, expected);
    for (sql, told) in [
        ("create rollup r on t (lower(a)) with (granularity = 'day')", "lower(a) AS name"),
        ("create rollup r on t (lower(a) as) with (granularity = 'day')", "syntax error"),
        ("create rollup r on t (a) where with (granularity = 'day')", "expected an expression"),
        ("create rollup r on t (a) where b > 1", "syntax error at end"),
        ("create rollup r on t (a) where b) with (granularity = 'day')", "near \")\""),
        ("create rollup r on t (a where b) with (granularity = 'day')", "has no name"),
    ] {
        assert!(refused(sql).contains(told), "{sql}: {}", refused(sql));
    }
}
