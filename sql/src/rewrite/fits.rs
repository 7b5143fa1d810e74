//! Whether the arithmetic of a stored call gave the numbers that a query over raw rows gives. Where a number
//! does not fit its type, or a float is divided by zero, a query fails; states, which are made from rows
//! that are kept already, go on with another number. A call that may have met such a row is left to raw rows.

use arrow::array::{Array, AsArray};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;
use otus_engine::compiled::CompiledTable;
use otus_engine::log::op::StatValue;
use otus_engine::snapshot::Snapshot;

use crate::function::Checked;

/// Least and greatest value, both inclusive.
type Interval = (i128, i128);

/// The rows whose values are looked at.
pub(super) struct Values<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) table: &'a CompiledTable,
}

impl Values<'_> {
    /// Whether no row makes the arithmetic of a call fail.
    pub(super) fn fit(&self, call: &AggregateFunction) -> bool {
        let mut exprs = call.params.args.iter().chain(call.params.filter.as_deref());
        exprs.all(|expr| self.fits(expr))
    }

    /// The same for an expression.
    pub(super) fn fits(&self, expr: &Expr) -> bool {
        let mut fit = true;
        let _visited = expr.apply(|e| {
            if let Expr::ScalarFunction(f) = e
                && let Some(checked) = Checked::parts(&f.func)
            {
                fit &= self.result(checked, &f.args).is_some();
            }
            Ok(if fit { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        });
        fit
    }

    /// The values of a chain of operators, if each step fits. Floats only divide, and have no bounds.
    fn result(&self, checked: &Checked, args: &[Expr]) -> Option<Interval> {
        if checked.data_type().is_floating() {
            let mut divisors = args.iter().skip(1).zip(checked.operators());
            let fine = divisors.all(|(arg, op)| *op != Operator::Divide || is_nonzero(arg));
            return fine.then_some((i128::MIN, i128::MAX));
        }
        let bounds = of_type(checked.data_type())?;
        let mut args = args.iter();
        let mut value = self.interval(args.next()?)?;
        for (op, arg) in checked.operators().iter().zip(args) {
            let other = self.interval(arg)?;
            value = match op {
                Operator::Plus => (value.0 + other.0, value.1 + other.1),
                Operator::Minus => (value.0 - other.1, value.1 - other.0),
                Operator::Multiply => {
                    let products = [
                        value.0.checked_mul(other.0)?,
                        value.0.checked_mul(other.1)?,
                        value.1.checked_mul(other.0)?,
                        value.1.checked_mul(other.1)?,
                    ];
                    (*products.iter().min()?, *products.iter().max()?)
                }
                _ => return None,
            };
            if value.0 < bounds.0 || value.1 > bounds.1 {
                return None;
            }
        }
        Some(value)
    }

    fn interval(&self, expr: &Expr) -> Option<Interval> {
        match expr {
            Expr::Column(c) => self.of_column(&c.name),
            Expr::Literal(value, _) => match value.cast_to(&DataType::Int64).ok()? {
                ScalarValue::Int64(Some(v)) => Some((v.into(), v.into())),
                ScalarValue::Int64(None) => Some((0, 0)),
                _ => None,
            },
            Expr::Cast(cast) => {
                let inner = self.interval(&cast.expr)?;
                let bounds = of_type(cast.field.data_type())?;
                (bounds.0 <= inner.0 && inner.1 <= bounds.1).then_some(inner)
            }
            Expr::Negative(inner) => self.interval(inner).map(|(low, high)| (-high, -low)),
            Expr::ScalarFunction(f) => match Checked::parts(&f.func) {
                Some(checked) => self.result(checked, &f.args),
                None if f.func.name() == "coalesce" => {
                    let all = f.args.iter().map(|arg| self.interval(arg));
                    let all: Vec<Interval> = all.collect::<Option<_>>()?;
                    all.into_iter().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
                }
                None => None,
            },
            _ => None,
        }
    }

    /// The values that rows have in an integer column: those of its type, or fewer where they are known.
    fn of_column(&self, name: &str) -> Option<Interval> {
        let field = self.table.schema.field_with_name(name).ok()?;
        let widest = of_type(field.data_type())?;
        let known = self.in_files(name).zip(self.in_chunks(name));
        Some(known.map_or(widest, |(a, b)| (a.0.min(b.0), a.1.max(b.1))))
    }

    fn in_files(&self, name: &str) -> Option<Interval> {
        let mut found = (0, 0);
        for file in self.snapshot.raw_files(self.table.id) {
            // A file from before the column has no value of it.
            let Some(stats) = file.columns.iter().find(|c| c.name == name) else { continue };
            match (&stats.min, &stats.max) {
                (Some(StatValue::Int(low)), Some(StatValue::Int(high))) => {
                    found = (found.0.min(i128::from(*low)), found.1.max(i128::from(*high)));
                }
                _ if stats.nulls >= file.rows => {}
                _ => return None,
            }
        }
        Some(found)
    }

    fn in_chunks(&self, name: &str) -> Option<Interval> {
        let mut found = (0, 0);
        let chunks = self.snapshot.hot(self.table.id).iter();
        for batch in chunks.flat_map(|chunk| chunk.batches()) {
            let Some(column) = batch.column_by_name(name) else { continue };
            if let Some((low, high)) = extremes(column.as_ref())? {
                found = (found.0.min(low), found.1.max(high));
            }
        }
        Some(found)
    }
}

/// Least and greatest value of an integer array: none of another type, an inner none if all are null.
fn extremes(array: &dyn Array) -> Option<Option<Interval>> {
    macro_rules! of {
        ($type:ty) => {{
            let array = array.as_primitive::<$type>();
            min(array).zip(max(array)).map(|(low, high)| (i128::from(low), i128::from(high)))
        }};
    }
    Some(match array.data_type() {
        DataType::Int16 => of!(Int16Type),
        DataType::Int32 => of!(Int32Type),
        DataType::Int64 => of!(Int64Type),
        _ => return None,
    })
}

fn of_type(data_type: &DataType) -> Option<Interval> {
    Some(match data_type {
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => (i64::MIN.into(), i64::MAX.into()),
        _ => return None,
    })
}

fn is_nonzero(expr: &Expr) -> bool {
    let Expr::Literal(value, _) = expr else { return false };
    let value = value.cast_to(&DataType::Float64);
    matches!(value, Ok(ScalarValue::Float64(Some(v))) if v != 0.0)
}
