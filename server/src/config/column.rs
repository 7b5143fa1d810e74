//! Columns and measures of one table section.

use otus_engine::catalog::{
    BUCKET_COLUMN, ColumnDef, ColumnSource, EpochUnit, MeasureDef, Presentation,
};
use otus_engine::types::ColumnType;

use super::problem::Severity;
use super::tree::{Node, Section};
use super::{defaults, names};

/// A declared thing and where it stands.
pub(super) struct Placed<'a, T> {
    pub(super) def: T,
    pub(super) node: Node<'a>,
    /// Where its SQL text stands, if it has one.
    pub(super) sql: Node<'a>,
}

/// The `columns` table.
pub(super) fn columns<'a>(section: &Section<'a>, time: &str) -> Vec<Placed<'a, ColumnDef>> {
    let entries = section.entries();
    let read = |(name, node): &(String, Node<'a>)| {
        check_name(section, name, names::column_refusal(name));
        column(name, node, time)
    };
    entries.iter().filter_map(read).collect()
}

pub(super) fn check_name(
    section: &Section<'_>,
    name: &str,
    refusal: Option<(String, &'static str)>,
) {
    if let Some((message, hint)) = refusal {
        section.report_key(name, Severity::Error, message, hint);
    } else if let Some((message, hint)) = names::stumbling_block(name) {
        section.report_key(name, Severity::Warning, message, &hint);
    }
}

fn column<'a>(name: &str, node: &Node<'a>, time: &str) -> Option<Placed<'a, ColumnDef>> {
    let short = node.as_text().map(str::to_string);
    if let Some(text) = short {
        let column_type = column_type(node, &text)?;
        let def = ColumnDef::new(name, column_type);
        return Some(Placed { def, node: node.clone(), sql: node.clone() });
    }
    if !node.is_table() {
        let kind = node.kind();
        node.error_hint(
            format!("expected a column type or a table, found {kind}"),
            "for example \"text\", or { type = \"text\", path = \"user.name\" }",
        );
        return None;
    }
    let section = node.section()?;
    let type_node = section.require("type", "every column has a type, for example type = \"text\"");
    let path = section.take("path");
    let from = section.take("from");
    let sql = section.take("sql");
    let unit = section.take("unit");
    let default = section.take("default");
    let mut presentation = presentation(&section);
    section.finish();
    let type_node = type_node?;
    let column_type = type_node.text().and_then(|text| column_type(&type_node, &text))?;
    if [&path, &from, &sql].into_iter().flatten().count() > 1 {
        node.error_hint(
            "a column has one of path, from and sql",
            "path names a field of the record, from a part of its envelope, sql computes",
        );
        return None;
    }
    let source = match (&path, &from, &sql) {
        (Some(path), _, _) => path_source(path)?,
        (_, Some(from), _) => envelope_source(from, &column_type)?,
        (_, _, Some(sql)) => ColumnSource::Computed(sql.text()?),
        _ => ColumnSource::Path(vec![name.to_string()]),
    };
    let is_moment = matches!(column_type, ColumnType::Timestamp | ColumnType::Timestamptz);
    let mut epoch = None;
    if let Some(unit) = unit {
        if is_moment && matches!(source, ColumnSource::Path(_)) {
            epoch = epoch_unit(&unit);
        } else {
            presentation.unit = unit.text();
        }
    }
    let default = default.and_then(|node| defaults::value(&node, &column_type));
    if default.is_some() && name == time {
        node.error_hint(
            format!("the event-time column {name:?} cannot have a default"),
            "a record without its time is kept in otus.rejected",
        );
    }
    let def =
        ColumnDef { name: name.to_string(), column_type, source, epoch, default, presentation };
    Some(Placed { def, node: node.clone(), sql: sql.unwrap_or_else(|| node.clone()) })
}

fn column_type(node: &Node<'_>, text: &str) -> Option<ColumnType> {
    text.parse::<ColumnType>().map_err(|e| node.engine_error(&e)).ok()
}

