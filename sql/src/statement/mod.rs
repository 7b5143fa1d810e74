//! From text to statements that may run. The allow-list is here, by construction: queries go to the SQL
//! parser, session commands are read by [`command`], everything else is refused before anything is planned.
//! No statement reads or writes files of the server; INSERT and COPY FROM write to the event log alone.

mod arrays;
mod calls;
mod casts;
mod catalogue;
mod command;
mod copy;
mod ddl;
mod depth;
mod exists;
mod forms;
mod insert;
mod json;
mod numbers;
mod operands;
mod ordered;
mod ordered_rows;
mod parts;
mod patterns;
mod precedence;
mod rewrite;
mod rows;
mod series;
mod sets;
mod size;
mod sorting;
mod spelling;
mod times;
mod tokens;
mod travel;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::sql::sqlparser::ast::{
    self, Query, SetExpr, SetOperator, SetQuantifier, TableFactor,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::ddl::{Ddl, TableName};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::outcome::{CopyFormat, RowTag};
use crate::planning::in_time;
pub(crate) use arrays::{Item, parsed as parsed_array};
pub(crate) use catalogue::OR_EMPTY;
pub(crate) use insert::{check_count, with_types};
pub(crate) use json::record;
pub(crate) use operands::type_operands;
use precedence::bind_distinct;
pub(crate) use rewrite::{
    OutputNames, call, factors, folded, is_repeated, output_names, place_of, unknown_relation,
};
use rewrite::{name_outputs, operators_as_functions};
use spelling::spell_out;
pub(crate) use tokens::Tokens;
pub(crate) use tokens::character;
pub(crate) use tokens::words;
pub use travel::Travel;

/// Longest text of one message, bytes.
pub(crate) const STATEMENT_BYTES_MAX: usize = 4 << 20;
/// Most levels of brackets.
pub(crate) const NESTING_MAX: usize = 100;
/// Most operators in a row at one level of brackets. Planning takes time with the square of it and more.
pub(crate) const OPERATORS_MAX: usize = 1_000;

/// Most words and signs of one message.
pub(crate) const TOKENS_MAX: usize = 1_000_000;
/// Most columns of a list, as in Postgres.
pub(crate) const COLUMNS_MAX: usize = 1_664;

/// One parsed statement that the allow-list accepts. It holds names only: nothing is resolved yet.
#[derive(Clone)]
pub struct Statement {
    text: Arc<str>,
    action: Arc<Action>,
}

/// What a statement does.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Query(Plannable),
    Explain {
        options: Explain,
        query: Plannable,
    },
    CopyOut {
        query: Plannable,
        format: CopyFormat,
    },
    Show(String),
    Set {
        name: String,
        value: Option<String>,
        local: bool,
    },
    ResetAll,
    SetTransaction(Modes),
    /// `SET SESSION CHARACTERISTICS`: for the transactions to come.
    SetCharacteristics(Modes),
    Begin(Modes),
    /// `INSERT INTO`
    Insert(Insert),
    /// `COPY table FROM STDIN`
    CopyIn(CopyFrom),
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    DiscardAll,
    Declare {
        name: String,
        hold: bool,
        scroll: bool,
        query: Plannable,
    },
    Fetch {
        name: String,
        travel: Travel,
    },
    /// As FETCH, without giving the rows.
    Move {
        name: String,
        travel: Travel,
    },
    Close(Option<String>),
    Prepare {
        name: String,
        types: Vec<ast::DataType>,
        query: Box<Statement>,
    },
    Execute {
        name: String,
        args: Vec<ast::Expr>,
    },
    Deallocate(Option<String>),
    /// Declares, changes or drops tables and rollups.
    Define(Arc<Ddl>),
    /// Accepted and done by doing nothing: `UNLISTEN`, `DISCARD PLANS` and the like.
    Nothing(&'static str),
}

/// A query ready for the planner, with the names its columns get at the end.
#[derive(Debug, Clone)]
pub(crate) struct Plannable {
    /// Shared: copying a deep tree takes a deep stack.
    pub(crate) query: Arc<Query>,
    pub(crate) names: OutputNames,
    /// Whether it names anything of the Postgres catalogue.
    pub(crate) names_catalog: bool,
    /// Types that parameters are cast to, by their numbers from 0, where the planner's type does not tell them.
    pub(crate) casts: Arc<BTreeMap<usize, FieldRef>>,
    /// The text of the whole message, in which places are counted.
    pub(crate) message: Arc<str>,
    /// How large its syntax tree is, see [`size::nodes`].
    pub(crate) nodes: u64,
}

/// Modes of a transaction, as far as they are said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Modes {
    pub(crate) isolation: Option<&'static str>,
    pub(crate) read_only: Option<bool>,
}

