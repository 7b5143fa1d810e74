//! From an aggregate down to the raw scan below it: which steps lie between, and what an expression of the
//! aggregate is in terms of the table's own columns.

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::source_as_provider;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};

use super::report::Refusal;
use crate::error::SqlError;
use crate::provider::RawTable;

/// The raw table that a scan reads, if it reads one.
pub(super) fn raw_table(scan: &TableScan) -> Option<RawTable> {
    let provider = source_as_provider(&scan.source).ok()?;
    provider.downcast_ref::<RawTable>().cloned()
}

/// The steps below an aggregate.
pub(super) struct Chain {
    /// The table.
    pub(super) raw: RawTable,
    /// Conditions on rows, over the table's own columns.
    pub(super) conditions: Vec<Expr>,
}

/// Walks down from `top`, the input of an aggregate. `Ok(None)`: the aggregate does not stand over raw rows.
pub(super) fn chain(top: &LogicalPlan) -> DfResult<Result<Option<Chain>, Refusal>> {
    let mut filters = Vec::new();
    let mut node = top;
    let stands = |what: &str| Ok(Err(Refusal::new(format!("{what} stands below the aggregate"))));
    loop {
        node = match node {
            LogicalPlan::Filter(filter) => {
                filters.push(filter);
                &filter.input
            }
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => &sort.input,
            LogicalPlan::TableScan(scan) => {
                let Some(raw) = raw_table(scan) else { return Ok(Ok(None)) };
                if scan.fetch.is_some() || !scan.filters.is_empty() {
                    return stands("a bounded scan");
                }
                let mut conditions = Vec::new();
                for filter in filters {
                    for part in split_conjunction(&filter.predicate) {
                        conditions.push(resolve(part.clone(), &filter.input)?);
                    }
                }
                return Ok(Ok(Some(Chain { raw, conditions })));
            }
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => return Ok(Ok(None)),
            LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => return stands("LIMIT"),
            LogicalPlan::Join(_) => return stands("a join"),
            LogicalPlan::Union(_) => return stands("UNION"),
            LogicalPlan::Window(_) => return stands("a window function"),
            LogicalPlan::Unnest(_) => return stands("unnest()"),
            _ => return Ok(Ok(None)),
        }
    }
}

/// `expr`, which stands above `node`, over the columns of the raw table below.
pub(super) fn resolve(expr: Expr, node: &LogicalPlan) -> DfResult<Expr> {
    replaced(lowered(expr, node)?, &|column| {
        Ok(Expr::Column(Column::new_unqualified(&column.name)))
    })
}

/// `expr`, which stands above `node`, over the columns of the scan or join below.
pub(super) fn lowered(expr: Expr, node: &LogicalPlan) -> DfResult<Expr> {
    match node {
        LogicalPlan::Filter(filter) => lowered(expr, &filter.input),
        LogicalPlan::Sort(sort) => lowered(expr, &sort.input),
        LogicalPlan::SubqueryAlias(alias) => {
            let expr = replaced(expr, &|column| {
                let place = alias.schema.index_of_column(column)?;
                let found = alias.input.schema().columns().into_iter().nth(place);
                found.map(Expr::Column).ok_or_else(lost)
            })?;
            lowered(expr, &alias.input)
        }
        LogicalPlan::Projection(projection) => {
            let expr = replaced(expr, &|column| {
                let place = projection.schema.index_of_column(column)?;
                let found = projection.expr.get(place).ok_or_else(lost)?;
                Ok(found.clone().unalias_nested().data)
            })?;
            lowered(expr, &projection.input)
        }
        LogicalPlan::TableScan(_) | LogicalPlan::Join(_) => Ok(expr),
        _ => Err(lost()),
    }
}

fn lost() -> DataFusionError {
    DataFusionError::from(SqlError::internal("a column has lost its table"))
}

fn replaced(expr: Expr, with: &dyn Fn(&Column) -> DfResult<Expr>) -> DfResult<Expr> {
    expr.transform_up(|e| match e {
        Expr::Column(column) => with(&column).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// The raw tables that are scanned below a node, not looking below another aggregate.
pub(super) fn tables_below(node: &LogicalPlan, found: &mut Vec<RawTable>) {
    match node {
        LogicalPlan::TableScan(scan) => found.extend(raw_table(scan)),
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => {}
        other => {
            for input in other.inputs() {
                tables_below(input, found);
            }
        }
    }
}
