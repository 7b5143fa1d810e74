//! One `[tables.<name>]` section becomes one [`TableDef`].

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use otus_engine::Error;
use otus_engine::catalog::{
    Accept, ColumnDef, ColumnSource, KeyedDef, MeasureDef, Origin, Retention, RollupDef, Source,
    Start, TableDef, TableKind,
};
use otus_engine::expr::ExpressionCompiler;
use otus_engine::keyed::Key;
use otus_engine::limits::RECORD_BYTES_MAX;
use otus_engine::rollup::RollupPlan;
use otus_engine::time::Granularity;
use otus_engine::types::ColumnType;

use super::column::{self, Placed};
use super::problem::Severity;
use super::tree::{Node, Section};
use super::{names, rollup, units};

/// Schema of a table that names none.
const DEFAULT_SCHEMA: &str = "public";

/// What only tables of events have, and why.
const NOT_KEYED: [(&str, &str); 7] = [
    ("time", "its rows are the latest of their keys, whenever they were written"),
    ("accept", "it has no event time"),
    ("retention", "a row stays until its key is deleted"),
    ("filter", "a row that is filtered away would leave an older one behind"),
    ("measures", "declare them in a table of events"),
    ("rollups", "declare them in a table of events"),
    ("start", "it always begins at the head of its topic"),
];

/// A table and the places that later checks report to.
pub(super) struct PlacedTable<'a> {
    pub(super) def: TableDef,
    pub(super) node: Node<'a>,
    pub(super) rollups: Vec<Node<'a>>,
}

/// Reads one table's section; `None` if it is too broken to go on with.
pub(super) fn table<'a>(
    tables: &Section<'a>,
    name: &str,
    node: &Node<'a>,
    has_kafka: bool,
    compiler: Option<&dyn ExpressionCompiler>,
) -> Option<PlacedTable<'a>> {
    check_key(tables, name);
    let section = node.section()?;
    // The key is the name, unless tables of several schemas share one.
    let own_name = section.take("name").and_then(|n| table_name(&n));
    let name = own_name.as_deref().unwrap_or(name);
    let description = section.take("description").and_then(|n| n.text());
    let schema = schema_name(&section);
    let source = source(&section);
    let format = format_name(&section);
    let is_file = matches!(source, Some(Source::File(_)));
    let start = start_of(&section, is_file);
    let keyed = keyed(&section);
    let time_node = time_node(&section, keyed.is_some());
    let time = time_node.as_ref().and_then(Node::text).unwrap_or_default();
    let accept = section.take("accept").and_then(|n| accept(&n)).unwrap_or_default();
    let retention_node = section.take("retention");
    let retention = retention_node.as_ref().and_then(retention).unwrap_or_default();
    let filter_node = section.take("filter");
    let filter = filter_node.as_ref().and_then(Node::text);
    let append = append(&section, is_file);
    let record_bytes_max = section.take("record_max").and_then(|n| record_max(&n));
    let columns_node =
        section.require("columns", "for example [tables.x.columns] with time = \"timestamptz\"");
    let columns_section = columns_node.as_ref().and_then(Node::section);
    let columns = columns_section.as_ref().map(|s| column::columns(s, &time)).unwrap_or_default();
    let lost = lost(columns_section.as_ref(), &columns);
    let measures = section.take("measures").and_then(|n| n.section());
    let measures = measures.map(|s| column::measures(&s)).unwrap_or_default();
    let (column_defs, measure_defs) = (defs(&columns), defs(&measures));
    let rollups = section.take("rollups").and_then(|n| n.section());
    let rollups = rollups
        .map(|s| rollup::rollups(&s, &time, &with_lost(&column_defs, &lost), &measure_defs))
        .unwrap_or_default();
    section.finish();
    if let (Some(node), true) = (&time_node, columns_node.is_some() && !lost.contains(&time)) {
        check_time(node, &time, &columns);
    }
    if let (Some((key, Some(node))), true) = (&keyed, columns_node.is_some()) {
        check_keyed(&section, key, node, is_file, &columns);
    }
    let def = TableDef {
        schema,
        name: name.to_string(),
        kind: kind(keyed),
        description,
        // What stands for a missing one is only there for the other checks.
        source: source.clone().unwrap_or(Source::Topics(Vec::new())),
        start,
        format,
        time,
        columns: column_defs,
        filter,
        measures: measure_defs,
        rollups: defs(&rollups),
        accept,
        retention,
        append: append.unwrap_or(!has_kafka && !is_file),
        record_bytes_max: record_bytes_max.unwrap_or(RECORD_BYTES_MAX),
        origin: Origin::File,
    };
    if let Some(node) = &retention_node {
        check_retention(node, &def);
    }
    if let Some(compiler) = compiler {
        let compiling = Compiling { compiler, def: &def, lost: &lost };
        compiling.run(&columns, &measures, filter_node.as_ref());
        plan_rollups(compiler, &def, &rollups);
    }
    source?;
    let rollups = rollups.into_iter().map(|r| r.node).collect();
    Some(PlacedTable { def, node: node.clone(), rollups })
}

