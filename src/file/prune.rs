//! Row groups and pages that cannot hold a matching row.
//!
//! Pure. In: a filter, a footer, and its page index if it was read. Out: fewer rows to decode.
//! Statistics prove absence only; what is unknown, or in an order we do not trust, stays
//! (FIL-12).

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use super::bloom::{BloomFilter, BloomFilters};
use super::layout::{FileColumn, FileLayout, Matching};
use super::select::{GroupRows, intersect};
use crate::expr::{ColumnStats, Filter};
use crate::spec::{
    BoundPredicate, Datum, Literal, PrimitiveLiteral, PrimitiveType, Schema, datum_of,
};

/// A filter made ready for one file.
#[derive(Debug)]
pub(crate) struct Pruner {
    filter: Filter,
    columns: HashMap<i32, Column>,
}

/// What a column of the filter is in the file.
#[derive(Debug)]
enum Column {
    /// A leaf column of this index.
    Leaf(usize, PrimitiveType),
    /// Not in the file: every row has this value.
    Constant(Datum),
    /// Not in the file: every row is null.
    Null,
}

/// What is known about the columns of one stretch of rows.
#[derive(Debug, Default)]
struct Facts<'a> {
    columns: HashMap<i32, ColumnFacts>,
    blooms: HashMap<i32, &'a BloomFilter>,
}

#[derive(Debug, Default)]
struct ColumnFacts {
    lower: Option<Datum>,
    upper: Option<Datum>,
    nulls: Option<u64>,
    values: Option<u64>,
}

impl ColumnStats for Facts<'_> {
    fn lower(&self, field_id: i32) -> Option<Datum> {
        self.columns.get(&field_id)?.lower.clone()
    }
    fn upper(&self, field_id: i32) -> Option<Datum> {
        self.columns.get(&field_id)?.upper.clone()
    }
    fn null_count(&self, field_id: i32) -> Option<u64> {
        self.columns.get(&field_id)?.nulls
    }
    fn nan_count(&self, _field_id: i32) -> Option<u64> {
        None // Parquet does not count them
    }
    fn value_count(&self, field_id: i32) -> Option<u64> {
        self.columns.get(&field_id)?.values
    }
    fn excludes(&self, field_id: i32, value: &PrimitiveLiteral) -> bool {
        self.blooms.get(&field_id).is_some_and(|bloom| bloom.excludes(value))
    }
}

impl Pruner {
    pub(crate) fn new(
        predicate: &BoundPredicate,
        schema: &Schema,
        layout: &FileLayout,
        constants: &HashMap<i32, Literal>,
    ) -> Self {
        let filter = Filter::new(predicate);
        let column = |id: i32| {
            let kind = schema.field_by_id(id)?.field_type.as_primitive_type()?.clone();
            let on_top = schema.as_struct().field_by_id(id).is_some();
            let known = match leaf_of(&layout.columns, id) {
                Some(leaf) => Column::Leaf(leaf, kind),
                // Below structs the parent's nulls, and names instead of ids, blur the picture.
                None if !on_top && layout.matching != Matching::Ids => return None,
                None => match constants.get(&id) {
                    Some(Literal::Primitive(value)) => Column::Constant(datum_of(&kind, value)?),
                    Some(_) => return None,
                    None if schema.field_by_id(id)?.initial_default.is_some() => return None,
                    None => Column::Null,
                },
            };
            Some((id, known))
        };
        let columns = filter.field_ids().into_iter().filter_map(column).collect();
        Self { filter, columns }
    }

