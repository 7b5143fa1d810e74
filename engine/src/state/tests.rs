//! Every function over every type: the states of any split of the rows merge to what all rows give.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::compute::{cast, filter};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use datasketches::kll::KllSketch;

use super::samples::{Rng, column, column_types, utc};
use super::{EmitTo, StateAccumulator};
use crate::error::ErrorKind;
use crate::expr::AggregateFunction::{self, *};

const FUNCTIONS: [AggregateFunction; 15] = [
    CountAll,
    Count,
    Sum,
    Min,
    Max,
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
    First,
    Last,
    ApproxDistinct,
    ApproxQuantile { p: 0.5 },
    ApproxSet,
    TopK { k: 10 },
];

fn args(function: AggregateFunction, value: &ArrayRef, time: &ArrayRef) -> Vec<ArrayRef> {
    match function {
        CountAll => vec![],
        First | Last => vec![Arc::clone(value), Arc::clone(time)],
        _ => vec![Arc::clone(value)],
    }
}

fn types(args: &[ArrayRef]) -> Vec<DataType> {
    args.iter().map(|a| a.data_type().clone()).collect()
}

/// Equal, or floats within 1e-9.
fn assert_same(left: &ArrayRef, right: &ArrayRef, what: &str) {
    assert_eq!(left.data_type(), right.data_type(), "{what}");
    if *left.data_type() != DataType::Float64 {
        assert_eq!(left, right, "{what}");
        return;
    }
    let (left, right) = (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
    assert_eq!(left.len(), right.len());
    for (a, b) in left.iter().zip(right) {
        let same = match (a, b) {
            (Some(a), Some(b)) => {
                (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
            }
            (a, b) => a.is_none() && b.is_none(),
        };
        assert!(same, "{what}: {a:?} and {b:?}");
    }
}

fn check(
    function: AggregateFunction,
    data_type: &DataType,
    rows: usize,
    groups: usize,
    rng: &mut Rng,
) {
    let what = format!("{function:?} of {data_type}, {rows} rows, {groups} groups");
    let value = column(rng, data_type, rows, 20);
    let time = column(rng, &utc(), rows, 0);
    let group: Vec<usize> = (0..rows).map(|_| rng.below(groups)).collect();
    let hidden: Option<BooleanArray> = rng
        .chance(50)
        .then(|| (0..rows).map(|_| (!rng.chance(10)).then_some(rng.chance(70))).collect());
    let args = args(function, &value, &time);
    let types = types(&args);
    let mut whole = function.accumulator(&types).unwrap();
    whole.update(&args, &group, hidden.as_ref(), groups).unwrap();
    let mut merged = function.accumulator(&types).unwrap();
    let mut from = 0;
    while from < rows {
        let length = (1 + rng.below(40)).min(rows - from);
        let piece: Vec<ArrayRef> = args.iter().map(|a| a.slice(from, length)).collect();
        let hidden = hidden.as_ref().map(|h| h.slice(from, length));
        let mut part = function.accumulator(&types).unwrap();
        part.update(&piece, &group[from..from + length], hidden.as_ref(), groups).unwrap();
        let states = part.state(EmitTo::All).unwrap();
        let fields = function.state_fields("p", &types).unwrap();
        assert_eq!(states.len(), fields.len(), "{what}");
        for (state, field) in states.iter().zip(&fields) {
            assert_eq!(state.data_type(), field.data_type(), "{what}");
            assert!(field.is_nullable() || state.null_count() == 0, "{what}");
        }
        // Groups are numbered anew in every partial: merge them backwards.
        let back: Vec<usize> = (0..groups).rev().collect();
        let order = UInt32Array::from_iter_values(back.iter().map(|g| u32::try_from(*g).unwrap()));
        let states = arrow::compute::take_arrays(&states, &order, None).unwrap();
        merged.merge(&states, &back, None, groups).unwrap();
        from += length;
    }
    merged.merge(&empty_states(function, &types), &[], None, groups).unwrap();
    assert!(whole.size() > 0, "{what}");
    let (whole, merged) = (whole.finish(EmitTo::All).unwrap(), merged.finish(EmitTo::All).unwrap());
    assert_eq!(whole.len(), groups, "{what}");
    assert_eq!(*whole.data_type(), function.output_type(&types).unwrap(), "{what}");
    // Quantiles of groups that outgrow the sketch differ by its rank error, which has a test of its own.
    if !matches!(function, ApproxQuantile { .. }) || rows / groups < 150 {
        assert_same(&whole, &merged, &what);
    }
    check_naive(function, &value, &time, &group, hidden.as_ref(), &whole, &what);
}

fn empty_states(function: AggregateFunction, types: &[DataType]) -> Vec<ArrayRef> {
    function.accumulator(types).unwrap().state(EmitTo::All).unwrap()
}

/// The plainest way to the same answer, for functions where it is short.
fn check_naive(
    function: AggregateFunction,
    value: &ArrayRef,
    time: &ArrayRef,
    group: &[usize],
    hidden: Option<&BooleanArray>,
    got: &ArrayRef,
    what: &str,
) {
    let Ok(value) = cast(value, &DataType::Int64) else { return };
    if !value.data_type().is_integer() || what.contains("Float") || what.contains("Utf8") {
        return;
    }
    let times = cast(time, &DataType::Int64).unwrap();
    let mut rows: BTreeMap<usize, Vec<(i64, Option<i64>)>> = BTreeMap::new();
    for (row, group) in group.iter().enumerate() {
        if hidden.is_some_and(|h| h.is_null(row) || !h.value(row)) {
            continue;
        }
        let values = value.as_primitive::<Int64Type>();
        let value = values.is_valid(row).then(|| values.value(row));
        rows.entry(*group).or_default().push((times.as_primitive::<Int64Type>().value(row), value));
    }
    let none = Vec::new();
    for index in 0..got.len() {
        let rows = rows.get(&index).unwrap_or(&none);
        let known: Vec<(i64, i64)> = rows.iter().filter_map(|(t, v)| v.map(|v| (*t, v))).collect();
        let values = known.iter().map(|(_, v)| *v);
        let expected: Option<i128> = match function {
            CountAll => Some(rows.len() as i128),
            Count => Some(known.len() as i128),
            Sum if !what.contains("Decimal") => {
                (!known.is_empty()).then(|| values.map(i128::from).sum())
            }
            First => {
                known.iter().min_by_key(|(t, v)| (*t, -i128::from(*v))).map(|(_, v)| (*v).into())
            }
            Last => known.iter().max().map(|(_, v)| i128::from(*v)),
            Min => values.min().map(i128::from),
            Max => values.max().map(i128::from),
            _ => return,
        };
        let got = match got.data_type() {
            DataType::Decimal128(_, _) if function == Sum => {
                let sums = got.as_primitive::<Decimal128Type>();
                sums.is_valid(index).then(|| sums.value(index))
            }
            _ => {
                let longs = cast(got, &DataType::Int64).unwrap();
                let longs = longs.as_primitive::<Int64Type>();
                longs.is_valid(index).then(|| longs.value(index).into())
            }
        };
        // Decimals were cut to integers for the comparison: their order among ties is not that of the cut.
        if !(what.contains("Decimal") && matches!(function, First | Last)) {
            assert_eq!(got, expected, "{what}, group {index}");
        }
    }
}

#[test]
fn splits_merge_to_the_whole() {
    let mut rng = Rng(7);
    for function in FUNCTIONS {
        for data_type in column_types() {
            let types = [data_type.clone(), utc()];
            if function.output_type(&types).is_err() {
                continue;
            }
            for (rows, groups) in [(0, 1), (1, 1), (50, 3), (400, 1), (1000, 37)] {
                check(function, &data_type, rows, groups, &mut rng);
            }
        }
    }
}

#[test]
fn every_function_takes_the_types_it_should() {
    let taken = |f: AggregateFunction| -> usize {
        column_types().iter().filter(|t| f.output_type(&[(*t).clone(), utc()]).is_ok()).count()
    };
    assert_eq!(taken(Sum), 7);
    assert_eq!(taken(Min), 13);
    assert_eq!(taken(First), 13);
    assert_eq!(taken(VarPop), 7);
    assert_eq!(taken(ApproxDistinct), 13);
    assert_eq!(taken(ApproxQuantile { p: 0.9 }), 7);
    assert_eq!(taken(ApproxSet), 13);
    assert_eq!(taken(TopK { k: 3 }), 12);
    let e = Sum.output_type(&[DataType::Utf8View]).unwrap_err();
    assert_eq!(e.to_string(), "sum() does not take values of type Utf8View");
    assert_eq!(
        ApproxQuantile { p: 1.5 }.output_type(&[DataType::Int64]).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert!(First.output_type(&[DataType::Int64]).is_err());
}

pub(super) fn one_group(function: AggregateFunction, array: ArrayRef) -> Box<dyn StateAccumulator> {
    let mut accumulator = function.accumulator(&[array.data_type().clone()]).unwrap();
    let groups = vec![0; array.len()];
    accumulator.update(&[array], &groups, None, 1).unwrap();
    accumulator
}

#[test]
fn sums_never_wrap() {
    let longs: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX; 3]));
    let sum = one_group(Sum, longs).finish(EmitTo::All).unwrap();
    assert_eq!(sum.as_primitive::<Decimal128Type>().value(0), 3 * i128::from(i64::MAX));

    // Groups that overflow 64 bits beside others that do not, emitted in two parts, then added to again.
    let mut sums = Sum.accumulator(&[DataType::Int64]).unwrap();
    let longs =
        |values: &[Option<i64>]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
    let (least, most) = (Some(i64::MIN), Some(i64::MAX));
    let values = longs(&[most, least, Some(7), most, least, None, Some(-9)]);
    sums.update(&[values], &[0, 1, 2, 0, 1, 3, 2], None, 4).unwrap();
    let values =
        |array: ArrayRef| array.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>();
    let first = values(sums.finish(EmitTo::First(1)).unwrap());
    assert_eq!(first, [Some(2 * i128::from(i64::MAX))]);
    sums.update(&[longs(&[least, Some(5), Some(1)])], &[0, 2, 4], None, 5).unwrap();
    let rest = values(sums.finish(EmitTo::All).unwrap());
    assert_eq!(rest, [Some(3 * i128::from(i64::MIN)), Some(-2), Some(5), None, Some(1)]);

    let top = 10_i128.pow(38) - 1;
    let wide = |values: Vec<i128>| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 2).unwrap())
    };
    // Over numeric(38,2), but not over 128 bits: a later row may bring it back.
    let mut back = one_group(Sum, wide(vec![top, 5, -5]));
    assert_eq!(back.finish(EmitTo::All).unwrap().as_primitive::<Decimal128Type>().value(0), top);
    let e = one_group(Sum, wide(vec![top, 1])).finish(EmitTo::All).unwrap_err();
    assert_eq!(e.to_string(), "sum() is out of range of numeric(38,2)");
    let mut sums = Sum.accumulator(&[DataType::Decimal128(38, 2)]).unwrap();
    assert!(sums.update(&[wide(vec![top, top])], &[0, 0], None, 1).is_err());
    // Merging checks too.
    let mut sums = Sum.accumulator(&[DataType::Decimal128(38, 2)]).unwrap();
    sums.merge(&[wide(vec![top])], &[0], None, 1).unwrap();
    assert!(sums.merge(&[wide(vec![top])], &[0], None, 1).is_err());
    let mut counts = Count.accumulator(&[DataType::Int64]).unwrap();
    let huge: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, 1]));
    assert!(counts.merge(&[huge], &[0, 0], None, 1).is_err());
}

