//! Grouping sets: one row for each group of each set, whatever is known of the rows below.

use super::world::World;

#[tokio::test]
async fn a_constant_key_is_one_group_and_one_total() {
    let world = World::filled().await;
    world.rows("SET otus.rollups = off").await;
    let n = world.value("SELECT count(*) FROM events WHERE kind = 'kind number 1'").await;
    for sets in ["ROLLUP (kind)", "CUBE (kind)", "GROUPING SETS ((kind), ())"] {
        let rows = world
            .rows(&format!(
                "SELECT kind, count(*) FROM events WHERE kind = 'kind number 1'
                 GROUP BY {sets} ORDER BY kind NULLS LAST"
            ))
            .await;
        let expected = [["kind number 1", n.as_str()], ["NULL", n.as_str()]];
        assert_eq!(rows, expected, "{sets}");
    }
}

#[tokio::test]
async fn a_key_in_time_order_leaves_the_other_sets_whole() {
    let world = World::filled().await;
    world.rows("SET otus.rollups = off").await;
    let rows = world
        .rows(
            "SELECT ok, ts, count(*) FROM events WHERE ok GROUP BY CUBE (ok, ts)
             HAVING grouping(ts) = 1 ORDER BY ok NULLS LAST",
        )
        .await;
    assert_eq!(rows, [["true", "NULL", "800"], ["NULL", "NULL", "800"]]);
}

#[tokio::test]
async fn sets_may_hold_truncated_times() {
    let world = World::filled().await;
    for zone in ["UTC", "Europe/Berlin"] {
        world.rows(&format!("SET TIME ZONE '{zone}'")).await;
        for mode in ["auto", "off"] {
            world.rows(&format!("SET otus.rollups = {mode}")).await;
            let total = world
                .rows(
                    "SELECT kind, date_trunc('day', ts), count(*) FROM events
                     GROUP BY ROLLUP (kind, date_trunc('day', ts)) ORDER BY 3 DESC LIMIT 1",
                )
                .await;
            assert_eq!(total, [["NULL", "NULL", "3200"]], "{zone}, {mode}");
            let hours = world
                .rows(
                    "SELECT kind, date_trunc('hour', ts), count(*) FROM events
                     GROUP BY GROUPING SETS ((kind), (date_trunc('hour', ts)))",
                )
                .await;
            assert_eq!(hours.len(), 6 + 18, "{zone}, {mode}");
        }
    }
}
