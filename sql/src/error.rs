//! The error at the face of this crate: an SQLSTATE, a message as Postgres words it, and where known a
//! detail, a hint and a position in the statement's text. Both faces, wire and HTTP, show it as it is.

use std::fmt;

use datafusion::error::DataFusionError;
use otus_engine::{Error, ErrorKind};

mod near;
mod operands;
mod planner;
mod types;

pub(crate) use near::near;
pub(crate) use planner::{of_planner, pg_field_type, pg_type};

/// Result with [`SqlError`].
pub type SqlResult<T> = Result<T, SqlError>;

/// SQLSTATE codes that this crate raises.
pub mod sqlstate {
    /// A feature that Otus does not have.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// Text, bytes or a number of the wrong form for its type.
    pub const INVALID_TEXT: &str = "22P02";
    /// A number that its type does not hold.
    pub const OUT_OF_RANGE: &str = "22003";
    /// A time, or a span, that its type does not hold.
    pub const DATETIME_OVERFLOW: &str = "22008";
    /// Division by zero.
    pub const DIVISION_BY_ZERO: &str = "22012";
    /// A parameter with a value that makes no sense.
    pub const INVALID_PARAMETER: &str = "22023";
    /// A time that is none.
    pub const INVALID_DATETIME: &str = "22007";
    /// A null where there has to be a value.
    pub const NULL_NOT_ALLOWED: &str = "22004";
    /// A subscript, or a number of elements, that does not fit.
    pub const ARRAY_SUBSCRIPT: &str = "2202E";
    /// More than one row from a scalar subquery.
    pub const CARDINALITY: &str = "21000";
    /// Something was done or not, and nobody knows.
    pub const OUTCOME_UNKNOWN: &str = "08007";
    /// A value that must not be null.
    pub const NOT_NULL: &str = "23502";
    /// A value for a column that is filled otherwise.
    pub const GENERATED_ALWAYS: &str = "428C9";
    /// Data of COPY that is not of its format.
    pub const BAD_COPY_FORMAT: &str = "22P04";
    /// A table that is not of the right kind.
    pub const WRONG_OBJECT_TYPE: &str = "42809";
    /// A statement that cannot run in a transaction.
    pub const IN_TRANSACTION: &str = "25001";
    /// A transaction command outside a transaction.
    pub const NO_TRANSACTION: &str = "25P01";
    /// Commands are ignored until the end of a failed transaction.
    pub const TRANSACTION_FAILED: &str = "25P02";
    /// A statement that would write.
    pub const READ_ONLY: &str = "25006";
    /// No such prepared statement.
    pub const NO_STATEMENT: &str = "26000";
    /// No such schema or database.
    pub const NO_SCHEMA: &str = "3F000";
    /// No such cursor.
    pub const NO_CURSOR: &str = "34000";
    /// A cursor that cannot be.
    pub const INVALID_CURSOR_DEFINITION: &str = "42P11";
    /// No such savepoint.
    pub const NO_SAVEPOINT: &str = "3B001";
    /// Syntax error.
    pub const SYNTAX: &str = "42601";
    /// Not allowed.
    pub const NOT_ALLOWED: &str = "42501";
    /// Something that a client should know.
    pub const WARNING: &str = "01000";
    /// A definition that cannot be.
    pub const INVALID_DEFINITION: &str = "42P16";
    /// A table or view of this name exists.
    pub const DUPLICATE_TABLE: &str = "42P07";
    /// A column or measure of this name exists.
    pub const DUPLICATE_COLUMN: &str = "42701";
    /// A rollup of this name exists.
    pub const DUPLICATE_OBJECT: &str = "42710";
    /// Something must be said or done first.
    pub const NOT_READY: &str = "55000";
    /// A cursor or statement of this name exists.
    pub const DUPLICATE_CURSOR: &str = "42P03";
    /// A statement of this name exists.
    pub const DUPLICATE_STATEMENT: &str = "42P05";
    /// No such column.
    pub const UNDEFINED_COLUMN: &str = "42703";
    /// A name that fits several columns.
    pub const AMBIGUOUS_COLUMN: &str = "42702";
    /// No such table.
    pub const UNDEFINED_TABLE: &str = "42P01";
    /// No such function, or no such function of these types.
    pub const UNDEFINED_FUNCTION: &str = "42883";
    /// No such parameter, type or setting.
    pub const UNDEFINED_OBJECT: &str = "42704";
    /// No such parameter of a statement.
    pub const UNDEFINED_PARAMETER: &str = "42P02";
    /// An operator or function of several, of which none fits best.
    pub const AMBIGUOUS_FUNCTION: &str = "42725";
    /// A logarithm of what has none.
    pub const INVALID_LOGARITHM: &str = "2201E";
    /// A pattern that ends with its escape character.
    pub const INVALID_ESCAPE_SEQUENCE: &str = "22025";
    /// A value that cannot have that type.
    pub const CANNOT_COERCE: &str = "42846";
    /// Types that do not fit together.
    pub const DATATYPE_MISMATCH: &str = "42804";
    /// A column neither grouped nor aggregated.
    pub const GROUPING: &str = "42803";
    /// No such place in the list of results, or not enough columns.
    pub const INVALID_COLUMN: &str = "42P10";
    /// A name given to two relations.
    pub const DUPLICATE_ALIAS: &str = "42712";
    /// A window function or frame that may not stand there.
    pub const WINDOWING: &str = "42P20";
    /// A LIMIT below zero.
    pub const INVALID_LIMIT: &str = "2201W";
    /// An OFFSET below zero.
    pub const INVALID_OFFSET: &str = "2201X";
    /// A parameter whose type cannot be told.
    pub const INDETERMINATE_TYPE: &str = "42P18";
    /// The memory of queries is used up.
    pub const OUT_OF_MEMORY: &str = "53200";
    /// More at a time than is allowed.
    pub const TOO_MANY: &str = "53300";
    /// The disk is full.
    pub const DISK_FULL: &str = "53100";
    /// A stated limit is exceeded.
    pub const LIMIT_EXCEEDED: &str = "54000";
    /// An expression or statement too complex.
    pub const TOO_COMPLEX: &str = "54001";
    /// More keys or columns than there may be.
    pub const TOO_MANY_COLUMNS: &str = "54011";
    /// Too many arguments.
    pub const TOO_MANY_ARGUMENTS: &str = "54023";
    /// The object is in use or a race was lost.
    pub const IN_USE: &str = "55006";
    /// A setting that cannot be changed.
    pub const CANT_CHANGE: &str = "55P02";
    /// Cancelled by the user or by a timeout.
    pub const CANCELED: &str = "57014";
    /// A file of the store cannot be read.
    pub const IO: &str = "58030";
    /// The snapshot is too old.
    pub const SNAPSHOT_TOO_OLD: &str = "72000";
    /// Damage on disk.
    pub const DATA_CORRUPTED: &str = "XX001";
    /// A regular expression that cannot be read.
    pub const INVALID_REGEX: &str = "2201B";
    /// A bug.
    pub const INTERNAL: &str = "XX000";
}

