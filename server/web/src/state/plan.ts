/** A view as branches of one pull request. */
import type { Bounds } from '../api/decode';
import type { Branch, Compare, FilterTree, Interval, MetricsQuery } from '../api/pattern';
import type { Json } from '../api/json';
import { autoGranularity, interval, rangeSeconds } from './range';
import { dimensionOf, measureOf, type Table } from './schema';
import type { Comparison, Filter, FilterValue, Split, View } from './view';

/** Values in a leaderboard, and in the colours of a chart. */
export const BOARD_ROWS = 7;
export const SERIES_MAX = 8;
/** Rows of a page. */
export const TABLE_ROWS = 50;
export const RECORD_ROWS = 200;
/** Squares of a heat map. */
const HEAT_ROWS = 20;

/** What a branch of the overview is for. */
export const boardName = (dim: string): string => `lb_${dim}`;

function typed(table: Table, dim: string, value: FilterValue): Json {
  if (value === null) return null;
  switch (dimensionOf(table, dim)?.type) {
    case 'boolean':
      return value === 'true';
    case 'smallint':
    case 'integer':
    case 'bigint':
    case 'real':
    case 'double precision': {
      const number = Number(value);
      return Number.isFinite(number) && Math.abs(number) <= 2 ** 53 ? number : value;
    }
    default:
      return value;
  }
}

/** The filters of a view as a tree, but those of one dimension. */
export function filterTree(table: Table, filters: readonly Filter[], without?: string): FilterTree | undefined {
  const parts = filters
    .filter((filter) => filter.dim !== without)
    .map((filter) => {
      const set: Json = ['in', filter.dim, filter.values.map((value) => typed(table, filter.dim, value))];
      return filter.op === 'not' ? ['not', set] : set;
    });
  return parts.length === 0 ? undefined : ['and', ...parts];
}

/** The granularity of a view: the chosen one, or one that its range's length asks for. */
export function granularityOf(view: View, bounds: Bounds | undefined): string {
  return view.granularity ?? autoGranularity(rangeSeconds(view.range, bounds, view.zone));
}

/** The interval of a view. */
export function intervalOf(view: View, bounds: Bounds | undefined): Interval {
  return interval(view.range, view.anchor, view.zone, granularityOf(view, bounds), bounds);
}

/** The interval of numbers and lists: the brushed part if there is one. */
function narrowed(view: View, bounds: Bounds | undefined): Interval {
  return view.brush ? { from: view.brush.from, to: view.brush.to, tz: view.zone } : intervalOf(view, bounds);
}

function compareOf(compare: Comparison | null): Compare | undefined {
  switch (compare?.kind) {
    case undefined:
      return undefined;
    case 'previous':
      return 'previous-period';
    case 'shift':
      return { shift: compare.period };
    case 'range':
      return { from: compare.from, to: compare.to };
  }
}

/** What a page asks of a view: the table, where its events lie, and the view. */
export interface Asked {
  table: Table;
  bounds: Bounds | undefined;
  view: View;
}

function withFacets(measures: readonly string[], isCompared: boolean): string[] {
  return isCompared ? measures.flatMap((name) => [name, `${name}/prev`, `${name}/pct`]) : [...measures];
}

function metrics(asked: Asked, name: string, query: MetricsQuery, columns: readonly string[]): Branch {
  return { source: 'metrics', table: asked.table.name, name, query, columns };
}

/** The first measure: it orders the lists and colours. */
export function leadMeasure(view: View): string {
  return view.sort && view.measures.includes(view.sort.by) ? view.sort.by : (view.measures[0] ?? '');
}

function totals({ table, bounds, view }: Asked): Branch {
  const compare = compareOf(view.compare);
  const query: MetricsQuery = { ...narrowed(view, bounds), ...optional({ filters: filterTree(table, view.filters), compare }) };
  return metrics({ table, bounds, view }, 'totals', query, withFacets(view.measures, compare !== undefined));
}

function series({ table, bounds, view }: Asked): Branch {
  const compare = compareOf(view.compare);
  const query: MetricsQuery = {
    ...intervalOf(view, bounds),
    granularity: granularityOf(view, bounds),
    fill: 'zero',
    ...optional({ filters: filterTree(table, view.filters), compare }),
  };
  const measures = compare ? view.measures.flatMap((name) => [name, `${name}/prev`]) : view.measures;
  return metrics({ table, bounds, view }, 'series', query, ['bucket', ...measures]);
}

/** The leaderboard of a dimension: its own filter does not hide its other values. */
export function board({ table, bounds, view }: Asked, dim: string, rows = BOARD_ROWS): Branch {
  const compare = compareOf(view.compare);
  const by = leadMeasure(view);
  const query: MetricsQuery = {
    ...narrowed(view, bounds),
    top: { n: rows, by, dim, others: true },
    ...optional({ filters: filterTree(table, view.filters, dim), compare }),
  };
  return metrics({ table, bounds, view }, boardName(dim), query, [dim, ...withFacets([by], compare !== undefined)]);
}

