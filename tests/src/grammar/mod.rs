//! Statements at random, each valid in PostgreSQL: what nobody thought of writing down as a test. A seed gives the same
//! statements again.

mod queries;
mod values;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `integer`.
    Int,
    /// `bigint`.
    Big,
    /// `numeric`.
    Num,
    /// `text`.
    Text,
    /// `boolean`.
    Bool,
    /// `timestamptz`.
    Time,
    /// `date`.
    Date,
    /// `jsonb`.
    Json,
    /// `text[]`.
    Texts,
}

impl Kind {
    /// Its name in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Int => "integer",
            Self::Big => "bigint",
            Self::Num => "numeric",
            Self::Text => "text",
            Self::Bool => "boolean",
            Self::Time => "timestamptz",
            Self::Date => "date",
            Self::Json => "jsonb",
            Self::Texts => "text[]",
        }
    }

    fn ordered(self) -> bool {
        !matches!(self, Self::Json | Self::Texts)
    }
}

/// A column that a statement can name.
#[derive(Debug, Clone)]
pub struct Column {
    /// As it is written, with its table where that has a name.
    pub name: String,
    /// Of its values.
    pub kind: Kind,
}

impl Column {
    /// A column by its name.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), kind }
    }
}

/// A statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its text.
    pub sql: String,
    /// The values of its parameters `$1`, `$2` … as text.
    pub parameters: Vec<String>,
    /// Whether its rows come in one order only.
    pub ordered: bool,
}

/// Where statements come from.
#[derive(Debug)]
pub struct Grammar {
    random: StdRng,
    table: &'static str,
    columns: Vec<Column>,
    /// Values that were put in as parameters; none are put in if there is no list.
    parameters: Option<Vec<String>>,
    names: usize,
    /// How many columns of the last query, from the first one, no two of its rows have alike; 0 = it may have equal rows.
    identified: usize,
}

impl Grammar {
    /// Statements over a table with these columns.
    pub fn new(seed: u64, table: &'static str, columns: Vec<Column>) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { random, table, columns, parameters: None, names: 0, identified: 0 }
    }

    /// The next one; values stand in it.
    pub fn plain(&mut self) -> Statement {
        self.parameters = None;
        self.statement()
    }

    /// The next one; some of its values are parameters.
    pub fn prepared(&mut self) -> Statement {
        self.parameters = Some(Vec::new());
        self.statement()
    }

    fn statement(&mut self) -> Statement {
        self.names = 0;
        let (sql, columns) = self.query(0);
        let (sql, ordered) = self.ordered(sql, &columns);
        let (sql, parameters) = counted(&sql, &self.parameters.take().unwrap_or_default());
        Statement { sql, parameters, ordered }
    }

    /// True `percent` times out of a hundred.
    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn number(&mut self, range: std::ops::Range<i64>) -> i64 {
        self.random.random_range(range)
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.random.random_range(0..all.len())].clone()
    }

    /// Numbers of all parts in a random order.
    fn shuffled(&mut self, parts: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..parts).collect();
        for last in (1..parts).rev() {
            let other = self.random.random_range(0..=last);
            all.swap(last, other);
        }
        all
    }

    /// A name that no other part of the statement has.
    fn name(&mut self, stem: &str) -> String {
        self.names += 1;
        format!("{stem}{}", self.names)
    }
}

/// The statement with the parameters that are left in it numbered from 1: some were made for parts that it lost.
fn counted(sql: &str, values: &[String]) -> (String, Vec<String>) {
    let mut parts = sql.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    let mut kept: Vec<usize> = Vec::new();
    for part in parts {
        let digits = part.chars().take_while(char::is_ascii_digit).count();
        let (number, rest) = part.split_at_checked(digits).unwrap_or(("", part));
        let Ok(number) = number.parse::<usize>() else {
            text = format!("{text}${part}");
            continue;
        };
        let place = kept.iter().position(|n| *n == number).unwrap_or_else(|| {
            kept.push(number);
            kept.len() - 1
        });
        text = format!("{text}${}{rest}", place + 1);
    }
    let values = kept.iter().filter_map(|n| values.get(n - 1).cloned()).collect();
    (text, values)
}
