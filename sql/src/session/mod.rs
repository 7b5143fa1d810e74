//! A session: the settings, transaction, cursors and prepared statements of one connection, and the way a
//! statement goes from here to rows. Each statement takes its own snapshot when it is executed, unless a
//! transaction or cursor holds one.

mod again;
mod append;
mod cursor;
mod define;
mod describe;
mod guard;
mod kept;
mod parameter;
mod run;
mod scroll;
mod settings;
mod show;
mod source;
mod stop;
mod transaction;
mod wide;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::FieldRef;
use datafusion::execution::SessionState;
use datafusion::scalar::ScalarValue;
use otus_engine::snapshot::Snapshot;
use parking_lot::Mutex;

use crate::access::{Allowance, Identity};
use crate::bounded::{BoundCalls, Bounds};
use crate::catalog::Catalogue;
use crate::engine::SqlEngine;
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::observer::{Observed, StatementObserver};
use crate::outcome::{Description, Outcome, Parameter, Report, TransactionStatus};
use crate::planning::{self, Taken};
use crate::queries::Asked;
use crate::rewrite::Mode;
use crate::sessions::{Presence, Present, Sessions, Stopper};
use crate::statement::{self, Action, Statement};
pub use again::Provenance;
pub(crate) use again::Wanted;
pub use append::CopyIn;
use append::Pending;
use cursor::Cursor;
pub use guard::CancelHandle;
use guard::Guard;
pub(crate) use parameter::{Operands, number as parameter_number};
pub use run::PinnedState;
pub(crate) use run::Ready;
use run::too_old;
pub use settings::SERVER_VERSION;
use settings::Settings;
pub(crate) use settings::setting_description;
use stop::Stop;
use transaction::Transaction;

/// Length from which a text is not parsed on a thread that others wait for, bytes.
const LONG_TEXT_BYTES: usize = 16 << 10;

/// How a session begins.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// The user.
    pub user: String,
    /// The database that the client named; must be the configured one or empty.
    pub database: String,
    /// Number by which clients cancel and tell sessions apart; 0 = the engine gives one.
    pub backend_pid: i32,
    /// Settings the client asked for at start, such as `TimeZone`, `search_path`, `application_name`,
    /// `statement_timeout`. Unknown names are ignored.
    pub settings: BTreeMap<String, String>,
    /// Whether the client is on this machine, or this process itself: without an identity only such may declare
    /// tables.
    pub is_local: bool,
    /// Who asks; none = somebody who may see and do everything, as where no users are configured.
    pub identity: Option<Arc<Identity>>,
    /// Who is told of each statement when it has ended.
    pub observer: Option<Arc<dyn StatementObserver>>,
    /// Where the client is.
    pub client: Option<SocketAddr>,
    /// How whoever serves the session stops it for others; none = its statements are stopped.
    pub stopper: Option<Arc<dyn Stopper>>,
}

/// One session. All methods take `&self`; statements of one session run one after another.
pub struct Session {
    engine: Arc<SqlEngine>,
    user: String,
    is_local: bool,
    identity: Option<Arc<Identity>>,
    observer: Option<Arc<dyn StatementObserver>>,
    backend_pid: i32,
    inner: Arc<Mutex<Inner>>,
    cancel: CancelHandle,
    present: Present,
}

#[derive(Default)]
struct Inner {
    settings: Settings,
    transaction: Option<Transaction>,
    failed: bool,
    cursors: HashMap<String, Cursor>,
    prepared: HashMap<String, Prepared>,
    reports: Vec<Report>,
    /// Records that wait for the end of the transaction.
    pending: Vec<Pending>,
    /// Whether the statements of one text are an implicit transaction.
    holding: bool,
    /// Text of the statement that runs; none = a plan without text.
    text: Option<Arc<str>>,
    /// How long the text that was read last took: it is of the next statement's time.
    parsing: Duration,
    tags: again::Tags,
    provenance: Provenance,
}

