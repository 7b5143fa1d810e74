//! The audit finds damage of every kind, and calls a sound dataset sound.

use std::collections::BTreeSet;

use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::*;
use crate::log::manifest::Manifest;
use crate::log::op::{FileEntry, Target};
use crate::segment::{SegmentOptions, read_segment, write_segment};
use crate::snapshot::{Snapshot, Version};
use crate::verify::verify;

/// Problems found in the committed state after `damage`.
async fn problems(dataset: &Dataset, damage: impl FnOnce(&mut Manifest)) -> Vec<String> {
    let snapshot = dataset.snapshot();
    let mut manifest = Manifest::clone(snapshot.manifest());
    damage(&mut manifest);
    let version = Version {
        sequence: 1,
        manifest: Arc::new(manifest),
        hot: Arc::clone(snapshot.hot_set()),
        keyed: Arc::default(),
        catalog: Arc::clone(snapshot.catalog()),
    };
    let storage = dataset.storage().clone();
    let damaged = Snapshot::new(Arc::new(version), storage, 0, 1_000, None);
    let audits = verify(&damaged, &|_| {}).await.unwrap();
    audits.into_iter().flat_map(|a| a.problems).collect()
}

#[track_caller]
fn finds(problems: &[String], part: &str) {
    assert!(problems.iter().any(|p| p.contains(part)), "no {part:?} in {problems:#?}");
}

async fn assert_sound(dataset: &Dataset) {
    assert_eq!(problems(dataset, |_| {}).await, Vec::<String>::new());
}

fn table(manifest: &mut Manifest) -> &mut crate::log::manifest::TableState {
    Arc::make_mut(manifest.tables.values_mut().next().unwrap())
}

/// Records of `[from, to)`, of which every tenth is rejected.
fn append_some(dataset: &Dataset, epoch: u64, from: i64, to: i64) -> Result<()> {
    let snapshot = dataset.snapshot();
    let table = snapshot.table("public", "events").unwrap();
    let parts: Vec<_> =
        (from..to).filter(|o| o % 10 != 7).map(|o| rows(&table.schema, o, o + 1)).collect();
    let batch = arrow::compute::concat_batches(&table.schema, &parts).unwrap();
    let bad: Vec<i64> = (from..to).filter(|o| o % 10 == 7).collect();
    let counts = ReadCounts {
        kept: batch.num_rows() as u64,
        rejected: bad.len() as u64,
        ..ReadCounts::default()
    };
    dataset.append(vec![Append {
        table: table.id,
        tp: tp(),
        epoch,
        from,
        to,
        batch,
        counts,
        rejected: rejected(0, &bad, dataset.clock().now_us()),
        fields: vec![],
        identity: LogIdentity::default(),
    }])
}

pub(super) fn rejected(partition: i32, offsets: &[i64], now_us: i64) -> RecordBatch {
    let schema = rejected_schema();
    let n = offsets.len();
    let column = |field: &Arc<arrow::datatypes::Field>| -> ArrayRef {
        match field.name().as_str() {
            "table" => Arc::new(StringViewArray::from(vec!["public.events"; n])),
            "topic" => Arc::new(StringViewArray::from(vec!["events"; n])),
            "reason" => Arc::new(StringViewArray::from(vec!["bad"; n])),
            "partition" => Arc::new(Int32Array::from(vec![partition; n])),
            "offset" => Arc::new(Int64Array::from(offsets.to_vec())),
            "payload_bytes" => Arc::new(Int64Array::from(vec![0; n])),
            "ingested_at" => {
                Arc::new(TimestampMicrosecondArray::from(vec![now_us; n]).with_timezone("UTC"))
            }
            _ => arrow::array::new_null_array(field.data_type(), n),
        }
    };
    RecordBatch::try_new(Arc::clone(&schema), schema.fields().iter().map(column).collect()).unwrap()
}

/// Two flushes of 50 records each, five of them bad.
async fn flushed() -> (Arc<Dataset>, u64, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000_000));
    let dataset = open(&memory(), &clock, "one").await;
    let epoch = claim(&dataset).await;
    for from in [0, 50] {
        append_some(&dataset, epoch, from, from + 50).unwrap();
        dataset.flush().await.unwrap().unwrap();
    }
    (dataset, epoch, clock)
}

