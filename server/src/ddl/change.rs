//! What a statement says, as a change of a table's section. Only names are checked here; what a section may hold
//! is for its reader to say.

use otus_engine::catalog::{DimensionDef, RollupDef, TableDef};
use otus_sql::ddl::{
    ColumnClause, Commented, DimensionClause, MeasureClause, Options, RollupAction, TableAction,
};
use otus_sql::error::sqlstate;
use otus_sql::{SqlError, SqlResult};

use super::section::{Item, Section};
use super::{Told, skip};

/// Keys of a table's section that are written otherwise in a statement, and how.
const NOT_OPTIONS: [(&str, &str); 5] = [
    ("columns", "columns stand in the list before WITH, or come by ADD COLUMN"),
    ("measures", "measures stand in the list before WITH, or come by ADD MEASURE"),
    ("rollups", "see CREATE ROLLUP"),
    ("name", "write the name after TABLE"),
    ("schema", "write the name as schema.name"),
];

/// The section of a new table.
pub(super) fn new_table(
    schema: &str,
    columns: &[ColumnClause],
    measures: &[MeasureClause],
    options: &Options,
) -> SqlResult<Section> {
    let mut section = Section::default();
    section.set("schema", schema);
    set_all(&mut section, options, &NOT_OPTIONS)?;
    for clause in columns {
        add_column(&mut section, clause)?;
    }
    for clause in measures {
        add_measure(&mut section, clause)?;
    }
    Ok(section)
}

/// Adds a rollup to a table's section.
pub(super) fn add_rollup(
    section: &mut Section,
    name: &str,
    (dimensions, filter): (&[DimensionClause], Option<&str>),
    options: &Options,
) -> SqlResult<()> {
    let mut rollup = Section::default();
    let refused = [
        ("dimensions", "write them as … ON table (columns)"),
        ("filter", "write it as … ON table (columns) WHERE condition"),
    ];
    set_all(&mut rollup, options, &refused)?;
    let dimensions: Vec<_> = dimensions.iter().map(dimension).collect();
    rollup.set("dimensions", Item::dimensions(&dimensions));
    if let Some(filter) = filter {
        rollup.set("filter", filter);
    }
    section.below("rollups", |rollups| rollups.set(name, rollup));
    Ok(())
}

fn dimension(clause: &DimensionClause) -> DimensionDef {
    DimensionDef { name: clause.name.clone(), sql: clause.sql.clone() }
}

/// Changes a table's section; gives what the client is told.
pub(super) fn table(
    section: &mut Section,
    def: &TableDef,
    actions: &[TableAction],
) -> SqlResult<Told> {
    let mut told = Told::new();
    let name = def.qualified_name();
    for action in actions {
        match action {
            TableAction::AddColumn { column, if_not_exists } => {
                if has(section, "columns", &column.name) {
                    let what =
                        format!("column \"{}\" of table {name:?} already exists", column.name);
                    told.extend(skip(*if_not_exists, sqlstate::DUPLICATE_COLUMN, what)?);
                    continue;
                }
                add_column(section, column)?;
            }
            TableAction::AddMeasure { measure, if_not_exists } => {
                if has(section, "measures", &measure.name) {
                    let what =
                        format!("measure \"{}\" of table {name:?} already exists", measure.name);
                    told.extend(skip(*if_not_exists, sqlstate::DUPLICATE_COLUMN, what)?);
                    continue;
                }
                add_measure(section, measure)?;
            }
            TableAction::DropColumn { name: column, if_exists } => {
                if !section.below("columns", |columns| columns.remove(column)) {
                    let what = format!("column \"{column}\" of table {name:?} does not exist");
                    told.extend(skip(*if_exists, sqlstate::UNDEFINED_COLUMN, what)?);
                }
            }
            TableAction::DropMeasure { name: measure, if_exists } => {
                if !section.below("measures", |measures| measures.remove(measure)) {
                    let what = format!("measure \"{measure}\" of table {name:?} does not exist");
                    told.extend(skip(*if_exists, sqlstate::UNDEFINED_OBJECT, what)?);
                }
            }
            TableAction::SetType { column, data_type } => {
                change_column(section, &name, column, |own| own.set("type", data_type.as_str()))?;
            }
            TableAction::Set(options) => set_all(section, options, &NOT_OPTIONS)?,
            TableAction::Reset(keys) => {
                for key in keys {
                    check_option(key, &NOT_OPTIONS)?;
                    remove(section, key);
                }
            }
        }
    }
    Ok(told)
}

/// Changes a rollup in its table's section.
pub(super) fn rollup(
    section: &mut Section,
    table: &TableDef,
    def: &RollupDef,
    actions: &[RollupAction],
) -> SqlResult<()> {
    let all = || table.measures.iter().map(|m| m.name.clone()).collect();
    let (mut dimensions, mut measures) = (def.dimensions.clone(), def.measures.clone());
    let (mut others, mut gone) = (Options::new(), Vec::new());
    for action in actions {
        match action {
            RollupAction::AddDimension(clause) => {
                add(&mut dimensions, "dimension", dimension(clause), |d| &d.name, def)?;
            }
            RollupAction::DropDimension(name) => {
                take(&mut dimensions, "dimension", name, |d| &d.name, def)?;
            }
            RollupAction::AddMeasure(name) if measures.is_empty() => {
                let name = &def.name;
                let message = format!("rollup \"{name}\" stores every measure of its table");
                return Err(SqlError::new(sqlstate::DUPLICATE_OBJECT, message)
                    .with_hint(format!("ALTER TABLE {} ADD MEASURE …", table.qualified_name())));
            }
            RollupAction::AddMeasure(name) => {
                add(&mut measures, "measure", name.clone(), |m| m, def)?;
            }
            RollupAction::DropMeasure(name) => {
                if measures.is_empty() {
                    measures = all();
                }
                take(&mut measures, "measure", name, |m| m, def)?;
            }
            RollupAction::Set(options) => others.extend(options.iter().cloned()),
            RollupAction::Reset(keys) => gone.extend(keys.iter()),
        }
    }
    section.below("rollups", |rollups| {
        rollups.below(&def.name, |own| {
            own.set("dimensions", Item::dimensions(&dimensions));
            if !measures.is_empty() {
                own.set("measures", Item::texts(&measures));
            }
            let refused = [("dimensions", "see ADD DIMENSION and DROP DIMENSION")];
            for key in gone {
                check_option(key, &refused)?;
                remove(own, key);
            }
            set_all(own, &others, &refused)
        })
    })
}

