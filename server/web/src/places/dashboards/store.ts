/** The state of one dashboard: its tiles, the view that they share, and their answers. */
import { batch, effect, signal, type ReadonlySignal, type Signal } from '@preact/signals';
import { pull } from '../../api/client';
import type { BranchAnswer } from '../../api/decode';
import { asApiError, type ApiError } from '../../api/errors';
import { canonical } from '../../api/json';
import { pattern, type Branch } from '../../api/pattern';
import { Slots } from '../../api/slots';
import { tileView, type Board, type Tile } from '../../state/board';
import { browserZone, defaultView, repaired } from '../../state/defaults';
import { board as listBranch, branches, dimensionSplits, overview, type Asked } from '../../state/plan';
import { navigate, route } from '../../state/route';
import type { Table } from '../../state/schema';
import { bounds, tables } from '../../state/session';
import { parse, print } from '../../state/url';
import { isStep, reduce, type Action, type View } from '../../state/view';
import type { Explore, Shown } from '../explore/store';

/** Calls of one request: the server takes 64. */
const CALLS_MAX = 32;

/** A tile with what it shows. */
export interface LiveTile {
  tile: Tile;
  explore: Explore;
  /** Filters of the board that do not reach it. */
  unreached: readonly string[];
}

/** An open dashboard. */
export interface OpenBoard {
  key: string;
  board: Signal<Board>;
  /** What the tiles share; its controls are those of Explore. */
  head: Explore;
  live(tile: Tile): LiveTile | null;
  since: ReadonlySignal<number | null>;
  error: ReadonlySignal<ApiError | null>;
  at: ReadonlySignal<number | null>;
  /** How often somebody asked anew, for tiles that ask by themselves. */
  round: ReadonlySignal<number>;
  refresh(): void;
  dispose(): void;
}

function tableOf(name: string): Table | undefined {
  return tables.peek()?.find((table) => table.name === name);
}

/** The branches of a tile. */
export function tileBranches(tile: Tile, asked: Asked): Branch[] {
  if (tile.kind === 'number') return overview({ ...asked, view: { ...asked.view, boards: [] } });
  if (tile.kind === 'list') {
    const [split] = dimensionSplits(asked);
    return split ? [listBranch(asked, split.dim, split.limit)] : [];
  }
  return branches({ ...asked, view: { ...asked.view, mode: tile.kind === 'table' ? 'table' : 'chart' } });
}

function chunks(all: readonly Branch[]): Branch[][] {
  return Array.from({ length: Math.ceil(all.length / CALLS_MAX) }, (_, at) => all.slice(at * CALLS_MAX, (at + 1) * CALLS_MAX));
}

const JOINT = '__';

