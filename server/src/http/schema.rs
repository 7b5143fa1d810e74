//! `GET /api/schema`: what there is to ask for, for forms and drop-downs.

use arrow::datatypes::Field;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use otus_engine::catalog::Presentation;
use otus_engine::compiled::CompiledTable;
use otus_sql::NamedQueryInfo;
use serde_json::{Map, Value, json};

use super::Shared;
use super::caller::Caller;
use super::error::HttpError;
use super::render::type_name;

pub(super) async fn schema(
    State(shared): State<Shared>,
    caller: Caller,
) -> Result<Response, HttpError> {
    let session = caller.session(&shared);
    let pinned = session.pinned_state()?;
    let tables: Vec<Value> = pinned.snapshot().tables().map(|t| table(t)).collect();
    let queries = session.named_queries().await;
    let queries: Vec<Value> = queries.iter().map(query).collect();
    Ok(axum::Json(json!({ "tables": tables, "queries": queries })).into_response())
}

fn query(query: &NamedQueryInfo) -> Value {
    let def = &query.def;
    let parameters = def.parameters.iter().map(|p| {
        json!({
            "name": p.name,
            "type": p.column_type.to_string(),
            "default": p.default,
            "description": p.description,
        })
    });
    let columns = query.columns.as_ref().map(|columns| {
        let column = |f: &Field| json!({ "name": f.name(), "type": type_name(f) });
        columns.iter().map(column).collect::<Vec<_>>()
    });
    json!({
        "name": def.name,
        "description": def.description,
        "sql": def.sql,
        "parameters": parameters.collect::<Vec<_>>(),
        "columns": columns.as_ref().ok(),
        "error": columns.err().map(|e| &e.message),
    })
}

fn table(table: &CompiledTable) -> Value {
    let def = &table.def;
    let columns: Vec<Value> = def
        .columns
        .iter()
        .map(|c| {
            let base = json!({ "name": c.name, "type": c.column_type.to_string() });
            presented(base, &c.presentation)
        })
        .collect();
    let measures: Vec<Value> = def
        .measures
        .iter()
        .zip(&table.measures.measures)
        .map(|(def, compiled)| {
            let base = json!({
                "name": def.name,
                "sql": def.sql,
                "additive": compiled.additive,
                "approximate": compiled.approximate,
            });
            presented(base, &def.presentation)
        })
        .collect();
    let rollups: Vec<Value> = def
        .rollups
        .iter()
        .map(|r| {
            let granularities: Vec<String> =
                r.granularities.iter().map(ToString::to_string).collect();
            let dimensions: Vec<_> = r.dimension_names().collect();
            let mut entry = json!({
                "name": r.name,
                "granularities": granularities,
                "dimensions": dimensions,
                "measures": r.measures,
            });
            let computed: Map<String, Value> = r
                .dimensions
                .iter()
                .filter_map(|d| Some((d.name.clone(), json!(d.sql.as_ref()?))))
                .collect();
            if !computed.is_empty() {
                entry["computed"] = Value::Object(computed);
            }
            if let Some(filter) = &r.filter {
                entry["filter"] = json!(filter);
            }
            entry
        })
        .collect();
    json!({
        "schema": def.schema,
        "name": def.name,
        "description": def.description,
        "kind": if def.keyed().is_some() { "keyed" } else { "events" },
        "key": def.keyed().map(|keyed| &keyed.key),
        "time": (!def.time.is_empty()).then_some(&def.time),
        "columns": columns,
        "measures": measures,
        "rollups": rollups,
    })
}

/// Adds what is said for people, where something is.
fn presented(base: Value, presentation: &Presentation) -> Value {
    let mut entries = match base {
        Value::Object(entries) => entries,
        _ => Map::new(),
    };
    if let Ok(Value::Object(said)) = serde_json::to_value(presentation) {
        entries.extend(said);
    }
    Value::Object(entries)
}
