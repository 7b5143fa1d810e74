//! `COPY … TO STDOUT` of a table or a query, and `COPY table FROM STDIN`. Any other COPY would touch files of the
//! server, and is refused.

use super::tokens::Tokens;
use super::{Action, CopyFrom, Plannable, query};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::outcome::{CopyColumns, CopyFormat, CopyKind};

/// Reads a COPY.
pub(crate) fn parse(sql: &str, tokens: &mut Tokens) -> SqlResult<Action> {
    tokens.expect("copy")?;
    if tokens.take("(") {
        let source = query(sql, tokens)?;
        tokens.expect(")")?;
        tokens.expect("to")?;
        return Ok(Action::CopyOut { query: source, format: out_format(tokens)? });
    }
    // The form of before version 7.3.
    let _binary = tokens.take_word("binary");
    let table = super::ddl::table_name(tokens)?;
    let columns = super::insert::column_names(tokens)?;
    if tokens.take_word("from") {
        if !tokens.take_word("stdin") {
            return Err(server_file(
                "COPY … FROM STDIN, or \\copy in psql, reads a file of the client",
            ));
        }
        let format = options(tokens, true)?;
        return Ok(Action::CopyIn(CopyFrom { table, columns, format }));
    }
    tokens.expect("to")?;
    let format = out_format(tokens)?;
    let name = |part: &String| quoted(part);
    let from = table.schema.iter().chain([&table.name]).map(name).collect::<Vec<_>>().join(".");
    let list = match &columns {
        None => "*".to_string(),
        Some(columns) => columns.iter().map(name).collect::<Vec<_>>().join(", "),
    };
    let text = format!("SELECT {list} FROM {from}");
    let source: Plannable = query(&text, &mut Tokens::of(&text)?)?;
    Ok(Action::CopyOut { query: source, format })
}

fn out_format(tokens: &mut Tokens) -> SqlResult<CopyFormat> {
    if !tokens.take_word("stdout") {
        return Err(server_file(
            "COPY … TO STDOUT, or \\copy in psql, writes a file of the client",
        ));
    }
    options(tokens, false)
}

