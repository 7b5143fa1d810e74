//! Rollups that filter rows and compute dimensions: what their filter and expressions serve, and what not.

use otus_engine::catalog::{ColumnDef, DimensionDef, MeasureDef, RollupDef, TableDef};
use otus_engine::time::Granularity;

use super::rollups::{assert_same, refused, under};
use super::world::World;

fn rollup(filter: Option<&str>, dimensions: &[(&str, &str)]) -> RollupDef {
    let dimensions = dimensions.iter().map(|(name, sql)| match *sql {
        "" => (*name).into(),
        sql => DimensionDef::computed(*name, sql),
    });
    RollupDef {
        name: "by_class".into(),
        granularities: vec![Granularity::Minute, Granularity::Hour],
        dimensions: dimensions.collect(),
        filter: filter.map(Into::into),
        measures: vec![],
    }
}

fn classes() -> RollupDef {
    let computed = [
        ("class", "right(kind, 1)"),
        ("odd", "user_id % 2"),
        ("high", "score > 100"),
        ("mixedCase", ""),
        ("size", "CASE WHEN amount > 5 THEN 'large' WHEN amount > 2 THEN 'small' END"),
    ];
    rollup(Some("NOT ok"), &computed)
}

async fn served(world: &World, sql: &str) {
    let by_rollup = under(world, "force", sql).await;
    let plan = world.explain(sql).await;
    assert!(plan.contains("rollup by_class"), "{sql}\n{plan}");
    assert_same(sql, by_rollup, under(world, "off", sql).await);
}

const SERVED: &[&str] = &[
    "SELECT right(kind, 1), count(*), sum(amount) FROM events WHERE NOT ok GROUP BY 1",
    "SELECT upper(right(kind, 1)) || '!', count(*) FROM events WHERE NOT ok AND right(kind, 1) IN ('1', '2') GROUP BY 1",
    "SELECT count(DISTINCT right(kind, 1)), min(right(kind, 1)), max(right(kind, 1)), count(right(kind, 1)) FROM events WHERE ok = false",
    "SELECT user_id % 2, sum(user_id % 2), count(*) FROM events WHERE ok IS FALSE AND user_id % 2 = 1 GROUP BY 1",
    "SELECT score > 100, count(*) FROM events WHERE NOT ok GROUP BY 1",
    "SELECT count(*) FILTER (WHERE score > 100), sum(CASE WHEN user_id % 2 = 0 THEN amount ELSE 0 END) FROM events WHERE NOT ok",
    "SELECT date_trunc('hour', ts), right(kind, 1) = '3', avg(user_id) FROM events WHERE NOT ok AND ts >= '2026-03-01T02:00:30Z' AND ts < '2026-03-01T10:11:12Z' GROUP BY 1, 2",
    "SELECT CASE WHEN amount > 5 THEN 'large' WHEN amount > 2 THEN 'small' END, count(*) FROM events WHERE NOT ok GROUP BY 1",
    "SELECT \"mixedCase\", count(*) FILTER (WHERE NOT ok), bool_or(score > 100) FROM events WHERE NOT ok GROUP BY 1",
    "SELECT c, n FROM (SELECT right(k, 1) AS c, count(*) AS n FROM (SELECT kind AS k, ok AS o FROM events) x WHERE NOT o GROUP BY 1) y WHERE n > 3",
    "SELECT right(kind, 1), score > 100, count(*) FROM events WHERE NOT ok GROUP BY GROUPING SETS ((right(kind, 1)), (score > 100), ())",
    "SELECT count(*) FROM events WHERE NOT ok AND (NOT ok OR kind = 'x')",
];

const REFUSED: &[(&str, &str)] = &[
    (
        "SELECT right(kind, 1), count(*) FROM events GROUP BY 1",
        "the query does not have the condition (NOT ok) of rollup by_class",
    ),
    ("SELECT count(*) FROM events WHERE ok", "does not have the condition (NOT ok)"),
    ("SELECT count(*) FROM events WHERE NOT ok OR kind = 'x'", "does not have the condition"),
    ("SELECT count(*) FILTER (WHERE NOT ok) FROM events", "does not have the condition"),
    (
        "SELECT kind, count(*) FROM events WHERE NOT ok GROUP BY 1",
        "column \"kind\" is no dimension",
    ),
    (
        "SELECT right(kind, 2), count(*) FROM events WHERE NOT ok GROUP BY 1",
        "column \"kind\" is no dimension",
    ),
    ("SELECT count(*) FROM events WHERE NOT ok AND score > 99", "column \"score\" is no dimension"),
    ("SELECT sum(user_id % 3) FROM events WHERE NOT ok", "stores no state of sum(user_id % "),
];

#[tokio::test]
async fn filters_and_expressions_serve_those_who_ask_for_them() {
    let world = World::declared(|def| def.rollups = vec![classes()]).await.fill().await;
    for stage in ["level 0 and hot", "compacted"] {
        if stage == "compacted" {
            world.dataset.flush().await.unwrap();
            world.dataset.maintain(true).await.unwrap();
            world.append(77);
        }
        for sql in SERVED {
            served(&world, sql).await;
        }
        for (sql, reason) in REFUSED {
            refused(&world, sql, reason).await;
        }
    }
    let shown =
        world.rows("SELECT dimensions, filter FROM otus.rollups WHERE granularity = 'hour'").await;
    assert!(shown[0][0].starts_with("right(kind, 1) AS class, user_id % 2 AS odd"), "{shown:?}");
    assert_eq!(shown[0][1], "NOT ok");
    world.rows("SET otus.rollups = off").await;
    let view = "SELECT class, sum(events)::bigint FROM by_class_hour GROUP BY 1 ORDER BY 1";
    let raw = "SELECT right(kind, 1), count(*) FROM events WHERE NOT ok GROUP BY 1 ORDER BY 1";
    assert_eq!(world.rows(view).await, world.rows(raw).await);
    // Under another time zone the same words may mean something else.
    world.rows("SET TimeZone = 'Europe/Berlin'").await;
    served(&world, SERVED[0]).await;
}

