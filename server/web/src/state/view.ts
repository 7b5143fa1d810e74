/** What Explore shows, and how it changes: a pure reducer. */
import type { Range } from './range';

/** A value of a dimension as the address spells it; its type is the dimension's. */
export type FilterValue = string | null;

/** Values of a dimension that are kept, or left out. */
export interface Filter {
  dim: string;
  op: 'in' | 'not';
  values: readonly FilterValue[];
}

/** A dimension to group by; the table's time column stands for its buckets. */
export interface Split {
  dim: string;
  limit: number;
  by: string;
  way: 'asc' | 'desc';
}

/** What a view is compared with. */
export type Comparison = { kind: 'previous' } | { kind: 'shift'; period: string } | { kind: 'range'; from: string; to: string };

export type Mode = 'overview' | 'chart' | 'table';
export type ChartKind = 'total' | 'line' | 'area' | 'bar' | 'heat' | 'donut';
export const CHART_KINDS: readonly ChartKind[] = ['total', 'line', 'bar', 'area', 'heat', 'donut'];

/** All of a view of Explore. */
export interface View {
  table: string;
  mode: Mode;
  kind: ChartKind;
  range: Range;
  anchor: 'data' | 'now';
  /** None: chosen by the length of the range. */
  granularity: string | null;
  zone: string;
  compare: Comparison | null;
  measures: readonly string[];
  /** Dimensions with a leaderboard. */
  boards: readonly string[];
  splits: readonly Split[];
  filters: readonly Filter[];
  /** A part of the range, as instants of bucket ends. */
  brush: { from: string; to: string } | null;
  sort: { by: string; way: 'asc' | 'desc' } | null;
  records: boolean;
}

export type Action =
  | { do: 'show'; view: View }
  | { do: 'mode'; mode: Mode }
  | { do: 'kind'; kind: ChartKind }
  | { do: 'range'; range: Range; anchor?: 'data' | 'now' }
  | { do: 'granularity'; granularity: string | null }
  | { do: 'zone'; zone: string }
  | { do: 'compare'; compare: Comparison | null }
  | { do: 'measure'; name: string }
  | { do: 'board'; name: string }
  | { do: 'only' | 'toggle' | 'exclude'; dim: string; value: FilterValue }
  | { do: 'filter'; filter: Filter }
  | { do: 'unfilter'; dim: string }
  | { do: 'drill'; dim: string; value: FilterValue; next: string | null }
  | { do: 'split'; split: Split; at?: number }
  | { do: 'unsplit'; dim: string }
  | { do: 'brush'; brush: View['brush'] }
  | { do: 'sort'; by: string; way: 'asc' | 'desc' }
  | { do: 'records'; open: boolean };

const REPLACED: ReadonlySet<Action['do']> = new Set(['brush', 'sort', 'records']);

/** Whether Back undoes an action. */
export function isStep(action: Action): boolean {
  return !REPLACED.has(action.do);
}

function toggled<T>(list: readonly T[], item: T): T[] {
  return list.includes(item) ? list.filter((other) => other !== item) : [...list, item];
}

function filtered(view: View, filter: Filter): View {
  const at = view.filters.findIndex((other) => other.dim === filter.dim);
  if (filter.values.length === 0) return { ...view, filters: view.filters.filter((_, i) => i !== at) };
  const filters = at < 0 ? [...view.filters, filter] : view.filters.map((other, i) => (i === at ? filter : other));
  return { ...view, filters };
}

/** The filter of a dimension. */
export function filterOf(view: View, dim: string): Filter | undefined {
  return view.filters.find((filter) => filter.dim === dim);
}

function onValue(view: View, way: 'only' | 'toggle' | 'exclude', dim: string, value: FilterValue): View {
  const now = filterOf(view, dim);
  if (way === 'only') {
    const isAlone = now?.op === 'in' && now.values.length === 1 && now.values[0] === value;
    return filtered(view, { dim, op: 'in', values: isAlone ? [] : [value] });
  }
  const op = way === 'exclude' ? 'not' : 'in';
  return filtered(view, { dim, op, values: now?.op === op ? toggled(now.values, value) : [value] });
}

/** The view after an action. */
export function reduce(view: View, action: Action): View {
  switch (action.do) {
    case 'show':
      return action.view;
    case 'mode':
      return { ...view, mode: action.mode };
    case 'kind':
      return { ...view, kind: action.kind };
    case 'range':
      return { ...view, range: action.range, anchor: action.anchor ?? view.anchor, granularity: null, brush: null };
    case 'granularity':
      return { ...view, granularity: action.granularity, brush: null };
    case 'zone':
      return { ...view, zone: action.zone, brush: null };
    case 'compare':
      return { ...view, compare: action.compare };
    case 'measure': {
      const measures = toggled(view.measures, action.name);
      return measures.length === 0 ? view : { ...view, measures };
    }
    case 'board':
      return { ...view, boards: toggled(view.boards, action.name) };
    case 'only':
    case 'toggle':
    case 'exclude':
      return onValue(view, action.do, action.dim, action.value);
    case 'filter':
      return filtered(view, action.filter);
    case 'unfilter':
      return { ...view, filters: view.filters.filter((filter) => filter.dim !== action.dim) };
    case 'drill': {
      const narrowed = filtered(view, { dim: action.dim, op: 'in', values: [action.value] });
      const next = action.next;
      if (next === null) return narrowed;
      const splits = narrowed.splits.map((split) => (split.dim === action.dim ? { ...split, dim: next } : split));
      return { ...narrowed, splits };
    }
    case 'split': {
      const others = view.splits.filter((split) => split.dim !== action.split.dim);
      if (action.at === undefined) return { ...view, splits: [...others, action.split] };
      return { ...view, splits: others.toSpliced(action.at, 1, action.split) };
    }
    case 'unsplit':
      return { ...view, splits: view.splits.filter((split) => split.dim !== action.dim) };
    case 'brush':
      return { ...view, brush: action.brush };
    case 'sort':
      return { ...view, sort: { by: action.by, way: action.way } };
    case 'records':
      return { ...view, records: action.open };
  }
}
