//! Is a file there, and is it what its manifest entry says?

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use parquet::file::metadata::ParquetMetaData;

use super::codes::Code;
use super::manifest::Problem;
use super::{partition, rows};
use crate::deletes::KeyColumns;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::compare;
use crate::file::reserved::{DELETE_FILE_PATH, DELETE_POS};
use crate::file::{FooterFacts, footer, footer_facts};
use crate::spec::{
    DataContentType, DataFile, DataFileFormat, Datum, NameMapping, NestedFieldRef, PrimitiveType,
    Type, property,
};
use crate::table::Table;

/// Checks files of one table.
#[derive(Debug, Clone)]
pub(super) struct FileCheck {
    pub table: Table,
    /// The widest known type of every column that the table ever had.
    types: Arc<HashMap<i32, PrimitiveType>>,
    pub mapping: Option<Arc<NameMapping>>,
    deep: bool,
}

/// What a look at one file gave.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub problems: Vec<Problem>,
    /// Rows that were read.
    pub rows: u64,
}

impl FileCheck {
    pub fn new(table: &Table, deep: bool) -> Self {
        let metadata = table.metadata();
        let mut schemas: Vec<_> = metadata.schemas_iter().collect();
        schemas.sort_by_key(|s| (s.schema_id() == metadata.current_schema_id(), s.schema_id()));
        let mut types = HashMap::from([
            (DELETE_FILE_PATH, PrimitiveType::String),
            (DELETE_POS, PrimitiveType::Long),
        ]);
        for schema in schemas {
            add_types(schema.as_struct().fields(), &mut types);
        }
        let mapping = table.properties().get(property::NAME_MAPPING);
        let mapping = mapping.and_then(|json| serde_json::from_str(json).ok()).map(Arc::new);
        Self { table: table.clone(), types: Arc::new(types), mapping, deep }
    }

    /// Looks at one file; what is wrong is no error.
    pub async fn look(&self, file: &DataFile) -> Looked {
        let mut looked = Looked::default();
        if let Err(error) = self.look_inside(file, &mut looked).await {
            looked.problems.push(self.failed(file, &error));
        }
        looked
    }

    fn failed(&self, file: &DataFile, error: &Error) -> Problem {
        let code = match error.kind() {
            ErrorKind::NotFound if file.is_delete() => Code::DeleteFileMissing,
            ErrorKind::NotFound => Code::DataFileMissing,
            ErrorKind::Unavailable => Code::Unavailable,
            ErrorKind::Unsupported => Code::NotChecked,
            _ => Code::FileUnreadable,
        };
        (code, reason(error))
    }

    async fn look_inside(&self, file: &DataFile, looked: &mut Looked) -> Result<()> {
        let storage = self.table.storage();
        let size = storage.size(&file.file_path).await?;
        let problems = &mut looked.problems;
        if size != file.file_size_in_bytes {
            let cause = format!("it has {size} bytes, not {}", file.file_size_in_bytes);
            problems.push((Code::FileSize, cause));
        }
        if file.file_format != DataFileFormat::Parquet {
            let cause = format!("its format is {}", file.file_format);
            problems.push((Code::NotChecked, cause));
            return Ok(());
        }
        let footer = footer(storage, &file.file_path, Some(size)).await?;
        let rows = footer.row_groups().iter().map(|g| u64::try_from(g.num_rows()).unwrap_or(0));
        let rows = rows.fold(0, u64::saturating_add);
        if rows != file.record_count {
            let cause = format!("it has {rows} rows, not {}", file.record_count);
            let code = if file.is_delete() { Code::DeleteCount } else { Code::RecordCount };
            problems.push((code, cause));
        }
        let facts = footer_facts(&footer, &self.types, self.mapping.as_deref())?;
        for (id, facts) in &facts {
            let kind = self.types.get(id).unwrap_or(&PrimitiveType::Binary);
            self.compare(file, *id, kind, facts, problems);
        }
        if file.content == DataContentType::EqualityDeletes {
            self.check_keys(file, &footer, problems);
        }
        if self.deep && file.content != DataContentType::PositionDeletes {
            looked.rows = rows::check(self, file, size, &mut looked.problems).await?;
            if file.content == DataContentType::Data {
                partition::check(self, file, size, &mut looked.problems).await?;
            }
        }
        Ok(())
    }

