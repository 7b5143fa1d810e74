//! A subquery in an expression, as a column that is joined.

use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{
    Expr, FetchType, JoinType, LogicalPlan, LogicalPlanBuilder, SkipType, Subquery, lit, when,
};

use super::domain::Domain;
use super::{Joiner, column, projected, unknown_form};
use crate::single;

impl Joiner {
    /// What a subquery gives for each row of a plan: an expression over the plan that is given back.
    pub(super) fn value(&self, asking: Expr, over: LogicalPlan) -> DfResult<(Expr, LogicalPlan)> {
        match asking {
            Expr::ScalarSubquery(subquery) => self.scalar(subquery, over),
            Expr::Exists(Exists { subquery, negated }) => {
                let (found, over) = self.exists(subquery, over)?;
                Ok((if negated { found.is_null() } else { found.is_not_null() }, over))
            }
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                let (found, over) = self.contains(*expr, subquery, over)?;
                Ok((if negated { Expr::Not(Box::new(found)) } else { found }, over))
            }
            _ => Err(unknown_form()),
        }
    }

    /// The subquery over its domain.
    fn asked(&self, inner: LogicalPlan, over: &LogicalPlan) -> DfResult<(LogicalPlan, Domain)> {
        let inner = self.all(inner)?.data;
        let domain = self.domain(over, &inner)?;
        Ok((self.push(inner, &domain)?, domain))
    }

    fn scalar(&self, subquery: Subquery, over: LogicalPlan) -> DfResult<(Expr, LogicalPlan)> {
        let inner = std::sync::Arc::unwrap_or_clone(subquery.subquery);
        let has_one = inner.max_rows().is_some_and(|rows| rows <= 1);
        let only = only_column(&inner)?;
        let (found, domain) = self.asked(inner, &over)?;
        let name = self.name("v");
        let mut columns = domain.values();
        if has_one {
            columns.push(Expr::Column(only).alias(&name));
            let found = projected(found, columns)?;
            return Ok((column(&name), domain.joined(over, found, JoinType::Left, None)?));
        }
        let gathered = single::gathering(Expr::Column(only)).alias(&name);
        let found = LogicalPlanBuilder::from(found).aggregate(columns, [gathered])?.build()?;
        let over = domain.joined(over, found, JoinType::Left, None)?;
        Ok((single::only(column(&name)), over))
    }

    /// A column that is null where the subquery has no row.
    fn exists(&self, subquery: Subquery, over: LogicalPlan) -> DfResult<(Expr, LogicalPlan)> {
        let inner = without_limit(std::sync::Arc::unwrap_or_clone(subquery.subquery))?;
        let (found, domain) = self.asked(inner, &over)?;
        let name = self.name("e");
        let mut columns = domain.values();
        columns.push(lit(true).alias(&name));
        let found = projected(found, columns)?;
        let found = LogicalPlanBuilder::from(found).distinct()?.build()?;
        Ok((column(&name), domain.joined(over, found, JoinType::Left, None)?))
    }

    /// `x IN (SELECT …)`: true if it is there; else null if `x` or any value is null and there are rows.
    fn contains(
        &self,
        value: Expr,
        subquery: Subquery,
        over: LogicalPlan,
    ) -> DfResult<(Expr, LogicalPlan)> {
        let inner = std::sync::Arc::unwrap_or_clone(subquery.subquery);
        let only = Expr::Column(only_column(&inner)?);
        let (found, domain) = self.asked(inner, &over)?;
        let (rows, known) = (self.name("n"), self.name("n"));
        let counts = [count(lit(1_i64)).alias(&rows), count(only.clone()).alias(&known)];
        let counted = LogicalPlanBuilder::from(found.clone()).aggregate(domain.values(), counts)?;
        let over = domain.joined(over, counted.build()?, JoinType::Left, None)?;

        let others = self.again(&domain)?;
        let (member, there) = (self.name("m"), self.name("e"));
        let pairs = domain.values().into_iter().zip(others.names_owned());
        let mut columns: Vec<Expr> = pairs.map(|(old, new)| old.alias(new)).collect();
        columns.push(only.alias(&member));
        columns.push(lit(true).alias(&there));
        let members = projected(found, columns)?;
        let members = LogicalPlanBuilder::from(members).distinct()?.build()?;
        let over = others.matched(over, members, value.clone().eq(column(&member)))?;

        let unknown = value.is_null().or(column(&known).lt(column(&rows)));
        let is_empty = column(&rows).is_null().or(column(&rows).eq(lit(0_i64)));
        let found = when(column(&there).is_not_null(), lit(true))
            .when(is_empty, lit(false))
            .when(unknown, lit(ScalarValue::Boolean(None)))
            .otherwise(lit(false))?;
        Ok((found, over))
    }
}

fn only_column(plan: &LogicalPlan) -> DfResult<Column> {
    let mut columns = plan.schema().columns();
    match columns.pop() {
        Some(only) if columns.is_empty() => Ok(only),
        _ => Err(unknown_form()),
    }
}

/// Whether there is a row does not hang on a limit of one or more.
fn without_limit(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let LogicalPlan::Limit(limit) = &plan else { return Ok(plan) };
    let skips = !matches!(limit.get_skip_type()?, SkipType::Literal(0));
    let none =
        matches!(limit.get_fetch_type()?, FetchType::Literal(Some(0)) | FetchType::UnsupportedExpr);
    if skips || none { Ok(plan) } else { Ok(limit.input.as_ref().clone()) }
}
