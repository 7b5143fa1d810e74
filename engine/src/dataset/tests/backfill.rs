//! A rollup that is declared late is filled with what came before: each offset once, whatever goes on meanwhile,
//! to the states that it would have had from the beginning.

use super::*;
use crate::catalog::RollupId;
use crate::log::manifest::RollupState;
use crate::log::op::Op;
use crate::maintain::MaintenanceReport;
use crate::segment::read_segment;
use crate::verify::verify;

/// Rows of one step.
const STEP: usize = 700;

fn late_def() -> TableDef {
    let mut def = table_def();
    let late = RollupDef { name: "late".into(), ..def.rollups[0].clone() };
    def.rollups.push(late);
    def
}

async fn process(storage: &Storage, clock: &Arc<ManualClock>, member: &str) -> Arc<Dataset> {
    let mut options = options(clock, member);
    options.flush.backfill_rows = STEP;
    options.flush.compact_files = 3;
    Dataset::open(storage.clone(), options).await.unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_700_000_000_000_000))
}

struct Filled {
    storage: Storage,
    clock: Arc<ManualClock>,
    dataset: Arc<Dataset>,
    epoch: u64,
}

/// 6,000 rows of before in files of several levels; the rollup `late` is declared.
async fn filled() -> Filled {
    let (storage, clock) = (memory(), clock());
    let dataset = process(&storage, &clock, "one").await;
    dataset.apply_tables(&[table_def()], false).await.unwrap();
    let epoch = claim(&dataset).await;
    for part in 0..6 {
        append(&dataset, epoch, part * 1_000, (part + 1) * 1_000).unwrap();
        dataset.flush().await.unwrap();
        if part == 3 {
            dataset.maintain(true).await.unwrap();
        }
    }
    dataset.apply_tables(&[late_def()], true).await.unwrap();
    Filled { storage, clock, dataset, epoch }
}

fn late(dataset: &Dataset) -> (RollupId, RollupState) {
    let snapshot = dataset.snapshot();
    let mut all = snapshot.manifest().rollups.values();
    let state = all.find(|r| r.def.name == "late").expect("declared");
    (state.id, RollupState::clone(state))
}

fn missing(dataset: &Dataset) -> Vec<OffsetRange> {
    let snapshot = dataset.snapshot();
    let (_, state) = late(dataset);
    state.uncovered(&snapshot.manifest().tables[&state.table]).unwrap()
}

async fn assert_sound(dataset: &Dataset) {
    for audit in verify(&dataset.snapshot(), &|_| {}).await.unwrap() {
        assert_eq!(audit.problems, Vec::<String>::new());
    }
}

/// Merged states of a rollup, hot ones included.
async fn states(dataset: &Dataset, name: &str, granularity: Granularity) -> RecordBatch {
    let snapshot = dataset.snapshot();
    let table = snapshot.table("public", "events").unwrap();
    let rollup = table.rollups.iter().find(|r| r.def.name == name).unwrap();
    let mut parts = snapshot.hot_states(rollup.id).unwrap();
    for file in snapshot.rollup_files(rollup.id, granularity) {
        let schema = rollup.plan.schema();
        parts.extend(read_segment(dataset.storage(), &file, schema, None).await.unwrap());
    }
    rollup.plan.merge(granularity, &parts).unwrap()
}

/// Everything is covered, and is what the rollup of the beginning has.
async fn assert_whole(dataset: &Dataset) {
    assert!(missing(dataset).is_empty(), "{:?}", missing(dataset));
    assert_sound(dataset).await;
    for granularity in [Granularity::Minute, Granularity::Day] {
        let (a, b) =
            (states(dataset, "late", granularity), states(dataset, "by_kind", granularity));
        assert_eq!(a.await, b.await, "{granularity}");
    }
}

