/** The records behind what is shown, newest first, page by page. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { pull } from '../../api/client';
import { isOthers, type Column, type Row } from '../../api/decode';
import { asApiError, type ApiError } from '../../api/errors';
import { canonical } from '../../api/json';
import { pattern } from '../../api/pattern';
import { Slots } from '../../api/slots';
import { Icon } from '../../components/icon';
import { ErrorNote } from '../../components/notes';
import { Value } from '../../components/value';
import { instantText, rangeText } from '../../format/time';
import { csv } from '../../format/value';
import { records } from '../../state/plan';
import { fieldTitle } from '../../state/schema';
import { save } from '../../components/save';
import type { Explore } from './store';

/** Columns beside the dimensions that tell where a record lies. */
const PLACE = ['_partition', '_offset'];

interface Found {
  rows: readonly Row[];
  columns: readonly Column[];
  count: number | null;
  next: string | null;
  from: string | null;
  to: string | null;
}

function cellText(column: Column, value: Row[string] | undefined) {
  if (value === null || value === undefined) return <span class="word">∅</span>;
  if (column.type.startsWith('timestamp') && typeof value === 'string') return instantText(value);
  return <Value cell={value} />;
}

function Detail({ explore, row }: { explore: Explore; row: Row }) {
  const pick = (dim: string): void => {
    const cell = row[dim];
    const value = cell === null || cell === undefined || isOthers(cell) ? null : String(cell);
    explore.dispatch({ do: 'only', dim, value });
  };
  return (
    <dl class="detail">
      {Object.entries(row).map(([name, cell]) => (
        <div key={name}>
          <dt>{fieldTitle(explore.table, name)}</dt>
          <dd><Value cell={cell} /></dd>
          {explore.table.dimensions.some((dimension) => dimension.name === name) && (
            <button type="button" class="button small plain" onClick={() => pick(name)} title="Only this value"><Icon name="filter" /></button>
          )}
        </div>
      ))}
    </dl>
  );
}

/** See the module. */
export function Records({ explore }: { explore: Explore }) {
  const view = explore.view.value;
  const { table } = explore;
  const [found, setFound] = useState<Found | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [open, setOpen] = useState<number | null>(null);
  const slots = useRef(new Slots());
  const drawer = useRef<HTMLElement>(null);
  const columns = useMemo(() => [table.time, ...table.dimensions.map((dimension) => dimension.name), ...PLACE], [table]);
  const key = canonical(pattern([records(explore.asked(view), columns, null)]));

  const load = async (after: string | null): Promise<void> => {
    try {
      const got = await slots.current.latest('records', (signal) => pull(pattern([records(explore.asked(), columns, after)]), signal));
      const answer = got?.answer.branches.get('records');
      if (!answer) return;
      setError(answer.problem ? asApiError(new Error(answer.problem.reason)) : null);
      setFound((old) => ({
        rows: after === null ? answer.rows : [...(old?.rows ?? []), ...answer.rows],
        columns: answer.meta.columns,
        count: answer.meta.count ?? old?.count ?? null,
        next: answer.meta.next,
        from: answer.meta.from,
        to: answer.meta.to,
      }));
    } catch (failed) {
      setError(asApiError(failed));
    }
  };

  useEffect(() => {
    setOpen(null);
    void load(null);
  }, [key]);

  useEffect(() => {
    drawer.current?.focus({ preventScroll: true });
  }, []);

  const close = (): void => explore.dispatch({ do: 'records', open: false });
  const download = (): void => {
    if (!found) return;
    const names = found.columns.map((column) => column.name);
    save(`${table.name}-records.csv`, 'text/csv', csv(names, found.rows.map((row) => names.map((name) => row[name]))));
  };
  const range = found?.from && found.to ? rangeText(found.from, found.to) : '';

  return (
    <aside class="drawer" ref={drawer} tabIndex={-1} aria-label="Records" onKeyDown={(event) => { if (event.key === 'Escape') { event.stopPropagation(); close(); } }}>
      <header>
        <div>
          <h2>Records behind it</h2>
          <p class="muted">
            {range} ({view.zone}){view.filters.length > 0 ? `, ${view.filters.length} ${view.filters.length === 1 ? 'filter' : 'filters'}` : ''}
          </p>
        </div>
        <span class="spacer" />
        <button type="button" class="button small" onClick={download} disabled={!found}><Icon name="download" />CSV</button>
        <button type="button" class="button small plain" onClick={close} aria-label="Close records"><Icon name="close" /></button>
      </header>
      {error && <ErrorNote error={error} onRetry={() => void load(null)} />}
      <p class="drawer-count" role="status">
        {found ? `Newest ${found.rows.length.toLocaleString('en')} of ${found.count?.toLocaleString('en') ?? 'an unknown number'}` : 'Reading…'}
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Rows">
        <table class="grid">
          <thead>
            <tr>{found?.columns.map((column) => <th key={column.name} scope="col">{fieldTitle(table, column.name)}</th>)}</tr>
          </thead>
          <tbody>
            {found?.rows.map((row, at) => (
              <>
                <tr key={at} class="record" onClick={() => setOpen(open === at ? null : at)}>
                  {found.columns.map((column, i) => (
                    <td key={column.name} class={typeof row[column.name] === 'number' ? 'num' : ''}>
                      {i === 0 ? <button type="button" aria-expanded={open === at}>{cellText(column, row[column.name])}</button> : cellText(column, row[column.name])}
                    </td>
                  ))}
                </tr>
                {open === at && <tr key={`${at}+`}><td colSpan={found.columns.length}><Detail explore={explore} row={row} /></td></tr>}
              </>
            ))}
          </tbody>
        </table>
        {found?.rows.length === 0 && <p class="panel-note">No record passes.</p>}
        {found?.next && <button type="button" class="button more-rows" onClick={() => void load(found.next)}>Older</button>}
      </div>
    </aside>
  );
}
