//! The catalogue of one statement: every schema and table is that of one snapshot, which shows what is granted
//! to whoever asks. Unqualified names are
//! looked up along the session's search path.

mod handle;
mod information;
mod layout;
mod library;
mod names;
mod nested;
mod relations;
mod routines;
mod status;
mod tables;
mod types;
mod value;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionState;
use otus_engine::compiled::{CompiledRollup, CompiledTable};
use otus_engine::restriction::Restriction;
use otus_engine::snapshot::Snapshot;
use otus_engine::time::Granularity;

use crate::error::near as near_name;
use crate::named::NamedQueries;
use crate::provider::{self, KeyedRows, RawTable, SYSTEM_SCHEMA, SYSTEM_TABLES};
use crate::queries::Queries;
use crate::star::WHOLE;
use handle::PgSchema;
pub(crate) use handle::{Catalogue, PgTables, Role};
pub(crate) use information::view_schema;
pub(crate) use layout::{Layout, find as layout};
pub(crate) use library::{KEYWORDS, Library, library};
pub(crate) use names::{NamedIds, shown_names};
pub(crate) use nested::nested;
pub(crate) use relations::{Relation, Routine, figures, quoted as quoted_name};
pub(crate) use routines::{
    arguments as routine_arguments, builtin as builtin_definition, definition as routine_definition,
};
pub(crate) use tables::{CLASS_OF_RELATIONS, index_definition};
pub(crate) use types::{internal_name, sql_name, type_name};
pub(crate) use value::{REG_TYPES, Value, array, field_of, values};

/// Name of the schema that stands for the search path.
pub(crate) const PATH_SCHEMA: &str = "$path";
/// The Postgres catalogue.
pub(crate) const PG_SCHEMA: &str = "pg_catalog";
/// The information schema.
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";
/// The schema of tables that name none.
pub(crate) const PUBLIC_SCHEMA: &str = "public";

/// The catalogues of a statement: one database.
pub(crate) fn list(
    snapshot: Arc<Snapshot>,
    database: &str,
    search_path: &[String],
    pg: Catalogue,
    functions: Arc<SessionState>,
    (queries, named): (Arc<Queries>, Arc<NamedQueries>),
    only: Option<String>,
) -> Arc<dyn CatalogProviderList> {
    let shared = Arc::new(Shared {
        snapshot,
        database: database.to_string(),
        path: search_path.to_vec(),
        pg,
        functions,
        queries,
        named,
        only,
    });
    Arc::new(Databases(shared))
}

/// What all schemas of a statement share.
struct Shared {
    snapshot: Arc<Snapshot>,
    database: String,
    path: Vec<String>,
    pg: Catalogue,
    /// State with which finishes of views are planned.
    functions: Arc<SessionState>,
    queries: Arc<Queries>,
    named: Arc<NamedQueries>,
    /// Whose queries are shown; none = everybody's.
    only: Option<String>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Catalog({}, {})", self.database, self.snapshot.sequence())
    }
}

#[derive(Debug)]
struct Databases(Arc<Shared>);

impl CatalogProviderList for Databases {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }
    fn catalog_names(&self) -> Vec<String> {
        vec![self.0.database.clone()]
    }
    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == self.0.database).then(|| Arc::new(Database(Arc::clone(&self.0))) as _)
    }
}

#[derive(Debug)]
struct Database(Arc<Shared>);

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        schema_names(&self.0.snapshot)
    }
    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == PG_SCHEMA {
            return Some(Arc::new(PgSchema(self.0.pg.clone())));
        }
        let known = name == PATH_SCHEMA || schema_names(&self.0.snapshot).iter().any(|s| s == name);
        let schema = Schema { shared: Arc::clone(&self.0), name: name.to_string() };
        known.then(|| Arc::new(schema) as _)
    }
}