    /// Drops the row groups that cannot hold a match, as far as statistics and `blooms` know.
    pub(super) fn prune_groups(
        &self,
        metadata: &ParquetMetaData,
        blooms: &BloomFilters,
        groups: &mut Vec<GroupRows>,
    ) {
        groups.retain(|group| {
            let rows = group.all.end - group.all.start;
            let mut facts = self.facts(rows, |leaf, kind| {
                let chunk = metadata.row_groups().get(group.group)?.columns().get(leaf)?;
                let descriptor = chunk.column_descr();
                let stats = chunk.statistics()?;
                let bound = |bytes: Option<&[u8]>, upper| {
                    bytes
                        .filter(|_| trusted(stats))
                        .and_then(|b| decode(descriptor, b, kind, upper))
                };
                Some(ColumnFacts {
                    lower: bound(stats.min_bytes_opt(), false),
                    upper: bound(stats.max_bytes_opt(), true),
                    nulls: stats.null_count_opt(),
                    values: Some(rows),
                })
            });
            facts.blooms = self
                .leaves_by_id()
                .filter_map(|(id, leaf, _)| Some((id, blooms.get(group.group, leaf)?)))
                .collect();
            self.filter.might_match(&facts)
        });
    }

    /// Drops rows of pages that cannot hold a match. Columns cut their pages at different rows,
    /// so every stretch between two cuts is judged by the page of each column it lies in.
    pub(crate) fn prune_pages(&self, metadata: &ParquetMetaData, groups: &mut Vec<GroupRows>) {
        let (Some(columns), Some(offsets)) = (metadata.column_index(), metadata.offset_index())
        else {
            return;
        };
        for group in groups.iter_mut() {
            let (Some(columns), Some(offsets)) =
                (columns.get(group.group), offsets.get(group.group))
            else {
                continue;
            };
            let starts = |leaf: usize| -> Option<Vec<u64>> {
                let pages = offsets.get(leaf)?.page_locations();
                pages.iter().map(|p| u64::try_from(p.first_row_index).ok()).collect()
            };
            let pages: HashMap<usize, Vec<u64>> =
                self.leaves().filter_map(|leaf| Some((leaf, starts(leaf)?))).collect();
            let cuts: BTreeSet<u64> = pages.values().flatten().copied().collect();
            let descriptor = |leaf: usize| {
                Some(metadata.row_groups().get(group.group)?.columns().get(leaf)?.column_descr())
            };
            let mut kept = Vec::new();
            for stretch in stretches(&cuts, group.all.end - group.all.start) {
                let rows = stretch.end - stretch.start;
                let facts = self.facts(rows, |leaf, kind| {
                    let starts = pages.get(&leaf)?;
                    let page = starts.partition_point(|s| *s <= stretch.start).checked_sub(1)?;
                    page_facts(columns.get(leaf)?, page, descriptor(leaf)?, kind, rows)
                });
                if self.filter.might_match(&facts) {
                    kept.push(group.all.start + stretch.start..group.all.start + stretch.end);
                }
            }
            group.wanted = intersect(&group.wanted, &merged(kept));
        }
        groups.retain(|g| !g.wanted.is_empty());
    }

    /// True when the page index could say more about some column of the filter.
    pub(crate) fn wants_pages(&self) -> bool {
        self.leaves().next().is_some()
    }

    /// The columns whose Bloom filters may say something.
    pub(super) fn points(&self) -> Vec<(usize, PrimitiveType)> {
        let asked = self.filter.point_ids();
        let columns = self.leaves_by_id().filter(|(id, ..)| asked.contains(id));
        columns.map(|(_, leaf, kind)| (leaf, kind.clone())).collect()
    }

    fn leaves(&self) -> impl Iterator<Item = usize> {
        self.leaves_by_id().map(|(_, leaf, _)| leaf)
    }

    fn leaves_by_id(&self) -> impl Iterator<Item = (i32, usize, &PrimitiveType)> {
        self.columns.iter().filter_map(|(id, column)| match column {
            Column::Leaf(leaf, kind) => Some((*id, *leaf, kind)),
            _ => None,
        })
    }

