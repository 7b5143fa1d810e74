//! Cursors that go back: where they stand after each FETCH and MOVE, and what they may keep.

use super::world::{World, rows_of};
use crate::engine::SqlConfig;

/// The numbers that a statement gives, and what a MOVE says.
async fn numbers(world: &World, sql: &str) -> String {
    let rows = rows_of(&world.session, sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.concat().join(" ")
}

#[tokio::test]
async fn a_scroll_cursor_stands_where_postgres_has_it() {
    let world = World::new().await;
    world.rows("BEGIN; DECLARE c SCROLL CURSOR FOR SELECT n FROM generate_series(1, 5) t(n)").await;
    for (sql, wanted) in [
        ("fetch prior c", ""),
        ("fetch 2 c", "1 2"),
        ("fetch prior c", "1"),
        ("fetch 0 c", "1"),
        ("fetch backward 5 c", ""),
        ("fetch 0 c", ""),
        ("fetch all c", "1 2 3 4 5"),
        ("fetch next c", ""),
        ("fetch relative 0 c", ""),
        ("fetch prior c", "5"),
        ("fetch last c", "5"),
        ("fetch first c", "1"),
        ("fetch absolute 3 c", "3"),
        ("fetch absolute -2 c", "4"),
        ("fetch relative -1 c", "3"),
        ("fetch relative 2 c", "5"),
        ("fetch -2 c", "4 3"),
        ("fetch absolute 0 c", ""),
        ("fetch next c", "1"),
        ("fetch absolute 9 c", ""),
        ("fetch prior c", "5"),
        ("move backward all c", "MOVE 4"),
        ("move 3 c", "MOVE 3"),
        ("move absolute 2 c", "MOVE 1"),
        ("move relative 0 c", "MOVE 1"),
        ("fetch forward all c", "3 4 5"),
        ("fetch backward 2 c", "5 4"),
        ("fetch absolute -9 c", ""),
        ("fetch c", "1"),
        ("move relative -5 c", "MOVE 0"),
        ("fetch relative 3 c", "3"),
        ("fetch forward all c", "4 5"),
        ("fetch backward all c", "5 4 3 2 1"),
        ("move relative 9 c", "MOVE 0"),
        ("fetch relative -1 c", "5"),
    ] {
        assert_eq!(numbers(&world, sql).await, wanted, "{sql}");
    }
    world.rows("COMMIT").await;
    world
        .rows("DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 20000) t(n)")
        .await;
    assert_eq!(numbers(&world, "move all h").await, "MOVE 20000");
    assert_eq!(numbers(&world, "move backward all h").await, "MOVE 20000", "over several batches");
    assert_eq!(numbers(&world, "fetch absolute 9000 h").await, "9000");
    assert_eq!(numbers(&world, "fetch backward 2 h").await, "8999 8998");
}

#[tokio::test]
async fn others_only_go_forward() {
    let world = World::new().await;
    for declare in ["CURSOR", "NO SCROLL CURSOR"] {
        for back in [
            "fetch prior c",
            "fetch backward c",
            "fetch first c",
            "fetch last c",
            "fetch absolute 2 c",
            "fetch absolute 0 c",
            "move relative -1 c",
            "move backward all c",
        ] {
            let sql =
                format!("BEGIN; DECLARE c {declare} FOR SELECT n FROM generate_series(1, 5) t(n)");
            world.rows(&sql).await;
            assert_eq!(numbers(&world, "fetch relative 2 c").await, "2");
            assert_eq!(numbers(&world, "fetch 0 c").await, "2");
            let e = world.error(back).await;
            assert_eq!((e.sqlstate, e.message.as_str()), ("55000", "cursor can only scan forward"));
            world.rows("ROLLBACK").await;
        }
    }
    world.rows("BEGIN; DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 5) t(n)").await;
    assert_eq!(numbers(&world, "fetch absolute 3 c").await, "3", "that is forward");
    assert_eq!(numbers(&world, "fetch absolute 9 c").await, "");
}

#[tokio::test]
async fn what_a_scroll_cursor_keeps_is_bounded() {
    let config = SqlConfig { threads: 2, memory_bytes: 16 << 20, ..SqlConfig::default() };
    let world = World::with(config).await;
    let wide = "SELECT n, repeat('x', 1000) FROM generate_series(1, 100000) t(n)";
    world.rows(&format!("DECLARE h SCROLL CURSOR WITH HOLD FOR {wide}")).await;
    let e = world.error("MOVE ALL h").await;
    assert_eq!(e.sqlstate, "53200", "{e:?}");
    assert!(e.hint.as_deref().is_some_and(|hint| hint.contains("`memory`")), "{e:?}");
    let e = world.error("FETCH h").await;
    assert_eq!((e.sqlstate, e.message.as_str()), ("55000", "portal \"h\" cannot be run"));
    world.rows("CLOSE h").await;
    assert_eq!(world.engine.memory_reserved(), 0);
    world.rows(&format!("DECLARE h CURSOR WITH HOLD FOR {wide}")).await;
    assert_eq!(numbers(&world, "MOVE ALL h").await, "MOVE 100000", "forward nothing is kept");
}
