//! Conditions over expressions that lose something, such as `ts::date >= DATE '2026-03-01'`. From the bounds
//! of such an expression the planner infers bounds of its column as if nothing were lost: a time within one
//! day becomes a constant, by which rows need no sorting. Here such expressions are made opaque to it.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Filter, LogicalPlan, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::error::SqlError;

/// Name of the function that gives its argument.
pub(crate) const OPAQUE: &str = "otus_opaque";

/// Makes lossy expressions in conditions opaque. To run after all rules that know them.
#[derive(Debug)]
pub(crate) struct LossyConditions;

impl OptimizerRule for LossyConditions {
    fn name(&self) -> &'static str {
        "lossy_conditions"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> DfResult<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(Filter { predicate, input, .. }) = plan else {
            return Ok(Transformed::no(plan));
        };
        let schema: DFSchemaRef = Arc::clone(input.schema());
        let changed = opaque(predicate, &schema)?;
        let was_changed = changed.transformed;
        let filter = Filter::try_new(changed.data, input)?;
        Ok(Transformed::new_transformed(LogicalPlan::Filter(filter), was_changed))
    }
}

/// The function that gives its argument.
pub(crate) fn transparent() -> ScalarUDF {
    ScalarUDF::from(Opaque::default())
}

fn opaque(condition: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    condition.transform_down(|expr| {
        if matches!(&expr, Expr::ScalarFunction(f) if f.func.name() == OPAQUE) {
            return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump));
        }
        if !is_lossy(&expr, schema) {
            return Ok(Transformed::no(expr));
        }
        let call = transparent().call(vec![expr]);
        Ok(Transformed::new(call, true, TreeNodeRecursion::Jump))
    })
}

/// Whether two values of a column can give the same value of the expression.
fn is_lossy(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Cast(cast) if !cast.expr.column_refs().is_empty() => {
            match cast.expr.get_type(schema) {
                Ok(from) => !is_exact(&from, cast.field.data_type()),
                Err(_) => false,
            }
        }
        // The quotient of integers is cut.
        Expr::BinaryExpr(b) if b.op == Operator::Divide => {
            !expr.column_refs().is_empty() && expr.get_type(schema).is_ok_and(|t| !t.is_floating())
        }
        _ => false,
    }
}

/// Whether a cast keeps every value apart from every other.
fn is_exact(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16,
        UInt32, UInt64,
    };
    let bounded = |t: &DataType| t.is_numeric() || t.is_temporal();
    match (from, to) {
        (a, b) if a == b || !bounded(a) || !bounded(b) => true,
        // A clock shows some local times twice.
        (Timestamp(a, from), Timestamp(b, to)) => b >= a && from.is_some() == to.is_some(),
        (Date32, Timestamp(..)) => true,
        (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32, Float64) => true,
        (Int8 | Int16 | UInt8 | UInt16, Float32) | (Float32, Float64) => true,
        (a, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64) => a.is_integer(),
        (a, Decimal128(_, scale)) if a.is_integer() => *scale >= 0,
        (Decimal128(_, a), Decimal128(_, b)) => b >= a,
        _ => false,
    }
}

/// An expression without the calls that give a cast a name.
pub(crate) fn named_casts_removed(expr: Expr) -> DfResult<Expr> {
    let bare = expr.transform_up(|e| match e {
        Expr::ScalarFunction(mut f) if f.func.name() == OPAQUE && is_named(&f.args) => {
            Ok(Transformed::yes(f.args.swap_remove(0)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(bare.data)
}

/// Whether the second argument is a name: a number keeps lists of values apart.
fn is_named(args: &[Expr]) -> bool {
    let [_, Expr::Literal(name, _)] = args else { return false };
    name.try_as_str().is_some()
}

/// Gives its first argument; nothing is known of it. A second one is a name, by which the planner tells calls apart.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Opaque {
    signature: Signature,
}

impl Default for Opaque {
    fn default() -> Self {
        let forms = vec![TypeSignature::Any(1), TypeSignature::Any(2)];
        Self { signature: Signature::one_of(forms, Volatility::Immutable) }
    }
}

fn lacks_argument() -> DataFusionError {
    DataFusionError::from(SqlError::internal("an opaque expression lacks its argument"))
}

impl ScalarUDFImpl for Opaque {
    fn name(&self) -> &'static str {
        OPAQUE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        types.first().cloned().ok_or_else(lacks_argument)
    }

    fn return_field_from_args(
        &self,
        args: ReturnFieldArgs,
    ) -> DfResult<arrow::datatypes::FieldRef> {
        args.arg_fields.first().cloned().ok_or_else(lacks_argument)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        args.args.into_iter().next().ok_or_else(lacks_argument)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn casts_that_keep_values_apart() {
        let time = |unit, zone: Option<&str>| DataType::Timestamp(unit, zone.map(Into::into));
        let us = |zone| time(TimeUnit::Microsecond, zone);
        let berlin = us(Some("Europe/Berlin"));
        for (from, to, exact) in [
            (us(None), DataType::Date32, false),
            (us(Some("UTC")), berlin.clone(), true),
            // The hour after midnight comes twice in autumn.
            (berlin.clone(), us(None), false),
            (us(None), time(TimeUnit::Millisecond, None), false),
            (us(None), time(TimeUnit::Nanosecond, None), true),
            (DataType::Date32, us(None), true),
            (DataType::Int64, DataType::Float64, false),
            (DataType::Int32, DataType::Float64, true),
            (DataType::Int64, DataType::Int16, true),
            (DataType::Float64, DataType::Int64, false),
            (DataType::Decimal128(12, 2), DataType::Decimal128(12, 1), false),
            (DataType::Decimal128(12, 2), DataType::Decimal128(14, 4), true),
        ] {
            assert_eq!(is_exact(&from, &to), exact, "{from} to {to}");
        }
    }
}
