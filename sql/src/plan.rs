//! From a parsed query to a logical plan over the snapshot of a state, and the last check that a plan
//! only reads.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Location;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use futures::StreamExt;

use crate::error::{SqlError, SqlResult, sqlstate};
use crate::statement::{
    Explain, Plannable, gathered_nothing, name_outputs, operators_as_functions,
};
use crate::{catalog, error, function, statement};

/// Plans a query. Nothing is optimised yet, and parameters are still open.
pub(crate) async fn logical(state: &SessionState, query: &Plannable) -> SqlResult<LogicalPlan> {
    let statement = dialect(query);
    let asks = query.catalog_text.as_ref().is_some_and(|t| t.contains("pg_table_is_visible"));
    if !asks {
        return plan(state, statement).await.map_err(|e| explained(state, query, &e));
    }
    let path = state.config().get_extension::<SearchPath>();
    let path = path.map(|p| p.0.clone()).unwrap_or_default();
    let oids = catalog::visible(state, &path).await.map_err(SqlError::from)?;
    let mut state = state.clone();
    function::register_visible(&mut state, oids)?;
    plan(&state, statement).await.map_err(|e| explained(&state, query, &e))
}

/// The error with its place in the message, and for a missing table the name that was perhaps meant.
fn explained(state: &SessionState, query: &Plannable, e: &DataFusionError) -> SqlError {
    let mut found = error::of_planner(e);
    // A catalogue query was perhaps planned from another text.
    if found.position.is_none() && query.catalog_text.is_none() {
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

/// Plans an EXPLAIN of a query.
pub(crate) async fn explain(
    state: &SessionState,
    options: Explain,
    query: &Plannable,
) -> SqlResult<LogicalPlan> {
    let explain = ast::Statement::Explain {
        describe_alias: ast::DescribeAlias::Explain,
        analyze: options.analyze,
        verbose: options.verbose,
        query_plan: false,
        estimate: false,
        statement: Box::new(dialect(query)),
        format: None,
        options: None,
    };
    plan(state, explain).await.map_err(|e| explained(state, query, &e))
}

async fn plan(state: &SessionState, statement: ast::Statement) -> DfResult<LogicalPlan> {
    state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await
}

/// Catalogue queries of tools need rewriting before they plan; other queries are left as they are.
fn dialect(query: &Plannable) -> ast::Statement {
    if let Some(text) = &query.catalog_text {
        // The library answers some texts by others; the one for search paths would answer nothing.
        let library = PostgresCompatibilityParser::new();
        let list = match text.contains("current_setting") {
            true => {
                vec![library.rewrite(ast::Statement::Query(Box::new(query.query.as_ref().clone())))]
            }
            false => library.parse(text).unwrap_or_default(),
        };
        if let [ast::Statement::Query(rewritten)] = list.as_slice() {
            let mut rewritten = rewritten.clone();
            gathered_nothing(&mut *rewritten);
            operators_as_functions(&mut *rewritten);
            let _names = name_outputs(&mut rewritten);
            return ast::Statement::Query(rewritten);
        }
    }
    ast::Statement::Query(Box::new(query.query.as_ref().clone()))
}

/// Puts the values of parameters in.
pub(crate) fn with_params(plan: LogicalPlan, params: Vec<ScalarValue>) -> SqlResult<LogicalPlan> {
    if params.is_empty() {
        return Ok(plan);
    }
    plan.with_param_values(params).map_err(SqlError::from)
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

/// The answer of EXPLAIN as Postgres gives it: one text column, one line a row.
pub(crate) async fn explain_lines(
    mut stream: SendableRecordBatchStream,
) -> SqlResult<(SchemaRef, SendableRecordBatchStream)> {
    let mut lines = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(SqlError::from)?;
        let column = |i: usize| arrow::compute::cast(batch.column(i), &DataType::Utf8);
        let (kinds, plans) = (column(0), column(1));
        let (Ok(kinds), Ok(plans)) = (kinds, plans) else { continue };
        let (kinds, plans) = (kinds.as_string::<i32>().clone(), plans.as_string::<i32>().clone());
        for (kind, plan) in kinds.iter().zip(plans.iter()) {
            lines.push(format!("-- {}", kind.unwrap_or_default().replace('_', " ")));
            lines.extend(plan.unwrap_or_default().lines().map(str::to_string));
        }
    }
    let schema = Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8, false)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(lines))])
        .map_err(|e| SqlError::internal(e.to_string()))?;
    let rows = futures::stream::iter([Ok(batch)]);
    Ok((Arc::clone(&schema), Box::pin(RecordBatchStreamAdapter::new(schema, rows))))
}
