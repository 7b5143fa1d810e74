/** The fragment of an address: a view as text, and back. Print and parse are inverse. */
import type { Range } from './range';
import { CHART_KINDS, type ChartKind, type Comparison, type Filter, type FilterValue, type Mode, type Split, type View } from './view';

const MODES: readonly Mode[] = ['overview', 'chart', 'table'];
const NULL = '~null';

/** A view, and keys of its address that nobody here knows. */
export interface Parsed {
  view: View;
  unknown: readonly (readonly [string, string])[];
}

/** Percent-encodes what the codec's own marks are made of. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/[.!~*'();:,]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** A time in an address: readable, with its colons and dashes. */
function encodeTime(text: string): string {
  return encodeURIComponent(text).replace(/%3A/g, ':');
}

function ends(text: string): { from: string; to: string } | null {
  const [from, to, ...rest] = text.split('..').map(decode);
  return from && to && rest.length === 0 ? { from, to } : null;
}

function printEnds(range: { from: string; to: string }): string {
  return `${encodeTime(range.from)}..${encodeTime(range.to)}`;
}

function printRange(range: Range): string {
  switch (range.kind) {
    case 'last':
      return range.period;
    case 'calendar':
      return range.name;
    case 'all':
      return 'all';
    case 'fixed':
      return printEnds(range);
  }
}

function parseRange(text: string): Range {
  const fixed = ends(text);
  if (fixed) return { kind: 'fixed', ...fixed };
  if (text === 'all') return { kind: 'all' };
  return text.startsWith('P') ? { kind: 'last', period: text } : { kind: 'calendar', name: text };
}

function printComparison(compare: Comparison): string {
  switch (compare.kind) {
    case 'previous':
      return 'prev';
    case 'shift':
      return compare.period;
    case 'range':
      return printEnds(compare);
  }
}

function parseComparison(text: string): Comparison | null {
  if (text === 'prev') return { kind: 'previous' };
  const range = ends(text);
  if (range) return { kind: 'range', ...range };
  return text.startsWith('P') ? { kind: 'shift', period: text } : null;
}

function printValue(value: FilterValue): string {
  return value === null ? NULL : encode(value);
}

function printFilter(filter: Filter): string {
  return `${encode(filter.dim)}.${filter.op}(${filter.values.map(printValue).join(',')})`;
}

function parseFilter(text: string): Filter | null {
  const found = /^([^.]+)\.(in|not)\((.*)\)$/.exec(text);
  if (!found) return null;
  const values = (found[3] ?? '').split(',').map((value) => (value === NULL ? null : decode(value)));
  return { dim: decode(found[1] ?? ''), op: found[2] === 'not' ? 'not' : 'in', values };
}

function printSplit(split: Split): string {
  return [encode(split.dim), String(split.limit), encode(split.by), split.way].join(':');
}

function parseSplit(text: string): Split | null {
  const [dim, limit, by, way] = text.split(':');
  if (!dim) return null;
  return { dim: decode(dim), limit: Number(limit) || 8, by: decode(by ?? ''), way: way === 'asc' ? 'asc' : 'desc' };
}

function printNames(names: readonly string[]): string {
  return names.map(encode).join(',');
}

const parseNames = (text: string): string[] => text.split(',').filter((name) => name !== '').map(decode);

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** The fragment of a view, without `#`. What is as in `defaults` is left out; time and zone always stand there. */
export function print(view: View, defaults: View, unknown: Parsed['unknown'] = []): string {
  const entries: (readonly [string, string] | null)[] = [
    view.mode === 'overview' ? null : ['v', view.mode],
    view.kind === defaults.kind ? null : ['k', view.kind],
    ['r', printRange(view.range)],
    view.anchor === 'now' ? ['a', 'now'] : null,
    view.granularity === null ? null : ['g', encode(view.granularity)],
    ['tz', encodeURIComponent(view.zone).replace(/%2F/g, '/')],
    view.compare === null ? null : ['c', printComparison(view.compare)],
    same(view.measures, defaults.measures) ? null : ['m', printNames(view.measures)],
    same(view.boards, defaults.boards) ? null : ['d', printNames(view.boards)],
    same(view.splits, defaults.splits) ? null : ['s', view.splits.map(printSplit).join(';')],
    view.filters.length === 0 ? null : ['f', view.filters.map(printFilter).join(';')],
    view.sort === null ? null : ['o', `${encode(view.sort.by)}:${view.sort.way}`],
    view.brush === null ? null : ['h', printEnds(view.brush)],
    view.records ? ['x', 'records'] : null,
    ...unknown,
  ];
  return entries.flatMap((entry) => (entry ? [`${entry[0]}=${entry[1]}`] : [])).join('&');
}

function parseSort(text: string): View['sort'] {
  const [by, way] = text.split(':');
  return by ? { by: decode(by), way: way === 'asc' ? 'asc' : 'desc' } : null;
}

function present<T>(items: readonly (T | null)[]): T[] {
  return items.filter((item): item is T => item !== null);
}

/** The view of a fragment. Without time and zone it is that of `defaults`. */
export function parse(fragment: string, defaults: View): Parsed {
  const given = new Map<string, string>();
  for (const part of fragment.replace(/^#/, '').split('&')) {
    const at = part.indexOf('=');
    if (at > 0) given.set(part.slice(0, at), part.slice(at + 1));
  }
  const isEmpty = given.size === 0;
  const take = <T>(key: string, read: (text: string) => T, otherwise: T): T => {
    const text = given.get(key);
    given.delete(key);
    return text === undefined ? otherwise : read(text);
  };
  const view: View = {
    table: defaults.table,
    mode: take<Mode>('v', (text) => MODES.find((mode) => mode === text) ?? 'overview', 'overview'),
    kind: take<ChartKind>('k', (text) => CHART_KINDS.find((kind) => kind === text) ?? defaults.kind, defaults.kind),
    range: take('r', parseRange, defaults.range),
    anchor: take<View['anchor']>('a', (text) => (text === 'now' ? 'now' : 'data'), 'data'),
    granularity: take<string | null>('g', decode, null),
    zone: take('tz', decode, defaults.zone),
    compare: take<Comparison | null>('c', parseComparison, isEmpty ? defaults.compare : null),
    measures: take('m', parseNames, defaults.measures as string[]),
    boards: take('d', parseNames, defaults.boards as string[]),
    splits: take('s', (text) => present(text.split(';').map(parseSplit)), defaults.splits as Split[]),
    filters: take('f', (text) => present(text.split(';').map(parseFilter)), []),
    sort: take('o', parseSort, null),
    brush: take('h', ends, null),
    records: take('x', (text) => text === 'records', false),
  };
  return { view, unknown: [...given] };
}
