//! What may fail is computed late: a division, a cast of text or arithmetic that overflows stands behind the
//! conditions beside it, `n <> 0 AND total / n > 2`, and behind the filter below it. The planner evaluates both
//! sides of an AND over whole batches and moves projections below filters, where rows fail that nobody asked
//! for.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Scalar};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{not, prep_null_mask_filter};
use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr};
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use crate::physical::{Rule, each};

/// Runs before all other rules over physical plans.
pub(crate) fn rule() -> Rule {
    each("fail_late", |plan, _| {
        if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            return guarded_filter(filter).map(|new| changed(plan, new));
        }
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            return guarded_projection(projection).map(|new| changed(plan, new));
        }
        Ok(Transformed::no(plan))
    })
}

fn changed(
    old: Arc<dyn ExecutionPlan>,
    new: Option<Arc<dyn ExecutionPlan>>,
) -> Transformed<Arc<dyn ExecutionPlan>> {
    match new {
        Some(new) => Transformed::yes(new),
        None => Transformed::no(old),
    }
}

fn guarded_filter(filter: &FilterExec) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    let predicate = guarded_condition(filter.predicate(), &filter.input().schema())?;
    let Some(predicate) = predicate else { return Ok(None) };
    let filter = FilterExecBuilder::from(filter).with_predicate(predicate).build()?;
    Ok(Some(Arc::new(filter)))
}

fn guarded_projection(projection: &ProjectionExec) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    let input = projection.input();
    let schema = input.schema();
    // A filter that gives other columns than it takes cannot be asked again.
    let filter = input.downcast_ref::<FilterExec>().filter(|f| f.projection().is_none());
    let mut any = false;
    let mut list = Vec::with_capacity(projection.expr().len());
    for ProjectionExpr { expr, alias } in projection.expr() {
        let mut expr = Arc::clone(expr);
        if let Some(inner) = guarded(&expr, &schema)? {
            (expr, any) = (inner, true);
        }
        if let Some(filter) = filter.filter(|_| may_fail(&expr, &schema)) {
            (expr, any) = (Guarded::over(filter.predicate(), &expr, Asked::True), true);
        }
        list.push(ProjectionExpr { expr, alias: alias.clone() });
    }
    if !any {
        return Ok(None);
    }
    Ok(Some(Arc::new(ProjectionExec::try_new(list, Arc::clone(input))?)))
}

