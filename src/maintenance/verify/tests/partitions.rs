//! Rows and the partitions that their files claim.

use std::sync::Arc;

use arrow::array::{Array, Int32Array, Int64Array, RecordBatch, StringArray};

use super::damage::verify;
use super::*;
use crate::dml::tests::fixture::{file, row};
use crate::file::arrow_schema;
use crate::spec::*;
use crate::table::tests::kit;
use crate::write::AppendOptions;

/// Rows `(id, name, day)`.
type Rows<'a> = &'a [(i64, Option<&'a str>, Option<i32>)];

async fn partitioned_by(fields: &[(i32, Transform)]) -> Table {
    let fields = fields.iter().enumerate().map(|(at, (source_id, transform))| {
        let name = format!("p{at}");
        UnboundPartitionField { source_id: *source_id, field_id: None, name, transform: *transform }
    });
    let spec = UnboundPartitionSpec::builder().add_partition_fields(fields).unwrap().build();
    kit::table_with(spec, &[]).await.1
}

async fn append(table: &Table, rows: Rows<'_>) -> Table {
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(StringArray::from_iter(rows.iter().map(|r| r.1))),
        Arc::new(Int32Array::from_iter(rows.iter().map(|r| r.2))),
    ];
    let batch = RecordBatch::try_new(arrow_schema(table.schema()).unwrap(), columns).unwrap();
    let mut writer = table.append_writer(AppendOptions::default()).unwrap();
    writer.write(batch).await.unwrap();
    table.append(writer.close().await.unwrap()).commit().await.unwrap().table
}

/// What a deep check says about partitions; the shallow one reads no rows and says nothing.
async fn found(table: &Table) -> Vec<String> {
    assert!(!verify(table, VerifySnapshots::Heads, false).await.has(Code::RowPartition));
    let report = verify(table, VerifySnapshots::Heads, true).await;
    let is_it = |f: &&Finding| f.code == Code::RowPartition;
    report.findings.iter().filter(is_it).map(|f| f.cause.clone()).collect()
}

#[tokio::test]
async fn rows_in_the_wrong_partition_are_found_whatever_the_transform() {
    let transforms = [(3, Transform::Identity), (2, Transform::Truncate(1))];
    let transforms = [&transforms[..], &[(1, Transform::Bucket(4)), (1, Transform::Void)]].concat();
    let table = partitioned_by(&transforms).await;
    let rows =
        [(1, Some("ab"), Some(1)), (2, None, None), (3, Some("äx"), Some(-1)), (4, None, Some(1))];
    let table = append(&table, &rows).await;
    assert_eq!(found(&table).await, [""; 0], "our own writer knows where rows belong");

    let bucket_of_9 = {
        let hash = create_transform_function(&Transform::Bucket(4)).unwrap();
        hash.transform_literal(&Datum::long(9)).unwrap().unwrap()
    };
    let PrimitiveLiteral::Int(right) = *bucket_of_9.literal() else { panic!("a bucket is an int") };
    let claim = |day: Option<i32>, name: Option<&str>, bucket: i32| PartitionKey {
        spec_id: 0,
        values: Struct::from_iter([
            day.map(Literal::int),
            name.map(Literal::string),
            Some(Literal::int(bucket)),
            None,
        ]),
    };
    for (key, wrong) in [
        (claim(Some(5), Some("n"), right), None),
        (
            claim(Some(6), Some("n"), right),
            Some("p0 = 6, but 1 of its rows are elsewhere, such as in 5"),
        ),
        (
            claim(None, Some("n"), right),
            Some("p0 = null, but 1 of its rows are elsewhere, such as in 5"),
        ),
        (
            claim(Some(5), Some("m"), right),
            Some("p1 = \"m\", but 1 of its rows are elsewhere, such as in \"n\""),
        ),
        (claim(Some(5), Some("n"), (right + 1) % 4), Some("p2 = ")),
    ] {
        let table = partitioned_by(&transforms).await;
        let written = file(&table, &[row(9, "nine", 5)], key.clone()).await;
        let table = table.append(written).commit().await.unwrap().table;
        let found = found(&table).await;
        assert_eq!(found.len(), usize::from(wrong.is_some()), "{key:?}: {found:?}");
        assert!(found.iter().all(|cause| cause.contains(wrong.unwrap())), "{found:?}");
    }
}

#[tokio::test]
async fn a_null_in_a_partition_that_has_a_value_is_astray() {
    let table = partitioned_by(&[(3, Transform::Identity)]).await;
    let rows = [(1, Some("a".to_string()), Some(5)), (2, None, None), (3, None, Some(5))];
    let written = file(&table, &rows, kit::day(0, 5)).await;
    let table = table.append(written).commit().await.unwrap().table;
    let said = "it claims p0 = 5, but 1 of its rows are elsewhere, such as in null";
    assert_eq!(found(&table).await, [said]);
}

#[tokio::test]
async fn a_partition_by_a_column_dropped_since_is_checked_as_well() {
    let table = partitioned_by(&[(3, Transform::Identity)]).await;
    let right = file(&table, &[row(1, "a", 5)], kit::day(0, 5)).await;
    let table = table.append(right).commit().await.unwrap().table;
    let wrong = file(&table, &[row(2, "b", 6)], kit::day(0, 5)).await;
    let table = table.append(wrong).commit().await.unwrap().table;
    let table = table.update_spec().remove_field("p0").commit().await.unwrap();
    let table = table.update_schema().drop_column("day").commit().await.unwrap();
    assert!(table.schema().field_by_id(3).is_none());
    assert_eq!(found(&table).await.len(), 1);
}
