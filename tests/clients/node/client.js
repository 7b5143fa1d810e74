// node-postgres: statements by parameters, named statements, cursors, streams, COPY, a pool.
'use strict';

const fs = require('fs');
const path = require('path');
const { createRequire } = require('module');

// The packages lie in the cache of the tests, not beside this file.
const load = createRequire(path.join(process.env.NODE_MODULES_OF || __dirname, 'package.json'));
const { Client, Pool, types } = load('pg');
const Cursor = load('pg-cursor');
const QueryStream = load('pg-query-stream');
const { to: copyTo, from: copyFrom } = load('pg-copy-streams');

const WHERE = {
  host: process.env.PGHOST,
  port: Number(process.env.PGPORT),
  user: process.env.PGUSER,
  database: process.env.PGDATABASE,
  password: process.env.PGPASSWORD,
  // As libpq means it: encrypted, whoever made the certificate.
  ssl: process.env.PGSSLMODE === 'require' ? { rejectUnauthorized: false } : false,
};
const SLOW = 'SELECT sum((a * b) % 7) FROM generate_series(1, 40000) AS x(a), generate_series(1, 40000) AS y(b)';
// So that what was written can be read at once; PostgreSQL has no such setting, and takes any with a dot.
const WAIT = "SET otus.insert_wait = 'visible'";
// A day is a text: a Date of local midnight would hang on the zone of this machine.
types.setTypeParser(1082, (text) => text);

function shown(value) {
  if (value === null || value === undefined) return null;
  if (value instanceof Date) return { date: value.toISOString() };
  if (Buffer.isBuffer(value)) return { bytes: value.toString('hex') };
  if (Array.isArray(value)) return value.map(shown);
  if (typeof value === 'object') return { object: JSON.parse(JSON.stringify(value)) };
  return value;
}

function table(result) {
  return {
    columns: result.fields.map((f) => f.name),
    types: result.fields.map((f) => f.dataTypeID),
    rows: result.rows.map((row) => row.map(shown)),
  };
}

function given([kind, value]) {
  if (value === null) return null;
  switch (kind) {
    case 'timestamptz':
      return new Date(value);
    case 'bytea':
      return Buffer.from(value, 'hex');
    case 'interval':
      return `${value} seconds`;
    default:
      return value;
  }
}

async function run(name, work) {
  if (![undefined, name].includes(process.env.PROBE)) return;
  let line;
  try {
    const found = await work();
    line = found && found.columns ? found : { value: found };
  } catch (error) {
    const what = error.code ? { sqlstate: error.code } : { sqlstate: null, client: error.constructor.name };
    line = { error: what, words: String(error.message) };
  }
  process.stdout.write(`${JSON.stringify({ probe: name, ...line })}\n`);
}

