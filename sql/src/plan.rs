//! From a parsed query to a logical plan over the snapshot of a state, and the last check that a plan
//! only reads.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ParamValues};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Subquery};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Location;

use crate::analyze::map_expressions;
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::known::optional;
use crate::lanes::Lane;
use crate::named::NamedQueries;
use crate::outcome::Parameter;
use crate::queries::bytes_read;
use crate::session::Ready;
use crate::statement::{Explain, Plannable};
use crate::{catalog, error, function, named, planning, statement};

/// Plans a query. Nothing is optimised yet, and parameters are still open; of some, the types are known.
pub(crate) async fn logical(
    state: &SessionState,
    query: &Plannable,
    types: &[Option<DataType>],
) -> SqlResult<LogicalPlan> {
    planning::take_nodes(query.nodes)?;
    let mut statement = ast::Statement::Query(Box::new(query.query.as_ref().clone()));
    if types.iter().any(Option::is_some) {
        statement::type_operands(&mut statement, types);
    }
    let named = state.config().get_extension::<NamedQueries>().filter(|named| !named.is_empty());
    let values = match named {
        Some(named) => named::expand(state, &named, &mut statement)?,
        None => named::Values::new(),
    };
    crate::whole::rows(state, &mut statement).await;
    crate::merged::named(state, &mut statement).await?;
    crate::star::resolved(state, &mut statement).await?;
    let plan = plan(state, statement).await.map_err(|e| explained(state, query, &e))?;
    let plan = function::alike_resolved(plan).map_err(SqlError::from)?;
    let plan = match query.names_catalog {
        // Names of its types are text or numbers here.
        true => plan,
        false => crate::strict::checked(plan).map_err(SqlError::from)?,
    };
    let plan = crate::lateral::over_left_sides(plan).map_err(SqlError::from)?;
    let plan = catalog::shown_names(plan).map_err(SqlError::from)?;
    named::with_values(plan, &values).map_err(SqlError::from)
}

/// The error with its place in the message, and for a missing table the name that was perhaps meant.
fn explained(state: &SessionState, query: &Plannable, e: &DataFusionError) -> SqlError {
    let mut found = error::of_planner(e);
    if found.message.starts_with("Cannot access field at argument") {
        found = statement::unknown_relation(&query.query);
    }
    if found.position.is_none() {
        let span = e.diagnostic().and_then(|d| d.span);
        let start = span.map(|s| Location::new(s.start.line, s.start.column));
        // Not all clauses tell the planner's errors where they stand.
        let start = start.or_else(|| statement::place_of(&query.query, quoted(&found.message)?));
        found.position = start.and_then(|at| statement::character(&query.message, at));
    }
    if found.sqlstate == sqlstate::UNDEFINED_TABLE && found.hint.is_none() {
        let path = state.config().get_extension::<SearchPath>();
        let path = path.map(|p| p.0.clone()).unwrap_or_default();
        let name = quoted(&found.message).unwrap_or_default();
        let near = catalog::near(state.catalog_list().as_ref(), &path, name);
        found.hint = near.map(|near| format!("perhaps you meant the table \"{near}\""));
        let named = state.config().get_extension::<NamedQueries>();
        if let Some(query) = named.as_ref().and_then(|named| named.find(name)) {
            let call = query.def.signature();
            found.hint = Some(format!("\"{name}\" is a named query: it is called as {call}"));
        }
    }
    if found.sqlstate == sqlstate::UNDEFINED_FUNCTION && found.hint.is_none() {
        let name = found.message.strip_prefix("function ").and_then(|m| m.split_once('('));
        let near = function::near(state, name.map_or("", |(name, _)| name));
        found.hint = near.map(|near| format!("perhaps you meant {near}()"));
    }
    found
}

/// The name that a message puts in quotes.
fn quoted(message: &str) -> Option<&str> {
    message.split('"').nth(1)
}

/// The schemas of unqualified names, in the configuration of a state.
#[derive(Debug)]
pub(crate) struct SearchPath(pub(crate) Vec<String>);

async fn plan(state: &SessionState, statement: ast::Statement) -> DfResult<LogicalPlan> {
    state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await
}

