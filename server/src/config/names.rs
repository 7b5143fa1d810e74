//! Which names tables, columns, measures and rollups may bear, and which will make people stumble.

use otus_engine::catalog;

/// Longest name, bytes: Postgres' own limit, which clients rely on.
const NAME_BYTES_MAX: usize = 63;

/// Words that PostgreSQL reserves: a column of this name must be quoted in every query.
const RESERVED: [&str; 77] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "system_user",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
];

/// Schemas that are not the user's.
const RESERVED_SCHEMAS: [&str; 4] = ["otus", "pg_catalog", "information_schema", "pg_toast"];

/// Columns that every table has already.
pub(super) const SYSTEM_COLUMNS: [&str; 4] = [
    catalog::TOPIC_COLUMN,
    catalog::PARTITION_COLUMN,
    catalog::OFFSET_COLUMN,
    catalog::INGESTED_AT_COLUMN,
];

/// Columns that keyed tables have besides.
pub(super) const KEYED_COLUMNS: [&str; 3] =
    [catalog::TIMESTAMP_COLUMN, catalog::DELETED_COLUMN, catalog::EXPECTED_COLUMN];

/// What is wrong with a name, if it cannot be used at all.
pub(super) fn refusal(name: &str) -> Option<(String, &'static str)> {
    if name.is_empty() {
        return Some(("the name is empty".into(), "give it at least one letter"));
    }
    if name.len() > NAME_BYTES_MAX {
        let message = format!("the name has {} bytes", name.len());
        return Some((message, "63 bytes are the longest that Postgres clients accept"));
    }
    if name.chars().any(|c| c.is_control() || c == '"') {
        let message = format!("the name {name:?} holds a quote or a control character");
        return Some((message, "use letters, digits and underscores"));
    }
    None
}

/// Why a name will need quotes in SQL, if it will.
pub(super) fn stumbling_block(name: &str) -> Option<(String, String)> {
    let quoted = format!("in SQL write it with quotes: \"{name}\"");
    if name.chars().any(char::is_uppercase) {
        return Some((format!("{name:?} has capital letters, which SQL folds away"), quoted));
    }
    if RESERVED.contains(&name) {
        return Some((format!("{name:?} is a reserved word of SQL"), quoted));
    }
    let first_is_digit = name.starts_with(|c: char| c.is_ascii_digit());
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if first_is_digit || !plain {
        return Some((format!("{name:?} is not a plain SQL name"), quoted));
    }
    None
}

/// Why a column cannot bear this name, if it cannot.
pub(super) fn column_refusal(name: &str) -> Option<(String, &'static str)> {
    if SYSTEM_COLUMNS.contains(&name) {
        let message = format!("every table has a system column {name:?} already");
        return Some((message, "choose another name and give the field by path"));
    }
    if name.starts_with("__") {
        let message = format!("names that begin with two underscores are Otus' own: {name:?}");
        return Some((message, "choose another name and give the field by path"));
    }
    refusal(name)
}

/// Why a schema cannot bear this name, if it cannot.
pub(super) fn schema_refusal(name: &str) -> Option<(String, &'static str)> {
    if RESERVED_SCHEMAS.contains(&name) || name.starts_with("pg_") {
        return Some((format!("schema {name:?} belongs to the system"), "choose another schema"));
    }
    refusal(name)
}
