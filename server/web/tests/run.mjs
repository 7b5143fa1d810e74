// The ways a user goes, in a browser, against a server with the wikiticker day.
//
//   node tests/run.mjs [folder for screenshots]
//
// OTUS_TEST_DATA   folder of the events (default: ../shared/data beside the checkout)
// OTUS_URL         a server that runs, with the table `wikipedia` of the tests; the page is then that of `npm run build`.
//                  Without it the binary that was built is started, and shows its own page.
// ONLY             names of places to take pictures of, without the ways
import assert from 'node:assert/strict';
import { access, mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { serve } from './serve.mjs';
import { start } from './server.mjs';

const there = (path) => access(path).then(() => true, () => false);
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const data = process.env.OTUS_TEST_DATA ?? fileURLToPath(new URL('../../../../shared/data', import.meta.url));
for (const [path, isGiven] of [[join(data, 'wikiticker-answers.json'), true], [executablePath, false]]) {
  if (await there(path)) continue;
  const fails = !isGiven && ['true', '1'].includes(process.env.CI ?? '');
  console.log(fails ? `FAILS there is no ${path}` : `SKIP page in a browser: there is no ${path}`);
  process.exit(fails ? 1 : 0);
}

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const answers = JSON.parse(await readFile(join(data, 'wikiticker-answers.json'), 'utf8'));
const own = process.env.OTUS_URL ? null : await start(data);
const target = process.env.OTUS_URL ?? own.url;
const shots = process.argv[2];
if (shots) await mkdir(shots, { recursive: true });

const page = own ?? await serve(target);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const complaints = [];

/** A tab of its own; what its console complains of is kept. */
async function open(path, { width = 1440, height = 900, theme = 'light' } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, timezoneId: 'UTC' });
  const tab = await context.newPage();
  tab.on('pageerror', (error) => complaints.push(`${path}: ${error.message}`));
  tab.on('console', (message) => { if (message.type() === 'error') complaints.push(`${path}: ${message.text()}`); });
  await tab.goto(page.url + path);
  await settled(tab);
  return tab;
}

/** Waits until nothing is asked any more. */
async function settled(tab) {
  await tab.waitForSelector('main');
  await tab.waitForTimeout(150);
  await tab.waitForSelector('main[aria-busy="true"]', { state: 'detached', timeout: 20_000 });
  await tab.waitForTimeout(200);
}

/** The exact number of a tile. */
async function number(tab, title) {
  const text = await tab.locator(`section[aria-label="${title}"] .number-value`).getAttribute('title');
  return Number(text.replace(/,/g, '').replace('−', '-'));
}

/** Writes a board as anybody might, past the page. */
async function put(key, board) {
  const response = await fetch(`${target}/api/tables/dashboards/${key}?wait=visible`, {
    method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ title: board.title, board: JSON.stringify(board) }),
  });
  assert.equal(response.status, 200, await response.text());
}

const tile = (id, x, y, more = {}) => ({ id, kind: 'number', title: id, x, y, w: 3, h: 4, table: 'wikipedia', view: 'v=chart&m=edits&s=', ...more });
const BOARD = { title: 'Wiki', view: 'r=2015-09-12..2015-09-13&tz=UTC', tiles: [tile('one', 0, 0), tile('two', 3, 0), tile('list', 0, 4, { kind: 'list', h: 6, view: 'm=edits&s=is_robot:7:edits:desc' })] };
const DAY_OF_BOARD = '#r=2015-09-12..2015-09-13&tz=UTC';

/** The rows of a list as [value, text of number]. */
async function board(tab, title) {
  return tab.locator(`section.board[aria-label="${title}"] tbody tr`).evaluateAll((rows) =>
    rows.map((row) => [row.querySelector('th')?.textContent ?? '', row.querySelector('td')?.textContent ?? '']));
}

