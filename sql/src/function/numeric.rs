//! Functions of numerics, and of angles in degrees.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int32Array, ListArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use datafusion::error::Result as DfResult;

use crate::aggregate::no_such_function;
use crate::error::{SqlError, sqlstate};

/// Digits of a numeric.
const DIGITS: u8 = 38;

/// An exact number and the digits after its point.
fn exact(array: &ArrayRef, name: &str) -> DfResult<(Decimal128Array, u32)> {
    let array = match array.data_type() {
        DataType::Decimal128(..) => Arc::clone(array),
        t if t.is_integer() || t.is_null() => cast(array, &DataType::Decimal128(20, 0))?,
        other => return Err(no_such_function(name, std::slice::from_ref(other))),
    };
    let numbers = array.as_primitive::<Decimal128Type>().clone();
    let scale = u32::try_from(numbers.scale()).unwrap_or(0);
    Ok((numbers, scale))
}

/// `div(a, b)`: the whole part of the quotient.
pub(super) fn div(args: &[ArrayRef], _: usize) -> DfResult<ArrayRef> {
    let [a, b] = args else { return Err(no_such_function("div", &[])) };
    let ((a, a_scale), (b, b_scale)) = (exact(a, "div")?, exact(b, "div")?);
    let scale = a_scale.max(b_scale);
    let scaled = |v: i128, of: u32| {
        let scaled = 10_i128.checked_pow(scale - of).and_then(|by| v.checked_mul(by));
        scaled.ok_or_else(|| SqlError::new(sqlstate::OUT_OF_RANGE, "numeric field overflow"))
    };
    let quotient = |pair: (Option<i128>, Option<i128>)| -> DfResult<Option<i128>> {
        let (Some(a), Some(b)) = pair else { return Ok(None) };
        let (a, b) = (scaled(a, a_scale)?, scaled(b, b_scale)?);
        let zero = || SqlError::new(sqlstate::DIVISION_BY_ZERO, "division by zero").into();
        a.checked_div(b).map(Some).ok_or_else(zero)
    };
    let quotients = a.iter().zip(b.iter()).map(quotient).collect::<DfResult<Vec<_>>>()?;
    Ok(Arc::new(Decimal128Array::from(quotients).with_precision_and_scale(DIGITS, 0)?))
}

/// `min_scale(numeric)`: the digits after the point that are needed.
pub(super) fn min_scale(args: &[ArrayRef], _: usize) -> DfResult<ArrayRef> {
    let [of] = args else { return Err(no_such_function("min_scale", &[])) };
    let (numbers, scale) = exact(of, "min_scale")?;
    let needed = |value: i128| {
        let (mut value, mut scale) = (value, scale);
        while scale > 0 && value % 10 == 0 {
            (value, scale) = (value / 10, scale - 1);
        }
        i32::try_from(scale).unwrap_or(i32::MAX)
    };
    Ok(Arc::new(numbers.iter().map(|value| value.map(needed)).collect::<Int32Array>()))
}

/// `scale(numeric)`: the digits after the point.
pub(super) fn scale(args: &[ArrayRef], _: usize) -> DfResult<ArrayRef> {
    let [of] = args else { return Err(no_such_function("scale", &[])) };
    let (numbers, scale) = exact(of, "scale")?;
    let scale = i32::try_from(scale).unwrap_or(i32::MAX);
    Ok(Arc::new(numbers.iter().map(|value| value.map(|_| scale)).collect::<Int32Array>()))
}

/// `trim_scale(numeric)`: the same number. How many zeros end it is a matter of its type here.
pub(super) fn trim_scale(args: &[ArrayRef], _: usize) -> DfResult<ArrayRef> {
    let [of] = args else { return Err(no_such_function("trim_scale", &[])) };
    exact(of, "trim_scale")?;
    Ok(Arc::clone(of))
}

/// `factorial(bigint)`.
pub(super) fn factorial(args: &[ArrayRef], _: usize) -> DfResult<ArrayRef> {
    let [of] = args else { return Err(no_such_function("factorial", &[])) };
    let wrong = |message: &str| SqlError::new(sqlstate::OUT_OF_RANGE, message);
    let product = |number: i64| -> DfResult<i128> {
        if number < 0 {
            return Err(wrong("factorial of a negative number is undefined").into());
        }
        let product = (2..=i128::from(number)).try_fold(1_i128, i128::checked_mul);
        let product = product.filter(|p| *p < 10_i128.pow(DIGITS.into()));
        product.ok_or_else(|| wrong("value overflows numeric format").into())
    };
    let products =
        of.as_primitive::<Int64Type>().iter().map(|value| value.map(product).transpose());
    let products = Decimal128Array::from(products.collect::<DfResult<Vec<_>>>()?);
    Ok(Arc::new(products.with_precision_and_scale(DIGITS, 0)?))
}

