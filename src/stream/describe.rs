//! What a stream promises, and what the chosen options cost.

use std::fmt;

use super::builder::StreamOptions;
use super::groups::Order;
use crate::read::Emit;
use crate::table::{Table, Token};

/// An open stream in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The table.
    pub table: String,
    /// The branch.
    pub branch: String,
    /// The stream's name, if it has one.
    pub name: Option<String>,
    /// Which changes it gives.
    pub emit: Emit,
    /// In which order.
    pub order: Order,
    /// On how many lanes.
    pub lanes: usize,
    /// Where it began.
    pub start: Token,
    /// What the options cost, or leave open.
    pub notes: Vec<String>,
}

impl Description {
    pub(super) fn new(table: &Table, options: &StreamOptions, start: Token) -> Self {
        Self {
            table: table.ident().to_string(),
            branch: options.branch.clone(),
            name: options.name.clone(),
            emit: options.emit,
            order: options.order,
            lanes: options.lanes,
            start,
            notes: notes(table, options),
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, branch, emit, order, lanes, start, .. } = self;
        let order = match order {
            Order::PerPartition => "per partition",
            Order::PerSnapshot => "per snapshot",
            Order::Unordered => "none",
        };
        let name = self.name.as_deref().unwrap_or("without a name");
        writeln!(f, "stream {name}: {emit} of {table}, branch {branch}, from {start}")?;
        write!(f, "order {order}, lanes {lanes}")?;
        for note in &self.notes {
            write!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}

fn notes(table: &Table, options: &StreamOptions) -> Vec<String> {
    let mut notes = Vec::new();
    let spec = table.metadata().default_partition_spec();
    let many = options.lanes > 1;
    if spec.is_unpartitioned() && many && options.order != Order::Unordered {
        notes.push(
            "the table is not partitioned: its changes are one sequence, and one lane does all the \
             work; without order all lanes would"
                .to_string(),
        );
    }
    if options.max_drift.is_some() && !many {
        notes.push("max_drift has no effect on one lane".to_string());
    }
    if options.order == Order::PerSnapshot {
        notes.push("order per snapshot reads one file after the other".to_string());
    }
    if options.order == Order::Unordered && options.emit != Emit::Appends {
        notes.push(
            "without order, later changes of a row may come before earlier ones: legs and sequence \
             numbers of commits tell"
                .to_string(),
        );
    }
    if options.order == Order::PerPartition && options.emit != Emit::Appends {
        notes.extend(moving_keys(table, options));
    }
    if options.skip_deletes && options.emit == Emit::Appends {
        notes.push("snapshots that delete are skipped, with the rows they add".to_string());
    }
    for note in &notes {
        tracing::warn!(table = %table.ident(), "{note}");
    }
    notes
}

/// Whether a row can move to another partition under the same key, and so to another lane.
fn moving_keys(table: &Table, options: &StreamOptions) -> Option<String> {
    let key = options.key_ids(table).ok()?;
    if key.is_empty() {
        return None;
    }
    let spec = table.metadata().default_partition_spec();
    let outside = spec.fields().iter().find(|field| !key.contains(&field.source_id))?;
    let column = table.schema().name_by_field_id(outside.source_id).unwrap_or("a column");
    Some(format!(
        "the table is partitioned by `{column}`, which is not part of the key: an update that \
         moves a row to another partition is a delete there and an insert here, in no fixed order; \
         order per snapshot keeps them in order"
    ))
}
