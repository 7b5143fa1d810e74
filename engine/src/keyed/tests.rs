//! The map against a plain model: whatever the order and the cuts, the same rows.

mod spill;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, TimeUnit};

use super::{ABSENT, Key, KeyedTable, Shape};
use crate::catalog::{
    DELETED_COLUMN, EXPECTED_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN, TIMESTAMP_COLUMN,
};
use crate::position::TopicPartition;

/// Numbers that a seed gives.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.index(at + 1));
        }
    }
}

#[derive(Debug, Clone)]
struct Change {
    key: String,
    partition: i32,
    offset: i64,
    at_us: i64,
    value: Option<i64>,
    expected: Option<i64>,
}

fn fields() -> Vec<Field> {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    vec![
        Field::new("id", DataType::Utf8View, false),
        Field::new("n", DataType::Int64, true),
        Field::new(PARTITION_COLUMN, DataType::Int32, false),
        Field::new(OFFSET_COLUMN, DataType::Int64, false),
        Field::new(TIMESTAMP_COLUMN, utc, true),
        Field::new(DELETED_COLUMN, DataType::Boolean, false),
    ]
}

fn table() -> KeyedTable {
    KeyedTable::new(Shape { schema: Arc::new(Schema::new(fields())), key: 0 })
}

fn batch(changes: &[Change]) -> RecordBatch {
    let mut fields = fields();
    fields.push(Field::new(EXPECTED_COLUMN, DataType::Int64, true));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(changes.iter().map(|c| c.key.as_str()))),
        Arc::new(changes.iter().map(|c| c.value).collect::<Int64Array>()),
        Arc::new(Int32Array::from_iter_values(changes.iter().map(|c| c.partition))),
        Arc::new(Int64Array::from_iter_values(changes.iter().map(|c| c.offset))),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(changes.iter().map(|c| c.at_us))
                .with_timezone("UTC"),
        ),
        Arc::new(BooleanArray::from_iter(changes.iter().map(|c| Some(c.value.is_none())))),
        Arc::new(changes.iter().map(|c| c.expected).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn apply(table: &mut KeyedTable, changes: &[Change]) -> usize {
    let tp = TopicPartition::new("t", changes.first().map_or(0, |c| c.partition));
    table.append(&tp, batch(changes)).unwrap().num_rows()
}

/// Key to value, partition and offset of all live rows.
fn rows(table: &KeyedTable) -> BTreeMap<String, (i64, i32, i64)> {
    let mut found = BTreeMap::new();
    for block in table.blocks() {
        let batch = block.read(None).unwrap();
        assert_eq!(batch.num_rows(), block.rows());
        for row in 0..batch.num_rows() {
            let key = batch.column(0).as_string_view().value(row).to_string();
            let int = |at: usize| batch.column(at).as_primitive::<Int64Type>().value(row);
            let partition = batch.column(2).as_primitive::<Int32Type>().value(row);
            let looked_up = table.get(&Key::Text(key.clone())).unwrap();
            assert_eq!((looked_up.partition(), looked_up.offset()), (partition, int(3)));
            assert!(found.insert(key, (int(1), partition, int(3))).is_none(), "one row a key");
        }
    }
    assert_eq!(found.len(), table.rows());
    found
}

/// What the records add up to, by the definition.
fn model(changes: &[Change]) -> BTreeMap<String, (i64, i32, i64)> {
    let mut latest: BTreeMap<(String, i32), &Change> = BTreeMap::new();
    for change in changes {
        let known = latest.entry((change.key.clone(), change.partition)).or_insert(change);
        if known.offset < change.offset {
            *known = change;
        }
    }
    let mut best: BTreeMap<String, &Change> = BTreeMap::new();
    for change in latest.into_values() {
        let rank = |c: &Change| (c.at_us, c.partition, c.offset);
        let known = best.entry(change.key.clone()).or_insert(change);
        if rank(known) < rank(change) {
            *known = change;
        }
    }
    let live =
        best.into_iter().filter_map(|(key, c)| Some((key, (c.value?, c.partition, c.offset))));
    live.collect()
}

fn world(dice: &mut Dice, records: i64, keys: u64, partitions: u64) -> Vec<Change> {
    let change = |offset: i64| Change {
        key: format!("key number {}", dice.below(keys)),
        partition: i32::try_from(dice.below(partitions)).unwrap(),
        offset,
        at_us: i64::try_from(dice.below(1_000)).unwrap(),
        value: (dice.below(5) > 0).then_some(offset),
        expected: None,
    };
    (0..records).map(change).collect()
}

#[test]
fn any_order_and_any_cuts_give_the_same_rows() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let keys = [3, 50, 2_000][usize::try_from(seed % 3).unwrap()];
        let mut changes = world(&mut dice, 3_000, keys, 1 + seed % 3);
        let expected = model(&changes);
        for _ in 0..2 {
            let mut table = table();
            let mut left = changes.as_slice();
            while !left.is_empty() {
                let (some, rest) = left.split_at(1 + dice.index(left.len().min(700)));
                apply(&mut table, some);
                // A record that is read again changes nothing.
                apply(&mut table, &some[..some.len() / 2]);
                left = rest;
            }
            assert_eq!(rows(&table), expected, "seed {seed}");
            dice.shuffle(&mut changes);
        }
    }
}

