/** All relations with their columns, as `GET /api/schema` tells them. */
import { get } from '../api/client';
import { isObject } from '../api/json';

/** A column of a relation. */
export interface CatalogueColumn {
  name: string;
  type: string;
  title: string | null;
  description: string | null;
}

/** A table with all that was declared for it. */
export interface CatalogueTable {
  schema: string;
  name: string;
  description: string | null;
  kind: 'events' | 'keyed';
  time: string | null;
  key: string | null;
  columns: readonly CatalogueColumn[];
  measures: readonly (CatalogueColumn & { sql: string; approximate: boolean })[];
  rollups: readonly { name: string; granularities: readonly string[]; dimensions: readonly string[] }[];
}

type Tree = { readonly [key: string]: unknown };

const text = (value: unknown): string | null => (typeof value === 'string' ? value : null);
const list = (value: unknown): Tree[] => (Array.isArray(value) ? value.filter(isObject) : []);
const names = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);

function column(tree: Tree): CatalogueColumn {
  return { name: String(tree['name'] ?? ''), type: String(tree['type'] ?? ''), title: text(tree['title']), description: text(tree['description']) };
}

/** Asks for the catalogue. */
export async function catalogue(signal?: AbortSignal): Promise<CatalogueTable[]> {
  const body = await get('/api/schema', signal);
  return list(isObject(body) ? body['tables'] : null).map((table) => ({
    schema: String(table['schema'] ?? 'public'),
    name: String(table['name'] ?? ''),
    description: text(table['description']),
    kind: table['kind'] === 'keyed' ? 'keyed' : 'events',
    time: text(table['time']),
    key: text(table['key']),
    columns: list(table['columns']).map(column),
    measures: list(table['measures']).map((measure) => ({ ...column(measure), sql: String(measure['sql'] ?? ''), approximate: measure['approximate'] === true })),
    rollups: list(table['rollups']).map((rollup) => ({ name: String(rollup['name'] ?? ''), granularities: names(rollup['granularities']), dimensions: names(rollup['dimensions']) })),
  }));
}

/** The name of a table in a statement. */
export function qualified(table: { schema: string; name: string }): string {
  return table.schema === 'public' ? table.name : `${table.schema}.${table.name}`;
}