/// The condition of a filter, of whose parts all must be true.
fn guarded_condition(
    expr: &Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> DfResult<Option<Arc<dyn PhysicalExpr>>> {
    if !may_fail(expr, schema) {
        return Ok(None);
    }
    let both = expr.downcast_ref::<BinaryExpr>().filter(|binary| *binary.op() == Operator::And);
    let Some(both) = both else { return guarded(expr, schema) };
    let part = |part: &Arc<dyn PhysicalExpr>| -> DfResult<_> {
        Ok(guarded_condition(part, schema)?.unwrap_or_else(|| Arc::clone(part)))
    };
    let (left, right) = (part(both.left())?, part(both.right())?);
    let (left, right) = match (may_fail(&left, schema), may_fail(&right, schema)) {
        (_, true) => (Arc::clone(&left), Guarded::over(&left, &right, Asked::True)),
        (true, false) => (Guarded::over(&right, &left, Asked::True), right),
        (false, false) => (left, right),
    };
    Ok(Some(Arc::new(BinaryExpr::new(left, Operator::And, right))))
}

/// An expression in which what may fail stands behind what decides whether it is asked for.
fn guarded(
    expr: &Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> DfResult<Option<Arc<dyn PhysicalExpr>>> {
    if !may_fail(expr, schema) {
        return Ok(None);
    }
    let done = Arc::clone(expr).transform_up(|expr| {
        let Some(binary) = expr.downcast_ref::<BinaryExpr>() else {
            return Ok(Transformed::no(expr));
        };
        let (left, right) = (binary.left(), binary.right());
        let (left_fails, right_fails) = (may_fail(left, schema), may_fail(right, schema));
        let (left, right) = match (binary.op(), left_fails, right_fails) {
            (Operator::And, _, true) => {
                (Arc::clone(left), Guarded::over(left, right, Asked::NotFalse))
            }
            (Operator::And, true, false) => {
                (Guarded::over(right, left, Asked::NotFalse), Arc::clone(right))
            }
            (Operator::Or, _, true) => {
                (Arc::clone(left), Guarded::over(left, right, Asked::NotTrue))
            }
            _ => return Ok(Transformed::no(expr)),
        };
        Ok(Transformed::yes(Arc::new(BinaryExpr::new(left, *binary.op(), right)) as _))
    })?;
    Ok(done.transformed.then_some(done.data))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether an expression may fail for some values. What is guarded already may not.
fn may_fail(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let mut found = false;
    let visited = expr.apply(|expr| {
        if expr.is::<Guarded>() {
            return Ok(TreeNodeRecursion::Jump);
        }
        found = if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            matches!(binary.op(), Operator::Divide | Operator::Modulo)
        } else if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
            crate::function::may_fail(call.fun())
        } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            !is_text(cast.cast_type()) && cast.expr.data_type(schema).is_ok_and(|t| is_text(&t))
        } else {
            false
        };
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || visited.is_err()
}

/// For which rows an expression is asked for, by its condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asked {
    True,
    /// Where it is unknown, what is false makes both false.
    NotFalse,
    NotTrue,
}

/// An expression that is evaluated only for some rows. Elsewhere it is null, or any value if it is never null.
#[derive(Debug, Clone)]
struct Guarded {
    condition: Arc<dyn PhysicalExpr>,
    expr: Arc<dyn PhysicalExpr>,
    asked: Asked,
}

impl Guarded {
    fn over(
        condition: &Arc<dyn PhysicalExpr>,
        expr: &Arc<dyn PhysicalExpr>,
        asked: Asked,
    ) -> Arc<dyn PhysicalExpr> {
        let (condition, expr) = (Arc::clone(condition), Arc::clone(expr));
        Arc::new(Self { condition, expr, asked })
    }

    /// Rows for which the expression is asked for.
    fn selected(&self, batch: &RecordBatch) -> DfResult<BooleanArray> {
        let condition = self.condition.evaluate(batch)?.into_array(batch.num_rows())?;
        let condition = condition.as_boolean();
        let is_true = |condition: &BooleanArray| match condition.null_count() {
            0 => condition.clone(),
            _ => prep_null_mask_filter(condition),
        };
        Ok(match self.asked {
            Asked::True => is_true(condition),
            Asked::NotTrue => not(&is_true(condition))?,
            Asked::NotFalse => not(&is_true(&not(condition)?))?,
        })
    }
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.asked == other.asked
            && self.condition.eq(&other.condition)
            && self.expr.eq(&other.expr)
    }
}
impl Eq for Guarded {}
impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
        self.expr.hash(state);
        self.asked.hash(state);
    }
}
impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl PhysicalExpr for Guarded {
    fn data_type(&self, schema: &Schema) -> DfResult<DataType> {
        self.expr.data_type(schema)
    }
    fn nullable(&self, schema: &Schema) -> DfResult<bool> {
        self.expr.nullable(schema)
    }
    fn return_field(&self, schema: &Schema) -> DfResult<FieldRef> {
        self.expr.return_field(schema)
    }
    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        let selected = self.selected(batch)?;
        let asked = selected.true_count();
        if asked == batch.num_rows() {
            return self.expr.evaluate(batch);
        }
        let schema = batch.schema();
        let data_type = self.expr.data_type(&schema)?;
        let elsewhere = match self.expr.nullable(&schema)? {
            true => ScalarValue::try_from(&data_type)?,
            false => ScalarValue::new_default(&data_type)?,
        };
        if asked == 0 {
            return Ok(ColumnarValue::Scalar(elsewhere));
        }
        let values: ArrayRef =
            self.expr.evaluate_selection(batch, &selected)?.into_array(batch.num_rows())?;
        let elsewhere = Scalar::new(elsewhere.to_array()?);
        Ok(ColumnarValue::Array(zip(&selected, &values, &elsewhere)?))
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition, &self.expr]
    }
    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DfResult<Arc<dyn PhysicalExpr>> {
        let [condition, expr] = children.as_slice() else {
            return datafusion::common::internal_err!("a guard has two parts");
        };
        Ok(Self::over(condition, expr, self.asked))
    }
    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt_sql(f)
    }
}
