//! The Postgres catalogue, by the tables of datafusion-pg-catalog over what the dataset serves now. One
//! instance serves all sessions, so that object ids stay the same between queries.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result as DfResult;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::physical_plan::collect;
use datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_pg_catalog::pg_catalog::context::{PgCatalogContextProvider, Role};
use datafusion_pg_catalog::pg_catalog::{
    PgCatalogSchemaProvider, PgCatalogStaticTables, PgCatalogTable,
};
use futures::TryStreamExt;
use otus_engine::dataset::Dataset;

use super::attribute::{self, Attribute};
use super::{Found, INFORMATION_SCHEMA, PG_SCHEMA, find, information, schema_names, table_names};
use crate::error::{SqlError, SqlResult};
use crate::provider::{self, SYSTEM_SCHEMA};

/// The tables of `pg_catalog`.
#[derive(Clone)]
pub(crate) struct PgTables(Arc<dyn SchemaProvider>);

impl PgTables {
    /// The tables for a dataset, shown as `database`.
    pub(crate) fn new(dataset: &Arc<Dataset>, database: &str) -> SqlResult<Self> {
        let tables = PgCatalogStaticTables::try_new().map_err(SqlError::from)?;
        let facts = Facts { dataset: Arc::clone(dataset), database: database.to_string() };
        let library = PgCatalogSchemaProvider::try_new(facts.clone(), Arc::new(tables), Roles)
            .map_err(SqlError::from)?;
        Ok(Self(Arc::new(PgSchema { library, facts })))
    }

    pub(crate) fn schema(&self) -> Arc<dyn SchemaProvider> {
        Arc::clone(&self.0)
    }
}

/// The library's tables, some of them corrected.
#[derive(Debug)]
struct PgSchema {
    library: PgCatalogSchemaProvider<Facts, Roles>,
    facts: Facts,
}

#[async_trait]
impl SchemaProvider for PgSchema {
    fn table_names(&self) -> Vec<String> {
        self.library.table_names()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        let batch = match name {
            "pg_attribute" => self.attributes().await?,
            "pg_class" => self.relations().await?,
            "pg_database" => self.databases().await?,
            _ => return self.library.table(name).await,
        };
        provider::memory(batch).map(Some)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.library.table_exist(name)
    }
}

impl PgSchema {
    /// The rows of one of the library's tables that change.
    async fn rows(&self, name: &str) -> DfResult<RecordBatch> {
        let Some(PgCatalogTable::Dynamic(table)) = self.library.build_table_by_name(name)? else {
            return datafusion::common::internal_err!("{name} is no table that changes");
        };
        let batches: Vec<_> = table.execute(Arc::new(TaskContext::default())).try_collect().await?;
        Ok(concat_batches(table.schema(), &batches)?)
    }

    /// The library always adds a database `postgres`, which nobody could connect to.
    async fn databases(&self) -> DfResult<RecordBatch> {
        let all = self.rows("pg_database").await?;
        let names = text(&all, "datname")?;
        let ours: BooleanArray =
            names.iter().map(|name| Some(name == Some(self.facts.database.as_str()))).collect();
        let ours = filter_record_batch(&all, &ours)?;
        let schema = ours.schema();
        let columns = schema.fields().iter().zip(ours.columns()).map(|(field, old)| {
            let new: ArrayRef = match field.name().as_str() {
                // What Postgres calls the provider `libc`.
                "datlocprovider" => Arc::new(StringArray::from(vec!["c"; ours.num_rows()])),
                "datcollate" | "datctype" => {
                    Arc::new(StringArray::from(vec!["C"; ours.num_rows()]))
                }
                _ => Arc::clone(old),
            };
            new
        });
        Ok(RecordBatch::try_new(Arc::clone(&schema), columns.collect())?)
    }

