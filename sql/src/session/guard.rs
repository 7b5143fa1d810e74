//! What can stop a statement: its client's cancel, its timeout, the age of its snapshot. A guard watches
//! both planning and the stream of rows; the work itself stops because its task is dropped, and where it
//! does not yield, because it looks whether its statement is over.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::RecordBatchStream;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::stop::Stop;
use crate::error::{SqlError, SqlResult};

/// Cancels the statement that a session runs at that moment; without one, does nothing.
#[derive(Clone, Debug, Default)]
pub struct CancelHandle(Arc<Mutex<Option<watch::Sender<bool>>>>);

impl CancelHandle {
    /// Stops the running statement with SQLSTATE 57014.
    pub fn cancel(&self) {
        if let Some(sender) = &*self.0.lock() {
            sender.send_replace(true);
        }
    }

    /// Begins a new statement: from here on a cancel means this one.
    pub(crate) fn arm(&self) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        *self.0.lock() = Some(sender);
        receiver
    }
}

/// Watches one statement.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    cancel: watch::Receiver<bool>,
    deadline: Option<Instant>,
    /// Trips when the last of the statement's guards and streams is gone.
    stop: Option<Arc<Stop>>,
}

impl Guard {
    pub(crate) fn new(cancel: watch::Receiver<bool>, timeout: Option<Duration>) -> Self {
        Self { cancel, deadline: timeout.map(|t| Instant::now() + t), stop: None }
    }

    /// Tells the work, too, when the statement is over.
    pub(super) fn telling(self, stop: Stop) -> Self {
        Self { stop: Some(Arc::new(stop)), ..self }
    }

    /// The same, for the work itself: it does not keep its statement alive.
    pub(super) fn detached(&self) -> Self {
        Self { stop: None, ..self.clone() }
    }

    /// Keeps the work going as long as it is held.
    pub(super) fn stop(&self) -> Option<Arc<Stop>> {
        self.stop.clone()
    }

    /// Waits for what ends the statement early, and says what it was.
    async fn stopped(mut self) -> SqlError {
        let cancelled = async {
            // A sender that is gone belongs to a statement that was followed by another: never cancels.
            if self.cancel.wait_for(|cancelled| *cancelled).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match self.deadline {
            None => {
                cancelled.await;
                SqlError::canceled()
            }
            Some(deadline) => tokio::select! {
                biased;
                () = cancelled => SqlError::canceled(),
                () = tokio::time::sleep_until(deadline) => SqlError::timed_out(),
            },
        }
    }

    /// Runs `work` unless it is stopped first.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = SqlResult<T>>) -> SqlResult<T> {
        tokio::select! {
            biased;
            e = self.detached().stopped() => {
                if let Some(stop) = &self.stop {
                    stop.trip();
                }
                Err(e)
            }
            result = work => result,
        }
    }

    /// A stream that ends with an error when the statement is stopped.
    pub(crate) fn watch(self, stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let schema = stream.schema();
        let stop = self.stop();
        let stopped = Box::pin(self.detached().stopped());
        Box::pin(Watched { stopped, stream: Some(stream), schema, stop })
    }
}

struct Watched {
    stopped: Pin<Box<dyn Future<Output = SqlError> + Send>>,
    /// None once it has ended, so that its work is dropped at once.
    stream: Option<SendableRecordBatchStream>,
    schema: SchemaRef,
    stop: Option<Arc<Stop>>,
}

impl Stream for Watched {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stream.is_none() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(e) = self.stopped.as_mut().poll(cx) {
            if let Some(stop) = self.stop.take() {
                stop.trip();
            }
            self.stream = None;
            return Poll::Ready(Some(Err(DataFusionError::from(e))));
        }
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let next = futures::ready!(stream.as_mut().poll_next(cx));
        if !matches!(next, Some(Ok(_))) {
            self.stream = None;
        }
        Poll::Ready(next)
    }
}

impl RecordBatchStream for Watched {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
