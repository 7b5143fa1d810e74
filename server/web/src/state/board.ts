/** A dashboard: tiles in a grid of twelve columns, each a view of Explore. Pure. */
import type { Bounds } from '../api/decode';
import { isObject, type Json } from '../api/json';
import { defaultView, repaired } from './defaults';
import { firstDimensions, fieldTitle, type Table } from './schema';
import { parse, print } from './url';
import type { ChartKind, View } from './view';

export type TileKind = 'number' | 'chart' | 'list' | 'table' | 'text' | 'sql';

/** A part of a dashboard. */
export interface Tile {
  id: string;
  kind: TileKind;
  title: string;
  x: number;
  y: number;
  w: number;
  h: number;
  /** The table, and the fragment of the view; of a text its Markdown, of SQL its statement. */
  table: string;
  view: string;
  /** Keeps its own range, whatever the board's. */
  ownRange: boolean;
}

/** A dashboard. */
export interface Board {
  title: string;
  /** The fragment that the board begins with: range, zone, comparison, filters. */
  view: string;
  tiles: readonly Tile[];
}

export const COLUMNS = 12;
const TILES_MAX = 60;
const KINDS: readonly TileKind[] = ['number', 'chart', 'list', 'table', 'text', 'sql'];

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

function whole(value: unknown, least: number, most: number): number {
  const number = Math.round(Number(value));
  return Number.isFinite(number) ? Math.max(least, Math.min(most, number)) : least;
}

function tile(value: unknown, at: number): Tile | null {
  if (!isObject(value)) return null;
  const kind = KINDS.find((one) => one === value['kind']);
  if (!kind) return null;
  const w = whole(value['w'], 1, COLUMNS);
  return {
    id: /^[A-Za-z0-9-]{1,40}$/.test(text(value['id'])) ? text(value['id']) : `tile-${at}`,
    kind,
    title: text(value['title']),
    w,
    h: whole(value['h'], 2, 30),
    x: whole(value['x'], 0, COLUMNS - w),
    y: whole(value['y'], 0, 1000),
    table: text(value['table']),
    view: text(value['view']),
    ownRange: value['ownRange'] === true,
  };
}

/** A dashboard from what somebody stored or imported; it is not trusted. */
export function readBoard(value: unknown): Board | null {
  if (typeof value === 'string') {
    try {
      return readBoard(JSON.parse(value));
    } catch {
      return null;
    }
  }
  if (!isObject(value)) return null;
  const tiles = Array.isArray(value['tiles']) ? value['tiles'].slice(0, TILES_MAX).map(tile) : [];
  const known = new Set<string>();
  const own = tiles.filter((one) => one !== null && !known.has(one.id) && known.add(one.id)).filter((one) => one !== null);
  return { title: text(value['title']) || 'Untitled', view: text(value['view']), tiles: own };
}

/** A dashboard as JSON. */
export function writeBoard(board: Board): Json {
  return JSON.parse(JSON.stringify(board)) as Json;
}

/** The view of a tile on a board: the board's range, zone, comparison and filters, unless the tile keeps its own range. */
export function tileView(tile: Tile, table: Table, bounds: Bounds | undefined, board: View): { view: View; unreached: string[] } {
  const own = repaired(parse(tile.view, defaultView(table, bounds, board.zone)).view, table).view;
  const reached = board.filters.filter((filter) => table.dimensions.some((dimension) => dimension.name === filter.dim));
  const unreached = board.filters.filter((filter) => !reached.includes(filter)).map((filter) => filter.dim);
  const filters = [...own.filters.filter((filter) => !reached.some((other) => other.dim === filter.dim)), ...reached];
  const time = tile.ownRange ? {} : { range: board.range, anchor: board.anchor, granularity: board.granularity };
  return { view: { ...own, ...time, zone: board.zone, compare: board.compare, filters, brush: null, records: false }, unreached };
}

/** The lowest free row of a board. */
export function bottom(board: Board): number {
  return board.tiles.reduce((most, one) => Math.max(most, one.y + one.h), 0);
}

