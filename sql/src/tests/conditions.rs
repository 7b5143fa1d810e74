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

#[tokio::test]
async fn lists_know_nulls() {
    let world = World::filled().await;
    let kinds = "(VALUES (1),(2),(3),(NULL)) t(x)";
    for (condition, expected) in [
        ("x NOT IN (3, 4) OR x NOT IN (1, 4)", "true true true null"),
        ("x NOT IN (3, 5) OR x NOT IN (1, 4)", "true true true null"),
        ("x NOT IN (3, NULL) OR x NOT IN (1, 4)", "null true true null"),
        ("NOT (x IN (1, 2) AND x IN (3, 4))", "true true true null"),
        ("(x IN (1, 2) AND x IN (3, 4)) IS NULL", "false false false true"),
        ("x IN (1, 2) AND x NOT IN (NULL, 3)", "null null false null"),
        ("x IN (1, NULL) AND x IN (2, NULL)", "null null null null"),
        ("x IN (1, 2) AND x NOT IN (1, 2)", "false false false null"),
        ("x NOT IN (1, 2) AND x NOT IN (2, 3) AND x NOT IN (4, 5)", "false false false null"),
        ("(x IN (1, 2) OR x IN (2, 3)) AND x NOT IN (2, 4)", "true false true null"),
    ] {
        let sql = format!(
            "SELECT coalesce(({condition})::text, 'null') FROM {kinds} ORDER BY x NULLS LAST"
        );
        assert_eq!(world.rows(&sql).await.concat().join(" "), expected, "{condition}");
    }
    let many: Vec<_> = (0..300).map(|i| format!("x NOT IN ({i}, {}, -1, -2)", i + 1)).collect();
    let sql = format!("SELECT count(*) FROM {kinds} WHERE {}", many.join(" OR "));
    assert_eq!(world.value(&sql).await, "3");
    for (condition, plain) in [
        (
            "kind NOT IN ('kind number 1', 'y') OR kind NOT IN ('kind number 2', 'x')",
            "kind IS NOT NULL",
        ),
        ("kind IN ('kind number 1') AND kind NOT IN (NULL, 'z')", "false"),
        (
            "kind IN ('kind number 1', 'kind number 2', 'z') AND kind NOT IN ('kind number 1', 'x', 'y')",
            "kind = 'kind number 2'",
        ),
    ] {
        for mode in ["auto", "off"] {
            world.rows(&format!("SET otus.rollups = {mode}")).await;
            let count = async |condition: &str| {
                world.value(&format!("SELECT count(*) FROM events WHERE {condition}")).await
            };
            assert_eq!(count(condition).await, count(plain).await, "{condition}, {mode}");
        }
    }
}

#[tokio::test]
async fn subqueries_that_may_be_null_stand_anywhere() {
    let world = World::filled().await;
    world.rows("SET otus.rollups = off").await;
    for (condition, plain) in [
        ("kind NOT IN (SELECT 'kind number 1')", "kind <> 'kind number 1'"),
        ("kind NOT IN (SELECT 'a' UNION ALL SELECT NULL)", "false"),
        (
            "kind NOT IN (SELECT 'kind number 1') OR user_id = 7",
            "kind <> 'kind number 1' OR user_id = 7",
        ),
        (
            "NOT (kind IN (SELECT 'kind number 1') AND user_id = 7)",
            "NOT (kind = 'kind number 1' AND user_id = 7)",
        ),
        (
            "(kind IN (SELECT 'kind number 1' WHERE user_id > 0)) IS NULL",
            "kind IS NULL AND user_id > 0",
        ),
        ("(kind IN (SELECT 'a' UNION ALL SELECT NULL)) IS NULL", "true"),
        (
            "(kind IN (SELECT 'a' UNION ALL SELECT NULL WHERE user_id > 3)) IS NULL",
            "user_id > 3 OR kind IS NULL",
        ),
        ("NOT kind IN (SELECT 'kind number 1')", "kind <> 'kind number 1'"),
        (
            "kind IN (SELECT 'kind number 1') OR user_id = 7",
            "kind = 'kind number 1' OR user_id = 7",
        ),
    ] {
        let count = async |condition: &str| {
            world.value(&format!("SELECT count(*) FROM events WHERE {condition}")).await
        };
        assert_eq!(count(condition).await, count(plain).await, "{condition}");
    }
}

#[tokio::test]
async fn averages_of_distinct_values_stand_beside_others() {
    let world = World::filled().await;
    let sql = "SELECT avg(DISTINCT user_id), count(*), avg(DISTINCT amount), avg(DISTINCT user_id) FILTER (WHERE user_id < 3) FROM events";
    let row = world.rows(sql).await.concat();
    assert_eq!(
        (row[0].as_str(), row[1].as_str(), row[3].as_str()),
        ("48.0000000000000000", "3200", "1.0000000000000000")
    );
    let of = "SELECT avg(v), count(*) FROM (SELECT DISTINCT amount v FROM events)";
    assert_eq!(row[2], world.rows(of).await.concat()[0]);
    let groups =
        "SELECT kind, avg(DISTINCT user_id), sum(user_id) FROM events GROUP BY 1 ORDER BY 1";
    assert_eq!(world.rows(groups).await.len(), 6);
}
