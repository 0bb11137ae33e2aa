//! `inspect`: a table's metadata as small tables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::failure::{Failure, Outcome};
use super::inspect_health;
use super::schema::type_name;
use super::session::Session;
use super::terminal::{Listing, OutputFormat};
use super::time::{show_ms, time_ms};
use crate::error::Result;
use crate::spec::{
    DataContentType, DataFile, SnapshotId, SnapshotRef, SnapshotRetention, Struct, partition_path,
    refs_of, snapshots_of,
};
use crate::table::{At, Table};

/// What to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum View {
    /// Every snapshot, with what it changed
    Snapshots,
    /// What was current when
    History,
    /// Branches and tags
    Refs,
    /// Columns, key, partition fields, properties
    Schema,
    /// The live data and delete files of a snapshot
    Files,
    /// The manifests of a snapshot
    Manifests,
    /// Rows and files per partition of a snapshot
    Partitions,
    /// Whether the table needs maintenance, and which command does it
    Health,
}

/// Look at a table's metadata.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// What to look at
    #[arg(value_enum)]
    view: View,
    /// NAMESPACE.TABLE, a table folder or a metadata file
    table: String,
    #[command(flatten)]
    at: AtFlags,
    /// health: where named streams keep their positions [default: meltwater-positions beside the
    /// SQLite catalog]
    #[arg(long, value_name = "DIR")]
    positions: Option<PathBuf>,
}

/// Which snapshot a reading command means.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct AtFlags {
    /// As of a snapshot
    #[arg(long, value_name = "ID")]
    snapshot: Option<i64>,
    /// As of a time, such as 2026-01-31T12:00:00Z or '1h ago'
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
    /// The head of a branch
    #[arg(long)]
    branch: Option<String>,
    /// What a tag names
    #[arg(long)]
    tag: Option<String>,
}

impl AtFlags {
    /// The flags as the library understands them.
    pub(super) fn at(&self) -> Outcome<At> {
        Ok(match (self.snapshot, &self.as_of, &self.branch, &self.tag) {
            (Some(id), ..) => At::Snapshot(SnapshotId(id)),
            (_, Some(time), ..) => At::TimeMs(time_ms(time)?),
            (_, _, Some(name), _) | (_, _, _, Some(name)) => At::Ref(name.clone()),
            _ => At::Current,
        })
    }
}

impl Inspect {
    /// Prints the view.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.readable(&self.table).await?;
        let snapshot = match self.view {
            View::Health => None,
            _ => table.snapshot_at(&self.at.at()?)?,
        };
        let listing = match self.view {
            View::Snapshots => snapshots(&table, session.output)?,
            View::History => history(&table),
            View::Refs => refs(&table)?,
            View::Schema => return schema(&table, session.output),
            View::Files => files(&table, snapshot.as_ref()).await?,
            View::Manifests => manifests(&table, snapshot.as_ref()).await?,
            View::Partitions => partitions(&table, snapshot.as_ref()).await?,
            View::Health => return self.health(session, &table).await,
        };
        listing.print(session.output)
    }

    async fn health(&self, session: &Session, table: &Table) -> Outcome {
        let AtFlags { snapshot, as_of, branch, tag } = &self.at;
        if snapshot.is_some() || as_of.is_some() || tag.is_some() {
            let words =
                "health is that of a branch: --snapshot, --as-of and --tag say nothing here";
            return Err(Failure::Usage(words.to_string()));
        }
        let (branch, positions) = (branch.as_deref(), self.positions.as_deref());
        inspect_health::run(session, &self.table, table, branch, positions).await
    }
}

/// A count of a snapshot's summary; absent ones stay absent.
fn count(snapshot: &SnapshotRef, key: &str) -> Value {
    let text = snapshot.summary().additional_properties.get(key);
    text.and_then(|t| t.parse::<i64>().ok()).map_or(Value::Null, Value::from)
}

