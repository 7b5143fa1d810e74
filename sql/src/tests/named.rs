//! Named queries in SQL: calls, values, errors, and what the planner sees of them.

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;

use super::world::{World, rows_of, text};
use crate::{
    NamedQueryDef, Outcome, ParameterDef, QueryPlace, SessionOptions, SqlConfig, check_queries,
};

fn parameter(name: &str, column_type: &str, default: Option<&str>) -> ParameterDef {
    ParameterDef {
        name: name.into(),
        column_type: column_type.parse().unwrap(),
        default: default.map(Into::into),
        description: None,
    }
}

fn query(name: &str, sql: &str, parameters: Vec<ParameterDef>) -> NamedQueryDef {
    NamedQueryDef { name: name.into(), sql: sql.into(), parameters, description: None }
}

fn queries() -> Vec<NamedQueryDef> {
    let top = "SELECT kind, count(*) AS events FROM events WHERE ts >= $from AND ts < $until \
               GROUP BY kind ORDER BY events DESC, kind LIMIT $n";
    let parameters = vec![
        parameter("from", "timestamptz", None),
        parameter("n", "bigint", Some("2")),
        parameter("until", "timestamptz", Some("2026-03-02")),
    ];
    let of_kind = "WITH found AS (SELECT * FROM events WHERE kind = $kind OR $kind IS NULL) \
                   SELECT count(*) AS events, min(amount) AS least FROM found";
    vec![
        query("top_kinds", top, parameters),
        query("of_kind", of_kind, vec![parameter("kind", "text", None)]),
        query("all_kinds", "SELECT DISTINCT kind FROM events", vec![]),
        query(
            "values_of",
            "SELECT $a AS a, $b AS b, $c AS c, $d AS d",
            vec![
                parameter("a", "numeric(12,2)", Some("1.5")),
                parameter("b", "uuid", Some("6fa459ea-ee8a-3ca4-894e-db77e160355e")),
                parameter("c", "date", Some("2026-02-03")),
                parameter("d", "boolean", Some("true")),
            ],
        ),
    ]
}

