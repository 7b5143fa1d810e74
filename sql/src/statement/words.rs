//! Words that the parser does not read where Postgres has them, put in tokens that it reads: `ORDER BY x USING >` is
//! `ORDER BY x DESC`, `trim(LEADING FROM x)` takes spaces away, and a `SELECT` of nothing has one row.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::rewrite::SIMILAR_PART;

/// Begins the lower bound of `BETWEEN SYMMETRIC`, as what the bound is added to.
const SYMMETRIC: &str = "__otus_symmetric";

/// The tokens from `from` on in such words.
pub(super) fn respelled(list: Vec<TokenWithSpan>, from: usize) -> Vec<TokenWithSpan> {
    let mut found: Vec<TokenWithSpan> = Vec::with_capacity(list.len());
    let mut calls = Calls::default();
    let mut tokens = list.iter().enumerate().peekable();
    while let Some((at, token)) = tokens.next() {
        if at < from {
            found.push(token.clone());
            continue;
        }
        let with = |token_of: Token| TokenWithSpan { token: token_of, span: token.span };
        let before = found.last().map(|t| word(&t.token)).unwrap_or_default();
        let next = tokens.peek().map(|(_, next)| &next.token);
        match (word(&token.token).as_str(), before.as_str()) {
            ("symmetric", "between") => {
                found.extend([with(Token::make_word(SYMMETRIC, Some('"'))), with(Token::Plus)]);
            }
            ("asymmetric", "between") => {}
            ("select", _) if matches!(next, None | Some(Token::RParen)) => {
                found.push(token.clone());
                let row = [Token::LParen, Token::make_keyword("SELECT"), one(), Token::RParen];
                found.push(with(Token::make_keyword("FROM")));
                found.extend(row.map(with));
                found.push(with(Token::make_word("otus_row", Some('"'))));
            }
            ("using", _) if matches!(next, Some(Token::Lt | Token::Gt)) => {
                let is_falling = next == Some(&Token::Gt);
                found.push(with(Token::make_keyword(if is_falling { "DESC" } else { "ASC" })));
                tokens.next();
            }
            ("from", "both" | "leading" | "trailing") if calls.is_in("trim") => {
                found.push(with(Token::SingleQuotedString(" ".into())));
                found.push(token.clone());
            }
            ("similar", _) if calls.is_in("substring") => {
                if let Some(name) = calls.name_at().and_then(|at| found.get_mut(at)) {
                    name.token = Token::make_word(SIMILAR_PART, Some('"'));
                }
                found.push(with(Token::Comma));
            }
            ("escape", _) if calls.is_in("substring") => found.push(with(Token::Comma)),
            _ => {
                calls.read(&token.token, &found);
                found.push(token.clone());
            }
        }
    }
    found
}

fn one() -> Token {
    Token::Number("1".into(), false)
}

/// A word that is not quoted, in lower case; empty if it is none.
fn word(token: &Token) -> String {
    match token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_lowercase(),
        _ => String::new(),
    }
}

/// What is called where brackets are open: the name, and its place.
#[derive(Default)]
struct Calls(Vec<(String, Option<usize>)>);

impl Calls {
    fn read(&mut self, token: &Token, before: &[TokenWithSpan]) {
        match token {
            Token::LParen => {
                let name = before.last().map(|t| word(&t.token)).unwrap_or_default();
                self.0.push((name, before.len().checked_sub(1)));
            }
            Token::RParen => {
                self.0.pop();
            }
            _ => {}
        }
    }

    fn is_in(&self, name: &str) -> bool {
        self.0.last().is_some_and(|(called, _)| called == name)
    }

    fn name_at(&self) -> Option<usize> {
        self.0.last().and_then(|(_, at)| *at)
    }
}

/// Takes the mark of `BETWEEN SYMMETRIC` off its lower bound. Whether there was one.
pub(super) fn take_symmetric(bound: &mut Expr) -> bool {
    let Expr::BinaryOp { left, op, right } = bound else { return false };
    let is_mark = matches!(left.as_ref(), Expr::Identifier(name) if name.value == SYMMETRIC);
    if is_mark && *op == BinaryOperator::Plus {
        *bound = right.as_ref().clone();
        return true;
    }
    take_symmetric(left)
}
