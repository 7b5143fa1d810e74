/** SQL: an editor, its answer as a table, and what was asked before. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { sql, type SqlAnswer } from '../../api/client';
import { asApiError, type ApiError } from '../../api/errors';
import { Slots } from '../../api/slots';
import { Icon } from '../../components/icon';
import { ErrorNote, Note } from '../../components/notes';
import { Item, Popover } from '../../components/popover';
import { copy, save } from '../../components/save';
import { say } from '../../components/toast';
import { csv } from '../../format/value';
import { newId } from '../../state/board';
import { browserZone } from '../../state/defaults';
import { catalogue, qualified, type CatalogueTable } from '../../state/catalogue';
import { navigate, route } from '../../state/route';
import { keep, kept } from '../../state/settings';
import type { Editor } from './editor';
import { PickBoard } from '../dashboards/pick-board';
import { AnswerChart } from './answer-chart';
import { AnswerTable } from './answer-table';
import '../explore/charts.css';
import './sql.css';

const HISTORY_MAX = 50;
const LINK_MAX = 6000;
const ROWS_MAX = 10_000;

function remembered(): string[] {
  try {
    const found: unknown = JSON.parse(kept('otus.sql') ?? '[]');
    return Array.isArray(found) ? found.filter((one) => typeof one === 'string') : [];
  } catch {
    return [];
  }
}

function remember(text: string): void {
  keep('otus.sql', JSON.stringify([text, ...remembered().filter((one) => one !== text)].slice(0, HISTORY_MAX)));
}

/** The statement of an address. */
function linked(): string {
  const found = /(?:^#|&)q=([^&]*)/.exec(route.peek().fragment);
  try {
    return found?.[1] ? decodeURIComponent(found[1]) : '';
  } catch {
    return '';
  }
}

/** The statement bounded to so many rows, where it is one that can be and does not say itself how many. */
function bounded(text: string): string {
  const bare = text.trim().replace(/;\s*$/, '');
  const end = bare.slice(bare.lastIndexOf(')') + 1);
  const isOpen = /^(select|with|table|values)\b/i.test(bare) && !/\b(limit|offset|fetch|for)\b/i.test(end);
  return isOpen ? `${bare}\nLIMIT ${ROWS_MAX + 1}` : bare;
}

function Catalogue({ tables, onPick }: { tables: readonly CatalogueTable[] | null; onPick: (text: string) => void }) {
  const [search, setSearch] = useState('');
  const words = search.toLowerCase();
  return (
    <section class="tile catalogue" aria-label="Catalogue">
      <input class="field" type="search" placeholder="Find a table or column" aria-label="Find a table or column" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
      {!tables && <p class="panel-note">Reading…</p>}
      {tables?.map((table) => {
        const columns = table.columns.filter((column) => column.name.includes(words) || table.name.includes(words));
        if (columns.length === 0) return null;
        return (
          <details key={qualified(table)} open={tables.length === 1 || search !== ''}>
            <summary>{qualified(table)} <span class="muted">{table.kind === 'keyed' ? 'keyed' : ''}</span></summary>
            <ul>
              {columns.map((column) => (
                <li key={column.name}>
                  <button type="button" title="Insert" onClick={() => onPick(column.name)}><span>{column.name}</span><span class="muted">{column.type}</span></button>
                </li>
              ))}
            </ul>
          </details>
        );
      })}
    </section>
  );
}

function Answer({ answer, ms }: { answer: SqlAnswer; ms: number }) {
  const isCut = answer.rows.length > ROWS_MAX;
  const rows = isCut ? answer.rows.slice(0, ROWS_MAX) : answer.rows;
  const [isChart, setChart] = useState(false);
  const download = (): void => {
    const plain = rows.map((row) => row.map((cell) => (typeof cell === 'object' && cell !== null ? JSON.stringify(cell) : cell)));
    save('answer.csv', 'text/csv', csv(answer.columns.map((column) => column.name), plain));
  };
  return (
    <>
      <div class="answer-head">
        <span role="status">{rows.length.toLocaleString('en')} {rows.length === 1 ? 'row' : 'rows'} · {ms} ms</span>
        <span class="spacer" />
        <div class="kinds" role="group" aria-label="Show the answer as">
          <button type="button" class="kind" aria-pressed={!isChart} onClick={() => setChart(false)}>Table</button>
          <button type="button" class="kind" aria-pressed={isChart} onClick={() => setChart(true)}>Chart</button>
        </div>
        <button type="button" class="button small" onClick={download}><Icon name="download" />CSV</button>
      </div>
      {isCut && <Note kind="warn">The first {ROWS_MAX.toLocaleString('en')} rows of more. A LIMIT or a narrower WHERE shows what matters.</Note>}
      {answer.notices.map((notice, at) => <Note key={at} kind="plain">{notice}</Note>)}
      {answer.failure !== null && <Note kind="bad">The answer broke off: {answer.failure}</Note>}
      {isChart && <AnswerChart answer={answer} />}
      {!isChart && <AnswerTable answer={answer} rows={rows} height={560} />}
    </>
  );
}

/** See the module. */
export function SqlPlace() {
  const place = useRef<HTMLDivElement>(null);
  const made = useRef<Editor | null>(null);
  const slots = useRef(new Slots());
  const [tables, setTables] = useState<readonly CatalogueTable[] | null>(null);
  const [answer, setAnswer] = useState<{ answer: SqlAnswer; ms: number } | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [isRunning, setRunning] = useState(false);

  const run = async (): Promise<void> => {
    const text = made.current?.text().trim() ?? '';
    if (text === '') return;
    remember(text);
    if (text.length <= LINK_MAX) navigate(`/sql#q=${encodeURIComponent(made.current?.whole() ?? text)}`, 'replace');
    setRunning(true);
    setError(null);
    const started = performance.now();
    try {
      const found = await slots.current.latest('run', (signal) => sql(bounded(text), { TimeZone: browserZone() }, signal));
      if (found) setAnswer({ answer: found, ms: Math.round(performance.now() - started) });
    } catch (failed) {
      setError(asApiError(failed));
    }
    setRunning(false);
  };
  const latestRun = useRef(run);
  latestRun.current = run;

  useEffect(() => {
    let isGone = false;
    void import('./editor').then(({ editor }) => {
      if (isGone || !place.current) return;
      const first = linked() || remembered()[0] || '';
      made.current = editor(place.current, first, () => void latestRun.current(), () => undefined);
      catalogue()
        .then((found) => {
          setTables(found);
          made.current?.know(Object.fromEntries(found.map((table) => [qualified(table), table.columns.map((column) => column.name)])));
          const [table] = found;
          if (first === '' && table) made.current?.set(`SELECT *\nFROM ${qualified(table)}\n${table.time ? `ORDER BY ${table.time} DESC\n` : ''}LIMIT 100`);
        })
        .catch((failed: unknown) => setError(asApiError(failed)));
    });
    return () => {
      isGone = true;
      slots.current.abort('run');
      made.current?.destroy();
    };
  }, []);

  const stop = (): void => {
    slots.current.abort('run');
    setRunning(false);
  };
  const share = async (): Promise<void> => {
    const text = made.current?.whole() ?? '';
    if (text.length > LINK_MAX) say('The statement is too long for a link: copy its text');
    else say((await copy(`${location.origin}/sql#q=${encodeURIComponent(text)}`)) ? 'Link copied' : 'The link could not be copied');
  };

  return (
    <main id="main" class="sql">
      <h1 class="sr">SQL</h1>
      <Catalogue tables={tables} onPick={(text) => made.current?.insert(text)} />
      <div class="sql-main">
        <section class="tile" aria-label="Statement">
          <div class="sql-editor" ref={place} />
          <div class="sql-bar">
            <button type="button" class="button primary" disabled={isRunning} onClick={() => void run()} title="Ctrl+Enter"><Icon name="play" />Run</button>
            {isRunning && <button type="button" class="button" onClick={stop}>Stop</button>}
            <span class="muted">Ctrl+Enter runs the selection, or all · times are read in {browserZone()} and shown in UTC</span>
            <span class="spacer" />
            <Popover alignRight title="History" label={<><Icon name="history" />History</>}>
              {(close) => {
                const all = remembered();
                if (all.length === 0) return <p class="panel-note">Nothing was run yet.</p>;
                return all.map((text) => <Item key={text} onPick={() => { made.current?.set(text); close(); }}><code>{text.slice(0, 160)}</code></Item>);
              }}
            </Popover>
            <Popover alignRight title="Save as tile" label={<><Icon name="plus" />Save as tile</>}>
              {(close) => (
                <PickBoard
                  make={(y) => ({ id: newId(), kind: 'sql', title: 'SQL', table: '', view: bounded(made.current?.text() ?? ''), ownRange: true, x: 0, y, w: 6, h: 7 })}
                  fresh={() => ({ title: 'SQL board', view: '', tiles: [] })}
                  onDone={close}
                />
              )}
            </Popover>
            <button type="button" class="button" onClick={() => void share()}><Icon name="share" />Copy link</button>
          </div>
        </section>
        <section class="tile answer" aria-label="Answer" aria-busy={isRunning}>
          {error && <ErrorNote error={error} />}
          {answer?.answer.command != null ? <p class="panel-note">{answer.answer.command} · {answer.ms} ms</p> : answer ? <Answer {...answer} /> : !error && <p class="panel-note">The answer stands here.</p>}
        </section>
      </div>
    </main>
  );
}
