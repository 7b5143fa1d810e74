//! Walking a parsed TOML document by hand, so that every problem keeps its place in the file and none hides
//! the next. The only module that knows the TOML library.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use toml::de::{DeString, DeTable, DeValue};

use super::problem::{Problem, Severity};
use super::units;

/// Where `${NAME}` and `*_file` values come from.
pub trait Environment {
    /// The environment variable of this name.
    fn variable(&self, name: &str) -> Option<String>;
    /// The text of a file.
    fn file(&self, path: &Path) -> std::io::Result<String>;
}

/// The process's environment and the real file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
    fn file(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// Collects problems while the tree is walked.
pub(super) struct Sink<'e> {
    line_starts: Vec<usize>,
    text: String,
    environment: &'e dyn Environment,
    problems: RefCell<Vec<Problem>>,
    /// Where a text begins that is not known: nothing more is said of it.
    unknown: RefCell<BTreeSet<usize>>,
}

impl<'e> Sink<'e> {
    pub(super) fn new(text: &str, environment: &'e dyn Environment) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Self {
            line_starts: std::iter::once(0).chain(breaks).collect(),
            text: text.to_string(),
            environment,
            problems: RefCell::new(Vec::new()),
            unknown: RefCell::default(),
        }
    }

    pub(super) fn report(
        &self,
        severity: Severity,
        span: &Range<usize>,
        path: &str,
        message: String,
        hint: Option<String>,
    ) {
        if self.unknown.borrow().contains(&span.start) {
            return;
        }
        let line = self.line_starts.partition_point(|start| *start <= span.start);
        let line_start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(line_start..span.start).unwrap_or_default();
        let problem = Problem {
            severity,
            line: line.max(1),
            column: before.chars().count() + 1,
            path: path.to_string(),
            message,
            hint,
        };
        self.problems.borrow_mut().push(problem);
    }

    /// All problems, in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        // What stands where the syntax is broken was guessed by the parser: only the syntax is at fault.
        let broken: Vec<usize> =
            problems.iter().filter(|p| p.path.is_empty()).map(|p| p.line).collect();
        problems.retain(|p| p.path.is_empty() || !broken.contains(&p.line));
        problems.sort_by_key(|p| (p.line, p.column, p.severity));
        problems.dedup();
        problems
    }
}