fn snapshots(table: &Table, output: OutputFormat) -> Result<Listing> {
    let mut columns = vec![
        "snapshot_id",
        "parent_id",
        "committed_at",
        "operation",
        "added_rows",
        "deleted_rows",
        "total_rows",
        "data_files",
        "delete_files",
        "refs",
    ];
    let with_summary = output == OutputFormat::Json;
    if with_summary {
        columns.push("summary");
    }
    let mut names: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for (name, reference) in refs_of(table.metadata())? {
        names.entry(reference.snapshot_id).or_default().push(name);
    }
    let mut listing = Listing::new(&columns);
    for s in snapshots_of(table.metadata()) {
        let mut row = vec![
            json!(s.snapshot_id()),
            json!(s.parent_snapshot_id()),
            json!(show_ms(s.timestamp_ms())),
            json!(s.summary().operation.as_str()),
            count(s, "added-records"),
            count(s, "deleted-records"),
            count(s, "total-records"),
            count(s, "total-data-files"),
            count(s, "total-delete-files"),
            json!(names.get(&s.snapshot_id()).map(|n| n.join(","))),
        ];
        if with_summary {
            row.push(json!(s.summary().additional_properties));
        }
        listing.push(row);
    }
    Ok(listing)
}

fn history(table: &Table) -> Listing {
    let mut listing = Listing::new(&["made_current_at", "snapshot_id", "parent_id", "is_ancestor"]);
    let head = table.current_snapshot().map(|s| SnapshotId(s.snapshot_id()));
    for entry in table.metadata().history() {
        let id = SnapshotId(entry.snapshot_id);
        let snapshot = table.metadata().snapshot_by_id(id.0);
        let is_ancestor = head.is_some_and(|head| table.is_ancestor(id, head));
        listing.push(vec![
            json!(show_ms(entry.timestamp_ms())),
            json!(id.0),
            json!(snapshot.and_then(|s| s.parent_snapshot_id())),
            json!(is_ancestor),
        ]);
    }
    listing
}

fn refs(table: &Table) -> Result<Listing> {
    let mut listing = Listing::new(&[
        "name",
        "type",
        "snapshot_id",
        "max_ref_age_ms",
        "min_snapshots_to_keep",
        "max_snapshot_age_ms",
    ]);
    for (name, reference) in refs_of(table.metadata())? {
        let (kind, keep) = match &reference.retention {
            SnapshotRetention::Branch {
                min_snapshots_to_keep,
                max_snapshot_age_ms,
                max_ref_age_ms,
            } => (
                "branch",
                [json!(max_ref_age_ms), json!(min_snapshots_to_keep), json!(max_snapshot_age_ms)],
            ),
            SnapshotRetention::Tag { max_ref_age_ms } => {
                ("tag", [json!(max_ref_age_ms), Value::Null, Value::Null])
            }
        };
        let mut row = vec![json!(name), json!(kind), json!(reference.snapshot_id)];
        row.extend(keep);
        listing.push(row);
    }
    Ok(listing)
}

fn schema(table: &Table, output: OutputFormat) -> Outcome {
    let metadata = table.metadata();
    if output == OutputFormat::Json {
        let mut listing = Listing::new(&[
            "schema",
            "partition_spec",
            "sort_order",
            "properties",
            "location",
            "format_version",
            "table_uuid",
        ]);
        listing.push(vec![
            serde_json::to_value(table.schema().as_ref()).unwrap_or_default(),
            serde_json::to_value(metadata.default_partition_spec().as_ref()).unwrap_or_default(),
            serde_json::to_value(metadata.default_sort_order().as_ref()).unwrap_or_default(),
            json!(metadata.properties()),
            json!(metadata.location()),
            json!(metadata.format_version() as u8),
            json!(metadata.uuid().to_string()),
        ]);
        return listing.print(output);
    }
    let key: Vec<i32> = table.schema().identifier_field_ids().collect();
    let partition = metadata.default_partition_spec();
    let mut listing = Listing::new(&["id", "column", "type", "null", "key", "partition"]);
    for field in table.schema().as_struct().fields() {
        let fields = partition.fields().iter().filter(|p| p.source_id == field.id);
        let fields: Vec<String> =
            fields.map(|p| format!("{} as {}", p.transform, p.name)).collect();
        listing.push(vec![
            json!(field.id),
            json!(field.name),
            json!(type_name(&field.field_type)),
            json!(if field.required { "no" } else { "yes" }),
            json!(if key.contains(&field.id) { "key" } else { "" }),
            json!(fields.join(", ")),
        ]);
    }
    listing.print(output)?;
    let mut properties = Listing::new(&["property", "value"]);
    let sorted: BTreeMap<_, _> = metadata.properties().iter().collect();
    for (name, value) in sorted {
        properties.push(vec![json!(name), json!(value)]);
    }
    properties.push(vec![json!("location"), json!(metadata.location())]);
    super::terminal::say("");
    properties.print(output)
}

