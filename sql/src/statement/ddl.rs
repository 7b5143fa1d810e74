//! Statements that declare, from text to value. Options are read as keys and values, whatever they are called:
//! what is known is decided where the configuration file is read, so that both accept the same.

use super::read_only;
use super::tokens::Tokens;
use crate::ddl::{
    ColumnClause, Commented, Ddl, DimensionClause, Literal, MeasureClause, Options, RollupAction,
    TableAction, TableName,
};
use crate::error::{SqlError, SqlResult, sqlstate};

/// Words that end a column's type.
const AFTER_TYPE: [&str; 13] = [
    "default",
    "generated",
    "as",
    "with",
    "not",
    "null",
    "primary",
    "unique",
    "check",
    "references",
    "collate",
    "constraint",
    "apply",
];

/// Reads one statement, its first word included.
pub(super) fn parse(tokens: &mut Tokens) -> SqlResult<Ddl> {
    let first = tokens.next_word().unwrap_or_default();
    let second = tokens.peek_word().unwrap_or_default();
    let known = match (first.as_str(), second.as_str()) {
        ("comment", "on") => return comment(tokens),
        ("create", "table") => create_table as fn(&mut Tokens) -> SqlResult<Ddl>,
        ("create", "rollup") => create_rollup,
        ("alter", "table") => alter_table,
        ("alter", "rollup") => alter_rollup,
        ("drop", "table") => drop_table,
        ("drop", "rollup") => drop_rollup,
        _ => return Err(unknown(&first, &second)),
    };
    tokens.skip();
    known(tokens)
}

fn unknown(first: &str, second: &str) -> SqlError {
    let what = format!("{first} {second}").trim().to_ascii_uppercase();
    let error = SqlError::unsupported(format!("{what} is not supported"));
    match second {
        "materialized" => error.with_hint(
            "a rollup keeps aggregates of a table by itself: CREATE ROLLUP name ON table (columns) \
             WITH (granularity = 'hour')",
        ),
        "temp" | "temporary" | "local" | "global" => {
            SqlError::unsupported("temporary tables are not supported").with_hint(
                "write the query into the statement that reads it: WITH name AS (SELECT …) SELECT … FROM name, or as a \
                 subquery; tools have a setting that does without temporary tables",
            )
        }
        "unlogged" => error.with_hint("a table reads a topic: CREATE TABLE … WITH (topic = '…')"),
        _ => error.with_hint("tables and rollups can be created, altered and dropped"),
    }
}

fn create_table(tokens: &mut Tokens) -> SqlResult<Ddl> {
    let if_not_exists = take_words(tokens, &["if", "not", "exists"])?;
    let table = table_name(tokens)?;
    if tokens.take_word("as") {
        return Err(read_only("CREATE TABLE AS"));
    }
    tokens.expect("(")?;
    let (mut columns, mut measures) = (Vec::new(), Vec::new());
    loop {
        let measure = {
            let mut ahead = tokens.clone();
            // A column may be called so: a measure has a name of its own and an expression.
            ahead.take_word("measure") && ahead.expect_word("").is_ok() && ahead.take_word("as")
        };
        if measure {
            tokens.skip();
            measures.push(measure_clause(tokens)?);
        } else {
            refuse_constraint(tokens)?;
            columns.push(column_clause(tokens)?);
        }
        if tokens.take(")") {
            break;
        }
        tokens.expect(",")?;
    }
    tokens.expect("with")?;
    let options = options(tokens)?;
    Ok(Ddl::CreateTable { table, if_not_exists, columns, measures, options })
}

fn create_rollup(tokens: &mut Tokens) -> SqlResult<Ddl> {
    let if_not_exists = take_words(tokens, &["if", "not", "exists"])?;
    let rollup = tokens.expect_word("the rollup's name")?;
    tokens.expect("on")?;
    let table = table_name(tokens)?;
    let mut dimensions = Vec::new();
    if tokens.take("(") && !tokens.take(")") {
        loop {
            dimensions.push(dimension_clause(tokens)?);
            if tokens.take(")") {
                break;
            }
            tokens.expect(",")?;
        }
    }
    let filter = match tokens.take_word("where") {
        true => Some(tokens.expression(is_options)?),
        false => None,
    };
    tokens.expect("with")?;
    let options = options(tokens)?;
    Ok(Ddl::CreateRollup { rollup, table, if_not_exists, dimensions, filter, options })
}

