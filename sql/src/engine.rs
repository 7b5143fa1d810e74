//! The query engine of a process: shared memory pool, caches and the CPU threads on which all queries run.
//! Sessions are cheap and independent; what they share is here.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryReservation, TrackConsumersPool,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use otus_engine::compiled::CompiledTable;
use otus_engine::dataset::Dataset;
use otus_engine::snapshot::Snapshot;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::access::{Allowance, Identity, RoleDef, Roles, Running, Views};
use crate::append::Appender;
use crate::cache::{Answers, CacheFigures, RowsCache, StatesCache};
use crate::catalog::{Catalogue, PgTables};
use crate::ddl::Definer;
use crate::error::{SqlError, SqlResult};
use crate::kept::KeptPlans;
use crate::lanes::{Lane, Lanes};
use crate::named::{NamedQueries, NamedQueryDef};
use crate::plan::SearchPath;
use crate::queries::Queries;
use crate::rewrite::FactsCache;
use crate::session::{Session, SessionOptions};
use crate::sessions::Sessions;
use crate::spill::Spill;
use crate::state::{self, States};

/// Stack of a query thread, bytes: plans are walked by recursion.
pub(crate) const STACK_BYTES: usize = 16 << 20;

/// Time zones of which states are kept.
const ZONES_MAX: usize = 8;

/// Settings of the query engine.
#[derive(Debug, Clone)]
pub struct SqlConfig {
    /// Memory of all queries together, bytes; beyond it they spill or fail with 53200.
    pub memory_bytes: usize,
    /// Where sorts and aggregates spill; none = the system's folder for temporary files.
    pub spill_dir: Option<PathBuf>,
    /// Most bytes of spilled data on disk.
    pub spill_bytes: u64,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Partitions of a plan; 0 = one per core. There are more query threads than that, so that a short
    /// statement gets its turn beside long ones.
    pub threads: usize,
    /// Memory for Parquet footers, bytes.
    pub metadata_cache_bytes: usize,
    /// Memory for answers that may be given again, bytes; 0 = none is kept.
    pub result_cache_bytes: usize,
    /// Memory for states of rollups that are kept decoded, bytes; 0 = none.
    pub states_cache_bytes: usize,
    /// Memory for raw rows that are kept decoded, for short statements, bytes; 0 = none.
    pub rows_cache_bytes: usize,
    /// Name of the database that clients see.
    pub database: String,
    /// Port that clients are told; 0 = that of Postgres.
    pub port: u16,
    /// Most sessions at a time, as clients are told.
    pub connections_max: usize,
    /// Time zone of a new session.
    pub timezone: String,
    /// Longest time of a statement of a new session, if bounded.
    pub statement_timeout: Option<Duration>,
    /// Named queries.
    pub queries: Vec<NamedQueryDef>,
    /// Roles that users may have.
    pub roles: Vec<RoleDef>,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            spill_dir: None,
            spill_bytes: 16 << 30,
            batch_rows: 8192,
            threads: 0,
            metadata_cache_bytes: 256 << 20,
            result_cache_bytes: 64 << 20,
            states_cache_bytes: 64 << 20,
            rows_cache_bytes: 64 << 20,
            database: "otus".into(),
            port: 0,
            connections_max: 100,
            timezone: "UTC".into(),
            statement_timeout: None,
            queries: Vec::new(),
            roles: Vec::new(),
        }
    }
}

/// Runs the queries of a process over one dataset.
pub struct SqlEngine {
    dataset: Arc<Dataset>,
    config: SqlConfig,
    runtime: Arc<RuntimeEnv>,
    lanes: Lanes,
    template: Arc<SessionState>,
    pg: PgTables,
    facts: FactsCache,
    named: Arc<NamedQueries>,
    roles: Roles,
    views: Views,
    running: Arc<Running>,
    queries: Arc<Queries>,
    answers: Arc<Answers>,
    states: Arc<StatesCache>,
    rows: Arc<RowsCache>,
    kept: KeptPlans,
    zones: Mutex<Vec<States>>,
    next_pid: AtomicI32,
    sessions: Arc<Sessions>,
    definer: OnceLock<Arc<dyn Definer>>,
    appender: OnceLock<Arc<dyn Appender>>,
}

