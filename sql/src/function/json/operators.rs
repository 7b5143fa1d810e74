//! From the operators to the functions behind them. Arrays keep the operators that they share with JSON.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::arguments::array_literal;
use super::{Does, function, is_text};
use crate::error::SqlError;
use otus_engine::types::PG_TYPE_KEY;

/// Plans the operators.
#[derive(Debug)]
pub(crate) struct Operators;

fn does(op: &BinaryOperator) -> Option<Does> {
    Some(match op {
        BinaryOperator::Arrow => Does::Get,
        BinaryOperator::LongArrow => Does::GetText,
        BinaryOperator::HashArrow => Does::Path,
        BinaryOperator::HashLongArrow => Does::PathText,
        BinaryOperator::AtArrow => Does::Contains,
        BinaryOperator::ArrowAt => Does::Contained,
        BinaryOperator::Question => Does::Exists,
        BinaryOperator::QuestionPipe => Does::ExistsAny,
        BinaryOperator::QuestionAnd => Does::ExistsAll,
        _ => return None,
    })
}

/// A text that stands for an array of texts, as its elements.
fn elements(expr: Expr) -> DfResult<Vec<Expr>> {
    let Expr::Literal(value, _) = &expr else { return Ok(vec![expr]) };
    let Some(Some(text)) = value.try_as_str() else { return Ok(vec![expr]) };
    let items = array_literal(text).map_err(DataFusionError::from)?;
    let list = datafusion::common::utils::SingleRowListArrayBuilder::new(std::sync::Arc::new(
        arrow::array::StringViewArray::from_iter_values(items),
    ));
    Ok(vec![lit(list.build_list_scalar())])
}

/// Other operators would take a jsonb for the text that it is.
fn unchanged(expr: RawBinaryExpr, schema: &DFSchema) -> DfResult<PlannerResult<RawBinaryExpr>> {
    let is_json = |e: &Expr| {
        let marked = |(_, field): (_, FieldRef)| field.metadata().get(PG_TYPE_KEY).cloned();
        e.to_field(schema).ok().and_then(marked).is_some_and(|mark| mark == "jsonb")
    };
    let changes = matches!(expr.op, BinaryOperator::StringConcat | BinaryOperator::Minus);
    if changes && (is_json(&expr.left) || is_json(&expr.right)) {
        let e = SqlError::unsupported(format!("operator {} of jsonb is not supported", expr.op));
        return Err(e.with_hint("cast it to text to treat it as one").into());
    }
    Ok(PlannerResult::Original(expr))
}

impl ExprPlanner for Operators {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DfResult<PlannerResult<RawBinaryExpr>> {
        let Some(does) = does(&expr.op) else { return unchanged(expr, schema) };
        let is_list = |e: &Expr| matches!(e.get_type(schema), Ok(t) if !is_text(&t));
        let shared = matches!(does, Does::Contains | Does::Contained);
        if shared && (is_list(&expr.left) || is_list(&expr.right)) {
            return Ok(PlannerResult::Original(expr));
        }
        let udf = function(does).ok_or_else(|| {
            DataFusionError::from(SqlError::internal("an operator has no function"))
        })?;
        let mut args = vec![expr.left];
        match does {
            Does::Path | Does::PathText | Does::ExistsAny | Does::ExistsAll => {
                args.extend(elements(expr.right)?);
            }
            _ => args.push(expr.right),
        }
        if let Ok(DataType::List(_)) =
            args.first().map_or(Ok(DataType::Null), |e| e.get_type(schema))
        {
            let e =
                SqlError::unsupported(format!("operator {} takes a jsonb on its left", expr.op));
            return Err(DataFusionError::from(e));
        }
        Ok(PlannerResult::Planned(udf.call(args)))
    }
}
