//! Is a manifest what its list says, and are its entries possible? Pure.

use std::cmp::Ordering;

use super::codes::Code;
use crate::expr::compare;
use crate::spec::{
    DataContentType, Datum, FieldSummary, Literal, ManifestContentType, ManifestEntry,
    ManifestFile, ManifestStatus, PrimitiveLiteral, Type, datum_from_bound,
};

/// What is wrong, and why.
pub(super) type Problem = (Code, String);

/// Compares a manifest list's entry with the manifest.
pub(super) fn check(
    manifest: &ManifestFile,
    entries: &[ManifestEntry],
    partition_types: &[Type],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    counts(manifest, entries, &mut problems);
    let live = || entries.iter().filter(|e| e.is_live());
    if let Some(least) = live().map(|e| e.sequence_number.0).min()
        && manifest.min_sequence_number > least
    {
        let cause = format!(
            "the list says that no file is older than {}, one is of {least}",
            manifest.min_sequence_number
        );
        problems.push((Code::ManifestMinSequence, cause));
    }
    let is_data = manifest.content == ManifestContentType::Data;
    let odd = |e: &&ManifestEntry| (e.file.content == DataContentType::Data) != is_data;
    if let Some(entry) = live().find(odd) {
        let cause = format!("a {} manifest lists {}", manifest.content, entry.file.file_path);
        problems.push((Code::ManifestContent, cause));
    }
    for (at, summary) in manifest.partitions.iter().flatten().enumerate() {
        let Some(Type::Primitive(kind)) = partition_types.get(at) else { continue };
        let bound = |bytes: Option<&[u8]>| datum_from_bound(bytes?, kind);
        let bounds = (
            bound(summary.lower_bound.as_ref().map(|b| b.as_slice())),
            bound(summary.upper_bound.as_ref().map(|b| b.as_slice())),
        );
        let outside =
            live().find_map(|e| outside(summary, &bounds, e.file.partition.iter().nth(at)?));
        if let Some(why) = outside {
            problems.push((Code::ManifestPartitions, format!("partition field {at}: {why}")));
        }
    }
    problems
}

fn counts(manifest: &ManifestFile, entries: &[ManifestEntry], problems: &mut Vec<Problem>) {
    let of = |status: ManifestStatus| {
        let entries = entries.iter().filter(move |e| e.status == status);
        entries.fold((0u64, 0u64), |(files, rows), e| {
            (files + 1, rows.saturating_add(e.file.record_count))
        })
    };
    let ManifestFile {
        added_files_count,
        existing_files_count,
        deleted_files_count,
        added_rows_count,
        existing_rows_count,
        deleted_rows_count,
        ..
    } = *manifest;
    for (what, files, rows, found) in [
        ("added", added_files_count, added_rows_count, of(ManifestStatus::Added)),
        ("existing", existing_files_count, existing_rows_count, of(ManifestStatus::Existing)),
        ("deleted", deleted_files_count, deleted_rows_count, of(ManifestStatus::Deleted)),
    ] {
        for (unit, said, found) in
            [("files", files.map(u64::from), found.0), ("rows", rows, found.1)]
        {
            if let Some(said) = said.filter(|said| *said != found) {
                let cause = format!("the list says {said} {what} {unit}, the manifest has {found}");
                problems.push((Code::ManifestCounts, cause));
            }
        }
    }
}

/// Why a partition value lies outside its summary.
fn outside(
    summary: &FieldSummary,
    (lower, upper): &(Option<Datum>, Option<Datum>),
    value: Option<&Literal>,
) -> Option<String> {
    let value = match value {
        None if summary.contains_null => return None,
        None => return Some("a partition is null, the list says none is".to_string()),
        Some(Literal::Primitive(value)) => value,
        Some(_) => return None,
    };
    if is_nan(value) {
        let denied = summary.contains_nan == Some(false);
        return denied.then(|| "a partition is NaN, the list says none is".to_string());
    }
    let is = |bound: &Option<Datum>, way| {
        bound.as_ref().is_some_and(|b| compare(value, b.literal()) == Some(way))
    };
    if is(lower, Ordering::Less) {
        return Some("a partition lies below the lower bound".to_string());
    }
    is(upper, Ordering::Greater).then(|| "a partition lies above the upper bound".to_string())
}

fn is_nan(value: &PrimitiveLiteral) -> bool {
    match value {
        PrimitiveLiteral::Float(v) => v.0.is_nan(),
        PrimitiveLiteral::Double(v) => v.0.is_nan(),
        _ => false,
    }
}

/// What is wrong with the numbers of an entry in a snapshot of sequence number `snapshot`.
pub(super) fn check_age(entry: &ManifestEntry, snapshot: i64) -> Vec<Problem> {
    let mut problems = Vec::new();
    let (data, file) = (entry.sequence_number.0, entry.file_sequence_number.0);
    if data.max(file) > snapshot {
        let cause = format!(
            "its sequence number is {}, that of the snapshot is {snapshot}",
            data.max(file)
        );
        problems.push((Code::SequenceBeyondSnapshot, cause));
    }
    if data > file {
        let cause = format!("its rows are of sequence number {data}, the file is of {file}");
        problems.push((Code::SequenceBeyondFile, cause));
    }
    problems
}