/// Where the event-time column is named; a keyed table has none.
fn time_node<'a>(section: &Section<'a>, is_keyed: bool) -> Option<Node<'a>> {
    let require = || section.require("time", "the name of the column that holds the event's time");
    (!is_keyed).then(require).flatten()
}

fn kind(keyed: Option<(String, Option<Node<'_>>)>) -> TableKind {
    keyed.map_or(TableKind::Events, |(key, _)| TableKind::Keyed(KeyedDef { key, rebuild: None }))
}

/// The name of the key column and where it stands, if the table is a keyed one.
fn keyed<'a>(section: &Section<'a>) -> Option<(String, Option<Node<'a>>)> {
    let kind = section.take("kind");
    match kind.as_ref().and_then(Node::text).as_deref() {
        None | Some("events") => {
            if let Some(node) = section.take("key") {
                node.error_hint("only a keyed table has a key", "add kind = \"keyed\"");
            }
            return None;
        }
        Some("keyed") => {}
        Some(other) => {
            if let Some(node) = &kind {
                let message = format!("unknown kind {other:?}");
                node.error_hint(message, "\"events\" (which is meant without it) or \"keyed\"");
            }
        }
    }
    for (name, why) in NOT_KEYED {
        if let Some(node) = section.take(name) {
            node.error(format!("a keyed table has no {name:?}: {why}"));
        }
    }
    let node = section.require("key", "the name of the column that holds the key");
    Some((node.as_ref().and_then(Node::text).unwrap_or_default(), node))
}

