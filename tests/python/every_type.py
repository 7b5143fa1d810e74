"""A table of all types and time formats: its lines, its values by DuckDB, and its values in Otus' files.

    every_type.py lines            the JSON lines to produce
    every_type.py answers          the values as DuckDB casts them from the text in the lines
    every_type.py files LIST S3    the values in the live Parquet files that LIST names; S3 is the endpoint of their
                                   store, empty for a folder
"""

import base64
import json
import sys

import duckdb
import stored

# Texts as they stand in a line; None leaves the field out, "null" writes a null.
TIMES = [
    "2024-02-29T23:59:59.999999Z",
    "2024-02-29T23:59:59.5+05:30",
    "2024-02-29 23:59:59-0800",
    "1999-12-31T00:00:00+00:00",
    "2024-06-30",
    "2024-06-30T12:00",
    "2024-06-30T12:00:00.123Z",
]
ROWS = []
for n in range(28):
    time = TIMES[n % len(TIMES)]
    seconds = 1_700_000_000 + 86_399 * n
    ROWS.append(
        {
            "n": str(n),
            "at": json.dumps("2024-01-01T00:00:%02dZ" % n),
            "flag": ["true", "false", "null", None][n % 4],
            "small": [str(v) for v in (-32768, 32767, 0, -1)][n % 4],
            "whole": ["2147483647", "-2147483648", '"12"', "null"][n % 4],
            "large": ["4611686018427387903", "-4611686018427387904", "9007199254740993", '"7"'][n % 4],
            "narrow": ["0.1", "-1.5e9", "3.4028235e38", "null"][n % 4],
            "wide": ["0.1", "1e-300", "-2.2250738585072014e-308", "1.7976931348623157e308"][n % 4],
            "exact": ["1234567890.1234", "-0.0001", '"99999999999999.9999"', "7"][n % 4],
            "huge": ["12345678901234567890123456789012345678", "-1", "0", "null"][n % 4],
            "words": [json.dumps(v) for v in ("plain", "Grüße 👋", 'quote " and \\ and \n', "")][n % 4],
            "id": [
                '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"',
                '"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12"',
                "null",
                None,
            ][n % 4],
            "day": [f'"{v}"' for v in ("1970-01-01", "2024-02-29", "2199-12-31", "1969-07-20")][n % 4],
            "plain": json.dumps("2024-02-29T23:59:59.%06d" % (n * 31_337 % 1_000_000)),
            "moment": json.dumps(time),
            "seconds": str(seconds),
            "millis": str(seconds * 1000 + n),
            "micros": str(seconds * 1_000_000 + n),
            "nanos": str(seconds * 1_000_000_000 + n * 1000),
            "raw": json.dumps(base64.b64encode(bytes(range(n))).decode()),
            "document": ['{"a":1,"b":[true,null]}', "[1,2]", '"text"', "null"][n % 4],
            "tags": ['["a","b"]', "[]", '["x",null]', "null"][n % 4],
            "numbers": ["[1,2,3]", "[]", "[null]", "null"][n % 4],
            "a": '{"b":{"c":%d}}' % n if n % 3 else "{}",
            "ein Feld": json.dumps(f"feld {n}"),
        }
    )


def line(row):
    return "{" + ",".join(f"{json.dumps(k)}:{v}" for k, v in row.items() if v is not None) + "}"


COLUMNS = (
    "n flag small whole large narrow wide exact huge words id day plain moment seconds millis micros nanos "
    "raw document tags numbers nested quoted constant twice"
).split()


def text_array(value):
    """An array as Postgres spells it."""
    if value is None:
        return None
    return "{" + ",".join("NULL" if v is None else str(v) for v in value) + "}"


def boolean(value):
    return None if value is None else "tf"[not value]


def answers():
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")

    def cast(text, kind):
        return None if text is None else con.execute(f"select (?::varchar)::{kind}::varchar", [text]).fetchone()[0]

    def micros(text, kind="timestamptz"):
        return str(con.execute(f"select epoch_us((?::varchar)::{kind})", [text]).fetchone()[0])

    def plain(text):
        """The text of a JSON value, as it would be cast."""
        if text is None or text == "null":
            return None
        return json.loads(text) if text.startswith('"') else text

    for row in ROWS:
        nested = json.loads(row["a"]).get("b", {}).get("c")
        large = plain(row["large"])
        # DuckDB takes a time without zone in the session's zone, UTC here, and wants minutes and seconds.
        moment = plain(row["moment"])
        moment = moment if len(moment) != 16 else moment + ":00"
        yield [
            row["n"],
            boolean({"true": True, "false": False}.get(row["flag"])),
            cast(plain(row["small"]), "smallint"),
            cast(plain(row["whole"]), "integer"),
            cast(large, "bigint"),
            cast(plain(row["narrow"]), "real"),
            cast(plain(row["wide"]), "double"),
            cast(plain(row["exact"]), "decimal(20,4)"),
            cast(plain(row["huge"]), "decimal(38,0)"),
            json.loads(row["words"]),
            cast(plain(row["id"]), "uuid"),
            cast(plain(row["day"]), "date"),
            cast(plain(row["plain"]), "timestamp"),
            micros(moment),
            str(int(row["seconds"]) * 1_000_000),
            str(int(row["millis"]) * 1_000),
            row["micros"],
            str(int(row["nanos"]) // 1_000),
            base64.b64decode(json.loads(row["raw"])).hex(),
            None if row["document"] == "null" else row["document"],
            text_array(json.loads(row["tags"])),
            text_array(json.loads(row["numbers"])),
            None if nested is None else str(nested),
            json.loads(row["ein Feld"]),
            "none",
            str(2 * int(large)),
        ]


def files(listing, endpoint):
    paths = [entry["local"] for entry in stored.files(listing, endpoint) if entry["kind"] == "raw"]
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    times = "moment seconds millis micros nanos".split()
    select = [
        f"epoch_us({c})::varchar" if c in times else "hex(raw)" if c == "raw" else c if c in ("flag", "tags", "numbers") else f"{c}::varchar"
        for c in COLUMNS
    ]
    rows = con.execute(f"select {', '.join(select)} from read_parquet(?) order by n", [paths]).fetchall()
    for row in rows:
        row = list(row)
        row[1] = boolean(row[1])
        row[18] = row[18].lower()
        row[20], row[21] = text_array(row[20]), text_array(row[21])
        yield row


what = sys.argv[1]
if what == "lines":
    print(json.dumps([line(row) for row in ROWS]))
elif what == "answers":
    print(json.dumps(list(answers())))
else:
    print(json.dumps(list(files(*sys.argv[2:]))))