#[derive(Debug)]
struct Schema {
    shared: Arc<Shared>,
    name: String,
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        table_names(&self.shared.snapshot, &self.name)
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        if self.name != PATH_SCHEMA {
            return self.shared.table(&self.name, name);
        }
        for schema in &self.shared.path {
            let found = match schema.as_str() {
                PG_SCHEMA => self.shared.pg.provider(PG_SCHEMA, name)?,
                schema => self.shared.table(schema, name)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        self.shared.pg.provider(PG_SCHEMA, name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|n| n == name)
    }
}

impl Shared {
    fn table(&self, schema: &str, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        let (name, is_whole) = match name.strip_prefix(WHOLE) {
            Some(name) => (name, true),
            None => (name, false),
        };
        match schema {
            SYSTEM_SCHEMA => {
                provider::system_table(&self.snapshot, name, Some(&self.named), || {
                    let mut list = self.queries.list();
                    if let Some(user) = &self.only {
                        list.retain(|query| query.user == *user);
                        // What was read tells how much there is.
                        list.iter_mut().for_each(|query| query.bytes_read = 0);
                    }
                    list
                })
            }
            INFORMATION_SCHEMA => self.pg.provider(INFORMATION_SCHEMA, name),
            _ => match find(&self.snapshot, schema, name) {
                None => Ok(None),
                Some(Found::Raw(table)) if table.def.keyed().is_some() => {
                    let rows = KeyedRows::new(&self.snapshot, table)?;
                    Ok(Some(Arc::new(if is_whole { rows } else { rows.declared() })))
                }
                Some(Found::Raw(table)) => {
                    let table = RawTable::new(Arc::clone(&self.snapshot), Arc::clone(table));
                    Ok(Some(Arc::new(if is_whole { table } else { table.declared() })))
                }
                Some(Found::View(table, rollup, granularity)) => {
                    let view =
                        provider::view(&self.functions, &self.snapshot, table, rollup, granularity);
                    view.map(Some)
                }
            },
        }
    }
}

/// What a name stands for.
pub(crate) enum Found<'a> {
    /// The raw rows of a table.
    Raw(&'a Arc<CompiledTable>),
    /// A finished view.
    View(&'a Arc<CompiledTable>, &'a CompiledRollup, Granularity),
}

/// What `schema.name` stands for in a snapshot.
pub(crate) fn find<'a>(snapshot: &'a Snapshot, schema: &str, name: &str) -> Option<Found<'a>> {
    if let Some(table) = snapshot.table(schema, name) {
        return Some(Found::Raw(table));
    }
    let mut views = snapshot
        .tables()
        .filter(|t| t.def.schema == schema)
        .flat_map(|t| t.rollups.iter().map(move |r| (t, r)))
        .flat_map(|(t, r)| r.def.granularities.iter().map(move |g| (t, r, *g)));
    let (table, rollup, granularity) = views.find(|(_, r, g)| r.def.view_name(*g) == name)?;
    Some(Found::View(table, rollup, granularity))
}

/// Names of the columns of a table, or of measures, that a snapshot does not show; none if it does not show the table.
pub(crate) fn hidden_columns(snapshot: &Snapshot, schema: &str, name: &str) -> Option<Vec<String>> {
    let table = match find(snapshot, schema, name) {
        Some(Found::Raw(table) | Found::View(table, ..)) => table,
        None => {
            let system = [SYSTEM_SCHEMA, PG_SCHEMA, INFORMATION_SCHEMA].contains(&schema);
            return system.then(Vec::new);
        }
    };
    let Some(Restriction { whole, .. }) = &table.restriction else { return Some(Vec::new()) };
    let columns = whole.schema.fields().iter().map(|field| field.name());
    let columns = columns.filter(|name| table.schema.index_of(name).is_err());
    let shown = &table.measures.measures;
    let measures = whole.measures.measures.iter().map(|measure| &measure.name);
    let measures = measures.filter(|name| !shown.iter().any(|measure| measure.name == **name));
    Some(columns.chain(measures).cloned().collect())
}

/// The table that was perhaps meant by a name that stands for none.
pub(crate) fn near(
    databases: &dyn CatalogProviderList,
    search_path: &[String],
    name: &str,
) -> Option<String> {
    let database = databases.catalog(databases.catalog_names().first()?)?;
    let (mut reached, mut all) = (Vec::new(), Vec::new());
    for schema in database.schema_names() {
        let tables = database.schema(&schema).map(|s| s.table_names()).unwrap_or_default();
        all.extend(tables.iter().map(|table| format!("{schema}.{table}")));
        if search_path.contains(&schema) {
            reached.extend(tables);
        }
    }
    if name.contains('.') {
        return near_name(name, all.iter().map(String::as_str)).map(str::to_string);
    }
    let near = near_name(name, reached.iter().map(String::as_str)).map(str::to_string);
    let elsewhere = || {
        let same = |full: &&String| full.split_once('.').is_some_and(|(_, table)| table == name);
        all.iter().find(same).cloned()
    };
    near.or_else(elsewhere)
}

/// Schemas of a snapshot, those of the system included.
pub(crate) fn schema_names(snapshot: &Snapshot) -> Vec<String> {
    let mut names: Vec<String> = snapshot.tables().map(|t| t.def.schema.clone()).collect();
    let fixed = [PUBLIC_SCHEMA, SYSTEM_SCHEMA, PG_SCHEMA, INFORMATION_SCHEMA];
    names.extend(fixed.map(str::to_string));
    names.sort();
    names.dedup();
    names
}

/// Tables and views of a schema.
pub(crate) fn table_names(snapshot: &Snapshot, schema: &str) -> Vec<String> {
    match schema {
        SYSTEM_SCHEMA => SYSTEM_TABLES.iter().map(|t| (*t).to_string()).collect(),
        INFORMATION_SCHEMA | PG_SCHEMA => {
            let all = layout::all().iter().filter(|layout| layout.schema == schema);
            all.map(|layout| layout.name.to_string()).collect()
        }
        _ => {
            let mut names = Vec::new();
            for table in snapshot.tables().filter(|t| t.def.schema == schema) {
                names.push(table.def.name.clone());
                for rollup in &table.rollups {
                    names.extend(rollup.def.granularities.iter().map(|g| rollup.def.view_name(*g)));
                }
            }
            names
        }
    }
}
