//! Declarations: what the configuration says against what the log holds. `plan` decides, `apply_tables` acts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalog::{RollupDef, RollupId, TableDef, TableId};
use crate::error::{Error, Result};
use crate::log::manifest::{Manifest, RollupState, TableState};
use crate::log::op::{Op, RemoveReason};
use crate::types::ColumnType;

use super::Dataset;

/// One difference between declaration and log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What would change, for people.
    pub what: String,
    /// Whether stored data goes or can go by it.
    pub destructive: bool,
}

/// Differences, and the commit that removes them.
#[derive(Debug, Default)]
struct Declaration {
    changes: Vec<Change>,
    ops: Vec<Op>,
}

impl Declaration {
    fn say(&mut self, what: String) {
        self.changes.push(Change { what, destructive: false });
    }
    fn warn(&mut self, what: String) {
        self.changes.push(Change { what, destructive: true });
    }
}

impl Dataset {
    /// What `apply_tables` would change.
    pub fn compare_tables(&self, defs: &[TableDef]) -> Result<Vec<Change>> {
        Ok(plan(self.snapshot().manifest(), defs)?.changes)
    }

    /// Brings the log to what is declared. With differences and without `apply` nothing happens and the
    /// error lists them, except in a new dataset, where everything is new.
    pub async fn apply_tables(&self, defs: &[TableDef], apply: bool) -> Result<Vec<Change>> {
        let snapshot = self.snapshot();
        let manifest = Arc::clone(snapshot.manifest());
        let declaration = plan(&manifest, defs)?;
        if declaration.ops.is_empty() {
            return Ok(declaration.changes);
        }
        if !apply && !manifest.tables.is_empty() {
            let list: Vec<_> =
                declaration.changes.iter().map(|c| format!("  {}", c.what)).collect();
            return Err(Error::invalid(format!(
                "the configuration differs from what the storage holds:\n{}",
                list.join("\n")
            ))
            .with_hint("look at it with `otus check`, then start once with --apply"));
        }
        for def in defs {
            // A definition that does not compile must not reach the log.
            let schema = def.arrow_schema();
            self.options.compiler.measures(&schema, &def.time, &def.measures)?;
        }
        // A record follows the definition of the commit that holds it.
        self.flush().await?;
        self.commit(declaration.ops).await?;
        Ok(declaration.changes)
    }
}

fn plan(manifest: &Manifest, defs: &[TableDef]) -> Result<Declaration> {
    let mut out = Declaration::default();
    let mut ids = Ids { table: manifest.last_table_id, rollup: manifest.last_rollup_id };
    let known: BTreeMap<String, &Arc<TableState>> =
        shown(manifest).map(|t| (t.def.qualified_name(), t)).collect();
    for def in defs {
        match known.get(&def.qualified_name()) {
            None => create(&mut out, &mut ids, def),
            Some(state) => alter(&mut out, &mut ids, manifest, state, def)?,
        }
    }
    drop_rebuilds(&mut out, manifest, defs);
    let declared: BTreeSet<String> = defs.iter().map(TableDef::qualified_name).collect();
    for (name, state) in known {
        if state.attached && !declared.contains(&name) {
            out.say(format!("table {name:?} is not declared: it is detached, its data stay"));
            out.ops.push(Op::AttachTable { table: state.id, attached: false });
        }
    }
    Ok(out)
}

/// A rebuild of a table that is no longer declared as it was is given up.
fn drop_rebuilds(out: &mut Declaration, manifest: &Manifest, defs: &[TableDef]) {
    for state in manifest.tables.values() {
        let Some(rebuild) = state.def.rebuild() else { continue };
        let old = manifest.tables.get(&rebuild.table);
        if old.is_some_and(|old| defs.contains(&old.def)) {
            continue;
        }
        out.say(format!("the rebuild of table {:?} is given up", rebuild.table.0));
        for file in &state.files {
            out.ops.push(Op::RemoveFile {
                path: file.path.clone(),
                target: file.target,
                reason: RemoveReason::Drop,
            });
        }
        out.ops.push(Op::DropTable { table: state.id });
    }
}

/// The tables of a manifest without rebuilds, which nobody declares.
fn shown(manifest: &Manifest) -> impl Iterator<Item = &Arc<TableState>> {
    manifest.tables.values().filter(|t| t.def.rebuild().is_none())
}

#[derive(Debug)]
struct Ids {
    table: u32,
    rollup: u32,
}

impl Ids {
    fn table(&mut self) -> TableId {
        self.table += 1;
        TableId(self.table)
    }
    fn rollup(&mut self) -> RollupId {
        self.rollup += 1;
        RollupId(self.rollup)
    }
}

fn create(out: &mut Declaration, ids: &mut Ids, def: &TableDef) {
    let table = ids.table();
    out.say(format!("table {:?} is new", def.qualified_name()));
    out.ops.push(Op::PutTable { table, schema_id: 1, def: Box::new(def.clone()) });
    for rollup in &def.rollups {
        put_rollup(out, ids, table, rollup);
    }
}

