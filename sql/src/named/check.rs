//! Whether the named queries of a configuration can be planned over the tables that it declares: asked of an
//! empty dataset in memory, before anything is opened.

use std::sync::Arc;

use otus_engine::catalog::TableDef;
use otus_engine::clock::SystemClock;
use otus_engine::dataset::{Dataset, DatasetOptions, FlushLimits};
use otus_engine::store::{Access, Storage, StorageConfig};

use super::compile::compile;
use super::{NamedQuery, NamedQueryDef, QueryPlace, QueryProblem, argument};
use crate::catalog::{self, PUBLIC_SCHEMA};
use crate::compile::SqlCompiler;
use crate::engine::{SqlConfig, SqlEngine};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::session::{Session, SessionOptions};

/// What is wrong with each of the queries, over these tables: its place in `queries`, and the problem. An
/// error means that the tables themselves are not right.
pub fn check_queries(
    tables: &[TableDef],
    queries: &[NamedQueryDef],
) -> SqlResult<Vec<(usize, QueryProblem)>> {
    let mut problems = Vec::new();
    let mut sound = Vec::new();
    for (at, def) in queries.iter().enumerate() {
        match compile(def) {
            Ok(_) => sound.push((at, def.clone())),
            Err(problem) => problems.push((at, problem)),
        }
    }
    if !sound.is_empty() {
        // The caller may stand in a runtime, where one cannot wait for another.
        let planned = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("otus-check".into());
            let thread = thread.stack_size(crate::engine::STACK_BYTES);
            let work = thread.spawn_scoped(scope, || over_nothing(tables, &sound));
            let work = work.map_err(|e| SqlError::internal(format!("no thread: {e}")))?;
            work.join().map_err(|_| SqlError::internal("queries could not be checked"))?
        })?;
        problems.extend(planned);
    }
    problems.sort_by_key(|(at, _)| *at);
    Ok(problems)
}

fn over_nothing(
    tables: &[TableDef],
    queries: &[(usize, NamedQueryDef)],
) -> SqlResult<Vec<(usize, QueryProblem)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| SqlError::internal(e.to_string()))?;
    runtime.block_on(async {
        let memory = StorageConfig { url: "memory:".into(), options: Default::default() };
        let storage = Storage::open(&memory, Access::ReadWrite, "check").await?;
        let options = DatasetOptions {
            member: "check".into(),
            clock: Arc::new(SystemClock),
            compiler: SqlCompiler::new(),
            flush: FlushLimits::default(),
        };
        let dataset = Dataset::open(storage, options).await?;
        dataset.apply_tables(tables, false).await?;
        let defs = queries.iter().map(|(_, def)| def.clone()).collect();
        let config = SqlConfig { threads: 1, queries: defs, ..SqlConfig::default() };
        let engine = SqlEngine::new(dataset, config)?;
        let session = engine.session(SessionOptions::default());
        let mut problems = Vec::new();
        for ((at, _), query) in queries.iter().zip(engine.named().iter()) {
            if let Err(problem) = planned(&session, query).await {
                problems.push((*at, problem));
            }
        }
        Ok(problems)
    })
}

async fn planned(session: &Session, query: &Arc<NamedQuery>) -> Result<(), QueryProblem> {
    let at =
        |place: QueryPlace| move |error: SqlError| QueryProblem { place, error: Box::new(error) };
    let pinned = session.pinned_state().map_err(at(QueryPlace::Sql))?;
    let (name, state) = (query.def.name.as_str(), pinned.state());
    let taken = |what: &str| {
        let message = format!("there is {what} {name:?} already");
        let error = SqlError::new(sqlstate::DUPLICATE_STATEMENT, message);
        Err(at(QueryPlace::Name)(error.with_hint("give the query another name")))
    };
    if catalog::find(pinned.snapshot(), PUBLIC_SCHEMA, name).is_some() {
        return taken("a table");
    }
    let functions = state.scalar_functions().contains_key(name)
        || state.aggregate_functions().contains_key(name)
        || state.window_functions().contains_key(name)
        || state.table_functions().contains_key(name)
        || name == "unnest";
    if functions {
        return taken("a function");
    }
    for parameter in query.def.parameters.iter().filter(|p| p.default.is_some()) {
        let place = QueryPlace::Parameter(parameter.name.clone());
        argument::of_value(state, query, parameter, None).map_err(at(place))?;
    }
    session.named_columns(query).await.map(|_| ()).map_err(at(QueryPlace::Sql))
}
