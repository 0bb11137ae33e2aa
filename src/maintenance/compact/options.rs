//! Values that shape a compaction.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::spec::{MAIN_BRANCH, NullOrder, Predicate, Schema, SortDirection, SortField, Transform};
use crate::table::Table;

const MIB: u64 = 1024 * 1024;

/// Values that shape a compaction.
#[derive(Debug, Clone)]
pub struct CompactOptions {
    /// Which partitions; all unless set. Partition values must decide it.
    pub filter: Option<Predicate>,
    /// The branch to work on; `main`.
    pub branch: String,
    /// How rows are sorted within a partition; unless set they keep their order.
    pub sort: Option<SortBy>,
    /// Bytes of a new file; `write.target-file-size-bytes` (512 MiB) unless set.
    pub target_file_size_bytes: Option<u64>,
    /// Smaller files are candidates; 75 % of the target unless set.
    pub min_file_size_bytes: Option<u64>,
    /// Larger files are candidates; 180 % of the target unless set.
    pub max_file_size_bytes: Option<u64>,
    /// So many small files make a group worth the work; 5.
    pub min_input_files: usize,
    /// Files of which this share of the rows is deleted are candidates; 0.3. Position deletes are
    /// counted; other deletes count as if spread evenly over the files that they may hit.
    pub delete_ratio: f64,
    /// Files with so many delete files are candidates; off unless set.
    pub delete_files: Option<usize>,
    /// Every file is a candidate, to sort or re-encode all of them; off.
    pub rewrite_all: bool,
    /// Files stay in the partition spec that they have; off: they move to the current one.
    pub keep_specs: bool,
    /// Bytes of input that one group has at most; 10 GiB: what a kill can cost.
    pub max_group_bytes: u64,
    /// Finished groups are committed in about so many commits, as many at once as that takes; 10.
    /// Fewer groups are committed one by one, and so are those of `max_group_bytes` of input.
    pub max_commits: usize,
    /// What is finished is committed at least this often; a minute: what a kill can cost.
    pub commit_interval: Duration,
    /// Groups that are rewritten at the same time; one a core.
    pub max_concurrent_groups: usize,
    /// Bytes that the whole compaction may hold; 512 MiB: half to read, half to write and sort.
    /// Much less than 64 MiB a group is not kept: a file on its way to the store takes 16 MiB.
    pub memory_budget_bytes: u64,
    /// Where sorted runs go that do not fit into memory; the system's folder unless set.
    pub spill_directory: Option<PathBuf>,
    /// How often a group is planned again when other commits are in the way; 3.
    pub replans: u32,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self {
            filter: None,
            branch: MAIN_BRANCH.to_string(),
            sort: None,
            target_file_size_bytes: None,
            min_file_size_bytes: None,
            max_file_size_bytes: None,
            min_input_files: 5,
            delete_ratio: 0.3,
            delete_files: None,
            rewrite_all: false,
            keep_specs: false,
            max_group_bytes: 10 * 1024 * MIB,
            max_commits: 10,
            commit_interval: Duration::from_secs(60),
            max_concurrent_groups: std::thread::available_parallelism().map_or(2, |n| n.get()),
            memory_budget_bytes: 512 * MIB,
            spill_directory: None,
            replans: 3,
        }
    }
}

/// The order of rows in new files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SortBy {
    /// The table's own sort order.
    TableOrder,
    /// These columns, the first one first.
    Columns(Vec<SortColumn>),
}

/// One column to sort by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortColumn {
    /// Its name; `s.a` for a field of a struct.
    pub name: String,
    /// Largest first; nulls come first when ascending and last when descending.
    pub descending: bool,
}

impl CompactOptions {
    /// Refuses values that make no sense by themselves.
    pub(super) fn check(&self) -> Result<()> {
        if !(self.delete_ratio > 0.0 && self.delete_ratio <= 1.0) {
            return Err(Error::invalid("the delete ratio is not above 0 and up to 1")
                .with_context("delete_ratio", self.delete_ratio)
                .with_hint("0.3 rewrites files of which a third of the rows is deleted"));
        }
        let zero = [
            ("min_input_files", self.min_input_files == 0),
            ("delete_files", self.delete_files == Some(0)),
            ("max_concurrent_groups", self.max_concurrent_groups == 0),
            ("max_group_bytes", self.max_group_bytes == 0),
            ("max_commits", self.max_commits == 0),
        ];
        match zero.iter().find(|(_, is_zero)| *is_zero) {
            None => Ok(()),
            Some((name, _)) => Err(Error::invalid(format!("`{name}` is zero"))
                .with_hint(format!("give `{name}` at least 1"))),
        }
    }

    /// The sort order as fields of the table's schema; empty when rows keep their order.
    pub(super) fn sort_fields(&self, table: &Table) -> Result<Vec<SortField>> {
        match &self.sort {
            None => Ok(Vec::new()),
            Some(SortBy::TableOrder) => {
                let fields = table.metadata().default_sort_order().fields.clone();
                if fields.is_empty() {
                    return Err(Error::invalid("the table has no sort order")
                        .with_context("table", table.ident())
                        .with_hint("name the columns to sort by, such as `--sort a,b`"));
                }
                Ok(fields)
            }
            Some(SortBy::Columns(columns)) if columns.is_empty() => {
                Err(Error::invalid("no column to sort by was named"))
            }
            Some(SortBy::Columns(columns)) => {
                columns.iter().map(|column| sort_field(table.schema(), column)).collect()
            }
        }
    }
}

fn sort_field(schema: &Schema, column: &SortColumn) -> Result<SortField> {
    let Some(field) = schema.field_by_name(&column.name) else {
        let known = schema.as_struct().fields().iter().map(|f| f.name.as_str());
        return Err(Error::invalid(format!("unknown sort column `{}`", column.name)).with_hint(
            format!("the table has the columns {}", known.collect::<Vec<_>>().join(", ")),
        ));
    };
    if !field.field_type.is_primitive() || crate::file::leaf_path(schema, field.id).is_none() {
        return Err(Error::invalid(format!("column `{}` has no order", column.name))
            .with_hint("sort by columns of numbers, text, times and the like"));
    }
    let (direction, null_order) = match column.descending {
        false => (SortDirection::Ascending, NullOrder::First),
        true => (SortDirection::Descending, NullOrder::Last),
    };
    Ok(SortField { source_id: field.id, transform: Transform::Identity, direction, null_order })
}
