//! Sets and frequent values: the bounds of their errors, and that a split does not matter.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::DataType;
use serde_json::Value;

use super::samples::Rng;
use super::tests::one_group;
use super::{EmitTo, SetOperation, combine_sets, count_set, empty_set};
use crate::error::ErrorKind;
use crate::expr::AggregateFunction::{ApproxSet, TopK};

fn longs(range: std::ops::Range<i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(range))
}

fn set(values: ArrayRef) -> Vec<u8> {
    let image = one_group(ApproxSet, values).finish(EmitTo::All).unwrap();
    image.as_binary_view().value(0).to_vec()
}

fn near(image: &[u8], expected: i64, of: i64) {
    let found = count_set(image).unwrap();
    // Four standard errors of a set of this many values, of which the expected ones are a part.
    let bound =
        if of <= 4_096 { 0.0 } else { 4.0 * (expected as f64 * of as f64 / 4_096.0).sqrt() };
    assert!((found - expected).abs() as f64 <= bound, "{found}, not {expected} of {of}");
}

#[test]
fn sets_are_the_same_to_the_bit_whatever_the_split() {
    let mut rng = Rng(31);
    for n in [0_i64, 1, 2, 4_095, 4_096, 4_097, 7_000, 8_000, 50_000, 200_000] {
        let whole = set(longs(0..n));
        near(&whole, n, n);
        let mut merged = ApproxSet.accumulator(&[DataType::Int64]).unwrap();
        merged.update(&[longs(0..0)], &[], None, 1).unwrap();
        let mut from = 0;
        while from < n {
            // Pieces overlap, and every third comes as values after states.
            let to = (from + 1 + i64::try_from(rng.below(30_000)).unwrap()).min(n);
            let piece = longs((from - 500).max(0)..to);
            if rng.chance(33) {
                let groups = vec![0; piece.len()];
                merged.update(&[piece], &groups, None, 1).unwrap();
            } else {
                let states = one_group(ApproxSet, piece).state(EmitTo::All).unwrap();
                merged.merge(&states, &[0], None, 1).unwrap();
            }
            from = to;
        }
        let image = merged.finish(EmitTo::All).unwrap();
        assert_eq!(image.as_binary_view().value(0), whole, "{n}");
    }
    assert_eq!(set(longs(0..0)), empty_set().unwrap());
}

