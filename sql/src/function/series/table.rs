//! A series of constants in FROM: made batch by batch while it is read. Statements bring integers here; other
//! series come as lists, whose arguments are expressions like any other.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream;

use super::steps::{Series, argument_types};
use crate::error::{SqlError, sqlstate};

/// The function `name`; `closed` = the end belongs to the series.
#[derive(Debug)]
pub(super) struct SeriesFunction {
    pub(super) name: &'static str,
    pub(super) closed: bool,
}

impl SeriesFunction {
    fn constants(&self, exprs: &[Expr]) -> DfResult<Vec<ScalarValue>> {
        exprs
            .iter()
            .map(|expr| match expr {
                Expr::Literal(value, _) => Ok(value.clone()),
                _ => Err(DataFusionError::from(
                    SqlError::new(
                        sqlstate::INVALID_PARAMETER,
                        format!("in FROM, the arguments of {}() must be constants", self.name),
                    )
                    .with_hint("in the SELECT list they may be columns"),
                )),
            })
            .collect()
    }
}

/// A number that is written in a statement is an integer if it fits.
fn narrow(value: &ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Int64(Some(wide)) => match i32::try_from(*wide) {
            Ok(narrow) => ScalarValue::Int32(Some(narrow)),
            Err(_) => value.clone(),
        },
        other => other.clone(),
    }
}

impl TableFunctionImpl for SeriesFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> DfResult<Arc<dyn TableProvider>> {
        let values = self.constants(args.exprs())?;
        let values: Vec<ScalarValue> = values.iter().map(narrow).collect();
        let types: Vec<DataType> = values.iter().map(ScalarValue::data_type).collect();
        let taken = argument_types(&types)
            .ok_or_else(|| crate::aggregate::no_such_function(self.name, &types))?;
        let values = values.iter().zip(&taken).map(|(value, t)| value.cast_to(t));
        let values = values.collect::<DfResult<Vec<_>>>()?;
        let zone = args.session().config_options().execution.time_zone.as_deref();
        let series = Series::of(self.name, &values, self.closed, zone)?;
        let item = match (&series, taken.first()) {
            (Some(series), _) => series.data_type().clone(),
            (None, known) => known.cloned().unwrap_or(DataType::Int64),
        };
        let schema = Arc::new(Schema::new(vec![Field::new(self.name, item, false)]));
        let rows = Arc::new(SeriesRows { series, schema: Arc::clone(&schema) });
        Ok(Arc::new(StreamingTable::try_new(schema, vec![rows])?))
    }
}

#[derive(Debug)]
struct SeriesRows {
    series: Option<Series>,
    schema: SchemaRef,
}

impl PartitionStream for SeriesRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = context.session_config().batch_size().max(1);
        let schema = Arc::clone(&self.schema);
        let batches = stream::unfold(self.series.clone(), move |series| {
            let schema = Arc::clone(&schema);
            async move {
                let mut series = series?;
                let values: Vec<i64> = series.by_ref().take(rows).collect();
                if values.is_empty() {
                    return None;
                }
                let batch = RecordBatch::try_new(schema, vec![series.array(values)]);
                Some((batch.map_err(DataFusionError::from), Some(series)))
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}
