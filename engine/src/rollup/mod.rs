//! Rollups as additive partial states: raw rows in, one row of states per (bucket, dimensions) out, and
//! partial states folded into fewer. Pure functions; files and commits are elsewhere.
//!
//! ```text
//!  raw batches ──from_raw──► partial states ─┐
//!                            partial states ─┴─merge──► partial states (same or coarser bucket)
//! ```
//!
//! I2: merging the states of any split of the rows finishes to what the rows themselves finish to.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::catalog::{BUCKET_COLUMN, DimensionDef, RollupDef};
use crate::error::{Error, Result};
use crate::expr::{AggregateCall, CompiledExpr, CompiledMeasures, ExpressionCompiler};
use crate::time::Granularity;

mod aggregation;
mod expression;
mod verify;

pub use aggregation::Aggregation;
pub use verify::{Difference, compare};

#[cfg(test)]
mod tests;

/// The schema of a rollup's partial states: bucket (timestamptz, not null), dimensions (nullable, types of
/// the raw columns, or of the expressions), state columns of the aggregate calls that its measures need.
pub fn rollup_schema(
    raw: &SchemaRef,
    time: &str,
    def: &RollupDef,
    measures: &CompiledMeasures,
    compiler: &dyn ExpressionCompiler,
) -> Result<SchemaRef> {
    Ok(Arc::clone(RollupPlan::new(raw, time, def, measures, compiler)?.schema()))
}

/// A rollup definition bound to a raw schema, ready to run.
#[derive(Debug, Clone)]
pub struct RollupPlan {
    schema: SchemaRef,
    /// Column of the raw schema.
    time: usize,
    dimensions: Vec<Dimension>,
    /// Only rows for which this is true have states.
    filter: Option<Arc<dyn CompiledExpr>>,
    /// Names of the raw columns of time and dimensions.
    inputs: Vec<String>,
    /// Indexes into the table's compiled calls, and the calls themselves.
    call_indexes: Vec<usize>,
    calls: Vec<PlannedCall>,
}

/// Where the values of a dimension come from.
#[derive(Debug, Clone)]
enum Dimension {
    /// A column of the raw schema.
    Column(usize),
    Computed(Arc<dyn CompiledExpr>),
}

/// A call and the place of its states.
#[derive(Debug, Clone)]
struct PlannedCall {
    call: AggregateCall,
    arg_types: Vec<DataType>,
    states: Range<usize>,
}

impl RollupPlan {
    /// Binds `def` to the raw schema, whose event time stands in column `time`.
    pub fn new(
        raw: &SchemaRef,
        time: &str,
        def: &RollupDef,
        measures: &CompiledMeasures,
        compiler: &dyn ExpressionCompiler,
    ) -> Result<Self> {
        let time = find_time(raw, time)?;
        let filter = def.filter.as_ref().map(|sql| expression::filter(raw, def, sql, compiler));
        let filter = filter.transpose()?;
        let call_indexes = select_calls(def, measures)?;
        let mut fields = vec![Field::new(BUCKET_COLUMN, bucket_type(), false)];
        let mut dimensions = Vec::with_capacity(def.dimensions.len());
        for dimension in &def.dimensions {
            let (dimension, field) = find_dimension(raw, def, dimension, compiler)?;
            dimensions.push(dimension);
            fields.push(field);
        }
        let mut calls = Vec::with_capacity(call_indexes.len());
        for index in &call_indexes {
            let call = measures.calls[*index].clone();
            let arg_types: Vec<DataType> =
                call.args.iter().map(|a| a.data_type().clone()).collect();
            let states = call.function.state_fields(&call.prefix, &arg_types)?;
            let start = fields.len();
            fields.extend(states);
            calls.push(PlannedCall { call, arg_types, states: start..fields.len() });
        }
        let mut names: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::invalid(format!(
                "rollup {:?} would have two columns {:?}",
                def.name, twice[0]
            ))
            .with_hint(
                "a dimension is named like the states of a measure: give the column another name",
            ));
        }
        let plain = dimensions.iter().filter_map(|dimension| match dimension {
            Dimension::Column(index) => Some(index),
            Dimension::Computed(_) => None,
        });
        let inputs = plain.chain([&time]).map(|i| raw.field(*i).name().clone()).collect();
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { schema, time, dimensions, filter, inputs, call_indexes, calls })
    }

    /// The schema of partial states.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The calls whose states it holds, as indexes into [`CompiledMeasures::calls`], ascending.
    pub fn calls(&self) -> &[usize] {
        &self.call_indexes
    }

    /// Columns of the schema that hold the states of a call, by its index into
    /// [`CompiledMeasures::calls`]; empty if the rollup does not hold it.
    pub fn state_columns(&self, call: usize) -> Range<usize> {
        let found = self.call_indexes.iter().position(|c| *c == call);
        found.map_or(0..0, |position| self.calls[position].states.clone())
    }

    /// Names of the raw columns that states are computed from.
    pub(crate) fn raw_columns(&self) -> Vec<String> {
        let mut names = self.inputs.clone();
        names.extend(self.expression_columns().cloned());
        for planned in &self.calls {
            let exprs = planned.call.args.iter().chain(&planned.call.filter);
            names.extend(exprs.flat_map(|expr| expr.columns().iter().cloned()));
        }
        names
    }

    /// Names of the raw columns that its filter and computed dimensions read, some twice.
    pub(crate) fn expression_columns(&self) -> impl Iterator<Item = &String> {
        let computed = self.dimensions.iter().filter_map(|dimension| match dimension {
            Dimension::Column(_) => None,
            Dimension::Computed(expr) => Some(expr),
        });
        computed.chain(&self.filter).flat_map(|expr| expr.columns())
    }

    /// Names of the raw columns that say which rows are in which state: those of time, dimensions and filter.
    pub(crate) fn row_columns(&self) -> impl Iterator<Item = &String> {
        self.inputs.iter().chain(self.expression_columns())
    }

    /// Names of bucket and dimensions: the order in which partial states are sorted.
    pub fn sort_keys(&self) -> Vec<&str> {
        let keys = self.schema.fields().iter().take(1 + self.dimensions.len());
        keys.map(|f| f.name().as_str()).collect()
    }

    /// Starts an aggregation at this granularity.
    pub fn start(&self, granularity: Granularity) -> Result<Aggregation<'_>> {
        Aggregation::new(self, granularity)
    }

    /// The partial states of raw rows, one row per key, sorted by bucket and dimensions.
    pub fn from_raw(
        &self,
        granularity: Granularity,
        batches: &[RecordBatch],
    ) -> Result<RecordBatch> {
        let mut aggregation = self.start(granularity)?;
        for batch in batches {
            aggregation.push_raw(batch)?;
        }
        aggregation.finish()
    }

    /// Partial states folded to one row per key, sorted alike. The granularity may be coarser than that of
    /// the states.
    pub fn merge(&self, granularity: Granularity, partials: &[RecordBatch]) -> Result<RecordBatch> {
        let mut aggregation = self.start(granularity)?;
        for batch in partials {
            aggregation.push_states(batch)?;
        }
        aggregation.finish()
    }
}

