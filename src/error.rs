//! Errors of every floor: what went wrong, where, and what to do next.
//!
//! One struct, a short list of kinds (a kind exists where a caller acts differently), the
//! details as context, and an optional hint that names the next step.

use std::error::Error as StdError;
use std::fmt;

/// The result of every fallible call of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is wrong: change it.
    InvalidInput,
    /// The named table, snapshot or file is absent.
    NotFound,
    /// The thing to be made is there already.
    AlreadyExists,
    /// Another commit came first: refresh, then repeat the same operation.
    CommitConflict,
    /// A concurrent commit changed what this one relied on: plan again.
    ValidationFailed,
    /// The commit may have landed: look before writing, and keep every file.
    CommitStateUnknown,
    /// Stored bytes break the format: stop and inspect.
    CorruptData,
    /// Storage or catalog gave no answer: retry later.
    Unavailable,
    /// A stream's position is no longer in the table's history: choose a new start.
    PositionExpired,
    /// The branch was rewound or replaced under a stream: choose how to go on.
    HistoryRewritten,
    /// Another holder took the name: stop.
    Fenced,
    /// Valid Iceberg that this version does not support yet.
    Unsupported,
    /// Our bug: please report it.
    Internal,
}

impl ErrorKind {
    /// The kind in words, as messages begin with it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid input",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::CommitConflict => "commit conflict",
            Self::ValidationFailed => "validation failed",
            Self::CommitStateUnknown => "commit state unknown",
            Self::CorruptData => "corrupt data",
            Self::Unavailable => "unavailable",
            Self::PositionExpired => "position expired",
            Self::HistoryRewritten => "history rewritten",
            Self::Fenced => "fenced",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal error",
        }
    }
}

/// An error with its kind, message, context, hint and cause.
///
/// `Display` prints one line: message, then context in brackets. The cause is reached
/// through [`std::error::Error::source`].
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    nothing_changed: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind`; the message names the thing and the cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                message: message.into(),
                context: Vec::new(),
                hint: None,
                nothing_changed: false,
                source: None,
            }),
        }
    }

    /// Shorthand for [`ErrorKind::InvalidInput`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Shorthand for [`ErrorKind::CorruptData`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::CorruptData, message)
    }

    /// Shorthand for [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Shorthand for [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds a named detail, such as the file that was read.
    pub fn with_context(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.inner.context.push((key, value.to_string()));
        self
    }

    /// Says what to do next, in one sentence.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// Adds to what it says to do next.
    pub fn with_further_hint(self, hint: &str) -> Self {
        let all = self.hint().map_or_else(|| hint.to_string(), |first| format!("{first}; {hint}"));
        self.with_hint(all)
    }

    /// Keeps the error that caused this one.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// The same error once more, without its cause: for each of those who wait for one answer.
    pub(crate) fn again(&self) -> Self {
        let Inner { kind, nothing_changed, .. } = *self.inner;
        let (message, context) = (self.inner.message.clone(), self.inner.context.clone());
        let hint = self.inner.hint.clone();
        let inner = Inner { kind, message, context, hint, nothing_changed, source: None };
        Self { inner: Box::new(inner) }
    }

    /// Same error under another kind, for a caller who knows more about the outcome.
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.inner.kind = kind;
        self
    }

    /// Says that the call is known to have changed nothing: a caller who gets no answer need not
    /// look, and may clean up.
    pub fn with_nothing_changed(mut self) -> Self {
        self.inner.nothing_changed = true;
        self
    }

    /// True when the call is known to have changed nothing.
    pub fn is_nothing_changed(&self) -> bool {
        self.inner.nothing_changed
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The message without context.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The named details, in the order they were added.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.inner.context.iter().map(|(k, v)| (*k, v.as_str()))
    }

    /// The next step, if one is known.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// True when the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::CommitConflict)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.inner.kind.as_str(), self.inner.message)?;
        for (i, (key, value)) in self.inner.context.iter().enumerate() {
            f.write_str(if i == 0 { " (" } else { ", " })?;
            write!(f, "{key}: {value}")?;
        }
        if !self.inner.context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        if let Some(hint) = &self.inner.hint {
            write!(f, "\nhint: {hint}")?;
        }
        if let Some(source) = &self.inner.source {
            write!(f, "\ncaused by: {source:?}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|e| e as _)
    }
}

impl From<iceberg::Error> for Error {
    fn from(error: iceberg::Error) -> Self {
        let kind = match error.kind() {
            iceberg::ErrorKind::DataInvalid => ErrorKind::InvalidInput,
            iceberg::ErrorKind::FeatureUnsupported => ErrorKind::Unsupported,
            iceberg::ErrorKind::CatalogCommitConflicts => ErrorKind::CommitConflict,
            iceberg::ErrorKind::TableNotFound | iceberg::ErrorKind::NamespaceNotFound => {
                ErrorKind::NotFound
            }
            iceberg::ErrorKind::TableAlreadyExists | iceberg::ErrorKind::NamespaceAlreadyExists => {
                ErrorKind::AlreadyExists
            }
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error.message().to_string()).with_source(error)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        match error {
            arrow::error::ArrowError::ExternalError(inner) => match inner.downcast::<Error>() {
                Ok(ours) => *ours,
                Err(other) => Self::internal("arrow failed").with_source(other),
            },
            other => Self::internal(other.to_string()).with_source(other),
        }
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        match error {
            parquet::errors::ParquetError::External(inner) => match inner.downcast::<Error>() {
                Ok(ours) => *ours,
                Err(other) => match other.downcast::<object_store::Error>() {
                    Ok(store) => Self::from(*store),
                    Err(other) => Self::corrupt("Parquet file cannot be read").with_source(other),
                },
            },
            other => Self::corrupt(other.to_string()).with_source(other),
        }
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as Store;
        let kind = match &error {
            Store::NotFound { .. } => ErrorKind::NotFound,
            Store::AlreadyExists { .. } | Store::Precondition { .. } => ErrorKind::AlreadyExists,
            Store::InvalidPath { .. } => ErrorKind::InvalidInput,
            Store::NotSupported { .. } | Store::NotImplemented { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string()).with_source(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::corrupt(format!("JSON cannot be read: {error}")).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_kind_message_and_context() {
        let error = Error::corrupt("manifest entry has no file path")
            .with_context("manifest", "m0.avro")
            .with_context("entry", 3);
        assert_eq!(
            error.to_string(),
            "corrupt data: manifest entry has no file path (manifest: m0.avro, entry: 3)"
        );
    }

    #[test]
    fn our_errors_survive_a_trip_through_arrow_and_parquet() {
        let ours = Error::new(ErrorKind::Unavailable, "no answer");
        let arrow = arrow::error::ArrowError::ExternalError(Box::new(ours));
        assert_eq!(Error::from(arrow).kind(), ErrorKind::Unavailable);
    }
}
