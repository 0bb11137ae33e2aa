//! A sound table, and what may happen to it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use serde_json::{Value, json};

use super::super::*;
use crate::catalog::{LoadedTable, read_metadata, write_metadata};
use crate::dml::tests::fixture::{delete_ids, file, row};
use crate::file::{ParquetFileWriter, WriterOptions, arrow_schema, position_delete_schema};
use crate::manifest::{ManifestCodec, ManifestWriter, write_manifest_list};
use crate::spec::*;
use crate::storage::Storage;
use crate::table::WriteResult;
use crate::table::tests::kit;
use crate::testing::{FaultPlan, FaultyStore};

/// A table partitioned by day: rows 1 to 3 of day 1, 4 and 5 of day 2, 6 of day 2; row 2 deleted by
/// position, row 4 by key.
pub(super) struct Shop {
    pub table: Table,
}

pub(super) async fn verify(table: &Table, snapshots: VerifySnapshots, deep: bool) -> VerifyReport {
    let options = VerifyOptions { snapshots, deep, ..VerifyOptions::default() };
    table.verify(options).run().await.unwrap()
}

async fn commit_rows(table: &Table, ids: &[i64], day: i32) -> Table {
    let rows: Vec<_> = ids.iter().map(|id| row(*id, &format!("name {id}"), day)).collect();
    let written = file(table, &rows, kit::day(0, day)).await;
    table.append(written).commit().await.unwrap().table
}

impl Shop {
    pub async fn open() -> Self {
        let (_catalog, table) = kit::partitioned().await;
        let table = commit_rows(&table, &[1, 2, 3], 1).await;
        let rows = [row(4, "name 4", 2), row(5, "name 5", 2)];
        let mut written = file(&table, &rows, kit::day(0, 2)).await;
        written.data_files.extend(file(&table, &[row(6, "x", 2)], kit::day(0, 2)).await.data_files);
        let table = table.append(written).commit().await.unwrap().table;
        let filter = crate::expr::parse("id = 2", table.schema()).unwrap();
        let table = table.delete_where(filter).commit().await.unwrap().table;
        let deletes = delete_ids(&table, &[4], kit::day(0, 2)).await;
        let table = table.row_delta(deletes).commit().await.unwrap().table;
        let shop = Self { table };
        shop.store_metadata().await;
        shop
    }

    /// The catalog in memory stores no metadata files.
    async fn store_metadata(&self) {
        let metadata = self.table.metadata();
        let bytes = write_metadata(metadata, false).unwrap();
        for earlier in metadata.metadata_log() {
            self.storage().write(&earlier.metadata_file, bytes.clone()).await.unwrap();
        }
        self.storage().write(self.table.metadata_location(), bytes).await.unwrap();
    }

    fn storage(&self) -> &Storage {
        self.table.storage()
    }

    fn head(&self) -> SnapshotRef {
        self.table.current_snapshot().unwrap().clone()
    }

    async fn manifests(&self) -> Vec<ManifestFile> {
        self.table.manifests(&self.head()).await.unwrap().as_ref().clone()
    }

    /// Live files of a kind with their manifests.
    async fn file_of(&self, content: DataContentType) -> (ManifestFile, ManifestEntry) {
        for manifest in self.manifests().await {
            for entry in self.table.entries(&manifest).await.unwrap().iter() {
                if entry.is_live() && entry.file.content == content {
                    return (manifest, entry.clone());
                }
            }
        }
        panic!("no such file")
    }

    async fn path_of(&self, content: DataContentType) -> String {
        self.file_of(content).await.1.file.file_path.clone()
    }

