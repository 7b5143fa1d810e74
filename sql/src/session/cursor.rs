//! Cursors and prepared statements of SQL. A cursor is a running query that waits between two FETCHes: it
//! holds its snapshot, and is refused once that is too old.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;
use otus_engine::snapshot::Snapshot;
use tokio::sync::Mutex;

use super::guard::Guard;
use super::run::{Started, too_old};
use super::scroll::Rest;
use super::stop::Stop;
use super::{Frame, Inner, Prepared, Session, tagged};
use crate::access::Allowance;
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::function::{Held, HeldCursor, HeldStatement, as_list};
use crate::outcome::{Outcome, Parameter, RowTag};
use crate::statement::{Plannable, Statement, Travel};
use crate::zone::in_zone;

/// Most cursors of a session.
const CURSORS_MAX: usize = 100;
/// The part of the memory of queries that a cursor which may go back may take: one of so many.
const SCROLL_SHARE: usize = 4;
/// Most prepared statements of a session made by PREPARE.
const PREPARED_MAX: usize = 1_000;

/// Bytes of the texts of these: parsed they take a multiple.
const PREPARED_BYTES_MAX: usize = 8 << 20;

/// A declared cursor.
pub(super) struct Cursor {
    pub(super) hold: bool,
    pub(super) in_transaction: bool,
    schema: SchemaRef,
    snapshot: Arc<Snapshot>,
    rows: Arc<Mutex<Rest>>,
    /// The whole of the text that declared it, whether it may go back, and when that was.
    text: Arc<str>,
    scroll: bool,
    made_us: i64,
    /// Its query goes on until the cursor is gone.
    _stop: Option<Arc<Stop>>,
}

