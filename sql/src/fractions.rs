//! A numeric beside double precision is double precision, as in Postgres. The planner would make both numerics, of digits
//! that not every double has.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ExprSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, Projection, Union, cast, lit,
};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

use crate::analyze::{compares, map_expressions};
use crate::function::array_key;

/// Functions whose value is one of their arguments.
const ALIKE: [&str; 5] = ["coalesce", "greatest", "least", "make_array", "nullif"];

/// Functions whose numeric has as many digits as they are told, if the number is written. The planner would hide it under
/// a cast, and find it again when constants are folded: the type would have changed by then.
const OF_DIGITS: [&str; 2] = ["round", "trunc"];

/// Digits of a numeric.
const DIGITS_MAX: i8 = 38;

/// Runs before types are coerced.
#[derive(Debug)]
pub(crate) struct MixedFractions;

impl AnalyzerRule for MixedFractions {
    fn name(&self) -> &'static str {
        "mixed_fractions"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        let plan = map_expressions(plan, &|expr, schema| rewrite(expr, schema))?;
        Ok(plan.transform_up_with_subqueries(united)?.data)
    }
}

fn rewrite(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(of) if compares(of.op) || of.op.is_numerical_operators() => {
            if let Some([left, right]) = compared_arrays(&of, schema) {
                let of = BinaryExpr::new(Box::new(left), of.op, Box::new(right));
                return Ok(Transformed::yes(Expr::BinaryExpr(of)));
            }
            let sides = [of.left.as_ref(), of.right.as_ref()];
            if !are_mixed(sides, schema) {
                return Ok(Transformed::no(Expr::BinaryExpr(of)));
            }
            let BinaryExpr { left, op, right } = of;
            let (left, right) = (as_double(*left, schema), as_double(*right, schema));
            let of = BinaryExpr::new(Box::new(left), op, Box::new(right));
            Ok(Transformed::yes(Expr::BinaryExpr(of)))
        }
        Expr::Case(case) => {
            let results = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            if !are_mixed(results.chain(case.else_expr.as_deref()), schema) {
                return Ok(Transformed::no(Expr::Case(case)));
            }
            Ok(Transformed::yes(Expr::Case(results_as(case, |e| as_double(e, schema)))))
        }
        Expr::ScalarFunction(mut call) if ALIKE.contains(&call.func.name()) => {
            if !are_mixed(&call.args, schema) {
                return Ok(Transformed::no(Expr::ScalarFunction(call)));
            }
            call.args = call.args.into_iter().map(|arg| as_double(arg, schema)).collect();
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        }
        Expr::ScalarFunction(mut call) if OF_DIGITS.contains(&call.func.name()) => {
            let cuts = call.func.name() == "trunc";
            let digits = match call.args.get(1) {
                None if cuts => Some(0),
                Some(Expr::Literal(ScalarValue::Int64(Some(digits)), _)) => {
                    i32::try_from(*digits).ok()
                }
                _ => None,
            };
            let Some(digits) = digits else {
                return Ok(Transformed::no(Expr::ScalarFunction(call)));
            };
            let of = call.args.first().map(|number| number.get_type(schema)).transpose()?;
            if call.args.len() > 1 {
                call.args.truncate(1);
                call.args.push(lit(digits));
            }
            let call = Expr::ScalarFunction(call);
            Ok(Transformed::yes(match of.and_then(|of| with_digits(&of, digits, cuts)) {
                Some(of) => cast(call, of),
                None => call,
            }))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// What arrays of one type are compared by: the planner takes their nulls for the least elements.
fn compared_arrays(of: &BinaryExpr, schema: &DFSchema) -> Option<[Expr; 2]> {
    if !matches!(of.op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq) {
        return None;
    }
    let (left, right) = (of.left.get_type(schema).ok()?, of.right.get_type(schema).ok()?);
    let alike = matches!(left, DataType::List(_)) && left == right;
    alike.then(|| [&of.left, &of.right].map(|side| array_key(side.as_ref().clone())))
}

/// The numeric with so many digits after the point, if it has fewer: `round(1.5, 3)` shows three. Of more, only `trunc`
/// keeps those that it cuts off, as zeros.
fn with_digits(of: &DataType, digits: i32, cuts: bool) -> Option<DataType> {
    let DataType::Decimal128(precision, scale) = of else { return None };
    let digits = i8::try_from(digits).ok().filter(|digits| *digits < DIGITS_MAX)?;
    if digits <= *scale {
        let digits = digits.max(0);
        let less = u8::try_from(scale.checked_sub(digits)?).ok()?;
        return cuts.then_some(DataType::Decimal128(precision.saturating_sub(less).max(1), digits));
    }
    let more = u8::try_from(digits.checked_sub(*scale)?).ok()?;
    let precision = precision.saturating_add(more).min(DIGITS_MAX.unsigned_abs());
    Some(DataType::Decimal128(precision, digits))
}

/// A CASE with its results changed.
pub(crate) fn results_as(case: Case, change: impl Fn(Expr) -> Expr) -> Case {
    let when_then = case.when_then_expr.into_iter();
    Case {
        expr: case.expr,
        when_then_expr: when_then.map(|(when, then)| (when, Box::new(change(*then)))).collect(),
        else_expr: case.else_expr.map(|other| Box::new(change(*other))),
    }
}

fn are_mixed<'a>(exprs: impl IntoIterator<Item = &'a Expr>, schema: &dyn ExprSchema) -> bool {
    let types: Vec<DataType> = exprs.into_iter().filter_map(|e| e.get_type(schema).ok()).collect();
    mixed(&types)
}

fn mixed(types: &[DataType]) -> bool {
    types.iter().any(|t| matches!(t, DataType::Float32 | DataType::Float64))
        && types.iter().any(|t| matches!(t, DataType::Decimal128(..)))
}

fn as_double(expr: Expr, schema: &dyn ExprSchema) -> Expr {
    match expr.get_type(schema) {
        Ok(DataType::Decimal128(..) | DataType::Float32) => cast(expr, DataType::Float64),
        _ => expr,
    }
}

/// The same for the columns of a union.
fn united(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Union(union) = plan else { return Ok(Transformed::no(plan)) };
    let columns = union.schema.fields().len();
    let doubles: Vec<bool> = (0..columns)
        .map(|column| {
            let of = |input: &Arc<LogicalPlan>| {
                Some(input.schema().fields().get(column)?.data_type().clone())
            };
            mixed(&union.inputs.iter().filter_map(of).collect::<Vec<_>>())
        })
        .collect();
    if !doubles.contains(&true) {
        return Ok(Transformed::no(LogicalPlan::Union(union)));
    }
    let inputs = union.inputs.into_iter().map(|input| {
        let schema = Arc::clone(input.schema());
        let columns = schema.columns().into_iter().zip(&doubles).map(|(column, is_double)| {
            let name = column.name.clone();
            let of = Expr::Column(column.clone());
            match is_double {
                true => as_double(of, schema.as_ref()).alias_qualified(column.relation, name),
                false => of,
            }
        });
        let projection = Projection::try_new(columns.collect(), input)?;
        Ok(Arc::new(LogicalPlan::Projection(projection)))
    });
    let inputs = inputs.collect::<DfResult<Vec<_>>>()?;
    Ok(Transformed::yes(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)))
}
