//! How fast are manifests, and how small in memory? 100,000 data files of 20 columns with bounds.
//!
//! `cargo bench --bench manifest [-- FILES]`. Reports microseconds per entry for writing and
//! reading with each codec, and bytes per decoded entry; the answer is checked once.

#[path = "support/counting.rs"]
mod counting;

use std::alloc::System;
use std::sync::Arc;
use std::time::Instant;

use counting::{Counting, held};
use meltwater::manifest::{
    ManifestCodec, ManifestWriter, ReadOptions, read_manifest, read_manifest_with,
};
use meltwater::spec::{
    DataContentType, DataFile, Literal, ManifestContentType, NestedField, PartitionKey,
    PartitionSpec, PrimitiveType, Schema, SnapshotId, Struct, Transform, Type,
    UnboundPartitionField,
};

#[global_allocator]
static ALLOCATOR: Counting<System> = Counting(System);

const COLUMNS: i32 = 20;

fn files(count: usize) -> Vec<DataFile> {
    let mut state = 42u64;
    let mut next = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    (0..count)
        .map(|at| {
            let day = i32::try_from(at / 1000).unwrap_or(0) + 19_000;
            let values = Struct::from_iter([Some(Literal::date(day)), Some(Literal::int((at % 16) as i32))]);
            let path = format!(
                "s3://lake/warehouse/sales.db/orders/data/day={day}/bucket={}/00{:03}-{at}-{:08x}-{:08x}.parquet",
                at % 16, at % 7, next(), next()
            );
            let rows = 100_000 + next() % 5000;
            let partition = PartitionKey { spec_id: 0, values };
            let mut file = DataFile::new(DataContentType::Data, path, partition, rows, 64_000_000 + next() % 9_000_000);
            file.column_sizes = (1..=COLUMNS).map(|id| (id, 1_000_000 + next() % 4_000_000)).collect();
            file.value_counts = (1..=COLUMNS).map(|id| (id, rows)).collect();
            file.null_value_counts =
                (1..=COLUMNS).map(|id| (id, if id % 5 == 0 { next() % 1000 } else { 0 })).collect();
            file.nan_value_counts = [(7, 0), (8, 0)].into_iter().collect();
            let mut bounds = |high: u64| {
                (1..=COLUMNS)
                    .map(|id| (id, match id % 3 {
                        0 => format!("{:016x}", next() + high).into_bytes(),
                        _ => (next() + high).to_le_bytes().to_vec(),
                    }))
                    .collect()
            };
            file.lower_bounds = bounds(0);
            file.upper_bounds = bounds(1 << 40);
            file.split_offsets = Some(vec![4]);
            file.sort_order_id = Some(0);
            file
        })
        .collect()
}

fn writer(codec: ManifestCodec) -> ManifestWriter {
    let fields = (1..=COLUMNS).map(|id| {
        let kind = if id == 1 { PrimitiveType::Date } else { PrimitiveType::Long };
        Arc::new(NestedField::optional(id, format!("column_{id}"), Type::Primitive(kind)))
    });
    let schema = Arc::new(Schema::builder().with_fields(fields).build().expect("schema"));
    let field = |source, name: &str, transform| {
        UnboundPartitionField::builder()
            .source_id(source)
            .name(name.to_string())
            .transform(transform)
            .build()
    };
    let spec = PartitionSpec::builder(schema.clone())
        .add_unbound_field(field(1, "day", Transform::Identity))
        .and_then(|b| b.add_unbound_field(field(2, "bucket", Transform::Bucket(16))))
        .and_then(|b| b.build())
        .expect("spec");
    let types = vec![Type::Primitive(PrimitiveType::Date), Type::Primitive(PrimitiveType::Int)];
    ManifestWriter::new(
        ManifestContentType::Data,
        schema,
        Arc::new(spec),
        types,
        SnapshotId(1),
        codec,
    )
}

fn main() {
    let count = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(100_000);
    let per_manifest = 5000;
    let files = files(count);
    let micros = |start: Instant| start.elapsed().as_secs_f64() * 1e6 / count as f64;
    for codec in [
        ManifestCodec::Deflate,
        ManifestCodec::Zstd,
        ManifestCodec::Snappy,
        ManifestCodec::Uncompressed,
    ] {
        let start = Instant::now();
        let mut manifests = Vec::new();
        for part in files.chunks(per_manifest) {
            let mut writer = writer(codec);
            for file in part {
                writer.add(file, None).expect("add");
            }
            let (bytes, mut manifest) = writer.finish("s3://lake/m.avro").expect("finish");
            manifest.sequence_number = 1;
            manifests.push((bytes, manifest));
        }
        let write = micros(start);
        let bytes: usize = manifests.iter().map(|(b, _)| b.len()).sum();

        let before = held();
        let start = Instant::now();
        let entries: Vec<_> =
            manifests.iter().map(|(bytes, m)| read_manifest(bytes, m).expect("read")).collect();
        let read = micros(start);
        let held_whole = (held() - before) / count;
        let same = entries.iter().flatten().zip(&files).all(|(entry, file)| *entry.file == *file);
        assert!(same && entries.iter().map(Vec::len).sum::<usize>() == count);
        drop(entries);

        let plain = ReadOptions { statistics: false, ..Default::default() };
        let before = held();
        let start = Instant::now();
        let entries: Vec<_> = manifests
            .iter()
            .map(|(bytes, m)| read_manifest_with(bytes, m, &plain).expect("read"))
            .collect();
        let read_plain = micros(start);
        let held_plain = (held() - before) / count;
        drop(entries);
        println!(
            "{codec:?}: write {write:.2} us, read {read:.2} us and {held_whole} bytes, \
             without statistics {read_plain:.2} us and {held_plain} bytes; {} bytes in the file",
            bytes / count
        );
    }
}
