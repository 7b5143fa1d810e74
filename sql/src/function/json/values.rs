//! jsonb by its value: what compares, sorts or groups it does so by keys of the values, whatever their texts; a cast to text
//! gives the text that Postgres shows; and a cast to another type is of that type alone.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{BinaryExpr, Cast, InList};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprSchemable, LogicalPlan, Projection, Sort,
};
use datafusion::optimizer::AnalyzerRule;
use otus_engine::types::PG_TYPE_KEY;

use super::super::marked::known_jsonb;
use super::functions::named;
use super::{EQUAL, KEY, TEXT_OF, is_text};
use crate::analyze::{compares, map_expressions};
use crate::error::SqlError;

/// See the module. To run before types are coerced.
#[derive(Debug)]
pub(crate) struct JsonbValues;

impl AnalyzerRule for JsonbValues {
    fn name(&self) -> &'static str {
        "jsonb_values"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        let mut is_marked = false;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                is_marked |= expr.exists(|e| Ok(may_be_marked(e)))?;
                Ok(TreeNodeRecursion::Continue)
            })?;
            let fields = node.schema().fields();
            is_marked |= fields.iter().any(|field| field.metadata().contains_key(PG_TYPE_KEY));
            Ok(if is_marked { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !is_marked {
            return Ok(plan);
        }
        let plan = map_expressions(plan, &by_value)?;
        Ok(plan.transform_up_with_subqueries(node_by_value)?.data)
    }
}

/// Whether an expression may give a value of a marked type that no column has.
fn may_be_marked(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(_))
}

fn mark_of(expr: &Expr, schema: &DFSchema) -> Option<String> {
    let (_, field) = expr.to_field(schema).ok()?;
    field.metadata().get(PG_TYPE_KEY).cloned()
}

fn is_jsonb(expr: &Expr, schema: &DFSchema) -> bool {
    mark_of(expr, schema).is_some_and(|mark| mark == "jsonb")
}

fn call(name: &str, of: Expr) -> DfResult<Expr> {
    let udf = named(name).ok_or_else(|| SqlError::internal("a function of jsonb is missing"))?;
    Ok(udf.call(vec![of]))
}

fn key(of: Expr) -> DfResult<Expr> {
    call(KEY, of)
}

/// Casts and comparisons.
fn by_value(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let is_readable =
        |e: &Expr| is_jsonb(e, schema) || e.get_type(schema).is_ok_and(|t| is_text(&t));
    Ok(match expr {
        Expr::Cast(cast) => unmarked(cast, schema)?,
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if compares(op)
                && (is_jsonb(&left, schema) || is_jsonb(&right, schema))
                && is_readable(&left)
                && is_readable(&right) =>
        {
            let (left, right) = (Box::new(key(*left)?), Box::new(key(*right)?));
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::InList(InList { expr, list, negated }) if is_jsonb(&expr, schema) => {
            let list = list.into_iter().map(key).collect::<DfResult<_>>()?;
            let expr = Box::new(key(*expr)?);
            Transformed::yes(Expr::InList(InList { expr, list, negated }))
        }
        Expr::ScalarFunction(f)
            if matches!(f.name(), "coalesce" | "nullif")
                && f.args.iter().any(|arg| is_jsonb(arg, schema)) =>
        {
            Transformed::yes(known_jsonb().call(vec![Expr::ScalarFunction(f)]))
        }
        Expr::Case(case)
            if case.when_then_expr.iter().any(|(_, then)| is_jsonb(then, schema))
                || case.else_expr.as_ref().is_some_and(|other| is_jsonb(other, schema)) =>
        {
            Transformed::yes(known_jsonb().call(vec![Expr::Case(case)]))
        }
        Expr::AggregateFunction(mut f)
            if f.params.distinct && f.params.args.iter().any(|arg| is_jsonb(arg, schema)) =>
        {
            let equal = |arg| if is_jsonb(&arg, schema) { call(EQUAL, arg) } else { Ok(arg) };
            f.params.args = f.params.args.into_iter().map(equal).collect::<DfResult<_>>()?;
            Transformed::yes(Expr::AggregateFunction(f))
        }
        other => Transformed::no(other),
    })
}

/// A cast whose value does not go on to be of the type that was cast.
fn unmarked(cast: Cast, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let Cast { expr, field } = cast;
    let is_known = !field.metadata().is_empty() || !field.name().is_empty();
    let mark = if is_known { None } else { mark_of(&expr, schema) };
    let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::Utf8View);
    let inner = match mark.as_deref() {
        None => return Ok(Transformed::no(Expr::Cast(Cast { expr, field }))),
        Some("jsonb") if is_text => call(TEXT_OF, *expr)?,
        // Ids that are shown by name.
        Some(kind) if expr.get_type(schema).is_ok_and(|t| t == DataType::UInt32) => {
            let name = crate::function::name_of(crate::function::NAME_OF, kind, *expr.clone());
            match name.filter(|_| is_text) {
                Some(name) => name,
                None => return Ok(Transformed::no(Expr::Cast(Cast { expr, field }))),
            }
        }
        Some(_) => crate::known::optional(*expr),
    };
    Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(inner), field })))
}

