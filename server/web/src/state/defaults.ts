/** The view that a table begins with, and what of a link no longer exists. */
import type { Bounds } from '../api/decode';
import { rangeSeconds, wholeDays, type Range } from './range';
import { dimensionOf, firstDimensions, measureOf, type Table } from './schema';
import type { View } from './view';

const MEASURES_FIRST = 3;
const BOARDS_FIRST = 6;
const WEEK = 7 * 86_400;

/** The zone of the browser. */
export function browserZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';
}

/** The view of a table before anybody chose anything: a week, or all there is if that is less. */
export function defaultView(table: Table, bounds: Bounds | undefined, zone: string): View {
  const isShort = wholeDays(bounds, zone) !== null && rangeSeconds({ kind: 'all' }, bounds, zone) <= WEEK;
  const range: Range = isShort ? { kind: 'all' } : { kind: 'last', period: 'P7D' };
  const measures = table.measures.slice(0, MEASURES_FIRST).map((measure) => measure.name);
  const boards = firstDimensions(table, BOARDS_FIRST);
  const [first] = boards;
  const by = measures[0] ?? '';
  return {
    table: table.name,
    mode: 'overview',
    kind: 'line',
    range,
    anchor: 'data',
    granularity: null,
    zone,
    compare: isShort ? null : { kind: 'previous' },
    measures,
    boards,
    splits: first === undefined ? [] : [{ dim: first, limit: 8, by, way: 'desc' }],
    filters: [],
    brush: null,
    sort: null,
    records: false,
  };
}

/** A view without what its table no longer has, and what that was. */
export function repaired(view: View, table: Table): { view: View; missing: string[] } {
  const missing: string[] = [];
  const isMeasure = (name: string): boolean => {
    const known = measureOf(table, name) !== undefined;
    if (!known) missing.push(`measure ${name}`);
    return known;
  };
  const isDimension = (name: string): boolean => {
    const known = dimensionOf(table, name) !== undefined || name === table.time;
    if (!known) missing.push(`dimension ${name}`);
    return known;
  };
  const measures = view.measures.filter(isMeasure);
  const fallback = measures[0] ?? table.measures[0]?.name ?? '';
  const kept: View = {
    ...view,
    measures: measures.length > 0 ? measures : fallback === '' ? [] : [fallback],
    boards: view.boards.filter(isDimension),
    splits: view.splits
      .filter((split) => isDimension(split.dim))
      .map((split) => (measureOf(table, split.by) ? split : { ...split, by: fallback })),
    filters: view.filters.filter((filter) => isDimension(filter.dim)),
    sort: view.sort && measureOf(table, view.sort.by.split('/')[0] ?? '') ? view.sort : null,
  };
  return { view: kept, missing: [...new Set(missing)] };
}
