/** Explore: overview, chart and table of one table, with its records. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { Icon } from '../../components/icon';
import { ErrorNote, Note } from '../../components/notes';
import { leadMeasure } from '../../state/plan';
import { fieldTitle, measureOf, type Table } from '../../state/schema';
import { browserZone } from '../../state/defaults';
import { compact } from '../../format/number';
import { valueText } from '../../format/value';
import type { Mode } from '../../state/view';
import { AddToBoard } from './add-to-board';
import { ChartView } from './chart-view';
import { Controls } from './controls';
import { explore as create, type Explore } from './store';
import { onKeys } from './keys';
import { Overview } from './overview';
import { Records } from './records';
import { BrushBar } from './series-tile';
import { Share } from './share';
import { Shelf } from './shelf';
import { TableView } from './table-view';
import './explore.css';
import './charts.css';

const MODES: readonly { mode: Mode; title: string; key: string }[] = [
  { mode: 'overview', title: 'Overview', key: '1' },
  { mode: 'chart', title: 'Chart', key: '2' },
  { mode: 'table', title: 'Table', key: '3' },
];

const SLOW_MS = 150;
const DIM_MS = 1000;
const STOP_MS = 5000;

/** A line that says that an answer is awaited: nothing at first, then a bar, then words. */
function Waiting({ explore }: { explore: Explore }) {
  const since = explore.since.value;
  const [now, setNow] = useState(0);
  useEffect(() => {
    if (since === null) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), SLOW_MS);
    return () => clearInterval(timer);
  }, [since]);
  const waited = since === null ? 0 : now - since;
  if (waited < SLOW_MS) return <div class="waiting" />;
  return (
    <div class="waiting on">
      {waited > STOP_MS && <span class="waiting-words">{Math.round(waited / 1000)} s <button type="button" class="button small" onClick={explore.stop}>Stop</button></span>}
    </div>
  );
}

function Crumbs({ explore }: { explore: Explore }) {
  const single = explore.view.value.filters.filter((filter) => filter.op === 'in' && filter.values.length === 1);
  if (single.length < 2) return null;
  return (
    <nav class="crumbs" aria-label="Drilled into">
      {single.map((filter, at) => (
        <span key={filter.dim}>
          {at > 0 && ' › '}
          <button
            type="button"
            disabled={at === single.length - 1}
            onClick={() => explore.dispatch({ do: 'show', view: { ...explore.view.peek(), filters: explore.view.peek().filters.filter((other) => !single.slice(at + 1).includes(other)) } })}
          >
            {fieldTitle(explore.table, filter.dim)}: {valueText(filter.values[0]).text}
          </button>
        </span>
      ))}
    </nav>
  );
}

const SAID_EVERY_MS = 10_000;

/** Says to those who listen that there is a new answer, and its number; not more than every ten seconds. */
function Announcer({ explore }: { explore: Explore }) {
  const [words, setWords] = useState('');
  const last = useRef(0);
  const shown = explore.shown.value;
  useEffect(() => {
    const measure = shown && measureOf(explore.table, leadMeasure(shown.view));
    const row = shown?.branches.get('totals')?.rows[0];
    if (!measure || !row || Date.now() - last.current < SAID_EVERY_MS) return;
    last.current = Date.now();
    setWords(`Updated, ${compact(row[measure.name], measure)} ${measure.title}`);
  }, [shown]);
  return <p class="sr" aria-live="polite">{words}</p>;
}

function Footer({ explore }: { explore: Explore }) {
  const shown = explore.shown.value;
  if (!shown) return <footer class="explore-foot" />;
  const answers = [...shown.branches.values()];
  const rollups = [...new Set(answers.map((answer) => answer.meta.rollup ?? 'raw rows'))];
  const ms = Math.max(0, ...answers.map((answer) => answer.meta.ms));
  return <footer class="explore-foot">Answered from {rollups.join(', ')} · {ms} ms · snapshot {shown.snapshot ?? '–'}</footer>;
}

/** See the module. */
export function ExplorePlace({ table }: { table: Table }) {
  const explore = useMemo(() => create(table, browserZone()), [table]);
  useEffect(() => () => explore.dispose(), [explore]);
  useEffect(() => onKeys(explore), [explore]);
  const view = explore.view.value;
  const since = explore.since.value;
  const isLate = since !== null && Date.now() - since > DIM_MS;
  const missing = explore.missing.value;
  return (
    <main id="main" class="explore" aria-busy={since !== null}>
      <h1 class="sr">Explore {table.name}</h1>
      <Controls explore={explore} />
      <div class="views">
        <div class="tabs" role="group" aria-label="Views">
          {MODES.map(({ mode, title, key }) => (
            <button key={mode} type="button" class="tab" aria-pressed={view.mode === mode} title={`${title} (${key})`} onClick={() => explore.dispatch({ do: 'mode', mode })}>{title}</button>
          ))}
        </div>
        {view.brush ? <BrushBar explore={explore} /> : <Crumbs explore={explore} />}
        <span class="spacer" />
        <button type="button" class="button" aria-pressed={view.records} title="Records (r)" onClick={() => explore.dispatch({ do: 'records', open: !view.records })}>Records</button>
        <button type="button" class="button icon-only" title="Ask again" aria-label="Ask again" onClick={explore.refresh}><Icon name="refresh" /></button>
        <span class="wide-only"><AddToBoard explore={explore} /></span>
        <Share explore={explore} />
      </div>
      <Announcer explore={explore} />
      <Waiting explore={explore} />
      {missing.length > 0 && (
        <Note kind="warn" act={<button type="button" class="button small" onClick={() => explore.dispatch({ do: 'show', view })}>Remove</button>}>
          {missing.length === 1 ? 'A part' : `${missing.length} parts`} of this link no longer exist{missing.length === 1 ? 's' : ''}: {missing.join(', ')}.
        </Note>
      )}
      {explore.error.value && <ErrorNote error={explore.error.value} onRetry={explore.refresh} />}
      <div class={`explore-body${view.records ? ' with-drawer' : ''}${isLate ? ' late' : ''}`}>
        <div class="explore-main">
          {view.mode !== 'overview' && <Shelf explore={explore} withKinds={view.mode === 'chart'} />}
          {view.mode === 'overview' && <Overview explore={explore} />}
          {view.mode === 'chart' && <ChartView explore={explore} />}
          {view.mode === 'table' && <TableView explore={explore} />}
          <Footer explore={explore} />
        </div>
        {view.records && <Records explore={explore} />}
      </div>
    </main>
  );
}
