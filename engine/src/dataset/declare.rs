//! Declarations: what the configuration says against what the log holds. `plan` decides, `apply_tables` acts.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::catalog::{
    ColumnDef, Origin, Retention, RollupDef, RollupId, Source, TableDef, TableId,
};
use crate::error::{Error, Result};
use crate::expr::{CompiledMeasures, ExpressionCompiler};
use crate::log::manifest::{Manifest, RollupState, TableState};
use crate::log::op::{Note, Op, RemoveReason};
use crate::rollup::RollupPlan;
use crate::time::DAY_US;
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

impl fmt::Display for Change {
    /// A line of a list; what lets stored data go is marked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {} {}", if self.destructive { '!' } else { ' ' }, self.what)
    }
}

/// Differences, and the commit that removes them.
#[derive(Debug, Default)]
pub(super) struct Declaration {
    pub(super) changes: Vec<Change>,
    pub(super) ops: Vec<Op>,
    /// The same changes, as the log keeps them.
    notes: Vec<Note>,
}

impl Declaration {
    fn say(&mut self, what: String) {
        self.changes.push(Change { what, destructive: false });
    }
    fn warn(&mut self, what: String) {
        self.changes.push(Change { what, destructive: true });
    }
    /// Notes the changes from number `from` on as those of the configuration file.
    fn note(&mut self, object: &str, from: usize) {
        let new = self.changes.iter().skip(from);
        let note = |c: &Change| Note::new(Origin::File, "", object.to_string(), &c.what);
        self.notes.extend(new.map(note));
    }
}

impl Dataset {
    /// What `apply_tables` would change.
    pub fn compare_tables(&self, defs: &[TableDef]) -> Result<Vec<Change>> {
        Ok(self.plan_tables(self.snapshot().manifest(), defs)?.changes)
    }

    /// Brings the log to what is declared. With differences and without `apply` nothing happens and the
    /// error lists them, except in a new dataset, where everything is new.
    pub async fn apply_tables(&self, defs: &[TableDef], apply: bool) -> Result<Vec<Change>> {
        let snapshot = self.snapshot();
        let manifest = Arc::clone(snapshot.manifest());
        let declaration = self.plan_tables(&manifest, defs)?;
        if declaration.ops.is_empty() {
            return Ok(declaration.changes);
        }
        if !apply && !manifest.tables.is_empty() {
            let list: Vec<_> = declaration.changes.iter().map(ToString::to_string).collect();
            let hint = "look at it with `otus check`, then start once with --apply";
            let warned = declaration.changes.iter().any(|change| change.destructive);
            return Err(Error::invalid(format!(
                "the configuration differs from what the storage holds:\n{}",
                list.join("\n")
            ))
            .with_hint(match warned {
                true => format!("a line with ! lets stored data go; {hint}"),
                false => hint.to_string(),
            }));
        }
        // A record follows the definition of the commit that holds it.
        self.flush().await?;
        // What leaves may have got files by it.
        let declaration = self.plan_tables(self.snapshot().manifest(), defs)?;
        self.commit_noted(declaration.ops, declaration.notes).await?;
        Ok(declaration.changes)
    }

    /// A definition that does not compile must not reach the log.
    fn plan_tables(&self, manifest: &Manifest, defs: &[TableDef]) -> Result<Declaration> {
        let compiler = self.options.compiler.as_ref();
        for def in defs {
            compile(def, compiler)?;
        }
        plan(manifest, defs, compiler)
    }

    /// The same for one table, whatever the others are.
    pub(super) fn plan_table(&self, manifest: &Manifest, def: &TableDef) -> Result<Declaration> {
        let compiler = self.options.compiler.as_ref();
        compile(def, compiler)?;
        let mut out = Declaration::default();
        let mut ids = Ids::after(manifest);
        declare(&mut out, &mut ids, (manifest, compiler), def)?;
        Ok(out)
    }
}

