//! Old files under new schemas.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};

use super::round_trip::sample_batch;
use super::*;
use crate::spec::{ListType, Literal, MappedField, NameMapping, StructType};

use PrimitiveType::*;

fn decimal_type(precision: u32) -> Type {
    primitive(Decimal { precision, scale: 2 })
}

fn struct_of(fields: Vec<NestedFieldRef>) -> Type {
    Type::Struct(StructType::new(fields))
}

#[tokio::test]
async fn promoted_columns_of_old_files_are_widened() -> Result<()> {
    let storage = memory();
    let list = |t: Type| Type::List(ListType::new(NestedField::list_element(9, t, false).into()));
    let old = schema_of([
        optional(1, "i", primitive(Int)),
        optional(2, "f", primitive(Float)),
        optional(3, "d", decimal_type(9)),
        optional(4, "s", struct_of(vec![optional(5, "n", primitive(Int))])),
        optional(8, "l", list(primitive(Int))),
    ]);
    let new = schema_of([
        optional(3, "d", decimal_type(20)),
        optional(1, "i2", primitive(Long)),
        optional(2, "f", primitive(Double)),
        optional(4, "s", struct_of(vec![optional(5, "renamed", primitive(Long))])),
        optional(8, "l", list(primitive(Long))),
    ]);
    let batch = sample_batch(&old, 50);
    write_file(&storage, "memory://t/o", &old, std::slice::from_ref(&batch), &Default::default())
        .await?;
    let out = read_all(&storage, FileRead::new("memory://t/o", new)).await?;
    for row in 0..50 {
        let old_i = batch.column(0).as_primitive::<Int32Type>();
        let new_i = out.column(1).as_primitive::<Int64Type>();
        assert_eq!(old_i.is_null(row), new_i.is_null(row));
        assert!(old_i.is_null(row) || i64::from(old_i.value(row)) == new_i.value(row));
    }
    let old_f: Vec<_> =
        batch.column(1).as_primitive::<arrow::datatypes::Float32Type>().iter().collect();
    let new_f: Vec<_> = out.column(2).as_primitive::<Float64Type>().iter().collect();
    assert_eq!(old_f.iter().map(|v| v.map(f64::from)).collect::<Vec<_>>(), new_f);
    let old_n = batch.column(3).as_struct().column(0).as_primitive::<Int32Type>().clone();
    let new_n = out.column(3).as_struct().column(0).as_primitive::<Int64Type>().clone();
    assert_eq!(batch.column(3).null_count(), out.column(3).null_count());
    for row in (0..50).filter(|r| out.column(3).is_valid(*r) && old_n.is_valid(*r)) {
        assert_eq!(i64::from(old_n.value(row)), new_n.value(row));
    }
    Ok(())
}

#[tokio::test]
async fn structs_gain_rename_and_lose_fields_by_id() -> Result<()> {
    let storage = memory();
    let old = schema_of([
        required(1, "id", primitive(Int)),
        optional(
            2,
            "s",
            struct_of(vec![optional(3, "a", primitive(Int)), optional(4, "b", primitive(String))]),
        ),
    ]);
    let batch = {
        let full = sample_batch(&schema_of(old.as_struct().fields()[1..].to_vec()), 20);
        let ids: ArrayRef = Arc::new(Int32Array::from_iter_values(0..20));
        RecordBatch::try_new(arrow_schema(&old)?, vec![ids, full.column(0).clone()])?
    };
    write_file(&storage, "memory://t/s", &old, std::slice::from_ref(&batch), &Default::default())
        .await?;
    let nulls = batch.column(1).nulls().cloned();

    // A field renamed, one new, one gone.
    let new = schema_of([optional(
        2,
        "s",
        struct_of(vec![optional(7, "c", primitive(Long)), optional(3, "z", primitive(Long))]),
    )]);
    let out = read_all(&storage, FileRead::new("memory://t/s", new)).await?;
    let s = out.column(0).as_struct();
    assert_eq!(s.nulls().cloned(), nulls);
    assert_eq!(s.column(0).null_count(), 20);
    assert!(s.column(1).null_count() < 20);

    // Only a field that the file lacks: the struct's own nulls must still be right.
    let only_new =
        schema_of([optional(2, "s", struct_of(vec![optional(7, "c", primitive(Long))]))]);
    let out = read_all(&storage, FileRead::new("memory://t/s", only_new)).await?;
    assert_eq!(out.column(0).nulls().cloned(), nulls);

    // The same name under another id is another column.
    let again = schema_of([optional(9, "id", primitive(String))]);
    let out = read_all(&storage, FileRead::new("memory://t/s", again)).await?;
    assert_eq!((out.num_rows(), out.column(0).null_count()), (20, 20));
    Ok(())
}

