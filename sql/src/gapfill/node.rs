//! The node of a logical plan that fills gaps, and its way into a physical plan.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::BUCKETS_MAX;
use super::exec::GapFillExec;
use super::range::{Bound, Range};
use crate::calendar::Step;
use crate::error::{SqlError, sqlstate};

/// What stands in a column where there is a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Hash)]
pub(super) enum Fill {
    /// The start of the bucket.
    Time,
    /// The key of the series.
    Key,
    Null,
    /// The value of the row before, or the last one that is not null.
    Locf {
        over_null: bool,
    },
    /// The value on the line between the nearest values on both sides.
    Interpolate,
}

/// Fills the gaps of each series of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GapFill {
    input: LogicalPlan,
    /// By column.
    fill: Vec<Fill>,
    /// None if an argument is null.
    step: Option<Step>,
    range: Range,
    schema: DFSchemaRef,
}

impl PartialOrd for GapFill {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.input.partial_cmp(&other.input) {
            Some(Ordering::Equal) => self.range.partial_cmp(&other.range),
            order => order,
        }
    }
}

impl Hash for GapFill {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.fill, &self.step, &self.range).hash(state);
    }
}

impl GapFill {
    pub(super) fn try_new(
        input: LogicalPlan,
        fill: Vec<Fill>,
        step: Option<Step>,
        range: Range,
    ) -> DfResult<Self> {
        let known = input.schema();
        let fields = known.iter().zip(&fill).map(|((qualifier, field), fill)| {
            let nullable = field.is_nullable() || !matches!(fill, Fill::Time | Fill::Key);
            let field = field.as_ref().clone().with_nullable(nullable);
            (qualifier.cloned(), Arc::new(field))
        });
        let schema = DFSchema::new_with_metadata(fields.collect(), known.metadata().clone())?;
        Ok(Self { input, fill, step, range, schema: Arc::new(schema) })
    }
}

impl UserDefinedLogicalNodeCore for GapFill {
    fn name(&self) -> &'static str {
        "GapFill"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.range.lower.iter().chain(&self.range.upper).map(|bound| bound.expr.clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |bounds: &[Bound]| {
            bounds.iter().map(|b| b.expr.to_string()).collect::<Vec<_>>().join(", ")
        };
        write!(f, "GapFill: from [{}] to [{}]", list(&self.range.lower), list(&self.range.upper))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let lacks = || DataFusionError::from(SqlError::internal("a gap fill lacks its input"));
        let mut exprs = exprs.into_iter();
        let mut bounds = |known: &[Bound]| -> DfResult<Vec<Bound>> {
            let with =
                |b: &Bound| Ok(Bound { expr: exprs.next().ok_or_else(lacks)?, plus_us: b.plus_us });
            known.iter().map(with).collect()
        };
        let range = Range { lower: bounds(&self.range.lower)?, upper: bounds(&self.range.upper)? };
        let input = inputs.into_iter().next().ok_or_else(lacks)?;
        Self::try_new(input, self.fill.clone(), self.step, range)
    }
}

/// Makes [`GapFill`] physical.
#[derive(Debug)]
pub(crate) struct GapFillPlanner;

#[async_trait]
impl ExtensionPlanner for GapFillPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<GapFill>() else { return Ok(None) };
        let [input] = physical_inputs else {
            return Err(DataFusionError::from(SqlError::internal("a gap fill has one input")));
        };
        let step =
            node.step.ok_or_else(|| refused("an argument of time_bucket_gapfill() is null"))?;
        let limit = |bounds: &[Bound], what: &str| -> DfResult<Vec<i64>> {
            if bounds.is_empty() {
                return Err(no_bound(what));
            }
            bounds.iter().map(|bound| micros(session, bound)).collect()
        };
        let from = limit(&node.range.lower, "start")?.into_iter().max().unwrap_or(0);
        let to = limit(&node.range.upper, "finish")?.into_iter().min().unwrap_or(0);
        let starts = step.starts_within(from, to, BUCKETS_MAX).ok_or_else(|| {
            DataFusionError::from(
                SqlError::new(
                    sqlstate::LIMIT_EXCEEDED,
                    format!(
                        "the range of time_bucket_gapfill() has more than {BUCKETS_MAX} buckets"
                    ),
                )
                .with_hint("take longer buckets or a shorter range"),
            )
        })?;
        let schema = Arc::new(node.schema.as_arrow().clone());
        let exec = GapFillExec::try_new(Arc::clone(input), schema, node.fill.clone(), starts)?;
        Ok(Some(Arc::new(exec)))
    }
}

/// The value of a bound, microseconds.
fn micros(session: &dyn Session, bound: &Bound) -> DfResult<i64> {
    let physical = session.create_physical_expr(bound.expr.clone(), &DFSchema::empty())?;
    let one = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &one)?;
    let value = physical.evaluate(&row)?.into_array(1)?;
    let value = ScalarValue::try_from_array(&value, 0)?;
    match value.cast_to(&DataType::Timestamp(TimeUnit::Microsecond, None))? {
        ScalarValue::TimestampMicrosecond(Some(us), _) => Ok(us.saturating_add(bound.plus_us)),
        _ => Err(refused("a bound of the range of time_bucket_gapfill() is null")),
    }
}

fn refused(message: &str) -> DataFusionError {
    DataFusionError::from(SqlError::new(sqlstate::INVALID_PARAMETER, message))
}

fn no_bound(what: &str) -> DataFusionError {
    let message = format!("time_bucket_gapfill() has no {what} of its range");
    DataFusionError::from(SqlError::new(sqlstate::INVALID_PARAMETER, message).with_hint(
        "bound the time column by constants in WHERE, ts >= … AND ts < …, or give start and finish as the \
         last two arguments",
    ))
}
