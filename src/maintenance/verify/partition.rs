//! The deep check: do the rows lie in the partition that their file claims?
//!
//! Memory: one batch of the source columns.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, RecordBatch, Scalar};
use arrow::compute::kernels::cmp;
use futures::TryStreamExt;

use super::codes::Code;
use super::files::FileCheck;
use super::manifest::Problem;
use super::rows::open;
use crate::deletes::{KeyColumns, identity_constants};
use crate::error::{ErrorKind, Result};
use crate::expr;
use crate::file::{FileRead, leaf_at, leaf_path};
use crate::spec::{
    DataFile, Datum, Literal, PartitionField, PrimitiveLiteral, PrimitiveType, Schema, Transform,
    Type, datum_of,
};
use crate::write::{datums_of, transform};

/// Reads the source columns of a data file's partition and compares their transformed values with
/// what the file claims (MNT-69).
pub(super) async fn check(
    files: &FileCheck,
    file: &DataFile,
    size: u64,
    problems: &mut Vec<Problem>,
) -> Result<()> {
    let table = &files.table;
    let spec = table.spec(file.spec_id)?;
    let fields = spec.fields().iter().filter(|f| f.transform != Transform::Void);
    let ids: Vec<i32> = fields.map(|f| f.source_id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let constants = identity_constants(file, table.metadata())?;
    // Source columns that were dropped since are found in historic schemas.
    let schema = KeyColumns::resolve(&ids, table.metadata())?.schema()?;
    let types = table.partition_types(file.spec_id)?;
    let values = spec.fields().iter().zip(file.partition.iter()).zip(types.iter());
    let mut claims: Vec<Claim> = values
        .filter_map(|((field, value), kind)| Claim::new(field, value, kind, &schema))
        .collect();
    let mut request = FileRead::new(file.file_path.clone(), schema);
    (request.constants, request.name_mapping) = (constants, files.mapping.clone());
    let mut batches = open(files, request, size).await?;
    while let Some(batch) = batches.try_next().await? {
        for claim in &mut claims {
            match claim.compare(&batch) {
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    problems.push((Code::NotChecked, error.message().to_string()));
                    return Ok(());
                }
                other => other?,
            }
        }
    }
    problems.extend(claims.iter().filter_map(Claim::problem));
    Ok(())
}

/// What a file claims about one partition field, and the rows that belie it.
struct Claim {
    name: String,
    path: Vec<usize>,
    transform: Transform,
    kind: PrimitiveType,
    value: Option<Datum>,
    astray: u64,
    /// The value of a row that lies elsewhere.
    example: Option<Datum>,
}

impl Claim {
    /// `None` for a field that says nothing about rows.
    fn new(
        field: &PartitionField,
        value: Option<&Literal>,
        kind: &Type,
        schema: &Schema,
    ) -> Option<Self> {
        let Type::Primitive(kind) = kind else { return None };
        let value = match value {
            Some(Literal::Primitive(value)) => Some(datum_of(kind, value)?),
            _ => None,
        };
        (field.transform != Transform::Void).then_some(())?;
        Some(Self {
            name: field.name.clone(),
            path: leaf_path(schema, field.source_id)?,
            transform: field.transform,
            kind: kind.clone(),
            value,
            astray: 0,
            example: None,
        })
    }

    fn compare(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(source) = leaf_at(batch, &self.path).filter(|source| !source.is_empty()) else {
            return Ok(());
        };
        let values = transform(&source, self.transform)?;
        // Most batches are of one value: then one comparison answers for all rows.
        let first = values.slice(0, 1);
        let is_one = cmp::distinct(&values, &Scalar::new(first.clone()))?.true_count() == 0;
        let (look, times) = if is_one { (first, values.len() as u64) } else { (values, 1) };
        self.look(&look, times)
    }

    /// Counts the values that differ, each for so many rows.
    fn look(&mut self, values: &ArrayRef, times: u64) -> Result<()> {
        if self.value.is_some() {
            self.astray += values.null_count() as u64 * times;
        }
        for datum in datums_of(values, &self.kind)? {
            if !self.value.as_ref().is_some_and(|claimed| is_same(claimed, &datum)) {
                self.astray += times;
                self.example.get_or_insert(datum);
            }
        }
        Ok(())
    }

    fn problem(&self) -> Option<Problem> {
        let words = |datum: &Option<Datum>| {
            datum.as_ref().map_or_else(|| "null".to_string(), Datum::to_string)
        };
        let cause = || {
            format!(
                "it claims {} = {}, but {} of its rows are elsewhere, such as in {}",
                self.name,
                words(&self.value),
                self.astray,
                words(&self.example)
            )
        };
        (self.astray > 0).then(|| (Code::RowPartition, cause()))
    }
}

fn is_same(a: &Datum, b: &Datum) -> bool {
    let is_nan = |value: &PrimitiveLiteral| match value {
        PrimitiveLiteral::Float(v) => v.is_nan(),
        PrimitiveLiteral::Double(v) => v.is_nan(),
        _ => false,
    };
    let (a, b) = (a.literal(), b.literal());
    expr::compare(a, b) == Some(Ordering::Equal) || (is_nan(a) && is_nan(b))
}
