//! Named queries: queries with typed parameters that the configuration declares, called in FROM like a
//! table function or from a pull pattern. A call is expanded into a subquery before anything is planned, so
//! that rollups, joins and `EXPLAIN` see the tables beneath; its arguments are values, never text.

mod argument;
mod check;
mod compile;
mod expand;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::sql::sqlparser::ast::{self, Query};
use otus_engine::snapshot::Snapshot;
use otus_engine::types::ColumnType;

use crate::catalog;
use crate::error::{SqlError, SqlResult};
pub(crate) use argument::of_value;
pub use check::check_queries;
pub(crate) use expand::{Values, expand, plan, with_values};

/// A query that the configuration gives a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamedQueryDef {
    /// The name by which it is called.
    pub name: String,
    /// One query; `$name` stands for the value of a parameter. Unqualified tables are those of `public`.
    pub sql: String,
    /// Its parameters, in the order of arguments without names.
    pub parameters: Vec<ParameterDef>,
    /// What it is for.
    pub description: Option<String>,
}

/// A parameter of a named query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterDef {
    /// Its name: lower-case letters, digits and underscores.
    pub name: String,
    /// Type of its values; no array.
    pub column_type: ColumnType,
    /// Its value where a call gives none, as text; none = each call gives one.
    pub default: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

/// The part of a definition that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryPlace {
    /// Its name.
    Name,
    /// Its text.
    Sql,
    /// The parameter of this name.
    Parameter(String),
}

/// What is wrong with the definition of a named query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryProblem {
    /// Where.
    pub place: QueryPlace,
    /// What.
    pub error: Box<SqlError>,
}

impl NamedQueryDef {
    /// How it is called: `top_pages(since timestamptz, n bigint DEFAULT '10')`.
    pub fn signature(&self) -> String {
        let parameters = self.parameters.iter().map(|p| match &p.default {
            Some(default) => format!("{} {} DEFAULT '{default}'", p.name, p.column_type),
            None => format!("{} {}", p.name, p.column_type),
        });
        format!("{}({})", self.name, parameters.collect::<Vec<_>>().join(", "))
    }

    /// An error about one of its parameters.
    fn parameter_error(&self, parameter: &str, e: &SqlError) -> SqlError {
        let message =
            format!("parameter \"{parameter}\" of query \"{}\": {}", self.name, e.message);
        let hint =
            e.hint.clone().unwrap_or_else(|| format!("it is called as {}", self.signature()));
        SqlError::new(e.sqlstate, message).with_hint(hint)
    }
}

/// A definition that has been read.
pub(crate) struct NamedQuery {
    pub(crate) def: NamedQueryDef,
    /// Placeholders `$name` stand under casts to their types.
    query: Query,
    /// Schemas and names of the tables in it; none if they cannot be told.
    relations: Option<Vec<(String, String)>>,
    /// Every name in it.
    words: Option<HashSet<String>>,
}

impl NamedQuery {
    /// Whether a snapshot shows all the tables that it names, and it names no column of them that is hidden.
    pub(crate) fn is_seen_by(&self, snapshot: &Snapshot) -> bool {
        if snapshot.catalog().whole().is_none() {
            return true;
        }
        let hidden =
            |(schema, name): &(String, String)| catalog::hidden_columns(snapshot, schema, name);
        let Some(relations) = &self.relations else { return false };
        let Some(hidden) = relations.iter().map(hidden).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let hidden = hidden.concat();
        let names = |words: &HashSet<String>| hidden.iter().any(|name| words.contains(name));
        self.words.as_ref().is_some_and(|words| !names(words))
    }
}

impl fmt::Debug for NamedQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedQuery({})", self.def.signature())
    }
}

/// The named queries of a process.
#[derive(Debug, Default, Clone)]
pub(crate) struct NamedQueries(Vec<Arc<NamedQuery>>);

impl NamedQueries {
    /// Reads the definitions. Whether they can be planned is seen when they are.
    pub(crate) fn new(defs: &[NamedQueryDef]) -> SqlResult<Self> {
        let read = |def: &NamedQueryDef| {
            let named = compile::compile(def).map_err(|problem| {
                let message = format!("query \"{}\": {}", def.name, problem.error.message);
                SqlError { message, ..*problem.error }
            });
            named.map(Arc::new)
        };
        defs.iter().map(read).collect::<SqlResult<_>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<NamedQuery>> {
        self.0.iter().find(|query| query.def.name == name)
    }

    /// Those whose tables a snapshot shows. They run with the rights of whoever calls them.
    pub(crate) fn seen_by(&self, snapshot: &Snapshot) -> Self {
        Self(self.0.iter().filter(|query| query.is_seen_by(snapshot)).cloned().collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<NamedQuery>> {
        self.0.iter()
    }
}

/// A named query and the columns that it gives.
#[derive(Debug, Clone)]
pub struct NamedQueryInfo {
    /// The definition.
    pub def: NamedQueryDef,
    /// Its columns, or why it cannot be planned over the tables there are.
    pub columns: SqlResult<Vec<Field>>,
}

/// The name of a placeholder, without `$`.
fn placeholder(expr: &ast::Expr) -> Option<&str> {
    let ast::Expr::Value(value) = expr else { return None };
    match &value.value {
        ast::Value::Placeholder(name) => name.strip_prefix('$'),
        _ => None,
    }
}
