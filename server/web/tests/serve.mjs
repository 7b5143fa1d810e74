// Serves the built page under the policy that the server gives it, and passes /api on to a server.
import { createServer, request } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const DIST = fileURLToPath(new URL('../dist', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };
export const POLICY = "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

/** Passes a request on, with the host that the page has: the server compares it with the origin. */
function pass(asked, answer, target) {
  const url = new URL(target);
  const onward = request({ host: url.hostname, port: url.port, path: asked.url, method: asked.method, headers: asked.headers }, (found) => {
    answer.writeHead(found.statusCode ?? 502, found.headers);
    found.pipe(answer);
  });
  onward.on('error', () => { answer.writeHead(502); answer.end(); });
  // Whoever does not want the answer any more is not asked for it.
  answer.on('close', () => onward.destroy());
  asked.pipe(onward);
}

async function file(asked, answer) {
  const path = normalize(new URL(asked.url, 'http://page').pathname);
  const name = path.startsWith('/assets/') ? path : '/index.html';
  const body = await readFile(join(DIST, name)).catch(() => null);
  if (!body) { answer.writeHead(404); answer.end(); return; }
  answer.writeHead(200, { 'content-type': TYPES[extname(name)] ?? 'application/octet-stream', 'content-security-policy': POLICY });
  answer.end(body);
}

/** Serves the page at a free port; `target` answers /api. */
export async function serve(target, port = 0) {
  const server = createServer((asked, answer) => (asked.url.startsWith('/api/') ? pass(asked, answer, target) : void file(asked, answer)));
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => { server.closeAllConnections(); server.close(); } };
}
