//! A query as parts that can be dropped one by one, and its text.

use datafusion::scalar::ScalarValue;

use super::table::Nature;

/// Stands for a parameter in the text of a fragment.
const MARK: char = '\u{1}';

/// A piece of SQL with the values of its parameters.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Frag {
    text: String,
    params: Vec<ScalarValue>,
}

impl Frag {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), params: Vec::new() }
    }

    /// A parameter.
    pub(super) fn param(value: ScalarValue) -> Self {
        Self { text: MARK.to_string(), params: vec![value] }
    }

    /// Fragments in the places of `{}`.
    pub(super) fn of(template: &str, parts: &[Self]) -> Self {
        let mut out = Self::default();
        let mut parts = parts.iter();
        for (i, text) in template.split("{}").enumerate() {
            if i > 0 {
                out.push(parts.next().unwrap());
            }
            out.text += text;
        }
        out
    }

    pub(super) fn push(&mut self, other: &Self) {
        self.text += &other.text;
        self.params.extend(other.params.iter().cloned());
    }

    pub(super) fn push_str(&mut self, text: &str) {
        self.text += text;
    }

    /// All, with `between` between them.
    pub(super) fn joined(parts: &[Self], between: &str) -> Self {
        let mut out = Self::default();
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                out.text += between;
            }
            out.push(part);
        }
        out
    }

    /// Text with `$1`, `$2` …, and the values.
    pub(super) fn finish(self) -> (String, Vec<ScalarValue>) {
        let mut text = String::new();
        let mut n = 0;
        for c in self.text.chars() {
            if c == MARK {
                n += 1;
                text += &format!("${n}");
            } else {
                text.push(c);
            }
        }
        (text, self.params)
    }
}

/// A selected expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) sql: Frag,
    pub(super) nature: Nature,
}

impl Item {
    pub(super) fn new(sql: impl Into<String>, nature: Nature) -> Self {
        Self { sql: Frag::new(sql), nature }
    }
}

/// How keys are grouped.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Grouping {
    Plain,
    Rollup,
    Cube,
    /// Sets of indexes of keys.
    Sets(Vec<Vec<usize>>),
}

/// Select, filter, group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Core {
    pub(super) source: Frag,
    pub(super) keys: Vec<Item>,
    pub(super) aggregates: Vec<Item>,
    /// Conjuncts of WHERE.
    pub(super) conditions: Vec<Frag>,
    pub(super) having: Option<Frag>,
    pub(super) grouping: Grouping,
    /// Whether columns are named `k0` … and `a0` …; else they have the names of their expressions.
    pub(super) aliased: bool,
    /// Whether GROUP BY names keys by number.
    pub(super) ordinals: bool,
    pub(super) distinct: bool,
}

impl Core {
    /// Natures of the columns.
    pub(super) fn natures(&self) -> Vec<Nature> {
        let repeated = self.source.text.contains(" JOIN ");
        let items = self.keys.iter().chain(&self.aggregates);
        let natures = items.map(|item| match item.nature {
            Nature::Quantile if repeated => Nature::Repeated,
            nature => nature,
        });
        natures.collect()
    }

    pub(super) fn sql(&self) -> Frag {
        let mut out = Frag::new(if self.distinct { "SELECT DISTINCT " } else { "SELECT " });
        let named = |item: &Item, name: String| {
            let mut sql = item.sql.clone();
            if self.aliased {
                sql.push_str(&format!(" AS {name}"));
            }
            sql
        };
        let keys = self.keys.iter().enumerate().map(|(i, k)| named(k, format!("k{i}")));
        let aggregates = self.aggregates.iter().enumerate();
        let aggregates = aggregates.map(|(i, a)| named(a, format!("a{i}")));
        let items: Vec<Frag> = keys.chain(aggregates).collect();
        out.push(&Frag::joined(&items, ", "));
        out.push_str(" FROM ");
        out.push(&self.source);
        if !self.conditions.is_empty() {
            out.push_str(" WHERE ");
            out.push(&Frag::joined(&self.conditions, " AND "));
        }
        let listed = self.distinct && self.aggregates.is_empty();
        if !self.keys.is_empty() && !listed {
            out.push_str(" GROUP BY ");
            out.push(&self.groups());
        }
        if let Some(having) = &self.having {
            out.push_str(" HAVING ");
            out.push(having);
        }
        out
    }

