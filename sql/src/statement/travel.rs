//! `DECLARE`, `FETCH` and `MOVE`: which way a cursor goes, and how far.

use super::tokens::Tokens;
use super::{Action, Plannable, query};
use crate::error::{SqlError, SqlResult, sqlstate};

/// Where a FETCH or MOVE goes from where its cursor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Travel {
    /// So many rows further; none = all that are left. Never zero.
    Forward(Option<u64>),
    /// So many rows back, the nearest first; none = all. Never zero.
    Backward(Option<u64>),
    /// To the row of this number, from the end if it is negative; 0 = before the first.
    Absolute(i64),
    /// To the row so many further or back; 0 = the same again.
    Relative(i64),
}

/// Reads what follows DECLARE.
pub(super) fn declare(sql: &str, tokens: &mut Tokens) -> SqlResult<Action> {
    let name = tokens.expect_word("a cursor")?;
    let (mut hold, mut scroll) = (false, None);
    loop {
        let word = tokens.expect_word("CURSOR")?;
        let wanted = match word.as_str() {
            "cursor" => break,
            "no" => {
                tokens.expect("scroll")?;
                false
            }
            "scroll" => true,
            "insensitive" | "asensitive" => continue,
            "binary" => return Err(SqlError::unsupported("binary cursors are not supported")),
            _ => return Err(tokens.syntax_error().with_detail("expected CURSOR")),
        };
        if scroll.is_some_and(|scroll| scroll != wanted) {
            let message = "cannot specify both SCROLL and NO SCROLL";
            return Err(SqlError::new(sqlstate::INVALID_CURSOR_DEFINITION, message));
        }
        scroll = Some(wanted);
    }
    if tokens.take_word("with") {
        tokens.expect("hold")?;
        hold = true;
    } else if tokens.take_word("without") {
        tokens.expect("hold")?;
    }
    tokens.expect("for")?;
    let query: Plannable = query(sql, tokens)?;
    Ok(Action::Declare { name, hold, scroll: scroll == Some(true), query })
}

/// Reads what follows FETCH or MOVE: where to, and the cursor.
pub(super) fn travel(tokens: &mut Tokens) -> SqlResult<(String, Travel)> {
    let before = tokens.clone();
    let word = tokens.peek_word();
    // A cursor may have the name of a direction: it then stands alone.
    if tokens.is_last() {
        return Ok((tokens.expect_word("a cursor")?, Travel::Forward(Some(1))));
    }
    tokens.skip();
    let travel = match word.as_deref() {
        Some("next") => Travel::Forward(Some(1)),
        Some("prior") => Travel::Backward(Some(1)),
        Some("first") => Travel::Absolute(1),
        Some("last") => Travel::Absolute(-1),
        Some("absolute") => Travel::Absolute(required(tokens)?),
        Some("relative") => Travel::Relative(required(tokens)?),
        Some("forward") => count(tokens)?,
        Some("backward") => match count(tokens)? {
            Travel::Forward(n) => Travel::Backward(n),
            Travel::Backward(n) => Travel::Forward(n),
            same => same,
        },
        _ => {
            *tokens = before;
            count(tokens)?
        }
    };
    let _from = tokens.take_word("from") || tokens.take_word("in");
    Ok((tokens.expect_word("a cursor")?, travel))
}

fn required(tokens: &mut Tokens) -> SqlResult<i64> {
    number(tokens)?.ok_or_else(|| tokens.syntax_error())
}

/// A number of rows, ALL, or neither, which is one.
fn count(tokens: &mut Tokens) -> SqlResult<Travel> {
    if !tokens.is_last() && tokens.take_word("all") {
        return Ok(Travel::Forward(None));
    }
    Ok(match number(tokens)?.unwrap_or(1) {
        0 => Travel::Relative(0),
        n if n < 0 => Travel::Backward(Some(n.unsigned_abs())),
        n => Travel::Forward(Some(n.unsigned_abs())),
    })
}

/// A number with its sign, if one is next.
fn number(tokens: &mut Tokens) -> SqlResult<Option<i64>> {
    let before = tokens.clone();
    let minus = tokens.take("-");
    let signed = minus || tokens.take("+");
    if tokens.is_word() {
        return if signed { Err(tokens.syntax_error()) } else { Ok(None) };
    }
    let unread = tokens.clone();
    let text = tokens.next_text();
    // As wide as PostgreSQL's: what is beyond is no number of rows there.
    let number = text.parse::<i32>().map_err(|_| match text.parse::<f64>() {
        Ok(_) => before.syntax_error(),
        Err(_) => unread.syntax_error(),
    })?;
    let number = i64::from(number);
    Ok(Some(if minus { -number } else { number }))
}
