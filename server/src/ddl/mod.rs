//! Statements that declare, carried out. A statement becomes a section of the configuration file, which is read
//! by the file's own reader: both faces accept and refuse the same. What the file declares stays the file's.

mod change;
mod section;

use std::sync::Arc;

use async_trait::async_trait;
use otus_engine::catalog::{Origin, RollupDef, Source, TableDef, TableId};
use otus_engine::compiled::CompiledTable;
use otus_engine::dataset::Dataset;
use otus_engine::log::op::Note;
use otus_ingest::Ingest;
use otus_ingest::log::memory::MemoryLog;
use otus_ingest::log::store::RecordStore;
use otus_sql::ddl::{Author, Commented, Ddl, Definer, TableName};
use otus_sql::error::sqlstate;
use otus_sql::{SqlCompiler, SqlError, SqlResult};
use tokio::sync::Mutex;

use crate::config::{Config, DdlConfig, Environment, Problems, Severity};
pub(crate) use section::{Item, Section};

/// Told to the client: SQLSTATE and message.
type Told = Vec<(&'static str, String)>;

/// Carries out what statements declare.
#[derive(Debug, Clone)]
pub(crate) struct Definitions {
    dataset: Arc<Dataset>,
    ingest: Arc<Ingest>,
    allowed: DdlConfig,
    has_kafka: bool,
    /// The log in memory, in which topics must be made.
    memory: Option<Arc<MemoryLog>>,
    /// One change at a time.
    changing: Arc<Mutex<()>>,
}

/// Statements see nothing of the process's environment.
struct Nothing;

impl Environment for Nothing {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
    fn file(&self, _: &std::path::Path) -> std::io::Result<String> {
        Err(std::io::Error::new(std::io::ErrorKind::NotFound, "statements name no files"))
    }
}

#[async_trait]
impl Definer for Definitions {
    async fn define(&self, ddl: &Ddl, author: Author) -> SqlResult<Told> {
        let (own, ddl) = (self.clone(), ddl.clone());
        // A task of its own: reading that was stopped for a change must go on whatever the client does.
        let work = tokio::spawn(async move { own.run(&ddl, &author).await });
        work.await.unwrap_or_else(|_| Err(SqlError::internal("a change of definitions failed")))
    }
}

impl Definitions {
    pub(crate) fn new(
        dataset: Arc<Dataset>,
        ingest: Arc<Ingest>,
        config: &Config,
        memory: Option<Arc<MemoryLog>>,
    ) -> Self {
        let (allowed, has_kafka) = (config.ddl.clone(), config.kafka.is_some());
        Self { dataset, ingest, allowed, has_kafka, memory, changing: Arc::default() }
    }

    async fn run(&self, ddl: &Ddl, author: &Author) -> SqlResult<Told> {
        if self.allowed.topics.is_empty() {
            let message = format!("{} is refused: statements declare nothing here", ddl.tag());
            return Err(SqlError::new(sqlstate::NOT_ALLOWED, message).with_hint(
                "name topics that they may read in the configuration file: [ddl] topics = \
                 [\"clicks\", \"team-*\"]",
            ));
        }
        let _one_at_a_time = self.changing.lock().await;
        match ddl {
            Ddl::CreateTable { table, if_not_exists, columns, measures, options } => {
                let schema = table.schema.clone().unwrap_or_else(|| self.first_schema(author));
                if self.is_there(&schema, &table.name) {
                    let what = format!("relation \"{}\" already exists", table.name);
                    return skip(*if_not_exists, sqlstate::DUPLICATE_TABLE, what);
                }
                let section = change::new_table(&schema, columns, measures, options)?;
                self.put(&table.name, section, author, false).await
            }
            Ddl::CreateRollup { rollup, table, if_not_exists, dimensions, filter, options } => {
                let Some(target) = self.table(table, author, false)? else {
                    return Ok(Told::new());
                };
                if target.def.rollups.iter().any(|r| r.name == *rollup) {
                    let what = format!("rollup \"{rollup}\" of table \"{table}\" already exists");
                    return skip(*if_not_exists, sqlstate::DUPLICATE_OBJECT, what);
                }
                let mut section = Section::of_table(&target.def);
                let parts = (dimensions.as_slice(), filter.as_deref());
                change::add_rollup(&mut section, rollup, parts, options)?;
                self.put(&target.def.name, section, author, false).await
            }
            Ddl::AlterTable { table, if_exists, actions, apply } => {
                let Some(target) = self.table(table, author, *if_exists)? else {
                    return Ok(missing(table));
                };
                let mut section = Section::of_table(&target.def);
                let mut told = change::table(&mut section, &target.def, actions)?;
                told.extend(self.put(&target.def.name, section, author, *apply).await?);
                Ok(told)
            }
            Ddl::AlterRollup { rollup, table, if_exists, actions, apply } => {
                let Some((target, def)) =
                    self.rollup(rollup, table.as_ref(), author, *if_exists)?
                else {
                    return Ok(vec![no_rollup(rollup)]);
                };
                let mut section = Section::of_table(&target.def);
                change::rollup(&mut section, &target.def, &def, actions)?;
                self.put(&target.def.name, section, author, *apply).await
            }
            Ddl::DropTable { tables, if_exists } => {
                self.drop_tables(tables, *if_exists, author).await
            }
            Ddl::DropRollup { rollup, table, if_exists } => {
                let Some((target, _)) = self.rollup(rollup, table.as_ref(), author, *if_exists)?
                else {
                    return Ok(vec![no_rollup(rollup)]);
                };
                let mut section = Section::of_table(&target.def);
                section.below("rollups", |rollups| rollups.remove(rollup));
                self.put(&target.def.name, section, author, true).await
            }
            Ddl::Comment { on, text } => self.comment(on, text.as_deref(), author).await,
        }
    }

    async fn comment(
        &self,
        on: &Commented,
        text: Option<&str>,
        author: &Author,
    ) -> SqlResult<Told> {
        let (Commented::Table(table) | Commented::Column(table, _)) = on;
        let Some(target) = self.table(table, author, false)? else { return Ok(Told::new()) };
        let mut section = Section::of_table(&target.def);
        change::comment(&mut section, on, text)?;
        self.put(&target.def.name, section, author, false).await
    }

    async fn drop_tables(
        &self,
        tables: &[TableName],
        if_exists: bool,
        author: &Author,
    ) -> SqlResult<Told> {
        let (mut told, mut going) = (Told::new(), Vec::new());
        for name in tables {
            match self.table(name, author, if_exists)? {
                Some(table) => going.push(table),
                None => told.extend(missing(name)),
            }
        }
        for table in going {
            let note = note(author, &table.def);
            let drop = self.dataset.drop_table(table.id, note);
            self.ingest.change_tables(drop).await.map_err(SqlError::from)?;
        }
        Ok(told)
    }

    /// Brings a table to what a section declares. `apply`: stored data may go by it.
    async fn put(
        &self,
        name: &str,
        mut section: Section,
        author: &Author,
        apply: bool,
    ) -> SqlResult<Told> {
        if !section.has("append") && !section.has("file") {
            section.set_boolean("append", !self.has_kafka);
        }
        let (def, warnings) = read(name, &section)?;
        self.check_source(&def)?;
        self.check_names(&def)?;
        let changes = self.dataset.compare_table(&def).map_err(SqlError::from)?;
        if changes.iter().any(|change| change.destructive) && !apply {
            let list: Vec<_> = changes.iter().map(ToString::to_string).collect();
            let message = format!("stored data of table {:?} would go", def.qualified_name());
            let error = SqlError::new(sqlstate::NOT_READY, message).with_detail(list.join("\n"));
            return Err(error.with_hint(
                "data of a line with ! does not come back; if that is meant, write APPLY at the end of \
                 the statement",
            ));
        }
        if changes.is_empty() {
            return Ok(warnings);
        }
        self.make_topics(&def);
        let declare = self.dataset.declare_table(&def, note(author, &def));
        self.ingest.change_tables(declare).await.map_err(SqlError::from)?;
        Ok(warnings)
    }

    /// Statements name topics that the file allows, and nothing else.
    fn check_source(&self, def: &TableDef) -> SqlResult<()> {
        let refused = |message: String| SqlError::new(sqlstate::NOT_ALLOWED, message);
        let Source::Topics(topics) = &def.source else {
            return Err(refused(format!(
                "table {:?}: a statement names neither files nor patterns of topics",
                def.qualified_name()
            ))
            .with_hint("give one of topic and topics, or declare it in the configuration file"));
        };
        if let Some(topic) = topics.iter().find(|topic| !self.allowed.allows(topic)) {
            let list: Vec<_> = self.allowed.topics.iter().map(|t| format!("{t:?}")).collect();
            return Err(refused(format!("topic {topic:?} may not be named by a statement"))
                .with_hint(format!(
                    "the configuration file allows [ddl] topics = [{}]",
                    list.join(", ")
                )));
        }
        if !self.ingest.has_log() {
            return Err(SqlError::new(sqlstate::NOT_READY, "there is no log to read topics from")
                .with_hint("configure [kafka], or a folder in [local_log]"));
        }
        Ok(())
    }

    /// Tables and the views of rollups share one name space per schema.
    fn check_names(&self, def: &TableDef) -> SqlResult<()> {
        let snapshot = self.dataset.snapshot();
        let stored = snapshot.manifest().tables.values().map(|t| t.def.as_ref());
        match collision(def, stored.filter(|t| t.qualified_name() != def.qualified_name())) {
            Some(message) => Err(SqlError::new(sqlstate::DUPLICATE_TABLE, message)
                .with_hint("give one of them another name")),
            None => Ok(()),
        }
    }

    fn make_topics(&self, def: &TableDef) {
        let (Some(memory), Source::Topics(topics)) = (&self.memory, &def.source) else { return };
        for topic in topics.iter().filter(|topic| memory.partition_count(topic).is_none()) {
            memory.create(topic, 1);
        }
    }

    /// The schema of a new table whose name has none: the first of the path that there is.
    fn first_schema(&self, author: &Author) -> String {
        let snapshot = self.dataset.snapshot();
        let is_of_user = |schema: &&String| {
            *schema == "public" || snapshot.tables().any(|t| t.def.schema == **schema)
        };
        author.search_path.iter().find(is_of_user).cloned().unwrap_or_else(|| "public".into())
    }

    fn is_there(&self, schema: &str, name: &str) -> bool {
        let snapshot = self.dataset.snapshot();
        // One that is detached holds its name too.
        let mut stored = snapshot.manifest().tables.values().map(|t| t.def.as_ref());
        stored.any(|t| t.schema == schema && names(t).any(|known| known == name))
    }

    /// A table that a statement may change. None if it is missing and may be.
    fn table(
        &self,
        name: &TableName,
        author: &Author,
        if_exists: bool,
    ) -> SqlResult<Option<Arc<CompiledTable>>> {
        let snapshot = self.dataset.snapshot();
        let find = |schema: &String| snapshot.table(schema, &name.name).map(Arc::clone);
        let found = match &name.schema {
            Some(schema) => find(schema),
            None => author.search_path.iter().find_map(find),
        };
        match found {
            Some(table) if table.def.origin == Origin::File => {
                Err(of_file(&table.def, &format!("[tables.{}]", table.def.name)))
            }
            None if !if_exists => {
                let message = format!("table \"{name}\" does not exist");
                Err(SqlError::new(sqlstate::UNDEFINED_TABLE, message))
            }
            found => Ok(found),
        }
    }

    /// A rollup that a statement may change, and its table. None if it is missing and may be.
    fn rollup(
        &self,
        rollup: &str,
        on: Option<&TableName>,
        author: &Author,
        if_exists: bool,
    ) -> SqlResult<Option<(Arc<CompiledTable>, RollupDef)>> {
        let snapshot = self.dataset.snapshot();
        let tables = match on {
            Some(name) => self.table(name, author, if_exists)?.into_iter().collect(),
            None => snapshot.tables().map(Arc::clone).collect::<Vec<_>>(),
        };
        let of = |table: Arc<CompiledTable>| {
            let def = table.def.rollups.iter().find(|r| r.name == rollup).cloned()?;
            Some((table, def))
        };
        let mut found = tables.into_iter().filter_map(of);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => {
                let message = format!("several tables have a rollup \"{rollup}\"");
                Err(SqlError::new(sqlstate::INVALID_DEFINITION, message)
                    .with_hint("say which: … ROLLUP name ON table"))
            }
            (Some((table, _)), None) if table.def.origin == Origin::File => {
                let place = format!("[tables.{}.rollups.{rollup}]", table.def.name);
                Err(of_file(&table.def, &place))
            }
            (None, _) if !if_exists => {
                let (_, message) = no_rollup(rollup);
                let message = message.trim_end_matches(", skipping");
                Err(SqlError::new(sqlstate::UNDEFINED_OBJECT, message))
            }
            (found, _) => Ok(found),
        }
    }
}

