//! A table as somebody sees it who may not see all of it: fewer columns, measures and rollups, and only rows that
//! pass a condition. It stands in a catalogue in the place of the whole table, so that whatever reads the
//! catalogue knows of nothing else.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use crate::catalog::TableDef;
use crate::compiled::{CompiledRollup, CompiledTable};
use crate::error::Result;
use crate::expr::{AggregateCall, CompiledMeasures};

/// Which rows of a table may be seen, and which of their values. Made by whoever knows the user.
pub trait RowGuard: Any + Debug + Send + Sync {
    /// Names of the columns on which it hangs which rows may be seen.
    fn columns(&self) -> &[String];
    /// Names of the columns whose values are null in some rows that may be seen.
    fn masked(&self) -> &[String];
    /// What may be seen of rows that have all columns of the whole table: rows that pass, with the columns of the
    /// restricted one. The error holds no value of a row.
    fn seen(&self, rows: &RecordBatch) -> Result<RecordBatch>;
}

/// What a table is a part of.
#[derive(Debug, Clone)]
pub struct Restriction {
    /// The table as it is.
    pub whole: Arc<CompiledTable>,
    /// What says which rows may be seen; none = all.
    pub guard: Option<Arc<dyn RowGuard>>,
}

impl CompiledTable {
    /// The part of a table that has the columns of `schema` and the rows that `guard` lets through. Measures and
    /// rollups are left out that need other columns, and rollups whose states do not tell which rows they are of.
    pub fn restricted(
        self: &Arc<Self>,
        schema: SchemaRef,
        guard: Option<Arc<dyn RowGuard>>,
    ) -> Result<Self> {
        // Nothing is asked of the time of a keyed table.
        let time = self.schema.field(self.time_index).name();
        let key = self.def.keyed().map(|keyed| keyed.key.as_str());
        let time_index = schema.index_of(time);
        let time_index = time_index.or_else(|e| key.map_or(Err(e), |key| schema.index_of(key)))?;
        let shown: Vec<bool> = self
            .measures
            .measures
            .iter()
            .map(|measure| {
                let calls = measure.calls.iter().filter_map(|call| self.measures.calls.get(*call));
                calls.flat_map(columns_of).all(|name| has(&schema, name))
            })
            .collect();
        let measures = CompiledMeasures {
            calls: self.measures.calls.clone(),
            measures: picked(&self.measures.measures, &shown),
        };
        let rollups: Vec<_> = self
            .rollups
            .iter()
            .filter(|rollup| tells(rollup, &self.schema, &schema, guard.as_deref()))
            .filter_map(|rollup| narrowed(rollup, &measures))
            .collect();
        let def = TableDef {
            columns: self.def.columns.iter().filter(|c| has(&schema, &c.name)).cloned().collect(),
            filter: None,
            measures: picked(&self.def.measures, &shown),
            rollups: rollups.iter().map(|rollup| rollup.def.clone()).collect(),
            ..self.def.as_ref().clone()
        };
        Ok(Self {
            id: self.id,
            schema_id: self.schema_id,
            def: Arc::new(def),
            schema,
            stored: Arc::clone(&self.stored),
            appended: Arc::clone(&self.appended),
            time_index,
            shape: self.shape.clone(),
            measures,
            rollups,
            restriction: Some(Restriction { whole: Arc::clone(self), guard }),
        })
    }

    /// Whether all its rows and columns are here.
    pub fn is_whole(&self) -> bool {
        self.restriction.is_none()
    }

    /// What says which rows may be seen; none = all.
    pub fn guard(&self) -> Option<&Arc<dyn RowGuard>> {
        self.restriction.as_ref()?.guard.as_ref()
    }

    /// What is here of rows that have all columns of the whole table.
    pub fn seen(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        match &self.restriction {
            None => Ok(rows.clone()),
            Some(Restriction { guard: Some(guard), .. }) => guard.seen(rows),
            Some(Restriction { guard: None, .. }) => {
                let names = self.schema.fields().iter().map(|field| field.name());
                let columns = names.map(|name| rows.schema_ref().index_of(name));
                Ok(rows.project(&columns.collect::<Result<Vec<_>, _>>()?)?)
            }
        }
    }
}

fn has(schema: &Schema, name: &str) -> bool {
    schema.index_of(name).is_ok()
}

fn columns_of(call: &AggregateCall) -> impl Iterator<Item = &String> {
    call.args.iter().chain(&call.filter).flat_map(|expr| expr.columns())
}

fn picked<T: Clone>(all: &[T], shown: &[bool]) -> Vec<T> {
    all.iter().zip(shown).filter(|(_, shown)| **shown).map(|(one, _)| one.clone()).collect()
}

/// Whether the states of a rollup tell which of them are of rows that may be seen, and name nothing else.
fn tells(
    rollup: &CompiledRollup,
    whole: &Schema,
    schema: &Schema,
    guard: Option<&dyn RowGuard>,
) -> bool {
    let is_column = |name: &String| {
        let mut found = rollup.def.dimensions.iter().filter(|d| d.name == *name);
        found.any(|d| d.sql.is_none()) && same_type(rollup.plan.schema(), whole, name)
    };
    rollup.plan.row_columns().all(|name| has(schema, name))
        && guard
            .is_none_or(|guard| guard.masked().is_empty() && guard.columns().iter().all(is_column))
}

fn same_type(states: &Schema, whole: &Schema, name: &str) -> bool {
    match (states.field_with_name(name), whole.field_with_name(name)) {
        (Ok(a), Ok(b)) => a.data_type() == b.data_type(),
        _ => false,
    }
}

/// A rollup with the measures that are left; none if none is.
fn narrowed(rollup: &CompiledRollup, measures: &CompiledMeasures) -> Option<CompiledRollup> {
    let mut def = rollup.def.clone();
    if !def.measures.is_empty() {
        def.measures.retain(|name| measures.measures.iter().any(|m| m.name == *name));
        if def.measures.is_empty() {
            return None;
        }
    }
    Some(CompiledRollup { id: rollup.id, def, plan: rollup.plan.clone() })
}
