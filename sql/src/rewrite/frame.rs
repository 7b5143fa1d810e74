//! Joins and subqueries between an aggregate and the raw rows below it. What they see of a row are atoms: group
//! keys of its states. So a row of states joins, and is kept by a condition, as each of its raw rows would be:
//! states take the place of rows below the joins, and are merged above them. A row that is joined to several
//! others counts as often as its raw rows would.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Aggregate, Expr, Filter, Join, JoinType, LogicalPlan};

use super::calls::{atom_name, column};
use super::chain::{Chain, chain, lowered, resolve};
use super::facts::Simplifier;
#[cfg(test)]
use super::fault::{self, Fault};
use super::report::Refusal;

/// A join on the way from the aggregate to the raw rows.
struct Step {
    join: Join,
    /// Whether the raw rows are on its left.
    left: bool,
}

/// What lies between an aggregate and the raw rows of one table below it.
pub(super) struct Frame {
    /// The top of what lies between the table and the lowest join.
    leaf: LogicalPlan,
    /// From the lowest up.
    joins: Vec<Step>,
    /// Conditions above the joins that rows of the table alone do not decide, over atoms once they are matched.
    residual: Vec<Expr>,
    /// Keys of the aggregate as they are, and over atoms.
    keys: Vec<(Expr, Expr)>,
}

/// The plan of joins, or of the scan, that all between it and an aggregate is expressed over, and the conditions
/// in between.
fn base(top: &LogicalPlan) -> DfResult<Option<(&LogicalPlan, Vec<Expr>)>> {
    let mut conditions = Vec::new();
    let mut node = top;
    loop {
        node = match node {
            LogicalPlan::Filter(filter) => {
                for part in split_conjunction(&filter.predicate) {
                    conditions.push(lowered(part.clone(), &filter.input)?);
                }
                &filter.input
            }
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => &sort.input,
            LogicalPlan::Join(_) | LogicalPlan::TableScan(_) => {
                return Ok(Some((node, conditions)));
            }
            _ => return Ok(None),
        }
    }
}

fn has_subquery(expr: &Expr) -> bool {
    let is_one = |e: &Expr| {
        Ok(matches!(
            e,
            Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
        ))
    };
    expr.exists(is_one).unwrap_or(true)
}

/// Whether each row of the side that is named comes out of a join as often as it has partners, or once, or not
/// at all, with its own values.
fn keeps(join_type: JoinType, left: bool) -> bool {
    #[cfg(test)]
    if fault::has(Fault::NullableSide) {
        return true;
    }
    match join_type {
        JoinType::Inner => true,
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => left,
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti => !left,
        _ => false,
    }
}

/// The leaves below joins that states could stand for: those that lead to a raw table.
fn leaves(node: &LogicalPlan, above: &mut Vec<Step>, found: &mut Vec<(LogicalPlan, Vec<Step>)>) {
    let LogicalPlan::Join(join) = node else {
        if matches!(chain(node), Ok(Ok(Some(_)))) {
            let joins = above.iter().rev();
            let joins = joins.map(|s| Step { join: s.join.clone(), left: s.left }).collect();
            found.push((node.clone(), joins));
        }
        return;
    };
    for (side, left) in [(&join.left, true), (&join.right, false)] {
        if keeps(join.join_type, left) && !join.null_aware {
            above.push(Step { join: join.clone(), left });
            leaves(side, above, found);
            above.pop();
        }
    }
}

/// A way to look at an aggregate as one over the rows of one table.
pub(super) struct View {
    pub(super) frame: Frame,
    /// The table, and all conditions on its rows, over its own columns.
    pub(super) chain: Chain,
}

