//! The depth limit of expressions, checked on tokens before any recursive reader sees them.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::tokens::Tokens;
use super::{COLUMNS_MAX, NESTING_MAX, OPERATORS_MAX, TOKENS_MAX};
use crate::error::{SqlError, SqlResult, sqlstate};

/// Operators in a row from which reading a text takes more than a usual stack.
const DEEP: usize = 200;

/// Whether any chain of operators is so long that recursion over it needs a deep stack.
pub(crate) fn is_deep(tokens: &Tokens) -> bool {
    tokens.all().iter().filter(|t| is_operator(&t.token)).count() > DEEP
}

/// Refuses brackets nested too deeply and chains of operators that would make a tree as deep as they are
/// long.
pub(crate) fn check(tokens: &Tokens) -> SqlResult<()> {
    columns(tokens)?;
    if tokens.all().len() > TOKENS_MAX {
        let detail = format!("it has more than {TOKENS_MAX} words and signs");
        let e = SqlError::new(sqlstate::TOO_COMPLEX, "statement is too complex");
        return Err(e.with_detail(detail));
    }
    let mut chains = vec![0usize];
    for token in tokens.all() {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => chains.push(0),
            Token::RParen | Token::RBracket | Token::RBrace if chains.len() > 1 => {
                chains.pop();
            }
            Token::Comma | Token::SemiColon => {
                if let Some(chain) = chains.last_mut() {
                    *chain = 0;
                }
            }
            other if is_operator(other) => {
                if let Some(chain) = chains.last_mut() {
                    *chain += 1;
                }
            }
            _ => {}
        }
        if chains.len() > NESTING_MAX {
            return Err(too_complex(format!(
                "brackets are nested deeper than {NESTING_MAX} levels"
            )));
        }
        if chains.last().is_some_and(|chain| *chain > OPERATORS_MAX) {
            return Err(too_complex(format!(
                "an expression has more than {OPERATORS_MAX} operators"
            )));
        }
    }
    Ok(())
}

/// Refuses a list of columns that is too long, before it is read.
fn columns(tokens: &Tokens) -> SqlResult<()> {
    // Of each level of brackets the columns so far, where they are counted.
    let mut levels: Vec<Option<usize>> = vec![None];
    for token in tokens.all() {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => levels.push(None),
            Token::RParen | Token::RBracket | Token::RBrace if levels.len() > 1 => {
                levels.pop();
            }
            Token::Comma => {
                let Some(Some(columns)) = levels.last_mut() else { continue };
                *columns += 1;
                if *columns > COLUMNS_MAX {
                    return Err(too_many_columns());
                }
            }
            Token::SemiColon => levels = vec![None],
            Token::Word(w) if w.quote_style.is_none() => {
                let is = |word: &str| w.value.eq_ignore_ascii_case(word);
                let Some(level) = levels.last_mut() else { continue };
                if is("select") {
                    *level = Some(1);
                } else if ["from", "where", "values", "having"].into_iter().any(is) {
                    *level = None;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The refusal of a list of columns that is too long.
pub(super) fn too_many_columns() -> SqlError {
    let message = format!("target lists can have at most {COLUMNS_MAX} entries");
    SqlError::new(sqlstate::TOO_MANY_COLUMNS, message)
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(w) => {
            let word = w.value.as_str();
            w.quote_style.is_none()
                && ["and", "or", "not", "union", "except", "intersect", "case", "join"]
                    .iter()
                    .any(|k| word.eq_ignore_ascii_case(k))
        }
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::Placeholder(_)
        | Token::Period => false,
        _ => true,
    }
}

fn too_complex(detail: String) -> SqlError {
    SqlError::new(sqlstate::TOO_COMPLEX, "statement is too complex")
        .with_detail(detail)
        .with_hint("compare with a list, = ANY(array) or IN (…), instead of a chain of operators")
}