fn check_keyed(
    section: &Section<'_>,
    key: &str,
    node: &Node<'_>,
    is_file: bool,
    columns: &[Placed<'_, ColumnDef>],
) {
    if is_file {
        section.error_hint("a keyed table reads topics, not a file", "give its topic");
    }
    for column in columns.iter().filter(|c| names::KEYED_COLUMNS.contains(&c.def.name.as_str())) {
        let message = format!("a keyed table has a system column {:?} already", column.def.name);
        column.node.error_hint(message, "choose another name and give the field by path");
    }
    let Some(column) = columns.iter().find(|c| c.def.name == key) else {
        column::unknown(node, "column", key, columns.iter().map(|c| c.def.name.as_str()));
        return;
    };
    let def = &column.def;
    if !Key::is_key_type(&def.column_type) {
        let message = format!("the key column {key:?} is {}", def.column_type);
        column.node.error_hint(message, "declare it as text, bigint, uuid or jsonb");
    }
    if !matches!(def.source, ColumnSource::RecordKey | ColumnSource::Path(_)) {
        column.node.error_hint(
            format!("the key column {key:?} is neither the record's key nor a field"),
            "{ type = \"text\", from = \"key\" }, or a field by its path",
        );
    }
    if def.default.is_some() {
        column.node.error(format!("the key column {key:?} cannot have a default"));
    }
}

/// Whether the section's key can be a table's name.
fn check_key(tables: &Section<'_>, name: &str) {
    if let Some((message, hint)) = names::refusal(name) {
        tables.report_key(name, Severity::Error, message, hint);
    } else if let Some((message, hint)) = names::stumbling_block(name) {
        tables.report_key(name, Severity::Warning, message, &hint);
    } else if name.starts_with("pg_") {
        let message = format!("{name:?} is like the name of a system table, which SQL finds first");
        let hint = format!("in SQL write it with its schema, as in public.{name}");
        tables.report_key(name, Severity::Warning, message, &hint);
    }
}

fn defs<T: Clone>(placed: &[Placed<'_, T>]) -> Vec<T> {
    placed.iter().map(|p| p.def.clone()).collect()
}

fn table_name(node: &Node<'_>) -> Option<String> {
    let name = node.text()?;
    if let Some((message, hint)) = names::refusal(&name) {
        node.error_hint(message, hint);
        return None;
    }
    Some(name)
}

fn schema_name(section: &Section<'_>) -> String {
    let Some(node) = section.take("schema") else { return DEFAULT_SCHEMA.to_string() };
    let Some(name) = node.text() else { return DEFAULT_SCHEMA.to_string() };
    if let Some((message, hint)) = names::schema_refusal(&name) {
        node.error_hint(message, hint);
    }
    name
}

fn source(section: &Section<'_>) -> Option<Source> {
    let topic = section.take("topic");
    let topics = section.take("topics");
    let pattern = section.take("topic_pattern");
    let file = section.take("file");
    let given = [&topic, &topics, &pattern, &file].into_iter().flatten().count();
    if given != 1 {
        section.error_hint(
            if given == 0 { "the table reads nothing" } else { "the table reads more than one" },
            "give one of topic, topics, topic_pattern and file",
        );
        return None;
    }
    if let Some(node) = topic {
        let topic = node.text()?;
        check_topic(&node, &topic);
        return Some(Source::Topics(vec![topic]));
    }
    if let Some(node) = topics {
        let names = node.names()?;
        if names.is_empty() {
            node.error("topics is empty");
        }
        for (name, item) in &names {
            check_topic(item, name);
        }
        return Some(Source::Topics(names.into_iter().map(|(name, _)| name).collect()));
    }
    if let Some(node) = pattern {
        let pattern = node.text()?;
        if let Err(e) = regex::Regex::new(&pattern) {
            let reason = e.to_string();
            let last = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            node.error(format!("{pattern:?} is not a regular expression: {last}"));
        }
        return Some(Source::Pattern(pattern));
    }
    let node = file?;
    Some(Source::File(node.text()?))
}

fn check_topic(node: &Node<'_>, topic: &str) {
    if topic.is_empty()
        || topic.len() > 249
        || topic == "."
        || topic == ".."
        || !topic.chars().all(is_of_topic)
    {
        node.error_hint(
            format!("{topic:?} is not a topic's name"),
            "1 to 249 letters, digits, dots, underscores and hyphens",
        );
    }
}

/// Whether a topic's name may have this character.
pub(super) fn is_of_topic(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn append(section: &Section<'_>, is_file: bool) -> Option<bool> {
    let node = section.take("append")?;
    let append = node.boolean()?;
    if append && is_file {
        node.error("a table that reads a file cannot be appended to");
    }
    Some(append)
}

fn start_of(section: &Section<'_>, is_file: bool) -> Start {
    let Some(node) = section.take("start") else { return Start::default() };
    let start = start(&node).unwrap_or_default();
    if start != Start::Earliest && is_file {
        node.error_hint(
            "a file is read from its beginning: its lines have no timestamps",
            "remove start; a filter on the event time drops rows",
        );
    }
    start
}

fn format_name(section: &Section<'_>) -> String {
    let Some(node) = section.take("format") else { return "json".to_string() };
    let format = node.text().unwrap_or_default();
    if format != "json" && !format.is_empty() {
        node.error_hint(format!("unknown format {format:?}"), "\"json\" is the only one so far");
    }
    format
}

fn start(node: &Node<'_>) -> Option<Start> {
    Some(match node.moment_text()?.as_str() {
        "earliest" => Start::Earliest,
        "latest" => Start::Latest,
        moment => match units::parse_moment_us(moment) {
            Ok(us) => Start::Time(us),
            Err(_) => {
                node.error_hint(
                    format!("unknown start {moment:?}"),
                    "\"earliest\", \"latest\" or a moment such as \"2024-08-20T09:00:00Z\"",
                );
                return None;
            }
        },
    })
}

fn accept(node: &Node<'_>) -> Option<Accept> {
    let section = node.section()?;
    let late_us = section.take("late").and_then(|n| n.duration_us());
    let early_us = section.take("early").and_then(|n| n.duration_us());
    section.finish();
    Some(Accept { late_us, early_us })
}

fn retention(node: &Node<'_>) -> Option<Retention> {
    let section = node.section()?;
    let mut retention = Retention::default();
    for (key, value) in section.entries() {
        if key == "raw" {
            retention.raw_us = value.duration_us();
        } else if let Ok(granularity) = key.parse::<Granularity>() {
            if let Some(us) = value.duration_us() {
                retention.rollup_us.insert(granularity, us);
            }
        } else {
            let message = format!("unknown key {key:?}");
            let hint = "\"raw\" or a granularity such as \"minute\", \"hour\", \"day\"";
            section.report_key(&key, Severity::Error, message, hint);
        }
    }
    Some(retention)
}

fn check_retention(node: &Node<'_>, def: &TableDef) {
    for granularity in def.retention.rollup_us.keys() {
        if !def.rollups.iter().any(|r| r.granularities.contains(granularity)) {
            node.error(format!("no rollup of the table has the granularity {granularity}"));
        }
    }
}

fn record_max(node: &Node<'_>) -> Option<usize> {
    let bytes = usize::try_from(node.size_bytes()?).ok()?;
    if !(1..=512 << 20).contains(&bytes) {
        node.error("record_max must be between 1 B and 512 MiB");
        return None;
    }
    Some(bytes)
}

fn check_time(node: &Node<'_>, time: &str, columns: &[Placed<'_, ColumnDef>]) {
    let Some(column) = columns.iter().find(|c| c.def.name == time) else {
        column::unknown(node, "column", time, columns.iter().map(|c| c.def.name.as_str()));
        return;
    };
    if !matches!(column.def.column_type, ColumnType::Timestamptz | ColumnType::Timestamp) {
        column.node.error_hint(
            format!("the event-time column {time:?} is {}", column.def.column_type),
            "declare it as timestamptz, or as timestamp if it has no zone",
        );
    }
}

/// Columns that are declared, but so that nothing can be made of them.
fn lost(section: Option<&Section<'_>>, columns: &[Placed<'_, ColumnDef>]) -> Vec<String> {
    let names = section.map(Section::entries).unwrap_or_default().into_iter().map(|(name, _)| name);
    names.filter(|name| !columns.iter().any(|c| c.def.name == *name)).collect()
}

/// The columns with stand-ins for lost ones: what names those is not wrong for that.
fn with_lost(columns: &[ColumnDef], lost: &[String]) -> Vec<ColumnDef> {
    let stand_ins = lost.iter().map(|name| ColumnDef::new(name, ColumnType::Text));
    columns.iter().cloned().chain(stand_ins).collect()
}

/// Compiles every expression, so that a mistake is found here and not at the first record.
struct Compiling<'a> {
    compiler: &'a dyn ExpressionCompiler,
    def: &'a TableDef,
    lost: &'a [String],
}