#[test]
fn nan_is_the_greatest_float() {
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0, -f64::NAN, -3.0, f64::INFINITY]));
    let get = |a: ArrayRef| a.as_primitive::<Float64Type>().value(0);
    assert!(get(one_group(Max, Arc::clone(&floats)).finish(EmitTo::All).unwrap()).is_nan());
    assert_eq!(get(one_group(Min, Arc::clone(&floats)).finish(EmitTo::All).unwrap()), -3.0);
    let nan: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN]));
    assert!(get(one_group(Min, nan).finish(EmitTo::All).unwrap()).is_nan());
    // Quantiles leave NaN out.
    let median = one_group(ApproxQuantile { p: 0.5 }, floats).finish(EmitTo::All).unwrap();
    assert_eq!(get(median), 1.0);
}

#[test]
fn emit_first_keeps_the_rest() {
    let mut rng = Rng(3);
    for function in FUNCTIONS {
        let value = column(&mut rng, &DataType::Int32, 300, 10);
        let time = column(&mut rng, &utc(), 300, 0);
        let args = args(function, &value, &time);
        let group: Vec<usize> = (0..300).map(|row| row % 6).collect();
        let fresh = || {
            let mut accumulator = function.accumulator(&types(&args)).unwrap();
            accumulator.update(&args, &group, None, 6).unwrap();
            accumulator
        };
        let whole = fresh().finish(EmitTo::All).unwrap();
        let mut parts = fresh();
        let first = parts.finish(EmitTo::First(2)).unwrap();
        assert_same(&first, &whole.slice(0, 2), "first");
        // The rest moved down by two; states go the same way.
        let states = parts.state(EmitTo::First(1)).unwrap();
        let mut again = function.accumulator(&types(&args)).unwrap();
        again.merge(&states, &[0], None, 1).unwrap();
        assert_same(&again.finish(EmitTo::All).unwrap(), &whole.slice(2, 1), "state");
        assert_same(&parts.finish(EmitTo::All).unwrap(), &whole.slice(3, 3), "rest");
    }
}

