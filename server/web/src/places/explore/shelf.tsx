/** What a chart or table is built from: splits, measures, and the kind of chart. */
import { Icon } from '../../components/icon';
import { Item, Popover } from '../../components/popover';
import { dimensionSplits, isAdditive, leadMeasure } from '../../state/plan';
import { fieldTitle } from '../../state/schema';
import { CHART_KINDS, type ChartKind, type Split } from '../../state/view';
import type { Explore } from './store';

const LIMITS = [3, 5, 8, 12, 20, 50];
const KIND_TITLES: { readonly [kind in ChartKind]: string } = { total: 'Total', line: 'Line', area: 'Area', bar: 'Bar', heat: 'Heat', donut: 'Donut' };

/** A split. A table pages through all values, so that how many is said for charts only. */
function SplitPill({ explore, split, isTable }: { explore: Explore; split: Split; isTable: boolean }) {
  const title = fieldTitle(explore.table, split.dim);
  const isTime = split.dim === explore.table.time;
  const isPlain = isTable || isTime;
  return (
    <span class="pill split">
      {isPlain ? (
        <span class="pill-text">{title}</span>
      ) : (
        <Popover class="pill-text" title={`Split by ${title}`} label={<>{title} · {split.way === 'desc' ? 'top' : 'last'} {split.limit}</>}>
          {(close) => (
            <>
              <h3>How many values</h3>
              {LIMITS.map((limit) => (
                <Item key={limit} isChosen={split.limit === limit} onPick={() => { explore.dispatch({ do: 'split', split: { ...split, limit }, at: explore.view.value.splits.indexOf(split) }); close(); }}>
                  {limit}
                </Item>
              ))}
              <h3>Which</h3>
              <Item isChosen={split.way === 'desc'} onPick={() => { explore.dispatch({ do: 'split', split: { ...split, way: 'desc' }, at: explore.view.value.splits.indexOf(split) }); close(); }}>The greatest</Item>
              <Item isChosen={split.way === 'asc'} onPick={() => { explore.dispatch({ do: 'split', split: { ...split, way: 'asc' }, at: explore.view.value.splits.indexOf(split) }); close(); }}>The smallest</Item>
            </>
          )}
        </Popover>
      )}
      <button type="button" class="pill-close" aria-label={`Remove split ${title}`} title="Remove" onClick={() => explore.dispatch({ do: 'unsplit', dim: split.dim })}><Icon name="close" /></button>
    </span>
  );
}

/** Why a kind of chart does not fit; null if it does. */
export function unfit(explore: Explore, kind: ChartKind): string | null {
  const asked = explore.asked(explore.view.value);
  const [split] = dimensionSplits(asked);
  if (kind === 'heat' && !split) return 'A heat map needs a split by a dimension';
  if (kind !== 'donut') return null;
  if (!split) return 'A donut needs a split by a dimension';
  return isAdditive(asked.table, leadMeasure(asked.view)) ? null : 'A donut needs a measure whose parts add up';
}

/** See the module. */
export function Shelf({ explore, withKinds }: { explore: Explore; withKinds: boolean }) {
  const view = explore.view.value;
  const { table } = explore;
  const free = [table.time, ...table.dimensions.map((dimension) => dimension.name)].filter((name) => !view.splits.some((split) => split.dim === name));
  const by = leadMeasure(view);
  return (
    <div class="shelf">
      <span class="shelf-name">{withKinds ? 'Show' : 'Rows'}</span>
      {view.splits.map((split) => <SplitPill key={split.dim} explore={explore} split={split} isTable={!withKinds} />)}
      <Popover class="button small" title="Add a split" label={<><Icon name="plus" />Split</>}>
        {(close) => free.map((name) => (
          <Item key={name} onPick={() => { explore.dispatch({ do: 'split', split: { dim: name, limit: 8, by, way: 'desc' } }); close(); }}>{fieldTitle(table, name)}</Item>
        ))}
      </Popover>
      <span class="shelf-name">Measures</span>
      {view.measures.map((name) => (
        <span key={name} class="pill measure">
          <span class="pill-text">{fieldTitle(table, name)}</span>
          {view.measures.length > 1 && (
            <button type="button" class="pill-close" aria-label={`Remove measure ${fieldTitle(table, name)}`} title="Remove" onClick={() => explore.dispatch({ do: 'measure', name })}><Icon name="close" /></button>
          )}
        </span>
      ))}
      <Popover class="button small" title="Add a measure" label={<><Icon name="plus" />Measure</>}>
        {(close) => table.measures.filter((measure) => !view.measures.includes(measure.name)).map((measure) => (
          <Item key={measure.name} onPick={() => { explore.dispatch({ do: 'measure', name: measure.name }); close(); }}>{measure.title}</Item>
        ))}
      </Popover>
      <span class="spacer" />
      {withKinds && (
        <div class="kinds" role="group" aria-label="Kind of chart">
          {CHART_KINDS.map((kind) => {
            const why = unfit(explore, kind);
            return (
              <button key={kind} type="button" class="kind" aria-pressed={view.kind === kind} disabled={why !== null} title={why ?? undefined} onClick={() => explore.dispatch({ do: 'kind', kind })}>
                {KIND_TITLES[kind]}
              </button>
            );
          })}
        </div>
      )}
    </div>
  );
}