    fn facts(
        &self,
        rows: u64,
        leaf_facts: impl Fn(usize, &PrimitiveType) -> Option<ColumnFacts>,
    ) -> Facts<'static> {
        let facts = self.columns.iter().filter_map(|(id, column)| {
            let facts = match column {
                Column::Leaf(leaf, kind) => leaf_facts(*leaf, kind)?,
                Column::Constant(value) => ColumnFacts {
                    lower: Some(value.clone()),
                    upper: Some(value.clone()),
                    nulls: Some(0),
                    values: Some(rows),
                },
                Column::Null => {
                    ColumnFacts { nulls: Some(rows), values: Some(rows), ..Default::default() }
                }
            };
            Some((*id, facts))
        });
        Facts { columns: facts.collect(), blooms: HashMap::new() }
    }
}

/// The leaf column of a field that is reached through structs alone.
pub(super) fn leaf_of(columns: &[FileColumn], id: i32) -> Option<usize> {
    columns.iter().find_map(|column| match &column.data_type {
        arrow::datatypes::DataType::Struct(_) => leaf_of(&column.children, id),
        other if other.is_nested() => None,
        _ => (column.id == Some(id)).then_some(column.leaves.start),
    })
}

/// Half-open stretches between cuts, up to `rows`.
fn stretches(cuts: &BTreeSet<u64>, rows: u64) -> Vec<Range<u64>> {
    let inner = cuts.iter().copied().filter(|cut| *cut > 0 && *cut < rows);
    let mut starts = vec![0];
    starts.extend(inner);
    let ends = starts.iter().skip(1).copied().chain([rows]);
    starts.iter().copied().zip(ends).map(|(a, b)| a..b).collect()
}

fn merged(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => merged.push(range),
        }
    }
    merged
}

/// Old writers compared bytes as signed numbers; their bounds of bytes mean nothing.
pub(super) fn trusted(stats: &Statistics) -> bool {
    let bytes = matches!(
        stats.physical_type(),
        PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY
    );
    !(bytes && stats.is_min_max_deprecated())
}

fn page_facts(
    index: &ColumnIndexMetaData,
    page: usize,
    descriptor: &ColumnDescriptor,
    kind: &PrimitiveType,
    rows: u64,
) -> Option<ColumnFacts> {
    // Writers leave the index of a column out when a page has no bounds, such as one of NaNs; the
    // Parquet crate panics when such an index is asked for its pages.
    if matches!(index, ColumnIndexMetaData::NONE) || page as u64 >= index.num_pages() {
        return None;
    }
    if index.is_null_page(page) {
        return Some(ColumnFacts { nulls: Some(rows), values: Some(rows), ..Default::default() });
    }
    use ColumnIndexMetaData as Index;
    let (min, max): (Option<Vec<u8>>, Option<Vec<u8>>) = match index {
        Index::BOOLEAN(i) => (
            i.min_value(page).map(|v| vec![u8::from(*v)]),
            i.max_value(page).map(|v| vec![u8::from(*v)]),
        ),
        Index::INT32(i) => (
            i.min_value(page).map(|v| v.to_le_bytes().to_vec()),
            i.max_value(page).map(|v| v.to_le_bytes().to_vec()),
        ),
        Index::INT64(i) => (
            i.min_value(page).map(|v| v.to_le_bytes().to_vec()),
            i.max_value(page).map(|v| v.to_le_bytes().to_vec()),
        ),
        Index::FLOAT(i) => (
            i.min_value(page).map(|v| v.to_le_bytes().to_vec()),
            i.max_value(page).map(|v| v.to_le_bytes().to_vec()),
        ),
        Index::DOUBLE(i) => (
            i.min_value(page).map(|v| v.to_le_bytes().to_vec()),
            i.max_value(page).map(|v| v.to_le_bytes().to_vec()),
        ),
        Index::BYTE_ARRAY(i) | Index::FIXED_LEN_BYTE_ARRAY(i) => {
            (i.min_value(page).map(<[u8]>::to_vec), i.max_value(page).map(<[u8]>::to_vec))
        }
        _ => (None, None),
    };
    // The page may reach beyond this stretch: that it holds a null says nothing about the
    // stretch, that it holds none does.
    let nulls = index.null_count(page).filter(|n| *n == 0).map(|_| 0);
    Some(ColumnFacts {
        lower: min.and_then(|b| decode(descriptor, &b, kind, false)),
        upper: max.and_then(|b| decode(descriptor, &b, kind, true)),
        nulls,
        values: Some(rows),
    })
}