#[derive(Clone)]
struct Prepared {
    statement: Statement,
    types: Vec<Option<FieldRef>>,
    /// The whole of the text that made it, what it takes and gives, and when that was.
    text: Arc<str>,
    described: Description,
    made_us: i64,
}

/// What a running statement needs of its session, taken when it begins.
#[derive(Clone)]
struct Frame {
    engine: Arc<SqlEngine>,
    snapshot: Arc<Snapshot>,
    state: Arc<SessionState>,
    guard: Guard,
    rollups: Mode,
    asked: Asked,
    bounds: Bounds,
    /// What the statement may take besides; none = nothing of its own.
    allowance: Option<Allowance>,
    /// What the question may be answered with besides; none = nothing.
    wanted: Option<Arc<Wanted>>,
}

impl Session {
    pub(crate) fn new(engine: Arc<SqlEngine>, options: SessionOptions) -> Self {
        let mut options = options;
        // Who was let in is who asks, whatever else the client has said.
        if let Some(identity) = &options.identity {
            options.user.clone_from(&identity.user);
        }
        let mut settings = Settings::default();
        let mut reports = Vec::new();
        settings.fix("session_authorization", &options.user);
        if engine.config().port != 0 {
            settings.fix("port", &engine.config().port.to_string());
        }
        settings.fix("max_connections", &engine.config().connections_max.to_string());
        let zone = engine.config().timezone.clone();
        let timeout = engine.config().statement_timeout;
        let timeout = timeout.map(|t| ("statement_timeout".to_string(), t.as_millis().to_string()));
        let start = [("TimeZone".to_string(), zone)].into_iter().chain(timeout);
        let start = start.chain(options.settings);
        for (name, value) in start {
            if let Err(e) = settings.set_default(&name, &value) {
                reports.push(Report::Notice {
                    severity: "WARNING",
                    sqlstate: e.sqlstate,
                    message: e.message,
                });
            }
        }
        let backend_pid = match options.backend_pid {
            0 => engine.next_backend_pid(),
            pid => pid,
        };
        let cancel = CancelHandle::default();
        let is_admin = options.identity.as_ref().is_none_or(|identity| identity.is_admin());
        let present = engine.sessions().enter(Presence::new(
            backend_pid,
            &options.user,
            is_admin,
            options.client,
            engine.dataset().clock().now_us(),
            settings.value("application_name"),
            cancel.clone(),
            options.stopper,
        ));
        Self {
            engine,
            user: options.user,
            is_local: options.is_local,
            identity: options.identity,
            observer: options.observer,
            backend_pid,
            inner: Arc::new(Mutex::new(Inner { settings, reports, ..Inner::default() })),
            cancel,
            present,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<SqlEngine> {
        &self.engine
    }
    /// The user.
    pub fn user(&self) -> &str {
        &self.user
    }
    /// Who asks; none = somebody who may see and do everything.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }
    /// The number by which clients cancel.
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }
    /// Stops whatever statement runs when [`CancelHandle::cancel`] is called.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }
    /// Where the session stands in a transaction.
    pub fn transaction_status(&self) -> TransactionStatus {
        let inner = self.inner.lock();
        match (&inner.transaction, inner.failed) {
            (None, _) => TransactionStatus::Idle,
            (Some(_), false) => TransactionStatus::Open,
            (Some(_), true) => TransactionStatus::Failed,
        }
    }
    /// Says that a statement of the session failed outside [`Self::execute`] (in its stream, or in the
    /// wire's own checks): an open transaction is then failed.
    pub fn fail(&self) {
        let mut inner = self.inner.lock();
        inner.failed = inner.transaction.is_some();
    }
    /// Takes what is to be told to the client.
    pub fn take_reports(&self) -> Vec<Report> {
        let mut reports = std::mem::take(&mut self.inner.lock().reports);
        reports.extend(self.present.presence.take_warnings());
        reports
    }
    /// Says that the session waits for its client: others see it so.
    pub fn rest(&self) {
        let now_us = self.engine.dataset().clock().now_us();
        let inner = self.inner.lock();
        let state = match (&inner.transaction, inner.failed) {
            (None, _) => "idle",
            (Some(_), false) => "idle in transaction",
            (Some(_), true) => "idle in transaction (aborted)",
        };
        let application = inner.settings.value("application_name");
        let begun_us = inner.transaction.as_ref().map(|t| t.started_us);
        self.present.presence.rest(state, &application, now_us, begun_us);
    }
    /// The sessions of the engine, and this one among them.
    fn neighbours(&self) -> (Arc<Sessions>, Arc<Presence>) {
        (Arc::clone(self.engine.sessions()), Arc::clone(&self.present.presence))
    }
    fn show_running(&self, text: &str) {
        let now_us = self.engine.dataset().clock().now_us();
        let begun_us = self.inner.lock().transaction.as_ref().map(|t| t.started_us);
        self.present.presence.begin(text, now_us, begun_us);
    }
    /// Settings that clients are told at start.
    pub fn reported_settings(&self) -> Vec<(String, String)> {
        self.inner.lock().settings.reported()
    }
    /// Value of a setting, empty if there is none.
    pub fn setting(&self, name: &str) -> String {
        self.inner.lock().settings.value(name)
    }
    /// Gives a setting a value, as SET does.
    pub fn assign(&self, name: &str, value: &str) -> SqlResult<()> {
        self.set(name, Some(value), false).map(|_| ())
    }
    /// Longest time of a statement, if bounded.
    pub fn statement_timeout(&self) -> Option<Duration> {
        self.time_limit(&self.inner.lock().settings)
    }

    /// Longest time that the client may say nothing, if bounded; in a transaction it is another than outside.
    pub fn idle_timeout(&self) -> Option<Duration> {
        let inner = self.inner.lock();
        let name = match inner.transaction {
            Some(_) => "idle_in_transaction_session_timeout",
            None => "idle_session_timeout",
        };
        inner.settings.duration(name)
    }

    /// The session's own limit, as far as it is below that of all queries and that of the user.
    fn time_limit(&self, settings: &Settings) -> Option<Duration> {
        let all = self.engine.config().statement_timeout;
        let own = self.identity.as_ref().and_then(|identity| identity.limits().timeout);
        settings.statement_timeout().into_iter().chain(all).chain(own).min()
    }

    /// Parses the statements of one message. Whatever is not on the allow-list is refused here.
    pub fn parse(&self, sql: &str) -> SqlResult<Vec<Statement>> {
        self.show_running(sql);
        let begun = Instant::now();
        let parsed = self.parse_guarded(sql, begun);
        self.inner.lock().parsing = begun.elapsed();
        parsed
    }

    fn parse_guarded(&self, sql: &str, begun: Instant) -> SqlResult<Vec<Statement>> {
        // A long text takes long to read, and whoever asks may have other connections to serve.
        let runtime = tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor());
        let observed = self.observer.as_ref().map(|observer| Observed::begin(observer, sql));
        let by = self.statement_timeout().and_then(|limit| begun.checked_add(limit));
        let read = || planning::read_by(by, || statement::parse(sql));
        let parsed = match runtime {
            _ if sql.len() <= LONG_TEXT_BYTES => read(),
            runtime => {
                // It is work of a statement: whoever runs as many as they may does not get it done.
                match (self.engine.allowance(self.identity.as_ref()), runtime) {
                    (Err(e), _) => Err(e),
                    (Ok(_place), Ok(tokio::runtime::RuntimeFlavor::MultiThread)) => {
                        tokio::task::block_in_place(read)
                    }
                    (Ok(_place), _) => read(),
                }
            }
        };
        match (observed, &parsed) {
            (Some(observed), Err(e)) => observed.failed(e),
            (Some(observed), Ok(_)) => observed.forgotten(),
            (None, _) => {}
        }
        parsed
    }