    fn groups(&self) -> Frag {
        let keys: Vec<Frag> = match self.ordinals && self.grouping == Grouping::Plain {
            true => (1..=self.keys.len()).map(|i| Frag::new(i.to_string())).collect(),
            false => self.keys.iter().map(|k| k.sql.clone()).collect(),
        };
        let list = |keys: &[Frag]| Frag::joined(keys, ", ");
        match &self.grouping {
            Grouping::Plain => list(&keys),
            Grouping::Rollup => Frag::of("ROLLUP ({})", &[list(&keys)]),
            Grouping::Cube => Frag::of("CUBE ({})", &[list(&keys)]),
            Grouping::Sets(sets) => {
                let sets: Vec<Frag> = sets
                    .iter()
                    .map(|set| {
                        let keys: Vec<Frag> = set.iter().map(|i| keys[*i].clone()).collect();
                        Frag::of("({})", &[list(&keys)])
                    })
                    .collect();
                Frag::of("GROUPING SETS ({})", &[list(&sets)])
            }
        }
    }

    /// This core with one part less.
    fn smaller(&self) -> Vec<Self> {
        let mut out = Vec::new();
        let mut push = |change: &dyn Fn(&mut Self)| {
            let mut core = self.clone();
            change(&mut core);
            if !core.keys.is_empty() || !core.aggregates.is_empty() {
                out.push(core);
            }
        };
        if self.having.is_some() {
            push(&|c| c.having = None);
        }
        if self.grouping != Grouping::Plain {
            push(&|c| c.grouping = Grouping::Plain);
        }
        if self.distinct {
            push(&|c| c.distinct = false);
        }
        for i in 0..self.conditions.len() {
            push(&|c| drop(c.conditions.remove(i)));
        }
        for i in 0..self.aggregates.len() {
            push(&|c| drop(c.aggregates.remove(i)));
        }
        if self.grouping == Grouping::Plain {
            for i in 0..self.keys.len() {
                push(&|c| drop(c.keys.remove(i)));
            }
        }
        if !self.ordinals {
            push(&|c| c.ordinals = true);
        }
        out
    }
}

/// What stands around a core.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Plain,
    /// `SELECT * FROM (core) s WHERE …`
    Outer(Option<Frag>),
    /// Aggregates over the core.
    Again,
    /// A common table that is read twice and joined on its keys.
    Twice,
    /// `UNION ALL` with another core of the same columns.
    Union(Box<Core>),
    /// Left join with another core of the same keys.
    Join(Box<Core>),
    /// A window function over the core's rows.
    Window(String),
    /// A core without keys as a scalar subquery.
    Scalar,
}

/// The order of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    None,
    /// By all columns that are exact.
    Total,
    /// By one aggregate from the top, then by all columns that are exact.
    Top(usize),
}

/// A whole query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query {
    pub(super) zone: String,
    pub(super) core: Core,
    pub(super) shape: Shape,
    pub(super) order: Order,
    pub(super) limit: Option<(usize, usize)>,
    /// Whether no rollup may answer it.
    pub(super) refused: bool,
}

impl Query {
    /// Natures of the answer's columns.
    pub(super) fn natures(&self) -> Vec<Nature> {
        let core = self.core.natures();
        match &self.shape {
            Shape::Plain | Shape::Outer(_) | Shape::Scalar => core,
            Shape::Again => vec![Nature::Exact, self.core.natures()[self.core.keys.len()]],
            Shape::Union(other) => {
                let mixed = core.iter().zip(other.natures());
                mixed.map(|(a, b)| if *a == Nature::Exact { b } else { *a }).collect()
            }
            Shape::Twice => {
                let first = core[self.core.keys.len()];
                core.into_iter().chain([first]).collect()
            }
            Shape::Join(other) => {
                let first = other.aggregates[0].nature;
                core.into_iter().chain([first]).collect()
            }
            Shape::Window(_) => core.into_iter().chain([Nature::Exact]).collect(),
        }
    }

