//! Keyed tables: lookups and joins find the rows that may be seen.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray,
};
use otus_engine::catalog::{ColumnDef, ColumnSource, KeyedDef, TableDef, TableKind};
use otus_engine::dataset::{Append, StartPosition, rejected_schema};
use otus_engine::position::{LogIdentity, ReadCounts, TopicPartition};

use super::{World, answer, grant, refusal, role, same_as, user};
use crate::SqlConfig;
use crate::tests::world::{BASE_US, definition};

fn people() -> TableDef {
    let column = |name: &str, t: &str| ColumnDef::new(name, t.parse().unwrap());
    let key = ColumnDef { source: ColumnSource::RecordKey, ..column("id", "bigint") };
    TableDef {
        kind: TableKind::Keyed(KeyedDef { key: "id".into(), rebuild: None }),
        time: String::new(),
        ..TableDef::events("people", "", vec![key, column("team", "text"), column("pay", "bigint")])
    }
}

/// 90 people in three teams, some of them on disk.
async fn world() -> World {
    let people_of = |columns: &[&str], filter: &str| grant(&["people", "events"], columns, filter);
    let roles = vec![
        role(
            "team",
            vec![grant(&["people"], &[], "team = attribute('team')"), grant(&["events"], &[], "")],
        ),
        role("names", vec![grant(&["people"], &["id", "team"], "")]),
        role("nothing", vec![people_of(&["ts"], "")]),
        role(
            "mixed",
            vec![
                grant(&["people"], &["id", "team"], "team = 'a'"),
                grant(&["people"], &["id", "pay"], "team = 'b'"),
            ],
        ),
    ];
    let world =
        World::with(SqlConfig { threads: 2, roles, ..SqlConfig::default() }).await.fill().await;
    let dataset = &world.dataset;
    dataset.apply_tables(&[definition(), people()], true).await.unwrap();
    let tp = TopicPartition::new("people", 0);
    let epoch = dataset.claim(std::slice::from_ref(&tp)).await.unwrap()[0].epoch;
    let table = dataset.snapshot().table("public", "people").unwrap().id;
    let identity = LogIdentity::default();
    let start = StartPosition { table, tp: tp.clone(), epoch, offset: 0, identity };
    dataset.start_positions(vec![start]).await.unwrap();
    for (from, to) in [(0_i64, 60_i64), (60, 90)] {
        let snapshot = dataset.snapshot();
        let compiled = snapshot.table_by_id(table).unwrap();
        let ids: Vec<i64> = (from..to).collect();
        let times = || {
            let times = TimestampMicrosecondArray::from(vec![BASE_US; ids.len()]);
            Arc::new(times.with_timezone("UTC")) as ArrayRef
        };
        let team = |id: &i64| ["a", "b", "c"][usize::try_from(id % 3).unwrap()];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(ids.clone())),
            Arc::new(StringViewArray::from_iter_values(ids.iter().map(team))),
            Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| id * 100))),
            Arc::new(Int32Array::from(vec![0; ids.len()])),
            Arc::new(Int64Array::from(ids.clone())),
            times(),
            times(),
            Arc::new(BooleanArray::from(vec![false; ids.len()])),
            Arc::new(Int64Array::from(vec![None; ids.len()])),
        ];
        let append = Append {
            table,
            tp: tp.clone(),
            epoch,
            from,
            to,
            batch: RecordBatch::try_new(Arc::clone(&compiled.appended), columns).unwrap(),
            counts: ReadCounts { kept: ids.len() as u64, ..ReadCounts::default() },
            rejected: RecordBatch::new_empty(rejected_schema()),
            fields: vec![],
            identity: LogIdentity::default(),
        };
        dataset.append(vec![append]).unwrap();
        if from == 0 {
            dataset.flush().await.unwrap();
        }
    }
    world
}

const QUESTIONS: &[&str] = &[
    "SELECT * FROM {} ORDER BY id",
    "SELECT count(*), min(id), max(id) FROM {}",
    "SELECT * FROM {} WHERE id = 4",
    "SELECT * FROM {} WHERE id = 3",
    "SELECT * FROM {} WHERE id IN (3, 4, 5, 66, 67) ORDER BY id",
    "SELECT count(*) FROM {} WHERE id = 4 OR id = 5",
    "SELECT count(*) FROM {} WHERE id > 80",
    "SELECT count(*) FROM {} WHERE team = 'a'",
    "SELECT count(*) FROM {} WHERE 1 / (id - 3) >= 0",
    "SELECT e.ts, p.id, p.pay FROM events e JOIN {} ON p.id = e.user_id WHERE e.score < 5 ORDER BY e.ts",
    "SELECT e.ts, p.id FROM events e LEFT JOIN {} ON p.id = e.user_id WHERE e.score < 5 ORDER BY e.ts",
    "SELECT count(*) FROM events WHERE user_id IN (SELECT id FROM {})",
    "SELECT count(*) FROM events WHERE user_id NOT IN (SELECT id FROM {})",
    "SELECT x FROM (VALUES (3), (4), (5)) v(x) WHERE EXISTS (SELECT 1 FROM {} WHERE p.id = x)",
    "SELECT id FROM {} ORDER BY id DESC LIMIT 3",
];

#[tokio::test(flavor = "multi_thread")]
async fn lookups_find_the_rows_that_are_seen() {
    let world = world().await;
    let session = user(&world, &["team"], &[("team", "b")]);
    let part = "(SELECT * FROM people WHERE team = 'b') p";
    same_as(&world, &session, ("people p", part), QUESTIONS).await;
    let none = user(&world, &["team"], &[]);
    assert_eq!(answer(&none, "SELECT count(*) FROM people WHERE id = 4").await, [["0"]]);
    // A lookup stays one; what it finds is looked at.
    let plan = answer(&session, "EXPLAIN ANALYZE SELECT * FROM people WHERE id = 3").await;
    let plan: Vec<_> = plan.into_iter().flatten().collect();
    assert!(!plan.join("\n").contains("keyed"), "{plan:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_keyed_tables_are_hidden() {
    let world = world().await;
    let session = user(&world, &["names"], &[]);
    let part = "(SELECT id, team FROM people) p";
    let questions: Vec<_> =
        QUESTIONS.iter().copied().filter(|q| !q.contains("events") && !q.contains("pay")).collect();
    same_as(&world, &session, ("people p", part), &questions).await;
    for sql in [
        "SELECT pay FROM people",
        "SELECT _timestamp FROM people",
        "SELECT * FROM people WHERE pay > 0",
    ] {
        assert_eq!(refusal(&session, sql).await.sqlstate, "42703", "{sql}");
    }
    let session = user(&world, &["mixed"], &[]);
    let part = "(SELECT id, CASE WHEN team = 'a' THEN team END AS team, CASE WHEN team = 'b' THEN pay END AS pay \
                FROM people WHERE team IN ('a', 'b')) p";
    same_as(&world, &session, ("people p", part), &questions).await;
    // Without the key a grant gives nothing.
    assert_eq!(
        refusal(&user(&world, &["nothing"], &[]), "SELECT * FROM people").await.sqlstate,
        "42P01"
    );
}