impl Compiling<'_> {
    fn run(
        &self,
        columns: &[Placed<'_, ColumnDef>],
        measures: &[Placed<'_, MeasureDef>],
        filter: Option<&Node<'_>>,
    ) {
        let plain = plain_schema(self.def);
        for column in columns {
            let ColumnSource::Computed(sql) = &column.def.source else { continue };
            match self.compiler.scalar(&plain, sql) {
                Ok(compiled) => {
                    let (from, to) = (compiled.data_type(), column.def.column_type.arrow());
                    if !arrow::compute::can_cast_types(from, &to) {
                        let declared = &column.def.column_type;
                        column.sql.error(format!("the expression gives {from}, not {declared}"));
                    }
                }
                Err(e) => self.report(&column.sql, &e),
            }
        }
        let schema = self.def.arrow_schema();
        if let (Some(node), Some(sql)) = (filter, &self.def.filter) {
            match self.compiler.scalar(&schema, sql) {
                Ok(compiled) if *compiled.data_type() != DataType::Boolean => {
                    node.error(format!("the filter gives {}, not boolean", compiled.data_type()));
                }
                Ok(_) => {}
                Err(e) => self.report(node, &e),
            }
        }
        self.measures(&schema, measures);
    }

    /// Reports an error, unless it only follows from a lost column, which has been reported.
    fn report(&self, node: &Node<'_>, error: &Error) {
        // A measure may be called as a lost column is, and both name the other kind of thing.
        let message = error.message();
        let follows = |name: &String| {
            let quoted = format!("\"{name}\"");
            message.match_indices(&quoted).any(|(at, _)| {
                !message.get(..at).is_some_and(|before| before.ends_with("measure "))
            })
        };
        if !self.lost.iter().any(follows) {
            node.engine_error(error);
        }
    }

    /// Measures may name each other in any order: grow the set that compiles, then report what is left.
    fn measures(&self, schema: &SchemaRef, measures: &[Placed<'_, MeasureDef>]) {
        // Without the declared one, any time lets the other mistakes be found.
        let is_time = |c: &&ColumnDef| {
            matches!(c.column_type, ColumnType::Timestamptz | ColumnType::Timestamp)
        };
        let declared = self.def.column(&self.def.time).filter(is_time);
        let time = declared.or_else(|| self.def.columns.iter().find(is_time));
        let (schema, time) = match time {
            Some(column) => (Arc::clone(schema), column.name.as_str()),
            None => (with_time(schema, &self.def.time), self.def.time.as_str()),
        };
        let compile = |list: &[MeasureDef]| self.compiler.measures(&schema, time, list);
        if compile(&defs(measures)).is_ok() {
            return;
        }
        let mut good: Vec<MeasureDef> = Vec::new();
        let mut waiting: Vec<&Placed<'_, MeasureDef>> = measures.iter().collect();
        loop {
            let before = waiting.len();
            let mut failed = Vec::new();
            for measure in waiting {
                good.push(measure.def.clone());
                if let Err(e) = compile(&good) {
                    good.pop();
                    failed.push((measure, e));
                }
            }
            if failed.len() == before || failed.is_empty() {
                for (measure, error) in failed {
                    self.report(&measure.sql, &error);
                }
                return;
            }
            waiting = failed.into_iter().map(|(measure, _)| measure).collect();
        }
    }
}

/// The schema with a stand-in for the event-time column.
fn with_time(schema: &SchemaRef, time: &str) -> SchemaRef {
    let others = schema.fields().iter().filter(|f| f.name() != time).map(|f| f.as_ref().clone());
    let time = ColumnType::Timestamptz.field(time, false);
    Arc::new(Schema::new(others.chain([time]).collect::<Vec<_>>()))
}

/// Plans every rollup that is not wrong already: its columns and states must fit into one file.
fn plan_rollups(
    compiler: &dyn ExpressionCompiler,
    def: &TableDef,
    rollups: &[Placed<'_, RollupDef>],
) {
    let schema = def.arrow_schema();
    let Ok(measures) = compiler.measures(&schema, &def.time, &def.measures) else { return };
    for rollup in rollups.iter().filter(|r| r.node.is_sound()) {
        if let Err(e) = RollupPlan::new(&schema, &def.time, &rollup.def, &measures, compiler) {
            rollup.node.engine_error(&e);
        }
    }
}

/// The raw schema without computed columns: what computed columns are made of.
fn plain_schema(def: &TableDef) -> SchemaRef {
    let fields: Vec<_> = def
        .columns
        .iter()
        .filter(|c| !matches!(c.source, ColumnSource::Computed(_)))
        .map(|c| c.column_type.field(&c.name, c.name != def.time))
        .collect();
    Arc::new(Schema::new(fields))
}
