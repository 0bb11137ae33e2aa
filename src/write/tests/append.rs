//! Appends: partitions, rolling, budgets, clean-up.

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;

use super::*;
use crate::error::{ErrorKind, Result};
use crate::file::{FileRead, read};
use crate::spec::{Literal, Struct};
use crate::table::tests::kit::{partitioned, table};
use crate::write::AppendOptions;

#[tokio::test]
async fn rows_land_in_the_file_of_their_partition() -> Result<()> {
    let (_, table) = partitioned().await;
    let mut writer = table.append_writer(AppendOptions::default())?;
    writer.write(batch(&[(1, "a", Some(1)), (2, "b", None), (3, "c", Some(1))])).await?;
    writer.write(batch(&[(4, "d", Some(2)), (5, "e", Some(2))])).await?;
    let written = writer.close().await?;
    assert_eq!(written.data_files.len(), 3);
    assert_eq!(written.rows(), 5);
    for file in &written.data_files {
        let mut rows =
            read(table.storage(), FileRead::new(&file.file_path, table.schema().clone()))
                .await?
                .try_collect::<Vec<_>>()
                .await?;
        let rows = rows.remove(0);
        let days: Vec<_> = rows.column(2).as_primitive::<Int32Type>().iter().collect();
        let partition = Struct::from_iter([days[0].map(Literal::int)]);
        assert!(days.iter().all(|d| *d == days[0]));
        assert_eq!(file.partition, partition);
    }
    table.append(written).commit().await?;
    Ok(())
}

#[tokio::test]
async fn files_roll_at_the_target_and_the_oldest_is_closed_past_the_bound() -> Result<()> {
    let (_, table) = partitioned().await;
    let options = AppendOptions { max_open_files: 2, ..Default::default() };
    let mut writer = table.append_writer(options)?;
    for day in [1, 2, 3, 1] {
        writer.write(batch(&[(1, "a", Some(day))])).await?;
    }
    assert_eq!(writer.close().await?.data_files.len(), 4);

    let options = AppendOptions { target_file_size_bytes: Some(1), ..Default::default() };
    let mut writer = table.append_writer(options)?;
    for _ in 0..3 {
        writer.write(batch(&[(1, "a", Some(1))])).await?;
    }
    assert_eq!(writer.close().await?.data_files.len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_thousand_partitions_stay_within_the_memory_budget() -> Result<()> {
    let (_, table) = partitioned().await;
    let budget = 2 * 1024 * 1024;
    let options = AppendOptions { memory_budget_bytes: budget, ..Default::default() };
    let mut writer = table.append_writer(options)?;
    let long = "x".repeat(1_000);
    for round in 0..4 {
        let rows: Vec<_> = (0..1_000).map(|i| (round, long.as_str(), Some(i))).collect();
        writer.write(batch(&rows)).await?;
        assert!(writer.memory_bytes() <= budget as usize, "{}", writer.memory_bytes());
    }
    assert_eq!(writer.close().await?.rows(), 4_000);
    Ok(())
}

#[tokio::test]
async fn an_aborted_or_dropped_or_failed_append_leaves_no_files() -> Result<()> {
    let (_, table) = table().await;
    let small = || AppendOptions { target_file_size_bytes: Some(1), ..Default::default() };
    let mut writer = table.append_writer(small())?;
    writer.write(batch(&[(1, "a", None)])).await?;
    assert_eq!(stored(&table).await.len(), 1);
    writer.abort().await;
    assert!(stored(&table).await.is_empty());

    let mut writer = table.append_writer(small())?;
    writer.write(batch(&[(1, "a", None)])).await?;
    drop(writer);
    tokio::task::yield_now().await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(stored(&table).await.is_empty());

    let mut writer = table.append_writer(small())?;
    writer.write(batch(&[(1, "a", None)])).await?;
    let stranger =
        RecordBatch::try_from_iter([("who", Arc::new(StringArray::from(vec!["?"])) as ArrayRef)])?;
    assert_eq!(writer.write(stranger).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let again = writer.write(batch(&[(1, "a", None)])).await.unwrap_err();
    assert!(again.to_string().contains("who"), "{again} names the first cause");
    assert!(writer.close().await.is_err());
    assert!(stored(&table).await.is_empty());
    Ok(())
}
