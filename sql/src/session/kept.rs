//! How a statement runs by a kept plan, and how its plan comes to be kept.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::ExecutionPlan;
use otus_engine::snapshot::Snapshot;
use tokio::time::Instant;

use super::again::Given;
use super::run::{Started, Task, shown_schema};
use super::stop::Stop;
use super::{Frame, Session};
use crate::aggregate;
use crate::error::{SqlError, SqlResult};
use crate::kept::{self, KeptPlan, Key, Known, Planned};
use crate::outcome::{Outcome, Parameter, RowTag};
use crate::plan;
use crate::provider::{Found, Span};
use crate::rewrite::{self, Mode};
use crate::statement::Plannable;

/// Rows that are dealt with where their connection is served.
const HERE_ROWS: usize = 4_096;

impl Session {
    /// Runs a query, by its kept plan if there is one.
    pub(super) async fn run_known(
        &self,
        query: &Plannable,
        params: Vec<Parameter>,
    ) -> SqlResult<Outcome> {
        let Some((key, snapshot)) = self.plan_key(query, &params)? else {
            return self.run_query(query, params).await;
        };
        match self.engine.kept().find(&key) {
            Known::Plan(kept) if kept.fits(&snapshot) => {
                return Box::pin(self.run_kept(&kept, snapshot, &params)).await;
            }
            Known::Often => {
                drop(snapshot);
                let plan = Box::pin(self.plan_to_keep(key.clone(), query, &params)).await;
                // Whatever is wrong with the statement, it is told by running it.
                self.engine.kept().keep(&key, plan.ok().flatten().map(Arc::new));
            }
            Known::Plan(_) | Known::Nothing => {}
        }
        self.run_query(query, params).await
    }

    /// What the plan of a query hangs on, and the snapshot that it would run over; none if it is not to be kept.
    fn plan_key(
        &self,
        query: &Plannable,
        params: &[Parameter],
    ) -> SqlResult<Option<(Key, Arc<Snapshot>)>> {
        // What may be answered with kept rows looks at what its plan reads.
        if query.names_catalog || self.wanted(query, params).is_some() {
            return Ok(None);
        }
        let Some(types) = kept::types(params) else { return Ok(None) };
        let mut inner = self.inner.lock();
        let Some(text) = inner.text.clone() else { return Ok(None) };
        let now_us = self.engine.dataset().clock().now_us();
        let snapshot = self.moment(&mut inner, now_us)?;
        let settings = inner.settings.of_answers();
        let (catalog, user) = (Arc::clone(snapshot.catalog()), self.user.as_str().into());
        Ok(Some((Key { catalog, user, text, settings, types }, snapshot)))
    }

    async fn run_kept(
        &self,
        kept: &Arc<KeptPlan>,
        snapshot: Arc<Snapshot>,
        params: &[Parameter],
    ) -> SqlResult<Outcome> {
        let begun = Instant::now();
        let allowance = self.engine.allowance(self.identity.as_ref())?;
        let stop = Stop::default();
        let bounds = self.bounds(allowance.as_ref(), &stop);
        let (guard, asked) = {
            let mut inner = self.inner.lock();
            (self.guard(&mut inner).telling(stop), self.asked(&inner))
        };
        let frame = Frame {
            engine: Arc::clone(&self.engine),
            snapshot,
            state: Arc::clone(&kept.states.usual),
            guard,
            rollups: Mode::Auto,
            asked,
            bounds,
            allowance,
            wanted: None,
        };
        let started = frame.open_kept(kept, params, begun).await;
        let started = started.map_err(|e| frame.pin().shown(e))?;
        self.came(&started);
        let Started { schema, stream, .. } = started;
        let snapshot = Some(Arc::clone(&frame.snapshot));
        let stream = frame.guard.watch(stream);
        Ok(Outcome::Rows { schema, stream, tag: RowTag::Select, snapshot })
    }

    async fn plan_to_keep(
        &self,
        key: Key,
        query: &Plannable,
        params: &[Parameter],
    ) -> SqlResult<Option<KeptPlan>> {
        let frame = self.frame()?;
        let (inner, query, params) = (frame.detached(), query.clone(), params.to_vec());
        frame.on_threads(async move { inner.plan_to_keep(key, &query, params).await }).await
    }
}