impl SqlEngine {
    /// Starts the query threads.
    pub fn new(dataset: Arc<Dataset>, config: SqlConfig) -> SqlResult<Arc<Self>> {
        let mut config = config;
        if config.threads == 0 {
            config.threads = std::thread::available_parallelism().map_or(1, usize::from);
        }
        let runtime = Arc::new(runtime_env(&config)?);
        let storage = dataset.snapshot().storage().clone();
        runtime.register_object_store(&storage.object_url(), Arc::clone(storage.store()));
        let lanes = Lanes::start(config.threads)?;
        let named = Arc::new(NamedQueries::new(&config.queries)?);
        let mut template = state::template(&config, Arc::clone(&runtime))?;
        template.config_mut().set_extension(Arc::clone(&named));
        let states = Arc::new(StatesCache::new(config.states_cache_bytes));
        template.config_mut().set_extension(Arc::clone(&states));
        let roles = Roles::new(config.roles.clone())?;
        let pg = PgTables::new(
            &config.database,
            roles.clone(),
            Arc::clone(&named),
            crate::function::names(&template),
            dataset.clock().now_us(),
        );
        Ok(Arc::new(Self {
            dataset,
            runtime,
            lanes,
            template: Arc::new(template),
            pg,
            facts: FactsCache::default(),
            named,
            roles,
            views: Views::default(),
            running: Arc::default(),
            queries: Arc::default(),
            answers: Arc::new(Answers::new(config.result_cache_bytes)),
            states,
            rows: Arc::new(RowsCache::new(config.rows_cache_bytes)),
            kept: KeptPlans::default(),
            zones: Mutex::default(),
            config,
            next_pid: AtomicI32::new(1),
            sessions: Arc::default(),
            definer: OnceLock::new(),
            appender: OnceLock::new(),
        }))
    }

    /// The roles that users may have.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Whether somebody may write rows of a keyed table: not where a filter stands in the way, since a row could take
    /// the place of one that is hidden, or tell that there is one.
    pub fn may_write_rows(
        &self,
        snapshot: Arc<Snapshot>,
        identity: &Arc<Identity>,
        table: &CompiledTable,
    ) -> bool {
        let seen = self.views.of(snapshot, identity);
        identity.inserts_freely(&table.def.schema, &table.def.name)
            && seen.table_by_id(table.id).is_none_or(|seen| seen.guard().is_none())
    }

    /// A snapshot as somebody sees it: its catalogue has what is granted to them, and nothing else. Without an identity
    /// all of it.
    pub fn seen_by(
        &self,
        snapshot: Arc<Snapshot>,
        identity: Option<&Arc<Identity>>,
    ) -> Arc<Snapshot> {
        match identity {
            Some(identity) => self.views.of(snapshot, identity),
            None => snapshot,
        }
    }

    /// What a statement of somebody may take besides; none = nothing of its own.
    pub(crate) fn allowance(
        &self,
        identity: Option<&Arc<Identity>>,
    ) -> SqlResult<Option<Allowance>> {
        identity.map_or(Ok(None), |identity| self.running.begin(identity))
    }

    /// A session for one connection or request.
    pub fn session(self: &Arc<Self>, options: SessionOptions) -> Session {
        Session::new(Arc::clone(self), options)
    }

    /// A number that no other session of this process has.
    pub fn next_backend_pid(&self) -> i32 {
        loop {
            let pid = self.next_pid.fetch_add(1, Ordering::Relaxed);
            if pid > 0 && !self.sessions.has(pid) {
                return pid;
            }
        }
    }

    /// The sessions that there are.
    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Names whoever carries out changes of definitions; the first one stays.
    pub fn set_definer(&self, definer: Arc<dyn Definer>) {
        self.definer.get_or_init(|| definer);
    }

    /// Who carries out changes of definitions.
    pub(crate) fn definer(&self) -> Option<&Arc<dyn Definer>> {
        self.definer.get()
    }

    /// Names whoever writes the records of INSERT and COPY; the first one stays.
    pub fn set_appender(&self, appender: Arc<dyn Appender>) {
        self.appender.get_or_init(|| appender);
    }

    /// Who writes the records of INSERT and COPY.
    pub(crate) fn appender(&self) -> Option<&Arc<dyn Appender>> {
        self.appender.get()
    }

    /// A share of the memory of queries, empty as yet.
    pub(crate) fn reservation(&self, name: &str) -> MemoryReservation {
        MemoryConsumer::new(name).register(&self.runtime.memory_pool)
    }

    /// The dataset.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// The settings.
    pub fn config(&self) -> &SqlConfig {
        &self.config
    }

    /// Bytes that running queries hold.
    pub fn memory_reserved(&self) -> usize {
        self.runtime.memory_pool.reserved()
    }

