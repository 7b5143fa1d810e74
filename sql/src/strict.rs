//! Types that do not fit, as Postgres refuses them: the planner would bring a text and a number together as text, and cast
//! whatever it can. A text that is written out has no type of its own and takes that of what stands beside it.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::expr::{Case, Cast};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, cast};

use crate::analyze::{compares, map_expressions};
use crate::error::{SqlError, pg_type, sqlstate};
use crate::sliding::over_moving_rows;

/// Functions whose first argument is a text.
pub(crate) const OF_TEXT: [&str; 20] = [
    "ascii",
    "btrim",
    "char_length",
    "character_length",
    "initcap",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "octet_length",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "starts_with",
    "upper",
];

/// Functions that put a list together, which `||` stands for.
const OF_LIST: [&str; 3] = ["array_append", "array_concat", "array_prepend"];

/// Functions that give one of their arguments.
const ONE_OF: [&str; 3] = ["coalesce", "greatest", "least"];

/// The plan, if its types fit.
pub(crate) fn checked(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let plan = map_expressions(plan, &|expr, schema| {
        check(&expr, schema)?;
        match expr {
            Expr::Case(case) => typed_case(case, schema),
            Expr::WindowFunction(_) => {
                over_moving_rows(expr).transform_data(|expr| crate::windows::counted(expr, schema))
            }
            other => Ok(Transformed::no(other)),
        }
    })?;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Union(union) = node {
            for at in 0..union.schema.fields().len() {
                let column = |input: &Arc<LogicalPlan>| {
                    if is_unknown_column(input, at) {
                        return None;
                    }
                    input.schema().fields().get(at).map(|field| field.data_type().clone())
                };
                matched("UNION", union.inputs.iter().filter_map(column))?;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(plan)
}

/// Types that are brought together among themselves alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Text,
    Number,
    Boolean,
    Time,
}

fn family(of: &DataType) -> Option<Family> {
    Some(match of {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => Family::Text,
        DataType::Boolean => Family::Boolean,
        DataType::Date32 | DataType::Timestamp(..) => Family::Time,
        number if number.is_numeric() => Family::Number,
        _ => return None,
    })
}

/// Whether a value takes the type of what stands beside it: a text that is written out, a null, a parameter.
fn is_unknown(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => {
            value.is_null() || matches!(value, ScalarValue::Utf8(_) | ScalarValue::Utf8View(_))
        }
        Expr::Placeholder(_) => true,
        Expr::Alias(alias) => is_unknown(&alias.expr),
        _ => false,
    }
}

/// Whether what a plan gives at a place is unknown, or may be.
fn is_unknown_column(plan: &LogicalPlan, at: usize) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => projection.expr.get(at).is_none_or(is_unknown),
        LogicalPlan::SubqueryAlias(alias) => is_unknown_column(&alias.input, at),
        LogicalPlan::Union(union) => union.inputs.iter().all(|i| is_unknown_column(i, at)),
        LogicalPlan::Aggregate(_) | LogicalPlan::TableScan(_) => false,
        LogicalPlan::Filter(filter) => is_unknown_column(&filter.input, at),
        LogicalPlan::Sort(sort) => is_unknown_column(&sort.input, at),
        LogicalPlan::Limit(limit) => is_unknown_column(&limit.input, at),
        _ => true,
    }
}

/// Its type, if that is known.
fn known_type(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    if is_unknown(expr) { None } else { expr.get_type(schema).ok() }
}

fn known_family(expr: &Expr, schema: &DFSchema) -> Option<Family> {
    known_type(expr, schema).as_ref().and_then(family)
}

/// Fails if there are types of two families.
fn matched(what: &str, types: impl Iterator<Item = DataType>) -> DfResult<()> {
    let mut first: Option<(DataType, Family)> = None;
    for of in types {
        let Some(found) = family(&of) else { continue };
        match &first {
            None => first = Some((of, found)),
            Some((_, known)) if *known == found => {}
            Some((known, _)) => {
                let (known, of) = (pg_type(known), pg_type(&of));
                let message = format!("{what} types {known} and {of} cannot be matched");
                return Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message).into());
            }
        }
    }
    Ok(())
}

