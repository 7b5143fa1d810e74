//! Subqueries that the planner cannot make joins of by itself: those that compare otherwise than by `=`, have a
//! `LIMIT`, stand in a list of results or under `OR`. The subquery is asked once for all values that the rows
//! around it have (its domain), and its answers are joined to them.
//!
//! ```text
//!  Projection: a.x, (SELECT max(b.y) FROM b WHERE b.y < a.x)
//!    a
//!                         ─►  Projection: a.x, v
//!                               Left Join: a.x <=> d
//!                                 a
//!                                 Aggregate: d, max(b.y) AS v       push: the subquery over its domain
//!                                   Filter: b.y < d
//!                                     Cross Join
//!                                       Distinct: a.x AS d          the domain
//!                                         a
//!                                       b
//! ```
//!
//! The method is that of Neumann and Kemper, "Unnesting Arbitrary Queries" (BTW 2015), without its last
//! simplifications.

mod domain;
mod push;
mod value;
mod wider;

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Projection, SubqueryAlias,
};

use crate::error::{SqlError, sqlstate};

/// Whether an error may be the planner's about a subquery that it makes no join of: it has many for that, also about
/// columns that it lost.
pub(crate) fn may_help(e: &SqlError) -> bool {
    ![sqlstate::CANCELED, sqlstate::OUT_OF_MEMORY].contains(&e.sqlstate)
}

/// The plan with all such subqueries joined; none if it has no subquery, or one of a form that cannot be joined.
pub(crate) fn joined(plan: LogicalPlan) -> Option<LogicalPlan> {
    let joined = Joiner::default().all(plan);
    let joined = joined.inspect_err(|e| tracing::debug!(error = %e, "a subquery stays")).ok()?;
    joined.transformed.then_some(joined.data)
}

/// Gives new columns their names.
#[derive(Default)]
struct Joiner {
    named: Cell<usize>,
}

impl Joiner {
    /// A name that no other column has.
    fn name(&self, what: &str) -> String {
        self.named.set(self.named.get().saturating_add(1));
        format!("__{what}{}", self.named.get())
    }

    /// All subqueries of a plan, the innermost first.
    fn all(&self, plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
        plan.transform_up(|node| self.node(node))
    }

