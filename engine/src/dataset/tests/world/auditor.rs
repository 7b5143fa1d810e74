//! Counts every offset: from the committed files by themselves, and in one snapshot of the living process.

use std::collections::BTreeSet;

use super::*;
use crate::compiled::CompiledTable;
use crate::segment::read_segment;
use crate::snapshot::Snapshot;
use crate::verify::verify;

/// Good offsets of all partitions up to their ends.
fn wanted(ends: &BTreeMap<i32, i64>) -> impl Iterator<Item = (i32, i64)> {
    ends.iter().flat_map(|(p, end)| (0..*end).filter(|o| !is_bad(*o)).map(|o| (*p, o)))
}

fn offsets_of(batch: &RecordBatch, partition: &str, offset: &str) -> Vec<(i32, i64)> {
    let partitions = batch[partition].as_primitive::<arrow::datatypes::Int32Type>().values();
    let offsets = batch[offset].as_primitive::<Int64Type>().values();
    partitions.iter().copied().zip(offsets.iter().copied()).collect()
}

struct Look<'a> {
    snapshot: &'a Snapshot,
    clean: &'a Storage,
    table: &'a CompiledTable,
    /// Ends of what must be there, by partition.
    ends: BTreeMap<i32, i64>,
    context: &'a str,
}

impl Look<'_> {
    /// Each good offset once in raw, unless it has expired.
    async fn raw(&self) {
        let context = self.context;
        let mut seen: BTreeMap<(i32, i64), usize> = BTreeMap::new();
        let hot = self.snapshot.hot(self.table.id).iter().flat_map(|c| c.batches().to_vec());
        let mut batches: Vec<RecordBatch> = hot.collect();
        for file in self.snapshot.raw_files(self.table.id) {
            let read = read_segment(self.clean, file, &self.table.schema, None).await;
            batches.extend(read.unwrap_or_else(|e| panic!("{context}: {e:?}")));
        }
        for row in batches.iter().flat_map(|b| offsets_of(b, "_partition", "_offset")) {
            *seen.entry(row).or_default() += 1;
        }
        let horizon_us = self.snapshot.horizon_us(self.table.id).unwrap_or(i64::MIN);
        for row in wanted(&self.ends) {
            let times = seen.remove(&row).unwrap_or(0);
            let kept = time_us(row.1) >= horizon_us;
            assert!(times == 1 || (times == 0 && !kept), "{context}: {row:?} stands {times} times");
        }
        assert!(seen.is_empty(), "{context}: rows that nobody read: {seen:?}");
    }

    /// Each good offset once in every granularity's count and sum.
    async fn rollups(&self) {
        let context = self.context;
        let rollup = &self.table.rollups[0];
        for &granularity in &rollup.def.granularities {
            let mut parts = self.snapshot.hot_states(rollup.id).unwrap();
            for file in self.snapshot.rollup_files(rollup.id, granularity) {
                let read = read_segment(self.clean, &file, rollup.plan.schema(), None).await;
                parts.extend(read.unwrap_or_else(|e| panic!("{context}: {e:?}")));
            }
            let merged = rollup.plan.merge(granularity, &parts).unwrap();
            let horizon_us = self.snapshot.rollup_horizon_us(rollup.id, granularity);
            let from_us = horizon_us.unwrap_or(i64::MIN);
            let mut found: BTreeMap<i64, (i64, i128)> = BTreeMap::new();
            let buckets =
                merged["bucket"].as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
            let counts = merged["events__count"].as_primitive::<Int64Type>();
            let sums = merged["total__sum"].as_primitive::<arrow::datatypes::Decimal128Type>();
            for row in (0..merged.num_rows()).filter(|row| buckets.value(*row) >= from_us) {
                let bucket = found.entry(buckets.value(row)).or_default();
                *bucket = (bucket.0 + counts.value(row), bucket.1 + sums.value(row));
            }
            let mut right: BTreeMap<i64, (i64, i128)> = BTreeMap::new();
            for (_, offset) in wanted(&self.ends).filter(|row| time_us(row.1) >= from_us) {
                let bucket = right.entry(granularity.floor_us(time_us(offset))).or_default();
                *bucket = (bucket.0 + 1, bucket.1 + i128::from(offset));
            }
            assert_eq!(found, right, "{context}: {granularity}");
        }
    }

    /// Each bad offset once among the rejected.
    async fn rejected(&self) {
        let context = self.context;
        let mut batches = self.snapshot.hot_rejected();
        for file in self.snapshot.rejected_files() {
            let read = read_segment(self.clean, file, &rejected_schema(), None).await;
            batches.extend(read.unwrap_or_else(|e| panic!("{context}: {e:?}")));
        }
        let all: Vec<_> =
            batches.iter().flat_map(|b| offsets_of(b, "partition", "offset")).collect();
        let found: BTreeSet<_> = all.iter().copied().collect();
        assert_eq!(found.len(), all.len(), "{context}: a rejected record stands twice");
        let ends = self.ends.iter();
        let right = ends.flat_map(|(p, end)| (0..*end).filter(|o| is_bad(*o)).map(|o| (*p, o)));
        assert_eq!(found, right.collect(), "{context}: rejected");
    }

    async fn all(&self) {
        self.raw().await;
        self.rollups().await;
        self.rejected().await;
    }
}