/** The branches of the overview: numbers, series, lists. */
export function overview(asked: Asked): Branch[] {
  return [totals(asked), series(asked), ...asked.view.boards.map((dim) => board(asked, dim))];
}

function optional<T extends object>(entries: T): Partial<T> {
  return Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/** The splits of a view that are dimensions, in order. */
export function dimensionSplits(asked: Asked): Split[] {
  return asked.view.splits.filter((split) => split.dim !== asked.table.time);
}

function topOf(split: Split, by: string, n = split.limit): NonNullable<MetricsQuery['top']> {
  return { n, by, dim: split.dim, others: true, order: split.way };
}

/** Whether parts of a measure add up to its whole. */
export function isAdditive(table: Table, name: string): boolean {
  return measureOf(table, name)?.additive === true;
}

/** The branches of a chart. */
export function chart(asked: Asked): Branch[] {
  const { table, bounds, view } = asked;
  const [split, second] = dimensionSplits(asked);
  const filters = filterTree(table, view.filters);
  const compare = compareOf(view.compare);
  const by = leadMeasure(view);
  const base = { ...intervalOf(view, bounds), ...optional({ filters }) };
  const granularity = granularityOf(view, bounds);
  const hasTime = view.splits.some((other) => other.dim === table.time);
  if (view.kind === 'total' || (view.kind === 'donut' && !split)) return [totals(asked)];
  if (view.kind === 'line' || view.kind === 'area' || (view.kind === 'bar' && (hasTime || !split))) {
    if (!split) return [totals(asked), series(asked)];
    const top = topOf(split, by, Math.min(split.limit, SERIES_MAX));
    return [totals(asked), metrics(asked, 'chart', { ...base, granularity, top, fill: 'zero' }, ['bucket', split.dim, by])];
  }
  if (!split) return [totals(asked), series(asked)];
  if (view.kind === 'heat') {
    const top = topOf(split, by, Math.min(split.limit, HEAT_ROWS));
    if (second) {
      const query = { ...base, top, dims: [split.dim, second.dim], order: [[by, 'desc']] as const, limit: 2000 };
      return [totals(asked), metrics(asked, 'chart', query, [split.dim, second.dim, by])];
    }
    return [totals(asked), metrics(asked, 'chart', { ...base, granularity, top, fill: 'zero' }, ['bucket', split.dim, by])];
  }
  const n = view.kind === 'donut' ? Math.min(split.limit, 7) : split.limit;
  const query = { ...base, ...optional({ compare }), top: topOf(split, by, n) };
  return [totals(asked), metrics(asked, 'chart', query, [split.dim, ...withFacets(view.measures, compare !== undefined)])];
}

/** One level of the table: the rows of a split, under the values of the levels above. */
export function tableLevel(asked: Asked, name: string, level: number, above: readonly Filter[], after: string | null): Branch[] {
  const { table, bounds, view } = asked;
  const split = view.splits[level];
  if (!split) return [];
  const compare = compareOf(view.compare);
  const filters = filterTree(table, [...view.filters, ...above]);
  const measures = withFacets(view.measures, compare !== undefined);
  const isTime = split.dim === table.time;
  const sort = view.sort ?? { by: view.measures[0] ?? '', way: 'desc' as const };
  const query: MetricsQuery = {
    ...intervalOf(view, bounds),
    ...(isTime ? { granularity: granularityOf(view, bounds), fill: 'none' as const } : { order: [[sort.by, sort.way]] as const }),
    limit: TABLE_ROWS,
    ...(level === 0 ? { totals: true } : {}),
    ...optional({ filters, compare, after: after ?? undefined }),
  };
  return [metrics(asked, name, query, [isTime ? 'bucket' : split.dim, ...measures])];
}

/** The newest records behind a view, a page of them. */
export function records(asked: Asked, columns: readonly string[], after: string | null): Branch {
  const { table, bounds, view } = asked;
  const query = {
    ...narrowed(view, bounds),
    order: [[table.time, 'desc']] as const,
    limit: RECORD_ROWS,
    count: true,
    ...optional({ filters: filterTree(table, view.filters), after: after ?? undefined }),
  };
  return { source: 'records', table: table.name, name: 'records', query, columns };
}

/** Values of a dimension to choose from. */
export function values(asked: Asked, dim: string, search: string, limit = 50): Branch {
  const { table, bounds, view } = asked;
  const by = leadMeasure(view);
  const query = {
    ...intervalOf(view, bounds),
    dim,
    limit,
    ...optional({ by: by === '' ? undefined : by, search: search === '' ? undefined : search, filters: filterTree(table, view.filters, dim) }),
  };
  return { source: 'values', table: table.name, name: 'values', query, columns: by === '' ? ['value'] : ['value', by] };
}

/** The branches of a view's first answer. */
export function branches(asked: Asked): Branch[] {
  switch (asked.view.mode) {
    case 'overview':
      return overview(asked);
    case 'chart':
      return chart(asked);
    case 'table':
      return [totals(asked), ...tableLevel(asked, 'level', 0, [], null)];
  }
}
