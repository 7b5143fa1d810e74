"""What the Python clients share: the connection, the statements of all clients, and one line of JSON per probe."""

import datetime as dt
import decimal
import json
import math
import os
import sys
import traceback
import uuid
from pathlib import Path

HOST = os.environ.get("PGHOST", "127.0.0.1")
PORT = int(os.environ.get("PGPORT", "5432"))
USER = os.environ.get("PGUSER", "otus")
DATABASE = os.environ.get("PGDATABASE", "otus")
PASSWORD = os.environ.get("PGPASSWORD", "")
TLS = os.environ.get("PGSSLMODE", "prefer")
# The only probe that is wanted.
ONLY = os.environ.get("PROBE")


def statements():
    path = Path(__file__).resolve().parent.parent / "statements.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    return [each for each in found if ONLY in (None, each["probe"])]


READERS = {
    "numeric": decimal.Decimal,
    "date": dt.date.fromisoformat,
    "timestamp": dt.datetime.fromisoformat,
    "timestamptz": dt.datetime.fromisoformat,
    "uuid": uuid.UUID,
    "bytea": bytes.fromhex,
    "interval": lambda seconds: dt.timedelta(seconds=seconds),
}


def value(kind, text):
    """A parameter of statements.json as Python has it."""
    return READERS[kind](text) if text is not None and kind in READERS else text


def shown(found):
    """A value that came, as JSON: its Python type can be told from it."""
    match found:
        case None | bool() | int() | str():
            return found
        case float():
            return {"float": repr(found)} if math.isfinite(found) else {"float": str(found)}
        case decimal.Decimal():
            return {"numeric": str(found)}
        case dt.datetime():
            if found.tzinfo is not None:
                return {"timestamptz": found.astimezone(dt.timezone.utc).isoformat()}
            return {"timestamp": found.isoformat()}
        case dt.date() | dt.time():
            return {type(found).__name__: found.isoformat()}
        case dt.timedelta():
            return {"interval": found.total_seconds()}
        case bytes() | bytearray() | memoryview():
            return {"bytes": bytes(found).hex()}
        case uuid.UUID():
            return {"uuid": str(found)}
        case dict():
            return {"object": {str(k): shown(v) for k, v in found.items()}}
        case list() | tuple() | set():
            return [shown(v) for v in found]
    return {type(found).__name__: str(found)}


def sqlstate(error):
    """The SQLSTATE of an error, wherever a driver keeps it."""
    seen = error
    while seen is not None:
        for name in ("sqlstate", "pgcode"):
            code = getattr(seen, name, None)
            if code:
                return code
        seen = getattr(seen, "orig", None) or seen.__cause__
    return None


class Probes:
    """Runs probes one after the other; what fails is printed as an error and does not stop the others."""

    def __init__(self, after_error=None):
        self.after_error = after_error

    def put(self, name, **fields):
        print(json.dumps({"probe": name, **fields}, ensure_ascii=False), flush=True)

    def failed(self, name, error):
        code = sqlstate(error)
        words = str(error).strip().splitlines()
        fields = {"sqlstate": code}
        if code is None:
            fields["client"] = type(error).__name__
        self.put(name, error=fields, words=words[0] if words else "")
        if os.environ.get("TRACE"):
            traceback.print_exception(error, file=sys.stderr)

    def run(self, name, work):
        """`work` gives a dict of what to print, or a value."""
        if ONLY not in (None, name):
            return
        try:
            found = work()
            if not isinstance(found, dict) or not found.keys() <= {"columns", "types", "rows", "value"}:
                found = {"value": shown(found)}
            self.put(name, **found)
        except Exception as error:
            self.failed(name, error)
            if self.after_error:
                self.after_error()


def table(columns, types, rows):
    return {"columns": list(columns), "types": list(types), "rows": [[shown(v) for v in row] for row in rows]}
