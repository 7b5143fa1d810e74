//! The pipeline against a log in memory and files, into a dataset in memory.

mod keyed;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use otus_engine::catalog::{Source, Start, TableDef, TableId};
use otus_engine::clock::SystemClock;
use otus_engine::dataset::{Dataset, DatasetOptions, FlushLimits};
use otus_engine::position::{ReadCounts, TopicPartition};
use otus_engine::store::{Access, Storage, StorageConfig};

use super::{Ingest, IngestConfig, PartitionState, ResetTo};
use crate::log::append::AppendRecord;
use crate::log::memory::MemoryLog;
use crate::testing::{TestCompiler, path, table};

const SOON: Duration = Duration::from_secs(20);

async fn storage() -> Storage {
    let config = StorageConfig { url: "memory:".into(), options: BTreeMap::new() };
    Storage::open(&config, Access::ReadWrite, "test").await.unwrap()
}

async fn dataset(storage: &Storage, tables: &[TableDef]) -> Arc<Dataset> {
    let options = DatasetOptions {
        member: "test".into(),
        clock: Arc::new(SystemClock),
        compiler: Arc::new(TestCompiler),
        flush: FlushLimits::default(),
    };
    let dataset = Dataset::open(storage.clone(), options).await.unwrap();
    dataset.apply_tables(tables, true).await.unwrap();
    dataset
}

async fn start(dataset: &Arc<Dataset>, memory: &Arc<MemoryLog>) -> Arc<Ingest> {
    let config = IngestConfig { memory: Some(Arc::clone(memory)), ..IngestConfig::default() };
    Ingest::start(Arc::clone(dataset), Arc::new(TestCompiler), config).await.unwrap()
}

fn events(name: &str) -> TableDef {
    let mut def = table(vec![path("x", "bigint")]);
    def.name = name.into();
    def.append = true;
    def
}

