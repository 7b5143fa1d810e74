//! `-x` as a function of our own where the planner's expression goes wrong: it wraps the least integer, and over an
//! expression whose bounds it does not know it tells no order, so that a window sorted by `-(a % 7), b` found its rows
//! unsorted. Runs after all rules that know the planner's.

use arrow::array::ArrayRef;
use arrow::compute::kernels::numeric::neg;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::error::{SqlError, pg_type, sqlstate};

/// Puts the function in the place of the planner's expression.
#[derive(Debug)]
pub(crate) struct Negations;

impl OptimizerRule for Negations {
    fn name(&self) -> &'static str {
        "negations"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> DfResult<Transformed<LogicalPlan>> {
        // Scans know which files have what is asked for by the planner's expression.
        if matches!(plan, LogicalPlan::TableScan(_)) || !negates(&plan)? {
            return Ok(Transformed::no(plan));
        }
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        let renamed = |expr: Expr| {
            let name = names.save(&expr);
            let changed = expr.transform_up(|expr| match expr {
                Expr::Negative(of) if is_number(&of.get_type(&schema)?) => {
                    let negated = ScalarUDF::from(Negated::default());
                    Ok(Transformed::yes(negated.call(vec![*of])))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(changed.update_data(|expr| name.restore(expr)))
        };
        let plan = plan.map_expressions(|expr| match expr {
            Expr::GroupingSet(_) => expr.map_children(renamed),
            expr => renamed(expr),
        })?;
        match plan.transformed {
            true => plan.map_data(LogicalPlan::recompute_schema),
            false => Ok(plan),
        }
    }
}

fn negates(plan: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found = found || expr.exists(|e| Ok(matches!(e, Expr::Negative(_))))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn is_number(of: &DataType) -> bool {
    of.is_signed_integer() || of.is_floating() || matches!(of, DataType::Decimal128(..))
}

/// The number with its sign turned; the type stays.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Negated(Signature);

impl Default for Negated {
    fn default() -> Self {
        Self(Signature::any(1, Volatility::Immutable))
    }
}

impl Negated {
    fn of(array: &ArrayRef) -> DfResult<ArrayRef> {
        let out = || {
            let message = format!("{} out of range", pg_type(array.data_type()));
            SqlError::new(sqlstate::OUT_OF_RANGE, message).into()
        };
        neg(array).map_err(|_| out())
    }
}

impl ScalarUDFImpl for Negated {
    fn name(&self) -> &'static str {
        "negated"
    }
    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        let of = args.first().map(|of| of.schema_name().to_string());
        Ok(format!("(- {})", of.unwrap_or_default()))
    }
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let of = args.arg_fields.first().cloned();
        of.ok_or_else(|| SqlError::internal("a sign has a number").into())
    }
    fn is_strict(&self) -> bool {
        true
    }
    fn output_ordering(&self, inputs: &[ExprProperties]) -> DfResult<SortProperties> {
        Ok(inputs.first().map_or(SortProperties::Unordered, |of| -of.sort_properties))
    }
    fn evaluate_bounds(&self, inputs: &[&Interval]) -> DfResult<Interval> {
        match inputs.first().map(|of| of.arithmetic_negate()) {
            Some(Ok(bounds)) => Ok(bounds),
            _ => Interval::make_unbounded(&DataType::Null),
        }
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        match args.args.first() {
            Some(ColumnarValue::Array(array)) => Ok(ColumnarValue::Array(Self::of(array)?)),
            Some(ColumnarValue::Scalar(value)) => {
                let negated = Self::of(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&negated, 0)?))
            }
            None => Err(SqlError::internal("a sign has a number").into()),
        }
    }
}
