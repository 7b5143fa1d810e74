//! The Postgres catalogue, by the tables of datafusion-pg-catalog over what the dataset serves now. One
//! instance serves all sessions, so that object ids stay the same between queries.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::SchemaProvider;
use datafusion::datasource::TableType;
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionState;
use datafusion::physical_plan::collect;
use datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_pg_catalog::pg_catalog::context::{PgCatalogContextProvider, Role};
use datafusion_pg_catalog::pg_catalog::{PgCatalogSchemaProvider, PgCatalogStaticTables};
use otus_engine::dataset::Dataset;

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
        let provider = PgCatalogSchemaProvider::try_new(facts, Arc::new(tables), Roles)
            .map_err(SqlError::from)?;
        Ok(Self(Arc::new(provider)))
    }

    pub(crate) fn schema(&self) -> Arc<dyn SchemaProvider> {
        Arc::clone(&self.0)
    }
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
        let snapshot = self.dataset.snapshot();
        let provider = match schema {
            SYSTEM_SCHEMA => provider::system_table(&snapshot, table, Vec::new)?,
            INFORMATION_SCHEMA => information::table(&snapshot, &self.database, table)?,
            _ => {
                return Ok(match find(&snapshot, schema, table) {
                    Some(Found::Raw(t)) => Some(Arc::clone(&t.schema)),
                    Some(Found::View(t, rollup, _)) => Some(information::view_schema(t, rollup)),
                    None => None,
                });
            }
        };
        Ok(provider.map(|p| p.schema()))
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
