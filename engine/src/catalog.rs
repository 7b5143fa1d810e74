//! Definitions of tables, columns, measures and rollups: the one declaration that drives decoding, storage,
//! rollups, the SQL catalogue and the pull schema. Expressions are SQL text here; they come to life in
//! [`crate::expr`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::limits::RECORD_BYTES_MAX;
use crate::time::Granularity;
use crate::types::ColumnType;

/// Column that holds the topic, in tables that read more than one.
pub const TOPIC_COLUMN: &str = "_topic";
/// Column that holds the partition, `integer`.
pub const PARTITION_COLUMN: &str = "_partition";
/// Column that holds the offset, `bigint`.
pub const OFFSET_COLUMN: &str = "_offset";
/// Column that holds the record's timestamp in keyed tables, `timestamptz`.
pub const TIMESTAMP_COLUMN: &str = "_timestamp";
/// Stored column of keyed tables that tells deletions, `boolean`; no query sees it.
pub const DELETED_COLUMN: &str = "_deleted";
/// Column of appends to keyed tables: the offset that the key's row must stand at (see
/// [`crate::keyed::ABSENT`]), null without a condition, `bigint`; neither stored nor seen.
pub const EXPECTED_COLUMN: &str = "_expected";
/// Column that holds the moment of decoding, `timestamptz`.
pub const INGESTED_AT_COLUMN: &str = "_ingested_at";
/// Name of the bucket column of every rollup.
pub const BUCKET_COLUMN: &str = "bucket";

/// Identity of a table for ever: a name dropped and created again gets another id.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct TableId(pub u32);

/// Identity of a rollup for ever, unique in the dataset.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct RollupId(pub u32);

/// What a table is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// Append-only events with an event-time column.
    #[default]
    Events,
    /// Latest value per key of a compacted topic.
    Keyed(KeyedDef),
}

/// What makes a table keyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedDef {
    /// Name of the column that holds the key: text, bigint, uuid or jsonb.
    pub key: String,
    /// Set while the table is being built, out of sight, to take the place of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<Rebuild>,
}

/// A rebuild under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    /// The table whose place is to be taken.
    pub table: TableId,
    /// When it began, microseconds: level is what has everything written before.
    pub started_us: i64,
    /// Why, for people.
    pub reason: String,
}

/// Where a table's records come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Named topics of the configured log.
    Topics(Vec<String>),
    /// All topics whose whole name matches this regular expression.
    Pattern(String),
    /// A file of newline-delimited records, optionally gzip or zstd.
    File(String),
}

impl Source {
    /// Whether rows of several topics can stand in the table, which then has [`TOPIC_COLUMN`].
    pub fn is_many(&self) -> bool {
        match self {
            Self::Topics(topics) => topics.len() > 1,
            Self::Pattern(_) => true,
            Self::File(_) => false,
        }
    }
}

/// Where reading of a partition begins when it has no committed position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At the first record that the log still has.
    #[default]
    Earliest,
    /// At the end that the log has when first looked at.
    Latest,
    /// At the first record whose timestamp is at or after this, microseconds since the epoch.
    Time(i64),
}

/// Unit of an epoch time in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EpochUnit {
    /// Seconds; a fraction is kept.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millis,
    /// Microseconds.
    #[serde(rename = "us")]
    Micros,
    /// Nanoseconds; cut to microseconds.
    #[serde(rename = "ns")]
    Nanos,
}

/// What a column's value is taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnSource {
    /// A field of the record, by path from the root (one element per level).
    Path(Vec<String>),
    /// An SQL expression over the other, non-computed columns.
    Computed(String),
    /// The record's timestamp in the log.
    RecordTimestamp,
    /// The record's key.
    RecordKey,
    /// The last header of this name.
    RecordHeader(String),
    /// All fields of the record that no other column takes, as jsonb.
    Rest,
}

/// Presentation of a column or measure, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presentation {
    /// Short name for a heading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Unit of the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Number format for a dashboard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Left out of pickers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// A declared column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDef {
    /// Name in SQL.
    pub name: String,
    /// Declared type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// What its value is taken from.
    pub source: ColumnSource,
    /// Unit, if the record holds an epoch number for a time column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<EpochUnit>,
    /// Value when the field is missing or null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
    /// Presentation.
    #[serde(default)]
    pub presentation: Presentation,
}

