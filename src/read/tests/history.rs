//! Random histories of appends, deletes of every kind and spec changes, read through filters and
//! compared with a model that knows rows only.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use proptest::prelude::*;

use crate::file::{ParquetFileWriter, WriterOptions};
use crate::kit;
use crate::spec::*;
use crate::table::Table;

/// `id` (sometimes null), `name` (sometimes null), `day` (the partition source).
type Row = (Option<i64>, Option<u8>, i32);

#[derive(Debug, Clone)]
enum Step {
    /// Rows of one day; with keys, an upsert: their deletes go into the same commit.
    Append { day: i32, rows: Vec<(Option<i64>, Option<u8>)>, upsert: bool },
    /// Equality deletes by some columns: 0 id, 1 name, 2 both, 3 id and day.
    Equality { by: u8, day: i32, rows: Vec<(Option<i64>, Option<u8>)> },
    /// Position deletes of one file.
    Positions { file: usize, every: u64 },
    /// Turns partitioning by day on or off.
    Spec,
}

#[derive(Debug)]
struct Model {
    rows: Vec<Alive>,
    files: Vec<DataFile>,
    sequence: i64,
    /// Spec id and day of files written now; no day when unpartitioned.
    by_day: bool,
}

#[derive(Debug)]
struct Alive {
    row: Row,
    sequence: i64,
    partition: Option<i32>,
    file: usize,
    position: u64,
    dead: bool,
}

fn any_key() -> impl Strategy<Value = (Option<i64>, Option<u8>)> {
    (proptest::option::weighted(0.9, 0i64..12), proptest::option::weighted(0.8, 0u8..3))
}

fn any_step() -> impl Strategy<Value = Step> {
    let rows = || proptest::collection::vec(any_key(), 1..10);
    prop_oneof![
        4 => (0..3i32, rows(), any::<bool>())
            .prop_map(|(day, rows, upsert)| Step::Append { day, rows, upsert }),
        4 => (0..4u8, 0..3i32, rows()).prop_map(|(by, day, rows)| Step::Equality { by, day, rows }),
        2 => (0..8usize, 1..4u64).prop_map(|(file, every)| Step::Positions { file, every }),
        1 => Just(Step::Spec),
    ]
}

fn batch(rows: &[Row]) -> RecordBatch {
    let names = rows.iter().map(|r| r.1.map(|n| format!("n{n}")));
    let columns: Vec<(&str, i32, ArrayRef)> = vec![
        ("id", 1, Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>())),
        ("name", 2, Arc::new(names.collect::<StringArray>())),
        ("day", 3, Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Int32Array>())),
    ];
    kit::batch(columns)
}

impl Model {
    fn partition(&self, day: i32) -> Option<i32> {
        self.by_day.then_some(day)
    }

    fn delete(&mut self, scope: Option<i32>, sequence: i64, dies: impl Fn(&Row) -> bool) {
        for row in &mut self.rows {
            let in_scope = scope.is_none() || scope == row.partition;
            row.dead |= in_scope && row.sequence < sequence && dies(&row.row);
        }
    }
}

async fn write(table: &Table, name: &str, rows: &[Row], content: DataContentType) -> DataFile {
    let spec = table.metadata().default_partition_spec().clone();
    let values = match spec.is_unpartitioned() {
        true => spec.fields().iter().map(|_| None).collect(),
        false => Struct::from_iter([Some(Literal::int(rows[0].2))]),
    };
    let options = WriterOptions::from_properties(&table.properties(), table.schema()).unwrap();
    let path = format!("memory:///t/data/{name}.parquet");
    let schema = table.schema().clone();
    let mut writer = ParquetFileWriter::create(table.storage(), &path, schema, &options).unwrap();
    let arrow = crate::file::arrow_schema(table.schema()).unwrap();
    let rows = RecordBatch::try_new(arrow, batch(rows).columns().to_vec()).unwrap();
    writer.write(&rows).await.unwrap();
    let partition = PartitionKey { spec_id: spec.spec_id(), values };
    writer.close(content, partition).await.unwrap()
}

async fn equality(table: &Table, name: &str, rows: &[Row], ids: &[i32]) -> DataFile {
    let mut file = write(table, name, rows, DataContentType::EqualityDeletes).await;
    file.equality_ids = Some(ids.to_vec());
    file
}

fn spec_of(by_day: bool) -> UnboundPartitionSpec {
    match by_day {
        false => UnboundPartitionSpec::default(),
        true => UnboundPartitionSpec::builder()
            .add_partition_field(3, "day", Transform::Identity)
            .unwrap()
            .build(),
    }
}

