//! Subqueries of catalogue queries that the planner cannot turn into joins: they are run for each row that asks,
//! with the row's values in the place of the outer columns. Tools write many of them over few rows.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Exists;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Subquery, Volatility,
};
use datafusion::physical_plan::collect;

use crate::analyze::map_expressions;
use crate::engine::STACK_BYTES;
use crate::error::{SqlError, sqlstate};

/// The plan with such subqueries as functions of the outer columns.
pub(crate) fn nested(plan: LogicalPlan, state: &SessionState) -> DfResult<LogicalPlan> {
    let mut any = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            any |= expr.exists(|e| Ok(is_nested(e)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if !any {
        return Ok(plan);
    }
    let mut one = state.clone();
    one.config_mut().options_mut().execution.target_partitions = 1;
    let state = Arc::new(one);
    map_expressions(plan, &|expr, schema| match expr {
        Expr::ScalarSubquery(subquery) if must_run(&subquery) => {
            Ok(Transformed::yes(call(&subquery, Kind::Value, &state, schema)?))
        }
        Expr::Exists(Exists { subquery, negated }) if must_run(&subquery) => {
            let kind = if negated { Kind::Missing } else { Kind::Exists };
            Ok(Transformed::yes(call(&subquery, kind, &state, schema)?))
        }
        other => Ok(Transformed::no(other)),
    })
}

fn is_nested(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarSubquery(subquery) | Expr::Exists(Exists { subquery, .. }) => {
            must_run(subquery)
        }
        _ => false,
    }
}

/// Whether no join says what a subquery does.
fn must_run(subquery: &Subquery) -> bool {
    if subquery.outer_ref_columns.is_empty() {
        return false;
    }
    let mut joins = true;
    let seen = subquery.subquery.apply(|node| {
        joins &= !matches!(
            node,
            LogicalPlan::Limit(_)
                | LogicalPlan::Union(_)
                | LogicalPlan::Unnest(_)
                | LogicalPlan::Distinct(_)
                | LogicalPlan::Window(_)
                | LogicalPlan::Extension(_)
                | LogicalPlan::Subquery(_)
        );
        let is_filter = matches!(node, LogicalPlan::Filter(_));
        node.apply_expressions(|expr| {
            joins &= if is_filter { is_join(expr) } else { !is_outer(expr) };
            Ok(TreeNodeRecursion::Continue)
        })
    });
    seen.is_err() || !joins
}

fn is_outer(expr: &Expr) -> bool {
    expr.exists(|e| {
        let inner = matches!(e, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_));
        Ok(inner || matches!(e, Expr::OuterReferenceColumn(..)))
    })
    .unwrap_or(true)
}

/// Whether outer columns stand in equations only.
fn is_join(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            is_join(left) && is_join(right)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let is_column = |e: &Expr| matches!(e, Expr::OuterReferenceColumn(..));
            let sides = (is_outer(left), is_outer(right));
            sides == (false, false)
                || sides == (true, false) && is_column(left) && !right.column_refs().is_empty()
                || sides == (false, true) && is_column(right) && !left.column_refs().is_empty()
        }
        other => !is_outer(other),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Value,
    Exists,
    Missing,
}

/// A subquery and the outer columns that it is a function of.
struct Nested {
    plan: Arc<LogicalPlan>,
    outer: Vec<Column>,
    kind: Kind,
    state: Arc<SessionState>,
    signature: Signature,
}

fn call(
    subquery: &Subquery,
    kind: Kind,
    state: &Arc<SessionState>,
    schema: &DFSchema,
) -> DfResult<Expr> {
    let mut columns: BTreeSet<Column> = BTreeSet::new();
    let mut fields: HashMap<Column, FieldRef> = HashMap::new();
    subquery.subquery.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if let Expr::OuterReferenceColumn(field, column) = e {
                    columns.insert(column.clone());
                    fields.insert(column.clone(), Arc::clone(field));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    // An outer column of a subquery within the subquery may be one of the subquery's own.
    let own = |column: &Column| {
        subquery
            .outer_ref_columns
            .iter()
            .any(|e| matches!(e, Expr::OuterReferenceColumn(_, outer) if outer == column))
    };
    let outer: Vec<Column> =
        columns.into_iter().filter(|c| own(c) || schema.has_column(c)).collect();
    let arguments =
        outer.iter().map(|column| match (schema.has_column(column), fields.get(column)) {
            (false, Some(field)) => Expr::OuterReferenceColumn(Arc::clone(field), column.clone()),
            _ => Expr::Column(column.clone()),
        });
    let arguments: Vec<Expr> = arguments.collect();
    let signature = match arguments.len() {
        0 => Signature::nullary(Volatility::Stable),
        count => Signature::any(count, Volatility::Stable),
    };
    let plan = Arc::clone(&subquery.subquery);
    let function = Nested { plan, outer, kind, state: Arc::clone(state), signature };
    Ok(ScalarUDF::from(function).call(arguments))
}

impl std::fmt::Debug for Nested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Nested({:?})", self.outer)
    }
}
impl PartialEq for Nested {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan) && self.kind == other.kind
    }
}
impl Eq for Nested {}
impl Hash for Nested {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.plan).hash(state);
    }
}