/// One value with its place.
#[derive(Clone)]
pub(super) struct Node<'a> {
    sink: &'a Sink<'a>,
    pub(super) path: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Node<'a> {
    pub(super) fn error(&self, message: impl Into<String>) {
        self.sink.report(Severity::Error, &self.span, &self.path, message.into(), None);
    }
    pub(super) fn error_hint(&self, message: impl Into<String>, hint: impl Into<String>) {
        let (message, hint) = (message.into(), Some(hint.into()));
        self.sink.report(Severity::Error, &self.span, &self.path, message, hint);
    }
    pub(super) fn report(&self, severity: Severity, message: String, hint: String) {
        let hint = (!hint.is_empty()).then_some(hint);
        self.sink.report(severity, &self.span, &self.path, message, hint);
    }
    pub(super) fn warning_hint(&self, message: impl Into<String>, hint: impl Into<String>) {
        let (message, hint) = (message.into(), Some(hint.into()));
        self.sink.report(Severity::Warning, &self.span, &self.path, message, hint);
    }
    pub(super) fn engine_error(&self, error: &otus_engine::Error) {
        let hint = error.hint().map(str::to_string);
        self.sink.report(Severity::Error, &self.span, &self.path, error.to_string(), hint);
    }

    /// Whether no error was reported at this key or below it.
    pub(super) fn is_sound(&self) -> bool {
        let below = |path: &str| {
            path.strip_prefix(&self.path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let problems = self.sink.problems.borrow();
        !problems.iter().any(|p| p.severity == Severity::Error && below(&p.path))
    }

    /// What TOML calls the value.
    pub(super) fn kind(&self) -> &'static str {
        self.value.type_str()
    }

    fn expected(&self, what: &str) {
        self.error(format!("expected {what}, found {}", article(self.value.type_str())));
    }

    /// A string, or a problem.
    pub(super) fn text(&self) -> Option<String> {
        let text = self.value.as_str().map(str::to_string);
        if text.is_none() {
            self.expected("a string");
        }
        text
    }

    /// The string, if it is one.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// A scalar as text: librdkafka's properties may be written as numbers and booleans too.
    pub(super) fn scalar_text(&self) -> Option<String> {
        match self.value {
            DeValue::String(_) => self.text(),
            DeValue::Integer(n) => Some(n.as_str().replace('_', "")),
            DeValue::Float(n) => Some(n.as_str().replace('_', "")),
            DeValue::Boolean(b) => Some(b.to_string()),
            _ => {
                self.expected("a string, a number or a boolean");
                None
            }
        }
    }

    /// The text of the file whose path this is, without the line break at its end.
    pub(super) fn file_text(&self) -> Option<String> {
        let path = self.text()?;
        match self.sink.environment.file(Path::new(&path)) {
            Ok(text) => Some(text.trim_end_matches(['\n', '\r']).to_string()),
            Err(e) => {
                self.error(format!("file {path:?} cannot be read: {e}"));
                None
            }
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            self.expected("true or false");
        }
        value
    }

    pub(super) fn integer(&self) -> Option<i64> {
        let value = self.value.as_integer().and_then(integer_value);
        if value.is_none() {
            self.expected("an integer");
        }
        value
    }

    /// A duration with its unit, in microseconds.
    pub(super) fn duration_us(&self) -> Option<i64> {
        let Some(text) = self.value.as_str() else {
            self.error_hint("expected a duration with its unit", "for example \"90s\" or \"30d\"");
            return None;
        };
        units::parse_duration_us(text).map_err(|e| self.engine_error(&e)).ok()
    }

    /// A size with its unit, in bytes.
    pub(super) fn size_bytes(&self) -> Option<u64> {
        let Some(text) = self.value.as_str() else {
            self.error_hint("expected a size with its unit", "for example \"64MiB\"");
            return None;
        };
        units::parse_size_bytes(text).map_err(|e| self.engine_error(&e)).ok()
    }

    /// A moment, as a string or a TOML date-time, as text.
    pub(super) fn moment_text(&self) -> Option<String> {
        match self.value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Datetime(at) => Some(at.to_string()),
            _ => {
                self.expected("a moment such as \"2024-08-20T09:00:00Z\"");
                None
            }
        }
    }

    /// A string, or an array of strings.
    pub(super) fn names(&self) -> Option<Vec<(String, Node<'a>)>> {
        match self.value {
            DeValue::String(text) => Some(vec![(text.to_string(), self.clone())]),
            DeValue::Array(_) => Some(
                self.items()
                    .into_iter()
                    .filter_map(|item| item.text().map(|text| (text, item)))
                    .collect(),
            ),
            _ => {
                self.expected("a string or an array of strings");
                None
            }
        }
    }

    /// The elements of an array; empty if it is none.
    pub(super) fn items(&self) -> Vec<Node<'a>> {
        let Some(array) = self.value.as_array() else { return Vec::new() };
        let node = |(n, item): (usize, &'a toml::Spanned<DeValue<'a>>)| Node {
            sink: self.sink,
            path: format!("{}[{n}]", self.path),
            span: item.span(),
            value: item.get_ref(),
        };
        array.iter().enumerate().map(node).collect()
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// A table, or a problem.
    pub(super) fn section(&self) -> Option<Section<'a>> {
        let Some(table) = self.value.as_table() else {
            self.expected("a table");
            return None;
        };
        Some(Section::new(self.sink, &self.path, self.span.clone(), table))
    }

    /// The value as JSON.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        use serde_json::Value;
        Some(match self.value {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(b) => Value::Bool(*b),
            DeValue::Integer(n) => Value::Number(integer_value(n)?.into()),
            DeValue::Float(n) => {
                let number = n.as_str().replace('_', "").parse::<f64>().ok();
                match number.and_then(serde_json::Number::from_f64) {
                    Some(number) => Value::Number(number),
                    None => {
                        self.error("a default must be a finite number");
                        return None;
                    }
                }
            }
            DeValue::Datetime(at) => Value::String(at.to_string()),
            DeValue::Array(_) => {
                Value::Array(self.items().iter().map(Node::json).collect::<Option<_>>()?)
            }
            DeValue::Table(_) => {
                let section = self.section()?;
                let entries = section.entries();
                let pairs = entries.iter().map(|(key, node)| Some((key.clone(), node.json()?)));
                Value::Object(pairs.collect::<Option<_>>()?)
            }
        })
    }
}

