//! The tokens of a text with their places, and the small cursor over them that the statement readers use.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::ddl::Literal;
use crate::error::{SqlError, SqlResult, sqlstate};

/// Tokens without white space, and how far they were read.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    list: Vec<TokenWithSpan>,
    at: usize,
    end: Location,
    sql: Arc<str>,
}

impl Tokens {
    /// The tokens of a text.
    pub(crate) fn of(sql: &str) -> SqlResult<Self> {
        let dialect = PostgreSqlDialect {};
        let all = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|e| {
            SqlError::new(sqlstate::SYNTAX, lower_first(&e.message))
                .at(character(sql, e.location).unwrap_or(1))
        })?;
        let list: Vec<_> = all
            .into_iter()
            .filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF))
            .collect();
        let end = list.last().map_or(Location::new(1, 1), |t| t.span.end);
        Ok(Self { list, at: 0, end, sql: sql.into() })
    }

    /// The text of the whole message.
    pub(crate) fn message(&self) -> Arc<str> {
        Arc::clone(&self.sql)
    }

    pub(crate) fn all(&self) -> &[TokenWithSpan] {
        &self.list
    }

    /// One list per statement; empty statements are left out.
    pub(crate) fn split(self) -> impl Iterator<Item = Self> {
        let mut parts = Vec::new();
        let mut list = Vec::new();
        let end = self.end;
        for token in self.list {
            if token.token == Token::SemiColon {
                parts.push(std::mem::take(&mut list));
            } else {
                list.push(token);
            }
        }
        parts.push(list);
        let sql = self.sql;
        parts.into_iter().filter(|list| !list.is_empty()).map(move |list: Vec<TokenWithSpan>| {
            let end = list.last().map_or(end, |t| t.span.end);
            Self { list, at: 0, end, sql: Arc::clone(&sql) }
        })
    }

    /// The piece of `sql` that these tokens span.
    pub(crate) fn text(&self, sql: &str) -> String {
        let from = self.list.first().and_then(|t| character(sql, t.span.start)).unwrap_or(1);
        let to = character(sql, self.end).unwrap_or(usize::MAX);
        sql.chars().skip(from - 1).take(to.saturating_sub(from)).collect()
    }

    /// The piece of `sql` from here to where `next` stands.
    pub(crate) fn text_until(&self, sql: &str, next: &Self) -> String {
        let place = |i: usize| self.list.get(i).and_then(|t| character(sql, t.span.start));
        let from = place(self.at).unwrap_or(1);
        let to = place(next.at).or_else(|| character(sql, self.end)).unwrap_or(usize::MAX);
        sql.chars().skip(from - 1).take(to.saturating_sub(from)).collect()
    }

    /// The tokens not read yet, for the SQL parser.
    pub(crate) fn rest(&self) -> Vec<TokenWithSpan> {
        self.list.get(self.at..).unwrap_or_default().to_vec()
    }

    /// The tokens not read yet, as a list of their own.
    pub(crate) fn rest_as_tokens(&self) -> Self {
        Self { list: self.rest(), at: 0, end: self.end, sql: Arc::clone(&self.sql) }
    }

    /// Counts every token as read.
    pub(crate) fn finish(&mut self) {
        self.at = self.list.len();
    }

    /// Spells words that the parser does not know in others: `x ISNULL` is `x IS NULL`, `TABLE t` is `SELECT * FROM t`, and
    /// the `ONLY` of `FROM ONLY t` has no meaning without inheritance.
    pub(crate) fn spell_words(&mut self) {
        let word = |token: Option<&TokenWithSpan>| match token.map(|t| &t.token) {
            Some(Token::Word(word)) if word.quote_style.is_none() => {
                word.value.to_ascii_lowercase()
            }
            _ => String::new(),
        };
        let mut spelled = Vec::with_capacity(self.list.len());
        for (at, token) in self.list.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| self.list.get(at));
            let is_name = matches!(word(self.list.get(at + 1)).as_str(), "" | "where" | "order");
            let begins = at == self.at || before.is_some_and(|t| t.token == Token::LParen);
            let follows_set =
                matches!(word(before).as_str(), "union" | "all" | "except" | "intersect");
            let of_point = before.is_some_and(|t| t.token == Token::Period);
            let words: &[&str] = match word(Some(token)).as_str() {
                "isnull" if at >= self.at && !of_point && word(before) != "as" => &["IS", "NULL"],
                "table" if at >= self.at && (begins || follows_set) => &["SELECT", "*", "FROM"],
                "only" if matches!(word(before).as_str(), "from" | "join") && !is_name => continue,
                _ => {
                    spelled.push(token.clone());
                    continue;
                }
            };
            spelled.extend(words.iter().map(|word| TokenWithSpan {
                token: match *word {
                    "*" => Token::Mul,
                    word => Token::make_keyword(word),
                },
                span: token.span,
            }));
        }
        self.list = super::words::respelled(spelled, self.at);
    }

    /// Moves to the token at which the SQL parser stopped.
    pub(crate) fn advance_to(&mut self, next: &TokenWithSpan) {
        let rest = self.list.iter().skip(self.at);
        self.at += rest.take_while(|t| t.span.start != next.span.start).count();
    }

    fn token(&self, ahead: usize) -> Option<&Token> {
        self.list.get(self.at + ahead).map(|t| &t.token)
    }

    /// The next token if it is an unquoted word, in lower case.
    pub(crate) fn peek_word(&self) -> Option<String> {
        match self.token(0) {
            Some(Token::Word(w)) if w.quote_style.is_none() => Some(w.value.to_ascii_lowercase()),
            _ => None,
        }
    }

    pub(crate) fn peek_is(&self, symbol: &str) -> bool {
        self.token(0).is_some_and(|t| t.to_string() == symbol)
    }

    /// Whether no more than one token is left.
    pub(crate) fn is_last(&self) -> bool {
        self.at + 1 >= self.list.len()
    }

    /// Whether a word is next, quoted or not.
    pub(crate) fn is_word(&self) -> bool {
        matches!(self.token(0), Some(Token::Word(_)))
    }

    /// Whether `(` is followed by what begins a query rather than an option.
    pub(crate) fn peek_second_is_query(&self) -> bool {
        match self.token(1) {
            Some(Token::Word(w)) => {
                matches!(
                    w.keyword,
                    Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::TABLE
                )
            }
            Some(Token::LParen) => true,
            _ => false,
        }
    }

    pub(crate) fn skip(&mut self) {
        self.at += 1;
    }

    /// Reads the next token's word, in lower case, whatever it is.
    pub(crate) fn next_word(&mut self) -> Option<String> {
        let word = self.peek_word();
        self.at += 1;
        word
    }

    /// Reads `word` if it is next.
    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek_word().as_deref() == Some(word);
        self.at += usize::from(found);
        found
    }

    /// Reads `symbol` if it is next.
    pub(crate) fn take(&mut self, symbol: &str) -> bool {
        let found = self.peek_is(symbol);
        self.at += usize::from(found);
        found
    }

    /// Reads a word, lower-cased unless quoted.
    pub(crate) fn expect_word(&mut self, what: &str) -> SqlResult<String> {
        let word = match self.token(0) {
            Some(Token::Word(w)) if w.quote_style.is_none() => w.value.to_ascii_lowercase(),
            Some(Token::Word(w)) => w.value.clone(),
            _ => return Err(self.syntax_error().with_detail(format!("expected {what}"))),
        };
        self.at += 1;
        Ok(word)
    }

    /// Reads a given symbol or word.
    pub(crate) fn expect(&mut self, what: &str) -> SqlResult<()> {
        if self.take(what) || self.take_word(what) {
            return Ok(());
        }
        Err(self.syntax_error().with_detail(format!("expected {what}")))
    }

    /// Reads any token as the text it stands for: a string's content, a number, a word.
    pub(crate) fn next_text(&mut self) -> String {
        let text = self.token(0).map(token_text).unwrap_or_default();
        self.at += 1;
        text
    }

    /// Reads a string, a number (which may be negative) or `true` and `false`.
    pub(crate) fn literal(&mut self) -> SqlResult<Literal> {
        let minus = self.peek_is("-");
        let literal = match self.token(usize::from(minus)) {
            Some(Token::Number(number, _)) => {
                Literal::Number(format!("{}{number}", if minus { "-" } else { "" }))
            }
            Some(Token::Word(w)) if !minus && w.quote_style.is_none() => {
                match w.value.to_ascii_lowercase().as_str() {
                    "true" => Literal::Boolean(true),
                    "false" => Literal::Boolean(false),
                    _ => return Err(self.syntax_error().with_detail("expected a literal")),
                }
            }
            Some(
                token @ (Token::SingleQuotedString(_)
                | Token::EscapedStringLiteral(_)
                | Token::DollarQuotedString(_)),
            ) if !minus => Literal::Text(token_text(token)),
            _ => return Err(self.syntax_error().with_detail("expected a literal")),
        };
        self.at += 1 + usize::from(minus);
        Ok(literal)
    }

    /// Reads what stands between brackets and gives its text.
    pub(crate) fn bracketed(&mut self) -> SqlResult<String> {
        let message = self.message();
        self.expect("(")?;
        let from = self.clone();
        let mut depth = 0_usize;
        while !(depth == 0 && self.peek_is(")")) {
            match self.token(0) {
                None => return Err(self.syntax_error().with_detail("expected )")),
                Some(Token::LParen) => depth += 1,
                Some(Token::RParen) => depth -= 1,
                Some(_) => {}
            }
            self.at += 1;
        }
        let text = from.text_until(&message, self);
        self.at += 1;
        Ok(text.trim().to_string())
    }

    /// Reads an expression up to where `ends`, which is not asked within brackets, and gives its text.
    pub(crate) fn expression(&mut self, ends: impl Fn(&Self) -> bool) -> SqlResult<String> {
        let message = self.message();
        let from = self.clone();
        let mut depth = 0_usize;
        while depth > 0 || !ends(self) {
            match self.token(0) {
                None => return Err(self.syntax_error()),
                Some(Token::LParen | Token::LBracket) => depth += 1,
                Some(Token::RParen | Token::RBracket) if depth == 0 => {
                    return Err(self.syntax_error());
                }
                Some(Token::RParen | Token::RBracket) => depth -= 1,
                Some(_) => {}
            }
            self.at += 1;
        }
        if self.at == from.at {
            return Err(self.syntax_error().with_detail("expected an expression"));
        }
        Ok(from.text_until(&message, self).trim().to_string())
    }

    pub(crate) fn is_end(&self) -> bool {
        self.at >= self.list.len()
    }

    pub(crate) fn expect_end(&self) -> SqlResult<()> {
        if self.is_end() { Ok(()) } else { Err(self.syntax_error()) }
    }

    /// `syntax error at or near …` at the next token.
    pub(crate) fn syntax_error(&self) -> SqlError {
        match self.token(0) {
            Some(token) => {
                let place = self.list.get(self.at).and_then(|t| character(&self.sql, t.span.start));
                let near = format!("syntax error at or near \"{token}\"");
                SqlError { position: place, ..SqlError::new(sqlstate::SYNTAX, near) }
            }
            None => SqlError::new(sqlstate::SYNTAX, "syntax error at end of input").at(self
                .sql
                .chars()
                .count()
                + 1),
        }
    }

    /// The parser's error as Postgres would word it, with its place.
    pub(crate) fn parser_error(&self, sql: &str, e: &ParserError) -> SqlError {
        let text = match e {
            ParserError::RecursionLimitExceeded => {
                return SqlError::new(sqlstate::TOO_COMPLEX, "statement is nested too deeply");
            }
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.as_str(),
        };
        let place = location(text);
        let position = place.and_then(|l| character(sql, l));
        let near = place.and_then(|l| self.list.iter().find(|t| t.span.start == l));
        let mut error = match near {
            Some(token) => SqlError::new(
                sqlstate::SYNTAX,
                format!("syntax error at or near \"{}\"", token.token),
            ),
            None if text.contains("EOF") => {
                SqlError::new(sqlstate::SYNTAX, "syntax error at end of input")
            }
            None => SqlError::new(sqlstate::SYNTAX, lower_first(text)),
        };
        if let Some((expected, _)) =
            text.strip_prefix("Expected: ").and_then(|rest| rest.split_once(", found:"))
        {
            error = error.with_detail(format!("expected {expected}"));
        }
        error.position = position.or_else(|| near.is_none().then(|| sql.chars().count() + 1));
        error
    }

    /// Whether any token names the Postgres catalogue or information schema.
    pub(crate) fn names_catalog(&self) -> bool {
        self.list.iter().any(|t| match &t.token {
            Token::Word(w) => {
                let name = w.value.to_ascii_lowercase();
                name == "information_schema" || name.starts_with("pg_") || is_reg_type(&name)
            }
            _ => false,
        })
    }

    /// Quotes every unquoted word that is a column's name and stands where a column may stand, so that
    /// columns win over keywords and functions of no arguments.
    pub(crate) fn quote_columns(&mut self, is_column: &dyn Fn(&str) -> bool) {
        for i in 0..self.list.len() {
            let Some(Token::Word(word)) = self.list.get(i).map(|t| t.token.clone()) else {
                continue;
            };
            let before = i.checked_sub(1).and_then(|j| self.list.get(j)).map(|t| &t.token);
            let after = self.list.get(i + 1).map(|t| &t.token);
            if word.quote_style.is_some() || !is_column(&word.value) || is_structure(word.keyword) {
                continue;
            }
            if !is_column_place(before, after) || self.is_extract_field(i) {
                continue;
            }
            if let Some(slot) = self.list.get_mut(i) {
                slot.token = Token::make_word(&word.value, Some('"'));
            }
        }
    }

    /// Quotes the names of arguments, `from => …`: they may be words that SQL reserves. `:=` is an older
    /// spelling of the same.
    pub(crate) fn quote_argument_names(&mut self) {
        for i in 1..self.list.len() {
            match self.list.get_mut(i).map(|t| &mut t.token) {
                Some(arrow @ (Token::RArrow | Token::Assignment)) => *arrow = Token::RArrow,
                _ => continue,
            }
            let Some(slot) = self.list.get_mut(i - 1) else { continue };
            if let Token::Word(word) = &slot.token
                && word.quote_style.is_none()
            {
                slot.token = Token::make_word(&word.value.to_lowercase(), Some('"'));
            }
        }
    }

    fn is_extract_field(&self, i: usize) -> bool {
        let word = |j: Option<usize>| match j.and_then(|j| self.list.get(j)).map(|t| &t.token) {
            Some(Token::Word(w)) => w.value.to_ascii_lowercase(),
            _ => String::new(),
        };
        let open = i.checked_sub(1).and_then(|j| self.list.get(j)).map(|t| &t.token);
        open == Some(&Token::LParen)
            && word(i.checked_sub(2)) == "extract"
            && word(Some(i + 1)) == "from"
    }
}

