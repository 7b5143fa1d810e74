//! Errors and notices as the wire shows them: a SQLSTATE, a message, and what helps.

use pgwire::messages::response::{ErrorResponse, NoticeResponse};

/// Whether the connection survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Error,
    Fatal,
}

/// An error for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WireError {
    pub(super) severity: Severity,
    pub(super) sqlstate: String,
    pub(super) message: String,
    pub(super) detail: Option<Box<str>>,
    pub(super) hint: Option<Box<str>>,
    /// Character in the statement's text, from 1.
    pub(super) position: Option<usize>,
    /// Where in the data it happened.
    pub(super) context: Option<Box<str>>,
}

impl WireError {
    /// An error after which the connection goes on.
    pub(super) fn error(sqlstate: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            sqlstate: sqlstate.to_owned(),
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            context: None,
        }
    }

    /// An error that ends the connection.
    pub(super) fn fatal(sqlstate: &str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Fatal, ..Self::error(sqlstate, message) }
    }

    /// A value that cannot be read or written as its type.
    pub(super) fn value(sqlstate: &str, type_name: &str, text: &str) -> Self {
        Self::error(sqlstate, format!("invalid input syntax for type {type_name}: \"{text}\""))
    }

    #[must_use]
    pub(super) fn with_detail(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub(super) fn with_hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, ending the connection.
    #[must_use]
    pub(super) fn into_fatal(mut self) -> Self {
        self.severity = Severity::Fatal;
        self
    }

    pub(super) fn is_fatal(&self) -> bool {
        self.severity == Severity::Fatal
    }

    /// The message that tells the client.
    pub(super) fn response(&self) -> ErrorResponse {
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        let mut fields = vec![
            (b'S', severity.to_owned()),
            (b'V', severity.to_owned()),
            (b'C', self.sqlstate.clone()),
            (b'M', clean(&self.message)),
        ];
        fields.extend(self.detail.as_deref().map(|d| (b'D', clean(d))));
        fields.extend(self.hint.as_deref().map(|h| (b'H', clean(h))));
        fields.extend(self.context.as_deref().map(|c| (b'W', clean(c))));
        fields.extend(self.position.map(|p| (b'P', p.to_string())));
        ErrorResponse::new(fields)
    }
}

/// A zero byte would end the field early.
fn clean(text: &str) -> String {
    text.replace('\0', " ")
}

/// A message that changes nothing, shown by clients.
pub(super) fn notice(sqlstate: &str, severity: &str, message: &str) -> NoticeResponse {
    NoticeResponse::new(vec![
        (b'S', severity.to_owned()),
        (b'V', severity.to_owned()),
        (b'C', sqlstate.to_owned()),
        (b'M', clean(message)),
    ])
}

impl From<std::io::Error> for WireError {
    fn from(e: std::io::Error) -> Self {
        Self::fatal("08006", format!("connection failed: {e}"))
    }
}

impl From<pgwire::error::PgWireError> for WireError {
    fn from(e: pgwire::error::PgWireError) -> Self {
        Self::fatal("08P01", format!("message cannot be written: {e}"))
    }
}

impl From<arrow::error::ArrowError> for WireError {
    fn from(e: arrow::error::ArrowError) -> Self {
        Self::error("XX000", format!("columnar operation failed: {e}"))
    }
}

impl From<otus_sql::SqlError> for WireError {
    fn from(e: otus_sql::SqlError) -> Self {
        Self {
            severity: Severity::Error,
            sqlstate: e.sqlstate.to_owned(),
            message: e.message,
            detail: e.detail.map(Box::from),
            hint: e.hint.map(Box::from),
            position: e.position,
            context: None,
        }
    }
}