impl World {
    /// One snapshot of the living process: everything appended is there, raw and rollups agree (P2, P3).
    pub(super) async fn look(&self) {
        let dataset = self.dataset();
        let snapshot = dataset.snapshot();
        let table = snapshot.table("public", "events").unwrap();
        let (clean, ends) = (&self.clean, self.ends.clone());
        let context = format!("hot, at commit {}", snapshot.manifest().number);
        Look { snapshot: &snapshot, clean, table, ends, context: &context }.all().await;
    }

    /// Where the rollup `late` is whole, it has what the one of the beginning has.
    pub(super) async fn compare_late(&self, context: &str) {
        let dataset = self.dataset();
        let snapshot = dataset.snapshot();
        let table = snapshot.table("public", "events").unwrap();
        let [first, late] = table.rollups.as_slice() else { panic!("{context}: no late rollup") };
        let state = &snapshot.manifest().rollups[&late.id];
        let missing = state.uncovered(&snapshot.manifest().tables[&table.id]);
        assert_eq!(missing, Some(vec![]), "{context}");
        for &granularity in &late.def.granularities {
            let kept = [first.id, late.id].map(|id| snapshot.rollup_horizon_us(id, granularity));
            let from_us = kept.into_iter().max().flatten().max(state.whole_from_us);
            let mut found = Vec::new();
            for rollup in [first, late] {
                let mut parts = snapshot.hot_states(rollup.id).unwrap();
                for file in snapshot.rollup_files(rollup.id, granularity) {
                    let read = read_segment(&self.clean, &file, rollup.plan.schema(), None).await;
                    parts.extend(read.unwrap_or_else(|e| panic!("{context}: {e:?}")));
                }
                let merged = rollup.plan.merge(granularity, &parts).unwrap();
                let buckets =
                    merged["bucket"].as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
                let before = buckets.values().partition_point(|b| Some(*b) < from_us);
                found.push(merged.slice(before, merged.num_rows() - before));
            }
            assert_eq!(found[0], found[1], "{context}: {granularity}");
        }
    }

    /// What is committed, read from the store alone (P1). The number of the last commit.
    pub(super) async fn audit(&self, context: &str) -> u64 {
        let clock = Arc::new(ManualClock::new(NOW_US));
        let opened = Dataset::open(self.clean.clone(), options(&clock, "auditor")).await;
        let dataset = opened.unwrap_or_else(|e| panic!("{context}: {e:?}"));
        let snapshot = dataset.snapshot();
        let number = snapshot.manifest().number;
        let Some(table) = snapshot.table("public", "events") else { return number };
        let positions = snapshot.positions(table.id);
        let ends: BTreeMap<i32, i64> =
            positions.iter().map(|(tp, at)| (tp.partition, at.0)).collect();
        for (partition, durable) in &self.durable {
            let end = ends.get(partition).copied().unwrap_or(0);
            assert!(end >= *durable, "{context}: {partition} stands at {end}, not {durable}");
        }
        Look { snapshot: &snapshot, clean: &self.clean, table, ends, context }.all().await;
        let audits =
            verify(&snapshot, &|_| {}).await.unwrap_or_else(|e| panic!("{context}: {e:?}"));
        for audit in audits {
            assert!(audit.problems.is_empty(), "{context}: {:#?}", audit.problems);
        }
        number
    }
}