impl ScalarUDFImpl for Nested {
    fn name(&self) -> &'static str {
        "otus_subquery"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(match self.kind {
            Kind::Value => self.plan.schema().field(0).data_type().clone(),
            Kind::Exists | Kind::Missing => DataType::Boolean,
        })
    }
    fn return_field_from_args(&self, _: ReturnFieldArgs) -> DfResult<FieldRef> {
        let field = arrow::datatypes::Field::new(self.name(), self.return_type(&[])?, true);
        Ok(Arc::new(match self.kind {
            Kind::Value => field.with_metadata(self.plan.schema().field(0).metadata().clone()),
            Kind::Exists | Kind::Missing => field,
        }))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|arg| arg.to_array(rows));
        let columns = columns.collect::<DfResult<Vec<_>>>()?;
        let mut asked: Vec<Vec<ScalarValue>> = Vec::with_capacity(rows);
        for row in 0..rows {
            let of_row = columns.iter().map(|column| ScalarValue::try_from_array(column, row));
            asked.push(of_row.collect::<DfResult<_>>()?);
        }
        let null = ScalarValue::try_from(&self.return_type(&[])?)?;
        let answers = self.on_thread(&asked, &null)?;
        if is_scalar {
            return Ok(ColumnarValue::Scalar(answers.into_iter().next().unwrap_or(null)));
        }
        Ok(ColumnarValue::Array(match answers.is_empty() {
            true => null.to_array_of_size(0)?,
            false => ScalarValue::iter_to_array(answers)?,
        }))
    }
}

impl Nested {
    /// Expressions are evaluated by threads that may not wait, so that another one does.
    fn on_thread(
        &self,
        asked: &[Vec<ScalarValue>],
        null: &ScalarValue,
    ) -> DfResult<Vec<ScalarValue>> {
        let failed = || SqlError::internal("a subquery could not be run");
        std::thread::scope(|scope| {
            let work = || -> DfResult<Vec<ScalarValue>> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|_| failed())?;
                let mut known: HashMap<&[ScalarValue], ScalarValue> = HashMap::new();
                let mut answers = Vec::with_capacity(asked.len());
                for values in asked {
                    let answer = match known.get(values.as_slice()) {
                        Some(answer) => answer.clone(),
                        None => runtime.block_on(self.answer(values, null))?,
                    };
                    known.insert(values, answer.clone());
                    answers.push(answer);
                }
                Ok(answers)
            };
            let thread = std::thread::Builder::new()
                .name("otus-subquery".into())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, work)
                .map_err(|_| failed())?;
            thread.join().unwrap_or_else(|_| Err(failed().into()))
        })
    }

    async fn answer(&self, values: &[ScalarValue], null: &ScalarValue) -> DfResult<ScalarValue> {
        let plan = self.with(values)?;
        let physical = self.state.create_physical_plan(&plan).await?;
        let batches = collect(physical, self.state.task_ctx()).await?;
        let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        let value = batches.iter().find(|batch| batch.num_rows() > 0);
        match (self.kind, rows, value) {
            (Kind::Exists, ..) => Ok(ScalarValue::Boolean(Some(rows > 0))),
            (Kind::Missing, ..) => Ok(ScalarValue::Boolean(Some(rows == 0))),
            (Kind::Value, 1, Some(batch)) => {
                let column = arrow::compute::cast(batch.column(0), &null.data_type())?;
                ScalarValue::try_from_array(&column, 0)
            }
            (Kind::Value, 0, _) | (Kind::Value, _, None) => Ok(null.clone()),
            (Kind::Value, ..) => {
                let message = "more than one row returned by a subquery used as an expression";
                Err(SqlError::new(sqlstate::CARDINALITY, message).into())
            }
        }
    }

    /// The plan with the values of one row.
    fn with(&self, values: &[ScalarValue]) -> DfResult<LogicalPlan> {
        let known: HashMap<&Column, &ScalarValue> = self.outer.iter().zip(values).collect();
        let plan = map_expressions(self.plan.as_ref().clone(), &|expr, _| match &expr {
            Expr::OuterReferenceColumn(field, column) => Ok(match known.get(column) {
                Some(value) => {
                    let mark = datafusion::common::metadata::FieldMetadata::from(field.as_ref());
                    let mark = (!mark.is_empty()).then_some(mark);
                    Transformed::yes(Expr::Literal((*value).clone(), mark))
                }
                None => Transformed::no(expr),
            }),
            _ => Ok(Transformed::no(expr)),
        })?;
        // What stood beside the outer row stands by itself now.
        let plan = plan.transform_up(|node| match node {
            LogicalPlan::Subquery(lateral) if !has_outer(&lateral.subquery)? => {
                Ok(Transformed::yes(lateral.subquery.as_ref().clone()))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(plan.data)
    }
}

fn has_outer(plan: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..))))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}