impl Session {
    pub(super) async fn declare(
        &self,
        (name, text): (&str, &str),
        (hold, scroll): (bool, bool),
        query: &Plannable,
        params: Vec<Parameter>,
    ) -> SqlResult<Outcome> {
        let in_transaction = {
            let inner = self.inner.lock();
            if inner.transaction.is_none() && !hold {
                return Err(SqlError::new(
                    sqlstate::NO_TRANSACTION,
                    "DECLARE CURSOR can only be used in transaction blocks",
                ));
            }
            if inner.cursors.contains_key(name) {
                return Err(SqlError::new(
                    sqlstate::DUPLICATE_CURSOR,
                    format!("cursor \"{name}\" already exists"),
                ));
            }
            if inner.cursors.len() >= CURSORS_MAX {
                return Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, "too many open cursors"));
            }
            inner.transaction.is_some()
        };
        let frame = self.frame()?;
        let Started { schema, stream, report, .. } = frame.start(query.clone(), params).await?;
        self.tell(&report);
        let rest = match scroll {
            true => {
                let all = self.engine.config().memory_bytes;
                let own = frame.allowance.as_ref().and_then(Allowance::memory);
                let most = own.map_or(all, |own| own.min(all)) / SCROLL_SHARE;
                Rest::scrolled(name, stream, self.engine.reservation("SCROLL cursor"), most)
            }
            false => Rest::forward_only(name, stream),
        };
        let cursor = Cursor {
            hold,
            in_transaction,
            schema,
            snapshot: Arc::clone(&frame.snapshot),
            rows: Arc::new(Mutex::new(rest)),
            text: text.into(),
            scroll,
            made_us: self.engine.dataset().clock().now_us(),
            _stop: frame.guard.stop(),
        };
        self.inner.lock().cursors.insert(name.to_string(), cursor);
        Ok(tagged("DECLARE CURSOR"))
    }

    pub(super) fn cursor_schema(&self, name: &str) -> SqlResult<SchemaRef> {
        let inner = self.inner.lock();
        inner.cursors.get(name).map(|c| Arc::clone(&c.schema)).ok_or_else(|| no_cursor(name))
    }

    pub(super) async fn fetch(&self, name: &str, travel: Travel) -> SqlResult<Outcome> {
        let (rows, schema, snapshot, guard) = {
            let inner = self.inner.lock();
            let cursor = inner.cursors.get(name).ok_or_else(|| no_cursor(name))?;
            self.check_age(&cursor.snapshot)?;
            let guard = Guard::new(self.cancel.arm(), self.time_limit(&inner.settings));
            let snapshot = Some(Arc::clone(&cursor.snapshot));
            (Arc::clone(&cursor.rows), Arc::clone(&cursor.schema), snapshot, guard)
        };
        let size =
            |n: Option<u64>| n.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let (is_back, most) = match travel {
            Travel::Forward(n) => (false, size(n)),
            Travel::Backward(n) => (true, size(n)),
            Travel::Absolute(_) | Travel::Relative(_) => {
                let found = async { rows.lock().await.go(travel).await.map_err(SqlError::from) };
                let found = guard.run(found).await?;
                let stream = futures::stream::iter(found.map(Ok));
                let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), stream));
                return Ok(Outcome::Rows { schema, stream, tag: RowTag::Fetch, snapshot });
            }
        };
        let stream = futures::stream::unfold((rows, most), move |(rows, most)| async move {
            if most == 0 {
                return None;
            }
            let next = {
                let mut rows = rows.lock().await;
                if is_back { rows.backward(most) } else { rows.forward(most).await }
            };
            match next {
                Ok(None) => None,
                Ok(Some(batch)) => {
                    let left = most - batch.num_rows();
                    Some((Ok(batch), (rows, left)))
                }
                Err(e) => Some((Err::<_, DataFusionError>(e), (rows, 0))),
            }
        });
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), stream));
        let stream = guard.watch(stream);
        Ok(Outcome::Rows { schema, stream, tag: RowTag::Fetch, snapshot })
    }

    /// Passes over rows of a cursor.
    pub(super) async fn move_on(&self, name: &str, travel: Travel) -> SqlResult<Outcome> {
        let Outcome::Rows { mut stream, .. } = self.fetch(name, travel).await? else {
            return Err(SqlError::internal("a cursor gave no rows"));
        };
        let mut passed = 0;
        while let Some(batch) = stream.next().await {
            passed += batch.map_err(SqlError::from)?.num_rows();
        }
        Ok(tagged(format!("MOVE {passed}")))
    }

    /// Refuses to go on with rows of a moment too long ago: files of it may be gone.
    pub fn check_age(&self, snapshot: &Snapshot) -> SqlResult<()> {
        snapshot.check_age(self.engine.dataset().clock().now_us()).map_err(too_old)
    }

    pub(super) fn close(&self, name: Option<&str>) -> SqlResult<Outcome> {
        let mut inner = self.inner.lock();
        match name {
            None => inner.cursors.clear(),
            Some(name) => {
                if inner.cursors.remove(name).is_none() {
                    return Err(no_cursor(name));
                }
            }
        }
        Ok(tagged(if name.is_some() { "CLOSE CURSOR" } else { "CLOSE CURSOR ALL" }))
    }

    /// Keeps a statement under a name, once it is known to be one: what it names is looked up now, as for Parse.
    pub(super) async fn prepare(
        &self,
        (name, text): (&str, &str),
        types: &[ast::DataType],
        query: &Statement,
    ) -> SqlResult<Outcome> {
        let types = types.iter().map(sql_type).collect::<SqlResult<Vec<_>>>()?;
        let described = self.describe(query, &types).await?;
        let made_us = self.engine.dataset().clock().now_us();
        let mut inner = self.inner.lock();
        if inner.prepared.len() >= PREPARED_MAX {
            return Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, "too many prepared statements"));
        }
        let held: usize = inner.prepared.values().map(|p| p.text.len()).sum();
        if held + text.len() > PREPARED_BYTES_MAX {
            let message = "the texts of prepared statements are too long together";
            return Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, message)
                .with_hint("DEALLOCATE those that are not needed any more"));
        }
        match inner.prepared.entry(name.to_string()) {
            Entry::Occupied(_) => Err(SqlError::new(
                sqlstate::DUPLICATE_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            )),
            Entry::Vacant(slot) => {
                let (statement, text) = (query.clone(), text.into());
                slot.insert(Prepared { statement, types, text, described, made_us });
                Ok(tagged("PREPARE"))
            }
        }
    }

    pub(super) fn deallocate(&self, name: Option<&str>) -> SqlResult<Outcome> {
        let mut inner = self.inner.lock();
        match name {
            None => {
                inner.prepared.clear();
                Ok(tagged("DEALLOCATE ALL"))
            }
            Some(name) => match inner.prepared.remove(name) {
                Some(_) => Ok(tagged("DEALLOCATE")),
                None => Err(no_statement(name)),
            },
        }
    }

    pub(super) fn prepared(&self, name: &str) -> SqlResult<Prepared> {
        self.inner.lock().prepared.get(name).cloned().ok_or_else(|| no_statement(name))
    }

    pub(super) async fn execute_prepared(
        &self,
        name: &str,
        args: &[ast::Expr],
    ) -> SqlResult<Outcome> {
        let prepared = self.prepared(name)?;
        let described = self.describe(&prepared.statement, &prepared.types).await;
        // Places are counted in the text of PREPARE, which this statement does not have.
        let described = described.map_err(|e| SqlError { position: None, ..e })?;
        if described.params.len() != args.len() {
            return Err(SqlError::new(
                sqlstate::SYNTAX,
                format!("wrong number of parameters for prepared statement \"{name}\""),
            )
            .with_detail(format!(
                "expected {}, got {}",
                described.params.len(),
                args.len()
            )));
        }
        let frame = self.frame()?;
        let (inner, args, types) = (frame.detached(), args.to_vec(), described.params);
        let params = frame.on_threads(async move {
            let values = args.iter().zip(&types);
            let value = |(arg, field): (_, &FieldRef)| {
                Ok(Parameter::of(constant(&inner, arg, field.data_type())?, field))
            };
            values.map(value).collect()
        });
        let params: Vec<Parameter> = params.await?;
        Box::pin(self.execute_with(&prepared.statement, params)).await
    }
}