#[test]
fn filtered_rows_do_not_count() {
    let mut rng = Rng(11);
    let value = column(&mut rng, &DataType::Utf8View, 200, 10);
    let keep: BooleanArray = (0..200).map(|i| Some(i % 3 == 0)).collect();
    for function in [CountAll, Count, Min, Max, ApproxDistinct, ApproxSet, TopK { k: 9 }] {
        let args = args(function, &value, &value);
        let mut with = function.accumulator(&types(&args)).unwrap();
        with.update(&args, &[0; 200], Some(&keep), 1).unwrap();
        let kept: Vec<ArrayRef> = args.iter().map(|a| filter(a, &keep).unwrap()).collect();
        let mut without = function.accumulator(&types(&args)).unwrap();
        without.update(&kept, &[0; 67], None, 1).unwrap();
        assert_eq!(&with.finish(EmitTo::All).unwrap(), &without.finish(EmitTo::All).unwrap());
    }
}

#[test]
fn distinct_counts_are_close_and_do_not_depend_on_the_split() {
    for n in [1_i64, 7, 9, 100, 385, 1_000, 20_000, 300_000] {
        let all: ArrayRef = Arc::new(Int64Array::from_iter_values(0..n));
        let whole = one_group(ApproxDistinct, Arc::clone(&all)).finish(EmitTo::All).unwrap();
        let estimate = whole.as_primitive::<Int64Type>().value(0);
        let error = (estimate - n).abs() as f64 / n as f64;
        assert!(error <= 0.05, "{estimate} of {n}");
        let mut merged = ApproxDistinct.accumulator(&[DataType::Int64]).unwrap();
        for parts in [3, 2] {
            let length = usize::try_from(n).unwrap().div_ceil(parts);
            for from in (0..all.len()).step_by(length) {
                let piece = all.slice(from, length.min(all.len() - from));
                let states = one_group(ApproxDistinct, piece).state(EmitTo::All).unwrap();
                merged.merge(&states, &[0], None, 1).unwrap();
            }
        }
        // Values may follow states.
        merged.update(&[all.slice(0, 1)], &[0], None, 1).unwrap();
        assert_eq!(&merged.finish(EmitTo::All).unwrap(), &whole, "{n}");
    }
}