/// An error of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// Five characters after the SQL standard and Postgres.
    pub sqlstate: &'static str,
    /// The message, without a full stop.
    pub message: String,
    /// More about what happened.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the statement's text, in characters from 1.
    pub position: Option<usize>,
}

impl SqlError {
    /// A new error.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into(), detail: None, hint: None, position: None }
    }
    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Adds more about what happened.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
    /// Adds the place in the text, characters from 1.
    #[must_use]
    pub fn at(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }
    /// A feature that Otus does not have.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(sqlstate::FEATURE_NOT_SUPPORTED, message)
    }
    /// A bug.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(sqlstate::INTERNAL, message)
    }
    /// The statement was cancelled by its user.
    pub fn canceled() -> Self {
        Self::new(sqlstate::CANCELED, "canceling statement due to user request")
    }
    /// The statement ran into its timeout.
    pub fn timed_out() -> Self {
        Self::new(sqlstate::CANCELED, "canceling statement due to statement timeout")
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}

impl From<Error> for SqlError {
    fn from(e: Error) -> Self {
        let state = match e.kind() {
            ErrorKind::Invalid => sqlstate::INVALID_PARAMETER,
            ErrorKind::NotFound => sqlstate::UNDEFINED_OBJECT,
            ErrorKind::Busy => sqlstate::IN_USE,
            ErrorKind::Unavailable => sqlstate::IO,
            ErrorKind::Corrupt => sqlstate::DATA_CORRUPTED,
            ErrorKind::Full => sqlstate::DISK_FULL,
            ErrorKind::Internal => sqlstate::INTERNAL,
        };
        let hint = e.hint().map(str::to_string);
        Self { hint, ..Self::new(state, e.to_string()) }
    }
}

impl From<SqlError> for DataFusionError {
    fn from(e: SqlError) -> Self {
        Self::External(Box::new(e))
    }
}