/// Sets or takes away a description.
pub(super) fn comment(section: &mut Section, on: &Commented, text: Option<&str>) -> SqlResult<()> {
    let describe = |own: &mut Section| match text {
        Some(text) => own.set("description", text),
        None => {
            own.remove("description");
        }
    };
    match on {
        Commented::Table(_) => {
            describe(section);
            Ok(())
        }
        Commented::Column(table, column) => {
            change_column(section, &table.to_string(), column, describe)
        }
    }
}

fn has(section: &Section, of: &str, name: &str) -> bool {
    matches!(section.get(of), Some(Item::Section(list)) if list.has(name))
}

fn add_column(section: &mut Section, clause: &ColumnClause) -> SqlResult<()> {
    let mut own = Section::default();
    own.set("type", clause.data_type.as_str());
    if let Some(default) = &clause.default {
        own.set("default", Item::from(default));
    }
    if let Some(sql) = &clause.computed {
        own.set("sql", sql.as_str());
    }
    set_all(&mut own, &clause.options, &[("type", "it stands after the name")])?;
    add_to(section, "columns", &clause.name, own)
}

fn add_measure(section: &mut Section, clause: &MeasureClause) -> SqlResult<()> {
    let mut own = Section::default();
    own.set("sql", clause.sql.as_str());
    set_all(&mut own, &clause.options, &[("sql", "it stands after AS")])?;
    add_to(section, "measures", &clause.name, own)
}

fn add_to(section: &mut Section, list: &str, name: &str, own: Section) -> SqlResult<()> {
    if has(section, list, name) {
        let what = list.trim_end_matches('s');
        let message = format!("{what} \"{name}\" is declared twice");
        return Err(SqlError::new(sqlstate::DUPLICATE_COLUMN, message));
    }
    section.below(list, |all| all.set(name, own));
    Ok(())
}

fn change_column(
    section: &mut Section,
    table: &str,
    column: &str,
    change: impl FnOnce(&mut Section),
) -> SqlResult<()> {
    section.below("columns", |columns| {
        let mut own = match columns.get(column) {
            Some(Item::Section(own)) => own.clone(),
            Some(short) => {
                let mut own = Section::default();
                own.set("type", short.clone());
                own
            }
            None => {
                let message = format!("column \"{column}\" of table \"{table}\" does not exist");
                return Err(SqlError::new(sqlstate::UNDEFINED_COLUMN, message));
            }
        };
        change(&mut own);
        columns.set(column, own);
        Ok(())
    })
}

fn set_all(section: &mut Section, options: &Options, refused: &[(&str, &str)]) -> SqlResult<()> {
    for (key, value) in options {
        check_option(key, refused)?;
        set(section, key, Item::from(value));
    }
    Ok(())
}

fn check_option(key: &[String], refused: &[(&str, &str)]) -> SqlResult<()> {
    let first = key.first().map(String::as_str).unwrap_or_default();
    match refused.iter().find(|(name, _)| *name == first) {
        Some((name, how)) => {
            let message = format!("\"{name}\" is not an option of a statement");
            Err(SqlError::new(sqlstate::INVALID_PARAMETER, message).with_hint(*how))
        }
        None => Ok(()),
    }
}

fn set(section: &mut Section, key: &[String], item: Item) {
    match key {
        [] => {}
        [name] => section.set(name, item),
        [name, rest @ ..] => section.below(name, |own| set(own, rest, item)),
    }
}

fn remove(section: &mut Section, key: &[String]) {
    match key {
        [] => {}
        [name] => {
            section.remove(name);
        }
        [name, rest @ ..] => section.below(name, |own| remove(own, rest)),
    }
}

fn add<T>(
    list: &mut Vec<T>,
    what: &str,
    new: T,
    name: fn(&T) -> &String,
    def: &RollupDef,
) -> SqlResult<()> {
    if list.iter().any(|known| name(known) == name(&new)) {
        let message = format!("rollup \"{}\" has {what} \"{}\" already", def.name, name(&new));
        return Err(SqlError::new(sqlstate::DUPLICATE_OBJECT, message));
    }
    list.push(new);
    Ok(())
}

fn take<T>(
    list: &mut Vec<T>,
    what: &str,
    name: &str,
    name_of: fn(&T) -> &String,
    def: &RollupDef,
) -> SqlResult<()> {
    let before = list.len();
    list.retain(|known| name_of(known) != name);
    if list.len() == before {
        let message = format!("rollup \"{}\" has no {what} \"{name}\"", def.name);
        return Err(SqlError::new(sqlstate::UNDEFINED_OBJECT, message));
    }
    Ok(())
}