    /// Whether the order of the answer's rows is determined.
    pub(super) fn is_ordered(&self) -> bool {
        self.order != Order::None && self.keys_are_exact()
    }

    fn keys_are_exact(&self) -> bool {
        self.core.keys.iter().all(|k| k.nature == Nature::Exact)
            && !matches!(self.shape, Shape::Union(_))
    }

    fn body(&self) -> Frag {
        let core = self.core.sql();
        let same_keys = || {
            let each =
                (0..self.core.keys.len()).map(|i| format!("(x.k{i} IS NOT DISTINCT FROM y.k{i})"));
            let all: Vec<String> = each.collect();
            if all.is_empty() { "true".to_string() } else { all.join(" AND ") }
        };
        match &self.shape {
            Shape::Plain => core,
            Shape::Outer(None) => Frag::of("SELECT * FROM ({}) s", &[core]),
            Shape::Outer(Some(filter)) => {
                Frag::of("SELECT * FROM ({}) s WHERE {}", &[core, filter.clone()])
            }
            Shape::Again => Frag::of("SELECT count(*) AS n, max(a0) AS m FROM ({}) s", &[core]),
            Shape::Twice => Frag::of(
                &format!(
                    "WITH s AS ({{}}) SELECT x.*, y.a0 AS other FROM s x JOIN s y ON {}",
                    same_keys()
                ),
                &[core],
            ),
            Shape::Union(other) => Frag::of("{} UNION ALL {}", &[core, other.sql()]),
            Shape::Join(other) => Frag::of(
                &format!(
                    "SELECT x.*, y.a0 AS other FROM ({{}}) x LEFT JOIN ({{}}) y ON {}",
                    same_keys()
                ),
                &[core, other.sql()],
            ),
            Shape::Window(call) => {
                Frag::of(&format!("SELECT s.*, {call} AS w FROM ({{}}) s"), &[core])
            }
            Shape::Scalar => Frag::of("SELECT ({}) AS v", &[core]),
        }
    }

    /// The text and the values of its parameters.
    pub(super) fn sql(&self) -> (String, Vec<ScalarValue>) {
        let mut out = self.body();
        if self.order != Order::None {
            let mut by: Vec<String> = Vec::new();
            if let Order::Top(i) = self.order {
                by.push(format!("{} DESC", self.core.keys.len() + i + 1));
            }
            let exact = self.natures().into_iter().enumerate();
            let exact =
                exact.filter(|(_, n)| *n == Nature::Exact).map(|(i, _)| (i + 1).to_string());
            by.extend(exact);
            if !by.is_empty() {
                out.push_str(&format!(" ORDER BY {}", by.join(", ")));
            }
        }
        if let Some((limit, offset)) = self.limit {
            out.push_str(&format!(" LIMIT {limit}"));
            if offset > 0 {
                out.push_str(&format!(" OFFSET {offset}"));
            }
        }
        out.finish()
    }

    /// Queries with one part less, the largest parts first.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut out = Vec::new();
        let mut push = |change: &dyn Fn(&mut Self)| {
            let mut query = self.clone();
            change(&mut query);
            out.push(query);
        };
        if self.shape != Shape::Plain {
            push(&|q| q.shape = Shape::Plain);
        }
        if let Shape::Union(other) | Shape::Join(other) = &self.shape {
            push(&|q| {
                q.core = Core::clone(other);
                q.shape = Shape::Plain;
            });
        }
        if self.limit.is_some() {
            push(&|q| q.limit = None);
        }
        if self.order != Order::None && self.limit.is_none() {
            push(&|q| q.order = Order::None);
        }
        if self.zone != "UTC" {
            push(&|q| q.zone = "UTC".into());
        }
        if self.shape == Shape::Plain && !matches!(self.order, Order::Top(_)) {
            for core in self.core.smaller() {
                push(&|q| q.core = core.clone());
            }
        }
        out
    }
}
