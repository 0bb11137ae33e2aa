//! The words of `follow`'s flags: where to start, where to end, which order.

use std::str::FromStr;

use crate::cli::failure::{Failure, Outcome};
use crate::cli::time::time_ms;
use crate::spec::SnapshotId;
use crate::stream::{Start, Until};
use crate::table::Token;

/// `earliest`, `latest`, `full`, `after:ID`, `since:TIME` or `at:TOKEN`.
pub(in crate::cli) fn start(text: &str) -> Outcome<Start> {
    let (word, rest) = split(text);
    Ok(match (word, rest) {
        ("earliest", None) => Start::Earliest,
        ("latest", None) => Start::Latest,
        ("full", None) => Start::LatestFull,
        ("after", Some(id)) => Start::AfterSnapshot(snapshot(id)?),
        ("since", Some(time)) => Start::SinceTime(time_ms(time)?),
        ("at", Some(token)) => Start::At(Token::from_str(token)?),
        _ => {
            return Err(Failure::Usage(format!(
                "`{text}` is no start; write earliest, latest, full, after:ID, since:TIME or at:TOKEN"
            )));
        }
    })
}

/// `caught-up` or `snapshot:ID`.
pub(super) fn until(text: &str) -> Outcome<Until> {
    match split(text) {
        ("caught-up", None) => Ok(Until::CaughtUp),
        ("snapshot", Some(id)) => Ok(Until::Snapshot(snapshot(id)?)),
        _ => Err(Failure::Usage(format!("`{text}` is no end; write caught-up or snapshot:ID"))),
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((word, rest)) => (word.trim(), Some(rest.trim())),
        None => (text.trim(), None),
    }
}

fn snapshot(text: &str) -> Outcome<SnapshotId> {
    let id = text.parse().map_err(|_| {
        Failure::Usage(format!(
            "`{text}` is no snapshot id; `meltwater inspect snapshots` lists them"
        ))
    })?;
    Ok(SnapshotId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_and_ends_are_read_as_written() {
        assert!(matches!(start("earliest"), Ok(Start::Earliest)));
        assert!(matches!(start("after: 7"), Ok(Start::AfterSnapshot(SnapshotId(7)))));
        assert!(matches!(
            start("since:2013-01-01T00:00:00Z"),
            Ok(Start::SinceTime(1_356_998_400_000))
        ));
        assert!(matches!(until("caught-up"), Ok(Until::CaughtUp)));
        assert!(matches!(until("snapshot:7"), Ok(Until::Snapshot(SnapshotId(7)))));
        for bad in ["", "late", "after", "after:x", "earliest:1", "since:whenever"] {
            assert!(matches!(start(bad), Err(Failure::Usage(_))), "{bad}");
        }
        for bad in ["", "snapshot", "snapshot:x", "caught-up:1"] {
            assert!(matches!(until(bad), Err(Failure::Usage(_))), "{bad}");
        }
        assert!(matches!(start("at:garbage"), Err(Failure::Failed(_))));
    }
}
