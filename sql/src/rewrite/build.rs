//! The plan that a design stands for:
//!
//! ```text
//!  Projection   original names and types
//!   Aggregate   original keys, merge(state)
//!    Union      __a<i> = keys and conditions, __s<call>_<place> = states
//!     ├ states of a granularity, within a range
//!     ├ fresh states
//!     └ Aggregate   the same keys and conditions, state(x)
//!        └ raw rows at cut buckets, of the open chunk, of offsets not covered
//! ```

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::DFSchema;
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::expr::GroupingSet;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Projection, Union, cast, lit,
};
use datafusion::scalar::ScalarValue;
use otus_engine::catalog::BUCKET_COLUMN;
use otus_engine::compiled::{CompiledRollup, CompiledTable};
use otus_engine::snapshot::Snapshot;
use otus_engine::time::Granularity;

use super::calls::{Atom, atom_name, column, state_name};
use super::design::{Design, Range};
use super::facts::TableFacts;
use crate::aggregate;
use crate::error::SqlError;
use crate::known::known;
use crate::provider::{RawTable, StatesTable};

/// Column that says whether a group of raw rows has any.
const ROWS: &str = "__rows";

/// Everything that a plan is built from.
pub(super) struct Build<'a> {
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) table: &'a Arc<CompiledTable>,
    pub(super) rollup: &'a CompiledRollup,
    pub(super) facts: &'a TableFacts,
    pub(super) design: &'a Design,
    /// Conditions on raw rows.
    pub(super) conditions: &'a [Expr],
    /// Conditions on states, besides their range.
    pub(super) rest: &'a [Expr],
    pub(super) atoms: &'a [Atom],
    pub(super) states: &'a [usize],
}

fn internal(what: &str) -> DataFusionError {
    DataFusionError::from(SqlError::internal(what))
}

