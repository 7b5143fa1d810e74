//! Declarations that change under stored rows: what would mean something else is refused or starts anew.

use super::*;
use crate::catalog::Source;

/// Opens without declaring anything.
async fn bare(storage: &Storage) -> Arc<Dataset> {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000_000));
    Dataset::open(storage.clone(), options(&clock, "one")).await.unwrap()
}

/// A dataset of `def` with flushed rows.
async fn filled(def: &TableDef) -> Arc<Dataset> {
    let dataset = bare(&memory()).await;
    dataset.apply_tables(std::slice::from_ref(def), false).await.unwrap();
    let epoch = claim(&dataset).await;
    append(&dataset, epoch, 0, 100).unwrap();
    dataset.flush().await.unwrap().unwrap();
    dataset
}

async fn refused(dataset: &Dataset, def: &TableDef) -> Error {
    let compared = dataset.compare_tables(std::slice::from_ref(def)).unwrap_err();
    let applied = dataset.apply_tables(std::slice::from_ref(def), true).await.unwrap_err();
    assert_eq!(compared.kind(), ErrorKind::Invalid, "{compared}");
    assert_eq!(compared.to_string(), applied.to_string());
    applied
}

/// `per` is stored, and means something else when `rev` does.
#[tokio::test]
async fn a_rollup_starts_anew_when_a_measure_below_its_own_changes() {
    let mut def = table_def();
    def.columns.push(column("other", "bigint"));
    def.measures = vec![
        measure("rev", "sum(n)"),
        measure("n_events", "count(*)"),
        measure("per", "rev / n_events"),
    ];
    def.rollups[0].measures = vec!["per".into()];
    let dataset = filled(&def).await;
    let rollup = |dataset: &Dataset| *dataset.snapshot().manifest().rollups.keys().next().unwrap();
    let old = rollup(&dataset);

    def.measures[0].sql = "sum(other)".into();
    let changes = dataset.compare_tables(std::slice::from_ref(&def)).unwrap();
    let said = changes.iter().find(|c| c.what.contains("by_kind")).expect("it is said");
    assert!(said.destructive && said.what.contains("anew"), "{said:?}");
    assert!(said.what.contains("sum(n)"), "{said:?}");
    dataset.apply_tables(std::slice::from_ref(&def), true).await.unwrap();
    assert_ne!(rollup(&dataset), old, "its states are of the old meaning");
    let epoch = dataset.snapshot().manifest().claims[&tp()].epoch;
    append(&dataset, epoch, 100, 110).unwrap();
    dataset.flush().await.unwrap().unwrap();
    let files = dataset.snapshot().manifest().rollups[&rollup(&dataset)].files.len();
    assert_eq!(files, 1, "only what came after the change");
}

#[tokio::test]
async fn a_rollup_stays_when_its_states_do() {
    let mut def = table_def();
    def.rollups[0].measures = vec!["total".into()];
    let dataset = filled(&def).await;
    let before = dataset.snapshot().manifest().rollups.clone();
    // A new measure that it does not store, and one that its states finish to.
    def.measures.push(measure("twice", "sum(n) / sum(n)"));
    def.measures[0].presentation.title = Some("Events".into());
    let changes = dataset.apply_tables(&[def.clone()], true).await.unwrap();
    assert!(!changes.iter().any(|c| c.destructive), "{changes:?}");
    assert_eq!(dataset.snapshot().manifest().rollups, before);
}

#[tokio::test]
async fn a_rollup_that_cannot_be_stored_never_reaches_the_log() {
    let mut def = table_def();
    // Column `events__count` beside the states of the measure `events`.
    def.columns.push(column("events__count", "text"));
    def.rollups[0].dimensions.push("events__count".into());
    let dataset = bare(&memory()).await;
    let refused = refused(&dataset, &def).await;
    assert!(refused.message().contains("two columns"), "{refused}");
    assert_eq!(dataset.snapshot().manifest().number, 0);
}

#[tokio::test]
async fn a_hidden_column_comes_back_only_as_what_it_was() {
    let mut def = table_def();
    def.columns.push(column("extra", "integer"));
    let dataset = filled(&def).await;
    def.columns.pop();
    dataset.apply_tables(&[def.clone()], true).await.unwrap();
    // Other changes in between do not make it forget.
    def.description = Some("events".into());
    dataset.apply_tables(&[def.clone()], true).await.unwrap();

    let mut other = def.clone();
    other.columns.push(column("extra", "text"));
    let e = refused(&dataset, &other).await;
    assert!(e.message().contains("\"extra\" was integer"), "{e}");
    assert!(e.hint().unwrap().contains("another name"), "{e:?}");

    let mut wider = def.clone();
    wider.columns.push(column("extra", "bigint"));
    let changes = dataset.apply_tables(&[wider], true).await.unwrap();
    assert!(changes[0].what.contains("widens from integer to bigint"), "{changes:?}");
    assert_seen(&dataset, 100).await;
    // Hidden again, it is what it was last.
    dataset.apply_tables(&[def.clone()], true).await.unwrap();
    let mut narrow = def.clone();
    narrow.columns.push(column("extra", "integer"));
    let e = refused(&dataset, &narrow).await;
    assert!(e.message().contains("was bigint"), "{e}");
}

#[tokio::test]
async fn another_topic_needs_another_table() {
    let mut def = table_def();
    let dataset = filled(&def).await;
    def.source = Source::Topics(vec!["others".into()]);
    let e = refused(&dataset, &def).await;
    assert!(e.message().contains("\"events\" to topic \"others\""), "{e}");
    assert!(e.hint().unwrap().contains("another name"), "{e:?}");
    def.source = Source::File("events.ndjson".into());
    refused(&dataset, &def).await;
}

/// What was never read may come from elsewhere.
#[tokio::test]
async fn a_table_that_has_read_nothing_may_change_its_topic() {
    let mut def = table_def();
    let dataset = bare(&memory()).await;
    dataset.apply_tables(&[def.clone()], false).await.unwrap();
    def.source = Source::Topics(vec!["others".into()]);
    dataset.apply_tables(&[def], true).await.unwrap();
}