impl ColumnDef {
    /// A column that takes the field of its own name, as it is.
    pub fn new(name: impl Into<String>, column_type: ColumnType) -> Self {
        let name = name.into();
        Self {
            source: ColumnSource::Path(vec![name.clone()]),
            name,
            column_type,
            epoch: None,
            default: None,
            presentation: Presentation::default(),
        }
    }
}

/// A declared measure: an SQL expression of aggregates, or of other measures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasureDef {
    /// Name in views and pull patterns.
    pub name: String,
    /// The expression, as declared.
    pub sql: String,
    /// Presentation.
    #[serde(default)]
    pub presentation: Presentation,
}

impl MeasureDef {
    /// A measure with nothing to say about its looks.
    pub fn new(name: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { name: name.into(), sql: sql.into(), presentation: Presentation::default() }
    }
}

/// A dimension of a rollup: a column of the table, or an expression over its columns under a name of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "DimensionForm", into = "DimensionForm")]
pub struct DimensionDef {
    /// Name of the rollup's column.
    pub name: String,
    /// The expression, as declared; none = the table's column of that name.
    pub sql: Option<String>,
}

/// A dimension in the log: a column is its name alone.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum DimensionForm {
    Column(String),
    Computed { name: String, sql: String },
}

impl From<DimensionForm> for DimensionDef {
    fn from(form: DimensionForm) -> Self {
        match form {
            DimensionForm::Column(name) => Self { name, sql: None },
            DimensionForm::Computed { name, sql } => Self { name, sql: Some(sql) },
        }
    }
}

impl From<DimensionDef> for DimensionForm {
    fn from(def: DimensionDef) -> Self {
        match def.sql {
            None => Self::Column(def.name),
            Some(sql) => Self::Computed { name: def.name, sql },
        }
    }
}

impl DimensionDef {
    /// An expression under a name.
    pub fn computed(name: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { name: name.into(), sql: Some(sql.into()) }
    }
}

impl From<&str> for DimensionDef {
    fn from(name: &str) -> Self {
        name.to_string().into()
    }
}

impl From<String> for DimensionDef {
    fn from(name: String) -> Self {
        Self { name, sql: None }
    }
}

impl fmt::Display for DimensionDef {
    /// As a statement names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sql {
            None => f.write_str(&self.name),
            Some(sql) => write!(f, "{sql} AS {}", self.name),
        }
    }
}

/// A declared rollup of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupDef {
    /// Name; views are `<name>_<granularity>`.
    pub name: String,
    /// Granularities from fine to coarse; each divides the next.
    pub granularities: Vec<Granularity>,
    /// Dimensions, in the order in which states are sorted.
    pub dimensions: Vec<DimensionDef>,
    /// Rows for which this SQL expression is not true are not in its states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Names of the stored measures; empty = all of the table.
    #[serde(default)]
    pub measures: Vec<String>,
}

impl RollupDef {
    /// The finest granularity, at which states are first computed.
    pub fn finest(&self) -> Granularity {
        self.granularities.iter().copied().min().unwrap_or(Granularity::Minute)
    }
    /// Names of the dimensions.
    pub fn dimension_names(&self) -> impl Iterator<Item = &String> {
        self.dimensions.iter().map(|dimension| &dimension.name)
    }
    /// Name of the finished view of one granularity.
    pub fn view_name(&self, granularity: Granularity) -> String {
        format!("{}_{granularity}", self.name)
    }
}

/// Window around the record's timestamp in which event times are accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// How much earlier than the record, microseconds.
    pub late_us: Option<i64>,
    /// How much later than the record, microseconds.
    pub early_us: Option<i64>,
}

/// How long data is kept, by event time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Raw rows, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_us: Option<i64>,
    /// Rollups, per granularity, microseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rollup_us: BTreeMap<Granularity, i64>,
}

/// Where a definition was made, and so where it is changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// In the configuration file, or by a program that embeds Otus.
    #[default]
    File,
    /// By a statement.
    Sql,
}

impl Origin {
    fn is_file(&self) -> bool {
        *self == Self::File
    }
}

