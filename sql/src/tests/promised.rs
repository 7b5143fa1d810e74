//! Whether columns may be null is said before a statement runs, and stays whoever answers it.

use arrow::datatypes::{DataType, SchemaRef};
use futures::StreamExt;
use otus_engine::catalog::{DimensionDef, RollupDef};
use otus_engine::time::Granularity;

use super::world::{World, text};
use crate::Outcome;

/// What a statement is described to give, what it gives, and its rows.
async fn told(world: &World, sql: &str) -> (SchemaRef, SchemaRef, Vec<Vec<String>>) {
    let statement = world.session.parse(sql).unwrap().remove(0);
    let described = world.session.describe(&statement, &[]).await.unwrap().schema.unwrap();
    let outcome = world.session.execute(&statement, vec![]).await;
    let Ok(Outcome::Rows { schema, mut stream, .. }) = outcome else {
        panic!("{sql}\n{outcome:?}")
    };
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.unwrap_or_else(|e| panic!("{sql}\n{e:?}"));
        assert_eq!(batch.schema(), schema, "{sql}");
        rows.extend(text(&batch));
    }
    (described, schema, rows)
}

fn by_known() -> RollupDef {
    RollupDef {
        name: "by_known".into(),
        granularities: vec![Granularity::Hour],
        dimensions: vec![
            "kind".into(),
            "ok".into(),
            DimensionDef::computed("known", "kind IS NOT NULL"),
            DimensionDef::computed("named", "coalesce(kind, '?')"),
        ],
        filter: None,
        measures: vec![],
    }
}

#[tokio::test]
async fn columns_are_as_nullable_whoever_answers() {
    let world = World::declared(|def| def.rollups = vec![by_known()]).await.fill().await;
    for (sql, nullable) in [
        (
            "SELECT (kind IS NOT NULL) AS k, count(*) FROM events GROUP BY 1",
            [false, false].as_slice(),
        ),
        (
            "SELECT coalesce(kind, '?'), sum(amount) FROM events GROUP BY 1",
            [false, true].as_slice(),
        ),
        // What two expressions have in common is computed once, whereupon less is known of each.
        (
            "SELECT coalesce(kind, '?'), sum(CASE WHEN coalesce(kind, '?') > 'l' THEN 0.5 WHEN \
             (coalesce(kind, '') = '') = (upper(kind) = 'A') THEN NULL ELSE 2 END) FROM events \
             GROUP BY 1",
            [false, true].as_slice(),
        ),
        (
            "SELECT upper(kind), count(*) FROM events WHERE kind IS NOT NULL GROUP BY 1",
            [true, false].as_slice(),
        ),
    ] {
        for mode in ["off", "force"] {
            world.rows(&format!("SET otus.rollups = {mode}")).await;
            let (described, given, _) = told(&world, sql).await;
            let of = |schema: &SchemaRef| {
                schema.fields().iter().map(|f| f.is_nullable()).collect::<Vec<_>>()
            };
            assert_eq!(of(&given), nullable, "{mode}: {sql}");
            assert_eq!(of(&described), nullable, "{mode}: {sql}");
        }
    }
}

#[tokio::test]
async fn a_subquery_without_a_row_is_null() {
    let world = World::filled().await;
    for sql in [
        "SELECT (SELECT ts FROM events WHERE user_id < 0) AS t",
        "SELECT t FROM (SELECT (SELECT 1 WHERE false) AS t) x",
        "SELECT count(*) AS n, (SELECT 1 WHERE false) AS t FROM events",
        "SELECT (SELECT count(*) FROM events e WHERE e.user_id = x.column1 HAVING count(*) > 1) AS t \
         FROM (VALUES (-1)) x",
    ] {
        let (described, given, rows) = told(&world, sql).await;
        assert_eq!(rows.len(), 1, "{sql}");
        assert_eq!(rows[0].last().unwrap(), "NULL", "{sql}");
        for schema in [described, given] {
            let field = schema.fields().last().unwrap();
            assert_ne!(*field.data_type(), DataType::Null, "{sql}");
            assert!(field.is_nullable(), "{sql}");
        }
    }
}

#[tokio::test]
async fn tests_for_truth_are_planned_whoever_answers() {
    let world = World::declared(|def| def.rollups = vec![by_known()]).await.fill().await;
    let sql = "SELECT count(CASE WHEN (kind IS NOT NULL) IN (false, true) OR ok IS NOT FALSE THEN 1 END) \
               FROM events WHERE (kind IS NOT NULL) IN (SELECT kind IS NOT NULL FROM events GROUP BY 1 \
               ORDER BY count(*) DESC LIMIT 3)";
    for mode in ["off", "auto", "force"] {
        world.rows(&format!("SET otus.rollups = {mode}")).await;
        assert_eq!(world.value(sql).await, "3200", "{mode}");
    }
}
