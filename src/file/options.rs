//! How files are written: codec, sizes, metrics modes and bloom filters, from table properties.
//!
//! Pure. Property names and defaults are those of other engines.

use std::collections::{BTreeMap, BTreeSet};

use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::{ColumnPath, SchemaDescriptor};

use crate::error::{Error, Result};
use crate::spec::{NestedFieldRef, Schema, TableProperties, Type, property};

const MIB: u64 = 1024 * 1024;
/// Rows of a row group at most: the unit in which one file is decoded in parallel.
pub(crate) const ROW_GROUP_ROWS: usize = 1024 * 1024;

/// How much of a column's values goes into the file's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsMode {
    /// Nothing but its size.
    None,
    /// Counts of values, nulls and NaNs.
    Counts,
    /// Counts, and bounds cut to this many code points or bytes.
    Truncate(usize),
    /// Counts, and bounds in full.
    Full,
}

impl MetricsMode {
    /// The default of every engine.
    pub const DEFAULT: Self = Self::Truncate(16);

    /// Parses `none`, `counts`, `full` or `truncate(n)`, in any case.
    fn parse(name: &str, text: &str) -> Result<Self> {
        let lower = text.trim().to_ascii_lowercase();
        let length = || {
            let digits = lower.strip_prefix("truncate(")?.strip_suffix(')')?;
            digits.trim().parse::<usize>().ok().filter(|n| *n > 0)
        };
        match lower.as_str() {
            "none" => Ok(Self::None),
            "counts" => Ok(Self::Counts),
            "full" => Ok(Self::Full),
            _ => length().map(Self::Truncate).ok_or_else(|| {
                Error::invalid(format!("table property `{name}` is `{text}`, no metrics mode"))
                    .with_hint("use none, counts, full or truncate(16)")
            }),
        }
    }
}

/// Values that shape the files a writer makes.
#[derive(Debug, Clone, PartialEq)]
pub struct WriterOptions {
    /// Codec of pages; zstd unless set.
    pub compression: Compression,
    /// Bytes of a row group at most: 128 MiB unless set.
    pub row_group_bytes: u64,
    /// Bytes of a data page at most: 1 MiB unless set.
    pub page_bytes: u64,
    /// Rows of a data page at most: 20,000 unless set.
    pub page_rows: u64,
    /// Bytes of a dictionary page at most: 2 MiB unless set.
    pub dictionary_bytes: u64,
    /// Metrics modes by field id of leaf columns.
    pub metrics: BTreeMap<i32, MetricsMode>,
    /// The mode of columns that `metrics` does not name.
    pub default_metrics: MetricsMode,
    /// Columns with a bloom filter: identifier fields, and those whose property says so.
    pub bloom_columns: BTreeSet<i32>,
    /// False positives that a bloom filter may give.
    pub bloom_fpp: f64,
    /// The sort order that the rows follow, if they do.
    pub sort_order_id: Option<i32>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            compression: Compression::ZSTD(ZstdLevel::default()),
            row_group_bytes: 128 * MIB,
            page_bytes: MIB,
            page_rows: 20_000,
            dictionary_bytes: 2 * MIB,
            metrics: BTreeMap::new(),
            default_metrics: MetricsMode::DEFAULT,
            bloom_columns: BTreeSet::new(),
            bloom_fpp: 0.01,
            sort_order_id: None,
        }
    }
}

impl WriterOptions {
    /// The options that a table's properties ask for.
    ///
    /// # Errors
    /// `InvalidInput` naming a property with a value that makes no sense.
    pub fn from_properties(properties: &TableProperties<'_>, schema: &Schema) -> Result<Self> {
        let number =
            |name: &str, default: u64| Ok::<_, Error>(properties.number(name, default)?.max(1));
        let defaults = Self::default();
        let mut options = Self {
            compression: compression(properties)?,
            row_group_bytes: number(property::PARQUET_ROW_GROUP_SIZE, defaults.row_group_bytes)?,
            page_bytes: number("write.parquet.page-size-bytes", defaults.page_bytes)?,
            page_rows: number("write.parquet.page-row-limit", defaults.page_rows)?,
            dictionary_bytes: number("write.parquet.dict-size-bytes", defaults.dictionary_bytes)?,
            ..defaults
        };
        options.take_metrics(properties, schema)?;
        options.bloom_columns = bloom_columns(properties, schema)?;
        Ok(options)
    }

