//! What is known of a table's rows before a query runs.

use std::collections::HashMap;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::Column;
use datafusion::functions_aggregate::min_max::{max, min};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use futures::TryStreamExt;
use otus_engine::catalog::TableId;
use otus_engine::compiled::CompiledTable;
use otus_engine::snapshot::Snapshot;

use super::pattern::{Entry, KeyOption, Pattern, Target};
use super::plan::Ground;
use super::table::{event_tables, tree_name};
use super::value::{Map, Value};
use crate::error::{SqlError, SqlResult};
use crate::session::{PinnedState, Session};

/// Times of the oldest and the newest raw row of tables. Files say them; of a table of which not all rows may be seen
/// they are asked of the rows, where a pattern needs them.
#[derive(Debug, Default)]
pub(super) struct TimeRanges(HashMap<TableId, Option<(i64, i64)>>);

impl TimeRanges {
    /// Those that a pattern needs.
    pub(super) async fn of(
        session: &Session,
        pinned: &PinnedState,
        pattern: &Pattern,
    ) -> SqlResult<Self> {
        let mut known = HashMap::new();
        let guarded = event_tables(pinned.snapshot()).filter(|table| table.guard().is_some());
        for table in guarded.filter(|table| needs(pattern, &tree_name(table))) {
            let ground = Ground { state: pinned.state(), snapshot: pinned.snapshot(), table };
            known.insert(table.id, asked(session, pinned, &ground).await?);
        }
        Ok(Self(known))
    }

    /// That of one table; none if it has no rows, or if it was not known to be needed.
    pub(super) fn get(&self, snapshot: &Snapshot, table: &CompiledTable) -> Option<(i64, i64)> {
        match table.guard() {
            Some(_) => self.0.get(&table.id).copied().flatten(),
            None => time_range(snapshot, table),
        }
    }
}

fn time_range(snapshot: &Snapshot, table: &CompiledTable) -> Option<(i64, i64)> {
    let files = snapshot.raw_files(table.id).iter().filter_map(|file| file.time);
    let hot = snapshot.hot(table.id).iter().filter_map(|chunk| chunk.time_range());
    files.chain(hot).reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))
}

/// Whether a pattern asks for the bounds of a table, or for a window that ends with its newest event.
fn needs(pattern: &Pattern, table: &str) -> bool {
    let Pattern::Map(root) = pattern else { return false };
    let table = Value::keyword(table);
    root.entries.iter().any(|part| {
        let Target::Into(Pattern::Map(tables)) = &part.target else { return false };
        let mut entries = tables.entries.iter().filter(|entry| entry.key == table);
        match part.key == Value::keyword("bounds") {
            true => entries.next().is_some(),
            false => entries.any(ends_with_data),
        }
    })
}

fn ends_with_data(entry: &Entry) -> bool {
    let anchored = |argument: &Value| {
        let Value::Map(argument) = argument else { return false };
        let window = argument.get_keyword("window");
        let map: Option<&Map> = window.and_then(|window| match window {
            Value::Map(map) => Some(map),
            _ => None,
        });
        let anchor = map.and_then(|map| map.get_keyword("anchor")).and_then(Value::as_name);
        anchor == Some("data")
    };
    entry.options.iter().any(|option| match option {
        KeyOption::With(arguments) => arguments.iter().any(anchored),
        KeyOption::Batch(calls) => calls.iter().flatten().any(anchored),
        _ => false,
    })
}

async fn asked(
    session: &Session,
    pinned: &PinnedState,
    ground: &Ground<'_>,
) -> SqlResult<Option<(i64, i64)>> {
    let time = Expr::Column(Column::new_unqualified(&ground.table.def.time));
    let ends = [min(time.clone()).alias("first"), max(time).alias("last")];
    let plan = LogicalPlanBuilder::scan("source", ground.source(), None)?
        .aggregate(Vec::<Expr>::new(), ends)?
        .build()?;
    let (stream, _) = session.run_plan(pinned, plan).await?;
    let batches: Vec<_> = stream.try_collect().await.map_err(SqlError::from)?;
    let Some(row) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let mut ends = [None; 2];
    for (end, column) in ends.iter_mut().zip(row.columns()) {
        let times = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None));
        let times = times.map_err(|e| SqlError::internal(e.to_string()))?;
        *end = times.as_primitive::<TimestampMicrosecondType>().iter().next().flatten();
    }
    let [first, last] = ends;
    Ok(first.zip(last))
}