/// The views of an aggregate over joins or under conditions with subqueries; none if it is of neither kind.
pub(super) fn views(aggregate: &Aggregate) -> DfResult<Vec<View>> {
    let Some((base, conditions)) = base(&aggregate.input)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    match base {
        LogicalPlan::TableScan(_) if !conditions.iter().any(has_subquery) => return Ok(Vec::new()),
        LogicalPlan::TableScan(_) => found.push((base.clone(), Vec::new())),
        _ => leaves(base, &mut Vec::new(), &mut found),
    }
    let mut views = Vec::new();
    for (leaf, joins) in found {
        let Ok(Some(mut chain)) = chain(&leaf)? else { continue };
        let mut frame = Frame { leaf, joins, residual: Vec::new(), keys: Vec::new() };
        for condition in &conditions {
            match frame.owns(condition) {
                true => chain.conditions.push(resolve(condition.clone(), &frame.leaf)?),
                false => frame.residual.push(condition.clone()),
            }
        }
        views.push(View { frame, chain });
    }
    Ok(views)
}

/// Expressions over the table's own columns that the rows of states have to tell, each once.
pub(super) struct Atoms<'a> {
    simplifier: &'a Simplifier,
    pub(super) found: Vec<Expr>,
}

impl<'a> Atoms<'a> {
    pub(super) fn new(simplifier: &'a Simplifier) -> Self {
        Self { simplifier, found: Vec::new() }
    }

    fn place(&mut self, expr: Expr) -> DfResult<Expr> {
        let expr = self.simplifier.simplify(expr)?;
        let place = self.found.iter().position(|known| *known == expr).unwrap_or_else(|| {
            self.found.push(expr);
            self.found.len() - 1
        });
        Ok(column(atom_name(place)))
    }
}

impl Frame {
    fn is_own(&self, column: &Column) -> bool {
        self.leaf.schema().is_column_from_schema(column)
    }

    /// Whether rows of the table alone decide `expr`.
    fn owns(&self, expr: &Expr) -> bool {
        !has_subquery(expr)
            && !expr.contains_outer()
            && expr.column_refs().into_iter().all(|column| self.is_own(column))
    }

    /// `expr`, with atoms for its greatest parts that are of the table.
    fn atomized(&self, expr: Expr, atoms: &mut Atoms<'_>) -> DfResult<Expr> {
        expr.transform_down(|e| {
            if !self.owns(&e) || e.column_refs().is_empty() {
                return Ok(Transformed::no(e));
            }
            let atom = atoms.place(resolve(e.unalias_nested().data, &self.leaf)?)?;
            Ok(Transformed::new(atom, true, TreeNodeRecursion::Jump))
        })
        .data()
    }

    /// Rewrites keys and conditions to atoms. A refusal if one is of a kind that tells more than atoms do.
    pub(super) fn atomize(
        &mut self,
        keys: &[Expr],
        input: &LogicalPlan,
        atoms: &mut Atoms<'_>,
    ) -> DfResult<Result<(), Refusal>> {
        let lowered_keys = keys
            .iter()
            .map(|key| lowered(key.clone().unalias_nested().data, input))
            .collect::<DfResult<Vec<_>>>()?;
        let on = self.joins.iter().flat_map(|s| s.join.on.iter().flat_map(|(l, r)| [l, r]));
        let filters = self.joins.iter().filter_map(|s| s.join.filter.as_ref());
        let all = lowered_keys.iter().chain(&self.residual).chain(on).chain(filters);
        if let Some(refusal) = all.filter_map(reason_against).next() {
            return Ok(Err(refusal));
        }
        for (key, below) in keys.iter().zip(lowered_keys) {
            let found = self.atomized(below, atoms)?;
            self.keys.push((key.clone(), found));
        }
        let residual = std::mem::take(&mut self.residual);
        for condition in residual {
            let condition = self.atomized(condition, atoms)?;
            self.residual.push(condition);
        }
        for place in 0..self.joins.len() {
            let Some(step) = self.joins.get(place) else { continue };
            let (left, on, filter) = (step.left, step.join.on.clone(), step.join.filter.clone());
            let on = on
                .into_iter()
                .map(|(l, r)| match left {
                    true => Ok((self.atomized(l, atoms)?, r)),
                    false => Ok((l, self.atomized(r, atoms)?)),
                })
                .collect::<DfResult<Vec<_>>>()?;
            let filter = filter.map(|filter| self.atomized(filter, atoms)).transpose()?;
            if let Some(step) = self.joins.get_mut(place) {
                (step.join.on, step.join.filter) = (on, filter);
            }
        }
        Ok(Ok(()))
    }

