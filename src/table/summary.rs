//! Snapshot summaries: complete, so that the totals of other engines stay right (CMT-9).

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::spec::{DataContentType, DataFile, Operation, PartitionKey, Summary};

/// Keys of ours in snapshot summaries and table properties.
pub mod key {
    /// `none` on snapshots that change files but no rows; followers skip them (CMT-3).
    pub const LOGICAL_CHANGE: &str = "meltwater.logical-change";
    /// The writer that made the snapshot.
    pub const WRITER_ID: &str = "meltwater.writer-id";
    /// That writer's epoch.
    pub const EPOCH: &str = "meltwater.epoch";
    /// Prefix of the table property that remembers a writer's last epoch on a branch.
    pub const WRITER_PREFIX: &str = "meltwater.writer.";
    /// Prefix of the table property that counts the rollbacks of a branch.
    pub const ROLLBACKS_PREFIX: &str = "meltwater.rollbacks.";
    /// What a summary says of the commit itself. A second `operation` would make the metadata
    /// unreadable, and a false mark would hide rows from followers.
    pub const OURS: [&str; 4] = ["operation", LOGICAL_CHANGE, WRITER_ID, EPOCH];
}

/// Counts what a commit adds and removes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct SummaryCounts {
    added: Side,
    removed: Side,
    partitions: HashSet<PartitionKey>,
    pub(crate) manifests_created: usize,
    pub(crate) manifests_kept: usize,
    pub(crate) manifests_replaced: usize,
    pub(crate) entries_processed: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Side {
    data_files: u64,
    records: u64,
    bytes: u64,
    position_files: u64,
    position_deletes: u64,
    equality_files: u64,
    equality_deletes: u64,
}

impl Side {
    fn count(&mut self, file: &DataFile) {
        self.bytes += file.file_size_in_bytes;
        match file.content {
            DataContentType::Data => {
                self.data_files += 1;
                self.records += file.record_count;
            }
            DataContentType::PositionDeletes => {
                self.position_files += 1;
                self.position_deletes += file.record_count;
            }
            DataContentType::EqualityDeletes => {
                self.equality_files += 1;
                self.equality_deletes += file.record_count;
            }
        }
    }

    fn delete_files(&self) -> u64 {
        self.position_files + self.equality_files
    }
}

impl SummaryCounts {
    pub(crate) fn add(&mut self, file: &DataFile) {
        self.added.count(file);
        self.partitions.insert(file.partition_key());
    }

    pub(crate) fn remove(&mut self, file: &DataFile) {
        self.removed.count(file);
        self.partitions.insert(file.partition_key());
    }

    /// Rows in the data files this commit adds and removes.
    pub(crate) fn records(&self) -> (u64, u64) {
        (self.added.records, self.removed.records)
    }

    /// The summary of the new snapshot, with totals carried on from the parent's.
    ///
    /// Zero deltas are left out. A total is left out when the parent has none or it would be
    /// negative; the first snapshot starts from zero.
    pub(crate) fn summary(
        &self,
        operation: Operation,
        parent: Option<&Summary>,
        extra: &BTreeMap<String, String>,
    ) -> Summary {
        let (a, r) = (&self.added, &self.removed);
        let mut properties: HashMap<String, String> =
            extra.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut put = |name: &str, value: u64| {
            match value {
                0 => properties.remove(name),
                value => properties.insert(name.to_string(), value.to_string()),
            };
        };
        put("added-data-files", a.data_files);
        put("deleted-data-files", r.data_files);
        put("added-records", a.records);
        put("deleted-records", r.records);
        put("added-files-size", a.bytes);
        put("removed-files-size", r.bytes);
        put("added-delete-files", a.delete_files());
        put("removed-delete-files", r.delete_files());
        put("added-position-delete-files", a.position_files);
        put("removed-position-delete-files", r.position_files);
        put("added-equality-delete-files", a.equality_files);
        put("removed-equality-delete-files", r.equality_files);
        put("added-position-deletes", a.position_deletes);
        put("removed-position-deletes", r.position_deletes);
        put("added-equality-deletes", a.equality_deletes);
        put("removed-equality-deletes", r.equality_deletes);
        put("changed-partition-count", self.partitions.len() as u64);
        for (name, value) in [
            ("manifests-created", self.manifests_created as u64),
            ("manifests-kept", self.manifests_kept as u64),
            ("manifests-replaced", self.manifests_replaced as u64),
            ("entries-processed", self.entries_processed),
        ] {
            properties.insert(name.to_string(), value.to_string());
        }
        for (name, added, removed) in [
            ("total-data-files", a.data_files, r.data_files),
            ("total-delete-files", a.delete_files(), r.delete_files()),
            ("total-records", a.records, r.records),
            ("total-files-size", a.bytes, r.bytes),
            ("total-position-deletes", a.position_deletes, r.position_deletes),
            ("total-equality-deletes", a.equality_deletes, r.equality_deletes),
        ] {
            let before = match parent {
                None => Some(0),
                Some(summary) => {
                    summary.additional_properties.get(name).and_then(|v| v.parse::<u64>().ok())
                }
            };
            let total = before.and_then(|b| b.checked_add(added)?.checked_sub(removed));
            match total {
                None => properties.remove(name),
                Some(total) => properties.insert(name.to_string(), total.to_string()),
            };
        }
        Summary { operation, additional_properties: properties }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::PartitionKey;

    fn file(content: DataContentType, rows: u64) -> DataFile {
        DataFile::new(content, "f", PartitionKey::unpartitioned(0), rows, 100)
    }

    fn get<'a>(summary: &'a Summary, name: &str) -> Option<&'a str> {
        summary.additional_properties.get(name).map(String::as_str)
    }

    #[test]
    fn totals_carry_on_from_the_parent_and_zero_deltas_are_left_out() {
        let mut first = SummaryCounts::default();
        first.add(&file(DataContentType::Data, 10));
        let one = first.summary(Operation::Append, None, &BTreeMap::new());
        assert_eq!(get(&one, "total-records"), Some("10"));
        assert_eq!(get(&one, "total-equality-deletes"), Some("0"));
        assert_eq!(get(&one, "deleted-records"), None);

        let mut second = SummaryCounts::default();
        second.add(&file(DataContentType::EqualityDeletes, 3));
        second.remove(&file(DataContentType::Data, 4));
        let two = second.summary(Operation::Overwrite, Some(&one), &BTreeMap::new());
        assert_eq!(get(&two, "total-records"), Some("6"));
        assert_eq!(get(&two, "total-delete-files"), Some("1"));
        assert_eq!(get(&two, "added-equality-deletes"), Some("3"));
        assert_eq!(get(&two, "changed-partition-count"), Some("1"));
    }

    #[test]
    fn a_total_is_left_out_when_the_parent_has_none_or_it_would_be_negative() {
        let mut counts = SummaryCounts::default();
        counts.remove(&file(DataContentType::Data, 4));
        let parent = Summary {
            operation: Operation::Append,
            additional_properties: HashMap::from([("total-records".into(), "3".into())]),
        };
        let summary = counts.summary(Operation::Delete, Some(&parent), &BTreeMap::new());
        assert_eq!(get(&summary, "total-records"), None);
        assert_eq!(get(&summary, "total-data-files"), None);
    }
}
