//! Which rows of a batch came from which partitions: needed when a partition is lost with rows still hot.

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::Int32Type;

use crate::catalog::{PARTITION_COLUMN, Source, TOPIC_COLUMN};
use crate::compiled::CompiledTable;
use crate::error::{Error, Result};
use crate::position::TopicPartition;

/// True for rows whose partition is not `lost`.
pub(crate) fn keep_rows(
    table: &CompiledTable,
    batch: &RecordBatch,
    lost: &dyn Fn(&TopicPartition) -> bool,
) -> Result<BooleanArray> {
    let missing = |name: &str| Error::internal(format!("hot batch without column {name:?}"));
    let partitions = batch
        .column_by_name(PARTITION_COLUMN)
        .and_then(|c| c.as_primitive_opt::<Int32Type>())
        .ok_or_else(|| missing(PARTITION_COLUMN))?;
    let topics = batch.column_by_name(TOPIC_COLUMN).and_then(|c| c.as_string_view_opt());
    let only: &str = match &table.def.source {
        Source::Topics(topics) => topics.first().map_or("", String::as_str),
        Source::File(path) => path,
        Source::Pattern(_) => "",
    };
    let mut keep = Vec::with_capacity(batch.num_rows());
    let mut last: Option<(TopicPartition, bool)> = None;
    for row in 0..batch.num_rows() {
        let topic = topics.map_or(only, |t| t.value(row));
        let partition = partitions.value(row);
        let known =
            last.as_ref().filter(|(tp, _)| *tp.topic == *topic && tp.partition == partition);
        let is_lost = match known {
            Some((_, is_lost)) => *is_lost,
            None => {
                let tp = TopicPartition::new(topic, partition);
                let is_lost = lost(&tp);
                last = Some((tp, is_lost));
                is_lost
            }
        };
        keep.push(!is_lost);
    }
    Ok(BooleanArray::from(keep))
}
