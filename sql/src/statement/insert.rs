//! `INSERT INTO table [(columns)] VALUES … | query | DEFAULT VALUES`.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{self, CastKind, Expr, SetExpr, Value};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use otus_engine::types::ColumnType;

use super::operands::casts_of_parameters;
use super::tokens::Tokens;
use super::{Insert, Plannable, begins_query, query};
use crate::error::{SqlError, SqlResult, sqlstate};

/// Reads an INSERT.
pub(super) fn parse(sql: &str, tokens: &mut Tokens) -> SqlResult<Insert> {
    tokens.expect("insert")?;
    tokens.expect("into")?;
    let table = super::ddl::table_name(tokens)?;
    if tokens.take_word("as") {
        let _alias = tokens.expect_word("an alias")?;
    }
    let columns = match tokens.peek_is("(") && !tokens.peek_second_is_query() {
        true => column_names(tokens)?,
        false => None,
    };
    if tokens.take_word("overriding") {
        return Err(SqlError::unsupported("OVERRIDING is not supported"));
    }
    let source = match tokens.take_word("default") {
        true => {
            tokens.expect("values")?;
            None
        }
        false if begins_query(tokens) => Some(query(sql, tokens)?),
        false => return Err(tokens.syntax_error()),
    };
    match tokens.peek_word().as_deref() {
        Some("returning") => Err(SqlError::unsupported("INSERT … RETURNING is not supported").with_hint(
            "a row is there when the log has been read: SET otus.insert_wait = 'visible', then SELECT",
        )),
        Some("on") => Err(SqlError::unsupported("INSERT … ON CONFLICT is not supported").with_hint(
            "events have no keys; a row of a keyed table takes the place of the one with its key",
        )),
        _ => Ok(Insert { table, columns, source }),
    }
}

/// Reads `(a, b)`, if it is next.
pub(super) fn column_names(tokens: &mut Tokens) -> SqlResult<Option<Vec<String>>> {
    if !tokens.take("(") {
        return Ok(None);
    }
    let mut names = Vec::new();
    loop {
        names.push(tokens.expect_word("a column")?);
        if tokens.take(")") {
            return Ok(Some(names));
        }
        if !tokens.take(",") {
            return Err(tokens.syntax_error());
        }
    }
}

/// The rows of an INSERT, each value cast to the type of its column. As many columns as values are filled.
pub(crate) fn with_types(
    source: &Plannable,
    types: &[ColumnType],
    all_named: bool,
) -> SqlResult<Plannable> {
    let mut query = source.query.as_ref().clone();
    let SetExpr::Values(values) = query.body.as_mut() else { return Ok(source.clone()) };
    let types = types.iter().map(sql_type).collect::<SqlResult<Vec<_>>>()?;
    for row in &mut values.rows {
        check_count(row.len(), types.len(), all_named)?;
        for (value, data_type) in row.iter_mut().zip(&types) {
            let null = Expr::Value(Value::Null.into());
            let mut inner = std::mem::replace(value, null.clone());
            if is_default(&inner) {
                inner = null;
            }
            *value = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(inner),
                data_type: data_type.clone(),
                array: false,
                format: None,
            };
        }
    }
    let casts = Arc::new(casts_of_parameters(&query));
    Ok(Plannable { query: Arc::new(query), casts, ..source.clone() })
}

/// Refuses rows that do not fit the columns.
pub(crate) fn check_count(given: usize, columns: usize, all_named: bool) -> SqlResult<()> {
    let message = if given > columns {
        "INSERT has more expressions than target columns"
    } else if all_named && given < columns {
        "INSERT has more target columns than expressions"
    } else {
        return Ok(());
    };
    Err(SqlError::new(sqlstate::SYNTAX, message))
}

fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(name)
        if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default"))
}

fn sql_type(column_type: &ColumnType) -> SqlResult<ast::DataType> {
    let dialect = PostgreSqlDialect {};
    let parser = Parser::new(&dialect).try_with_sql(&column_type.to_string());
    parser
        .and_then(|mut parser| parser.parse_data_type())
        .map_err(|e| SqlError::internal(format!("type {column_type} has no name in SQL: {e}")))
}
