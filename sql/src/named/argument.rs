//! The arguments of a call: which is for which parameter, and their values in the parameters' types.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Volatility, cast, lit,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr};
use otus_engine::types::ColumnType;

use super::{NamedQuery, NamedQueryDef, ParameterDef};
use crate::error::{SqlError, SqlResult, pg_type, sqlstate};
use crate::statement::folded;

/// What a parameter stands for in one call.
pub(super) enum Argument {
    /// A value of the parameter's type.
    Value(ScalarValue),
    /// An expression over the parameters of the statement around the call.
    Open(Box<ast::Expr>),
}

/// One argument per parameter.
pub(super) fn arguments(
    state: &SessionState,
    query: &NamedQuery,
    given: &[FunctionArg],
) -> SqlResult<Vec<Argument>> {
    let def = &query.def;
    let assigned = assigned(def, given)?;
    let pairs = def.parameters.iter().zip(assigned);
    pairs
        .map(|(parameter, expr)| match expr {
            Some(expr) => argument(state, def, parameter, expr),
            None => default(state, def, parameter).map(Argument::Value),
        })
        .collect()
}

fn no_such(message: String, def: &NamedQueryDef) -> SqlError {
    let hint = format!("it is called as {}", def.signature());
    SqlError::new(sqlstate::UNDEFINED_FUNCTION, message).with_hint(hint)
}

/// The expression of each parameter: first by place, then by name.
fn assigned<'a>(
    def: &NamedQueryDef,
    given: &'a [FunctionArg],
) -> SqlResult<Vec<Option<&'a ast::Expr>>> {
    let query = &def.name;
    let mut list: Vec<Option<&ast::Expr>> = vec![None; def.parameters.len()];
    let mut named = false;
    for (place, arg) in given.iter().enumerate() {
        let (name, value) = match arg {
            FunctionArg::Unnamed(value) => (None, value),
            FunctionArg::Named { name, arg, .. } => (Some(folded(name)), arg),
            FunctionArg::ExprNamed { name: ast::Expr::Identifier(name), arg, .. } => {
                (Some(folded(name)), arg)
            }
            FunctionArg::ExprNamed { name, .. } => {
                return Err(no_such(format!("query \"{query}\" has no parameter {name}"), def));
            }
        };
        let FunctionArgExpr::Expr(value) = value else {
            return Err(no_such(format!("query \"{query}\" does not take {value}"), def));
        };
        let slot = match &name {
            Some(name) => {
                named = true;
                let at = def.parameters.iter().position(|p| p.name == *name);
                let at = at.ok_or_else(|| {
                    no_such(format!("query \"{query}\" has no parameter \"{name}\""), def)
                })?;
                list.get_mut(at)
            }
            None if named => {
                let message = "positional argument cannot follow named argument";
                return Err(SqlError::new(sqlstate::SYNTAX, message));
            }
            None => list.get_mut(place),
        };
        let Some(slot) = slot else {
            let (most, count) = (def.parameters.len(), given.len());
            let s = if most == 1 { "" } else { "s" };
            let message =
                format!("query \"{query}\" takes at most {most} argument{s}, not {count}");
            return Err(no_such(message, def));
        };
        if slot.replace(value).is_some() {
            let name = name.unwrap_or_default();
            let message = format!("parameter \"{name}\" of query \"{query}\" is given twice");
            return Err(no_such(message, def));
        }
    }
    Ok(list)
}

fn default(
    state: &SessionState,
    def: &NamedQueryDef,
    parameter: &ParameterDef,
) -> SqlResult<ScalarValue> {
    match &parameter.default {
        Some(text) => coerced(state, def, parameter, lit(text.as_str())),
        None => {
            let (name, query) = (&parameter.name, &def.name);
            let message = format!("parameter \"{name}\" of query \"{query}\" has no value");
            Err(no_such(message, def))
        }
    }
}