async fn apply(table: Table, model: &mut Model, number: usize, step: &Step) -> Table {
    let sequence = model.sequence + 1;
    match step {
        Step::Append { day, rows, upsert } => {
            let rows: Vec<Row> = rows.iter().map(|(id, name)| (*id, *name, *day)).collect();
            let data = write(&table, &format!("d{number}"), &rows, DataContentType::Data).await;
            let mut written = crate::table::WriteResult::default();
            let partition = model.partition(*day);
            if *upsert {
                let keys = equality(&table, &format!("u{number}"), &rows, &[1]).await;
                written.delete_files.push(keys);
                model.delete(partition, sequence, |r| rows.iter().any(|k| k.0 == r.0));
            }
            let file = model.files.len();
            model.files.push(data.clone());
            written.data_files.push(data);
            for (position, row) in (0..).zip(rows) {
                model.rows.push(Alive { row, sequence, partition, file, position, dead: false });
            }
            model.sequence = sequence;
            table.row_delta(written).commit().await.unwrap().table
        }
        Step::Equality { by, day, rows } => {
            let rows: Vec<Row> = rows.iter().map(|(id, name)| (*id, *name, *day)).collect();
            let ids: &[i32] = [&[1][..], &[2], &[1, 2], &[3, 1]][usize::from(*by)];
            let file = equality(&table, &format!("e{number}"), &rows, ids).await;
            let same = |id: i32, a: &Row, b: &Row| match id {
                1 => a.0 == b.0,
                2 => a.1 == b.1,
                _ => a.2 == b.2,
            };
            model.delete(model.partition(*day), sequence, |row| {
                rows.iter().any(|key| ids.iter().all(|id| same(*id, key, row)))
            });
            model.sequence = sequence;
            kit::delete(&table, vec![file]).await
        }
        Step::Positions { file, every } => {
            let Some(about) = model.files.get(*file).cloned() else { return table };
            let dead: Vec<i64> =
                (0..about.record_count).filter(|p| p % every == 0).map(|p| p as i64).collect();
            let deletes = kit::positions_of(&table, &format!("p{number}"), &about, &dead).await;
            for row in model.rows.iter_mut().filter(|r| r.file == *file) {
                row.dead |= row.position % every == 0;
            }
            model.sequence = sequence;
            kit::delete(&table, vec![deletes]).await
        }
        Step::Spec => {
            model.by_day = !model.by_day;
            let spec = spec_of(model.by_day);
            kit::changed(&table, |b| b.add_partition_spec(spec)?.set_default_partition_spec(-1))
                .await
        }
    }
}

fn passes(filter: usize, row: &Row) -> bool {
    match filter {
        0 => true,
        1 => row.0.is_some_and(|id| id >= 6),
        2 => row.2 == 1,
        3 => row.1.is_none(),
        4 => row.1 == Some(1) && row.2 != 2,
        _ => row.0.is_none() || row.0 == Some(3),
    }
}

const FILTERS: [&str; 6] =
    ["", "id >= 6", "day = 1", "name IS NULL", "name = 'n1' AND day != 2", "id IS NULL OR id = 3"];

async fn check(table: &Table, model: &Model, budget: u64) -> Result<(), TestCaseError> {
    for (number, text) in FILTERS.iter().enumerate() {
        let mut scan = table.scan().memory_budget(budget);
        if !text.is_empty() {
            scan = scan.filter(crate::expr::parse(text, table.schema()).unwrap());
        }
        let mut expected: Vec<Row> = model
            .rows
            .iter()
            .filter(|r| !r.dead && passes(number, &r.row))
            .map(|r| r.row)
            .collect();
        let mut found: Vec<Row> = Vec::new();
        for batch in kit::batches(&scan).await.unwrap() {
            let ids = batch.column(0).as_primitive::<Int64Type>();
            let names = batch.column(1).as_string::<i32>();
            let days = batch.column(2).as_primitive::<Int32Type>();
            for row in 0..batch.num_rows() {
                let id = ids.is_valid(row).then(|| ids.value(row));
                let name = names.is_valid(row).then(|| names.value(row)[1..].parse().unwrap());
                found.push((id, name, days.value(row)));
            }
        }
        expected.sort();
        found.sort();
        prop_assert_eq!(&found, &expected, "filter `{}`", text);
        let count = scan.select(["name"]).count().await.unwrap();
        prop_assert_eq!(count, expected.len() as u64, "count of `{}`", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn pruned_plans_of_random_histories_give_the_rows_of_the_model(
        steps in proptest::collection::vec(any_step(), 1..14),
        by_day in any::<bool>(),
        budget in prop_oneof![Just(1u64 << 28), Just(0)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fields = vec![
                kit::optional(1, "id", PrimitiveType::Long),
                kit::optional(2, "name", PrimitiveType::String),
                kit::optional(3, "day", PrimitiveType::Int),
            ];
            let mut table = kit::table_with(fields, spec_of(by_day), &[]);
            let mut model = Model { rows: vec![], files: vec![], sequence: 0, by_day };
            for (number, step) in steps.iter().enumerate() {
                table = apply(table, &mut model, number, step).await;
            }
            check(&table, &model, budget).await
        })?;
    }
}