/// A declared table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDef {
    /// SQL schema.
    pub schema: String,
    /// Name in that schema.
    pub name: String,
    /// What the table is.
    #[serde(default)]
    pub kind: TableKind,
    /// What it holds, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where records come from.
    pub source: Source,
    /// Where reading begins.
    #[serde(default)]
    pub start: Start,
    /// Name of the record format; `json` so far.
    pub format: String,
    /// Name of the event-time column (timestamptz or timestamp); empty in keyed tables.
    pub time: String,
    /// Declared columns, in order.
    pub columns: Vec<ColumnDef>,
    /// Rows for which this SQL expression is not true are dropped and counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Measures, in order.
    #[serde(default)]
    pub measures: Vec<MeasureDef>,
    /// Rollups, in order.
    #[serde(default)]
    pub rollups: Vec<RollupDef>,
    /// Accepted window around the record's timestamp.
    #[serde(default)]
    pub accept: Accept,
    /// How long data is kept.
    #[serde(default)]
    pub retention: Retention,
    /// Whether `POST /api/append/<topic>` may write the table's topics.
    #[serde(default)]
    pub append: bool,
    /// Largest record, bytes; larger ones are rejected.
    pub record_bytes_max: usize,
    /// Where the table was declared.
    #[serde(default, skip_serializing_if = "Origin::is_file")]
    pub origin: Origin,
}

impl TableDef {
    /// A table of events in schema `public` that reads the topic of its name from the beginning as JSON, with
    /// nothing else declared.
    pub fn events(name: &str, time: &str, columns: Vec<ColumnDef>) -> Self {
        Self {
            schema: "public".into(),
            name: name.into(),
            kind: TableKind::Events,
            description: None,
            source: Source::Topics(vec![name.into()]),
            start: Start::Earliest,
            format: "json".into(),
            time: time.into(),
            columns,
            filter: None,
            measures: Vec::new(),
            rollups: Vec::new(),
            accept: Accept::default(),
            retention: Retention::default(),
            append: false,
            record_bytes_max: RECORD_BYTES_MAX,
            origin: Origin::File,
        }
    }

    /// `schema.name`, for messages.
    pub fn qualified_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// What makes the table keyed, if it is.
    pub fn keyed(&self) -> Option<&KeyedDef> {
        match &self.kind {
            TableKind::Keyed(keyed) => Some(keyed),
            TableKind::Events => None,
        }
    }

    /// The rebuild that this table is, if it is one: such a table is read but not shown.
    pub fn rebuild(&self) -> Option<&Rebuild> {
        self.keyed().and_then(|keyed| keyed.rebuild.as_ref())
    }

    /// The Arrow schema of rows as queries see them: declared columns, then `_topic` (if many), `_partition`,
    /// `_offset`, `_timestamp` (if keyed), `_ingested_at`.
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.fields()))
    }

    /// The Arrow schema of rows on disk: of keyed tables also `_deleted`.
    pub fn stored_schema(&self) -> SchemaRef {
        let mut fields = self.fields();
        if self.keyed().is_some() {
            fields.push(Field::new(DELETED_COLUMN, DataType::Boolean, false));
        }
        Arc::new(Schema::new(fields))
    }

    /// The Arrow schema of rows that are appended: of keyed tables also `_deleted` and `_expected`.
    pub fn append_schema(&self) -> SchemaRef {
        let mut fields = self.fields();
        if self.keyed().is_some() {
            fields.push(Field::new(DELETED_COLUMN, DataType::Boolean, false));
            fields.push(Field::new(EXPECTED_COLUMN, DataType::Int64, true));
        }
        Arc::new(Schema::new(fields))
    }

    fn fields(&self) -> Vec<Field> {
        let named = self.keyed().map_or(self.time.as_str(), |keyed| keyed.key.as_str());
        let mut fields: Vec<Field> =
            self.columns.iter().map(|c| c.column_type.field(&c.name, c.name != named)).collect();
        if self.source.is_many() {
            fields.push(Field::new(TOPIC_COLUMN, DataType::Utf8View, false));
        }
        fields.push(Field::new(PARTITION_COLUMN, DataType::Int32, false));
        fields.push(Field::new(OFFSET_COLUMN, DataType::Int64, false));
        let utc = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        if self.keyed().is_some() {
            fields.push(Field::new(TIMESTAMP_COLUMN, utc(), true));
        }
        fields.push(Field::new(INGESTED_AT_COLUMN, utc(), false));
        fields
    }

    /// The declared column of this name.
    pub fn column(&self, name: &str) -> Option<&ColumnDef> {
        self.columns.iter().find(|c| c.name == name)
    }
}