/// Reads a section as the file's reader does.
fn read(name: &str, section: &Section) -> SqlResult<(TableDef, Told)> {
    let text = section.toml(&["tables", name]);
    let compiler = SqlCompiler::new();
    let config = Config::parse("statement", &text, &Nothing, Some(compiler.as_ref()));
    let mut config = config.map_err(|problems| refusal(name, &problems))?;
    let Some(def) = config.tables.pop() else {
        return Err(SqlError::internal("a declared table was not read back"));
    };
    let warnings = config.warnings.iter().map(|w| ("00000", w.message.clone())).collect();
    Ok((TableDef { origin: Origin::Sql, ..def }, warnings))
}

fn refusal(name: &str, problems: &Problems) -> SqlError {
    let errors = problems.list.iter().filter(|p| p.severity == Severity::Error);
    let mut told = errors.map(|problem| {
        let place = problem.path.strip_prefix("tables.").unwrap_or(&problem.path);
        // The first part is the table's name, which may be quoted.
        let place = place.strip_prefix(name).unwrap_or(place).trim_start_matches('.');
        let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
        (format!("table {name:?}: {place}{}", problem.message), problem.hint.clone())
    });
    let (message, hint) = told.next().unwrap_or_default();
    let mut error = SqlError::new(sqlstate::INVALID_DEFINITION, message);
    let others: Vec<_> = told.map(|(message, _)| message).collect();
    if !others.is_empty() {
        error = error.with_detail(format!("besides:\n{}", others.join("\n")));
    }
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Names that a table takes: its own and those of the views of its rollups.
fn names(def: &TableDef) -> impl Iterator<Item = String> {
    let view = |rollup: &RollupDef| {
        rollup.granularities.iter().map(|g| rollup.view_name(*g)).collect::<Vec<_>>()
    };
    std::iter::once(def.name.clone()).chain(def.rollups.iter().flat_map(view).collect::<Vec<_>>())
}

/// What is wrong if `def` takes a name that one of `others` has.
pub(crate) fn collision<'a>(
    def: &TableDef,
    others: impl Iterator<Item = &'a TableDef>,
) -> Option<String> {
    let mut others = others.filter(|other| other.schema == def.schema);
    others.find_map(|other| {
        let taken = names(def).find(|name| names(other).any(|known| known == *name))?;
        let (own, other) = (def.qualified_name(), other.qualified_name());
        Some(format!("{taken:?} of table {own:?} is taken by a table or rollup view of {other:?}"))
    })
}

