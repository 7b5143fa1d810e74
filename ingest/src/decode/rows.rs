//! Rows of one table under construction, whatever the format: typed values in, batches out. Knows the sources
//! outside the record's value (key, timestamp, headers), defaults, the event-time checks and system columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, StringViewBuilder, TimestampMicrosecondArray,
};
use otus_engine::catalog::{ColumnDef, ColumnSource, EpochUnit, TableDef};
use otus_engine::expr::ExpressionCompiler;
use otus_engine::keyed::Key;
use otus_engine::limits::{EVENT_TIME_MAX_US, EVENT_TIME_MIN_US};
use otus_engine::log::op::FieldSeen;
use otus_engine::position::{ReadCounts, TopicPartition};
use otus_engine::types::ColumnType;
use otus_engine::{Error, Result};

use super::Decoded;
use super::columns::{ColumnBuilder, Sources};
use super::computed::Computed;
use super::json::scan::{Cursor, Token};
use super::reason::Reason;
use super::rejects::Rejects;
use super::value::{Scratch, Target, Value, convert, convert_bytes};
use crate::log::condition;
use crate::record::Record;

/// A declared column that is filled from the record.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) def: ColumnDef,
    default: Option<DefaultValue>,
}

/// What the conversion of every value looks at, kept close together.
#[derive(Debug)]
struct Plan {
    column_type: ColumnType,
    epoch: Option<EpochUnit>,
    has_default: bool,
}

/// A default, converted once.
#[derive(Debug)]
pub(crate) struct DefaultValue {
    value: Value,
    text: String,
    scratch: Scratch,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rows {
    table: Arc<TableDef>,
    tp: TopicPartition,
    columns: Vec<Column>,
    plans: Vec<Plan>,
    builders: Vec<ColumnBuilder>,
    /// Index of the event-time column, unless that one is computed.
    time: Option<usize>,
    values: Vec<Value>,
    pub(crate) scratch: Scratch,
    offsets: Vec<i64>,
    ingested: Vec<i64>,
    bytes: usize,
    counts: ReadCounts,
    rejects: Rejects,
    first_reason: Option<String>,
    computed: Computed,
    keyed: Option<Keyed>,
}

/// What rows of a keyed table have besides.
#[derive(Debug)]
struct Keyed {
    /// The key among the columns that are filled from the record.
    key: usize,
    timestamps: Vec<Option<i64>>,
    deleted: Vec<bool>,
    expected: Vec<Option<i64>>,
}

impl Rows {
    pub(crate) fn new(
        table: &Arc<TableDef>,
        tp: &TopicPartition,
        compiler: &dyn ExpressionCompiler,
    ) -> Result<Self> {
        let (mut columns, mut plans, mut builders) = (Vec::new(), Vec::new(), Vec::new());
        for def in table.columns.iter().filter(|c| !matches!(c.source, ColumnSource::Computed(_))) {
            let default = default_of(def)?;
            builders.push(ColumnBuilder::new(&def.column_type)?);
            plans.push(Plan {
                column_type: def.column_type.clone(),
                epoch: def.epoch,
                has_default: default.is_some(),
            });
            columns.push(Column { def: def.clone(), default });
        }
        let keyed = match table.keyed() {
            Some(def) => Some(Keyed::new(table, &def.key, &columns)?),
            None => {
                check_time_column(table)?;
                None
            }
        };
        Ok(Self {
            keyed,
            time: columns.iter().position(|c| c.def.name == table.time),
            values: vec![Value::Null; columns.len()],
            columns,
            plans,
            builders,
            scratch: Scratch::default(),
            offsets: Vec::new(),
            ingested: Vec::new(),
            bytes: 0,
            counts: ReadCounts::default(),
            rejects: Rejects::new(table.qualified_name()),
            first_reason: None,
            computed: Computed::new(table, compiler)?,
            table: Arc::clone(table),
            tp: tp.clone(),
        })
    }

    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(crate) fn pending(&self) -> usize {
        usize::try_from(self.counts.read()).unwrap_or(usize::MAX)
    }

