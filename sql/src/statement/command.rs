//! Session commands: settings, transactions, cursors, prepared statements. Read by hand, so that what is
//! accepted is a short list and what is refused is refused with the right SQLSTATE.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::tokens::Tokens;
use super::{Action, Modes, parse_one, travel};
use crate::error::{SqlError, SqlResult};

/// Reads one command.
pub(crate) fn parse(sql: &str, tokens: &mut Tokens) -> SqlResult<Action> {
    let Some(first) = tokens.peek_word() else { return Err(tokens.syntax_error()) };
    if let Some(e) = refusal(&first) {
        return Err(e);
    }
    let unread = tokens.clone();
    tokens.skip();
    Ok(match first.as_str() {
        "show" => Action::Show(setting_name(tokens)?),
        "set" => set(tokens)?,
        "reset" => match tokens.take_word("all") {
            true => Action::ResetAll,
            false => Action::Set { name: setting_name(tokens)?, value: None, local: false },
        },
        "begin" => begin(tokens)?,
        "start" => {
            tokens.expect("transaction")?;
            Action::Begin(modes(tokens)?)
        }
        "commit" | "end" => Action::Commit { chain: chain(tokens) },
        "rollback" | "abort" => rollback(tokens)?,
        "savepoint" => Action::Savepoint(tokens.expect_word("a name")?),
        "release" => {
            tokens.take_word("savepoint");
            Action::Release(tokens.expect_word("a name")?)
        }
        "discard" => match tokens.expect_word("ALL, PLANS, SEQUENCES or TEMP")?.as_str() {
            "all" => Action::DiscardAll,
            "plans" => Action::Nothing("DISCARD PLANS"),
            "sequences" => Action::Nothing("DISCARD SEQUENCES"),
            _ => Action::Nothing("DISCARD TEMP"),
        },
        "declare" => travel::declare(sql, tokens)?,
        "fetch" => {
            let (name, travel) = travel::travel(tokens)?;
            Action::Fetch { name, travel }
        }
        "move" => {
            let (name, travel) = travel::travel(tokens)?;
            Action::Move { name, travel }
        }
        "close" => match tokens.take_word("all") {
            true => Action::Close(None),
            false => Action::Close(Some(tokens.expect_word("a cursor")?)),
        },
        "prepare" => prepare(sql, tokens)?,
        "execute" => execute(sql, tokens)?,
        "deallocate" => {
            tokens.take_word("prepare");
            match tokens.take_word("all") {
                true => Action::Deallocate(None),
                false => Action::Deallocate(Some(tokens.expect_word("a statement")?)),
            }
        }
        "unlisten" => {
            while !tokens.is_end() {
                tokens.skip();
            }
            Action::Nothing("UNLISTEN")
        }
        _ => return Err(unread.syntax_error()),
    })
}

/// Statements of Postgres that Otus knows of and refuses.
fn refusal(first: &str) -> Option<SqlError> {
    Some(match first {
        "update" | "delete" | "merge" | "truncate" => {
            let message =
                format!("{} is not supported: events stay as they are", first.to_ascii_uppercase());
            SqlError::unsupported(message).with_hint(
                "INSERT appends events, and writes rows of keyed tables anew; rows of keyed tables are deleted \
                 with DELETE /api/tables/<table>/<key>",
            )
        }
        "vacuum" | "grant" | "revoke" | "security" | "refresh" | "reindex" | "cluster"
        | "import" | "reassign" | "analyze" | "checkpoint" | "lock" | "listen" | "notify"
        | "call" | "do" | "load" | "describe" | "desc" | "use" | "explain_table" | "attach"
        | "detach" | "install" | "export" | "unload" | "pragma" | "kill" => {
            SqlError::unsupported(format!("{} is not supported", first.to_ascii_uppercase()))
        }
        _ => return None,
    })
}

/// A setting's name: one word, dotted words, or the spelled-out forms of the standard.
fn setting_name(tokens: &mut Tokens) -> SqlResult<String> {
    let mut name = tokens.expect_word("a setting")?;
    match name.as_str() {
        "time" if tokens.take_word("zone") => return Ok("timezone".into()),
        "transaction" if tokens.take_word("isolation") => {
            tokens.expect("level")?;
            return Ok("transaction_isolation".into());
        }
        "session" if tokens.take_word("authorization") => return Ok("session_authorization".into()),
        _ => {}
    }
    while tokens.take(".") {
        name = format!("{name}.{}", tokens.expect_word("a setting")?);
    }
    Ok(name.to_ascii_lowercase())
}

