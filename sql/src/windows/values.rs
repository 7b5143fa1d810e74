//! Functions over windows that charge the values they make.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{SortOptions, filter, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::WindowFunctionParams;
use datafusion::logical_expr::function::{
    AccumulatorArgs, ExpressionArgs, PartitionEvaluatorArgs, StateFieldsArgs, WindowUDFFieldArgs,
};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, ExprSchemable, LimitEffect,
    PartitionEvaluator, ReversedUDAF, ReversedUDWF, SetMonotonicity, Signature, WindowFrameBound,
    WindowFrameUnits, WindowFunctionDefinition, WindowUDF, WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;

use super::account::{bytes_of, made, own_bytes};

/// A function over a window whose values have no bounded length, such that they are charged.
pub(crate) fn counted(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let Expr::WindowFunction(window) = &expr else { return Ok(Transformed::no(expr)) };
    if is_short(&expr.get_type(schema)?) || is_counted(&window.fun) {
        return Ok(Transformed::no(expr));
    }
    let Expr::WindowFunction(mut window) = expr else { return Ok(Transformed::no(expr)) };
    window.fun = match &window.fun {
        WindowFunctionDefinition::AggregateUDF(inner) => {
            let inner = Arc::clone(inner);
            let (all, filtered) = (sees_all(&window.params), window.params.filter.is_some());
            // A value is repeated for rows that the filter leaves out, too.
            window.params.args.extend(window.params.filter.take().map(|condition| *condition));
            let counted = AggregateUDF::from(Counted::new(inner, all, filtered));
            WindowFunctionDefinition::AggregateUDF(Arc::new(counted))
        }
        WindowFunctionDefinition::WindowUDF(inner) => {
            let counted = WindowUDF::from(CountedRows(Arc::clone(inner)));
            WindowFunctionDefinition::WindowUDF(Arc::new(counted))
        }
    };
    Ok(Transformed::yes(Expr::WindowFunction(window)))
}

fn is_short(of: &DataType) -> bool {
    of.is_primitive() || matches!(of, DataType::Boolean | DataType::Null)
}

/// Whether the values of a function over a window may be long.
pub(crate) fn is_counted(fun: &WindowFunctionDefinition) -> bool {
    match fun {
        WindowFunctionDefinition::AggregateUDF(fun) => fun.inner().is::<Counted>(),
        WindowFunctionDefinition::WindowUDF(fun) => fun.inner().is::<CountedRows>(),
    }
}

/// Whether each row of a partition sees the whole of it.
fn sees_all(params: &WindowFunctionParams) -> bool {
    let unordered = params.order_by.is_empty();
    let all = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::CurrentRow => {
            unordered && params.window_frame.units == WindowFrameUnits::Range
        }
        bound => bound.is_unbounded(),
    };
    all(&params.window_frame.start_bound) && all(&params.window_frame.end_bound)
}

/// Bytes of a value that is repeated so many times.
fn bytes_repeated(value: &ScalarValue, times: usize) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    match value {
        ScalarValue::Utf8View(of) => text(of),
        ScalarValue::Utf8(of) | ScalarValue::LargeUtf8(of) => text(of).saturating_mul(times),
        ScalarValue::List(list) => {
            let list = Arc::clone(list) as ArrayRef;
            let own = own_bytes(&list);
            bytes_of(&list).saturating_add(own.saturating_mul(times.saturating_sub(1)))
        }
        other => other.size().saturating_mul(times),
    }
}

/// An aggregate; with its condition as last argument, if it has one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Counted {
    inner: Arc<AggregateUDF>,
    all: bool,
    filtered: bool,
    signature: Signature,
}

impl Counted {
    fn new(inner: Arc<AggregateUDF>, all: bool, filtered: bool) -> Self {
        let signature = match filtered {
            true => Signature::user_defined(inner.signature().volatility),
            false => inner.signature().clone(),
        };
        Self { inner, all, filtered, signature }
    }

    fn own<'a, T>(&self, args: &'a [T]) -> &'a [T] {
        match args.split_last() {
            Some((_, own)) if self.filtered => own,
            _ => args,
        }
    }

    /// As it was written.
    fn written(&self, params: &WindowFunctionParams) -> WindowFunctionParams {
        let mut params = params.clone();
        if self.filtered {
            params.filter = params.args.pop().map(Box::new);
        }
        params
    }

    fn accumulating(
        &self,
        args: AccumulatorArgs,
        make: impl FnOnce(AccumulatorArgs) -> DfResult<Box<dyn Accumulator>>,
    ) -> DfResult<Box<dyn Accumulator>> {
        let (exprs, expr_fields) = (self.own(args.exprs), self.own(args.expr_fields));
        let inner = make(AccumulatorArgs { exprs, expr_fields, ..args })?;
        let (all, filtered) = (self.all, self.filtered);
        Ok(Box::new(Charging { inner, all, filtered, rows: 0 }))
    }
}

