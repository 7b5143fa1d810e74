//! The condition of a grant: an expression over a table's columns, in which `current_user` and `attribute('…')` are
//! constants of the user. It is planned by itself, in UTC and with no session at hand: nothing that a statement or a
//! setting says reaches it.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SessionState;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{
    self, CastKind, Expr, FunctionArg, FunctionArgExpr, FunctionArguments,
};

use super::Identity;
use crate::compile;
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::{state, statement};

/// Names of the user, as Postgres knows them.
const USER: [&str; 4] = ["current_user", "session_user", "user", "current_role"];
/// The function that gives a value of the user or its roles.
const ATTRIBUTE: &str = "attribute";

/// Whose condition it is.
#[derive(Clone, Copy)]
pub(super) enum Whose<'a> {
    /// That of a user.
    Of(&'a Identity),
    /// That of any user: only types matter.
    Any,
}

/// A condition that can be asked of rows.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    /// Over the columns of the table.
    pub(super) expr: Arc<dyn PhysicalExpr>,
}

/// Reads a condition over rows of `schema`; none if the user lacks an attribute that it asks for, so that no row
/// passes.
pub(super) fn condition(
    schema: &SchemaRef,
    sql: &str,
    whose: Whose<'_>,
) -> SqlResult<Option<Condition>> {
    let (parsed, lacks) = bound(schema, sql, whose)?;
    if !lacks.is_empty() {
        return Ok(None);
    }
    Ok(Some(Condition { expr: compile::condition(planning()?, schema, &parsed, sql)? }))
}

/// Names of the attributes that a condition asks for and the user lacks.
pub(super) fn lacking(schema: &Schema, sql: &str, identity: &Identity) -> SqlResult<Vec<String>> {
    bound(schema, sql, Whose::Of(identity)).map(|(_, lacks)| lacks)
}

/// The functions of queries, over no tables.
fn planning() -> SqlResult<&'static SessionState> {
    static STATE: OnceLock<SqlResult<SessionState>> = OnceLock::new();
    STATE.get_or_init(state::conditions).as_ref().map_err(Clone::clone)
}

fn bound(schema: &Schema, sql: &str, whose: Whose<'_>) -> SqlResult<(Expr, Vec<String>)> {
    let mut parsed = statement::expression(sql, &|name| schema.index_of(name).is_ok())?;
    let mut work = Bind { whose, schema, lacks: Vec::new() };
    match ast::VisitMut::visit(&mut parsed, &mut work) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok((parsed, work.lacks)),
    }
}

/// Puts the constants of the user in the place of the calls.
struct Bind<'a> {
    whose: Whose<'a>,
    schema: &'a Schema,
    lacks: Vec<String>,
}

impl ast::VisitorMut for Bind<'_> {
    type Break = SqlError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match self.constant(expr) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(constant)) => {
                *expr = constant;
                ControlFlow::Continue(())
            }
            Err(e) => ControlFlow::Break(e),
        }
    }
}

impl Bind<'_> {
    fn constant(&mut self, expr: &Expr) -> SqlResult<Option<Expr>> {
        let (name, args) = match expr {
            Expr::Function(f) => match f.name.0.as_slice() {
                [part] => match part.as_ident() {
                    Some(ident) if ident.quote_style.is_none() => (&ident.value, Some(&f.args)),
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            },
            Expr::Identifier(ident) if ident.quote_style.is_none() => (&ident.value, None),
            _ => return Ok(None),
        };
        let name = name.to_ascii_lowercase();
        if USER.contains(&name.as_str()) && self.schema.index_of(&name).is_err() {
            let user = match self.whose {
                Whose::Of(identity) => Some(identity.user.clone()),
                Whose::Any => None,
            };
            return Ok(Some(text(user)));
        }
        match args {
            Some(args) if name == ATTRIBUTE => self.attribute(args).map(Some),
            _ => Ok(None),
        }
    }

    fn attribute(&mut self, args: &FunctionArguments) -> SqlResult<Expr> {
        let Some(name) = only_text(args) else {
            let message = "attribute() takes the name of an attribute, as text";
            return Err(SqlError::new(sqlstate::INVALID_PARAMETER, message)
                .with_hint("such as attribute('region')"));
        };
        let Whose::Of(identity) = self.whose else { return Ok(text(None)) };
        let value = identity.attributes.get(name).cloned();
        if value.is_none() {
            self.lacks.push(name.to_owned());
        }
        Ok(text(value))
    }
}

fn only_text(args: &FunctionArguments) -> Option<&str> {
    let FunctionArguments::List(list) = args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = list.args.as_slice()
    else {
        return None;
    };
    match &value.value {
        ast::Value::SingleQuotedString(name) => Some(name),
        _ => None,
    }
}

/// A text as an expression, or a null of that type.
fn text(value: Option<String>) -> Expr {
    let value = value.map_or(ast::Value::Null, ast::Value::SingleQuotedString);
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::value(value)),
        data_type: ast::DataType::Text,
        array: false,
        format: None,
    }
}
