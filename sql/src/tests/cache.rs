//! Answers that are given again.

use std::time::Duration;

use futures::StreamExt;
use otus_engine::catalog::MeasureDef;

use super::world::{BASE_US, STEP_US, World, rows_of};
use crate::pull::{self, Encoding};
use crate::{Outcome, SessionOptions, SqlConfig};

const COUNT: &str = "SELECT count(*) FROM events";
/// Rows of the first file of [`World::filled`].
const OLD: &str = "SELECT count(*), sum(user_id) FROM events WHERE ts < '2026-03-01T06:00:00Z'";

async fn cached(world: &World, text: &str) -> Vec<String> {
    let quoted = text.replace('\'', "''");
    let asked =
        format!("SELECT cached FROM otus.queries WHERE query = '{quoted}' ORDER BY started_at");
    world.rows(&asked).await.concat()
}

async fn caching(max_age: &str) -> World {
    let world = World::filled().await;
    allow(&world, max_age).await;
    world
}

async fn allow(world: &World, max_age: &str) {
    world.rows(&format!("SET otus.cache_max_age = '{max_age}'")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_given_again_while_it_is_young() {
    let world = World::filled().await;
    assert_eq!(world.value(COUNT).await, "3200");
    world.append(1);
    assert_eq!(world.value(COUNT).await, "3201", "off unless a session asks");
    allow(&world, "5s").await;
    assert_eq!(world.value(COUNT).await, "3201");
    assert_eq!(world.session.provenance().age, None);
    world.append(1);
    world.clock.advance(5_000_000);
    assert_eq!(world.value(COUNT).await, "3201");
    assert_eq!(world.session.provenance().age, Some(Duration::from_secs(5)));
    let told = cached(&world, COUNT).await;
    assert_eq!(told, ["false", "false", "false", "true"]);
    world.clock.advance(1);
    assert_eq!(world.value(COUNT).await, "3202", "too old");
    world.append(1);
    allow(&world, "0").await;
    assert_eq!(world.value(COUNT).await, "3203", "at once without permission");
    allow(&world, "5s").await;
    assert_eq!(world.value(COUNT).await, "3202", "what was run without permission is not kept");
    let figures = world.engine.cache_figures();
    assert_eq!((figures.hits, figures.misses, figures.answers), (2, 3, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_changes_an_answer_is_part_of_its_key() {
    let world = caching("1h").await;
    let time = "SELECT to_char(max(ts), 'HH24:MI') FROM events";
    let utc = world.value(time).await;
    world.rows("SET TimeZone = 'Asia/Tokyo'").await;
    assert_ne!(world.value(time).await, utc);
    world.rows("SET TimeZone = 'UTC'").await;
    assert_eq!(world.value(COUNT).await, "3200");
    world.append(1);
    assert_eq!(world.value(&format!("{COUNT} WHERE true")).await, "3201", "another text");
    world.rows("SET otus.rollups = off").await;
    assert_eq!(world.value(COUNT).await, "3201");
    world.rows("RESET otus.rollups").await;
    assert_eq!(world.value(COUNT).await, "3200");
    world.rows("SET search_path = public").await;
    assert_eq!(world.value(COUNT).await, "3201");
    world.rows("RESET search_path").await;
    let asked = "PREPARE p(bigint) AS SELECT count(*) FROM events WHERE user_id < $1";
    world.rows(asked).await;
    let (few, many) = (world.value("EXECUTE p(1)").await, world.value("EXECUTE p(50)").await);
    assert_ne!(few, many);
    world.append(97);
    assert_eq!(world.value("EXECUTE p(1)").await, few);
    assert_eq!(world.value("EXECUTE p(50)").await, many);
    let session = |user: &str| {
        world.engine.session(SessionOptions { user: user.into(), ..SessionOptions::default() })
    };
    let sql = format!("SET otus.cache_max_age = '1h'; {COUNT}");
    assert_eq!(rows_of(&session("bob"), &sql).await.unwrap(), [["3298"]], "another user");
    assert_eq!(rows_of(&session("ann"), &sql).await.unwrap(), [["3200"]], "the same user");
    assert_eq!(rows_of(&session("ann"), COUNT).await.unwrap(), [["3298"]], "without permission");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_answers_are_never_kept() {
    let world = caching("1h").await;
    for sql in [
        "SELECT random()",
        "SELECT count(*) FROM events WHERE random() < 2",
        "SELECT (SELECT count(*) FROM events WHERE random() < 2)",
        "SELECT count(*) FROM otus.segments",
        "SELECT pg_backend_pid()",
        "SELECT current_setting('otus.rollups')",
        "SELECT relname FROM pg_class",
        "SELECT table_name FROM information_schema.tables",
        // Too long.
        "SELECT a.ts, b.user_id FROM events a CROSS JOIN (SELECT user_id FROM events LIMIT 150) b",
    ] {
        world.rows(sql).await;
        world.rows(sql).await;
        assert_eq!(cached(&world, sql).await, ["false", "false"], "{sql}");
    }
    for begin in ["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"] {
        world.rows(begin).await;
        assert_eq!(world.value(COUNT).await, "3200");
        assert_eq!(world.value(COUNT).await, "3200");
        world.rows("COMMIT").await;
    }
    assert_eq!(cached(&world, COUNT).await, ["false"; 4]);
    let failing = "SELECT 1 / (count(*) - 3200) FROM events";
    world.error(failing).await;
    world.append(1);
    assert_eq!(world.value(failing).await, "1");
    assert_eq!(world.engine.cache_figures().answers, 1);
    for sql in ["EXPLAIN SELECT kind FROM events", "EXPLAIN ANALYZE SELECT kind FROM events"] {
        world.rows(sql).await;
    }
    assert_eq!(world.engine.cache_figures().answers, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_cut_off_is_not_kept() {
    let world = caching("1h").await;
    let long = "SELECT user_id, n FROM events CROSS JOIN generate_series(1, 40) AS n";
    let rows = async |stop: &dyn Fn()| {
        let statement = world.session.parse(long).unwrap().remove(0);
        let outcome = world.session.execute(&statement, vec![]).await.unwrap();
        let Outcome::Rows { mut stream, .. } = outcome else { panic!() };
        stream.next().await.unwrap().unwrap();
        assert!(world.engine.cache_figures().bytes > 0, "room is taken on the way");
        stop();
        stream.next().await
    };
    rows(&|| ()).await;
    assert_eq!(world.engine.cache_figures().bytes, 0);
    let cancelled = rows(&|| world.session.cancel_handle().cancel()).await;
    assert!(cancelled.is_some_and(|next| next.is_err()));
    let figures = world.engine.cache_figures();
    assert_eq!((figures.answers, figures.bytes, figures.hits), (0, 0, 0));
    world.rows(long).await;
    world.rows(long).await;
    assert_eq!(world.engine.cache_figures().hits, 1, "else it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_definitions_have_other_answers() {
    let world = caching("1h").await;
    let by_view = "SELECT sum(good) FROM by_kind_day";
    let before = world.value(by_view).await;
    assert_eq!(world.value(COUNT).await, "3200");
    assert_eq!(world.engine.cache_figures().answers, 2);
    world
        .declare(|def| {
            let good = def.measures.iter_mut().find(|m| m.name == "good").unwrap();
            good.sql = "count(*) FILTER (WHERE NOT ok)".into();
        })
        .await;
    while world.dataset.backfill_step().await.unwrap() {}
    assert_ne!(world.value(by_view).await, before);
    assert_eq!(cached(&world, by_view).await, ["false", "false"]);
    world.append(1);
    assert_eq!(world.value(COUNT).await, "3201", "all answers are of one catalogue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_what_has_not_changed_is_of_this_moment_too() {
    let world = caching("1s").await;
    let first = world.rows(OLD).await;
    let again = async |given: bool, what: &str| {
        world.clock.advance(10_000_000);
        let rows = world.rows(OLD).await;
        let age = world.session.provenance().age;
        assert_eq!(age, given.then_some(Duration::ZERO), "{what}");
        rows
    };
    assert_eq!(again(true, "nothing happened").await, first);
    world.append(100);
    assert_eq!(again(true, "later rows").await, first);
    world.append_at(BASE_US + STEP_US);
    let late = again(false, "a late row").await;
    assert_ne!(late, first);
    assert_eq!(again(true, "nothing happened again").await, late);
    world.dataset.flush().await.unwrap();
    assert_eq!(again(false, "a chunk became a file").await, late);
    world.dataset.maintain(true).await.unwrap();
    assert_eq!(again(false, "files were merged").await, late);
    assert_eq!(again(true, "nothing more").await, late);
    // What asks for the time is not of another moment.
    for sql in [
        "SELECT count(*) FROM events WHERE ts < now()",
        "SELECT count(*) FROM events WHERE ts < current_date",
    ] {
        world.rows(sql).await;
        world.rows(sql).await;
        assert_eq!(world.session.provenance().age, Some(Duration::ZERO), "{sql}");
        world.clock.advance(10_000_000);
        world.rows(sql).await;
        assert_eq!(world.session.provenance().age, None, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_client_has_is_not_sent() {
    let world = World::filled().await;
    let tagged = async |sql: &str, known: &[String]| {
        world.session.tag_answers(known.to_vec());
        let rows = world.rows(sql).await;
        (rows, world.session.provenance())
    };
    let (rows, first) = tagged(OLD, &[]).await;
    let tag = vec![first.tag.clone().unwrap()];
    assert!(!first.unchanged && !rows.is_empty());
    world.append(10);
    let (none, told) = tagged(OLD, &tag).await;
    assert!(told.unchanged && none.is_empty() && told.tag == first.tag);
    assert_eq!(cached(&world, OLD).await, ["false", "true"]);
    let (_, other) = tagged(&OLD.replace("06:00", "05:00"), &tag).await;
    assert!(!other.unchanged && other.tag != first.tag);
    world.rows("SET TimeZone = 'Asia/Tokyo'").await;
    let (_, other) = tagged(OLD, &tag).await;
    assert!(!other.unchanged && other.tag != first.tag);
    world.rows("RESET TimeZone").await;
    world.append_at(BASE_US + STEP_US);
    let (now, changed) = tagged(OLD, &tag).await;
    assert!(!changed.unchanged && changed.tag != first.tag && now != rows);
    for sql in ["SELECT now()", "SELECT random()", "SELECT count(*) FROM otus.segments"] {
        assert_eq!(tagged(sql, &tag).await.1.tag, None, "{sql}");
    }
    assert_eq!(world.engine.cache_figures().answers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_bounded() {
    let bound = 64 << 10;
    let config = SqlConfig { threads: 2, result_cache_bytes: bound, ..SqlConfig::default() };
    let world = World::with(config).await.fill().await;
    allow(&world, "1h").await;
    for n in 0..200 {
        world.rows(&format!("SELECT {n}, count(*) FROM events")).await;
        let figures = world.engine.cache_figures();
        assert!(figures.bytes <= bound, "{figures:?}");
    }
    let figures = world.engine.cache_figures();
    assert!(figures.answers > 10 && figures.answers < 200, "{figures:?}");
    let last = "SELECT 199, count(*) FROM events";
    for (sql, hits) in [(last, 1), ("SELECT 0, count(*) FROM events", 1)] {
        world.rows(sql).await;
        assert_eq!(world.engine.cache_figures().hits, hits, "the oldest answers leave first");
    }
    // A few rows of a large chunk are few bytes.
    let few = "SELECT kind, user_id FROM events ORDER BY ts DESC LIMIT 3";
    world.rows(few).await;
    world.rows(few).await;
    assert_eq!(world.engine.cache_figures().hits, 2);
    let config = SqlConfig { threads: 2, result_cache_bytes: 0, ..SqlConfig::default() };
    let world = World::with(config).await.fill().await;
    allow(&world, "1h").await;
    world.rows(COUNT).await;
    world.rows(COUNT).await;
    assert_eq!(world.engine.cache_figures().hits, 0, "off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_is_answered_again_too() {
    let world = caching("5s").await;
    let pattern = "{:pattern {:metrics {(:events :with [{:granularity :day, :from \"2026-03-01\", \
                   :to \"2026-03-02\", :fill :none}]) [{:events ?} ?rows]}}}";
    let ask = async |pattern: &str, accept: Encoding| {
        let body = pattern.as_bytes();
        let answer = pull::run_as(&world.session, body, Encoding::Edn, accept).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        (String::from_utf8(answer.body.to_vec()).unwrap(), answer.age)
    };
    let (first, age) = ask(pattern, Encoding::Edn).await;
    assert!(first.contains(":events 3200") && age.is_none(), "{first}");
    world.append(1);
    world.clock.advance(2_000_000);
    assert_eq!(ask(pattern, Encoding::Edn).await, (first, Some(Duration::from_secs(2))));
    let (json, age) = ask(pattern, Encoding::Json).await;
    assert!(json.contains("3201") && age.is_none(), "{json}");
    world.clock.advance(4_000_000);
    let (later, age) = ask(pattern, Encoding::Edn).await;
    assert!(later.contains(":events 3201") && age.is_none(), "{later}");
    // Part of it fails: a map where rows are expected.
    let wrong = "{:pattern {:bounds {:events {:newest [{:x ?}]}}}}";
    let answer = pull::run(&world.session, wrong.as_bytes(), Encoding::Edn).await;
    let again = pull::run(&world.session, wrong.as_bytes(), Encoding::Edn).await;
    assert!(answer.age.is_none() && again.age.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_of_small_files_are_opened_once() {
    let without = SqlConfig { threads: 2, states_cache_bytes: 0, ..SqlConfig::default() };
    let (world, opening) = (World::filled().await, World::with(without).await.fill().await);
    let sql = "SELECT date_trunc('hour', ts), kind, count(*), sum(amount), min(amount) FROM events \
               WHERE kind IS DISTINCT FROM 'kind number 2' GROUP BY 1, 2 ORDER BY 1, 2";
    for world in [&world, &opening] {
        world.rows("SET otus.rollups = force").await;
    }
    let asked = opening.rows(sql).await;
    assert_eq!(world.rows(sql).await, asked);
    assert_eq!(world.rows(sql).await, asked);
    let kept = world.engine.cache_figures().states_bytes;
    assert!(kept > 0);
    assert_eq!(opening.engine.cache_figures().states_bytes, 0);
    let quoted = sql.replace('\'', "''");
    let read = format!("SELECT bytes_read FROM otus.queries WHERE query = '{quoted}'");
    assert_eq!(world.rows(&read).await.concat(), ["0", "0"]);
    assert_ne!(opening.rows(&read).await.concat(), ["0"]);
    // Another declaration of the states of the same files.
    for world in [&world, &opening] {
        world.declare(|def| def.measures.push(MeasureDef::new("most", "max(user_id)"))).await;
        world.append(100);
    }
    let sql = "SELECT kind, count(*), max(user_id) FROM events GROUP BY 1 ORDER BY 1";
    for world in [&world, &opening] {
        world.rows("SET otus.rollups = auto").await;
    }
    assert_eq!(world.rows(sql).await, opening.rows(sql).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_at_hand_are_bounded() {
    let bound = 256 << 10;
    let config = SqlConfig { threads: 2, states_cache_bytes: bound, ..SqlConfig::default() };
    let world = World::with(config).await;
    let sql = "SELECT kind, sum(events) FROM by_kind_minute GROUP BY 1";
    for n in 1..60 {
        world.append(300);
        world.dataset.flush().await.unwrap();
        world.rows(sql).await;
        let kept = world.engine.cache_figures().states_bytes;
        assert!(kept > 0 && kept <= bound, "{kept} bytes after {n} files");
    }
}
