//! INSERT and COPY FROM: rows become records, are checked, and are written to the log of their table when the
//! statement ends, or, in a transaction, at COMMIT. Nothing is written before all rows of a statement are known to
//! be good, up to a bound: what a COPY brings beyond it is written piece by piece.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::FieldRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Column;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use otus_engine::compiled::CompiledTable;

use super::guard::Guard;
use super::run::{Started, types_of};
use super::{Frame, Session, tagged};
use crate::access::Identity;
use crate::append::{Appender, CopyColumn, Record, Target, field, find, record};
use crate::ddl::TableName;
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::observer::Observed;
use crate::outcome::{CopyFormat, Description, Outcome, Parameter};
use crate::plan;
use crate::statement::{CopyFrom, Insert, OutputNames, check_count, with_types};

/// Bytes of records that are kept before they are written; a transaction keeps no more.
const PENDING_BYTES_MAX: usize = 64 << 20;
/// Records that are checked, and of a COPY written, at a time.
const PIECE_RECORDS: usize = 10_000;
/// Bytes of the records of a piece.
const PIECE_BYTES: usize = 8 << 20;
/// Setting that says until when a statement waits.
pub(super) const WAIT: &str = "otus.insert_wait";

/// Records of one table that wait for the end of their transaction.
#[derive(Debug)]
pub(super) struct Pending {
    table: Arc<CompiledTable>,
    records: Vec<Record>,
    bytes: usize,
    _memory: MemoryReservation,
}

/// A `COPY … FROM STDIN` that goes on.
pub struct CopyIn {
    rows: Rows,
    format: CopyFormat,
    /// Told of the end.
    pub(crate) observed: Option<Observed>,
}

impl CopyIn {
    /// How the data are written.
    pub fn format(&self) -> &CopyFormat {
        &self.format
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.rows.table.def.name
    }

    /// Says why the COPY ends without its data.
    pub fn ends_with(&mut self, sqlstate: &str) {
        let written = self.rows.written;
        if let Some(observed) = &mut self.observed {
            observed.stands(written, Some(sqlstate.to_owned().into()));
        }
    }

    /// The columns that each row brings, in this order.
    pub fn columns(&self) -> Vec<CopyColumn> {
        self.rows.target.copy_columns()
    }
}

impl fmt::Debug for CopyIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CopyIn({:?})", self.table())
    }
}

/// The rows of one statement.
struct Rows {
    table: Arc<CompiledTable>,
    whose: Option<Arc<Identity>>,
    target: Target,
    appender: Arc<dyn Appender>,
    /// Not yet checked.
    fresh: Vec<Record>,
    fresh_bytes: usize,
    /// Checked.
    records: Vec<Record>,
    bytes: usize,
    memory: MemoryReservation,
    taken: u64,
    written: u64,
}

impl Rows {
    fn push(&mut self, values: &[ScalarValue]) -> SqlResult<()> {
        self.target.check_present(|at| values.get(at).is_none_or(ScalarValue::is_null))?;
        let record = record(&self.target, values)?;
        self.fresh_bytes += record.bytes();
        self.fresh.push(record);
        self.taken += 1;
        Ok(())
    }

    fn is_piece(&self) -> bool {
        self.fresh.len() >= PIECE_RECORDS || self.fresh_bytes >= PIECE_BYTES
    }

    /// Checks what came; the error names the row, from 1.
    fn check(&mut self) -> Result<(), (u64, SqlError)> {
        let before = self.taken - self.fresh.len() as u64;
        if self.bytes + self.fresh_bytes > PENDING_BYTES_MAX {
            return Err((self.taken, too_much()));
        }
        self.memory.try_grow(self.fresh_bytes).map_err(|e| (self.taken, e.into()))?;
        self.appender
            .check(&self.table, &self.fresh, self.whose.as_deref())
            .map_err(|(at, e)| (before + at as u64 + 1, e))?;
        self.bytes += std::mem::take(&mut self.fresh_bytes);
        self.records.append(&mut self.fresh);
        Ok(())
    }
}

