//! From sampled records to a table section: column types, names in snake_case with their paths, a time
//! column, and a first measure and rollup to build on.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

/// Fields deeper than this are kept as jsonb.
const DEPTH_MAX: usize = 3;
/// Values of one field that are remembered to tell whether it is a dimension.
const DISTINCT_MAX: usize = 64;
/// Dimensions of the proposed rollup.
const DIMENSIONS_MAX: usize = 4;
/// Whole numbers that are no bigint and still a numeric.
const VAST: std::ops::Range<f64> = 9_223_372_036_854_775_808.0..1e38;
/// Longest name of a column, bytes, with room for a number behind it.
const NAME_BYTES_MAX: usize = 56;

/// What a field was seen to hold.
#[derive(Debug, Default, Clone)]
struct Seen {
    order: usize,
    count: usize,
    booleans: usize,
    integers: usize,
    /// Whole numbers beyond bigint.
    vast: usize,
    floats: usize,
    texts: usize,
    times: usize,
    dates: usize,
    uuids: usize,
    /// Arrays, and what their elements are.
    arrays: usize,
    elements: Option<Box<Seen>>,
    greatest: f64,
    least: f64,
    distinct: std::collections::BTreeSet<String>,
}

/// Sampled records.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    records: usize,
    fields: BTreeMap<Vec<String>, Seen>,
}

impl Sample {
    /// JSON objects looked at.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Looks at a record; what is no JSON object is passed over.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        if let Ok(Value::Object(fields)) = serde_json::from_slice(bytes) {
            self.records += 1;
            self.walk(&mut Vec::new(), &fields);
        }
    }

    fn walk(&mut self, path: &mut Vec<String>, fields: &serde_json::Map<String, Value>) {
        for (name, value) in fields {
            path.push(name.clone());
            match value {
                Value::Object(inner) if path.len() < DEPTH_MAX && !inner.is_empty() => {
                    self.walk(path, inner);
                }
                _ => {
                    let order = self.fields.len();
                    let seen = self.fields.entry(path.clone());
                    seen.or_insert_with(|| Seen { order, ..Seen::default() }).add(value);
                }
            }
            path.pop();
        }
    }
}

impl Seen {
    fn add(&mut self, value: &Value) {
        match value {
            Value::Null => return,
            Value::Bool(_) => self.booleans += 1,
            Value::Number(n) => {
                let number = n.as_f64().unwrap_or_default();
                self.greatest = self.greatest.max(number);
                self.least = self.least.min(number);
                match n.as_i64() {
                    Some(_) => self.integers += 1,
                    None if number.fract() == 0.0 && VAST.contains(&number.abs()) => self.vast += 1,
                    None => self.floats += 1,
                }
            }
            Value::String(text) => {
                self.texts += 1;
                self.times += usize::from(is_time(text));
                self.dates += usize::from(text.parse::<chrono::NaiveDate>().is_ok());
                self.uuids += usize::from(text.len() == 36 && text.parse::<uuid::Uuid>().is_ok());
            }
            Value::Array(values) => {
                self.arrays += 1;
                let elements = self.elements.get_or_insert_default();
                values.iter().for_each(|value| elements.add(value));
            }
            Value::Object(_) => {}
        }
        self.count += 1;
        if self.distinct.len() <= DISTINCT_MAX {
            self.distinct.insert(value.to_string());
        }
    }

    /// The Postgres type, and the epoch unit if the numbers look like times.
    fn column_type(&self, name: &str) -> (&'static str, Option<&'static str>) {
        let all = |n: usize| n > 0 && n == self.count;
        let plain = match () {
            () if self.count == 0 => "text",
            () if all(self.booleans) => "boolean",
            () if all(self.integers) => match self.epoch(name) {
                Some(unit) => return ("timestamptz", Some(unit)),
                None => "bigint",
            },
            () if all(self.integers + self.vast) => "numeric(38,0)",
            () if all(self.integers + self.vast + self.floats) => "double precision",
            () if all(self.times) => "timestamptz",
            () if all(self.dates) => "date",
            () if all(self.uuids) => "uuid",
            () if all(self.texts) => "text",
            () if all(self.arrays) => match self.elements.as_ref().map(|e| e.column_type("").0) {
                Some("boolean") => "boolean[]",
                Some("bigint") => "bigint[]",
                Some("double precision") => "double precision[]",
                Some("text" | "uuid" | "date" | "timestamptz") => "text[]",
                _ => "jsonb",
            },
            () => "jsonb",
        };
        (plain, None)
    }

    /// Whole numbers between 2001 and 2100, in a field whose name speaks of time.
    fn epoch(&self, name: &str) -> Option<&'static str> {
        let speaks = ["time", "date", "ts", "at", "stamp", "timestamp", "datetime", "epoch"];
        if self.least < 0.0 || !snake_case(name).split('_').any(|word| speaks.contains(&word)) {
            return None;
        }
        let units = [("s", 1e9), ("ms", 1e12), ("us", 1e15), ("ns", 1e18)];
        let fits =
            |(_, scale): &&(&'static str, f64)| (1.0..4.2).contains(&(self.greatest / scale));
        units.iter().find(fits).map(|(unit, _)| *unit)
    }

