//! A table's section of the configuration file as a value, with the order of its keys kept: what statements
//! change, and what is written for people. Reading it is the business of `config`.

use std::fmt::{self, Write as _};

use chrono::{DateTime, SecondsFormat};
use otus_engine::catalog::{
    ColumnDef, ColumnSource, DimensionDef, EpochUnit, MeasureDef, Presentation, RollupDef, Source,
    Start, TableDef,
};
use otus_sql::ddl::Literal;
use serde_json::Value;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    Text(String),
    /// A number or a boolean, as TOML writes it.
    Plain(String),
    List(Vec<Item>),
    Section(Section),
}

/// Keys and values, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Section(Vec<(String, Item)>);

impl Item {
    pub(crate) fn texts<'a>(texts: impl IntoIterator<Item = &'a String>) -> Self {
        Self::List(texts.into_iter().map(|text| Self::Text(text.clone())).collect())
    }

    /// Dimensions of a rollup.
    pub(crate) fn dimensions(dimensions: &[DimensionDef]) -> Self {
        let one = |dimension: &DimensionDef| match &dimension.sql {
            None => Self::Text(dimension.name.clone()),
            Some(sql) => {
                let mut own = Section::default();
                own.set("name", dimension.name.as_str());
                own.set("sql", sql.as_str());
                Self::Section(own)
            }
        };
        Self::List(dimensions.iter().map(one).collect())
    }

    fn boolean(value: bool) -> Self {
        Self::Plain(value.to_string())
    }

    fn json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Text(String::new()),
            Value::Bool(value) => Self::boolean(*value),
            Value::Number(number) => Self::number(&number.to_string()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::json).collect()),
            Value::Object(map) => Self::Section(Section(
                map.iter().map(|(key, value)| (key.clone(), Self::json(value))).collect(),
            )),
        }
    }

    /// A number as TOML writes it; text if it is none.
    fn number(text: &str) -> Self {
        if let Ok(integer) = text.parse::<i64>() {
            return Self::Plain(integer.to_string());
        }
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() => Self::Plain(format!("{float:?}")),
            _ => Self::Text(text.to_string()),
        }
    }
}

impl From<&Literal> for Item {
    fn from(literal: &Literal) -> Self {
        match literal {
            Literal::Text(text) => Self::Text(text.clone()),
            Literal::Number(number) => Self::number(number),
            Literal::Boolean(value) => Self::boolean(*value),
            Literal::List(list) => Self::List(list.iter().map(Self::from).collect()),
        }
    }
}

impl From<&str> for Item {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}

impl Section {
    pub(crate) fn get(&self, key: &str) -> Option<&Item> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, item)| item)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Gives a key a value, in its old place if it has one.
    pub(crate) fn set(&mut self, key: &str, item: impl Into<Item>) {
        let item = item.into();
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = item,
            None => self.0.push((key.to_string(), item)),
        }
    }

    pub(crate) fn set_boolean(&mut self, key: &str, value: bool) {
        self.set(key, Item::boolean(value));
    }

    /// Takes a key away; whether it was there.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(name, _)| name != key);
        self.0.len() < before
    }

    /// Changes the section below a key; what else stood there gives way to it.
    pub(crate) fn below<T>(&mut self, key: &str, change: impl FnOnce(&mut Self) -> T) -> T {
        let mut section = match self.get(key) {
            Some(Item::Section(section)) => section.clone(),
            _ => Self::default(),
        };
        let value = change(&mut section);
        self.set(key, section);
        value
    }

    fn of<K: Into<String>>(entries: impl IntoIterator<Item = (K, Item)>) -> Self {
        Self(entries.into_iter().map(|(key, item)| (key.into(), item)).collect())
    }

    fn set_section(&mut self, key: &str, section: Self) {
        if !section.0.is_empty() {
            self.set(key, section);
        }
    }

    fn set_some(&mut self, key: &str, item: Option<impl Into<Item>>) {
        if let Some(item) = item {
            self.set(key, item);
        }
    }

    /// The section that declares a table as it is. Its name is not in it, its schema is.
    pub(crate) fn of_table(def: &TableDef) -> Self {
        let mut own = Self::default();
        own.set("schema", def.schema.as_str());
        own.set_some("description", def.description.as_deref());
        match &def.source {
            Source::Topics(topics) => match topics.as_slice() {
                [topic] => own.set("topic", topic.as_str()),
                topics => own.set("topics", Item::texts(topics)),
            },
            Source::Pattern(pattern) => own.set("topic_pattern", pattern.as_str()),
            Source::File(file) => own.set("file", file.as_str()),
        }
        if let Some(keyed) = def.keyed() {
            own.set("kind", "keyed");
            own.set("key", keyed.key.as_str());
        } else {
            own.set("time", def.time.as_str());
        }
        match &def.start {
            Start::Earliest => {}
            Start::Latest => own.set("start", "latest"),
            Start::Time(us) => own.set_some("start", moment(*us)),
        }
        own.set("format", def.format.as_str());
        own.set_some("filter", def.filter.as_deref());
        own.set("append", Item::boolean(def.append));
        own.set("record_max", Item::Text(format!("{}B", def.record_bytes_max)));
        let accept = [("late", def.accept.late_us), ("early", def.accept.early_us)];
        let accept =
            accept.into_iter().filter_map(|(key, us)| Some((key, Item::Text(duration(us?)))));
        own.set_section("accept", Self::of(accept));
        let raw = def.retention.raw_us.map(|us| ("raw".to_string(), us));
        let states = def.retention.rollup_us.iter().map(|(g, us)| (g.to_string(), *us));
        let kept = raw.into_iter().chain(states).map(|(key, us)| (key, Item::Text(duration(us))));
        own.set_section("retention", Self::of(kept));
        own.set_section("columns", Self::of(def.columns.iter().map(|c| (&c.name, column(c)))));
        own.set_section("measures", Self::of(def.measures.iter().map(|m| (&m.name, measure(m)))));
        let rollups = def.rollups.iter().map(|r| (&r.name, Item::Section(Self::of_rollup(r))));
        own.set_section("rollups", Self::of(rollups));
        own
    }

    /// The section that declares a rollup as it is.
    pub(crate) fn of_rollup(def: &RollupDef) -> Self {
        let mut own = Self::default();
        let granularities = def.granularities.iter().map(|g| Item::Text(g.to_string()));
        own.set("granularity", Item::List(granularities.collect()));
        own.set("dimensions", Item::dimensions(&def.dimensions));
        own.set_some("filter", def.filter.as_deref());
        if !def.measures.is_empty() {
            own.set("measures", Item::texts(&def.measures));
        }
        own
    }

    /// The text of the section under a dotted path of names.
    pub(crate) fn toml(&self, path: &[&str]) -> String {
        let names: Vec<_> = path.iter().map(|name| key(name)).collect();
        let path = names.join(".");
        let is_table = names.len() == 2;
        let is_deep = |name: &str| matches!(name, "columns" | "measures" | "rollups");
        let mut out = format!("[{path}]\n");
        for (name, item) in self.0.iter().filter(|(name, _)| !is_deep(name) || !is_table) {
            writeln!(out, "{} = {item}", key(name)).ok();
        }
        for (name, item) in self.0.iter().filter(|(name, _)| is_table && is_deep(name)) {
            let Item::Section(section) = item else { continue };
            if name != "rollups" {
                writeln!(out, "[{path}.{name}]").ok();
            }
            for (entry, item) in &section.0 {
                match item {
                    Item::Section(rollup) if name == "rollups" => {
                        writeln!(out, "[{path}.{name}.{}]", key(entry)).ok();
                        for (name, item) in &rollup.0 {
                            writeln!(out, "{} = {item}", key(name)).ok();
                        }
                    }
                    item => {
                        writeln!(out, "{} = {item}", key(entry)).ok();
                    }
                }
            }
        }
        out
    }
}

