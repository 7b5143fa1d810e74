//! Keyed tables: latest rows through restarts, and rebuilds that serve the old view until they are level.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use otus_engine::catalog::{ColumnSource, KeyedDef, TableKind};

use super::*;
use crate::log::condition::{Condition, HEADER};
use crate::testing::column;

fn players() -> TableDef {
    let mut def = table(vec![
        column("id", "text", ColumnSource::RecordKey),
        path("x", "bigint"),
        column("twice", "bigint", ColumnSource::Computed("double x".into())),
    ]);
    def.columns.remove(0);
    def.name = "players".into();
    def.source = Source::Topics(vec!["players".into()]);
    def.time = String::new();
    def.kind = TableKind::Keyed(KeyedDef { key: "id".into(), rebuild: None });
    def.append = true;
    def
}

fn put(key: &str, x: i64) -> AppendRecord {
    AppendRecord {
        key: Some(key.to_string().into()),
        ..AppendRecord::value(format!(r#"{{"x":{x}}}"#))
    }
}

fn delete(key: &str) -> AppendRecord {
    AppendRecord { key: Some(key.to_string().into()), ..AppendRecord::default() }
}

fn rows(dataset: &Dataset) -> BTreeMap<String, i64> {
    let snapshot = dataset.snapshot();
    let keyed = snapshot.keyed(snapshot.table("public", "players").unwrap().id).unwrap();
    let mut found = BTreeMap::new();
    for block in keyed.blocks() {
        let batch = block.read(None).unwrap();
        for row in 0..batch.num_rows() {
            let int = |name: &str| batch[name].as_primitive::<Int64Type>().value(row);
            assert_eq!(int("twice"), 2 * int("x"));
            found.insert(batch["id"].as_string_view().value(row).to_string(), int("x"));
        }
    }
    found
}

fn expected(rows: &[(&str, i64)]) -> BTreeMap<String, i64> {
    rows.iter().map(|(key, x)| ((*key).to_string(), *x)).collect()
}

async fn visible(dataset: &Dataset, places: &[(i32, i64)]) {
    for (partition, offset) in places {
        let tp = TopicPartition::new("players", *partition);
        dataset.wait_visible(id(dataset, "players"), &tp, *offset, SOON).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_record_of_a_key_is_its_row() {
    let (memory, storage) = (Arc::new(MemoryLog::default()), storage().await);
    memory.create("players", 2);
    let no_key = AppendRecord { key: None, ..put("", 1) };
    let bad_key = AppendRecord { key: Some(vec![0xff].into()), ..put("", 1) };
    let nameless = AppendRecord { key: None, ..delete("") };
    {
        let dataset = dataset(&storage, &[players()]).await;
        let ingest = start(&dataset, &memory).await;
        let records = vec![
            put("a", 1),
            put("b", 1),
            put("c", 1),
            put("a", 2),
            delete("b"),
            no_key,
            bad_key,
            nameless,
            delete("never"),
            put("d", 1_000),
        ];
        let places = ingest.append("players", records).await.unwrap();
        visible(&dataset, &places).await;
        assert_eq!(rows(&dataset), expected(&[("a", 2), ("c", 1)]));
        // Three without a key, and one whose computed column fails.
        assert_eq!(kept(counts(&dataset, id(&dataset, "players"))), (6, 0, 4));
        ingest.shutdown(SOON).await;
    }
    let dataset = dataset(&storage, &[players()]).await;
    assert_eq!(rows(&dataset), expected(&[("a", 2), ("c", 1)]), "without reading the topic");
    let ingest = start(&dataset, &memory).await;
    let condition = |at: (i32, i64)| {
        let condition = Condition::At { partition: at.0, offset: at.1 };
        vec![(HEADER.to_string(), Some(condition.header().into()))]
    };
    let first = ingest.append("players", vec![put("a", 3)]).await.unwrap();
    let late = |x| AppendRecord { headers: condition(first[0]), ..put("a", x) };
    let places = ingest.append("players", vec![late(4), late(5)]).await.unwrap();
    visible(&dataset, &places).await;
    assert_eq!(rows(&dataset)["a"], 4);
    ingest.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_lead_to_a_rebuild() {
    let (memory, storage) = (Arc::new(MemoryLog::default()), storage().await);
    memory.create("players", 1);
    memory.append("players", vec![put("a", 1), put("ghost", 1)]).unwrap();
    let before = {
        let dataset = dataset(&storage, &[players()]).await;
        let ingest = start(&dataset, &memory).await;
        visible(&dataset, &[(0, 1)]).await;
        ingest.shutdown(SOON).await;
        id(&dataset, "players")
    };
    // The deletion of the ghost was written and forgotten while nobody read.
    let tp = TopicPartition::new("players", 0);
    memory.append("players", vec![delete("ghost"), put("b", 2), put("a", 3)]).unwrap();
    memory.truncate(&tp, 3);
    let dataset = dataset(&storage, &[players()]).await;
    let seen = rows(&dataset);
    assert_eq!(seen, expected(&[("a", 1), ("ghost", 1)]), "the old view is served");
    let ingest = start(&dataset, &memory).await;
    wait_for("the rebuild", || id(&dataset, "players") != before).await;
    assert_eq!(rows(&dataset), expected(&[("a", 3), ("b", 2)]));
    // The rebuilt table reads on, and takes commands by its new id.
    wait_for("reading", || ingest.status().iter().any(|s| s.table == id(&dataset, "players")))
        .await;
    let places = ingest.append("players", vec![put("c", 4)]).await.unwrap();
    visible(&dataset, &places).await;
    assert_eq!(rows(&dataset)["c"], 4);
    ingest.pause(id(&dataset, "players")).unwrap();
    ingest.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_partitions_and_an_operator_lead_to_a_rebuild() {
    let (memory, storage) = (Arc::new(MemoryLog::default()), storage().await);
    memory.create("players", 1);
    let dataset = dataset(&storage, &[players()]).await;
    let ingest = start(&dataset, &memory).await;
    let at = |partition, record: AppendRecord| AppendRecord {
        partition: Some(partition),
        timestamp_us: Some(i64::from(partition) + 1),
        ..record
    };
    memory.append("players", vec![at(0, put("a", 1)), at(0, put("b", 1))]).unwrap();
    visible(&dataset, &[(0, 1)]).await;
    dataset.flush().await.unwrap();
    let before = id(&dataset, "players");
    memory.append("players", vec![at(0, put("c", 1))]).unwrap();
    memory.create("players", 2);
    memory.append("players", vec![at(1, put("a", 2)), at(1, delete("b"))]).unwrap();
    wait_for("the rebuild", || id(&dataset, "players") != before).await;
    visible(&dataset, &[(0, 2), (1, 1)]).await;
    assert_eq!(rows(&dataset), expected(&[("a", 2), ("c", 1)]));

    let before = id(&dataset, "players");
    wait_for("reading", || ingest.status().iter().any(|s| s.table == before)).await;
    let tp = TopicPartition::new("players", 0);
    let set = ingest.reset(before, &tp.topic, Some(tp.partition), ResetTo::Earliest).await.unwrap();
    assert_eq!(set, [(0, 0)]);
    wait_for("the second rebuild", || id(&dataset, "players") != before).await;
    assert_eq!(rows(&dataset), expected(&[("a", 2), ("c", 1)]));
    ingest.shutdown(SOON).await;
}