async fn files(table: &Table, snapshot: Option<&SnapshotRef>) -> Result<Listing> {
    let mut listing = Listing::new(&[
        "content",
        "file",
        "partition",
        "spec_id",
        "rows",
        "bytes",
        "sequence_number",
        "equality_ids",
    ]);
    let Some(snapshot) = snapshot else { return Ok(listing) };
    for manifest in table.manifests(snapshot).await?.iter() {
        for entry in table.entries(manifest).await?.iter().filter(|e| e.is_live()) {
            let file = &entry.file;
            listing.push(vec![
                json!(content_name(file)),
                json!(file.file_path),
                json!(partition_name(table, file.spec_id, &file.partition)?),
                json!(file.spec_id),
                json!(file.record_count),
                json!(file.file_size_in_bytes),
                json!(entry.sequence_number),
                json!(file.equality_ids),
            ]);
        }
    }
    Ok(listing)
}

fn content_name(file: &DataFile) -> &'static str {
    match file.content {
        DataContentType::Data => "data",
        DataContentType::PositionDeletes => "position-deletes",
        DataContentType::EqualityDeletes => "equality-deletes",
    }
}

fn partition_name(table: &Table, spec_id: i32, values: &Struct) -> Result<String> {
    Ok(partition_path(table.spec(spec_id)?, table.schema(), values))
}

async fn manifests(table: &Table, snapshot: Option<&SnapshotRef>) -> Result<Listing> {
    let mut listing = Listing::new(&[
        "content",
        "manifest",
        "spec_id",
        "bytes",
        "sequence_number",
        "snapshot_id",
        "added_files",
        "existing_files",
        "deleted_files",
        "live_rows",
    ]);
    let Some(snapshot) = snapshot else { return Ok(listing) };
    for m in table.manifests(snapshot).await?.iter() {
        let live = m.added_rows_count.zip(m.existing_rows_count).map(|(a, b)| a.saturating_add(b));
        listing.push(vec![
            json!(m.content.to_string()),
            json!(m.manifest_path),
            json!(m.partition_spec_id),
            json!(m.manifest_length),
            json!(m.sequence_number),
            json!(m.added_snapshot_id),
            json!(m.added_files_count),
            json!(m.existing_files_count),
            json!(m.deleted_files_count),
            json!(live),
        ]);
    }
    Ok(listing)
}

#[derive(Default)]
struct PartitionTotals {
    files: u64,
    rows: u64,
    bytes: u64,
    position_deletes: u64,
    equality_deletes: u64,
}

async fn partitions(table: &Table, snapshot: Option<&SnapshotRef>) -> Result<Listing> {
    let mut totals: BTreeMap<(i32, String), PartitionTotals> = BTreeMap::new();
    if let Some(snapshot) = snapshot {
        for manifest in table.manifests(snapshot).await?.iter() {
            for entry in table.entries(manifest).await?.iter().filter(|e| e.is_live()) {
                let file = &entry.file;
                let name = partition_name(table, file.spec_id, &file.partition)?;
                let total = totals.entry((file.spec_id, name)).or_default();
                match file.content {
                    DataContentType::Data => {
                        total.files += 1;
                        total.rows = total.rows.saturating_add(file.record_count);
                        total.bytes = total.bytes.saturating_add(file.file_size_in_bytes);
                    }
                    DataContentType::PositionDeletes => total.position_deletes += file.record_count,
                    DataContentType::EqualityDeletes => total.equality_deletes += file.record_count,
                }
            }
        }
    }
    let mut listing = Listing::new(&[
        "partition",
        "spec_id",
        "data_files",
        "rows_in_files",
        "bytes",
        "position_deletes",
        "equality_deletes",
    ]);
    for ((spec_id, name), total) in totals {
        listing.push(vec![
            json!(name),
            json!(spec_id),
            json!(total.files),
            json!(total.rows),
            json!(total.bytes),
            json!(total.position_deletes),
            json!(total.equality_deletes),
        ]);
    }
    Ok(listing)
}
