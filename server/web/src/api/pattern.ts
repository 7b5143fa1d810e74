/** Builds pull patterns in their JSON spelling. */
import type { Json, JsonObject } from './json';

/** A plain value of a dimension. Bigints and decimals are texts. */
export type Plain = string | number | boolean | null;

/** A filter in the tree form of the query map: `["and", …]`, `["in", "game", ["a", null]]`, `["not", …]`. */
export type FilterTree = readonly Json[];

/** The `:window` of a query. */
export type Window = string | { kind: string; period?: string; align?: string; anchor?: 'now' | 'data'; from?: string; to?: string };

/** The interval of a query: a window or two instants, and the zone in which they are read. */
export interface Interval {
  window?: Window;
  from?: string;
  to?: string;
  tz: string;
}

/** What a query is compared with. */
export type Compare = 'previous-period' | { shift: string } | { from: string; to: string };

/** The first values of one dimension. */
export interface Top {
  n: number;
  by: string;
  dim: string;
  others?: boolean;
  order?: 'asc' | 'desc';
}

/** A name and its direction. */
export type Order = readonly (readonly [string, 'asc' | 'desc'])[];

/** The query map of `:metrics`. */
export interface MetricsQuery extends Interval {
  granularity?: string;
  filters?: FilterTree;
  dims?: readonly string[];
  order?: Order;
  limit?: number;
  after?: string;
  top?: Top;
  compare?: Compare;
  totals?: boolean;
  fill?: 'zero' | 'null' | 'previous' | 'none';
}

/** The query map of `:records`. */
export interface RecordsQuery extends Interval {
  filters?: FilterTree;
  order?: Order;
  limit?: number;
  after?: string;
  count?: boolean;
}

/** The query map of `:values`. */
export interface ValuesQuery extends Partial<Interval> {
  dim: string;
  search?: string;
  by?: string;
  filters?: FilterTree;
  limit?: number;
  offset?: number;
}

/** One call of an endpoint, under its own name in the answer. */
export interface Branch {
  source: 'metrics' | 'records' | 'values';
  table: string;
  name: string;
  query: MetricsQuery | RecordsQuery | ValuesQuery;
  columns: readonly string[];
}

/** Which facts of a table's events are wanted. */
const BOUNDS: JsonObject = { first: '?', last: '?', lag: '?' };

function clean(value: object): JsonObject {
  const entries = Object.entries(value).filter(([, entry]) => entry !== undefined);
  return Object.fromEntries(entries) as JsonObject;
}

function call(branch: Branch): Json {
  const row = Object.fromEntries(branch.columns.map((column) => [column, '?']));
  return { $as: branch.name, $with: [clean(branch.query)], $get: [row] };
}

/** The pattern of some branches, and of the bounds of some tables. */
export function pattern(branches: readonly Branch[], bounds: readonly string[] = []): JsonObject {
  const tree: { [source: string]: { [table: string]: Json[] } } = {};
  for (const branch of branches) {
    const tables = (tree[branch.source] ??= {});
    (tables[branch.table] ??= []).push(call(branch));
  }
  const asked = Object.fromEntries(bounds.map((table) => [table, BOUNDS]));
  return bounds.length > 0 ? { ...tree, bounds: asked } : tree;
}

/** A plain object for a request's body. */
export function request(asked: JsonObject): JsonObject {
  return { pattern: asked };
}
