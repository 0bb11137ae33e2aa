//! Names of metadata files.
//!
//! `NNNNN-uuid.metadata.json` where a catalog points at the head, `vN.metadata.json` where the
//! name itself is the pointer (CAT-5). Gzip is part of the name: `.gz.metadata.json`.

#[cfg(feature = "sqlite")]
use uuid::Uuid;

use crate::spec::{TableMetadata, property};
use crate::storage::Location;

/// The version and style that a metadata file's name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FileVersion {
    /// A name without a number: nothing is known about its age.
    Unnumbered,
    /// The number of `NNNNN-uuid` or `vN`.
    Number(u64),
}

/// What a metadata file's name says, or `None` for other files. Takes a name or a location.
pub(super) fn version_of(location: &str) -> Option<FileVersion> {
    let name = file_name(location);
    let stem = [".gz.metadata.json", ".metadata.json.gz", ".metadata.json"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))?;
    let number = stem.strip_prefix('v').unwrap_or(stem);
    let number = number.split('-').next().unwrap_or(number);
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    match number.parse() {
        Ok(number) if digits => Some(FileVersion::Number(number)),
        _ => Some(FileVersion::Unnumbered),
    }
}

/// The number of a name of exactly the form `vN.metadata.json`.
pub(crate) fn pointer_version_of(location: &str) -> Option<u64> {
    let number = file_name(location).strip_prefix('v')?.strip_suffix(".metadata.json")?;
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| number.parse().ok()).flatten()
}

/// The last part of a location.
pub(super) fn file_name(location: &str) -> &str {
    location.rsplit('/').next().unwrap_or(location)
}

/// The folder of a location, without the slash.
pub(super) fn folder(location: &str) -> &str {
    location.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether two locations are one place as they are written.
pub(super) fn same_place(a: &str, b: &str) -> bool {
    match (Location::parse(a), Location::parse(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// Whether two locations are one folder, links on local disks followed.
pub(super) async fn same_folder(a: &str, b: &str) -> bool {
    let real = async |location: &str| {
        let location = Location::parse(location).ok().filter(|l| l.root() == "file://")?;
        tokio::fs::canonicalize(format!("/{}", location.into_path())).await.ok()
    };
    same_place(a, b) || real(a).await.zip(real(b).await).is_some_and(|(a, b)| a == b)
}

/// Whether a table asks for gzip metadata.
pub(super) fn wants_gzip(metadata: &TableMetadata) -> bool {
    let codec = metadata.properties().get(property::METADATA_COMPRESSION);
    codec.is_some_and(|codec| codec.eq_ignore_ascii_case("gzip"))
}

/// Where the metadata files of a table go.
#[cfg(feature = "sqlite")]
pub(super) fn metadata_folder(metadata: &TableMetadata) -> String {
    match metadata.properties().get(property::METADATA_PATH) {
        Some(path) => path.trim_end_matches('/').to_string(),
        None => format!("{}/metadata", metadata.location()),
    }
}

/// A fresh name for the successor of `previous` (or for a first file).
#[cfg(feature = "sqlite")]
pub(super) fn next_location(
    metadata: &TableMetadata,
    previous: Option<&str>,
    uuid: Uuid,
) -> String {
    let number = match previous.and_then(version_of) {
        Some(FileVersion::Number(number)) => number.saturating_add(1),
        _ => 0,
    };
    let gzip = if wants_gzip(metadata) { ".gz" } else { "" };
    format!("{}/{number:05}-{uuid}{gzip}.metadata.json", metadata_folder(metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_version() {
        use FileVersion::{Number, Unnumbered};
        for (name, version) in [
            ("file:///t/metadata/00012-a1-b2.metadata.json", Some(Number(12))),
            ("00012-a1-b2.gz.metadata.json", Some(Number(12))),
            ("v3.metadata.json", Some(Number(3))),
            ("v3.gz.metadata.json", Some(Number(3))),
            ("v3.metadata.json.gz", Some(Number(3))),
            ("current.metadata.json", Some(Unnumbered)),
            ("v.metadata.json", Some(Unnumbered)),
            ("99999999999999999999999.metadata.json", Some(Unnumbered)),
            ("version-hint.text", None),
            ("snap-1.avro", None),
        ] {
            assert_eq!(version_of(name), version, "{name}");
        }
        assert_eq!(pointer_version_of("/t/metadata/v7.metadata.json"), Some(7));
        assert_eq!(pointer_version_of("/t/metadata/v7.gz.metadata.json"), None);
        assert_eq!(pointer_version_of("/t/metadata/v+7.metadata.json"), None);
    }
}