#[test]
fn a_version_never_changes() {
    let mut dice = Dice(7);
    let changes = world(&mut dice, 20_000, 5_000, 2);
    let (first, second) = changes.split_at(12_000);
    let mut table = table();
    for some in first.chunks(1_000) {
        apply(&mut table, some);
    }
    let before = table.clone();
    for some in second.chunks(37) {
        apply(&mut table, some);
    }
    assert_eq!(rows(&before), model(first));
    assert_eq!(rows(&table), model(&changes));
}

#[test]
fn blocks_stay_few_and_mostly_used() {
    let mut table = table();
    for round in 0..40_i64 {
        for some in 0..50_i64 {
            let changes: Vec<Change> = (0..40)
                .map(|i| Change {
                    key: format!("k{}", some * 40 + i),
                    partition: 0,
                    offset: round * 2_000 + some * 40 + i,
                    at_us: 0,
                    value: Some(round),
                    expected: None,
                })
                .collect();
            apply(&mut table, &changes);
        }
    }
    assert_eq!(table.rows(), 2_000);
    assert!(table.blocks().len() < 16, "{} blocks", table.blocks().len());
    assert!(table.bytes() < 2_000 * 600, "{} bytes", table.bytes());
}

#[test]
fn the_first_of_two_writes_that_expect_the_same_row_counts() {
    let mut table = table();
    let tp = TopicPartition::new("t", 0);
    let mut offset = 0;
    let mut write = |table: &mut KeyedTable, value: Option<i64>, expected: Option<i64>| {
        let key = "k".to_string();
        let change = Change { key, partition: 0, offset, at_us: 0, value, expected };
        offset += 1;
        apply(table, &[change]) == 1
    };
    assert!(write(&mut table, Some(1), Some(ABSENT)));
    assert!(!write(&mut table, Some(2), Some(ABSENT)), "there is a row");
    assert!(table.is_voided(&tp, 1) && !table.is_voided(&tp, 0));
    let key = Key::Text("k".into());
    assert_eq!(table.voided().map(|v| (v.offset, &v.key)).collect::<Vec<_>>(), [(1, &key)]);
    assert_eq!(table.latest_in(&key, &tp), Some((0, false)));
    assert!(write(&mut table, Some(3), Some(0)));
    assert!(!write(&mut table, Some(4), Some(0)), "3 was first");
    assert_eq!(rows(&table)["k"], (3, 0, 2));
    assert!(write(&mut table, None, Some(2)));
    assert!(write(&mut table, Some(5), Some(ABSENT)), "deleted is absent");
    assert!(!write(&mut table, Some(6), Some(-1)), "written in this partition");
    assert!(write(&mut table, Some(7), None));
    assert_eq!(rows(&table)["k"].0, 7);
}

#[test]
fn old_deletions_go_unless_they_hide_another_partition() {
    let change = |key: &str, partition: i32, offset: i64, value: Option<i64>| Change {
        key: key.into(),
        partition,
        offset,
        at_us: offset,
        value,
        expected: None,
    };
    let mut table = table();
    apply(&mut table, &[change("a", 0, 1, Some(1)), change("b", 0, 2, Some(1))]);
    apply(&mut table, &[change("a", 0, 3, None), change("c", 0, 9, None)]);
    apply(&mut table, &[change("b", 1, 4, None)]);
    assert_eq!((table.rows(), table.tombstones()), (0, 4));
    assert_eq!(table.purge(5).unwrap(), 1);
    assert_eq!((table.rows(), table.tombstones()), (0, 3));
    assert!(table.get(&Key::Text("b".into())).is_none(), "its deletion still hides it");
}