    /// A check of metadata that no honest writer would write, loaded the way a catalog does.
    async fn edited(&self, edit: impl FnOnce(&mut Value)) -> VerifyReport {
        let mut json = serde_json::to_value(self.table.metadata().as_ref()).unwrap();
        let snapshots = json["snapshots"].as_array_mut().unwrap();
        snapshots.sort_by_key(|s| s["sequence-number"].as_i64());
        edit(&mut json);
        let (bytes, place) = (serde_json::to_vec(&json).unwrap(), self.table.metadata_location());
        self.storage().write(place, bytes.clone().into()).await.unwrap();
        match read_metadata(&bytes, place) {
            Ok(metadata) => {
                let table = self.with(metadata, self.storage().clone());
                verify(&table, VerifySnapshots::Heads, false).await
            }
            Err(error) => VerifyReport::unreadable(self.storage(), "ns.t", &error).await,
        }
    }

    fn with(&self, metadata: TableMetadata, storage: Storage) -> Table {
        let loaded = LoadedTable {
            metadata: Arc::new(metadata),
            metadata_location: self.table.metadata_location().to_string(),
            config: HashMap::new(),
            storage,
        };
        Table::from_loaded(self.table.catalog().clone(), self.table.ident().clone(), loaded)
    }

    /// Another manifest list under the old name.
    async fn relist(&self, edit: impl FnOnce(&mut Vec<ManifestFile>)) {
        let mut manifests = self.manifests().await;
        edit(&mut manifests);
        let head = self.head();
        let parent = head.parent_snapshot_id().map(SnapshotId);
        let number = SequenceNumber(head.sequence_number());
        let codec = ManifestCodec::Uncompressed;
        let id = SnapshotId(head.snapshot_id());
        let bytes = write_manifest_list(&manifests, id, parent, number, codec).unwrap();
        self.storage().write(head.manifest_list(), bytes).await.unwrap();
    }

    /// Another manifest under the old name, with one entry changed.
    async fn remake(&self, content: DataContentType, edit: impl FnOnce(&mut ManifestEntry)) {
        let (manifest, changed) = self.file_of(content).await;
        let mut edit = Some(edit);
        let spec = manifest.partition_spec_id;
        let mut writer = ManifestWriter::new(
            manifest.content,
            self.table.schema().clone(),
            self.table.spec(spec).unwrap().clone(),
            self.table.partition_types(spec).unwrap(),
            SnapshotId(self.head().snapshot_id()),
            ManifestCodec::Uncompressed,
        );
        for entry in self.table.entries(&manifest).await.unwrap().iter() {
            let mut entry = entry.clone();
            if entry.file.file_path == changed.file.file_path
                && let Some(edit) = edit.take()
            {
                edit(&mut entry);
            }
            writer.existing(&entry).unwrap();
        }
        let (bytes, remade) = writer.finish(&manifest.manifest_path).unwrap();
        self.storage().write(&manifest.manifest_path, bytes).await.unwrap();
        let is_it = |m: &&mut ManifestFile| m.manifest_path == remade.manifest_path;
        self.relist(|all| *all.iter_mut().find(is_it).unwrap() = remade.clone()).await;
    }

    async fn remake_file(&self, content: DataContentType, edit: impl FnOnce(&mut DataFile)) {
        self.remake(content, |entry| {
            let mut file = entry.file.as_ref().clone();
            edit(&mut file);
            entry.file = Arc::new(file);
        })
        .await;
    }

    /// A position delete file with these rows, committed.
    async fn delete_positions(&self, positions: &[i64]) -> Table {
        let about = self.file_of(DataContentType::Data).await.1.file;
        let schema = position_delete_schema().unwrap();
        let paths = vec![about.file_path.as_str(); positions.len()];
        let columns: Vec<Arc<dyn arrow::array::Array>> = vec![
            Arc::new(StringArray::from(paths)),
            Arc::new(Int64Array::from(positions.to_vec())),
        ];
        let batch = RecordBatch::try_new(arrow_schema(&schema).unwrap(), columns).unwrap();
        let path = self.table.new_data_path(&about.partition_key(), "odd").unwrap();
        let options = WriterOptions::default();
        let mut writer =
            ParquetFileWriter::create(self.storage(), &path, schema, &options).unwrap();
        writer.write(&batch).await.unwrap();
        let content = DataContentType::PositionDeletes;
        let mut file = writer.close(content, about.partition_key()).await.unwrap();
        file.referenced_data_file = Some(about.file_path.clone());
        let written = WriteResult { delete_files: vec![file], ..WriteResult::default() };
        self.table.row_delta(written).commit().await.unwrap().table
    }

