"""asyncpg: counts the rows of one query, fetched from a cursor some at a time or iterated over."""

import asyncio
import sys

import asyncpg
from probes import DATABASE, HOST, PASSWORD, PORT, USER


async def main(how, sql):
    connection = await asyncpg.connect(host=HOST, port=PORT, user=USER, database=DATABASE, password=PASSWORD, ssl=False)
    rows = total = 0
    async with connection.transaction():
        if how == "cursor":
            cursor = await connection.cursor(sql)
            while found := await cursor.fetch(50_000):
                rows += len(found)
                total += sum(row[0] for row in found)
        else:
            async for row in connection.cursor(sql, prefetch=50_000):
                rows += 1
                total += row[0]
    print("rows", rows, "sum", total, flush=True)
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
