//! The `[queries.<name>]` sections: queries with typed parameters, planned over the declared tables before
//! they are accepted.

use std::collections::BTreeMap;

use otus_engine::catalog::TableDef;
use otus_engine::types::ColumnType;
use otus_sql::{NamedQueryDef, ParameterDef, QueryPlace, SqlError, check_queries};

use super::names;
use super::problem::Severity;
use super::tree::{Node, Section};

/// A query and the places that later checks report to.
struct Placed<'a> {
    def: NamedQueryDef,
    sql: Node<'a>,
    parameters: BTreeMap<String, Node<'a>>,
}

/// Reads all sections. They are planned over `tables` if these are right and expressions are looked at.
pub(super) fn queries(section: &Section<'_>, tables: Option<&[TableDef]>) -> Vec<NamedQueryDef> {
    let entries = section.entries();
    let placed: Vec<Placed<'_>> =
        entries.iter().filter_map(|(name, node)| query(section, name, node)).collect();
    let defs: Vec<NamedQueryDef> = placed.iter().map(|p| p.def.clone()).collect();
    if let Some(tables) = tables.filter(|_| !defs.is_empty()) {
        match check_queries(tables, &defs) {
            Ok(problems) => {
                for (at, problem) in problems {
                    let Some(placed) = placed.get(at) else { continue };
                    report(section, placed, &problem.place, &problem.error);
                }
            }
            Err(e) => section.error_hint(
                format!("the queries cannot be planned: {}", e.message),
                e.hint.unwrap_or_else(|| "correct the tables first".to_string()),
            ),
        }
    }
    defs
}

fn report(section: &Section<'_>, placed: &Placed<'_>, place: &QueryPlace, e: &SqlError) {
    let hint = e.hint.clone().or_else(|| e.detail.clone()).unwrap_or_default();
    let node = match place {
        QueryPlace::Sql => Some(&placed.sql),
        QueryPlace::Parameter(name) => placed.parameters.get(name),
        QueryPlace::Name => None,
    };
    let message = match e.position {
        Some(at) if *place == QueryPlace::Sql => format!("{} (character {at})", e.message),
        _ => e.message.clone(),
    };
    match node {
        Some(node) if hint.is_empty() => node.error(message),
        Some(node) => node.error_hint(message, hint),
        None => section.report_key(&placed.def.name, Severity::Error, message, &hint),
    }
}

fn query<'a>(queries: &Section<'a>, name: &str, node: &Node<'a>) -> Option<Placed<'a>> {
    if let Some((message, hint)) = names::refusal(name) {
        queries.report_key(name, Severity::Error, message, hint);
        return None;
    }
    if let Some((message, hint)) = names::stumbling_block(name) {
        queries.report_key(name, Severity::Warning, message, &hint);
    }
    let section = node.section()?;
    let sql = section.require("sql", "for example sql = \"SELECT … WHERE time >= $since\"");
    let description = section.take("description").and_then(|n| n.text());
    let list = section.take("parameters").and_then(|n| n.section());
    section.finish();
    let (mut parameters, mut nodes) = (Vec::new(), BTreeMap::new());
    let mut is_whole = true;
    for (name, node) in list.iter().flat_map(Section::entries) {
        match parameter(&name, &node) {
            Some(parameter) => parameters.push(parameter),
            None => is_whole = false,
        }
        nodes.insert(name, node);
    }
    let sql = sql?;
    let text = sql.text()?;
    let def = NamedQueryDef { name: name.to_string(), sql: text, parameters, description };
    is_whole.then_some(Placed { def, sql, parameters: nodes })
}

fn parameter(name: &str, node: &Node<'_>) -> Option<ParameterDef> {
    let of = |node: &Node<'_>, text: &str| {
        text.parse::<ColumnType>().map_err(|e| node.engine_error(&e)).ok()
    };
    let name = name.to_string();
    if let Some(text) = node.as_text() {
        let column_type = of(node, text)?;
        return Some(ParameterDef { name, column_type, default: None, description: None });
    }
    if !node.is_table() {
        let kind = node.kind();
        node.error_hint(
            format!("expected a type or a table, found {kind}"),
            "for example \"bigint\", or { type = \"bigint\", default = 10 }",
        );
        return None;
    }
    let section = node.section()?;
    let given = section.require("type", "every parameter has a type, for example type = \"text\"");
    let default = section.take("default");
    let description = section.take("description").and_then(|n| n.text());
    section.finish();
    let given = given?;
    let column_type = given.text().and_then(|text| of(&given, &text))?;
    let default = match &default {
        None => None,
        Some(node) => Some(default_text(node)?),
    };
    Some(ParameterDef { name, column_type, default, description })
}

/// A default as text, which is read as what its parameter is.
fn default_text(node: &Node<'_>) -> Option<String> {
    match node.json()? {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            node.error("expected a plain value");
            None
        }
        plain => Some(plain.to_string()),
    }
}

#[cfg(test)]
mod tests;