impl Frame {
    /// Makes a kept plan physical and starts it. Nothing in it is long: the plan is small.
    async fn open_kept(
        &self,
        kept: &KeptPlan,
        params: &[Parameter],
        begun: Instant,
    ) -> SqlResult<Started> {
        if let Some((physical, here)) = self.quick(kept, params).await? {
            let context = match &self.allowance {
                Some(_) => self.context(&kept.states.usual)?,
                None => Arc::clone(&kept.states.context),
            };
            let (schema, report) = (Arc::clone(&kept.schema), kept.report.clone());
            let stream = self.flowing(physical, context, (begun, here), &report, &schema)?;
            return Ok(Started { schema, stream, report, tag: None, given: Given::Run });
        }
        let logical = kept.bound(&self.snapshot, params)?;
        let state = kept.state_for(&logical);
        let planner = Arc::clone(state.query_planner());
        let physical = planner.create_physical_plan(&logical, state.as_ref()).await?;
        let context = match &self.allowance {
            Some(_) => self.context(state)?,
            None => Arc::clone(&kept.states.context),
        };
        let (schema, report) = (Arc::clone(&kept.schema), kept.report.clone());
        let begun = (begun, kept.is_constant);
        let stream = self.flowing(physical, context, begun, &report, &schema)?;
        Ok(Started { schema, stream, report, tag: None, given: Given::Run })
    }

    /// A plan that is kept physical over the rows that it asks for, and whether they are so few that they are dealt
    /// with where they are asked for; none if it is to be made physical.
    async fn quick(
        &self,
        kept: &KeptPlan,
        params: &[Parameter],
    ) -> SqlResult<Option<(Arc<dyn ExecutionPlan>, bool)>> {
        let cache = self.engine.rows();
        let Some(quick) = &kept.quick else { return Ok(None) };
        let Some(leaf) = quick.leaf() else { return Ok(Some((quick.over(None)?, true))) };
        if !cache.is_on() {
            return Ok(None);
        }
        let Some(asks) = leaf.asks(params)? else { return Ok(None) };
        let span = quick.span(leaf, &self.snapshot, &asks);
        let (found, bytes) = match span.at_hand(cache)? {
            Found::Missing => self.gathered(span).await?,
            found => (found, 0),
        };
        let Found::Rows(batches) = found else { return Ok(None) };
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        Ok(Some((quick.over(Some((asks, batches, bytes)))?, rows <= HERE_ROWS)))
    }

    /// Reads rows on the query threads.
    async fn gathered(&self, span: Span) -> SqlResult<(Found, usize)> {
        let (cache, runtime) = (Arc::clone(self.engine.rows()), Arc::clone(self.engine.runtime()));
        let mut task = Task(self.engine.spawn(async move { span.read(&cache, &runtime).await }));
        let reading = async {
            match (&mut task.0).await {
                Ok(Ok(read)) => Ok(read),
                // The plan that reads the files itself tells what is wrong with them.
                Ok(Err(_)) => Ok((Found::Many, 0)),
                Err(_) => Err(SqlError::internal("rows could not be gathered")),
            }
        };
        self.guard.run(reading).await
    }

    /// Plans a query both with the values of its parameters and without them; none if that is not the same.
    async fn plan_to_keep(
        &self,
        key: Key,
        query: &Plannable,
        params: Vec<Parameter>,
    ) -> SqlResult<Option<KeptPlan>> {
        if self.rollups == Mode::Force {
            return Ok(None);
        }
        let state = self.state.as_ref();
        let logical = plan::logical(state, query, &kept::data_types(&key.types)).await?;
        let open = kept::typed(logical.clone(), &key.types)?;
        let logical = plan::with_params(logical, params.clone())?;
        plan::verify(&logical)?;
        let analyze = |plan| -> SqlResult<_> {
            let options = state.config_options();
            let analyzed = state.analyzer().execute_and_check(plan, options, |_, _| {})?;
            Ok(plan::optional_subqueries(analyzed)?)
        };
        let optimize = |plan| -> SqlResult<_> {
            let plan = aggregate::ordered_floats(plan)?;
            state.optimizer().optimize(plan, state, |_, _| {}).map_err(SqlError::from)
        };
        let analyzed = analyze(logical)?;
        let promised = plan::promised(&analyzed)?;
        let (rewritten, report) =
            rewrite::apply(analyzed.clone(), state, self.rollups, self.engine.facts())?;
        if rewritten != analyzed || !report.notices.is_empty() {
            return Ok(None);
        }
        let optimized = optimize(rewritten)?;
        if !Arc::ptr_eq(&self.state_for(&optimized)?, &self.state) {
            return Ok(None);
        }
        let planner = Arc::clone(state.query_planner());
        let physical = planner.create_physical_plan(&optimized, state).await?;
        let schema = shown_schema(&super::run::kept(&physical.schema(), &promised), &query.names);
        let open = optimize(analyze(open)?)?;
        let zone = state.config_options().execution.time_zone.clone().unwrap_or_default();
        let states = self.engine.states_in(&zone);
        let planned = Planned { analyzed: &analyzed, optimized: &optimized, schema, report };
        let kept = KeptPlan::of(key, open, planned, (&self.snapshot, &params), states)?;
        Ok(match kept {
            Some(kept) => Some(kept.made_quick().await),
            None => None,
        })
    }
}