/// The rows for which the time in a column is in one of some ranges; none = all rows.
fn within(time: &Expr, data_type: &DataType, ranges: &[Range]) -> Option<Expr> {
    let zone = match data_type {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let at = |us: i64| lit(ScalarValue::TimestampMicrosecond(Some(us), zone.clone()));
    if ranges.contains(&(i64::MIN, i64::MAX)) {
        return None;
    }
    let each = ranges.iter().map(|(from, to)| {
        let after = (*from != i64::MIN).then(|| time.clone().gt_eq(at(*from)));
        let before = (*to != i64::MAX).then(|| time.clone().lt(at(*to)));
        conjunction(after.into_iter().chain(before)).unwrap_or_else(|| lit(true))
    });
    Some(each.reduce(Expr::or).unwrap_or_else(|| lit(false)))
}

fn filtered(plan: LogicalPlanBuilder, condition: Option<Expr>) -> DfResult<LogicalPlanBuilder> {
    match condition {
        Some(condition) => plan.filter(condition),
        None => Ok(plan),
    }
}

fn united(mut plans: Vec<LogicalPlan>) -> DfResult<LogicalPlan> {
    if plans.len() > 1 {
        let inputs = plans.into_iter().map(Arc::new).collect();
        let Union { inputs, schema } = Union::try_new_with_loose_types(inputs)?;
        // What the optimizer makes of an input may be null by its type where it was not, as is coalesce(a, false);
        // the union does not learn of it.
        let fields = schema.iter();
        let fields =
            fields.map(|(of, f)| (of.cloned(), Arc::new(f.as_ref().clone().with_nullable(true))));
        let schema = DFSchema::new_with_metadata(fields.collect(), schema.metadata().clone())?;
        return Ok(LogicalPlan::Union(Union { inputs, schema: Arc::new(schema) }));
    }
    plans.pop().ok_or_else(|| internal("a rollup without sources"))
}

impl Build<'_> {
    fn schema(&self) -> &SchemaRef {
        self.rollup.plan.schema()
    }

    fn time_type(&self) -> DataType {
        self.table.schema.field(self.table.time_index).data_type().clone()
    }

    /// Columns of the united rows that hold states: name, and index in the rollup's schema.
    fn state_columns(&self) -> Vec<(String, usize)> {
        let places = self.states.iter().flat_map(|call| {
            let range = self.rollup.plan.state_columns(*call);
            range.enumerate().map(move |(place, index)| (state_name(*call, place), index))
        });
        places.collect()
    }

    /// The united rows: atoms, then states.
    pub(super) fn rows(&self) -> DfResult<LogicalPlan> {
        let design = self.design;
        let states = |granularity: Granularity| {
            let (snapshot, table) = (Arc::clone(self.snapshot), Arc::clone(self.table));
            StatesTable::new(snapshot, table, self.rollup, granularity)
        };
        let mut plans = Vec::new();
        for (granularity, range) in &design.compacted {
            let provider = Arc::new(states(*granularity).compacted());
            plans.push(self.over_states(provider, &[*range])?);
        }
        let raw = self.raw_inputs()?;
        // An answer over nothing needs a source too.
        if design.fresh || (plans.is_empty() && raw.is_empty()) {
            let provider = Arc::new(states(self.rollup.def.finest()).fresh());
            plans.push(self.over_states(provider, &design.aligned)?);
            #[cfg(test)]
            super::fault::doubled(&mut plans);
        }
        if !raw.is_empty() {
            plans.push(self.over_raw(united(raw)?)?);
        }
        united(plans)
    }

    fn over_states(
        &self,
        provider: Arc<dyn TableProvider>,
        ranges: &[Range],
    ) -> DfResult<LogicalPlan> {
        let schema = self.schema();
        let bucket = column(BUCKET_COLUMN);
        let bucket_type = schema.field_with_name(BUCKET_COLUMN)?.data_type().clone();
        let scan = LogicalPlanBuilder::scan("states", provider_as_source(provider), None)?;
        let plan = filtered(scan, within(&bucket, &bucket_type, ranges))?;
        let time = match self.time_type() {
            same if same == bucket_type => bucket,
            other => cast(bucket, other),
        };
        // From here on columns bear the names of the raw table.
        let mut columns = vec![time.alias(&self.table.def.time)];
        let dimensions = self.rollup.def.dimension_names();
        columns.extend(dimensions.map(|name| column(name).alias(name)));
        let states = self.state_columns();
        for (name, index) in &states {
            columns.push(column(schema.field(*index).name()).alias(name));
        }
        let plan = filtered(plan.project(columns)?, conjunction(self.rest.iter().cloned()))?;
        let states = states.into_iter().map(|(name, _)| column(&name).alias(name));
        plan.project(self.named_atoms(|atom| &atom.state).chain(states))?.build()
    }

    fn named_atoms(&self, side: fn(&Atom) -> &Expr) -> impl Iterator<Item = Expr> {
        self.atoms.iter().enumerate().map(move |(i, atom)| side(atom).clone().alias(atom_name(i)))
    }

    /// Raw rows for which no state answers: atoms, and the columns that states are computed from.
    fn raw_inputs(&self) -> DfResult<Vec<LogicalPlan>> {
        let design = self.design;
        let (time, time_type) = (column(&self.table.def.time), self.time_type());
        let aligned = within(&time, &time_type, &design.aligned).unwrap_or_else(|| lit(true));
        let mut places = Vec::new();
        if !design.edges.is_empty() {
            places.extend(within(&time, &time_type, &design.edges).or_else(|| Some(lit(true))));
        }
        if let Some(uncovered) = &design.uncovered {
            places.push(aligned.clone().and(uncovered.clone()));
        }
        let (snapshot, table) = (self.snapshot, self.table);
        let mut inputs = Vec::new();
        if let Some(places) = places.into_iter().reduce(Expr::or) {
            let raw = RawTable::new(Arc::clone(snapshot), Arc::clone(table));
            inputs.push(self.raw_input(raw, places)?);
        }
        if design.open {
            let raw = RawTable::open_chunk(Arc::clone(snapshot), Arc::clone(table));
            inputs.push(self.raw_input(raw, aligned)?);
        }
        Ok(inputs)
    }

    fn raw_input(&self, raw: RawTable, places: Expr) -> DfResult<LogicalPlan> {
        let mut used: Vec<&str> = Vec::new();
        for form in self.states.iter().filter_map(|call| self.facts.calls.get(*call)?.as_ref()) {
            let exprs = form.params.args.iter().chain(form.params.filter.as_deref());
            used.extend(exprs.flat_map(Expr::column_refs).map(|c| c.name.as_str()));
        }
        used.sort_unstable();
        used.dedup();
        let columns: Vec<Expr> = used.iter().map(|name| column(*name).alias(*name)).collect();
        let conditions = self.conditions.iter().cloned().chain([places]);
        let source = provider_as_source(Arc::new(raw));
        let plan = LogicalPlanBuilder::scan("raw", source, None)?;
        let plan = filtered(plan, conjunction(conditions))?;
        plan.project(self.named_atoms(|atom| &atom.raw).chain(columns))?.build()
    }

    /// States of raw rows.
    fn over_raw(&self, input: LogicalPlan) -> DfResult<LogicalPlan> {
        let keys: Vec<Expr> = (0..self.atoms.len()).map(|i| column(atom_name(i))).collect();
        let mut aggregates = Vec::new();
        let mut columns: Vec<Expr> =
            (0..self.atoms.len()).map(|i| column(atom_name(i)).alias(atom_name(i))).collect();
        for call in self.states {
            let form = self.facts.calls.get(*call).and_then(Option::as_ref);
            let stored = self.table.measures.calls.get(*call);
            let (Some(form), Some(stored)) = (form, stored) else {
                return Err(internal("a matched call has no form"));
            };
            let mut state = form.clone();
            for (arg, kept) in state.params.args.iter_mut().zip(&stored.args) {
                // States are of the types of declarations, which may be wider.
                let (of, to) = (arg.get_type(input.schema().as_ref())?, kept.data_type());
                if of != *to && of.is_numeric() && to.is_numeric() {
                    *arg = cast(arg.clone(), to.clone());
                }
            }
            if let Some(function) = aggregate::stating(stored.function) {
                state.func = Arc::new(function);
            }
            let name = format!("__raw{call}");
            aggregates.push(Expr::AggregateFunction(state).alias(&name));
            let range = self.rollup.plan.state_columns(*call);
            let single = range.len() == 1;
            for (place, index) in range.enumerate() {
                let value = match single {
                    true => column(&name),
                    false => get_field(column(&name), format!("s{place}")),
                };
                let data_type = self.schema().field(index).data_type().clone();
                columns.push(cast(value, data_type).alias(state_name(*call, place)));
            }
        }
        // Without a key there is a group even of no rows; its states say nothing, but it would be a row.
        let keyless = !self.atoms.iter().any(|atom| !atom.raw.column_refs().is_empty());
        if keyless {
            let count = datafusion::functions_aggregate::count::count_udaf();
            aggregates.push(count.call(vec![lit(1_i64)]).alias(ROWS));
        }
        let mut plan = LogicalPlanBuilder::from(input).aggregate(keys, aggregates)?;
        if keyless {
            plan = plan.filter(column(ROWS).gt(lit(0_i64)))?;
        }
        plan.project(columns)?.build()
    }
}