#[tokio::test]
async fn a_late_rollup_becomes_what_one_of_the_beginning_is() {
    let Filled { dataset, epoch, .. } = filled().await;
    let (_, state) = late(&dataset);
    assert_eq!(state.since[&tp()], 6_000);
    assert!(state.declared_at_us.is_some());
    let mut end = 6_000;
    let (mut steps, mut least) = (0, 6_000);
    while dataset.backfill_step().await.unwrap() {
        steps += 1;
        assert_sound(&dataset).await;
        // The newest offsets first, without holes.
        let left = missing(&dataset);
        assert!(left.len() <= 1, "{left:?}");
        let to = left.first().map_or(0, |r| r.to);
        assert!(to < least && least - to <= 1_000, "{least} to {to}");
        least = to;
        append(&dataset, epoch, end, end + 50).unwrap();
        end += 50;
        if steps % 2 == 0 {
            dataset.flush().await.unwrap();
        }
    }
    assert!(steps >= 6, "{steps} steps");
    assert_whole(&dataset).await;
    let levels: Vec<_> = late(&dataset).1.files.iter().map(|f| f.level).collect();
    assert!(levels.contains(&1), "{levels:?}");
    dataset.flush().await.unwrap();
    dataset.maintain(true).await.unwrap();
    assert_whole(&dataset).await;
    // One file of each granularity.
    assert_eq!(late(&dataset).1.files.len(), 2);
    assert_seen(&dataset, end).await;
}

#[tokio::test]
async fn maintenance_fills_with_all_that_is_due() {
    let Filled { storage, clock, dataset, .. } = filled().await;
    let report = dataset.maintain(false).await.unwrap();
    assert!(report.backfills >= 6, "{report:?}");
    assert_whole(&dataset).await;
    assert_eq!(dataset.maintain(false).await.unwrap().backfills, 0);
    drop(dataset);
    let dataset = process(&storage, &clock, "one").await;
    assert_whole(&dataset).await;
}

/// Every other process sees the same offsets to be filled, and what one has filled is refused to the other.
#[tokio::test]
async fn a_step_that_lost_its_ground_is_discarded_whole() {
    let Filled { storage, clock, dataset, .. } = filled().await;
    let step = || async {
        let report = &mut MaintenanceReport::default();
        dataset.compute_step(report).await.unwrap().expect("something to fill").ops
    };
    let refused = async |ops: Vec<Op>, why: &str| {
        let before = late(&dataset).1;
        let e = dataset.commit(ops).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Busy);
        assert!(e.message().contains(why), "{e}");
        assert_eq!(late(&dataset).1, before);
    };
    // Another was faster.
    let ops = step().await;
    assert!(dataset.backfill_step().await.unwrap());
    refused(ops, "already").await;
    // Another holds the lease.
    let ops = step().await;
    let another = process(&storage, &clock, "another").await;
    clock.advance(100_000_000);
    let now_us = dataset.clock().now_us();
    let lease = Op::Lease { member: "another".into(), until_us: now_us + 1_000, now_us };
    another.commit(vec![lease]).await.unwrap();
    refused(ops, "holds it").await;
    clock.advance(1_000_000);
    // Compaction in between takes nothing away.
    let ops = step().await;
    assert!(dataset.compact_once(true).await.unwrap());
    dataset.commit(ops).await.unwrap();
    assert_sound(&dataset).await;
    // The rollup is gone, and one of its name is another.
    let ops = step().await;
    dataset.apply_tables(&[table_def()], true).await.unwrap();
    dataset.apply_tables(&[late_def()], true).await.unwrap();
    refused(ops, "there is no rollup").await;
    dataset.maintain(true).await.unwrap();
    assert_whole(&dataset).await;
}