fn plan(
    manifest: &Manifest,
    defs: &[TableDef],
    compiler: &dyn ExpressionCompiler,
) -> Result<Declaration> {
    let mut out = Declaration::default();
    let mut ids = Ids::after(manifest);
    for def in defs {
        let from = out.changes.len();
        declare(&mut out, &mut ids, (manifest, compiler), def)?;
        out.note(&def.qualified_name(), from);
    }
    drop_rebuilds(&mut out, manifest, defs);
    let declared: BTreeSet<String> = defs.iter().map(TableDef::qualified_name).collect();
    for state in shown(manifest).filter(|t| t.def.origin == Origin::File) {
        let name = state.def.qualified_name();
        if state.attached && !declared.contains(&name) {
            let from = out.changes.len();
            out.say(format!("table {name:?} is not declared: it is detached, its data stay"));
            out.ops.push(Op::AttachTable { table: state.id, attached: false });
            out.note(&name, from);
        }
    }
    Ok(out)
}

fn compile(def: &TableDef, compiler: &dyn ExpressionCompiler) -> Result<()> {
    let schema = def.arrow_schema();
    let measures = compiler.measures(&schema, &def.time, &def.measures)?;
    for rollup in &def.rollups {
        RollupPlan::new(&schema, &def.time, rollup, &measures, compiler)?;
    }
    Ok(())
}

fn declare(
    out: &mut Declaration,
    ids: &mut Ids,
    (manifest, compiler): (&Manifest, &dyn ExpressionCompiler),
    def: &TableDef,
) -> Result<()> {
    let name = def.qualified_name();
    match shown(manifest).find(|t| t.def.qualified_name() == name) {
        None => create(out, ids, def),
        Some(state) => alter(out, ids, (manifest, compiler), state, def)?,
    }
    Ok(())
}

