//! How a query runs: planned on a thread of its own, executed on the query threads, rows handed over
//! through a short queue. Dropping the stream drops the task, and with it every thread's share of the work.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{RecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use datafusion::scalar::ScalarValue;
use futures::{Stream, StreamExt};
use otus_engine::snapshot::Snapshot;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::again::Given;
use super::source::Source;
use super::stop::{Stop, stoppable};
use super::{Frame, Session, wide};
use crate::access::Allowance;
use crate::aggregate;
use crate::bounded;
use crate::cache::Tag;
use crate::correlated;
use crate::engine::SqlEngine;
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::lanes::Lane;
use crate::named::{self, NamedQueries, NamedQuery};
use crate::outcome::{Outcome, Parameter, RowTag};
use crate::plan;
use crate::planning;
use crate::queries::{self, Running};
use crate::rewrite::{self, Mode, Report};
use crate::statement::{Explain, OutputNames, Plannable};

impl Session {
    pub(super) async fn run_query(
        &self,
        query: &Plannable,
        params: Vec<Parameter>,
    ) -> SqlResult<Outcome> {
        let wanted = self.wanted(query, &params);
        if let Some(again) = wanted.as_ref().and_then(|wanted| self.given_again(wanted)) {
            return Ok(again);
        }
        let mut frame = self.frame()?;
        frame.want(wanted);
        let started = frame.start(query.clone(), params).await?;
        self.came(&started);
        let Started { schema, mut stream, report, tag, given } = started;
        self.tell(&report);
        if given == Given::Run
            && let Some(keeping) = frame.keeping(tag)
        {
            stream = keeping.rows(stream, report);
        }
        let snapshot = Some(Arc::clone(&frame.snapshot));
        let stream = frame.guard.watch(stream);
        Ok(Outcome::Rows { schema, stream, tag: RowTag::Select, snapshot })
    }

    pub(super) async fn run_explain(
        &self,
        options: Explain,
        query: &Plannable,
        params: Vec<Parameter>,
    ) -> SqlResult<Outcome> {
        let frame = self.frame()?;
        let (query, inner) = (query.clone(), frame.detached());
        let work = async move {
            let plan = plan::logical(&inner.state, &query, &types_of(&params)).await?;
            let plan = plan::with_params(plan, params)?;
            inner.prepared(plan::nested(&inner.state, &query, plan)?).await
        };
        let mut ready = frame.on_threads(work).await?;
        let mut run = None;
        if options.analyze {
            let (physical, ran) = frame.guard.run(frame.executed(&ready)).await?;
            ready.physical = physical;
            run = Some(ran);
        }
        let (schema, stream) = plan::explain_lines(&ready, options, run.as_ref())?;
        let stream = frame.guard.watch(stream);
        Ok(Outcome::Rows { schema, stream, tag: RowTag::Explain, snapshot: None })
    }

    /// Runs a plan that was built over [`Session::pinned_state`]'s state, as pull does.
    pub(crate) async fn run_plan(
        &self,
        pinned: &PinnedState,
        plan: LogicalPlan,
    ) -> SqlResult<(SendableRecordBatchStream, Report)> {
        let frame = pinned.0.clone();
        let inner = frame.detached();
        let work = async move { inner.open(plan, &OutputNames::default()).await };
        let Started { stream, report, .. } = frame.on_threads(work).await?;
        Ok((frame.guard.watch(stream), report))
    }

    /// Runs a named query with a value for each parameter; `finish` adds to its plan.
    pub(crate) async fn run_named(
        &self,
        pinned: &PinnedState,
        query: Arc<NamedQuery>,
        given: Vec<ScalarValue>,
        finish: impl FnOnce(LogicalPlan) -> SqlResult<LogicalPlan> + Send + 'static,
    ) -> SqlResult<(SendableRecordBatchStream, Report)> {
        let frame = pinned.0.clone();
        let inner = frame.detached();
        let work = async move {
            let plan = finish(named::plan(&inner.state, &query, given).await?)?;
            inner.open(plan, &OutputNames::default()).await
        };
        let Started { stream, report, .. } = frame.on_threads(work).await?;
        Ok((frame.guard.watch(stream), report))
    }

