//! A call becomes a subquery: the query's own tree with placeholders of this call, whose values are put in
//! once the statement is planned. No text is made anywhere.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    self, FunctionArg, Ident, ObjectName, ObjectNamePart, Query, TableAlias, TableFactor,
};

use super::argument::{Argument, arguments};
use super::{NamedQueries, NamedQuery, placeholder};
use crate::catalog::PUBLIC_SCHEMA;
use crate::error::{SqlError, SqlResult};
use crate::statement::folded;

/// Values by placeholder, with `$`.
pub(crate) type Values = HashMap<String, ScalarValue>;

/// Puts the queries in the place of their calls.
pub(crate) fn expand(
    state: &SessionState,
    queries: &NamedQueries,
    statement: &mut ast::Statement,
) -> SqlResult<Values> {
    let mut work = Expand { state, queries, values: Values::new(), calls: 0 };
    match ast::VisitMut::visit(statement, &mut work) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(work.values),
    }
}

/// Plans a query by itself, with a value for each parameter.
pub(crate) async fn plan(
    state: &SessionState,
    query: &NamedQuery,
    given: Vec<ScalarValue>,
) -> SqlResult<LogicalPlan> {
    let mut values = Values::new();
    let arguments = given.into_iter().map(Argument::Value).collect();
    let body = called(query, arguments, 0, &mut values);
    let mut statement = ast::Statement::Query(Box::new(body));
    crate::merged::named(state, &mut statement).await?;
    crate::star::resolved(state, &mut statement).await?;
    let statement = DfStatement::Statement(Box::new(statement));
    let plan =
        state.statement_to_plan(statement).await.map_err(|e| crate::error::of_planner(&e))?;
    with_values(plan, &values).map_err(SqlError::from)
}

struct Expand<'a> {
    state: &'a SessionState,
    queries: &'a NamedQueries,
    values: Values,
    calls: usize,
}

impl ast::VisitorMut for Expand<'_> {
    type Break = SqlError;

    // Afterwards, so that the query that is put in is not looked at again.
    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
        let (name, args, alias) = match &mut *factor {
            TableFactor::Table { name, alias, args: Some(args), .. } => (name, &args.args, alias),
            TableFactor::Function { name, alias, args, .. } => (name, &*args, alias),
            _ => return ControlFlow::Continue(()),
        };
        let Some((query, shown)) = self.query(name) else { return ControlFlow::Continue(()) };
        let subquery = match self.call(&query, args) {
            Ok(subquery) => Box::new(subquery),
            Err(e) => return ControlFlow::Break(e),
        };
        let alias = alias.take().unwrap_or_else(|| TableAlias {
            explicit: true,
            name: shown,
            columns: Vec::new(),
            at: None,
        });
        *factor =
            TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
        ControlFlow::Continue(())
    }
}

impl Expand<'_> {
    fn query(&self, name: &ObjectName) -> Option<(std::sync::Arc<NamedQuery>, Ident)> {
        let last = match name.0.as_slice() {
            [ObjectNamePart::Identifier(name)] => name,
            [ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(name)]
                if folded(schema) == PUBLIC_SCHEMA =>
            {
                name
            }
            _ => return None,
        };
        let name = folded(last);
        let query = self.queries.find(&name)?;
        Some((std::sync::Arc::clone(query), Ident::with_quote('"', name)))
    }

    fn call(&mut self, query: &NamedQuery, args: &[FunctionArg]) -> SqlResult<Query> {
        self.calls += 1;
        let arguments = arguments(self.state, query, args)?;
        Ok(called(query, arguments, self.calls, &mut self.values))
    }
}

/// The query of one call.
fn called(query: &NamedQuery, arguments: Vec<Argument>, call: usize, values: &mut Values) -> Query {
    let names = query.def.parameters.iter().map(|p| p.name.clone());
    let arguments: HashMap<String, Argument> = names.zip(arguments).collect();
    let id = |name: &str| format!("$otus_{call}_{name}");
    let mut body = query.query.clone();
    let _flow = ast::visit_expressions_mut(&mut body, |expr| {
        if let Some(name) = placeholder(expr) {
            match arguments.get(name) {
                Some(Argument::Open(given)) => *expr = ast::Expr::Nested(given.clone()),
                Some(Argument::Value(_)) => {
                    *expr = ast::Expr::value(ast::Value::Placeholder(id(name)));
                }
                None => {}
            }
        }
        ControlFlow::<()>::Continue(())
    });
    for (name, argument) in arguments {
        if let Argument::Value(value) = argument {
            values.insert(id(&name), value);
        }
    }
    body
}

/// The plan with the values in their places; other placeholders stay.
pub(crate) fn with_values(plan: LogicalPlan, values: &Values) -> DfResult<LogicalPlan> {
    if values.is_empty() {
        return Ok(plan);
    }
    plan.transform_up_with_subqueries(|plan| {
        let preserver = NamePreserver::new(&plan);
        let replaced = plan.map_expressions(|expr| {
            let name = preserver.save(&expr);
            let replaced = expr.transform_up(|e| match &e {
                Expr::Placeholder(p) => match values.get(&p.id) {
                    Some(value) => Ok(Transformed::yes(Expr::Literal(value.clone(), None))),
                    None => Ok(Transformed::no(e)),
                },
                _ => Ok(Transformed::no(e)),
            })?;
            // Above it the expression goes by the name that it was planned with.
            Ok(match replaced.transformed {
                true => replaced.update_data(|expr| name.restore(expr)),
                false => replaced,
            })
        })?;
        if !replaced.transformed {
            return Ok(replaced);
        }
        replaced.map_data(|plan| match plan {
            LogicalPlan::Values(values) => {
                datafusion::logical_expr::LogicalPlanBuilder::values(values.values)?.build()
            }
            plan => plan.recompute_schema(),
        })
    })
    .data()
}
