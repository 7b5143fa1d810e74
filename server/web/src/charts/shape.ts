/** Rows of an answer as series, slices and squares: pure. */
import { asNumber, isOthers, type Bucket, type Cell, type Row } from '../api/decode';
import { valueText } from '../format/value';
import type { Series, Slice } from './options';
import type { Palette } from './theme';

/** A value in a chart: its key, text and colour. */
export interface Group {
  key: string;
  cell: Cell;
  text: string;
  color: string;
  total: number;
}

/** A cell's key: no two values of a dimension share one. */
export function keyOf(cell: Cell | undefined): string {
  if (cell === null || cell === undefined) return '~null';
  return isOthers(cell) ? '~others' : `=${String(cell)}`;
}

/** The values of a dimension in an answer, largest first and others last; each with a colour of its own. */
export function groups(rows: readonly Row[], dim: string, measure: string, palette: Palette): Group[] {
  const found = new Map<string, { cell: Cell; total: number }>();
  for (const row of rows) {
    const cell = row[dim] ?? null;
    const known = found.get(keyOf(cell)) ?? { cell, total: 0 };
    known.total += asNumber(row[measure]) ?? 0;
    found.set(keyOf(cell), known);
  }
  const ordered = [...found].sort(([a, one], [b, other]) => {
    if (a === '~others' || b === '~others') return a === '~others' ? 1 : -1;
    return other.total - one.total;
  });
  return ordered.map(([key, { cell, total }], at) => ({
    key,
    cell,
    text: isOthers(cell) ? othersText(rows, dim) : valueText(cell).text,
    color: key === '~others' ? palette.others : (palette.series[at % palette.series.length] ?? palette.others),
    total,
  }));
}

/** "43 others": as many as the fullest bucket had. */
function othersText(rows: readonly Row[], dim: string): string {
  const counts = rows.map((row) => row[dim]).filter((cell) => isOthers(cell)).map((cell) => (isOthers(cell) ? cell.others : 0));
  return valueText({ others: Math.max(0, ...counts) }).text;
}

/** One series a group, its values beside the buckets. Where a group has no row it has `empty`. */
export function series(rows: readonly Row[], buckets: readonly Bucket[], of: readonly Group[], dim: string, measure: string, empty: number | null): Series[] {
  const places = new Map(buckets.map((bucket, at) => [bucket.start, at]));
  const values = new Map(of.map((group) => [group.key, Array.from<number | null>({ length: buckets.length }).fill(empty)]));
  for (const row of rows) {
    const at = places.get(String(row['bucket']));
    const line = values.get(keyOf(row[dim]));
    if (at !== undefined && line) line[at] = asNumber(row[measure]);
  }
  return of.map((group) => ({ name: group.text, color: group.color, values: values.get(group.key) ?? [] }));
}

/** Slices of a donut. */
export function slices(of: readonly Group[]): Slice[] {
  return of.filter((group) => group.total > 0).map((group) => ({ name: group.text, value: group.total, color: group.color }));
}