fn server_file(hint: &str) -> SqlError {
    let message = "COPY from or to a file or program of the server is not allowed";
    SqlError::new(sqlstate::NOT_ALLOWED, message).with_hint(hint)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn options(tokens: &mut Tokens, from: bool) -> SqlResult<CopyFormat> {
    let mut list: Vec<(String, Given)> = Vec::new();
    let _with = tokens.take_word("with");
    if tokens.take("(") {
        while !tokens.take(")") {
            let name = tokens.expect_word("an option of COPY")?;
            let bare = tokens.peek_is(",") || tokens.peek_is(")");
            list.push((name, if bare { Given::Text("true".into()) } else { given(tokens)? }));
            if !tokens.take(",") && !tokens.peek_is(")") {
                return Err(tokens.syntax_error());
            }
        }
    } else {
        while let Some(name) = tokens.peek_word() {
            tokens.skip();
            match name.as_str() {
                "csv" | "binary" => list.push(("format".into(), Given::Text(name))),
                "header" => list.push((name, Given::Text("true".into()))),
                "force" => list.push(forced(tokens)?),
                _ => {
                    tokens.take_word("as");
                    list.push((name, Given::Text(tokens.next_text())));
                }
            }
        }
    }
    for (at, (name, _)) in list.iter().enumerate() {
        if list.iter().take(at).any(|(other, _)| other == name) {
            return Err(SqlError::new(sqlstate::SYNTAX, "conflicting or redundant options"));
        }
    }
    let mut format = CopyFormat::new(kind(&list)?);
    for (name, value) in list {
        apply(&mut format, &name, value, from)?;
    }
    check(&format)?;
    Ok(format)
}

/// The value of an option.
#[derive(Debug, Clone)]
enum Given {
    Text(String),
    /// `*`, or names of columns.
    Columns(CopyColumns),
}

fn given(tokens: &mut Tokens) -> SqlResult<Given> {
    if tokens.take("*") {
        return Ok(Given::Columns(CopyColumns::All));
    }
    Ok(match super::insert::column_names(tokens)? {
        Some(names) => Given::Columns(CopyColumns::Named(names)),
        None => Given::Text(tokens.next_text()),
    })
}

/// `FORCE QUOTE *`, `FORCE NOT NULL a, b`: the older form.
fn forced(tokens: &mut Tokens) -> SqlResult<(String, Given)> {
    let name = match tokens.expect_word("QUOTE, NOT NULL or NULL")?.as_str() {
        "quote" => "force_quote",
        "not" => {
            tokens.expect("null")?;
            "force_not_null"
        }
        "null" => "force_null",
        _ => return Err(tokens.syntax_error()),
    };
    if tokens.take("*") {
        return Ok((name.into(), Given::Columns(CopyColumns::All)));
    }
    let mut names = vec![tokens.expect_word("a column")?];
    while tokens.take(",") {
        names.push(tokens.expect_word("a column")?);
    }
    Ok((name.into(), Given::Columns(CopyColumns::Named(names))))
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(sqlstate::INVALID_PARAMETER, message)
}

fn kind(list: &[(String, Given)]) -> SqlResult<CopyKind> {
    let Some((_, Given::Text(value))) = list.iter().find(|(name, _)| name == "format") else {
        return Ok(CopyKind::Text);
    };
    match value.to_ascii_lowercase().as_str() {
        "text" => Ok(CopyKind::Text),
        "csv" => Ok(CopyKind::Csv),
        "binary" => Ok(CopyKind::Binary),
        _ => Err(invalid(format!("COPY format \"{value}\" not recognized"))),
    }
}

/// An option that is only for CSV.
fn only_csv(format: &CopyFormat, name: &str) -> SqlResult<()> {
    match format.kind {
        CopyKind::Csv => Ok(()),
        _ => Err(SqlError::unsupported(format!("COPY {name} available only in CSV mode"))),
    }
}

/// An option about columns.
fn force(format: &mut CopyFormat, name: &str, columns: CopyColumns, from: bool) -> SqlResult<()> {
    only_csv(format, name)?;
    let (wants, slot) = match name {
        "force_quote" => (false, &mut format.force_quote),
        "force_not_null" => (true, &mut format.force_not_null),
        "force_null" => (true, &mut format.force_null),
        _ => return Err(invalid(format!("argument to option \"{name}\" must be a text"))),
    };
    if wants != from {
        let direction = if wants { "FROM" } else { "TO" };
        let message = format!("COPY {name} only available using COPY {direction}");
        return Err(SqlError::unsupported(message));
    }
    *slot = columns;
    Ok(())
}

fn apply(format: &mut CopyFormat, name: &str, given: Given, from: bool) -> SqlResult<()> {
    let value = match given {
        Given::Columns(columns) => return force(format, name, columns, from),
        Given::Text(value) => value,
    };
    let character = || {
        let mut chars = value.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) if c.is_ascii() => Ok(c),
            _ => Err(SqlError::unsupported(format!(
                "COPY {name} must be a single one-byte character"
            ))),
        }
    };
    match name {
        "format" => {}
        "header" => {
            (format.header, format.header_match) = match value.to_ascii_lowercase().as_str() {
                "true" | "on" | "1" => (true, false),
                "false" | "off" | "0" => (false, false),
                "match" if from => (true, true),
                _ => return Err(invalid("header requires a Boolean value or \"match\"")),
            };
        }
        "delimiter" | "delimiters" => format.delimiter = character()?,
        "null" => format.null = value,
        "quote" => {
            only_csv(format, name)?;
            let quote = character()?;
            // As in Postgres, it escapes itself unless something else is said.
            if format.escape == format.quote && !format.escape_said {
                format.escape = quote;
            }
            format.quote = quote;
        }
        "escape" => {
            only_csv(format, name)?;
            format.escape = character()?;
            format.escape_said = true;
        }
        "freeze" => {}
        "encoding" => {
            let known = value.to_ascii_lowercase().replace(['-', '_'], "");
            if !matches!(known.as_str(), "utf8" | "unicode" | "sqlascii") {
                let e =
                    SqlError::unsupported(format!("COPY encoding \"{value}\" is not supported"));
                return Err(e.with_hint("data are UTF8"));
            }
        }
        _ => {
            let message = format!("option \"{name}\" not recognized");
            return Err(SqlError::new(sqlstate::SYNTAX, message));
        }
    }
    Ok(())
}

/// What excludes each other.
fn check(format: &CopyFormat) -> SqlResult<()> {
    let plain = CopyFormat::new(format.kind);
    if format.kind == CopyKind::Binary {
        if format.delimiter != plain.delimiter || format.null != plain.null {
            let what = if format.null == plain.null { "DELIMITER" } else { "NULL" };
            return Err(SqlError::new(
                sqlstate::SYNTAX,
                format!("cannot specify {what} in BINARY mode"),
            ));
        }
        if format.header {
            return Err(SqlError::unsupported("cannot specify HEADER in BINARY mode"));
        }
    }
    if format.delimiter == '\n' || format.delimiter == '\r' {
        return Err(invalid("COPY delimiter cannot be newline or carriage return"));
    }
    if format.null.contains(['\n', '\r']) {
        return Err(invalid("COPY null representation cannot use newline or carriage return"));
    }
    let odd = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '\\' || c == '.';
    if format.kind == CopyKind::Text && odd(format.delimiter) {
        let message = format!("COPY delimiter cannot be \"{}\"", format.delimiter);
        return Err(invalid(message));
    }
    if format.kind != CopyKind::Binary && format.null.contains(format.delimiter) {
        return Err(invalid("COPY delimiter must not appear in the NULL specification"));
    }
    if format.kind == CopyKind::Csv {
        if format.delimiter == format.quote {
            return Err(invalid("COPY delimiter and quote must be different"));
        }
        if format.null.contains(format.quote) {
            return Err(invalid("CSV quote character must not appear in the NULL specification"));
        }
    }
    Ok(())
}
