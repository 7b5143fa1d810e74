/** One tile of a dashboard. */
import type { ComponentChildren } from 'preact';
import { asNumber } from '../../api/decode';
import { edn } from '../../api/edn';
import { pattern } from '../../api/pattern';
import { Sparkline } from '../../charts/sparkline';
import { Icon } from '../../components/icon';
import { Leaderboard } from '../../components/leaderboard';
import { NumberTile } from '../../components/number-tile';
import { Note, ProblemNote } from '../../components/notes';
import { Item, Popover } from '../../components/popover';
import { copy } from '../../components/save';
import { say } from '../../components/toast';
import { boardName, dimensionSplits, leadMeasure } from '../../state/plan';
import { rangeTitle } from '../../state/range';
import { navigate } from '../../state/route';
import { fieldTitle, measureOf } from '../../state/schema';
import { filterOf } from '../../state/view';
import { ChartView } from '../explore/chart-view';
import { measureColor } from '../explore/series-tile';
import { TableView } from '../explore/table-view';
import { Markdown } from './markdown';
import { SqlTile } from './sql-tile';
import { tileBranches, type LiveTile, type OpenBoard } from './store';
import type { Tile } from '../../state/board';

const ROW = 40;
const GAP = 12;
const HEAD = 40;
/** A number above its course needs so much of a tile's height. */
const NUMBER = 80;

/** The height of a tile within its border, in pixels. */
export function inner(tile: Tile): number {
  return tile.h * ROW + (tile.h - 1) * GAP - HEAD;
}

function Number({ live, height }: { live: LiveTile; height: number }) {
  const { explore } = live;
  const view = explore.shown.value?.view ?? explore.view.value;
  const measure = measureOf(explore.table, leadMeasure(view));
  if (!measure) return <p class="panel-note">This table has no measure.</p>;
  const totals = explore.shown.value?.branches.get('totals');
  const series = explore.shown.value?.branches.get('series');
  const values = (series?.rows ?? []).map((row) => asNumber(row[measure.name]));
  const isOpen = series?.meta.buckets.at(-1)?.partial === true;
  return (
    <div class="tile-number">
      <NumberTile measure={measure} row={totals?.rows[0]} isCompared={view.compare !== null} note={totals?.meta.compare?.cut ? 'the same part of it' : null} />
      {totals?.problem && <ProblemNote problem={totals.problem} onRetry={explore.refresh} />}
      {height > NUMBER + 24 && values.length > 1 && <Sparkline values={values} color={measureColor(explore, measure)} isOpen={isOpen} height={height - NUMBER} summary={`${measure.title} over time`} />}
    </div>
  );
}

function List({ live }: { live: LiveTile }) {
  const { explore } = live;
  const shown = explore.shown.value;
  const view = explore.view.value;
  const [split] = dimensionSplits(explore.asked(view));
  if (!split) return <p class="panel-note">This list has no dimension.</p>;
  const { table } = explore;
  return (
    <Leaderboard
      title={fieldTitle(table, split.dim)}
      dim={split.dim}
      measure={measureOf(table, leadMeasure(shown?.view ?? view))}
      answer={shown?.branches.get(boardName(split.dim))}
      filter={filterOf(view, split.dim)}
      isCompared={(shown?.view ?? view).compare !== null}
      rows={split.limit}
      onPick={(way, value) => explore.dispatch({ do: way, dim: split.dim, value })}
      onAll={() => navigate(explore.address({ ...view, mode: 'table' }))}
    />
  );
}

function Body({ live, height }: { live: LiveTile; height: number }) {
  switch (live.tile.kind) {
    case 'number':
      return <Number live={live} height={height} />;
    case 'list':
      return <List live={live} />;
    case 'table':
      return <TableView explore={live.explore} />;
    default:
      return <ChartView explore={live.explore} height={height - 8} isTile />;
  }
}

/** What stands in a tile's menu while the board is edited. */
export interface Editing {
  onChange: (change: Partial<Tile>) => void;
  onDuplicate: () => void;
  onDelete: () => void;
  onRename: () => void;
}

function Menu({ tile, live, editing }: { tile: Tile; live: LiveTile | null; editing: Editing | null }) {
  const explore = live?.explore;
  return (
    <Popover class="button plain small" alignRight isIcon title="Menu of the tile" label={<Icon name="more" />}>
      {(close) => {
        const then = (act: () => unknown) => (): void => { act(); close(); };
        return (
          <>
            {live && explore && <Item onPick={then(() => navigate(explore.address({ ...explore.view.peek(), mode: live.tile.kind === 'table' ? 'table' : live.tile.kind === 'number' ? 'overview' : 'chart' })))}>Open in Explore</Item>}
            {tile.kind === 'sql' && <Item onPick={then(() => navigate(`/sql#q=${encodeURIComponent(tile.view)}`))}>Open in SQL</Item>}
            {live && explore && <Item onPick={then(() => navigate(explore.address({ ...explore.view.peek(), mode: 'table' })))}>See data</Item>}
            {live && explore && (
              <Item onPick={then(async () => say((await copy(`{:pattern ${edn(pattern(tileBranches(live.tile, explore.asked())))}}`)) ? 'Pattern copied' : 'It could not be copied'))}>Copy pattern</Item>
            )}
            {editing && live && <Item isChosen={live.tile.ownRange} onPick={then(() => editing.onChange({ ownRange: !live.tile.ownRange }))}>Keep its own range</Item>}
            {editing && <Item onPick={then(editing.onRename)}>Rename</Item>}
            {editing && <Item onPick={then(editing.onDuplicate)}>Duplicate</Item>}
            {editing && <Item onPick={then(editing.onDelete)}>Delete</Item>}
          </>
        );
      }}
    </Popover>
  );
}

/** See the module. */
export function TileView({ open, tile, editing, handle }: { open: OpenBoard; tile: Tile; editing: Editing | null; handle: ComponentChildren }) {
  // The board's view decides what the tile shows.
  void open.head.view.value;
  const live = tile.kind === 'text' || tile.kind === 'sql' ? null : open.live(tile);
  const measure = live ? measureOf(live.explore.table, leadMeasure(live.explore.view.value)) : undefined;
  const range = tile.kind === 'sql' ? 'not filtered' : live && tile.ownRange ? rangeTitle(live.explore.view.value.range) || 'its own range' : null;
  return (
    <>
      <header class="tile-head">
        {handle}
        <h2>{tile.title}{measure?.approximate && tile.kind !== 'table' && <abbr class="approx" title="Approximate"> ≈</abbr>}</h2>
        {range && <span class="tile-range" title={tile.kind === 'sql' ? 'SQL says itself what it asks: the range and filters of the board do not reach it' : 'This tile keeps its own range'}><Icon name="clock" />{range}</span>}
        <span class="spacer" />
        <Menu tile={tile} live={live} editing={editing} />
      </header>
      {live && live.unreached.length > 0 && <p class="panel-note">Not filtered: has no {live.unreached.map((dim) => fieldTitle(open.head.table, dim)).join(', ')}</p>}
      <div class="tile-body">
        {tile.kind === 'text' ? <Markdown text={tile.view} /> : tile.kind === 'sql' ? <SqlTile open={open} query={tile.view} height={inner(tile)} /> : live ? <Body live={live} height={inner(tile)} /> : <Note kind="warn">Its table {tile.table} no longer exists, or your role may not see it.</Note>}
      </div>
    </>
  );
}