#[tokio::test]
async fn absent_columns_are_constants_then_null_and_required_ones_an_error() -> Result<()> {
    let storage = memory();
    let old = schema_of([optional(1, "id", primitive(Int))]);
    let batch = sample_batch(&old, 5);
    write_file(&storage, "memory://t/c", &old, &[batch], &Default::default()).await?;
    let new = schema_of([
        optional(1, "id", primitive(Int)),
        optional(2, "region", primitive(String)),
        optional(3, "day", primitive(Long)),
        optional(4, "later", primitive(Uuid)),
    ]);
    let constants = HashMap::from([
        (1, Literal::int(99)), // the file has the column: its values win
        (2, Literal::string("eu")),
        (3, Literal::int(7)), // written before int became long
    ]);
    let request = FileRead { constants, ..FileRead::new("memory://t/c", new) };
    let out = read_all(&storage, request).await?;
    assert_eq!(out.column(0).as_primitive::<Int32Type>().value(0), -500);
    assert_eq!(out.column(1).as_string::<i32>().value(4), "eu");
    assert_eq!(out.column(2).as_primitive::<Int64Type>().value(4), 7);
    assert_eq!(out.column(3).null_count(), 5);

    let demanding = schema_of([required(5, "must", primitive(Int))]);
    let error = read_all(&storage, FileRead::new("memory://t/c", demanding)).await.unwrap_err();
    assert!(error.to_string().contains("must") && error.to_string().contains("memory://t/c"));
    Ok(())
}

#[tokio::test]
async fn files_without_ids_are_read_by_mapping_or_by_position() -> Result<()> {
    let storage = memory();
    let plain = arrow::datatypes::Schema::new(vec![
        arrow::datatypes::Field::new("first", arrow::datatypes::DataType::Int32, true),
        arrow::datatypes::Field::new("second", arrow::datatypes::DataType::Utf8, true),
    ]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![1])), Arc::new(StringArray::from(vec!["x"]))];
    let batch = RecordBatch::try_new(Arc::new(plain), columns)?;
    super::foreign::write_plain(&storage, "memory://t/h", &batch).await?;
    let schema = schema_of([
        optional(2, "b", primitive(String)),
        optional(1, "a", primitive(Int)),
        optional(7, "c", primitive(String)),
    ]);
    let by_position = read_all(&storage, FileRead::new("memory://t/h", schema.clone())).await?;
    assert_eq!(by_position.column(0).as_string::<i32>().value(0), "x");
    assert_eq!(by_position.column(1).as_primitive::<Int32Type>().value(0), 1);

    let mapping = NameMapping::new(vec![MappedField::new(
        Some(7),
        vec!["zweite".to_string(), "second".to_string()],
        vec![],
    )]);
    let request =
        FileRead { name_mapping: Some(Arc::new(mapping)), ..FileRead::new("memory://t/h", schema) };
    let mapped = read_all(&storage, request).await?;
    assert_eq!(mapped.column(2).as_string::<i32>().value(0), "x");
    assert!(mapped.column(0).is_null(0) && mapped.column(1).is_null(0));
    Ok(())
}
