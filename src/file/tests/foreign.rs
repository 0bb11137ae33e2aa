//! Files as other writers make them, and broken ones.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{
    DataType, Decimal128Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type as PInt32, Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::round_trip::sample_batch;
use super::*;

/// A file as an Arrow writer without Iceberg makes it, its Arrow schema embedded.
pub(super) async fn write_plain(
    storage: &Storage,
    location: &str,
    batch: &RecordBatch,
) -> Result<()> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(batch)?;
    storage.write(location, Bytes::from(writer.into_inner()?)).await
}

#[tokio::test]
async fn views_dictionaries_and_other_time_units_come_out_as_the_tables_types() -> Result<()> {
    let storage = memory();
    let nanos = [5_000, -1, 1_700_000_000_000_000_123];
    let words: DictionaryArray<arrow::datatypes::Int32Type> = ["a", "b", "a"].into_iter().collect();
    let batch = RecordBatch::try_from_iter([
        ("ns", Arc::new(TimestampNanosecondArray::from(nanos.to_vec())) as ArrayRef),
        ("ms", Arc::new(TimestampMillisecondArray::from(vec![1, -1, 0]).with_timezone("+00:00"))),
        ("view", Arc::new(StringViewArray::from(vec!["x", "a long string beyond a view", ""]))),
        ("dict", Arc::new(words)),
        ("time", Arc::new(Time32MillisecondArray::from(vec![0, 1, 86_399_999]))),
        ("large", Arc::new(LargeBinaryArray::from(vec![&b"1"[..], b"22", b""]))),
        ("tiny", Arc::new(Int8Array::from(vec![1, -2, 3]))),
    ])?;
    write_plain(&storage, "memory://t/v", &batch).await?;
    use PrimitiveType::*;
    let types = [Timestamp, Timestamptz, String, String, Time, Binary, Long];
    let arrow = batch.schema();
    let fields = types.into_iter().zip(1..).zip(arrow.fields().iter().cloned());
    let schema = schema_of(
        fields.map(|((t, id), field)| optional(id, field.name(), primitive(t))).collect::<Vec<_>>(),
    );
    let out = read_all(&storage, FileRead::new("memory://t/v", schema)).await?;
    let micros =
        |c: usize| out.column(c).as_primitive::<TimestampMicrosecondType>().values().to_vec();
    assert_eq!(micros(0), [5, -1, 1_700_000_000_000_000], "rounded towards the past");
    assert_eq!(micros(1), [1_000, -1_000, 0]);
    assert_eq!(out.column(2).as_string::<i32>().value(1), "a long string beyond a view");
    assert_eq!(out.column(3).as_string::<i32>().value(2), "a");
    let times = out.column(4).as_primitive::<Time64MicrosecondType>();
    assert_eq!(times.values(), &[0, 1_000, 86_399_999_000]);
    assert_eq!(out.column(5).as_binary::<i32>().value(1), b"22");
    assert_eq!(out.column(6).as_primitive::<Int64Type>().values(), &[1, -2, 3]);
    Ok(())
}

