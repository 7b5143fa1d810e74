//! The range of time that a query asks for, read from its conditions on the time column.

use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, LogicalPlan, Operator, cast};
use otus_engine::time::DAY_US;

/// A constant bound of time, and microseconds to add: a bound that is itself inside or outside of the range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub(super) struct Bound {
    pub(super) expr: Expr,
    pub(super) plus_us: i64,
}

/// Lower bounds, inclusive, and upper bounds, exclusive; the narrowest of each counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Hash)]
pub(super) struct Range {
    pub(super) lower: Vec<Bound>,
    pub(super) upper: Vec<Bound>,
}

impl Range {
    /// What the conditions below an aggregate say of `time`.
    pub(super) fn of_conditions(
        plan: &LogicalPlan,
        time: &Expr,
        time_type: &DataType,
    ) -> DfResult<Self> {
        let mut range = Self::default();
        let Expr::Column(column) = plain(time) else { return Ok(range) };
        let (mut plan, mut column) = (plan, column.clone());
        loop {
            match plan {
                LogicalPlan::Filter(filter) => {
                    for condition in split_conjunction(&filter.predicate) {
                        range.add(condition, &column, time_type)?;
                    }
                    plan = filter.input.as_ref();
                }
                LogicalPlan::SubqueryAlias(alias) => {
                    let Some(index) = alias.schema.maybe_index_of_column(&column) else {
                        return Ok(range);
                    };
                    plan = alias.input.as_ref();
                    column = Column::from(plan.schema().qualified_field(index));
                }
                LogicalPlan::Projection(projection) => {
                    let index = projection.schema.maybe_index_of_column(&column);
                    let expr = index.and_then(|i| projection.expr.get(i));
                    let Some(Expr::Column(inner)) = expr.map(plain) else { return Ok(range) };
                    column = inner.clone();
                    plan = projection.input.as_ref();
                }
                _ => return Ok(range),
            }
        }
    }

    /// Adds what one condition says of the column, if anything.
    fn add(&mut self, condition: &Expr, column: &Column, time_type: &DataType) -> DfResult<()> {
        let is_time = |e: &Expr| matches!(plain(e), Expr::Column(c) if c == column);
        // The next time after a bound: of dates the next day.
        let next = if *time_type == DataType::Date32 { DAY_US } else { 1 };
        let bound = |e: &Expr, plus_us| Bound { expr: cast(e.clone(), time_type.clone()), plus_us };
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (op, limit) = if is_time(left) && is_constant(right)? {
                    (Some(*op), right)
                } else if is_time(right) && is_constant(left)? {
                    (op.swap(), left)
                } else {
                    return Ok(());
                };
                match op {
                    Some(Operator::GtEq) => self.lower.push(bound(limit, 0)),
                    Some(Operator::Gt) => self.lower.push(bound(limit, next)),
                    Some(Operator::Lt) => self.upper.push(bound(limit, 0)),
                    Some(Operator::LtEq) => self.upper.push(bound(limit, next)),
                    Some(Operator::Eq) => {
                        self.lower.push(bound(limit, 0));
                        self.upper.push(bound(limit, next));
                    }
                    _ => {}
                }
            }
            Expr::Between(Between { expr, negated: false, low, high }) if is_time(expr) => {
                if is_constant(low)? {
                    self.lower.push(bound(low, 0));
                }
                if is_constant(high)? {
                    self.upper.push(bound(high, next));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// An expression without alias, and without a cast from one kind of instant to another.
fn plain(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => plain(&alias.expr),
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(..)) => {
            plain(&cast.expr)
        }
        other => other,
    }
}

/// Whether the value is known before any row is read.
fn is_constant(expr: &Expr) -> DfResult<bool> {
    let mut constant = true;
    expr.apply(|e| {
        constant = !matches!(
            e,
            Expr::Column(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::Placeholder(_)
        ) && !e.is_volatile_node();
        Ok(if constant { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(constant)
}