fn put_rollup(out: &mut Declaration, ids: &mut Ids, table: TableId, def: &RollupDef) {
    let rollup = ids.rollup();
    out.ops.push(Op::PutRollup { rollup, table, def: def.clone(), coverage: Vec::new() });
}

fn alter(
    out: &mut Declaration,
    ids: &mut Ids,
    manifest: &Manifest,
    state: &TableState,
    def: &TableDef,
) -> Result<()> {
    let name = def.qualified_name();
    if !state.attached {
        out.say(format!("table {name:?} is declared again: it is attached with its data"));
        out.ops.push(Op::AttachTable { table: state.id, attached: true });
    }
    if *state.def == *def {
        return Ok(());
    }
    let columns_changed = check_alter(out, &state.def, def)?;
    let schema_id = state.schema_id + u32::from(columns_changed);
    out.ops.push(Op::PutTable { table: state.id, schema_id, def: Box::new(def.clone()) });
    if out.changes.is_empty() {
        out.say(format!("table {name:?} is declared otherwise"));
    }
    alter_rollups(out, ids, manifest, state, def);
    Ok(())
}

/// Refuses what stored rows could not follow; says whether the schema changes.
fn check_alter(out: &mut Declaration, old: &TableDef, new: &TableDef) -> Result<bool> {
    let name = new.qualified_name();
    let refuse = |what: &str| {
        Err(Error::invalid(format!("table {name:?}: its {what} cannot change"))
            .with_hint("declare a new table under another name and read the topic again"))
    };
    if old.time != new.time {
        return refuse("event-time column");
    }
    if old.kind != new.kind {
        return refuse("kind or key");
    }
    if old.source.is_many() != new.source.is_many() {
        return refuse("number of topics (one or many)");
    }
    let mut changed = false;
    for column in &new.columns {
        match old.column(&column.name) {
            None => {
                changed = true;
                out.say(format!("table {name:?}: column {:?} is new", column.name));
            }
            Some(before) if before.column_type == column.column_type => {}
            Some(before) if widens(&before.column_type, &column.column_type) => {
                changed = true;
                out.say(format!(
                    "table {name:?}: column {:?} widens from {} to {}",
                    column.name, before.column_type, column.column_type
                ));
            }
            Some(before) => {
                return Err(Error::invalid(format!(
                    "table {name:?}: column {:?} cannot change from {} to {}",
                    column.name, before.column_type, column.column_type
                ))
                .with_hint("declare a new column under another name"));
            }
        }
    }
    for column in old.columns.iter().filter(|c| new.column(&c.name).is_none()) {
        changed = true;
        out.say(format!("table {name:?}: column {:?} is hidden, its data stay", column.name));
    }
    if old.retention != new.retention {
        out.warn(format!("table {name:?}: retention changes, data past it will be deleted"));
    }
    Ok(changed)
}

fn widens(from: &ColumnType, to: &ColumnType) -> bool {
    use ColumnType::{BigInt, Double, Integer, Real, SmallInt};
    matches!((from, to), (SmallInt, Integer | BigInt) | (Integer, BigInt) | (Real, Double))
}

/// A rollup whose states would differ is another rollup: it gets a new id and covers what comes from now on.
fn alter_rollups(
    out: &mut Declaration,
    ids: &mut Ids,
    manifest: &Manifest,
    state: &TableState,
    def: &TableDef,
) {
    let table = def.qualified_name();
    let own: Vec<&Arc<RollupState>> =
        manifest.rollups.values().filter(|r| r.table == state.id).collect();
    for rollup in own.iter().filter(|r| !keeps(&state.def, def, r)) {
        out.warn(format!(
            "table {table:?}: rollup {:?} leaves with its states; raw rows stay",
            rollup.def.name
        ));
        for file in &rollup.files {
            out.ops.push(Op::RemoveFile {
                path: file.path.clone(),
                target: file.target,
                reason: RemoveReason::Drop,
            });
        }
        out.ops.push(Op::DropRollup { rollup: rollup.id });
    }
    for rollup in &def.rollups {
        let kept = own.iter().any(|r| r.def == *rollup && keeps(&state.def, def, r));
        if !kept {
            let name = &rollup.name;
            out.say(format!("table {table:?}: rollup {name:?} is new, from the next record on"));
            put_rollup(out, ids, state.id, rollup);
        }
    }
}

/// Whether the stored states of `rollup` mean the same under the new definition of its table.
fn keeps(old: &TableDef, new: &TableDef, rollup: &RollupState) -> bool {
    let same_type = |name: &String| {
        old.column(name).map(|c| &c.column_type) == new.column(name).map(|c| &c.column_type)
    };
    let sql = |def: &TableDef| -> Vec<(String, String)> {
        let stored =
            |name: &String| rollup.def.measures.is_empty() || rollup.def.measures.contains(name);
        let measures = def.measures.iter().filter(|m| stored(&m.name));
        measures.map(|m| (m.name.clone(), m.sql.clone())).collect()
    };
    new.rollups.contains(&rollup.def)
        && rollup.def.dimensions.iter().all(same_type)
        && sql(old) == sql(new)
}
