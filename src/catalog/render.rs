//! Table metadata to the bytes of `metadata.json`.
//!
//! The `iceberg` crate writes metadata by copying all of it, in the random order of its maps. A
//! table with ten thousand snapshots is written ten thousand times, so here each snapshot's text
//! is made once and kept; everything else is small. Equal metadata gives equal bytes (CAT-16).

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::spec::{
    FormatVersion, SnapshotRef, SnapshotReference, TableMetadata, TableUpdate, refs_of,
    snapshots_of,
};

/// Branches and tags by name.
pub(super) type Refs = BTreeMap<String, SnapshotReference>;

/// How many tables' texts a catalog keeps.
const KEPT_TABLES: usize = 8;

/// The longest text of one table's snapshots that is worth keeping.
const KEPT_BYTES: usize = 16 << 20;

/// Writes a metadata file.
///
/// Lists are in the order of their ids (snapshots: of their sequence numbers). A table without
/// snapshots says `current-snapshot-id: -1`, and one without properties says so: strict Java
/// readers need both (CAT-4).
///
/// # Errors
/// `Internal` if the metadata has no JSON form.
pub fn write_metadata(metadata: &TableMetadata, gzip: bool) -> Result<Bytes> {
    SnapshotTexts::default().write(metadata, &refs_of(metadata)?, gzip)
}

/// The texts of snapshots that were written before; shared by the clones of a catalog.
#[derive(Debug, Default)]
pub(super) struct SnapshotTexts {
    /// By table, the one written last at the end.
    tables: Mutex<Vec<(Uuid, Texts)>>,
}

/// Snapshots are immutable, so the same allocation has the same text.
type Texts = HashMap<i64, (SnapshotRef, Arc<[u8]>)>;

impl SnapshotTexts {
    /// As [`write_metadata`], given the metadata's refs.
    pub(super) fn write(&self, metadata: &TableMetadata, refs: &Refs, gzip: bool) -> Result<Bytes> {
        let json = match metadata.format_version() {
            FormatVersion::V2 => self.render(metadata, refs)?,
            // Tables of version 1 are read-only: only a drop keeps their last version.
            _ => serde_json::to_vec(&serde_json::to_value(metadata)?)?,
        };
        if !gzip {
            return Ok(json.into());
        }
        let mut encoder =
            GzEncoder::new(Vec::with_capacity(json.len() / 4), Compression::default());
        let packed = encoder.write_all(&json).and_then(|()| encoder.finish());
        let packed = packed.map_err(|e| Error::internal("gzip failed in memory").with_source(e))?;
        Ok(packed.into())
    }

    fn render(&self, metadata: &TableMetadata, refs: &Refs) -> Result<Vec<u8>> {
        let (texts, length) = self.texts_of(metadata)?;
        let mut object = Object::with_capacity(length + (64 << 10));
        object.field("format-version", &2)?;
        object.field("table-uuid", &metadata.uuid())?;
        object.field("location", metadata.location())?;
        object.field("last-sequence-number", &metadata.last_sequence_number())?;
        object.field("last-updated-ms", &metadata.last_updated_ms())?;
        object.field("last-column-id", &metadata.last_column_id())?;
        object.field("current-schema-id", &metadata.current_schema_id())?;
        object.field("schemas", &schemas(metadata)?)?;
        object.field("default-spec-id", &metadata.default_partition_spec_id())?;
        object.field("partition-specs", &sorted(metadata.partition_specs_iter(), "spec-id")?)?;
        object.field("last-partition-id", &metadata.last_partition_id())?;
        object.field("default-sort-order-id", &metadata.default_sort_order_id())?;
        object.field("sort-orders", &sorted(metadata.sort_orders_iter(), "order-id")?)?;
        object.field("properties", &metadata.properties().iter().collect::<BTreeMap<_, _>>())?;
        object.field("current-snapshot-id", &metadata.current_snapshot_id().unwrap_or(-1))?;
        object.field("refs", refs)?;
        object.list("snapshots", texts.iter().map(AsRef::as_ref))?;
        object.field("statistics", &sorted(metadata.statistics_iter(), "snapshot-id")?)?;
        let partitions = sorted(metadata.partition_statistics_iter(), "snapshot-id")?;
        object.field("partition-statistics", &partitions)?;
        object.field("snapshot-log", metadata.history())?;
        object.field("metadata-log", metadata.metadata_log())?;
        Ok(object.finish())
    }

