//! A keyed table as the planner sees it: a lookup where the query names keys, else all live rows.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::memory::DataSourceExec;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::scalar::ScalarValue;
use otus_engine::compiled::CompiledTable;
use otus_engine::keyed::{Key, KeyedTable};
use otus_engine::snapshot::Snapshot;

use super::guarded::{self, guard_of};
use super::keyed_source::{KeyedSource, Part, look_up, spread};
use super::scan::declared;
use crate::cache::Seen;
use crate::error::SqlError;

/// Keys that one lookup takes; with more, all rows are read.
pub(crate) const LOOKUP_KEYS: usize = 10_000;

/// A keyed table at one snapshot.
pub(crate) struct KeyedRows {
    table: Arc<CompiledTable>,
    rows: Arc<KeyedTable>,
    /// Number of the snapshot that it is of.
    sequence: u64,
    /// Only the columns that were declared.
    declared: Option<SchemaRef>,
}

impl KeyedRows {
    pub(crate) fn new(snapshot: &Snapshot, table: &Arc<CompiledTable>) -> DfResult<Self> {
        let Some(rows) = snapshot.keyed(table.id) else {
            let name = table.def.qualified_name();
            let e = SqlError::internal(format!("keyed table {name:?} is not in memory"));
            return Err(DataFusionError::from(e));
        };
        let (table, rows) = (Arc::clone(table), Arc::clone(rows));
        Ok(Self { table, rows, sequence: snapshot.sequence(), declared: None })
    }

    /// The same table with the declared columns alone, as `*` shows it.
    pub(crate) fn declared(self) -> Self {
        Self { declared: declared(&self.table), ..self }
    }

    /// The keys that every wanted row has one of, if the filters name them.
    fn keys(&self, filters: &[Expr]) -> Option<Vec<Key>> {
        let field = self.table.schema.field(self.table.key_index()?);
        let mut named = filters.iter().filter_map(|f| keys_of(f, field.name(), field.data_type()));
        let mut keys = named.next()?;
        let mut seen = HashSet::new();
        keys.retain(|key| seen.insert(key.clone()));
        for others in named {
            let others: HashSet<Key> = others.into_iter().collect();
            keys.retain(|key| others.contains(key));
        }
        (keys.len() <= LOOKUP_KEYS).then_some(keys)
    }

    /// Whether the lookup of what a filter names is all that the filter asks.
    fn is_lookup(&self, filter: &Expr) -> bool {
        let Some(index) = self.table.key_index() else { return false };
        let field = self.table.schema.field(index);
        let is_whole = match filter {
            Expr::BinaryExpr(b) => b.op == Operator::Eq,
            Expr::InList(list) => list.list.len() <= LOOKUP_KEYS,
            _ => false,
        };
        is_whole && keys_of(filter, field.name(), field.data_type()).is_some()
    }
}

/// Keys of which one must hold for a row to pass the filter.
fn keys_of(filter: &Expr, name: &str, data_type: &DataType) -> Option<Vec<Key>> {
    let is_key = |e: &Expr| matches!(e, Expr::Column(c) if c.name == name);
    match filter {
        Expr::BinaryExpr(b) if b.op == Operator::Eq && is_key(&b.left) => key(&b.right, data_type),
        Expr::BinaryExpr(b) if b.op == Operator::Eq && is_key(&b.right) => key(&b.left, data_type),
        Expr::BinaryExpr(b) if b.op == Operator::Or => {
            let mut keys = keys_of(&b.left, name, data_type)?;
            keys.extend(keys_of(&b.right, name, data_type)?);
            Some(keys)
        }
        Expr::BinaryExpr(b) if b.op == Operator::And => {
            keys_of(&b.left, name, data_type).or_else(|| keys_of(&b.right, name, data_type))
        }
        // What is left of a null in a list passes no row.
        Expr::Literal(value, _) if value.is_null() => Some(Vec::new()),
        Expr::InList(list) if !list.negated && is_key(&list.expr) => {
            let keys = list.list.iter().map(|e| key(e, data_type)).collect::<Option<Vec<_>>>()?;
            Some(keys.into_iter().flatten().collect())
        }
        _ => None,
    }
}

