//! Where records stand in their logs: what orders them where nothing else does, for whoever may not see it too.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::DataFusionError;
use otus_engine::catalog::{OFFSET_COLUMN, PARTITION_COLUMN, TOPIC_COLUMN};
use otus_engine::compiled::CompiledTable;
use otus_engine::restriction::RowGuard;

use super::Guard;
use super::guard::UNMASKED;
use crate::error::{SqlError, SqlResult};

/// A table with the columns that say where each of its records stands, for what a statement does not show.
pub(crate) struct Places {
    /// The table with these columns, whatever the user may see of them.
    pub(crate) table: Arc<CompiledTable>,
    /// Their names in it.
    pub(crate) names: Vec<String>,
    /// Whether the user may not see all of their values.
    pub(crate) hidden: bool,
}

impl Places {
    /// Of a table as a user sees it.
    pub(crate) fn of(table: &Arc<CompiledTable>) -> SqlResult<Self> {
        let masked = table.guard().map_or(&[] as &[String], |guard| guard.masked());
        let topic = table.def.source.is_many().then_some(TOPIC_COLUMN);
        let (mut names, mut added) = (Vec::new(), Vec::new());
        for name in topic.into_iter().chain([PARTITION_COLUMN, OFFSET_COLUMN]) {
            let is_masked = masked.iter().any(|masked| masked == name);
            if !is_masked && table.schema.index_of(name).is_ok() {
                names.push(name.to_owned());
                continue;
            }
            let shown = if is_masked { format!("{UNMASKED}{name}") } else { name.to_owned() };
            let whole = table.restriction.as_ref().map_or(table, |part| &part.whole);
            let field = whole.schema.field_with_name(name).map_err(DataFusionError::from)?;
            added.push(Arc::new(field.clone().with_name(&shown)));
            names.push(shown);
        }
        let hidden = !added.is_empty();
        let Some(part) = table.restriction.as_ref().filter(|_| hidden) else {
            return Ok(Self { table: Arc::clone(table), names, hidden });
        };
        let fields: Vec<_> = table.schema.fields().iter().cloned().chain(added).collect();
        let metadata = table.schema.metadata().clone();
        let schema: SchemaRef = Arc::new(Schema::new_with_metadata(fields, metadata));
        let guard = part.guard.as_ref().map(|guard| widened(guard.as_ref(), &schema, &names));
        let table = part.whole.restricted(schema, guard.transpose()?)?;
        Ok(Self { table: Arc::new(table), names, hidden })
    }
}

/// A guard that gives the columns of `schema`.
fn widened(
    guard: &dyn RowGuard,
    schema: &SchemaRef,
    names: &[String],
) -> SqlResult<Arc<dyn RowGuard>> {
    let Some(guard) = (guard as &dyn Any).downcast_ref::<Guard>() else {
        return Err(SqlError::internal("a row filter of an unknown kind"));
    };
    let mut guard = guard.clone();
    guard.schema = Arc::clone(schema);
    // Files do not know these names, so that nothing may be asked of files by them.
    guard.masked.extend(names.iter().filter(|name| name.starts_with(UNMASKED)).cloned());
    Ok(Arc::new(guard))
}
