"""pgcli: what it completes with, and the backslash commands of its pgspecial."""

from pgcli.pgexecute import PGExecute
from pgspecial.main import PGSpecial
from probes import DATABASE, HOST, PASSWORD, PORT, USER, Probes, shown

special = PGSpecial()
executor = PGExecute(database=DATABASE, user=USER, password=PASSWORD, host=HOST, port=PORT, dsn=None)
probes = Probes()
STATEMENTS = {
    "one": "SELECT 1",
    "select": "SELECT n, words, exact, tags FROM kinds ORDER BY n",
    "several statements": "SELECT 1::bigint AS a; SELECT words FROM kinds ORDER BY n LIMIT 2",
    "error": "SELECT nothing FROM kinds",
    "explain": "EXPLAIN SELECT 1",
}
COMMANDS = [
    "\\d", "\\d kinds", "\\d edits_hour", "\\d+ wikipedia", "\\dt", "\\dt k*", "\\dv", "\\dn public", "\\di", "\\ds", "\\dm", "\\dE",
    "\\dT nothing", "\\df nothing", "\\dD", "\\dx nothing", "\\dF nothing", "\\sf nothing", "\\ddp nothing", "\\dp kinds", "\\z kinds",
]  # fmt: skip
# Lists of what is built in: that they come.
LISTS = ["\\l", "\\du", "\\dn", "\\db", "\\df date_trunc", "\\dT uuid", "\\dF", "\\dx", "\\dg", "\\dp"]


def ask(sql):
    found = []
    for title, rows, headers, status, *_ in executor.run(sql, special):
        found.append([shown(title), [shown(list(row)) for row in rows or []], shown(headers), shown(str(status).strip() if status else status)])
    return found


def columns(found, only):
    return sorted(shown(list(row)) for row in found if row[0] in only)


def listed(command):
    return [each[2] for each in ask(command)]


for name, sql in STATEMENTS.items():
    if name == "explain":
        probes.run(name, lambda: len(ask(sql)[0][1]) > 0)
    else:
        probes.run(name, lambda: ask(sql))
for command in COMMANDS:
    probes.run(command, lambda: ask(command))
for command in LISTS:
    probes.run(f"list: {command}", lambda: listed(command))
probes.run("schemata", lambda: "public" in [row for row in executor.schemata()])
probes.run("search_path", lambda: shown(list(executor.search_path())))
probes.run("tables", lambda: columns(executor.tables(), ["public"]))
probes.run("views", lambda: columns(executor.views(), ["public"]))
probes.run("table_columns", lambda: columns(executor.table_columns(), ["public"]))
probes.run("view_columns", lambda: columns(executor.view_columns(), ["public"]))
probes.run("databases", lambda: "otus" in executor.databases())
probes.run("full_databases", lambda: len(executor.full_databases()) > 0)
probes.run("foreignkeys", lambda: shown(list(executor.foreignkeys())))
probes.run("functions", lambda: {f.func_name for f in executor.functions()} >= {"date_trunc", "count", "sum"})
probes.run("datatypes", lambda: {name for _, name in executor.datatypes()} >= {"int4", "text", "uuid", "jsonb"} or sorted(executor.datatypes())[:3])
probes.run("casing", lambda: {"comment", "is_robot"} <= set(executor.casing()))
probes.run("server", lambda: [executor.user, executor.dbname, executor.superuser, executor.get_timezone()])
probes.run("set and show", lambda: ask("SET TimeZone = 'Europe/Berlin'; SHOW TimeZone; RESET TimeZone"))
probes.run("view definition", lambda: bool(executor.view_definition("edits_hour")))
probes.run("transaction", lambda: [executor.run("BEGIN") and None, executor.valid_transaction(), [len(ask(s)) for s in ("BEGIN", "SELECT 1", "ROLLBACK")]])