    /// Counts and bounds of the manifest against what the footer proves.
    fn compare(
        &self,
        file: &DataFile,
        id: i32,
        kind: &PrimitiveType,
        facts: &FooterFacts,
        problems: &mut Vec<Problem>,
    ) {
        let column = self.column(id);
        let differ = |said: Option<u64>, is: Option<u64>| said.zip(is).filter(|(a, b)| a != b);
        if let Some((said, is)) = differ(file.value_counts.get(id), Some(facts.values)) {
            let cause = format!("column {column} has {is} values, not {said}");
            problems.push((Code::ValueCount, cause));
        }
        if let Some((said, is)) = differ(file.null_value_counts.get(id), facts.nulls) {
            problems.push((Code::NullCount, format!("column {column} has {is} nulls, not {said}")));
        }
        let lower = file.lower_bound(id, kind);
        if let Some(problem) = excludes(&column, lower, facts.least.as_ref(), Ordering::Greater) {
            problems.push(problem);
        }
        let upper = file.upper_bound(id, kind);
        if let Some(problem) = excludes(&column, upper, facts.greatest.as_ref(), Ordering::Less) {
            problems.push(problem);
        }
    }

    /// The name of a column in the current schema, else its id.
    pub fn column(&self, id: i32) -> String {
        match self.table.schema().name_by_field_id(id) {
            Some(name) => format!("`{name}`"),
            None => format!("with id {id}"),
        }
    }

    fn check_keys(&self, file: &DataFile, footer: &ParquetMetaData, problems: &mut Vec<Problem>) {
        let ids = file.equality_ids.as_deref().unwrap_or_default();
        if ids.is_empty() {
            problems.push((Code::EqualityIds, "it has no equality ids".to_string()));
            return;
        }
        if let Err(error) = KeyColumns::resolve(ids, self.table.metadata()) {
            problems.push((Code::EqualityIds, error.to_string()));
            return;
        }
        let columns = footer.file_metadata().schema_descr().columns();
        let infos = columns.iter().map(|c| c.self_type().get_basic_info());
        let held: Vec<i32> = infos.filter(|info| info.has_id()).map(|info| info.id()).collect();
        // Without ids, columns are found by name or position.
        for id in ids.iter().filter(|id| !held.is_empty() && !held.contains(id)) {
            let cause = format!("it lacks column {}, which it compares", self.column(*id));
            problems.push((Code::EqualityColumn, cause));
        }
    }
}

/// Why something could not be read, for people.
pub(super) fn reason(error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "the file is not there".to_string(),
        _ => error.message().to_string(),
    }
}

/// A bound that a value of the file lies beyond (MNT-62); `wrong` is how such a bound compares with it.
pub(super) fn excludes(
    column: &str,
    bound: Option<Datum>,
    value: Option<&Datum>,
    wrong: Ordering,
) -> Option<Problem> {
    let (bound, value) = bound.as_ref().zip(value)?;
    let is_wrong = compare(bound.literal(), value.literal()) == Some(wrong);
    let side = if wrong == Ordering::Greater { "lower" } else { "upper" };
    let cause = || format!("the {side} bound of column {column} is {bound}, a row has {value}");
    is_wrong.then(|| (Code::Bounds, cause()))
}

fn add_types(fields: &[NestedFieldRef], types: &mut HashMap<i32, PrimitiveType>) {
    for field in fields {
        match field.field_type.as_ref() {
            Type::Primitive(kind) => {
                types.insert(field.id, kind.clone());
            }
            Type::Struct(nested) => add_types(nested.fields(), types),
            Type::List(_) | Type::Map(_) => {}
        }
    }
}