fn note(author: &Author, def: &TableDef) -> Note {
    Note::new(Origin::Sql, &author.user, def.qualified_name(), &author.text)
}

fn of_file(def: &TableDef, place: &str) -> SqlError {
    let message = format!("table {:?} is declared in the configuration file", def.qualified_name());
    SqlError::new(sqlstate::NOT_ALLOWED, message)
        .with_hint(format!("change {place} there, look at `otus check`, and start with --apply"))
}

/// What is there already: an error, or a notice where that was expected.
fn skip(is_expected: bool, sqlstate: &'static str, what: String) -> SqlResult<Told> {
    match is_expected {
        true => Ok(vec![(sqlstate, format!("{what}, skipping"))]),
        false => Err(SqlError::new(sqlstate, what)),
    }
}

fn missing(table: &TableName) -> Told {
    vec![("00000", format!("table \"{table}\" does not exist, skipping"))]
}

fn no_rollup(rollup: &str) -> (&'static str, String) {
    ("00000", format!("rollup \"{rollup}\" does not exist, skipping"))
}

/// The tables that statements made and the file does not declare.
pub(crate) fn stored_by_statements<'a>(
    dataset: &'a otus_engine::snapshot::Snapshot,
    config: &'a Config,
) -> impl Iterator<Item = (TableId, &'a TableDef)> {
    let of_file =
        |def: &TableDef| config.tables.iter().any(|t| t.schema == def.schema && t.name == def.name);
    let stored = dataset.manifest().tables.values().filter(|t| t.attached);
    stored
        .map(|t| (t.id, t.def.as_ref()))
        .filter(move |(_, def)| def.origin == Origin::Sql && !of_file(def))
}

#[cfg(test)]
mod tests;