/// Whether `WITH (` is next; `timestamp with time zone` has another one.
fn is_options(tokens: &Tokens) -> bool {
    let mut ahead = tokens.clone();
    ahead.take_word("with") && ahead.peek_is("(")
}

/// A column, or `expression AS name`.
fn dimension_clause(tokens: &mut Tokens) -> SqlResult<DimensionClause> {
    let ends = |tokens: &Tokens| tokens.peek_is(",") || tokens.peek_is(")");
    let mut ahead = tokens.clone();
    if let Ok(name) = ahead.expect_word("")
        && ends(&ahead)
    {
        *tokens = ahead;
        return Ok(DimensionClause { name, sql: None });
    }
    let sql = tokens.expression(|rest| ends(rest) || rest.peek_word().as_deref() == Some("as"))?;
    if !tokens.take_word("as") {
        let message = format!("dimension ({sql}) has no name");
        return Err(SqlError::new(sqlstate::SYNTAX, message)
            .with_hint(format!("give it one: {sql} AS name")));
    }
    Ok(DimensionClause { name: tokens.expect_word("a name")?, sql: Some(sql) })
}

fn alter_table(tokens: &mut Tokens) -> SqlResult<Ddl> {
    let if_exists = take_words(tokens, &["if", "exists"])?;
    tokens.take_word("only");
    let table = table_name(tokens)?;
    let (actions, apply) = actions(tokens, table_action)?;
    Ok(Ddl::AlterTable { table, if_exists, actions, apply })
}

fn alter_rollup(tokens: &mut Tokens) -> SqlResult<Ddl> {
    let if_exists = take_words(tokens, &["if", "exists"])?;
    let rollup = tokens.expect_word("the rollup's name")?;
    let table = on_table(tokens)?;
    let (actions, apply) = actions(tokens, rollup_action)?;
    Ok(Ddl::AlterRollup { rollup, table, if_exists, actions, apply })
}

fn drop_table(tokens: &mut Tokens) -> SqlResult<Ddl> {
    let if_exists = take_words(tokens, &["if", "exists"])?;
    let mut tables = vec![table_name(tokens)?];
    while tokens.take(",") {
        tables.push(table_name(tokens)?);
    }
    let _rollups_go_with_it = tokens.take_word("cascade") || tokens.take_word("restrict");
    Ok(Ddl::DropTable { tables, if_exists })
}

fn drop_rollup(tokens: &mut Tokens) -> SqlResult<Ddl> {
    let if_exists = take_words(tokens, &["if", "exists"])?;
    let rollup = tokens.expect_word("the rollup's name")?;
    let table = on_table(tokens)?;
    Ok(Ddl::DropRollup { rollup, table, if_exists })
}

fn comment(tokens: &mut Tokens) -> SqlResult<Ddl> {
    tokens.expect("on")?;
    let on = if tokens.take_word("table") {
        Commented::Table(table_name(tokens)?)
    } else {
        tokens.expect("column")?;
        let mut names = vec![tokens.expect_word("a table")?];
        while tokens.take(".") {
            names.push(tokens.expect_word("a column")?);
        }
        let column = names.pop().unwrap_or_default();
        let Some(name) = names.pop() else {
            return Err(tokens.syntax_error().with_detail("expected table.column"));
        };
        Commented::Column(TableName { schema: names.pop(), name }, column)
    };
    tokens.expect("is")?;
    let text = match tokens.take_word("null") {
        true => None,
        false => match tokens.literal()? {
            Literal::Text(text) => Some(text),
            _ => return Err(tokens.syntax_error().with_detail("expected a string")),
        },
    };
    Ok(Ddl::Comment { on, text })
}

fn actions<T>(
    tokens: &mut Tokens,
    read: fn(&mut Tokens) -> SqlResult<T>,
) -> SqlResult<(Vec<T>, bool)> {
    let mut actions = vec![read(tokens)?];
    while tokens.take(",") {
        actions.push(read(tokens)?);
    }
    Ok((actions, tokens.take_word("apply")))
}

