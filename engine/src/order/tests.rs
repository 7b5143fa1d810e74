//! Sorting against the plainest sort, merging against sorting, grouping against looking up.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};

use super::*;
use crate::state::samples::{Rng, column, column_types, utc};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("time", utc(), false),
        Field::new("name", DataType::Utf8View, true),
        Field::new("row", DataType::Int64, false),
    ]))
}

fn batch(rng: &mut Rng, rows: usize) -> RecordBatch {
    let row: ArrayRef = Arc::new(Int64Array::from_iter_values(0..i64::try_from(rows).unwrap()));
    let columns =
        vec![column(rng, &utc(), rows, 0), column(rng, &DataType::Utf8View, rows, 20), row];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// The rows as comparable values: nulls first.
fn keys(batch: &RecordBatch, names: &[&str]) -> Vec<Vec<Option<String>>> {
    let texts: Vec<ArrayRef> = names
        .iter()
        .map(|n| {
            let column = batch.column_by_name(n).unwrap();
            let column = match column.data_type() {
                DataType::Timestamp(_, _) => cast(column, &DataType::Int64).unwrap(),
                _ => Arc::clone(column),
            };
            cast(&column, &DataType::Utf8View).unwrap()
        })
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let texts = texts.iter().map(|t| t.as_string_view());
            texts.map(|t| t.is_valid(row).then(|| t.value(row).to_string())).collect()
        })
        .collect()
}

#[test]
fn sorting_is_ascending_stable_and_nulls_first() {
    let mut rng = Rng(1);
    for names in [vec!["time"], vec!["time", "row"], vec!["name", "time"], vec!["name"]] {
        let parts = [batch(&mut rng, 500), batch(&mut rng, 0), batch(&mut rng, 77)];
        let sorted = sort_batches(&schema(), &parts, &names).unwrap();
        let all = concat_batches(&schema(), &parts).unwrap();
        let mut expected: Vec<usize> = (0..all.num_rows()).collect();
        let keyed = keys(&all, &names);
        expected.sort_by_key(|row| keyed[*row].clone());
        let rows = |b: &RecordBatch| b.column(2).as_primitive::<Int64Type>().values().to_vec();
        let expected: Vec<i64> = expected.into_iter().map(|row| rows(&all)[row]).collect();
        if names.as_slice() != ["time", "row"] {
            assert_eq!(rows(&sorted), expected, "{names:?}");
        }
        let keyed = keys(&sorted, &names);
        let in_order = |w: &[Vec<Option<String>>]| names.contains(&"row") || w[0] <= w[1];
        assert!(keyed.windows(2).all(in_order), "{names:?}");
        // What is sorted already is not moved.
        let columns: Vec<ArrayRef> =
            names.iter().map(|n| Arc::clone(sorted.column_by_name(n).unwrap())).collect();
        assert!(sort_indices(&columns).unwrap().is_none(), "{names:?}");
    }
    assert!(sort_batches(&schema(), &[], &["nothing"]).is_err());
}

#[tokio::test]
async fn merging_sorted_streams_is_sorting() {
    let mut rng = Rng(2);
    for names in [vec!["time"], vec!["time", "name"], vec!["name"]] {
        let parts: Vec<RecordBatch> = (0..5)
            .map(|_| sort_batches(&schema(), &[batch(&mut rng, 300)], &names).unwrap())
            .collect();
        let streams = parts
            .iter()
            .map(|p| {
                let pieces: Vec<_> = (0..3).map(|i| Ok(p.slice(i * 100, 100))).collect();
                futures::stream::iter(pieces).boxed()
            })
            .collect();
        let merged: Vec<RecordBatch> =
            merge_sorted(&schema(), streams, &names).unwrap().try_collect().await.unwrap();
        let merged = concat_batches(&schema(), &merged).unwrap();
        let expected = sort_batches(&schema(), &parts, &names).unwrap();
        assert_eq!(keys(&merged, &names), keys(&expected, &names), "{names:?}");
        assert_eq!(merged.num_rows(), 1500);
    }
}

#[tokio::test]
async fn a_stream_s_own_error_comes_through() {
    let stream = |error: bool| {
        let batch = if error {
            Err(Error::unavailable("store is down"))
        } else {
            Ok(batch(&mut Rng(3), 10))
        };
        futures::stream::iter([batch]).boxed()
    };
    let merged = merge_sorted(&schema(), vec![stream(false), stream(true)], &["name"]).unwrap();
    let e = merged.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!((e.kind(), e.message()), (crate::ErrorKind::Unavailable, "store is down"));
}

#[test]
fn groups_are_numbered_in_order_of_appearance() {
    let mut rng = Rng(4);
    for data_type in column_types().into_iter().filter(|t| !t.is_floating()) {
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("a", utc(), false),
            Field::new("b", data_type.clone(), true),
        ]));
        let mut grouping = Grouping::new(Arc::clone(&schema)).unwrap();
        let a = column(&mut rng, &utc(), 400, 0);
        let b = column(&mut rng, &data_type, 400, 30);
        grouping.intern(&[Arc::clone(&a), Arc::clone(&b)]).unwrap();
        let first = grouping.numbers().to_vec();
        grouping.intern(&[Arc::clone(&a), Arc::clone(&b)]).unwrap();
        assert_eq!(first, grouping.numbers(), "{data_type}");
        assert_eq!(grouping.len(), first.iter().max().unwrap() + 1);
        assert!(grouping.size() > 0);
        let keys = grouping.emit().unwrap();
        assert_eq!(keys[0].data_type(), &utc());
        assert_eq!(keys[1].data_type(), &data_type);
        for (row, group) in first.iter().enumerate() {
            assert_eq!(
                keys[1].slice(*group, 1).to_data(),
                b.slice(row, 1).to_data(),
                "{data_type}"
            );
        }
    }
    let words: ArrayRef = Arc::new(StringViewArray::from_iter_values(["a", "b", "a"]));
    let schema = Arc::new(Schema::new(vec![Field::new("w", DataType::Utf8View, true)]));
    let mut grouping = Grouping::new(schema).unwrap();
    grouping.intern(&[words]).unwrap();
    assert_eq!(grouping.numbers(), [0, 1, 0]);
}
