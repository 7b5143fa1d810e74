//! Averages and percentiles of spans as in Postgres: months, days and time are added each by itself, and what is divided of
//! a month becomes days, of a day time. A difference of times has days.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit,
};
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::Result as DfResult;
use datafusion::functions_aggregate::percentile_cont::percentile_cont_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{
    AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs,
};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, GroupsAccumulator, Signature, Volatility,
};

use super::between;
use super::udaf::{into, no_such_function, quantile};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::function::scaled_span;

const DAY_NS: i64 = 86_400_000_000_000;

/// The type of spans.
pub(super) const SPAN: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// Whether values of a type are spans, or differences of times.
pub(super) fn is_span(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

/// Spans as Postgres has them.
pub(crate) fn spans(values: &ArrayRef) -> DfResult<IntervalMonthDayNanoArray> {
    let spans = cast(values, &SPAN)?;
    let spans = spans.as_primitive::<IntervalMonthDayNanoType>();
    if !matches!(values.data_type(), DataType::Duration(_)) {
        return Ok(spans.clone());
    }
    Ok(spans.unary(|span: IntervalMonthDayNano| {
        let days = i32::try_from(span.nanoseconds / DAY_NS);
        match days {
            Ok(days) => IntervalMonthDayNano::new(0, days, span.nanoseconds % DAY_NS),
            Err(_) => span,
        }
    }))
}

fn out_of_range() -> SqlError {
    SqlError::new(sqlstate::DATETIME_OVERFLOW, "interval out of range")
}

/// A span as it is added.
fn parts(span: IntervalMonthDayNano) -> [i64; 4] {
    [i64::from(span.months), i64::from(span.days), span.nanoseconds, 1]
}

/// Months, days, nanoseconds and the number of spans.
#[derive(Debug, Default)]
struct Total([i64; 4]);

impl Total {
    fn change(&mut self, by: [i64; 4], sign: i64) -> SqlResult<()> {
        for (total, part) in self.0.iter_mut().zip(by) {
            let sum = part.checked_mul(sign).and_then(|part| total.checked_add(part));
            *total = sum.ok_or_else(out_of_range)?;
        }
        Ok(())
    }

    fn change_all(&mut self, values: &[ArrayRef], sign: i64) -> DfResult<()> {
        let Some(values) = values.first() else { return Ok(()) };
        for span in spans(values)?.iter().flatten() {
            self.change(parts(span), sign)?;
        }
        Ok(())
    }

    fn add(&mut self, span: IntervalMonthDayNano) -> SqlResult<()> {
        self.change(parts(span), 1)
    }

    #[expect(clippy::cast_precision_loss, reason = "fewer values than a double has numbers")]
    fn mean(&self) -> SqlResult<Option<IntervalMonthDayNano>> {
        let [months, days, nanoseconds, count] = self.0;
        if count == 0 {
            return Ok(None);
        }
        let part = |n: i64| i32::try_from(n).map_err(|_| out_of_range());
        let sum = IntervalMonthDayNano::new(part(months)?, part(days)?, nanoseconds);
        scaled_span(sum, count as f64, true).ok_or_else(out_of_range).map(Some)
    }
}

/// The columns of an average's state.
pub(super) fn mean_state(name: &str) -> Vec<FieldRef> {
    let parts = ["months", "days", "time", "count"];
    let field = |part| Field::new(format!("{name}[{part}]"), DataType::Int64, true);
    parts.into_iter().map(|part| Arc::new(field(part))).collect()
}

/// The average of the spans of one group.
#[derive(Debug, Default)]
pub(super) struct Mean(Total);

impl Accumulator for Mean {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.0.change_all(values, 1)
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.0.change_all(values, -1)
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let [months, days, time, count] = states else {
            return Err(into(SqlError::internal("an average of spans has four states")));
        };
        let part = |array: &ArrayRef, row| array.as_primitive::<Int64Type>().value(row);
        for row in (0..count.len()).filter(|row| count.is_valid(*row)) {
            let parts = [part(months, row), part(days, row), part(time, row), part(count, row)];
            self.0.change(parts, 1)?;
        }
        Ok(())
    }
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        Ok(ScalarValue::IntervalMonthDayNano(self.0.mean()?))
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(self.0.0.iter().map(|part| ScalarValue::Int64(Some(*part))).collect())
    }
    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The planner's own `percentile_cont`, which takes spans too.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PercentileCont {
    plain: Arc<AggregateUDF>,
    signature: Signature,
}