    /// Runs a statement. Rows come as a stream; everything else is done on return.
    pub async fn execute(&self, stmt: &Statement, params: Vec<ScalarValue>) -> SqlResult<Outcome> {
        self.execute_with(stmt, params.into_iter().map(Parameter::from).collect()).await
    }

    /// The same with parameters that know their Postgres type.
    pub async fn execute_with(
        &self,
        stmt: &Statement,
        params: Vec<Parameter>,
    ) -> SqlResult<Outcome> {
        {
            let mut inner = self.inner.lock();
            inner.text = Some(stmt.text().into());
            inner.provenance = Provenance::default();
        }
        self.show_running(stmt.text());
        let observed = self.observer.as_ref().map(|o| Observed::begin(o, stmt.text()));
        let result = self.execute_inner(stmt, params).await;
        let result = match observed {
            Some(observed) => observed.answers(result),
            None => result,
        };
        self.inner.lock().text = None;
        if result.is_err() {
            self.fail();
        }
        result
    }

    async fn execute_inner(&self, stmt: &Statement, params: Vec<Parameter>) -> SqlResult<Outcome> {
        if self.transaction_status() == TransactionStatus::Failed && !stmt.ends_transaction() {
            return Err(SqlError::new(
                sqlstate::TRANSACTION_FAILED,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        match stmt.action() {
            Action::Query(query) => self.run_known(query, params).await,
            Action::Explain { options, query } => self.run_explain(*options, query, params).await,
            Action::CopyOut { query, format } => match self.run_query(query, params).await? {
                Outcome::Rows { schema, stream, .. } => {
                    Ok(Outcome::CopyOut { schema, stream, format: format.clone() })
                }
                other => Ok(other),
            },
            Action::Declare { name, hold, scroll, query } => {
                self.declare((name, stmt.text()), (*hold, *scroll), query, params).await
            }
            Action::Fetch { name, travel } => self.fetch(name, *travel).await,
            Action::Move { name, travel } => self.move_on(name, *travel).await,
            Action::Prepare { name, types, query } => {
                Box::pin(self.prepare((name, stmt.text()), types, query)).await
            }
            Action::Execute { name, args } => self.execute_prepared(name, args).await,
            Action::Define(ddl) => Box::pin(self.define(ddl, stmt.text())).await,
            Action::Insert(insert) => Box::pin(self.insert(insert, params)).await,
            Action::CopyIn(copy) => self.copy_in(copy),
            Action::Commit { chain } => Box::pin(self.commit(*chain)).await,
            other => self.command(other),
        }
    }

    fn command(&self, action: &Action) -> SqlResult<Outcome> {
        match action {
            Action::Show(name) => self.show(name),
            Action::Set { name, value, local } => self.set(name, value.as_deref(), *local),
            Action::ResetAll => self.reset_all(),
            Action::SetTransaction(modes) => self.set_transaction(*modes),
            Action::SetCharacteristics(modes) => self.set_characteristics(*modes),
            Action::Begin(modes) => self.begin(*modes),
            Action::Rollback { chain } => self.rollback(*chain),
            Action::Savepoint(name) => self.savepoint(name),
            Action::Release(name) => self.release(name),
            Action::RollbackTo(name) => self.rollback_to(name),
            Action::DiscardAll => self.discard_all(),
            Action::Close(name) => self.close(name.as_deref()),
            Action::Deallocate(name) => self.deallocate(name.as_deref()),
            Action::Nothing(tag) => Ok(tagged(*tag)),
            _ => Err(SqlError::internal("statement took the wrong way")),
        }
    }

    /// The snapshot of a statement that begins now.
    fn moment(&self, inner: &mut Inner, now_us: i64) -> SqlResult<Arc<Snapshot>> {
        let dataset = self.engine.dataset();
        if let Some(transaction) = &mut inner.transaction {
            transaction.queried = true;
        }
        let snapshot = match &mut inner.transaction {
            Some(t) if t.repeatable => {
                let snapshot = t.snapshot.get_or_insert_with(|| dataset.snapshot());
                snapshot.check_age(now_us).map_err(too_old)?;
                Arc::clone(snapshot)
            }
            _ => dataset.snapshot(),
        };
        Ok(self.engine.seen_by(snapshot, self.identity.as_ref()))
    }

    /// What ends a statement: a cancellation, or its time, of which reading its text is a part.
    fn guard(&self, inner: &mut Inner) -> Guard {
        let parsing = std::mem::take(&mut inner.parsing);
        let limit = self.time_limit(&inner.settings).map(|limit| limit.saturating_sub(parsing));
        Guard::new(self.cancel.arm(), limit)
    }

    /// What bounds the calls of a statement.
    fn bounds(&self, allowance: Option<&Allowance>, stop: &Stop) -> Bounds {
        let all = self.engine.config().memory_bytes;
        let memory = allowance.and_then(Allowance::memory).map_or(all, |own| own.min(all));
        let taken = Taken::new(self.engine.reservation("planning"), memory);
        Bounds::new(stop.flag(), memory).counting(taken)
    }

    /// Takes the snapshot of a statement and the state to plan it with.
    fn frame(&self) -> SqlResult<Frame> {
        self.frame_at(None)
    }

    fn frame_at(&self, pinned: Option<Arc<Snapshot>>) -> SqlResult<Frame> {
        let allowance = self.engine.allowance(self.identity.as_ref())?;
        let mut inner = self.inner.lock();
        let now_us = self.engine.dataset().clock().now_us();
        let started_us = inner.transaction.as_ref().map_or(now_us, |t| t.started_us);
        let snapshot = match pinned {
            Some(snapshot) => self.engine.seen_by(snapshot, self.identity.as_ref()),
            None => self.moment(&mut inner, now_us)?,
        };
        let path = inner.settings.search_path(&self.user);
        let mut state = self.engine.state(&snapshot, &path, &self.user);
        state.config_mut().options_mut().execution.time_zone =
            Some(inner.settings.value("TimeZone"));
        let options = Arc::clone(state.config_options());
        let props = state.execution_props_mut();
        props.query_execution_start_time = chrono::DateTime::from_timestamp_micros(started_us);
        props.config_options = Some(options);
        let (own, holds) = (Arc::downgrade(&self.inner), Arc::downgrade(&self.inner));
        let facts = crate::function::SessionFacts {
            holds: Some(Box::new(move || cursor::held(&holds))),
            assign: Some(Box::new(move |name, value, local| {
                show::assign(&own, name, value, local)
            })),
            user: self.user.clone(),
            database: self.engine.config().database.clone(),
            backend_pid: self.backend_pid,
            sessions: Some(self.neighbours()),
            search_path: path,
            transaction_us: started_us,
            statement_us: now_us,
            clock: Some(Arc::clone(self.engine.dataset().clock())),
            settings: inner.settings.by_name(),
        };
        let facts = Arc::new(facts);
        if let Some(catalogue) = state.config_options().extensions.get::<Catalogue>() {
            catalogue.set_session(&facts, self.identity.as_ref());
        }
        crate::function::register_session(&mut state, &facts)?;
        let stop = Stop::default();
        let bounds = self.bounds(allowance.as_ref(), &stop);
        state.add_analyzer_rule(Arc::new(BoundCalls(bounds.clone())));
        let guard = self.guard(&mut inner);
        #[cfg(test)]
        state.config_mut().set_extension(Arc::new(crate::rewrite::Fault::named(
            &inner.settings.value("fuzz.fault"),
        )));
        let rollups = Mode::named(&inner.settings.value("otus.rollups"));
        let engine = Arc::clone(&self.engine);
        let asked = self.asked(&inner);
        let (guard, state) = (guard.telling(stop), Arc::new(state));
        Ok(Frame {
            engine,
            snapshot,
            state,
            guard,
            rollups,
            asked,
            bounds,
            allowance,
            wanted: None,
        })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("user", &self.user)
            .field("backend_pid", &self.backend_pid)
            .finish_non_exhaustive()
    }
}

fn tagged(tag: impl Into<String>) -> Outcome {
    Outcome::Command { tag: tag.into() }
}