fn too_much() -> SqlError {
    let mib = PENDING_BYTES_MAX >> 20;
    SqlError::new(
        sqlstate::LIMIT_EXCEEDED,
        format!("one statement or transaction appends at most {mib} MiB of records"),
    )
    .with_hint("append in several statements; COPY outside a transaction takes any number of rows")
}

impl Session {
    /// The table to append to. A role may append to a table of which it sees nothing.
    fn appendable(
        &self,
        frame: &Frame,
        search_path: &[String],
        name: &TableName,
    ) -> SqlResult<Arc<CompiledTable>> {
        let Some(identity) = &self.identity else {
            return find(&frame.snapshot, search_path, name);
        };
        let all = self.engine.dataset().snapshot();
        if let Ok(table) = find(&all, search_path, name)
            && identity.may_insert(&table.def.schema, &table.def.name)
        {
            if table.def.keyed().is_some() && !self.engine.may_write_rows(all, identity, &table) {
                let message = format!("permission denied for table {}", table.def.name);
                return Err(SqlError::new(sqlstate::NOT_ALLOWED, message)
                    .with_hint("only a part of its rows is granted: they cannot be written"));
            }
            return Ok(table);
        }
        let seen = find(&frame.snapshot, search_path, name)?;
        let message = format!("permission denied for table {}", seen.def.name);
        Err(SqlError::new(sqlstate::NOT_ALLOWED, message)
            .with_hint("it takes a grant with the right \"insert\" on this table"))
    }

    pub(super) async fn insert(
        &self,
        insert: &Insert,
        params: Vec<Parameter>,
    ) -> SqlResult<Outcome> {
        self.check_writable("INSERT")?;
        let frame = self.frame()?;
        let mut rows = self.rows(&frame, &insert.table, insert.columns.as_deref())?;
        match &insert.source {
            None => rows.push(&[])?,
            Some(source) => {
                let inner = frame.detached();
                let (source, types) = (source.clone(), fields(&rows.target));
                let all_named = insert.columns.is_some();
                let columns =
                    rows.target.columns().map(|c| c.column_type.clone()).collect::<Vec<_>>();
                let started = frame.on_threads(async move {
                    let source = with_types(&source, &columns, all_named)?;
                    let plan = plan::logical(&inner.state, &source, &types_of(&params)).await?;
                    let plan = typed(plan, &types, all_named)?;
                    inner.open(plan::with_params(plan, params)?, &OutputNames::default()).await
                });
                let Started { stream, report, .. } = started.await?;
                self.tell(&report);
                let mut stream = frame.guard.clone().watch(stream);
                while let Some(batch) = stream.next().await {
                    push_all(&mut rows, &batch.map_err(SqlError::from)?)?;
                    if rows.is_piece() {
                        rows.check().map_err(|(row, e)| in_row(row, e))?;
                    }
                }
            }
        }
        rows.check().map_err(|(row, e)| in_row(row, e))?;
        let count = rows.taken;
        frame.guard.run(self.accept(rows)).await?;
        Ok(tagged(format!("INSERT 0 {count}")))
    }

    pub(super) async fn describe_insert(
        &self,
        insert: &Insert,
        given: &[Option<FieldRef>],
    ) -> SqlResult<Description> {
        let frame = self.frame()?;
        let rows = self.rows(&frame, &insert.table, insert.columns.as_deref())?;
        let Some(source) = insert.source.clone() else {
            return Ok(Description { params: Vec::new(), schema: None });
        };
        let columns: Vec<_> = rows.target.columns().map(|c| c.column_type.clone()).collect();
        let (inner, given) = (frame.detached(), given.to_vec());
        let all_named = insert.columns.is_some();
        let described = frame.on_threads(async move {
            let source = with_types(&source, &columns, all_named)?;
            inner.describe(&source, &given).await
        });
        Ok(Description { schema: None, ..described.await? })
    }

    pub(super) fn copy_in(&self, copy: &CopyFrom) -> SqlResult<Outcome> {
        self.check_writable("COPY FROM")?;
        let frame = self.frame()?;
        let rows = self.rows(&frame, &copy.table, copy.columns.as_deref())?;
        Ok(Outcome::CopyIn(Box::new(CopyIn { rows, format: copy.format.clone(), observed: None })))
    }

