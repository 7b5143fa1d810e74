//! A decoded pattern: one value, free of any spelling. [`decode`] makes it from the EDN form; the JSON form is
//! brought into that form first, by [`super::spelling`].

use std::sync::Arc;

use super::problem::{Path, Problem, join};
use super::value::{Map, Value};

/// Nesting of maps and rows in a pattern.
pub const PATTERN_DEPTH_MAX: usize = 20;

/// What the answer shall look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// Of a map: these entries.
    Map(MapPattern),
    /// Of a sequence: every element by one pattern.
    Rows(Box<RowsPattern>),
}

/// Entries wanted of a map.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MapPattern {
    /// In the order of the pattern.
    pub entries: Vec<Entry>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key in the data.
    pub key: Value,
    /// Options, in the order in which they apply.
    pub options: Vec<KeyOption>,
    /// What to do with the value.
    pub target: Target,
}

/// What to do with a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// `?`: keep it.
    Keep,
    /// `?x`: keep it and bind it to a variable (its name without `?`).
    Bind(Arc<str>),
    /// Go on inside it.
    Into(Pattern),
    /// The map matches only if the value equals this; the entry is not returned.
    Equal(Value),
}

/// A rows pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct RowsPattern {
    /// Pattern of each element.
    pub element: Pattern,
    /// Variable bound to the resulting rows.
    pub name: Option<Arc<str>>,
    /// Options on the resulting rows.
    pub options: Vec<KeyOption>,
}

/// An option of an entry.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyOption {
    /// Call with these arguments.
    With(Vec<Value>),
    /// Call once per argument vector.
    Batch(Vec<Vec<Value>>),
    /// A page: offset and count (`None` = the rest).
    Seq(usize, Option<usize>),
    /// Replaces nil.
    NotFound(Value),
    /// Nil unless the condition holds.
    When(Condition),
    /// Name in the answer.
    As(Value),
    /// Whether it is sent again when it may have changed; of live requests.
    Watch(bool),
}

/// A condition of `:when`.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A named predicate.
    Is(Predicate),
    /// A comparison with a value.
    Compare(Comparison, Value),
}

/// The named predicates: a fixed list, never code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predicate {
    /// `nil?`
    Nil,
    /// `some?`
    Some,
    /// `true?`
    True,
    /// `false?`
    False,
    /// `zero?`
    Zero,
    /// `pos?`
    Pos,
    /// `neg?`
    Neg,
    /// `even?`
    Even,
    /// `odd?`
    Odd,
    /// `string?`
    String,
    /// `number?`
    Number,
    /// `boolean?`
    Boolean,
    /// `empty?`
    Empty,
}

const PREDICATES: [(&str, Predicate); 13] = [
    ("nil?", Predicate::Nil),
    ("some?", Predicate::Some),
    ("true?", Predicate::True),
    ("false?", Predicate::False),
    ("zero?", Predicate::Zero),
    ("pos?", Predicate::Pos),
    ("neg?", Predicate::Neg),
    ("even?", Predicate::Even),
    ("odd?", Predicate::Odd),
    ("string?", Predicate::String),
    ("number?", Predicate::Number),
    ("boolean?", Predicate::Boolean),
    ("empty?", Predicate::Empty),
];

/// The comparisons of `:when` and of filter trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `:=`
    Equal,
    /// `:not=`
    NotEqual,
    /// `:>`
    Greater,
    /// `:>=`
    GreaterOrEqual,
    /// `:<`
    Less,
    /// `:<=`
    LessOrEqual,
}

impl Comparison {
    /// The comparison of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "=" => Self::Equal,
            "not=" | "!=" => Self::NotEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            _ => return None,
        })
    }
}

impl Entry {
    /// The key in the answer: what `:as` says, else the key.
    pub fn name(&self) -> &Value {
        self.options
            .iter()
            .rev()
            .find_map(|option| match option {
                KeyOption::As(name) => Some(name),
                _ => None,
            })
            .unwrap_or(&self.key)
    }
    /// Whether the entry calls its endpoint.
    pub fn is_call(&self) -> bool {
        self.options.iter().any(|o| matches!(o, KeyOption::With(_) | KeyOption::Batch(_)))
    }
}

/// Decodes the EDN form of a pattern; all that is wrong, each with its path.
pub fn decode(form: &Value) -> Result<Pattern, Vec<Problem>> {
    let mut decoder = Decoder { problems: Vec::new() };
    let pattern = decoder.pattern(form, &Vec::new(), 1);
    match pattern {
        Some(pattern) if decoder.problems.is_empty() => Ok(pattern),
        _ => Err(decoder.problems),
    }
}