impl Default for PercentileCont {
    fn default() -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { plain: percentile_cont_udaf(), signature }
    }
}

/// The share of the way from the least value to the greatest.
fn share_of(args: &AccumulatorArgs) -> DfResult<f64> {
    let share = quantile(args.exprs.get(1))?;
    let descends = args.order_bys.first().is_some_and(|order| order.options.descending);
    Ok(if descends { 1.0 - share } else { share })
}

fn of_spans(args: &AccumulatorArgs) -> bool {
    args.expr_fields.first().is_some_and(|field| is_span(field.data_type()))
}

impl AggregateUDFImpl for PercentileCont {
    fn name(&self) -> &str {
        self.plain.name()
    }
    fn aliases(&self) -> &[String] {
        self.plain.aliases()
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        if let [span, share] = types
            && is_span(span)
            && (share.is_numeric() || share.is_null())
        {
            return Ok(vec![span.clone(), DataType::Float64]);
        }
        let field = |t: &DataType| Arc::new(Field::new("", t.clone(), true));
        let fields: Vec<_> = types.iter().map(field).collect();
        let fields = fields_with_udf(&fields, self.plain.as_ref())
            .map_err(|_| no_such_function(self.name(), types))?;
        Ok(fields.iter().map(|field| field.data_type().clone()).collect())
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        match types.first() {
            Some(of) if is_span(of) => Ok(SPAN),
            _ => self.plain.return_type(types),
        }
    }
    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        if of_spans(&args) {
            return Ok(Box::new(Kept::new(Gives::Share(share_of(&args)?))));
        }
        // It refuses shares that are none.
        let plain = self.plain.accumulator(args.clone())?;
        Ok(between::one(plain, share_of(&args)?))
    }
    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        if !args.input_fields.first().is_some_and(|field| is_span(field.data_type())) {
            return self.plain.state_fields(args);
        }
        Ok(kept_state(args.name))
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !of_spans(&args) && self.plain.groups_accumulator_supported(args)
    }
    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> DfResult<Box<dyn GroupsAccumulator>> {
        let plain = self.plain.create_groups_accumulator(args.clone())?;
        Ok(between::groups(plain, share_of(&args)?))
    }
    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        let plain = self.plain.simplify()?;
        Some(Box::new(move |call: AggregateFunction, info| {
            let of = call.params.args.first().map(|value| info.get_data_type(value)).transpose()?;
            match of {
                Some(of) if is_span(&of) => Ok(Expr::AggregateFunction(call)),
                _ => plain(call, info),
            }
        }))
    }
    fn supports_within_group_clause(&self) -> bool {
        true
    }
}

/// What is found of the spans of a group.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gives {
    /// The value at a share of the way from the least to the greatest.
    Share(f64),
    /// The average of those of different lengths.
    DistinctMean,
}

/// The spans of one group.
#[derive(Debug)]
pub(super) struct Kept {
    gives: Gives,
    spans: Vec<IntervalMonthDayNano>,
}

/// The column of their state.
pub(super) fn kept_state(name: &str) -> Vec<FieldRef> {
    let list = DataType::List(Arc::new(Field::new_list_field(SPAN, true)));
    vec![Arc::new(Field::new(format!("{name}[spans]"), list, true))]
}

impl Kept {
    pub(super) fn new(gives: Gives) -> Self {
        Self { gives, spans: Vec::new() }
    }

    #[expect(clippy::cast_precision_loss, reason = "fewer values than a double has numbers")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the list")]
    fn at(&self, share: f64) -> SqlResult<Option<IntervalMonthDayNano>> {
        let at = share * self.spans.len().saturating_sub(1) as f64;
        let span = |place: f64| self.spans.get(place as usize).copied();
        let (Some(low), Some(high)) = (span(at.floor()), span(at.ceil())) else { return Ok(None) };
        between(low, high, at.fract()).ok_or_else(out_of_range).map(Some)
    }
}

/// How long a span is, a month as thirty days.
fn length(span: &IntervalMonthDayNano) -> i128 {
    let days = i128::from(span.months) * 30 + i128::from(span.days);
    days * i128::from(DAY_NS) + i128::from(span.nanoseconds)
}

