use super::kit::*;
use crate::error::ErrorKind;
use crate::spec::*;

#[tokio::test]
async fn columns_are_added_renamed_widened_moved_and_dropped_by_id() {
    let (_, table) = table().await;
    let nested = Type::Struct(StructType::new(vec![
        NestedField::optional(1, "zip", Type::Primitive(PrimitiveType::Int)).into(),
    ]));
    let table = table
        .update_schema()
        .add_column("address", nested, Some("where"))
        .add_column("address.city", Type::Primitive(PrimitiveType::String), None)
        .widen_column("address.zip", PrimitiveType::Long)
        .rename_column("name", "title")
        .widen_column("day", PrimitiveType::Long)
        .move_column("day", None)
        .commit()
        .await
        .unwrap();
    let schema = table.schema();
    let names: Vec<_> = schema.as_struct().fields().iter().map(|f| f.name.clone()).collect();
    assert_eq!(names, ["day", "id", "title", "address"]);
    assert_eq!(schema.field_id_by_name("title"), Some(2));
    let ids = ["address", "address.zip", "address.city"].map(|n| schema.field_id_by_name(n));
    assert_eq!(ids, [Some(4), Some(5), Some(6)]);
    assert_eq!(
        *schema.field_by_name("address.zip").unwrap().field_type,
        Type::Primitive(PrimitiveType::Long)
    );

    let table = table.update_schema().drop_column("title").commit().await.unwrap();
    let table = table
        .update_schema()
        .add_column("title", Type::Primitive(PrimitiveType::Int), None)
        .commit()
        .await
        .unwrap();
    assert_eq!(table.schema().field_id_by_name("title"), Some(7), "ids are never used again");
    assert_eq!(table.schema().identifier_field_ids().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn changes_that_would_break_the_table_are_refused() {
    let (_, table) = partitioned().await;
    let update = || table.update_schema();
    let cases = [
        update().drop_column("id"),
        update().drop_column("day"),
        update().drop_column("nope"),
        update().make_optional("id"),
        update().widen_column("id", PrimitiveType::Int),
        update().add_column("id", Type::Primitive(PrimitiveType::Int), None),
        update().add_column("name.x", Type::Primitive(PrimitiveType::Int), None),
        update().rename_column("name", "id"),
        update().set_identifier_fields(["name"]),
    ];
    for case in cases {
        let shown = format!("{case:?}");
        let error = case.commit().await.expect_err(&shown);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error} for {shown}");
    }
}

#[tokio::test]
async fn specs_evolve_and_an_earlier_spec_takes_its_id_again() {
    let (_, table) = table().await;
    let first = table.metadata().default_partition_spec_id();
    let table =
        table.update_spec().add_field("id", Transform::Bucket(4), None).commit().await.unwrap();
    let second = table.metadata().default_partition_spec_id();
    assert_ne!(first, second);
    let field = table.metadata().default_partition_spec().fields()[0].clone();
    assert_eq!(field.name, "id_bucket_4");
    let table = table.update_spec().remove_field("id_bucket_4").commit().await.unwrap();
    assert_eq!(table.metadata().default_partition_spec_id(), first);
    let table =
        table.update_spec().add_field("id", Transform::Bucket(4), None).commit().await.unwrap();
    assert_eq!(table.metadata().default_partition_spec_id(), second);
    assert_eq!(table.metadata().default_partition_spec().fields()[0].field_id, field.field_id);
    let error = table.update_spec().add_field("name", Transform::Day, None).commit().await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn properties_are_set_and_removed() {
    let (_, table) = table().await;
    let table = table.update_properties().set("a", "1").set("b", "2").commit().await.unwrap();
    let table = table.update_properties().remove("a").remove("zzz").commit().await.unwrap();
    assert_eq!(table.metadata().properties().get("a"), None);
    assert_eq!(table.metadata().properties()["b"], "2");
}

#[tokio::test]
async fn parts_that_cannot_go_are_refused_by_name() {
    let (_, table) = table().await;
    let string = || Type::Primitive(PrimitiveType::String);
    let map = Type::Map(MapType::new(
        NestedField::map_key_element(1, string()).into(),
        NestedField::map_value_element(2, string(), false).into(),
    ));
    let list = Type::List(ListType::new(NestedField::list_element(1, string(), false).into()));
    let one = Type::Struct(StructType::new(vec![NestedField::optional(1, "x", string()).into()]));
    let table = table
        .update_schema()
        .add_column("m", map, None)
        .add_column("l", list, None)
        .add_column("s", one, None)
        .commit()
        .await
        .unwrap();
    let order = SortOrder::builder()
        .with_order_id(1)
        .with_sort_field(
            SortField::builder()
                .source_id(2)
                .transform(Transform::Identity)
                .direction(SortDirection::Ascending)
                .null_order(NullOrder::First)
                .build(),
        )
        .build_unbound()
        .unwrap();
    let updates = vec![
        TableUpdate::AddSortOrder { sort_order: order },
        TableUpdate::SetDefaultSortOrder { sort_order_id: -1 },
    ];
    table.catalog().commit(table.ident(), vec![], updates).await.unwrap();
    for name in ["m.key", "m.value", "l.element", "s.x", "name"] {
        let error = table.update_schema().drop_column(name).commit().await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error} for {name}");
        assert!(error.to_string().contains(name) && error.hint().is_some(), "{error} for {name}");
    }
    let error = table.update_schema().rename_column("l.element", "x").commit().await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
}
