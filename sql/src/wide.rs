//! Rows that joins and unnested arrays repeat are measured: an array, or a text that has no view, is copied for each row
//! that it appears in, and one made by an aggregate may be as large as all that it gathered. What a batch of such copies
//! takes counts to the memory of queries before it is built.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::JoinType;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
    SendableRecordBatchStream,
};
use futures::StreamExt;

use crate::bounded::FEW_ROWS;
use crate::physical::{Node, Rule, each, only, over};
use crate::windows::{bytes_of, own_bytes};

/// What a batch of copies may take without being counted.
const FREE_BYTES: usize = 1 << 20;

/// Puts [`MeasuredExec`] below what repeats rows. To run after all rules that look for joins.
pub(crate) fn rule() -> Rule {
    each("repeated_rows", |node, config| {
        // Where texts may be of any length: what is made of them is none that is shared.
        let views = config.execution.batch_size.get() <= FEW_ROWS;
        let unnested = node.downcast_ref::<UnnestExec>().map(unnested);
        if unnested.is_none() && !repeats(&node) {
            return Ok(Transformed::no(node));
        }
        let inputs: Vec<_> = node.children().into_iter().map(Arc::clone).collect();
        let measured: Vec<_> =
            inputs.iter().map(|i| measured(i, unnested.as_deref(), views)).collect();
        if measured.iter().all(Option::is_none) {
            return Ok(Transformed::no(node));
        }
        let inputs = inputs.into_iter().zip(measured);
        let inputs = inputs.map(|(plain, measured)| measured.unwrap_or(plain)).collect();
        Ok(Transformed::yes(over(node, inputs)?))
    })
}

fn unnested(node: &UnnestExec) -> Vec<usize> {
    node.list_column_indices().iter().map(|list| list.index_in_input_schema).collect()
}

/// Whether rows of an input may come out several times.
fn repeats(node: &Arc<dyn ExecutionPlan>) -> bool {
    let of = |kind: JoinType| {
        matches!(kind, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
    };
    node.is::<CrossJoinExec>()
        || node.downcast_ref::<HashJoinExec>().is_some_and(|join| of(*join.join_type()))
        || node.downcast_ref::<NestedLoopJoinExec>().is_some_and(|join| of(*join.join_type()))
        || node.downcast_ref::<SortMergeJoinExec>().is_some_and(|join| of(join.join_type()))
}

/// The input with its copied columns measured, if it has any; `unnested`: columns that become rows.
fn measured(
    input: &Arc<dyn ExecutionPlan>,
    unnested: Option<&[usize]>,
    views: bool,
) -> Option<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let is_wide = |at: &usize| is_copied(schema.field(*at).data_type(), views);
    let wide = (0..schema.fields().len()).filter(|at| !unnested.unwrap_or_default().contains(at));
    let wide: Vec<usize> = wide.filter(is_wide).collect();
    let lists = unnested.map(<[usize]>::to_vec);
    let input = Arc::clone(input);
    (!wide.is_empty()).then(|| Arc::new(MeasuredExec { input, wide, lists, views }) as _)
}

fn is_copied(of: &DataType, views: bool) -> bool {
    let short = of.is_primitive() || matches!(of, DataType::Boolean | DataType::Null);
    !short && (views || !matches!(of, DataType::Utf8View | DataType::BinaryView))
}

/// The same rows; counts what a batch of copies of the widest takes.
#[derive(Debug)]
struct MeasuredExec {
    input: Arc<dyn ExecutionPlan>,
    /// Columns that are copied.
    wide: Vec<usize>,
    /// Columns whose elements become rows; none = a batch of rows is made of any one.
    lists: Option<Vec<usize>>,
    /// Whether texts that views share count as well.
    views: bool,
}

impl DisplayAs for MeasuredExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let schema = self.input.schema();
        let names = |schema: &Schema| {
            let names = self.wide.iter().map(|at| schema.field(*at).name().clone());
            names.collect::<Vec<_>>().join(", ")
        };
        write!(f, "MeasuredExec: wide=[{}]", names(&schema))
    }
}

impl ExecutionPlan for MeasuredExec {
    fn name(&self) -> &'static str {
        "MeasuredExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Node>) -> DfResult<Node> {
        let (wide, lists) = (self.wide.clone(), self.lists.clone());
        Ok(Arc::new(Self { input: only(children)?, wide, lists, views: self.views }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let mut widest = Widest {
            wide: self.wide.clone(),
            lists: self.lists.clone(),
            bytes: if self.views { bytes_of } else { own_bytes },
            batch_rows: context.session_config().batch_size(),
            counted: MemoryConsumer::new("wide rows").register(context.memory_pool()),
        };
        let rows = self.input.execute(partition, context)?;
        let rows = rows.map(move |batch| {
            let batch = batch?;
            widest.count(&batch)?;
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

struct Widest {
    wide: Vec<usize>,
    lists: Option<Vec<usize>>,
    bytes: fn(&ArrayRef) -> usize,
    batch_rows: usize,
    counted: MemoryReservation,
}

impl Widest {
    fn count(&mut self, batch: &RecordBatch) -> DfResult<()> {
        let columns: Vec<_> = self.wide.iter().map(|at| batch.column(*at)).collect();
        let known = self.counted.size().max(FREE_BYTES);
        let all = columns.iter().map(|column| (self.bytes)(column)).sum::<usize>();
        let most = (0..batch.num_rows()).map(|row| self.times(batch, row)).max().unwrap_or(0);
        if all.saturating_mul(most) <= known {
            return Ok(());
        }
        let taken = (0..batch.num_rows()).map(|row| {
            let width = columns.iter().map(|column| (self.bytes)(&column.slice(row, 1)));
            width.sum::<usize>().saturating_mul(self.times(batch, row))
        });
        match taken.max().unwrap_or(0) {
            bytes if bytes > known => self.counted.try_resize(bytes),
            _ => Ok(()),
        }
    }

    /// How often a row may be in one batch.
    fn times(&self, batch: &RecordBatch, row: usize) -> usize {
        let lists = self.lists.iter().flatten();
        let longest = lists.map(|at| length(batch.column(*at), row)).max().unwrap_or(0);
        longest.max(self.batch_rows)
    }
}

/// Elements of a row's array.
fn length(array: &ArrayRef, row: usize) -> usize {
    match array.data_type() {
        DataType::List(_) => usize::try_from(array.as_list::<i32>().value_length(row)).unwrap_or(0),
        DataType::LargeList(_) => {
            usize::try_from(array.as_list::<i64>().value_length(row)).unwrap_or(0)
        }
        DataType::FixedSizeList(_, size) => usize::try_from(*size).unwrap_or(0),
        _ => 1,
    }
}
