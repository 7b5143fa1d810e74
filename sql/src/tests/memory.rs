//! The memory of queries: what they gather is seen, and what does not fit goes to disk and comes back.

use std::time::Duration;

use super::world::World;
use crate::SqlConfig;
use crate::error::sqlstate;

async fn limited(memory_bytes: usize, batch_rows: usize) -> World {
    let config = SqlConfig { memory_bytes, batch_rows, threads: 2, ..SqlConfig::default() };
    World::with(config).await
}

#[tokio::test]
async fn what_aggregates_gather_is_bounded() {
    let world = limited(32 << 20, 8192).await;
    world.append(3_000);
    for gathered in [
        "array_agg(repeat(kind, 2000))",
        "array_agg(repeat(kind, 2000)) FILTER (WHERE user_id > 5)",
        "array_agg(repeat(kind, 2000) ORDER BY ts)",
        "array_agg(DISTINCT repeat(kind, 2000) || _offset)",
        "array_agg(make_array(repeat(kind, 2000)))",
        "string_agg(repeat(kind, 2000), ',')",
        "string_agg(repeat(kind, 2000), ',' ORDER BY ts)",
    ] {
        for sql in [
            format!("SELECT {gathered} IS NULL FROM events"),
            format!("SELECT ok, {gathered} IS NULL FROM events GROUP BY 1"),
        ] {
            let e = world.error(&sql).await;
            assert_eq!(e.sqlstate, sqlstate::OUT_OF_MEMORY, "{sql}: {e:?}");
            assert!(e.hint.as_ref().is_some_and(|hint| hint.contains("[query]")), "{sql}: {e:?}");
        }
    }
    for _ in 0..100 {
        if world.engine.memory_reserved() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} bytes are still taken", world.engine.memory_reserved());
}

#[tokio::test]
async fn counted_aggregates_answer_as_ever() {
    // Each sort reserves ten MiB for its merge.
    let world = limited(64 << 20, 100).await;
    world.append(4_000);
    let gathered = world
        .rows(
            "SELECT kind, array_agg(\"mixedCase\" ORDER BY ts DESC)[1], cardinality(array_agg(ts)),
                array_agg(score) FILTER (WHERE score < 1), length(string_agg(repeat(kind, 10), ','))
             FROM events WHERE kind IS NOT NULL GROUP BY kind ORDER BY kind",
        )
        .await;
    let count = world.rows("SELECT count(*) FROM events WHERE kind = 'kind number 3'").await;
    assert_eq!(gathered.len(), 5);
    let three = &gathered[3];
    assert_eq!(three[0], "kind number 3");
    assert_eq!(three[2], count[0][0]);
    assert_eq!(three[3], "[0.75]");
    let rows: usize = count[0][0].parse().unwrap();
    assert_eq!(three[4], (rows * 131 - 1).to_string());
    for (sql, wanted) in [
        (
            "SELECT string_agg(DISTINCT \"mixedCase\", '' ORDER BY \"mixedCase\") FROM events",
            "M0M1M2",
        ),
        ("SELECT (array_agg(DISTINCT ok ORDER BY ok))[2] FROM events", "true"),
    ] {
        assert_eq!(world.value(sql).await, wanted, "{sql}");
    }
    // Gathered in pieces that are put on disk and merged.
    let small = limited(16 << 20, 100).await;
    small.append(4_000);
    let long = small
        .rows(
            "SELECT count(*), bool_and(cardinality(list) = n AND list[1] = repeat(kind, 400)) FROM (
                SELECT kind, user_id, count(*) AS n, array_agg(repeat(kind, 400)) AS list
                FROM events GROUP BY kind, user_id) AS t WHERE kind IS NOT NULL",
        )
        .await;
    assert_eq!(long, [["485", "true"]]);
}

/// Rows that two tasks put on disk for one reader all come back, and it never waits for what is there.
#[tokio::test]
async fn rows_between_tasks_come_back_from_disk() {
    let world = limited(2 << 20, 64).await;
    let sql = "SELECT count(*), sum(n) FROM (SELECT g, count(DISTINCT t) AS n FROM (
            SELECT v % 13 AS g, md5((v % 337)::text) AS t FROM generate_series(1, 40000) AS s(v)) AS r GROUP BY g) AS r";
    for run in 0..12 {
        let rows = tokio::time::timeout(Duration::from_secs(60), world.rows(sql)).await;
        assert_eq!(rows.unwrap_or_else(|_| panic!("run {run} waits")), [["13", "4381"]]);
    }
}
