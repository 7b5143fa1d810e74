//! Aggregates over windows whose first row moves: of those that cannot take a row back, the rows within are kept, and
//! gathered anew for each row.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, WindowFunctionDefinition,
};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};

use crate::error::SqlError;

/// Aggregates that cannot take a row back.
const GATHERING: [&str; 4] = ["array_agg", "bool_and", "bool_or", "string_agg"];

/// The expression, if it is such an aggregate over such a window.
pub(crate) fn over_moving_rows(mut expr: Expr) -> Transformed<Expr> {
    if let Expr::WindowFunction(window) = &mut expr
        && !window.params.window_frame.start_bound.is_unbounded()
        && let WindowFunctionDefinition::AggregateUDF(inner) = &window.fun
        && GATHERING.contains(&inner.name())
    {
        let sliding = AggregateUDF::from(Sliding(Arc::clone(inner)));
        window.fun = WindowFunctionDefinition::AggregateUDF(Arc::new(sliding));
        return Transformed::yes(expr);
    }
    Transformed::no(expr)
}

#[derive(Debug, PartialEq, Eq)]
struct Sliding(Arc<AggregateUDF>);

impl Hash for Sliding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl AggregateUDFImpl for Sliding {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn signature(&self) -> &Signature {
        self.0.signature()
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.0.return_type(types)
    }
    fn return_field(&self, fields: &[FieldRef]) -> DfResult<FieldRef> {
        self.0.return_field(fields)
    }
    fn is_nullable(&self) -> bool {
        self.0.is_nullable()
    }
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.0.coerce_types(types)
    }
    fn default_value(&self, of: &DataType) -> DfResult<ScalarValue> {
        self.0.default_value(of)
    }
    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        self.0.state_fields(args)
    }
    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        self.0.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        let inner = self.0.create_sliding_accumulator(args.clone())?;
        if inner.supports_retract_batch() {
            return Ok(inner);
        }
        Ok(Box::new(Within {
            of: Arc::clone(&self.0),
            return_field: Arc::clone(&args.return_field),
            schema: args.schema.clone(),
            ignore_nulls: args.ignore_nulls,
            order_bys: args.order_bys.to_vec(),
            is_reversed: args.is_reversed,
            name: args.name.to_owned(),
            is_distinct: args.is_distinct,
            exprs: args.exprs.to_vec(),
            expr_fields: args.expr_fields.to_vec(),
            rows: VecDeque::new(),
        }))
    }
}

/// The rows within a window, and what makes an accumulator of them.
#[derive(Debug)]
struct Within {
    of: Arc<AggregateUDF>,
    return_field: FieldRef,
    schema: Schema,
    ignore_nulls: bool,
    order_bys: Vec<PhysicalSortExpr>,
    is_reversed: bool,
    name: String,
    is_distinct: bool,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
    rows: VecDeque<Vec<ArrayRef>>,
}

fn no_state() -> DataFusionError {
    SqlError::internal("rows of a window have no state").into()
}

impl Accumulator for Within {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        if values.first().is_some_and(|column| !column.is_empty()) {
            self.rows.push_back(values.to_vec());
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let mut gone = values.first().map_or(0, |column| column.len());
        while gone > 0
            && let Some(first) = self.rows.pop_front()
        {
            let rows = first.first().map_or(0, |column| column.len());
            if rows > gone {
                let rest = first.iter().map(|column| column.slice(gone, rows - gone)).collect();
                self.rows.push_front(rest);
            }
            gone = gone.saturating_sub(rows);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let mut inner = self.of.accumulator(AccumulatorArgs {
            return_field: Arc::clone(&self.return_field),
            schema: &self.schema,
            ignore_nulls: self.ignore_nulls,
            order_bys: &self.order_bys,
            is_reversed: self.is_reversed,
            name: &self.name,
            is_distinct: self.is_distinct,
            exprs: &self.exprs,
            expr_fields: &self.expr_fields,
        })?;
        for values in &self.rows {
            inner.update_batch(values)?;
        }
        inner.evaluate()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Err(no_state())
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> DfResult<()> {
        Err(no_state())
    }

    fn size(&self) -> usize {
        let columns = self.rows.iter().flatten();
        size_of_val(self) + columns.map(|column| column.get_array_memory_size()).sum::<usize>()
    }
}
