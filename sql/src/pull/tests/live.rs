//! Names of answers, and requests that stay: what is sent again, and what is not.

use std::sync::Arc;

use otus_engine::clock::ManualClock;
use otus_engine::dataset::Dataset;

use super::super::answer::Encoding;
use super::super::live::{Live, Update};
use super::super::pull_data;
use super::super::request::run;
use super::super::text::parse_instant;
use super::super::value::{Map, Value};
use super::server::{append, filling, over};
use super::{read, vectors};
use crate::engine::SqlEngine;
use crate::session::{Session, SessionOptions};

const SECOND: i64 = 1_000_000;
const TWO_DAYS: &str = ":from \"2024-08-20\" :to \"2024-08-22\"";

struct World {
    dataset: Arc<Dataset>,
    /// Of one engine: names of answers are.
    engine: Arc<SqlEngine>,
    clock: Arc<ManualClock>,
    epoch: u64,
    /// Offset of the next row.
    next: i64,
}

async fn world() -> World {
    let clock = Arc::new(ManualClock::new(parse_instant("2024-08-21T12:00:00Z").unwrap().0));
    let (dataset, epochs) = filling(Arc::clone(&clock)).await;
    let epoch = epochs.iter().find(|(name, _)| *name == "rolled").unwrap().1;
    let next = i64::try_from(vectors("fixture").len()).unwrap();
    let engine = Arc::clone(over(Arc::clone(&dataset)).engine());
    World { dataset, engine, clock, epoch, next }
}

impl World {
    /// One more play of somebody, at a time.
    async fn play(&mut self, at: &str) {
        let row =
            format!("{{:ts \"{at}\" :region \"eu\" :game \"ddz\" :user \"u9\" :plays 1 :cost 1}}");
        let Value::Map(row) = read(&row) else { unreachable!() };
        append(&self.dataset, "rolled", self.epoch, &[row], self.next).await;
        self.next += 1;
    }

    fn session(&self) -> Session {
        let options = SessionOptions { user: "otus".into(), ..SessionOptions::default() };
        self.engine.session(options)
    }
}

fn map_of(body: &[u8]) -> Map {
    let Value::Map(map) = read(std::str::from_utf8(body).unwrap()) else { panic!("no map") };
    map
}

fn at(map: &Map, path: &[&str]) -> Option<Value> {
    let (first, rest) = path.split_first()?;
    let value = map.get(&match *first {
        "&?" => Value::symbol("&?"),
        name => Value::keyword(name),
    })?;
    match (rest, value) {
        ([], value) => Some(value.clone()),
        (rest, Value::Map(map)) => at(map, rest),
        _ => None,
    }
}

async fn ask(session: &Session, request: &str) -> Map {
    let response = run(session, request.as_bytes(), Encoding::Edn).await;
    assert_eq!(response.status, 200, "{:?}", response.body);
    map_of(&response.body)
}