#[tokio::test]
async fn int96_text_without_annotation_and_odd_decimals_are_read() -> Result<()> {
    let message = "message m {
        required int96 at = 1;
        required binary name = 2;
        required binary amount (DECIMAL(12, 2)) = 3;
        required int32 small (DECIMAL(5, 2)) = 4;
    }";
    let schema = Arc::new(parse_message_type(message)?);
    let mut writer =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::new()))?;
    let mut group = writer.next_row_group()?;
    // 2400-01-01T00:00:01: beyond what nanoseconds in 64 bits can hold.
    let julian_day = 2_440_588 + 157_054;
    let mut at = Int96::new();
    at.set_data(1_000_000_000, 0, julian_day);
    let mut column = group.next_column()?.unwrap();
    column.typed::<Int96Type>().write_batch(&[at], None, None)?;
    column.close()?;
    for bytes in [b"impala".to_vec(), vec![0xFF, 0x85]] {
        let mut column = group.next_column()?.unwrap();
        column.typed::<ByteArrayType>().write_batch(&[ByteArray::from(bytes)], None, None)?;
        column.close()?;
    }
    let mut column = group.next_column()?.unwrap();
    column.typed::<PInt32>().write_batch(&[-101], None, None)?;
    column.close()?;
    group.close()?;
    let storage = memory();
    storage.write("memory://t/i.parq", Bytes::from(writer.into_inner()?)).await?;

    use PrimitiveType::*;
    let table = schema_of([
        required(1, "at", primitive(Timestamptz)),
        required(2, "name", primitive(String)),
        required(3, "amount", primitive(Decimal { precision: 12, scale: 2 })),
        required(4, "small", primitive(Decimal { precision: 9, scale: 2 })),
    ]);
    let out = read_all(&storage, FileRead::new("memory://t/i.parq", table)).await?;
    let at = out.column(0).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(at.value(0), 157_054 * 86_400_000_000 + 1_000_000);
    assert_eq!(at.data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())));
    assert_eq!(out.column(1).as_string::<i32>().value(0), "impala");
    assert_eq!(out.column(2).as_primitive::<Decimal128Type>().value(0), -123);
    assert_eq!(out.column(3).as_primitive::<Decimal128Type>().value(0), -101);
    Ok(())
}

#[tokio::test]
async fn types_that_do_not_go_together_name_column_and_file() -> Result<()> {
    let storage = memory();
    let old = schema_of([optional(1, "id", primitive(PrimitiveType::String))]);
    let batch = sample_batch(&old, 9);
    write_file(&storage, "memory://t/w", &old, &[batch], &Default::default()).await?;
    for new in [primitive(PrimitiveType::Long), primitive(PrimitiveType::Date)] {
        let schema = schema_of([optional(1, "id", new)]);
        let error = read_all(&storage, FileRead::new("memory://t/w", schema)).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), crate::error::ErrorKind::CorruptData, "{text}");
        assert!(text.contains("memory://t/w") && text.contains("id"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_file_shorter_than_recorded_is_corrupt_and_a_missing_one_is_not_found() {
    let storage = memory();
    let schema = schema_of([optional(1, "id", primitive(PrimitiveType::Int))]);
    let batch = sample_batch(&schema, 9);
    let file = write_file(&storage, "memory://t/q", &schema, &[batch], &Default::default()).await;
    let size = file.unwrap().file_size_in_bytes;
    let kind = async |location: &str, size| {
        let file_size_in_bytes = Some(size);
        let request = FileRead { file_size_in_bytes, ..FileRead::new(location, schema.clone()) };
        read_all(&storage, request).await.unwrap_err().kind()
    };
    for wrong in [size + 1, size * 1_000] {
        assert_eq!(kind("memory://t/q", wrong).await, crate::error::ErrorKind::CorruptData);
    }
    assert_eq!(kind("memory://t/nobody", size).await, crate::error::ErrorKind::NotFound);
}

#[tokio::test]
async fn counting_rows_reads_nothing_but_the_footer() -> Result<()> {
    let storage = memory();
    let schema = schema_of([optional(1, "id", primitive(PrimitiveType::String))]);
    let batch = sample_batch(&schema, 5_000);
    let file = write_file(&storage, "memory://t/k", &schema, &[batch], &Default::default()).await?;
    // With its pages zeroed the file can only be counted.
    let mut bytes = storage.read("memory://t/k").await?.to_vec();
    let pages_end = footer(&storage, "memory://t/k", None).await?.row_group(0).compressed_size();
    bytes[4..pages_end as usize].fill(0);
    storage.write("memory://t/broken", Bytes::from(bytes)).await?;
    let none = schema_of([]);
    let out = read_all(&storage, FileRead::new("memory://t/broken", none)).await;
    // Batches without columns cannot be concatenated by rows; count them instead.
    drop(out);
    let mut rows = 0;
    let mut stream = read(&storage, FileRead::new("memory://t/broken", schema_of([]))).await?;
    while let Some(batch) = stream.try_next().await? {
        rows += batch.num_rows();
    }
    assert_eq!(rows as u64, file.record_count);
    assert!(read_all(&storage, FileRead::new("memory://t/broken", schema)).await.is_err());
    Ok(())
}

/// Every data and delete file of the fixtures: Flink, Spark, Impala, Hive, parquet-mr, PyIceberg,
/// DuckDB. Under its table's current schema each gives as many rows as its footer counts.
#[tokio::test]
async fn every_file_of_other_engines_is_read_under_its_tables_schema() -> Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fixtures");
    let storage = Storage::default();
    let mut files = 0;
    for fixture in std::fs::read_dir(folder).unwrap() {
        let table = fixture.unwrap().path().join("table");
        if !table.is_dir() {
            continue;
        }
        let metadata = latest_metadata(&table);
        let schema = all_optional(metadata.current_schema());
        let mapping = metadata.properties().get("schema.name-mapping.default");
        let mapping = mapping.map(|json| Arc::new(serde_json::from_str(json).unwrap()));
        for path in parquet_files(&table.join("data")) {
            let location = path.to_str().unwrap();
            let footer = footer(&storage, location, None).await?;
            let names = footer.file_metadata().schema_descr().columns();
            let deletes = names.iter().any(|c| c.name() == "file_path" || c.name() == "pos");
            let schema = if deletes { position_delete_schema()? } else { schema.clone() };
            let request =
                FileRead { name_mapping: mapping.clone(), ..FileRead::new(location, schema) };
            let out = read_all(&storage, request).await?;
            assert_eq!(out.num_rows() as i64, footer.file_metadata().num_rows(), "{location}");
            let empty = out.columns().iter().all(|c| c.null_count() == c.len());
            assert!(!empty || out.num_rows() == 0, "{location}: no column was found");
            files += 1;
        }
    }
    assert!(files > 50, "{files} files");
    Ok(())
}

fn latest_metadata(table: &std::path::Path) -> crate::spec::TableMetadata {
    let entries = std::fs::read_dir(table.join("metadata")).unwrap();
    let tables = entries.filter_map(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        serde_json::from_slice::<crate::spec::TableMetadata>(&bytes).ok()
    });
    tables.max_by_key(|t| (t.last_sequence_number(), t.last_updated_ms())).unwrap()
}

