//! Statements that declare: `CREATE TABLE`, `CREATE ROLLUP` and their kin, as values. Whoever serves the dataset
//! carries them out, behind [`Definer`]; nothing here knows whether a declaration makes sense.

use std::fmt;

use async_trait::async_trait;

use crate::error::SqlResult;

/// A value that stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// A string.
    Text(String),
    /// A number, as written.
    Number(String),
    /// `true` or `false`.
    Boolean(bool),
    /// Several.
    List(Vec<Literal>),
}

/// What `WITH (…)` and `SET (…)` say: keys of the configuration file, dotted where they lie deeper, and their
/// values.
pub type Options = Vec<(Vec<String>, Literal)>;

/// Name of a table; without a schema it is looked up along the session's search path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Its schema, if one was written.
    pub schema: Option<String>,
    /// Its name.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A declared column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnClause {
    /// Its name.
    pub name: String,
    /// Its type, as written.
    pub data_type: String,
    /// Its value where the field is missing.
    pub default: Option<Literal>,
    /// The expression that computes it.
    pub computed: Option<String>,
    /// Further keys of a column.
    pub options: Options,
}

/// A declared measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasureClause {
    /// Its name.
    pub name: String,
    /// Its expression.
    pub sql: String,
    /// Further keys of a measure.
    pub options: Options,
}

/// A declared dimension of a rollup: a column, or an expression under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DimensionClause {
    /// Its name.
    pub name: String,
    /// The expression; none = the column of that name.
    pub sql: Option<String>,
}

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableAction {
    /// `ADD [COLUMN] [IF NOT EXISTS] …`
    AddColumn {
        /// The column.
        column: ColumnClause,
        /// Whether one that is there is no error.
        if_not_exists: bool,
    },
    /// `DROP [COLUMN] [IF EXISTS] name`: hidden, its data stay.
    DropColumn {
        /// Its name.
        name: String,
        /// Whether a missing one is no error.
        if_exists: bool,
    },
    /// `ALTER [COLUMN] name [SET DATA] TYPE type`
    SetType {
        /// The column.
        column: String,
        /// Its new type, as written.
        data_type: String,
    },
    /// `ADD MEASURE [IF NOT EXISTS] name AS (…)`
    AddMeasure {
        /// The measure.
        measure: MeasureClause,
        /// Whether one that is there is no error.
        if_not_exists: bool,
    },
    /// `DROP MEASURE [IF EXISTS] name`
    DropMeasure {
        /// Its name.
        name: String,
        /// Whether a missing one is no error.
        if_exists: bool,
    },
    /// `SET (…)`
    Set(Options),
    /// `RESET (…)`
    Reset(Vec<Vec<String>>),
}

/// One change of a rollup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollupAction {
    /// `ADD DIMENSION name [AS (expression)]`
    AddDimension(DimensionClause),
    /// `DROP DIMENSION name`
    DropDimension(String),
    /// `ADD MEASURE name`
    AddMeasure(String),
    /// `DROP MEASURE name`
    DropMeasure(String),
    /// `SET (…)`
    Set(Options),
    /// `RESET (…)`
    Reset(Vec<Vec<String>>),
}

/// What a comment is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commented {
    /// A table.
    Table(TableName),
    /// A column of a table.
    Column(TableName, String),
}

/// A statement that declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ddl {
    /// `CREATE TABLE [IF NOT EXISTS] name (…) WITH (…)`
    CreateTable {
        /// Its name.
        table: TableName,
        /// Whether one that is there is no error.
        if_not_exists: bool,
        /// Columns, in order.
        columns: Vec<ColumnClause>,
        /// Measures, in order.
        measures: Vec<MeasureClause>,
        /// Further keys of a table.
        options: Options,
    },
    /// `CREATE ROLLUP [IF NOT EXISTS] name ON table (dimensions) [WHERE condition] WITH (…)`
    CreateRollup {
        /// Its name.
        rollup: String,
        /// Its table.
        table: TableName,
        /// Whether one that is there is no error.
        if_not_exists: bool,
        /// By what it is grouped.
        dimensions: Vec<DimensionClause>,
        /// The condition on rows.
        filter: Option<String>,
        /// Further keys of a rollup.
        options: Options,
    },
    /// `ALTER TABLE [IF EXISTS] name … [APPLY]`
    AlterTable {
        /// Its name.
        table: TableName,
        /// Whether a missing one is no error.
        if_exists: bool,
        /// What changes.
        actions: Vec<TableAction>,
        /// Whether stored data may go by it.
        apply: bool,
    },
    /// `ALTER ROLLUP [IF EXISTS] name [ON table] … [APPLY]`
    AlterRollup {
        /// Its name.
        rollup: String,
        /// Its table, where several have one of this name.
        table: Option<TableName>,
        /// Whether a missing one is no error.
        if_exists: bool,
        /// What changes.
        actions: Vec<RollupAction>,
        /// Whether stored data may go by it.
        apply: bool,
    },
    /// `DROP TABLE [IF EXISTS] name, …`
    DropTable {
        /// Their names.
        tables: Vec<TableName>,
        /// Whether a missing one is no error.
        if_exists: bool,
    },
    /// `DROP ROLLUP [IF EXISTS] name [ON table]`
    DropRollup {
        /// Its name.
        rollup: String,
        /// Its table, where several have one of this name.
        table: Option<TableName>,
        /// Whether a missing one is no error.
        if_exists: bool,
    },
    /// `COMMENT ON TABLE | COLUMN … IS …`
    Comment {
        /// What it is on.
        on: Commented,
        /// The text; none takes it away.
        text: Option<String>,
    },
}

impl Ddl {
    /// The command tag that answers it.
    pub fn tag(&self) -> &'static str {
        match self {
            Self::CreateTable { .. } => "CREATE TABLE",
            Self::CreateRollup { .. } => "CREATE ROLLUP",
            Self::AlterTable { .. } => "ALTER TABLE",
            Self::AlterRollup { .. } => "ALTER ROLLUP",
            Self::DropTable { .. } => "DROP TABLE",
            Self::DropRollup { .. } => "DROP ROLLUP",
            Self::Comment { .. } => "COMMENT",
        }
    }
}

/// Who declares, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The session's user.
    pub user: String,
    /// The statement's text.
    pub text: String,
    /// Schemas in which names without one are looked for; the first is that of a new table.
    pub search_path: Vec<String>,
}

/// Carries out what statements declare.
#[async_trait]
pub trait Definer: fmt::Debug + Send + Sync {
    /// Carries it out, durably and to its end even if the caller goes away. Gives what the client is told besides
    /// the command tag, as pairs of SQLSTATE and message.
    async fn define(&self, ddl: &Ddl, author: Author) -> SqlResult<Vec<(&'static str, String)>>;
}