    /// Takes one row of a COPY, a value for each column. Whether enough has come together for
    /// [`Self::copy_piece`].
    pub fn copy_row(&self, copy: &mut CopyIn, values: &[ScalarValue]) -> SqlResult<bool> {
        copy.rows.push(values)?;
        Ok(copy.rows.is_piece())
    }

    /// Checks the rows that came since the last time, and where nothing holds them back writes those of before.
    /// An error comes with the number of its row, from 1, as far as it is one row's.
    pub async fn copy_piece(&self, copy: &mut CopyIn) -> Result<(), (Option<u64>, SqlError)> {
        let rows = &mut copy.rows;
        rows.check().map_err(|(row, e)| (Some(row), e))?;
        if self.is_held() || rows.bytes < PIECE_BYTES {
            return Ok(());
        }
        let records = std::mem::take(&mut rows.records);
        let (count, written) = (records.len() as u64, rows.written);
        let visible = self.waits();
        rows.appender
            .append(&rows.table, records, visible)
            .await
            .map_err(|e| (None, after(written, e)))?;
        rows.written += count;
        rows.memory.free();
        rows.bytes = 0;
        Ok(())
    }

    /// Ends a COPY; gives its command tag.
    pub async fn copy_end(&self, mut copy: CopyIn) -> Result<String, (Option<u64>, SqlError)> {
        let written = copy.rows.written;
        let mut observed = copy.observed.take();
        let guard = Guard::new(self.cancel.arm(), self.statement_timeout());
        let ended = match copy.rows.check() {
            Err((row, e)) => Err((Some(row), after(written, e))),
            Ok(()) => {
                let count = copy.rows.taken;
                let accepted = guard.run(self.accept(copy.rows)).await;
                accepted.map(|()| count).map_err(|e| (None, after(written, e)))
            }
        };
        if let Some(observed) = &mut observed {
            match &ended {
                Ok(count) => observed.stands(*count, None),
                Err((_, e)) => observed.stands(written, Some(e.sqlstate.into())),
            }
        }
        ended.map(|count| format!("COPY {count}"))
    }

    /// Says of a COPY that failed what was written nevertheless.
    pub fn copy_failed(&self, copy: &CopyIn, e: SqlError) -> SqlError {
        self.fail();
        after(copy.rows.written, e)
    }

    fn rows(&self, frame: &Frame, name: &TableName, columns: Option<&[String]>) -> SqlResult<Rows> {
        let path = self.inner.lock().settings.search_path(&self.user);
        let table = self.appendable(frame, &path, name)?;
        let Some(appender) = self.engine.appender() else {
            return Err(SqlError::unsupported("INSERT and COPY FROM are not supported here"));
        };
        appender.check_table(&table)?;
        let target = Target::new(&table, columns)?;
        let (schema, name) = (&table.def.schema, &table.def.name);
        let allowed = self.identity.as_ref().and_then(|user| user.insert_columns(schema, name));
        if let Some(allowed) = allowed
            && target.columns().any(|column| !allowed.contains(&column.name.as_str()))
        {
            let message = format!("permission denied for table {name}");
            return Err(SqlError::new(sqlstate::NOT_ALLOWED, message).with_hint(format!(
                "name the columns that may be written: {}",
                allowed.join(", ")
            )));
        }
        Ok(Rows {
            target,
            table,
            whose: self.identity.clone(),
            appender: Arc::clone(appender),
            fresh: Vec::new(),
            fresh_bytes: 0,
            records: Vec::new(),
            bytes: 0,
            memory: self.engine.reservation("appended records"),
            taken: 0,
            written: 0,
        })
    }

    /// Refuses to write in a transaction that only reads.
    pub(super) fn check_writable(&self, what: &str) -> SqlResult<()> {
        let inner = self.inner.lock();
        let read_only = match &inner.transaction {
            Some(transaction) => transaction.read_only,
            None => inner.settings.value("default_transaction_read_only") == "on",
        };
        if !read_only {
            return Ok(());
        }
        let message = format!("cannot execute {what} in a read-only transaction");
        Err(SqlError::new(sqlstate::READ_ONLY, message))
    }

    /// Whether records wait for the end of a transaction or of the text.
    fn is_held(&self) -> bool {
        let inner = self.inner.lock();
        inner.transaction.is_some() || inner.holding
    }