#[test]
fn unions_are_those_of_the_library() {
    use datasketches::hll::{HllSketch, HllType, HllUnion};
    let mut rng = Rng(9);
    let sketch = |rng: &mut Rng, lg_k: u8, kind: HllType, count: usize| {
        let mut sketch = HllSketch::new(lg_k, kind).unwrap();
        (0..count).for_each(|_| sketch.update(rng.next() % 5_000));
        sketch
    };
    for round in 0..300 {
        let counts = [0, 1, 3, 7, 8, 20, 24, 25, 200, 384, 390, 600, 4_000];
        let mut union = HllUnion::new(12).unwrap();
        let mut merged = ApproxDistinct.accumulator(&[DataType::Int64]).unwrap();
        for part in 0..4 {
            let count = counts[rng.below(counts.len())];
            // Now and then a sketch that another library might have written.
            let (lg_k, kind) = match (round + part) % 10 {
                0 => (13, HllType::Hll8),
                1 => (12, HllType::Hll4),
                2 => (12, HllType::Hll6),
                _ => (12, HllType::Hll8),
            };
            let sketch = sketch(&mut rng, lg_k, kind, count);
            union.update(&sketch);
            let image = sketch.serialize();
            let states: ArrayRef = Arc::new(BinaryViewArray::from_iter_values([image.as_slice()]));
            merged.merge(&[states], &[0], None, 1).unwrap();
        }
        let states = merged.state(EmitTo::All).unwrap();
        let image = states[0].as_binary_view().value(0).to_vec();
        let read = HllSketch::deserialize(&image).unwrap();
        assert_eq!(read.composite_estimate(), union.composite_estimate(), "round {round}");
        // Our own image again: the same content.
        merged.merge(&states, &[0], None, 1).unwrap();
        let again = merged.finish(EmitTo::All).unwrap().as_primitive::<Int64Type>().value(0);
        assert_eq!(again as f64, union.composite_estimate().round());
    }
}