    async fn spoil(&self, path: &str) {
        let size = self.storage().size(path).await.unwrap();
        self.storage().write(path, vec![b'?'; size as usize].into()).await.unwrap();
    }
}

/// Damages to the metadata file itself.
async fn of_metadata(shop: &Shop, code: Code) -> Option<VerifyReport> {
    let newest = "/snapshots/3";
    let set = |pointer: String, value: Value| {
        move |json: &mut Value| *json.pointer_mut(&pointer).unwrap() = value
    };
    Some(match code {
        Code::MetadataUnreadable => shop.edited(set("/schemas".into(), json!("none"))).await,
        Code::RefDangling => {
            let tag = json!({"snapshot-id": 99, "type": "tag"});
            shop.edited(|json| json["refs"]["old"] = tag).await
        }
        Code::ParentCycle => {
            let close = |json: &mut Value| {
                let last = json["snapshots"][3]["snapshot-id"].clone();
                json["snapshots"][0]["parent-snapshot-id"] = last;
            };
            shop.edited(close).await
        }
        Code::SnapshotSequence => {
            shop.edited(set(format!("{newest}/sequence-number"), json!(3))).await
        }
        Code::LastSequence => shop.edited(set("/last-sequence-number".into(), json!(3))).await,
        Code::SchemaUnknown => shop.edited(set(format!("{newest}/schema-id"), json!(77))).await,
        Code::SequenceBeyondSnapshot => {
            shop.edited(set(format!("{newest}/sequence-number"), json!(1))).await
        }
        Code::SummaryTotals => {
            shop.edited(set(format!("{newest}/summary/total-records"), json!("99"))).await
        }
        _ => return None,
    })
}

