//! Functions of time in plans: what they become before anything runs.

use super::world::World;

#[tokio::test]
async fn buckets_of_a_granularity_have_one_form() {
    let world = World::filled().await;
    world.rows("SET otus.rollups = off").await;
    let check = async |call: &str, expected: &str| {
        let plan =
            world.explain(&format!("SELECT {call} AS t, count(*) FROM events GROUP BY t")).await;
        assert!(plan.contains(expected), "{call}: {plan}");
    };
    check("time_bucket('1 hour', ts)", "otus_floor(Utf8(\"hour\"), events.ts)").await;
    check("time_bucket('24 hours', ts)", "otus_floor(Utf8(\"day\"), events.ts)").await;
    check("time_bucket(interval '7 days', ts, 'UTC')", "otus_floor(Utf8(\"week\"), events.ts)")
        .await;
    check("time_bucket('5 minutes', ts)", "otus_floor(Utf8(\"five_minute\"), events.ts)").await;
    check("date_trunc('month', ts, 'UTC')", "otus_floor(Utf8(\"month\"), events.ts)").await;
    let berlin = "otus_bucket(Utf8(\"quarter\"), events.ts, Utf8(\"Europe/Berlin\"))";
    check("time_bucket('3 months', ts, 'europe/berlin')", berlin).await;
    check("date_trunc('quarter', ts, 'Europe/Berlin')", berlin).await;
    // Others stay what they are.
    check("time_bucket('2 hours', ts)", "time_bucket(").await;
    check("time_bucket('1 day', ts, interval '1 hour')", "time_bucket(").await;
}

#[tokio::test]
async fn gaps_are_filled_above_the_aggregate() {
    let world = World::filled().await;
    world.rows("SET otus.rollups = off").await;
    let sql = "SELECT time_bucket_gapfill('1 hour', ts) AS t, locf(count(*)) AS n, interpolate(sum(user_id)) FROM events
               WHERE ts >= '2026-03-01 00:00:00Z' AND ts < '2026-03-02 00:00:00Z' GROUP BY t HAVING count(*) > 1";
    let plan = world.explain(sql).await;
    let logical = plan.split("-- physical").next().unwrap();
    let place = |part: &str| logical.find(part).unwrap_or_else(|| panic!("no {part}: {plan}"));
    assert!(
        place("GapFill:") < place("Filter: count") && place("Filter: count") < place("Aggregate:")
    );
    assert!(logical.contains("otus_floor(Utf8(\"hour\"), events.ts)"), "{plan}");
    // The bounds of the range still reach the table.
    assert!(plan.contains("GapFillExec: buckets=24"), "{plan}");
    assert_eq!(world.rows(sql).await.len(), 24);
}
