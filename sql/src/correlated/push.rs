//! A subquery for each value of its domain: the domain is joined to its tables, and goes with the rows up to its top.

use std::sync::Arc;

use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::Result as DfResult;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::{AggregateFunction, Sort as SortExpr};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, EmptyRelation, Expr, ExprFunctionExt, ExprSchemable,
    FetchType, Filter, Join, Limit, LogicalPlan, LogicalPlanBuilder, Projection, SkipType,
    SubqueryAlias, Union, Unnest, Values, Window, lit, when,
};

use super::domain::Domain;
use super::{Joiner, columns, left_join, projected, unknown_form};

impl Joiner {
    /// The plan with the domain's columns besides its own, its rows once for each value for which it has them.
    pub(super) fn push(&self, plan: LogicalPlan, domain: &Domain) -> DfResult<LogicalPlan> {
        if domain.is_empty() {
            return Ok(plan);
        }
        if !domain.is_named_in(&plan)? {
            return LogicalPlanBuilder::from(domain.plan().clone()).cross_join(plan)?.build();
        }
        let below = |input: Arc<LogicalPlan>| self.push(Arc::unwrap_or_clone(input), domain);
        match plan {
            LogicalPlan::Filter(filter) => {
                let predicate = domain.in_place(filter.predicate)?;
                let input = below(filter.input)?;
                Ok(LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?))
            }
            LogicalPlan::Projection(projection) => {
                let exprs = renamed(&LogicalPlan::Projection(projection.clone()), domain)?;
                let input = below(projection.input)?;
                projected(input, domain.values().into_iter().chain(exprs).collect())
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let SubqueryAlias { input, alias, .. } = alias;
                let own = input.schema().columns();
                let input = below(input)?;
                let own = own.into_iter().map(|c| {
                    let name = c.name.clone();
                    Expr::Column(c).alias_qualified(Some(alias.clone()), name)
                });
                projected(input, domain.values().into_iter().chain(own).collect())
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, domain),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                LogicalPlanBuilder::from(below(input)?).distinct()?.build()
            }
            LogicalPlan::Distinct(Distinct::On(on)) => self.distinct_on(on, domain),
            // The order is lost in a join anyway; where it decides what is kept, see `limit`.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => below(sort.input),
            LogicalPlan::Limit(limit) => self.limit(limit, domain),
            LogicalPlan::Window(window) => self.window(window, domain),
            LogicalPlan::Join(join) => self.pushed_join(join, domain),
            LogicalPlan::Union(union) => self.union(union, domain),
            LogicalPlan::Unnest(unnest) => {
                let Unnest { input, exec_columns, options, .. } = unnest;
                let unnest = Unnest::try_new(Arc::new(below(input)?), exec_columns, options)?;
                Ok(LogicalPlan::Unnest(unnest))
            }
            LogicalPlan::Values(values) => self.push(rows_apart(values)?, domain),
            _ => Err(unknown_form()),
        }
    }

    /// Groups within each value. Without keys there is a row for each value, whether it has rows or not.
    fn aggregate(&self, aggregate: Aggregate, domain: &Domain) -> DfResult<LogicalPlan> {
        let is_set = |e: &Expr| matches!(e, Expr::GroupingSet(_));
        if aggregate.group_expr.iter().any(is_set) {
            return Err(unknown_form());
        }
        let whole = LogicalPlan::Aggregate(aggregate.clone());
        let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
        let grouped = |domain: &Domain| -> DfResult<LogicalPlan> {
            let mut exprs = renamed(&whole, domain)?.into_iter();
            let keys: Vec<Expr> = exprs.by_ref().take(group_expr.len()).collect();
            let keys = domain.values().into_iter().chain(keys);
            let input = self.push(input.as_ref().clone(), domain)?;
            LogicalPlanBuilder::from(input).aggregate(keys, exprs)?.build()
        };
        if !group_expr.is_empty() {
            return grouped(domain);
        }
        let others = self.again(domain)?;
        let found = grouped(&others)?;
        let all = left_join(domain.plan().clone(), found, domain.same(&others))?;
        let mut shown = domain.values();
        for (expr, column) in aggr_expr.iter().zip(schema.columns()) {
            shown.push(over_no_row(expr, &column, &schema)?);
        }
        projected(all, shown)
    }

    fn distinct_on(&self, on: DistinctOn, domain: &Domain) -> DfResult<LogicalPlan> {
        let in_place = |exprs: Vec<Expr>| -> DfResult<Vec<Expr>> {
            let exprs = exprs.into_iter().map(|e| domain.in_place(e));
            domain.values().into_iter().map(Ok).chain(exprs).collect()
        };
        let DistinctOn { on_expr, select_expr, sort_expr, input, .. } = on;
        let sort = sort_expr.map(|sort| -> DfResult<Vec<SortExpr>> {
            let first = domain.values().into_iter().map(|v| Ok(v.sort(true, false)));
            first.chain(in_place_sort(sort, domain)).collect()
        });
        let input = self.push(Arc::unwrap_or_clone(input), domain)?;
        LogicalPlanBuilder::from(input)
            .distinct_on(in_place(on_expr)?, in_place(select_expr)?, sort.transpose()?)?
            .build()
    }

    /// The first rows of each value.
    fn limit(&self, limit: Limit, domain: &Domain) -> DfResult<LogicalPlan> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
            (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return Err(unknown_form());
        };
        let Limit { skip: skipped, fetch: fetched, input } = limit;
        let under =
            |input| Arc::new(LogicalPlan::Limit(Limit { skip: skipped, fetch: fetched, input }));
        let (input, order) = match Arc::unwrap_or_clone(input) {
            // What is computed of a row does not hang on which rows there are.
            LogicalPlan::Projection(Projection { expr, input, .. }) => {
                let plan = Projection::try_new(expr, under(input))?;
                return self.push(LogicalPlan::Projection(plan), domain);
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
                let plan = SubqueryAlias::try_new(under(input), alias)?;
                return self.push(LogicalPlan::SubqueryAlias(plan), domain);
            }
            LogicalPlan::Sort(sort) => (Arc::unwrap_or_clone(sort.input), sort.expr),
            other => (other, Vec::new()),
        };
        let order = in_place_sort(order, domain).collect::<DfResult<Vec<_>>>()?;
        let pushed = self.push(input, domain)?;
        let shown = columns(pushed.schema());
        let numbered = row_number().partition_by(domain.values());
        let numbered =
            if order.is_empty() { numbered.build()? } else { numbered.order_by(order).build()? };
        let number = Expr::Column(Column::new_unqualified(numbered.schema_name().to_string()));
        let plan = LogicalPlanBuilder::from(pushed).window([numbered])?.build()?;
        let place = |rows: usize| lit(u64::try_from(rows).unwrap_or(u64::MAX));
        let mut kept = number.clone().gt(place(skip));
        if let Some(fetch) = fetch {
            kept = kept.and(number.lt_eq(place(skip.saturating_add(fetch))));
        }
        projected(LogicalPlan::Filter(Filter::try_new(kept, Arc::new(plan))?), shown)
    }

    fn window(&self, window: Window, domain: &Domain) -> DfResult<LogicalPlan> {
        let own = columns(window.input.schema());
        let input = self.push(Arc::unwrap_or_clone(window.input), domain)?;
        let (mut within, mut shown) = (Vec::new(), domain.values());
        shown.extend(own);
        for expr in window.window_expr {
            let name = expr.schema_name().to_string();
            let Expr::WindowFunction(mut call) = domain.in_place(expr.unalias())? else {
                return Err(unknown_form());
            };
            call.params.partition_by.extend(domain.values());
            let call = Expr::WindowFunction(call);
            let column = Column::new_unqualified(call.schema_name().to_string());
            shown.push(Expr::Column(column).alias(name));
            within.push(call);
        }
        projected(LogicalPlanBuilder::from(input).window(within)?.build()?, shown)
    }

    /// The domain goes to the side that names it, and always to that which keeps its rows.
    fn pushed_join(&self, join: Join, domain: &Domain) -> DfResult<LogicalPlan> {
        let Join { left, right, on, filter, join_type, join_constraint, null_equality, .. } = join;
        let kinds = [JoinType::Inner, JoinType::Left, JoinType::LeftSemi, JoinType::LeftAnti];
        if !kinds.contains(&join_type) || join.null_aware {
            return Err(unknown_form());
        }
        let on = on.into_iter();
        let on = on.map(|(l, r)| Ok((domain.in_place(l)?, domain.in_place(r)?)));
        let on = on.collect::<DfResult<Vec<_>>>()?;
        let mut conditions: Vec<Expr> =
            filter.map(|f| domain.in_place(f)).transpose()?.into_iter().collect();
        let right_names = domain.is_named_in(&right)?;
        let left_alone =
            join_type == JoinType::Inner && right_names && !domain.is_named_in(&left)?;
        let (left, right) = match (left_alone, right_names) {
            (true, _) => (left, Arc::new(self.push(Arc::unwrap_or_clone(right), domain)?)),
            (false, names) => {
                let left = Arc::new(self.push(Arc::unwrap_or_clone(left), domain)?);
                let right = match names {
                    true => {
                        let others = self.again(domain)?;
                        conditions.extend(domain.same(&others));
                        Arc::new(self.push(Arc::unwrap_or_clone(right), &others)?)
                    }
                    false => right,
                };
                (left, right)
            }
        };
        let filter = conditions.into_iter().reduce(Expr::and);
        let constraint = join_constraint;
        let join =
            Join::try_new(left, right, on, filter, join_type, constraint, null_equality, false)?;
        Ok(LogicalPlan::Join(join))
    }

    fn union(&self, union: Union, domain: &Domain) -> DfResult<LogicalPlan> {
        let names = union.schema.columns();
        let inputs = union.inputs.into_iter().map(|input| {
            let own = columns(input.schema());
            let named = own.into_iter().zip(&names);
            let named = named.map(|(own, c)| own.alias_qualified(c.relation.clone(), &c.name));
            let pushed = self.push(Arc::unwrap_or_clone(input), domain)?;
            let shown = domain.values().into_iter().chain(named.collect::<Vec<_>>());
            projected(pushed, shown.collect()).map(Arc::new)
        });
        let inputs = inputs.collect::<DfResult<Vec<_>>>()?;
        Ok(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?))
    }
}

