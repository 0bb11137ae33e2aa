//! What travels from the stream to a printer: rows, what happened to them, and the token behind.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};

use crate::error::{Error, Result};
use crate::read::ChangeRows;
use crate::stream::{ChangeBatch, ChangeKind, Naming, SchemaChange};

/// On the last row of each batch: where to go on after it.
pub(super) const TOKEN_COLUMN: &str = "_token";

/// A batch of changes of one commit, as the printers take it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Changes {
    /// The rows, in the shape that the printer wants.
    pub(super) records: RecordBatch,
    /// What happened to each.
    pub(super) kinds: Vec<ChangeKind>,
    /// The commit that made them.
    pub(super) snapshot_id: i64,
    /// When that was.
    pub(super) committed_ms: i64,
    /// What it was besides a commit like others.
    pub(super) remark: Option<String>,
    /// Where to go on after the last row.
    pub(super) token: String,
}

impl Changes {
    /// Changes that no commit made: those between any two snapshots.
    pub(in crate::cli) fn uncommitted(changes: ChangeRows) -> Self {
        let ChangeRows { records, kinds, .. } = changes;
        let (remark, token) = (None, String::new());
        Self { records, kinds, snapshot_id: 0, committed_ms: 0, remark, token }
    }
}

/// Rows behind this have other columns.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Announced {
    /// What changed, and with which commit.
    pub(super) change: SchemaChange,
    /// The columns of batches behind it, in the shape that the printer wants.
    pub(super) columns: SchemaRef,
    /// Whether lines have a token.
    pub(super) has_token: bool,
}

/// What a printer takes, in order.
#[derive(Debug, Clone)]
pub(in crate::cli) enum Item {
    Changes(Changes),
    Schema(Announced),
}

/// Which columns a printer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The rows' own.
    Bare,
    /// The change behind them.
    Flat,
    /// The change and the token behind them.
    WithToken,
}

impl Shape {
    /// The columns of batches in this shape.
    ///
    /// # Errors
    /// `InvalidInput` if the table has a column of such a name.
    pub(super) fn schema(self, rows: &SchemaRef) -> Result<SchemaRef> {
        Ok(match self {
            Self::Bare => rows.clone(),
            Self::Flat => Naming::default().schema(rows)?,
            Self::WithToken => with_field(&Naming::default().schema(rows)?)?,
        })
    }

    /// An announcement, for a printer of this shape.
    ///
    /// # Errors
    /// As [`Shape::schema`].
    pub(super) fn announced(self, change: SchemaChange) -> Result<Announced> {
        let columns = self.schema(&change.arrow_schema)?;
        Ok(Announced { change, columns, has_token: self == Self::WithToken })
    }

    /// A batch in this shape.
    ///
    /// # Errors
    /// As [`Shape::schema`].
    pub(super) fn of(self, batch: ChangeBatch) -> Result<Changes> {
        let token = batch.end().to_string();
        let records = match self {
            Self::Bare => batch.records.clone(),
            Self::Flat => batch.to_flat(&Naming::default())?,
            Self::WithToken => with_token(&batch.to_flat(&Naming::default())?, &token)?,
        };
        Ok(Changes {
            records,
            token,
            snapshot_id: batch.commit.snapshot_id.0,
            committed_ms: batch.commit.committed_at_ms,
            remark: batch.commit.net.map(|net| match net.from {
                Some(from) => format!("net difference from snapshot {from}"),
                None => "net difference from an empty table".to_string(),
            }),
            kinds: batch.kinds,
        })
    }
}

fn with_field(schema: &SchemaRef) -> Result<SchemaRef> {
    if schema.field_with_name(TOKEN_COLUMN).is_ok() {
        let message = format!("the table has a column `{TOKEN_COLUMN}` of its own");
        return Err(Error::invalid(message).with_hint("leave it out with `--select`"));
    }
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(TOKEN_COLUMN, DataType::Utf8, true)));
    Ok(Arc::new(ArrowSchema::new_with_metadata(fields, schema.metadata().clone())))
}

fn with_token(rows: &RecordBatch, token: &str) -> Result<RecordBatch> {
    let last = rows.num_rows().saturating_sub(1);
    let at = |row| (row == last).then_some(token);
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new((0..rows.num_rows()).map(at).collect::<StringArray>()));
    Ok(RecordBatch::try_new(with_field(&rows.schema())?, columns)?)
}

#[cfg(test)]
pub(super) mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    /// Rows `(id, name)` with what happened to them.
    pub(in crate::cli) fn changes(rows: &[(ChangeKind, i64, Option<&str>)]) -> Changes {
        let ids = Int64Array::from_iter_values(rows.iter().map(|r| r.1));
        let names: StringArray = rows.iter().map(|r| r.2).collect();
        let schema = ArrowSchema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
        ]);
        let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(names)];
        Changes {
            records: RecordBatch::try_new(Arc::new(schema), columns).unwrap(),
            kinds: rows.iter().map(|r| r.0).collect(),
            snapshot_id: 77,
            committed_ms: 1_700_000_000_123,
            remark: None,
            token: "mw1-token".into(),
        }
    }

    #[test]
    fn the_token_stands_on_the_last_row_only() {
        let batch = changes(&[(ChangeKind::Insert, 1, Some("a")), (ChangeKind::Delete, 2, None)]);
        let flat = with_token(&batch.records, &batch.token).unwrap();
        let mut out = arrow_json::LineDelimitedWriter::new(Vec::new());
        out.write(&flat).unwrap();
        let text = String::from_utf8(out.into_inner()).unwrap();
        assert_eq!(text, "{\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"_token\":\"mw1-token\"}\n");
    }

    #[test]
    fn a_column_that_would_be_there_twice_is_refused() {
        let rows = Arc::new(ArrowSchema::new(vec![Field::new("_token", DataType::Utf8, true)]));
        let error = Shape::WithToken.schema(&rows).unwrap_err();
        assert!(error.hint().unwrap().contains("--select"), "{error}");
        assert!(Shape::Flat.schema(&rows).is_ok());
    }
}
