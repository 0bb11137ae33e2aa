//! Tables written by other engines give exactly the rows that those engines agree on.
//!
//! `testdata/fixtures/SOURCES.md` says who wrote each; none lies where its metadata says.

mod kit;

#[path = "../src/testing/canonical.rs"]
#[allow(dead_code)]
mod canonical;

use std::path::PathBuf;

use meltwater::spec::Schema;
use meltwater::table::Table;
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/fixtures").join(name)
}

fn open(name: &str) -> (Table, Value) {
    let folder = folder(name);
    let expected = std::fs::read(folder.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let from = text(&expected["map_prefix"]["from"]);
    let metadata = folder.join(text(&expected["metadata"]));
    (kit::foreign(&folder.join("table"), &metadata, &from), expected)
}

async fn lines(table: &Table, schema: &Schema) -> Vec<String> {
    let batches = kit::batches(&table.scan()).await.unwrap();
    let mut lines: Vec<String> =
        batches.iter().flat_map(|b| canonical::canonical_lines(b, schema)).collect();
    lines.sort();
    lines
}

async fn check(name: &str) {
    let (table, expected) = open(name);
    let lines = lines(&table, table.schema()).await;
    let rows = expected["rows"].as_u64().unwrap();
    if let Some(file) = expected["rows_file"].as_str() {
        let text = std::fs::read_to_string(folder(name).join(file)).unwrap();
        let wanted: Vec<&str> = text.lines().collect();
        assert_eq!(lines, wanted, "{name}");
    }
    assert_eq!(lines.len() as u64, rows, "{name}");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    assert_eq!(sha256(text.as_bytes()), expected["sha256"], "{name}");
    assert_eq!(table.scan().count().await.unwrap(), rows, "{name}");
}

macro_rules! fixtures {
    ($($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            check(stringify!($name)).await;
        })*

        #[test]
        fn every_fixture_is_checked() {
            let tested = [$(stringify!($name)),*];
            for entry in std::fs::read_dir(folder("")).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                assert!(!entry.path().is_dir() || tested.contains(&name.as_str()), "{name}");
            }
        }
    };
}

fixtures! {
    eq_and_pos_java eq_flink eq_java eq_nulls eq_partitioned_flink eq_schema_evolution
    eq_scope_java pos_dangling_spark pos_duckdb pos_multi_rowgroup pos_partitioned_hive
    rename_bucket_spark types_pyiceberg
}

/// SHA-256, as in FIPS 180-4: small enough to spare a dependency.
fn sha256(data: &[u8]) -> String {
    let primes: Vec<u64> = (2u64..).filter(|n| (2..*n).all(|d| n % d != 0)).take(64).collect();
    let fraction = |root: f64| ((root - root.floor()) * 4_294_967_296.0) as u32;
    let k: Vec<u32> = primes.iter().map(|p| fraction((*p as f64).cbrt())).collect();
    let mut h: Vec<u32> = primes[..8].iter().map(|p| fraction((*p as f64).sqrt())).collect();
    let mut message = data.to_vec();
    message.push(0x80);
    message.resize(message.len().next_multiple_of(64), 0);
    if message.len() - data.len() < 9 {
        message.resize(message.len() + 64, 0);
    }
    let end = message.len() - 8;
    message[end..].copy_from_slice(&(data.len() as u64 * 8).to_be_bytes());
    for block in message.chunks(64) {
        let mut w: Vec<u32> =
            block.chunks(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect();
        for i in 16..64 {
            let s0 = w[i - 15].rotate_right(7) ^ w[i - 15].rotate_right(18) ^ (w[i - 15] >> 3);
            let s1 = w[i - 2].rotate_right(17) ^ w[i - 2].rotate_right(19) ^ (w[i - 2] >> 10);
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut v = h.clone();
        for i in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let t1 = v[7].wrapping_add(s1).wrapping_add(choice).wrapping_add(k[i]);
            let t1 = t1.wrapping_add(w[i]);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(t1);
            v[0] = t1.wrapping_add(s0.wrapping_add(majority));
        }
        h.iter_mut().zip(&v).for_each(|(h, v)| *h = h.wrapping_add(*v));
    }
    h.iter().map(|word| format!("{word:08x}")).collect()
}

#[test]
fn sha256_gives_the_published_digests() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256(b"abc"), abc);
    let long = "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
    assert_eq!(sha256(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), long);
}
