//! Time travel, pruning and refusals of plans.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use futures::TryStreamExt;

use super::*;
use crate::clock::{Environment, ManualClock};
use crate::error::ErrorKind;
use crate::kit;
use crate::spec::*;

fn ids(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn fields() -> Vec<NestedFieldRef> {
    vec![
        kit::optional(1, "id", PrimitiveType::Long),
        kit::optional(2, "name", PrimitiveType::String),
    ]
}

async fn tasks(scan: &TableScan) -> Result<Vec<FileScanTask>> {
    scan.plan().await?.try_collect().await
}

fn reference(id: i64, tag: bool) -> SnapshotReference {
    let branch = SnapshotRetention::branch(None, None, None);
    let tag_retention = SnapshotRetention::Tag { max_ref_age_ms: None };
    SnapshotReference::new(id, if tag { tag_retention } else { branch })
}

#[tokio::test]
async fn snapshots_and_tags_have_the_schema_of_their_time_and_branches_the_current_one() {
    let table = kit::table(fields());
    let clock = Arc::new(ManualClock::new(table.metadata().last_updated_ms() as u64 + 1));
    let environment = Environment { clock: clock.clone(), ..Environment::default() };
    let table = table.with_environment(environment);
    let rows = kit::batch(vec![("id", 1, ids(vec![1, 2]))]);
    let table = kit::append(&table, vec![kit::file(&table, "a", &rows).await]).await;
    clock.advance_ms(1000);
    let first = table.current_snapshot().unwrap().clone();
    let id = first.snapshot_id();
    let one = Schema::builder().with_fields(vec![fields()[0].clone()]).build().unwrap();
    let table = kit::changed(&table, |b| b.add_schema(one)?.set_current_schema(-1)).await;
    let table = kit::append(&table, vec![kit::file(&table, "b", &rows).await]).await;
    let table = kit::changed(&table, |b| {
        b.set_ref("old", reference(id, true))?.set_ref("side", reference(id, false))
    })
    .await;
    let main = At::Ref("main".into());
    for (at, columns, files) in [
        (At::Current, 1, 2),
        (main, 1, 2),
        (At::Snapshot(SnapshotId(id)), 2, 1),
        (At::TimeMs(first.timestamp_ms()), 2, 1),
        (At::Ref("old".into()), 2, 1),
        (At::Ref("side".into()), 1, 1),
    ] {
        let scan = table.scan().at(at.clone());
        assert_eq!(scan.context().unwrap().schema.as_struct().fields().len(), columns, "{at:?}");
        assert_eq!(tasks(&scan).await.unwrap().len(), files, "{at:?}");
    }
    for at in [At::Snapshot(SnapshotId(7)), At::TimeMs(0), At::Ref("none".into())] {
        let error = table.scan().at(at).context().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

#[tokio::test]
async fn unknown_and_unreachable_columns_are_refused_with_what_there_is() {
    let list = Type::List(ListType::new(
        NestedField::list_element(4, Type::Primitive(PrimitiveType::Int), false).into(),
    ));
    let mut columns = fields();
    columns.push(NestedField::optional(3, "l", list).into());
    let table = kit::table(columns);
    for name in ["nope", "ID", "l.element", "id.x"] {
        let error = table.scan().select([name]).context().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.hint().is_some());
    }
    let scan = table.scan().select(["ID", "NAME", "id"]).case_sensitive(false);
    let names: Vec<_> =
        scan.context().unwrap().arrow.fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["id", "name"]);
}

#[tokio::test]
async fn files_that_cannot_be_read_are_refused_by_name() {
    for (format, key, words) in [
        (DataFileFormat::Avro, None, "Avro"),
        (DataFileFormat::Orc, None, "ORC"),
        (DataFileFormat::Parquet, Some(vec![1]), "encrypted"),
    ] {
        let table = kit::table(fields());
        let rows = kit::batch(vec![("id", 1, ids(vec![1, 2]))]);
        let mut file = kit::file(&table, "strange", &rows).await;
        (file.file_format, file.key_metadata) = (format, key);
        let table = kit::commit_like_others(&table, ManifestContentType::Data, vec![file]).await;
        let error = tasks(&table.scan()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains("strange.parquet"), "{error}");
    }
}

fn with_bounds(mut file: DataFile, low: i64, high: i64) -> DataFile {
    file.value_counts = IdMap::from_iter([(1, file.record_count)]);
    file.null_value_counts = IdMap::from_iter([(1, 0)]);
    file.lower_bounds = IdBytes::from_iter([(1, low.to_le_bytes())]);
    file.upper_bounds = IdBytes::from_iter([(1, high.to_le_bytes())]);
    file
}

#[tokio::test]
async fn plans_leave_out_files_and_deletes_that_bounds_rule_out() {
    let table = kit::table(fields());
    let mut files = Vec::new();
    for n in 0..4i64 {
        let rows = kit::batch(vec![("id", 1, ids(vec![n * 10, n * 10 + 9]))]);
        let file = kit::file(&table, &format!("d{n}"), &rows).await;
        files.push(with_bounds(file, n * 10, n * 10 + 9));
    }
    let table = kit::append(&table, files).await;
    let mut deletes = Vec::new();
    for n in 0..4i64 {
        let rows = kit::batch(vec![("id", 1, ids(vec![n * 10]))]);
        let delete = kit::equality(&table, &format!("e{n}"), &rows, &[1]).await;
        deletes.push(with_bounds(delete, n * 10, n * 10));
    }
    let table = kit::delete(&table, deletes).await;
    let plan = |filter: &str| {
        let filter = crate::expr::parse(filter, table.schema()).unwrap();
        table.scan().filter(filter)
    };
    let all = tasks(&table.scan()).await.unwrap();
    assert!(all.len() == 4 && all.iter().all(|t| t.deletes.len() == 1 && t.residual.is_none()));
    let some = tasks(&plan("id >= 15 and id < 30")).await.unwrap();
    assert_eq!(some.len(), 2);
    assert_eq!(some.iter().filter(|t| t.residual.is_none()).count(), 1, "20..29 all pass");
    // The delete of key 10 cannot hit a row that passes.
    assert_eq!(some.iter().map(|t| t.deletes.len()).sum::<usize>(), 1);
    assert_eq!(tasks(&plan("id > 100")).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_table_without_commits_plans_nothing() {
    let table = kit::table(fields());
    assert_eq!(tasks(&table.scan()).await.unwrap().len(), 0);
    let strings: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let rows = kit::batch(vec![("name", 2, strings)]);
    let table = kit::append(&table, vec![kit::file(&table, "a", &rows).await]).await;
    let task = tasks(&table.scan()).await.unwrap().remove(0);
    assert_eq!((task.exact_rows(), task.sequence_number), (Some(1), SequenceNumber(1)));
}
