/** Rows of values with totals, shares and changes; a row opens into the next split. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { pull } from '../../api/client';
import { asNumber, type BranchAnswer, type Cell, type Row } from '../../api/decode';
import { asApiError, type ApiError } from '../../api/errors';
import { canonical } from '../../api/json';
import { pattern } from '../../api/pattern';
import { Slots } from '../../api/slots';
import { Change } from '../../components/change';
import { Icon } from '../../components/icon';
import { Empty, ErrorNote, ProblemNote } from '../../components/notes';
import { Value } from '../../components/value';
import { keyOf } from '../../charts/shape';
import { full, share } from '../../format/number';
import { bucketTitle } from '../../format/time';
import { granularityOf, tableLevel } from '../../state/plan';
import { fieldTitle, measureOf, type Measure } from '../../state/schema';
import type { Filter, View } from '../../state/view';
import type { Explore } from './store';
import { asFilterValue } from './value-picker';

interface Columns {
  view: View;
  measures: readonly Measure[];
  totals: Row | undefined;
}

function MeasureCells({ columns, row }: { columns: Columns; row: Row | undefined }) {
  const isCompared = columns.view.compare !== null;
  return (
    <>
      {columns.measures.map((measure) => (
        <>
          <td class="num">{full(row?.[measure.name], measure)}</td>
          {measure.additive && <td class="num muted">{share(asNumber(row?.[measure.name]), asNumber(columns.totals?.[measure.name]))}</td>}
          {isCompared && <td class="num"><Change now={row?.[measure.name]} previous={row?.[`${measure.name}/prev`]} ratio={row?.[`${measure.name}/pct`]} better={measure.better} /></td>}
        </>
      ))}
    </>
  );
}

interface LevelProperties {
  explore: Explore;
  columns: Columns;
  level: number;
  above: readonly Filter[];
  answer: BranchAnswer | undefined;
  onMore: () => void;
}

/** The rows of one level, each with those below it once it is opened. */
function Level({ explore, columns, level, above, answer, onMore }: LevelProperties) {
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const { view } = columns;
  const split = view.splits[level];
  if (!split || !answer) return null;
  const isTime = split.dim === explore.table.time;
  const column = isTime ? 'bucket' : split.dim;
  const granularity = granularityOf(view, explore.asked().bounds);
  const hasBelow = !isTime && view.splits[level + 1] !== undefined;
  const end = new Map(answer.meta.buckets.map((bucket) => [bucket.start, bucket]));
  const toggle = (key: string): void => {
    const next = new Set(open);
    if (!next.delete(key)) next.add(key);
    setOpen(next);
  };
  const text = (cell: Cell) => {
    const bucket = isTime ? end.get(String(cell)) : undefined;
    return bucket ? <>{bucketTitle(bucket.start, bucket.end, granularity)}{bucket.partial && <span class="word"> unfinished</span>}</> : <Value cell={cell} />;
  };
  return (
    <>
      {answer.rows.map((row) => {
        const cell = row[column] ?? null;
        const key = keyOf(cell);
        const value = asFilterValue(cell);
        return (
          <>
            <tr key={key}>
              <th scope="row" class={`indent-${Math.min(level, 3)}`}>
                {hasBelow && (
                  <button type="button" class="twist" aria-expanded={open.has(key)} aria-label={`Open ${String(cell)}`} onClick={() => toggle(key)}><Icon name={open.has(key) ? 'down' : 'right'} /></button>
                )}
                <button type="button" class="value" disabled={isTime} title={isTime ? undefined : 'Only this value'} onClick={() => explore.dispatch({ do: 'only', dim: split.dim, value })}>{text(cell)}</button>
              </th>
              <MeasureCells columns={columns} row={row} />
            </tr>
            {open.has(key) && <Below explore={explore} columns={columns} level={level + 1} above={[...above, { dim: split.dim, op: 'in', values: [value] }]} />}
          </>
        );
      })}
      {answer.meta.next && (
        <tr>
          <th scope="row" class={`indent-${Math.min(level, 3)}`}><button type="button" class="button small" onClick={onMore}>Next rows</button></th>
        </tr>
      )}
    </>
  );
}