/// The aggregate over the united rows, with the columns of the original one: their names, their types, and which of
/// them are never null.
pub(super) fn finished(
    rows: LogicalPlan,
    original: &Aggregate,
    keys: &[(Expr, Expr)],
    calls: Vec<Expr>,
    values: Vec<Expr>,
) -> DfResult<LogicalPlan> {
    let key = |expr: &Expr| -> DfResult<Expr> {
        let found = keys.iter().find(|(known, _)| known == expr);
        found.map(|(_, key)| key.clone()).ok_or_else(|| internal("a key was not matched"))
    };
    let list = |exprs: &[Expr]| exprs.iter().map(key).collect::<DfResult<Vec<_>>>();
    let group = match original.group_expr.as_slice() {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => {
            let sets = sets.iter().map(|set| list(set)).collect::<DfResult<Vec<_>>>()?;
            vec![Expr::GroupingSet(GroupingSet::GroupingSets(sets))]
        }
        [Expr::GroupingSet(GroupingSet::Rollup(set))] => {
            vec![Expr::GroupingSet(GroupingSet::Rollup(list(set)?))]
        }
        [Expr::GroupingSet(GroupingSet::Cube(set))] => {
            vec![Expr::GroupingSet(GroupingSet::Cube(list(set)?))]
        }
        plain => list(plain)?,
    };
    let before = original.schema.fields().len().saturating_sub(original.aggr_expr.len());
    let plan = match group.is_empty() && calls.is_empty() {
        true => return Err(internal("an aggregate of nothing")),
        false => LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(rows), group, calls)?),
    };
    let grouped = plan.schema().columns().into_iter().take(before).map(Expr::Column);
    let mut columns = Vec::new();
    for (place, value) in grouped.chain(values).enumerate() {
        let (relation, field) = original.schema.qualified_field(place);
        let from = value.get_type(plan.schema().as_ref())?;
        let value = match from == *field.data_type() {
            true => value,
            false => cast(value, field.data_type().clone()),
        };
        let value = match !field.is_nullable() && value.nullable(plan.schema().as_ref())? {
            true => known(value),
            false => value,
        };
        columns.push(value.alias_qualified(relation.cloned(), field.name()));
    }
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}