/// One table of the document; remembers which keys were asked for.
pub(super) struct Section<'a> {
    sink: &'a Sink<'a>,
    pub(super) path: String,
    span: Range<usize>,
    entries: BTreeMap<String, (Range<usize>, Node<'a>)>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(sink: &'a Sink<'a>, table: &'a DeTable<'a>) -> Self {
        Self::new(sink, "", 0..0, table)
    }

    fn new(sink: &'a Sink<'a>, path: &str, span: Range<usize>, table: &'a DeTable<'a>) -> Self {
        let entry = |(key, value): (&'a toml::Spanned<_>, &'a toml::Spanned<DeValue<'a>>)| {
            let name: &std::borrow::Cow<'a, str> = key.get_ref();
            let path = join(path, name);
            // A table's own span is its header or braces; the key says best where a value stands.
            let span = if value.get_ref().is_table() { key.span() } else { value.span() };
            let node = Node { sink, path, span, value: value.get_ref() };
            (name.to_string(), (key.span(), node))
        };
        let entries = table.iter().map(entry).collect();
        Self { sink, path: path.to_string(), span, entries, known: RefCell::default() }
    }

    /// The value of a key that may be there. From now on the key is known.
    pub(super) fn take(&self, key: &'static str) -> Option<Node<'a>> {
        self.known.borrow_mut().push(key);
        self.entries.get(key).map(|(_, node)| node.clone())
    }

    /// Whether no error was reported so far, in this section or elsewhere.
    pub(super) fn is_sound(&self) -> bool {
        !self.sink.problems.borrow().iter().any(|p| p.severity == Severity::Error)
    }

    /// The value of a key that must be there.
    pub(super) fn require(&self, key: &'static str, hint: &str) -> Option<Node<'a>> {
        let node = self.take(key);
        if node.is_none() {
            self.error_hint(format!("{key:?} is missing"), hint);
        }
        node
    }

    /// All entries in the order of the file, for tables whose keys are names.
    pub(super) fn entries(&self) -> Vec<(String, Node<'a>)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(_, (span, _))| span.start);
        entries.into_iter().map(|(key, (_, node))| (key.clone(), node.clone())).collect()
    }

    /// The name of an entry as a node: where to report problems with the name itself.
    pub(super) fn report_key(&self, key: &str, severity: Severity, message: String, hint: &str) {
        let span = self.entries.get(key).map_or_else(|| self.span.clone(), |(s, _)| s.clone());
        let hint = (!hint.is_empty()).then(|| hint.to_string());
        self.sink.report(severity, &span, &join(&self.path, key), message, hint);
    }

    pub(super) fn error_hint(&self, message: impl Into<String>, hint: impl Into<String>) {
        let (message, hint) = (message.into(), Some(hint.into()));
        self.sink.report(Severity::Error, &self.span, &self.path, message, hint);
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for key in self.entries.keys().filter(|key| !known.contains(&key.as_str())) {
            let hint = match units::nearest(key, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.report_key(key, Severity::Error, format!("unknown key {key:?}"), &hint);
        }
    }
}

/// Parses a document and puts the environment into its texts; what is wrong with either goes to the sink.
pub(super) fn parse<'a>(sink: &Sink<'_>, text: &'a str) -> DeTable<'a> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        sink.report(Severity::Error, &span, "", error.message().to_string(), None);
    }
    let mut table = table.into_inner();
    expand_table(sink, "", &mut table);
    table
}

fn expand_table<'a>(sink: &Sink<'_>, path: &str, table: &mut DeTable<'a>) {
    for (key, value) in table.iter_mut() {
        let name: &DeString<'a> = key.get_ref();
        expand_value(sink, &join(path, name), value);
    }
}

/// Texts in which `${NAME}` stands for an environment variable and `$${` for `${`.
fn expand_value(sink: &Sink<'_>, path: &str, value: &mut toml::Spanned<DeValue<'_>>) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => match expand(text, sink.environment) {
            Ok(expanded) => *text = expanded.into(),
            Err(message) => {
                let hint = "set it, or write $${ for a plain ${".to_string();
                sink.report(Severity::Error, &span, path, message, Some(hint));
                sink.unknown.borrow_mut().insert(span.start);
            }
        },
        DeValue::Array(items) => {
            for (n, item) in items.iter_mut().enumerate() {
                expand_value(sink, &format!("{path}[{n}]"), item);
            }
        }
        DeValue::Table(table) => expand_table(sink, path, table),
        _ => {}
    }
}

fn integer_value(n: &toml::de::DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(&n.as_str().replace('_', ""), n.radix()).ok()
}

fn join(path: &str, key: &str) -> String {
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let key = if plain && !key.is_empty() { key.to_string() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

fn expand(text: &str, environment: &dyn Environment) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let (name, tail) =
            after.split_once('}').ok_or_else(|| "\"${\" has no closing brace".to_string())?;
        let value = environment
            .variable(name)
            .ok_or_else(|| format!("environment variable {name:?} is not set"))?;
        out.push_str(&value);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}