fn table_action(tokens: &mut Tokens) -> SqlResult<TableAction> {
    let unread = tokens.clone();
    let word = tokens.next_word().unwrap_or_default();
    Ok(match word.as_str() {
        "add" if tokens.take_word("measure") => {
            let if_not_exists = take_words(tokens, &["if", "not", "exists"])?;
            TableAction::AddMeasure { measure: measure_clause(tokens)?, if_not_exists }
        }
        "add" => {
            tokens.take_word("column");
            refuse_constraint(tokens)?;
            let if_not_exists = take_words(tokens, &["if", "not", "exists"])?;
            TableAction::AddColumn { column: column_clause(tokens)?, if_not_exists }
        }
        "drop" if tokens.take_word("measure") => {
            let if_exists = take_words(tokens, &["if", "exists"])?;
            TableAction::DropMeasure { name: tokens.expect_word("a measure")?, if_exists }
        }
        "drop" => {
            tokens.take_word("column");
            let if_exists = take_words(tokens, &["if", "exists"])?;
            TableAction::DropColumn { name: tokens.expect_word("a column")?, if_exists }
        }
        "alter" => {
            tokens.take_word("column");
            let column = tokens.expect_word("a column")?;
            if tokens.take_word("set") {
                tokens.expect("data")?;
            }
            tokens.expect("type")?;
            TableAction::SetType { column, data_type: data_type(tokens)? }
        }
        "set" => TableAction::Set(options(tokens)?),
        "reset" => TableAction::Reset(keys(tokens)?),
        "rename" => return Err(SqlError::unsupported("RENAME is not supported")),
        _ => return Err(expected(&unread, "ADD, DROP, ALTER, SET or RESET")),
    })
}

fn rollup_action(tokens: &mut Tokens) -> SqlResult<RollupAction> {
    let unread = tokens.clone();
    let word = tokens.next_word().unwrap_or_default();
    let is_option = matches!(word.as_str(), "set" | "reset");
    let what = if is_option { None } else { tokens.next_word() };
    let mut name = || tokens.expect_word("a name");
    Ok(match (word.as_str(), what.as_deref()) {
        ("add", Some("dimension")) => {
            let name = name()?;
            let sql = if tokens.take_word("as") { Some(tokens.bracketed()?) } else { None };
            RollupAction::AddDimension(DimensionClause { name, sql })
        }
        ("drop", Some("dimension")) => RollupAction::DropDimension(name()?),
        ("add", Some("measure")) => RollupAction::AddMeasure(name()?),
        ("drop", Some("measure")) => RollupAction::DropMeasure(name()?),
        ("set", _) => RollupAction::Set(options(tokens)?),
        ("reset", _) => RollupAction::Reset(keys(tokens)?),
        _ => return Err(expected(&unread, "ADD or DROP, DIMENSION or MEASURE, SET or RESET")),
    })
}

fn expected(tokens: &Tokens, what: &str) -> SqlError {
    tokens.syntax_error().with_detail(format!("expected {what}"))
}

fn refuse_constraint(tokens: &Tokens) -> SqlResult<()> {
    let word = tokens.peek_word().unwrap_or_default();
    if matches!(
        word.as_str(),
        "primary" | "unique" | "check" | "constraint" | "foreign" | "exclude" | "like"
    ) {
        let what = word.to_ascii_uppercase();
        return Err(SqlError::unsupported(format!("{what} in a table is not supported"))
            .with_hint(
                "a table keeps what its topic has; kind = 'keyed' keeps the latest row of a key",
            ));
    }
    Ok(())
}

fn column_clause(tokens: &mut Tokens) -> SqlResult<ColumnClause> {
    let name = tokens.expect_word("a column")?;
    let data_type = data_type(tokens)?;
    let mut column =
        ColumnClause { name, data_type, default: None, computed: None, options: Vec::new() };
    loop {
        if tokens.take_word("default") {
            column.default = Some(tokens.literal()?);
        } else if tokens.take_word("generated") {
            tokens.expect("always")?;
            tokens.expect("as")?;
            column.computed = Some(tokens.bracketed()?);
            tokens.take_word("stored");
        } else if tokens.take_word("as") {
            column.computed = Some(tokens.bracketed()?);
        } else if tokens.take_word("with") {
            column.options = options(tokens)?;
        } else if tokens.take_word("null") {
        } else if tokens.peek_word().as_deref() == Some("not") {
            return Err(SqlError::unsupported(format!(
                "column {:?}: NOT NULL is not supported",
                column.name
            ))
            .with_hint(
                "only the time or key of a table is never null: what lacks it is rejected",
            ));
        } else {
            refuse_constraint(tokens)?;
            return Ok(column);
        }
    }
}

