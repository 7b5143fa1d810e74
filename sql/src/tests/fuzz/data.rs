//! Random rows of a table: values that collide, nulls, empty texts, integers near the ends of their range,
//! and times that lie on the edges of buckets as often as between them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::DataType;
use otus_engine::time::{DAY_US, Granularity};

use super::chance::Chance;
use super::table::{Arrival, Column, Kind, Table};

/// Texts of a dimension.
pub(super) const WORDS: [&str; 9] = [
    "",
    "a",
    "A",
    "b",
    "grüne Eule",
    "O'Brien",
    "100%_x",
    "a long text, too long for a view",
    "zz",
];
/// Integers of a dimension.
pub(super) const BIGS: [i64; 7] = [0, 1, -1, 7, 1 << 62, -(1 << 62), i64::MAX];
/// Ids.
pub(super) const UUIDS: [&str; 4] = [
    "00000000-0000-0000-0000-000000000000",
    "6f1b3b0e-9c1d-4f57-8f64-0d1f7f4b6a11",
    "6f1b3b0e-9c1d-4f57-8f64-0d1f7f4b6a12",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
];

/// Declared columns of all rows, in the order of their arrival.
pub(super) fn rows(table: &Table, seed: u64) -> Vec<ArrayRef> {
    let mut chance = Chance::new(seed, 2);
    let times = times(table, &mut chance);
    table
        .columns
        .iter()
        .map(|column| match column.kind {
            Kind::Time => {
                let array = TimestampMicrosecondArray::from(times.clone());
                match column.sql_type {
                    "timestamp" => Arc::new(array) as ArrayRef,
                    _ => Arc::new(array.with_timezone("UTC")),
                }
            }
            _ => values(table, column, &mut chance),
        })
        .collect()
}

fn times(table: &Table, chance: &mut Chance) -> Vec<i64> {
    let (from, to) = (table.base_us, table.base_us + table.span_us);
    let units: Vec<Granularity> =
        table.def.rollups.iter().flat_map(|r| r.granularities.iter().copied()).collect();
    let mut times: Vec<i64> = (0..table.rows)
        .map(|_| {
            let any = chance.between(from, to);
            match chance.weighted(&[55, 25, 10, 10]) {
                0 => any,
                1 => chance.of(&units).floor_us(any) + chance.of(&[0, 0, -1, 1]),
                2 => Granularity::Hour.floor_us(any) + chance.of(&[0, 0, -1, 1]),
                _ => from + table.span_us / 3 + chance.between(0, 1 + table.span_us / 50),
            }
        })
        .collect();
    // Ingestion accepts no event before 1970.
    times.iter_mut().for_each(|time| *time = (*time).max(0));
    match table.arrival {
        Arrival::Shuffled => chance.shuffle(&mut times),
        Arrival::Sorted => times.sort_unstable(),
        Arrival::Late => {
            times.sort_unstable();
            for i in 0..times.len() {
                if chance.percent(15) {
                    let other = chance.below(times.len());
                    times.swap(i, other);
                }
            }
        }
    }
    times
}

fn values(table: &Table, column: &Column, chance: &mut Chance) -> ArrayRef {
    let n = table.rows;
    let nulls = *chance.of(&[0, 5, 25]);
    let mut draw = |make: &mut dyn FnMut(&mut Chance) -> i64| -> Vec<Option<i64>> {
        (0..n).map(|_| (!chance.percent(nulls)).then(|| make(chance))).collect()
    };
    match column.kind {
        Kind::Text => {
            let few = column.few;
            let drawn = draw(&mut |c| c.between(0, if few { 9 } else { 400 }));
            let text = |i: i64| {
                let word = WORDS[usize::try_from(i).unwrap() % WORDS.len()];
                if few { word.to_string() } else { format!("{word}{}", i / 9) }
            };
            Arc::new(drawn.into_iter().map(|v| v.map(text)).collect::<StringViewArray>())
        }
        Kind::Uuid => {
            let drawn = draw(&mut |c| c.between(0, 4));
            let text = |i: i64| UUIDS[usize::try_from(i).unwrap()];
            Arc::new(drawn.into_iter().map(|v| v.map(text)).collect::<StringViewArray>())
        }
        Kind::Bool => {
            let drawn = draw(&mut |c| c.between(0, 2));
            Arc::new(drawn.into_iter().map(|v| v.map(|v| v == 1)).collect::<BooleanArray>())
        }
        Kind::Int => {
            let drawn = draw(&mut |c| c.between(-3, 5));
            let small = |v: i64| i32::try_from(v).unwrap();
            Arc::new(drawn.into_iter().map(|v| v.map(small)).collect::<Int32Array>())
        }
        Kind::Big if column.few => {
            let drawn = draw(&mut |c| BIGS[c.below(BIGS.len())]);
            Arc::new(Int64Array::from(drawn))
        }
        Kind::Big => Arc::new(Int64Array::from(draw(&mut amount))),
        Kind::Date => {
            let first = table.base_us.div_euclid(DAY_US);
            let drawn = draw(&mut |c| first + c.between(0, 5));
            let day = |v: i64| i32::try_from(v).unwrap();
            Arc::new(drawn.into_iter().map(|v| v.map(day)).collect::<Date32Array>())
        }
        Kind::Numeric => {
            let wanted: otus_engine::types::ColumnType = column.sql_type.parse().unwrap();
            let DataType::Decimal128(precision, scale) = wanted.arrow() else { unreachable!() };
            let drawn = draw(&mut |c| c.between(-99_999_999, 99_999_999));
            let array: Decimal128Array = drawn.into_iter().map(|v| v.map(i128::from)).collect();
            Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
        }
        Kind::Double => {
            // Quarters add up exactly in any order, so that a difference is never one of rounding alone.
            let drawn = draw(&mut |c| c.between(-4_000, 40_000));
            let wild = table.wild;
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let double = |v: i64| match (wild, v.rem_euclid(40)) {
                (true, 0) => f64::NAN,
                (true, 1) => f64::INFINITY,
                (true, 2) => -0.0,
                (true, 3) => 0.0,
                (true, 4) => f64::NEG_INFINITY,
                _ => v as f64 / 4.0,
            };
            Arc::new(drawn.into_iter().map(|v| v.map(double)).collect::<Float64Array>())
        }
        Kind::Time => unreachable!("times are drawn apart"),
    }
}

fn amount(chance: &mut Chance) -> i64 {
    match chance.weighted(&[80, 10, 5, 5]) {
        0 => chance.between(-500, 2_000),
        1 => (1 << 62) + chance.between(-5, 5),
        2 => -(1 << 62) + chance.between(-5, 5),
        _ => *chance.of(&[0, i64::MAX, i64::MIN, 1 << 53]),
    }
}
