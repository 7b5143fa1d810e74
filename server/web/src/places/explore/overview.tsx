/** What moved: numbers, series, and the first values of each dimension. */
import { useSignal } from '@preact/signals';
import { useState } from 'preact/hooks';
import { Leaderboard } from '../../components/leaderboard';
import { Empty } from '../../components/notes';
import { copy } from '../../components/save';
import { say } from '../../components/toast';
import { ValueMenu, type Choice } from '../../components/value-menu';
import { asNumber } from '../../api/decode';
import { boardName, BOARD_ROWS, leadMeasure } from '../../state/plan';
import { dimensionOf, fieldTitle, measureOf } from '../../state/schema';
import { valueText } from '../../format/value';
import { filterOf, type FilterValue } from '../../state/view';
import { Fields } from './fields';
import { SeriesTile } from './series-tile';
import type { Explore } from './store';

const CHART_HEIGHT = 150;

/** Whether the server found nothing at all in the range. */
function isNothing(explore: Explore): boolean {
  const shown = explore.shown.value;
  const series = shown?.branches.get('series');
  const counts = explore.table.measures.filter((measure) => measure.additive && shown?.view.measures.includes(measure.name));
  if (!series || counts.length === 0 || series.problem) return false;
  return series.rows.every((row) => counts.every((measure) => !asNumber(row[measure.name])));
}

function Nothing({ explore }: { explore: Explore }) {
  const { filters } = explore.view.value;
  return (
    <Empty title="Nothing in this range">
      <p>No event of {explore.table.name} lies in it{filters.length > 0 ? ' and passes the filters' : ''}.</p>
      <div class="acts">
        <button type="button" class="button" onClick={() => explore.dispatch({ do: 'range', range: { kind: 'all' } })}>Widen to all time</button>
        {filters.map((filter) => (
          <button key={filter.dim} type="button" class="button" onClick={() => explore.dispatch({ do: 'unfilter', dim: filter.dim })}>
            Remove filter {fieldTitle(explore.table, filter.dim)}
          </button>
        ))}
      </div>
    </Empty>
  );
}

/** What can be done with a value. */
function choices(explore: Explore, dim: string, value: FilterValue): Choice[] {
  const { dispatch, table } = explore;
  const view = explore.view.peek();
  const used = new Set([dim, ...view.filters.map((filter) => filter.dim)]);
  const next = view.boards.find((name) => !used.has(name)) ?? null;
  const by = leadMeasure(view);
  const splitBy = (name: string): void => {
    dispatch({ do: 'split', split: { dim: name, limit: 8, by, way: 'desc' }, at: 0 });
    dispatch({ do: 'mode', mode: 'chart' });
  };
  return [
    { title: 'Only this', act: () => dispatch({ do: 'only', dim, value }) },
    { title: 'Add or remove', act: () => dispatch({ do: 'toggle', dim, value }) },
    { title: 'Leave out', act: () => dispatch({ do: 'exclude', dim, value }) },
    { title: `Split by ${fieldTitle(table, dim)}`, act: () => splitBy(dim) },
    ...(next === null ? [] : [{ title: `Drill into ${fieldTitle(table, next)}`, act: () => { dispatch({ do: 'drill', dim, value, next: null }); splitBy(next); } }]),
    { title: 'Records', act: () => { dispatch({ do: 'drill', dim, value, next: null }); dispatch({ do: 'records', open: true }); } },
    { title: 'Copy', act: () => void copy(value ?? '').then((done) => say(done ? 'Copied' : 'It could not be copied')) },
  ];
}

/** See the module. */
export function Overview({ explore }: { explore: Explore }) {
  const hover = useSignal<number | null>(null);
  const [menu, setMenu] = useState<{ dim: string; value: FilterValue; x: number; y: number } | null>(null);
  const live = explore.view.value;
  const shown = explore.shown.value;
  const view = shown?.view ?? live;
  const { table } = explore;
  const by = leadMeasure(view);
  const openAll = (dim: string): void => {
    explore.dispatch({ do: 'split', split: { dim, limit: 8, by: leadMeasure(live), way: 'desc' }, at: 0 });
    explore.dispatch({ do: 'mode', mode: 'table' });
  };
  return (
    <div class="overview">
      <Fields explore={explore} />
      <div class="courses">
        {isNothing(explore) && <div class="tile"><Nothing explore={explore} /></div>}
        {live.measures.map((name) => {
          const measure = measureOf(table, name);
          return measure && <SeriesTile key={name} explore={explore} measure={measure} hover={hover} height={CHART_HEIGHT} />;
        })}
      </div>
      <div class="boards">
        {live.boards.map((dim) => (
          <Leaderboard
            key={dim}
            title={fieldTitle(table, dim)}
            dim={dim}
            measure={measureOf(table, by)}
            answer={shown?.branches.get(boardName(dim))}
            filter={filterOf(live, dim)}
            isCompared={view.compare !== null}
            rows={dimensionOf(table, dim)?.type === 'boolean' ? 2 : BOARD_ROWS + 1}
            onPick={(way, value) => explore.dispatch({ do: way, dim, value })}
            onAll={() => openAll(dim)}
            onMenu={(value, event) => setMenu({ dim, value, x: event.clientX, y: event.clientY })}
          />
        ))}
        {menu && <ValueMenu key={`${menu.dim} ${menu.value}`} title={valueText(menu.value).text} x={menu.x} y={menu.y} choices={choices(explore, menu.dim, menu.value)} onClose={() => setMenu(null)} />}
        {live.boards.length === 0 && <div class="tile"><Empty title="No list is shown"><p>Tick a dimension to see its first values.</p></Empty></div>}
      </div>
    </div>
  );
}
