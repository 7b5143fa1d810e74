//! The values that the rows around a subquery have, of the columns that it names.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, LogicalPlan, LogicalPlanBuilder, Operator, WindowFrameUnits, lit,
};

use super::wider::wider;
use super::{Joiner, column, projected};

/// See the module. Without columns it says that a subquery hangs on nothing.
pub(super) struct Domain {
    /// The distinct values, perhaps with some that no row has, each column under a name that nothing else has.
    plan: LogicalPlan,
    /// Columns around, and their names here.
    columns: Vec<(Column, String)>,
}

impl Joiner {
    /// What `inner` asks of the rows of `around`.
    pub(super) fn domain(&self, around: &LogicalPlan, inner: &LogicalPlan) -> DfResult<Domain> {
        let mut columns: Vec<(Column, String)> = Vec::new();
        each_outer(inner, &mut |column| {
            let known = columns.iter().any(|(c, _)| c == column);
            if !known && around.schema().has_column(column) {
                columns.push((column.clone(), self.name("d")));
            }
        })?;
        let named: Vec<Column> = columns.iter().map(|(c, _)| c.clone()).collect();
        let around = match columns.is_empty() {
            true => around.clone(),
            false => wider(around.clone(), &named)?,
        };
        let values = columns.iter().map(|(c, name)| Expr::Column(c.clone()).alias(name));
        let plan = projected(around, values.collect())?;
        let plan = LogicalPlan::Distinct(Distinct::All(Arc::new(plan)));
        Ok(Domain { plan, columns })
    }

    /// The same values under other names.
    pub(super) fn again(&self, domain: &Domain) -> DfResult<Domain> {
        let columns: Vec<_> =
            domain.columns.iter().map(|(c, _)| (c.clone(), self.name("d"))).collect();
        let named = domain.names().zip(&columns).map(|(old, (_, new))| column(old).alias(new));
        let plan = projected(domain.plan.clone(), named.collect())?;
        Ok(Domain { plan, columns })
    }
}

impl Domain {
    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Its columns' names.
    pub(super) fn names_owned(&self) -> Vec<String> {
        self.names().map(str::to_owned).collect()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(_, name)| name.as_str())
    }

    /// Its columns where it has been pushed to.
    pub(super) fn values(&self) -> Vec<Expr> {
        self.names().map(column).collect()
    }

    pub(super) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    /// Whether a plan names any of its columns.
    pub(super) fn is_named_in(&self, plan: &LogicalPlan) -> DfResult<bool> {
        let mut found = false;
        each_outer(plan, &mut |column| found |= self.columns.iter().any(|(c, _)| c == column))?;
        Ok(found)
    }

    /// The expression with columns of the domain in place of those around.
    pub(super) fn in_place(&self, expr: Expr) -> DfResult<Expr> {
        expr.transform_up(|e| {
            let Expr::OuterReferenceColumn(_, of) = &e else { return Ok(Transformed::no(e)) };
            let known = self.columns.iter().find(|(c, _)| c == of);
            Ok(match known {
                Some((_, name)) => Transformed::yes(column(name)),
                None => Transformed::no(e),
            })
        })
        .data()
    }

    /// That two plans to which it was pushed, once under other names, are about the same values.
    pub(super) fn same(&self, other: &Self) -> Vec<Expr> {
        self.values().into_iter().zip(other.values()).map(|(a, b)| same(a, b)).collect()
    }

    /// Rows, and what was found for their values.
    pub(super) fn joined(
        &self,
        rows: LogicalPlan,
        found: LogicalPlan,
        kind: JoinType,
        filter: Option<Expr>,
    ) -> DfResult<LogicalPlan> {
        let rows = LogicalPlanBuilder::from(rows);
        if self.is_empty() {
            return rows.join_on(found, kind, [filter.unwrap_or_else(|| lit(true))])?.build();
        }
        let around: Vec<_> = self.columns.iter().map(|(c, _)| c.clone()).collect();
        let here: Vec<_> = self.names().map(Column::new_unqualified).collect();
        let equality = NullEquality::NullEqualsNull;
        match filter {
            None => rows.join_detailed(found, kind, (around, here), None, equality)?.build(),
            // Keys of a condition would be taken for equal where they are null.
            Some(filter) => {
                let pairs = around.into_iter().zip(here);
                let pairs = pairs.map(|(a, b)| same(Expr::Column(a), Expr::Column(b)));
                rows.join_on(found, kind, pairs.chain([filter]))?.build()
            }
        }
    }

    /// As [`Self::joined`], with a condition that pairs them besides.
    pub(super) fn matched(
        &self,
        rows: LogicalPlan,
        found: LogicalPlan,
        condition: Expr,
    ) -> DfResult<LogicalPlan> {
        self.joined(rows, found, JoinType::Left, Some(condition))
    }
}

fn same(left: Expr, right: Expr) -> Expr {
    let (left, right) = (Box::new(left), Box::new(right));
    Expr::BinaryExpr(BinaryExpr { left, op: Operator::IsNotDistinctFrom, right })
}

/// Calls `seen` with each column of rows around that a plan names.
fn each_outer(plan: &LogicalPlan, seen: &mut dyn FnMut(&Column)) -> DfResult<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if let Expr::OuterReferenceColumn(_, column) = e {
                    seen(column);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

/// Whether a window gives rows that are ordered alike the same, whichever comes first.
fn is_settled(expr: &Expr) -> bool {
    let Expr::WindowFunction(call) = expr.clone().unalias() else { return false };
    let frame = &call.params.window_frame;
    let whole = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
    match call.fun.name() {
        "rank" | "dense_rank" | "percent_rank" | "cume_dist" => true,
        "count" | "min" | "max" => whole || frame.units != WindowFrameUnits::Rows,
        _ => false,
    }
}

/// Whether a plan that runs twice gives the same rows both times: what it keeps of ties, and how floats are
/// summed, may differ.
pub(super) fn is_repeatable(plan: &LogicalPlan) -> DfResult<bool> {
    let mut repeatable = true;
    plan.apply_with_subqueries(|node| {
        let known = matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::Join(_)
                | LogicalPlan::Union(_)
                | LogicalPlan::TableScan(_)
                | LogicalPlan::EmptyRelation(_)
                | LogicalPlan::Subquery(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::Values(_)
                | LogicalPlan::Distinct(Distinct::All(_))
                | LogicalPlan::Unnest(_)
                | LogicalPlan::Aggregate(_)
        );
        repeatable &= match node {
            // A sort without a limit keeps all rows.
            LogicalPlan::Sort(sort) => sort.fetch.is_none(),
            LogicalPlan::Window(window) => window.window_expr.iter().all(is_settled),
            _ => known,
        };
        if let LogicalPlan::Aggregate(aggregate) = node {
            let floats = aggregate.schema.fields().iter().any(|f| f.data_type().is_floating());
            repeatable &= !floats;
        }
        node.apply_expressions(|expr| {
            repeatable &= !expr.is_volatile();
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(repeatable)
}