    fn is_dimension(&self, column_type: &str) -> bool {
        let repeats = self.distinct.len() <= DISTINCT_MAX && self.distinct.len() * 4 <= self.count;
        repeats && matches!(column_type, "text" | "boolean")
    }
}

fn is_time(text: &str) -> bool {
    chrono::DateTime::parse_from_rfc3339(text).is_ok()
        || chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").is_ok()
}

/// A table name made of a file's or topic's name.
pub(crate) fn table_name(subject: &str) -> String {
    let file = subject.rsplit(['/', '\\']).next().unwrap_or(subject);
    let stem = file.split('.').next().unwrap_or(file);
    let name = snake_case(stem);
    if name.is_empty() { "events".to_string() } else { name }
}

/// `isRobot` → `is_robot`, `HTTPStatus` → `http_status`, `user name` → `user_name`.
fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (n, c) in chars.iter().enumerate() {
        if !c.is_alphanumeric() {
            if !out.is_empty() && !out.ends_with('_') {
                out.push('_');
            }
            continue;
        }
        let before = n.checked_sub(1).and_then(|n| chars.get(n));
        let after = chars.get(n + 1);
        let begins = c.is_uppercase()
            && before.is_some_and(|b| {
                b.is_lowercase()
                    || b.is_ascii_digit()
                    || (b.is_uppercase() && after.is_some_and(|a| a.is_lowercase()))
            });
        if begins && !out.ends_with('_') {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    let out = out.trim_matches('_').to_string();
    if out.starts_with(|c: char| c.is_ascii_digit()) { format!("n_{out}") } else { out }
}

struct Column {
    name: String,
    path: Vec<String>,
    column_type: &'static str,
    unit: Option<&'static str>,
    is_dimension: bool,
    is_always_there: bool,
}

fn columns(sample: &Sample) -> Vec<Column> {
    let mut fields: Vec<_> = sample.fields.iter().collect();
    fields.sort_by_key(|(_, seen)| seen.order);
    let mut columns: Vec<Column> = Vec::new();
    for (path, seen) in fields.into_iter().filter(|(path, _)| path.iter().all(|p| !p.is_empty())) {
        let leaf = path.last().map(String::as_str).unwrap_or_default();
        let (column_type, unit) = seen.column_type(leaf);
        let mut name = snake_case(leaf);
        if name.is_empty() || crate::config::is_awkward_name(&name) {
            name = format!("{name}_value").trim_start_matches('_').to_string();
        }
        if columns.iter().any(|c| c.name == name) {
            name = path.iter().map(|p| snake_case(p)).collect::<Vec<_>>().join("_");
        }
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        let base = name.clone();
        let mut n = 2;
        while columns.iter().any(|c| c.name == name) {
            name = format!("{base}_{n}");
            n += 1;
        }
        columns.push(Column {
            name,
            path: path.clone(),
            column_type,
            unit,
            is_dimension: seen.is_dimension(column_type),
            is_always_there: seen.count == sample.records,
        });
    }
    columns
}

/// The section's text.
pub(crate) fn section(sample: &Sample, name: &str, source: &str) -> String {
    let columns = columns(sample);
    let time = columns
        .iter()
        .filter(|c| c.column_type == "timestamptz")
        .max_by_key(|c| (c.is_always_there, c.name == "time" || c.name == "timestamp"));
    let mut out = String::new();
    let table = key(name);
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("# {} records sampled. Look at the types before you trust them.", sample.records));
    line(format!("[tables.{table}]"));
    line(source.to_string());
    line("format = \"json\"".to_string());
    match time {
        Some(time) => line(format!("time = {}", quoted(&time.name))),
        None => {
            line("time = \"\"    # no field looks like a time: name the event's time here".into())
        }
    }
    line(String::new());
    line(format!("[tables.{table}.columns]"));
    let width = columns.iter().map(|c| key(&c.name).len()).max().unwrap_or(0);
    for column in &columns {
        line(format!("{:width$} = {}", key(&column.name), declaration(column)));
    }
    line(String::new());
    let nameless = sample.fields.keys().filter(|path| path.iter().any(String::is_empty)).count();
    if nameless > 0 {
        line(format!("# {nameless} fields have an empty name, which no path can hold: left out"));
    }
    line(format!("[tables.{table}.measures]"));
    line("events = \"count(*)\"".to_string());
    let dimensions: Vec<String> = columns
        .iter()
        .filter(|c| c.is_dimension)
        .take(DIMENSIONS_MAX)
        .map(|c| quoted(&c.name))
        .collect();
    if !dimensions.is_empty() {
        line(String::new());
        line(format!("[tables.{table}.rollups.{}]", key(&format!("{name}_by"))));
        line("granularity = [\"minute\", \"hour\", \"day\"]".to_string());
        line(format!("dimensions = [{}]", dimensions.join(", ")));
    }
    out
}

