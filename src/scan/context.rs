//! A scan with its names resolved: snapshot, schemas, filter.

use std::sync::Arc;

use arrow::datatypes::SchemaRef as ArrowSchemaRef;

use super::TableScan;
use super::projection::{self, partition_struct};
use crate::error::{Error, Result};
use crate::expr;
use crate::file::arrow_schema;
use crate::spec::{
    BoundPredicate, FormatVersion, MAIN_BRANCH, NameMapping, SchemaRef, SnapshotRef, StructType,
    TableProperties, property, refs_of,
};
use crate::table::{At, Table};

/// What a scan means, decided from metadata alone.
#[derive(Debug, Clone)]
pub struct ScanContext {
    /// The table.
    pub table: Table,
    /// The snapshot to read; `None` for a table without commits.
    pub snapshot: Option<SnapshotRef>,
    /// The table's schema at that point of history, or the one asked for; the filter is bound to it.
    pub schema: SchemaRef,
    /// The columns of the result, metadata columns included.
    pub output: SchemaRef,
    /// The columns of the result as Arrow batches have them.
    pub arrow: ArrowSchemaRef,
    /// The bound filter; `None` when every row passes.
    pub filter: Option<Arc<BoundPredicate>>,
    /// The table's name mapping, for files without field ids.
    pub name_mapping: Option<Arc<NameMapping>>,
    /// The type of the `_partition` column: the partition fields of all specs.
    pub partition_struct: StructType,
}

impl ScanContext {
    pub(super) fn new(scan: &TableScan) -> Result<Self> {
        let table = scan.table.clone();
        let metadata = table.metadata();
        // Newer formats are refused, never guessed at (RD-2).
        if !matches!(metadata.format_version(), FormatVersion::V1 | FormatVersion::V2) {
            return Err(Error::unsupported(format!(
                "table `{}` has format version {}",
                table.ident(),
                metadata.format_version() as u8
            ))
            .with_hint("this version reads format versions 1 and 2"));
        }
        let snapshot = table.snapshot_at(&scan.at)?;
        let schema = match (&scan.schema, &snapshot) {
            (Some(schema), _) => schema.clone(),
            (None, Some(at)) if is_history(&scan.at, &table)? => table.schema_of(at).clone(),
            _ => table.schema().clone(),
        };
        let partition_struct = partition_struct(metadata)?;
        let output = match &scan.select {
            Some(names) => {
                projection::select(&schema, names, scan.case_sensitive, &partition_struct)?
            }
            None => schema.clone(),
        };
        let filter = match &scan.filter {
            Some(filter) => Some(expr::bind(filter, &schema, scan.case_sensitive)?),
            None => None,
        };
        let name_mapping = name_mapping(&table.properties())?;
        let arrow = arrow_schema(&output)?;
        let filter = filter.filter(|f| !matches!(f, BoundPredicate::AlwaysTrue)).map(Arc::new);
        Ok(Self { snapshot, schema, output, arrow, filter, name_mapping, partition_struct, table })
    }
}

/// Whether the schema of the snapshot counts, not the table's current one: for time travel and
/// tags, which promise yesterday's table, but not for branches, which go on (RD-1).
fn is_history(at: &At, table: &Table) -> Result<bool> {
    match at {
        At::Current => Ok(false),
        At::Ref(name) if name == MAIN_BRANCH => Ok(false),
        At::Ref(name) => {
            let refs = refs_of(table.metadata())?;
            Ok(refs.get(name).is_some_and(|reference| !reference.is_branch()))
        }
        At::Snapshot(_) | At::TimeMs(_) => Ok(true),
    }
}

fn name_mapping(properties: &TableProperties<'_>) -> Result<Option<Arc<NameMapping>>> {
    let Some(json) = properties.get(property::NAME_MAPPING) else { return Ok(None) };
    let mapping = serde_json::from_str(json).map_err(|e| {
        Error::corrupt(format!("table property `{}` is no name mapping", property::NAME_MAPPING))
            .with_source(e)
    })?;
    Ok(Some(Arc::new(mapping)))
}
