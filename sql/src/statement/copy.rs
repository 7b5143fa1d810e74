//! `COPY (query) TO STDOUT` and `COPY table TO STDOUT`. Any other COPY would touch files of the server or
//! write a table, and is refused.

use super::tokens::Tokens;
use super::{Action, Plannable, query, read_only};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::outcome::{CopyFormat, CopyKind};

/// Reads a COPY.
pub(crate) fn parse(sql: &str, tokens: &mut Tokens) -> SqlResult<Action> {
    tokens.expect("copy")?;
    let source = source(sql, tokens)?;
    if tokens.take_word("from") {
        return Err(read_only("COPY FROM"));
    }
    tokens.expect("to")?;
    if !tokens.take_word("stdout") {
        return Err(SqlError::new(
            sqlstate::NOT_ALLOWED,
            "COPY to a file or program of the server is not allowed",
        )
        .with_hint("COPY … TO STDOUT, or \\copy in psql, writes a file of the client"));
    }
    let format = options(tokens)?;
    Ok(Action::CopyOut { query: source, format })
}

fn source(sql: &str, tokens: &mut Tokens) -> SqlResult<Plannable> {
    if tokens.take("(") {
        let query = query(sql, tokens)?;
        tokens.expect(")")?;
        return Ok(query);
    }
    let mut table = quoted(&tokens.expect_word("a table")?);
    while tokens.take(".") {
        table = format!("{table}.{}", quoted(&tokens.expect_word("a table")?));
    }
    let mut columns = Vec::new();
    if tokens.take("(") {
        while !tokens.take(")") {
            columns.push(quoted(&tokens.expect_word("a column")?));
            tokens.take(",");
        }
    }
    let columns = if columns.is_empty() { "*".to_string() } else { columns.join(", ") };
    let text = format!("SELECT {columns} FROM {table}");
    query(&text, &mut Tokens::of(&text)?)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn options(tokens: &mut Tokens) -> SqlResult<CopyFormat> {
    let mut list: Vec<(String, String)> = Vec::new();
    let _with = tokens.take_word("with");
    if tokens.take("(") {
        while !tokens.take(")") {
            let name = tokens.expect_word("an option of COPY")?;
            let bare = tokens.peek_is(",") || tokens.peek_is(")");
            list.push((name, if bare { "true".into() } else { tokens.next_text() }));
            tokens.take(",");
        }
    } else {
        while let Some(name) = tokens.peek_word() {
            tokens.skip();
            match name.as_str() {
                "csv" | "binary" => list.push(("format".into(), name)),
                "header" => list.push((name, "true".into())),
                _ => {
                    tokens.take_word("as");
                    list.push((name, tokens.next_text()));
                }
            }
        }
    }
    let kind = match list.iter().find(|(name, _)| name == "format") {
        None => CopyKind::Text,
        Some((_, value)) => match value.to_ascii_lowercase().as_str() {
            "text" => CopyKind::Text,
            "csv" => CopyKind::Csv,
            "binary" => CopyKind::Binary,
            _ => {
                return Err(SqlError::new(
                    sqlstate::INVALID_PARAMETER,
                    format!("COPY format \"{value}\" not recognized"),
                ));
            }
        },
    };
    let mut format = CopyFormat::new(kind);
    for (name, value) in list {
        apply(&mut format, &name, &value)?;
    }
    Ok(format)
}

fn apply(format: &mut CopyFormat, name: &str, value: &str) -> SqlResult<()> {
    let character = || {
        let mut chars = value.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) if c.is_ascii() => Ok(c),
            _ => Err(SqlError::new(
                sqlstate::INVALID_PARAMETER,
                format!("COPY {name} must be a single one-byte character"),
            )),
        }
    };
    match name {
        "format" => {}
        "header" => {
            format.header = matches!(value.to_ascii_lowercase().as_str(), "true" | "on" | "1")
        }
        "delimiter" | "delimiters" => format.delimiter = character()?,
        "null" => format.null = value.to_string(),
        "quote" => format.quote = character()?,
        "escape" => format.escape = character()?,
        "encoding" if matches!(value.to_ascii_lowercase().as_str(), "utf8" | "utf-8") => {}
        _ => {
            return Err(SqlError::unsupported(format!("COPY option {name:?} is not supported")));
        }
    }
    Ok(())
}