async fn world() -> World {
    let config = SqlConfig { threads: 2, queries: queries(), ..SqlConfig::default() };
    World::with(config).await.fill().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_the_query_with_its_values() {
    let world = world().await;
    let written = "SELECT kind, count(*) AS events FROM events WHERE ts >= '2026-03-01' \
                   AND ts < '2026-03-02' GROUP BY kind ORDER BY events DESC, kind LIMIT ";
    let two = world.rows(&format!("{written} 2")).await;
    let three = world.rows(&format!("{written} 3")).await;
    assert_eq!((two.len(), three.len()), (2, 3));
    for call in [
        "top_kinds('2026-03-01')",
        "top_kinds('2026-03-01', 2)",
        "top_kinds(from => '2026-03-01')",
        "TOP_KINDS(n := 2, \"from\" := '2026-03-01')",
        "public.top_kinds(timestamptz '2026-03-01', 1 + 1)",
        "top_kinds('2026-03-02'::timestamptz - interval '1 day', '2')",
    ] {
        assert_eq!(world.rows(&format!("SELECT * FROM {call}")).await, two, "{call}");
    }
    assert_eq!(world.rows("SELECT * FROM top_kinds('2026-03-01', n => 3)").await, three);
    world.rows("SET TimeZone = 'Asia/Tokyo'").await;
    let shifted =
        world.rows("SELECT * FROM top_kinds('2026-03-01 09:00', until => '2026-03-02 09:00')");
    assert_eq!(shifted.await, two, "times are read in the zone of the session");
    world.rows("SET TimeZone = 'UTC'; SET search_path = nowhere").await;
    assert_eq!(world.rows("SELECT * FROM top_kinds('2026-03-01')").await, two);
    assert_eq!(
        world.rows("SELECT * FROM values_of()").await,
        [["1.50", "6fa459ea-ee8a-3ca4-894e-db77e160355e", "2026-02-03", "true"]]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_stands_where_a_table_may() {
    let world = world().await;
    let joined = world.rows(
        "SELECT t.kind, t.events, a.kind IS NULL FROM top_kinds('2026-03-01', 1) t \
         LEFT JOIN all_kinds() AS a ON a.kind = t.kind WHERE EXISTS (SELECT 1 FROM of_kind(null))",
    );
    assert_eq!(joined.await, [["kind number 1", "582", "false"]]);
    assert_eq!(
        world.value("SELECT count(*) FROM all_kinds() AS k(name) WHERE name > 'a'").await,
        "5"
    );
    assert_eq!(
        world
            .rows(
                "SELECT (SELECT events FROM of_kind('kind number 1')), all_kinds.kind \
             FROM all_kinds() ORDER BY 2 LIMIT 1"
            )
            .await,
        world
            .rows(
                "SELECT (SELECT count(*) FROM events WHERE kind = 'kind number 1'), \
             'kind number 0'"
            )
            .await
    );
    // Raw rows are as few as the states here.
    world.rows("SET otus.rollups = force").await;
    let plan = world
        .explain("SELECT sum(events) FROM top_kinds('2026-03-01', 9, '2026-03-01 12:00:00')")
        .await;
    assert!(plan.contains("events: rollup by_kind"), "a rollup answers:\n{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_passes_its_own_parameters() {
    let world = world().await;
    let parsed = world.session.parse("SELECT * FROM top_kinds(from => $2, n => $1)").unwrap();
    let described = world.session.describe(&parsed[0], &[]).await.unwrap();
    let instant = "2026-03-01T00:00:00Z".to_string();
    assert_eq!(*described.params[0].data_type(), DataType::Int64);
    assert!(
        matches!(described.params[1].data_type(), DataType::Timestamp(_, Some(_))),
        "{described:?}"
    );
    let values = vec![ScalarValue::Int64(Some(3)), ScalarValue::Utf8(Some(instant))];
    let outcome = world.session.execute(&parsed[0], values).await.unwrap();
    let Outcome::Rows { stream, .. } = outcome else { panic!("no rows") };
    let batches: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 3);
    let prepared = "PREPARE p AS SELECT events FROM of_kind($1); EXECUTE p('kind number 1')";
    assert_eq!(
        world.value(prepared).await,
        world.value("SELECT count(*) FROM events WHERE kind = 'kind number 1'").await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_never_text_of_sql() {
    let world = world().await;
    for value in ["x' OR 'a' = 'a", "$n", "') FROM events; --", "\\'", "$otus_1_kind"] {
        let quoted = value.replace('\'', "''");
        let sql = format!("SELECT events FROM of_kind('{quoted}')");
        assert_eq!(world.value(&sql).await, "0", "{sql}");
    }
}

const CALL: &str = "it is called as top_kinds(from timestamptz, n bigint DEFAULT '2', \
                until timestamptz DEFAULT '2026-03-02')";

/// Call, SQLSTATE, part of the message and of the hint.
const ERRORS: [(&str, &str, &str, &str); 14] = [
    ("top_kinds()", "42883", "parameter \"from\" of query \"top_kinds\" has no value", CALL),
    ("top_kinds(m => 1)", "42883", "query \"top_kinds\" has no parameter \"m\"", CALL),
    (
        "top_kinds('now', 1, '2026-01-01', 4)",
        "42883",
        "query \"top_kinds\" takes at most 3 arguments, not 4",
        CALL,
    ),
    (
        "top_kinds('2026-01-01', from => '2026-01-02')",
        "42883",
        "parameter \"from\" of query \"top_kinds\" is given twice",
        CALL,
    ),
    (
        "top_kinds(n => 1, '2026-01-01')",
        "42601",
        "positional argument cannot follow named argument",
        "",
    ),
    (
        "top_kinds(20)",
        "42804",
        "parameter \"from\" of query \"top_kinds\": timestamptz is expected, not bigint",
        CALL,
    ),
    (
        "top_kinds('soon')",
        "22007",
        "parameter \"from\" of query \"top_kinds\": invalid input syntax for type timestamp with time zone: \"soon\"",
        CALL,
    ),
    (
        "top_kinds('2026-01-01', 'x')",
        "22P02",
        "parameter \"n\" of query \"top_kinds\": invalid input syntax for type bigint: \"x\"",
        CALL,
    ),
    ("top_kinds('2026-01-01', random())", "42804", "", ""),
    (
        "of_kind(1)",
        "42804",
        "parameter \"kind\" of query \"of_kind\": text is expected, not bigint",
        "it is called as of_kind(kind text)",
    ),
    ("events e, of_kind(e.kind)", "42703", "", ""),
    (
        "of_kind((SELECT max(x) FROM (VALUES ('a')) v (x)))",
        "22023",
        "parameter \"kind\" of query \"of_kind\": the argument is not a constant",
        "arguments of a named query are constants or parameters such as $1",
    ),
    (
        "of_kind(md5(random()::text))",
        "22023",
        "parameter \"kind\" of query \"of_kind\": function random() has no fixed value",
        "",
    ),
    (
        "top_kinds",
        "42P01",
        "relation \"top_kinds\" does not exist",
        "\"top_kinds\" is a named query: it is called as top_kinds(",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_name_the_query_and_the_parameter() {
    let world = world().await;
    for (sql, state, message, hint) in ERRORS {
        let e = world.error(&format!("SELECT * FROM {sql}")).await;
        assert!(e.message.contains(message), "{sql}: {e:?}");
        assert!(e.hint.clone().unwrap_or_default().contains(hint), "{sql}: {e:?}");
        assert!(e.sqlstate == state || message.is_empty(), "{sql}: {e:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_are_listed() {
    let world = world().await;
    assert_eq!(
        world
            .rows("SELECT name, call, query FROM otus.named_queries WHERE name = 'all_kinds'")
            .await,
        [["all_kinds", "all_kinds()", "SELECT DISTINCT kind FROM events"]]
    );
    let list = world.session.named_queries().await;
    let columns = list[1].columns.as_ref().unwrap();
    assert_eq!(columns.iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["events", "least"]);
    let other = world.engine.session(SessionOptions::default());
    assert_eq!(rows_of(&other, "SELECT count(*) FROM otus.named_queries").await.unwrap(), [["4"]]);
    let stream = world.session.parse("SELECT * FROM otus.named_queries").unwrap();
    let Outcome::Rows { stream, .. } = world.session.execute(&stream[0], vec![]).await.unwrap()
    else {
        panic!("no rows")
    };
    let batches: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(batches.iter().flat_map(text).count(), 4);
}

#[test]
fn a_query_is_planned_before_it_is_accepted() {
    let tables = [super::world::definition()];
    let check = |query: NamedQueryDef, place: Option<QueryPlace>, message: &str| {
        let found = check_queries(&tables, std::slice::from_ref(&query)).unwrap();
        match (found.first(), place) {
            (None, None) => {}
            (Some((0, found)), Some(place)) => {
                assert_eq!(found.place, place, "{found:?}");
                assert!(found.error.message.contains(message), "{found:?}");
            }
            other => panic!("{}: {other:?}", query.sql),
        }
    };
    for query in queries() {
        check(query, None, "");
    }
    let sql = || Some(QueryPlace::Sql);
    check(query("a", "SELECT nope FROM events", vec![]), sql(), "column \"nope\" does not exist");
    check(query("a", "SELECT 1 AS x FROM nowhere", vec![]), sql(), "nowhere");
    check(query("a", "SELECT * FROM b()", vec![]), sql(), "b");
    check(query("a", "SELECT (", vec![]), sql(), "");
    check(query("a", "DROP TABLE events", vec![]), sql(), "only a query can have a name");
    let name = || Some(QueryPlace::Name);
    check(query("events", "SELECT 1 AS x", vec![]), name(), "there is a table \"events\" already");
    check(query("by_kind_hour", "SELECT 1 AS x", vec![]), name(), "a table");
    for function in ["generate_series", "sum", "lower", "now", "unnest"] {
        check(query(function, "SELECT 1 AS x", vec![]), name(), "a function");
    }
    let bad = vec![parameter("n", "bigint", Some("many"))];
    let place = Some(QueryPlace::Parameter("n".into()));
    check(query("a", "SELECT $n AS n", bad), place, "invalid input syntax for type bigint");
}