    /// The text of each snapshot, in the order of their sequence numbers, and all their lengths.
    fn texts_of(&self, metadata: &TableMetadata) -> Result<(Vec<Arc<[u8]>>, usize)> {
        let mut known = self.take(metadata.uuid());
        let snapshots = snapshots_of(metadata);
        let mut kept = HashMap::with_capacity(snapshots.len());
        let mut texts = Vec::with_capacity(snapshots.len());
        let mut length = 0;
        for snapshot in snapshots {
            let text = match known.remove(&snapshot.snapshot_id()) {
                Some((same, text)) if Arc::ptr_eq(&same, snapshot) => text,
                _ => snapshot_text(snapshot)?.into(),
            };
            length += text.len() + 1;
            kept.insert(snapshot.snapshot_id(), (snapshot.clone(), text.clone()));
            texts.push(text);
        }
        if length <= KEPT_BYTES {
            self.put(metadata.uuid(), kept);
        }
        Ok((texts, length))
    }

    fn take(&self, table: Uuid) -> Texts {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let at = tables.iter().position(|(uuid, _)| *uuid == table);
        at.map(|at| tables.remove(at).1).unwrap_or_default()
    }

    fn put(&self, table: Uuid, texts: Texts) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|(uuid, _)| *uuid != table);
        if tables.len() >= KEPT_TABLES {
            tables.remove(0);
        }
        tables.push((table, texts));
    }
}

fn snapshot_text(snapshot: &SnapshotRef) -> Result<Vec<u8>> {
    let mut object = Object::with_capacity(1 << 10);
    object.field("snapshot-id", &snapshot.snapshot_id())?;
    if let Some(parent) = snapshot.parent_snapshot_id() {
        object.field("parent-snapshot-id", &parent)?;
    }
    object.field("sequence-number", &snapshot.sequence_number())?;
    object.field("timestamp-ms", &snapshot.timestamp_ms())?;
    object.field("manifest-list", snapshot.manifest_list())?;
    object.field("summary", &serde_json::to_value(snapshot.summary())?)?;
    if let Some(schema) = snapshot.schema_id() {
        object.field("schema-id", &schema)?;
    }
    Ok(object.finish())
}

fn schemas(metadata: &TableMetadata) -> Result<Vec<Value>> {
    let mut schemas = sorted(metadata.schemas_iter(), "schema-id")?;
    for schema in &mut schemas {
        // A set in memory.
        if let Some(Value::Array(ids)) = schema.get_mut("identifier-field-ids") {
            ids.sort_by_key(Value::as_i64);
        }
    }
    Ok(schemas)
}

fn sorted<T: Serialize>(items: impl Iterator<Item = T>, key: &str) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    for item in items {
        values.push(serde_json::to_value(item)?);
    }
    values.sort_by_key(|item| item.get(key).and_then(Value::as_i64));
    Ok(values)
}

/// A JSON object under construction.
struct Object {
    json: Vec<u8>,
}

impl Object {
    fn with_capacity(bytes: usize) -> Self {
        let mut json = Vec::with_capacity(bytes);
        json.push(b'{');
        Self { json }
    }

    fn name(&mut self, name: &str) -> Result<()> {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        serde_json::to_writer(&mut self.json, name)?;
        self.json.push(b':');
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<()> {
        self.name(name)?;
        Ok(serde_json::to_writer(&mut self.json, value)?)
    }

    /// A list of values that are JSON already.
    fn list<'a>(&mut self, name: &str, items: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        self.name(name)?;
        self.json.push(b'[');
        for (at, item) in items.enumerate() {
            if at > 0 {
                self.json.push(b',');
            }
            self.json.extend_from_slice(item);
        }
        self.json.push(b']');
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.json.push(b'}');
        self.json
    }
}

/// The refs of the next version: the `iceberg` crate does not show them, but every change to
/// them is among the changes.
pub(super) fn refs_after(base: &Refs, changes: &[TableUpdate], next: &TableMetadata) -> Refs {
    let mut refs = base.clone();
    for change in changes {
        match change {
            TableUpdate::SetSnapshotRef { ref_name, reference } => {
                refs.insert(ref_name.clone(), reference.clone());
            }
            TableUpdate::RemoveSnapshotRef { ref_name } => {
                refs.remove(ref_name);
            }
            _ => {}
        }
    }
    // Removing a snapshot takes the refs to it along.
    refs.retain(|_, reference| next.snapshot_by_id(reference.snapshot_id).is_some());
    refs
}

/// Replaces the times that the `iceberg` crate took from the wall clock: `last-updated-ms`, and
/// the snapshot-log entry of the same moment if `moved_main` says that there is one.
pub(super) fn with_time(
    metadata: &TableMetadata,
    now_ms: i64,
    moved_main: bool,
) -> Result<TableMetadata> {
    let mut value = serde_json::to_value(metadata)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("last-updated-ms".to_string(), json!(now_ms));
        let log = fields.get_mut("snapshot-log").and_then(Value::as_array_mut);
        if moved_main && let Some(entry) = log.and_then(|log| log.last_mut()) {
            entry["timestamp-ms"] = json!(now_ms);
        }
    }
    serde_json::from_value(value)
        .map_err(|e| Error::internal("table metadata does not survive JSON").with_source(e))
}
