/** What moved: numbers, series, and the first values of each dimension. */
import { useSignal } from '@preact/signals';
import { Leaderboard } from '../../components/leaderboard';
import { Empty } from '../../components/notes';
import { asNumber } from '../../api/decode';
import { boardName, BOARD_ROWS, leadMeasure } from '../../state/plan';
import { dimensionOf, fieldTitle, measureOf } from '../../state/schema';
import { filterOf } from '../../state/view';
import { Fields } from './fields';
import { BrushBar, SeriesTile } from './series-tile';
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

/** See the module. */
export function Overview({ explore }: { explore: Explore }) {
  const hover = useSignal<number | null>(null);
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
        <BrushBar explore={explore} />
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
          />
        ))}
        {live.boards.length === 0 && <div class="tile"><Empty title="No list is shown"><p>Tick a dimension to see its first values.</p></Empty></div>}
      </div>
    </div>
  );
}
