//! What a failed call to a store means, in words a person can act on.
//!
//! In: `object_store`'s error and the location. Out: our error. The operating system's reason is
//! looked up in the chain of causes, because a read-only folder and a full disk ask for other
//! actions than a store that does not answer.

use std::error::Error as StdError;
use std::io;

use crate::error::{Error, ErrorKind};

/// Names the location and, where the cause is known, the next step.
pub(super) fn named(error: object_store::Error, location: &str) -> Error {
    let reason = io_reason(&error);
    let error = Error::from(error);
    match reason.and_then(explained) {
        Some((kind, message, hint)) => Error::new(kind, message).with_hint(hint).with_source(error),
        None => error,
    }
    .with_context("location", location)
}

fn io_reason(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = cause.source();
    }
    None
}

fn explained(reason: io::ErrorKind) -> Option<(ErrorKind, &'static str, &'static str)> {
    use io::ErrorKind as Io;
    Some(match reason {
        Io::PermissionDenied => (
            ErrorKind::InvalidInput,
            "permission denied",
            "give this user read and write access to the folder, or choose another one",
        ),
        Io::ReadOnlyFilesystem => (
            ErrorKind::InvalidInput,
            "the file system is read-only",
            "choose a folder on a file system that can be written to",
        ),
        Io::StorageFull | Io::QuotaExceeded => (
            ErrorKind::Unavailable,
            "the disk is full",
            "free some space, then repeat the command; nothing was committed by this write",
        ),
        Io::FileTooLarge => (
            ErrorKind::Unavailable,
            "the file is larger than the system allows",
            "raise the limit (`ulimit -f`) or the quota, then repeat the command; nothing was \
             committed by this write",
        ),
        Io::NotADirectory => (
            ErrorKind::InvalidInput,
            "a part of the path is a file, not a folder",
            "check the location",
        ),
        Io::IsADirectory => {
            (ErrorKind::InvalidInput, "the path is a folder, not a file", "check the location")
        }
        Io::InvalidFilename => (
            ErrorKind::InvalidInput,
            "the file system does not take this file name",
            "shorten the name; most file systems take 255 bytes",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_error(kind: io::ErrorKind) -> object_store::Error {
        object_store::Error::Generic { store: "test", source: Box::new(io::Error::from(kind)) }
    }

    #[test]
    fn a_full_disk_and_a_read_only_folder_say_what_to_do() {
        for (reason, kind, words) in [
            (io::ErrorKind::StorageFull, ErrorKind::Unavailable, "disk is full"),
            (io::ErrorKind::PermissionDenied, ErrorKind::InvalidInput, "permission denied"),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::InvalidInput, "read-only"),
        ] {
            let error = named(store_error(reason), "/a/b");
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(words) && error.to_string().contains("/a/b"));
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn a_store_without_an_answer_is_unavailable() {
        let error = named(store_error(io::ErrorKind::TimedOut), "s3://b/k");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