/// Rows that retention has taken are not in it, and it says from when on it is whole.
#[tokio::test]
async fn what_retention_has_taken_is_not_pretended() {
    let (storage, clock) = (memory(), clock());
    let dataset = process(&storage, &clock, "one").await;
    dataset.apply_tables(&[table_def()], false).await.unwrap();
    let epoch = claim(&dataset).await;
    // A day has 10,080 of these rows.
    for day in 0..4 {
        append(&dataset, epoch, day * 10_080, (day + 1) * 10_080).unwrap();
        dataset.flush().await.unwrap();
    }
    let table = dataset.snapshot().table("public", "events").unwrap().id;
    dataset.advance_horizon(table, DAY_US).await.unwrap();
    dataset.apply_tables(&[late_def()], true).await.unwrap();
    assert!(dataset.backfill_step().await.unwrap());
    assert_eq!(late(&dataset).1.whole_from_us, Some(DAY_US));
    // The horizon moves between a step's reading and its commit.
    let report = &mut MaintenanceReport::default();
    let step = dataset.compute_step(report).await.unwrap().unwrap();
    dataset.advance_horizon(table, 2 * DAY_US).await.unwrap();
    dataset.commit(step.ops).await.unwrap();
    assert_eq!(late(&dataset).1.whole_from_us, Some(2 * DAY_US));
    dataset.maintain(true).await.unwrap();
    assert!(missing(&dataset).is_empty());
    assert_sound(&dataset).await;
    let (a, b) =
        (states(&dataset, "late", Granularity::Day), states(&dataset, "by_kind", Granularity::Day));
    let (a, b) = (a.await, b.await);
    assert_eq!(b.num_rows(), 4 * 3, "four days, three kinds");
    assert_eq!(a.slice(a.num_rows() - 6, 6), b.slice(6, 6), "the days of which all is there");
}

/// An offset that means several records tells nothing: nothing is filled, and nobody says that it were.
#[tokio::test]
async fn offsets_that_were_read_again_are_left_alone() {
    let Filled { dataset, epoch, .. } = filled().await;
    assert!(dataset.backfill_step().await.unwrap());
    let table = dataset.snapshot().table("public", "events").unwrap().id;
    let anew = LogIdentity { topic_id: "b".into(), ..LogIdentity::default() };
    dataset.reset(table, vec![(tp(), 100, anew)], "made again").await.unwrap();
    append(&dataset, epoch, 100, 200).unwrap();
    dataset.flush().await.unwrap();
    let snapshot = dataset.snapshot();
    let progress = late(&dataset).1.progress(&snapshot.manifest().tables[&table]);
    assert_eq!((progress.covered, progress.is_filling()), (None, None));
    assert!(!dataset.backfill_step().await.unwrap());
    assert_sound(&dataset).await;
}

#[tokio::test]
async fn backfill_goes_on_beside_ingestion_and_compaction() {
    let Filled { dataset, epoch, .. } = filled().await;
    let ingest = async {
        for part in 0..40 {
            let from = 6_000 + part * 100;
            append(&dataset, epoch, from, from + 100).unwrap();
            tokio::task::yield_now().await;
            dataset.flush().await.unwrap();
        }
    };
    let maintain = async {
        for _ in 0..5 {
            dataset.backfill_step().await.unwrap();
            dataset.maintain(false).await.unwrap();
        }
    };
    tokio::join!(ingest, maintain);
    dataset.maintain(true).await.unwrap();
    assert_whole(&dataset).await;
    assert_seen(&dataset, 10_000).await;
}

#[tokio::test]
async fn a_changed_rollup_is_filled_anew() {
    let Filled { dataset, .. } = filled().await;
    dataset.maintain(true).await.unwrap();
    let (old, _) = late(&dataset);
    let mut def = late_def();
    def.columns.push(column("other", "bigint"));
    def.rollups[1].measures = vec!["total".into()];
    let changes = dataset.apply_tables(&[def.clone()], true).await.unwrap();
    let said = changes.iter().find(|c| c.what.contains("\"late\"")).unwrap();
    assert!(said.what.contains("filled from raw rows"), "{said:?}");
    let (new, state) = late(&dataset);
    assert!(new > old && state.files.is_empty());
    dataset.maintain(true).await.unwrap();
    assert!(missing(&dataset).is_empty());
    assert_sound(&dataset).await;
    def.rollups[1].measures.push("events".into());
    def.rollups[1].dimensions.clear();
    dataset.apply_tables(&[def], true).await.unwrap();
    dataset.maintain(true).await.unwrap();
    assert!(missing(&dataset).is_empty());
    assert_sound(&dataset).await;
    let day = states(&dataset, "late", Granularity::Day).await;
    assert_eq!(
        day["events__count"].as_primitive::<Int64Type>().values().iter().sum::<i64>(),
        6_000
    );
}
