//! Who is told of every statement of a session when it has ended: with its last row, with its failure, or because
//! its reader went away.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result as DfResult;
use datafusion::execution::RecordBatchStream;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::{Stream, StreamExt};
use tokio::time::Instant;

use crate::error::{SqlError, SqlResult, sqlstate};
use crate::outcome::Outcome;

/// A statement that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// Its text, as the client sent it.
    pub text: &'a str,
    /// From its beginning to its last row.
    pub duration: Duration,
    /// Rows given.
    pub rows: u64,
    /// Why it failed; none = it did not. A statement whose reader went away was cancelled.
    pub sqlstate: Option<&'a str>,
}

/// Is told of the statements of a session.
pub trait StatementObserver: fmt::Debug + Send + Sync {
    /// A statement has ended. Called where rows are read, so it must not wait.
    fn ended(&self, statement: &Ended<'_>);
}

/// A statement that runs; its observer is told when it is dropped.
#[derive(Debug)]
pub(crate) struct Observed {
    /// None once there is nothing to tell.
    observer: Option<Arc<dyn StatementObserver>>,
    text: Arc<str>,
    begun: Instant,
    rows: u64,
    /// What it would end with now.
    sqlstate: Option<Cow<'static, str>>,
}

impl Observed {
    /// A statement that begins.
    pub(crate) fn begin(observer: &Arc<dyn StatementObserver>, text: &str) -> Self {
        Self {
            observer: Some(Arc::clone(observer)),
            text: text.into(),
            begun: Instant::now(),
            rows: 0,
            sqlstate: Some(sqlstate::CANCELED.into()),
        }
    }

    /// The statement could not be run.
    pub(crate) fn failed(mut self, error: &SqlError) {
        self.sqlstate = Some(error.sqlstate.into());
    }

    /// What it would end with now: after so many rows, and why not well.
    pub(crate) fn stands(&mut self, rows: u64, sqlstate: Option<Cow<'static, str>>) {
        (self.rows, self.sqlstate) = (rows, sqlstate);
    }

    /// There is nothing to tell.
    pub(crate) fn forgotten(mut self) {
        self.observer = None;
    }

    /// The statement has begun to answer: its rows are counted as they are read.
    pub(crate) fn answers(mut self, result: SqlResult<Outcome>) -> SqlResult<Outcome> {
        match result {
            Ok(Outcome::Rows { schema, stream, tag, snapshot }) => {
                let stream = self.over(stream);
                Ok(Outcome::Rows { schema, stream, tag, snapshot })
            }
            Ok(Outcome::CopyOut { schema, stream, format }) => {
                let stream = self.over(stream);
                Ok(Outcome::CopyOut { schema, stream, format })
            }
            Ok(Outcome::CopyIn(mut copy)) => {
                copy.observed = Some(self);
                Ok(Outcome::CopyIn(copy))
            }
            Ok(done) => {
                self.sqlstate = None;
                Ok(done)
            }
            Err(e) => {
                self.failed(&e);
                Err(e)
            }
        }
    }

    fn over(self, stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
        Box::pin(Rows { stream, observed: self })
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let Some(observer) = self.observer.take() else { return };
        observer.ended(&Ended {
            text: &self.text,
            duration: self.begun.elapsed(),
            rows: self.rows,
            sqlstate: self.sqlstate.as_deref(),
        });
    }
}

/// The rows of a statement on their way to the client.
struct Rows {
    stream: SendableRecordBatchStream,
    observed: Observed,
}

impl Stream for Rows {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = std::task::ready!(self.stream.poll_next_unpin(cx));
        Poll::Ready(match item {
            Some(Ok(batch)) => {
                let rows = u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
                self.observed.rows = self.observed.rows.saturating_add(rows);
                Some(Ok(batch))
            }
            Some(Err(e)) => {
                let e = SqlError::from(e);
                self.observed.sqlstate = Some(e.sqlstate.into());
                Some(Err(e.into()))
            }
            None => {
                self.observed.sqlstate = None;
                None
            }
        })
    }
}

impl RecordBatchStream for Rows {
    fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }
}