impl Entry {
    /// Whether it is sent again when it may have changed; none where nothing is said.
    pub fn watch(&self) -> Option<bool> {
        self.options.iter().find_map(|option| match option {
            KeyOption::Watch(is_on) => Some(*is_on),
            _ => None,
        })
    }
}

/// Problems for every `:watch` outside a live request.
pub fn refuse_watch(pattern: &Pattern) -> Vec<Problem> {
    let mut problems = Vec::new();
    find_watch(pattern, &Vec::new(), &mut |path, _| {
        let reason = ":watch needs a live request: POST /api/live";
        problems.push(Problem::bad_pattern(reason, path));
    });
    problems
}

/// Tells the path of each entry with `:watch`, and what it says.
pub(super) fn find_watch(pattern: &Pattern, path: &Path, found: &mut dyn FnMut(&Path, bool)) {
    match pattern {
        Pattern::Map(map) => {
            for entry in &map.entries {
                let here = join(path, entry.name());
                if let Some(is_on) = entry.watch() {
                    found(&here, is_on);
                }
                if let Target::Into(below) = &entry.target {
                    find_watch(below, &here, found);
                }
            }
        }
        Pattern::Rows(rows) => find_watch(&rows.element, path, found),
    }
}

/// What a symbol in value position means.
enum Mark {
    Keep,
    Bind(Arc<str>),
}

fn mark(value: &Value) -> Option<Mark> {
    match value {
        Value::Symbol(text) if &**text == "?" => Some(Mark::Keep),
        Value::Symbol(text) => text.strip_prefix('?').map(|name| Mark::Bind(Arc::from(name))),
        _ => None,
    }
}

struct Decoder {
    problems: Vec<Problem>,
}

impl Decoder {
    fn fail<T>(&mut self, path: &[Value], reason: impl Into<String>) -> Option<T> {
        self.problems.push(Problem::bad_pattern(reason, path));
        None
    }

    fn pattern(&mut self, form: &Value, path: &Path, depth: usize) -> Option<Pattern> {
        if depth > PATTERN_DEPTH_MAX {
            return self.fail(path, format!("pattern is nested deeper than {PATTERN_DEPTH_MAX}"));
        }
        match form {
            Value::Map(map) => self.map(map, path, depth).map(Pattern::Map),
            Value::Vector(items) => self.rows(items, path, depth),
            other => {
                let reason = format!("a pattern is a map or a vector, not {}", other.kind_name());
                self.fail(path, reason)
            }
        }
    }

    fn map(&mut self, map: &Map, path: &Path, depth: usize) -> Option<MapPattern> {
        let mut entries: Vec<Entry> = Vec::with_capacity(map.len());
        let mut names: Vec<Value> = Vec::new();
        for (key, value) in map.iter() {
            let Some((key, options)) = self.key(key, path) else { continue };
            let mut entry = Entry { key, options, target: Target::Keep };
            let name = entry.name().clone();
            let here = join(path, &name);
            if let Some(target) = self.target(value, &here, depth) {
                entry.target = target;
            }
            if !matches!(entry.target, Target::Equal(_)) {
                if names.contains(&name) {
                    let reason = "the answer would hold this key twice; rename one with :as";
                    self.problems.push(Problem::new("duplicate-endpoint", reason, &here));
                }
                names.push(name);
            }
            entries.push(entry);
        }
        Some(MapPattern { entries })
    }

    fn target(&mut self, value: &Value, path: &Path, depth: usize) -> Option<Target> {
        match (mark(value), value) {
            (Some(Mark::Keep), _) => Some(Target::Keep),
            (Some(Mark::Bind(name)), _) => Some(Target::Bind(name)),
            (None, Value::Map(_) | Value::Vector(_)) => {
                self.pattern(value, path, depth + 1).map(Target::Into)
            }
            (None, Value::List(_)) => {
                self.fail(path, "a list stands in key position only; a rows pattern is a vector")
            }
            (None, literal) => Some(Target::Equal(literal.clone())),
        }
    }

    fn key(&mut self, key: &Value, path: &Path) -> Option<(Value, Vec<KeyOption>)> {
        let Some(items) = key.as_sequence() else {
            return Some((key.clone(), Vec::new()));
        };
        let Some((plain, options)) = items.split_first() else {
            return self.fail(path, "an empty list is no key");
        };
        if plain.as_sequence().is_some() {
            return self.fail(path, "a key with options begins with a plain key");
        }
        let before = self.problems.len();
        let options = self.options(options, &join(path, plain), true);
        (self.problems.len() == before).then_some((plain.clone(), options))
    }

