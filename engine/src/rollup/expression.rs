//! The expressions of a rollup, its filter and computed dimensions, bound to the raw schema. What is wrong in one
//! is told with the rollup and what to do.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use crate::catalog::{BUCKET_COLUMN, RollupDef};
use crate::error::{Error, Result};
use crate::expr::{CompiledExpr, ExpressionCompiler};

/// The condition on rows.
pub(super) fn filter(
    raw: &SchemaRef,
    def: &RollupDef,
    sql: &str,
    compiler: &dyn ExpressionCompiler,
) -> Result<Arc<dyn CompiledExpr>> {
    let what = format!("rollup {:?}: its filter", def.name);
    let expr = compile(raw, sql, &what, compiler)?;
    match expr.data_type() {
        DataType::Boolean => Ok(expr),
        other => Err(Error::invalid(format!("{what} {sql:?} gives {other}, not boolean"))
            .with_hint("a filter is a condition, such as status = 200 or NOT is_robot")),
    }
}

/// A dimension, by name and expression.
pub(super) fn dimension(
    raw: &SchemaRef,
    def: &RollupDef,
    (name, sql): (&str, &str),
    compiler: &dyn ExpressionCompiler,
) -> Result<Arc<dyn CompiledExpr>> {
    let what = format!("rollup {:?}: dimension {name:?}", def.name);
    if name == BUCKET_COLUMN || raw.index_of(name).is_ok() {
        let other = if name == BUCKET_COLUMN { "the bucket" } else { "a column of the table" };
        return Err(Error::invalid(format!("{what} is computed and is called as {other} is"))
            .with_hint("give the expression another name"));
    }
    let expr = compile(raw, sql, &what, compiler)?;
    match expr.data_type() {
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Decimal128(..)
        | DataType::Utf8View
        | DataType::BinaryView
        | DataType::Date32 => Ok(expr),
        DataType::Timestamp(TimeUnit::Microsecond, zone)
            if zone.as_deref().is_none_or(|zone| zone == "UTC") =>
        {
            Ok(expr)
        }
        other => Err(Error::invalid(format!("{what} gives {other}, which cannot be a dimension"))
            .with_hint("cast it: to text, bigint or numeric(p,s)")),
    }
}

fn compile(
    raw: &SchemaRef,
    sql: &str,
    what: &str,
    compiler: &dyn ExpressionCompiler,
) -> Result<Arc<dyn CompiledExpr>> {
    let expr = compiler.lenient(raw, sql).map_err(|e| {
        let error = Error::new(e.kind(), format!("{what}: {}", e.message()));
        match e.hint() {
            Some(hint) => error.with_hint(hint.to_string()),
            None => error,
        }
    })?;
    if expr.columns().is_empty() {
        return Err(Error::invalid(format!("{what}: {sql:?} reads no column"))
            .with_hint("leave it out: it is the same for every row"));
    }
    Ok(expr)
}