fn degrees(args: &[ArrayRef], rows: usize, of: fn(f64) -> f64) -> DfResult<ArrayRef> {
    let Some(angles) = args.first() else { return Ok(Arc::new(Float64Array::new_null(rows))) };
    let angles = angles.as_primitive::<Float64Type>();
    if angles.iter().flatten().any(f64::is_infinite) {
        return Err(SqlError::new(sqlstate::OUT_OF_RANGE, "input is out of range").into());
    }
    Ok(Arc::new(angles.iter().map(|angle| angle.map(of)).collect::<Float64Array>()))
}

/// The sine of an angle in degrees, exact where it is a fraction that is known.
fn sine(angle: f64) -> f64 {
    let angle = angle % 360.0;
    let sign = if angle < 0.0 { -1.0 } else { 1.0 };
    let (angle, sign) = match angle.abs() {
        below if below > 180.0 => (below - 180.0, -sign),
        angle => (angle, sign),
    };
    let angle = if angle > 90.0 { 180.0 - angle } else { angle };
    let sine = match angle {
        0.0 => return 0.0,
        30.0 => 0.5,
        90.0 => 1.0,
        a => a.to_radians().sin(),
    };
    sign * sine
}

fn cosine(angle: f64) -> f64 {
    sine(90.0 - (angle % 360.0).abs())
}

fn tangent(angle: f64) -> f64 {
    match angle % 180.0 {
        45.0 | -135.0 => 1.0,
        135.0 | -45.0 => -1.0,
        a => sine(a) / cosine(a),
    }
}

/// `sind(degrees)`.
pub(super) fn sind(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    degrees(args, rows, sine)
}

/// `cosd(degrees)`.
pub(super) fn cosd(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    degrees(args, rows, cosine)
}

/// `tand(degrees)`.
pub(super) fn tand(args: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    degrees(args, rows, tangent)
}

/// `width_bucket(number, array)`: how many of the bounds, which ascend, are not above the number.
pub(super) fn among(number: &ArrayRef, bounds: &ListArray) -> DfResult<ArrayRef> {
    let numbers = cast(number, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>();
    let place = |(number, bounds): (Option<f64>, Option<ArrayRef>)| -> DfResult<Option<i32>> {
        let (Some(number), Some(bounds)) = (number, bounds) else { return Ok(None) };
        if bounds.null_count() > 0 {
            let message = "thresholds array must not contain NULLs";
            return Err(SqlError::new("22004", message).into());
        }
        let bounds = cast(&bounds, &DataType::Float64)?;
        let bounds = bounds.as_primitive::<Float64Type>().values();
        Ok(i32::try_from(bounds.partition_point(|bound| *bound <= number)).ok())
    };
    let places = numbers.iter().zip(bounds.iter()).map(place).collect::<DfResult<Vec<_>>>()?;
    Ok(Arc::new(Int32Array::from(places)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_angles_are_exact() {
        let same = |a: f64, b: f64| assert!((a - b).abs() < f64::EPSILON, "{a} {b}");
        for (angle, of) in [(0.0, 0.0), (30.0, 0.5), (150.0, 0.5), (210.0, -0.5), (-90.0, -1.0)] {
            same(sine(angle), of);
        }
        for (angle, of) in [(60.0, 0.5), (0.0, 1.0), (90.0, 0.0), (180.0, -1.0), (-120.0, -0.5)] {
            same(cosine(angle), of);
        }
        same(tangent(225.0), 1.0);
        same(tangent(-45.0), -1.0);
    }

    #[test]
    fn factorials_have_38_digits() {
        let of = |number: i64| {
            let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![Some(number)]));
            factorial(&[numbers], 1).map(|f| f.as_primitive::<Decimal128Type>().value(0))
        };
        for (number, product) in [(0, 1), (1, 1), (10, 3_628_800), (20, 2_432_902_008_176_640_000)]
        {
            assert_eq!(of(number).unwrap(), product);
        }
        assert!(of(33).is_ok());
        for number in [-1, 34, i64::MAX] {
            let failure = SqlError::from(of(number).unwrap_err());
            assert_eq!(failure.sqlstate, sqlstate::OUT_OF_RANGE);
        }
    }

    #[test]
    fn quotients_are_cut() {
        let of = |a: i128, b: i128| -> [ArrayRef; 2] {
            let typed = |v| Decimal128Array::from(vec![v]).with_precision_and_scale(5, 1).unwrap();
            [Arc::new(typed(a)), Arc::new(typed(b))]
        };
        let one = |a, b| div(&of(a, b), 1).map(|q| q.as_primitive::<Decimal128Type>().value(0));
        assert_eq!(one(105, 30).unwrap(), 3);
        assert_eq!(one(-70, 20).unwrap(), -3);
        assert_eq!(SqlError::from(one(1, 0).unwrap_err()).sqlstate, sqlstate::DIVISION_BY_ZERO);
    }
}
