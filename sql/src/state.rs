//! The planner's state that sessions start from: options measured for Parquet, the functions of Otus and
//! Postgres, types by their Postgres names.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::config::{ConfigNonZeroUsize, Dialect};
use datafusion::error::Result as DfResult;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{FunctionRegistry, SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::optimizer::{AnalyzerRule, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast;
use otus_engine::types::PG_TYPE_KEY;

use crate::catalog::{
    INFORMATION_SCHEMA, PATH_SCHEMA, PG_SCHEMA, field_of, internal_name, library,
};
use crate::engine::SqlConfig;
use crate::error::{SqlError, SqlResult};
use crate::few::of_few_rows;
use crate::function::{self, Bytea};
use crate::gapfill::{GapFillPlanner, GapFillRule};
use crate::planning::{self, StillWanted};

/// Bytes of the keys of a join's smaller side that are looked up in the larger one.
const LOOKUP_BYTES: usize = 1 << 20;

/// The state of a new session, without a catalogue.
pub(crate) fn template(config: &SqlConfig, runtime: Arc<RuntimeEnv>) -> SqlResult<SessionState> {
    let mut state = build(options(config)?, runtime)?;
    // Declared measures keep the planner's own operators: their types are on disk.
    state.register_expr_planner(Arc::new(function::Operators)).map_err(SqlError::from)?;
    Ok(state)
}

/// A state for expressions alone.
pub(crate) fn functions() -> SqlResult<SessionState> {
    let config = SqlConfig { threads: 1, ..SqlConfig::default() };
    build(options(&config)?, Arc::new(RuntimeEnv::default()))
}

/// A state for conditions over rows, with the operators of queries, in UTC.
pub(crate) fn conditions() -> SqlResult<SessionState> {
    let mut state = functions()?;
    state.register_expr_planner(Arc::new(function::Operators)).map_err(SqlError::from)?;
    Ok(state)
}

/// What plans of a state run with. They have the functions that they call: those by name are for plans that are
/// read from bytes, and copying them takes longer than many a statement.
pub(crate) fn context(state: &SessionState) -> TaskContext {
    TaskContext::new(
        None,
        state.session_id().to_owned(),
        state.config().clone(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        Arc::clone(state.runtime_env()),
    )
}

/// States that no statement has changed, in a time zone: for plans that are kept.
#[derive(Debug, Clone)]
pub(crate) struct States {
    pub(crate) zone: Arc<str>,
    pub(crate) usual: Arc<SessionState>,
    /// For plans that read so little that one thread does it sooner.
    pub(crate) single: Arc<SessionState>,
    pub(crate) context: Arc<TaskContext>,
}

impl States {
    pub(crate) fn new(template: &SessionState, zone: &str) -> Self {
        let in_zone = |mut state: SessionState| {
            let config = state.config_mut();
            config.options_mut().execution.time_zone = Some(zone.to_owned());
            let options = Arc::clone(state.config_options());
            state.execution_props_mut().config_options = Some(options);
            Arc::new(state)
        };
        let usual = in_zone(template.clone());
        let context = Arc::new(context(&usual));
        let single = in_zone(of_few_rows(template.clone()));
        Self { zone: zone.into(), usual, single, context }
    }
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
    // By a rule of our own, which knows where an order is seen.
    options.sql_parser.enable_subquery_sort_elimination = false;
    options.execution.time_zone = Some(config.timezone.clone());
    // It compares what may be null too, of which plans say less than the statement: `x IS NOT TRUE` never is.
    options.execution.skip_physical_aggregate_schema_check = true;
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

fn build(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> SqlResult<SessionState> {
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .build();
    // First, as the rules after it look at properties.
    let mut rules = vec![crate::grouping::rule(), crate::skipped::rule(), crate::late::rule()];
    rules.extend(state.physical_optimizers().iter().cloned());
    crate::limited::where_nothing_is_between(&mut rules);
    crate::apart::by_names_that_differ(&mut rules);
    rules.push(crate::windows::rule());
    rules.push(crate::wide::rule());
    let look: Arc<dyn PhysicalOptimizerRule + Send + Sync> = Arc::new(StillWanted);
    let rules = planning::watched(&rules, &look);
    let mut builder = SessionStateBuilder::new_from_existing(state);
    if let Some(optimizer) = builder.optimizer() {
        crate::columnless::above_whole_aggregates(&mut optimizer.rules);
    }
    if let Some(analyzer) = builder.analyzer() {
        analyzer.rules.insert(0, Arc::new(crate::catalog::NamedIds::Written));
        analyzer.rules.insert(1, Arc::new(Bytea::Written));
        analyzer.rules.insert(2, Arc::new(crate::zone::ComparedInstants));
        analyzer.rules.insert(3, Arc::new(function::JsonbValues));
        analyzer.rules.insert(4, Arc::new(crate::fractions::MixedFractions));
        analyzer.rules.insert(5, Arc::new(crate::sorted::SeenOrders));
        analyzer.rules.insert(6, Arc::new(crate::keys::GroupingKeys));
        let look: Arc<dyn AnalyzerRule + Send + Sync> = Arc::new(StillWanted);
        analyzer.rules = planning::watched(&analyzer.rules, &look);
    }
    if let Some(optimizer) = builder.optimizer() {
        crate::distinct::keep_types_of_sums(&mut optimizer.rules);
        let look: Arc<dyn OptimizerRule + Send + Sync> = Arc::new(StillWanted);
        optimizer.rules = planning::watched(&optimizer.rules, &look);
    }
    if let Some(planners) = builder.expr_planners() {
        planners.insert(0, Arc::new(function::DistinctElements));
        planners.insert(1, Arc::new(function::VectorItems));
        planners.insert(0, Arc::new(function::Subscripts));
        planners.insert(0, Arc::new(crate::session::Operands));
    }
    let mut state = builder
        .with_physical_optimizer_rules(rules)
        .with_type_planner(Arc::new(Types))
        .with_table_factories(HashMap::default())
        .with_analyzer_rule(Arc::new(crate::catalog::NamedIds::Cast))
        .with_analyzer_rule(Arc::new(Bytea::Constants))
        .with_analyzer_rule(Arc::new(crate::single::OneRow))
        .with_analyzer_rule(Arc::new(crate::arithmetic::CheckedArithmetic))
        .with_analyzer_rule(Arc::new(GapFillRule))
        .with_analyzer_rule(Arc::new(crate::zone::SessionZone))
        .with_analyzer_rule(Arc::new(crate::lists::Lists))
        .with_optimizer_rule(Arc::new(crate::lossy::LossyConditions))
        .with_optimizer_rule(Arc::new(crate::negation::Negations))
        .with_optimizer_rule(Arc::new(crate::keys::KeyColumns))
        .with_query_planner(Arc::new(Planner))
        .build();
    function::register(&mut state).map_err(SqlError::from)?;
    crate::windows::register(&mut state).map_err(SqlError::from)?;
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
#[derive(Debug)]
struct Types;

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
            ast::DataType::Regclass => Some(DataType::UInt32),
            // With a length they are read by functions.
            ast::DataType::Varchar(_) | ast::DataType::CharacterVarying(_) => {
                return Ok(Some(marked(DataType::Utf8View, "varchar")));
            }
            ast::DataType::Custom(name, arguments) if arguments.is_empty() => {
                let of = catalogue_type(name);
                let mark = of.is_some().then(|| marked_name(name)).flatten();
                if let (Some(of), Some(mark)) = (&of, mark) {
                    return Ok(Some(marked(of.clone(), mark)));
                }
                of
            }
            _ => None,
        };
        Ok(plain.map(|t| Arc::new(Field::new("", t, true)) as FieldRef))
    }
}

fn marked(data_type: DataType, mark: &str) -> FieldRef {
    let mark = [(PG_TYPE_KEY.to_owned(), mark.to_owned())];
    Arc::new(Field::new("", data_type, true).with_metadata(mark.into()))
}

/// The type that a value has by its name alone.
fn marked_name(name: &ast::ObjectName) -> Option<&'static str> {
    let last = name.0.last()?.as_ident()?.value.to_lowercase();
    ["char", "inet", "name"].into_iter().find(|known| *known == last)
}

/// A type of the catalogue, or one that is named with its schema.
fn catalogue_type(name: &ast::ObjectName) -> Option<DataType> {
    let parts: Vec<&ast::Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
    let last = parts.last()?.value.to_lowercase();
    let schema = parts.len().checked_sub(2).and_then(|at| parts.get(at)).map(|s| s.value.as_str());
    match (schema, last.as_str()) {
        (Some(INFORMATION_SCHEMA), "cardinal_number") => return Some(DataType::Int32),
        (Some(INFORMATION_SCHEMA), _) => return Some(DataType::Utf8),
        (None | Some(PG_SCHEMA), _) => {}
        _ => return None,
    }
    let internal = internal_name(&last);
    match internal.as_str() {
        // As the planner has them without their schema.
        "text" | "varchar" | "bpchar" | "json" | "jsonb" | "uuid" => Some(DataType::Utf8View),
        "timestamp" => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        "date" => Some(DataType::Date32),
        "numeric" => Some(DataType::Decimal128(38, 10)),
        "xid" | "cid" => Some(DataType::UInt32),
        "cstring" | "pg_node_tree" | "aclitem" | "pg_lsn" | "inet" => Some(DataType::Utf8),
        known if library().is_ok_and(|library| library.type_named(known).is_some()) => {
            let field = field_of("", known, true);
            let shown =
                !matches!(field.data_type(), DataType::Utf8) || matches!(known, "name" | "char");
            shown.then(|| field.data_type().clone())
        }
        _ => None,
    }
}