/// Writes the file anew with `change` made to its rows.
async fn rewritten(
    dataset: &Dataset,
    file: &FileEntry,
    schema: &SchemaRef,
    change: impl Fn(RecordBatch) -> Vec<RecordBatch>,
) -> Arc<FileEntry> {
    let batches = read_segment(dataset.storage(), file, schema, None).await.unwrap();
    let batch = arrow::compute::concat_batches(schema, &batches).unwrap();
    let options = SegmentOptions {
        level: file.level,
        sorted_by: Vec::new(),
        bloom: Vec::new(),
        time_column: schema
            .fields()
            .iter()
            .find(|f| matches!(f.data_type(), DataType::Timestamp(..)))
            .unwrap()
            .name()
            .clone(),
    };
    let dir = file.path.rsplit_once('/').unwrap().0;
    let batches = change(batch);
    let written =
        write_segment(dataset.storage(), dir, 1_700_000_000_000, schema, &batches, &options).await;
    let entry = written.unwrap().into_entry(
        file.target,
        file.schema_id,
        file.ranges.clone(),
        file.created_at_us,
    );
    Arc::new(entry)
}

fn twice(batch: RecordBatch) -> Vec<RecordBatch> {
    vec![batch.clone(), batch]
}

#[tokio::test]
async fn rows_that_stand_twice_are_found() {
    let (dataset, ..) = flushed().await;
    assert_sound(&dataset).await;
    let snapshot = dataset.snapshot();
    let compiled = snapshot.table("public", "events").unwrap();
    let file = &snapshot.raw_files(compiled.id)[0];
    let first_again = |b: RecordBatch| vec![b.clone(), b.slice(3, 1)];
    let other = rewritten(&dataset, file, &compiled.schema, first_again).await;
    let found = problems(&dataset, |m| table(m).files[0] = other).await;
    finds(&found, "events/0 offset 3 stands 2 times");
    finds(&found, "has 91 rows, 90 were kept");
    finds(&found, "by_kind_minute differs");
}

#[tokio::test]
async fn states_that_were_added_twice_are_found() {
    let (dataset, epoch, _) = flushed().await;
    dataset.maintain(true).await.unwrap();
    append_some(&dataset, epoch, 100, 120).unwrap();
    dataset.flush().await.unwrap().unwrap();
    assert_sound(&dataset).await;
    let snapshot = dataset.snapshot();
    let rollup = &snapshot.table("public", "events").unwrap().rollups[0];
    let files = snapshot.manifest().rollups[&rollup.id].files.clone();
    for (i, file) in files.iter().enumerate() {
        let other = rewritten(&dataset, file, rollup.plan.schema(), twice).await;
        let Target::Rollup { granularity, .. } = file.target else { panic!() };
        let found = problems(&dataset, |m| {
            Arc::make_mut(m.rollups.get_mut(&rollup.id).unwrap()).files[i] = other;
        });
        let found = found.await;
        finds(&found, &format!("by_kind_{granularity} differs"));
        let told = found.iter().find(|p| p.contains("count(*) is ")).expect("a count");
        let (before, raw) = told.split_once(", raw rows give ").expect("both numbers");
        let stored = before.rsplit(' ').next().unwrap();
        let [stored, raw]: [u64; 2] = [stored, raw].map(|n| n.parse().expect("a plain number"));
        // Other files have a share of the bucket, too.
        assert!(stored > raw && stored <= raw * 2, "{told}");
    }
}

#[tokio::test]
async fn files_that_are_gone_are_found() {
    let (dataset, ..) = flushed().await;
    let manifest = Arc::clone(dataset.snapshot().manifest());
    let mut kinds = BTreeSet::new();
    for file in manifest.live_files() {
        let path = Path::from(file.path.as_str());
        let store = dataset.storage().store();
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
        store.delete(&path).await.unwrap();
        let found = problems(&dataset, |_| {}).await;
        finds(&found, &format!("file {} cannot be read", file.path));
        store.put(&path, bytes.into()).await.unwrap();
        assert_sound(&dataset).await;
        kinds.insert(format!("{:?}", file.target));
    }
    assert_eq!(kinds.len(), 3, "raw, rollup and rejected: {kinds:?}");
}

#[tokio::test]
async fn files_that_the_log_lost_are_found() {
    let (dataset, epoch, clock) = flushed().await;
    let found = problems(&dataset, |m| drop(table(m).files.remove(0))).await;
    finds(&found, "has 45 rows, 90 were kept");
    let found = problems(&dataset, |m| drop(m.rejected.remove(0))).await;
    finds(&found, "events/0 has 5 records, 10 were rejected");
    let twice = |m: &mut Manifest| m.rejected.push(Arc::clone(&m.rejected[0]));
    finds(&problems(&dataset, twice).await, "offset 7 stands 2 times");

    // Below a horizon too, where no rollup tells.
    // One file a day; a day has 10,080 of these records.
    for (from, to) in [(100, 10_080), (10_080, 20_160), (20_160, 30_000)] {
        append_some(&dataset, epoch, from, to).unwrap();
        dataset.flush().await.unwrap();
        dataset.maintain(true).await.unwrap();
    }
    let id = dataset.snapshot().table("public", "events").unwrap().id;
    dataset.advance_horizon(id, 2 * DAY_US).await.unwrap();
    clock.advance(10);
    dataset.maintain(true).await.unwrap();
    assert_sound(&dataset).await;
    assert!(dataset.snapshot().manifest().tables[&id].past.expired_rows > Some(0));
    let found = problems(&dataset, |m| drop(table(m).files.remove(0))).await;
    finds(&found, "have expired");
    let found = problems(&dataset, |m| {
        m.rejected_expired = Some(1);
    });
    finds(&found.await, "1 have expired");
}