/// A fresh table, damaged in one way, and what a check of it says.
pub(super) async fn report_of(code: Code) -> VerifyReport {
    use DataContentType::{Data, EqualityDeletes, PositionDeletes};
    let shop = Shop::open().await;
    let heads = VerifySnapshots::Heads;
    let mut deep = false;
    let mut table = shop.table.clone();
    let manifest = shop.manifests().await.remove(0).manifest_path;
    if let Some(report) = of_metadata(&shop, code).await {
        return report;
    }
    match code {
        Code::MetadataMissing => shop.storage().delete(table.metadata_location()).await.unwrap(),
        Code::MetadataLogMissing => {
            let earlier = &table.metadata().metadata_log()[1].metadata_file;
            shop.storage().delete(earlier).await.unwrap();
        }
        Code::SpecUnknown => shop.relist(|m| m[0].partition_spec_id = 9).await,
        Code::ManifestListMissing => {
            shop.storage().delete(shop.head().manifest_list()).await.unwrap();
        }
        Code::ManifestListUnreadable => shop.spoil(shop.head().manifest_list()).await,
        Code::ManifestMissing => shop.storage().delete(&manifest).await.unwrap(),
        Code::ManifestUnreadable => shop.spoil(&manifest).await,
        Code::ManifestLength => shop.relist(|m| m[0].manifest_length -= 1).await,
        Code::ManifestCounts => shop.relist(|m| m[0].added_files_count = Some(7)).await,
        Code::ManifestMinSequence => shop.relist(|m| m[0].min_sequence_number = 9).await,
        Code::ManifestPartitions => {
            let none = |m: &mut Vec<ManifestFile>| {
                m[0].partitions.as_mut().unwrap()[0].upper_bound = Some(vec![0; 4].into());
            };
            shop.relist(none).await;
        }
        Code::ManifestContent => {
            let is_data = |m: &&mut ManifestFile| m.content == ManifestContentType::Data;
            let swap = |m: &mut Vec<ManifestFile>| {
                m.iter_mut().find(is_data).unwrap().content = ManifestContentType::Deletes;
            };
            shop.relist(swap).await;
        }
        Code::SequenceBeyondFile => {
            shop.remake(Data, |e| e.sequence_number = e.file_sequence_number.next()).await;
        }
        Code::DuplicateFile => shop.relist(|m| m.push(m[0].clone())).await,
        Code::EqualityIds => {
            shop.remake_file(EqualityDeletes, |f| f.equality_ids = Some(vec![77])).await;
        }
        Code::DataFileMissing | Code::DeleteFileMissing => {
            let content = if code == Code::DataFileMissing { Data } else { PositionDeletes };
            shop.storage().delete(&shop.path_of(content).await).await.unwrap();
        }
        Code::FileSize => shop.remake_file(Data, |f| f.file_size_in_bytes += 1).await,
        Code::FileUnreadable => shop.spoil(&shop.path_of(EqualityDeletes).await).await,
        Code::RecordCount => shop.remake_file(Data, |f| f.record_count += 1).await,
        Code::DeleteCount => shop.remake_file(EqualityDeletes, |f| f.record_count += 1).await,
        Code::Bounds => {
            let above = |f: &mut DataFile| f.lower_bounds = bounds(&[(1, 1000i64)]);
            shop.remake_file(Data, above).await;
        }
        Code::NullCount => shop.remake_file(Data, |f| f.null_value_counts = counts(2, 1)).await,
        Code::NanCount => {
            deep = true;
            shop.remake_file(Data, |f| f.nan_value_counts = counts(3, 1)).await;
        }
        Code::ValueCount => shop.remake_file(Data, |f| f.value_counts = counts(1, 99)).await,
        Code::RowPartition => {
            deep = true;
            let astray = file(&table, &[row(7, "x", 2)], kit::day(0, 1)).await;
            table = table.append(astray).commit().await.unwrap().table;
        }
        Code::EqualityColumn => {
            shop.remake_file(EqualityDeletes, |f| f.equality_ids = Some(vec![1, 2])).await;
        }
        Code::PositionBeyondFile => {
            deep = true;
            table = shop.delete_positions(&[0, 99]).await;
        }
        Code::PositionOrder => {
            deep = true;
            table = shop.delete_positions(&[1, 0]).await;
        }
        Code::PositionPartition => {
            let moved = kit::day(0, 7).values;
            shop.remake_file(PositionDeletes, |f| f.partition = moved).await;
        }
        Code::DeleteDangling => {
            let deletes = delete_ids(&table, &[1], kit::day(0, 9)).await;
            table = table.row_delta(deletes).commit().await.unwrap().table;
        }
        Code::OutsideLocation => {
            let mut moved = shop.file_of(Data).await.1.file.as_ref().clone();
            let bytes = shop.storage().read(&moved.file_path).await.unwrap();
            moved.file_path = "memory:///elsewhere/a.parquet".to_string();
            shop.storage().write(&moved.file_path, bytes).await.unwrap();
            table = table.append(kit::rows([moved])).commit().await.unwrap().table;
        }
        Code::NotChecked => {
            shop.remake_file(Data, |f| f.file_format = DataFileFormat::Avro).await;
        }
        Code::Unavailable => {
            let plan = FaultPlan { refused: 1000, ..FaultPlan::none() };
            let (store, _) = shop.storage().resolve("memory:///t").unwrap();
            let faulty = Arc::new(FaultyStore::new(store, 1, plan));
            let storage = Storage::default().with_store("memory://", faulty);
            table = shop.with(table.metadata().as_ref().clone(), storage);
        }
        other => panic!("nobody damages a table by {other}"),
    }
    verify(&table, heads, deep).await
}

fn counts(id: i32, n: u64) -> IdMap {
    [(id, n)].into_iter().collect()
}

fn bounds(values: &[(i32, i64)]) -> IdBytes {
    values.iter().map(|(id, value)| (*id, value.to_le_bytes().to_vec())).collect()
}
