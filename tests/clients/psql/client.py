"""psql: what a person types, and what psql then prints, line by line."""

import json
import os
import re
import signal
import subprocess
import sys
import time

ENVIRONMENT = dict(os.environ, PGCONNECT_TIMEOUT="20", PAGER="", LC_ALL="C.UTF-8", COLUMNS="200")
PSQL = ["psql", "-X", "-P", "pager=off", "-v", "VERBOSITY=verbose"]
SLOW = "SELECT sum((a * b) % 7) FROM generate_series(1, 40000) AS x(a), generate_series(1, 40000) AS y(b)"
# The place in the server's code, and how long something took, are of no interest.
HIDDEN = re.compile(r"^LOCATION:.*\n|^Time: .*\n", re.MULTILINE)
# Of an error its severity and SQLSTATE; the words are the server's own.
ERROR = re.compile(r"^(?:psql:\S+ )?((?:ERROR|WARNING|FATAL|NOTICE):  \w{5}): ")
BESIDES = re.compile(r"^(?:LINE \d+: .*|\s*\^|DETAIL: .*|HINT: .*|CONTEXT: .*)$")
# Lists of what is built in, and of no use for answers: that they come, not what is in them.
LISTS = {"dn": "\\dn", "dn+": "\\dn+", "dT uuid": "\\dT uuid", "df date_trunc": "\\df date_trunc", "da bool_and": "\\da bool_and", "dC integer": "\\dC integer", "do @>": "\\do @>", "dF simple": "\\dF simple", "db": "\\db", "l": "\\l", "l+": "\\l+", "du": "\\du", "df+ count": "\\df+ count", "dS": "\\dS pg_class", "dt of all": "\\dt *.*", "dconfig": "\\dconfig"}

TYPED = {
    "one": "SELECT 1;",
    "select": "SELECT n, words, exact FROM kinds ORDER BY n;",
    "expanded": "\\x\nSELECT * FROM (SELECT n, at, flag, tags FROM kinds) k ORDER BY n LIMIT 2;",
    "gx": "SELECT n, document->'c' AS c FROM kinds WHERE n = 1 \\gx",
    "gdesc": "SELECT n, at, exact, tags, id, document FROM kinds \\gdesc",
    "gset": "SELECT count(*) AS found FROM kinds \\gset\n\\echo :found",
    "gexec": "SELECT 'SELECT ' || n || ' AS n' FROM kinds ORDER BY n LIMIT 2 \\gexec",
    "crosstabview": "SELECT channel, namespace, count(*) FROM wikipedia WHERE channel IN ('#de.wikipedia', '#fr.wikipedia') AND namespace IN ('Main', 'Talk') GROUP BY 1, 2 ORDER BY 1, 2 \\crosstabview",
    "watch": "SELECT 1 AS one \\g",
    "bind variables": "\\set c '#de.wikipedia'\nSELECT count(*) FROM wikipedia WHERE channel = :'c';",
    "fetch count": "\\set FETCH_COUNT 100\n\\pset format unaligned\nSELECT n FROM generate_series(1, 450) AS g(n);",
    "csv": "\\pset format csv\nSELECT n, words, tags FROM kinds ORDER BY n;",
    "copy": "\\copy (SELECT n, words, exact FROM kinds ORDER BY n) TO STDOUT WITH (FORMAT csv, HEADER)",
    "copy as text": "COPY (SELECT n, words, raw, tags FROM kinds ORDER BY n) TO STDOUT;",
    "copy a table": "\\copy kinds (n, words) TO STDOUT",
    "transaction": "BEGIN;\nSELECT nothing;\nSELECT 1;\nROLLBACK;\nSELECT 1 AS one;",
    "savepoint": "BEGIN;\nSAVEPOINT a;\nSELECT 1 / 0;\nROLLBACK TO a;\nSELECT count(*) FROM kinds;\nCOMMIT;",
    "on error rollback": "\\set ON_ERROR_ROLLBACK on\nBEGIN;\nSELECT nothing;\nSELECT count(*) FROM kinds;\nCOMMIT;",
    "cursor": "BEGIN;\nDECLARE c CURSOR FOR SELECT n FROM kinds ORDER BY n;\nFETCH 2 FROM c;\nFETCH ALL FROM c;\nCLOSE c;\nCOMMIT;",
    "prepared": "PREPARE p (bigint) AS SELECT words FROM kinds WHERE n = $1;\nEXECUTE p(1);\nEXECUTE p(2);\nDEALLOCATE p;\nEXECUTE p(1);",
    "several at once": "SELECT 1 AS a\\; SELECT 2 AS b\\; SELECT words FROM kinds WHERE n = 1;",
    "settings": "SET TimeZone = 'Europe/Berlin';\nSHOW TimeZone;\nSELECT at FROM kinds ORDER BY n;\nRESET TimeZone;\nSHOW TimeZone;\nSET nothing = 1;\nSHOW nothing;",
    "datestyle": "SET DateStyle = 'German';\nSHOW DateStyle;",
    "error: no table": "SELECT * FROM nowhere;",
    "error: no column": "SELECT n, wrods FROM kinds;",
    "error: syntax": "SELECT n FROM kinds WHERE;",
    "error: function": "SELECT nothing(n) FROM kinds;",
    "error: cast": "SELECT 'abc'::integer;",
    "error: update": "UPDATE pg_catalog.pg_class SET relname = 'x';",
    "errverbose": "SELECT 1 / 0;\n\\errverbose",
    "conninfo encoding": "\\encoding",
    "timing": "\\timing on\nSELECT 1 AS one;",
    "d": "\\d",
    "d table": "\\d kinds",
    "d view": "\\d edits_hour",
    "d nothing": "\\d nowhere",
    "d pattern": "\\d k*",
    "dt": "\\dt",
    "dt+": "\\dt+ kinds",
    "d+ table": "\\d+ kinds",
    "dv": "\\dv",
    "di": "\\di",
    "ds": "\\ds",
    "dm": "\\dm",
    "dT": "\\dT public.*",
    "df": "\\df public.nothing*",
    "dD": "\\dD",
    "dO": "\\dO public.*",
    "dp": "\\dp public.nothing",
    "ddp": "\\ddp",
    "des": "\\des",
    "dx": "\\dx nothing",
    "dl": "\\dl",
    "dy": "\\dy",
    "dRp": "\\dRp",
    "dL": "\\dL nothing",
    "drds": "\\drds",
    "dconfig": "\\dconfig DateStyle",
    "l": "\\l nothing",
    "sf": "\\sf nothing",
    "z": "\\z public.nothing",
    "dd": "\\dd nothing",
}