impl Modes {
    /// Whether one snapshot is to serve all statements; none = not said.
    pub(crate) fn repeatable(self) -> Option<bool> {
        self.isolation.map(|level| matches!(level, "repeatable read" | "serializable"))
    }
}

/// An `INSERT`.
#[derive(Debug, Clone)]
pub(crate) struct Insert {
    pub(crate) table: TableName,
    pub(crate) columns: Option<Vec<String>>,
    /// The rows; none = one row of defaults.
    pub(crate) source: Option<Plannable>,
}

/// A `COPY … FROM STDIN`.
#[derive(Debug, Clone)]
pub(crate) struct CopyFrom {
    pub(crate) table: TableName,
    pub(crate) columns: Option<Vec<String>>,
    pub(crate) format: CopyFormat,
}

/// What an EXPLAIN asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Explain {
    pub(crate) analyze: bool,
    pub(crate) verbose: bool,
}

/// A way through a cursor, as FETCH, MOVE or CLOSE asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journey {
    /// The rows are wanted.
    Fetch(Travel),
    /// Only how many they are.
    Move(Travel),
    /// It is not needed any more.
    Close,
}

impl Statement {
    /// The text of this statement alone.
    pub fn text(&self) -> &str {
        &self.text
    }
    pub(crate) fn action(&self) -> &Action {
        &self.action
    }
    /// How the command tag begins if the statement answers with rows.
    pub fn row_tag(&self) -> Option<RowTag> {
        match self.action() {
            Action::Query(_) => Some(RowTag::Select),
            Action::Explain { .. } => Some(RowTag::Explain),
            Action::Show(_) => Some(RowTag::Show),
            Action::Fetch { .. } => Some(RowTag::Fetch),
            Action::Execute { .. } => Some(RowTag::Select),
            _ => None,
        }
    }
    /// The cursor that the statement goes through, and how, if that is what it does.
    pub fn journey(&self) -> Option<(&str, Journey)> {
        match self.action() {
            Action::Fetch { name, travel } => Some((name, Journey::Fetch(*travel))),
            Action::Move { name, travel } => Some((name, Journey::Move(*travel))),
            Action::Close(Some(name)) => Some((name, Journey::Close)),
            _ => None,
        }
    }
    /// Whether the statement ends a transaction, which is allowed in a failed one too.
    pub fn ends_transaction(&self) -> bool {
        matches!(
            self.action(),
            Action::Commit { .. } | Action::Rollback { .. } | Action::RollbackTo(_)
        )
    }
    /// The format if the statement is `COPY … TO STDOUT`.
    pub fn copy_format(&self) -> Option<&CopyFormat> {
        match self.action() {
            Action::CopyOut { format, .. } => Some(format),
            _ => None,
        }
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement({:?})", self.text)
    }
}

/// Parses the statements of one message.
pub(crate) fn parse(sql: &str) -> SqlResult<Vec<Statement>> {
    if sql.len() > STATEMENT_BYTES_MAX {
        return Err(SqlError::new(
            sqlstate::LIMIT_EXCEEDED,
            format!("statement text is longer than {STATEMENT_BYTES_MAX} bytes"),
        ));
    }
    let tokens = Tokens::of(sql)?;
    depth::check(&tokens)?;
    if depth::is_deep(&tokens) {
        return on_deep_stack(|| tokens.split().map(|part| parse_one(sql, part)).collect());
    }
    tokens.split().map(|part| parse_one(sql, part)).collect()
}

/// Runs `work` with room for the recursion that a long chain of operators takes: the caller's thread may
/// have a small stack.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> SqlResult<T> + Send) -> SqlResult<T> {
    let failed = || SqlError::new(sqlstate::TOO_COMPLEX, "statement is too complex");
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("otus-parse".into())
            .stack_size(crate::engine::STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|_| failed())?;
        thread.join().unwrap_or_else(|_| Err(failed()))
    })
}

fn parse_one(sql: &str, mut tokens: Tokens) -> SqlResult<Statement> {
    let text: Arc<str> = tokens.text(sql).into();
    let action = match tokens.peek_word().as_deref() {
        _ if begins_query(&tokens) => Action::Query(query(sql, &mut tokens)?),
        Some("explain") => explain(sql, &mut tokens)?,
        Some("copy") => copy::parse(sql, &mut tokens)?,
        Some("insert") => Action::Insert(insert::parse(sql, &mut tokens)?),
        Some("create" | "alter" | "drop" | "comment") => {
            Action::Define(Arc::new(ddl::parse(&mut tokens)?))
        }
        _ => command::parse(sql, &mut tokens)?,
    };
    tokens.expect_end()?;
    Ok(Statement { text, action: Arc::new(action) })
}