/// Keys of sorting and grouping, and rows that are to be different.
fn node_by_value(node: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Sort(Sort { mut expr, input, fetch }) => {
            let mut changed = false;
            for sorted in &mut expr {
                if is_jsonb(&sorted.expr, input.schema()) {
                    sorted.expr = key(sorted.expr.clone())?;
                    changed = true;
                }
            }
            let sort = LogicalPlan::Sort(Sort { expr, input, fetch });
            Ok(Transformed::new(sort, changed, TreeNodeRecursion::Continue))
        }
        LogicalPlan::Aggregate(aggregate) => grouped(aggregate),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let schema = Arc::clone(input.schema());
            let columns = schema.iter().map(|(relation, field)| {
                let column = Expr::Column(Column::new(relation.cloned(), field.name()));
                let mark = field.metadata().get(PG_TYPE_KEY);
                if mark.is_none_or(|mark| mark != "jsonb") {
                    return Ok((column, false));
                }
                let equal = call(EQUAL, column)?;
                Ok((equal.alias_qualified(relation.cloned(), field.name()), true))
            });
            let columns = columns.collect::<DfResult<Vec<_>>>()?;
            if columns.iter().all(|(_, changed)| !changed) {
                return Ok(Transformed::no(LogicalPlan::Distinct(Distinct::All(input))));
            }
            let columns = columns.into_iter().map(|(column, _)| column).collect();
            let equal = Projection::try_new(columns, input)?;
            let equal = Arc::new(LogicalPlan::Projection(equal));
            Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::All(equal))))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn grouped(aggregate: Aggregate) -> DfResult<Transformed<LogicalPlan>> {
    let schema = Arc::clone(aggregate.input.schema());
    if !aggregate
        .group_expr
        .iter()
        .any(|e| e.exists(|inner| Ok(is_jsonb(inner, &schema))).unwrap_or(false))
    {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let node = LogicalPlan::Aggregate(aggregate.clone());
    let names = NamePreserver::new(&node);
    let equal = |expr: Expr| {
        if !is_jsonb(&expr, &schema) {
            return Ok(Transformed::no(expr));
        }
        let name = names.save(&expr);
        Ok(Transformed::yes(name.restore(call(EQUAL, expr)?)))
    };
    let keys = aggregate.group_expr.into_iter().map(|expr| match expr {
        Expr::GroupingSet(_) => expr.map_children(equal),
        expr => equal(expr),
    });
    let keys = keys.map(|key| key.map(|key| key.data)).collect::<DfResult<Vec<_>>>()?;
    let changed = Aggregate::try_new(aggregate.input, keys, aggregate.aggr_expr)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(changed)))
}
