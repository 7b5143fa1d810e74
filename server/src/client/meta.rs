//! Commands of the prompt that begin with a backslash.

/// What `\?` shows.
pub(super) const HELP: &str = "\
\\d          list tables and views
\\d NAME     list the columns of a table
\\dn         list schemas
\\timing     show how long statements take (on, off)
\\x          show rows as records
\\q          leave
Statements end with a semicolon. Ctrl-C cancels one that runs.
";

/// A command of the prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meta {
    Quit,
    Help,
    Timing(Option<bool>),
    Expanded,
    /// Answered by a query.
    Query(String),
    Unknown(String),
}

impl Meta {
    /// Reads a line; none if it is not a command.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let command = line.strip_prefix('\\')?.trim_end_matches(';');
        let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let argument = argument.trim();
        Some(match (name, argument) {
            ("q" | "quit", _) => Self::Quit,
            ("?" | "h" | "help", _) => Self::Help,
            ("timing", "") => Self::Timing(None),
            ("timing", "on") => Self::Timing(Some(true)),
            ("timing", "off") => Self::Timing(Some(false)),
            ("x", _) => Self::Expanded,
            ("d" | "dt" | "dv", "") => Self::Query(TABLES.to_owned()),
            ("d", table) => Self::Query(columns(table)),
            ("dn", "") => Self::Query(SCHEMAS.to_owned()),
            _ => Self::Unknown(line.to_owned()),
        })
    }
}

const TABLES: &str = "SELECT table_schema AS schema, table_name AS name, lower(table_type) AS type \
    FROM information_schema.tables \
    WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2";

const SCHEMAS: &str = "SELECT DISTINCT table_schema AS name FROM information_schema.tables \
    WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1";

fn columns(table: &str) -> String {
    let (schema, name) = match table.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, table),
    };
    let mut condition = format!("c.relname = {}", literal(name));
    match schema {
        Some(schema) => condition.push_str(&format!(" AND n.nspname = {}", literal(schema))),
        None => condition.push_str(" AND pg_table_is_visible(c.oid)"),
    }
    format!(
        "SELECT a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type, \
         CASE WHEN a.attnotnull THEN 'no' ELSE 'yes' END AS nullable \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE {condition} ORDER BY a.attnum"
    )
}

/// A name as people type it, folded as the server folds it, as a literal.
fn literal(name: &str) -> String {
    let name = match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.to_lowercase(),
    };
    format!("'{}'", name.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_a_backslash_are_commands() {
        assert_eq!(Meta::parse("select 1"), None);
        assert_eq!(Meta::parse(" \\q "), Some(Meta::Quit));
        assert_eq!(Meta::parse("\\timing on"), Some(Meta::Timing(Some(true))));
        assert_eq!(Meta::parse("\\d"), Some(Meta::Query(TABLES.to_owned())));
        assert_eq!(Meta::parse("\\foo"), Some(Meta::Unknown("\\foo".to_owned())));
        let Some(Meta::Query(sql)) = Meta::parse("\\d otus.\"It's\";") else { panic!() };
        assert!(sql.contains("c.relname = 'It''s' AND n.nspname = 'otus'"), "{sql}");
    }
}
