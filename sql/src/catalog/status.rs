//! What the catalogue tells of the server as it runs: settings, sessions, sizes, time zones.

use arrow::datatypes::FieldRef;
use chrono::{DateTime, Offset, Utc};
use chrono_tz::{OffsetComponents, OffsetName, TZ_VARIANTS};
use datafusion::error::Result as DfResult;

use super::handle::Catalogue;
use super::library::library;
use super::relations::{Relation, database_id, figures, id_of, type_of};
use super::value::{Rows, Value};
use crate::function::Held;
use crate::session::setting_description;

/// Adds the rows of one of the relations here; false if it is none of them.
pub(crate) fn push(catalogue: &Catalogue, name: &str, rows: &mut Rows) -> DfResult<bool> {
    match name {
        "pg_settings" => settings(catalogue, rows),
        "pg_prepared_statements" => statements(catalogue, rows)?,
        "pg_cursors" => cursors(catalogue, rows),
        "pg_stat_activity" => activity(catalogue, rows),
        "pg_stat_database" => database(catalogue, rows),
        "pg_timezone_names" => zones(catalogue, rows),
        "pg_stat_all_tables" | "pg_statio_all_tables" => tables(catalogue, rows, |_| true)?,
        "pg_stat_user_tables" | "pg_statio_user_tables" => {
            tables(catalogue, rows, |r| !r.is_built_in())?;
        }
        "pg_stat_sys_tables" | "pg_statio_sys_tables" => {
            tables(catalogue, rows, Relation::is_built_in)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn settings(catalogue: &Catalogue, rows: &mut Rows) {
    let Some(session) = catalogue.session() else { return };
    for (name, value) in &session.settings {
        let Some((name, description, fixed)) = setting_description(name) else { continue };
        let kind = match value.as_str() {
            "on" | "off" => "bool",
            number if number.parse::<i64>().is_ok() => "integer",
            _ => "string",
        };
        rows.push([
            ("name", name.into()),
            ("setting", value.into()),
            ("category", "Otus".into()),
            ("short_desc", description.into()),
            ("context", if fixed { "internal" } else { "user" }.into()),
            ("vartype", kind.into()),
            ("source", "default".into()),
            ("boot_val", value.into()),
            ("reset_val", value.into()),
            ("pending_restart", false.into()),
        ]);
    }
}

fn held(catalogue: &Catalogue) -> Held {
    let holds = catalogue.session().and_then(|session| session.holds.as_ref());
    holds.map(|holds| holds()).unwrap_or_default()
}

/// The statements that the session has made by PREPARE.
fn statements(catalogue: &Catalogue, rows: &mut Rows) -> DfResult<()> {
    let library = library()?;
    let types = |fields: &[FieldRef]| {
        Value::List(fields.iter().map(|field| type_of(library, field).oid.into()).collect())
    };
    for statement in held(catalogue).statements {
        let gives = statement.gives.map_or(Value::Null, |schema| types(schema.fields()));
        rows.push([
            ("name", statement.name.into()),
            ("statement", statement.text.as_ref().into()),
            ("prepare_time", Value::Time(statement.made_us)),
            ("parameter_types", types(&statement.takes)),
            ("result_types", gives),
            ("from_sql", true.into()),
            ("generic_plans", 0.into()),
            ("custom_plans", 0.into()),
        ]);
    }
    Ok(())
}

fn cursors(catalogue: &Catalogue, rows: &mut Rows) {
    for cursor in held(catalogue).cursors {
        rows.push([
            ("name", cursor.name.into()),
            ("statement", cursor.text.as_ref().into()),
            ("is_holdable", cursor.hold.into()),
            ("is_binary", false.into()),
            ("is_scrollable", cursor.scroll.into()),
            ("creation_time", Value::Time(cursor.made_us)),
        ]);
    }
}

fn activity(catalogue: &Catalogue, rows: &mut Rows) {
    let Some((sessions, own)) = catalogue.session().and_then(|s| s.sessions.as_ref()) else {
        return;
    };
    let roles = catalogue.roles();
    let id_of = |user: &str| match roles.iter().find(|r| r.name == user) {
        Some(role) => role.oid,
        None => id_of(&format!("role {user}")),
    };
    for session in sessions.list() {
        let doing = session.doing();
        let mut row = vec![
            ("datid", database_id(catalogue.database()).into()),
            ("datname", catalogue.database().into()),
            ("pid", session.pid.into()),
            ("usesysid", id_of(&session.user).into()),
            ("usename", (&session.user).into()),
            ("application_name", doing.application.into()),
        ];
        if !own.may_see(&session) {
            row.push(("query", "<insufficient privilege>".into()));
            rows.push(row);
            continue;
        }
        let client = session.client.map(|client| client.ip().to_canonical().to_string());
        row.extend([
            ("client_addr", client.into()),
            ("client_port", session.client.map(|client| i32::from(client.port())).into()),
            ("backend_start", Value::Time(session.begun_us)),
            ("xact_start", doing.transaction_us.map_or(Value::Null, Value::Time)),
            ("query_start", doing.query_us.map_or(Value::Null, Value::Time)),
            ("state_change", Value::Time(doing.changed_us)),
            ("state", doing.state.into()),
            ("query", doing.query.into()),
            ("backend_type", "client backend".into()),
        ]);
        rows.push(row);
    }
}

fn database(catalogue: &Catalogue, rows: &mut Rows) {
    rows.push([
        ("datid", database_id(catalogue.database()).into()),
        ("datname", catalogue.database().into()),
        ("stats_reset", Value::Time(catalogue.started_us())),
    ]);
}

fn tables(catalogue: &Catalogue, rows: &mut Rows, of: impl Fn(&Relation) -> bool) -> DfResult<()> {
    let all = catalogue.relations()?.list.iter();
    for relation in all.filter(|r| !r.is_view() && of(r)) {
        let live = i64::try_from(figures(catalogue.snapshot(), relation).rows).unwrap_or(i64::MAX);
        rows.push([
            ("relid", relation.oid.into()),
            ("schemaname", (&relation.schema).into()),
            ("relname", (&relation.name).into()),
            ("n_live_tup", live.into()),
            ("n_dead_tup", 0.into()),
        ]);
    }
    Ok(())
}

fn zones(catalogue: &Catalogue, rows: &mut Rows) {
    let us = catalogue.session().map_or(0, |session| session.statement_us);
    let now: DateTime<Utc> = DateTime::from_timestamp_micros(us).unwrap_or_default();
    for zone in TZ_VARIANTS {
        let local = now.with_timezone(&zone);
        let offset = local.offset();
        rows.push([
            ("name", zone.name().into()),
            ("abbrev", offset.abbreviation().into()),
            ("utc_offset", Value::Span(i64::from(offset.fix().local_minus_utc()))),
            ("is_dst", (offset.dst_offset().num_seconds() != 0).into()),
        ]);
    }
}