    /// An aggregate call over the table's own columns.
    pub(super) fn call(&self, call: &Expr, input: &LogicalPlan) -> DfResult<Result<Expr, Refusal>> {
        let below = lowered(call.clone().unalias_nested().data, input)?;
        if !self.owns(&below) {
            return Ok(Err(reason_against(&below)
                .unwrap_or_else(|| Refusal::new("an aggregate reads columns of a joined table"))));
        }
        resolve(below, &self.leaf).map(Ok)
    }

    /// Keys of the aggregate, as they are and over the rows of [`Self::assembled`].
    pub(super) fn keys(&self) -> &[(Expr, Expr)] {
        &self.keys
    }

    /// Lets `visit` change what is joined and what subqueries ask.
    pub(super) fn visit_others(
        &mut self,
        visit: &mut dyn FnMut(LogicalPlan) -> DfResult<LogicalPlan>,
    ) -> DfResult<()> {
        for step in &mut self.joins {
            let other = if step.left { &mut step.join.right } else { &mut step.join.left };
            *other = Arc::new(visit(other.as_ref().clone())?);
        }
        for condition in &mut self.residual {
            let changed = condition.clone().transform_up(|e| {
                let inner = |subquery: &mut datafusion::logical_expr::Subquery,
                             visit: &mut dyn FnMut(LogicalPlan) -> DfResult<LogicalPlan>|
                 -> DfResult<()> {
                    subquery.subquery = Arc::new(visit(subquery.subquery.as_ref().clone())?);
                    Ok(())
                };
                Ok(match e {
                    Expr::InSubquery(mut found) => {
                        inner(&mut found.subquery, visit)?;
                        Transformed::yes(Expr::InSubquery(found))
                    }
                    Expr::Exists(mut found) => {
                        inner(&mut found.subquery, visit)?;
                        Transformed::yes(Expr::Exists(found))
                    }
                    Expr::ScalarSubquery(mut found) => {
                        inner(&mut found, visit)?;
                        Transformed::yes(Expr::ScalarSubquery(found))
                    }
                    other => Transformed::no(other),
                })
            })?;
            *condition = changed.data;
        }
        Ok(())
    }

    /// The joins and conditions over `rows` of states in place of the table's.
    pub(super) fn assembled(&self, rows: LogicalPlan) -> DfResult<LogicalPlan> {
        let mut plan = rows;
        for Step { join, left } in &self.joins {
            let (l, r) = match left {
                true => (Arc::new(plan), Arc::clone(&join.right)),
                false => (Arc::clone(&join.left), Arc::new(plan)),
            };
            plan = LogicalPlan::Join(Join::try_new(
                l,
                r,
                join.on.clone(),
                join.filter.clone(),
                join.join_type,
                join.join_constraint,
                join.null_equality,
                join.null_aware,
            )?);
        }
        match conjunction(self.residual.iter().cloned()) {
            Some(condition) => Ok(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?)),
            None => Ok(plan),
        }
    }
}

/// Why an expression above the rows cannot be computed once for many of them.
fn reason_against(expr: &Expr) -> Option<Refusal> {
    let mut reason = None;
    let _visited = expr.apply(|e| {
        reason = match e {
            Expr::OuterReferenceColumn(..) => {
                Some("a correlated subquery aggregates the rows".to_string())
            }
            Expr::SetComparison(_) => Some("a comparison with ANY or ALL of a subquery".into()),
            Expr::InSubquery(f) if !f.subquery.outer_ref_columns.is_empty() => correlated(),
            Expr::Exists(f) if !f.subquery.outer_ref_columns.is_empty() => correlated(),
            Expr::ScalarSubquery(f) if !f.outer_ref_columns.is_empty() => correlated(),
            Expr::ScalarFunction(f) if e.is_volatile_node() => {
                Some(format!("function {}() is not immutable", f.func.name()))
            }
            _ => None,
        };
        Ok(match reason {
            Some(_) => TreeNodeRecursion::Stop,
            None => TreeNodeRecursion::Continue,
        })
    });
    reason.map(Refusal::new)
}

fn correlated() -> Option<String> {
    Some("a correlated subquery stands below the aggregate".into())
}