fn row(x: i64) -> AppendRecord {
    AppendRecord {
        partition: Some(0),
        ..AppendRecord::value(format!(r#"{{"time":"2015-09-12","x":{x}}}"#))
    }
}

fn id(dataset: &Dataset, name: &str) -> TableId {
    dataset.snapshot().table("public", name).unwrap().id
}

/// Everything that a table counted, committed and hot.
fn counts(dataset: &Dataset, table: TableId) -> ReadCounts {
    let snapshot = dataset.snapshot();
    let mut total = ReadCounts::default();
    for position in snapshot.manifest().tables[&table].positions.values() {
        total.add(&position.counts);
    }
    for piece in snapshot.hot(table).iter().flat_map(|chunk| chunk.pieces()) {
        total.add(&piece.counts);
    }
    total
}

async fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn kept(counts: ReadCounts) -> (u64, u64, u64) {
    (counts.kept, counts.filtered, counts.rejected)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_counted_once_in_every_table_through_restarts() {
    let (memory, storage) = (Arc::new(MemoryLog::default()), storage().await);
    memory.create("events", 1);
    let tables = [events("one"), events("two")];
    let tp = TopicPartition::new("events", 0);
    for round in 0..3_i64 {
        let dataset = dataset(&storage, &tables).await;
        let ingest = start(&dataset, &memory).await;
        let bad = AppendRecord { partition: Some(0), ..AppendRecord::value("{") };
        let tombstone = AppendRecord { partition: Some(0), ..AppendRecord::default() };
        let records = vec![row(1), bad, tombstone, row(2)];
        let places = ingest.append("events", records).await.unwrap();
        memory.skip(&tp, 5);
        for name in ["one", "two"] {
            let table = id(&dataset, name);
            let last = places.last().unwrap().1 + 5;
            dataset.wait_visible(table, &tp, last, SOON).await.unwrap();
            let n = u64::try_from(round + 1).unwrap();
            assert_eq!(kept(counts(&dataset, table)), (2 * n, n, n), "{name}");
        }
        wait_for("readiness", || ingest.caught_up_once()).await;
        wait_for("status", || ingest.status().iter().all(|s| s.lag == Some(0))).await;
        if round == 1 {
            // A crash: what is hot is lost and read again.
            ingest.shutdown(Duration::ZERO).await;
        } else {
            ingest.shutdown(SOON).await;
            let positions = dataset.snapshot().positions(id(&dataset, "one"));
            assert_eq!(positions[&tp].0, positions[&tp].1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_waited_for() {
    let (memory, storage) = (Arc::new(MemoryLog::default()), storage().await);
    let dataset = dataset(&storage, &[events("one")]).await;
    let ingest = start(&dataset, &memory).await;
    wait_for("waiting", || ingest.status().iter().any(|s| s.state.name() == "waiting")).await;
    let status = ingest.status().remove(0);
    assert_eq!((status.table, status.table_name.as_str()), (id(&dataset, "one"), "public.one"));
    assert_eq!((status.topic.as_str(), status.partition), ("events", None));
    assert!(ingest.append("other", vec![row(1)]).await.is_err());
    memory.create("events", 2);
    memory.append("events", vec![row(1)]).unwrap();
    let table = id(&dataset, "one");
    dataset.wait_visible(table, &TopicPartition::new("events", 0), 0, SOON).await.unwrap();
    wait_for("running", || ingest.status().iter().all(|s| s.state == PartitionState::Running))
        .await;
    ingest.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_begins_at_the_end_but_added_partitions_at_their_beginning() {
    let (memory, storage) = (Arc::new(MemoryLog::default()), storage().await);
    memory.create("events", 1);
    memory.append("events", vec![row(1), row(2)]).unwrap();
    let mut def = events("one");
    def.start = Start::Latest;
    let dataset = dataset(&storage, &[def]).await;
    let ingest = start(&dataset, &memory).await;
    wait_for("readiness", || ingest.caught_up_once()).await;
    memory.create("events", 2);
    memory.append("events", vec![row(3), AppendRecord { partition: Some(1), ..row(4) }]).unwrap();
    let table = id(&dataset, "one");
    for (partition, offset) in [(0, 2), (1, 0)] {
        let tp = TopicPartition::new("events", partition);
        dataset.wait_visible(table, &tp, offset, SOON).await.unwrap();
    }
    assert_eq!(counts(&dataset, table).kept, 2);
    ingest.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_or_recreated_log_stops_until_reset() {
    let storage = storage().await;
    let tp = TopicPartition::new("events", 0);
    let memory = Arc::new(MemoryLog::default());
    memory.create("events", 1);
    memory.append("events", (0..10).map(row).collect()).unwrap();
    {
        let dataset = dataset(&storage, &[events("one")]).await;
        let ingest = start(&dataset, &memory).await;
        dataset.wait_visible(id(&dataset, "one"), &tp, 9, SOON).await.unwrap();
        ingest.shutdown(SOON).await;
    }
    memory.append("events", (10..20).map(row).collect()).unwrap();
    memory.truncate(&tp, 15);
    let dataset = dataset(&storage, &[events("one")]).await;
    let table = id(&dataset, "one");
    let ingest = start(&dataset, &memory).await;
    let stopped = || {
        let status = ingest.status();
        status.iter().find_map(|s| match &s.state {
            PartitionState::Stopped { error } => Some(error.clone()),
            _ => None,
        })
    };
    wait_for("stop", || stopped().is_some()).await;
    let reason = stopped().unwrap();
    assert!(reason.starts_with("records 10 to 14 of events/0 are gone"), "{reason}");
    assert!(ingest.reset(table, "events", Some(0), ResetTo::Offset(3)).await.is_err());
    assert!(ingest.reset(table, "events", Some(1), ResetTo::Earliest).await.is_err());
    assert!(ingest.reset(table, "others", None, ResetTo::Earliest).await.is_err());
    assert_eq!(ingest.reset(table, "events", None, ResetTo::Earliest).await.unwrap(), [(0, 15)]);
    dataset.wait_visible(table, &tp, 19, SOON).await.unwrap();
    assert_eq!(counts(&dataset, table).kept, 15);
    ingest.shutdown(SOON).await;
    // Another topic of the same name, even a longer one.
    memory.remove("events");
    memory.create("events", 1);
    memory.append("events", (0..50).map(row).collect()).unwrap();
    let ingest = start(&dataset, &memory).await;
    wait_for("stop", || ingest.status().iter().any(|s| s.state.name() == "stopped")).await;
    let reason = ingest.status()[0].state.reason().unwrap().to_string();
    assert!(reason.contains("was deleted and made again"), "{reason}");
    ingest.shutdown(SOON).await;
}

/// A topic that is created anew with fewer partitions: the others' rows stay, and their state says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_sets_all_that_is_there_or_nothing() {
    let storage = storage().await;
    let memory = Arc::new(MemoryLog::default());
    let fill = |partitions: i32, rows: &dyn Fn(i32) -> i64| {
        memory.create("events", partitions);
        for partition in 0..partitions {
            let row = |x| AppendRecord { partition: Some(partition), ..row(x) };
            memory.append("events", (0..rows(partition)).map(row).collect()).unwrap();
        }
    };
    fill(3, &|_| 10);
    let dataset = dataset(&storage, &[events("one")]).await;
    let table = id(&dataset, "one");
    let ingest = start(&dataset, &memory).await;
    for partition in 0..3 {
        let tp = TopicPartition::new("events", partition);
        dataset.wait_visible(table, &tp, 9, SOON).await.unwrap();
    }
    ingest.shutdown(SOON).await;
    memory.remove("events");
    fill(2, &|partition| if partition == 0 { 20 } else { 4 });
    let ingest = start(&dataset, &memory).await;
    let states = || {
        let status = ingest.status().into_iter();
        let mut states: Vec<_> = status.map(|s| (s.partition, s.state.name(), s.lag)).collect();
        states.sort_unstable();
        states
    };
    wait_for("states", || states().len() == 3 && states()[0].1 == "stopped").await;
    assert_eq!(states()[2], (Some(2), "gone", Some(0)));
    let before = dataset.snapshot().positions(table);
    let error = ingest.reset(table, "events", None, ResetTo::Offset(15)).await.unwrap_err();
    assert!(error.to_string().contains("outside events/1"), "{error}");
    assert_eq!(dataset.snapshot().positions(table), before, "nothing moved");
    let set = ingest.reset(table, "events", None, ResetTo::Earliest).await.unwrap();
    assert_eq!(set, [(0, 0), (1, 0)]);
    for (partition, last) in [(0, 19), (1, 3)] {
        let tp = TopicPartition::new("events", partition);
        dataset.wait_visible(table, &tp, last, SOON).await.unwrap();
    }
    assert_eq!(counts(&dataset, table).kept, 30 + 24);
    wait_for("running", || states()[0].1 == "running" && states()[1].1 == "running").await;
    assert_eq!(states()[2].1, "gone");
    ingest.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_table_pauses_alone_and_misses_nothing() {
    let (memory, storage) = (Arc::new(MemoryLog::default()), storage().await);
    memory.create("events", 1);
    let tp = TopicPartition::new("events", 0);
    let dataset = dataset(&storage, &[events("one"), events("two")]).await;
    let (one, two) = (id(&dataset, "one"), id(&dataset, "two"));
    let ingest = start(&dataset, &memory).await;
    memory.append("events", (0..100).map(row).collect()).unwrap();
    dataset.wait_visible(two, &tp, 99, SOON).await.unwrap();
    ingest.pause(one).unwrap();
    wait_for("pause", || ingest.status().iter().any(|s| s.state.name() == "paused")).await;
    memory.append("events", (100..200).map(row).collect()).unwrap();
    dataset.wait_visible(two, &tp, 199, SOON).await.unwrap();
    assert_eq!(counts(&dataset, one).kept, 100);
    ingest.resume(one).unwrap();
    memory.append("events", (200..300).map(row).collect()).unwrap();
    dataset.wait_visible(one, &tp, 299, SOON).await.unwrap();
    dataset.wait_visible(two, &tp, 299, SOON).await.unwrap();
    assert_eq!((counts(&dataset, one).kept, counts(&dataset, two).kept), (300, 300));
    ingest.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mostly_rejected_records_are_a_state() {
    let (memory, storage) = (Arc::new(MemoryLog::default()), storage().await);
    memory.create("events", 1);
    let dataset = dataset(&storage, &[events("one")]).await;
    let ingest = start(&dataset, &memory).await;
    let bad = |n| AppendRecord { partition: Some(0), ..AppendRecord::value(format!("bad {n}")) };
    memory.append("events", (0..50).map(bad).collect()).unwrap();
    let state = || ingest.status().first().map(|s| s.state.clone());
    wait_for("rejecting", || state().is_some_and(|s| s.name() == "rejecting")).await;
    assert_eq!(state().unwrap().reason(), Some("bad JSON: value expected (at byte 0)"));
    memory.append("events", (0..500).map(row).collect()).unwrap();
    wait_for("running", || state() == Some(PartitionState::Running)).await;
    ingest.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_reads_a_topic_no_log_is_opened() {
    let storage = storage().await;
    let mut def = events("one");
    (def.source, def.append) = (Source::File("nowhere.ndjson".into()), false);
    let dataset = dataset(&storage, std::slice::from_ref(&def)).await;
    let dir = std::env::temp_dir().join(format!("otus-{}", crate::log::unique()));
    let compiler = Arc::new(TestCompiler);
    let properties = BTreeMap::from([("bootstrap.servers".to_string(), "127.0.0.1:1".to_string())]);
    for kafka in [None, Some(properties)] {
        let config =
            IngestConfig { kafka, local_dir: Some(dir.clone()), ..IngestConfig::default() };
        let compiler = Arc::clone(&compiler) as _;
        let ingest = Ingest::start(Arc::clone(&dataset), compiler, config).await.unwrap();
        assert!(!dir.exists() && ingest.local_log().is_none());
        assert!(ingest.append("events", vec![row(1)]).await.is_err());
        ingest.shutdown(SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_begins_at_its_beginning() {
    let storage = storage().await;
    let mut def = events("one");
    (def.source, def.append) = (Source::File("some.ndjson".into()), false);
    for start in [Start::Latest, Start::Time(0)] {
        def.start = start;
        let dataset = dataset(&storage, std::slice::from_ref(&def)).await;
        let compiler = Arc::new(TestCompiler);
        let refused = Ingest::start(dataset, compiler, IngestConfig::default()).await.unwrap_err();
        assert!(refused.to_string().contains("public.one"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_to_its_end_and_never_twice() {
    let name = format!("otus-{}.ndjson", crate::log::unique());
    let file = std::env::temp_dir().join(&name);
    let text: String =
        (0..20_000).map(|x| format!("{{\"time\":\"2015-09-12\",\"x\":{x}}}\n")).collect();
    std::fs::write(&file, &text).unwrap();
    let storage = storage().await;
    let mut def = events("one");
    def.source = Source::File(name);
    let run = async |expected: &str| {
        let dataset = dataset(&storage, std::slice::from_ref(&def)).await;
        let config =
            IngestConfig { files_dir: Some(std::env::temp_dir()), ..IngestConfig::default() };
        let compiler = Arc::new(TestCompiler);
        let ingest = Ingest::start(Arc::clone(&dataset), compiler, config).await.unwrap();
        wait_for(expected, || ingest.status().iter().any(|s| s.state.name() == expected)).await;
        ingest.shutdown(SOON).await;
        counts(&dataset, id(&dataset, "one")).kept
    };
    assert_eq!(run("finished").await, 20_000);
    assert_eq!(run("finished").await, 20_000);
    std::fs::write(&file, text.replace("2015", "2016")).unwrap();
    assert_eq!(run("stopped").await, 20_000);
    std::fs::remove_file(&file).unwrap();
}
