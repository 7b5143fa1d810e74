/** Reads answers of the server into types, without trusting them. */
import { problems, type Problem } from './errors';
import { isObject } from './json';

/** All values of a dimension that were cut, together. */
export interface Others {
  others: number;
}

/** A cell of an answer. Bigints beyond 2^53 and decimals are texts. */
export type Cell = null | boolean | number | string | Others;

/** A row of an answer. */
export type Row = { readonly [column: string]: Cell };

/** A column of an answer. */
export interface Column {
  name: string;
  type: string;
  approximate: boolean;
}

/** A bucket of time, and whether its range is cut or still filling. */
export interface Bucket {
  start: string;
  end: string;
  partial: boolean;
}

/** What a branch says of its answer. */
export interface Meta {
  from: string | null;
  to: string | null;
  tz: string | null;
  lastEvent: string | null;
  columns: readonly Column[];
  buckets: readonly Bucket[];
  compare: { from: string; to: string; cut: boolean } | null;
  rollup: string | null;
  truncated: boolean;
  next: string | null;
  count: number | null;
  others: number | null;
  behind: number | null;
  totals: readonly { by: readonly string[]; rows: readonly Row[] }[];
  sql: string | null;
  ms: number;
}

/** The answer of one branch: rows, or why there are none. */
export interface BranchAnswer {
  rows: readonly Row[];
  meta: Meta;
  problem: Problem | null;
}

/** First and last event of a table, and how long ago the last was. */
export interface Bounds {
  first: string | null;
  last: string | null;
  lagMs: number | null;
}

/** The answer to a request. */
export interface Answer {
  branches: ReadonlyMap<string, BranchAnswer>;
  bounds: ReadonlyMap<string, Bounds>;
  problems: readonly Problem[];
  snapshot: number | null;
}

type Tree = { readonly [key: string]: unknown };

const text = (value: unknown): string | null => (typeof value === 'string' ? value : null);
const number = (value: unknown): number | null => (typeof value === 'number' ? value : null);
const object = (value: unknown): Tree => (isObject(value) ? value : {});
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

function cell(value: unknown): Cell {
  if (value === null || value === undefined) return null;
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  if (isObject(value) && typeof value['others'] === 'number') return { others: value['others'] };
  return JSON.stringify(value);
}

/** Rows of an answer. */
export function rows(value: unknown): Row[] {
  return list(value).filter(isObject).map((row) => Object.fromEntries(Object.entries(row).map(([key, item]) => [key, cell(item)])));
}

/** What a branch says of its answer. */
export function meta(value: unknown): Meta {
  const tree = object(value);
  const compared = object(tree['compare']);
  return {
    from: text(tree['from']),
    to: text(tree['to']),
    tz: text(tree['tz']),
    lastEvent: text(tree['last-event']),
    columns: list(tree['columns']).filter(isObject).map((column) => ({
      name: String(column['name'] ?? ''),
      type: String(column['type'] ?? ''),
      approximate: column['approximate'] === true,
    })),
    buckets: list(tree['buckets']).filter(isObject).map((bucket) => ({
      start: String(bucket['start'] ?? ''),
      end: String(bucket['end'] ?? ''),
      partial: bucket['partial'] === true,
    })),
    compare: 'from' in compared
      ? { from: String(compared['from']), to: String(compared['to']), cut: compared['cut'] === true }
      : null,
    rollup: text(tree['rollup']),
    truncated: tree['truncated'] === true,
    next: text(tree['next']),
    count: number(tree['count']),
    others: number(tree['others']),
    behind: number(tree['behind']),
    totals: list(tree['totals']).filter(isObject).map((total) => ({
      by: list(total['by']).map(String),
      rows: rows(total['rows']),
    })),
    sql: text(tree['sql']),
    ms: number(tree['ms']) ?? 0,
  };
}

/** The answer to a pull request. Branches have their names as keys. */
export function answer(body: unknown): Answer {
  const tree = object(body);
  const data = object(tree['data']);
  const about = object(tree['meta']);
  const failed = problems(tree['errors']);
  const branches = new Map<string, BranchAnswer>();
  for (const source of ['metrics', 'records', 'values']) {
    const found = object(data[source]);
    for (const [name, told] of Object.entries(object(about[source]))) {
      branches.set(name, { rows: rows(found[name]), meta: meta(told), problem: null });
    }
  }
  for (const problem of failed) {
    const name = problem.path[1];
    if (name !== undefined) branches.set(name, { rows: [], meta: meta(null), problem });
  }
  const bounds = new Map<string, Bounds>();
  for (const [table, told] of Object.entries(object(data['bounds']))) {
    const fact = object(told);
    bounds.set(table, { first: text(fact['first']), last: text(fact['last']), lagMs: number(fact['lag']) });
  }
  return { branches, bounds, problems: failed, snapshot: number(about['snapshot']) };
}

/** Whether a cell stands for all values that were cut. */
export function isOthers(value: Cell | undefined): value is Others {
  return typeof value === 'object' && value !== null;
}

/** A cell as a number for a chart; null if it is none. */
export function asNumber(value: Cell | undefined): number | null {
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (typeof value !== 'string') return null;
  const parsed = Number(value);
  return value !== '' && Number.isFinite(parsed) ? parsed : null;
}