    /// The library leaves out the options and privileges of tables, which psql asks for.
    async fn relations(&self) -> DfResult<RecordBatch> {
        let all = self.rows("pg_class").await?;
        let text = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
        let mut fields: Vec<_> = all.schema().fields().iter().cloned().collect();
        let mut columns = all.columns().to_vec();
        for name in ["reloptions", "relacl"] {
            fields.push(Arc::new(Field::new(name, text.clone(), true)));
            columns.push(new_null_array(&text, all.num_rows()));
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    async fn attributes(&self) -> DfResult<RecordBatch> {
        let (tables, schemas) = (self.rows("pg_class").await?, self.rows("pg_namespace").await?);
        let schema_names: HashMap<i32, String> =
            ids(&schemas, "oid")?.into_iter().zip(owned(&schemas, "nspname")?).collect();
        let mut known = HashMap::new();
        let listed = ids(&tables, "oid")?.into_iter().zip(ids(&tables, "relnamespace")?);
        for ((oid, namespace), table) in listed.zip(owned(&tables, "relname")?) {
            let Some(schema) = schema_names.get(&namespace) else { continue };
            let Some((columns, declared)) = self.facts.columns(schema, &table)? else { continue };
            for field in columns.fields() {
                known.insert((oid, field.name().clone()), Attribute::of(field, declared));
            }
        }
        attribute::with_types(&self.rows("pg_attribute").await?, &known)
    }
}

fn column(batch: &RecordBatch, name: &str, data_type: &DataType) -> DfResult<ArrayRef> {
    let Some(column) = batch.column_by_name(name) else {
        return datafusion::common::internal_err!("the catalogue has no column {name}");
    };
    Ok(cast(column, data_type)?)
}

fn text(batch: &RecordBatch, name: &str) -> DfResult<StringArray> {
    Ok(column(batch, name, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn owned(batch: &RecordBatch, name: &str) -> DfResult<Vec<String>> {
    Ok(text(batch, name)?.iter().map(|v| v.unwrap_or_default().to_string()).collect())
}

fn ids(batch: &RecordBatch, name: &str) -> DfResult<Vec<i32>> {
    let column = column(batch, name, &DataType::Int32)?;
    Ok(column.as_primitive::<Int32Type>().iter().map(Option::unwrap_or_default).collect())
}

/// Object ids of the tables and views that unqualified names reach along a search path, for
/// `pg_table_is_visible`.
pub(crate) async fn visible(state: &SessionState, path: &[String]) -> DfResult<HashSet<i32>> {
    let schemas: Vec<_> = path.iter().map(|s| format!("'{}'", s.replace('\'', "''"))).collect();
    let listed = format!("'{PG_SCHEMA}', {}", schemas.join(", "));
    let sql = format!(
        "SELECT c.oid FROM {PG_SCHEMA}.pg_class c JOIN {PG_SCHEMA}.pg_namespace n \
         ON n.oid = c.relnamespace WHERE n.nspname IN ({})",
        listed.trim_end_matches(", ")
    );
    let plan = state.create_logical_plan(&sql).await?;
    let physical = state.create_physical_plan(&plan).await?;
    let mut oids = HashSet::new();
    for batch in collect(physical, state.task_ctx()).await? {
        let column = cast(batch.column(0), &DataType::Int32)?;
        oids.extend(column.as_primitive::<Int32Type>().iter().flatten());
    }
    Ok(oids)
}

/// The one role that the catalogue shows; accounts are the server's.
#[derive(Debug, Clone)]
struct Roles;

#[async_trait]
impl PgCatalogContextProvider for Roles {
    async fn roles(&self) -> Vec<String> {
        vec!["otus".into()]
    }
    async fn role(&self, name: &str) -> Option<Role> {
        Some(Role {
            name: name.to_string(),
            is_superuser: false,
            can_login: true,
            can_create_db: false,
            can_create_role: false,
            can_create_user: false,
            can_replication: false,
            grants: Vec::new(),
            inherited_roles: Vec::new(),
        })
    }
}

#[derive(Clone)]
struct Facts {
    dataset: Arc<Dataset>,
    database: String,
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Facts({})", self.database)
    }
}

impl Facts {
    /// Columns of a table or view, and whether their types were declared.
    fn columns(&self, schema: &str, table: &str) -> DfResult<Option<(SchemaRef, bool)>> {
        let snapshot = self.dataset.snapshot();
        let provider = match schema {
            SYSTEM_SCHEMA => provider::system_table(&snapshot, table, None, Vec::new)?,
            INFORMATION_SCHEMA => information::table(&snapshot, &self.database, table)?,
            _ => {
                return Ok(find(&snapshot, schema, table).map(|found| match found {
                    Found::Raw(t) => (Arc::clone(&t.schema), true),
                    Found::View(t, rollup, _) => (information::view_schema(t, rollup), false),
                }));
            }
        };
        Ok(provider.map(|p| (p.schema(), false)))
    }
}

#[async_trait]
impl CatalogInfo for Facts {
    async fn catalog_names(&self) -> DfResult<Vec<String>> {
        Ok(vec![self.database.clone()])
    }

    async fn schema_names(&self, _catalog: &str) -> DfResult<Option<Vec<String>>> {
        Ok(Some(schema_names(&self.dataset.snapshot())))
    }

    async fn table_names(&self, _catalog: &str, schema: &str) -> DfResult<Option<Vec<String>>> {
        Ok(Some(table_names(&self.dataset.snapshot(), schema)))
    }

    async fn table_schema(
        &self,
        _catalog: &str,
        schema: &str,
        table: &str,
    ) -> DfResult<Option<SchemaRef>> {
        Ok(self.columns(schema, table)?.map(|(columns, _)| columns))
    }

    async fn table_type(
        &self,
        _catalog: &str,
        schema: &str,
        table: &str,
    ) -> DfResult<Option<TableType>> {
        let snapshot = self.dataset.snapshot();
        Ok(match (schema, find(&snapshot, schema, table)) {
            (SYSTEM_SCHEMA | INFORMATION_SCHEMA | PG_SCHEMA, _) | (_, Some(Found::View(..))) => {
                Some(TableType::View)
            }
            (_, Some(Found::Raw(_))) => Some(TableType::Base),
            _ => None,
        })
    }
}