/// What an analyzed plan gives, each column as nullable as the statement makes it: the same whoever answers, and
/// before any rule of the optimizer.
pub(crate) fn promised(analyzed: &LogicalPlan) -> SqlResult<SchemaRef> {
    let schema = analyzed.schema().as_arrow();
    if !shows_subquery(analyzed).map_err(SqlError::from)? {
        return Ok(Arc::new(schema.clone()));
    }
    // The planner has a subquery without a row as null as its column, which may be never.
    let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// The same analyzed plan, whose subqueries for one value may be null by their type too: over no row they are,
/// whatever their column is.
pub(crate) fn optional_subqueries(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let mut any = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            any |= expr.exists(|e| Ok(is_thought_known(e)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if !any {
        return Ok(plan);
    }
    let plan = map_expressions(plan, &|expr, _| match expr {
        Expr::ScalarSubquery(mut subquery) if is_thought_known_in(&subquery) => {
            let inner = subquery.subquery.as_ref().clone();
            let (relation, field) = inner.schema().qualified_field(0);
            let (relation, name) = (relation.cloned(), field.name().clone());
            let column = Expr::Column(Column::new(relation.clone(), &name));
            let column = optional(column).alias_qualified(relation, name);
            let inner = Projection::try_new(vec![column], Arc::new(inner))?;
            subquery.subquery = Arc::new(LogicalPlan::Projection(inner));
            Ok(Transformed::yes(Expr::ScalarSubquery(subquery)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    plan.transform_up_with_subqueries(|node| node.recompute_schema().map(Transformed::yes)).data()
}

fn is_thought_known(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(subquery) if is_thought_known_in(subquery))
}

/// Those that are joined are optional by their join, and an aggregate without keys has a row.
fn is_thought_known_in(subquery: &Subquery) -> bool {
    let mut top = subquery.subquery.as_ref();
    while let LogicalPlan::Projection(projection) = top {
        top = projection.input.as_ref();
    }
    let has_row = matches!(top, LogicalPlan::Aggregate(a) if a.group_expr.is_empty());
    let field = subquery.subquery.schema().fields().first();
    !has_row
        && subquery.outer_ref_columns.is_empty()
        && field.is_some_and(|field| !field.is_nullable())
}

/// Whether a value of a plan may be made of a subquery's: those of conditions show in none.
fn shows_subquery(plan: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if !matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Join(_) | LogicalPlan::Sort(_)) {
            node.apply_expressions(|expr| {
                found |= expr.exists(|e| Ok(matches!(e, Expr::ScalarSubquery(_))))?;
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })?;
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Puts the values of parameters in.
pub(crate) fn with_params(plan: LogicalPlan, params: Vec<Parameter>) -> SqlResult<LogicalPlan> {
    if params.is_empty() {
        return Ok(plan);
    }
    let params: Vec<ScalarAndMetadata> = params.into_iter().map(Into::into).collect();
    plan.with_param_values(ParamValues::List(params)).map_err(SqlError::from)
}

/// Makes the subqueries of a catalogue query runnable that are no joins.
pub(crate) fn nested(
    state: &SessionState,
    query: &Plannable,
    plan: LogicalPlan,
) -> SqlResult<LogicalPlan> {
    match query.names_catalog {
        true => catalog::nested(plan, state).map_err(SqlError::from),
        false => Ok(plan),
    }
}

/// Refuses a plan that would do anything but read.
pub(crate) fn verify(plan: &LogicalPlan) -> SqlResult<()> {
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(plan)
        .map_err(|_| statement::read_only("a statement that writes"))
}

/// What EXPLAIN ANALYZE tells of each step unless it is asked for all.
const METRICS: [&str; 7] = [
    "output_rows",
    "elapsed_compute",
    "time_elapsed_processing",
    "bytes_scanned",
    "row_groups_pruned_statistics",
    "spilled_bytes",
    "spilled_rows",
];

/// How a plan has run.
pub(crate) struct Run {
    /// Rows of the answer.
    pub(crate) rows: usize,
    /// From its start to its last row.
    pub(crate) took: std::time::Duration,
    /// Where.
    pub(crate) lane: Lane,
}

impl Run {
    fn line(&self, plan: &Arc<dyn ExecutionPlan>) -> String {
        let Self { rows, took, lane } = self;
        let (ms, bytes) = (took.as_secs_f64() * 1e3, bytes_read(plan));
        format!("rows={rows} time={ms:.3}ms bytes_read={bytes} lane={}", lane.name())
    }
}

/// The answer of EXPLAIN as Postgres gives it: one text column, one line a row.
pub(crate) fn explain_lines(
    ready: &Ready,
    options: Explain,
    run: Option<&Run>,
) -> SqlResult<(SchemaRef, SendableRecordBatchStream)> {
    let Ready { logical, physical, report, .. } = ready;
    let mut lines = Vec::new();
    let mut section = |name: &str, text: &str| {
        lines.push(format!("-- {name}"));
        lines.extend(text.lines().map(str::to_string));
    };
    if !report.uses.is_empty() {
        section("rollups", &report.lines().join("\n"));
    }
    if let Some(run) = run {
        section("run", &run.line(physical));
        let mut shown = DisplayableExecutionPlan::with_metrics(physical.as_ref());
        if !options.verbose {
            shown = shown.set_metric_names(METRICS.map(str::to_string).to_vec());
        }
        section("plan with metrics", &shown.indent(options.verbose).to_string());
    } else {
        section("logical plan", &logical.display_indent().to_string());
        let shown = DisplayableExecutionPlan::new(physical.as_ref());
        section("physical plan", &shown.indent(options.verbose).to_string());
    }
    let schema = Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8, false)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(lines))])
        .map_err(|e| SqlError::internal(e.to_string()))?;
    let rows = futures::stream::iter([Ok(batch)]);
    Ok((Arc::clone(&schema), Box::pin(RecordBatchStreamAdapter::new(schema, rows))))
}
