//! Windows count to the memory of queries: the rows that they keep, and the values that they make, of which one may be
//! as large as all rows. DataFusion's operators count neither.
//!
//! ```text
//!  WindowExec ── execute ──► Stream: what follows is polled with this window's account at hand
//!    WindowAggExec             functions of Counted and CountedRows charge each value they make
//!      Fed(input)              charges the rows that come in
//! ```

mod account;
mod ranks;
mod values;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties, RecordBatchStream,
    SendableRecordBatchStream,
};
use futures::{Stream, StreamExt};

use crate::physical::{Node, Rule, each, only, over};
use account::{Account, with};
pub(crate) use account::{bytes_of, own_bytes};
pub(crate) use values::{counted, is_counted};

pub(crate) use ranks::register;

/// Puts accounts on windows. To run after all rules that look for windows.
pub(crate) fn rule() -> Rule {
    each("window_accounts", |node, _| {
        if let Some(input) = sorted_nothing(&node) {
            return Ok(Transformed::yes(input));
        }
        let keeps_all = node.is::<WindowAggExec>();
        if keeps_all || node.is::<BoundedWindowAggExec>() {
            let window = WindowExec { window: fed(node)?, keeps_all };
            return Ok(Transformed::yes(Arc::new(window) as _));
        }
        Ok(Transformed::no(node))
    })
}

/// The input of a sort of rows without columns, as of `row_number() OVER (ORDER BY random())` alone: they are all the
/// same, and the operator cannot make batches of them.
fn sorted_nothing(node: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let sort = node.downcast_ref::<SortExec>().filter(|_| node.schema().fields().is_empty())?;
    let input = Arc::clone(sort.input());
    Some(match sort.fetch() {
        None => input,
        Some(rows) if sort.preserve_partitioning() => Arc::new(LocalLimitExec::new(input, rows)),
        Some(rows) => Arc::new(GlobalLimitExec::new(input, 0, Some(rows))),
    })
}

/// The window over rows that are charged as they come.
fn fed(window: Node) -> DfResult<Node> {
    let input = only(window.children().into_iter().map(Arc::clone).collect())?;
    over(window, vec![Arc::new(Fed(input))])
}

/// A window, over [`Fed`], with an account. It shows itself as that window.
#[derive(Debug)]
struct WindowExec {
    window: Arc<dyn ExecutionPlan>,
    /// Whether the window keeps all rows till it has seen the last.
    keeps_all: bool,
}

impl DisplayAs for WindowExec {
    fn fmt_as(&self, form: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.window.fmt_as(form, f)
    }
}

impl ExecutionPlan for WindowExec {
    fn name(&self) -> &str {
        self.window.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.window.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.window.children().into_iter().flat_map(|fed| fed.children()).collect()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.window.maintains_input_order()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        self.window.apply_expressions(f)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Node>) -> DfResult<Node> {
        let input: Node = Arc::new(Fed(only(children)?));
        let window = over(Arc::clone(&self.window), vec![input])?;
        Ok(Arc::new(Self { window, keeps_all: self.keeps_all }))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        self.window.cardinality_effect()
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.window.metrics()
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let reservation = MemoryConsumer::new("window").register(context.memory_pool());
        let account = Arc::new(Account::new(reservation, self.keeps_all));
        let batch_rows = context.session_config().batch_size().max(1);
        let rows = self.window.execute(partition, context)?;
        Ok(Box::pin(Accounted { rows, account, made: None, batch_rows }))
    }
}

/// The rows of a window, made with its account at hand.
struct Accounted {
    rows: SendableRecordBatchStream,
    account: Arc<Account>,
    /// What is not given out yet of a batch, which may have all rows.
    made: Option<RecordBatch>,
    batch_rows: usize,
}

impl Accounted {
    fn next_made(&mut self) -> Option<RecordBatch> {
        let made = self.made.take()?;
        let rows = made.num_rows().min(self.batch_rows);
        if rows < made.num_rows() {
            self.made = Some(made.slice(rows, made.num_rows() - rows));
        }
        Some(made.slice(0, rows))
    }
}

impl Stream for Accounted {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(batch) = self.next_made() {
            return Poll::Ready(Some(Ok(batch)));
        }
        let account = Arc::clone(&self.account);
        match with(&account, || self.rows.poll_next_unpin(cx)) {
            Poll::Ready(Some(Ok(batch))) => {
                account.given(batch.num_rows());
                self.made = Some(batch);
                Poll::Ready(self.next_made().map(Ok))
            }
            other => other,
        }
    }
}

impl RecordBatchStream for Accounted {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

/// The input of a window, charged to the account at hand.
#[derive(Debug)]
struct Fed(Arc<dyn ExecutionPlan>);

impl DisplayAs for Fed {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("FedExec")
    }
}

impl ExecutionPlan for Fed {
    fn name(&self) -> &'static str {
        "FedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.0]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Node>) -> DfResult<Node> {
        Ok(Arc::new(Self(only(children)?)))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        Ok(Box::pin(Charged(self.0.execute(partition, context)?)))
    }
}

struct Charged(SendableRecordBatchStream);

impl Stream for Charged {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Windows below have accounts of their own.
        let polled = self.0.poll_next_unpin(cx);
        let charged = match &polled {
            Poll::Ready(Some(Ok(batch))) => account::came(batch),
            Poll::Ready(None) => account::ended(),
            _ => Ok(()),
        };
        match charged {
            Ok(()) => polled,
            Err(e) => Poll::Ready(Some(Err(e))),
        }
    }
}

impl RecordBatchStream for Charged {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }
}