fn measure_clause(tokens: &mut Tokens) -> SqlResult<MeasureClause> {
    let name = tokens.expect_word("a measure")?;
    tokens.expect("as")?;
    let sql = tokens.bracketed()?;
    let options = if tokens.take_word("with") { options(tokens)? } else { Vec::new() };
    Ok(MeasureClause { name, sql, options })
}

/// The text of a type: words and what brackets they have.
fn data_type(tokens: &mut Tokens) -> SqlResult<String> {
    let mut text = String::new();
    let mut depth = 0_usize;
    while !tokens.is_end() {
        let word = tokens.peek_word();
        if depth == 0 {
            if tokens.peek_is(",") || tokens.peek_is(")") {
                break;
            }
            if let Some(word) = &word
                && AFTER_TYPE.contains(&word.as_str())
                && !(word == "with" && is_zone(tokens))
            {
                break;
            }
        }
        depth += usize::from(tokens.peek_is("("));
        depth -= usize::from(tokens.peek_is(")"));
        if word.is_some() && text.ends_with(|c: char| c.is_alphanumeric()) {
            text.push(' ');
        }
        text.push_str(&tokens.next_text());
    }
    if text.is_empty() {
        return Err(tokens.syntax_error().with_detail("expected a type"));
    }
    Ok(text)
}

/// Whether `with` belongs to `timestamp with time zone`.
fn is_zone(tokens: &Tokens) -> bool {
    let mut ahead = tokens.clone();
    ahead.skip();
    ahead.take_word("time")
}

fn options(tokens: &mut Tokens) -> SqlResult<Options> {
    tokens.expect("(")?;
    let mut options = Options::new();
    loop {
        let at = tokens.clone();
        let key = key(tokens)?;
        if options.iter().any(|(known, _)| *known == key) {
            let what = format!("option \"{}\" stands here twice", key.join("."));
            return Err(at.syntax_error().with_detail(what));
        }
        tokens.expect("=")?;
        options.push((key, value(tokens)?));
        if tokens.take(")") {
            return Ok(options);
        }
        tokens.expect(",")?;
    }
}

fn keys(tokens: &mut Tokens) -> SqlResult<Vec<Vec<String>>> {
    tokens.expect("(")?;
    let mut keys = vec![key(tokens)?];
    while tokens.take(",") {
        keys.push(key(tokens)?);
    }
    tokens.expect(")")?;
    Ok(keys)
}

fn key(tokens: &mut Tokens) -> SqlResult<Vec<String>> {
    let mut key = vec![tokens.expect_word("an option")?];
    while tokens.take(".") {
        key.push(tokens.expect_word("an option")?);
    }
    Ok(key)
}

fn value(tokens: &mut Tokens) -> SqlResult<Literal> {
    let close = if tokens.take("(") {
        ")"
    } else if tokens.take_word("array") {
        tokens.expect("[")?;
        "]"
    } else {
        return tokens.literal();
    };
    if tokens.peek_is(close) {
        return Err(tokens.syntax_error().with_detail("expected a value: a list has one at least"));
    }
    let mut list = Vec::new();
    while !tokens.take(close) {
        list.push(tokens.literal()?);
        if !tokens.peek_is(close) {
            tokens.expect(",")?;
        }
    }
    Ok(Literal::List(list))
}

fn on_table(tokens: &mut Tokens) -> SqlResult<Option<TableName>> {
    Ok(if tokens.take_word("on") { Some(table_name(tokens)?) } else { None })
}

pub(super) fn table_name(tokens: &mut Tokens) -> SqlResult<TableName> {
    let name = tokens.expect_word("a table")?;
    if !tokens.take(".") {
        return Ok(TableName { schema: None, name });
    }
    Ok(TableName { schema: Some(name), name: tokens.expect_word("a table")? })
}

/// Reads all of these words if the first is next.
fn take_words(tokens: &mut Tokens, words: &[&str]) -> SqlResult<bool> {
    let Some((first, others)) = words.split_first() else { return Ok(false) };
    if !tokens.take_word(first) {
        return Ok(false);
    }
    others.iter().try_for_each(|word| tokens.expect(word))?;
    Ok(true)
}

#[cfg(test)]
mod tests;
