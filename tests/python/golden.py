"""The input of a golden folder, and the answers to it by plain arithmetic, without Otus and without floats where
a sum is exact.

    golden.py lines                what is appended, as one list of JSON lines for each of the steps
    golden.py answers STEPS        the questions, and their answers when the first STEPS steps are in

An answer is a list of rows of cells: null, a text that must be found as it is, {"about": x} for a float, or
{"from": x, "to": y} where an approximate aggregate is right.
"""

import base64
import json
import math
import sys
import uuid
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

# Records of each step: two that are merged, one that stays a fresh file, one that only the log has when the
# server is killed, and one that comes when the folder is opened.
STEPS = [250, 170, 30, 20, 40]
BEGIN = datetime(2024, 2, 28, 22, 0, tzinfo=timezone.utc)
# Buckets are few, for the folder to stay small: these minutes after the beginning, over two days.
MINUTES = [0, 1, 61, 121, 1500]
KINDS = ["buy", "move", "Grüße 👋", None]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def mix(n, salt):
    x = (n * 0x9E3779B97F4A7C15 + salt * 0xC2B2AE3D27D4EB4F) & (2**64 - 1)
    x = ((x ^ (x >> 29)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    return x ^ (x >> 32)


def maybe(n, salt, value, one_in=9):
    return None if mix(n, salt + 100) % one_in == 0 else value


def row(n):
    """The values of record n, as Python has them."""
    # No two records have the same time: first and last have one answer.
    at = BEGIN + timedelta(minutes=MINUTES[mix(n, 1) % len(MINUTES)], microseconds=n * 1_001 + mix(n, 2) % 1_000)
    cents = mix(n, 3) % 10**7 - 4 * 10**6
    values = {
        "n": n,
        "at": at,
        "kind": KINDS[mix(n, 4) % 4],
        "flag": maybe(n, 5, mix(n, 5) % 3 == 0),
        "small": maybe(n, 6, mix(n, 6) % 65_536 - 32_768),
        "whole": maybe(n, 7, mix(n, 7) % 5 * 1_000_000_007 - 2**31),
        "large": maybe(n, 8, mix(n, 8) - 2**63 if n % 10 == 0 else n * 1_000),
        # Quarters and eighths: exact as binary floats.
        "narrow": maybe(n, 9, mix(n, 9) % 4_000 / 4 - 500),
        "wide": maybe(n, 10, mix(n, 10) % 10**4 / 8 - 600),
        "exact": maybe(n, 11, Decimal(cents) / 100),
        "huge": maybe(n, 12, Decimal((n - 200) * 10**33 + n)),
        "id": maybe(n, 13, uuid.UUID(int=n % 210 << 96 | 0xA0EEBC99_9C0B4EF8)),
        "day": maybe(n, 14, date(1969, 7, 20) + timedelta(days=mix(n, 14) % 50 * 1_600)),
        "plain": maybe(n, 15, datetime(2024, 2, 29) + timedelta(seconds=n * 37, microseconds=mix(n, 15) % 3 * 250_001)),
        "moment": maybe(n, 16, BEGIN - timedelta(hours=n * 11, microseconds=mix(n, 16) % 7)),
        "raw": maybe(n, 17, bytes(mix(n, 17 + i) % 256 for i in range(n % 5))),
        "document": maybe(n, 18, {"a": n % 7, "b": [True, None, "x" * (n % 5)]}),
        "tags": maybe(n, 19, [maybe(n, 20 + i, f"t{mix(n, 21 + i) % 5}", 4) for i in range(n % 4)]),
        "numbers": maybe(n, 22, [mix(n, 23 + i) % 1_000 - 500 for i in range(n % 5 % 3)]),
        "wides": maybe(n, 25, [mix(n, 26 + i) % 100 / 4 + 0.25 for i in range(n % 4)]),
        "days": maybe(n, 28, [date(2024, 2, 28) + timedelta(days=n % 5)] * (n % 2)),
        "flags": maybe(n, 31, [maybe(n, 32 + i, mix(n, 36 + i) % 2 == 0, 4) for i in range(n % 4)]),
        "amounts": maybe(n, 40, [Decimal(mix(n, 41 + i) % 10_000 - 5_000) / 100 for i in range(n % 4)]),
        "moments": maybe(n, 45, [BEGIN + timedelta(seconds=n * 61 + i) for i in range(n % 2)]),
        "ids": maybe(n, 46, [uuid.UUID(int=n << 96)] * (n % 2)),
        "code": mix(n, 30) % 5,
    }
    # Two of three records have few fields, for the folder to stay small.
    few = ("n", "at", "kind", "code", "wide", "flag")
    return values if n % 3 == 0 else {name: value if name in few else None for name, value in values.items()}


def bad(n):
    return n % 40 == 17


def micros(at):
    return (at - EPOCH) // timedelta(microseconds=1)


def line(n):
    if bad(n):
        return [f'{{"n":{n},"at":', f'{{"n":{n},"at":{micros(BEGIN)},"small":40000}}', "<xml/>"][n // 40 % 3]
    values = row(n)
    spelled = {}
    for name, value in values.items():
        if value is None and n % 8 and name != "kind":
            continue
        if name == "at":
            value = micros(value)
        elif isinstance(value, bytes):
            value = base64.b64encode(value).decode()
        elif name == "exact" and value is not None:
            value = float(value)
        elif isinstance(value, Decimal):
            # As text: no reader's floats can spoil it. Such fields are listed, as of another type.
            value = f"{value:f}"
        elif isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(value, (date, uuid.UUID)):
            value = str(value)
        elif name in ("days", "ids", "moments") and value is not None:
            value = [str(v) for v in value]
        elif name == "amounts" and value is not None:
            value = [float(v) for v in value]
        spelled[name] = value
    if n % 50 == 3:
        spelled["undeclared"] = {"deep": n} if n % 100 == 3 else "text"
    return json.dumps(spelled, ensure_ascii=n % 3 == 0)


# How Postgres spells values.


def instant(at):
    if at is None:
        return None
    text = at.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    return text + fraction(at) + "+00"


def plain_time(at):
    return None if at is None else at.strftime("%Y-%m-%d %H:%M:%S") + fraction(at)


def fraction(at):
    return f".{at.microsecond:06d}".rstrip("0") if at.microsecond else ""


def text(value):
    return None if value is None else str(value)


def boolean(value):
    return None if value is None else "ft"[value]


def scaled(value, scale):
    return None if value is None else f"{value:.{scale}f}"


def about(value):
    return None if value is None else {"about": float(value)}


def array(value):
    if value is None:
        return None
    spell = lambda v: "NULL" if v is None else f"{v:g}" if isinstance(v, float) else str(v)
    return "{" + ",".join(spell(v) for v in value) + "}"


def cells(r):
    """A raw row, in the order of RAW."""
    return [
        text(r["n"]),
        instant(r["at"]),
        r["kind"],
        boolean(r["flag"]),
        text(r["small"]),
        text(r["whole"]),
        text(r["large"]),
        about(r["narrow"]),
        about(r["wide"]),
        scaled(r["exact"], 4),
        scaled(r["huge"], 0),
        text(r["id"]),
        text(r["day"]),
        plain_time(r["plain"]),
        instant(r["moment"]),
        None if r["raw"] is None else r["raw"].hex(),
        None if r["document"] is None else "document",
        array(r["tags"]),
        array(r["numbers"]),
        array(r["wides"]),
        array(r["days"]),
        array(r["flags"] and [boolean(v) for v in r["flags"]]),
        array(r["amounts"] and [scaled(v, 2) for v in r["amounts"]]),
        array(r["moments"] and [f'"{instant(v)}"' for v in r["moments"]]),
        array(r["ids"]),
        "none",
        text(r["code"] * 3),
    ]


RAW = (
    "n, at, kind, flag, small, whole, large, narrow, wide, exact, huge, id, day, plain, moment, "
    "encode(raw, 'hex'), case when document is null then null else 'document' end, tags, numbers, wides, days, "
    "flags, amounts, moments, ids, "
    "constant, tripled"
)


def present(rows, name):
    return [r[name] for r in rows if r[name] is not None]


def mean(values):
    return sum(map(Fraction, values)) / len(values) if values else None


def variance(values, sample):
    if len(values) <= sample:
        return None
    middle = mean(values)
    return sum((Fraction(v) - middle) ** 2 for v in values) / (len(values) - sample)


def root(value):
    return None if value is None else math.sqrt(value)


def distinct(values):
    exact = len(set(values))
    # Few values are counted, many estimated.
    slack = 0 if exact < 100 else max(1, exact * 0.08)
    return {"from": exact - slack, "to": exact + slack}


def quantile(values, p):
    """Between the values whose ranks are 4% to both sides, and one more."""
    if not values:
        return None
    values = sorted(map(float, values))
    last = len(values) - 1
    slack = 1 if len(values) < 150 else 1 + len(values) * 0.04
    low, high = math.floor(p * last - slack), math.ceil(p * last + slack)
    return {"from": values[max(low, 0)], "to": values[min(high, last)]}


def in_time(rows, name, which):
    known = [r for r in rows if r[name] is not None]
    return which(known, key=lambda r: r["at"])[name] if known else None


def total(values):
    return sum(values) if values else None


# Every measure: its name, its SQL over raw rows, and its answer from the rows.
def extremes():
    spell = {
        "flag": boolean,
        "small": text,
        "whole": text,
        "large": text,
        "narrow": about,
        "wide": about,
        "exact": lambda v: scaled(v, 4),
        "huge": lambda v: scaled(v, 0),
        "kind": text,
        "day": text,
        "plain": plain_time,
        "moment": instant,
    }
    for name, spelled in spell.items():
        if name != "flag":
            lowest = lambda rows, n=name, s=spelled: s(least(present(rows, n), min))
            highest = lambda rows, n=name, s=spelled: s(least(present(rows, n), max))
            yield f"lowest_{name}", f"min({name})", lowest
            yield f"highest_{name}", f"max({name})", highest
        first = lambda rows, n=name, s=spelled: s(in_time(rows, n, min))
        last = lambda rows, n=name, s=spelled: s(in_time(rows, n, max))
        yield f"first_{name}", f"first({name})", first
        yield f"last_{name}", f"last({name})", last


def least(values, which):
    if not values:
        return None
    # Text is ordered by its bytes.
    return which(values, key=lambda v: v.encode() if isinstance(v, str) else v)


def rare(rows):
    return [r["exact"] for r in rows if r["flag"] and r["exact"] is not None]


MEASURES = [
    ("events", "count(*)", lambda rows: text(len(rows))),
    ("with_large", "count(large)", lambda rows: text(len(present(rows, "large")))),
    ("flagged", "count(*) filter (where flag)", lambda rows: text(sum(r["flag"] is True for r in rows))),
    ("total_small", "sum(small)", lambda rows: text(total(present(rows, "small")))),
    ("total_large", "sum(large)", lambda rows: text(total(present(rows, "large")))),
    ("total_exact", "sum(exact)", lambda rows: scaled(total(present(rows, "exact")), 4)),
    ("total_narrow", "sum(narrow)", lambda rows: about(total(present(rows, "narrow")))),
    ("total_wide", "sum(wide)", lambda rows: about(total(present(rows, "wide")))),
    ("total_flagged", "sum(exact) filter (where flag)", lambda rows: scaled(total(rare(rows)), 4)),
    ("mean_whole", "avg(whole)", lambda rows: about(mean(present(rows, "whole")))),
    ("mean_exact", "avg(exact)", lambda rows: about(mean(present(rows, "exact")))),
    ("mean_wide", "avg(wide)", lambda rows: about(mean(present(rows, "wide")))),
    ("vp_wide", "var_pop(wide)", lambda rows: about(variance(present(rows, "wide"), 0))),
    ("vs_small", "var_samp(small)", lambda rows: about(variance(present(rows, "small"), 1))),
    ("sp_exact", "stddev_pop(exact)", lambda rows: about(root(variance(present(rows, "exact"), 0)))),
    ("ss_wide", "stddev_samp(wide)", lambda rows: about(root(variance(present(rows, "wide"), 1)))),
    ("people", "approx_distinct(id)", lambda rows: distinct(present(rows, "id"))),
    ("numbers_seen", "approx_distinct(n)", lambda rows: distinct(present(rows, "n"))),
    ("median", "approx_quantile(wide, 0.5)", lambda rows: quantile(present(rows, "wide"), 0.5)),
    ("p99", "approx_quantile(exact, 0.99)", lambda rows: quantile(present(rows, "exact"), 0.99)),
    *extremes(),
    ("share", "flagged * 1.0 / events", lambda rows: about(Fraction(sum(r["flag"] is True for r in rows), len(rows)))),
]

# Enough for a rollup of small buckets; the other has all.
SOME = [name for name, _, _ in MEASURES if name == "first_kind" or not name.startswith(("lowest", "highest", "first", "last"))]
VIEWS = [
    ("by_kind", "minute", ["kind"], SOME),
    ("by_kind", "day", ["kind"], SOME),
    ("by_none", "month", [], [name for name, _, _ in MEASURES]),
    ("by_types", "day", ["flag", "code", "small", "whole", "large", "exact", "id", "day", "plain", "moment"], ["events", "total_large"]),
]

SPELL = {
    "kind": text,
    "flag": boolean,
    "code": text,
    "small": text,
    "whole": text,
    "large": text,
    "exact": lambda v: scaled(v, 4),
    "id": text,
    "day": text,
    "plain": plain_time,
    "moment": instant,
}


def bucket(at, granularity):
    at = at.replace(second=0, microsecond=0)
    if granularity == "minute":
        return at
    at = at.replace(minute=0)
    if granularity == "hour":
        return at
    at = at.replace(hour=0)
    return at if granularity == "day" else at.replace(day=1)


def tables():
    measures = "\n".join(f'{name} = "{sql}"' for name, sql, _ in MEASURES)
    rollups = defaultdict(list)
    for rollup, granularity, dimensions, names in VIEWS:
        rollups[rollup].append((granularity, dimensions, names))
    text = ""
    for rollup, granularities in rollups.items():
        _, dimensions, names = granularities[0]
        text += f"\n[tables.readings.rollups.{rollup}]\ngranularity = {json.dumps([g for g, _, _ in granularities])}\n"
        text += f"dimensions = {json.dumps(dimensions)}\n"
        if len(names) < len(MEASURES):
            text += f"measures = {json.dumps(names)}\n"
    return TABLE.replace("MEASURES", measures) + text


TABLE = """
[tables.readings]
topic  = "readings"
format = "json"
time   = "at"

[tables.readings.columns]
n        = "bigint"
at       = { type = "timestamptz", unit = "us" }
kind     = "text"
flag     = "boolean"
small    = "smallint"
whole    = "integer"
large    = "bigint"
narrow   = "real"
wide     = "double precision"
exact    = "numeric(20,4)"
huge     = "numeric(38,0)"
id       = "uuid"
day      = "date"
plain    = "timestamp"
moment   = "timestamptz"
raw      = "bytea"
document = "jsonb"
tags     = "text[]"
numbers  = "bigint[]"
wides    = "double precision[]"
days     = "date[]"
flags    = "boolean[]"
amounts  = "numeric(10,2)[]"
moments  = "timestamptz[]"
ids      = "uuid[]"
code     = "integer"
constant = { type = "text", default = "none" }
tripled  = { type = "bigint", sql = "code * 3" }

[tables.readings.measures]
MEASURES
"""


def group(rows, key):
    groups = defaultdict(list)
    for r in rows:
        groups[key(r)].append(r)
    # Ascending, null last, text by its bytes.
    order = lambda key: [(v is None, v.encode() if isinstance(v, str) else v if v is not None else 0) for v in key]
    return sorted(groups.items(), key=lambda item: order(item[0]))


def answers(steps):
    end = sum(STEPS[:steps])
    numbers = [n for n in range(end) if not bad(n)]
    rows = [row(n) for n in numbers]
    # The last rows are hot ones, those before them lie in files.
    yield f"select {RAW} from readings order by n desc limit 60", [cells(r) for r in rows[:-61:-1]]
    yield f"select {RAW} from readings order by n limit 20", [cells(r) for r in rows[:20]]
    yield "select n, document from readings where document is not null order by n desc limit 40", [
        [text(r["n"]), {"json": r["document"]}] for r in reversed(rows) if r["document"] is not None
    ][:40]
    yield (
        "select count(*), count(*) filter (where _offset = n and _partition = 0) from readings",
        [[text(len(rows))] * 2],
    )
    yield (
        "select \"offset\", encode(payload, 'hex'), topic, partition from otus.rejected order by 1",
        [[text(n), line(n).encode().hex(), "readings", "0"] for n in range(end) if bad(n)],
    )
    over_raw = [(name, sql.replace(")", ", at)") if sql.startswith(("first", "last")) else sql, of) for name, sql, of in MEASURES]
    over_raw = [(name, "count(*) filter (where flag) * 1.0 / count(*)" if name == "share" else sql, of) for name, sql, of in over_raw]
    sqls = ", ".join(f"{sql} as {name}" for name, sql, _ in over_raw)
    yield (
        f"select kind, {sqls} from readings group by kind order by kind",
        [[kind, *(of(rows) for _, _, of in MEASURES)] for (kind,), rows in group(rows, lambda r: (r["kind"],))],
    )
    of_name = {name: of for name, _, of in MEASURES}
    for rollup, granularity, dimensions, names in VIEWS:
        key = lambda r: (bucket(r["at"], granularity), *(r[d] for d in dimensions))
        columns = ", ".join(["bucket", *dimensions, *names])
        order = ", ".join(str(i + 1) for i in range(1 + len(dimensions)))
        found = []
        for (begin, *values), of_bucket in group(rows, key):
            spelled = [SPELL[d](v) for d, v in zip(dimensions, values)]
            found.append([instant(begin), *spelled, *(of_name[name](of_bucket) for name in names)])
        # Where there is about one row for each record, some tell enough.
        few, found = (" limit 40", found[:40]) if rollup == "by_types" else ("", found)
        yield f"select {columns} from {rollup}_{granularity} order by {order}{few}", found


def fields(steps):
    seen = Counter()
    first = {}
    for n in range(sum(STEPS[:steps])):
        if bad(n):
            continue
        found = [("undeclared", "object" if n % 100 == 3 else "string")] if n % 50 == 3 else []
        found += [("huge", "string")] if row(n)["huge"] is not None else []
        for field in found:
            seen[field] += 1
            first.setdefault(field, n)
    return "select path, json_type, count, first_offset from otus.fields order by 1, 2", [
        [*field, text(seen[field]), text(first[field])] for field in sorted(seen)
    ]


what = sys.argv[1]
if what == "tables":
    print(json.dumps(tables()))
elif what == "lines":
    begins = [sum(STEPS[:i]) for i in range(len(STEPS))]
    print(json.dumps([[line(n) for n in range(begin, begin + count)] for begin, count in zip(begins, STEPS)]))
else:
    steps = int(sys.argv[2])
    asked = [{"sql": sql, "rows": rows} for sql, rows in answers(steps)]
    # The fields of hot rows are told when they are committed.
    sql, rows = fields(steps)
    asked.append({"sql": sql, "rows": rows, "committed": True})
    print(json.dumps(asked, ensure_ascii=False))