    pub(crate) fn pending_bytes(&self) -> usize {
        self.bytes + self.rejects.bytes()
    }

    /// Largest record, bytes.
    pub(crate) fn record_bytes_max(&self) -> usize {
        self.table.record_bytes_max
    }

    /// Begins a row.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.scratch.clear();
        self.values.fill(Value::Null);
    }

    /// Sets a column of the row; null means the default, if there is one.
    #[inline]
    pub(crate) fn set(&mut self, column: usize, value: Value) {
        self.values[column] = match value {
            Value::Null if self.plans[column].has_default => Value::Default,
            value => value,
        };
    }

    /// The value of a column from a token of the record's text, or why it cannot be.
    #[inline]
    pub(crate) fn convert(
        &mut self,
        column: usize,
        text: &str,
        token: Token,
    ) -> Result<Value, Reason> {
        let plan = &self.plans[column];
        let target = Target { column_type: &plan.column_type, epoch: plan.epoch };
        convert(target, text, token, &mut self.scratch)
            .map_err(|reason| reason.of_column(&self.columns[column].def.name))
    }

    /// Sets the columns that are taken from outside the record's value.
    pub(crate) fn set_outside(&mut self, column: usize, record: &Record<'_>) -> Result<(), Reason> {
        let Column { def, .. } = &self.columns[column];
        let target = Target { column_type: &def.column_type, epoch: def.epoch };
        let bytes = match &def.source {
            ColumnSource::RecordTimestamp => {
                let value = match (record.timestamp_us, &def.column_type) {
                    (None, _) => Value::Null,
                    (Some(us), ColumnType::Timestamp | ColumnType::Timestamptz) => Value::Int(us),
                    (Some(us), ColumnType::BigInt) => Value::Int(us.div_euclid(1_000)),
                    _ => {
                        let reason = Reason::new("cannot hold the record's timestamp");
                        return Err(reason.of_column(&def.name));
                    }
                };
                self.set(column, value);
                return Ok(());
            }
            ColumnSource::RecordKey => record.key,
            ColumnSource::RecordHeader(name) => record.headers.last(name).flatten(),
            _ => None,
        };
        let value = match bytes {
            None => Value::Null,
            Some(bytes) => convert_bytes(target, bytes, &mut self.scratch)
                .map_err(|reason| reason.of_column(&def.name))?,
        };
        self.set(column, value);
        Ok(())
    }

    /// Ends the row: checks the event time and appends. `text` is what [`Value::Text`] points into.
    pub(crate) fn end(
        &mut self,
        record: &Record<'_>,
        text: &str,
        ingested_at_us: i64,
    ) -> Result<(), Reason> {
        if let Some(time) = self.time {
            let us = match (self.values[time], &self.columns[time].default) {
                (Value::Int(us), _) => Some(us),
                (Value::Default, Some(DefaultValue { value: Value::Int(us), .. })) => Some(*us),
                _ => None,
            };
            check_time(&self.table, us, record.timestamp_us)?;
        }
        if let Some(keyed) = &mut self.keyed {
            let expected = condition::of(record)?;
            let name = &self.columns[keyed.key].def.name;
            if matches!(self.values[keyed.key], Value::Null | Value::Default) {
                return Err(Reason::new(format!("key {name:?} is missing or null")));
            }
            keyed.push(record, false, expected);
        }
        let sources = Sources { record: text, scratch: &self.scratch };
        for (at, (builder, value)) in self.builders.iter_mut().zip(&self.values).enumerate() {
            if !matches!(value, Value::Default) {
                builder.append(*value, sources);
            } else if let Some(default) = &self.columns[at].default {
                let sources = Sources { record: &default.text, scratch: &default.scratch };
                builder.append(default.value, sources);
            }
        }
        self.offsets.push(record.offset);
        self.ingested.push(ingested_at_us);
        self.bytes += text.len();
        self.counts.kept += 1;
        self.computed.keep(record);
        Ok(())
    }

