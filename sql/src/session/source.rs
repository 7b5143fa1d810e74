//! Where the rows of a query come from: the query threads, through a short queue, or whoever asks for them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::error::Result as DfResult;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::run::Task;
use crate::error::SqlError;

/// Batches between the query threads and the reader.
const QUEUE_BATCHES: usize = 2;

/// Where rows come from.
pub(super) enum Source {
    /// The query threads, through a short queue.
    Threads { receiver: mpsc::Receiver<DfResult<RecordBatch>>, task: Task<()> },
    /// They are made where they are asked for.
    Here(SendableRecordBatchStream),
}

impl Source {
    /// Rows that a task on these threads makes.
    pub(super) fn threads(
        mut stream: SendableRecordBatchStream,
        schema: &SchemaRef,
        threads: &Handle,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_BATCHES);
        let shown = Arc::clone(schema);
        let task = threads.spawn(async move {
            while let Some(batch) = stream.next().await {
                let failed = batch.is_err();
                let batch = batch.and_then(|b| renamed(&b, &shown));
                if sender.send(batch).await.is_err() || failed {
                    return;
                }
            }
        });
        Self::Threads { receiver, task: Task(task) }
    }

    /// Makes no more of them.
    pub(super) fn abort(&self) {
        if let Self::Threads { task, .. } = self {
            task.0.abort();
        }
    }

    /// The next rows, under the columns to show.
    pub(super) fn poll(
        &mut self,
        schema: &SchemaRef,
        cx: &mut Context<'_>,
    ) -> Poll<Option<DfResult<RecordBatch>>> {
        let (receiver, task) = match self {
            Self::Threads { receiver, task } => (receiver, task),
            Self::Here(stream) => {
                let batch = futures::ready!(stream.as_mut().poll_next(cx));
                return Poll::Ready(batch.map(|batch| renamed(&batch?, schema)));
            }
        };
        if let Some(batch) = futures::ready!(receiver.poll_recv(cx)) {
            return Poll::Ready(Some(batch));
        }
        // The queue closes when the task ends; a panic there must not look like the end of the rows.
        Poll::Ready(match futures::ready!(Pin::new(&mut task.0).poll(cx)) {
            Ok(()) => None,
            Err(e) if e.is_cancelled() => Some(Err(SqlError::canceled().into())),
            Err(_) => Some(Err(SqlError::internal("the query failed unexpectedly").into())),
        })
    }
}

/// A batch under names that may repeat.
fn renamed(batch: &RecordBatch, schema: &SchemaRef) -> DfResult<RecordBatch> {
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = batch.columns().to_vec();
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)?)
}