async function fresh(work, more = {}) {
  const client = new Client({ ...WHERE, ...more });
  client.on('error', () => {});
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const collect = (stream) =>
  new Promise((resolve, reject) => {
    const parts = [];
    stream.on('data', (part) => parts.push(part));
    stream.on('end', () => resolve(parts));
    stream.on('error', reject);
  });

const put = (stream, text) =>
  new Promise((resolve, reject) => {
    stream.on('finish', () => resolve(stream.rowCount));
    stream.on('error', reject);
    stream.end(text);
  });

async function code(work) {
  try {
    await work();
    return 'no error';
  } catch (error) {
    return error.code;
  }
}

const more = {
  'named statement seven times': () =>
    fresh(async (client) => {
      const found = [];
      for (let n = 0; n < 7; n += 1) {
        const query = { name: 'edits', text: 'SELECT count(*)::int AS n FROM wikipedia WHERE added > $1 AND channel = $2', values: [n, '#en.wikipedia'] };
        found.push((await client.query(query)).rows[0].n);
      }
      return found;
    }),
  cursor: () =>
    fresh(async (client) => {
      const cursor = client.query(new Cursor('SELECT n::int AS n FROM generate_series(1, $1::bigint) AS g(n)', [1000]));
      const found = [];
      for (const count of [3, 500, 1000, 1]) {
        const rows = await cursor.read(count);
        found.push([rows.length, rows.reduce((sum, row) => sum + row.n, 0)]);
      }
      await cursor.close();
      return found;
    }),
  'cursor closed early': () =>
    fresh(async (client) => {
      const cursor = client.query(new Cursor('SELECT n FROM generate_series(1, 100000) AS g(n)'));
      const rows = await cursor.read(2);
      await cursor.close();
      return [rows, (await client.query('SELECT count(*) FROM kinds')).rows];
    }),
  stream: () =>
    fresh(async (client) => {
      let total = 0;
      let count = 0;
      const stream = client.query(new QueryStream('SELECT n::int AS n, n::text AS t FROM generate_series(1, 100000) AS g(n)', [], { batchSize: 1000 }));
      for await (const row of stream) {
        total += row.n;
        count += 1;
      }
      return [count, total];
    }),
  '100,000 rows': () => fresh(async (client) => (await client.query('SELECT n, n::text AS t FROM generate_series(1, 100000) AS g(n)')).rowCount),
  'several statements': () =>
    fresh(async (client) => {
      const found = await client.query({ text: 'SELECT words FROM kinds WHERE n = 1; SELECT n FROM kinds ORDER BY n LIMIT 2; BEGIN; COMMIT', rowMode: 'array' });
      return found.map((each) => [each.command, each.rowCount, each.rows]);
    }),
  transaction: () =>
    fresh(async (client) => {
      const found = [];
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY');
      found.push((await client.query('SHOW transaction_isolation')).rows);
      await client.query('SAVEPOINT a');
      found.push(await code(() => client.query('SELECT nothing')));
      found.push(await code(() => client.query('SELECT 1')));
      await client.query('ROLLBACK TO SAVEPOINT a');
      found.push(await code(() => client.query("INSERT INTO notes (at, client, n) VALUES (now(), 'node', 0)")));
      found.push((await client.query('ROLLBACK')).command);
      return found;
    }),
  pool: async () => {
    const pool = new Pool({ ...WHERE, max: 3 });
    const found = await Promise.all([1, 2, 3, 4, 5, 6].map((n) => pool.query('SELECT words FROM kinds WHERE n = $1', [n])));
    await pool.end();
    return found.map((each) => each.rows);
  },
  cancel: () =>
    fresh((client) =>
      fresh(async (other) => {
        const pid = client.processID;
        const running = code(() => client.query(SLOW));
        await new Promise((resolve) => setTimeout(resolve, 500));
        const asked = await other.query('SELECT pg_cancel_backend($1) AS done', [pid]);
        return [asked.rows, await running];
      }),
    ),
  'statement timeout': () => fresh((client) => code(() => client.query(SLOW)), { statement_timeout: 300 }),
  'startup options': () =>
    fresh(
      async (client) => {
        const found = [];
        for (const name of ['application_name', 'search_path', 'TimeZone']) {
          found.push(Object.values((await client.query(`SHOW ${name}`)).rows[0])[0]);
        }
        return found;
      },
      { application_name: 'a client', options: '-c search_path=pg_catalog -c TimeZone=Asia/Tokyo' },
    ),
  'copy out': () => fresh(async (client) => Buffer.concat(await collect(client.query(copyTo('COPY (SELECT n, words, tags FROM kinds ORDER BY n) TO STDOUT WITH (FORMAT csv, HEADER)')))).toString()),
  notices: () =>
    fresh(async (client) => {
      const heard = [];
      client.on('notice', (notice) => heard.push([notice.severity, notice.code]));
      await client.query('COMMIT');
      return heard;
    }),
  'place of an error': () =>
    fresh(async (client) => {
      try {
        await client.query('SELECT n, nothing FROM kinds');
      } catch (error) {
        return [error.severity, error.code, error.position];
      }
      return 'no error';
    }),
  'wrong number of parameters': () => fresh((client) => code(() => client.query('SELECT $1::int, $2::int', [1]))),
  'empty statement': () => fresh(async (client) => (await client.query('')).rows),
  'copy in': () => fresh(async (client) => {
      await client.query(WAIT);
      return put(client.query(copyFrom('COPY notes (at, client, n, words) FROM STDIN WITH (FORMAT csv)')), '2024-01-01T00:00:00Z,node,1,"copied, one"\n2024-01-01T00:00:01Z,node,2,\n');
    }),
  insert: () =>
    fresh(async (client) => {
      await client.query(WAIT);
      const done = await client.query('INSERT INTO notes (at, client, n, words) VALUES ($1, $2, $3, $4)', [new Date('2024-01-02T00:00:00Z'), 'node', 10, 'inserted']);
      return [done.command, done.rowCount];
    }),
  'rows that were written': () => fresh(async (client) => table(await client.query({ text: "SELECT at, n, words FROM notes WHERE client = 'node' ORDER BY n", rowMode: 'array' }))),
};

async function main() {
  const statements = JSON.parse(fs.readFileSync(path.join(__dirname, '..', 'statements.json'), 'utf8'));
  const client = new Client(WHERE);
  await client.connect();
  for (const { probe, sql, params } of statements) {
    await run(probe, async () => table(await client.query({ text: sql, values: (params || []).map(given), rowMode: 'array' })));
  }
  await client.end();
  for (const [name, work] of Object.entries(more)) await run(name, work);
}

main();
