//! Why a record is rejected, in two parts: a cause that all records of its kind share, so that causes can be
//! counted, and a detail of this one record.

use std::fmt;

use super::json::scan::Malformed;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) cause: String,
    /// Where in the record, or the beginning of the value.
    pub(crate) detail: Option<String>,
}

impl Reason {
    pub(crate) fn new(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), detail: None }
    }

    pub(crate) fn with(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Something is wrong at a byte of the record.
    pub(crate) fn at_byte(cause: impl Into<String>, at: usize) -> Self {
        Self::new(cause).with(format!("at byte {at}"))
    }

    /// Names the column whose value is wrong.
    pub(crate) fn of_column(self, name: &str) -> Self {
        Self { cause: format!("column {name:?}: {}", self.cause), ..self }
    }
}

impl From<Malformed> for Reason {
    fn from(malformed: Malformed) -> Self {
        Self::at_byte(format!("bad JSON: {}", malformed.what), malformed.at)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}
