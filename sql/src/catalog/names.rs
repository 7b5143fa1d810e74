//! Ids that are shown by name, `'events'::regclass`: in a plan they are ids, so that they can be compared and
//! joined, and become names where text is made of them and at the very end. Besides, text that stands beside an
//! id or an array is read as one.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{
    BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Projection, TryCast, cast,
};
use datafusion::optimizer::AnalyzerRule;

use arrow::datatypes::{DataType, Field};

use super::library::elements;
use super::value::{array, reg_type};
use crate::analyze::{compares, map_expressions};
use crate::error::{SqlError, sqlstate};
use crate::function::{NAME_OF, SHOWN_NAME, reg_call};

/// The rules.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NamedIds {
    /// Before types are coerced: text beside ids and arrays.
    Written,
    /// After: text that is made of ids.
    Cast,
}

impl AnalyzerRule for NamedIds {
    fn name(&self) -> &'static str {
        match self {
            Self::Written => "written_ids",
            Self::Cast => "named_ids",
        }
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        map_expressions(plan, &|expr, schema| match self {
            Self::Written => written(expr, schema),
            Self::Cast => named(expr, schema),
        })
    }
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
            | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => Some(text),
        _ => None,
    }
}

/// What text means beside a value of this field, if it is not text there.
fn beside(field: &Field, text: &str) -> DfResult<Option<Expr>> {
    if field.data_type() == &DataType::UInt32 {
        if let Some(kind) = reg_type(field) {
            return Ok(reg_call(kind, text));
        }
        let Ok(id) = text.trim().parse::<u32>() else {
            let message = format!("invalid input syntax for type oid: \"{text}\"");
            return Err(SqlError::new(sqlstate::INVALID_TEXT, message).into());
        };
        return Ok(Some(Expr::Literal(ScalarValue::UInt32(Some(id)), None)));
    }
    if field.data_type() == &DataType::Boolean {
        let value = match text.trim().to_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => true,
            "f" | "false" | "n" | "no" | "off" | "0" => false,
            _ => return Ok(None),
        };
        return Ok(Some(Expr::Literal(ScalarValue::Boolean(Some(value)), None)));
    }
    list(field.data_type(), text)
}

/// A list out of its text.
fn list(data_type: &DataType, text: &str) -> DfResult<Option<Expr>> {
    let is_simple = match data_type {
        DataType::List(item) => {
            item.data_type() == &DataType::Utf8
                || item.data_type() == &DataType::Utf8View
                || item.data_type().is_integer()
        }
        _ => false,
    };
    if !is_simple || !text.starts_with('{') {
        return Ok(None);
    }
    let plain = match data_type {
        DataType::List(item) if item.data_type() == &DataType::Utf8View => {
            DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
        }
        other => other.clone(),
    };
    let list = array(&Field::new("list", plain, true), &[elements(text)])?;
    let list = arrow::compute::cast(&list, data_type)?;
    Ok(Some(Expr::Literal(ScalarValue::try_from_array(&list, 0)?, None)))
}

fn written(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
            let read = |value: &Expr, other: &Expr| -> DfResult<Option<Expr>> {
                let (Some(text), Ok((_, field))) = (text(value), other.to_field(schema)) else {
                    return Ok(None);
                };
                beside(&field, text)
            };
            let (new_left, new_right) = (read(&left, &right)?, read(&right, &left)?);
            let changed = new_left.is_some() || new_right.is_some();
            let left = new_left.map_or(left, Box::new);
            let right = new_right.map_or(right, Box::new);
            let expr = Expr::BinaryExpr(BinaryExpr { left, op, right });
            Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
        }
        Expr::InList(InList { expr, list, negated }) => {
            let Ok((_, field)) = expr.to_field(schema) else {
                return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
            };
            let mut changed = false;
            let mut items = Vec::with_capacity(list.len());
            for item in list {
                let read = text(&item).map(|text| beside(&field, text)).transpose()?.flatten();
                changed |= read.is_some();
                items.push(read.unwrap_or(item));
            }
            let expr = Expr::InList(InList { expr, list: items, negated });
            Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
        }
        Expr::Cast(Cast { expr, field }) => {
            let read = text(&expr).map(|text| list(field.data_type(), text)).transpose()?.flatten();
            Ok(match read {
                Some(list) => Transformed::yes(list),
                None => Transformed::no(Expr::Cast(Cast { expr, field })),
            })
        }
        other => Ok(Transformed::no(other)),
    }
}

fn named(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let (inner, to) = match &expr {
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => (expr, field),
        _ => return Ok(Transformed::no(expr)),
    };
    if !to.data_type().is_string() {
        return Ok(Transformed::no(expr));
    }
    let kind = inner.to_field(schema).ok().and_then(|(_, field)| id_kind(&field));
    let name = kind.and_then(|kind| crate::function::name_of(NAME_OF, kind, *inner.clone()));
    Ok(match name {
        Some(name) => Transformed::yes(cast(name, to.data_type().clone())),
        None => Transformed::no(expr),
    })
}

/// The kind of the ids of a field, if they are shown by name.
fn id_kind(field: &Field) -> Option<&'static str> {
    reg_type(field).filter(|_| field.data_type() == &DataType::UInt32)
}

/// The plan whose answers have names in the place of such ids.
pub(crate) fn shown_names(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let schema = Arc::clone(plan.schema());
    if !schema.fields().iter().any(|field| id_kind(field).is_some()) {
        return Ok(plan);
    }
    let columns = schema.iter().map(|(relation, field)| {
        let column = Expr::Column((relation, field).into());
        let name = id_kind(field)
            .and_then(|kind| crate::function::name_of(SHOWN_NAME, kind, column.clone()));
        match name {
            Some(name) => name.alias_qualified(relation.cloned(), field.name()),
            None => column,
        }
    });
    let columns = columns.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}
