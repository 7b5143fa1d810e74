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

#[tokio::test]
async fn nan_is_the_greatest_float_of_a_group() {
    let world = World::new().await;
    let rows = "(VALUES (1, 1.5::double precision), (1, 'NaN'::double precision), (1, 5.0::double precision), (2, -1.0::double precision)) t (g, x)";
    let sql = format!(
        "SELECT g, min(x), max(x) AS m FROM {rows} GROUP BY g HAVING max(x) > 0 OR min(x) < 0 ORDER BY g"
    );
    assert_eq!(world.rows(&sql).await, [["1", "1.5", "NaN"], ["2", "-1.0", "-1.0"]]);
    let sql = format!("SELECT min(x), max(x) FROM {rows}");
    assert_eq!(world.rows(&sql).await, [["-1.0", "NaN"]]);
}

#[tokio::test]
async fn sets_may_hold_expressions_that_become_functions() {
    let world = World::filled().await;
    for key in ["kind || '!'", "user_id + 1", "repeat(kind, 2)", "score::bigint"] {
        let rows = world
            .rows(&format!(
                "SELECT {key}, count(*) FROM events GROUP BY ROLLUP ({key}) ORDER BY 2 DESC"
            ))
            .await;
        assert_eq!(rows[0], ["NULL", "3200"], "{key}");
        let groups = world
            .value(&format!("SELECT count(*) FROM (SELECT {key} FROM events GROUP BY 1) g"))
            .await;
        assert_eq!(
            rows.len().to_string(),
            format!("{}", groups.parse::<usize>().unwrap() + 1),
            "{key}"
        );
    }
}
