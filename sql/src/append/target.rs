//! Which columns of which table a statement fills.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef};
use otus_engine::catalog::{
    ColumnDef, ColumnSource, INGESTED_AT_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN, TIMESTAMP_COLUMN,
    TOPIC_COLUMN, TableDef,
};
use otus_engine::compiled::CompiledTable;
use otus_engine::snapshot::Snapshot;

use crate::ddl::TableName;
use crate::error::{SqlError, SqlResult, sqlstate};

/// Columns that no record brings.
pub(crate) const SYSTEM: [&str; 5] =
    [TOPIC_COLUMN, PARTITION_COLUMN, OFFSET_COLUMN, TIMESTAMP_COLUMN, INGESTED_AT_COLUMN];

/// A column that `COPY … FROM` fills.
#[derive(Debug, Clone)]
pub struct CopyColumn {
    /// Its name.
    pub name: String,
    /// Its type, as Arrow has it, with the Postgres name in the metadata where Arrow's type does not tell it.
    pub field: FieldRef,
}

/// The columns to fill.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    def: Arc<TableDef>,
    columns: Vec<usize>,
}

/// The table that a statement names.
pub(crate) fn find(
    snapshot: &Snapshot,
    search_path: &[String],
    name: &TableName,
) -> SqlResult<Arc<CompiledTable>> {
    let schemas: Vec<&str> = match &name.schema {
        Some(schema) => vec![schema.as_str()],
        None => search_path.iter().map(String::as_str).collect(),
    };
    if let Some(table) = schemas.iter().find_map(|schema| snapshot.table(schema, &name.name)) {
        return Ok(Arc::clone(table));
    }
    let views = |table: &Arc<CompiledTable>| {
        let def = &table.def;
        schemas.contains(&def.schema.as_str())
            && def.rollups.iter().any(|rollup| {
                rollup.granularities.iter().any(|g| rollup.view_name(*g) == name.name)
            })
    };
    if snapshot.tables().any(views) {
        let message = format!("cannot insert into view \"{}\"", name.name);
        return Err(SqlError::new(sqlstate::NOT_READY, message)
            .with_hint("a rollup is filled from its table: insert there"));
    }
    if matches!(schemas.as_slice(), ["otus" | "pg_catalog" | "information_schema"]) {
        let message = format!("permission denied: \"{name}\" is a system catalog");
        return Err(SqlError::new(sqlstate::NOT_ALLOWED, message));
    }
    let e = SqlError::new(sqlstate::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"));
    let near = snapshot.tables().map(|t| t.def.name.clone()).collect::<Vec<_>>();
    let near = crate::error::near(&name.name, near.iter().map(String::as_str));
    Err(match near {
        Some(near) => e.with_hint(format!("perhaps you meant the table \"{near}\"")),
        None => e,
    })
}

impl Target {
    /// The named columns, or without names all that a record can bring, in the order of their declaration.
    pub(crate) fn new(table: &CompiledTable, named: Option<&[String]>) -> SqlResult<Self> {
        let def = &table.def;
        let Some(named) = named else {
            return Ok(Self::of_columns(def));
        };
        let mut columns = Vec::with_capacity(named.len());
        for name in named {
            let at = position(def, name)?;
            if columns.contains(&at) {
                let message = format!("column \"{name}\" specified more than once");
                return Err(SqlError::new(sqlstate::DUPLICATE_COLUMN, message));
            }
            columns.push(at);
        }
        Ok(Self { def: Arc::new(def.as_ref().clone()), columns })
    }

    /// All columns that a record can bring.
    pub(crate) fn of_columns(def: &TableDef) -> Self {
        let columns = def.columns.iter().enumerate();
        let columns = columns.filter(|(_, c)| !is_computed(c)).map(|(at, _)| at).collect();
        Self { def: Arc::new(def.clone()), columns }
    }

    /// The columns, in the order in which values are given.
    pub(crate) fn columns(&self) -> impl ExactSizeIterator<Item = &ColumnDef> {
        self.columns.iter().map(|at| &self.def.columns[*at])
    }

    /// The columns of a COPY.
    pub(crate) fn copy_columns(&self) -> Vec<CopyColumn> {
        let column = |c: &ColumnDef| CopyColumn { name: c.name.clone(), field: field(c) };
        self.columns().map(column).collect()
    }

    /// Columns without which a record makes no row must have a value.
    pub(crate) fn check_present(&self, is_null: impl Fn(usize) -> bool) -> SqlResult<()> {
        let key = self.def.keyed().map_or(self.def.time.as_str(), |keyed| keyed.key.as_str());
        let Some(column) = self.def.column(key) else { return Ok(()) };
        let own = matches!(column.source, ColumnSource::Path(_) | ColumnSource::RecordKey);
        if !own || column.default.is_some() {
            return Ok(());
        }
        let given = self.columns().position(|c| c.name == key);
        if given.is_some_and(|at| !is_null(at)) {
            return Ok(());
        }
        let message = format!(
            "null value in column \"{key}\" of relation \"{}\" violates not-null constraint",
            self.def.name
        );
        let what = if self.def.keyed().is_some() { "key" } else { "event time" };
        Err(SqlError::new(sqlstate::NOT_NULL, message)
            .with_detail(format!("the column is the table's {what}")))
    }
}

/// The type of a column as values are brought to it.
pub(crate) fn field(column: &ColumnDef) -> FieldRef {
    let field: Field = column.column_type.field(&column.name, true);
    Arc::new(field)
}

fn is_computed(column: &ColumnDef) -> bool {
    matches!(column.source, ColumnSource::Computed(_))
}

fn position(def: &TableDef, name: &str) -> SqlResult<usize> {
    match def.columns.iter().position(|c| c.name == name) {
        Some(at) if !is_computed(&def.columns[at]) => Ok(at),
        Some(_) => {
            let message = format!("cannot insert a non-DEFAULT value into column \"{name}\"");
            Err(SqlError::new(sqlstate::GENERATED_ALWAYS, message)
                .with_detail(format!("Column \"{name}\" is a generated column.")))
        }
        None if SYSTEM.contains(&name) => {
            let message = format!("cannot insert into column \"{name}\"");
            Err(SqlError::new(sqlstate::GENERATED_ALWAYS, message)
                .with_detail("it says where a record stands, and is filled when it is read"))
        }
        None => {
            let message = format!("column \"{name}\" of relation \"{}\" does not exist", def.name);
            Err(SqlError::new(sqlstate::UNDEFINED_COLUMN, message))
        }
    }
}
