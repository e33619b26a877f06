"""Compares all values of Parquet files with those of the CSV files of the same run, read by DuckDB.

Usage: compare.py DIRECTORY-OF-CSV DIRECTORY-OF-PARQUET
"""

import csv
import sys
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# How a field of CSV is written in the type of its column.
FIELDS = {
    "BIGINT": str,
    "BOOLEAN": lambda value: str(value).lower(),
    "TIMESTAMP WITH TIME ZONE": lambda value: time(value),
    "VARCHAR": str,
}


def time(microseconds):
    return f"{EPOCH + timedelta(microseconds=microseconds):%Y-%m-%dT%H:%M:%S.%fZ}"


def compare(table, files):
    with open(table, newline="") as text:
        names, *rows = csv.reader(text)
    described = duckdb.execute(f"describe select * from read_parquet('{files}', hive_partitioning = false)").fetchall()
    types = {name: kind for name, kind, *_ in described}
    assert list(types) == names, (names, types)
    wanted = [f"epoch_us({name})" if types[name].startswith("TIMESTAMP") else name for name in names]
    found = duckdb.execute(f"select dt::varchar, {', '.join(wanted)} from '{files}'").fetchall()
    start = names.index("start_timestamp")
    want = Counter((row[start][:10], *map(decimal_or_text, types.values(), row)) for row in rows)
    got = Counter((day, *map(field, types.values(), row)) for day, *row in found)
    assert want == got, f"only in {table}: {want - got}; only in {files}: {got - want}"
    used = {name for name, values in zip(names, zip(*rows)) if any(values)}
    print(table.name, len(found), "rows;", "empty:", *sorted(set(names) - used))
    return types


def decimal_or_text(kind, text):
    return float(text) if kind == "DOUBLE" and text else text


def field(kind, value):
    if value is None:
        return ""
    return value if kind == "DOUBLE" else FIELDS[kind](value)


def main():
    tables, files = map(Path, sys.argv[1:])
    calls = compare(tables / "detected_calls.csv", files / "calls/**/*.parquet")
    streams = compare(tables / "calls_statistics.csv", files / "streams/**/*.parquet")
    assert {calls["talk_s"], streams["mos"]} == {"DOUBLE"}
    assert {calls["final_status"], streams["lost_packets"]} == {"BIGINT"}
    assert {calls["one_way"], calls["no_media"]} == {"BOOLEAN"}
    assert {calls["end_timestamp"], streams["last_timestamp"]} == {"TIMESTAMP WITH TIME ZONE"}


main()
