//! Rollups of one table section. Their expressions are compiled where the whole table is known.

use std::collections::BTreeSet;

use otus_engine::catalog::{BUCKET_COLUMN, ColumnDef, DimensionDef, MeasureDef, RollupDef};
use otus_engine::time::Granularity;
use otus_engine::types::ColumnType;

use super::column::{Placed, check_name, unknown};
use super::names;
use super::tree::{Node, Section};

/// The `rollups` table.
pub(super) fn rollups<'a>(
    section: &Section<'a>,
    time: &str,
    columns: &[ColumnDef],
    measures: &[MeasureDef],
) -> Vec<Placed<'a, RollupDef>> {
    let entries = section.entries();
    let read = |(name, node): &(String, Node<'a>)| {
        check_name(section, name, names::refusal(name));
        rollup(name, node, time, columns, measures)
    };
    entries.iter().filter_map(read).collect()
}

fn rollup<'a>(
    name: &str,
    node: &Node<'a>,
    time: &str,
    columns: &[ColumnDef],
    measures: &[MeasureDef],
) -> Option<Placed<'a, RollupDef>> {
    let section = node.section()?;
    let granularity =
        section.require("granularity", "for example granularity = [\"minute\", \"hour\", \"day\"]");
    let dimensions = section.take("dimensions");
    let filter = section.take("filter");
    let stored = section.take("measures");
    section.finish();
    let granularities = granularity.map(|node| granularities(&node)).unwrap_or_default();
    let dimensions: Vec<_> = dimensions.map(|node| dimensions_of(&node)).unwrap_or_default();
    let mut seen = BTreeSet::new();
    for (def, node) in &dimensions {
        let dimension = &def.name;
        if !seen.insert(dimension) {
            node.error(format!("dimension {dimension:?} is named twice"));
        }
        match &def.sql {
            None => check_dimension(dimension, node, time, columns),
            Some(_) => check_computed(dimension, node, columns),
        }
        if measures.iter().any(|m| m.name == *dimension) {
            node.error_hint(
                format!("{dimension:?} is a dimension here and a measure of the table"),
                "give the measure another name",
            );
        }
    }
    let stored = stored.and_then(|node| node.names()).unwrap_or_default();
    for (measure, node) in &stored {
        if !measures.iter().any(|m| m.name == *measure) {
            let known = measures.iter().map(|m| m.name.as_str());
            unknown(node, "measure", measure, known);
        }
    }
    if measures.is_empty() {
        node.error_hint("a rollup stores measures, and the table has none", "declare a measure");
    }
    let def = RollupDef {
        name: name.to_string(),
        granularities,
        dimensions: dimensions.into_iter().map(|(def, _)| def).collect(),
        filter: filter.and_then(|node| node.text()),
        measures: stored.into_iter().map(|(name, _)| name).collect(),
    };
    Some(Placed { def, node: node.clone(), sql: node.clone() })
}

/// A name, or an array of names and of `{ name = …, sql = … }`.
fn dimensions_of<'a>(node: &Node<'a>) -> Vec<(DimensionDef, Node<'a>)> {
    let one = |node: Node<'a>| {
        if let Some(name) = node.as_text() {
            return Some((name.into(), node));
        }
        if !node.is_table() {
            let kind = node.kind();
            node.error_hint(
                format!("expected a dimension, found {kind}"),
                "the name of a column, or { name = \"host\", sql = \"split_part(url, '/', 3)\" }",
            );
            return None;
        }
        let section = node.section()?;
        let name = section.require("name", "for example name = \"host\"");
        let sql = section.require("sql", "for example sql = \"split_part(url, '/', 3)\"");
        section.finish();
        let (name, sql) = (name?.text()?, sql?.text()?);
        Some((DimensionDef::computed(name, sql), node))
    };
    match node.kind() {
        "string" | "array" => {}
        other => {
            node.error_hint(
                format!("expected an array of dimensions, found {other}"),
                "for example [\"country\", { name = \"host\", sql = \"split_part(url, '/', 3)\" }]",
            );
            return Vec::new();
        }
    }
    match node.as_text() {
        Some(_) => one(node.clone()).into_iter().collect(),
        None => node.items().into_iter().filter_map(one).collect(),
    }
}

fn check_computed(name: &str, node: &Node<'_>, columns: &[ColumnDef]) {
    if let Some((message, hint)) = names::column_refusal(name) {
        node.error_hint(message, hint);
    } else if name == BUCKET_COLUMN {
        node.error(format!("a dimension cannot be called {BUCKET_COLUMN:?}, as the bucket is"));
    } else if columns.iter().any(|c| c.name == name) {
        node.error_hint(
            format!("the computed dimension {name:?} is called as a column of the table is"),
            "give the expression another name",
        );
    }
}

fn granularities(node: &Node<'_>) -> Vec<Granularity> {
    let mut found: Vec<Granularity> = Vec::new();
    for (text, item) in node.names().unwrap_or_default() {
        match text.parse::<Granularity>() {
            Ok(g) if found.contains(&g) => item.error(format!("granularity {text:?} stands twice")),
            Ok(g) => found.push(g),
            Err(e) => item.engine_error(&e),
        }
    }
    found.sort_unstable();
    for pair in found.windows(2) {
        if let [finer, coarser] = pair
            && !finer.divides(*coarser)
        {
            node.error_hint(
                format!("a {coarser} is not made of whole {finer}s"),
                "declare a second rollup for one of them",
            );
        }
    }
    if found.is_empty() && node.items().is_empty() && node.as_text().is_none() {
        node.error("a rollup has at least one granularity");
    }
    found
}

fn check_dimension(name: &str, node: &Node<'_>, time: &str, columns: &[ColumnDef]) {
    if name == time {
        node.error_hint(
            format!("the event-time column {name:?} cannot be a dimension"),
            "every rollup has its bucket already",
        );
        return;
    }
    if name == BUCKET_COLUMN {
        node.error(format!("a dimension cannot be called {BUCKET_COLUMN:?}, as the bucket is"));
        return;
    }
    let Some(column) = columns.iter().find(|c| c.name == name) else {
        unknown(node, "column", name, columns.iter().map(|c| c.name.as_str()));
        return;
    };
    if column.column_type.is_float() {
        node.error_hint(
            format!("column {name:?} is {}, and floats cannot be dimensions", column.column_type),
            "declare it as numeric(p,s), or leave it out",
        );
    } else if matches!(column.column_type, ColumnType::Array(_) | ColumnType::Jsonb) {
        node.error_hint(
            format!("column {name:?} is {}, which cannot be a dimension", column.column_type),
            "declare a computed column that takes a scalar out of it",
        );
    }
}
