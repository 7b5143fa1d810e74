/** Values of a dimension to filter by, with their numbers and a search. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { pull } from '../../api/client';
import type { BranchAnswer } from '../../api/decode';
import { asApiError, type ApiError } from '../../api/errors';
import { pattern } from '../../api/pattern';
import { Slots } from '../../api/slots';
import { ErrorNote } from '../../components/notes';
import { Value } from '../../components/value';
import { compact } from '../../format/number';
import { leadMeasure, values } from '../../state/plan';
import { fieldTitle, measureOf } from '../../state/schema';
import { filterOf, type FilterValue } from '../../state/view';
import type { Cell } from '../../api/decode';
import type { Explore } from './store';

const SEARCH_WAIT_MS = 200;

/** A cell as filters spell it. */
export function asFilterValue(cell: Cell | undefined): FilterValue {
  return cell === null || cell === undefined || typeof cell === 'object' ? null : String(cell);
}

/** See the module. */
export function ValuePicker({ explore, dim }: { explore: Explore; dim: string }) {
  const [search, setSearch] = useState('');
  const [found, setFound] = useState<BranchAnswer | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const slots = useRef(new Slots());
  const view = explore.view.value;
  const filter = filterOf(view, dim);
  const op = filter?.op ?? 'in';
  const chosen = filter?.values ?? [];
  const by = leadMeasure(view);
  const measure = measureOf(explore.table, by);

  useEffect(() => {
    const timer = setTimeout(() => {
      const branch = values(explore.asked(), dim, search);
      slots.current
        .latest('values', (signal) => pull(pattern([branch]), signal))
        .then((got) => {
          const answer = got?.answer.branches.get('values');
          if (answer) setFound(answer);
          if (got) setError(null);
        })
        .catch((failed: unknown) => setError(asApiError(failed)));
    }, search === '' ? 0 : SEARCH_WAIT_MS);
    return () => clearTimeout(timer);
  }, [search, dim]);

  const set = (next: readonly FilterValue[], way: 'in' | 'not' = op): void => explore.dispatch({ do: 'filter', filter: { dim, op: way, values: next } });
  const toggle = (value: FilterValue): void => set(chosen.includes(value) ? chosen.filter((other) => other !== value) : [...chosen, value]);
  const title = fieldTitle(explore.table, dim);
  const unseen = chosen.filter((value) => !found?.rows.some((row) => asFilterValue(row['value']) === value));

  const line = (cell: Cell | undefined, number: string) => {
    const value = asFilterValue(cell);
    return (
      <label class="choice" key={value === null ? '~null' : `=${value}`}>
        <input type="checkbox" checked={chosen.includes(value)} onChange={() => toggle(value)} />
        <span class="choice-text"><Value cell={cell} /></span>
        <span class="num muted">{number}</span>
      </label>
    );
  };

  return (
    <div class="picker">
      <div class="row">
        <select class="field narrow" aria-label="Kept or left out" value={op} onChange={(event) => set(chosen, event.currentTarget.value === 'not' ? 'not' : 'in')}>
          <option value="in">{title} is</option>
          <option value="not">{title} is not</option>
        </select>
        <input class="field grow" type="search" placeholder="Search values" aria-label={`Search values of ${title}`} data-first value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
      </div>
      {error && <ErrorNote error={error} />}
      <div class="choices">
        {unseen.map((value) => line(value, ''))}
        {found?.rows.map((row) => line(row['value'], by === '' ? '' : compact(row[by], measure)))}
        {!found && !error && <p class="panel-note">Loading values…</p>}
        {found?.rows.length === 0 && <p class="panel-note">No value of {title} has “{search}” in it.</p>}
        {found && (found.meta.behind ?? 0) > 0 && <p class="panel-note">{found.meta.behind?.toLocaleString('en')} more: search to find them.</p>}
      </div>
    </div>
  );
}