/// A rebuild of a table that is no longer declared as it was is given up.
fn drop_rebuilds(out: &mut Declaration, manifest: &Manifest, defs: &[TableDef]) {
    for state in manifest.tables.values() {
        let Some(rebuild) = state.def.rebuild() else { continue };
        let old = manifest.tables.get(&rebuild.table);
        if old.is_some_and(|old| old.def.origin == Origin::Sql || defs.contains(&old.def)) {
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
    fn after(manifest: &Manifest) -> Self {
        Self { table: manifest.last_table_id, rollup: manifest.last_rollup_id }
    }
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
    (manifest, compiler): (&Manifest, &dyn ExpressionCompiler),
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
    let before = out.changes.len();
    let columns_changed = check_alter(out, state, def)?;
    let schema_id = state.schema_id + u32::from(columns_changed);
    out.ops.push(Op::PutTable { table: state.id, schema_id, def: Box::new(def.clone()) });
    if state.def.origin == Origin::Sql && def.origin == Origin::File {
        out.say(format!("table {name:?} was made by a statement and is now the file's"));
    } else if out.changes.len() == before {
        out.say(format!("table {name:?} is declared otherwise"));
    }
    alter_rollups(out, ids, (manifest, compiler), state, def)
}

/// Refuses what stored rows could not follow; says whether the schema changes.
fn check_alter(out: &mut Declaration, state: &TableState, new: &TableDef) -> Result<bool> {
    let old = state.def.as_ref();
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
    if !old.source.is_many() && old.source != new.source && !state.positions.is_empty() {
        // Its rows are told apart by partition and offset, which another topic has too.
        return refuse(&format!(
            "source (from {} to {})",
            described(&old.source),
            described(&new.source)
        ));
    }
    let mut changed = false;
    for column in &new.columns {
        match old.column(&column.name) {
            None => {
                changed = true;
                let what = check_hidden(state, &name, column)?;
                out.say(format!("table {name:?}: column {:?} {what}", column.name));
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
        let (now, was) = (told(&new.retention), told(&old.retention));
        if keeps_all(&old.retention, &new.retention) {
            out.say(format!(
                "table {name:?}: retention changes, nothing goes ({now}; it was {was})"
            ));
        } else {
            out.warn(format!(
                "table {name:?}: retention changes, data past it will be deleted ({now}; it was {was})"
            ));
        }
    }
    Ok(changed)
}

/// Whether all that was kept is kept as long, or longer.
fn keeps_all(old: &Retention, new: &Retention) -> bool {
    let longer = |old: Option<i64>, new: Option<i64>| match (old, new) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(old), Some(new)) => new >= old,
    };
    longer(old.raw_us, new.raw_us)
        && new.rollup_us.iter().all(|(g, us)| longer(old.rollup_us.get(g).copied(), Some(*us)))
}

fn told(retention: &Retention) -> String {
    let after = |what: String, us: i64| {
        let (days, hours) = (us / DAY_US, us % DAY_US / (DAY_US / 24));
        match (days, hours) {
            (1, 0) => format!("{what} after 1 day"),
            (_, 0) => format!("{what} after {days} days"),
            _ => format!("{what} after {days} days and {hours} hours"),
        }
    };
    let raw = retention.raw_us.map(|us| after("raw rows".into(), us));
    let states = retention.rollup_us.iter().map(|(g, us)| after(g.to_string(), *us));
    let all: Vec<_> = raw.into_iter().chain(states).collect();
    if all.is_empty() { "for ever".into() } else { all.join(", ") }
}

fn described(source: &Source) -> String {
    match source {
        Source::Topics(topics) => format!("topic {:?}", topics.join(", ")),
        Source::Pattern(pattern) => format!("topics like {pattern:?}"),
        Source::File(path) => format!("file {path:?}"),
    }
}

/// Files may hold values of a column that was declared once: refused unless its type can read them. Says
/// what becomes of the column.
fn check_hidden(state: &TableState, table: &str, column: &ColumnDef) -> Result<String> {
    let name = &column.name;
    let Some(before) = state.past.columns.get(name) else {
        // Of tables that are older than the memory of hidden columns the files tell.
        let known = state.files.iter().find(|f| f.columns.iter().any(|c| c.name == *name));
        return match known {
            None => Ok("is new".into()),
            Some(file) => Err(Error::invalid(format!(
                "table {table:?}: column {name:?} was declared before with a type that is not known any \
                 more, and file {:?} holds its values",
                file.path
            ))
            .with_hint("declare the column under another name")),
        };
    };
    if *before == column.column_type {
        return Ok("is declared again, with the values of before".into());
    }
    if widens(before, &column.column_type) {
        return Ok(format!("is declared again and widens from {before} to {}", column.column_type));
    }
    Err(Error::invalid(format!(
        "table {table:?}: column {name:?} was {before} before it was hidden, and cannot come back as {}",
        column.column_type
    ))
    .with_hint(format!("declare it as {before}, or a new column under another name")))
}

fn widens(from: &ColumnType, to: &ColumnType) -> bool {
    use ColumnType::{BigInt, Double, Integer, Numeric, Real, SmallInt};
    match (from, to) {
        (SmallInt, Integer | BigInt) | (Integer, BigInt) | (Real, Double) => true,
        // Bounds in the log are unscaled numbers: the scale must stay.
        (Numeric { precision, scale }, Numeric { precision: wider, scale: same }) => {
            wider > precision && scale == same
        }
        _ => false,
    }
}

/// A rollup whose states would differ is another rollup: it gets a new id, covers what comes from now on, and is
/// filled with what raw rows there are of before. Until then those answer.
fn alter_rollups(
    out: &mut Declaration,
    ids: &mut Ids,
    (manifest, compiler): (&Manifest, &dyn ExpressionCompiler),
    state: &TableState,
    def: &TableDef,
) -> Result<()> {
    let table = def.qualified_name();
    let mut kept = BTreeSet::new();
    for rollup in manifest.rollups.values().filter(|r| r.table == state.id) {
        let name = &rollup.def.name;
        match difference(&state.def, def, rollup, compiler)? {
            None => {
                kept.insert(name.clone());
                continue;
            }
            Some(why) if def.rollups.iter().any(|r| r.name == *name) => out.warn(format!(
                "table {table:?}: rollup {name:?} starts anew, and its states leave: {why}; it is filled {}",
                filled(state)
            )),
            Some(_) => out.warn(format!(
                "table {table:?}: rollup {name:?} leaves with its states; raw rows stay"
            )),
        }
        for file in &rollup.files {
            out.ops.push(Op::RemoveFile {
                path: file.path.clone(),
                target: file.target,
                reason: RemoveReason::Drop,
            });
        }
        out.ops.push(Op::DropRollup { rollup: rollup.id });
    }
    for rollup in def.rollups.iter().filter(|r| !kept.contains(&r.name)) {
        let name = &rollup.name;
        if !state.def.rollups.iter().any(|r| r.name == *name) {
            out.say(format!(
                "table {table:?}: rollup {name:?} is new; it is filled {}",
                filled(state)
            ));
        }
        put_rollup(out, ids, state.id, rollup);
    }
    Ok(())
}

/// What a rollup of before its declaration gets.
fn filled(state: &TableState) -> &'static str {
    match state.horizon_us {
        None => "from raw rows, which answer until then",
        Some(_) => "from the raw rows that retention has left, which answer until then",
    }
}

/// Why the stored states of `rollup` mean something else under the new definition of its table; none if
/// they mean the same.
fn difference(
    old: &TableDef,
    new: &TableDef,
    rollup: &RollupState,
    compiler: &dyn ExpressionCompiler,
) -> Result<Option<String>> {
    let Some(declared) = new.rollups.iter().find(|r| r.name == rollup.def.name) else {
        return Ok(Some("it is not declared any more".into()));
    };
    if *declared != rollup.def {
        return Ok(Some(
            "its granularities, dimensions, filter or measures are declared otherwise".into(),
        ));
    }
    let column_type = |def: &TableDef, name: &str| def.column(name).map(|c| c.column_type.clone());
    for name in rollup.def.dimension_names() {
        if column_type(old, name) != column_type(new, name) {
            return Ok(Some(format!("dimension {name:?} has another type")));
        }
    }
    let (before, after) =
        (Planned::new(old, declared, compiler)?, Planned::new(new, declared, compiler)?);
    // An integer that wraps does so elsewhere in a wider type.
    let read = |name: &&String| column_type(old, name) != column_type(new, name);
    if let Some(name) = after.plan.expression_columns().find(read) {
        return Ok(Some(format!(
            "its filter or a dimension reads column {name:?}, which has another type"
        )));
    }
    let (before, after) = (before.states(), after.states());
    let gone = before.difference(&after).next().map(|s| &s.0);
    let added = after.difference(&before).next().map(|s| &s.0);
    Ok(match (gone, added) {
        (None, None) => None,
        (Some(gone), Some(added)) if gone == added => Some(format!("{gone} has another type")),
        (Some(gone), Some(added)) => Some(format!("it holds {gone} and would hold {added}")),
        (Some(gone), None) => Some(format!("it would no longer hold {gone}")),
        (None, Some(added)) => Some(format!("it lacks {added}")),
    })
}

/// A rollup under one definition of its table.
struct Planned {
    measures: CompiledMeasures,
    plan: RollupPlan,
}

impl Planned {
    fn new(def: &TableDef, rollup: &RollupDef, compiler: &dyn ExpressionCompiler) -> Result<Self> {
        let schema = def.arrow_schema();
        let measures = compiler.measures(&schema, &def.time, &def.measures)?;
        let plan = RollupPlan::new(&schema, &def.time, rollup, &measures, compiler)?;
        Ok(Self { measures, plan })
    }

    /// What the states are states of, with everything that measures refer to put in: the call, the name of its
    /// columns, and the types of its arguments.
    fn states(&self) -> BTreeSet<(String, String, String)> {
        let calls = self.plan.calls().iter().filter_map(|i| self.measures.calls.get(*i));
        calls
            .map(|call| {
                let types: Vec<_> = call.args.iter().map(|a| a.data_type().to_string()).collect();
                (call.key.clone(), call.prefix.clone(), types.join(", "))
            })
            .collect()
    }
}