fn key(literal: &Expr, data_type: &DataType) -> Option<Vec<Key>> {
    let Expr::Literal(value, _) = literal else { return None };
    key_of(value, data_type)
}

/// The key that a value is; no key if it is null, which equals nothing.
pub(super) fn key_of(value: &ScalarValue, data_type: &DataType) -> Option<Vec<Key>> {
    if value.is_null() {
        return Some(Vec::new());
    }
    let key = match (data_type, value) {
        (DataType::Int64, value) => match value.cast_to(&DataType::Int64).ok()? {
            ScalarValue::Int64(Some(value)) => Key::Int(value),
            _ => return None,
        },
        (_, value) => Key::Text(value.try_as_str()??.to_string()),
    };
    Some(vec![key])
}

impl fmt::Debug for KeyedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyedRows({})", self.table.def.qualified_name())
    }
}

#[async_trait]
impl TableProvider for KeyedRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.declared.as_ref().unwrap_or(&self.table.schema))
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DfResult<Vec<TableProviderFilterPushDown>> {
        if let Some(guard) = guard_of(&self.table)? {
            return Ok(guarded::pushdown(guard, filters));
        }
        let exact = |filter: &&Expr| match self.is_lookup(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(exact).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        // The declared columns are the first ones.
        let all = self.declared.as_ref().map(|schema| (0..schema.fields().len()).collect());
        let projection = projection.or(all.as_ref());
        let Some(restriction) = &self.table.restriction else {
            return self.read(session, projection, filters, limit).await;
        };
        let whole = Self {
            table: Arc::clone(&restriction.whole),
            rows: Arc::clone(&self.rows),
            sequence: self.sequence,
            declared: None,
        };
        let output = guarded::output(&self.table.schema, projection)?;
        let guard = guard_of(&self.table)?;
        let inputs = guarded::inputs(guard, &restriction.whole.schema, &output)?;
        let Some(guard) = guard else {
            return whole.read(session, Some(&inputs), filters, limit).await;
        };
        let rows = whole.read(session, Some(&inputs), filters, None).await?;
        guarded::guarded(guard, rows, output, &self.table)
    }
}

impl KeyedRows {
    /// The scan of a table that is all there.
    async fn read(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        if let Some(seen) = Seen::of(session) {
            seen.moment(self.table.id, self.sequence);
        }
        let full = &self.table.schema;
        // The stored schema begins with the one that queries see.
        let columns = projection.cloned().unwrap_or_else(|| (0..full.fields().len()).collect());
        let schema = Arc::new(full.project(&columns)?);
        let table = self.table.def.qualified_name();
        let name = self.table.def.keyed().map(|k| k.key.clone()).unwrap_or_default();
        let (what, parts) = match self.keys(filters) {
            Some(keys) => {
                let found = keys.iter().filter_map(|key| self.rows.get(key)).collect();
                let rows = look_up(found, &columns, &schema).await?;
                let what = format!("keyed lookup: {table}, {name} in {} keys", keys.len());
                (what, vec![Part::Found(rows)])
            }
            None => {
                let parts = spread(self.rows.blocks(), session.config().target_partitions());
                let spilled = match self.rows.spilled_bytes() {
                    0 => String::new(),
                    bytes => format!(", {bytes} bytes on disk"),
                };
                (format!("keyed rows: {table}{spilled}"), parts)
            }
        };
        let source = KeyedSource {
            what,
            rows: Arc::clone(&self.rows),
            parts,
            columns,
            key: self.table.key_index(),
            schema,
            batch_rows: session.config().batch_size(),
            limit,
            wanted: Vec::new(),
            metrics: ExecutionPlanMetricsSet::new(),
        };
        Ok(DataSourceExec::from_data_source(source))
    }
}
