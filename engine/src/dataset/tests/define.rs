//! Tables by statement: beside those of the file, noted in the log, gone with their files.

use super::*;
use crate::catalog::{Origin, Retention};
use crate::limits::{NOTE_BYTES_MAX, NOTES_MAX};
use crate::log::op::Note;

fn note(statement: &str) -> Note {
    Note::new(Origin::Sql, "ann", "public.events".into(), statement)
}

fn by_statement() -> TableDef {
    TableDef { origin: Origin::Sql, ..table_def() }
}

async fn made(storage: &Storage, clock: &Arc<ManualClock>) -> Arc<Dataset> {
    let dataset = Dataset::open(storage.clone(), options(clock, "m")).await.unwrap();
    let changes = dataset.declare_table(&by_statement(), note("CREATE …")).await.unwrap();
    assert_eq!(changes.len(), 1);
    dataset
}

#[tokio::test]
async fn what_a_statement_made_is_not_detached_by_the_file() {
    let (storage, clock) = (memory(), Arc::new(ManualClock::new(1_000_000)));
    let dataset = made(&storage, &clock).await;
    let epoch = claim(&dataset).await;
    append(&dataset, epoch, 0, 10).unwrap();
    assert!(dataset.declare_table(&by_statement(), note("again")).await.unwrap().is_empty());
    dataset.flush().await.unwrap();
    drop(dataset);
    // A start with a file that does not know it.
    let dataset = Dataset::open(storage.clone(), options(&clock, "m")).await.unwrap();
    assert!(dataset.apply_tables(&[], false).await.unwrap().is_empty());
    assert_eq!(seen(&dataset).await.0.len(), 10);
    let notes = dataset.snapshot().manifest().notes.clone();
    assert_eq!(notes.len(), 1, "an unchanged definition is no change");
    assert_eq!((notes[0].note.user.as_str(), notes[0].commit), ("ann", 1));
    // The file takes it over, with everything that it has.
    let refused = dataset.apply_tables(&[table_def()], false).await.unwrap_err().to_string();
    assert!(refused.contains("was made by a statement and is now the file's"), "{refused}");
    dataset.apply_tables(&[table_def()], true).await.unwrap();
    assert_eq!(seen(&dataset).await.0.len(), 10);
    let gone = dataset.apply_tables(&[], true).await.unwrap();
    assert!(gone[0].what.contains("detached"), "{gone:?}");
    let notes = dataset.snapshot().manifest().notes.clone();
    let origins: Vec<_> = notes.iter().map(|n| n.note.origin).collect();
    assert_eq!(origins, [Origin::Sql, Origin::File, Origin::File]);
}

#[tokio::test]
async fn a_dropped_table_leaves_with_files_rollups_and_hot_rows() {
    let (storage, clock) = (memory(), Arc::new(ManualClock::new(1_000_000)));
    let dataset = made(&storage, &clock).await;
    let epoch = claim(&dataset).await;
    append(&dataset, epoch, 0, 50).unwrap();
    dataset.flush().await.unwrap();
    append(&dataset, epoch, 50, 60).unwrap();
    let pinned = dataset.snapshot();
    let id = pinned.table("public", "events").unwrap().id;
    dataset.drop_table(id, note("DROP …")).await.unwrap();
    let snapshot = dataset.snapshot();
    assert!(snapshot.table("public", "events").is_none());
    assert_eq!(snapshot.manifest().live_files().count(), 0);
    assert!(snapshot.manifest().rollups.is_empty() && snapshot.manifest().tables.is_empty());
    assert!(dataset.flush().await.unwrap().is_none(), "its hot rows are gone");
    assert_eq!(pinned.raw_files(id).len(), 1, "a snapshot keeps what it has");
    let again = dataset.drop_table(id, note("DROP …")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound);
    // Made again it shares nothing.
    dataset.declare_table(&by_statement(), note("CREATE …")).await.unwrap();
    let fresh = dataset.snapshot().table("public", "events").unwrap().id;
    assert!(fresh > id && dataset.snapshot().positions(fresh).is_empty());
}

#[tokio::test]
async fn only_a_shorter_retention_lets_data_go_and_numerics_widen_by_digits() {
    let (storage, clock) = (memory(), Arc::new(ManualClock::new(1_000_000)));
    let dataset = Dataset::open(storage, options(&clock, "m")).await.unwrap();
    let kept =
        |days: Option<i64>| Retention { raw_us: days.map(|d| d * DAY_US), ..Retention::default() };
    let with = |retention: Retention| TableDef { retention, ..by_statement() };
    dataset.declare_table(&with(kept(Some(7))), note("a")).await.unwrap();
    for (days, lets_go) in [(Some(8), false), (None, false), (Some(6), true)] {
        let changes = dataset.compare_table(&with(kept(days))).unwrap();
        assert_eq!(changes.iter().any(|c| c.destructive), lets_go, "{days:?}: {changes:?}");
    }
    let priced = |of: &str| {
        let mut def = with(kept(Some(7)));
        def.columns.push(column("price", of));
        def
    };
    dataset.declare_table(&priced("numeric(8,2)"), note("b")).await.unwrap();
    assert!(dataset.compare_table(&priced("numeric(20,2)")).is_ok());
    for refused in ["numeric(8,3)", "numeric(7,2)", "numeric(20,4)"] {
        assert!(dataset.compare_table(&priced(refused)).is_err(), "{refused}");
    }
}

#[tokio::test]
async fn notes_are_bounded() {
    assert_eq!(note(&"ä".repeat(NOTE_BYTES_MAX)).statement.len(), NOTE_BYTES_MAX);
    let (storage, clock) = (memory(), Arc::new(ManualClock::new(1_000_000)));
    let dataset = made(&storage, &clock).await;
    for n in 0..NOTES_MAX + 3 {
        let def = TableDef { description: Some(n.to_string()), ..by_statement() };
        dataset.declare_table(&def, note(&n.to_string())).await.unwrap();
    }
    let notes = dataset.snapshot().manifest().notes.clone();
    assert_eq!(notes.len(), NOTES_MAX);
    assert_eq!(notes.last().unwrap().note.statement, (NOTES_MAX + 2).to_string());
}