fn all_optional(schema: &Schema) -> SchemaRef {
    let fields = schema.as_struct().fields().iter();
    schema_of(fields.map(|f| optional(f.id, &f.name, f.field_type.as_ref().clone())))
}

fn parquet_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.extension().and_then(|e| e.to_str()) {
            _ if path.is_dir() => found.extend(parquet_files(&path)),
            Some("parquet" | "parq") => found.push(path),
            _ => {}
        }
    }
    found
}

fn small_file() -> (SchemaRef, Vec<u8>) {
    let schema = schema_of([
        optional(1, "a", primitive(PrimitiveType::Long)),
        optional(2, "b", primitive(PrimitiveType::String)),
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let bytes = runtime.block_on(async {
        let storage = memory();
        let batch = sample_batch(&schema, 100);
        write_file(&storage, "memory://t/f", &schema, &[batch], &Default::default()).await.unwrap();
        storage.read("memory://t/f").await.unwrap()
    });
    (schema, bytes.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn broken_files_give_errors_and_never_end_the_process(
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        keep in any::<proptest::sample::Index>(),
        cut in any::<bool>(),
        filtered in any::<bool>(),
    ) {
        static FILE: std::sync::LazyLock<(SchemaRef, Vec<u8>)> = std::sync::LazyLock::new(small_file);
        let (schema, sound) = &*FILE;
        let mut bytes = sound.clone();
        for (at, value) in &flips {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let storage = memory();
            storage.write("memory://t/x", Bytes::from(bytes)).await.unwrap();
            let filter = filtered.then(|| {
                let predicate = crate::expr::parse("a > 3 AND b > 'x'", schema).unwrap();
                crate::expr::bind(&predicate, schema, true).unwrap()
            });
            let request = FileRead { filter, ..FileRead::new("memory://t/x", schema.clone()) };
            if let Ok(stream) = read(&storage, request).await {
                let _ = stream.try_collect::<Vec<_>>().await;
            }
        });
    }
}
