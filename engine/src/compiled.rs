//! Definitions come to life: schemas, measures and rollup plans, compiled once per catalogue change and
//! shared by every snapshot.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::catalog::{
    BUCKET_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN, RollupDef, RollupId, TIMESTAMP_COLUMN,
    TOPIC_COLUMN, TableDef, TableId,
};
use crate::error::{Error, Result};
use crate::expr::{CompiledMeasures, ExpressionCompiler};
use crate::keyed::Shape;
use crate::log::manifest::{Manifest, TableState};
use crate::restriction::Restriction;
use crate::rollup::RollupPlan;
use crate::segment::SegmentOptions;
use crate::types::ColumnType;

/// A rollup with its plan.
#[derive(Debug)]
pub struct CompiledRollup {
    /// Identity.
    pub id: RollupId,
    /// Definition.
    pub def: RollupDef,
    /// How its states are computed and merged.
    pub plan: RollupPlan,
}

/// A table with everything that queries and flushes need of its definition.
#[derive(Debug)]
pub struct CompiledTable {
    /// Identity.
    pub id: TableId,
    /// Schema id under which new files are written.
    pub schema_id: u32,
    /// Definition.
    pub def: Arc<TableDef>,
    /// Schema of raw rows, as queries see them.
    pub schema: SchemaRef,
    /// Schema of raw rows on disk and in memory: that of queries, and of keyed tables one column more.
    pub stored: SchemaRef,
    /// Schema of rows that are appended.
    pub appended: SchemaRef,
    /// Index of the event-time column, of keyed tables that of `_timestamp`.
    pub time_index: usize,
    /// What the map of a keyed table has to know.
    pub(crate) shape: Option<Shape>,
    /// Measures.
    pub measures: CompiledMeasures,
    /// Rollups that are declared now.
    pub rollups: Vec<CompiledRollup>,
    /// What this is a part of, where somebody may not see all of it.
    pub restriction: Option<Restriction>,
}

impl CompiledRollup {
    /// Folder of its files.
    pub(crate) fn dir(&self, table: TableId) -> String {
        format!("t{}/r{}", table.0, self.id.0)
    }

    /// How its files are written.
    pub(crate) fn options(&self, level: u8) -> SegmentOptions {
        let dimensions = self.def.dimension_names().cloned();
        SegmentOptions {
            level,
            sorted_by: std::iter::once(BUCKET_COLUMN.to_string()).chain(dimensions).collect(),
            bloom: Vec::new(),
            time_column: BUCKET_COLUMN.to_string(),
        }
    }
}

impl CompiledTable {
    /// Folder of its raw files.
    pub(crate) fn raw_dir(&self) -> String {
        format!("t{}/raw", self.id.0)
    }

    /// How its raw files are written: sorted by event time (keyed tables: by key and place), with bloom filters
    /// on ids.
    pub(crate) fn raw_options(&self, level: u8) -> SegmentOptions {
        let uuids = self.def.columns.iter().filter(|c| c.column_type == ColumnType::Uuid);
        let bloom = uuids.map(|c| c.name.clone()).collect();
        let Some(keyed) = self.def.keyed() else {
            let time = &self.def.time;
            let sorted_by = vec![time.clone()];
            return SegmentOptions { level, sorted_by, bloom, time_column: time.clone() };
        };
        let mut sorted_by = vec![keyed.key.clone()];
        if self.def.source.is_many() {
            sorted_by.push(TOPIC_COLUMN.to_string());
        }
        sorted_by.extend([PARTITION_COLUMN, OFFSET_COLUMN].map(str::to_string));
        SegmentOptions { level, sorted_by, bloom, time_column: TIMESTAMP_COLUMN.to_string() }
    }

    /// Index of the key column, if the table is keyed.
    pub fn key_index(&self) -> Option<usize> {
        let shape = self.shape.as_ref()?;
        match (&self.restriction, self.def.keyed()) {
            (Some(_), Some(keyed)) => self.schema.index_of(&keyed.key).ok(),
            _ => Some(shape.key),
        }
    }

    /// The rollup of this id.
    pub fn rollup(&self, id: RollupId) -> Option<&CompiledRollup> {
        self.rollups.iter().find(|r| r.id == id)
    }