fn declaration(column: &Column) -> String {
    let is_own_path = column.path.len() == 1 && column.path.first() == Some(&column.name);
    if is_own_path && column.unit.is_none() {
        return format!("{:?}", column.column_type);
    }
    let mut out = format!("{{ type = {:?}", column.column_type);
    if !is_own_path {
        let has_dot = column.path.iter().any(|p| p.contains('.') || p.is_empty());
        let path = if has_dot {
            let parts: Vec<String> = column.path.iter().map(|part| quoted(part)).collect();
            format!("[{}]", parts.join(", "))
        } else {
            quoted(&column.path.join("."))
        };
        // Writing to a string cannot fail.
        write!(out, ", path = {path}").ok();
    }
    if let Some(unit) = column.unit {
        write!(out, ", unit = {unit:?}").ok();
    }
    out + " }"
}

fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_bare { name.to_string() } else { quoted(name) }
}

/// A TOML string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // Writing to a string cannot fail.
            c if c.is_control() => write!(out, "\\u{:04X}", u32::from(c)).unwrap_or_default(),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, SystemEnvironment};

    #[test]
    fn names_become_plain() {
        for (from, to) in [
            ("isRobot", "is_robot"),
            ("HTTPStatus", "http_status"),
            ("user name", "user_name"),
            ("utm2Source", "utm2_source"),
            ("2fa", "n_2fa"),
            ("__x__", "x"),
        ] {
            assert_eq!(snake_case(from), to, "{from}");
        }
        assert_eq!(table_name("data/wikiticker-2015.json.gz"), "wikiticker_2015");
    }

    #[test]
    fn the_section_is_a_valid_configuration() {
        let mut sample = Sample::default();
        for n in 0..40 {
            let record = format!(
                r#"{{"time":"2024-01-01T00:00:{:02}Z","user":"u{n}","isRobot":{},"channel":"c{}",
                   "geo":{{"city":{{"name":"x"}}}},"sentTs":1704067200{n:03},"price":1.5,"n":{n},"a.b":1,"tags":["x"]}}"#,
                n % 60,
                n % 2 == 0,
                n % 3
            );
            sample.add(record.as_bytes());
        }
        sample.add(b"not json");
        let text = section(&sample, "clicks", "topic = \"clicks\"");
        let config = Config::parse("x", &text, &SystemEnvironment, None).unwrap();
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let table = &config.tables[0];
        assert_eq!(table.time, "time");
        let types: Vec<_> =
            table.columns.iter().map(|c| format!("{} {}", c.name, c.column_type)).collect();
        assert_eq!(
            types,
            [
                "a_b bigint",
                "channel text",
                "name text",
                "is_robot boolean",
                "n bigint",
                "price double precision",
                "sent_ts timestamptz",
                "tags text[]",
                "time timestamptz",
                "user_value text",
            ]
        );
        assert!(table.rollups[0].dimension_names().eq(["channel", "name", "is_robot"]));
    }

    #[test]
    fn odd_fields_still_give_a_valid_configuration() {
        let long = "x".repeat(90);
        let mut sample = Sample::default();
        for n in 0..30_u64 {
            let id = 12_345_678_901_234_567_890_u64 + n;
            let record = format!(
                r#"{{"at":"2024-01-01T00:00:00Z","a\u200bb":1,"c\u001bd":"x","":1,"e\"f\\":true,"{long}1":1,"{long}2":2,
                   "id":{id},"points":1500000000,"sentTs":1700000000,"tags":["a"],"ns":[1,2],"o":[{{}}],"é":1}}"#
            );
            sample.add(record.as_bytes());
        }
        let text = section(&sample, "odd", "topic = \"clicks\"");
        let config = Config::parse("x", &text, &SystemEnvironment, None)
            .unwrap_or_else(|e| panic!("{e}\n{text}"));
        let table = &config.tables[0];
        let type_of = |name: &str| {
            let column = table.columns.iter().find(|c| c.name == name);
            column.map(|c| format!("{} {:?}", c.column_type, c.epoch)).unwrap_or_default()
        };
        assert_eq!(type_of("id"), "numeric(38,0) None");
        assert_eq!(type_of("points"), "bigint None");
        assert_eq!(type_of("sent_ts"), "timestamptz Some(Seconds)");
        assert_eq!(type_of("tags"), "text[] None");
        assert_eq!(type_of("ns"), "bigint[] None");
        assert_eq!(type_of("o"), "jsonb None");
        assert_eq!(table.columns.len(), 13, "{text}");
        assert!(text.contains("1 fields have an empty name"), "{text}");
    }
}
