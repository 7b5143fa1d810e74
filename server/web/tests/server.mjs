// A server of its own for the tests of the page: the wikiticker day, and a table for dashboards.
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

const PATIENCE_MS = 60_000;
/** The table of the tests, whose source is left open. */
const TABLE = new URL('../../../tests/src/wikipedia.toml', import.meta.url);

async function configuration(ports, file) {
  const table = await readFile(TABLE, 'utf8');
  return `
[server]
postgres = "127.0.0.1:${ports[0]}"
http = "127.0.0.1:${ports[1]}"
[storage]
url = "file:./data"
${table.replace('{source}', `file = ${JSON.stringify(file)}`)}
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
  await writeFile(join(folder, 'otus.toml'), await configuration(ports, join(data, 'wikiticker-2015-09-12-sampled.json.gz')));
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
