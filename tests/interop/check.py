#!/usr/bin/env python3
"""Writes tables with our command line and has other engines read them.

    check.py MELTWATER [NAME ..]

Each case is a function that writes one table; the engines named beside it must all answer, with the
row count and the sha256 of our own `scan --format canonical`. The last case goes both ways: PyIceberg
opens our SQLite catalog, appends to our table, and we read and append after it.
"""
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
APPENDS = ["ref", "java", "pyiceberg", "duckdb", "sail"]
# PyIceberg refuses tables with equality deletes.
EQUALITY = ["ref", "java", "duckdb", "sail"]
# DuckDB applies an equality delete to every partition of its spec and fails on a widened key.
EVOLVED = ["ref", "java", "sail"]


class Table:
    """One table in a fresh catalog, written by command line."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.name = binary, folder, "t.t"
        self.env = dict(os.environ, MELTWATER_CATALOG=f"sqlite:{folder}/catalog.db?warehouse={folder}")

    def run(self, *words, rows=None):
        text = None if rows is None else "".join(json.dumps(r) + "\n" for r in rows)
        done = subprocess.run([self.binary, *words], input=text, env=self.env, text=True, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"meltwater {' '.join(words)}: exit {done.returncode}\n{done.stderr}")
        return done.stdout

    def create(self, schema, *flags):
        path = os.path.join(self.folder, "schema.json")
        json.dump(schema, open(path, "w"))
        self.run("create", self.name, "--schema", path, *flags)

    def append(self, rows):
        self.run("append", self.name, "-", rows=rows)

    def upsert(self, rows):
        self.run("upsert", self.name, "-", rows=rows)

    def delete(self, where):
        self.run("delete", self.name, "--where", where)

    def scan(self):
        text = self.run("scan", self.name, "--format", "canonical")
        return text.count("\n"), hashlib.sha256(text.encode()).hexdigest()


ORDERS = {"id": "long not null", "region": "string not null", "day": "date", "ts": "timestamptz", "note": "string",
          "price": "decimal(9,2)", "score": "double"}


def orders(ids, seed):
    rng = random.Random(seed)
    return [{"id": i, "region": rng.choice(["north", "süd", "east"]),
             "day": rng.choice(["2024-02-29", "1969-12-31", None]),
             "ts": f"2024-0{rng.randint(1, 9)}-01T00:0{rng.randint(0, 9)}:00.{rng.randint(0, 999999):06}Z",
             "note": rng.choice([None, "", "a 'quoted' one", "日本語"]),
             "price": f"{rng.randint(-99999, 99999) / 100:.2f}", "score": rng.choice([None, -0.0, 1.5, 1e300])}
            for i in ids]


def every_type(t):
    t.create({"id": "int not null", "l": "long", "b": "boolean", "f": "float", "d": "double", "dec": "decimal(20,4)",
              "day": "date", "tod": "time", "ts": "timestamp", "tz": "timestamptz", "s": "string", "u": "uuid",
              "fx": "fixed[4]", "bin": "binary", "tags": "list<string>", "m": "map<string,long>",
              "st": "struct<x:int,y:struct<z:string>>"})
    t.append([{"id": 1, "l": 1 << 40, "b": True, "f": 1.5, "d": 0.1, "dec": "-12345678.9012", "day": "1970-01-02",
               "tod": "12:34:56.789012", "ts": "2024-01-31T01:02:03.000004", "tz": "2024-01-31T01:02:03.000004Z",
               "s": "x", "u": "f79c3e09-677c-4bbd-a479-3f349cb785e7", "fx": "00ff10aa", "bin": "cafe",
               "tags": ["a", None, ""], "m": {"k": 7, "j": None}, "st": {"x": 5, "y": {"z": "deep"}}},
              {"id": 2, "tags": [], "m": {}, "st": {"x": None, "y": None}}, {"id": 3}])


def partitioned_appends(t):
    t.create(ORDERS, "--partition", "day(ts), bucket(4, id), truncate(3, note), region")
    for seed in range(3):
        t.append(orders(range(seed * 40, seed * 40 + 40), seed))


def position_deletes(t):
    t.create(ORDERS, "--partition", "region")
    t.append(orders(range(100), 1))
    t.append(orders(range(100, 200), 2))
    t.delete("id in (3, 5, 150) or score is null")
    t.delete("region = 'east' and id < 50")
    t.append(orders(range(200, 220), 3))


def equality_deletes(t):
    t.create(ORDERS, "--key", "id")
    t.upsert(orders(range(100), 1))
    # The same keys twice within one commit: the last one stays, by a position delete.
    t.upsert(orders(range(50, 70), 2) + orders(range(60, 80), 3))
    t.upsert(orders([5, 99, 1000], 4))
    t.delete("score is null")


def partitioned_upserts(t):
    t.create(ORDERS, "--key", "id", "--partition", "bucket(3, id)")
    for seed in range(4):
        t.upsert(orders(range(seed * 10, seed * 10 + 60), seed))


def key_of_two_columns(t):
    t.create(ORDERS, "--key", "region,id", "--partition", "region")
    for seed in range(4):
        t.upsert(orders(range(40), seed))


def evolved(t):
    t.create({"id": "int not null", "name": "string", "gone": "string", "ts": "timestamp"}, "--key", "id")
    row = lambda i, **more: dict({"id": i, "ts": f"2024-01-0{i % 9 + 1}T00:00:00"}, **more)
    t.append([row(i, name=f"n{i}", gone="x") for i in range(20)])
    t.upsert([row(i, name=f"m{i}", gone="y") for i in range(5)])
    t.run("alter", t.name, "schema", "--rename", "name=title", "--add", "extra=struct<a:long>", "--widen", "id=long",
          "--drop", "gone", "--first", "ts")
    t.append([row(i, title=f"t{i}", extra={"a": i}) for i in range(20, 30)])
    t.run("alter", t.name, "spec", "--add", "bucket(2, id)")
    t.append([row(i, title=f"u{i}") for i in range(30, 40)])
    t.delete("id in (7, 25, 35)")


def compacted(t):
    t.create(ORDERS, "--key", "region,id", "--partition", "region")
    for seed in range(4):
        t.upsert(orders(range(seed * 20, seed * 20 + 60), seed))
    t.delete("score is null")
    t.run("compact", t.name, "--min-input-files", "2")
    t.upsert(orders(range(10), 9))
    t.delete("id = 30")


def compacted_and_moved(t):
    t.create(ORDERS)
    for seed in range(4):
        t.append(orders(range(seed * 40, seed * 40 + 40), seed))
    t.run("alter", t.name, "spec", "--add", "region")
    t.delete("id in (3, 50)")
    t.run("compact", t.name, "--min-input-files", "2", "--sort", "day desc,id")
    t.append(orders(range(200, 240), 5))


def converted(t):
    t.create(ORDERS, "--key", "region,id", "--partition", "region")
    for seed in range(4):
        t.upsert(orders(range(seed * 20, seed * 20 + 60), seed))
    t.delete("id = 30")
    t.run("convert-deletes", t.name)


def rewritten(t):
    """Merged position deletes and manifests sorted by partition, with equality deletes that dangle gone."""
    t.create(ORDERS, "--key", "region,id", "--partition", "region", "--property", "commit.manifest-merge.enabled=false")
    for seed in range(4):
        t.upsert(orders(range(seed * 20, seed * 20 + 60), seed))
    t.run("convert-deletes", t.name)
    for gone in (3, 30, 50, 70):
        t.delete(f"id = {gone}")
    merged = json.loads(t.run("rewrite-position-deletes", t.name, "--output", "json"))
    assert merged["groups"] > 0, merged
    manifests = json.loads(t.run("rewrite-manifests", t.name, "--output", "json"))
    assert manifests["before"]["files"] > manifests["after"]["files"], manifests
    t.append(orders(range(300, 320), 7))


def kept_house(t):
    t.create(ORDERS, "--key", "region,id", "--partition", "region")
    for seed in range(4):
        t.upsert(orders(range(seed * 20, seed * 20 + 60), seed))
    t.run("convert-deletes", t.name)
    t.run("compact", t.name, "--min-input-files", "2")
    t.append(orders(range(300, 320), 7))
    t.run("expire", t.name, "--older-than", "0s", "--retain-last", "1")
    t.run("remove-orphans", t.name, "--older-than", "0s", "--allow-younger")


def real_flights(t):
    flights = os.path.join(ROOT, "testdata/flights/flights.parquet")
    t.run("create", t.name, "--like", flights, "--key", "time_hour,carrier,flight,origin",
          "--partition", "month(time_hour)")
    t.run("append", t.name, flights)
    t.delete("month > 1 or day > 3")
    part = os.path.join(t.folder, "part.parquet")
    t.run("scan", t.name, "--where", "origin = 'JFK'", "--format", "parquet", "--to", part)
    t.run("upsert", t.name, part)
    t.delete("dep_time is null")


def both_ways(t):
    """PyIceberg appends to our table through our catalog file; we append after it."""
    import pyarrow as pa
    from pyiceberg.catalog.sql import SqlCatalog
    t.create({"id": "long not null", "s": "string"}, "--partition", "s")
    t.append([{"id": i, "s": f"s{i}"} for i in range(10)])
    catalogs = {row[0] for row in __import__("sqlite3").connect(f"{t.folder}/catalog.db").execute(
        "select catalog_name from iceberg_tables")}
    catalog = SqlCatalog(catalogs.pop(), uri=f"sqlite:///{t.folder}/catalog.db", warehouse=f"file://{t.folder}")
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("s", pa.string())])
    catalog.load_table("t.t").append(pa.table({"id": [100, 101], "s": ["x", None]}, schema=schema))
    t.append([{"id": 200, "s": "after"}])
    assert t.scan()[0] == 13, t.scan()


def their_catalog(t):
    """PyIceberg makes catalog and table; we append, delete and evolve, it reads."""
    import pyarrow as pa
    from pyiceberg.catalog.sql import SqlCatalog
    catalog = SqlCatalog("theirs", uri=f"sqlite:///{t.folder}/catalog.db", warehouse=f"file://{t.folder}")
    catalog.create_namespace("t")
    schema = pa.schema([pa.field("id", pa.int64()), pa.field("s", pa.string())])
    catalog.create_table("t.t", schema).append(pa.table({"id": [1, 2, 3], "s": ["a", "b", None]}, schema=schema))
    t.env["MELTWATER_CATALOG"] += "&name=theirs"
    t.append([{"id": 4, "s": "ours"}])
    t.delete("id = 2")
    catalog.load_table("t.t").append(pa.table({"id": [5], "s": ["again"]}, schema=schema))
    assert t.scan()[0] == 4, t.scan()


CASES = [(every_type, APPENDS), (partitioned_appends, APPENDS), (position_deletes, APPENDS),
         (equality_deletes, EQUALITY), (partitioned_upserts, EQUALITY), (key_of_two_columns, EQUALITY),
         (evolved, EVOLVED), (compacted, EQUALITY), (converted, APPENDS), (rewritten, APPENDS),
         (kept_house, APPENDS), (compacted_and_moved, APPENDS), (real_flights, EQUALITY), (both_ways, APPENDS), (their_catalog, APPENDS)]


def check(binary, case, engines):
    """-> list of complaints"""
    folder = tempfile.mkdtemp(prefix="meltwater-interop-")
    try:
        table = Table(binary, folder)
        case(table)
        rows, sha = table.scan()
        oracle = subprocess.run(
            [sys.executable, os.path.join(HERE, "oracle.py"), "--json", "--engines", ",".join(engines),
             f"{folder}/catalog.db#{table.name}"], capture_output=True, text=True)
        if not oracle.stdout.strip():
            return [f"oracle: {oracle.stderr.strip()[-500:]}"]
        answers = json.loads(oracle.stdout)["engines"]
        bad = []
        for engine in engines:
            answer = answers[engine]
            if answer.get("sha256") != sha:
                bad.append(f"{engine}: {answer.get('error') or str(answer['rows']) + ' rows, other bytes'}"
                           f" (ours: {rows} rows)")
        print(f"{'ok  ' if not bad else 'FAIL'} {case.__name__:22} {rows:6} rows  {sha[:16]}  {' '.join(engines)}")
        return bad
    except (RuntimeError, AssertionError) as error:
        print(f"FAIL {case.__name__}")
        return [str(error)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    binary, names = os.path.abspath(sys.argv[1]), sys.argv[2:]
    failed = 0
    for case, engines in CASES:
        if names and case.__name__ not in names:
            continue
        for complaint in check(binary, case, engines):
            failed += 1
            print("     " + complaint.replace("\n", "\n     "))
        sys.stdout.flush()
    sys.exit(1 if failed else 0)


main()
