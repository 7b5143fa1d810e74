//! Conditions over expressions that lose something of a column: nothing more may be inferred of the column.

use super::world::World;

#[tokio::test]
async fn a_day_is_not_one_moment() {
    let world = World::filled().await;
    world.rows("SET otus.rollups = off").await;
    let rows = world
        .rows(
            "SELECT ts, kind, count(*) FROM events WHERE ts::date >= DATE '2026-03-01'
             GROUP BY 1, 2 ORDER BY 1, 2",
        )
        .await;
    assert_eq!(rows.len(), 3_200);
    assert!(rows.is_sorted_by(|a, b| a[0] <= b[0]), "times are out of order");
    let latest = world
        .rows("SELECT ts FROM events WHERE ts::date = DATE '2026-03-01' ORDER BY ts DESC LIMIT 2")
        .await;
    assert_eq!(latest, [["2026-03-01T17:46:20Z"], ["2026-03-01T17:46:00Z"]]);
}

#[tokio::test]
async fn a_day_before_all_rows_is_no_error() {
    let world = World::filled().await;
    for condition in [
        "ts::date < DATE '2026-03-01'",
        "ts >= '2026-03-01T10:00:00Z' AND ts::date < DATE '2026-03-01'",
        "ts >= '2026-03-01T10:00:00Z' AND ts::date <= DATE '2026-02-01'",
    ] {
        for mode in ["auto", "off"] {
            world.rows(&format!("SET otus.rollups = {mode}")).await;
            let sql = format!("SELECT kind, count(*) FROM events WHERE {condition} GROUP BY 1");
            assert!(world.rows(&sql).await.is_empty(), "{condition}, {mode}");
        }
    }
}

#[tokio::test]
async fn a_cut_quotient_is_several_numbers() {
    let world = World::filled().await;
    world.rows("SET otus.rollups = off").await;
    let ids = world
        .rows(
            "SELECT user_id, kind, count(*) FROM events WHERE user_id / 2 = 48 OR user_id / 2 = 48
             GROUP BY 1, 2 ORDER BY 1, 2",
        )
        .await;
    assert!(ids.iter().all(|row| row[0] == "96"));
    let ids = world
        .rows("SELECT user_id, kind FROM events WHERE user_id / 2 = 5 GROUP BY 1, 2 ORDER BY 1, 2")
        .await;
    assert!(ids.is_sorted_by(|a, b| a[0] <= b[0]), "{ids:?}");
    assert_eq!(ids.iter().filter(|row| row[0] == "11").count(), 6);
}

#[tokio::test]
async fn rows_of_the_last_day_are_sorted() {
    let world = World::filled().await;
    world.rows("SET otus.rollups = off").await;
    world.append(3_000);
    for life in ["hot", "flushed"] {
        for zone in ["UTC", "Europe/Berlin"] {
            world.rows(&format!("SET TIME ZONE '{zone}'")).await;
            for condition in [
                "ts::date >= DATE '2026-03-02'",
                "ts::date = DATE '2026-03-02' AND ts > '2026-03-01 12:00'",
                "date_trunc('day', ts) = '2026-03-02'",
            ] {
                let sql =
                    format!("SELECT ts FROM events WHERE {condition} ORDER BY ts DESC LIMIT 2");
                let latest = world.rows(&sql).await;
                let expected = [["2026-03-02T10:26:20Z"], ["2026-03-02T10:26:00Z"]];
                assert_eq!(latest, expected, "{life}, {zone}: {condition}");
            }
        }
        world.dataset.flush().await.unwrap();
    }
}

#[tokio::test]
async fn calls_and_keys_may_differ_in_a_cast_alone() {
    let world = World::filled().await;
    for mode in ["off", "auto"] {
        world.rows(&format!("SET otus.rollups = {mode}")).await;
        let calls = "SELECT min(score + 0.6) < min((score + 0.6)::bigint), max(user_id), max(user_id::text),
                            count(*) FILTER (WHERE sum.x > 0) > 0
                     FROM events, (VALUES (1)) AS sum (x) HAVING min(user_id::text) = '0' AND min(user_id) = 0";
        let keys = "SELECT user_id::text AS t, user_id, count(*) > 0 FROM events
                    GROUP BY 1, 2 ORDER BY user_id::text DESC LIMIT 1";
        assert_eq!(world.rows(calls).await, [["true", "96", "96", "true"]], "{mode}");
        assert_eq!(world.rows(keys).await, [["96", "96", "true"]], "{mode}");
    }
}