/// What a session holds at this moment, in the order of names.
pub(super) fn held(inner: &Weak<parking_lot::Mutex<Inner>>) -> Held {
    let Some(inner) = inner.upgrade() else { return Held::default() };
    let inner = inner.lock();
    let statements = inner.prepared.iter().map(|(name, prepared)| HeldStatement {
        name: name.clone(),
        text: Arc::clone(&prepared.text),
        made_us: prepared.made_us,
        takes: prepared.described.params.clone(),
        gives: prepared.described.schema.clone(),
    });
    let cursors = inner.cursors.iter().map(|(name, cursor)| HeldCursor {
        name: name.clone(),
        text: Arc::clone(&cursor.text),
        made_us: cursor.made_us,
        hold: cursor.hold,
        scroll: cursor.scroll,
    });
    let mut held = Held { statements: statements.collect(), cursors: cursors.collect() };
    held.statements.sort_by(|a, b| a.name.cmp(&b.name));
    held.cursors.sort_by(|a, b| a.name.cmp(&b.name));
    held
}

/// The value of a constant expression, cast to a type.
fn constant(frame: &Frame, expr: &ast::Expr, data_type: &DataType) -> SqlResult<ScalarValue> {
    let aliased = ast::ExprWithAlias { expr: expr.clone(), alias: None };
    let schema = DFSchema::empty();
    let planned =
        frame.state.create_logical_expr_from_sql_expr(aliased, &schema).map_err(SqlError::from)?;
    let planned = match data_type {
        DataType::List(_) => as_list(planned, data_type).map_err(SqlError::from)?,
        _ => planned,
    };
    let planned = frame.bounds.around(planned, &schema).map_err(SqlError::from)?.data;
    let cast = datafusion::logical_expr::cast(planned, data_type.clone());
    let cast = in_zone(cast, &schema, frame.state.config_options()).map_err(SqlError::from)?;
    crate::compile::constant(&frame.state, cast)
}

/// The type of a type's SQL name.
fn sql_type(data_type: &ast::DataType) -> SqlResult<Option<FieldRef>> {
    let name = data_type.to_string();
    match name.parse::<otus_engine::types::ColumnType>() {
        Ok(t) => Ok(Some(Arc::new(t.field("", true)))),
        Err(_) if name.eq_ignore_ascii_case("unknown") => Ok(None),
        Err(_) => Err(SqlError::new(
            sqlstate::UNDEFINED_OBJECT,
            format!("type \"{}\" does not exist", name.to_lowercase()),
        )),
    }
}

fn no_cursor(name: &str) -> SqlError {
    SqlError::new(sqlstate::NO_CURSOR, format!("cursor \"{name}\" does not exist"))
}

fn no_statement(name: &str) -> SqlError {
    SqlError::new(sqlstate::NO_STATEMENT, format!("prepared statement \"{name}\" does not exist"))
}