    fn node(&self, node: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
        match node {
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Projection(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Sort(_) => {
                if node.expressions().iter().any(asks) {
                    self.expressions(node)
                } else {
                    Ok(Transformed::no(node))
                }
            }
            other => Ok(Transformed::no(other)),
        }
    }

    /// What stands by itself among the conditions can be joined by the planner if it hangs on nothing around it.
    fn filter(&self, filter: Filter) -> DfResult<Transformed<LogicalPlan>> {
        if !asks(&filter.predicate) {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        }
        let Filter { predicate, input, .. } = filter;
        let conditions = split_conjunction_owned(predicate).into_iter();
        let (plain, asking): (Vec<_>, Vec<_>) = conditions.partition(|c| !asks(c) || is_alone(c));
        let mut input = Arc::unwrap_or_clone(input);
        if let Some(plain) = conjunction(plain) {
            input = LogicalPlan::Filter(Filter::try_new(plain, Arc::new(input))?);
        }
        let Some(asking) = conjunction(asking) else { return Ok(Transformed::no(input)) };
        let columns = columns(input.schema());
        let (asking, input) = self.expression(asking, input)?;
        let filter = LogicalPlan::Filter(Filter::try_new(asking, Arc::new(input))?);
        projected(filter, columns).map(Transformed::yes)
    }

    /// The expressions of a node over one input.
    fn expressions(&self, node: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
        let names = NamePreserver::new(&node);
        let shown = columns(node.schema());
        let Some(mut input) = node.inputs().first().map(|input| (*input).clone()) else {
            return Ok(Transformed::no(node));
        };
        let mut exprs = Vec::new();
        for expr in node.expressions() {
            if matches!(expr, Expr::GroupingSet(_)) && asks(&expr) {
                return Err(unknown_form());
            }
            let name = names.save(&expr);
            let (expr, with) = self.expression(expr, input)?;
            input = with;
            exprs.push(name.restore(expr));
        }
        let changed = node.with_new_exprs(exprs, vec![input])?;
        projected(changed, shown).map(Transformed::yes)
    }

    /// An expression whose subqueries are columns of the plan that is given back.
    fn expression(&self, expr: Expr, input: LogicalPlan) -> DfResult<(Expr, LogicalPlan)> {
        let mut over = input;
        let changed = expr.transform_up(|expr| {
            if !is_asking(&expr) {
                return Ok(Transformed::no(expr));
            }
            let (value, plan) = self.value(expr, over.clone())?;
            over = plan;
            Ok(Transformed::yes(value))
        })?;
        Ok((changed.data, over))
    }

    /// `LATERAL`, and conditions of inner joins that ask.
    fn join(&self, join: Join) -> DfResult<Transformed<LogicalPlan>> {
        if is_lateral(&join.right) {
            return self.lateral(join);
        }
        if !join.filter.as_ref().is_some_and(asks) {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        if join.join_type != JoinType::Inner {
            return Err(unknown_form());
        }
        let Join { left, right, on, filter, join_constraint, null_equality, null_aware, .. } = join;
        let kind = JoinType::Inner;
        let join =
            Join::try_new(left, right, on, None, kind, join_constraint, null_equality, null_aware)?;
        let join = LogicalPlan::Join(join);
        let Some(filter) = filter else { return Ok(Transformed::yes(join)) };
        self.filter(Filter::try_new(filter, Arc::new(join))?)
    }

    fn lateral(&self, join: Join) -> DfResult<Transformed<LogicalPlan>> {
        if !matches!(join.join_type, JoinType::Inner | JoinType::Left) || !join.on.is_empty() {
            return Err(unknown_form());
        }
        let shown = columns(&join.schema);
        let right = self.all(opened(Arc::unwrap_or_clone(join.right))?)?.data;
        let left = Arc::unwrap_or_clone(join.left);
        let domain = self.domain(&left, &right)?;
        let right = self.push(right, &domain)?;
        let (filter, kind) = (join.filter, join.join_type);
        projected(domain.joined(left, right, kind, filter)?, shown).map(Transformed::yes)
    }
}

/// Whether a subquery in it hangs on the rows around it, or stands where the planner makes no join of it.
fn asks(expr: &Expr) -> bool {
    expr.exists(|e| Ok(is_asking(e))).unwrap_or(false)
}

fn is_asking(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
        Expr::Exists(_) | Expr::InSubquery(_) => true,
        _ => false,
    }
}

/// A condition that the planner makes a join of as it stands.
fn is_alone(condition: &Expr) -> bool {
    match condition {
        Expr::Not(inner) => is_alone(inner),
        Expr::Exists(exists) => exists.subquery.outer_ref_columns.is_empty(),
        Expr::InSubquery(of) => of.subquery.outer_ref_columns.is_empty() && !asks(&of.expr),
        _ => false,
    }
}

fn is_lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_lateral(&alias.input),
        _ => false,
    }
}

/// What stands behind `LATERAL`.
fn opened(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    Ok(match plan {
        LogicalPlan::Subquery(subquery) => opened(Arc::unwrap_or_clone(subquery.subquery))?,
        LogicalPlan::SubqueryAlias(alias) => {
            let input = opened(Arc::unwrap_or_clone(alias.input))?;
            LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias)?)
        }
        other => other,
    })
}

/// The columns of a plan.
fn columns(schema: &DFSchema) -> Vec<Expr> {
    schema.columns().into_iter().map(Expr::Column).collect()
}

fn projected(plan: LogicalPlan, columns: Vec<Expr>) -> DfResult<LogicalPlan> {
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

/// Refuses a form; the caller then tells the planner's own error.
fn unknown_form() -> DataFusionError {
    DataFusionError::NotImplemented("a subquery of this form".into())
}

fn left_join(left: LogicalPlan, right: LogicalPlan, on: Vec<Expr>) -> DfResult<LogicalPlan> {
    LogicalPlanBuilder::from(left).join_on(right, JoinType::Left, on)?.build()
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}