/// The expressions of a node over the domain, under the names that they had.
fn renamed(node: &LogicalPlan, domain: &Domain) -> DfResult<Vec<Expr>> {
    let names = NamePreserver::new(node);
    let exprs = node.expressions().into_iter().map(|expr| {
        let name = names.save(&expr);
        Ok(name.restore(domain.in_place(expr)?))
    });
    exprs.collect()
}

fn in_place_sort(
    sort: Vec<SortExpr>,
    domain: &Domain,
) -> impl Iterator<Item = DfResult<SortExpr>> + '_ {
    sort.into_iter().map(|s| Ok(SortExpr { expr: domain.in_place(s.expr)?, ..s }))
}

/// An aggregate's column, as it is over no row where the join found none.
fn over_no_row(expr: &Expr, column: &Column, schema: &DFSchema) -> DfResult<Expr> {
    let Expr::AggregateFunction(AggregateFunction { func, .. }) = expr.clone().unalias() else {
        return Err(unknown_form());
    };
    let own = Expr::Column(column.clone());
    let default = func.default_value(&own.get_type(schema)?)?;
    if default.is_null() {
        return Ok(own);
    }
    let filled = when(own.clone().is_null(), lit(default)).otherwise(own)?;
    Ok(filled.alias_qualified(column.relation.clone(), &column.name))
}

/// `VALUES` as a union of its rows.
fn rows_apart(values: Values) -> DfResult<LogicalPlan> {
    let names = values.schema.columns();
    let one = EmptyRelation { produce_one_row: true, schema: Arc::new(DFSchema::empty()) };
    let one = LogicalPlan::EmptyRelation(one);
    let rows = values.values.into_iter().map(|row| {
        let named = row.into_iter().zip(&names).map(|(value, c)| value.alias(&c.name));
        projected(one.clone(), named.collect())
    });
    let mut rows = rows.collect::<DfResult<Vec<_>>>()?;
    if rows.len() == 1 {
        return rows.pop().ok_or_else(unknown_form);
    }
    let rows = rows.into_iter().map(Arc::new).collect();
    Ok(LogicalPlan::Union(Union::try_new_with_loose_types(rows)?))
}