    fn waits(&self) -> bool {
        self.inner.lock().settings.value(WAIT) == "visible"
    }

    /// Writes the rows of a statement, or puts them aside for the end of the transaction.
    async fn accept(&self, rows: Rows) -> SqlResult<()> {
        let Rows { table, appender, records, bytes, memory, .. } = rows;
        if records.is_empty() {
            return Ok(());
        }
        if self.is_held() {
            let mut inner = self.inner.lock();
            let waiting: usize = inner.pending.iter().map(|p| p.bytes).sum();
            if waiting + bytes > PENDING_BYTES_MAX {
                return Err(too_much());
            }
            inner.pending.push(Pending { table, records, bytes, _memory: memory });
            return Ok(());
        }
        appender.append(&table, records, self.waits()).await
    }

    /// Writes what a transaction put aside.
    pub(super) async fn write_pending(&self) -> SqlResult<()> {
        let pending = std::mem::take(&mut self.inner.lock().pending);
        let Some(appender) = self.engine.appender() else { return Ok(()) };
        let (visible, mut written) = (self.waits(), 0_u64);
        let mut pending = pending.into_iter().peekable();
        while let Some(Pending { table, mut records, .. }) = pending.next() {
            while let Some(more) = pending.next_if(|next| next.table.id == table.id) {
                records.extend(more.records);
            }
            let count = records.len() as u64;
            appender.append(&table, records, visible).await.map_err(|e| after(written, e))?;
            written += count;
        }
        Ok(())
    }

    /// From here on statements are those of one text, an implicit transaction: what they append is written at its
    /// end. Whether there was none before.
    pub fn hold(&self) -> bool {
        let mut inner = self.inner.lock();
        let first = inner.transaction.is_none() && !inner.holding;
        inner.holding |= first;
        first
    }

    /// Ends what [`Self::hold`] began: writes what was put aside, or after an error forgets it.
    pub async fn let_go(&self, keep: bool) -> SqlResult<()> {
        {
            let mut inner = self.inner.lock();
            inner.holding = false;
            if inner.transaction.is_some() {
                return Ok(());
            }
            if !keep {
                inner.pending.clear();
            }
        }
        self.write_pending().await
    }
}

/// The error, and in its detail how many rows were written before it.
fn after(written: u64, e: SqlError) -> SqlError {
    if written == 0 {
        return e;
    }
    let told = format!("{written} rows before it are written: a log takes nothing back");
    let detail = match &e.detail {
        Some(detail) => format!("{detail}\n{told}"),
        None => told,
    };
    SqlError { detail: Some(detail), ..e }
}

fn in_row(row: u64, e: SqlError) -> SqlError {
    if e.detail.is_some() { e } else { e.with_detail(format!("in row {row}")) }
}

fn fields(target: &Target) -> Vec<FieldRef> {
    target.columns().map(field).collect()
}

/// The rows of a plan in the types of the columns.
fn typed(plan: LogicalPlan, types: &[FieldRef], all_named: bool) -> SqlResult<LogicalPlan> {
    let columns: Vec<Column> = plan.schema().columns();
    check_count(columns.len(), types.len(), all_named)?;
    let own = plan.schema().fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    let exprs =
        columns.into_iter().zip(own).zip(types).enumerate().map(|(at, ((column, own), to))| {
            let value = Expr::Column(column);
            let value =
                if own == *to.data_type() { value } else { cast(value, to.data_type().clone()) };
            value.alias(format!("c{at}"))
        });
    let exprs: Vec<Expr> = exprs.collect();
    LogicalPlanBuilder::from(plan)
        .project(exprs)
        .and_then(LogicalPlanBuilder::build)
        .map_err(SqlError::from)
}

fn push_all(rows: &mut Rows, batch: &RecordBatch) -> SqlResult<()> {
    let mut values = Vec::with_capacity(batch.num_columns());
    for row in 0..batch.num_rows() {
        values.clear();
        for column in batch.columns() {
            values.push(ScalarValue::try_from_array(column, row).map_err(SqlError::from)?);
        }
        rows.push(&values)?;
    }
    Ok(())
}
