//! Row expressions: parsed, resolved against one schema, type-coerced and made physical once.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::sql::sqlparser::ast;
use otus_engine::expr::CompiledExpr;
use otus_engine::{Error, Result};

use super::{wrong, wrong_sql};
use crate::arithmetic::{checked, rounded};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::statement;

/// A compiled row expression.
#[derive(Debug)]
struct Scalar {
    sql: String,
    expr: Arc<dyn PhysicalExpr>,
    natural: DataType,
    data_type: DataType,
    columns: Vec<String>,
    /// Whether a row that it fails on has null.
    lenient: bool,
}

impl CompiledExpr for Scalar {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }

    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let rows = batch.num_rows();
        match self.values(batch) {
            Err(_) if self.lenient && rows <= 1 => Ok(new_null_array(&self.data_type, rows)),
            Err(_) if self.lenient => {
                let (first, second) =
                    (batch.slice(0, rows / 2), batch.slice(rows / 2, rows - rows / 2));
                let (first, second) = (self.evaluate(&first)?, self.evaluate(&second)?);
                concat(&[first.as_ref(), second.as_ref()]).map_err(Error::from)
            }
            done => done,
        }
    }
}

impl Scalar {
    fn values(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let failed = |e: datafusion::error::DataFusionError| {
            let e = SqlError::from(e);
            wrong(&self.sql, &e)
        };
        let value = self.expr.evaluate(batch).map_err(failed)?;
        let array = value.into_array(batch.num_rows()).map_err(failed)?;
        if self.natural == self.data_type {
            return Ok(array);
        }
        cast(&array, &self.data_type).map_err(Error::from)
    }
}

/// Compiles the text of a row expression.
pub(super) fn compile(
    state: &SessionState,
    schema: &SchemaRef,
    sql: &str,
) -> Result<Arc<dyn CompiledExpr>> {
    let parsed = parsed(schema, sql).map_err(|e| wrong_sql(sql, &e))?;
    // A row whose number does not fit is rejected by itself.
    Ok(Arc::new(compile_with(state, schema, &parsed, sql, checked)?))
}

/// Compiles the text of an expression over rows that are kept already.
pub(super) fn compile_lenient(
    state: &SessionState,
    schema: &SchemaRef,
    sql: &str,
) -> Result<Arc<dyn CompiledExpr>> {
    let parsed = parsed(schema, sql).map_err(|e| wrong_sql(sql, &e))?;
    Ok(Arc::new(Scalar { lenient: true, ..compile_with(state, schema, &parsed, sql, rounded)? }))
}

/// An expression of a declaration over columns, which win over keywords and functions.
fn parsed(schema: &Schema, sql: &str) -> SqlResult<ast::Expr> {
    statement::expression(sql, &|name| schema.index_of(name).is_ok())
}

/// The same as a logical expression.
pub(crate) fn row_expr(state: &SessionState, schema: &Schema, sql: &str) -> SqlResult<Expr> {
    logical(state, schema, &parsed(schema, sql)?)
}

/// The same as a query would have it: its numbers have the types of Postgres.
pub(crate) fn queried_row(state: &SessionState, schema: &Schema, sql: &str) -> SqlResult<Expr> {
    logical(state, schema, &statement::queried(sql, &|name| schema.index_of(name).is_ok())?)
}

/// The text of an argument of a stored call, whose names are quoted, as a query would have it.
pub(crate) fn queried_part(state: &SessionState, schema: &Schema, sql: &str) -> SqlResult<Expr> {
    logical(state, schema, &statement::queried(sql, &|_| false)?)
}

/// Compiles a parsed row expression that is part of `sql`, an argument of a measure. Its integers wrap: the
/// row is kept already, and an error would stop the writing of all the others.
pub(super) fn compile_ast(
    state: &SessionState,
    schema: &SchemaRef,
    parsed: &ast::Expr,
    sql: &str,
) -> Result<Arc<dyn CompiledExpr>> {
    Ok(Arc::new(compile_with(state, schema, parsed, sql, rounded)?))
}

