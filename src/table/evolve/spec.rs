//! Partition evolution: new data goes under a new spec, old files keep theirs.

use crate::error::{Error, Result};
use crate::spec::{
    PartitionSpec, TableRequirement, Transform, UnboundPartitionField, UnboundPartitionSpec,
};

use super::super::Table;
use super::super::commit::metadata_builder;
use super::{Change, apply};

/// A change of the partition spec in the making.
#[derive(Debug, Clone)]
#[must_use = "nothing changes before `commit` is awaited"]
pub struct SpecUpdate {
    table: Table,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Add { column: String, transform: Transform, name: Option<String> },
    Remove { name: String },
    Rename { name: String, to: String },
}

impl SpecUpdate {
    pub(super) fn new(table: Table) -> Self {
        Self { table, steps: Vec::new() }
    }

    /// Partitions by a transform of a column. Without a name it is called `column_transform`, the
    /// column itself for `identity`.
    pub fn add_field(mut self, column: &str, transform: Transform, name: Option<&str>) -> Self {
        let (column, name) = (column.to_string(), name.map(str::to_string));
        self.steps.push(Step::Add { column, transform, name });
        self
    }

    /// Stops partitioning by a field.
    pub fn remove_field(mut self, name: &str) -> Self {
        self.steps.push(Step::Remove { name: name.into() });
        self
    }

    /// Renames a partition field.
    pub fn rename_field(mut self, name: &str, to: &str) -> Self {
        self.steps.push(Step::Rename { name: name.into(), to: to.into() });
        self
    }

    /// Makes the change. A spec equal to an earlier one takes that one's id again.
    ///
    /// # Errors
    /// `InvalidInput` naming the field or column; then as any commit.
    pub async fn commit(self) -> Result<Table> {
        apply(&self.table, |base| {
            let spec = evolve(base, &self.steps)?;
            let requirements = vec![
                TableRequirement::CurrentSchemaIdMatch {
                    current_schema_id: base.metadata().current_schema_id(),
                },
                TableRequirement::LastAssignedPartitionIdMatch {
                    last_assigned_partition_id: base.metadata().last_partition_id(),
                },
                TableRequirement::DefaultSpecIdMatch {
                    default_spec_id: base.metadata().default_partition_spec_id(),
                },
            ];
            let builder = metadata_builder(base).add_default_partition_spec(spec)?;
            Change::from_builder(builder, requirements)
        })
        .await
    }
}

fn evolve(base: &Table, steps: &[Step]) -> Result<UnboundPartitionSpec> {
    let current: &PartitionSpec = base.metadata().default_partition_spec();
    let mut fields: Vec<UnboundPartitionField> = current
        .fields()
        .iter()
        .map(|f| UnboundPartitionField {
            source_id: f.source_id,
            field_id: Some(f.field_id),
            name: f.name.clone(),
            transform: f.transform,
        })
        .collect();
    for step in steps {
        match step {
            Step::Add { column, transform, name } => {
                fields.push(new_field(base, column, *transform, name.as_deref(), &fields)?);
            }
            Step::Remove { name } => {
                let at = position(&fields, name)?;
                fields.remove(at);
            }
            Step::Rename { name, to } => {
                let at = position(&fields, name)?;
                fields[at].name.clone_from(to);
            }
        }
    }
    let mut spec = UnboundPartitionSpec::builder();
    for field in fields {
        spec = spec.add_partition_fields([field])?;
    }
    Ok(spec.build())
}

fn position(fields: &[UnboundPartitionField], name: &str) -> Result<usize> {
    fields.iter().position(|f| f.name == name).ok_or_else(|| {
        let names: Vec<&str> = fields.iter().map(|f| f.name.as_str()).collect();
        Error::invalid(format!("the partition spec has no field `{name}`"))
            .with_hint(format!("its fields are: {}", names.join(", ")))
    })
}

fn new_field(
    base: &Table,
    column: &str,
    transform: Transform,
    name: Option<&str>,
    fields: &[UnboundPartitionField],
) -> Result<UnboundPartitionField> {
    let schema = base.schema();
    let Some(source) = schema.field_by_name(column) else {
        let fields = schema.as_struct().fields().iter();
        let names: Vec<&str> = fields.map(|field| field.name.as_str()).collect();
        return Err(Error::invalid(format!("the table has no column `{column}`"))
            .with_hint(format!("its columns are {}", names.join(", "))));
    };
    transform.result_type(&source.field_type).map_err(|e| {
        Error::invalid(format!("column `{column}` cannot be partitioned by {transform}"))
            .with_context("its type", &source.field_type)
            .with_hint("identity, bucket and truncate take most types; year to hour take times")
            .with_source(e)
    })?;
    if fields.iter().any(|f| f.source_id == source.id && f.transform == transform) {
        return Err(Error::invalid(format!(
            "the table is partitioned by {transform} of `{column}` already"
        ))
        .with_hint("remove that field first, or choose another transform"));
    }
    let name = match name {
        Some(name) => name.to_string(),
        None => default_name(column, transform),
    };
    Ok(UnboundPartitionField { source_id: source.id, field_id: None, name, transform })
}

/// The name that other engines give: `ts_day`, `id_bucket_16`, the column itself for identity.
fn default_name(column: &str, transform: Transform) -> String {
    match transform {
        Transform::Identity => column.to_string(),
        Transform::Bucket(n) => format!("{column}_bucket_{n}"),
        Transform::Truncate(n) => format!("{column}_trunc_{n}"),
        other => format!("{column}_{other}"),
    }
}
