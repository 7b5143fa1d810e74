//! The Postgres catalogue as one statement sees it: what its snapshot defines, how large that is, who asks. Rows
//! that depend on definitions alone are made once per set of definitions and kept.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::error::{DataFusionError, Result as DfResult};
use otus_engine::compiled::Catalog;
use otus_engine::snapshot::Snapshot;
use parking_lot::Mutex;

use super::layout::{self, Layout};
use super::relations::{OWNER, OWNER_ID, Relation, Relations, id_of};
use super::{INFORMATION_SCHEMA, PG_SCHEMA, information, tables};
use crate::access::{Identity, Roles};
use crate::error::{SqlError, SqlResult};
use crate::function::SessionFacts;
use crate::named::NamedQueries;
use crate::provider;

/// Sets of definitions that are kept: those of the last users.
const KEPT: usize = 8;

/// What an engine keeps of its catalogue.
#[derive(Clone)]
pub(crate) struct PgTables(Arc<Engine>);

struct Engine {
    database: String,
    roles: Roles,
    named: Arc<NamedQueries>,
    /// Names of the functions that there are.
    functions: Vec<String>,
    started_us: i64,
    kept: Mutex<Vec<Arc<Kept>>>,
}

struct Kept {
    catalog: Arc<Catalog>,
    relations: Arc<Relations>,
    /// By schema and name; the number is that of the snapshot, for rows that depend on it.
    batches: Mutex<HashMap<(&'static str, &'static str), (u64, RecordBatch)>>,
}

impl PgTables {
    pub(crate) fn new(
        database: &str,
        roles: Roles,
        named: Arc<NamedQueries>,
        functions: Vec<String>,
        started_us: i64,
    ) -> Self {
        let (database, kept) = (database.to_owned(), Mutex::default());
        Self(Arc::new(Engine { database, roles, named, functions, started_us, kept }))
    }

    fn kept(&self, snapshot: &Arc<Snapshot>) -> DfResult<Arc<Kept>> {
        let is_same = |kept: &Arc<Kept>| Arc::ptr_eq(&kept.catalog, snapshot.catalog());
        if let Some(kept) = self.0.kept.lock().iter().find(|kept| is_same(kept)) {
            return Ok(Arc::clone(kept));
        }
        let relations = Arc::new(Relations::of(snapshot, Some(&self.0.named))?);
        let catalog = Arc::clone(snapshot.catalog());
        let made = Arc::new(Kept { catalog, relations, batches: Mutex::default() });
        let mut kept = self.0.kept.lock();
        kept.insert(0, Arc::clone(&made));
        kept.truncate(KEPT);
        Ok(made)
    }
}

/// A role as the catalogue shows it.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) oid: u32,
    pub(crate) name: String,
    pub(crate) is_admin: bool,
    pub(crate) can_login: bool,
    /// Roles whose rights it has too.
    pub(crate) member_of: Vec<String>,
}

/// The catalogue of one statement.
#[derive(Clone)]
pub(crate) struct Catalogue(Arc<Shared>);

struct Shared {
    engine: PgTables,
    snapshot: Arc<Snapshot>,
    path: Vec<String>,
    session: OnceLock<Arc<SessionFacts>>,
    identity: OnceLock<Arc<Identity>>,
    kept: OnceLock<Arc<Kept>>,
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Catalogue({})", self.database())
    }
}

impl Catalogue {
    pub(crate) fn new(engine: PgTables, snapshot: Arc<Snapshot>, path: &[String]) -> Self {
        Self(Arc::new(Shared {
            engine,
            snapshot,
            path: path.to_vec(),
            session: OnceLock::new(),
            identity: OnceLock::new(),
            kept: OnceLock::new(),
        }))
    }

    /// Says who asks; the first one stays.
    pub(crate) fn set_session(&self, facts: &Arc<SessionFacts>, identity: Option<&Arc<Identity>>) {
        self.0.session.get_or_init(|| Arc::clone(facts));
        if let Some(identity) = identity {
            self.0.identity.get_or_init(|| Arc::clone(identity));
        }
    }

    fn kept(&self) -> DfResult<&Arc<Kept>> {
        if let Some(kept) = self.0.kept.get() {
            return Ok(kept);
        }
        let kept = self.0.engine.kept(&self.0.snapshot)?;
        Ok(self.0.kept.get_or_init(|| kept))
    }

