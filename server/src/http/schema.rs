//! `GET /api/schema`: what there is to ask for, for forms and drop-downs.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use otus_engine::catalog::Presentation;
use otus_engine::compiled::CompiledTable;
use serde_json::{Map, Value, json};

use super::Shared;

pub(super) async fn schema(State(shared): State<Shared>) -> Response {
    let snapshot = shared.otus.dataset().snapshot();
    let tables: Vec<Value> = snapshot.tables().map(|t| table(t)).collect();
    axum::Json(json!({ "tables": tables })).into_response()
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
            json!({
                "name": r.name,
                "granularities": granularities,
                "dimensions": r.dimensions,
                "measures": r.measures,
            })
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
