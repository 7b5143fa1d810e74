//! The three names. They have types, so that plans are checked, and no way to run.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::aggregate::no_such_function;
use crate::error::{SqlError, sqlstate};
use crate::function::{bucket_types, is_text};

/// Name of the bucket function.
pub(super) const GAPFILL: &str = "time_bucket_gapfill";
/// Name of the function that carries the last value on.
pub(super) const LOCF: &str = "locf";
/// Name of the function that draws a line between values.
pub(super) const INTERPOLATE: &str = "interpolate";

/// All of them.
pub(crate) fn all() -> Vec<ScalarUDF> {
    [GAPFILL, LOCF, INTERPOLATE]
        .into_iter()
        .map(|name| {
            let signature = Signature::user_defined(Volatility::Immutable);
            ScalarUDF::from(Marker { name, signature })
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    name: &'static str,
    signature: Signature,
}

/// The types of `(interval, time [, zone] [, start, finish])` as they are taken.
fn gapfill_types(types: &[DataType]) -> Option<Vec<DataType>> {
    let (head, range) = match types {
        [_, _] | [_, _, _] => (types, 0),
        [_, _, _, _] => (types.get(..2)?, 2),
        [_, _, zone, _, _] if is_text(zone) => (types.get(..3)?, 2),
        _ => return None,
    };
    if head.get(2).is_some_and(|zone| !is_text(zone)) {
        return None;
    }
    let mut taken = bucket_types(head)?;
    let time = taken.get(1)?.clone();
    let given = types.get(head.len()..)?;
    let is_time =
        |t: &DataType| matches!(t, DataType::Timestamp(..) | DataType::Date32) || is_text(t);
    if !given.iter().all(is_time) {
        return None;
    }
    taken.extend((0..range).map(|_| time.clone()));
    Some(taken)
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let taken = match (self.name, types) {
            (GAPFILL, _) => gapfill_types(types),
            (LOCF, [value]) => Some(vec![value.clone()]),
            (LOCF, [value, DataType::Boolean]) => Some(vec![value.clone(), DataType::Boolean]),
            (INTERPOLATE, [value]) => match value {
                DataType::Int8 => Some(vec![DataType::Int16]),
                DataType::UInt8 | DataType::UInt16 => Some(vec![DataType::Int32]),
                DataType::UInt32 | DataType::UInt64 => Some(vec![DataType::Int64]),
                DataType::Null => Some(vec![DataType::Float64]),
                DataType::Decimal128(..) => Some(vec![value.clone()]),
                number if number.is_numeric() => match number {
                    DataType::Float16 | DataType::Decimal256(..) => Some(vec![DataType::Float64]),
                    _ => Some(vec![number.clone()]),
                },
                _ => None,
            },
            _ => None,
        };
        taken.ok_or_else(|| no_such_function(self.name, types))
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        let index = usize::from(self.name == GAPFILL);
        types.get(index).cloned().ok_or_else(|| no_such_function(self.name, types))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let index = usize::from(self.name == GAPFILL);
        let metadata = args.arg_fields.get(index).map(|f| f.metadata().clone()).unwrap_or_default();
        let field = Field::new(self.name, self.return_type(&types)?, true);
        Ok(Arc::new(field.with_metadata(metadata)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(misplaced(self.name))
    }
}

/// The error of a call where it means nothing.
pub(super) fn misplaced(name: &str) -> DataFusionError {
    let (state, message) = match name {
        GAPFILL => (sqlstate::GROUPING, format!("{GAPFILL}() must be a key of GROUP BY")),
        _ => (
            sqlstate::GROUPING,
            format!("{name}() must stand in the SELECT list of a query that groups by {GAPFILL}()"),
        ),
    };
    DataFusionError::from(SqlError::new(state, message).with_hint(format!(
        "SELECT {GAPFILL}('1 hour', ts) AS t, locf(avg(x)) FROM … WHERE ts >= … AND ts < … GROUP BY t"
    )))
}

/// The arguments of a call of `name`.
pub(super) fn call<'a>(expr: &'a Expr, name: &str) -> Option<&'a [Expr]> {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == name => Some(args),
        _ => None,
    }
}

/// Whether an expression is a call of `locf` or `interpolate`.
pub(super) fn fills(expr: &Expr) -> bool {
    call(expr, LOCF).is_some() || call(expr, INTERPOLATE).is_some()
}

/// The first of the three names that an expression mentions.
pub(super) fn mentioned(expr: &Expr) -> DfResult<Option<&'static str>> {
    let mut found = None;
    expr.apply(|e| {
        found = [GAPFILL, LOCF, INTERPOLATE].into_iter().find(|name| call(e, name).is_some());
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