/// The span at a share of the way between two.
fn between(
    low: IntervalMonthDayNano,
    high: IntervalMonthDayNano,
    share: f64,
) -> Option<IntervalMonthDayNano> {
    let way = IntervalMonthDayNano::new(
        high.months.checked_sub(low.months)?,
        high.days.checked_sub(low.days)?,
        high.nanoseconds.checked_sub(low.nanoseconds)?,
    );
    let way = scaled_span(way, share, false)?;
    Some(IntervalMonthDayNano::new(
        low.months.checked_add(way.months)?,
        low.days.checked_add(way.days)?,
        low.nanoseconds.checked_add(way.nanoseconds)?,
    ))
}

impl Accumulator for Kept {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let Some(values) = values.first() else { return Ok(()) };
        self.spans.extend(spans(values)?.iter().flatten());
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let Some(lists) = states.first() else { return Ok(()) };
        for list in lists.as_list::<i32>().iter().flatten() {
            self.spans.extend(spans(&list)?.iter().flatten());
        }
        Ok(())
    }
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        self.spans.sort_by_key(length);
        let found = match self.gives {
            Gives::Share(share) => self.at(share)?,
            Gives::DistinctMean => {
                self.spans.dedup_by_key(|span| length(span));
                let mut total = Total::default();
                for span in &self.spans {
                    total.add(*span)?;
                }
                total.mean()?
            }
        };
        Ok(ScalarValue::IntervalMonthDayNano(found))
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let spans = IntervalMonthDayNanoArray::from(std::mem::take(&mut self.spans));
        let field = Field::new_list_field(SPAN, true);
        let list = SingleRowListArrayBuilder::new(Arc::new(spans)).with_field(&field);
        Ok(vec![list.build_list_scalar()])
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.spans.capacity() * size_of::<IntervalMonthDayNano>()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::DurationMicrosecondArray;

    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn span(months: i32, days: i32, hours: i64) -> IntervalMonthDayNano {
        IntervalMonthDayNano::new(months, days, hours * HOUR)
    }

    fn array(spans: &[Option<IntervalMonthDayNano>]) -> ArrayRef {
        Arc::new(spans.iter().copied().collect::<IntervalMonthDayNanoArray>())
    }

    #[test]
    fn means_add_each_part_by_itself() {
        let mut mean = Mean::default();
        assert_eq!(mean.evaluate().unwrap(), ScalarValue::IntervalMonthDayNano(None));
        let values = array(&[Some(span(0, 1, 20)), None, Some(span(0, 0, 20))]);
        mean.update_batch(&[values]).unwrap();
        let expected = ScalarValue::IntervalMonthDayNano(Some(span(0, 0, 32)));
        assert_eq!(mean.evaluate().unwrap(), expected);
        let state: Vec<ArrayRef> =
            mean.state().unwrap().iter().map(|part| part.to_array().unwrap()).collect();
        let mut merged = Mean::default();
        merged.merge_batch(&state).unwrap();
        assert_eq!(merged.evaluate().unwrap(), expected);
        let hours = DurationMicrosecondArray::from(vec![25 * HOUR / 1_000, -49 * HOUR / 1_000]);
        let mut differences = Mean::default();
        differences.update_batch(&[Arc::new(hours)]).unwrap();
        let expected = ScalarValue::IntervalMonthDayNano(Some(span(0, 0, -12)));
        assert_eq!(differences.evaluate().unwrap(), expected);
    }

    #[test]
    fn percentiles_lie_between_neighbours() {
        let of = |share: f64, values: &[Option<IntervalMonthDayNano>]| {
            let mut found = Kept::new(Gives::Share(share));
            found.update_batch(&[array(values)]).unwrap();
            found.evaluate().unwrap()
        };
        let some = |span| ScalarValue::IntervalMonthDayNano(Some(span));
        let values = [Some(span(1, 0, 0)), None, Some(span(0, 2, 0)), Some(span(0, 0, 1))];
        assert_eq!(of(0.0, &values), some(span(0, 0, 1)));
        assert_eq!(of(1.0, &values), some(span(1, 0, 0)));
        assert_eq!(of(0.5, &values), some(span(0, 2, 0)));
        assert_eq!(of(0.25, &[Some(span(0, 0, 0)), Some(span(0, 2, 0))]), some(span(0, 0, 12)));
        assert_eq!(of(0.5, &[None]), ScalarValue::IntervalMonthDayNano(None));
        let mut distinct = Kept::new(Gives::DistinctMean);
        // A day is as long as its hours.
        let values = [Some(span(0, 1, 0)), Some(span(0, 0, 24)), Some(span(0, 0, 2))];
        distinct.update_batch(&[array(&values)]).unwrap();
        assert_eq!(distinct.evaluate().unwrap(), some(span(0, 0, 13)));
    }
}
