//! How a command ends when it does not succeed: what is printed, and the exit code.
//!
//! `error: …` names the thing, `  caused by: …` the cause, `hint: …` the next step.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;

use crate::error::{Error, ErrorKind};

/// The result of a command.
pub(super) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command stopped.
#[derive(Debug)]
pub(super) enum Failure {
    /// Refused or failed; the table is as the error says.
    Failed(Error),
    /// The flags contradict each other or the argument cannot be read.
    Usage(String),
    /// Ctrl-C; nothing was committed.
    Interrupted,
    /// Ctrl-C; what was finished before is done.
    Stopped,
    /// Whoever read our output has gone: nothing left to say.
    ReaderGone,
}

impl Failure {
    /// 0 done, 1 refused or failed, 2 wrong usage, 3 conflict worth retrying, 130 interrupted.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(error) => match error.kind() {
                ErrorKind::CommitConflict | ErrorKind::ValidationFailed => 3,
                _ => 1,
            },
            Self::Usage(_) => 2,
            Self::Interrupted | Self::Stopped => 130,
            Self::ReaderGone => 0,
        }
    }

    /// The lines for stderr; empty when there is nothing to say.
    pub(super) fn message(&self, coloured: bool) -> String {
        let mut text = String::new();
        let paint = |code: &str, word: &str| match coloured {
            true => format!("\u{1b}[1;{code}m{word}\u{1b}[0m"),
            false => word.to_string(),
        };
        match self {
            Self::Failed(error) => {
                let _ = writeln!(text, "{} {error}", paint("31", "error:"));
                for cause in causes(error) {
                    let _ = writeln!(text, "  caused by: {cause}");
                }
                if let Some(hint) = error.hint().or_else(|| usual_hint(error.kind())) {
                    let _ = writeln!(text, "{} {hint}", paint("36", "hint:"));
                }
            }
            Self::Usage(message) => {
                let _ = writeln!(text, "{} {message}", paint("31", "error:"));
                let _ = writeln!(
                    text,
                    "{} `meltwater help` lists commands and flags",
                    paint("36", "hint:")
                );
            }
            Self::Interrupted => {
                let _ =
                    writeln!(text, "{} interrupted; nothing was committed", paint("31", "error:"));
            }
            Self::Stopped => {
                let _ = writeln!(
                    text,
                    "{} interrupted; what was committed stays",
                    paint("31", "error:")
                );
            }
            Self::ReaderGone => {}
        }
        text
    }
}

/// The chain below an error, without links that only repeat what was said.
fn causes(error: &Error) -> Vec<String> {
    let mut said = error.to_string();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        if !said.contains(&text) {
            said.push_str(&text);
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

fn usual_hint(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::CommitConflict => "another writer committed first; run the same command again",
        ErrorKind::ValidationFailed => {
            "a concurrent commit changed what this one relied on; run the same command again"
        }
        ErrorKind::CommitStateUnknown => {
            "look at `meltwater inspect snapshots` before writing again; no file was removed"
        }
        ErrorKind::CorruptData => {
            "the file is damaged or not what the table says; older snapshots may still be readable (`scan --snapshot`)"
        }
        ErrorKind::Unavailable => "storage or catalog gave no answer; try again later",
        ErrorKind::Unsupported => {
            "this version reads Iceberg v1 and v2 and writes v2, with Parquet files"
        }
        ErrorKind::Internal => "this is a bug in meltwater; please report it with the command",
        _ => return None,
    })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            io::ErrorKind::NotFound => {
                Self::Failed(Error::new(ErrorKind::NotFound, error.to_string()))
            }
            io::ErrorKind::StorageFull => Self::Failed(
                Error::new(ErrorKind::Unavailable, error.to_string())
                    .with_hint("make room where the answer is written, or send it elsewhere"),
            ),
            _ => Self::Failed(Error::new(ErrorKind::Unavailable, error.to_string())),
        }
    }
}

impl From<arrow::error::ArrowError> for Failure {
    fn from(error: arrow::error::ArrowError) -> Self {
        match error {
            arrow::error::ArrowError::IoError(_, error) => Self::from(error),
            // The CSV writer keeps only the words of an I/O error; 32 is EPIPE.
            arrow::error::ArrowError::CsvError(words) if words.contains("(os error 32)") => {
                Self::ReaderGone
            }
            other => Self::Failed(Error::from(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_thing_the_cause_and_the_next_step() {
        let cause = io::Error::other("connection closed");
        let error = Error::new(ErrorKind::CommitConflict, "table `a.b` moved").with_source(cause);
        let failure = Failure::from(error);
        assert_eq!(
            failure.message(false),
            "error: commit conflict: table `a.b` moved\n  caused by: connection closed\n\
             hint: another writer committed first; run the same command again\n"
        );
        assert_eq!(failure.exit_code(), 3);
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit_code(), failure.message(true)), (0, String::new()));
        let words = "Csv error: Broken pipe (os error 32)".to_string();
        assert!(matches!(
            Failure::from(arrow::error::ArrowError::CsvError(words)),
            Failure::ReaderGone
        ));
    }
}
