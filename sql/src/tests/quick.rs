//! Plans that are kept physical, over rows that are kept decoded. The oracle is the same statement under a text that
//! runs for the first time.

use datafusion::scalar::ScalarValue;
use otus_engine::catalog::ColumnDef;

use super::access;
use super::kept::{anew, at, run, warm, whole, words, world};
use super::world::{BASE_US, World};
use crate::SqlConfig;

const RANGE: &str = "SELECT count(*), sum(user_id) FROM events WHERE ts >= $1 AND ts < $2";

/// Statements over a range of times, with further parameters.
fn statements() -> [(&'static str, Vec<ScalarValue>); 10] {
    [
        (
            "SELECT ts, user_id FROM events WHERE ts >= $1 AND ts < $2 AND kind = 'kind number 2' ORDER BY ts LIMIT 4",
            vec![],
        ),
        (RANGE, vec![]),
        (
            "SELECT kind, count(*), sum(amount), avg(score) FROM events WHERE ts >= $1 AND ts < $2 GROUP BY kind ORDER BY kind",
            vec![],
        ),
        ("SELECT * FROM events WHERE ts BETWEEN $1 AND $2 ORDER BY ts DESC LIMIT 7", vec![]),
        ("SELECT ts, kind FROM events WHERE ts > $1 AND ts <= $2 AND user_id < $3", vec![whole(9)]),
        (
            "SELECT count(*) FROM events WHERE ts >= $1 AND ts < $2 AND kind = $3",
            vec![words("kind number 2")],
        ),
        (
            "SELECT count(*), min(amount) FROM events WHERE ts >= $1 AND ts < $2 AND (kind IS NULL OR user_id IN ($3, 5, 7))",
            vec![whole(3)],
        ),
        ("SELECT DISTINCT kind FROM events WHERE ts >= $1 AND ts < $2 ORDER BY 1", vec![]),
        (
            "SELECT count(*) FILTER (WHERE ok), max(ts), min(\"mixedCase\") FROM events WHERE ts >= $1 AND ts < $2",
            vec![],
        ),
        (
            "SELECT kind, max(user_id) AS m FROM events WHERE ts >= $1 AND ts < $2 GROUP BY kind HAVING count(*) > 2 ORDER BY m, kind LIMIT 3 OFFSET 1",
            vec![],
        ),
    ]
}

const RANGES: [(i64, i64); 9] = [
    (0, 3_200),
    (100, 112),
    (1_490, 1_510),
    (2_990, 3_100),
    (3_100, 9_000),
    (-9, 0),
    (5, 5),
    (9, 3),
    (1_499, 1_500),
];

/// All statements over all ranges answer as when they are planned anew.
async fn same(world: &World, stage: &str) {
    for (sql, more) in statements() {
        for (from, to) in RANGES {
            let params: Vec<_> = [at(from), at(to)].into_iter().chain(more.clone()).collect();
            let mut kept = Box::pin(run(&world.session, sql, &params)).await.unwrap();
            let mut new = Box::pin(anew(&world.session, sql, &params)).await.unwrap();
            if !sql.contains("ORDER BY") {
                kept.sort();
                new.sort();
            }
            assert_eq!(kept, new, "{stage}: {sql} {from} {to}");
        }
    }
}

async fn warm_all(world: &World) {
    let mut slow = Vec::new();
    for (sql, more) in statements() {
        let params: Vec<_> = [at(100), at(112)].into_iter().chain(more).collect();
        let before = world.engine.kept().quick();
        if !warm(world, sql, &params).await || world.engine.kept().quick() == before {
            slow.push(sql);
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}

fn kept_bytes(world: &World) -> usize {
    world.engine.cache_figures().rows_bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_at_hand_are_those_of_the_moment() {
    let world = world().await;
    assert_eq!(kept_bytes(&world), 0);
    warm_all(&world).await;
    assert!(kept_bytes(&world) > 0);
    same(&world, "files and hot rows").await;
    world.append(1_000);
    same(&world, "more hot rows").await;
    world.append_at(BASE_US + 100);
    same(&world, "a late row").await;
    world.dataset.flush().await.unwrap();
    same(&world, "flushed").await;
    let before = kept_bytes(&world);
    world.dataset.maintain(true).await.unwrap();
    assert_eq!(kept_bytes(&world), before, "nobody has asked yet");
    same(&world, "compacted").await;
    let all: usize = world.engine.rows().paths().len();
    assert_eq!(all, 1, "files that are gone are forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_read_once() {
    let world = world().await;
    assert!(warm(&world, RANGE, &[at(100), at(112)]).await);
    for _ in 0..3 {
        run(&world.session, RANGE, &[at(101), at(120)]).await.unwrap();
    }
    let asked = format!("SELECT bytes_read FROM otus.queries WHERE query = '{RANGE}'");
    let read = world.rows(&asked).await.concat();
    assert_eq!(read.len(), 7);
    assert_ne!(read[3], "0", "{read:?}");
    assert_eq!(read[4..], ["0", "0", "0"], "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_kept_are_bounded() {
    for bound in [0, 96 << 10, 512 << 10] {
        let config = SqlConfig { threads: 2, rows_cache_bytes: bound, ..SqlConfig::default() };
        let world = World::with(config).await;
        world.declare(|def| def.rollups.clear()).await;
        let world = world.fill().await;
        warm_all(&world).await;
        for n in 0..12 {
            world.append(300);
            world.dataset.flush().await.unwrap();
            same(&world, &format!("{bound} bytes, {n} files")).await;
            assert!(kept_bytes(&world) <= bound, "{} of {bound} bytes", kept_bytes(&world));
        }
        assert_eq!(kept_bytes(&world) > 0, bound > 0, "{bound} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_of_later_declarations_are_null_in_earlier_files() {
    let world = world().await;
    warm_all(&world).await;
    world
        .declare(|def| {
            def.rollups.clear();
            def.columns.push(ColumnDef::new("added", "bigint".parse().unwrap()));
        })
        .await;
    let added = "SELECT count(*), count(added) FROM events WHERE ts >= $1 AND ts < $2";
    warm(&world, added, &[at(1_490), at(1_510)]).await;
    assert_eq!(world.engine.kept().quick(), 1, "those of before are let go");
    assert_eq!(run(&world.session, added, &[at(0), at(9)]).await.unwrap(), [["9", "0"]]);
    warm_all(&world).await;
    same(&world, "declared otherwise").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_plan_share_nothing() {
    let world = world().await;
    let top = "SELECT user_id, ts FROM events WHERE ts >= $1 AND ts < $2 ORDER BY user_id DESC, ts LIMIT 3";
    assert!(warm(&world, top, &[at(0), at(3_000)]).await);
    let low = anew(&world.session, top, &[at(0), at(4)]).await;
    let high = anew(&world.session, top, &[at(90), at(97)]).await;
    assert_ne!(low, high);
    for _ in 0..3 {
        let (of_high, of_low) = ([at(90), at(97)], [at(0), at(4)]);
        let of_high = run(&world.session, top, &of_high);
        let both = futures::join!(of_high, run(&world.session, top, &of_low));
        assert_eq!(both, (high.clone(), low.clone()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_under_filters_stay_so() {
    let world = access::world().await;
    world.declare(|def| def.rollups.clear()).await;
    let one = access::user(&world, &["kind"], &[("kind", "kind number 1")]);
    let params = [at(0), at(2_000)];
    for _ in 0..5 {
        let all = run(&world.session, RANGE, &params).await;
        assert_eq!(all, anew(&world.session, RANGE, &params).await);
        let part = RANGE.replace("WHERE", "WHERE kind = 'kind number 1' AND");
        let seen = run(&one, RANGE, &params).await;
        assert_eq!(seen, anew(&world.session, &part, &params).await);
        assert_ne!(seen, all);
    }
    assert!(kept_bytes(&world) > 0);
}