    /// Plans and runs one query over a pinned snapshot; several may share it and see the same rows.
    pub async fn run_sql(
        &self,
        pinned: &PinnedState,
        sql: &str,
        params: Vec<ScalarValue>,
    ) -> SqlResult<(SchemaRef, SendableRecordBatchStream)> {
        let parsed = self.parse(sql)?;
        let [statement] = parsed.as_slice() else {
            return Err(SqlError::internal("one statement was expected"));
        };
        let crate::statement::Action::Query(query) = statement.action() else {
            return Err(SqlError::internal("a query was expected"));
        };
        let params = params.into_iter().map(Parameter::from).collect();
        let Started { schema, stream, .. } = pinned.0.start(query.clone(), params).await?;
        Ok((schema, pinned.0.guard.clone().watch(stream)))
    }

    /// Tells the client what a statement left out or took from elsewhere.
    pub(super) fn tell(&self, report: &Report) {
        let notice = |message: &String| crate::outcome::Report::Notice {
            severity: "NOTICE",
            sqlstate: "00000",
            message: message.clone(),
        };
        self.inner.lock().reports.extend(report.notices.iter().map(notice));
    }

    /// Takes a snapshot for several plans of one request.
    pub fn pinned_state(&self) -> SqlResult<PinnedState> {
        self.frame().map(PinnedState)
    }
}

/// One snapshot with the planner's state over it. All plans of it see the same rows.
#[derive(Clone)]
pub struct PinnedState(pub(super) Frame);

impl PinnedState {
    /// The snapshot.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.0.snapshot
    }
    /// The named queries whose tables the snapshot shows.
    pub(crate) fn named(&self) -> Arc<NamedQueries> {
        self.0.state.config().get_extension::<NamedQueries>().unwrap_or_default()
    }
    /// The planner's state: its catalogue is that of the snapshot.
    pub fn state(&self) -> &SessionState {
        &self.0.state
    }
}

impl std::fmt::Debug for PinnedState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PinnedState({})", self.0.snapshot.sequence())
    }
}

impl Frame {
    /// The same for the work itself, which must not keep its statement alive.
    pub(super) fn detached(&self) -> Self {
        Self { guard: self.guard.detached(), ..self.clone() }
    }

