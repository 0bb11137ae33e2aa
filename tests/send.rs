//! Every long call can be spawned: its future goes from thread to thread. Checked by compiling.
#![allow(dead_code, reason = "the compiler is the test")]

use std::sync::Arc;

use meltwater::arrow::record_batch::RecordBatch;
use meltwater::catalog::Catalog;
use meltwater::maintenance::{
    CompactOptions, ConvertOptions, ExpireOptions, OrphanOptions, RewriteDeletesOptions,
};
use meltwater::scan::TableScan;
use meltwater::spec::TableIdent;
use meltwater::stream::ChangeStream;
use meltwater::table::{Table, WriteResult};
use meltwater::write::{AppendWriter, UpsertWriter};

fn send<T: Send>(_: T) {}

fn tables(catalog: Arc<dyn Catalog>, ident: TableIdent, table: Table, written: WriteResult) {
    send(Table::load(catalog, &ident));
    send(table.refresh());
    send(table.row_delta(written.clone()).commit());
    send(table.append(written).commit());
    send(table.update_schema().commit());
    send(table.rollback_to(1.into()));
}

fn writers(append: AppendWriter, upsert: UpsertWriter, batch: RecordBatch) {
    let (mut append, mut upsert) = (append, upsert);
    send(append.write(batch.clone()));
    send(append.close());
    send(upsert.write(batch.clone()));
    send(upsert.delete(batch));
    send(upsert.close());
}

fn readers(scan: TableScan, stream: ChangeStream) {
    send(scan.plan());
    send(scan.to_batches());
    send(scan.count());
    send(stream.close());
}

fn upkeep(table: Table) {
    send(table.compact(CompactOptions::default()).run());
    send(table.convert_equality_deletes(ConvertOptions::default()).run());
    send(table.rewrite_position_deletes(RewriteDeletesOptions::default()).run());
    send(table.expire(ExpireOptions::default()).run());
    send(table.remove_orphans(OrphanOptions::default()).run());
}

#[test]
fn the_futures_of_long_calls_are_send() {
    send(tables);
}
