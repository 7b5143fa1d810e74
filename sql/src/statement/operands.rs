//! Parameters as their text shows them: types of casts that the planner forgets, and casts around operands of
//! arithmetic whose type the client has named, which the planner would take for that of the other operand.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, IntervalUnit, TimeUnit};
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, CastKind, Expr, Query, Value};
use otus_engine::types::ColumnType;

use crate::session::parameter_number;

/// The number from 0 of the parameter that an expression is.
fn parameter(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => parameter_number(name).ok(),
            _ => None,
        },
        Expr::Nested(inner) => parameter(inner),
        _ => None,
    }
}

/// Types with a Postgres name that are texts to the planner, by the parameter that is cast to them.
pub(super) fn casts_of_parameters(query: &Query) -> BTreeMap<usize, FieldRef> {
    struct Casts(BTreeMap<usize, FieldRef>);
    impl ast::Visitor for Casts {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Cast { expr, data_type, .. } = expr
                && let Some(i) = parameter(expr)
                && let Some(column_type) = named(data_type)
            {
                self.0.entry(i).or_insert_with(|| Arc::new(column_type.field("", true)));
            }
            ControlFlow::Continue(())
        }
    }
    let mut casts = Casts(BTreeMap::new());
    let _flow = ast::Visit::visit(query, &mut casts);
    casts.0
}

fn named(data_type: &ast::DataType) -> Option<ColumnType> {
    match data_type {
        ast::DataType::Uuid => Some(ColumnType::Uuid),
        ast::DataType::JSONB => Some(ColumnType::Jsonb),
        ast::DataType::Array(
            ast::ArrayElemTypeDef::SquareBracket(item, _)
            | ast::ArrayElemTypeDef::AngleBracket(item)
            | ast::ArrayElemTypeDef::Parenthesis(item),
        ) => named(item).map(|item| ColumnType::Array(Box::new(item))),
        _ => None,
    }
}

/// Puts casts around operands of operators that are parameters of these types.
pub(crate) fn type_operands(statement: &mut ast::Statement, types: &[Option<DataType>]) {
    struct Operands<'a>(&'a [Option<DataType>]);
    impl ast::VisitorMut for Operands<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::BinaryOp { left, op, right } = expr
                && is_arithmetic(op)
            {
                self.cast(left);
                self.cast(right);
            }
            ControlFlow::Continue(())
        }
    }
    impl Operands<'_> {
        fn cast(&self, operand: &mut Box<Expr>) {
            let known = parameter(operand).and_then(|i| self.0.get(i)?.as_ref());
            let Some(data_type) = known.and_then(sql_type) else { return };
            let inner = std::mem::replace(operand.as_mut(), Expr::Value(Value::Null.into()));
            **operand = Expr::Cast {
                kind: CastKind::DoubleColon,
                expr: Box::new(inner),
                data_type,
                array: false,
                format: None,
            };
        }
    }
    let _flow = ast::VisitMut::visit(statement, &mut Operands(types));
}

fn is_arithmetic(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Divide, Minus, Modulo, Multiply, Plus};
    matches!(op, Plus | Minus | Multiply | Divide | Modulo)
}

/// The name of a type whose values keep all of themselves in a cast to it.
fn sql_type(data_type: &DataType) -> Option<ast::DataType> {
    use ast::DataType as Sql;
    Some(match data_type {
        DataType::Int16 => Sql::SmallInt(None),
        DataType::Int32 => Sql::Integer(None),
        DataType::Int64 => Sql::BigInt(None),
        DataType::Float32 => Sql::Real,
        DataType::Float64 => Sql::DoublePrecision,
        DataType::Date32 => Sql::Date,
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            Sql::Interval { fields: None, precision: None }
        }
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            Sql::Timestamp(None, ast::TimezoneInfo::None)
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            Sql::Timestamp(None, ast::TimezoneInfo::Tz)
        }
        _ => return None,
    })
}