def put(name, **fields):
    print(json.dumps({"probe": name, **fields}, ensure_ascii=False), flush=True)


def wanted(name):
    """Whether all probes are asked for, or this one."""
    return os.environ.get("PROBE") in (None, name)


def shown(text):
    return [line.rstrip() for line in HIDDEN.sub("", text).splitlines()]


def errors(text):
    lines = [line for line in shown(text) if not BESIDES.match(line)]
    return [match[1] if (match := ERROR.match(line)) else line for line in lines]


def typed(name, text, *arguments):
    done = subprocess.run([*PSQL, *arguments], input=text + "\n", env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    put(name, value={"printed": shown(done.stdout), "errors": errors(done.stderr), "status": done.returncode})


def listed_only(name, text):
    done = subprocess.run([*PSQL], input=text + "\n", env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    lines = shown(done.stdout)
    put(f"list: {name}", value={"heading": [" ".join(line.split()) for line in lines[:2]], "errors": errors(done.stderr)})


def cancelled():
    """Ctrl-C while a statement runs."""
    running = subprocess.Popen([*PSQL, "-At", "-c", SLOW, "-c", "SELECT 'again'"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    printed, words = running.communicate(timeout=30)
    put("Ctrl-C", value={"printed": shown(printed), "errors": errors(words), "soon": time.monotonic() - began < 5})


def listed():
    """The databases that psql -l lists."""
    done = subprocess.run(["psql", "-X", "-At", "-l"], env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    names = [line.split("|")[0] for line in done.stdout.splitlines()]
    put("psql -l", value={"otus": "otus" in names, "errors": errors(done.stderr), "status": done.returncode})


def written():
    lines = "\n".join(f"2024-01-01 00:00:0{n}+00\tpsql\t{n}\tcopied {n}" for n in range(3))
    typed("copy in", f"SET otus.insert_wait = 'visible';\n\\copy notes (at, client, n, words) FROM STDIN\n{lines}\n\\.")
    typed("insert", "SET otus.insert_wait = 'visible';\nINSERT INTO notes (at, client, n, words) VALUES ('2024-01-02', 'psql', 10, 'inserted'), ('2024-01-03', 'psql', 11, NULL);")
    typed("insert from a query", "SET otus.insert_wait = 'visible';\nINSERT INTO notes (at, client, n, words) SELECT at, 'psql', n + 100, words FROM kinds WHERE n < 3;")
    typed("rows that were written", "SELECT at, n, words FROM notes WHERE client = 'psql' ORDER BY n;")


for name, text in TYPED.items():
    if wanted(name):
        typed(name, text)
if "PROBE" in os.environ:
    sys.exit()
for name, text in LISTS.items():
    listed_only(name, text)
typed("stop at an error", "SELECT 1 AS one;\nSELECT nothing;\nSELECT 2 AS two;", "-v", "ON_ERROR_STOP=1")
typed("one transaction", "SELECT 1 AS one;\nSELECT nothing;\nSELECT 2 AS two;", "-1")
cancelled()
listed()
written()