/** Opens a dashboard. */
export function openBoard(key: string, first: Board, table: Table): OpenBoard {
  const slots = new Slots();
  const path = `/dashboards/${encodeURIComponent(key)}`;
  const board = signal(first);
  const defaults = defaultView(table, bounds.peek().of.get(table.name), browserZone());
  const base = parse(first.view, defaults).view;
  const read = (fragment: string): View => (fragment.length > 1 ? repaired(parse(fragment, defaults).view, table).view : repaired(base, table).view);
  const view = signal<View>(read(route.peek().fragment));
  const since = signal<number | null>(null);
  const error = signal<ApiError | null>(null);
  const at = signal<number | null>(null);
  const headShown = signal<Shown | null>(null);
  const missing = signal<readonly string[]>([]);

  const dispatch = (action: Action): void => {
    const next = reduce(view.peek(), action);
    view.value = next;
    navigate(`${path}#${print(next, defaults)}`, isStep(action) ? 'push' : 'replace');
  };

  const common = { error, since, stop: () => undefined, dispose: () => undefined };
  const asked = (of: View = view.peek()): Asked => ({ table, bounds: bounds.peek().of.get(table.name), view: of });
  const head: Explore = {
    ...common, table, view, shown: headShown, missing, dispatch, asked,
    address: (of) => `${path}#${print(of, defaults)}`,
    refresh: () => void load(),
  };

  const lives = new Map<string, { live: LiveTile; view: Signal<View>; shown: Signal<Shown | null> }>();
  const live = (tile: Tile): LiveTile | null => {
    const of = tableOf(tile.table);
    if (!of) return null;
    const fact = bounds.peek().of.get(of.name);
    const found = tileView(tile, of, fact, view.peek());
    const known = lives.get(tile.id);
    if (known && known.live.explore.table === of) {
      if (canonical(known.view.peek() as never) !== canonical(found.view as never)) known.view.value = found.view;
      known.live = { ...known.live, tile, unreached: found.unreached };
      return known.live;
    }
    const own = signal(found.view);
    const shown = signal<Shown | null>(null);
    const tileDefaults = defaultView(of, fact, browserZone());
    const explore: Explore = {
      ...common, isTile: true, table: of, view: own, shown, missing,
      // A value that is clicked filters the board; what else a chart can do is for Explore.
      dispatch: (action) => {
        if (action.do === 'only' || action.do === 'toggle' || action.do === 'exclude') dispatch(action);
        else if (action.do === 'range') dispatch(action);
        else if (action.do === 'brush' && action.brush) dispatch({ do: 'range', range: { kind: 'fixed', from: action.brush.from.slice(0, 16), to: action.brush.to.slice(0, 16) } });
        else own.value = reduce(own.peek(), action);
      },
      asked: (over = own.peek()) => ({ table: of, bounds: bounds.peek().of.get(of.name), view: over }),
      address: (over) => `/explore/${encodeURIComponent(of.name)}#${print(over, tileDefaults)}`,
      refresh: () => void load(),
    };
    const made = { live: { tile, explore, unreached: found.unreached }, view: own, shown };
    lives.set(tile.id, made);
    return made.live;
  };

  const wanted = (): Branch[] => {
    const ordered = [...board.peek().tiles].sort((a, b) => a.y - b.y || a.x - b.x);
    return ordered.flatMap((tile) => {
      const found = tile.kind === 'text' || tile.kind === 'sql' ? null : live(tile);
      return found ? tileBranches(tile, found.explore.asked()).map((branch) => ({ ...branch, name: `${tile.id}${JOINT}${branch.name}` })) : [];
    });
  };

  const take = (answers: ReadonlyMap<string, BranchAnswer>, snapshot: number | null): void => {
    const byTile = new Map<string, Map<string, BranchAnswer>>();
    for (const [name, answer] of answers) {
      const [id = '', branch = ''] = name.split(JOINT);
      const before = lives.get(id)?.shown.peek()?.branches.get(branch);
      const kept = answer.problem && before ? { ...before, problem: answer.problem } : answer;
      byTile.set(id, (byTile.get(id) ?? new Map<string, BranchAnswer>()).set(branch, kept));
    }
    batch(() => {
      for (const [id, branches] of byTile) {
        const made = lives.get(id);
        if (!made) continue;
        made.shown.value = { view: made.view.peek(), branches, snapshot, at: Date.now() };
        if (!made.live.tile.ownRange) headShown.value = made.shown.peek();
      }
      at.value = Date.now();
      error.value = null;
    });
  };

  const asking = signal(0);
  let round = 0;
  const load = async (): Promise<void> => {
    const mine = ++round;
    since.value = Date.now();
    const parts = chunks(wanted());
    if (parts.length === 0) at.value = Date.now();
    try {
      await Promise.all(parts.map(async (part, i) => {
        const got = await slots.latest(`part ${i}`, (signal) => pull(pattern(part), signal));
        if (got && mine === round) take(got.answer.branches, got.answer.snapshot);
      }));
    } catch (failed) {
      if (mine === round) error.value = asApiError(failed);
    }
    if (mine === round) since.value = null;
  };

  let last = '';
  const stopLoading = effect(() => {
    // Both are what the tiles hang on.
    void [view.value, board.value];
    const now = canonical(pattern(wanted()));
    if (now === last) return;
    last = now;
    void load();
  });
  const stopRoute = effect(() => {
    const { path: now, fragment } = route.value;
    if (now !== path) return;
    const next = read(fragment);
    if (print(next, defaults) !== print(view.peek(), defaults)) view.value = next;
  });

  return {
    key, board, head, live, since, error, at, round: asking,
    refresh() {
      asking.value += 1;
      void load();
    },
    dispose() {
      stopLoading();
      stopRoute();
      round += 1;
    },
  };
}