async function accessible(tab, name) {
  // As the browser's own: the page's policy lets no other script in.
  await tab.evaluate(axe);
  const found = await tab.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const serious = found.violations.filter((one) => one.impact === 'serious' || one.impact === 'critical');
  const said = serious.map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => `${node.target.join(' ')} ${node.any[0]?.message ?? ''}`).join(' | ')}`);
  assert.deepEqual(said, [], `${name} is not accessible`);
}

const DAY = '/explore/wikipedia#r=2015-09-12..2015-09-13&g=hour&tz=UTC';

const ways = {
  async 'the numbers of a day are those that are known'() {
    const tab = await open(`${DAY}&m=edits,added,deleted,delta`);
    assert.equal(await number(tab, 'Edits'), answers.rows.value ?? answers.rows);
    for (const name of ['added', 'deleted', 'delta']) {
      assert.equal(await number(tab, name[0].toUpperCase() + name.slice(1)), answers.sum[name], name);
    }
    const found = await board(tab, 'Channel');
    assert.deepEqual(found.slice(0, 6).map(([value]) => value), answers.top_channels.map(([value]) => value));
    assert.match(found.at(-1)[0], /^44 others$/);
  },

  async 'a click on a value narrows to it, and Back widens'() {
    const tab = await open(DAY);
    await tab.click('section[aria-label="Is robot"] button.value:has-text("true")');
    await settled(tab);
    assert.match(tab.url(), /f=is_robot\.in\(true\)/);
    assert.equal(await number(tab, 'Edits'), answers.count_true.isRobot);
    // The list of the filtered dimension still has its other value.
    assert.equal((await board(tab, 'Is robot')).length, 2);
    await tab.reload();
    await settled(tab);
    assert.equal(await number(tab, 'Edits'), answers.count_true.isRobot);
    await tab.click('section[aria-label="Is robot"] button.value:has-text("true")');
    await settled(tab);
    assert.equal(await number(tab, 'Edits'), answers.rows.value ?? answers.rows);
    await tab.goBack();
    await settled(tab);
    assert.equal(await number(tab, 'Edits'), answers.count_true.isRobot);
  },

  async 'a null is a value to filter by'() {
    const tab = await open(`${DAY}&m=delta&f=country_iso_code.in(~null)`);
    assert.equal(await number(tab, 'Delta'), answers.delta_where_countryIsoCode_is_null.value);
  },

  async 'the table has the first pages of the day'() {
    const tab = await open(`${DAY}&v=table&m=edits&s=page:8:edits:desc`);
    const rows = await tab.locator('.pivot tbody tr').evaluateAll((all) => all.slice(0, 6).map((row) => [row.querySelector('th')?.textContent, Number(row.querySelector('td')?.textContent)]));
    const wanted = answers.top_pages.filter(([, edits]) => edits > 20);
    assert.deepEqual(rows.slice(1, 1 + wanted.length), wanted);
  },

  async 'each hour is as it is known'() {
    const tab = await open(`${DAY}&v=table&m=edits&s=time:8:edits:desc`);
    const found = await tab.locator('.pivot tbody tr:not(.totals)').evaluateAll((all) => all.map((row) => Number((row.querySelector('td')?.textContent ?? '').replace(/,/g, ''))));
    assert.deepEqual(found, answers.edits_per_hour_00_23);
  },

  async 'comparing with a day without events says new'() {
    const tab = await open(`${DAY}&c=prev`);
    assert.equal((await tab.locator('section[aria-label="Edits"] .number-change .change').textContent()).includes('new'), true);
  },

  async 'the records behind a number are counted and come in pages'() {
    const tab = await open(`${DAY}&f=is_robot.in(true)&x=records`);
    await tab.waitForSelector('.drawer tbody tr');
    const count = async () => tab.textContent('.drawer-count');
    assert.equal(await count(), `Newest 200 of ${answers.count_true.isRobot.toLocaleString('en')}`);
    await tab.click('text=Older');
    await tab.waitForFunction(() => document.querySelector('.drawer-count')?.textContent?.includes('400'));
  },

  async 'hostile values stay text'() {
    const tab = await open(`${DAY}&f=page.in(%3Cimg%20src=x%20onerror=alert%281%29%3E)`);
    assert.equal(await tab.locator('img').count(), 0);
    await tab.waitForSelector('text=Nothing in this range');
  },

  async 'a link with parts that are gone shows the rest'() {
    const tab = await open(`${DAY}&m=arpu,edits&d=os,channel`);
    await tab.waitForSelector('text=2 parts of this link no longer exist: measure arpu, dimension os');
    assert.equal(await number(tab, 'Edits'), answers.rows.value ?? answers.rows);
  },

  async 'a failing request keeps the page and says what to do'() {
    const tab = await open(DAY);
    await tab.route('**/api/pull', (route) => route.abort());
    await tab.click('[aria-label="Ask again"]');
    await tab.waitForSelector('text=The server does not answer');
    assert.equal(await number(tab, 'Edits'), answers.rows.value ?? answers.rows);
    await tab.unroute('**/api/pull');
    complaints.length = 0;
    await tab.click('text=Retry');
    await tab.waitForSelector('text=The server does not answer', { state: 'detached' });
  },

  async 'a heat map tells what lies under the pointer'() {
    const tab = await open(`${DAY}&v=chart&k=heat`);
    await tab.waitForSelector('.heat canvas');
    await tab.hover('.heat', { position: { x: 500, y: 60 } });
    await tab.waitForSelector('.heat .tooltip dd');
  },

  async 'SQL answers, in the order that was asked'() {
    const tab = await open(`/sql#q=${encodeURIComponent('SELECT channel, count(*) FROM wikipedia GROUP BY 1 ORDER BY 2 DESC')}`);
    await tab.waitForSelector('.cm-content');
    // What is typed is text, never a command of the page.
    await tab.click('.cm-content');
    await tab.keyboard.press('End');
    await tab.keyboard.type(' -- get r?');
    assert.match(tab.url(), /\/sql#/);
    await tab.click('button:has-text("Run")');
    await tab.waitForSelector('.virtual [role="cell"]');
    const cells = await tab.locator('.virtual [role="cell"]').evaluateAll((all) => all.slice(0, 12).map((cell) => cell.textContent));
    assert.deepEqual(cells, answers.top_channels.flatMap(([channel, edits]) => [channel, String(edits)]));
  },

  async 'a click on a board filters all of it'() {
    await put('wiki', BOARD);
    const tab = await open(`/dashboards/wiki${DAY_OF_BOARD}`);
    const shown = () => tab.locator('section[aria-label="one"] .number-value').getAttribute('title');
    assert.equal(await shown(), (answers.rows.value ?? answers.rows).toLocaleString('en'));
    await tab.click('button.value:has-text("true")');
    await settled(tab);
    assert.equal(await shown(), answers.count_true.isRobot.toLocaleString('en'));
    await tab.reload();
    await settled(tab);
    assert.equal(await shown(), answers.count_true.isRobot.toLocaleString('en'));
  },

  async 'a tile moves and grows by keys alone, and what was saved stays'() {
    await put('wiki', BOARD);
    const tab = await open(`/dashboards/wiki${DAY_OF_BOARD}`);
    await tab.keyboard.press('e');
    await tab.focus('[aria-label="Move two"]');
    for (const key of ['Enter', 'ArrowRight', 'ArrowRight', 'Shift+ArrowRight', 'Enter']) await tab.keyboard.press(key);
    await tab.keyboard.press('Control+s');
    await tab.waitForSelector('.edit-bar', { state: 'detached' });
    await tab.reload();
    await settled(tab);
    assert.equal(await tab.locator('section[aria-label="two"]').evaluate((one) => one.style.gridColumn), '6 / span 4');
  },

  async 'two people edit one board: what does not overlap is merged'() {
    await put('wiki', BOARD);
    const [one, two] = [await open(`/dashboards/wiki${DAY_OF_BOARD}`), await open(`/dashboards/wiki${DAY_OF_BOARD}`)];
    const rename = async (tab, from, to) => {
      await tab.keyboard.press('e');
      await tab.click(`section[aria-label="${from}"] [aria-label="Menu of the tile"]`);
      await tab.click('.panel >> text=Rename');
      await tab.fill('dialog input', to);
      await tab.click('dialog >> text=Take it');
    };
    await rename(one, 'one', 'mine');
    await rename(two, 'two', 'theirs');
    await two.click('.edit-bar >> text=Save');
    await two.waitForSelector('.edit-bar', { state: 'detached' });
    await one.click('.edit-bar >> text=Save');
    await one.click('text=Merge: no overlap');
    await one.waitForSelector('.edit-bar', { state: 'detached' });
    await one.reload();
    await settled(one);
    assert.deepEqual(await one.locator('.board-tile h2').allTextContents(), ['mine', 'theirs', 'list']);
  },

  async 'what is shown goes to a board, and its tile opens in Explore'() {
    await put('wiki', BOARD);
    const tab = await open(`${DAY}&v=chart&k=bar&m=edits`);
    await tab.click('text=Add to dashboard');
    await tab.click('.panel .item-text:text-is("Wiki")');
    await tab.waitForSelector('text=Added to Wiki');
    await tab.goto(`${page.url}/dashboards/wiki${DAY_OF_BOARD}`);
    await settled(tab);
    await tab.click('section[aria-label="Edits by Channel"] [aria-label="Menu of the tile"]');
    await tab.click('text=Open in Explore');
    await settled(tab);
    assert.match(tab.url(), /explore\/wikipedia#v=chart&k=bar/);
  },

  async 'a statement becomes a tile'() {
    await put('wiki', BOARD);
    const tab = await open(`/sql#q=${encodeURIComponent('SELECT channel, count(*) AS edits FROM wikipedia GROUP BY 1 ORDER BY 2 DESC')}`);
    await tab.waitForSelector('.cm-content');
    await tab.click('text=Save as tile');
    await tab.click('.panel .item-text:text-is("Wiki")');
    await tab.waitForSelector('text=Added to Wiki');
    await tab.goto(`${page.url}/dashboards/wiki${DAY_OF_BOARD}`);
    await settled(tab);
    await tab.waitForSelector('section[aria-label="SQL"] canvas');
    await tab.focus('section[aria-label="SQL"] .plane');
    await tab.keyboard.press('ArrowRight');
    assert.match(await tab.textContent('section[aria-label="SQL"] .tooltip'), /#en\.wikipedia.*11,549/);
    await put('wiki', BOARD);
  },

  async 'an imported board is inert'() {
    const words = '<img src=x onerror="globalThis.hit=1"><script>globalThis.hit=1</script>[a](javascript:globalThis.hit=1) **bold**';
    await put('wiki', { ...BOARD, title: '<img src=x onerror=alert(1)>', tiles: [{ ...tile('text', 0, 0), kind: 'text', title: '<b>x</b>', view: words }] });
    const tab = await open('/dashboards/wiki');
    await tab.waitForSelector('.markdown strong');
    assert.equal(await tab.locator('img, .markdown script, a[href^="javascript"]').count(), 0);
    assert.equal(await tab.evaluate(() => globalThis.hit), undefined);
    await put('wiki', BOARD);
  },

  async 'a click on an hour narrows numbers and lists to it'() {
    const tab = await open(DAY);
    const plane = tab.locator('section[aria-label="Edits"] .plane');
    const box = await plane.boundingBox();
    const click = async () => {
      // The middle of the chart's plane is the twelfth step of twenty-three.
      await plane.click({ position: { x: 48 + (12 / 23) * (box.width - 60), y: 60 } });
      await settled(tab);
    };
    await click();
    assert.equal(await number(tab, 'Edits'), answers.edits_per_hour_00_23[12]);
    await click();
    assert.equal(await number(tab, 'Edits'), answers.rows.value ?? answers.rows);
  },

  async 'the menu of a value drills down'() {
    const tab = await open(DAY);
    await tab.click('section[aria-label="Is robot"] button.value:has-text("true")', { button: 'right' });
    await tab.click('.at-pointer >> text=Drill into Channel');
    await settled(tab);
    assert.match(tab.url(), /v=chart.*f=is_robot\.in\(true\)/);
    await tab.waitForSelector('section[aria-label="Edits by Channel"]');
  },

  async 'keys go where a pointer goes'() {
    const tab = await open(DAY);
    await tab.keyboard.press('2');
    await settled(tab);
    assert.match(tab.url(), /v=chart/);
    await tab.keyboard.press('r');
    await tab.waitForSelector('.drawer');
    await tab.keyboard.press('Escape');
    await tab.waitForSelector('.drawer', { state: 'detached' });
  },
};

const PLACES = {
  overview: `${DAY}&c=prev`,
  chart: `${DAY}&v=chart`,
  bars: `${DAY}&v=chart&k=bar`,
  heat: `${DAY}&v=chart&k=heat`,
  donut: `${DAY}&v=chart&k=donut`,
  table: `${DAY}&v=table&s=channel:8:edits:desc;is_robot:8:edits:desc`,
  records: `${DAY}&x=records`,
  sql: '/sql',
  data: '/data',
  dashboards: '/dashboards',
  board: `/dashboards/wiki${DAY_OF_BOARD}`,
  rejected: '/data/rejected',
  'one-table': '/data/tables/wikipedia',
};

// ONLY=ways,board: some of it.
const only = process.env.ONLY?.split(',');
let failed = 0;
for (const [name, way] of Object.entries(ways)) {
  if (only && !only.includes('ways')) continue;
  try {
    await way();
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILS ${name}\n      ${error.message}`);
  }
}
for (const [name, path] of Object.entries(PLACES)) {
  if (only && !only.includes(name)) continue;
  for (const theme of ['light', 'dark']) {
    for (const [width, height] of [[1440, 900], [1024, 768], [390, 844]]) {
      const tab = await open(path, { width, height, theme });
      try {
        await tab.waitForTimeout(400);
        if (shots) await tab.screenshot({ path: join(shots, `${name}-${theme}-${width}.png`) });
        const wide = await tab.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(wide <= 0, `${name} is ${wide} px too wide at ${width}`);
        await accessible(tab, `${name}, ${theme}, ${width}`);
      } catch (error) {
        failed += 1;
        console.log(`FAILS ${name} ${theme} ${width}\n      ${error.message.slice(0, 900)}`);
      }
      await tab.context().close();
    }
  }
}
// A conflict is told by 409, which the browser logs by itself.
const real = complaints.filter((text) => !text.includes('ERR_FAILED') && !text.includes('409 (Conflict)'));
for (const text of real) console.log(`FAILS console: ${text}`);
await browser.close();
await page.close();
console.log(failed + real.length === 0 ? 'all ways work' : `${failed + real.length} fail`);
process.exitCode = failed + real.length === 0 ? 0 : 1;