fn compile_with(
    state: &SessionState,
    schema: &SchemaRef,
    parsed: &ast::Expr,
    sql: &str,
    arithmetic: fn(Expr, &DFSchema) -> datafusion::error::Result<Expr>,
) -> Result<Scalar> {
    let logical = logical(state, schema, parsed).map_err(|e| wrong_sql(sql, &e))?;
    refuse_unstable(&logical).map_err(|what| wrong(sql, what))?;
    let failed = |e: datafusion::error::DataFusionError| wrong_sql(sql, &SqlError::from(e));
    let df_schema = DFSchema::try_from(schema.as_ref().clone()).map_err(failed)?;
    let columns: Vec<String> = schema
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .filter(|name| logical.column_refs().iter().any(|c| c.name() == name))
        .collect();
    let logical = simplifier(state, &df_schema).coerce(logical, &df_schema);
    let logical = logical.and_then(|expr| arithmetic(expr, &df_schema)).map_err(failed)?;
    let logical = simplified(state, logical, &df_schema).map_err(failed)?;
    let expr = state.create_physical_expr(logical, &df_schema).map_err(failed)?;
    let natural = expr.data_type(schema).map_err(failed)?;
    let data_type = in_memory(&natural);
    let sql = parsed.to_string();
    Ok(Scalar { sql, expr, natural, data_type, columns, lenient: false })
}

/// A parsed condition over rows of a schema, made physical, and the names of the columns that it reads.
pub(crate) fn condition(
    state: &SessionState,
    schema: &SchemaRef,
    parsed: &ast::Expr,
    sql: &str,
) -> SqlResult<Arc<dyn PhysicalExpr>> {
    let Scalar { expr, natural, .. } = compile_with(state, schema, parsed, sql, checked)?;
    if natural != DataType::Boolean {
        let message = format!("expression {sql:?} is not boolean");
        return Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message));
    }
    Ok(expr)
}

/// Coerces and simplifies: some functions have no other way to run than by their simplified form.
pub(super) fn simplified(
    state: &SessionState,
    expr: Expr,
    schema: &DFSchema,
) -> datafusion::error::Result<Expr> {
    let simplifier = simplifier(state, schema);
    simplifier.simplify(simplifier.coerce(expr, schema)?)
}

fn simplifier(state: &SessionState, schema: &DFSchema) -> ExprSimplifier {
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(state.config_options()))
        .build();
    ExprSimplifier::new(context)
}

/// Plans a parsed expression against a schema.
pub(super) fn logical(
    state: &SessionState,
    schema: &Schema,
    parsed: &ast::Expr,
) -> SqlResult<Expr> {
    let df_schema = DFSchema::try_from(schema.clone()).map_err(SqlError::from)?;
    let aliased = ast::ExprWithAlias { expr: parsed.clone(), alias: None };
    state.create_logical_expr_from_sql_expr(aliased, &df_schema).map_err(SqlError::from)
}

/// The type in which a value is kept: text and bytes as views, integers signed, times in microseconds.
fn in_memory(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        DataType::Dictionary(_, value) => in_memory(value),
        other => other.clone(),
    }
}

fn refuse_unstable(expr: &Expr) -> std::result::Result<(), String> {
    let mut found = None;
    let visited = expr.apply(|e| {
        found = match e {
            Expr::ScalarFunction(f) if f.func.signature().volatility != Volatility::Immutable => {
                Some(format!("function {}() may differ from one run to the next", f.name()))
            }
            Expr::AggregateFunction(f) => {
                Some(format!("aggregate function {}() is not allowed here", f.func.name()))
            }
            Expr::WindowFunction(_) => Some("window functions are not allowed".into()),
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => {
                Some("subqueries are not allowed".into())
            }
            Expr::Placeholder(_) => Some("parameters are not allowed".into()),
            Expr::Unnest(_) => Some("unnest() is not allowed".into()),
            _ => None,
        };
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (visited, found) {
        (Err(e), _) => Err(e.to_string()),
        (Ok(_), Some(what)) => Err(what),
        (Ok(_), None) => Ok(()),
    }
}