#[test]
fn equal_values_hash_equally_in_any_width() {
    let longs: ArrayRef = Arc::new(Int64Array::from_iter_values(-500..500));
    let words: ArrayRef =
        Arc::new(StringViewArray::from_iter_values((0..999).map(|i| format!("word {i}"))));
    let images = |array: &ArrayRef, types: &[DataType]| {
        let mut images = types.iter().map(|t| {
            one_group(ApproxDistinct, cast(array, t).unwrap()).state(EmitTo::All).unwrap().remove(0)
        });
        let first = images.next().unwrap();
        for other in images {
            assert_eq!(&first, &other);
        }
    };
    images(&longs, &[DataType::Int64, DataType::Int16, DataType::Int32]);
    images(&words, &[DataType::Utf8View, DataType::Utf8, DataType::LargeUtf8]);
    images(&longs, &[DataType::Float64, DataType::Float32]);
}

#[test]
fn quantiles_keep_their_rank_error() {
    let mut rng = Rng(5);
    let values: Vec<f64> = (0..60_000).map(|_| rng.below(1_000_000) as f64).collect();
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    for p in [0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0] {
        let function = ApproxQuantile { p };
        let mut merged = function.accumulator(&[DataType::Float64]).unwrap();
        for piece in values.chunks(1_000) {
            let piece: ArrayRef = Arc::new(Float64Array::from(piece.to_vec()));
            let states = one_group(function, piece).state(EmitTo::All).unwrap();
            merged.merge(&states, &[0], None, 1).unwrap();
        }
        let got = merged.finish(EmitTo::All).unwrap().as_primitive::<Float64Type>().value(0);
        let rank = sorted.partition_point(|v| *v <= got) as f64 / sorted.len() as f64;
        // 1.33% holds with 99% confidence; three times that does not fail by chance.
        assert!((rank - p).abs() < 0.04, "p {p}: rank {rank}");
    }
    let bound = KllSketch::<i64>::new(200).unwrap().normalized_rank_error();
    assert!(bound < 0.0134, "{bound}");
}

#[test]
fn damaged_sketches_are_corrupt() {
    let bad: ArrayRef = Arc::new(BinaryViewArray::from_iter_values([b"nonsense".as_slice()]));
    for function in [ApproxDistinct, ApproxQuantile { p: 0.5 }, ApproxSet, TopK { k: 1 }] {
        let mut accumulator = function.accumulator(&[DataType::Int64]).unwrap();
        let e = accumulator.merge(&[Arc::clone(&bad)], &[0], None, 1).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt);
    }
}
