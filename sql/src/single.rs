//! Correlated subqueries that stand for one value, `(SELECT c.relkind FROM pg_class c WHERE c.oid = t.typrelid)`.
//! The planner takes them only with an aggregate, by which they become joins. The aggregate here keeps the
//! value and whether there was a second; the function above the join says so, for rows that ask.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Expr, LogicalPlan,
    LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Subquery,
    Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use crate::analyze::map_expressions;
use crate::error::{SqlError, sqlstate};
use crate::known;

/// Gives each correlated scalar subquery its aggregate. Runs after types are coerced.
#[derive(Debug)]
pub(crate) struct OneRow;

impl AnalyzerRule for OneRow {
    fn name(&self) -> &'static str {
        "one_row"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        map_expressions(plan, &|expr, _| match expr {
            Expr::ScalarSubquery(subquery) if may_have_several(&subquery) => {
                let gathered = Expr::ScalarSubquery(gathered(subquery)?);
                let only = ScalarUDF::from(Only(Signature::any(1, Volatility::Immutable)));
                Ok(Transformed::yes(only.call(vec![gathered])))
            }
            Expr::ScalarSubquery(subquery) if may_have_none(&subquery) => {
                Ok(Transformed::yes(known::perhaps(Expr::ScalarSubquery(subquery))))
            }
            other => Ok(Transformed::no(other)),
        })
    }
}

fn may_have_several(subquery: &Subquery) -> bool {
    !subquery.outer_ref_columns.is_empty()
        && !is_aggregated(&subquery.subquery)
        && subquery.subquery.max_rows().is_none_or(|rows| rows > 1)
}

/// Whether a subquery may give no row where its column is, or turns out to be, never null: a constant.
fn may_have_none(subquery: &Subquery) -> bool {
    let plan = &subquery.subquery;
    let never = plan.schema().fields().iter().any(|field| !field.is_nullable());
    (never || is_computed(plan)) && !is_aggregated(plan)
}

fn is_computed(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => {
            projection.expr.iter().any(|e| !matches!(e.clone().unalias(), Expr::Column(_)))
                || is_computed(&projection.input)
        }
        LogicalPlan::SubqueryAlias(alias) => is_computed(&alias.input),
        LogicalPlan::Limit(limit) => is_computed(&limit.input),
        LogicalPlan::Sort(sort) => is_computed(&sort.input),
        LogicalPlan::Filter(filter) => is_computed(&filter.input),
        _ => false,
    }
}

fn is_aggregated(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_aggregated(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_aggregated(&alias.input),
        LogicalPlan::Filter(filter) => matches!(*filter.input, LogicalPlan::Aggregate(_)),
        LogicalPlan::Aggregate(_) => true,
        _ => false,
    }
}

/// The aggregate of a subquery's column.
pub(crate) fn gathering(column: Expr) -> Expr {
    let aggregate = AggregateUDF::from(Gathered(Signature::any(1, Volatility::Immutable)));
    aggregate.call(vec![column])
}

/// The one value of what was gathered.
pub(crate) fn only(gathered: Expr) -> Expr {
    ScalarUDF::from(Only(Signature::any(1, Volatility::Immutable))).call(vec![gathered])
}

fn gathered(subquery: Subquery) -> DfResult<Subquery> {
    let Subquery { subquery: plan, outer_ref_columns, spans } = subquery;
    let aggregate = AggregateUDF::from(Gathered(Signature::any(1, Volatility::Immutable)));
    let columns = plan.schema().columns();
    let columns = columns.into_iter().map(Expr::Column).collect();
    let plan = LogicalPlanBuilder::from(plan)
        .aggregate(Vec::<Expr>::new(), [aggregate.call(columns)])?
        .build()?;
    Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans })
}

fn lost() -> DataFusionError {
    SqlError::internal("a subquery lost its column").into()
}

fn fields(value: &DataType) -> Fields {
    Fields::from(vec![
        Field::new("value", value.clone(), true),
        Field::new("several", DataType::Boolean, true),
    ])
}

/// The value of its only row, and whether there were several.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Gathered(Signature);

impl AggregateUDFImpl for Gathered {
    fn name(&self) -> &'static str {
        "otus_gathered"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        types.first().map(|t| DataType::Struct(fields(t))).ok_or_else(lost)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        let value = args.expr_fields.first().ok_or_else(lost)?;
        let null = ScalarValue::try_from(value.data_type())?;
        Ok(Box::new(Rows { value: null, rows: 0 }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let value = args.input_fields.first().ok_or_else(lost)?;
        let named = |part: &str| format!("{}[{part}]", args.name);
        Ok(vec![
            Arc::new(Field::new(named("value"), value.data_type().clone(), true)),
            Arc::new(Field::new(named("rows"), DataType::UInt8, false)),
        ])
    }
}

/// The first row, and how many there are: none, one, or two for more.
#[derive(Debug)]
struct Rows {
    value: ScalarValue,
    rows: u8,
}

impl Rows {
    fn add(&mut self, value: ScalarValue, rows: u8) {
        if self.rows == 0 {
            self.value = value;
        }
        self.rows = self.rows.saturating_add(rows).min(2);
    }
}

impl Accumulator for Rows {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let values = values.first().ok_or_else(lost)?;
        for row in 0..values.len().min(2) {
            self.add(ScalarValue::try_from_array(values, row)?.compacted(), 1);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let [values, rows] = states else { return Err(lost()) };
        let rows = rows.as_primitive::<arrow::datatypes::UInt8Type>();
        for (row, count) in rows.values().iter().enumerate().filter(|(_, count)| **count > 0) {
            self.add(ScalarValue::try_from_array(values, row)?.compacted(), *count);
        }
        Ok(())
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::UInt8(Some(self.rows))])
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let fields = fields(&self.value.data_type());
        let several: ArrayRef = Arc::new(BooleanArray::from(vec![self.rows > 1]));
        let parts = vec![self.value.to_array()?, several];
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields, parts, None)?)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.size()
    }
}

/// The value of what was gathered, if it is one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Only(Signature);

impl ScalarUDFImpl for Only {
    fn name(&self) -> &'static str {
        "otus_only"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        match types {
            [DataType::Struct(fields)] => {
                fields.first().map(|f| f.data_type().clone()).ok_or_else(lost)
            }
            _ => Err(lost()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [gathered] = args.args.as_slice() else { return Err(lost()) };
        let array = gathered.to_array(1)?;
        let gathered_rows = array.as_struct_opt().ok_or_else(lost)?;
        let several = gathered_rows.column_by_name("several").ok_or_else(lost)?;
        let several = several.as_boolean_opt().ok_or_else(lost)?;
        let asked = |row: &usize| gathered_rows.is_valid(*row) && several.is_valid(*row);
        if (0..several.len()).filter(asked).any(|row| several.value(row)) {
            return Err(SqlError::new(
                sqlstate::CARDINALITY,
                "more than one row returned by a subquery used as an expression",
            )
            .into());
        }
        let value = gathered_rows.column_by_name("value").ok_or_else(lost)?;
        // Where nothing was gathered the parts may be anything.
        let value = match gathered_rows.nulls() {
            Some(nulls) => arrow::compute::nullif(value, &BooleanArray::new(!nulls.inner(), None))?,
            None => Arc::clone(value),
        };
        match gathered {
            ColumnarValue::Scalar(_) => {
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&value, 0)?))
            }
            ColumnarValue::Array(_) => Ok(ColumnarValue::Array(value)),
        }
    }
}