    fn new(
        state: &TableState,
        rollups: &[(RollupId, RollupDef)],
        compiler: &dyn ExpressionCompiler,
    ) -> Result<Self> {
        let def = Arc::clone(&state.def);
        let schema = def.arrow_schema();
        let shape = def.keyed().map(|keyed| Shape::new(&def, keyed)).transpose()?;
        let time = if shape.is_some() { TIMESTAMP_COLUMN } else { def.time.as_str() };
        let time_index = schema.index_of(time).map_err(|_| {
            Error::invalid(format!(
                "table {:?} has no column {time:?}, named as its event time",
                def.qualified_name(),
            ))
        })?;
        let measures = compiler.measures(&schema, &def.time, &def.measures)?;
        let rollups = rollups
            .iter()
            .map(|(id, rollup)| {
                let plan = RollupPlan::new(&schema, &def.time, rollup, &measures, compiler)?;
                Ok(CompiledRollup { id: *id, def: rollup.clone(), plan })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            id: state.id,
            schema_id: state.schema_id,
            stored: def.stored_schema(),
            appended: def.append_schema(),
            def,
            schema,
            time_index,
            shape,
            measures,
            rollups,
            restriction: None,
        })
    }
}

/// The served tables, by id and by name.
#[derive(Debug, Default)]
pub struct Catalog {
    tables: BTreeMap<TableId, Arc<CompiledTable>>,
    names: HashMap<(String, String), TableId>,
    /// What this is a part of, where somebody may not see all of it.
    whole: Option<Arc<Catalog>>,
}

impl Catalog {
    /// The part of a catalogue that somebody may see: what `see` gives of each served table.
    pub fn restricted(
        self: &Arc<Self>,
        see: impl Fn(&Arc<CompiledTable>) -> Option<Arc<CompiledTable>>,
    ) -> Self {
        let mut part = Self { whole: Some(Arc::clone(self)), ..Self::default() };
        for table in self.tables().filter_map(see) {
            let name = (table.def.schema.clone(), table.def.name.clone());
            part.names.insert(name, table.id);
            part.tables.insert(table.id, table);
        }
        part
    }

    /// The catalogue that this is a part of; none = it is whole.
    pub fn whole(&self) -> Option<&Arc<Self>> {
        self.whole.as_ref()
    }

    /// Compiles the attached tables of `manifest`; what `previous` holds unchanged is shared.
    pub fn compile(
        manifest: &Manifest,
        previous: Option<&Self>,
        compiler: &dyn ExpressionCompiler,
    ) -> Result<Self> {
        let mut catalog = Self::default();
        for state in manifest.tables.values().filter(|t| t.attached) {
            let rollups: Vec<_> = manifest
                .rollups
                .values()
                .filter(|r| r.table == state.id)
                .map(|r| (r.id, r.def.clone()))
                .collect();
            let unchanged = previous.and_then(|p| p.tables.get(&state.id)).filter(|t| {
                t.def == state.def
                    && t.schema_id == state.schema_id
                    && t.rollups.len() == rollups.len()
                    && t.rollups.iter().zip(&rollups).all(|(a, b)| a.id == b.0 && a.def == b.1)
            });
            let table = match unchanged {
                Some(table) => Arc::clone(table),
                None => Arc::new(CompiledTable::new(state, &rollups, compiler)?),
            };
            if table.def.rebuild().is_none() {
                let name = (table.def.schema.clone(), table.def.name.clone());
                catalog.names.insert(name, table.id);
            }
            catalog.tables.insert(table.id, table);
        }
        Ok(catalog)
    }

    /// Whether these are the same definitions: not equal ones, the very ones.
    pub fn is_same(&self, other: &Self) -> bool {
        let (mine, others) = (self.tables.values(), other.tables.values());
        mine.len() == others.len() && mine.zip(others).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// All served tables, by id.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<CompiledTable>> {
        self.tables.values().filter(|table| table.def.rebuild().is_none())
    }

    /// All tables that are read, by id: the served ones and those being rebuilt out of sight.
    pub fn read_tables(&self) -> impl Iterator<Item = &Arc<CompiledTable>> {
        self.tables.values()
    }

    /// The served table of this name.
    pub fn table(&self, schema: &str, name: &str) -> Option<&Arc<CompiledTable>> {
        self.names.get(&(schema.to_string(), name.to_string())).and_then(|id| self.tables.get(id))
    }

    /// The served table of this id.
    pub fn table_by_id(&self, id: TableId) -> Option<&Arc<CompiledTable>> {
        self.tables.get(&id)
    }
}