#[tokio::test]
async fn wrong_ranges_are_found() {
    let (dataset, ..) = flushed().await;
    let range = |m: &mut Manifest, file: usize, from: i64, to: i64| {
        let ranges = &mut Arc::make_mut(&mut table(m).files[file]).ranges;
        *ranges = vec![OffsetRange { tp: tp(), from, to }];
    };
    let found = problems(&dataset, |m| range(m, 0, 0, 40)).await;
    finds(&found, "holds 9 rows outside the offsets it names");
    let found = problems(&dataset, |m| range(m, 0, 0, 60)).await;
    finds(&found, "events/0 from 50 to 60 is in two files");
    let found = problems(&dataset, |m| range(m, 1, 50, 101)).await;
    finds(&found, "from 50 to 101, which is more than was read");
    let found = problems(&dataset, |m| {
        table(m).positions.get_mut(&tp()).unwrap().offset = 90;
    });
    finds(&found.await, "offset 99 is outside what was committed");
}

/// A rollup that came later is compared from where it began.
#[tokio::test]
async fn a_later_rollup_is_audited_too() {
    let (dataset, epoch, _) = flushed().await;
    let mut def = table_def();
    let mut later = def.rollups[0].clone();
    later.name = "later".into();
    later.dimensions.clear();
    def.rollups.push(later);
    dataset.apply_tables(&[def], true).await.unwrap();
    append_some(&dataset, epoch, 100, 150).unwrap();
    dataset.flush().await.unwrap().unwrap();
    assert_sound(&dataset).await;
    dataset.maintain(true).await.unwrap();
    assert_sound(&dataset).await;
    let snapshot = dataset.snapshot();
    let rollup = &snapshot.table("public", "events").unwrap().rollups[1];
    assert_eq!(rollup.def.name, "later");
    let file = Arc::clone(&snapshot.manifest().rollups[&rollup.id].files[0]);
    let other = rewritten(&dataset, &file, rollup.plan.schema(), twice).await;
    let found = problems(&dataset, |m| {
        Arc::make_mut(m.rollups.get_mut(&rollup.id).unwrap()).files[0] = other;
    });
    finds(&found.await, "later_");
}

/// A position that went back or over a gap is no damage, and hides none.
#[tokio::test]
async fn resets_are_sound() {
    let (dataset, epoch, _) = flushed().await;
    let id = dataset.snapshot().table("public", "events").unwrap().id;
    let anew = |topic_id: &str| LogIdentity { topic_id: topic_id.into(), ..LogIdentity::default() };
    dataset.reset(id, vec![(tp(), 20, anew("b"))], "made again").await.unwrap();
    append_some(&dataset, epoch, 20, 60).unwrap();
    dataset.flush().await.unwrap().unwrap();
    assert_sound(&dataset).await;
    dataset.reset(id, vec![(tp(), 500, anew("b"))], "a gap").await.unwrap();
    append_some(&dataset, epoch, 500, 550).unwrap();
    dataset.flush().await.unwrap().unwrap();
    assert_sound(&dataset).await;
    dataset.maintain(true).await.unwrap();
    assert_sound(&dataset).await;
    let past = dataset.snapshot().manifest().tables[&id].past.clone();
    let read: Vec<_> = past.resets.iter().map(|r| (r.read.from, r.read.to, r.to)).collect();
    assert_eq!(read, [(0, 100, 20), (20, 60, 500)]);
    let snapshot = dataset.snapshot();
    let compiled = snapshot.table("public", "events").unwrap();
    let file = Arc::clone(&snapshot.raw_files(id)[0]);
    let other = rewritten(&dataset, &file, &compiled.schema, twice).await;
    let found = problems(&dataset, |m| table(m).files[0] = other).await;
    finds(&found, "offset 20 stands 4 times, it was read 2 times");
    finds(&found, "offset 3 stands 2 times");
}