/// A bound as a value of the table's type; `None` where the two are not ordered alike.
pub(super) fn decode(
    column: &ColumnDescriptor,
    bytes: &[u8],
    kind: &PrimitiveType,
    upper: bool,
) -> Option<Datum> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    let int = || match column.physical_type() {
        PhysicalType::INT32 => Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?))),
        PhysicalType::INT64 => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
        _ => None,
    };
    let literal = match kind {
        T::Boolean => L::Boolean(*bytes.first()? != 0),
        T::Int | T::Date if !unsigned(column) => L::Int(i32::try_from(int()?).ok()?),
        T::Long if !unsigned(column) => L::Long(int()?),
        T::Float | T::Double => return float(column, bytes, kind, upper),
        T::Time | T::Timestamp | T::Timestamptz => L::Long(micros(column, int()?)?),
        T::Decimal { scale, .. } if column.type_scale() == i32::try_from(*scale).ok()? => {
            L::Int128(match column.physical_type() {
                PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY => big_endian(bytes)?,
                _ => i128::from(int()?),
            })
        }
        T::String => L::String(std::str::from_utf8(bytes).ok()?.to_string()),
        T::Uuid => L::UInt128(u128::from_be_bytes(bytes.try_into().ok()?)),
        T::Binary | T::Fixed(_) => L::Binary(bytes.to_vec()),
        _ => return None,
    };
    datum_of(kind, &literal)
}

pub(super) fn unsigned(column: &ColumnDescriptor) -> bool {
    use ConvertedType as C;
    matches!(column.logical_type_ref(), Some(LogicalType::Integer { is_signed: false, .. }))
        || matches!(column.converted_type(), C::UINT_8 | C::UINT_16 | C::UINT_32 | C::UINT_64)
}

/// NaN as a bound says nothing, and a zero bound may stand for the other zero.
fn float(
    column: &ColumnDescriptor,
    bytes: &[u8],
    kind: &PrimitiveType,
    upper: bool,
) -> Option<Datum> {
    let value = match column.physical_type() {
        PhysicalType::FLOAT => f64::from(f32::from_le_bytes(bytes.try_into().ok()?)),
        PhysicalType::DOUBLE => f64::from_le_bytes(bytes.try_into().ok()?),
        _ => return None,
    };
    let value = match value {
        v if v.is_nan() => return None,
        0.0 => {
            if upper {
                0.0
            } else {
                -0.0
            }
        }
        v => v,
    };
    match kind {
        PrimitiveType::Float => Some(Datum::float(value as f32)),
        _ => Some(Datum::double(value)),
    }
}

/// Times and timestamps in microseconds, rounded down as their values are when read.
fn micros(column: &ColumnDescriptor, value: i64) -> Option<i64> {
    let unit = match column.logical_type_ref() {
        Some(LogicalType::Time { unit, .. } | LogicalType::Timestamp { unit, .. }) => *unit,
        _ => match column.converted_type() {
            ConvertedType::TIME_MILLIS | ConvertedType::TIMESTAMP_MILLIS => TimeUnit::MILLIS,
            ConvertedType::TIME_MICROS | ConvertedType::TIMESTAMP_MICROS => TimeUnit::MICROS,
            _ => return None,
        },
    };
    match unit {
        TimeUnit::MILLIS => value.checked_mul(1_000),
        TimeUnit::MICROS => Some(value),
        TimeUnit::NANOS => Some(value.div_euclid(1_000)),
    }
}

fn big_endian(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let mut wide = if first & 0x80 == 0 { [0u8; 16] } else { [0xFF; 16] };
    wide.get_mut(16usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}