    pub(crate) fn relations(&self) -> DfResult<&Relations> {
        self.kept().map(|kept| kept.relations.as_ref())
    }
    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.0.snapshot
    }
    pub(crate) fn database(&self) -> &str {
        &self.0.engine.0.database
    }
    /// Names of the functions that there are.
    pub(crate) fn functions(&self) -> &[String] {
        &self.0.engine.0.functions
    }
    /// When the engine started, microseconds.
    pub(crate) fn started_us(&self) -> i64 {
        self.0.engine.0.started_us
    }
    pub(crate) fn session(&self) -> Option<&SessionFacts> {
        self.0.session.get().map(Arc::as_ref)
    }
    /// Schemas of unqualified names, Postgres's own first.
    pub(crate) fn path(&self) -> impl Iterator<Item = &str> {
        let own = self.0.path.iter().map(String::as_str).filter(|schema| *schema != PG_SCHEMA);
        std::iter::once(PG_SCHEMA).chain(own)
    }
    pub(crate) fn user(&self) -> &str {
        self.session().map_or(OWNER, |facts| facts.user.as_str())
    }

    /// Whether the user may see and do everything; there may be no users.
    pub(crate) fn is_admin(&self) -> bool {
        self.0.identity.get().is_none_or(|identity| identity.is_admin())
    }

    /// The user; none where there are no users.
    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.0.identity.get()
    }

    /// A declared role as if it were a user.
    pub(crate) fn role(&self, name: &str) -> SqlResult<Arc<Identity>> {
        self.0.engine.0.roles.identity(name, &[name.to_owned()], &BTreeMap::new())
    }

    /// The role to which everything belongs, the declared ones, and the user.
    pub(crate) fn roles(&self) -> Vec<Role> {
        let id = |name: &str| id_of(&format!("role {name}"));
        let mut roles: Vec<Role> = vec![Role {
            oid: OWNER_ID,
            name: OWNER.to_owned(),
            is_admin: true,
            can_login: true,
            member_of: Vec::new(),
        }];
        for def in self.0.engine.0.roles.iter().filter(|def| def.name != OWNER) {
            roles.push(Role {
                oid: id(&def.name),
                name: def.name.clone(),
                is_admin: def.admin,
                can_login: false,
                member_of: def.inherits.clone(),
            });
        }
        let identity = self.0.identity.get();
        let own = identity.map(|i| i.roles.iter().map(|r| r.name.clone()).collect());
        let own: Vec<String> = own.unwrap_or_default();
        let user = self.user();
        match roles.iter_mut().find(|role| role.name == user) {
            Some(role) => role.can_login = true,
            None => roles.push(Role {
                oid: id(user),
                name: user.to_owned(),
                is_admin: identity.is_none_or(|identity| identity.is_admin()),
                can_login: true,
                member_of: own,
            }),
        }
        roles
    }

    /// The relation that a name stands for, qualified or along the search path.
    pub(crate) fn relation(&self, schema: Option<&str>, name: &str) -> DfResult<Option<&Relation>> {
        let relations = self.relations()?;
        Ok(match schema {
            Some(schema) => relations.named(schema, name),
            None => self.path().find_map(|schema| relations.named(schema, name)),
        })
    }

    /// Whether an unqualified name reaches a relation.
    pub(crate) fn is_visible(&self, relation: &Relation) -> DfResult<bool> {
        let found = self.relation(None, &relation.name)?;
        Ok(found.is_some_and(|found| found.oid == relation.oid))
    }

    /// The rows of a relation of the catalogue.
    fn rows(&self, layout: &'static Layout) -> DfResult<RecordBatch> {
        let Some(sequence) = tables::lasts(layout, &self.0.snapshot) else {
            return self.built(layout);
        };
        let kept = self.kept()?;
        let key = (layout.schema, layout.name);
        if let Some((made_at, batch)) = kept.batches.lock().get(&key)
            && *made_at == sequence
        {
            return Ok(batch.clone());
        }
        let batch = self.built(layout)?;
        kept.batches.lock().insert(key, (sequence, batch.clone()));
        Ok(batch)
    }

    fn built(&self, layout: &'static Layout) -> DfResult<RecordBatch> {
        match layout.schema {
            INFORMATION_SCHEMA => information::rows(self, layout),
            _ => tables::rows(self, layout),
        }
    }

    /// A relation of the catalogue as the planner sees it.
    pub(crate) fn provider(
        &self,
        schema: &str,
        name: &str,
    ) -> DfResult<Option<Arc<dyn TableProvider>>> {
        let Some(layout) = layout::find(schema, name) else { return Ok(None) };
        provider::memory(self.rows(layout)?).map(Some)
    }
}

/// `pg_catalog` as the planner sees it.
#[derive(Debug)]
pub(crate) struct PgSchema(pub(crate) Catalogue);

#[async_trait]
impl SchemaProvider for PgSchema {
    fn table_names(&self) -> Vec<String> {
        super::table_names(self.0.snapshot(), PG_SCHEMA)
    }
    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        self.0.provider(PG_SCHEMA, name)
    }
    fn table_exist(&self, name: &str) -> bool {
        layout::find(PG_SCHEMA, name).is_some()
    }
}

/// Functions find the catalogue of their statement among its options.
impl ConfigExtension for Catalogue {
    const PREFIX: &'static str = "otus_catalogue";
}

impl ExtensionOptions for Catalogue {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }
    fn set(&mut self, key: &str, _: &str) -> DfResult<()> {
        Err(DataFusionError::from(SqlError::unsupported(format!("{key} cannot be set"))))
    }
    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}
