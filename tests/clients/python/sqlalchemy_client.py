"""SQLAlchemy, 2 or 1.4, over the driver that is named: statements, and all that its inspector reads."""

import re
import sys

import sqlalchemy as sa
from probes import DATABASE, HOST, PASSWORD, PORT, USER, Probes, shown, statements, table, value
from sqlalchemy.dialects import postgresql

DRIVER = sys.argv[1] if len(sys.argv) > 1 else "psycopg2"
URL = sa.engine.URL.create(f"postgresql+{DRIVER}", USER, PASSWORD or None, HOST, PORT, DATABASE)
engine = sa.create_engine(URL, pool_size=2, future=True)
TWO = sa.__version__ >= "2"
probes = Probes()
TYPES = {
    "bool": sa.Boolean, "int2": sa.SmallInteger, "int4": sa.Integer, "int8": sa.BigInteger, "float8": sa.Double if TWO else sa.Float,
    "numeric": sa.Numeric, "text": sa.Text, "date": sa.Date, "timestamp": postgresql.TIMESTAMP,
    "timestamptz": postgresql.TIMESTAMP(timezone=True), "uuid": sa.Uuid if TWO else postgresql.UUID(as_uuid=True), "jsonb": postgresql.JSONB, "bytea": sa.LargeBinary,
    "text[]": sa.ARRAY(sa.Text), "int8[]": sa.ARRAY(sa.BigInteger), "interval": sa.Interval,
}  # fmt: skip


def answer(result):
    return table(result.keys(), [], result.fetchall())


def ask(sql, params=()):
    # A colon of a cast is no parameter.
    text = re.sub(r"\$(\d+)", r":p\1 ", sql.replace(":", "\\:"))
    binds = [sa.bindparam(f"p{n}", value(*p), TYPES[p[0]]) for n, p in enumerate(params, 1)]
    with engine.connect() as connection:
        return answer(connection.execute(sa.text(text).bindparams(*binds)))


def inspected(method, *given, **named):
    found = getattr(sa.inspect(engine), method)(*given, **named)
    return ordered(plain(found))


def plain(found):
    match found:
        case dict():
            return [[str(key), plain(part)] for key, part in found.items()]
        case list() | tuple() | set():
            return [plain(part) for part in found]
        case sa.types.TypeEngine():
            return found.compile(dialect=engine.dialect)
    return shown(found)


def ordered(found):
    return sorted(found, key=str) if isinstance(found, list) else found


def reflected():
    metadata = sa.MetaData()
    metadata.reflect(engine, views=True)
    return sorted([name, [[c.name, c.type.compile(engine.dialect), c.nullable] for c in one.columns], [c.name for c in one.primary_key]] for name, one in metadata.tables.items())


def expressions():
    metadata = sa.MetaData()
    wiki = sa.Table("wikipedia", metadata, autoload_with=engine)
    edits = sa.func.count().label("edits")
    query = (
        sa.select(wiki.c.channel, edits, sa.func.sum(wiki.c.added).label("added"), sa.extract("hour", sa.func.max(wiki.c.time)).label("hour"))
        .where(wiki.c.is_robot.is_(False), wiki.c.page.ilike("%talk%"), wiki.c.channel.in_(["#en.wikipedia", "#fr.wikipedia", "#de.wikipedia"]))
        .group_by(wiki.c.channel)
        .having(edits > 1)
        .order_by(edits.desc().nulls_last())
        .limit(5)
        .offset(0)
    )
    with engine.connect() as connection:
        return table(["channel", "edits", "added", "hour"], [], [[a, b, c, int(d)] for a, b, c, d in connection.execute(query)])


def streamed():
    with engine.connect().execution_options(stream_results=True, max_row_buffer=500) as connection:
        result = connection.execute(sa.text("SELECT n FROM generate_series(1, 100000) AS g(n)"))
        parts = [sum(row[0] for row in part) for part in result.partitions(10_000)]
    return [len(parts), sum(parts)]


def transactions():
    found = []
    with engine.connect() as connection, connection.begin() as outer:
        found.append(connection.execute(sa.text("SELECT count(*) FROM kinds")).scalar())
        inner = connection.begin_nested()
        try:
            connection.execute(sa.text("SELECT nothing"))
        except sa.exc.DBAPIError as error:
            found.append(type(error).__name__)
            inner.rollback()
        found.append(connection.execute(sa.text("SELECT count(*) FROM kinds")).scalar())
        outer.rollback()
    return found


def isolation():
    found = []
    for level in ("AUTOCOMMIT", "READ COMMITTED", "REPEATABLE READ"):
        with engine.connect().execution_options(isolation_level=level) as connection:
            found.append([connection.get_isolation_level(), connection.execute(sa.text("SELECT 1")).scalar()])
    with engine.connect().execution_options(postgresql_readonly=True) as connection:
        found.append(connection.execute(sa.text("SHOW transaction_read_only")).scalar())
    return found


def pooled():
    return [ask("SELECT count(*) FROM kinds")["rows"] for _ in range(5)] + [engine.pool.checkedout()]


def inserted():
    notes = sa.table("notes", *(sa.column(name) for name in ("at", "client", "n", "words")))
    name = f"sqlalchemy {sa.__version__} {DRIVER}"
    with engine.begin() as connection:
        connection.execute(sa.text("SET otus.insert_wait = 'visible'"))
        one = connection.execute(notes.insert(), {"at": "2024-01-02T00:00:00Z", "client": name, "n": 1, "words": "inserted"} | ({"at": value("timestamptz", "2024-01-02T00:00:00+00:00")}))
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT n, words FROM notes WHERE client = :c ORDER BY n"), {"c": name}).fetchall()
    return [one.rowcount, shown([list(row) for row in rows])]


def info():
    with engine.connect() as connection:
        dialect = connection.dialect
        return [dialect.server_version_info[0], dialect.default_schema_name, dialect.max_identifier_length]


for each in statements():
    probes.run(each["probe"], lambda: ask(each["sql"], each.get("params", [])))
probes.run("dialect", info)
for name in ("wikipedia", "kinds", "edits_hour"):
    for method in ("columns", "pk_constraint", "foreign_keys", "indexes", "unique_constraints", "check_constraints", "table_comment", "table_options"):
        probes.run(f"get_{method} of {name}", lambda: inspected(f"get_{method}", name))
for method in ("get_schema_names", "get_table_names", "get_view_names", "get_sequence_names", "get_enums"):
    probes.run(method, lambda: inspected(method))
for method in ("get_domains", "get_multi_columns", "get_multi_pk_constraint", "get_multi_indexes", "get_multi_table_comment") if TWO else ():
    probes.run(method, lambda: inspected(method))
probes.run("get_table_names of information_schema", lambda: len(inspected("get_table_names", schema="information_schema")) >= 0)
probes.run("has_table", lambda: [sa.inspect(engine).has_table(name) for name in ("kinds", "edits_hour", "nowhere")])
if TWO:
    probes.run("get_materialized_view_names", lambda: inspected("get_materialized_view_names"))
    probes.run("has_schema", lambda: [sa.inspect(engine).has_schema(name) for name in ("public", "nowhere")])
probes.run("columns of no table", lambda: inspected("get_columns", "nowhere"))
probes.run("reflect all", reflected)
probes.run("expressions", expressions)
probes.run("streamed rows", streamed)
probes.run("transactions within each other", transactions)
probes.run("isolation", isolation)
probes.run("pool", pooled)
probes.run("insert", inserted)
