"""Says where buckets begin, from the definition and without the code of Otus.

Reads {"cases": [{"width": [months, minutes], "zone": name or null, "rows": [[at, start], …]}]}, seconds since
the epoch, prints {"checked": n, "wrong": […]}. Buckets in a zone: Python's zoneinfo. Others: DuckDB.
"""

import datetime as dt
import functools
import json
import sys
import zoneinfo

import duckdb

EPOCH = dt.datetime(1970, 1, 1)
DAY = dt.timedelta(days=1)


@functools.lru_cache(maxsize=None)
def zone(name):
    return zoneinfo.ZoneInfo(name)


@functools.lru_cache(maxsize=1 << 20)
def offset(at, name):
    moment = dt.datetime.fromtimestamp(at, tz=dt.timezone.utc)
    return int(moment.astimezone(zone(name)).utcoffset().total_seconds())


def local(at, name):
    return EPOCH + dt.timedelta(seconds=at + offset(at, name))


def seconds(naive):
    return int((naive - EPOCH).total_seconds())


@functools.lru_cache(maxsize=1 << 20)
def begins(naive, name):
    """The first instant whose local time is not before `naive`: minute by minute where clocks are changed."""
    at = seconds(naive) - 15 * 3600
    while local(at, name) < naive:
        left = seconds(naive) - at - offset(at, name)
        same = all(offset(at + left * part // 4, name) == offset(at, name) for part in (1, 2, 3, 4))
        at += left if same else 60
    return at


def boundary(months, minutes, naive, ahead):
    """The local boundary at or before a local time, or the one `ahead` of it."""
    if months:
        count = (naive.year - 2000) * 12 + naive.month - 1
        count = (count // months + ahead) * months
        return dt.datetime(2000 + count // 12, count % 12 + 1, 1)
    origin = dt.datetime(2000, 1, 3)
    width = dt.timedelta(minutes=minutes)
    return origin + ((naive - origin) // width + ahead) * width


def long_start(at, months, minutes, name):
    naive = local(at, name)
    start = begins(boundary(months, minutes, naive, 0), name)
    # A clock that was set back shows a time before a boundary that has passed.
    later = begins(boundary(months, minutes, naive, 1), name)
    return later if later <= at else start


def short_start(at, minutes, name):
    """Back to the last minute that is a multiple of the width, or at which the clock was changed."""
    at -= at % 60
    while (at + offset(at, name)) % (minutes * 60) and offset(at, name) == offset(at - 60, name):
        at -= 60
    return at


def zoned(case, wrong):
    months, minutes = case["width"]
    for at, start in case["rows"]:
        if not months and minutes <= 60:
            expected = short_start(at, minutes, case["zone"])
        else:
            expected = long_start(at, months, minutes, case["zone"])
        if start != expected:
            wrong.append([case["width"], case["zone"], at, start, expected])


def plain(case, wrong):
    months, minutes = case["width"]
    interval = f"interval '{months} months'" if months else f"interval '{minutes} minutes'"
    columns = [list(column) for column in zip(*case["rows"])]
    duckdb.execute("create or replace table rows as select unnest(?::bigint[]) as moment, unnest(?::bigint[]) as start", columns)
    bad = duckdb.sql(
        f"select moment, start, epoch(time_bucket({interval}, make_timestamp(moment * 1000000)))::bigint as expected "
        "from rows where start <> expected"
    ).fetchall()
    wrong.extend([case["width"], None, *row] for row in bad)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    wrong = []
    for case in cases:
        zoned(case, wrong) if case["zone"] else plain(case, wrong)
    checked = sum(len(case["rows"]) for case in cases)
    print(json.dumps({"checked": checked, "wrong": wrong[:20]}))


main()
