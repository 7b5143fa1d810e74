//! How Postgres writes types: `numeric(12,2)`, `timestamp with time zone`, `bigint[]`.

use super::library::Library;
use super::relations::{precision_and_scale, quoted};

/// Types whose SQL name is not their internal one.
const NAMES: [(&str, &str); 16] = [
    ("bool", "boolean"),
    ("int2", "smallint"),
    ("int4", "integer"),
    ("int8", "bigint"),
    ("float4", "real"),
    ("float8", "double precision"),
    ("bpchar", "character"),
    ("varchar", "character varying"),
    ("char", "\"char\""),
    ("time", "time without time zone"),
    ("timetz", "time with time zone"),
    ("timestamp", "timestamp without time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("varbit", "bit varying"),
    ("decimal", "numeric"),
    ("any", "\"any\""),
];

/// The SQL name of an internal name.
pub(crate) fn sql_name(internal: &str) -> &str {
    NAMES.iter().find(|(known, _)| *known == internal).map_or(internal, |(_, sql)| sql)
}

/// The internal name that an SQL name means.
pub(crate) fn internal_name(sql: &str) -> String {
    let lower = sql.trim().to_lowercase();
    let (item, is_array) = match lower.strip_suffix("[]") {
        Some(item) => (item.trim().to_owned(), true),
        None => (lower, false),
    };
    let item = item.split('(').next().unwrap_or_default().trim().to_owned();
    let item = item.trim_start_matches("pg_catalog.").to_owned();
    let found = NAMES.iter().find(|(_, sql)| *sql == item).map(|(internal, _)| *internal);
    let found = found.filter(|internal| *internal != "decimal");
    let other = match item.as_str() {
        "int" => Some("int4"),
        "float" => Some("float8"),
        "decimal" => Some("numeric"),
        "timestamp" => Some("timestamp"),
        _ => None,
    };
    let name = found.or(other).unwrap_or(&item).trim_matches('"');
    match is_array {
        true => format!("_{name}"),
        false => name.to_owned(),
    }
}

/// The name of a type with its modifier; `???` for a type that there is not.
pub(crate) fn type_name(library: &Library, oid: u32, modifier: i32) -> String {
    let Some(pg_type) = library.pg_type(oid) else {
        return if oid == 0 { "-".to_owned() } else { "???".to_owned() };
    };
    if pg_type.element != 0 && pg_type.name.starts_with('_') {
        return format!("{}[]", type_name(library, pg_type.element, modifier));
    }
    let name = match NAMES.iter().any(|(known, _)| *known == pg_type.name) {
        true => sql_name(&pg_type.name).to_owned(),
        false if pg_type.name == "interval" || pg_type.name == "numeric" => pg_type.name.clone(),
        false => quoted_type(&pg_type.name),
    };
    match (pg_type.name.as_str(), precision_and_scale(modifier)) {
        ("numeric", Some((precision, scale))) => format!("{name}({precision},{scale})"),
        ("varchar" | "bpchar", Some(_)) => format!("{name}({})", modifier - 4),
        ("timestamp" | "timestamptz" | "time" | "timetz", _) if modifier >= 0 => {
            match name.split_once(' ') {
                Some((first, rest)) => format!("{first}({modifier}) {rest}"),
                None => name,
            }
        }
        _ => name,
    }
}

fn quoted_type(name: &str) -> String {
    // Names of types are written without quotes even where a column's would have them.
    match name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
        true => name.to_owned(),
        false => quoted(name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::library::library;
    use super::*;

    #[test]
    fn types_are_written_as_in_postgres() {
        let library = library().unwrap();
        for (oid, modifier, name) in [
            (1700, 786_438, "numeric(12,2)"),
            (1231, (10 << 16) + 4, "numeric(10,0)[]"),
            (1700, -1, "numeric"),
            (25, -1, "text"),
            (1184, -1, "timestamp with time zone"),
            (1187, -1, "interval[]"),
            (18, -1, "\"char\""),
            (1043, 14, "character varying(10)"),
            (0, -1, "-"),
            (99_999_999, -1, "???"),
        ] {
            assert_eq!(type_name(library, oid, modifier), name);
        }
        assert_eq!(internal_name("timestamp with time zone"), "timestamptz");
        assert_eq!(internal_name("BIGINT[]"), "_int8");
        assert_eq!(internal_name("numeric(12,2)"), "numeric");
    }
}
