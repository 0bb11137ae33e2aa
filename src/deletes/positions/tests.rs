use std::sync::Arc;

use arrow::array::{
    DictionaryArray, Int32Array, Int64Array, LargeStringArray, StringArray, StringViewArray,
};
use arrow::datatypes::Int32Type;

use super::*;

fn all_forms(paths: &[&str]) -> Vec<ArrayRef> {
    vec![
        Arc::new(StringArray::from(paths.to_vec())),
        Arc::new(LargeStringArray::from(paths.to_vec())),
        Arc::new(StringViewArray::from(paths.to_vec())),
        Arc::new(paths.iter().copied().collect::<DictionaryArray<Int32Type>>()),
    ]
}

fn batch(paths: ArrayRef, positions: ArrayRef, swapped: bool) -> RecordBatch {
    let mut columns = vec![("file_path", paths), ("pos", positions)];
    if swapped {
        columns.reverse();
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn every_kind_of_path_column_and_swapped_columns_give_the_same_bitmaps() {
    for swapped in [false, true] {
        for paths in all_forms(&["a", "a", "b", "a"]) {
            let kind = paths.data_type().clone();
            let batch = batch(paths, Arc::new(Int64Array::from(vec![7, 1, 0, 3])), swapped);
            let mut found = PositionsByPath::new();
            collect_positions(&batch, None, &mut found).unwrap();
            assert_eq!(found.len(), 2, "{kind}");
            assert_eq!(found["a"].iter().collect::<Vec<_>>(), [1, 3, 7], "{kind}");
            assert_eq!(found["b"].iter().collect::<Vec<_>>(), [0], "{kind}");
        }
    }
}

#[test]
fn only_the_wanted_path_is_kept_and_paths_match_as_written() {
    let paths = Arc::new(StringArray::from(vec!["file:///a", "/a", "file:///a"]));
    let batch = batch(paths, Arc::new(Int64Array::from(vec![1, 2, 3])), false);
    let mut found = PositionsByPath::new();
    collect_positions(&batch, Some("/a"), &mut found).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["/a"]);
    assert_eq!(found["/a"].iter().collect::<Vec<_>>(), [2]);
}

#[test]
fn broken_position_rows_are_corrupt_data() {
    let mut found = PositionsByPath::new();
    let path = || Arc::new(StringArray::from(vec!["a"])) as ArrayRef;
    let cases: Vec<RecordBatch> = vec![
        batch(path(), Arc::new(Int64Array::from(vec![-1])), false),
        batch(path(), Arc::new(Int64Array::from(vec![None])), false),
        batch(path(), path(), false),
        batch(
            Arc::new(StringArray::from(vec![None::<&str>])),
            Arc::new(Int32Array::from(vec![1])),
            false,
        ),
        RecordBatch::try_from_iter([("file_path", path())]).unwrap(),
    ];
    for (at, case) in cases.iter().enumerate() {
        let error = collect_positions(case, None, &mut found).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::CorruptData, "case {at}: {error}");
    }
}