    fn rows(&mut self, items: &[Value], path: &Path, depth: usize) -> Option<Pattern> {
        let (element, rest) = match items.split_first() {
            None => return self.fail(path, "a rows pattern holds the pattern of an element"),
            Some(parts) => parts,
        };
        let element = self.pattern(element, path, depth + 1);
        let (name, options) = match rest.split_first() {
            None => (None, rest),
            Some((slot, options)) => match mark(slot) {
                Some(Mark::Keep) => (None, options),
                Some(Mark::Bind(name)) => (Some(name), options),
                None => {
                    let reason = "the second element of a rows pattern is ? or a variable";
                    return self.fail(path, reason);
                }
            },
        };
        let options = self.options(options, path, false);
        Some(Pattern::Rows(Box::new(RowsPattern { element: element?, name, options })))
    }

    fn options(&mut self, items: &[Value], path: &Path, on_key: bool) -> Vec<KeyOption> {
        let mut options = Vec::with_capacity(items.len() / 2);
        for pair in items.chunks(2) {
            let [Value::Keyword(name), argument] = pair else {
                let reason = match pair {
                    [Value::Keyword(name)] => format!("option :{name} has no argument"),
                    _ => "an option is a keyword followed by its argument".to_string(),
                };
                self.problems.push(Problem::bad_pattern(reason, path));
                break;
            };
            if let Some(option) = self.option(name, argument, path, on_key) {
                options.push(option);
            }
        }
        let calls = |o: &KeyOption| matches!(o, KeyOption::With(_) | KeyOption::Batch(_));
        if options.iter().filter(|o| calls(o)).count() > 1 {
            self.problems.push(Problem::bad_pattern("an endpoint is called once per key", path));
        }
        options
    }

    fn option(
        &mut self,
        name: &str,
        argument: &Value,
        path: &Path,
        on_key: bool,
    ) -> Option<KeyOption> {
        match (name, argument) {
            ("with" | "batch" | "as", _) if !on_key => {
                self.fail(path, format!("option :{name} stands on a key, not on rows"))
            }
            ("with", Value::Vector(arguments)) => Some(KeyOption::With(arguments.clone())),
            ("with", _) => self.fail(path, ":with takes a vector of arguments"),
            ("batch", Value::Vector(calls)) => {
                let calls: Option<Vec<Vec<Value>>> = calls
                    .iter()
                    .map(|call| match call {
                        Value::Vector(arguments) => Some(arguments.clone()),
                        _ => None,
                    })
                    .collect();
                match calls {
                    Some(calls) => Some(KeyOption::Batch(calls)),
                    None => self.fail(path, ":batch takes a vector of argument vectors"),
                }
            }
            ("batch", _) => self.fail(path, ":batch takes a vector of argument vectors"),
            ("seq", _) => match page(argument) {
                Some((offset, count)) => Some(KeyOption::Seq(offset, count)),
                None => self.fail(path, ":seq takes [offset count], neither below zero"),
            },
            ("not-found", value) => Some(KeyOption::NotFound(value.clone())),
            ("when", condition) => match condition_of(condition) {
                Some(condition) => Some(KeyOption::When(condition)),
                None => {
                    let names = PREDICATES.map(|(name, _)| name).join(" ");
                    let reason =
                        format!(":when takes one of {names}, or a comparison like [:> 10]");
                    self.fail(path, reason)
                }
            },
            ("as", Value::Keyword(name) | Value::String(name)) => {
                Some(KeyOption::As(Value::Keyword(Arc::clone(name))))
            }
            ("as", _) => self.fail(path, ":as takes a keyword"),
            ("watch", Value::Bool(is_on)) if on_key => Some(KeyOption::Watch(*is_on)),
            ("watch", _) => self.fail(path, ":watch true stands on a key"),
            _ => self.fail(path, format!("there is no option :{name}")),
        }
    }
}

fn page(argument: &Value) -> Option<(usize, Option<usize>)> {
    let Value::Vector(parts) = argument else { return None };
    let size = |value: &Value| match value {
        Value::Int(n) => usize::try_from(*n).ok(),
        _ => None,
    };
    match parts.as_slice() {
        [offset] => Some((size(offset)?, None)),
        [offset, count] => Some((size(offset)?, Some(size(count)?))),
        _ => None,
    }
}

fn condition_of(form: &Value) -> Option<Condition> {
    match form {
        Value::Symbol(name) | Value::String(name) => {
            let found = PREDICATES.iter().find(|(known, _)| *known == &**name);
            found.map(|(_, predicate)| Condition::Is(*predicate))
        }
        Value::Vector(parts) => match parts.as_slice() {
            [Value::Keyword(name) | Value::String(name), value] => {
                let scalar = !matches!(value, Value::Map(_) | Value::Vector(_) | Value::List(_));
                let comparison = Comparison::from_name(name)?;
                scalar.then(|| Condition::Compare(comparison, value.clone()))
            }
            _ => None,
        },
        _ => None,
    }
}
