//! What the rewriting did with each raw table of a statement, for `EXPLAIN`, `otus.queries` and notices.

use std::fmt;

use chrono::{DateTime, SecondsFormat};

use super::wish::Wish;

/// Why a rollup does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For people; begins in lower case, names objects, no full stop.
    pub(super) reason: String,
    /// Whether there is nothing that a rollup could be faster at.
    pub(super) idle: bool,
    /// How far the matching came: of two reasons the one that came further is told. 0: the rollup is for other
    /// questions.
    pub(super) stage: u8,
}

impl Refusal {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), idle: false, stage: 1 }
    }

    pub(super) fn far(reason: impl Into<String>) -> Self {
        Self { stage: 0, ..Self::new(reason) }
    }

    /// The same, met in a later stage of the matching.
    pub(super) fn at(self, stage: u8) -> Self {
        Self { stage: if self.stage == 0 { 0 } else { stage }, ..self }
    }

    pub(super) fn idle(reason: impl Into<String>) -> Self {
        Self { idle: true, ..Self::new(reason) }
    }
}

/// What answers for one use of a raw table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A rollup, with what each time range is read from.
    Rollup {
        /// Its name.
        name: String,
        /// Its coarsest granularity that is read.
        view: String,
        /// One line for each source.
        parts: Vec<String>,
    },
    /// Raw rows, and why.
    Raw(String),
}

/// One use of a raw table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    /// The table.
    pub(crate) table: String,
    /// What answers.
    pub(crate) answer: Answer,
}

/// All uses of raw tables in a statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// In the order in which the plan was walked.
    pub(crate) uses: Vec<Use>,
    /// What the client is told.
    pub(crate) notices: Vec<String>,
    /// Rollups that would have answered what raw rows did.
    pub(crate) wishes: Vec<Wish>,
}

impl Report {
    /// Lines of EXPLAIN.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for each in &self.uses {
            match &each.answer {
                Answer::Rollup { name, parts, .. } => {
                    lines.push(format!("{}: rollup {name}", each.table));
                    lines.extend(parts.iter().map(|part| format!("  {part}")));
                }
                Answer::Raw(reason) => {
                    lines.push(format!("{}: raw rows ({reason})", each.table));
                }
            }
        }
        lines
    }

    /// Names of the rollups that answer, if any.
    pub(crate) fn rollups(&self) -> Option<String> {
        let mut names: Vec<&str> = Vec::new();
        for each in &self.uses {
            if let Answer::Rollup { name, .. } = &each.answer
                && !names.contains(&name.as_str())
            {
                names.push(name);
            }
        }
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Why raw rows are read, if any are.
    pub(crate) fn refusals(&self) -> Option<String> {
        let mut reasons: Vec<&str> = Vec::new();
        for each in &self.uses {
            if let Answer::Raw(reason) = &each.answer
                && !reasons.contains(&reason.as_str())
            {
                reasons.push(reason);
            }
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// A time range as EXPLAIN shows it.
pub(super) struct Shown(pub(super) i64, pub(super) i64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 == i64::MIN, self.1 == i64::MAX) {
            (true, true) => f.write_str("all times"),
            (true, false) => write!(f, "before {}", instant(self.1)),
            (false, true) => write!(f, "from {}", instant(self.0)),
            (false, false) => write!(f, "{} to {}", instant(self.0), instant(self.1)),
        }
    }
}

/// An instant in UTC.
pub(super) fn instant(us: i64) -> String {
    DateTime::from_timestamp_micros(us)
        .map_or_else(|| us.to_string(), |t| t.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}