fn path_source(node: &Node<'_>) -> Option<ColumnSource> {
    let path: Vec<String> = match node.as_text() {
        Some(text) => text.split('.').map(str::to_string).collect(),
        None => node.names()?.into_iter().map(|(name, _)| name).collect(),
    };
    if path.is_empty() || path.iter().any(String::is_empty) {
        node.error_hint(
            "a path has at least one element and no empty one",
            "\"geo.city.name\", or [\"a.b\", \"c\"] where a field's name holds a dot",
        );
        return None;
    }
    Some(ColumnSource::Path(path))
}

fn envelope_source(node: &Node<'_>, column_type: &ColumnType) -> Option<ColumnSource> {
    let text = node.text()?;
    let source = match text.as_str() {
        "key" => ColumnSource::RecordKey,
        "timestamp" => ColumnSource::RecordTimestamp,
        "rest" => ColumnSource::Rest,
        other => match other.strip_prefix("header.").filter(|name| !name.is_empty()) {
            Some(name) => ColumnSource::RecordHeader(name.to_string()),
            None => {
                node.error_hint(
                    format!("unknown part of a record: {other:?}"),
                    "one of \"key\", \"timestamp\", \"header.<name>\" and \"rest\"",
                );
                return None;
            }
        },
    };
    let fits = match source {
        ColumnSource::RecordTimestamp => {
            matches!(column_type, ColumnType::Timestamptz | ColumnType::Timestamp)
        }
        ColumnSource::Rest => *column_type == ColumnType::Jsonb,
        _ => true,
    };
    if !fits {
        let needs = if text == "rest" { "jsonb" } else { "timestamptz" };
        node.error(format!("{text:?} needs a column of type {needs}, not {column_type}"));
        return None;
    }
    Some(source)
}

fn epoch_unit(node: &Node<'_>) -> Option<EpochUnit> {
    Some(match node.text()?.as_str() {
        "s" => EpochUnit::Seconds,
        "ms" => EpochUnit::Millis,
        "us" => EpochUnit::Micros,
        "ns" => EpochUnit::Nanos,
        other => {
            node.error_hint(
                format!("unknown unit of an epoch time: {other:?}"),
                "one of \"s\", \"ms\", \"us\" and \"ns\"",
            );
            return None;
        }
    })
}

fn presentation(section: &Section<'_>) -> Presentation {
    Presentation {
        title: section.take("title").and_then(|n| n.text()),
        description: section.take("description").and_then(|n| n.text()),
        unit: None,
        format: section.take("format").and_then(|n| n.text()),
        hidden: section.take("hidden").and_then(|n| n.boolean()).unwrap_or(false),
    }
}

/// The `measures` table.
pub(super) fn measures<'a>(section: &Section<'a>) -> Vec<Placed<'a, MeasureDef>> {
    let entries = section.entries();
    let read = |(name, node): &(String, Node<'a>)| {
        let refusal = if name == BUCKET_COLUMN {
            Some((
                format!("{BUCKET_COLUMN:?} is the time column of every rollup"),
                "choose another name",
            ))
        } else {
            names::column_refusal(name)
        };
        check_name(section, name, refusal);
        measure(name, node)
    };
    entries.iter().filter_map(read).collect()
}

fn measure<'a>(name: &str, node: &Node<'a>) -> Option<Placed<'a, MeasureDef>> {
    let (sql_node, presentation) = if node.as_text().is_some() {
        (node.clone(), Presentation::default())
    } else {
        let section = node.section()?;
        let sql = section.require("sql", "for example sql = \"count(*)\"");
        let unit = section.take("unit").and_then(|n| n.text());
        let presentation = Presentation { unit, ..presentation(&section) };
        section.finish();
        (sql?, presentation)
    };
    let def = MeasureDef { name: name.to_string(), sql: sql_node.text()?, presentation };
    Some(Placed { def, node: node.clone(), sql: sql_node })
}

/// Reports a name that is not among the known ones.
pub(super) fn unknown<'w>(
    node: &Node<'_>,
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'w str> + Clone,
) {
    let message = format!("{what} {name:?} is not declared");
    match super::units::nearest(name, known) {
        Some(near) => node.error_hint(message, format!("did you mean {near:?}?")),
        None => node.error(message),
    }
}