fn is_column_place(before: Option<&Token>, after: Option<&Token>) -> bool {
    let typed = matches!(after, Some(Token::SingleQuotedString(_)));
    let called = matches!(after, Some(Token::LParen));
    let kept = match before {
        Some(Token::DoubleColon | Token::Period | Token::SingleQuotedString(_)) => true,
        Some(Token::Word(w)) => {
            w.quote_style.is_none() && matches!(w.keyword, Keyword::AS | Keyword::AT)
        }
        _ => false,
    };
    !(typed || called || kept)
}

/// Words that hold an expression together; a column of such a name must be quoted.
fn is_structure(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::AND
            | Keyword::OR
            | Keyword::NOT
            | Keyword::CASE
            | Keyword::WHEN
            | Keyword::THEN
            | Keyword::ELSE
            | Keyword::END
            | Keyword::IS
            | Keyword::NULL
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::BETWEEN
            | Keyword::AS
            | Keyword::CAST
            | Keyword::DISTINCT
            | Keyword::FROM
            | Keyword::TRUE
            | Keyword::FALSE
    )
}

fn is_reg_type(name: &str) -> bool {
    matches!(name, "regclass" | "regtype" | "regproc" | "regnamespace" | "regprocedure" | "regrole")
}

fn token_text(token: &Token) -> String {
    match token {
        Token::Word(w) => w.value.clone(),
        Token::SingleQuotedString(s)
        | Token::EscapedStringLiteral(s)
        | Token::NationalStringLiteral(s) => s.clone(),
        Token::DollarQuotedString(s) => s.value.clone(),
        Token::Number(n, _) => n.clone(),
        other => other.to_string(),
    }
}

/// The place that ends a parser's message, ` at Line: 1, Column: 5`.
fn location(text: &str) -> Option<Location> {
    let (_, place) = text.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location::new(line.trim().parse().ok()?, column.trim().parse().ok()?))
}

/// Position of a place in characters from 1.
pub(crate) fn character(sql: &str, place: Location) -> Option<usize> {
    let line = usize::try_from(place.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(place.column).ok()?;
    let before: usize = sql.split('\n').take(line).map(|l| l.chars().count() + 1).sum();
    Some(before + column)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// All names in a text, keywords among them, as they are looked up; none if it is no SQL.
pub(crate) fn words(sql: &str) -> Option<HashSet<String>> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().ok()?;
    let word = |token: Token| match token {
        Token::Word(word) if word.quote_style.is_some() => Some(word.value),
        Token::Word(word) => Some(word.value.to_lowercase()),
        _ => None,
    };
    Some(tokens.into_iter().filter_map(word).collect())
}
