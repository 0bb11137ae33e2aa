//! Statistics that prove a delete file harmless for one data file.
//!
//! Everything unknown counts as "may meet". Pure.

use super::columns::KeyColumns;
use super::index::id_set;
use crate::error::{Error, Result};
use crate::spec::{DataFile, Datum, PrimitiveType, TableMetadata};

/// What a delete file's manifest entry says about one of its equality columns.
#[derive(Debug, Clone)]
pub(super) struct KeyStats {
    field_id: i32,
    key_type: PrimitiveType,
    range: Option<(Datum, Datum)>,
    nulls: Nulls,
}

/// What is known about nulls in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nulls {
    Unknown,
    None,
    Some,
    All,
}

impl KeyStats {
    /// Statistics of every equality column, decoded in the column's widest type.
    pub(super) fn of(file: &DataFile, metadata: &TableMetadata) -> Result<Vec<Self>> {
        let ids = id_set(file);
        if ids.is_empty() {
            return Err(Error::corrupt("equality delete file has no equality ids")
                .with_context("delete file", &file.file_path));
        }
        let columns = KeyColumns::resolve(&ids, metadata)
            .map_err(|e| e.with_context("delete file", &file.file_path))?;
        let stats_of = |column: &super::KeyColumn| Self {
            field_id: column.field_id,
            key_type: column.key_type.clone(),
            range: range(file, column.field_id, &column.key_type),
            nulls: nulls(file, column.field_id),
        };
        Ok(columns.iter().map(stats_of).collect())
    }
}

/// A column's id, nulls and bounds.
type KnownBounds = (i32, Nulls, Option<(Datum, Datum)>);

/// Decoded statistics of one data file, filled as delete files ask for them.
pub(super) struct FileBounds<'a> {
    file: &'a DataFile,
    known: Vec<KnownBounds>,
}

impl<'a> FileBounds<'a> {
    pub(super) fn new(file: &'a DataFile) -> Self {
        Self { file, known: Vec::new() }
    }

    /// False when some equality column proves that no row of the file is named (DEL-5).
    pub(super) fn can_meet(&mut self, delete: &[KeyStats]) -> bool {
        delete.iter().all(|key| {
            let at = self.position_of(key);
            let Some((_, nulls, range)) = self.known.get(at) else { return true };
            let may_have_null = |n: Nulls| n != Nulls::None;
            if may_have_null(*nulls) && may_have_null(key.nulls) {
                return true;
            }
            if *nulls == Nulls::All || key.nulls == Nulls::All {
                return false; // the other side has no null, or we had returned above
            }
            match (range, &key.range) {
                (Some((low, high)), Some((delete_low, delete_high))) => {
                    !(high < delete_low || delete_high < low)
                }
                _ => true,
            }
        })
    }

    fn position_of(&mut self, key: &KeyStats) -> usize {
        if let Some(at) = self.known.iter().position(|(id, ..)| *id == key.field_id) {
            return at;
        }
        let range = range(self.file, key.field_id, &key.key_type);
        self.known.push((key.field_id, nulls(self.file, key.field_id), range));
        self.known.len() - 1
    }
}

fn nulls(file: &DataFile, id: i32) -> Nulls {
    match (file.null_value_counts.get(id), file.value_counts.get(id)) {
        (Some(0), _) => Nulls::None,
        (Some(nulls), Some(values)) if nulls >= values => Nulls::All,
        (Some(_), _) => Nulls::Some,
        (None, _) => Nulls::Unknown,
    }
}

/// Bounds say nothing about NaN, and NaN equals NaN in an equality delete: the range of a
/// floating column counts only when the column is known to hold no NaN.
fn range(file: &DataFile, id: i32, key_type: &PrimitiveType) -> Option<(Datum, Datum)> {
    let is_float = matches!(key_type, PrimitiveType::Float | PrimitiveType::Double);
    if is_float && file.nan_value_counts.get(id) != Some(0) {
        return None;
    }
    Some((file.lower_bound(id, key_type)?, file.upper_bound(id, key_type)?))
}

/// True when the `file_path` bounds of a position delete file exclude `path` (DEL-6).
pub(super) fn is_outside_path_bounds(path: &str, delete: &DataFile) -> bool {
    const FILE_PATH: i32 = 2_147_483_546;
    let below = delete.lower_bounds.get(FILE_PATH).is_some_and(|low| path.as_bytes() < low);
    let above = delete.upper_bounds.get(FILE_PATH).is_some_and(|high| path.as_bytes() > high);
    below || above
}