    /// Whether the rows are of a keyed table.
    pub(crate) fn is_keyed(&self) -> bool {
        self.keyed.is_some()
    }

    /// Appends the deletion of the key that the record's key names, or says why not.
    pub(crate) fn delete(
        &mut self,
        record: &Record<'_>,
        ingested_at_us: i64,
    ) -> Result<(), Reason> {
        let Some(keyed) = &mut self.keyed else { return Ok(()) };
        let def = &self.columns[keyed.key].def;
        let no_key = || Reason::new("a record without value deletes, but it has no key");
        let bytes = record.key.ok_or_else(no_key)?;
        let target = Target { column_type: &def.column_type, epoch: None };
        self.scratch.clear();
        let key = convert_bytes(target, bytes, &mut self.scratch)
            .map_err(|reason| reason.of_column(&def.name))?;
        let expected = condition::of(record)?;
        keyed.push(record, true, expected);
        let sources = Sources { record: "", scratch: &self.scratch };
        for (at, builder) in self.builders.iter_mut().enumerate() {
            builder.append(if at == keyed.key { key } else { Value::Null }, sources);
        }
        self.offsets.push(record.offset);
        self.ingested.push(ingested_at_us);
        self.bytes += bytes.len();
        self.counts.kept += 1;
        self.computed.keep(record);
        Ok(())
    }

    /// Counts a record as filtered.
    pub(crate) fn filter(&mut self) {
        self.counts.filtered += 1;
    }

    /// Keeps a record as rejected.
    pub(crate) fn reject(&mut self, record: &Record<'_>, reason: &Reason, ingested_at_us: i64) {
        self.counts.rejected += 1;
        self.rejects.push(record, reason, ingested_at_us);
        if self.first_reason.is_none() {
            self.first_reason = Some(reason.to_string());
        }
    }

    /// Everything since the last flush.
    pub(crate) fn flush(&mut self, fields: Vec<FieldSeen>) -> Result<Decoded> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for builder in &mut self.builders {
            arrays.push(builder.finish()?);
        }
        let offsets = std::mem::take(&mut self.offsets);
        let ingested = std::mem::take(&mut self.ingested);
        self.bytes = 0;
        let mut system = self.system_arrays(&offsets, &ingested);
        if let Some(keyed) = &mut self.keyed {
            keyed.finish(&mut system);
        }
        let (batch, bad) = self.computed.finish(&self.table, &self.tp, arrays, system)?;
        let mut counts = std::mem::take(&mut self.counts);
        counts.kept = batch.num_rows() as u64;
        counts.filtered += bad.filtered;
        counts.rejected += bad.rejected.len() as u64;
        for (row, reason) in &bad.rejected {
            let at = ingested.get(*row).copied().unwrap_or_default();
            if self.first_reason.is_none() {
                self.first_reason = Some(reason.to_string());
            }
            if let Some(record) = self.computed.record(*row, &self.tp) {
                self.rejects.push(&record, reason, at);
            }
        }
        self.computed.forget();
        let rejected = self.rejects.take()?;
        Ok(Decoded { batch, rejected, counts, fields, first_reason: self.first_reason.take() })
    }

    fn system_arrays(&self, offsets: &[i64], ingested: &[i64]) -> Vec<ArrayRef> {
        let rows = offsets.len();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        if self.table.source.is_many() {
            let mut topics = StringViewBuilder::with_capacity(rows);
            for _ in 0..rows {
                topics.append_value(&self.tp.topic);
            }
            arrays.push(Arc::new(topics.finish()));
        }
        arrays.push(Arc::new(Int32Array::from_value(self.tp.partition, rows)));
        arrays.push(Arc::new(Int64Array::from(offsets.to_vec())));
        let ingested = TimestampMicrosecondArray::from(ingested.to_vec()).with_timezone("UTC");
        arrays.push(Arc::new(ingested));
        arrays
    }
}

