//! Computed columns and the filter: SQL expressions over a batch of decoded rows. A row on which an expression
//! fails is found by halving, and rejected alone.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array,
    new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, concat, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use otus_engine::catalog::{
    ColumnDef, ColumnSource, DELETED_COLUMN, EXPECTED_COLUMN, INGESTED_AT_COLUMN, TableDef,
};
use otus_engine::expr::{CompiledExpr, ExpressionCompiler};
use otus_engine::position::TopicPartition;
use otus_engine::{Error, Result};

use super::reason::Reason;
use super::rows::check_time;
use crate::record::{Record, Slice};

/// System columns that no expression sees. They stand last.
const AFTERWARDS: [&str; 3] = [INGESTED_AT_COLUMN, DELETED_COLUMN, EXPECTED_COLUMN];

/// The schema that computed columns see: declared columns that are not computed, then the system columns but
/// for the moment of ingestion (a row must not depend on when it was read).
pub fn expression_schema(table: &TableDef) -> SchemaRef {
    schema_of(table, |column| !matches!(column.source, ColumnSource::Computed(_)))
}

/// The schema that the filter sees: as [`expression_schema`], with the computed columns.
pub fn filter_schema(table: &TableDef) -> SchemaRef {
    schema_of(table, |_| true)
}

fn schema_of(table: &TableDef, wanted: impl Fn(&ColumnDef) -> bool) -> SchemaRef {
    let raw = table.append_schema();
    let fields: Vec<Arc<Field>> = raw
        .fields()
        .iter()
        .enumerate()
        .filter(|(at, field)| match table.columns.get(*at) {
            Some(column) => wanted(column),
            None => !AFTERWARDS.contains(&field.name().as_str()),
        })
        .map(|(_, field)| Arc::clone(field))
        .collect();
    Arc::new(Schema::new(fields))
}

#[derive(Debug)]
struct ComputedColumn {
    /// Its place among the table's columns.
    at: usize,
    data_type: DataType,
    expr: Arc<dyn CompiledExpr>,
}

/// Rows that did not make it.
#[derive(Debug, Default)]
pub(crate) struct Bad {
    pub(crate) filtered: u64,
    /// Row numbers in order of decoding, with reasons.
    pub(crate) rejected: Vec<(usize, Reason)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Computed {
    columns: Vec<ComputedColumn>,
    filter: Option<Arc<dyn CompiledExpr>>,
    raw: SchemaRef,
    input: SchemaRef,
    filter_input: SchemaRef,
    /// The records behind the rows, kept only where an expression may still reject one.
    kept: Slice,
}

impl Computed {
    pub(crate) fn new(table: &TableDef, compiler: &dyn ExpressionCompiler) -> Result<Self> {
        let input = expression_schema(table);
        let filter_input = filter_schema(table);
        let mut columns = Vec::new();
        for (at, column) in table.columns.iter().enumerate() {
            if let ColumnSource::Computed(sql) = &column.source {
                let expr = compiler.scalar(&input, sql)?;
                columns.push(ComputedColumn { at, data_type: column.column_type.arrow(), expr });
            }
        }
        let filter = match &table.filter {
            Some(sql) => Some(compiler.scalar(&filter_input, sql)?),
            None => None,
        };
        if let Some(expr) = filter.as_ref().filter(|e| *e.data_type() != DataType::Boolean) {
            return Err(Error::invalid(format!(
                "filter of table {:?} gives {}, not boolean",
                table.qualified_name(),
                expr.data_type()
            )));
        }
        let kept = Slice::new(TopicPartition::new("", 0), 0);
        Ok(Self { columns, filter, raw: table.append_schema(), input, filter_input, kept })
    }

    fn is_idle(&self) -> bool {
        self.columns.is_empty() && self.filter.is_none()
    }

    /// Remembers the record of the row just appended, if it may be needed.
    #[inline]
    pub(crate) fn keep(&mut self, record: &Record<'_>) {
        if !self.is_idle() {
            self.kept.push(record.offset, record.timestamp_us, record.key, record.value);
        }
    }

    /// The record behind a row.
    pub(crate) fn record<'a>(&'a self, row: usize, tp: &'a TopicPartition) -> Option<Record<'a>> {
        let record = self.kept.get(row)?;
        Some(Record { topic: &tp.topic, partition: tp.partition, ..record })
    }

    /// Forgets the remembered records.
    pub(crate) fn forget(&mut self) {
        self.kept = Slice::new(self.kept.tp.clone(), 0);
    }