impl AggregateUDFImpl for Counted {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }
    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> DfResult<String> {
        self.inner.window_function_schema_name(&self.written(params))
    }
    fn window_function_display_name(&self, params: &WindowFunctionParams) -> DfResult<String> {
        self.inner.window_function_display_name(&self.written(params))
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.inner.return_type(self.own(types))
    }
    fn return_field(&self, fields: &[FieldRef]) -> DfResult<FieldRef> {
        self.inner.return_field(self.own(fields))
    }
    fn is_nullable(&self) -> bool {
        self.inner.is_nullable()
    }
    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        self.accumulating(args, |args| self.inner.accumulator(args))
    }
    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let input_fields = self.own(args.input_fields);
        self.inner.state_fields(StateFieldsArgs { input_fields, ..args })
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        self.accumulating(args, |args| self.inner.create_sliding_accumulator(args))
    }
    fn with_beneficial_ordering(
        self: Arc<Self>,
        beneficial: bool,
    ) -> DfResult<Option<Arc<dyn AggregateUDFImpl>>> {
        let inner = Arc::clone(self.inner.inner()).with_beneficial_ordering(beneficial)?;
        let (all, filtered) = (self.all, self.filtered);
        Ok(inner.map(|inner| {
            let inner = Arc::new(AggregateUDF::new_from_shared_impl(inner));
            Arc::new(Self::new(inner, all, filtered)) as Arc<dyn AggregateUDFImpl>
        }))
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        match self.inner.reverse_udf() {
            ReversedUDAF::Reversed(inner) => {
                let reversed = AggregateUDF::from(Self::new(inner, self.all, self.filtered));
                ReversedUDAF::Reversed(Arc::new(reversed))
            }
            same => same,
        }
    }
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        if !self.filtered {
            return self.inner.coerce_types(types);
        }
        let fields =
            self.own(types).iter().map(|of| Arc::new(Field::new("", of.clone(), true)) as _);
        let own = fields_with_udf(&fields.collect::<Vec<_>>(), self.inner.as_ref())?;
        let own = own.into_iter().map(|field| field.data_type().clone());
        Ok(own.chain(types.last().cloned()).collect())
    }
    fn default_value(&self, of: &DataType) -> DfResult<ScalarValue> {
        self.inner.default_value(of)
    }
    fn supports_null_handling_clause(&self) -> bool {
        self.inner.supports_null_handling_clause()
    }
    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
    fn set_monotonicity(&self, of: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(of)
    }
}

#[derive(Debug)]
struct Charging {
    inner: Box<dyn Accumulator>,
    all: bool,
    filtered: bool,
    /// Rows within.
    rows: usize,
}

impl Charging {
    fn wanted(&self, values: &[ArrayRef]) -> DfResult<Vec<ArrayRef>> {
        match values.split_last() {
            Some((condition, own)) if self.filtered => {
                let condition = condition.as_boolean();
                let wanted = match condition.null_count() {
                    0 => condition.clone(),
                    _ => prep_null_mask_filter(condition),
                };
                Ok(own.iter().map(|column| filter(column, &wanted)).collect::<Result<_, _>>()?)
            }
            _ => Ok(values.to_vec()),
        }
    }
}

impl Accumulator for Charging {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.rows += values.first().map_or(0, |column| column.len());
        self.inner.update_batch(&self.wanted(values)?)
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let gone = values.first().map_or(0, |column| column.len());
        self.rows = self.rows.saturating_sub(gone);
        self.inner.retract_batch(&self.wanted(values)?)
    }
    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let value = self.inner.evaluate()?;
        let times = if self.all { self.rows.max(1) } else { 1 };
        made(bytes_repeated(&value, times))?;
        Ok(value)
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.inner.state()
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.inner.merge_batch(states)
    }
    fn size(&self) -> usize {
        self.inner.size()
    }
}

/// A function of the rows of a window.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CountedRows(Arc<WindowUDF>);

impl WindowUDFImpl for CountedRows {
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
        Ok(Box::new(ChargingRows(self.0.partition_evaluator_factory(args)?)))
    }
    fn field(&self, args: WindowUDFFieldArgs) -> DfResult<FieldRef> {
        self.0.field(args)
    }
    fn sort_options(&self) -> Option<SortOptions> {
        self.0.sort_options()
    }
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.0.coerce_types(types)
    }
    fn reverse_expr(&self) -> ReversedUDWF {
        match self.0.reverse_expr() {
            ReversedUDWF::Reversed(inner) => {
                ReversedUDWF::Reversed(Arc::new(WindowUDF::from(Self(inner))))
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

#[derive(Debug)]
struct ChargingRows(Box<dyn PartitionEvaluator>);

impl PartitionEvaluator for ChargingRows {
    fn memoize(&mut self, state: &mut WindowAggState) -> DfResult<()> {
        self.0.memoize(state)
    }
    fn get_range(&self, at: usize, rows: usize) -> DfResult<Range<usize>> {
        self.0.get_range(at, rows)
    }
    fn is_causal(&self) -> bool {
        self.0.is_causal()
    }
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
        self.0.evaluate_all(values, rows)
    }
    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> DfResult<ScalarValue> {
        let value = self.0.evaluate(values, range)?;
        made(bytes_repeated(&value, 1))?;
        Ok(value)
    }
    fn evaluate_all_with_rank(&self, rows: usize, ranks: &[Range<usize>]) -> DfResult<ArrayRef> {
        self.0.evaluate_all_with_rank(rows, ranks)
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