#[tokio::test]
async fn a_rollup_that_begins_to_filter_is_filled_anew() {
    let world = World::declared(|def| def.rollups = vec![rollup(None, &[("kind", "")])]).await;
    let world = world.fill().await;
    world.declare(|def| def.rollups = vec![classes()]).await;
    world.append(300);
    for _ in 0..6 {
        for sql in SERVED {
            let automatic = under(&world, "auto", sql).await;
            assert_same(sql, automatic, under(&world, "off", sql).await);
        }
        world.dataset.backfill_step().await.unwrap();
    }
    for sql in SERVED {
        served(&world, sql).await;
    }
}

#[tokio::test]
async fn a_filter_that_no_row_passes_leaves_nothing() {
    let none = || rollup(Some("kind = 'nobody'"), &[("kind", "")]);
    let world = World::declared(|def| def.rollups = vec![none()]).await.fill().await;
    world.dataset.flush().await.unwrap();
    world.dataset.maintain(true).await.unwrap();
    let files = "SELECT sum(files), bool_and(complete) FROM otus.rollups";
    assert_eq!(world.rows(files).await, [["0", "true"]]);
    world.append(50);
    served(&world, "SELECT count(*), sum(amount) FROM events WHERE kind = 'nobody'").await;
    served(&world, "SELECT kind, count(*) FROM events WHERE kind = 'nobody' GROUP BY 1").await;
    assert_eq!(world.value("SELECT count(*) FROM by_class_hour").await, "0");
}

#[tokio::test]
async fn a_wider_type_makes_an_expression_begin_anew() {
    let declare = |column_type: &'static str, other: &'static str| {
        move |def: &mut TableDef| {
            def.rollups = vec![rollup(None, &[("many", "n * 1000000000")])];
            for (name, t) in [("n", column_type), ("m", other)] {
                def.columns.push(ColumnDef::new(name, t.parse().unwrap()));
            }
        }
    };
    let world = World::declared(declare("integer", "integer")).await;
    let declared = "SELECT DISTINCT declared_at FROM otus.rollups";
    let first = world.value(declared).await;
    world.clock.advance(1_000_000);
    world.declare(declare("integer", "bigint")).await;
    assert_eq!(world.value(declared).await, first, "it reads another column");
    world.declare(declare("bigint", "bigint")).await;
    assert_ne!(world.value(declared).await, first, "it wraps no more");
}

#[tokio::test]
async fn an_expression_that_fails_on_a_row_stops_nothing_and_answers_nothing() {
    let world = World::declared(|def| {
        def.measures = vec![MeasureDef::new("events", "count(*)")];
        let computed = [
            ("digit", "right(kind, 1)::bigint - 3"),
            ("inverse", "10 / user_id"),
            ("text", "kind::bigint"),
            ("big", "user_id * 3"),
        ];
        def.rollups = vec![rollup(None, &computed)];
    });
    let world = world.await.fill().await;
    world.dataset.flush().await.unwrap();
    for (sql, reason) in [
        ("SELECT 10 / user_id, count(*) FROM events GROUP BY 1", "may fail on some row"),
        ("SELECT kind::bigint, count(*) FROM events GROUP BY 1", "rollup by_class"),
    ] {
        world.rows("SET otus.rollups = force").await;
        let e = world.error(sql).await;
        assert!(e.message.contains(reason), "{sql}: {}", e.message);
        world.rows("SET otus.rollups = auto").await;
        let (with, without) =
            (world.error(sql).await, world.error(&format!("SET otus.rollups = off; {sql}")).await);
        assert_eq!(with.sqlstate, without.sqlstate, "{sql}");
    }
    served(&world, "SELECT user_id * 3, count(*) FROM events GROUP BY 1").await;
    let states = "SELECT count(*), count(text), count(inverse) < count(*) FROM by_class_minute";
    let shown = world.rows(states).await;
    assert_eq!(shown[0][1..], ["0", "true"], "{shown:?}");
}

#[tokio::test]
async fn wrong_expressions_are_refused_with_their_rollup() {
    for (filter, dimensions, told) in [
        (Some("nothing > 1"), vec![], "rollup \"by_class\": its filter: expression"),
        (Some("user_id"), vec![], "its filter \"user_id\" gives Int64, not boolean"),
        (Some("random() > 0.5"), vec![], "may differ from one run to the next"),
        (Some("true"), vec![], "reads no column"),
        (None, vec![("x", "now()")], "dimension \"x\": expression"),
        (None, vec![("x", "score * 2")], "which cannot be a dimension"),
        (None, vec![("x", "count(*)")], "not allowed here"),
        (None, vec![("kind", "lower(kind)")], "is called as a column of the table is"),
        (None, vec![("x", "kind || (SELECT 'a')")], "dimension \"x\""),
    ] {
        let world = World::new().await;
        let mut def = super::world::definition();
        def.rollups = vec![rollup(filter, &dimensions)];
        let e = world.dataset.apply_tables(&[def], true).await.unwrap_err();
        let shown = e.to_string();
        assert!(shown.contains(told) && shown.contains("by_class"), "{shown}");
    }
}