fn argument(
    state: &SessionState,
    def: &NamedQueryDef,
    parameter: &ParameterDef,
    expr: &ast::Expr,
) -> SqlResult<Argument> {
    let about = |e: SqlError| def.parameter_error(&parameter.name, &e);
    let aliased = ast::ExprWithAlias { expr: expr.clone(), alias: None };
    let planned = state
        .create_logical_expr_from_sql_expr(aliased, &DFSchema::empty())
        .map_err(|e| about(SqlError::from(e)))?;
    match constant(&planned).map_err(about)? {
        Constant::Yes => coerced(state, def, parameter, planned).map(Argument::Value),
        Constant::Open => Ok(Argument::Open(Box::new(expr.clone()))),
    }
}

enum Constant {
    Yes,
    Open,
}

/// Whether an expression has one value, now or once the statement's own parameters are known.
fn constant(expr: &Expr) -> SqlResult<Constant> {
    let (mut found, mut open) = (None, false);
    expr.apply(|e| {
        found = match e {
            Expr::ScalarFunction(f) if f.func.signature().volatility == Volatility::Volatile => {
                Some(format!("function {}() has no fixed value", f.name()))
            }
            Expr::ScalarFunction(_)
            | Expr::Literal(..)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::BinaryExpr(_)
            | Expr::Negative(_)
            | Expr::Not(_)
            | Expr::Case(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::Alias(_) => None,
            Expr::Placeholder(_) => {
                open = true;
                None
            }
            Expr::Column(column) => {
                Some(format!("column \"{}\" cannot be named here", column.name))
            }
            _ => Some("the argument is not a constant".to_string()),
        };
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .map_err(SqlError::from)?;
    match found {
        Some(what) => Err(SqlError::new(sqlstate::INVALID_PARAMETER, what)
            .with_hint("arguments of a named query are constants or parameters such as $1")),
        None if open => Ok(Constant::Open),
        None => Ok(Constant::Yes),
    }
}

/// The value of a constant in the type of a parameter.
pub(super) fn coerced(
    state: &SessionState,
    def: &NamedQueryDef,
    parameter: &ParameterDef,
    expr: Expr,
) -> SqlResult<ScalarValue> {
    let about = |e: SqlError| def.parameter_error(&parameter.name, &e);
    let value = || -> SqlResult<ScalarValue> {
        let given = expr.get_type(&DFSchema::empty())?;
        let column_type = &parameter.column_type;
        if !fits(&given, column_type) {
            let message = format!("{} is expected, not {}", column_type, pg_type(&given));
            return Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message));
        }
        // As a plan, so that it passes every rule that an expression of a statement passes.
        let plan = LogicalPlanBuilder::empty(true)
            .project([cast(expr.clone(), column_type.arrow()).alias("value")])?
            .build()?;
        let options = state.config_options();
        let analyzed = state.analyzer().execute_and_check(plan, options, |_, _| {})?;
        let LogicalPlan::Projection(projection) = analyzed else {
            return Err(SqlError::internal("an argument has lost its place"));
        };
        let Some(expr) = projection.expr.into_iter().next() else {
            return Err(SqlError::internal("an argument has lost its value"));
        };
        crate::compile::constant(state, expr.unalias())
    };
    value().map_err(about)
}

/// The value that a pull request gives for a parameter; none = its default.
pub(crate) fn of_value(
    state: &SessionState,
    query: &NamedQuery,
    parameter: &ParameterDef,
    value: Option<ScalarValue>,
) -> SqlResult<ScalarValue> {
    match value {
        Some(value) => coerced(state, &query.def, parameter, lit(value)),
        None => default(state, &query.def, parameter),
    }
}

/// Whether values of a type may stand for a parameter, as Postgres casts them by itself; a text is read as
/// what it is to be.
fn fits(given: &DataType, wanted: &ColumnType) -> bool {
    match given {
        DataType::Null | DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => true,
        DataType::Boolean => *wanted == ColumnType::Boolean,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            matches!(wanted, ColumnType::Timestamp | ColumnType::Timestamptz | ColumnType::Date)
        }
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => {
            *wanted == ColumnType::Bytea
        }
        given if given.is_numeric() => matches!(
            wanted,
            ColumnType::SmallInt
                | ColumnType::Integer
                | ColumnType::BigInt
                | ColumnType::Real
                | ColumnType::Double
                | ColumnType::Numeric { .. }
        ),
        _ => false,
    }
}