    /// Runs planning work on a thread of its own, guarded: constants are folded there, however long.
    pub(super) async fn on_threads<T: Send + 'static>(
        &self,
        work: impl Future<Output = SqlResult<T>> + Send + 'static,
    ) -> SqlResult<T> {
        let work = planning::until(self.bounds.over(), self.bounds.taken(), work);
        let mut task = Task(self.engine.plan(work));
        self.guard
            .run(async {
                match (&mut task.0).await {
                    Ok(result) => result.map_err(|e| self.pin().shown(e)),
                    Err(e) if e.is_panic() => {
                        Err(SqlError::internal("planning failed unexpectedly"))
                    }
                    Err(_) => Err(SqlError::canceled()),
                }
            })
            .await
    }

    /// Plans a query and starts it. The stream is not yet watched.
    pub(super) async fn start(
        &self,
        query: Plannable,
        params: Vec<Parameter>,
    ) -> SqlResult<Started> {
        let inner = self.detached();
        self.on_threads(async move {
            let logical = plan::logical(&inner.state, &query, &types_of(&params)).await?;
            let logical = plan::with_params(logical, params)?;
            let logical = plan::nested(&inner.state, &query, logical)?;
            inner.open(logical, &query.names).await
        })
        .await
    }

    pub(super) fn pin(&self) -> Pinned {
        Pinned { engine: Arc::clone(&self.engine), snapshot: Arc::clone(&self.snapshot) }
    }

    /// Starts a plan; to be called where it is planned.
    pub(super) async fn open(
        &self,
        logical: LogicalPlan,
        names: &OutputNames,
    ) -> SqlResult<Started> {
        let begun = Instant::now();
        self.see(&logical)?;
        let Ready { physical, state, report, promised, .. } = self.prepared(logical).await?;
        let (asked, tag) = (self.asked.clone(), self.tag());
        let schema = shown_schema(&kept(&physical.schema(), &promised), names);
        if let Some((given, rows, stream)) = tag.and_then(|tag| self.same(tag, &schema)) {
            queries::given_again(asked, begun, rows, &report);
            return Ok(Started { schema, stream, report, tag, given });
        }
        let context = self.context(&state)?;
        let stream = self.flowing(physical, context, (begun, false), &report, &schema)?;
        Ok(Started { schema, stream, report, tag, given: Given::Run })
    }

    /// Starts a physical plan that began at some time on the query threads, or where its rows are asked for: its
    /// rows, under the columns to show.
    pub(super) fn flowing(
        &self,
        physical: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        (begun, here): (Instant, bool),
        report: &Report,
        schema: &SchemaRef,
    ) -> SqlResult<SendableRecordBatchStream> {
        let lane = Lane::of(&physical);
        let told = (report.clone(), lane);
        let running = Running::new(self.asked.clone(), begun, told, Arc::clone(&physical));
        let stop = Stop::default();
        let physical = stoppable(physical, &stop).map_err(SqlError::from)?;
        let threads = self.engine.lanes().handle(lane);
        let source = match here {
            true => Source::Here(execute_stream(physical, context).map_err(SqlError::from)?),
            false => Source::threads(started(physical, context, threads)?, schema, threads),
        };
        let rows = Rows {
            source,
            schema: Arc::clone(schema),
            pin: self.pin(),
            _stop: stop,
            over: self.bounds.over(),
            running,
            allowance: self.allowance.clone(),
            given: 0,
            waiting: VecDeque::new(),
        };
        Ok(Box::pin(rows))
    }

    /// The plan as it will run, and what rollups do in it.
    async fn prepared(&self, logical: LogicalPlan) -> SqlResult<Ready> {
        plan::verify(&logical)?;
        match self.prepared_as_is(logical.clone()).await {
            Err(e) if self.rollups != Mode::Force && correlated::may_help(&e) => {
                match correlated::joined(logical) {
                    Some(joined) => self.prepared_as_is(joined).await,
                    None => Err(e),
                }
            }
            done => done,
        }
    }

    async fn prepared_as_is(&self, logical: LogicalPlan) -> SqlResult<Ready> {
        let state = self.state.as_ref();
        let options = state.config_options();
        let analyzed = state.analyzer().execute_and_check(logical, options, |_, _| {})?;
        let promised = plan::promised(&analyzed)?;
        let analyzed = plan::optional_subqueries(analyzed)?;
        let ready = match self.planned(&analyzed, self.rollups).await {
            // Raw rows always answer: a rewriting that the planner does not take must not cost the answer.
            Err((e, report)) if report.rollups().is_some() && self.rollups != Mode::Force => {
                tracing::warn!(error = %e, "a plan over a rollup was not accepted");
                self.planned(&analyzed, Mode::Off).await
            }
            done => done,
        };
        let ready = ready.map_err(|(e, _)| e);
        ready.map(|ready| Ready { promised, ..ready })
    }

    async fn planned(
        &self,
        analyzed: &LogicalPlan,
        mode: Mode,
    ) -> Result<Ready, (SqlError, Report)> {
        let alone = |e: SqlError| (e, Report::default());
        let with = |plan| rewrite::apply(plan, &self.state, mode, self.engine.facts());
        let (plan, report) = with(analyzed.clone()).map_err(alone)?;
        match self.physical(plan, report).await {
            // The physical planner thinks some conditions nullable that the logical one does not.
            Err((e, _)) if e.sqlstate == sqlstate::INTERNAL => {
                let plan = rewrite::without_truth_tests(analyzed.clone());
                let (plan, report) = with(plan.map_err(|e| alone(e.into()))?).map_err(alone)?;
                self.physical(plan, report).await
            }
            done => done,
        }
    }

    async fn physical(
        &self,
        plan: LogicalPlan,
        report: Report,
    ) -> Result<Ready, (SqlError, Report)> {
        let planned = async {
            let state = self.state.as_ref();
            let plan = aggregate::ordered_floats(plan)?;
            let logical = state.optimizer().optimize(plan, state, |_, _| {})?;
            let state = self.state_for(&logical)?;
            let planner = Arc::clone(state.query_planner());
            let physical = planner.create_physical_plan(&logical, state.as_ref()).await?;
            Ok((logical, state, physical))
        };
        match planned.await {
            Ok((logical, state, physical)) => {
                let promised = physical.schema();
                Ok(Ready { logical, state, physical, report, promised })
            }
            Err(e) => Err((e, report)),
        }
    }

    /// Runs a plan for its metrics; gives the plan that has them.
    async fn executed(&self, ready: &Ready) -> SqlResult<(Arc<dyn ExecutionPlan>, plan::Run)> {
        let begun = Instant::now();
        let lane = Lane::of(&ready.physical);
        let stop = Stop::default();
        let physical = stoppable(Arc::clone(&ready.physical), &stop).map_err(SqlError::from)?;
        let threads = self.engine.lanes().handle(lane);
        let context = self.context(&ready.state)?;
        let mut stream = started(Arc::clone(&physical), context, threads)?;
        let mut task = Task(threads.spawn(async move {
            let mut rows = 0_usize;
            while let Some(batch) = stream.next().await {
                rows = rows.saturating_add(batch?.num_rows());
            }
            Ok::<_, DataFusionError>(rows)
        }));
        let rows = match (&mut task.0).await {
            Ok(done) => done.map_err(|e| SqlError::from(self.pin().read_error(e)))?,
            Err(_) => return Err(SqlError::internal("the query failed unexpectedly")),
        };
        Ok((physical, plan::Run { rows, took: begun.elapsed(), lane }))
    }

    /// What a plan runs with.
    pub(super) fn context(&self, state: &SessionState) -> SqlResult<Arc<TaskContext>> {
        match &self.allowance {
            Some(allowance) => allowance.context(state).map_err(SqlError::from),
            None => Ok(Arc::new(crate::state::context(state))),
        }
    }

    /// The state, with smaller batches where a plan builds wide values.
    pub(super) fn state_for(&self, plan: &LogicalPlan) -> SqlResult<Arc<SessionState>> {
        let usual = self.state.config().batch_size();
        let rows = bounded::batch_rows(plan, usual).map_err(SqlError::from)?;
        if rows == usual {
            return Ok(Arc::clone(&self.state));
        }
        let mut state = self.state.as_ref().clone();
        let config = state.config().clone().with_batch_size(rows);
        *state.config_mut() = config;
        Ok(Arc::new(state))
    }
}