fn set(tokens: &mut Tokens) -> SqlResult<Action> {
    let local = tokens.take_word("local");
    if tokens.take_word("session") {
        if !local && tokens.take_word("characteristics") {
            tokens.expect("as")?;
            tokens.expect("transaction")?;
            return Ok(Action::SetCharacteristics(modes(tokens)?));
        }
        if tokens.take_word("authorization") {
            return Ok(set_user("session_authorization", tokens.next_text(), local));
        }
    }
    if tokens.take_word("transaction") {
        if tokens.peek_word().as_deref() == Some("snapshot") {
            return Err(SqlError::unsupported("SET TRANSACTION SNAPSHOT is not supported"));
        }
        return Ok(Action::SetTransaction(modes(tokens)?));
    }
    if tokens.take_word("role") {
        let _equals = tokens.take("=") || tokens.take_word("to");
        return Ok(set_user("role", tokens.next_text(), local));
    }
    if tokens.take_word("names") {
        let value = Some(tokens.next_text());
        return Ok(Action::Set { name: "client_encoding".into(), value, local });
    }
    let name = setting_name(tokens)?;
    if name != "timezone" || tokens.peek_is("=") || tokens.peek_word().as_deref() == Some("to") {
        let equals = tokens.take("=") || tokens.take_word("to");
        if !equals {
            return Err(tokens.syntax_error().with_detail("expected = or TO"));
        }
    }
    if tokens.is_end() {
        return Err(tokens.syntax_error());
    }
    if tokens.take_word("default") || (name == "timezone" && tokens.take_word("local")) {
        return Ok(Action::Set { name, value: None, local });
    }
    let mut value = setting_value(tokens);
    while tokens.take(",") {
        value = format!("{value}, {}", setting_value(tokens));
    }
    Ok(Action::Set { name, value: Some(value), local })
}

fn set_user(name: &str, value: String, local: bool) -> Action {
    let value = (!value.eq_ignore_ascii_case("default")).then_some(value);
    Action::Set { name: name.into(), value, local }
}

fn setting_value(tokens: &mut Tokens) -> String {
    let sign = if tokens.take("-") { "-" } else { "" };
    format!("{sign}{}", tokens.next_text())
}

fn begin(tokens: &mut Tokens) -> SqlResult<Action> {
    let _word = tokens.take_word("work") || tokens.take_word("transaction");
    Ok(Action::Begin(modes(tokens)?))
}

/// Reads the modes of a transaction; of several of one kind the last counts.
fn modes(tokens: &mut Tokens) -> SqlResult<Modes> {
    let mut modes = Modes::default();
    while !tokens.is_end() {
        let unread = tokens.clone();
        match tokens.next_word().as_deref() {
            Some("isolation") => {
                tokens.expect("level")?;
                modes.isolation = Some(level(tokens)?);
            }
            Some("read") if tokens.take_word("only") => modes.read_only = Some(true),
            Some("read") if tokens.take_word("write") => modes.read_only = Some(false),
            Some("deferrable") => {}
            Some("not") if tokens.take_word("deferrable") => {}
            _ => return Err(unread.syntax_error()),
        }
        tokens.take(",");
    }
    Ok(modes)
}

fn level(tokens: &mut Tokens) -> SqlResult<&'static str> {
    let unread = tokens.clone();
    Ok(match tokens.next_word().as_deref() {
        Some("serializable") => "serializable",
        Some("repeatable") if tokens.take_word("read") => "repeatable read",
        Some("read") if tokens.take_word("committed") => "read committed",
        Some("read") if tokens.take_word("uncommitted") => "read uncommitted",
        _ => return Err(unread.syntax_error()),
    })
}

fn chain(tokens: &mut Tokens) -> bool {
    let _work = tokens.take_word("work") || tokens.take_word("transaction");
    if !tokens.take_word("and") {
        return false;
    }
    let no = tokens.take_word("no");
    tokens.take_word("chain") && !no
}

fn rollback(tokens: &mut Tokens) -> SqlResult<Action> {
    let chain = chain(tokens);
    if tokens.take_word("to") {
        tokens.take_word("savepoint");
        return Ok(Action::RollbackTo(tokens.expect_word("a savepoint")?));
    }
    Ok(Action::Rollback { chain })
}

fn prepare(sql: &str, tokens: &mut Tokens) -> SqlResult<Action> {
    let name = tokens.expect_word("a name")?;
    let mut types = Vec::new();
    if tokens.take("(") {
        let dialect = PostgreSqlDialect {};
        while !tokens.take(")") {
            let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens.rest());
            types.push(parser.parse_data_type().map_err(|e| tokens.parser_error(sql, &e))?);
            tokens.advance_to(&parser.peek_token());
            tokens.take(",");
        }
    }
    tokens.expect("as")?;
    let rest = tokens.rest_as_tokens();
    let statement = parse_one(sql, rest)?;
    tokens.finish();
    if !matches!(statement.action(), Action::Query(_) | Action::Insert(_)) {
        return Err(SqlError::unsupported("PREPARE takes a query or INSERT"));
    }
    Ok(Action::Prepare { name, types, query: Box::new(statement) })
}

fn execute(sql: &str, tokens: &mut Tokens) -> SqlResult<Action> {
    let name = tokens.expect_word("a name")?;
    let mut args = Vec::new();
    if tokens.take("(") {
        let dialect = PostgreSqlDialect {};
        while !tokens.take(")") {
            let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens.rest());
            args.push(parser.parse_expr().map_err(|e| tokens.parser_error(sql, &e))?);
            tokens.advance_to(&parser.peek_token());
            tokens.take(",");
        }
    }
    Ok(Action::Execute { name, args })
}
