//! What a statement answers: rows that stream, a tag, or rows meant for `COPY … TO STDOUT`; and what a
//! session tells besides: notices and changed settings.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_plan::SendableRecordBatchStream;
use otus_engine::snapshot::Snapshot;

/// What a statement takes and gives, known before it runs.
#[derive(Debug, Clone)]
pub struct Description {
    /// Type of each parameter, `$1` first. Text where nothing tells.
    pub params: Vec<DataType>,
    /// Columns of the answer; none if the statement answers with a tag only.
    pub schema: Option<SchemaRef>,
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

/// Format of `COPY (query) TO STDOUT`.
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
}

impl CopyFormat {
    /// The defaults of a kind.
    pub fn new(kind: CopyKind) -> Self {
        let (delimiter, null) = match kind {
            CopyKind::Csv => (',', String::new()),
            _ => ('\t', "\\N".to_string()),
        };
        Self { kind, header: false, delimiter, null, quote: '"', escape: '"' }
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