/// The types of parameters.
pub(super) fn types_of(params: &[Parameter]) -> Vec<Option<DataType>> {
    params.iter().map(|p| Some(p.value.data_type())).collect()
}

/// Starts a plan on given threads: operators start their tasks where they are themselves.
fn started(
    physical: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    threads: &Handle,
) -> SqlResult<SendableRecordBatchStream> {
    let _here = threads.enter();
    execute_stream(physical, context).map_err(SqlError::from)
}

/// A plan that can run.
pub(crate) struct Ready {
    pub(crate) logical: LogicalPlan,
    pub(crate) physical: Arc<dyn ExecutionPlan>,
    pub(crate) report: Report,
    /// The columns as the statement has them.
    promised: SchemaRef,
    /// The state to run it with.
    state: Arc<SessionState>,
}

/// A query that runs.
pub(super) struct Started {
    pub(super) schema: SchemaRef,
    pub(super) stream: SendableRecordBatchStream,
    pub(super) report: Report,
    /// What names its answer, if that was asked for and there can be such.
    pub(super) tag: Option<Tag>,
    pub(super) given: Given,
}

/// The planned columns under the names to show.
pub(super) fn shown_schema(schema: &Schema, names: &OutputNames) -> SchemaRef {
    let fields =
        schema.fields().iter().map(|f| f.as_ref().clone().with_name(names.shown(f.name())));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The planned columns, each as nullable as was promised: what the optimizer and the physical planner find out
/// of that hangs on who answers, and on how expressions happen to be taken apart.
pub(super) fn kept(planned: &Schema, promised: &Schema) -> Schema {
    if planned.fields().len() != promised.fields().len() {
        return planned.clone();
    }
    let fields = planned.fields().iter().zip(promised.fields());
    let fields = fields.map(|(f, said)| f.as_ref().clone().with_nullable(said.is_nullable()));
    Schema::new(fields.collect::<Vec<_>>())
}

/// A task that stops when it is dropped.
pub(super) struct Task<T>(pub(super) JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Rows of a query, with the snapshot they are of.
struct Rows {
    source: Source,
    schema: SchemaRef,
    pin: Pinned,
    _stop: Stop,
    /// Set before these rows are dropped if something stopped the statement, else after it.
    over: Arc<AtomicBool>,
    running: Running,
    /// The statement counts as running as long as this is here.
    allowance: Option<Allowance>,
    given: u64,
    /// What has come, and is given on piece by piece.
    waiting: VecDeque<SqlResult<RecordBatch>>,
}

impl Drop for Rows {
    fn drop(&mut self) {
        if self.over.load(Ordering::Relaxed) {
            self.running.fail(sqlstate::CANCELED);
        }
    }
}

/// The moment that a statement reads.
#[derive(Clone)]
pub(super) struct Pinned {
    engine: Arc<SqlEngine>,
    snapshot: Arc<Snapshot>,
}

impl Pinned {
    /// An error as the client may see it: a file that was collected under an old snapshot is no damage,
    /// and where the server keeps its files is nobody's business.
    pub(super) fn shown(&self, e: SqlError) -> SqlError {
        self.engine.without_paths(e)
    }

    /// The same for an error in the middle of the rows.
    fn read_error(&self, e: DataFusionError) -> DataFusionError {
        if otus_engine::store::is_missing(&e) {
            let now_us = self.engine.dataset().clock().now_us();
            if let Err(old) = self.snapshot.check_age(now_us) {
                return too_old(old).into();
            }
        }
        self.shown(SqlError::from(e)).into()
    }
}

/// A snapshot that may not be read any more.
pub(super) fn too_old(e: otus_engine::Error) -> SqlError {
    SqlError { sqlstate: sqlstate::SNAPSHOT_TOO_OLD, ..SqlError::from(e) }
}

impl Rows {
    /// No more rows come after what is wrong with them.
    fn ended_by(&mut self, e: SqlError) -> DfResult<RecordBatch> {
        self.running.fail(e.sqlstate);
        self.source.abort();
        self.waiting.clear();
        Err(e.into())
    }
}

impl Stream for Rows {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(piece) = self.waiting.pop_front() {
            return Poll::Ready(Some(piece.or_else(|e| self.ended_by(e))));
        }
        let Self { source, schema, .. } = &mut *self;
        match futures::ready!(source.poll(schema, cx)) {
            Some(Ok(batch)) => {
                self.running.count(batch.num_rows());
                let rows = u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
                self.given = self.given.saturating_add(rows);
                let checked = self.allowance.as_ref().map(|a| a.check_rows(self.given));
                if let Some(Err(e)) = checked {
                    return Poll::Ready(Some(self.ended_by(e)));
                }
                let mut pieces = wide::pieces(batch);
                let first = pieces.pop_front();
                self.waiting = pieces;
                Poll::Ready(first.map(|piece| piece.or_else(|e| self.ended_by(e))))
            }
            Some(Err(e)) => {
                let e = SqlError::from(self.pin.read_error(e));
                self.running.fail(e.sqlstate);
                Poll::Ready(Some(Err(e.into())))
            }
            None => Poll::Ready(None),
        }
    }
}

impl RecordBatchStream for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