impl From<Section> for Item {
    fn from(section: Section) -> Self {
        Self::Section(section)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What looks like a variable of the environment is none.
            Self::Text(text) => f.write_str(&quoted(&text.replace("${", "$${"))),
            Self::Plain(text) => f.write_str(text),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Section(section) => {
                let entry = |(name, item): &(String, Self)| format!("{} = {item}", key(name));
                let entries: Vec<_> = section.0.iter().map(entry).collect();
                write!(f, "{{ {} }}", entries.join(", "))
            }
        }
    }
}

fn key(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if plain && !name.is_empty() { name.to_string() } else { quoted(name) }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                write!(out, "\\u{:04X}", u32::from(c)).ok();
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn moment(us: i64) -> Option<Item> {
    let moment = DateTime::from_timestamp_micros(us)?;
    Some(Item::Text(moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
}

/// A duration in the largest unit that gives a whole number.
pub(crate) fn duration(us: i64) -> String {
    let units = [
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
    ];
    let fits = units.into_iter().find(|(_, unit)| us % unit == 0 && us != 0);
    let (name, unit) = fits.unwrap_or(("us", 1));
    format!("{}{name}", us / unit)
}

fn column(def: &ColumnDef) -> Item {
    let mut own = Section::default();
    own.set("type", Item::Text(def.column_type.to_string()));
    match &def.source {
        ColumnSource::Path(path) if *path == [def.name.clone()] => {}
        ColumnSource::Path(path) => own.set("path", Item::texts(path)),
        ColumnSource::Computed(sql) => own.set("sql", sql.as_str()),
        ColumnSource::RecordTimestamp => own.set("from", "timestamp"),
        ColumnSource::RecordKey => own.set("from", "key"),
        ColumnSource::RecordHeader(name) => own.set("from", Item::Text(format!("header.{name}"))),
        ColumnSource::Rest => own.set("from", "rest"),
    }
    own.set_some(
        "unit",
        def.epoch.map(|epoch| match epoch {
            EpochUnit::Seconds => "s",
            EpochUnit::Millis => "ms",
            EpochUnit::Micros => "us",
            EpochUnit::Nanos => "ns",
        }),
    );
    own.set_some("default", def.default.as_ref().map(Item::json));
    present(&mut own, &def.presentation);
    short(own, "type")
}

fn measure(def: &MeasureDef) -> Item {
    let mut own = Section::default();
    own.set("sql", def.sql.as_str());
    present(&mut own, &def.presentation);
    short(own, "sql")
}

/// What has one key alone is written as its value.
fn short(section: Section, only: &str) -> Item {
    match section.0.as_slice() {
        [(name, item)] if name == only => item.clone(),
        _ => Item::Section(section),
    }
}

fn present(section: &mut Section, of: &Presentation) {
    section.set_some("title", of.title.as_deref());
    section.set_some("description", of.description.as_deref());
    section.set_some("unit", of.unit.as_deref());
    section.set_some("format", of.format.as_deref());
    if of.hidden {
        section.set("hidden", Item::boolean(true));
    }
}