fn begins_query(tokens: &Tokens) -> bool {
    let word = tokens.peek_word();
    tokens.peek_is("(") || matches!(word.as_deref(), Some("select" | "with" | "values" | "table"))
}

/// Reads a query from the next token to wherever the grammar ends.
pub(crate) fn query(sql: &str, tokens: &mut Tokens) -> SqlResult<Plannable> {
    let names_catalog = tokens.names_catalog();
    let mut query = parsed(sql, tokens)?;
    let nodes = size::nodes(&query);
    let names = name_outputs(&mut query);
    catalogue::plain_names(&mut query);
    in_time()?;
    times::named_times(&mut query);
    parts::typed(&mut query);
    calls::spelled_for_planner(&mut query);
    json::known_functions(&mut query);
    ordered::as_lists(&mut query);
    in_time()?;
    series::rows_of_functions(&mut query);
    ordered_rows::with_keys(&mut query);
    casts::name_casts(&mut query);
    numbers::typed(&mut query);
    in_time()?;
    arrays::as_calls(&mut query);
    let casts = Arc::new(operands::casts_of_parameters(&query));
    let message = tokens.message();
    Ok(Plannable { query: Arc::from(query), names, names_catalog, casts, message, nodes })
}

/// A query that is allowed, its operators as the planner wants them.
fn parsed(sql: &str, tokens: &mut Tokens) -> SqlResult<Box<Query>> {
    tokens.quote_argument_names();
    tokens.spell_words();
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(NESTING_MAX * 2)
        .with_tokens_with_locations(tokens.rest());
    let mut query = parser.parse_query().map_err(|e| tokens.parser_error(sql, &e))?;
    tokens.advance_to(&parser.peek_token());
    sets::numbered(&mut query);
    check_query(&query)?;
    size::check(&query)?;
    in_time()?;
    forms::in_either_order(&mut query);
    bind_distinct(&mut *query);
    operators_as_functions(&mut *query);
    spell_out(&mut *query);
    in_time()?;
    arrays::spelled_out(&mut *query)?;
    rows::known_comparisons(&mut *query)?;
    in_time()?;
    exists::counted(&mut query);
    forms::known_forms(&mut query);
    forms::counts_of_text(&mut query)?;
    Ok(query)
}

/// Reads the text of one query that is to stand inside others.
pub(crate) fn subquery(sql: &str) -> SqlResult<Box<Query>> {
    let tokens = Tokens::of(sql)?;
    depth::check(&tokens)?;
    let mut parts: Vec<Tokens> = tokens.split().collect();
    let Some(mut tokens) = parts.pop() else {
        return Err(SqlError::new(sqlstate::SYNTAX, "the query is empty"));
    };
    if !parts.is_empty() {
        let message = format!("one query is expected, not {} statements", parts.len() + 1);
        return Err(SqlError::new(sqlstate::SYNTAX, message));
    }
    if !begins_query(&tokens) {
        return Err(SqlError::new(sqlstate::SYNTAX, "only a query can have a name"));
    }
    on_deep_stack(move || {
        let mut query = parsed(sql, &mut tokens)?;
        tokens.expect_end()?;
        rewrite::name_inner(&mut query);
        catalogue::plain_names(&mut query);
        times::named_times(&mut query);
        parts::typed(&mut query);
        calls::spelled_for_planner(&mut query);
        json::known_functions(&mut query);
        ordered::as_lists(&mut query);
        series::rows_of_functions(&mut query);
        ordered_rows::with_keys(&mut query);
        casts::name_casts(&mut query);
        numbers::typed(&mut query);
        arrays::as_calls(&mut query);
        Ok(query)
    })
}

fn explain(sql: &str, tokens: &mut Tokens) -> SqlResult<Action> {
    tokens.next_word();
    let (mut analyze, mut verbose) = (false, false);
    if tokens.peek_is("(") && !tokens.peek_second_is_query() {
        tokens.skip();
        while !tokens.take(")") {
            let name = tokens.expect_word("an option of EXPLAIN")?;
            let value = match tokens.peek_is(",") || tokens.peek_is(")") {
                true => "on".to_string(),
                false => tokens.next_text(),
            };
            let on = !matches!(value.to_ascii_lowercase().as_str(), "off" | "false" | "0");
            match name.as_str() {
                "analyze" => analyze = on,
                "verbose" => verbose = on,
                "format" if value.eq_ignore_ascii_case("text") => {}
                "costs" | "settings" | "buffers" | "wal" | "timing" | "summary" | "memory" => {}
                _ => {
                    return Err(SqlError::unsupported(format!(
                        "EXPLAIN option {name:?} with value {value:?} is not supported"
                    )));
                }
            }
            tokens.take(",");
        }
    } else {
        analyze = tokens.take_word("analyze");
        verbose = tokens.take_word("verbose");
    }
    let query = query(sql, tokens)?;
    Ok(Action::Explain { options: Explain { analyze, verbose }, query })
}

