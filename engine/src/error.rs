//! The one error type at the face of the engine: a kind that tells the caller what to do, and a message
//! that names the object. Messages are lower-case and without a full stop.

use std::fmt;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request or definition is wrong; repeating it will not help.
    Invalid,
    /// The named object does not exist.
    NotFound,
    /// Somebody else holds the object, or another commit won; try again.
    Busy,
    /// The store, the broker or the disk did not answer; nothing was lost, try later.
    Unavailable,
    /// What was read is damaged or of an unknown format; an operator must look.
    Corrupt,
    /// The disk, quota or a stated limit is exhausted.
    Full,
    /// A bug in Otus.
    Internal,
}

/// An error of the engine.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A new error of `kind` with a message that names the object.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }
    /// A wrong request or definition.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }
    /// A missing object.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }
    /// A lost race; try again.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Busy, message)
    }
    /// A failure of the world.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }
    /// Damage on disk.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }
    /// Exhausted space.
    pub fn full(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Full, message)
    }
    /// A bug.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
    /// Adds the cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }
    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
    /// The message alone, without cause.
    pub fn message(&self) -> &str {
        &self.message
    }
    /// What to do about it, if known.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        Self::internal("columnar operation failed").with_source(e)
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(e: parquet::errors::ParquetError) -> Self {
        if crate::store::is_full(&e) {
            return Self::full("storage has no space left").with_source(e);
        }
        Self::corrupt("parquet file cannot be read or written").with_source(e)
    }
}

impl From<object_store::Error> for Error {
    fn from(e: object_store::Error) -> Self {
        match e {
            object_store::Error::NotFound { ref path, .. } => {
                Self::not_found(format!("object {path:?} is not in the store")).with_source(e)
            }
            object_store::Error::AlreadyExists { ref path, .. } => {
                Self::busy(format!("object {path:?} already exists")).with_source(e)
            }
            _ if crate::store::is_full(&e) => {
                Self::full("storage has no space left").with_source(e)
            }
            _ => Self::unavailable("object store failed").with_source(e),
        }
    }
}
