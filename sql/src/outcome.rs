//! What a statement answers: rows that stream, a tag, or rows meant for `COPY … TO STDOUT`; and what a
//! session tells besides: notices and changed settings.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, SchemaRef};
use datafusion::common::metadata::{FieldMetadata, ScalarAndMetadata};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::scalar::ScalarValue;
use otus_engine::snapshot::Snapshot;

use crate::session::CopyIn;

/// What a statement takes and gives, known before it runs.
#[derive(Debug, Clone)]
pub struct Description {
    /// Type of each parameter, `$1` first, with the Postgres name in the metadata where Arrow's type does not tell
    /// it. Text where nothing tells.
    pub params: Vec<FieldRef>,
    /// Columns of the answer; none if the statement answers with a tag only.
    pub schema: Option<SchemaRef>,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Parameter {
    /// The value, or a null of its type.
    pub value: ScalarValue,
    metadata: Option<FieldMetadata>,
}

impl Parameter {
    /// A value of the type of `field`, whose metadata may hold its Postgres name.
    pub fn of(value: ScalarValue, field: &Field) -> Self {
        let metadata = (!field.metadata().is_empty()).then(|| FieldMetadata::from(field));
        Self { value, metadata }
    }

    /// Its type, without a name.
    pub(crate) fn field(&self) -> FieldRef {
        let field = Field::new("", self.value.data_type(), false);
        Arc::new(match &self.metadata {
            Some(metadata) => metadata.add_to_field(field),
            None => field,
        })
    }

    /// It as an expression.
    pub(crate) fn literal(&self) -> Expr {
        Expr::Literal(self.value.clone(), self.metadata.clone())
    }
}

impl From<ScalarValue> for Parameter {
    fn from(value: ScalarValue) -> Self {
        Self { value, metadata: None }
    }
}

impl From<Parameter> for ScalarAndMetadata {
    fn from(parameter: Parameter) -> Self {
        Self::new(parameter.value, parameter.metadata)
    }
}

/// The word of a command tag that ends an answer with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowTag {
    /// `SELECT n`
    Select,
    /// `FETCH n`
    Fetch,
    /// `SHOW`
    Show,
    /// `EXPLAIN`
    Explain,
}

impl RowTag {
    /// The command tag after `rows` rows.
    pub fn complete(self, rows: u64) -> String {
        match self {
            Self::Select => format!("SELECT {rows}"),
            Self::Fetch => format!("FETCH {rows}"),
            Self::Show => "SHOW".to_string(),
            Self::Explain => "EXPLAIN".to_string(),
        }
    }
}

/// Columns that an option of COPY is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CopyColumns {
    /// None.
    #[default]
    None,
    /// All, `*`.
    All,
    /// Those of these names.
    Named(Vec<String>),
}

impl CopyColumns {
    /// Whether the column of this name is among them.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Named(names) => names.iter().any(|n| n == name),
        }
    }
}

/// Format of `COPY … TO STDOUT` and `COPY … FROM STDIN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFormat {
    /// `text`, `csv` or `binary`.
    pub kind: CopyKind,
    /// Whether the first line names the columns.
    pub header: bool,
    /// Separator of columns.
    pub delimiter: char,
    /// Text of a null.
    pub null: String,
    /// Quote (CSV).
    pub quote: char,
    /// Escape within quotes (CSV).
    pub escape: char,
    /// Whether the escape was said, rather than taken from the quote.
    pub escape_said: bool,
    /// Whether the first line must name the columns as they are (FROM).
    pub header_match: bool,
    /// Columns whose values are always quoted (CSV, TO).
    pub force_quote: CopyColumns,
    /// Columns in which the null text is a text (CSV, FROM).
    pub force_not_null: CopyColumns,
    /// Columns in which a quoted null text is a null too (CSV, FROM).
    pub force_null: CopyColumns,
}

impl CopyFormat {
    /// The defaults of a kind.
    pub fn new(kind: CopyKind) -> Self {
        let (delimiter, null) = match kind {
            CopyKind::Csv => (',', String::new()),
            _ => ('\t', "\\N".to_string()),
        };
        Self {
            kind,
            header: false,
            delimiter,
            null,
            quote: '"',
            escape: '"',
            escape_said: false,
            header_match: false,
            force_quote: CopyColumns::None,
            force_not_null: CopyColumns::None,
            force_null: CopyColumns::None,
        }
    }
}

/// Kind of a COPY format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyKind {
    /// Postgres' text format.
    Text,
    /// CSV.
    Csv,
    /// Postgres' binary format.
    Binary,
}

/// The answer of one statement. A stream holds the snapshot pin; dropping it stops the work.
pub enum Outcome {
    /// Rows. Errors in the stream turn into [`crate::SqlError`] by `SqlError::from`.
    Rows {
        /// Columns, named as Postgres names them; names may repeat.
        schema: SchemaRef,
        /// The rows.
        stream: SendableRecordBatchStream,
        /// How the command tag begins.
        tag: RowTag,
        /// The moment that the rows are of, if they are of tables. Whoever reads on after a pause asks
        /// [`crate::Session::check_age`] first.
        snapshot: Option<Arc<Snapshot>>,
    },
    /// Rows to be sent by the COPY protocol; ends with `COPY n`.
    CopyOut {
        /// Columns.
        schema: SchemaRef,
        /// The rows.
        stream: SendableRecordBatchStream,
        /// How to write them.
        format: CopyFormat,
    },
    /// Rows are expected from the client by the COPY protocol: see [`crate::Session::copy_row`].
    CopyIn(Box<CopyIn>),
    /// A command without rows.
    Command {
        /// The command tag.
        tag: String,
    },
    /// The text held no statement.
    Empty,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows { schema, tag, .. } => write!(f, "Rows({tag:?}, {schema:?})"),
            Self::CopyOut { schema, format, .. } => write!(f, "CopyOut({format:?}, {schema:?})"),
            Self::CopyIn(copy) => write!(f, "CopyIn({copy:?})"),
            Self::Command { tag } => write!(f, "Command({tag})"),
            Self::Empty => f.write_str("Empty"),
        }
    }
}

/// Where a session stands in a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TransactionStatus {
    /// In none.
    #[default]
    Idle,
    /// In one.
    Open,
    /// In one that has failed: only its end is accepted.
    Failed,
}

/// Something a session tells its client besides the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A setting that clients follow has changed.
    Parameter {
        /// Its name, as Postgres spells it.
        name: String,
        /// Its new value.
        value: String,
    },
    /// A notice or warning.
    Notice {
        /// `NOTICE` or `WARNING`.
        severity: &'static str,
        /// Its SQLSTATE.
        sqlstate: &'static str,
        /// What it says.
        message: String,
    },
}