fn name_of(answer: &Map, path: &[&str]) -> String {
    let path = [&["meta"], path, &["etag"]].concat();
    at(answer, &path).and_then(|tag| tag.as_name().map(str::to_owned)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_the_client_has_are_left_out() {
    let mut world = world().await;
    let session = world.session();
    let pattern = format!(
        "{{:metrics {{(:rolled :with [{{{TWO_DAYS}}}] :as :both) [{{:plays ?}} ?rows]
                      (:rolled :with [{{:from \"2024-08-20\" :to \"2024-08-21\"}}] :as :first) [{{:plays ?}}]}}
           :values {{(:rolled :with [{{:dim :game}}]) [{{:value ?}}]}}}}"
    );
    let first = ask(&session, &format!("{{:pattern {pattern}}}")).await;
    let paths = [["metrics", "both"], ["metrics", "first"], ["values", "rolled"]];
    let names = paths.map(|path| name_of(&first, &path));
    assert!(names[0] != names[1] && names[1] != names[2], "{names:?}");
    let known = format!(
        "{{:pattern {pattern} :known [{}]}}",
        names.iter().map(|name| format!("\"{name}\" ")).collect::<String>()
    );
    let again = ask(&session, &known).await;
    for path in &paths {
        let place = [&["&?"], &path[..]].concat();
        assert_eq!(at(&again, &place), Some(Value::keyword("unchanged")), "{path:?}");
        let said = [&["meta"], &path[..], &["unchanged"]].concat();
        assert_eq!(at(&again, &said), Some(Value::Bool(true)));
    }
    assert_eq!(again.get(&Value::symbol("?rows")), None);
    // A name is of its question: another does not take it.
    let other = known.replace(":first) [{:plays ?}", ":first) [{:cost ?}");
    let other = ask(&session, &other).await;
    assert_eq!(at(&other, &["&?", "metrics", "first"]), Some(read("[{:cost 29}]")));
    // What has changed comes, what has not does not: a file or chunk outside of its times is none of an answer's.
    world.play("2024-08-21T11:00:00Z").await;
    let changed = ask(&session, &known).await;
    assert_eq!(at(&changed, &["&?", "metrics", "both"]), Some(read("[{:plays 13}]")));
    assert!(at(&changed, &["&?", "values", "rolled"]).unwrap().as_sequence().is_some());
    assert_ne!(name_of(&changed, &["metrics", "both"]), names[0]);
    // The same rows in a file instead of in memory are other sources: the answer is sent once more.
    world.dataset.flush().await.unwrap();
    let flushed = ask(&session, &known).await;
    assert_eq!(at(&flushed, &["&?", "metrics", "both"]), Some(read("[{:plays 13}]")));
    let bad = run(&session, b"{:pattern {} :known 1}", Encoding::Edn).await;
    assert_eq!(bad.status, 422);
}

/// The next update, if there is one.
async fn next(live: &mut Live) -> Option<Update> {
    live.next().await.map_err(|refusal| refusal.body).unwrap()
}

fn open(session: Session, pattern: &str, resumed: Option<String>) -> Live {
    let request = format!("{{:pattern {pattern}}}");
    let spellings = (Encoding::Edn, Encoding::Edn);
    Live::open(session, request.as_bytes(), spellings, resumed).map_err(|r| r.body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_watched_is_sent_again_when_it_changes() {
    let mut world = world().await;
    let pattern = format!(
        "{{:metrics {{(:rolled :with [{{{TWO_DAYS}}}] :as :both :watch true) [{{:plays ?}} ?rows]
                      (:rolled :with [{{:from \"2024-08-20\" :to \"2024-08-20T12:00:00Z\"}}] :as :past :watch true) [{{:plays ?}}]
                      (:rolled :with [{{{TWO_DAYS}}}] :as :once) [{{:plays ?}}]}}
           :bounds {{:rolled {{:last ?}}}}}}"
    );
    let mut live = open(world.session(), &pattern, None);
    let first = next(&mut live).await.unwrap();
    let whole = map_of(&first.body);
    for path in
        [["metrics", "both"], ["metrics", "past"], ["metrics", "once"], ["bounds", "rolled"]]
    {
        assert!(at(&whole, &[&["&?"], &path[..]].concat()).is_some(), "{path:?}");
    }
    assert!(next(&mut live).await.is_none(), "nothing has changed");
    world.play("2024-08-21T11:00:00Z").await;
    let changed = next(&mut live).await.unwrap();
    let map = map_of(&changed.body);
    assert_eq!(at(&map, &["&?"]), Some(read("{:metrics {:both [{:plays 13}]}}")));
    assert_eq!(map.get(&Value::symbol("?rows")), Some(&read("[{:plays 13}]")));
    assert_ne!(first.id, changed.id);
    assert!(next(&mut live).await.is_none());
    // Rows of another time are none of it, once they do not stand in one chunk with its own.
    world.dataset.flush().await.unwrap();
    let changed = next(&mut live).await.unwrap();
    world.play("2024-08-29T11:00:00Z").await;
    assert!(next(&mut live).await.is_none());
    // Whoever comes back with all that there is gets what comes after it, and whoever has less gets it all.
    let mut back = open(world.session(), &pattern, Some(changed.id));
    assert!(next(&mut back).await.is_none());
    world.play("2024-08-21T11:30:00Z").await;
    for live in [&mut back, &mut live] {
        let map = map_of(&next(live).await.unwrap().body);
        assert_eq!(at(&map, &["&?"]), Some(read("{:metrics {:both [{:plays 14}]}}")));
    }
    let mut late = open(world.session(), &pattern, Some(first.id));
    let whole = map_of(&next(&mut late).await.unwrap().body);
    assert!(at(&whole, &["&?", "metrics", "once"]).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_moment_is_part_of_an_answer_as_far_as_it_shows() {
    let world = world().await;
    let pattern = "{:metrics {(:rolled :with [{:window :today :granularity :hour}] :watch true) [{:bucket ? :plays ?}]}}";
    let mut live = open(world.session(), pattern, None);
    next(&mut live).await.unwrap();
    world.clock.advance(60 * SECOND);
    assert!(next(&mut live).await.is_none(), "the same bucket is filling");
    world.clock.advance(3_600 * SECOND);
    assert!(next(&mut live).await.is_some(), "the next bucket is filling");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_watch_stands_is_checked() {
    let world = world().await;
    let call = |rest: &str| {
        format!("{{:metrics {{(:rolled :with [{{{TWO_DAYS}}}]{rest}) [{{:plays ?}}]}}}}")
    };
    let watched = call(" :watch true");
    let (session, request) = (world.session(), format!("{{:pattern {watched}}}"));
    let refused = run(&session, request.as_bytes(), Encoding::Edn).await;
    assert_eq!(refused.status, 422);
    let text = String::from_utf8(refused.body.to_vec()).unwrap();
    assert!(text.contains("POST /api/live") && text.contains("[:metrics :rolled]"), "{text}");
    assert!(pull_data("{:a 1}", None, "{(:a :watch true) ?}").is_err());
    let opened = |pattern: &str| {
        let request = format!("{{:pattern {pattern}}}");
        let spellings = (Encoding::Edn, Encoding::Edn);
        Live::open(world.session(), request.as_bytes(), spellings, None)
    };
    assert!(opened(&watched).is_ok());
    for (pattern, told) in [
        (call("").as_str(), "nothing is watched"),
        (call(" :watch false").as_str(), "nothing is watched"),
        ("{(:schema :watch true) {:tables [{:name ?}]}}", ":watch stands on a call"),
        ("{:bounds {(:rolled :watch true) {:last ?}}}", ":watch stands on a call"),
        (call(" :watch 1").as_str(), ":watch true stands on a key"),
    ] {
        let refusal = opened(pattern).err().unwrap();
        let text = String::from_utf8(refusal.body.to_vec()).unwrap();
        assert!(refusal.status == 422 && text.contains(told), "{pattern}: {text}");
    }
}
