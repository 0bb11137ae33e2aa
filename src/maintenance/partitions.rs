//! Which branch and which partitions an action is about.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::expr::{self, PartitionFilter};
use crate::scan::{ScanContext, TableScan};
use crate::spec::{
    BoundPredicate, DataFile, MAIN_BRANCH, PartitionKey, PartitionSpec, Transform, partition_path,
};
use crate::table::{At, Table};

/// A scan of the head of a branch.
pub(super) fn branch_scan(table: &Table, branch: &str) -> TableScan {
    table.scan().at(match branch {
        MAIN_BRANCH => At::Current,
        branch => At::Ref(branch.to_string()),
    })
}

/// A partition as a folder name; empty when unpartitioned.
pub(super) fn partition_name(table: &Table, key: &PartitionKey) -> String {
    let spec = table.metadata().partition_spec_by_id(key.spec_id);
    spec.map(|spec| partition_path(spec, table.schema(), &key.values)).unwrap_or_default()
}

/// A filter that takes or leaves whole partitions (MNT-1).
#[derive(Debug)]
pub(super) struct WholePartitions {
    filter: BoundPredicate,
    by_spec: HashMap<i32, PartitionFilter>,
}

impl WholePartitions {
    /// The filter of a scan; `None` when it has none.
    ///
    /// # Errors
    /// `InvalidInput` if it asks about a column that does not partition the table.
    pub(super) fn new(context: &ScanContext) -> Result<Option<Self>> {
        let Some(filter) = context.filter.as_deref().cloned() else { return Ok(None) };
        let table = &context.table;
        let spec = table.metadata().default_partition_spec();
        for id in expr::field_ids(&filter) {
            let by = |f: &&crate::spec::PartitionField| {
                f.source_id == id && f.transform != Transform::Void
            };
            if !spec.fields().iter().any(|f| by(&f)) {
                let name = context.schema.name_by_field_id(id).unwrap_or("?");
                return Err(Error::invalid(format!(
                    "the table is not partitioned by `{name}`, so the filter does not choose partitions"
                ))
                .with_context("filter", expr::describe(&filter))
                .with_hint(hint(spec, table)));
            }
        }
        let mut by_spec = HashMap::new();
        for spec in table.metadata().partition_specs_iter() {
            let types = table.partition_types(spec.spec_id())?;
            let partitions = PartitionFilter::new(&filter, spec, &types, &context.schema)?;
            by_spec.insert(spec.spec_id(), partitions);
        }
        Ok(Some(Self { filter, by_spec }))
    }

    /// Checks a file that the filter may want.
    ///
    /// # Errors
    /// `InvalidInput` if its partition does not decide.
    pub(super) fn must_take(&self, table: &Table, file: &DataFile) -> Result<()> {
        let decided = self.by_spec.get(&file.spec_id);
        if decided.is_some_and(|f| f.partition_must_match(&file.partition)) {
            return Ok(());
        }
        let partition = partition_path(table.spec(file.spec_id)?, table.schema(), &file.partition);
        Err(Error::invalid(
            "the filter takes a part of a partition, and only whole ones are worked on",
        )
        .with_context("filter", expr::describe(&self.filter))
        .with_context("partition", partition)
        .with_context("spec", file.spec_id)
        .with_hint("widen or narrow the filter to whole partitions"))
    }
}

fn hint(spec: &PartitionSpec, table: &Table) -> String {
    let name = |id| table.schema().name_by_field_id(id).unwrap_or("?").to_string();
    let fields = spec.fields().iter().filter(|f| f.transform != Transform::Void);
    let fields: Vec<String> =
        fields.map(|f| format!("{}({})", f.transform, name(f.source_id))).collect();
    match fields.is_empty() {
        true => "the table is not partitioned: leave the filter out".to_string(),
        false => format!("the table is partitioned by {}", fields.join(", ")),
    }
}
