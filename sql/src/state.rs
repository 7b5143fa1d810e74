//! The planner's state that sessions start from: options measured for Parquet, the functions of Otus and
//! Postgres, types by their Postgres names.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::config::{ConfigNonZeroUsize, Dialect};
use datafusion::error::Result as DfResult;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::ast;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use datafusion_pg_catalog::setup_pg_catalog;

use crate::catalog::PATH_SCHEMA;
use crate::engine::SqlConfig;
use crate::error::{SqlError, SqlResult};
use crate::function::{self, Bytea};
use crate::gapfill::{GapFillPlanner, GapFillRule};
use crate::late::FailLate;

/// Bytes of the keys of a join's smaller side that are looked up in the larger one.
const LOOKUP_BYTES: usize = 1 << 20;

/// The state of a new session, without a catalogue.
pub(crate) fn template(config: &SqlConfig, runtime: Arc<RuntimeEnv>) -> SqlResult<SessionState> {
    let mut state = build(options(config)?, runtime, &config.database)?;
    // Declared measures keep the planner's own operators: their types are on disk.
    state.register_expr_planner(Arc::new(function::Operators)).map_err(SqlError::from)?;
    Ok(state)
}

/// A state for expressions alone.
pub(crate) fn functions() -> SqlResult<SessionState> {
    let config = SqlConfig { threads: 1, ..SqlConfig::default() };
    build(options(&config)?, Arc::new(RuntimeEnv::default()), &config.database)
}

fn options(config: &SqlConfig) -> SqlResult<SessionConfig> {
    let mut session = SessionConfig::new()
        .with_default_catalog_and_schema(&config.database, PATH_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_target_partitions(config.threads.max(1))
        .with_batch_size(config.batch_rows);
    let options = session.options_mut();
    options.sql_parser.dialect = Dialect::PostgreSQL;
    options.sql_parser.collect_spans = true;
    options.execution.time_zone = Some(config.timezone.clone());
    options.execution.parquet.pushdown_filters = false;
    options.execution.parquet.reorder_filters = false;
    options.execution.split_file_groups_by_statistics = false;
    // One batch in each file: where two tasks append to a shared one, its reader may wait for the wrong one
    // of two for ever.
    options.execution.max_spill_file_size_bytes = ConfigNonZeroUsize::try_new(1)?;
    // While min(a) and max(b) run, rows are left out that change neither of those found so far: wrongly so where one is
    // of an expression, or has found none yet.
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    // Up to this many keys of a join's smaller side are looked up in the larger one if it is a keyed table.
    options.optimizer.hash_join_inlist_pushdown_max_distinct_values = crate::provider::LOOKUP_KEYS;
    options.optimizer.hash_join_inlist_pushdown_max_size = LOOKUP_BYTES;
    options.explain.logical_plan_only = false;
    Ok(session)
}

fn build(
    config: SessionConfig,
    runtime: Arc<RuntimeEnv>,
    database: &str,
) -> SqlResult<SessionState> {
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .build();
    let context = SessionContext::new_with_state(state);
    // The library registers its functions with a context that has a catalogue of this name.
    let catalog = Arc::new(datafusion::catalog::MemoryCatalogProvider::new());
    let _previous = context.register_catalog(database, catalog);
    setup_pg_catalog(&context, database, EmptyContextProvider).map_err(|e| SqlError::from(*e))?;
    let state = context.state();
    // First, as the rules after it look at properties.
    let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> =
        vec![Arc::new(crate::grouping::GroupingSets), Arc::new(FailLate)];
    rules.extend(state.physical_optimizers().iter().cloned());
    let mut builder = SessionStateBuilder::new_from_existing(state);
    if let Some(analyzer) = builder.analyzer() {
        analyzer.rules.insert(0, Arc::new(Bytea::Written));
        analyzer.rules.insert(1, Arc::new(crate::zone::ComparedInstants));
    }
    if let Some(planners) = builder.expr_planners() {
        planners.insert(0, Arc::new(function::DistinctElements));
    }
    let mut state = builder
        .with_physical_optimizer_rules(rules)
        .with_type_planner(Arc::new(Types::default()))
        .with_table_factories(std::collections::HashMap::default())
        .with_analyzer_rule(Arc::new(Bytea::Constants))
        .with_analyzer_rule(Arc::new(crate::single::OneRow))
        .with_analyzer_rule(Arc::new(crate::arithmetic::CheckedArithmetic))
        .with_analyzer_rule(Arc::new(GapFillRule))
        .with_analyzer_rule(Arc::new(crate::zone::SessionZone))
        .with_analyzer_rule(Arc::new(crate::lists::Lists))
        .with_optimizer_rule(Arc::new(crate::lossy::LossyConditions))
        .with_query_planner(Arc::new(Planner))
        .build();
    function::register(&mut state).map_err(SqlError::from)?;
    Ok(state)
}

/// Makes plans physical, our own nodes included.
#[derive(Debug)]
struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(GapFillPlanner)])
            .create_physical_plan(plan, session)
            .await
    }
}

/// Types that DataFusion does not know or reads otherwise: uuid and json are text here, times count in
/// microseconds.
#[derive(Debug, Default)]
struct Types {
    oids: PgOidTypePlanner,
}

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> DfResult<Option<FieldRef>> {
        use ast::TimezoneInfo as Zone;
        let plain = match sql_type {
            ast::DataType::Uuid | ast::DataType::JSON | ast::DataType::JSONB => {
                Some(DataType::Utf8View)
            }
            ast::DataType::Timestamp(_, Zone::None | Zone::WithoutTimeZone) => {
                Some(DataType::Timestamp(TimeUnit::Microsecond, None))
            }
            ast::DataType::Timestamp(_, Zone::WithTimeZone | Zone::Tz) => {
                Some(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
            }
            _ => None,
        };
        match plain {
            Some(t) => Ok(Some(Arc::new(Field::new("", t, true)))),
            None => self.oids.plan_type_field(sql_type),
        }
    }
}
