/** Measures and dimensions to choose from. */
import { useState } from 'preact/hooks';
import { Icon } from '../../components/icon';
import { Item, Popover } from '../../components/popover';
import type { Dimension, Measure } from '../../state/schema';
import type { Explore } from './store';

function matches(field: { name: string; title: string }, search: string): boolean {
  const words = search.toLowerCase();
  return field.title.toLowerCase().includes(words) || field.name.includes(words);
}

function MeasureLine({ explore, measure }: { explore: Explore; measure: Measure }) {
  const { measures } = explore.view.value;
  const isOn = measures.includes(measure.name);
  return (
    <label class="field-line" title={measure.description ?? undefined}>
      <input
        type="checkbox"
        checked={isOn}
        disabled={isOn && measures.length === 1}
        onChange={() => explore.dispatch({ do: 'measure', name: measure.name })}
      />
      <span>{measure.title}{measure.approximate && <abbr class="approx" title="Approximate"> ≈</abbr>}</span>
    </label>
  );
}

function DimensionLine({ explore, dimension }: { explore: Explore; dimension: Dimension }) {
  const { boards, splits, mode } = explore.view.value;
  const name = dimension.name;
  const isOn = mode === 'overview' ? boards.includes(name) : splits.some((split) => split.dim === name);
  const by = explore.view.value.measures[0] ?? '';
  const split = { dim: name, limit: 8, by, way: 'desc' as const };
  const pick = (): void => {
    if (mode === 'overview') explore.dispatch({ do: 'board', name });
    else explore.dispatch(isOn ? { do: 'unsplit', dim: name } : { do: 'split', split });
  };
  return (
    <div class="field-line">
      <label title={dimension.description ?? undefined}>
        <input type="checkbox" checked={isOn} onChange={pick} />
        <span>{dimension.title}</span>
      </label>
      <Popover class="button plain small more" alignRight isIcon title={`More for ${dimension.title}`} label={<Icon name="more" />}>
        {(close) => (
          <>
            <Item onPick={() => { explore.dispatch({ do: 'split', split, at: 0 }); explore.dispatch({ do: 'mode', mode: 'chart' }); close(); }}>Split a chart by it</Item>
            <Item onPick={() => { explore.dispatch({ do: 'split', split, at: 0 }); explore.dispatch({ do: 'mode', mode: 'table' }); close(); }}>All values in a table</Item>
            <Item onPick={() => { explore.dispatch({ do: 'board', name }); close(); }}>{boards.includes(name) ? 'Hide its list' : 'Show its list'}</Item>
          </>
        )}
      </Popover>
    </div>
  );
}

/** See the module. */
export function Fields({ explore }: { explore: Explore }) {
  const [search, setSearch] = useState('');
  const { table } = explore;
  const measures = table.measures.filter((measure) => matches(measure, search));
  const dimensions = table.dimensions.filter((dimension) => matches(dimension, search));
  return (
    <section class="fields tile" aria-label="Fields">
      <input class="field" id="find-field" type="search" placeholder="Find a field  /" aria-label="Find a field" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
      <h3>Measures</h3>
      {measures.map((measure) => <MeasureLine key={measure.name} explore={explore} measure={measure} />)}
      <h3>Dimensions</h3>
      {dimensions.map((dimension) => <DimensionLine key={dimension.name} explore={explore} dimension={dimension} />)}
      {measures.length + dimensions.length === 0 && <p class="panel-note">No field has “{search}” in its name.</p>}
    </section>
  );
}