fn check(expr: &Expr, schema: &DFSchema) -> DfResult<()> {
    match expr {
        Expr::BinaryExpr(binary) => check_operator(binary, schema),
        Expr::Cast(cast) => check_cast(cast, schema),
        Expr::Like(like) => check_pattern(&like.pattern),
        Expr::Literal(ScalarValue::Float64(Some(value)), _) if value.is_infinite() => {
            let message = "the number is out of range for type double precision";
            Err(SqlError::new(sqlstate::OUT_OF_RANGE, message).into())
        }
        Expr::ScalarFunction(call) if ONE_OF.contains(&call.name()) => {
            let types = call.args.iter().filter_map(|arg| known_type(arg, schema));
            matched(&call.name().to_uppercase(), types)
        }
        Expr::ScalarFunction(call) if OF_LIST.contains(&call.name()) => {
            check_list(&call.args, schema)
        }
        Expr::ScalarFunction(call) if OF_TEXT.contains(&call.name()) => {
            let of = call.args.first().and_then(|arg| known_type(arg, schema));
            match of {
                Some(of) if of.is_numeric() || of == DataType::Boolean => {
                    let message =
                        format!("function {}({}) does not exist", call.name(), pg_type(&of));
                    Err(SqlError::new(sqlstate::UNDEFINED_FUNCTION, message)
                        .with_hint("no function takes these types; add casts")
                        .into())
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn check_operator(binary: &BinaryExpr, schema: &DFSchema) -> DfResult<()> {
    let BinaryExpr { left, op, right } = binary;
    let (Some(l), Some(r)) = (known_type(left, schema), known_type(right, schema)) else {
        return Ok(());
    };
    let fits = match op {
        op if compares(*op) => match (family(&l), family(&r)) {
            (Some(l), Some(r)) => l == r,
            _ => true,
        },
        _ => true,
    };
    if fits { Ok(()) } else { Err(no_operator(&l, &op.to_string(), &r)) }
}

fn no_operator(left: &DataType, op: &str, right: &DataType) -> DataFusionError {
    let message = format!("operator does not exist: {} {op} {}", pg_type(left), pg_type(right));
    SqlError::new(sqlstate::UNDEFINED_FUNCTION, message)
        .with_hint("no operator takes these types; add casts")
        .into()
}

/// What is put to a list is as its items are.
fn check_list(args: &[Expr], schema: &DFSchema) -> DfResult<()> {
    let [left, right] = args else { return Ok(()) };
    let (Some(l), Some(r)) = (known_type(left, schema), known_type(right, schema)) else {
        return Ok(());
    };
    let item = |of: &DataType| match of {
        DataType::List(item) => family(item.data_type()),
        other => family(other),
    };
    match (item(&l), item(&r)) {
        (Some(left), Some(right)) if left != right => Err(no_operator(&l, "||", &r)),
        _ => Ok(()),
    }
}

/// Times are no numbers.
fn check_cast(cast: &Cast, schema: &DFSchema) -> DfResult<()> {
    let to = cast.field.data_type();
    let Some(from) = known_type(&cast.expr, schema) else { return Ok(()) };
    let pair = (family(&from), family(to));
    let number = |of| matches!(of, Some(Family::Number | Family::Boolean));
    let refused = (number(pair.0) && pair.1 == Some(Family::Time))
        || (pair.0 == Some(Family::Time) && number(pair.1));
    if refused {
        let message = format!("cannot cast type {} to {}", pg_type(&from), pg_type(to));
        return Err(SqlError::new(sqlstate::CANNOT_COERCE, message).into());
    }
    Ok(())
}

/// A pattern that is written out must not end with what takes the meaning from the next character.
fn check_pattern(pattern: &Expr) -> DfResult<()> {
    let Expr::Literal(value, _) = pattern else { return Ok(()) };
    let Some(Some(text)) = value.try_as_str() else { return Ok(()) };
    let backslashes = text.bytes().rev().take_while(|b| *b == b'\\').count();
    if backslashes % 2 == 1 {
        let message = "LIKE pattern must not end with escape character";
        return Err(SqlError::new(sqlstate::INVALID_ESCAPE_SEQUENCE, message).into());
    }
    Ok(())
}

/// Conditions are booleans, and the values of one family; texts that are written out have their type.
fn typed_case(mut case: Case, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    if case.expr.is_none() {
        for (condition, _) in &case.when_then_expr {
            if let Some(of) = known_type(condition, schema)
                && family(&of).is_some_and(|found| found != Family::Boolean)
            {
                let of = pg_type(&of);
                let message = format!("argument of CASE/WHEN must be type boolean, not type {of}");
                return Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message).into());
            }
        }
    }
    let values = || case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
    matched("CASE", values().filter_map(|value| known_type(value, schema)))?;
    let numbers = |value: &Expr| {
        let is_number = known_family(value, schema) == Some(Family::Number);
        is_number.then(|| known_type(value, schema)).flatten()
    };
    let written = |value: &Expr| {
        matches!(
            value,
            Expr::Literal(ScalarValue::Utf8(Some(_)) | ScalarValue::Utf8View(Some(_)), _)
        )
    };
    let Some(number) = values().find_map(|value| numbers(value)) else {
        return Ok(Transformed::no(Expr::Case(case)));
    };
    let mut any = false;
    let values = case.when_then_expr.iter_mut().map(|(_, then)| then).chain(&mut case.else_expr);
    for value in values.filter(|value| written(value)) {
        **value = cast(value.as_ref().clone(), number.clone());
        any = true;
    }
    Ok(Transformed::new_transformed(Expr::Case(case), any))
}