    /// Gives `columns` at least bounds of the default length, unless their own property says
    /// otherwise: for sort columns and keys, whose bounds readers need most.
    #[must_use]
    pub fn with_bounds_of(mut self, columns: impl IntoIterator<Item = i32>) -> Self {
        for id in columns {
            let mode = self.metrics.entry(id).or_insert(self.default_metrics);
            if matches!(mode, MetricsMode::None | MetricsMode::Counts) {
                *mode = MetricsMode::DEFAULT;
            }
        }
        self
    }

    /// The mode of one leaf column.
    pub fn metrics_mode(&self, field_id: i32) -> MetricsMode {
        self.metrics.get(&field_id).copied().unwrap_or(self.default_metrics)
    }

    fn take_metrics(&mut self, properties: &TableProperties<'_>, schema: &Schema) -> Result<()> {
        let columns = leaf_columns(schema);
        match properties.get(property::METRICS_DEFAULT) {
            Some(text) => {
                self.default_metrics = MetricsMode::parse(property::METRICS_DEFAULT, text)?;
            }
            None => {
                let limit = properties.number(property::METRICS_MAX_COLUMNS, 100)?;
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                for id in columns.iter().skip(limit) {
                    self.metrics.insert(*id, MetricsMode::None);
                }
            }
        }
        let keys: Vec<i32> = schema.identifier_field_ids().collect();
        *self = std::mem::take(self).with_bounds_of(keys);
        for id in columns {
            let Some(column) = schema.name_by_field_id(id) else { continue };
            let name = format!("{}{column}", property::METRICS_COLUMN_PREFIX);
            if let Some(text) = properties.get(&name) {
                self.metrics.insert(id, MetricsMode::parse(&name, text)?);
            }
        }
        Ok(())
    }

    /// The Parquet crate's properties; `distinct` is how many values a bloom filter may meet in
    /// one row group.
    pub(crate) fn parquet_properties(
        &self,
        parquet: &SchemaDescriptor,
        distinct: u64,
    ) -> WriterProperties {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).max(1);
        let mut builder = WriterProperties::builder()
            .set_created_by(concat!("meltwater version ", env!("CARGO_PKG_VERSION")).to_string())
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(self.compression)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_max_row_group_bytes(Some(size(self.row_group_bytes)))
            .set_data_page_size_limit(size(self.page_bytes))
            .set_data_page_row_count_limit(size(self.page_rows))
            .set_dictionary_page_size_limit(size(self.dictionary_bytes));
        for column in parquet.columns() {
            let info = column.self_type().get_basic_info();
            if info.has_id() && self.bloom_columns.contains(&info.id()) {
                builder = self.bloom(builder, column.path().clone(), distinct);
            }
        }
        builder.build()
    }

    fn bloom(
        &self,
        builder: WriterPropertiesBuilder,
        path: ColumnPath,
        distinct: u64,
    ) -> WriterPropertiesBuilder {
        builder
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path.clone(), self.bloom_fpp)
            .set_column_bloom_filter_ndv(path, distinct.max(1))
    }
}

fn compression(properties: &TableProperties<'_>) -> Result<Compression> {
    let name = properties.get(property::PARQUET_COMPRESSION).unwrap_or("zstd");
    let level = properties.get(property::PARQUET_COMPRESSION_LEVEL);
    let number = level
        .map(|text| {
            text.trim().parse::<u32>().map_err(|_| {
                let name = property::PARQUET_COMPRESSION_LEVEL;
                Error::invalid(format!("table property `{name}` is `{text}`, not a level"))
            })
        })
        .transpose()?;
    let bad_level = |e: parquet::errors::ParquetError| {
        Error::invalid(format!("`{}`: {e}", property::PARQUET_COMPRESSION_LEVEL))
    };
    Ok(match name.trim().to_ascii_lowercase().as_str() {
        "zstd" => Compression::ZSTD(match number {
            Some(n) => {
                ZstdLevel::try_new(i32::try_from(n).unwrap_or(i32::MAX)).map_err(bad_level)?
            }
            None => ZstdLevel::default(),
        }),
        "gzip" => Compression::GZIP(match number {
            Some(n) => GzipLevel::try_new(n).map_err(bad_level)?,
            None => GzipLevel::default(),
        }),
        "brotli" => Compression::BROTLI(match number {
            Some(n) => BrotliLevel::try_new(n).map_err(bad_level)?,
            None => BrotliLevel::default(),
        }),
        "snappy" => Compression::SNAPPY,
        "lz4" | "lz4_raw" => Compression::LZ4_RAW,
        "uncompressed" | "none" => Compression::UNCOMPRESSED,
        other => {
            let name = property::PARQUET_COMPRESSION;
            return Err(Error::invalid(format!("table property `{name}` is `{other}`, no codec"))
                .with_hint("use zstd, snappy, gzip, lz4, brotli or uncompressed"));
        }
    })
}