/// Type of the bucket column.
fn bucket_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn find_time(raw: &Schema, time: &str) -> Result<usize> {
    let found = raw.index_of(time).ok().filter(|index| {
        matches!(raw.field(*index).data_type(), DataType::Timestamp(TimeUnit::Microsecond, _))
    });
    found
        .ok_or_else(|| Error::invalid(format!("no event-time column {time:?} of a timestamp type")))
}

fn find_dimension(
    raw: &SchemaRef,
    def: &RollupDef,
    dimension: &DimensionDef,
    compiler: &dyn ExpressionCompiler,
) -> Result<(Dimension, Field)> {
    let name = &dimension.name;
    if let Some(sql) = &dimension.sql {
        let expr = expression::dimension(raw, def, (name, sql), compiler)?;
        let field = Field::new(name, expr.data_type().clone(), true);
        return Ok((Dimension::Computed(expr), field));
    }
    let index = raw.index_of(name).map_err(|_| {
        Error::invalid(format!("rollup {:?}: dimension {name:?} is no column", def.name))
    })?;
    let field = raw.field(index);
    let data_type = field.data_type();
    if data_type.is_floating() || data_type.is_nested() {
        return Err(Error::invalid(format!(
            "rollup {:?}: column {name:?} of type {data_type} cannot be a dimension",
            def.name
        )));
    }
    Ok((Dimension::Column(index), field.clone().with_nullable(true)))
}

/// The calls that the stored measures need, ascending.
fn select_calls(def: &RollupDef, measures: &CompiledMeasures) -> Result<Vec<usize>> {
    let mut calls = Vec::new();
    for name in &def.measures {
        let measure =
            measures.measures.iter().find(|m| m.name == *name).ok_or_else(|| {
                Error::invalid(format!("rollup {:?}: no measure {name:?}", def.name))
            })?;
        calls.extend_from_slice(&measure.calls);
    }
    if def.measures.is_empty() {
        calls = (0..measures.calls.len()).collect();
    }
    calls.sort_unstable();
    calls.dedup();
    match calls.last() {
        Some(last) if *last >= measures.calls.len() => {
            Err(Error::internal(format!("measures name call {last}, which does not exist")))
        }
        _ => Ok(calls),
    }
}

/// The column at `index` as an array, or a bug.
fn column(batch: &RecordBatch, index: usize) -> Result<&dyn Array> {
    batch.columns().get(index).map(AsRef::as_ref).ok_or_else(|| {
        Error::internal(format!("a batch of {} columns lacks column {index}", batch.num_columns()))
    })
}