#[test]
fn sets_combine_within_their_error() {
    use SetOperation::{Intersect, Minus, Union};
    for n in [100_i64, 3_000, 40_000] {
        let (a, b) = (set(longs(0..2 * n)), set(longs(n..3 * n)));
        near(&combine_sets(Union, &a, &b).unwrap(), 3 * n, 3 * n);
        near(&combine_sets(Intersect, &a, &b).unwrap(), n, 3 * n);
        near(&combine_sets(Minus, &a, &b).unwrap(), n, 3 * n);
        assert_eq!(combine_sets(Union, &a, &b).unwrap(), set(longs(0..3 * n)));
        let none = empty_set().unwrap();
        assert_eq!(combine_sets(Union, &a, &none).unwrap(), a);
        assert_eq!(combine_sets(Minus, &a, &none).unwrap(), a);
        assert_eq!(count_set(&combine_sets(Intersect, &a, &none).unwrap()).unwrap(), 0);
        assert_eq!(count_set(&combine_sets(Minus, &a, &a).unwrap()).unwrap(), 0);
        // What comes of an operation is a set again.
        let both = combine_sets(Intersect, &a, &b).unwrap();
        near(&combine_sets(Union, &both, &a).unwrap(), 2 * n, 3 * n);
    }
    let e = combine_sets(Union, b"no set", &empty_set().unwrap()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    assert_eq!(count_set(b"").unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_set_of_another_library_is_cut_to_ours() {
    use datasketches::theta::ThetaSketchBuilder;
    let mut wide = ThetaSketchBuilder::default().lg_k(14).build().unwrap();
    (0..60_000_i64).for_each(|i| wide.update(i));
    for ordered in [true, false] {
        let image = wide.compact(ordered).serialize();
        let states: ArrayRef = Arc::new(BinaryViewArray::from_iter_values([image.as_slice()]));
        let mut merged = ApproxSet.accumulator(&[DataType::Int64]).unwrap();
        merged.merge(&[states], &[0], None, 1).unwrap();
        let image = merged.finish(EmitTo::All).unwrap();
        assert_eq!(image.as_binary_view().value(0), set(longs(0..60_000)));
    }
}

/// Counts by value of a list that `top_k` gave, in its order.
fn listed(array: &ArrayRef) -> Vec<(String, u64)> {
    let list: Value = serde_json::from_str(array.as_string_view().value(0)).unwrap();
    list.as_array()
        .unwrap()
        .iter()
        .map(|row| (row["value"].as_str().unwrap().into(), row["count"].as_u64().unwrap()))
        .collect()
}

#[test]
fn frequent_values_are_exact_while_few_and_within_their_error_when_many() {
    let mut rng = Rng(33);
    for (values, rows) in [(20_usize, 5_000_usize), (1_500, 60_000), (200_000, 400_000)] {
        // The smaller, the more frequent.
        let drawn: Vec<String> =
            (0..rows).map(|_| (rng.below(1 + rng.clone().below(values))).to_string()).collect();
        let mut truth: HashMap<&str, u64> = HashMap::new();
        drawn.iter().for_each(|v| *truth.entry(v).or_default() += 1);
        let mut merged = TopK { k: 20 }.accumulator(&[DataType::Utf8View]).unwrap();
        for piece in drawn.chunks(7_001) {
            let piece: ArrayRef = Arc::new(StringViewArray::from_iter_values(piece));
            let states = one_group(TopK { k: 20 }, piece).state(EmitTo::All).unwrap();
            merged.merge(&states, &[0], None, 1).unwrap();
        }
        let found = listed(&merged.finish(EmitTo::All).unwrap());
        assert_eq!(found.len(), 20);
        assert!(found.is_sorted_by_key(|(_, count)| std::cmp::Reverse(*count)));
        let bound = if values > 1_536 { rows as u64 * 2 / 1_000 } else { 0 };
        for (value, count) in &found {
            let real = truth[value.as_str()];
            assert!((real..=real + bound).contains(count), "{value}: {count}, really {real}");
        }
        // Nothing that clearly belongs there is missing.
        let least = found.last().unwrap().1;
        for (value, real) in truth {
            let listed = found.iter().any(|(v, _)| v == value);
            assert!(listed || real <= least, "{value} with {real} is missing, least is {least}");
        }
    }
}

#[test]
fn frequent_values_of_any_type_are_texts() {
    let check = |array: ArrayRef, expected: &[(&str, u64)]| {
        let found = listed(&one_group(TopK { k: 2 }, array).finish(EmitTo::All).unwrap());
        let expected: Vec<_> = expected.iter().map(|(v, n)| ((*v).to_string(), *n)).collect();
        assert_eq!(found, expected);
    };
    check(
        Arc::new(Int64Array::from(vec![Some(7), None, Some(7), Some(-1), Some(3)])),
        &[("7", 2), ("-1", 1)],
    );
    check(Arc::new(BooleanArray::from(vec![true, false, true])), &[("true", 2), ("false", 1)]);
    check(Arc::new(Date32Array::from(vec![0, 0])), &[("1970-01-01", 2)]);
    let price = Decimal128Array::from(vec![150, 150]).with_precision_and_scale(12, 2).unwrap();
    check(Arc::new(price), &[("1.50", 2)]);
    let none = one_group(TopK { k: 2 }, longs(0..0)).finish(EmitTo::All).unwrap();
    assert!(none.is_null(0));
    assert!(TopK { k: 0 }.output_type(&[DataType::Int64]).is_err());
    assert!(TopK { k: 1_001 }.output_type(&[DataType::Int64]).is_err());
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn images_are_those_of_the_other_libraries() {
    // Written by the Python library, version 5.2, from the integers 0 to 4 and from two words.
    let integers = "02030300001acc93050000000000000015f97dcbbd86a10540de2ee1c9db3d08c397fc1281709d1e\
                    e56b61eec8804420ba40b3c1da06695d";
    assert_eq!(set(longs(0..5)), bytes(integers));
    let words = "02030300001acc9302000000000000008a3d68440c5d7a09548a04cc657a0478";
    let array: ArrayRef = Arc::new(StringViewArray::from_iter_values(["owl", "Eule", "owl"]));
    assert_eq!(set(array), bytes(words));
    // Three owls and two Eulen.
    let items = "04010a0b03000000020000000000000005000000000000000000000000000000030000000000000002000000\
                 00000000030000006f776c0400000045756c65";
    let states: ArrayRef = Arc::new(BinaryViewArray::from_iter_values([bytes(items)]));
    let mut merged = TopK { k: 5 }.accumulator(&[DataType::Utf8View]).unwrap();
    merged.merge(&[states], &[0], None, 1).unwrap();
    let expected = vec![("owl".to_string(), 3), ("Eule".to_string(), 2)];
    assert_eq!(listed(&merged.finish(EmitTo::All).unwrap()), expected);
}