    /// Completes decoded columns to rows of the raw schema.
    pub(crate) fn finish(
        &self,
        table: &TableDef,
        tp: &TopicPartition,
        declared: Vec<ArrayRef>,
        system: Vec<ArrayRef>,
    ) -> Result<(RecordBatch, Bad)> {
        let mut bad = Bad::default();
        let mut arrays = declared;
        if !self.columns.is_empty() {
            let mut inputs = arrays.clone();
            inputs.extend(system.iter().take(self.input.fields().len() - inputs.len()).cloned());
            let batch = RecordBatch::try_new(Arc::clone(&self.input), inputs)?;
            for column in &self.columns {
                let values = evaluate(&column.expr, &column.data_type, &batch, &mut |row, e| {
                    let name = table.columns.get(column.at).map_or("", |def| def.name.as_str());
                    let reason = Reason::new("the expression failed").with(e);
                    bad.rejected.push((row, reason.of_column(name)));
                })?;
                arrays.insert(column.at, values);
            }
            self.check_times(table, tp, &arrays, &mut bad);
        }
        arrays.extend(system);
        let rows = arrays.last().map_or(0, |a| a.len());
        let mut alive = vec![true; rows];
        bad.rejected.sort_by_key(|(row, _)| *row);
        bad.rejected.dedup_by_key(|(row, _)| *row);
        for (row, _) in &bad.rejected {
            alive[*row] = false;
        }
        if let Some(filter) = &self.filter {
            let columns = self.filter_input.fields().len();
            let inputs: Vec<ArrayRef> = arrays.iter().take(columns).cloned().collect();
            // A computed event time may still be null here, in a row that is rejected already.
            let batch = RecordBatch::try_new(Arc::clone(&self.filter_input), inputs.clone())
                .or_else(|_| RecordBatch::try_new(nullable(&self.filter_input), inputs))?;
            self.apply_filter(filter, &batch, &mut alive, &mut bad)?;
        }
        if alive.iter().all(|a| *a) {
            return Ok((RecordBatch::try_new(Arc::clone(&self.raw), arrays)?, bad));
        }
        let rows = (0_u32..).zip(&alive).filter(|(_, a)| **a).map(|(row, _)| row);
        let rows = UInt32Array::from_iter_values(rows);
        let all = RecordBatch::try_new(nullable(&self.raw), arrays)?;
        let kept = take_record_batch(&all, &rows)?;
        Ok((RecordBatch::try_new(Arc::clone(&self.raw), kept.columns().to_vec())?, bad))
    }

    fn apply_filter(
        &self,
        filter: &Arc<dyn CompiledExpr>,
        batch: &RecordBatch,
        alive: &mut [bool],
        bad: &mut Bad,
    ) -> Result<()> {
        let mut failed = Vec::new();
        let values = evaluate(filter, &DataType::Boolean, batch, &mut |row, e| {
            failed.push((row, Reason::new("the filter failed").with(e)));
        })?;
        let values = values
            .as_any()
            .downcast_ref::<BooleanArray>()
            .ok_or_else(|| Error::internal("a filter did not give booleans"))?;
        for (row, reason) in failed {
            if std::mem::replace(&mut alive[row], false) {
                bad.rejected.push((row, reason));
            }
        }
        for (row, alive) in alive.iter_mut().enumerate() {
            if *alive && !(values.is_valid(row) && values.value(row)) {
                *alive = false;
                bad.filtered += 1;
            }
        }
        Ok(())
    }

    /// Checks a computed event time; one from the record was checked while decoding.
    fn check_times(
        &self,
        table: &TableDef,
        tp: &TopicPartition,
        arrays: &[ArrayRef],
        bad: &mut Bad,
    ) {
        let at = self.columns.iter().map(|c| c.at);
        let Some(at) = at.into_iter().find(|at| table.columns[*at].name == table.time) else {
            return;
        };
        let Some(times) = arrays[at].as_any().downcast_ref::<TimestampMicrosecondArray>() else {
            return;
        };
        for row in 0..times.len() {
            let us = times.is_valid(row).then(|| times.value(row));
            let record_us = self.record(row, tp).and_then(|r| r.timestamp_us);
            if let Err(reason) = check_time(table, us, record_us) {
                bad.rejected.push((row, reason));
            }
        }
    }
}

fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<Field> =
        schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

/// Evaluates over all rows. Rows on which the expression fails become null and are reported.
fn evaluate(
    expr: &Arc<dyn CompiledExpr>,
    data_type: &DataType,
    batch: &RecordBatch,
    failed: &mut dyn FnMut(usize, String),
) -> Result<ArrayRef> {
    let mut pieces = Vec::new();
    halve(expr, data_type, batch, 0..batch.num_rows(), failed, &mut pieces);
    match pieces.as_slice() {
        [one] => Ok(Arc::clone(one)),
        many => {
            let many: Vec<&dyn Array> = many.iter().map(AsRef::as_ref).collect();
            Ok(concat(&many)?)
        }
    }
}

fn halve(
    expr: &Arc<dyn CompiledExpr>,
    data_type: &DataType,
    batch: &RecordBatch,
    rows: Range<usize>,
    failed: &mut dyn FnMut(usize, String),
    pieces: &mut Vec<ArrayRef>,
) {
    let part = batch.slice(rows.start, rows.len());
    match evaluate_all(expr, data_type, &part) {
        Ok(values) => pieces.push(values),
        Err(_) if rows.len() > 1 => {
            let middle = rows.start + rows.len() / 2;
            halve(expr, data_type, batch, rows.start..middle, failed, pieces);
            halve(expr, data_type, batch, middle..rows.end, failed, pieces);
        }
        Err(e) => {
            if !rows.is_empty() {
                failed(rows.start, e.to_string());
            }
            pieces.push(new_null_array(data_type, rows.len()));
        }
    }
}

fn evaluate_all(
    expr: &Arc<dyn CompiledExpr>,
    data_type: &DataType,
    batch: &RecordBatch,
) -> Result<ArrayRef> {
    let values = expr.evaluate(batch)?;
    if values.len() != batch.num_rows() {
        return Err(Error::internal("an expression gave another number of rows"));
    }
    if values.data_type() == data_type {
        return Ok(values);
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&values, data_type, &strict)
        .map_err(|e| Error::invalid(format!("cannot become the declared type: {e}")))
}
