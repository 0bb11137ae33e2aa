//! What the footer of a file proves about its columns.
//!
//! Pure. Where pruning asks for bounds that hold, this asks for values that are certainly there:
//! a statistic that may have been cut proves nothing.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use parquet::basic::Type as PhysicalType;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use super::layout::FileLayout;
use super::prune::{decode, leaf_of, trusted};
use super::read::arrow_metadata;
use crate::error::Result;
use crate::expr::compare;
use crate::spec::{Datum, NameMapping, PrimitiveType};

/// What is certain about one column of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct FooterFacts {
    /// Values, nulls included.
    pub values: u64,
    /// Nulls; `None` when a row group does not tell.
    pub nulls: Option<u64>,
    /// No value of the file that is known for certain is less.
    pub least: Option<Datum>,
    /// No value of the file that is known for certain is greater.
    pub greatest: Option<Datum>,
}

/// The facts of every column of `types` that the file holds outside lists and maps.
///
/// # Errors
/// `CorruptData` for a footer whose schema makes no sense.
pub(crate) fn footer_facts(
    metadata: &Arc<ParquetMetaData>,
    types: &HashMap<i32, PrimitiveType>,
    mapping: Option<&NameMapping>,
) -> Result<Vec<(i32, FooterFacts)>> {
    let arrow = arrow_metadata(metadata.clone())?;
    let layout = FileLayout::new(arrow.schema(), mapping);
    let mut found: Vec<(i32, FooterFacts)> = types
        .iter()
        .filter_map(|(id, kind)| {
            let leaf = leaf_of(&layout.columns, *id)?;
            Some((*id, facts_of(metadata, leaf, kind)?))
        })
        .collect();
    found.sort_by_key(|(id, _)| *id);
    Ok(found)
}

fn facts_of(metadata: &ParquetMetaData, leaf: usize, kind: &PrimitiveType) -> Option<FooterFacts> {
    let mut facts = FooterFacts { nulls: Some(0), ..FooterFacts::default() };
    for group in metadata.row_groups() {
        let column = group.columns().get(leaf)?;
        let statistics = column.statistics();
        facts.values = facts.values.saturating_add(u64::try_from(column.num_values()).ok()?);
        let nulls = statistics.and_then(Statistics::null_count_opt);
        facts.nulls = facts.nulls.zip(nulls).and_then(|(a, b)| a.checked_add(b));
        let Some(statistics) = statistics.filter(|s| trusted(s)) else { continue };
        let (least, greatest) = certain(statistics, column.column_descr(), kind);
        facts.least = outer(facts.least, least, Ordering::Less);
        facts.greatest = outer(facts.greatest, greatest, Ordering::Greater);
    }
    Some(facts)
}

/// Numbers are never cut; text and bytes are, unless the writer says that they are not.
fn certain(
    statistics: &Statistics,
    column: &ColumnDescriptor,
    kind: &PrimitiveType,
) -> (Option<Datum>, Option<Datum>) {
    let bytes = matches!(
        statistics.physical_type(),
        PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY
    );
    let least = statistics.min_bytes_opt().filter(|_| !bytes || statistics.min_is_exact());
    let greatest = statistics.max_bytes_opt().filter(|_| !bytes || statistics.max_is_exact());
    (
        least.and_then(|b| decode(column, b, kind, false)),
        greatest.and_then(|b| decode(column, b, kind, true)),
    )
}

fn outer(a: Option<Datum>, b: Option<Datum>, way: Ordering) -> Option<Datum> {
    match (a, b) {
        (Some(a), Some(b)) => {
            Some(if compare(b.literal(), a.literal()) == Some(way) { b } else { a })
        }
        (a, b) => a.or(b),
    }
}
