#!/usr/bin/env python3
"""pyiceberg_catalog.py MELTWATER: one SQLite catalog file, two implementations, turn by turn.

MELTWATER is our binary; the Python that runs this needs `pyiceberg[sql-sqlite]` and `pyarrow`.
Both ways: a file that we made and PyIceberg opens, and a file that PyIceberg made and we open.
In each, both append after the other, and both read the same rows after every step. At the end
both append at once, and no acknowledged append may be missing. Exit status 0: all of it held.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException

SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("name", pa.string())])


def rows(*ids):
    return [{"id": i, "name": f"näme {i}"} for i in ids]


class Ours:
    """Our binary on one catalog file."""

    def __init__(self, binary, folder, uri):
        self.binary, self.folder, self.uri = binary, folder, uri

    def run(self, *words):
        return subprocess.run([self.binary, "--catalog", self.uri, *words], cwd=self.folder,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def must(self, *words):
        done = self.run(*words)
        if done.returncode:
            raise SystemExit(f"meltwater {' '.join(words)} failed:\n{done.stderr}")
        return done.stdout

    def file(self, data):
        path = pathlib.Path(self.folder, f"rows-{data[0]['id']}.jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in data))
        return str(path)

    def create(self, table, data):
        self.must("create", table, "--like", self.file(data))

    def append(self, table, data):
        self.must("append", table, self.file(data))

    def ids(self, table):
        lines = self.must("scan", table, "--format", "jsonl").splitlines()
        return sorted(json.loads(line)["id"] for line in lines)


def theirs_ids(catalog, table):
    return sorted(catalog.load_table(table).scan().to_arrow()["id"].to_pylist())


def theirs_append(catalog, table, data):
    catalog.load_table(table).append(pa.Table.from_pylist(data, schema=SCHEMA))


def same(what, ours, catalog, table, expected):
    for who, ids in [("meltwater", ours.ids(table)), ("pyiceberg", theirs_ids(catalog, table))]:
        if ids != sorted(expected):
            raise SystemExit(f"{what}: {who} reads {ids}, expected {sorted(expected)}")
    print(f"ok: {what}: both read {len(expected)} rows")


def turns(what, ours, catalog, table, start):
    """Four appends, one after the other, starting with `start` rows in the table."""
    expected = list(start)
    for turn, append in enumerate([ours.append, None, ours.append, None], 1):
        ids = [turn * 10, turn * 10 + 1]
        append(table, rows(*ids)) if append else theirs_append(catalog, table, rows(*ids))
        expected += ids
        who = "meltwater" if append else "pyiceberg"
        same(f"{what}, turn {turn}: {who} appended", ours, catalog, table, expected)
    return expected


def race(what, ours, catalog, table, start):
    """Our processes and theirs at once; a refused commit is allowed, a lost one is not."""
    expected, running = list(start), []
    for i in range(4):
        data = rows(1000 + i)
        running.append((data, subprocess.Popen(
            [ours.binary, "--catalog", ours.uri, "append", table, ours.file(data)],
            cwd=ours.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)))
    for i in range(4):
        try:
            theirs_append(catalog, table, rows(2000 + i))
            expected.append(2000 + i)
        except CommitFailedException:
            pass
    for data, process in running:
        _, errors = process.communicate(timeout=120)
        if process.returncode == 0:
            expected.append(data[0]["id"])
        elif process.returncode != 3:
            raise SystemExit(f"{what}: an append failed with {process.returncode}:\n{errors}")
    same(f"{what}, both at once", ours, catalog, table, expected)


def open_theirs(folder, name):
    return SqlCatalog(name, uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/wh")


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(binary, folder, f"sqlite:{folder}/catalog.db?warehouse={folder}/wh")
        ours.create("ns.t", rows(1))
        catalog = open_theirs(folder, "default")
        assert catalog.list_namespaces() == [("ns",)], catalog.list_namespaces()
        assert catalog.list_tables("ns") == [("ns", "t")], catalog.list_tables("ns")
        same("our empty table", ours, catalog, "ns.t", [])
        expected = turns("our file", ours, catalog, "ns.t", [])
        race("our file", ours, catalog, "ns.t", expected)
        catalog.rename_table("ns.t", "ns.renamed")
        assert "renamed" in ours.must("ls", "ns"), "a rename of theirs is ours too"

    with tempfile.TemporaryDirectory() as folder:
        catalog = open_theirs(folder, "theirs")
        catalog.create_namespace("ns")
        catalog.create_table("ns.t", schema=SCHEMA)
        theirs_append(catalog, "ns.t", rows(1))
        ours = Ours(binary, folder, f"sqlite:{folder}/catalog.db?warehouse={folder}/wh")
        expected = turns("their file", ours, catalog, "ns.t", [1])
        race("their file", ours, catalog, "ns.t", expected)
        ours.create("ns.second", rows(5))
        assert ("ns", "second") in catalog.list_tables("ns"), "a table of ours is theirs too"
    print("both catalogs agree")


if __name__ == "__main__":
    main()