    /// A planner's state in which every table is that of `snapshot`, with a search path.
    /// What a restricted snapshot does not show is not there; `user` is then whose queries are.
    pub(crate) fn state(
        &self,
        snapshot: &Arc<Snapshot>,
        search_path: &[String],
        user: &str,
    ) -> SessionState {
        let mut state = self.template.as_ref().clone();
        let pg = Catalogue::new(self.pg.clone(), Arc::clone(snapshot), search_path);
        let (mut named, mut only) = (Arc::clone(&self.named), None);
        if snapshot.catalog().whole().is_some() {
            named = Arc::new(named.seen_by(snapshot));
            only = Some(user.to_owned());
            state.config_mut().set_extension(Arc::clone(&named));
        }
        let catalog = crate::catalog::list(
            Arc::clone(snapshot),
            &self.config.database,
            search_path,
            pg.clone(),
            Arc::clone(&self.template),
            (Arc::clone(&self.queries), named),
            only,
        );
        state.register_catalog_list(catalog);
        state.config_mut().set_extension(Arc::new(SearchPath(search_path.to_vec())));
        state.config_mut().options_mut().extensions.insert(pg);
        state
    }

    /// The named queries.
    pub(crate) fn named(&self) -> &Arc<NamedQueries> {
        &self.named
    }

    /// The answers that are kept.
    pub(crate) fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }

    /// The plans that are kept.
    pub(crate) fn kept(&self) -> &KeptPlans {
        &self.kept
    }

    /// Raw rows that are kept decoded.
    pub(crate) fn rows(&self) -> &Arc<RowsCache> {
        &self.rows
    }

    /// Where plans run.
    pub(crate) fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.runtime
    }

    /// States to run kept plans with, in a time zone.
    pub(crate) fn states_in(&self, zone: &str) -> States {
        let mut known = self.zones.lock();
        if let Some(states) = known.iter().find(|states| *states.zone == *zone) {
            return states.clone();
        }
        let states = States::new(&self.template, zone);
        known.truncate(ZONES_MAX.saturating_sub(1));
        known.insert(0, states.clone());
        states
    }

    /// What the caches have done.
    pub fn cache_figures(&self) -> CacheFigures {
        let (states_bytes, rows_bytes) = (self.states.bytes(), self.rows.bytes());
        CacheFigures { states_bytes, rows_bytes, ..self.answers.figures() }
    }

    /// The latest queries.
    pub(crate) fn queries(&self) -> &Arc<Queries> {
        &self.queries
    }

    /// What is known of the declared aggregate calls.
    pub(crate) fn facts(&self) -> &FactsCache {
        &self.facts
    }

    /// Plans a statement on a thread of its own: whatever is folded there holds nobody else up.
    pub(crate) fn plan<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.lanes.aside(work)
    }

    /// The error without the folders of this machine.
    pub(crate) fn without_paths(&self, mut e: SqlError) -> SqlError {
        let snapshot = self.dataset.snapshot();
        let data = snapshot.storage().local_dir().map(std::path::Path::to_path_buf);
        let absolute = data.as_deref().and_then(|dir| std::path::absolute(dir).ok());
        let spill = self.config.spill_dir.clone().unwrap_or_else(std::env::temp_dir);
        let hidden = [absolute, data, Some(spill)];
        for text in [Some(&mut e.message), e.detail.as_mut(), e.hint.as_mut()] {
            let Some(text) = text else { continue };
            for dir in hidden.iter().flatten().map(|dir| dir.to_string_lossy()) {
                if dir.len() > 1 && text.contains(dir.as_ref()) {
                    *text = text.replace(&format!("{dir}/"), "").replace(dir.as_ref(), "");
                }
            }
        }
        e
    }

    /// Calls `work` on each query thread that is free, once.
    pub async fn on_free_threads(&self, work: fn()) {
        self.lanes.on_free_threads(work).await;
    }

    /// The threads on which queries run.
    pub(crate) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Runs a piece of work on the query threads.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.lanes.handle(Lane::Quick).spawn(work)
    }
}

impl fmt::Debug for SqlEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlEngine").field("config", &self.config).finish_non_exhaustive()
    }
}

fn runtime_env(config: &SqlConfig) -> SqlResult<RuntimeEnv> {
    let top = std::num::NonZeroUsize::MIN.saturating_add(2);
    let pool = TrackConsumersPool::new(FairSpillPool::new(config.memory_bytes), top);
    let folder = config.spill_dir.clone().unwrap_or_else(std::env::temp_dir);
    let spill = Spill::new(folder, config.spill_bytes);
    let disk = DiskManagerBuilder::default().with_temp_file_factory(Arc::new(spill));
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(disk)
        .with_metadata_cache_limit(config.metadata_cache_bytes)
        .build()
        .map_err(SqlError::from)
}
