//! Whether a declared expression means the values of the same text in a query. There numbers have the types of Postgres,
//! `n * 2` of an integer is an integer; in declarations, whose types are on disk, it is a bigint, and `n * 1.5`
//! double precision.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{AggregateFunction, Case};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, binary_expr};
use datafusion::scalar::ScalarValue;
use otus_engine::compiled::CompiledTable;

use super::calls::widens;
use crate::function::{Checked, is_quotient};

/// Functions whose value does not depend on how wide their integers are.
const OF_VALUES: [&str; 14] = [
    "abs", "ceil", "coalesce", "concat", "floor", "greatest", "least", "length", "mod", "nullif",
    "round", "sign", "trunc", "||",
];

/// What may differ between two expressions that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loose {
    /// The width of integers.
    Integers,
    /// Besides, whether fractions are numerics or double precision: within sums and products, where that changes no more
    /// than the last of their digits.
    Fractions,
}

/// Whether two calls of one text aggregate the same values; sums of fractions to as many digits as a double has.
pub(super) fn calls(
    table: &CompiledTable,
    asked: &AggregateFunction,
    stored: &AggregateFunction,
) -> bool {
    if asked == stored {
        return true;
    }
    let bare = |call: &AggregateFunction| -> DfResult<AggregateFunction> {
        let schema = DFSchema::try_from(table.schema.as_ref().clone())?;
        let mut call = call.clone();
        let loose = match call.func.name() {
            "approx_distinct" | "approx_set" | "first" | "last" | "top_k" => Loose::Integers,
            _ => Loose::Fractions,
        };
        call.params.args = call
            .params
            .args
            .iter()
            .map(|arg| form(arg, &schema, loose))
            .collect::<DfResult<_>>()?;
        if let Some(filter) = &mut call.params.filter {
            **filter = form(filter, &schema, Loose::Integers)?;
        }
        Ok(call)
    };
    matches!((bare(asked), bare(stored)), (Ok(asked), Ok(stored)) if asked == stored)
}

/// Whether two expressions of one text have the same values.
pub(super) fn values(table: &CompiledTable, asked: &Expr, stored: &Expr) -> bool {
    let bare = |expr: &Expr| -> DfResult<Expr> {
        let schema = DFSchema::try_from(table.schema.as_ref().clone())?;
        form(expr, &schema, Loose::Integers)
    };
    asked == stored
        || matches!((bare(asked), bare(stored)), (Ok(asked), Ok(stored)) if asked == stored)
}

/// An expression without what may differ. Both sides come from one text, so that nothing else does.
fn form(expr: &Expr, schema: &DFSchema, loose: Loose) -> DfResult<Expr> {
    let inner = |expr: &Expr| form(expr, schema, loose);
    Ok(match expr {
        Expr::Cast(cast)
            if is_free(&cast.expr.get_type(schema)?, cast.field.data_type(), loose) =>
        {
            inner(&cast.expr)?
        }
        Expr::Literal(value, _) => Expr::Literal(number(value, loose)?, None),
        Expr::Negative(of) => Expr::Negative(Box::new(inner(of)?)),
        // A declared quotient of numerics has fewer digits than that of a query.
        Expr::BinaryExpr(of)
            if of.op == Operator::Divide
                && matches!(expr.get_type(schema)?, DataType::Decimal128(..)) =>
        {
            expr.clone()
        }
        Expr::BinaryExpr(of) if computes(of.op) => {
            binary_expr(inner(&of.left)?, of.op, inner(&of.right)?)
        }
        Expr::BinaryExpr(of) if shifts(of.op) => expr.clone(),
        Expr::ScalarFunction(call) => match Checked::parts(&call.func) {
            Some(checked) if is_free(checked.data_type(), checked.data_type(), loose) => {
                let mut args = call.args.iter().map(inner);
                let Some(first) = args.next() else { return Ok(expr.clone()) };
                let pairs = checked.operators().iter().zip(args);
                pairs.into_iter().try_fold(first?, |left, (op, right)| -> DfResult<Expr> {
                    Ok(binary_expr(left, *op, right?))
                })?
            }
            None if is_quotient(&call.func) && loose == Loose::Fractions => {
                let [left, right] = call.args.as_slice() else { return Ok(expr.clone()) };
                binary_expr(inner(left)?, Operator::Divide, inner(right)?)
            }
            None if call.func.name() == "coalesce" => children(expr, schema, loose)?,
            None if OF_VALUES.contains(&call.func.name()) => {
                children(expr, schema, Loose::Integers)?
            }
            _ => expr.clone(),
        },
        Expr::Case(case) => Expr::Case(branches(case, schema, loose)?),
        other => children(other, schema, Loose::Integers)?,
    })
}

fn children(expr: &Expr, schema: &DFSchema, loose: Loose) -> DfResult<Expr> {
    let changed = expr.clone().map_children(|e| Ok(Transformed::yes(form(&e, schema, loose)?)))?;
    Ok(changed.data)
}

fn branches(case: &Case, schema: &DFSchema, loose: Loose) -> DfResult<Case> {
    let asked = |e: &Expr| form(e, schema, Loose::Integers).map(Box::new);
    let value = |e: &Expr| form(e, schema, loose).map(Box::new);
    Ok(Case {
        expr: case.expr.as_deref().map(asked).transpose()?,
        when_then_expr: case
            .when_then_expr
            .iter()
            .map(|(when, then)| Ok((asked(when)?, value(then)?)))
            .collect::<DfResult<_>>()?,
        else_expr: case.else_expr.as_deref().map(value).transpose()?,
    })
}

fn computes(op: Operator) -> bool {
    use Operator as O;
    matches!(op, O::Plus | O::Minus | O::Multiply | O::Divide | O::Modulo)
}

fn shifts(op: Operator) -> bool {
    matches!(op, Operator::BitwiseShiftLeft | Operator::BitwiseShiftRight)
}

/// Whether a cast between two types changes nothing that may not differ.
fn is_free(from: &DataType, to: &DataType, loose: Loose) -> bool {
    let is_integer = |t: &DataType| {
        matches!(t, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
    };
    let is_number =
        |t: &DataType| is_integer(t) || matches!(t, DataType::Decimal128(..) | DataType::Float64);
    let widened = is_integer(from) && is_integer(to) && widens(from, to);
    widened
        || (loose == Loose::Fractions
            && is_number(from)
            && is_number(to)
            && !is_integer(to)
            // A numeric with fewer digits is rounded.
            && !matches!((from, to), (_, DataType::Decimal128(_, s)) if digits(from) > *s))
}

/// Digits after the point that a type keeps.
fn digits(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal128(_, scale) => *scale,
        DataType::Float64 => i8::MAX,
        _ => 0,
    }
}

/// A number in the widest of the types that may differ.
fn number(value: &ScalarValue, loose: Loose) -> DfResult<ScalarValue> {
    let of = value.data_type();
    match of {
        DataType::Int8 | DataType::Int16 | DataType::Int32 if loose == Loose::Integers => {
            value.cast_to(&DataType::Int64)
        }
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Decimal128(..)
            if loose == Loose::Fractions =>
        {
            value.cast_to(&DataType::Float64)
        }
        _ => Ok(value.clone()),
    }
}
