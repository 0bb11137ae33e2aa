//! From one version of a table to the next.
//!
//! In: requirements and updates, the base they apply to, a clock. Out: the next metadata, or the
//! reason why there is none. Pure, so that every catalog swaps pointers and nothing else.

use crate::clock::Environment;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{
    FormatVersion, MAIN_BRANCH, TableCreation, TableMetadata, TableRequirement, TableUpdate,
};

use super::render::{Refs, refs_after, with_time};
use super::{LoadedTable, NewTable};

/// How far the time of a change may go back: the format lets readers allow for a minute.
const CLOCK_SKEW_MS: i64 = 60_000;

/// The next version of a table.
#[derive(Debug)]
pub(super) struct NextVersion {
    pub(super) metadata: TableMetadata,
    /// Its branches and tags.
    pub(super) refs: Refs,
    /// Metadata files that left the log with this version.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
    pub(super) expired: Vec<String>,
}

/// Applies updates to a base with these branches and tags. `None`: nothing changes, there is nothing to commit.
///
/// # Errors
/// * `CommitConflict` if a requirement does not hold.
/// * `Unsupported` for v1 tables, which are read-only, and for upgrades to v3.
/// * `InvalidInput` if an update does not fit the table.
pub(super) fn apply(
    base: &LoadedTable,
    refs: &Refs,
    requirements: &[TableRequirement],
    updates: Vec<TableUpdate>,
    environment: &Environment,
) -> Result<Option<NextVersion>> {
    for requirement in requirements {
        requirement.check(Some(&base.metadata))?;
    }
    refuse_unsupported(&base.metadata, &updates)?;
    if updates.is_empty() {
        return Ok(None);
    }
    refuse_taken_sequence_number(&base.metadata, &updates)?;
    refuse_removal_of_named(refs, &updates)?;
    let timeless = !updates.iter().any(|u| matches!(u, TableUpdate::AddSnapshot { .. }));

    let earliest = environment.clock.now_ms().max(base.metadata.last_updated_ms());
    let location = base.metadata_location.clone();
    let mut builder = TableMetadata::clone(&base.metadata).into_builder(Some(location));
    for update in updates {
        builder = update.apply(builder)?;
    }
    let built = builder.build().map_err(|error| {
        let ahead_ms = base.metadata.last_updated_ms() - environment.clock.now_ms();
        if timeless && ahead_ms > CLOCK_SKEW_MS {
            clock_behind(ahead_ms, error)
        } else {
            error.into()
        }
    })?;
    if built.changes.is_empty() {
        return Ok(None);
    }
    let mut metadata = built.metadata;
    let now = environment.clock.now_ms().max(earliest);
    // Without a snapshot the builder asked the wall clock; ours may be another one. Where they
    // agree the metadata is spared a way through JSON.
    if timeless && !(earliest..=now).contains(&metadata.last_updated_ms()) {
        let moved_main = built.changes.iter().any(|u| {
            matches!(u, TableUpdate::SetSnapshotRef { ref_name, .. } if ref_name == MAIN_BRANCH)
        });
        metadata = with_time(&metadata, now, moved_main)?;
    }
    let refs = refs_after(refs, &built.changes, &metadata);
    let named = |file: &String| metadata.metadata_log().iter().any(|l| l.metadata_file == *file);
    let expired = built.expired_metadata_logs.into_iter().map(|l| l.metadata_file);
    // A file can be in the log twice, after a table was registered anew.
    let expired = expired.filter(|file| !named(file)).collect();
    Ok(Some(NextVersion { metadata, refs, expired }))
}

/// The builder dates a change without a snapshot by the wall clock, and refuses to go back.
fn clock_behind(ahead_ms: i64, cause: impl Into<Error>) -> Error {
    Error::invalid(format!(
        "the table was last changed by a clock {} s ahead of this machine's",
        ahead_ms / 1_000
    ))
    .with_hint("set this machine's clock right, or wait until it has passed that time; commits of rows go on meanwhile")
    .with_source(cause.into())
}

/// A snapshot made for an older base carries a number that was given away meanwhile. Its own
/// branch may not have moved, so no requirement notices.
fn refuse_taken_sequence_number(base: &TableMetadata, updates: &[TableUpdate]) -> Result<()> {
    let last = base.last_sequence_number();
    for update in updates {
        if let TableUpdate::AddSnapshot { snapshot } = update
            && snapshot.sequence_number() <= last
        {
            return Err(Error::new(
                ErrorKind::CommitConflict,
                format!(
                    "sequence number {} is taken: the table is at {last}",
                    snapshot.sequence_number()
                ),
            ));
        }
    }
    Ok(())
}

/// A branch or tag made meanwhile may name a snapshot that was planned to go; no requirement can
/// ask for its absence (CAT-18).
fn refuse_removal_of_named(refs: &Refs, updates: &[TableUpdate]) -> Result<()> {
    let removed = |id: &i64| {
        updates.iter().any(|update| {
            matches!(update, TableUpdate::RemoveSnapshots { snapshot_ids }
                if snapshot_ids.contains(id))
        })
    };
    let touched = |name: &String| {
        updates.iter().any(|update| match update {
            TableUpdate::RemoveSnapshotRef { ref_name }
            | TableUpdate::SetSnapshotRef { ref_name, .. } => ref_name == name,
            _ => false,
        })
    };
    let named = refs.iter().find(|(name, r)| removed(&r.snapshot_id) && !touched(name));
    let Some((name, reference)) = named else { return Ok(()) };
    Err(Error::new(
        ErrorKind::CommitConflict,
        format!("snapshot {} cannot go: `{name}` names it", reference.snapshot_id),
    ))
}

fn refuse_unsupported(base: &TableMetadata, updates: &[TableUpdate]) -> Result<()> {
    if base.format_version() == FormatVersion::V1 {
        return Err(Error::unsupported("tables of format version 1 are read-only here")
            .with_hint("upgrade the table to version 2 with the engine that writes it"));
    }
    let upgrade = updates.iter().any(|u| {
        matches!(u, TableUpdate::UpgradeFormatVersion { format_version }
            if *format_version > FormatVersion::V2)
    });
    if upgrade {
        return Err(Error::unsupported("format version 3 is not supported")
            .with_hint("leave the table at version 2"));
    }
    Ok(())
}

/// The first version of a table at `location`.
///
/// # Errors
/// `InvalidInput` if schema, spec or order do not fit each other or a property is reserved;
/// `Unsupported` for a format version other than 2.
pub(super) fn create(
    new: NewTable,
    location: String,
    environment: &Environment,
) -> Result<TableMetadata> {
    let mut properties = new.properties;
    if let Some(version) = properties.remove("format-version")
        && version.trim() != "2"
    {
        return Err(Error::unsupported(format!("format version {version} is not supported"))
            .with_hint("leave `format-version` out, or set it to 2"));
    }
    let creation = TableCreation {
        name: String::new(),
        location: Some(location),
        schema: new.schema,
        partition_spec: Some(new.spec),
        sort_order: Some(new.sort_order),
        properties,
        format_version: FormatVersion::V2,
    };
    let builder = crate::spec::TableMetadataBuilder::from_table_creation(creation)
        .map_err(invalid_creation)?;
    let built = builder.assign_uuid(environment.ids.uuid()).build().map_err(invalid_creation)?;
    with_time(&built.metadata, environment.clock.now_ms(), false)
}

fn invalid_creation(error: impl Into<Error>) -> Error {
    let error: Error = error.into();
    // What the builder refuses is what the caller asked for.
    match error.kind() {
        ErrorKind::Internal => error.with_kind(ErrorKind::InvalidInput),
        _ => error,
    }
}
