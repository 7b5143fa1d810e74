//! Sizes, and facts of the server.

use datafusion::error::Result as DfResult;

use super::names::relation;
use super::{Def, at, def, lax, missing, no, nothing, zero};
use crate::catalog::{Catalogue, Value, figures};
use crate::error::sqlstate;

#[rustfmt::skip]
pub(super) const ALL: &[Def] = &[
    def("pg_table_size", (1, 1), "int8", size),
    def("pg_relation_size", (1, 2), "int8", size),
    def("pg_total_relation_size", (1, 1), "int8", size),
    def("pg_indexes_size", (1, 1), "int8", zero),
    def("pg_database_size", (1, 1), "int8", |c, _| all(c)),
    def("pg_tablespace_size", (1, 1), "int8", |c, _| all(c)),
    def("pg_relation_filenode", (1, 1), "oid", |c, a| Ok(relation(c, at(a, 0))?.map(|r| r.oid).into())),
    def("pg_relation_filepath", (1, 1), "text", nothing),
    def("pg_relation_is_publishable", (1, 1), "bool", no),
    def("pg_relation_is_updatable", (2, 2), "int4", zero),
    def("pg_column_is_updatable", (3, 3), "bool", no),
    def("pg_tablespace_location", (1, 1), "text", |_, _| Ok("".into())),
    def("pg_encoding_to_char", (1, 1), "name", |_, a| {
        Ok(if at(a, 0).int() == Some(6) { "UTF8" } else { "" }.into())
    }),
    def("getdatabaseencoding", (0, 0), "name", |_, _| Ok("UTF8".into())),
    def("pg_char_to_encoding", (1, 1), "int4", |_, a| {
        let is_ours = at(a, 0).text().is_some_and(|t| ["utf8", "utf-8"].contains(&t.to_lowercase().as_str()));
        Ok(if is_ours { 6 } else { -1 }.into())
    }),
    def("pg_my_temp_schema", (0, 0), "oid", zero),
    def("pg_is_in_recovery", (0, 0), "bool", no),
    def("pg_is_in_backup", (0, 0), "bool", no),
    def("pg_postmaster_start_time", (0, 0), "timestamptz", |c, _| Ok(Value::Time(c.started_us()))),
    def("pg_conf_load_time", (0, 0), "timestamptz", |c, _| Ok(Value::Time(c.started_us()))),
    // No statement writes in a transaction, so that one number does for all.
    def("txid_current", (0, 0), "int8", |_, _| Ok(Value::Int(1))),
    def("txid_current_if_assigned", (0, 0), "int8", nothing),
    def("inet_server_addr", (0, 0), "inet", nothing),
    def("inet_client_addr", (0, 0), "inet", nothing),
    def("inet_server_port", (0, 0), "int4", nothing),
    def("inet_client_port", (0, 0), "int4", nothing),
    def("pg_blocking_pids", (1, 1), "_int4", |_, _| Ok(Value::List(Vec::new()))),
    lax("pg_collation_for", (1, 1), "text", nothing),
    def("pg_collation_actual_version", (1, 1), "text", nothing),
    def("pg_database_collation_actual_version", (1, 1), "text", nothing),
    lax("acldefault", (2, 2), "_aclitem", nothing),
    def("pg_stat_get_numscans", (1, 1), "int8", zero),
    def("pg_stat_get_live_tuples", (1, 1), "int8", live),
    def("pg_stat_get_dead_tuples", (1, 1), "int8", zero),
    def("pg_stat_get_tuples_returned", (1, 1), "int8", zero),
    def("pg_stat_get_tuples_fetched", (1, 1), "int8", zero),
    def("pg_stat_get_tuples_inserted", (1, 1), "int8", zero),
    def("pg_stat_get_tuples_updated", (1, 1), "int8", zero),
    def("pg_stat_get_tuples_deleted", (1, 1), "int8", zero),
    def("pg_stat_get_blocks_fetched", (1, 1), "int8", zero),
    def("pg_stat_get_blocks_hit", (1, 1), "int8", zero),
    def("pg_stat_get_last_vacuum_time", (1, 1), "timestamptz", nothing),
    def("pg_stat_get_last_autovacuum_time", (1, 1), "timestamptz", nothing),
    def("pg_stat_get_last_analyze_time", (1, 1), "timestamptz", nothing),
    def("pg_stat_get_last_autoanalyze_time", (1, 1), "timestamptz", nothing),
];

fn count(n: u64) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn size(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let of = at(given, 0);
    match (relation(c, of)?, of.text().filter(|text| text.parse::<u32>().is_err())) {
        (Some(relation), _) => Ok(count(figures(c.snapshot(), relation).bytes)),
        (None, Some(name)) => missing(sqlstate::UNDEFINED_TABLE, "relation", name),
        (None, None) if of.oid().is_some_and(|oid| is_index(c, oid)) => Ok(Value::Int(0)),
        (None, None) => Ok(Value::Null),
    }
}

fn is_index(c: &Catalogue, oid: u32) -> bool {
    c.relations().is_ok_and(|relations| relations.by_key(oid).is_some())
}

fn all(c: &Catalogue) -> DfResult<Value> {
    let relations = c.relations()?;
    Ok(count(relations.list.iter().map(|r| figures(c.snapshot(), r).bytes).sum()))
}

fn live(c: &Catalogue, given: &[Value]) -> DfResult<Value> {
    let relation = relation(c, at(given, 0))?;
    Ok(relation.map_or(Value::Int(0), |r| count(figures(c.snapshot(), r).rows)))
}
