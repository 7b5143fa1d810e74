//! A function whose calls are measured before they are made, and made in slices.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::growth::{Growth, Measure};
use super::{Bounds, VALUE_BYTES_MAX};
use crate::error::{SqlError, sqlstate};
use crate::planning;

/// Work between two looks whether the statement is over; what takes less is done in one go.
const SLICE_WORK: u64 = 4 << 20;
/// Most work for one row.
const ROW_WORK_MAX: u64 = 1 << 30;

/// Most bytes of a value that becomes part of a plan.
const FOLDED_BYTES_MAX: u64 = 64 << 10;

/// See the module.
pub(super) struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
    bounds: Bounds,
    /// Bytes that count for its calls with constants alone.
    counted: AtomicU64,
}

impl Bounded {
    pub(super) fn around(inner: Arc<ScalarUDF>, growth: Growth, bounds: Bounds) -> Self {
        Self { inner, growth, bounds, counted: AtomicU64::new(0) }
    }

    /// How it grows.
    pub(super) fn growth(&self) -> Growth {
        self.growth
    }

    /// Ends of slices of rows, each of a bounded cost; `is_one` if all arguments are constants.
    fn slices(&self, args: &[ColumnarValue], rows: usize, is_one: bool) -> DfResult<Vec<usize>> {
        let measure = Measure::new(self.growth, args)?;
        if !is_one && measure.is_small(rows, SLICE_WORK) {
            return Ok(vec![rows]);
        }
        let (mut ends, mut bytes, mut work) = (Vec::new(), 0_u64, 0_u64);
        for row in 0..rows {
            let cost = measure.cost(row);
            if cost.bytes > VALUE_BYTES_MAX {
                return Err(self.too_large(1, cost.bytes, VALUE_BYTES_MAX).into());
            }
            if cost.work > ROW_WORK_MAX && self.growth == Growth::Product {
                return Err(self.too_long(cost.work).into());
            }
            bytes = bytes.saturating_add(cost.bytes);
            if is_one {
                self.constant(cost.bytes)?;
            }
            if bytes > self.bounds.batch_bytes {
                return Err(self.too_large(rows, bytes, self.bounds.batch_bytes).into());
            }
            if work > 0 && work.saturating_add(cost.work) > SLICE_WORK {
                ends.push(row);
                work = 0;
            }
            work = work.saturating_add(cost.work);
        }
        ends.push(rows);
        Ok(ends)
    }

    /// Counts what is built of constants. A large one is not folded: plans, and the names of their columns, are copied
    /// again and again. It is built when rows are asked for, with the same size each time.
    fn constant(&self, bytes: u64) -> DfResult<()> {
        if bytes > FOLDED_BYTES_MAX && planning::is_under_way() {
            let message = format!("{} builds too large a value to be folded", self.inner.name());
            return Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, message).into());
        }
        let before = self.counted.fetch_max(bytes, Ordering::Relaxed);
        self.bounds.take(bytes.saturating_sub(before))
    }

    fn too_large(&self, rows: usize, bytes: u64, most: u64) -> SqlError {
        let name = self.inner.name();
        let (bytes, most) = (bytes.div_ceil(1 << 20), most >> 20);
        let message = match rows {
            1 => format!("{name} would build a value of {bytes} MiB; the limit is {most} MiB"),
            _ => format!(
                "{name} would build {bytes} MiB or more for {rows} rows at once; the limit is {most} MiB"
            ),
        };
        SqlError::new(sqlstate::LIMIT_EXCEEDED, message).with_hint("build shorter values")
    }

    fn too_long(&self, work: u64) -> SqlError {
        SqlError::new(
            sqlstate::LIMIT_EXCEEDED,
            format!(
                "{} would compare {work} pairs for one row; the limit is {ROW_WORK_MAX}",
                self.inner.name()
            ),
        )
        .with_hint("compare shorter values")
    }

    fn in_slices(&self, args: &ScalarFunctionArgs, ends: &[usize]) -> DfResult<ColumnarValue> {
        let mut done: Vec<ArrayRef> = Vec::with_capacity(ends.len());
        let mut from = 0;
        for to in ends {
            self.bounds.check()?;
            let rows = to - from;
            let part = args.args.iter().map(|arg| match arg {
                ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, rows)),
                ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
            });
            let part =
                ScalarFunctionArgs { args: part.collect(), number_rows: rows, ..args.clone() };
            done.push(self.inner.invoke_with_args(part)?.into_array(rows)?);
            from = *to;
        }
        let done: Vec<_> = done.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(arrow::compute::concat(&done)?))
    }
}

/// Long work does not hold a query thread: another takes over its other tasks meanwhile.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }
    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        self.inner.schema_name(args)
    }
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.inner.return_type(types)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        self.inner.return_field_from_args(args)
    }
    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.inner.coerce_types(types)
    }
    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        self.bounds.check()?;
        let is_one = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_one { 1 } else { args.number_rows };
        let ends = self.slices(&args.args, rows, is_one)?;
        match ends.len() {
            0 | 1 if rows > 1 => self.inner.invoke_with_args(args),
            0 | 1 => aside(|| self.inner.invoke_with_args(args)),
            _ => aside(|| self.in_slices(&args, &ends)),
        }
    }
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bounded({})", self.inner.name())
    }
}

// The bounds are those of the statement, the same for all its calls.
impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.growth == other.growth && self.inner == other.inner
    }
}
impl Eq for Bounded {}
impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}