/** A level that is asked for when it is opened. */
function Below({ explore, columns, level, above }: { explore: Explore; columns: Columns; level: number; above: readonly Filter[] }) {
  const [answer, setAnswer] = useState<BranchAnswer | undefined>();
  const [error, setError] = useState<ApiError | null>(null);
  const slots = useRef(new Slots());
  const load = (after: string | null): void => {
    slots.current
      .latest('level', (signal) => pull(pattern(tableLevel(explore.asked(columns.view), 'below', level, above, after)), signal))
      .then((got) => {
        const found = got?.answer.branches.get('below');
        if (found) setAnswer((old) => (after && old ? { ...found, rows: [...old.rows, ...found.rows] } : found));
      })
      .catch((failed: unknown) => setError(asApiError(failed)));
  };
  const key = canonical(pattern(tableLevel(explore.asked(columns.view), 'below', level, above, null)));
  useEffect(() => load(null), [key]);
  if (error) return <tr><td colSpan={99}><ErrorNote error={error} onRetry={() => load(null)} /></td></tr>;
  if (!answer) return <tr><th scope="row" class={`indent-${Math.min(level, 3)} muted`}>Reading…</th></tr>;
  return <Level explore={explore} columns={columns} level={level} above={above} answer={answer} onMore={() => load(answer.meta.next)} />;
}

function SortHeader({ explore, measure, view }: { explore: Explore; measure: Measure; view: View }) {
  const sort = view.sort ?? { by: view.measures[0] ?? '', way: 'desc' };
  const isOn = sort.by === measure.name;
  const next = isOn && sort.way === 'desc' ? 'asc' : 'desc';
  return (
    <th scope="col" class="num" aria-sort={isOn ? (sort.way === 'desc' ? 'descending' : 'ascending') : 'none'}>
      <button type="button" onClick={() => explore.dispatch({ do: 'sort', by: measure.name, way: next })}>
        {measure.title}{measure.approximate ? ' ≈' : ''}{isOn && <Icon name={sort.way === 'desc' ? 'arrow-down' : 'arrow-up'} />}
      </button>
    </th>
  );
}

/** See the module. */
export function TableView({ explore }: { explore: Explore }) {
  const shown = explore.shown.value;
  const view = shown?.view ?? explore.view.value;
  const { table } = explore;
  const first = shown?.branches.get('level');
  const [more, setMore] = useState<{ of: BranchAnswer; answer: BranchAnswer } | null>(null);
  const slots = useRef(new Slots());
  const answer = first && more?.of === first ? more.answer : first;
  const totals = first?.meta.totals.find((total) => total.by.length === 0)?.rows[0];
  const measures = view.measures.map((name) => measureOf(table, name)).filter((measure) => measure !== undefined);
  const columns: Columns = { view, measures, totals };
  const isCompared = view.compare !== null;

  const loadMore = async (): Promise<void> => {
    if (!first || !answer?.meta.next) return;
    const after = answer.meta.next;
    const got = await slots.current.latest('more', (signal) => pull(pattern(tableLevel(explore.asked(view), 'level', 0, [], after)), signal));
    const found = got?.answer.branches.get('level');
    if (found) setMore({ of: first, answer: { ...found, rows: [...answer.rows, ...found.rows] } });
  };

  if (view.splits.length === 0) return <div class="tile"><Empty title="No rows yet"><p>Add a split above: a dimension, or the time.</p></Empty></div>;
  return (
    <section class="tile table-tile" aria-label="Table">
      {first?.problem && <ProblemNote problem={first.problem} onRetry={explore.refresh} />}
      <div class="scroll" tabIndex={0} role="region" aria-label="Rows">
        <table class="grid pivot">
          <thead>
            <tr>
              <th scope="col">{view.splits.map((split) => fieldTitle(table, split.dim)).join(' › ')}</th>
              {measures.map((measure) => (
                <>
                  <SortHeader explore={explore} measure={measure} view={view} />
                  {measure.additive && <th scope="col" class="num">% of total</th>}
                  {isCompared && <th scope="col" class="num"><abbr title="Change against the other interval">Δ</abbr></th>}
                </>
              ))}
            </tr>
          </thead>
          <tbody>
            <tr class="totals"><th scope="row">Total</th><MeasureCells columns={columns} row={totals} /></tr>
            {answer ? <Level explore={explore} columns={columns} level={0} above={[]} answer={answer} onMore={() => void loadMore()} /> : null}
          </tbody>
        </table>
        {!answer && Array.from({ length: 12 }, (_, at) => <div key={at} class="skeleton line" />)}
        {answer && answer.rows.length === 0 && <p class="panel-note">No rows in this range.</p>}
      </div>
      {answer && <p class="table-foot" role="status">Showing {answer.rows.length.toLocaleString('en')} rows{answer.meta.next ? ' of more' : ', all there are'}.</p>}
    </section>
  );
}
