//! From the operators to the functions behind them. Arrays keep the operators that they share with JSON.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr,
};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::arguments::array_literal;
use super::{Does, function, is_text};
use crate::error::SqlError;
use crate::function::ALIKE;
use crate::function::{AS_JSONB, read_as};
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

fn mark_of(expr: &Expr, schema: &DFSchema) -> Option<String> {
    // What gives one of several values is of their type.
    match expr {
        Expr::Case(case) => {
            let results = case.when_then_expr.iter().map(|(_, then)| then);
            let mut results = results.chain(&case.else_expr);
            return results.find_map(|result| mark_of(result, schema));
        }
        Expr::ScalarFunction(f) if ALIKE.iter().any(|(a, b)| [*a, *b].contains(&f.name())) => {
            return f.args.iter().find_map(|arg| mark_of(arg, schema));
        }
        _ => {}
    }
    let marked = |(_, field): (_, FieldRef)| field.metadata().get(PG_TYPE_KEY).cloned();
    expr.to_field(schema).ok().and_then(marked)
}

/// `||`, `-`, `#-`, `@?` and `@@` of jsonb. Beside one, a text that is written out is a jsonb for `||`.
fn changes(expr: RawBinaryExpr, schema: &DFSchema) -> DfResult<PlannerResult<RawBinaryExpr>> {
    use BinaryOperator as B;
    let is_json = |e: &Expr| mark_of(e, schema).is_some_and(|mark| mark == "jsonb");
    let is_written = |e: &Expr| match e {
        Expr::Literal(value, _) => is_text(&value.data_type()),
        _ => false,
    };
    let name = match &expr.op {
        B::StringConcat => {
            let (left, right) = (is_json(&expr.left), is_json(&expr.right));
            let is_both = (left || is_written(&expr.left)) && (right || is_written(&expr.right));
            if !(left || right) {
                return Ok(PlannerResult::Original(expr));
            }
            if !is_both {
                return Ok(PlannerResult::Original(with_texts(expr, left, right)?));
            }
            "jsonb_concat"
        }
        B::Minus if is_json(&expr.left) => "jsonb_delete",
        B::HashMinus => "jsonb_delete_path",
        B::AtQuestion => "jsonb_path_exists",
        B::AtAt if is_json(&expr.left) => "jsonb_path_match",
        _ => return Ok(PlannerResult::Original(expr)),
    };
    let missing = || DataFusionError::from(SqlError::internal("an operator has no function"));
    let udf = super::functions::named(name).ok_or_else(missing)?;
    Ok(PlannerResult::Planned(udf.call(vec![expr.left, expr.right])))
}

/// A jsonb beside a text is its text.
fn with_texts(mut expr: RawBinaryExpr, left: bool, right: bool) -> DfResult<RawBinaryExpr> {
    let missing = || DataFusionError::from(SqlError::internal("an operator has no function"));
    let text = super::functions::named(super::TEXT_OF).ok_or_else(missing)?;
    if left {
        expr.left = text.call(vec![expr.left]);
    }
    if right {
        expr.right = text.call(vec![expr.right]);
    }
    Ok(expr)
}

impl ExprPlanner for Operators {
    fn plan_binary_op(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DfResult<PlannerResult<RawBinaryExpr>> {
        let Some(does) = does(&expr.op) else { return changes(expr, schema) };
        let is_list = |e: &Expr| matches!(e.get_type(schema), Ok(t) if !is_text(&t));
        let shared = matches!(does, Does::Contains | Does::Contained);
        if shared && (is_list(&expr.left) || is_list(&expr.right)) {
            return Ok(PlannerResult::Original(expr));
        }
        for operand in [&mut expr.left, &mut expr.right] {
            if let Expr::Placeholder(open) = operand
                && open.field.is_none()
                && shared
            {
                open.field = read_as(AS_JSONB);
            }
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

/// Plans subscripts of jsonb; to be asked before the planner's own, which are of records and arrays.
#[derive(Debug)]
pub(crate) struct Subscripts;

impl ExprPlanner for Subscripts {
    /// `doc['a']` is `doc -> 'a'`.
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> DfResult<PlannerResult<RawFieldAccessExpr>> {
        if mark_of(&access.expr, schema).is_none_or(|mark| mark != "jsonb") {
            return Ok(PlannerResult::Original(access));
        }
        let key = match access.field_access {
            GetFieldAccess::NamedStructField { name } => lit(name),
            GetFieldAccess::ListIndex { key } => *key,
            GetFieldAccess::ListRange { .. } => {
                let e = SqlError::new(
                    crate::error::sqlstate::DATATYPE_MISMATCH,
                    "jsonb subscript does not support slices",
                );
                return Err(e.into());
            }
        };
        let udf = function(Does::Get).ok_or_else(|| {
            DataFusionError::from(SqlError::internal("an operator has no function"))
        })?;
        Ok(PlannerResult::Planned(udf.call(vec![access.expr, key])))
    }
}
