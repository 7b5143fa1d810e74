//! What queries that read raw rows wish for, and that a rollup which has it answers them.

use otus_engine::catalog::{DimensionDef, MeasureDef, RollupDef};
use otus_engine::time::Granularity;
use serde_json::{Value, json};

use super::rollups::{assert_same, under};
use super::world::World;

async fn wishes(world: &World, sql: &str) -> Vec<Value> {
    under(world, "auto", sql).await;
    world.rows("SET otus.rollups = off").await;
    let text = sql.replace('\'', "''");
    let asked =
        format!("SELECT wanted_rollup FROM otus.queries WHERE query LIKE '%{text}' LIMIT 1");
    let rows = world.rows(&asked).await;
    match rows[0][0].as_str() {
        "NULL" => Vec::new(),
        text => serde_json::from_str(text).unwrap(),
    }
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

/// Queries with the dimensions, the expressions and the measures that they wish for.
const WISHES: [(&str, &[&str], &[&str], &[&str]); 14] = [
    ("SELECT user_id, count(*) FROM events GROUP BY 1", &["user_id"], &[], &["count(*)"]),
    (
        "SELECT kind, sum(amount * 2), max(user_id) FROM events GROUP BY 1",
        &["kind"],
        &[],
        &["max(user_id)", "sum(amount * 2)"],
    ),
    (
        "SELECT sum(user_id * 3 - 1), avg(user_id + 1) FROM events",
        &[],
        &[],
        &["avg(user_id + 1)", "sum((user_id * 3) - 1)"],
    ),
    (
        "SELECT right(kind, 1), count(*) FROM events GROUP BY 1",
        &[],
        &["right(kind, 1)"],
        &["count(*)"],
    ),
    (
        "SELECT user_id % 10, count(*) FROM events WHERE upper(kind) = 'A' AND ok GROUP BY 1",
        &["ok"],
        &["upper(kind)", "user_id % 10"],
        &["count(*)"],
    ),
    ("SELECT kind, upper(kind), count(*) FROM events GROUP BY 1, 2", &["kind"], &[], &["count(*)"]),
    ("SELECT count(*) FROM events WHERE score > 7.5", &[], &["score > 7.5"], &["count(*)"]),
    (
        "SELECT \"mixedCase\", count(*) FILTER (WHERE ok), sum(amount) FILTER (WHERE score > 1.5) \
         FROM events GROUP BY 1",
        &["mixedCase"],
        &[],
        &["count(*) FILTER (WHERE ok)", "sum(amount) FILTER (WHERE score > 1.5)"],
    ),
    (
        "SELECT kind, count(*) FILTER (WHERE kind = 'a') FROM events WHERE user_id = 3 GROUP BY 1",
        &["kind", "user_id"],
        &[],
        &["count(*)"],
    ),
    (
        "SELECT sum(CASE WHEN score > 1.5 THEN amount ELSE 0 END) FROM events WHERE ok",
        &["ok"],
        &[],
        &["sum(CASE WHEN (score > 1.5) THEN amount ELSE 0 END)"],
    ),
    (
        "SELECT count(DISTINCT right(kind, 1)), bool_or(ok) FROM events",
        &["ok"],
        &["right(kind, 1)"],
        &["count(*)"],
    ),
    (
        "SELECT last(score, ts), stddev(score), approx_distinct(score) FROM events WHERE ok",
        &["ok"],
        &[],
        &["approx_distinct(score)", "last(score)", "stddev_samp(score)"],
    ),
    (
        "SELECT count(*) FROM events WHERE \"mixedCase\" LIKE 'M%'",
        &["mixedCase"],
        &[],
        &["count(*)"],
    ),
    (
        "SELECT date_trunc('hour', ts), min(score) FROM events WHERE ts >= '2026-03-01T01:00:00Z' GROUP BY 1",
        &[],
        &[],
        &["min(score)"],
    ),
];

#[tokio::test]
async fn a_wish_that_is_granted_answers() {
    let world = World::declared(|def| def.rollups.clear()).await.fill().await;
    for (sql, dimensions, computed, measures) in WISHES {
        let found = wishes(&world, sql).await;
        let [wish] = found.as_slice() else { panic!("{sql}: {found:?}") };
        assert_eq!(list(&wish["dimensions"]), dimensions, "{sql}");
        assert_eq!(list(&wish["computed"]), computed, "{sql}");
        assert_eq!(list(&wish["measures"]), measures, "{sql}");
        assert_eq!(wish["table"], json!("public.events"));
        let rows = wish["rows"].as_u64().unwrap();
        let whole = !sql.contains("ts >=");
        assert!(
            if whole { rows == 3_200 } else { (1_000..3_200).contains(&rows) },
            "{sql}: {rows}"
        );

        let granted = World::declared(|def| {
            def.measures.clear();
            for (i, measure) in measures.iter().enumerate() {
                def.measures.push(MeasureDef::new(format!("m{i}"), *measure));
            }
            let plain = dimensions.iter().map(|name| DimensionDef::from(*name));
            let computed = computed.iter().enumerate();
            let computed = computed.map(|(i, sql)| DimensionDef::computed(format!("d{i}"), *sql));
            def.rollups = vec![RollupDef {
                name: "wished".into(),
                granularities: vec![Granularity::Hour],
                dimensions: plain.chain(computed).collect(),
                ..RollupDef::default()
            }];
        });
        let granted = granted.await.fill().await;
        let by_rollup = under(&granted, "force", sql).await;
        assert_same(sql, by_rollup, under(&granted, "off", sql).await);
    }
}

#[tokio::test]
async fn a_query_may_wish_for_several_rollups_or_none() {
    let world = World::declared(|def| def.rollups.clear()).await.fill().await;
    let sql = "SELECT (SELECT count(*) FROM events WHERE ok), (SELECT sum(amount) FROM events WHERE kind = 'a')";
    let found = wishes(&world, sql).await;
    let mut by: Vec<_> = found.iter().map(|w| list(&w["dimensions"])).collect();
    by.sort();
    assert_eq!(by, [["kind"], ["ok"]]);
    for sql in [
        "SELECT count(*) FROM events WHERE random() > 2",
        "SELECT array_agg(kind) FROM events WHERE ok",
        "SELECT kind FROM events LIMIT 1",
        "SELECT count(DISTINCT score) FROM events WHERE ok",
    ] {
        let found = wishes(&world, sql).await;
        assert!(found.is_empty(), "{sql}: {found:?}");
    }
}
