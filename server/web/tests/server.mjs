// A server of its own for the tests of the page: the wikiticker day, and a table for dashboards.
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

const PATIENCE_MS = 60_000;
const COLUMNS = {
  time: 'timestamptz', channel: 'text', city_name: 'cityName', comment: 'text', country_iso_code: 'countryIsoCode', country_name: 'countryName',
  is_anonymous: 'isAnonymous', is_minor: 'isMinor', is_new: 'isNew', is_robot: 'isRobot', is_unpatrolled: 'isUnpatrolled', metro_code: 'metroCode',
  namespace: 'text', page: 'text', region_iso_code: 'regionIsoCode', region_name: 'regionName', editor: 'user', delta: 'bigint', added: 'bigint', deleted: 'bigint',
};
const TYPES = new Set(['timestamptz', 'text', 'bigint']);

function column([name, is]) {
  if (TYPES.has(is)) return `${name} = "${is}"`;
  const type = is.startsWith('is') ? 'boolean' : is === 'metroCode' ? 'integer' : 'text';
  const title = name === 'country_name' ? ', title = "Country"' : '';
  return `${name} = { type = "${type}", path = "${is}"${title} }`;
}

function configuration(ports, file) {
  return `
[server]
postgres = "127.0.0.1:${ports[0]}"
http = "127.0.0.1:${ports[1]}"
[storage]
url = "file:./data"
[tables.wikipedia]
description = "Wikipedia edits of one day"
file = ${JSON.stringify(file)}
format = "json"
time = "time"
[tables.wikipedia.columns]
${Object.entries(COLUMNS).map(column).join('\n')}
[tables.wikipedia.measures]
edits = "count(*)"
added = "sum(added)"
deleted = "sum(deleted)"
delta = "sum(delta)"
editors = "approx_distinct(editor)"
[tables.wikipedia.rollups.edits]
granularity = ["minute", "hour", "day"]
dimensions = ["channel", "namespace", "country_name", "is_robot", "is_anonymous", "is_new", "is_minor"]
[tables.dashboards]
kind = "keyed"
topic = "dashboards"
key = "id"
[tables.dashboards.columns]
id = { type = "text", from = "key" }
title = "text"
board = { type = "text", path = "board" }
`;
}

async function freePort() {
  const socket = createServer();
  await new Promise((resolve) => socket.listen(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  await new Promise((resolve) => socket.close(resolve));
  return port;
}

/** Starts a server over the events of `data`; gives its address and what stops it. */
export async function start(data) {
  const target = process.env.CARGO_TARGET_DIR ?? join(homedir(), '.cache/otus/target');
  const folder = await mkdtemp(join(tmpdir(), 'otus-page-'));
  const ports = [await freePort(), await freePort()];
  await writeFile(join(folder, 'otus.toml'), configuration(ports, join(data, 'wikiticker-2015-09-12-sampled.json.gz')));
  const server = spawn(join(target, 'release/otus'), ['serve', '--config', 'otus.toml'], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [server.stdout, server.stderr]) stream.on('data', (text) => { said = (said + text).slice(-20_000); });
  const ended = new Promise((resolve) => { server.on('exit', resolve); server.on('error', (error) => { said += error.message; resolve(-1); }); });
  const close = async () => {
    server.kill('SIGTERM');
    await ended;
    await rm(folder, { recursive: true, force: true });
  };
  const url = `http://127.0.0.1:${ports[1]}`;
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const ready = await fetch(`${url}/readyz`).catch(() => null);
    if (ready?.ok) return { url, close };
    if (Date.now() > deadline || server.exitCode !== null) {
      await close();
      throw new Error(`the server is not ready: ${said}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