fn bloom_columns(properties: &TableProperties<'_>, schema: &Schema) -> Result<BTreeSet<i32>> {
    let keys: BTreeSet<i32> = schema.identifier_field_ids().collect();
    let mut chosen = BTreeSet::new();
    for id in leaf_columns(schema) {
        let Some(column) = schema.name_by_field_id(id) else { continue };
        let name = format!("{}{column}", property::BLOOM_COLUMN_PREFIX);
        if properties.flag(&name, keys.contains(&id))? {
            chosen.insert(id);
        }
    }
    Ok(chosen)
}

/// Ids of leaf columns, plain ones before those of nested fields on every level: the order in
/// which the first hundred get metrics.
fn leaf_columns(schema: &Schema) -> Vec<i32> {
    let mut ids = Vec::new();
    collect_leaves(schema.as_struct().fields(), &mut ids);
    ids
}

fn collect_leaves(fields: &[NestedFieldRef], ids: &mut Vec<i32>) {
    ids.extend(fields.iter().filter(|f| f.field_type.is_primitive()).map(|f| f.id));
    for field in fields {
        match field.field_type.as_ref() {
            Type::Primitive(_) => {}
            Type::Struct(nested) => collect_leaves(nested.fields(), ids),
            Type::List(list) => collect_leaves(std::slice::from_ref(&list.element_field), ids),
            Type::Map(map) => {
                collect_leaves(&[map.key_field.clone(), map.value_field.clone()], ids);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::spec::{NestedField, PrimitiveType};

    fn schema() -> Schema {
        let long = || Type::Primitive(PrimitiveType::Long);
        Schema::builder()
            .with_fields([
                NestedField::required(1, "id", long()).into(),
                NestedField::optional(2, "a", long()).into(),
                NestedField::optional(3, "b", long()).into(),
            ])
            .with_identifier_field_ids([1])
            .build()
            .unwrap()
    }

    fn options(properties: &[(&str, &str)]) -> Result<WriterOptions> {
        let map: HashMap<_, _> =
            properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        WriterOptions::from_properties(&TableProperties::new(&map), &schema())
    }

    #[test]
    fn metrics_modes_follow_column_then_default_then_limit() {
        let plain = options(&[]).unwrap();
        assert_eq!(plain.metrics_mode(3), MetricsMode::Truncate(16));
        let set = options(&[
            ("write.metadata.metrics.default", "counts"),
            ("write.metadata.metrics.column.b", "Truncate(4)"),
        ])
        .unwrap();
        assert_eq!(set.metrics_mode(1), MetricsMode::Truncate(16), "keys keep bounds");
        assert_eq!(set.metrics_mode(2), MetricsMode::Counts);
        assert_eq!(set.metrics_mode(3), MetricsMode::Truncate(4));
        let limited = options(&[(property::METRICS_MAX_COLUMNS, "2")]).unwrap();
        assert_eq!(limited.metrics_mode(2), MetricsMode::Truncate(16));
        assert_eq!(limited.metrics_mode(3), MetricsMode::None);
        assert!(options(&[("write.metadata.metrics.default", "truncate(0)")]).is_err());
    }

    #[test]
    fn identifier_fields_get_bloom_filters_unless_switched_off() {
        assert_eq!(options(&[]).unwrap().bloom_columns, BTreeSet::from([1]));
        let key = |c: &str| format!("{}{c}", property::BLOOM_COLUMN_PREFIX);
        let set = options(&[(&key("id"), "false"), (&key("a"), "true")]).unwrap();
        assert_eq!(set.bloom_columns, BTreeSet::from([2]));
    }

    #[test]
    fn codecs_parse_by_their_names() {
        let codec = |name: &str| options(&[(property::PARQUET_COMPRESSION, name)]);
        assert_eq!(codec("SNAPPY").unwrap().compression, Compression::SNAPPY);
        assert!(matches!(codec("gzip").unwrap().compression, Compression::GZIP(_)));
        assert!(codec("pkzip").is_err());
    }
}
