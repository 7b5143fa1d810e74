//! What tests of several modules share: a compiler of two expressions, and tables.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use otus_engine::catalog::{ColumnDef, ColumnSource, MeasureDef, TableDef};
use otus_engine::expr::{CompiledExpr, CompiledMeasures, ExpressionCompiler};
use otus_engine::{Error, Result};

/// Knows two expressions: `double <column>` fails on values above 100, `positive <column>` is a filter.
#[derive(Debug)]
pub(crate) struct TestCompiler;

#[derive(Debug)]
struct TestExpr {
    column: String,
    filter: bool,
    data_type: DataType,
}

impl ExpressionCompiler for TestCompiler {
    fn scalar(&self, schema: &SchemaRef, sql: &str) -> Result<Arc<dyn CompiledExpr>> {
        let (verb, column) = sql.split_once(' ').ok_or_else(|| Error::invalid("no expression"))?;
        schema.index_of(column).map_err(|_| Error::invalid(format!("no column {column:?}")))?;
        let filter = verb == "positive";
        let data_type = if filter { DataType::Boolean } else { DataType::Int64 };
        Ok(Arc::new(TestExpr { column: column.to_string(), filter, data_type }))
    }
    fn measures(&self, _: &SchemaRef, _: &str, _: &[MeasureDef]) -> Result<CompiledMeasures> {
        Ok(CompiledMeasures::default())
    }
}

impl CompiledExpr for TestExpr {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }
    fn columns(&self) -> &[String] {
        std::slice::from_ref(&self.column)
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let values = batch.column_by_name(&self.column).unwrap().as_primitive::<Int64Type>();
        if self.filter {
            let positive: BooleanArray = values.iter().map(|v| v.map(|v| v > 0)).collect();
            return Ok(Arc::new(positive));
        }
        if let Some(bad) = values.iter().flatten().find(|v| *v > 100) {
            return Err(Error::invalid(format!("{bad} is more than 100")));
        }
        Ok(Arc::new(values.unary::<_, Int64Type>(|v| v * 2)))
    }
}

pub(crate) fn column(name: &str, column_type: &str, source: ColumnSource) -> ColumnDef {
    ColumnDef { source, ..ColumnDef::new(name, column_type.parse().unwrap()) }
}

pub(crate) fn path(name: &str, column_type: &str) -> ColumnDef {
    let path = name.split('.').map(String::from).collect();
    column(&name.replace('.', "_"), column_type, ColumnSource::Path(path))
}

pub(crate) fn table(columns: Vec<ColumnDef>) -> TableDef {
    let mut all = vec![path("time", "timestamptz")];
    all.extend(columns);
    TableDef::events("events", "time", all)
}
