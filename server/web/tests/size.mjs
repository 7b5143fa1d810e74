// Fails if a part of the built page has grown beyond its budget, in kB of gzip -9.
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const ASSETS = fileURLToPath(new URL('../dist/assets/', import.meta.url));
const packed = (name) => (name.endsWith('.woff2') ? readFileSync(ASSETS + name).length : gzipSync(readFileSync(ASSETS + name), { level: 9 }).length) / 1000;
const html = readFileSync(fileURLToPath(new URL('../dist/index.html', import.meta.url)), 'utf8');
const names = readdirSync(ASSETS).filter((name) => !/\.(gz|br)$/.test(name));
const sum = (wanted) => names.filter(wanted).reduce((total, name) => total + packed(name), 0);

const isFirst = (name) => html.includes(name) || name.startsWith('core-') || name.endsWith('.woff2');
const BUDGETS = [
  ['first load, with charts', 330, sum(isFirst)],
  ['first load, without charts and type', 105, sum((name) => html.includes(name) && !name.startsWith('core-'))],
  ['lines and bars', 180, sum((name) => name.startsWith('core-'))],
  ['donuts and heat maps', 22, sum((name) => name.startsWith('more-'))],
  ['SQL', 135, sum((name) => /^(editor|sql)-/.test(name))],
  ['all styles', 14, sum((name) => name.endsWith('.css'))],
];
let failed = false;
for (const [what, most, is] of BUDGETS) {
  const over = is > most;
  failed ||= over;
  console.log(`${over ? 'FAILS' : 'ok   '} ${what}: ${is.toFixed(1)} of ${most} kB`);
}
process.exitCode = failed ? 1 : 0;
