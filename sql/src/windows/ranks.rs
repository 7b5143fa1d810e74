//! Functions that number and rank rows, as bigint: the planner's own give unsigned numbers, which are numerics beside others.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::function::{
    ExpressionArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs,
};
use datafusion::logical_expr::{
    Documentation, LimitEffect, PartitionEvaluator, ReversedUDWF, Signature, WindowUDF,
    WindowUDFImpl,
};
use datafusion::physical_plan::PhysicalExpr;

/// The functions.
const RANKS: [&str; 3] = ["dense_rank", "rank", "row_number"];

/// Puts them in the place of the planner's own.
pub(crate) fn register(state: &mut SessionState) -> DfResult<()> {
    for name in RANKS {
        let inner = state.udwf(name)?;
        state.register_udwf(Arc::new(WindowUDF::from(Rank(inner))))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Rank(Arc<WindowUDF>);

impl WindowUDFImpl for Rank {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }
    fn signature(&self) -> &Signature {
        self.0.signature()
    }
    fn expressions(&self, args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        self.0.expressions(args)
    }
    fn partition_evaluator(
        &self,
        args: PartitionEvaluatorArgs,
    ) -> DfResult<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Signed(self.0.partition_evaluator_factory(args)?)))
    }
    fn field(&self, args: WindowUDFFieldArgs) -> DfResult<FieldRef> {
        let field = self.0.field(args)?;
        Ok(Arc::new(field.as_ref().clone().with_data_type(DataType::Int64)))
    }
    fn sort_options(&self) -> Option<SortOptions> {
        self.0.sort_options()
    }
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.0.coerce_types(types)
    }
    fn reverse_expr(&self) -> ReversedUDWF {
        match self.0.reverse_expr() {
            ReversedUDWF::Reversed(other) => {
                ReversedUDWF::Reversed(Arc::new(WindowUDF::from(Self(other))))
            }
            same => same,
        }
    }
    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.0.inner().limit_effect(args)
    }
}

/// Gives what another one numbers.
#[derive(Debug)]
struct Signed(Box<dyn PartitionEvaluator>);

fn signed(numbers: &ArrayRef) -> DfResult<ArrayRef> {
    Ok(cast(numbers, &DataType::Int64)?)
}

impl PartitionEvaluator for Signed {
    fn get_range(&self, at: usize, rows: usize) -> DfResult<Range<usize>> {
        self.0.get_range(at, rows)
    }
    fn is_causal(&self) -> bool {
        self.0.is_causal()
    }
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
        signed(&self.0.evaluate_all(values, rows)?)
    }
    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> DfResult<ScalarValue> {
        self.0.evaluate(values, range)?.cast_to(&DataType::Int64)
    }
    fn evaluate_all_with_rank(&self, rows: usize, ranks: &[Range<usize>]) -> DfResult<ArrayRef> {
        signed(&self.0.evaluate_all_with_rank(rows, ranks)?)
    }
    fn supports_bounded_execution(&self) -> bool {
        self.0.supports_bounded_execution()
    }
    fn uses_window_frame(&self) -> bool {
        self.0.uses_window_frame()
    }
    fn include_rank(&self) -> bool {
        self.0.include_rank()
    }
}
