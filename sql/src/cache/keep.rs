//! Answers on their way to be kept: what a client is given passes at once and is copied on the side, as long
//! as it fits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{ArrayRef, AsArray, UInt64Array};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result as DfResult;
use datafusion::execution::RecordBatchStream;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::Stream;
use otus_engine::snapshot::Snapshot;

use super::{Answers, Content, Kept, Key, Reserved, Tag};
use crate::rewrite::Report;

/// An answer under way. Kept when all of it has come; dropped before that, nothing is.
#[derive(Debug)]
pub(crate) struct Keeping {
    key: Arc<Key>,
    snapshot: Arc<Snapshot>,
    tag: Option<Tag>,
    reserved: Reserved,
}

impl Keeping {
    /// For an answer of the snapshot's moment; none if there is no room for its key.
    pub(crate) fn begin(
        answers: &Arc<Answers>,
        key: &Arc<Key>,
        snapshot: &Arc<Snapshot>,
        tag: Option<Tag>,
    ) -> Option<Self> {
        let mut reserved = Reserved { answers: Arc::clone(answers), bytes: 0 };
        let (key, snapshot) = (Arc::clone(key), Arc::clone(snapshot));
        reserved.grow(key.bytes()).then_some(Self { key, snapshot, tag, reserved })
    }

    /// Keeps a body.
    pub(crate) fn body(mut self, body: &Bytes) {
        if self.reserved.grow(body.len()) {
            self.end(Content::Body(body.clone()));
        }
    }

    /// The same stream, whose rows are kept.
    pub(crate) fn rows(
        self,
        stream: SendableRecordBatchStream,
        report: Report,
    ) -> SendableRecordBatchStream {
        Box::pin(Passing { stream, kept: Some((self, report, Vec::new())) })
    }

    fn end(mut self, content: Content) {
        let kept = Kept {
            content,
            at_us: self.snapshot.pinned_at_us(),
            sequence: self.snapshot.sequence(),
            tag: self.tag,
        };
        let answers = Arc::clone(&self.reserved.answers);
        answers.keep(self.key, kept, &self.snapshot, &mut self.reserved.bytes);
    }
}

struct Passing {
    stream: SendableRecordBatchStream,
    /// None once it is not to be kept.
    kept: Option<(Keeping, Report, Vec<RecordBatch>)>,
}

impl Passing {
    fn pass(&mut self, batch: &RecordBatch) {
        let Some((keeping, _, batches)) = &mut self.kept else { return };
        let copied = own(batch, keeping.reserved.answers.bytes_max);
        let fits = copied.as_ref().is_some_and(|batch| {
            keeping.reserved.grow(batch.get_array_memory_size() + size_of::<RecordBatch>())
        });
        match copied {
            Some(batch) if fits => batches.push(batch),
            _ => self.kept = None,
        }
    }

    fn end(&mut self) {
        let Some((keeping, report, batches)) = self.kept.take() else { return };
        let (schema, batches) = (self.stream.schema(), batches.into());
        keeping.end(Content::Rows { schema, batches, report });
    }
}

/// The rows in buffers of their own, as a few rows must not keep alive the chunk that they come from; none if
/// that fails or they are too many to try.
fn own(batch: &RecordBatch, bytes_max: usize) -> Option<RecordBatch> {
    if batch.get_array_memory_size() > bytes_max {
        return None;
    }
    let rows = u64::try_from(batch.num_rows()).ok()?;
    let places = UInt64Array::from_iter_values(0..rows);
    let copied = |column: &ArrayRef| -> Result<ArrayRef, ArrowError> {
        let column = arrow::compute::take(column, &places, None)?;
        Ok(match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => column,
        })
    };
    let columns = batch.columns().iter().map(copied).collect::<Result<Vec<_>, _>>().ok()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options).ok()
}

impl Stream for Passing {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = futures::ready!(self.stream.as_mut().poll_next(cx));
        match &next {
            Some(Ok(batch)) => self.pass(batch),
            Some(Err(_)) => self.kept = None,
            None => self.end(),
        }
        Poll::Ready(next)
    }
}

impl RecordBatchStream for Passing {
    fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }
}