function overlap(a: Tile, b: Tile): boolean {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

/** Tiles without overlaps and gaps: `first` stays where it was put, the others make room and fall up. */
export function settled(tiles: readonly Tile[], first: string | null): Tile[] {
  const ordered = [...tiles].sort((a, b) => a.y - b.y || Number(b.id === first) - Number(a.id === first) || a.x - b.x);
  const placed: Tile[] = [];
  for (const one of ordered) {
    let y = 0;
    while (placed.some((other) => overlap({ ...one, y }, other))) y += 1;
    placed.push({ ...one, y });
  }
  return placed;
}

/** A board with one tile changed, and the others out of its way. */
export function changed(board: Board, id: string, change: Partial<Tile>): Board {
  const tiles = board.tiles.map((one) => {
    if (one.id !== id) return one;
    const next = { ...one, ...change };
    const w = whole(next.w, 1, COLUMNS);
    return { ...next, w, h: whole(next.h, 2, 30), x: whole(next.x, 0, COLUMNS - w), y: whole(next.y, 0, 1000) };
  });
  return { ...board, tiles: settled(tiles, id) };
}

/** Two changes of one board together; null where both touched the same tile. */
export function merge(base: Board, mine: Board, theirs: Board): Board | null {
  const of = (board: Board): Map<string, Tile> => new Map(board.tiles.map((one) => [one.id, one]));
  const [before, ours, others] = [of(base), of(mine), of(theirs)];
  const same = (a: Tile | undefined, b: Tile | undefined): boolean => JSON.stringify(a) === JSON.stringify(b);
  const tiles: Tile[] = [];
  for (const id of new Set([...before.keys(), ...others.keys(), ...ours.keys()])) {
    const [was, a, b] = [before.get(id), ours.get(id), others.get(id)];
    if (!same(was, a) && !same(was, b) && !same(a, b)) return null;
    const kept = same(was, a) ? b : a;
    if (kept) tiles.push(kept);
  }
  const head = <K extends 'title' | 'view'>(key: K): string | null => {
    if (base[key] === mine[key]) return theirs[key];
    return base[key] === theirs[key] || mine[key] === theirs[key] ? mine[key] : null;
  };
  const [title, view] = [head('title'), head('view')];
  return title === null || view === null ? null : { title, view, tiles: settled(tiles, null) };
}

/** A name for a new tile. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(5)), (byte) => byte.toString(36)).join('').slice(0, 8);
}

/** A tile of a view of Explore. */
export function tileOf(table: Table, view: View, defaults: View, at: { x: number; y: number }): Tile {
  const kind: TileKind = view.mode === 'table' ? 'table' : view.mode === 'chart' && view.kind === 'total' ? 'number' : 'chart';
  const shown: View = view.mode === 'overview' ? { ...view, splits: [], kind: 'area' } : view;
  const measure = fieldTitle(table, view.measures[0] ?? '');
  const split = shown.splits[0];
  const title = split ? `${measure} by ${fieldTitle(table, split.dim)}` : measure;
  const size = kind === 'number' ? { w: 2, h: 4 } : { w: 6, h: 7 };
  return { id: newId(), kind, title, table: table.name, view: print({ ...shown, mode: kind === 'table' ? 'table' : 'chart', brush: null, records: false }, defaults), ownRange: false, ...at, ...size };
}

/** A board to begin with: numbers, courses and first values of a table. */
export function template(table: Table, bounds: Bounds | undefined, zone: string): Board {
  const defaults = defaultView(table, bounds, zone);
  const tiles: Tile[] = [];
  const add = (kind: TileKind, title: string, change: Partial<View>, place: { x: number; y: number; w: number; h: number }): void => {
    tiles.push({ id: `t${tiles.length}`, kind, title, table: table.name, view: print({ ...defaults, ...change, mode: 'chart' }, defaults), ownRange: false, ...place });
  };
  const measures = table.measures.slice(0, 6);
  measures.forEach((measure, at) => add('number', measure.title, { measures: [measure.name], splits: [] }, { x: at * 2, y: 0, w: 2, h: 4 }));
  measures.slice(0, 2).forEach((measure, at) => add('chart', `${measure.title} over time`, { measures: [measure.name], splits: [], kind: 'area' as ChartKind }, { x: at * 6, y: 4, w: 6, h: 7 }));
  const lead = measures[0];
  if (lead) {
    const dims = firstDimensions(table, 4);
    dims.slice(0, 3).forEach((dim, at) => add('list', `Top ${fieldTitle(table, dim)}`, { measures: [lead.name], splits: [{ dim, limit: 7, by: lead.name, way: 'desc' }] }, { x: at * 4, y: 11, w: 4, h: 7 }));
    const [split] = dims;
    if (split) add('chart', `${lead.title} by ${fieldTitle(table, split)}`, { measures: [lead.name], kind: 'area', splits: [{ dim: split, limit: 8, by: lead.name, way: 'desc' }] }, { x: 0, y: 18, w: 8, h: 8 });
    const words = `**Three things to try**\n\n1. Click a value in a list: the whole board narrows to it.\n2. Choose another comparison above.\n3. Open a tile in Explore from its menu, then press *Records*.`;
    tiles.push({ id: 'help', kind: 'text', title: 'How to read this board', table: '', view: words, ownRange: false, x: 8, y: 18, w: 4, h: 8 });
  }
  return { title: `Overview of ${table.name}`, view: print(defaults, defaults), tiles };
}
