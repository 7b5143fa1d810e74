//! What an identity sees of a catalogue: the tables that are granted, each cut down to the columns and rows that
//! are. It takes the place of the whole catalogue in the snapshot of a statement.
//!
//! Of several grants for one table a row may be seen if any grant's condition is true of it, and a value in it if
//! that of a grant which has its column is: elsewhere it is null.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::physical_expr::expressions::lit;
use otus_engine::catalog::TableDef;
use otus_engine::compiled::{Catalog, CompiledTable};
use otus_engine::restriction::RowGuard;
use otus_engine::snapshot::Snapshot;
use parking_lot::Mutex;

use super::filter::{self, Condition, Whose};
use super::guard::{AnyOf, Guard};
use super::{GrantDef, Identity, means};
use crate::error::SqlResult;

/// Catalogues of identities that are kept.
const KEPT: usize = 256;

/// The catalogues of the identities that asked last.
#[derive(Debug, Default)]
pub(crate) struct Views(Mutex<Vec<View>>);

#[derive(Debug)]
struct View {
    identity: Arc<Identity>,
    whole: Arc<Catalog>,
    seen: Arc<Catalog>,
}

impl Views {
    /// A snapshot as an identity sees it.
    pub(crate) fn of(&self, snapshot: Arc<Snapshot>, identity: &Arc<Identity>) -> Arc<Snapshot> {
        if identity.is_admin() || snapshot.catalog().whole().is_some() {
            return snapshot;
        }
        let catalog = self.catalog(snapshot.catalog(), identity);
        Arc::new(snapshot.seen_with(catalog))
    }

    fn catalog(&self, whole: &Arc<Catalog>, identity: &Arc<Identity>) -> Arc<Catalog> {
        let mut known = self.0.lock();
        let same = |view: &View| {
            (Arc::ptr_eq(&view.identity, identity) || view.identity == *identity)
                && (Arc::ptr_eq(&view.whole, whole) || view.whole.is_same(whole))
        };
        if let Some(at) = known.iter().position(same) {
            // The one that was asked for last stands last.
            let view = known.remove(at);
            let seen = Arc::clone(&view.seen);
            known.push(view);
            return seen;
        }
        let seen = Arc::new(whole.restricted(|table| seen(table, identity)));
        known.retain(|view| view.whole.is_same(whole));
        if known.len() >= KEPT {
            known.remove(0);
        }
        let (identity, whole) = (Arc::clone(identity), Arc::clone(whole));
        known.push(View { identity, whole, seen: Arc::clone(&seen) });
        seen
    }
}

impl GrantDef {
    /// Whether it is about a table.
    pub(super) fn is_of(&self, schema: &str, name: &str) -> bool {
        self.tables.iter().any(|pattern| means(pattern, schema, name))
    }

    /// Names of its columns that a table must have in it and that are not listed: its event time, or its key.
    pub(super) fn misses<'a>(&self, def: &'a TableDef) -> Option<&'a str> {
        let listed = self.columns.as_ref()?;
        let needed = def.keyed().map_or(def.time.as_str(), |keyed| keyed.key.as_str());
        (!listed.iter().any(|name| name == needed)).then_some(needed)
    }

    fn has(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|listed| listed.iter().any(|name| name == column))
    }
}

/// What an identity sees of a table; none = nothing.
fn seen(table: &Arc<CompiledTable>, identity: &Identity) -> Option<Arc<CompiledTable>> {
    let (schema, name) = (table.def.schema.as_str(), table.def.name.as_str());
    let grants = identity.roles.iter().flat_map(|role| &role.grants);
    let grants: Vec<&GrantDef> = grants
        .filter(|g| g.select && g.is_of(schema, name) && g.misses(&table.def).is_none())
        .collect();
    if grants.is_empty() {
        return None;
    }
    if grants.iter().any(|g| g.columns.is_none() && g.filter.is_none()) {
        return Some(Arc::clone(table));
    }
    match cut(table, &grants, identity) {
        Ok(table) => Some(Arc::new(table)),
        Err(e) => {
            // What cannot be told apart is not shown. `otus check` says this before the server starts.
            let table = table.def.qualified_name();
            tracing::error!(table, user = identity.user, error = %e, "a grant cannot be used");
            None
        }
    }
}

fn cut(
    table: &Arc<CompiledTable>,
    grants: &[&GrantDef],
    identity: &Identity,
) -> SqlResult<CompiledTable> {
    let condition = |grant: &&GrantDef| {
        let Some(sql) = &grant.filter else { return Ok(None) };
        let found = filter::condition(&table.schema, sql, Whose::Of(identity))?;
        Ok(Some(found.unwrap_or_else(|| Condition { expr: lit(false) })))
    };
    let conditions = grants.iter().map(condition).collect::<SqlResult<Vec<_>>>()?;
    let of = |which: &[bool]| AnyOf::of(conditions.iter().zip(which).filter(|c| *c.1).map(|c| c.0));
    let rows = of(&vec![true; grants.len()]);
    let (mut fields, mut values) = (Vec::new(), Vec::new());
    for field in table.schema.fields() {
        let having: Vec<bool> = grants.iter().map(|grant| grant.has(field.name())).collect();
        if !having.contains(&true) {
            continue;
        }
        let mask = if having.contains(&false) { of(&having) } else { None };
        match mask {
            Some(mask) => {
                fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
                values.push((field.name().clone(), mask));
            }
            None => fields.push(Arc::clone(field)),
        }
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let masked = values.iter().map(|(name, _)| name.clone()).collect();
    let guard = (rows.is_some() || !values.is_empty()).then(|| {
        Arc::new(Guard {
            table: table.def.qualified_name(),
            schema: Arc::clone(&schema),
            rows,
            values,
            masked,
        }) as Arc<dyn RowGuard>
    });
    Ok(table.restricted(schema, guard)?)
}