/// Words with which clauses begin: no table has such a name without quotes.
const CLAUSES: [&str; 12] = [
    "except",
    "fetch",
    "from",
    "group",
    "having",
    "intersect",
    "limit",
    "offset",
    "order",
    "select",
    "union",
    "where",
];

/// A part of a name that is written as a text.
fn text_of(part: &ast::ObjectNamePart) -> Option<&ast::Ident> {
    part.as_ident().filter(|word| word.quote_style == Some('\''))
}

/// Why a relation is refused.
fn refused_relation(factor: &TableFactor) -> Option<SqlError> {
    if let TableFactor::Table { name, args, sample, .. } = factor {
        let is_clause = |word: &&ast::Ident| {
            word.quote_style.is_none()
                && args.is_none()
                && CLAUSES.contains(&word.value.to_ascii_lowercase().as_str())
        };
        let alone = match name.0.as_slice() {
            [part] => part.as_ident().filter(is_clause),
            _ => None,
        };
        // The planner would take a text for a name.
        if let Some(word) = alone.or_else(|| name.0.iter().find_map(text_of)) {
            let message = format!("syntax error at or near \"{word}\"");
            return Some(SqlError::new(sqlstate::SYNTAX, message));
        }
        if sample.is_some() {
            return Some(SqlError::unsupported("TABLESAMPLE is not supported"));
        }
    }
    series::lacks_ordinality(factor).then(|| {
        let e = SqlError::unsupported("WITH ORDINALITY is not supported here");
        e.with_hint("row_number() OVER () numbers rows")
    })
}

/// Refuses what hides in a query and is none: writes, locks, `SELECT INTO`.
fn check_query(query: &Query) -> SqlResult<()> {
    struct Check(Option<SqlError>);
    impl ast::Visitor for Check {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            if !query.locks.is_empty() {
                self.0 = Some(SqlError::unsupported("FOR UPDATE and FOR SHARE are not supported"));
                return ControlFlow::Break(());
            }
            self.body(&query.body)
        }
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            self.0 = refused_relation(factor);
            if self.0.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    impl Check {
        fn body(&mut self, body: &SetExpr) -> ControlFlow<()> {
            match body {
                SetExpr::Insert(_)
                | SetExpr::Update(_)
                | SetExpr::Delete(_)
                | SetExpr::Merge(_) => {
                    self.0 = Some(read_only("a query that writes"));
                    ControlFlow::Break(())
                }
                SetExpr::Select(select) if select.into.is_some() => {
                    self.0 = Some(read_only("SELECT INTO"));
                    ControlFlow::Break(())
                }
                SetExpr::SetOperation {
                    op: SetOperator::Except | SetOperator::Intersect,
                    set_quantifier: SetQuantifier::All,
                    ..
                } => {
                    let e = SqlError::unsupported("EXCEPT ALL and INTERSECT ALL are not supported");
                    self.0 = Some(e.with_hint("without ALL each row comes once"));
                    ControlFlow::Break(())
                }
                SetExpr::SetOperation { left, right, .. } => {
                    self.body(left)?;
                    self.body(right)
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    let mut check = Check(None);
    let _flow = ast::Visit::visit(query, &mut check);
    match check.0 {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

/// The refusal of a statement that would write.
pub(crate) fn read_only(what: &str) -> SqlError {
    SqlError::new(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!("{what} is not supported: tables are written by ingestion only"),
    )
}

/// Parses a lone expression, as in the declaration of a measure.
pub(crate) fn expression(sql: &str, columns: &dyn Fn(&str) -> bool) -> SqlResult<ast::Expr> {
    let mut tokens = Tokens::of(sql)?;
    depth::check(&tokens)?;
    tokens.quote_columns(columns);
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(NESTING_MAX * 2)
        .with_tokens_with_locations(tokens.rest());
    let mut expr = parser.parse_expr().map_err(|e| tokens.parser_error(sql, &e))?;
    bind_distinct(&mut expr);
    operators_as_functions(&mut expr);
    spell_out(&mut expr);
    tokens.advance_to(&parser.peek_token());
    tokens.expect_end()?;
    Ok(expr)
}

/// The same as a query has it: its numbers have the types of Postgres.
pub(crate) fn queried(sql: &str, columns: &dyn Fn(&str) -> bool) -> SqlResult<ast::Expr> {
    let mut expr = expression(sql, columns)?;
    numbers::typed_within(&mut expr);
    Ok(expr)
}

#[cfg(test)]
mod tests;