impl Keyed {
    fn new(table: &TableDef, name: &str, columns: &[Column]) -> Result<Self> {
        let key = columns.iter().position(|c| c.def.name == name);
        let is_key = |at: &usize| Key::is_key_type(&columns[*at].def.column_type);
        let key = key.filter(is_key).ok_or_else(|| {
            Error::invalid(format!(
                "table {:?} has no column {name:?} that can be its key",
                table.qualified_name()
            ))
            .with_hint("a key is text, bigint, uuid or jsonb, from the record's key or a field")
        })?;
        Ok(Self { key, timestamps: Vec::new(), deleted: Vec::new(), expected: Vec::new() })
    }

    fn push(&mut self, record: &Record<'_>, deleted: bool, expected: Option<i64>) {
        self.timestamps.push(record.timestamp_us);
        self.deleted.push(deleted);
        self.expected.push(expected);
    }

    /// Adds the columns so far to the system columns, and is empty again.
    fn finish(&mut self, system: &mut Vec<ArrayRef>) {
        let timestamps = TimestampMicrosecondArray::from(std::mem::take(&mut self.timestamps));
        let before_ingested = system.len().saturating_sub(1);
        system.insert(before_ingested, Arc::new(timestamps.with_timezone("UTC")));
        system.push(Arc::new(BooleanArray::from(std::mem::take(&mut self.deleted))));
        system.push(Arc::new(Int64Array::from(std::mem::take(&mut self.expected))));
    }
}

fn check_time_column(table: &TableDef) -> Result<()> {
    let Some(time) = table.column(&table.time) else {
        return Err(Error::invalid(format!(
            "table {:?} has no column {:?} to be its event time",
            table.qualified_name(),
            table.time
        )));
    };
    if !matches!(time.column_type, ColumnType::Timestamp | ColumnType::Timestamptz) {
        return Err(Error::invalid(format!(
            "event-time column {:?} of table {:?} is {}, not timestamptz or timestamp",
            table.time,
            table.qualified_name(),
            time.column_type
        )));
    }
    Ok(())
}

/// Checks an event time: present, within the years that Otus keeps, within the table's window.
pub(crate) fn check_time(
    table: &TableDef,
    us: Option<i64>,
    record_us: Option<i64>,
) -> Result<(), Reason> {
    let name = &table.time;
    let wrong = |what: &str| Reason::new(format!("event time {name:?} is {what}"));
    let Some(us) = us else { return Err(wrong("missing")) };
    if !(EVENT_TIME_MIN_US..EVENT_TIME_MAX_US).contains(&us) {
        return Err(wrong("outside 1970 to 2200").with(show_time(us)));
    }
    let Some(record_us) = record_us else { return Ok(()) };
    let both = || format!("{} in a record of {}", show_time(us), show_time(record_us));
    if table.accept.late_us.is_some_and(|late| us < record_us.saturating_sub(late)) {
        return Err(wrong("too late").with(both()));
    }
    if table.accept.early_us.is_some_and(|early| us > record_us.saturating_add(early)) {
        return Err(wrong("too early").with(both()));
    }
    Ok(())
}

fn show_time(us: i64) -> String {
    match chrono::DateTime::from_timestamp_micros(us) {
        Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        None => format!("{us} microseconds since 1970"),
    }
}

fn default_of(def: &ColumnDef) -> Result<Option<DefaultValue>> {
    let Some(json) = def.default.as_ref().filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let text = json.to_string();
    let mut scratch = Scratch::default();
    let wrong = |reason: Reason| {
        Error::invalid(format!("default of column {:?} does not fit: {reason}", def.name))
    };
    let token = Cursor::new(&text).value(0).map_err(|e| wrong(e.into()))?;
    let target = Target { column_type: &def.column_type, epoch: def.epoch };
    let value = convert(target, &text, token, &mut scratch).map_err(wrong)?;
    Ok(Some(DefaultValue { value, text, scratch }))
}
